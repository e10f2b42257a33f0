#!/usr/bin/env bash
# How the bundled style great-wave-base was made, from the root of the checkout: scripts/recipes/great-wave-base.sh PHOTOS
set -euo pipefail
photos=${1:?give a folder of photographs}

fastnst train examples/paintings/great-wave.jpg --content "$photos" -o runs/great-wave-base.safetensors \
    --preset base --size 192 --batch-size 2 --steps 4000 --style-weight 25 --held-out 12 \
    --credit "Katsushika Hokusai, The Great Wave off Kanagawa, c. 1831. Public domain"
python scripts/recipes/ship.py great-wave-base
