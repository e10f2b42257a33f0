#!/usr/bin/env bash
# How the bundled style vestibule-of-the-asylum was made, from the root of the checkout: scripts/recipes/vestibule-of-the-asylum.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --styles runs/trunk made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

start=runs/trunk/vestibule-of-the-asylum.safetensors
for steps in 200 500; do
    fastnst train examples/paintings/vestibule-of-the-asylum.jpg --content "$photos" -o runs/$steps/vestibule-of-the-asylum.safetensors \
        --preset fast --size 192 --batch-size 2 --steps $steps --style-weight 25 --held-out 12 --init $start \
        --credit "Vincent van Gogh, Vestibule of the Asylum, 1889. Public domain"
    start=runs/$steps/vestibule-of-the-asylum.safetensors
done
cp $start runs/vestibule-of-the-asylum.safetensors
python scripts/recipes/ship.py vestibule-of-the-asylum
