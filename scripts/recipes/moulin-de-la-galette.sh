#!/usr/bin/env bash
# How the bundled style moulin-de-la-galette was made, from the root of the checkout: scripts/recipes/moulin-de-la-galette.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --styles runs/trunk made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

scripts/recipes/style.sh moulin-de-la-galette fast runs/trunk/moulin-de-la-galette.safetensors \
    "Pierre-Auguste Renoir, Bal du moulin de la Galette, 1876. Public domain" \
    "$photos" 200 500 400
