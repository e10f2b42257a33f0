#!/usr/bin/env bash
# How the bundled style poppies was made, from the root of the checkout: scripts/recipes/poppies.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --styles runs/trunk made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

scripts/recipes/style.sh poppies fast runs/trunk/poppies.safetensors \
    "Katsushika Hokusai, Poppies, c. 1833. Public domain" \
    "$photos" 200 800 400 600
