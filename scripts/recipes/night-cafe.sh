#!/usr/bin/env bash
# How the bundled style night-cafe was made, from the root of the checkout: scripts/recipes/night-cafe.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --styles runs/trunk made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

fastnst train examples/paintings/night-cafe.jpg --content "$photos" -o runs/night-cafe.safetensors \
    --preset fast --size 192 --batch-size 2 --steps 200 --style-weight 25 --held-out 12 \
    --init runs/trunk/night-cafe.safetensors \
    --credit "Vincent van Gogh, The Night Cafe, 1888. Public domain"
python scripts/recipes/ship.py night-cafe
