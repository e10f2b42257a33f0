#!/usr/bin/env bash
# How the bundled style harvest was made, from the root of the checkout: scripts/recipes/harvest.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --styles runs/trunk made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

scripts/recipes/style.sh harvest fast runs/trunk/harvest.safetensors \
    "Vincent van Gogh, Harvest at La Crau, 1888. Public domain" \
    "$photos" 200 500 600
