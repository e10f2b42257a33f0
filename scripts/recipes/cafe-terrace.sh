#!/usr/bin/env bash
# How the bundled style cafe-terrace was made, from the root of the checkout: scripts/recipes/cafe-terrace.sh PHOTOS
set -euo pipefail
photos=${1:?give a folder of photographs}

fastnst train examples/paintings/cafe-terrace.jpg --content "$photos" -o runs/cafe-terrace.safetensors \
    --preset fast --init checkpoints/great-wave.safetensors --size 192 --steps 700 --style-weight 3 --optimizer adam --learning-rate 0.002 \
    --held-out 12 \
    --credit "Vincent van Gogh, Cafe Terrace at Night, 1888. Public domain"
python scripts/recipes/ship.py cafe-terrace
