#!/usr/bin/env bash
# How the bundled style great-wave-tiny was made, from the root of the checkout: scripts/recipes/great-wave-tiny.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --preset tiny --styles runs/trunk-tiny made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

scripts/recipes/style.sh great-wave-tiny tiny runs/trunk-tiny/great-wave.safetensors \
    "Katsushika Hokusai, The Great Wave off Kanagawa, c. 1831. Public domain" \
    "$photos" 3000 600
