#!/usr/bin/env bash
# How the bundled style ejiri was made, from the root of the checkout: scripts/recipes/ejiri.sh PHOTOS PAINTINGS
set -euo pipefail
photos=${1:?give a folder of photographs} paintings=${2:?give the folder of paintings}

fastnst train "$paintings/hokusai-ejiri-in-suruga.jpg" --content "$photos" -o runs/ejiri.safetensors \
    --preset fast --init checkpoints/great-wave.safetensors --steps 300 --held-out 12 \
    --credit "Katsushika Hokusai, Ejiri in Suruga Province, c. 1832. Public domain"
python scripts/recipes/ship.py ejiri
