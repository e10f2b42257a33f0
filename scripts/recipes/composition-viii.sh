#!/usr/bin/env bash
# How the bundled style composition-viii was made, from the root of the checkout: scripts/recipes/composition-viii.sh PHOTOS
set -euo pipefail
photos=${1:?give a folder of photographs}

scripts/recipes/style.sh composition-viii fast trunk \
    "Wassily Kandinsky, Composition VIII, 1923. Public domain" \
    "$photos" 600 1200@0.04
