#!/usr/bin/env bash
# mesh_cuda.sh PLINTH ROOT TMP STANDIN: see ../mesh_cuda.test. Ranks are processes with the variables of torchrun or Slurm.
set -euo pipefail
. "${BASH_SOURCE%/*}/cuda_ranks.sh"
gpt=("$root/models/gpt2.plinth" --data d --precision f32 --log 1 --set vocab=320 --set layers=1 --set width=32 --set heads=4
  --set context=16 --set train.batch.B=4 --set train.batch.T=16 --steps 5)
moe=("$root/models/mixtral.plinth" --preset test --data d --precision f32 --log 1 --set vocab=320 --set width=32 --set hidden=48
  --set layers=1 --set capacity=1.25 --set train.batch.B=4 --set train.batch.T=16 --steps 5)
"$plinth" train "${gpt[@]}" -o one --device cpu 2>/dev/null
"$plinth" train "${moe[@]}" -o one_moe --device cpu 2>/dev/null
ranks data torchrun 2 "${gpt[@]}" --mesh data=2; same "data=2 by torchrun's variables" one data
grep -ho 'ranks     TFLOPS' data.0.log
ranks tensor slurm 2 "${gpt[@]}" --mesh tensor=2 --matmul generated; same "tensor=2 by Slurm's variables" one tensor
export PLINTH_STANDIN=schedule=random:3,streams=eager
ranks both torchrun 4 "${gpt[@]}" --mesh data=2,tensor=2 --matmul generated --shard parameters=data; same "data=2,tensor=2, parameters divided" one both
ranks ring torchrun 2 "${gpt[@]}" --mesh context=2 --shard T=context --matmul generated; same "context=2" one ring
ranks heads torchrun 2 "${gpt[@]}" --mesh context=2 --shard T=context --shard attention_heads=context --matmul generated; same "context=2, heads divided" one heads
ranks three torchrun 3 "${gpt[@]}" --set train.batch.B=6 --mesh data=3 --matmul generated --shard parameters=data
unset PLINTH_STANDIN
"$plinth" train "${gpt[@]}" --set train.batch.B=6 -o one_of_three --device cpu 2>/dev/null; same "data=3, parameters padded" one_of_three three
"$plinth" train "${gpt[@]}" --set train.batch.B=6 --steps 6 -o three --resume --device cuda --matmul generated 2>&1 | grep -o 'going on after step 5'
ranks moe torchrun 2 "${moe[@]}" --mesh expert=2 --matmul generated; same "expert=2" one_moe moe
# a checkpoint in parts goes to one GPU
"$plinth" train "${gpt[@]}" --steps 6 -o both --resume --device cuda --matmul generated 2>&1 | grep -o 'going on after step 5'
# what goes wrong
rank torchrun 0 2 "${gpt[@]}" --mesh data=4 -o wrong --device cuda 2>&1 | grep -m1 -o 'the mesh has 4 devices.*' || true &
rank torchrun 1 2 "${gpt[@]}" --mesh data=4 -o wrong --device cuda >/dev/null 2>&1 || true
wait
PLINTH_LIBNCCL=/nowhere/libnccl.so.2 rank torchrun 0 2 "${gpt[@]}" --mesh data=2 -o wrong --device cuda 2>&1 | grep -m1 -o 'cannot be loaded (/nowhere' || true
MASTER_PORT=x RANK=0 WORLD_SIZE=2 MASTER_ADDR=localhost "$plinth" train "${gpt[@]}" --mesh data=2 -o wrong --device cuda 2>&1 | grep -m1 -o 'MASTER_PORT is x.*' || true
killed "${gpt[@]}" --mesh data=2
