#!/usr/bin/env bash
# How the bundled style village-street was made, from the root of the checkout: scripts/recipes/village-street.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --styles runs/trunk made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

fastnst train examples/paintings/village-street.jpg --content "$photos" -o runs/village-street.safetensors \
    --preset fast --size 192 --batch-size 2 --steps 200 --style-weight 25 --held-out 12 \
    --init runs/trunk/village-street.safetensors \
    --credit "Vincent van Gogh, Village Street in Auvers, 1890. Public domain"
python scripts/recipes/ship.py village-street
