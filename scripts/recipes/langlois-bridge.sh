#!/usr/bin/env bash
# How the bundled style langlois-bridge was made, from the root of the checkout: scripts/recipes/langlois-bridge.sh PHOTOS
# It goes on from what scripts/recipes/trunk.py --styles runs/trunk made of this painting.
set -euo pipefail
photos=${1:?give a folder of photographs}

start=runs/trunk/langlois-bridge.safetensors
for steps in 200 500; do
    fastnst train examples/paintings/langlois-bridge.jpg --content "$photos" -o runs/$steps/langlois-bridge.safetensors \
        --preset fast --size 192 --batch-size 2 --steps $steps --style-weight 25 --held-out 12 --init $start \
        --credit "Vincent van Gogh, The Langlois Bridge at Arles, 1888. Public domain"
    start=runs/$steps/langlois-bridge.safetensors
done
cp $start runs/langlois-bridge.safetensors
python scripts/recipes/ship.py langlois-bridge
