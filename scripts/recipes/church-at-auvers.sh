#!/usr/bin/env bash
# How the bundled style church-at-auvers was made, from the root of the checkout: scripts/recipes/church-at-auvers.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --styles runs/trunk made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

scripts/recipes/style.sh church-at-auvers fast runs/trunk/church-at-auvers.safetensors \
    "Vincent van Gogh, The Church at Auvers, 1890. Public domain" \
    "$photos" 200 500 400
