#!/usr/bin/env bash
# How the bundled style cafe-terrace was made, from the root of the checkout: scripts/recipes/cafe-terrace.sh PHOTOS
set -euo pipefail
photos=${1:?give a folder of photographs}

scripts/recipes/style.sh cafe-terrace fast trunk \
    "Vincent van Gogh, Cafe Terrace at Night, 1888. Public domain" \
    "$photos" 10000 400 600
