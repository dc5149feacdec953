#!/usr/bin/env bash
# mesh_families.sh PLINTH ROOT TMP PYTHON: every family trains with two ranks, by MPI, divided in this way or that: the losses of one device. (GPT-2 and Mixtral
# do in ../mesh.test and ../mesh_experts.test.)
set -euo pipefail
plinth=$1 root=$2 tmp=$3 python=$4 inputs=$(cd "${BASH_SOURCE%/*}" && pwd)
rm -rf "$tmp"; mkdir -p "$tmp"; cd "$tmp"
export OMPI_MCA_rmaps_base_oversubscribe=1 PLINTH_PATH=$root/models
"$python" "$inputs/images.py" stripes
"$python" "$inputs/texts.py" stripes
"$plinth" data tokenize "$root/LICENSE" --tokenizer char --validation-last 0.1 -o text >/dev/null 2>&1
losses() { sed -E 's/.*"train_loss": ?([0-9.]+).*/\1/' "$1/metrics.jsonl"; }
family() { # NAME "DIVISION" MODEL ARGUMENTS...: five steps by two ranks and by one
  local name=$1 division=$2 model=$3
  shift 3
  local all=("$model" --precision f32 --threads 1 --steps 5 --log 1 --set train.batch.B=8 "$@")
  "$plinth" train "${all[@]}" -o "$name.one" >"$name.log" 2>&1 || tail -2 "$name.log"
  # shellcheck disable=SC2086
  timeout 300 mpirun --allow-run-as-root --oversubscribe -n 2 "$plinth" train "${all[@]}" $division -o "$name.two" >"$name.log" 2>&1 || tail -2 "$name.log"
  paste <(losses "$name.one" || true) <(losses "$name.two" || true) | awk -v name="$name, $division" '{ d = $1 - $2; if (d < 0) d = -d; if (d > 2e-5 * $1) bad = 1; n++ }
    END { print name ": " (n < 5 ? "too few" : bad ? "OTHER" : "same") " losses"; exit bad || n < 5 }' || failed=1
}
failed=0
models=$root/models small=(--set layers=1 --set heads=2 --set width=16 --set hidden=32) texts=(--data text --set vocab=128)
family llama "--mesh tensor=2" "$models/llama.plinth" --preset test "${texts[@]}" "${small[@]}" --set groups=2 --set train.batch.T=16
family lora "--mesh data=2 --shard optimizer_state=data" "$models/lora.plinth" --preset test "${texts[@]}" "${small[@]}" --set groups=2 --set train.batch.T=16
family gemma "--mesh tensor=2" "$models/gemma.plinth" --preset test "${texts[@]}" "${small[@]}" --set groups=2 --set head=8 --set window=5 --set train.batch.T=16
family bible "--mesh data=2 --shard parameters=data" "$models/bible.plinth" "${texts[@]}" --set layers=1 --set heads=2 --set width=16 --set train.batch.T=16
family bert "--mesh data=2" "$models/bert.plinth" "${texts[@]}" --set context=16 "${small[@]}" --set train.batch.T=16
family roberta "--mesh data=2 --shard gradients=data" "$models/roberta.plinth" "${texts[@]}" --set context=18 "${small[@]}" --set train.batch.T=16
family vit "--mesh data=2" "$models/vit.plinth" --data stripes --set image=6 --set patch=3 --set channels=1 --set classes=3 "${small[@]}"
family vae "--mesh data=2" "$models/vae.plinth" --preset test --data stripes --set colours=1 --set 'channels=[8, 8]' --set train.batch.h=6 --set train.batch.w=6
family painter "--mesh data=2 --shard optimizer_state=data" "$models/fashion.plinth" --data stripes --set 'channels=[8]' --set 'blocks=["DownBlock2D"]' --set groups=4 \
  --set train.batch.h=3 --set train.batch.w=3
family t5 "--mesh data=2 --shard parameters=data" "$inputs/turned_t5.plinth" --data turned --set train.batch.S=6 --set train.batch.T=6
family clip "--mesh data=2" "$models/clip.plinth" --data stripes --set space=8 --set text.vocab=8 --set end=0 --set text.context=8 --set text.layers=1 --set text.heads=2 \
  --set text.width=16 --set text.hidden=32 --set vision.image=6 --set vision.patch=3 --set vision.channels=1 --set vision.layers=1 --set vision.heads=2 \
  --set vision.width=16 --set vision.hidden=32 --set train.batch.N=8 --set train.batch.T=6
exit $failed
