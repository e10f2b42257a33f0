#!/usr/bin/env bash
# How the bundled style inokashira-snow was made, from the root of the checkout: scripts/recipes/inokashira-snow.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --styles runs/trunk made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

start=runs/trunk/inokashira-snow.safetensors
for steps in 200 500; do
    fastnst train examples/paintings/inokashira-snow.jpg --content "$photos" -o runs/$steps/inokashira-snow.safetensors \
        --preset fast --size 192 --batch-size 2 --steps $steps --style-weight 25 --held-out 12 --init $start \
        --credit "Utagawa Hiroshige, The Benzaiten Shrine at Inokashira in Snow, c. 1843. Public domain"
    start=runs/$steps/inokashira-snow.safetensors
done
cp $start runs/inokashira-snow.safetensors
python scripts/recipes/ship.py inokashira-snow
