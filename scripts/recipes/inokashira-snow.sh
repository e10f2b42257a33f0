#!/usr/bin/env bash
# How the bundled style inokashira-snow was made, from the root of the checkout: scripts/recipes/inokashira-snow.sh PHOTOS PAINTINGS
set -euo pipefail
photos=${1:?give a folder of photographs} paintings=${2:?give the folder of paintings}

fastnst train "$paintings/hiroshige-inokashira-snow.jpg" --content "$photos" -o runs/inokashira-snow.safetensors \
    --preset fast --init checkpoints/great-wave.safetensors --size 192 --steps 450 --style-weight 3 --learning-rate 0.002 \
    --held-out 12 \
    --credit "Utagawa Hiroshige, The Benzaiten Shrine at Inokashira in Snow, c. 1843. Public domain"
python scripts/recipes/ship.py inokashira-snow
