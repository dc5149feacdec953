#!/usr/bin/env bash
# models.sh PLINTH ROOT TMP: parts of a GPT-2's and a Mixtral's step, with messages put together: the same numbers by evaluation of all devices, and how many
# collectives there are before and after.
set -euo pipefail
plinth=$1 root=$2 tmp=$3
. "$(dirname "$0")/../../Inputs/step.sh"
count() { grep -cE ' = (all_reduce|all_gather|reduce_scatter|all_to_all) ' "$1"; }
bucket() { # NAME RULES BYTES
  "$plinth" opt --passes="partition{$2},simplify" "$tmp.$1" -o "$tmp.part"
  "$plinth" opt --passes="bucket{bytes=$3}" --check-eval "$tmp.part" -o "$tmp.fewer"
  "$plinth" opt --passes=canonical --check-eval "$tmp.fewer" -o "$tmp.low"
  echo "$1 $2 $3: $(count "$tmp.part") $(count "$tmp.fewer")"
}
step gpt gpt2 --set layers=2 --set width=16 --set heads=4 --set vocab=32 --set context=16
step moe mixtral --preset test --set layers=2 --set width=16 --set hidden=24 --set heads=4 --set groups=2 --set vocab=32 --set capacity=1.25
bucket gpt mesh=data:2,B=data 1000000
bucket gpt mesh=data:2,B=data 4000
bucket gpt mesh=data:2,B=data 0
bucket gpt mesh=data:4,B=data,gradients=data 1000000
bucket gpt mesh=data:2,B=data,parameters=data 6000
bucket gpt mesh=data:2,mesh=tensor:2,B=data,Attention.H=tensor,Mlp.F=tensor,vocab=tensor,sequence=tensor,parameters=data 1000000
bucket moe mesh=expert:2,B=expert,Experts.E=expert 1000000
