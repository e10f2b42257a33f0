#!/usr/bin/env bash
# How the bundled style pere-tanguy was made, from the root of the checkout: scripts/recipes/pere-tanguy.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --styles runs/trunk made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

scripts/recipes/style.sh pere-tanguy fast runs/trunk/pere-tanguy.safetensors \
    "Vincent van Gogh, Portrait of Pere Tanguy, 1887. Public domain" \
    "$photos" 200 500 400
