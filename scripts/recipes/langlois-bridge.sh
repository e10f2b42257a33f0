#!/usr/bin/env bash
# How the bundled style langlois-bridge was made, from the root of the checkout: scripts/recipes/langlois-bridge.sh PHOTOS PAINTINGS
set -euo pipefail
photos=${1:?give a folder of photographs} paintings=${2:?give the folder of paintings}

fastnst train "$paintings/van-gogh-langlois-bridge.jpg" --content "$photos" -o runs/langlois-bridge.safetensors \
    --preset fast --init checkpoints/great-wave.safetensors --steps 300 --held-out 12 \
    --credit "Vincent van Gogh, The Langlois Bridge at Arles, 1888. Public domain"
python scripts/recipes/ship.py langlois-bridge
