#!/usr/bin/env bash
# Train a bundled style in parts, each on from the one before, the first from START, and ship it. A part is a number of
# steps, or STEPS@RATE with a learning rate of its own. Called by the recipes:
# scripts/recipes/style.sh NAME PRESET START CREDIT PHOTOS PART...
set -euo pipefail
name=$1 preset=$2 start=$3 credit=$4 photos=$5

number=0
for part in "${@:6}"; do
    number=$((number + 1))
    rate=()
    [[ $part != *@* ]] || rate=(--learning-rate "${part#*@}")
    fastnst train "examples/paintings/${name%-"$preset"}.jpg" --content "$photos" -o "runs/$number/$name.safetensors" \
        --preset "$preset" --size 192 --batch-size 2 --steps "${part%@*}" "${rate[@]}" --style-weight 25 \
        --held-out 12 --init "$start" --credit "$credit"
    start=runs/$number/$name.safetensors
done
cp "$start" "runs/$name.safetensors"
python scripts/recipes/ship.py "$name"
