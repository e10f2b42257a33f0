#!/usr/bin/env bash
# How the bundled style cafe-terrace-base was made, from the root of the checkout: scripts/recipes/cafe-terrace-base.sh PHOTOS
set -euo pipefail
photos=${1:?give a folder of photographs}

scripts/recipes/style.sh cafe-terrace-base base trunk \
    "Vincent van Gogh, Cafe Terrace at Night, 1888. Public domain" \
    "$photos" 600 700@0.03
