#!/usr/bin/env bash
# How the bundled style village-street was made, from the root of the checkout: scripts/recipes/village-street.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --styles runs/trunk made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

scripts/recipes/style.sh village-street fast runs/trunk/village-street.safetensors \
    "Vincent van Gogh, Village Street in Auvers, 1890. Public domain" \
    "$photos" 200 500 1500 600
