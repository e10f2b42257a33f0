#!/usr/bin/env bash
# How the bundled style night-cafe was made, from the root of the checkout: scripts/recipes/night-cafe.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --styles runs/trunk-limited made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

scripts/recipes/style.sh night-cafe fast runs/trunk-limited/night-cafe.safetensors \
    "Vincent van Gogh, The Night Cafe, 1888. Public domain" \
    "$photos" 600
