#!/usr/bin/env bash
# How the bundled style night-cafe was made, from the root of the checkout: scripts/recipes/night-cafe.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --styles runs/trunk made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

start=runs/trunk/night-cafe.safetensors
for steps in 200 500; do
    fastnst train examples/paintings/night-cafe.jpg --content "$photos" -o runs/$steps/night-cafe.safetensors \
        --preset fast --size 192 --batch-size 2 --steps $steps --style-weight 25 --held-out 12 --init $start \
        --credit "Vincent van Gogh, The Night Cafe, 1888. Public domain"
    start=runs/$steps/night-cafe.safetensors
done
cp $start runs/night-cafe.safetensors
python scripts/recipes/ship.py night-cafe
