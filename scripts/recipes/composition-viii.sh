#!/usr/bin/env bash
# How the bundled style composition-viii was made, from the root of the checkout: scripts/recipes/composition-viii.sh PHOTOS
set -euo pipefail
photos=${1:?give a folder of photographs}

start=trunk
for steps in 600 800 400; do
    fastnst train examples/paintings/composition-viii.jpg --content "$photos" -o runs/$steps/composition-viii.safetensors \
        --preset fast --size 192 --batch-size 2 --steps $steps --style-weight 25 --held-out 12 --init $start \
        --credit "Wassily Kandinsky, Composition VIII, 1923. Public domain"
    start=runs/$steps/composition-viii.safetensors
done
cp $start runs/composition-viii.safetensors
python scripts/recipes/ship.py composition-viii
