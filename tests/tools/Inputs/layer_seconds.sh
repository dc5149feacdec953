#!/usr/bin/env bash
# layer_seconds.sh PLINTH MODEL PRECISION: seconds that one layer more takes, with a small vocabulary and with a large one, as a ratio less 1.
set -euo pipefail
seconds() { # LAYERS VOCABULARY
  "$plinth" plan "$model" --preset llama3_8b --machine h100 --mesh data=8 --shard parameters=data --batch 8 --precision "$precision" --recompute whole \
    --set layers="$1" --set vocab="$2" --json | sed -n 's/.*"step_seconds": *\([0-9.e-]*\).*/\1/p'
}
plinth=$1 model=$2 precision=$3
awk -v a="$(seconds 16 8016)" -v b="$(seconds 17 8016)" -v c="$(seconds 16 128256)" -v d="$(seconds 17 128256)" \
  'BEGIN { apart = (d - c) / (b - a) - 1; print (b > a && apart < 0.02 && apart > -0.02 ? "alike" : "apart by " apart) }'
