#!/usr/bin/env bash
# How the bundled style harvest was made, from the root of the checkout: scripts/recipes/harvest.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --styles runs/trunk made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

start=runs/trunk/harvest.safetensors
for steps in 200 500; do
    fastnst train examples/paintings/harvest.jpg --content "$photos" -o runs/$steps/harvest.safetensors \
        --preset fast --size 192 --batch-size 2 --steps $steps --style-weight 25 --held-out 12 --init $start \
        --credit "Vincent van Gogh, Harvest at La Crau, 1888. Public domain"
    start=runs/$steps/harvest.safetensors
done
cp $start runs/harvest.safetensors
python scripts/recipes/ship.py harvest
