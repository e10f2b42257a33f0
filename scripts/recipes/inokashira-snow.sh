#!/usr/bin/env bash
# How the bundled style inokashira-snow was made, from the root of the checkout: scripts/recipes/inokashira-snow.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --styles runs/trunk made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

fastnst train examples/paintings/inokashira-snow.jpg --content "$photos" -o runs/inokashira-snow.safetensors \
    --preset fast --size 192 --batch-size 2 --steps 200 --style-weight 25 --held-out 12 \
    --init runs/trunk/inokashira-snow.safetensors \
    --credit "Utagawa Hiroshige, The Benzaiten Shrine at Inokashira in Snow, c. 1843. Public domain"
python scripts/recipes/ship.py inokashira-snow
