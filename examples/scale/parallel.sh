#!/usr/bin/env bash
# A share of the pictures for each of some machines that have a disk in common and are reached by SSH, with GNU parallel:
#   examples/scale/parallel.sh machines photos paintings great-wave
# `machines` has a name on each line, and : for this one. More options of fastnst batch may follow: --address none where
# there is no Ray. The same line again does what is missing.
set -euo pipefail

shares=$(grep -c . "$1")
command=$(printf '%q ' fastnst batch "$2" --output "$3" --style "$4" --quiet "${@:5}")

seq "$shares" | parallel --jobs 1 --sshloginfile "$1" --workdir . --line-buffer --tagstring "{}/$shares" \
    "$command --shard {}/$shares"
