#!/usr/bin/env bash
# How the bundled style composition-viii was made, from the root of the checkout: scripts/recipes/composition-viii.sh PHOTOS
set -euo pipefail
photos=${1:?give a folder of photographs}

fastnst train examples/paintings/composition-viii.jpg --content "$photos" -o runs/composition-viii.safetensors \
    --preset fast --size 192 --batch-size 2 --steps 600 --style-weight 25 --held-out 12 \
    --credit "Wassily Kandinsky, Composition VIII, 1923. Public domain"
python scripts/recipes/ship.py composition-viii
