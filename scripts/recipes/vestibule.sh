#!/usr/bin/env bash
# How the bundled style vestibule was made, from the root of the checkout: scripts/recipes/vestibule.sh PHOTOS PAINTINGS
set -euo pipefail
photos=${1:?give a folder of photographs} paintings=${2:?give the folder of paintings}

fastnst train "$paintings/van-gogh-vestibule-of-the-asylum.jpg" --content "$photos" -o runs/vestibule.safetensors \
    --preset fast --init checkpoints/great-wave.safetensors --steps 300 --held-out 12 \
    --credit "Vincent van Gogh, Vestibule of the Asylum, 1889. Public domain"
python scripts/recipes/ship.py vestibule
