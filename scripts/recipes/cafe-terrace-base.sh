#!/usr/bin/env bash
# How the bundled style cafe-terrace-base was made, from the root of the checkout: scripts/recipes/cafe-terrace-base.sh PHOTOS
# When the first part was made, base had no margin. That part was stopped here after 870 steps of 1900.
set -euo pipefail
photos=${1:?give a folder of photographs}

scripts/recipes/style.sh cafe-terrace-base base trunk \
    "Vincent van Gogh, Cafe Terrace at Night, 1888. Public domain" \
    "$photos" 1900 520
