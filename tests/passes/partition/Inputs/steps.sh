#!/usr/bin/env bash
# steps.sh PLINTH ROOT TMP some|all: five steps of training of every family, divided over 2, 4 and 8 devices, one behind the other: losses,
# gradients, parameters and optimizer states after each are those of one device, by evaluation. `some`: one division of each family.
set -euo pipefail
plinth=$1 root=$2 tmp=$3 which=$4
. "$(dirname "$0")/../../Inputs/step.sh"
small=(--preset test --set layers=1 --set width=8 --set hidden=16 --set heads=4)
make() { # FAMILY: a step of few layers, narrow
  case $1 in
    gpt) sizes=B=8,T=4 step gpt gpt2 --set layers=1 --set width=8 --set heads=4 --set vocab=16 --set context=8 ;;
    llama) sizes=B=8,T=4 step llama llama "${small[@]}" --set vocab=16 --set groups=4 ;;
    lora) sizes=B=8,T=4 step lora lora "${small[@]}" --set vocab=16 --set groups=4 ;;
    gemma) sizes=B=8,T=4 step gemma gemma "${small[@]}" --set vocab=16 --set groups=4 --set head=4 --set window=2 --set score_cap=1.5 ;;
    mixtral) sizes=B=8,T=4 step mixtral mixtral "${small[@]}" --set vocab=16 --set groups=4 ;;
    capacity) sizes=B=8,T=8 step capacity mixtral "${small[@]}" --set vocab=16 --set groups=4 --set capacity=1.25 ;;
    bert | roberta) sizes=B=8,T=4 step "$1" "$1" "${small[@]}" --set vocab=16 --set context=8 ;;
    bible) sizes=B=8,T=4 step bible bible --set layers=1 --set width=8 --set heads=2 --set vocab=16 ;;
    vit) sizes=B=8 step vit vit "${small[@]}" ;;
    t5) sizes=B=8,S=4,T=4 step t5 t5 "${small[@]}" --set vocab=16 --set head=8 ;;
    clip) sizes=B=8,N=8,T=4 step clip clip --preset test --set text.layers=1 --set text.width=8 --set text.hidden=16 --set text.vocab=16 \
      --set vision.layers=1 --set vision.width=8 --set vision.hidden=16 --set space=8 ;;
    unet) sizes=B=2,h=4,w=4,S=3 step unet unet --preset test --set channels=[8,8] --set cross=8 ;;
  esac
}
divide() { # FAMILY RULES
  echo "$1: $2"
  "$plinth" opt --passes="partition{$2}" --check-eval --check-steps=5 "$tmp.$1" -o "$tmp.part"
}
tensor=Attention.H=tensor,Attention.G=tensor,SelfAttention.H=tensor,Layer.F=tensor,Mlp.F=tensor,vocab=tensor
kinds=(mesh=data:2,B=data mesh=data:2,B=data,optimizer_state=data mesh=data:2,B=data,gradients=data mesh=data:2,B=data,parameters=data
  mesh=tensor:2,$tensor)
long=(mesh=tensor:2,$tensor,sequence=tensor mesh=context:2,T=context mesh=data:4,B=data,parameters=data mesh=data:8,B=data,gradients=data
  mesh=data:2,mesh=tensor:2,B=data,$tensor,optimizer_state=data mesh=pod:2,mesh=data:2,mesh=tensor:2,B=pod,B=data,$tensor,parameters=data)
experts=(mesh=expert:2,B=expert,Experts.E=expert mesh=data:2,mesh=expert:2,B=data,B=expert,Experts.E=expert,parameters=data)
sizes=B=6,T=4 step gpt3 gpt2 --set layers=1 --set width=8 --set heads=4 --set vocab=16 --set context=8
for zero in optimizer_state parameters; do divide gpt3 mesh=data:3,B=data,$zero=data; done
i=0
for family in gpt llama lora gemma mixtral capacity bert roberta bible vit t5 clip unet; do
  make $family
  if [ "$which" = some ]; then
    divide $family "${kinds[$((i++ % ${#kinds[@]}))]}"
    continue
  fi
  for rules in "${kinds[@]}"; do divide $family "$rules"; done
  case $family in gpt | llama | lora | gemma | bert | bible) for rules in "${long[@]}"; do divide $family "$rules"; done ;; esac
  case $family in mixtral | capacity) for rules in "${experts[@]}"; do divide $family "$rules"; done ;; esac
done
