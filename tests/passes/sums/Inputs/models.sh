#!/usr/bin/env bash
# models.sh PLINTH ROOT TMP: sums of gradients in the last micro-step: the same numbers by evaluation of all devices, entry by entry and in steps one behind
# the other, and how many sums each entry has; where a step is one micro-batch, and of several.
set -euo pipefail
plinth=$1 root=$2 tmp=$3
. "$(dirname "$0")/../../Inputs/step.sh"
sums() { # NAME RULES
  "$plinth" opt --passes="partition{$2},simplify" "$tmp.$1" -o "$tmp.part"
  "$plinth" opt --passes=sums --check-eval --check-steps=2 "$tmp.part" -o "$tmp.sums"
  "$plinth" opt --passes=simplify,bucket,canonical --check-eval --check-steps=2 "$tmp.sums" -o "$tmp.low"
  for f in part sums; do
    awk '/^entry /{ e = $2 } / = (all_reduce|reduce_scatter) /{ n[e]++ } END { printf " %d %d %d %d,", n["micro_first"], n["micro"], n["micro_last"], n["update"] }' "$tmp.$f"
  done | sed "s/^/$1 $2:/; s/,$//"
  echo
}
step gpt gpt2 --set layers=1 --set width=8 --set heads=4 --set vocab=16 --set context=8
step moe mixtral --preset test --set layers=1 --set width=8 --set hidden=16 --set heads=4 --set groups=2 --set vocab=16
for name in gpt moe; do sed '/^entry micro {/,/^}/d' "$tmp.$name" >"$tmp.one_$name"; done
sums gpt mesh=data:2,B=data
sums one_gpt mesh=data:2,B=data
sums gpt mesh=data:2,B=data,optimizer_state=data
sums one_gpt mesh=data:2,B=data,optimizer_state=data
sums one_gpt mesh=data:2,B=data,parameters=data
sums gpt mesh=data:2,mesh=tensor:2,B=data,Attention.H=tensor,Mlp.F=tensor,sequence=tensor
sums one_gpt mesh=data:2,mesh=tensor:2,B=data,Attention.H=tensor,Mlp.F=tensor,sequence=tensor,optimizer_state=data
sizes=B=6,T=8 step gpt3 gpt2 --set layers=1 --set width=8 --set heads=4 --set vocab=16 --set context=8
sed '/^entry micro {/,/^}/d' "$tmp.gpt3" >"$tmp.one_gpt3"
sums gpt3 mesh=data:3,B=data,optimizer_state=data
sums one_gpt3 mesh=data:3,B=data,optimizer_state=data
grep -c '^buffer @grad.* split "data . 1 of ' "$tmp.sums"
sums moe mesh=data:2,mesh=expert:2,B=data,B=expert,Experts.E=expert
