#!/usr/bin/env bash
# float8_train.sh PLINTH ROOT TMP: see ../float8_train.test.
set -euo pipefail
plinth=$1 root=$2 tmp=$3
rm -rf "$tmp"; mkdir -p "$tmp"; cd "$tmp"
export OMPI_MCA_rmaps_base_oversubscribe=1
"$plinth" data tokenize "$root/LICENSE" --tokenizer bpe --vocab 320 --validation-last 0.1 -o d >/dev/null 2>&1
model=("$root/models/gpt2.plinth" --data d --log 1 --steps 12 --set vocab=320 --set layers=2 --set width=64 --set heads=4 --set context=32
  --set train.batch.T=32)
whole=(--set train.batch.B=8) halves=(--set train.batch.B=4 --set train.batch.accumulate=2)
train() { "$plinth" train "${model[@]}" "$@" 2>/dev/null; }
ranks() { local n=$1; shift; timeout 600 mpirun --allow-run-as-root --oversubscribe -n "$n" "$plinth" train "${model[@]}" "$@" 2>/dev/null; }
losses() { sed -E 's/.*"train_loss": ?([0-9.]+).*/\1/' "$1/metrics.jsonl"; }
# how far the losses of two runs are from one another at most: the range that it lies in
apart() { # NAME RUN RUN LEAST MOST
  paste <(losses "$2") <(losses "$3") | awk -v name="$1" -v least="$4" -v most="$5" '{ d = $1 - $2; if (d < 0) d = -d; if (d > far) far = d; n++ }
    END { print name ": " (n < 12 ? "too few losses" : far > most ? "APART by " far : far < least ? "THE SAME" : "close") }'
}
train "${whole[@]}" --precision f32 -o f32; train "${whole[@]}" --precision autocast -o autocast
train "${whole[@]}" --precision fp8 -o fp8; train "${whole[@]}" --precision fp8 -o again
apart "bf16 beside f32" f32 autocast 1e-6 1e-3
apart "fp8 beside f32" f32 fp8 2e-4 3e-3
cmp fp8/step-000012/model.safetensors again/step-000012/model.safetensors && echo "fp8 again: same bits"
train "${whole[@]}" --precision fp8 --memory "$4" -o budget
cmp fp8/step-000012/model.safetensors budget/step-000012/model.safetensors && echo "within $4: same bits"
train "${halves[@]}" --precision fp8 -o halves; apart "two micro-batches" fp8 halves 0 1e-2
if [ "$5" = mpi ]; then
  model+=(--precision fp8)
  ranks 2 "${halves[@]}" --mesh data=2 -o data; apart "data=2" fp8 data 0 1e-4
  ranks 2 "${whole[@]}" --mesh data=2 --shard parameters=data -o zero; apart "data=2, parameters divided" fp8 zero 0 1e-4
  ranks 2 "${whole[@]}" --mesh tensor=2 --shard sequence=tensor -o tensor; apart "tensor=2" fp8 tensor 0 2e-3
  ranks 2 "${halves[@]}" --mesh pipe=2 -o pipe; apart "pipe=2" halves pipe 0 1e-4
fi
