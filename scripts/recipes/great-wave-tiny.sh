#!/usr/bin/env bash
# How the bundled style great-wave-tiny was made, from the root of the checkout: scripts/recipes/great-wave-tiny.sh PHOTOS
set -euo pipefail
photos=${1:?give a folder of photographs}

scripts/recipes/style.sh great-wave-tiny tiny none \
    "Katsushika Hokusai, The Great Wave off Kanagawa, c. 1831. Public domain" \
    "$photos" 1200
