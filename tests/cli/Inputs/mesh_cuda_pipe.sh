#!/usr/bin/env bash
# mesh_cuda_pipe.sh PLINTH ROOT TMP STANDIN: see ../mesh_cuda_pipe.test.
set -euo pipefail
. "${BASH_SOURCE%/*}/cuda_ranks.sh"
model=("$root/models/gpt2.plinth" --data d --precision f32 --log 1 --set vocab=320 --set width=32 --set heads=4 --set context=16
  --set train.batch.B=2 --set train.batch.T=16 --steps 5)
two=("${model[@]}" --set layers=2 --set train.batch.accumulate=3)
four=("${model[@]}" --set layers=4 --set train.batch.accumulate=2)
validation() { grep -o '"validation_loss": *[0-9.]*' "$1/metrics.jsonl" | tail -1 | cut -c1-24; }
"$plinth" train "${two[@]}" -o one --device cpu 2>/dev/null
"$plinth" train "${four[@]}" -o one_four --device cpu 2>/dev/null
validation one
ranks pipe torchrun 2 "${two[@]}" --mesh pipe=2; same "pipe=2" one pipe; validation pipe
ranks inter slurm 2 "${four[@]}" --mesh pipe=2 --schedule interleaved:2 --matmul generated; same "pipe=2, interleaved" one_four inter
export PLINTH_STANDIN=schedule=random:3,streams=eager
ranks both torchrun 4 "${two[@]}" --mesh data=2,pipe=2 --schedule gpipe --matmul generated; same "data=2,pipe=2, gpipe" one both
unset PLINTH_STANDIN
# a checkpoint in parts goes to one GPU
"$plinth" train "${two[@]}" --steps 6 -o pipe --resume --device cuda --matmul generated 2>&1 | grep -o 'going on after step 5'
# what goes wrong
killed "${two[@]}" --mesh pipe=2 --matmul generated
