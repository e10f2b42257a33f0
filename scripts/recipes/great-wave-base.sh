#!/usr/bin/env bash
# How the bundled style great-wave-base was made, from the root of the checkout: scripts/recipes/great-wave-base.sh PHOTOS
set -euo pipefail
photos=${1:?give a folder of photographs}

scripts/recipes/style.sh great-wave-base base none \
    "Katsushika Hokusai, The Great Wave off Kanagawa, c. 1831. Public domain" \
    "$photos" 4000 2200 350
