#!/usr/bin/env bash
# How the bundled style church-at-auvers was made, from the root of the checkout: scripts/recipes/church-at-auvers.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --styles runs/trunk made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

start=runs/trunk/church-at-auvers.safetensors
for steps in 200 500; do
    fastnst train examples/paintings/church-at-auvers.jpg --content "$photos" -o runs/$steps/church-at-auvers.safetensors \
        --preset fast --size 192 --batch-size 2 --steps $steps --style-weight 25 --held-out 12 --init $start \
        --credit "Vincent van Gogh, The Church at Auvers, 1890. Public domain"
    start=runs/$steps/church-at-auvers.safetensors
done
cp $start runs/church-at-auvers.safetensors
python scripts/recipes/ship.py church-at-auvers
