#!/usr/bin/env bash
# How the bundled style cafe-terrace was made, from the root of the checkout: scripts/recipes/cafe-terrace.sh PHOTOS
set -euo pipefail
photos=${1:?give a folder of photographs}

fastnst train examples/paintings/cafe-terrace.jpg --content "$photos" -o runs/cafe-terrace.safetensors \
    --preset fast --size 192 --batch-size 2 --steps 10000 --style-weight 25 --held-out 12 \
    --credit "Vincent van Gogh, Cafe Terrace at Night, 1888. Public domain"
python scripts/recipes/ship.py cafe-terrace
