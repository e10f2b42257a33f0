#!/usr/bin/env bash
# How the bundled style moulin-de-la-galette was made, from the root of the checkout: scripts/recipes/moulin-de-la-galette.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --styles runs/trunk made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

fastnst train examples/paintings/moulin-de-la-galette.jpg --content "$photos" -o runs/moulin-de-la-galette.safetensors \
    --preset fast --size 192 --batch-size 2 --steps 200 --style-weight 25 --held-out 12 \
    --init runs/trunk/moulin-de-la-galette.safetensors \
    --credit "Pierre-Auguste Renoir, Bal du moulin de la Galette, 1876. Public domain"
python scripts/recipes/ship.py moulin-de-la-galette
