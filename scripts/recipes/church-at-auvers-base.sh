#!/usr/bin/env bash
# How the bundled style church-at-auvers-base was made, from the root of the checkout: scripts/recipes/church-at-auvers-base.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --preset base --styles runs/trunk-base made of this painting. When the first
# part was made, base had no margin.
set -euo pipefail
photos=${1:?give a folder of photographs}

scripts/recipes/style.sh church-at-auvers-base base runs/trunk-base/church-at-auvers.safetensors \
    "Vincent van Gogh, The Church at Auvers, 1890. Public domain" \
    "$photos" 400 300
