#!/usr/bin/env bash
# How the bundled style great-wave was made, from the root of the checkout: scripts/recipes/great-wave.sh PHOTOS
set -euo pipefail
photos=${1:?give a folder of photographs}

scripts/recipes/style.sh great-wave fast trunk \
    "Katsushika Hokusai, The Great Wave off Kanagawa, c. 1831. Public domain" \
    "$photos" 900 800 400 2200 600
