#!/usr/bin/env bash
# float8_cuda.sh PLINTH MODEL TMP "STAND-IN": see ../float8_cuda.test.
set -euo pipefail
plinth=$1 model=$2 tmp=$3 standin=$4
train() { # NAME "COMMAND BEFORE" OPTION...
  local name=$1 before=$2; shift 2
  $before "$plinth" train "$model" --data "$tmp/text" --out "$tmp/$name" --steps 3 --set train.evaluate.batches=1 --set train.batch.B=2 --set width=64 \
    --precision fp8 "$@" >&2
}
numbers() { sed 's/.*"train_loss": \([0-9.]*\).*"gradient_norm": \([0-9.]*\).*/\1 \2/' "$tmp/$1/metrics.jsonl"; }
gpu() { # NAME OPTION...
  local name=$1; shift
  train "$name" "$standin" --device cuda "$@"
  paste <(numbers "$name") <(numbers cpu) | awk -v name="$name" 'function far(a, b, by) { return a < b * (1 - by) || a > b * (1 + by) }
    far($1, $3, 1e-4) || far($2, $4, 1e-2) { bad = 1 } END { print name ": " (bad || NR != 3 ? "NOT as the CPU" : "as the CPU") }'
}
train cpu "" --device cpu
gpu generated --matmul generated
gpu library --matmul library
PLINTH_STANDIN=cc=89 gpu sm_89 --matmul generated
PLINTH_STANDIN=cc=80 gpu sm_80 --matmul generated
