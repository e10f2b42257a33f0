#!/usr/bin/env bash
# How the bundled style cafe-terrace was made, from the root of the checkout: scripts/recipes/cafe-terrace.sh PHOTOS
set -euo pipefail
photos=${1:?give a folder of photographs}

start=trunk
for steps in 10000 400; do
    fastnst train examples/paintings/cafe-terrace.jpg --content "$photos" -o runs/$steps/cafe-terrace.safetensors \
        --preset fast --size 192 --batch-size 2 --steps $steps --style-weight 25 --held-out 12 --init $start \
        --credit "Vincent van Gogh, Cafe Terrace at Night, 1888. Public domain"
    start=runs/$steps/cafe-terrace.safetensors
done
cp $start runs/cafe-terrace.safetensors
python scripts/recipes/ship.py cafe-terrace
