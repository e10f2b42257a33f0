#!/usr/bin/env bash
# A share of the pictures for each job of GNU parallel, a job for each core, without Ray:
#   examples/scale/parallel.sh photos paintings great-wave 64
# On several machines that share a disk, with their names in a file: PARALLEL="--sshloginfile machines --workdir ."
set -euo pipefail

shares=${4:-$(nproc)}
export OMP_NUM_THREADS=1

seq "$shares" | parallel --line-buffer --tagstring "{}/$shares" \
    fastnst batch "$1" --output "$2" --style "${3:-great-wave}" --address none --shard "{}/$shares" --quiet
