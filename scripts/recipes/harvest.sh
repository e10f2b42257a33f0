#!/usr/bin/env bash
# How the bundled style harvest was made, from the root of the checkout: scripts/recipes/harvest.sh PHOTOS
set -euo pipefail
photos=${1:?give a folder of photographs}

fastnst train examples/paintings/harvest.jpg --content "$photos" -o runs/harvest.safetensors \
    --preset fast --size 192 --batch-size 2 --steps 600 --style-weight 25 --held-out 12 \
    --credit "Vincent van Gogh, Harvest at La Crau, 1888. Public domain"
python scripts/recipes/ship.py harvest
