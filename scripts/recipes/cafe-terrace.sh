#!/usr/bin/env bash
# How the bundled style cafe-terrace was made: scripts/recipes/cafe-terrace.sh PHOTOS, from the root of the checkout.
set -euo pipefail
photos=${1:?give a folder of photographs}

# First with small strokes, then with larger ones.
fastnst train examples/paintings/cafe-terrace.jpg --content "$photos" -o runs/cafe-terrace-first.safetensors \
    --preset slim --steps 1000 --style-size 512 --style-weight 2.5
fastnst train examples/paintings/cafe-terrace.jpg --content "$photos" -o runs/cafe-terrace.safetensors \
    --preset slim --steps 300 --style-size 768 --style-weight 2 --init runs/cafe-terrace-first.safetensors \
    --credit "Vincent van Gogh, Cafe Terrace at Night, 1888. Public domain"

cp runs/cafe-terrace.safetensors checkpoints/cafe-terrace.safetensors
fastnst export checkpoints/cafe-terrace.safetensors -o checkpoints/cafe-terrace.onnx --overwrite
fastnst stylize examples/photos/red-panda.jpg -o checkpoints/cafe-terrace.jpg \
    --style checkpoints/cafe-terrace.onnx --max-size 640 --quality 85 --overwrite
