#!/usr/bin/env bash
# Train a bundled style of the preset fast in parts, each on from the one before, the first from START, and ship it.
# Called by the recipes:
# scripts/recipes/fast.sh NAME START CREDIT PHOTOS STEPS...
set -euo pipefail
name=$1 start=$2 credit=$3 photos=$4

for steps in "${@:5}"; do
    fastnst train "examples/paintings/$name.jpg" --content "$photos" -o "runs/$steps/$name.safetensors" \
        --preset fast --size 192 --batch-size 2 --steps "$steps" --style-weight 25 --held-out 12 --init "$start" \
        --credit "$credit"
    start=runs/$steps/$name.safetensors
done
cp "$start" "runs/$name.safetensors"
python scripts/recipes/ship.py "$name"
