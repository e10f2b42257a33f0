#!/usr/bin/env bash
# How the bundled style great-wave was made, from the root of the checkout: scripts/recipes/great-wave.sh PHOTOS
set -euo pipefail
photos=${1:?give a folder of photographs}

start=trunk
for steps in 900 800 400; do
    fastnst train examples/paintings/great-wave.jpg --content "$photos" -o runs/$steps/great-wave.safetensors \
        --preset fast --size 192 --batch-size 2 --steps $steps --style-weight 25 --held-out 12 --init $start \
        --credit "Katsushika Hokusai, The Great Wave off Kanagawa, c. 1831. Public domain"
    start=runs/$steps/great-wave.safetensors
done
cp $start runs/great-wave.safetensors
python scripts/recipes/ship.py great-wave
