#!/usr/bin/env bash
# How the bundled style ejiri-in-suruga was made, from the root of the checkout: scripts/recipes/ejiri-in-suruga.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --styles runs/trunk made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

start=runs/trunk/ejiri-in-suruga.safetensors
for steps in 200 500; do
    fastnst train examples/paintings/ejiri-in-suruga.jpg --content "$photos" -o runs/$steps/ejiri-in-suruga.safetensors \
        --preset fast --size 192 --batch-size 2 --steps $steps --style-weight 25 --held-out 12 --init $start \
        --credit "Katsushika Hokusai, Ejiri in Suruga Province, c. 1832. Public domain"
    start=runs/$steps/ejiri-in-suruga.safetensors
done
cp $start runs/ejiri-in-suruga.safetensors
python scripts/recipes/ship.py ejiri-in-suruga
