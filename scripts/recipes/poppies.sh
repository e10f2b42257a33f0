#!/usr/bin/env bash
# How the bundled style poppies was made, from the root of the checkout: scripts/recipes/poppies.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --styles runs/trunk made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

start=runs/trunk/poppies.safetensors
for steps in 200 800 400; do
    fastnst train examples/paintings/poppies.jpg --content "$photos" -o runs/$steps/poppies.safetensors \
        --preset fast --size 192 --batch-size 2 --steps $steps --style-weight 25 --held-out 12 --init $start \
        --credit "Katsushika Hokusai, Poppies, c. 1833. Public domain"
    start=runs/$steps/poppies.safetensors
done
cp $start runs/poppies.safetensors
python scripts/recipes/ship.py poppies
