#!/usr/bin/env bash
# How the bundled style moulin-de-la-galette was made, from the root of the checkout: scripts/recipes/moulin-de-la-galette.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --styles runs/trunk made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

start=runs/trunk/moulin-de-la-galette.safetensors
for steps in 200 500; do
    fastnst train examples/paintings/moulin-de-la-galette.jpg --content "$photos" -o runs/$steps/moulin-de-la-galette.safetensors \
        --preset fast --size 192 --batch-size 2 --steps $steps --style-weight 25 --held-out 12 --init $start \
        --credit "Pierre-Auguste Renoir, Bal du moulin de la Galette, 1876. Public domain"
    start=runs/$steps/moulin-de-la-galette.safetensors
done
cp $start runs/moulin-de-la-galette.safetensors
python scripts/recipes/ship.py moulin-de-la-galette
