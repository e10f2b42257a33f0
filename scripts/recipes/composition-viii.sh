#!/usr/bin/env bash
# How the bundled style composition-viii was made: scripts/recipes/composition-viii.sh PHOTOS, from the root of the checkout.
# It starts from the first half of scripts/recipes/cafe-terrace.sh, which must have run.
set -euo pipefail
photos=${1:?give a folder of photographs}

fastnst train examples/paintings/composition-viii.jpg --content "$photos" -o runs/composition-viii.safetensors \
    --preset slim --steps 500 --style-size 768 --style-weight 2 --init runs/cafe-terrace-first.safetensors \
    --credit "Wassily Kandinsky, Composition VIII, 1923. Public domain"

cp runs/composition-viii.safetensors checkpoints/composition-viii.safetensors
fastnst export checkpoints/composition-viii.safetensors -o checkpoints/composition-viii.onnx --overwrite
fastnst stylize examples/photos/red-panda.jpg -o checkpoints/composition-viii.jpg \
    --style checkpoints/composition-viii.onnx --max-size 640 --quality 85 --overwrite
