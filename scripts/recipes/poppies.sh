#!/usr/bin/env bash
# How the bundled style poppies was made, from the root of the checkout: scripts/recipes/poppies.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --styles runs/trunk made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

fastnst train examples/paintings/poppies.jpg --content "$photos" -o runs/poppies.safetensors \
    --preset fast --size 192 --batch-size 2 --steps 200 --style-weight 25 --held-out 12 \
    --init runs/trunk/poppies.safetensors \
    --credit "Katsushika Hokusai, Poppies, c. 1833. Public domain"
python scripts/recipes/ship.py poppies
