#!/usr/bin/env bash
# How the bundled style langlois-bridge was made, from the root of the checkout: scripts/recipes/langlois-bridge.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --styles runs/trunk made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

scripts/recipes/style.sh langlois-bridge fast runs/trunk/langlois-bridge.safetensors \
    "Vincent van Gogh, The Langlois Bridge at Arles, 1888. Public domain" \
    "$photos" 200 500 400 400
