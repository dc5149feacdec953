#!/usr/bin/env bash
# models.sh PLINTH ROOT TMP: every model's whole step at a tiny size under each kind of division, compared by evaluation.
set -euo pipefail
plinth=$1 root=$2 tmp=$3
step() { # NAME MODEL SETTINGS...
  local name=$1 model=$2
  shift 2
  "$plinth" check --graph "$root/models/$model.plinth" "$@" > "$tmp.graph"
  "$plinth" opt --passes='backward,bind{B=8,T=8},simplify,expand,simplify' "$tmp.graph" -o "$tmp.$name"
}
divide() { # RULES MODELS...
  local rules=$1
  shift
  for name; do
    echo "$name: $rules"
    "$plinth" opt --passes="partition{$rules}" --check-eval "$tmp.$name" -o "$tmp.part"
  done
}
step gpt gpt2 --set layers=1 --set width=16 --set heads=4 --set vocab=32 --set context=16
step llama llama --preset test --set layers=1 --set width=16 --set hidden=24 --set vocab=32 --set heads=4 --set groups=2
step bible bible --set layers=1 --set width=16 --set heads=2 --set vocab=32

tensor=Attention.H=tensor,Attention.G=tensor,Mlp.F=tensor,vocab=tensor
# data parallelism, and with the three stages of ZeRO
divide mesh=data:2,B=data gpt llama bible
divide mesh=data:4,B=data,optimizer_state=data gpt llama bible
divide mesh=data:2,B=data,gradients=data gpt llama bible
divide mesh=data:8,B=data,parameters=data gpt llama bible
divide mesh=pod:2,mesh=data:4,B=pod,B=data,parameters=data gpt llama
# tensor parallelism with the vocabulary divided, with and without sequence parallelism, and all together
divide mesh=tensor:2,$tensor gpt llama bible
divide mesh=tensor:4,$tensor gpt
divide mesh=tensor:2,$tensor,sequence=tensor gpt llama bible
divide mesh=data:2,mesh=tensor:2,B=data,$tensor,optimizer_state=data gpt llama bible
divide mesh=pod:2,mesh=data:2,mesh=tensor:2,B=pod,B=data,$tensor,sequence=tensor,parameters=data gpt llama

# what was made reads back, and later passes keep it
"$plinth" opt --passes="partition{mesh=data:2,mesh=tensor:2,B=data,$tensor,parameters=data}" "$tmp.gpt" -o "$tmp.part"
"$plinth" opt "$tmp.part" | diff "$tmp.part" -
"$plinth" opt --passes=simplify,canonical --check-eval "$tmp.part" -o "$tmp.low"
