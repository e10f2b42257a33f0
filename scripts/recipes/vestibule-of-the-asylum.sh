#!/usr/bin/env bash
# How the bundled style vestibule-of-the-asylum was made, from the root of the checkout: scripts/recipes/vestibule-of-the-asylum.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --styles runs/trunk made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

scripts/recipes/style.sh vestibule-of-the-asylum fast runs/trunk/vestibule-of-the-asylum.safetensors \
    "Vincent van Gogh, Vestibule of the Asylum, 1889. Public domain" \
    "$photos" 200 500 2000 600
