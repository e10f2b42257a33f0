#!/usr/bin/env bash
# How the bundled style great-wave was made: scripts/recipes/great-wave.sh PHOTOS, from the root of the checkout.
# It starts from the first half of scripts/recipes/cafe-terrace.sh, which must have run.
set -euo pipefail
photos=${1:?give a folder of photographs}

# First with small strokes, then with larger ones.
fastnst train examples/paintings/great-wave.jpg --content "$photos" -o runs/great-wave-first.safetensors \
    --preset slim --steps 500 --style-size 512 --style-weight 2.5 --init runs/cafe-terrace-first.safetensors
fastnst train examples/paintings/great-wave.jpg --content "$photos" -o runs/great-wave.safetensors \
    --preset slim --steps 400 --style-size 768 --style-weight 1.5 --init runs/great-wave-first.safetensors \
    --credit "Katsushika Hokusai, The Great Wave off Kanagawa, c. 1831. Public domain"

cp runs/great-wave.safetensors checkpoints/great-wave.safetensors
fastnst export checkpoints/great-wave.safetensors -o checkpoints/great-wave.onnx --overwrite
fastnst stylize examples/photos/red-panda.jpg -o checkpoints/great-wave.jpg \
    --style checkpoints/great-wave.onnx --max-size 640 --quality 85 --overwrite
