#!/usr/bin/env bash
# models.sh PLINTH ROOT TMP: every model's whole step at a tiny size under each kind of division, compared by evaluation.
set -euo pipefail
plinth=$1 root=$2 tmp=$3
. "$(dirname "$0")/../../Inputs/step.sh"
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
small=(--preset test --set layers=1 --set width=16 --set hidden=24 --set heads=4)
sizes=B=4,T=8 step bert bert "${small[@]}" --set vocab=32 --set context=16
sizes=B=4,T=8 step roberta roberta "${small[@]}" --set vocab=32 --set context=16
sizes=B=2,h=4,w=4,S=3 step unet unet --preset test --set channels=[8,8] --set cross=8
sizes=B=4 step dit dit --preset test --set layers=1 --set heads=2 --set head=8 --set side=4
sizes=B=4 step vit vit "${small[@]}"
sizes=B=4,S=8,T=8 step t5 t5 "${small[@]}" --set vocab=32 --set head=8
sizes=B=4,T=8 step whisper whisper --preset test --set layers=1 --set width=16 --set heads=4 --set vocab=32 --set mels=3 --set heard=4
sizes=B=4,T=8 step mixtral mixtral "${small[@]}" --set vocab=32 --set groups=2
sizes=B=4,T=8 step moe moe "${small[@]}" --set vocab=32 --set groups=2 --set shared=20
sizes=B=4,T=8 step deepseek deepseek --preset test --set width=16 --set inner=24 --set layers=2 --set vocab=32 --set experts=4 --set parts=2 --set open=1 --set chosen=2
sizes=B=4,T=8 step gemma gemma "${small[@]}" --set vocab=32 --set groups=2 --set head=6 --set window=3 --set score_cap=1.5
sizes=B=4,T=8 step lora lora "${small[@]}" --set vocab=32 --set groups=2
sizes=B=4,N=4,T=8 step clip clip --preset test --set text.layers=1 --set text.width=16 --set text.hidden=24 --set text.vocab=32 \
  --set vision.layers=1 --set vision.width=16 --set vision.hidden=24 --set space=16

tensor=Attention.H=tensor,Attention.G=tensor,Mlp.F=tensor,vocab=tensor
# data parallelism, and with the three stages of ZeRO
divide mesh=data:2,B=data gpt llama bible
divide mesh=data:4,B=data,optimizer_state=data gpt llama bible
divide mesh=data:2,B=data,gradients=data gpt llama bible
divide mesh=data:8,B=data,parameters=data gpt llama bible
divide mesh=pod:2,mesh=data:4,B=pod,B=data,parameters=data gpt llama
# over 3 devices, which divide no width: padded
sizes=B=6,T=8 step gpt3 gpt2 --set layers=1 --set width=16 --set heads=4 --set vocab=32 --set context=16
for zero in optimizer_state gradients parameters; do divide mesh=data:3,B=data,$zero=data gpt3; done
divide mesh=data:3,mesh=pod:2,B=data,B=pod,optimizer_state=data,optimizer_state=pod gpt3
# tensor parallelism with the vocabulary divided, with and without sequence parallelism, and all together
divide mesh=tensor:2,$tensor gpt llama bible
divide mesh=tensor:4,$tensor gpt
divide mesh=tensor:2,$tensor,sequence=tensor gpt llama bible
divide mesh=data:2,mesh=tensor:2,B=data,$tensor,optimizer_state=data gpt llama bible
divide mesh=pod:2,mesh=data:2,mesh=tensor:2,B=pod,B=data,$tensor,sequence=tensor,parameters=data gpt llama
divide mesh=data:3,mesh=tensor:2,B=data,$tensor,optimizer_state=data gpt3
divide mesh=data:3,mesh=tensor:2,B=data,$tensor,sequence=tensor,parameters=data gpt3
# the other families: data parallelism with each stage of ZeRO, and what their shard blocks divide
for family in bert vit t5 mixtral moe deepseek gemma lora clip; do
  for zero in "" ,optimizer_state=data ,gradients=data ,parameters=data; do divide mesh=data:2,B=data$zero $family; done
  divide mesh=data:2,mesh=tensor:2,B=data,$tensor $family
done
divide mesh=data:2,mesh=tensor:2,B=data,$tensor,Experts.F=tensor,Shared.F=tensor moe
divide mesh=data:2,mesh=tensor:2,B=data,$tensor,Experts.F=tensor deepseek
divide mesh=data:2,mesh=tensor:2,B=data,$tensor,Layer.F=tensor whisper
divide mesh=data:2,B=data,parameters=data whisper dit
for family in roberta unet; do
  divide mesh=data:2,B=data,parameters=data $family
  divide mesh=tensor:2,SelfAttention.H=tensor,Layer.F=tensor,$tensor $family
done
# experts divided, with tokens divided over the same devices or others
divide mesh=expert:2,Experts.E=expert mixtral moe deepseek
divide mesh=expert:4,B=expert,Experts.E=expert mixtral
divide mesh=data:2,mesh=expert:2,B=data,B=expert,Experts.E=expert,parameters=data mixtral
# with a capacity: rows go to their experts' devices and back
sizes=B=4,T=8 step capacity mixtral "${small[@]}" --set vocab=32 --set groups=2 --set capacity=1.25
for rules in mesh=expert:2,B=expert mesh=expert:4,B=expert mesh=data:2,mesh=expert:2,B=data,B=expert,parameters=data \
  mesh=expert:2,mesh=tensor:2,B=expert,Experts.F=tensor,Attention.H=tensor; do divide $rules,Experts.E=expert capacity; done
# context parallelism: attention as a ring: causal, of stripes, under a mask that is given, and of all positions
divide mesh=context:2,T=context gpt llama bible bert gemma
divide mesh=context:4,T=context gpt llama
divide mesh=data:2,mesh=context:2,B=data,T=context,parameters=data gpt llama
divide mesh=context:2,mesh=tensor:2,T=context,$tensor gpt llama
divide mesh=context:2,mesh=tensor:2,T=context,$tensor,sequence=tensor,optimizer_state=context gpt llama
# or attention's heads divided instead
divide mesh=context:2,T=context,attention_heads=context gpt llama bible bert
divide mesh=data:2,mesh=context:4,B=data,T=context,attention_heads=context,parameters=data,parameters=context gpt
divide mesh=context:2,mesh=tensor:2,T=context,$tensor,attention_heads=context,sequence=tensor,optimizer_state=context gpt
divide mesh=ring:2,mesh=context:2,T=ring,T=context,attention_heads=context gpt llama
# padding that lies unevenly: what a device has none of counts for nothing
"$plinth" check --graph "$root/tests/passes/partition/Inputs/padding.plinth" > "$tmp.graph"
"$plinth" opt --passes="backward,bind{B=4,T=12},simplify,expand,simplify" "$tmp.graph" -o "$tmp.padding"
for rules in mesh=data:2,B=data mesh=data:4,B=data,parameters=data mesh=context:2,T=context mesh=tensor:2,F=tensor,vocab=tensor,sequence=tensor \
  mesh=data:4,mesh=context:2,B=data,T=context,optimizer_state=data; do divide $rules padding; done

# what was made reads back, and later passes keep it
"$plinth" opt --passes="partition{mesh=data:2,mesh=tensor:2,B=data,$tensor,parameters=data}" "$tmp.gpt" -o "$tmp.part"
"$plinth" opt "$tmp.part" | diff "$tmp.part" -
"$plinth" opt --passes=simplify,canonical --check-eval "$tmp.part" -o "$tmp.low"
