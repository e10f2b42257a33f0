#!/usr/bin/env bash
# How the bundled style pere-tanguy was made, from the root of the checkout: scripts/recipes/pere-tanguy.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --styles runs/trunk made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

start=runs/trunk/pere-tanguy.safetensors
for steps in 200 500; do
    fastnst train examples/paintings/pere-tanguy.jpg --content "$photos" -o runs/$steps/pere-tanguy.safetensors \
        --preset fast --size 192 --batch-size 2 --steps $steps --style-weight 25 --held-out 12 --init $start \
        --credit "Vincent van Gogh, Portrait of Pere Tanguy, 1887. Public domain"
    start=runs/$steps/pere-tanguy.safetensors
done
cp $start runs/pere-tanguy.safetensors
python scripts/recipes/ship.py pere-tanguy
