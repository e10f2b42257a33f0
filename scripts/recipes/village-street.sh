#!/usr/bin/env bash
# How the bundled style village-street was made, from the root of the checkout: scripts/recipes/village-street.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --styles runs/trunk made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

start=runs/trunk/village-street.safetensors
for steps in 200 500; do
    fastnst train examples/paintings/village-street.jpg --content "$photos" -o runs/$steps/village-street.safetensors \
        --preset fast --size 192 --batch-size 2 --steps $steps --style-weight 25 --held-out 12 --init $start \
        --credit "Vincent van Gogh, Village Street in Auvers, 1890. Public domain"
    start=runs/$steps/village-street.safetensors
done
cp $start runs/village-street.safetensors
python scripts/recipes/ship.py village-street
