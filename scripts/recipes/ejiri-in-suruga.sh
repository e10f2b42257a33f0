#!/usr/bin/env bash
# How the bundled style ejiri-in-suruga was made, from the root of the checkout: scripts/recipes/ejiri-in-suruga.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --styles runs/trunk made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

scripts/recipes/style.sh ejiri-in-suruga fast runs/trunk/ejiri-in-suruga.safetensors \
    "Katsushika Hokusai, Ejiri in Suruga Province, c. 1832. Public domain" \
    "$photos" 200 500 1200@0.04 1800 600
