#!/usr/bin/env bash
# How the bundled style inokashira-snow was made, from the root of the checkout: scripts/recipes/inokashira-snow.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --styles runs/trunk made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

scripts/recipes/style.sh inokashira-snow fast runs/trunk/inokashira-snow.safetensors \
    "Utagawa Hiroshige, The Benzaiten Shrine at Inokashira in Snow, c. 1843. Public domain" \
    "$photos" 200 500 400
