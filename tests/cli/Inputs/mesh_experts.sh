#!/usr/bin/env bash
# mesh_experts.sh PLINTH ROOT TMP: see ../mesh_experts.test.
set -euo pipefail
plinth=$1 root=$2 tmp=$3
rm -rf "$tmp"; mkdir -p "$tmp"; cd "$tmp"
export OMPI_MCA_rmaps_base_oversubscribe=1
"$plinth" data tokenize "$root/LICENSE" --tokenizer bpe --vocab 320 --validation-last 0.1 -o d >/dev/null 2>&1
model=("$root/models/mixtral.plinth" --preset test --data d --precision f32 --log 1 --set vocab=320 --set width=32 --set hidden=48
  --set train.batch.B=4 --set train.batch.T=16)
ranks() { timeout 600 mpirun --allow-run-as-root --oversubscribe -n "${n:-2}" "$plinth" train "${model[@]}" "$@"; }
loss() { sed -E 's/.*"train_loss": ?([0-9]+\.[0-9]{3}).*/\1/' "$1/metrics.jsonl" | tail -1; }
"$plinth" train "${model[@]}" --steps 4 -o one 2>/dev/null; echo "one device: $(loss one)"
ranks --mesh expert=2 --steps 4 -o expert 2>warned; echo "expert=2: $(loss expert), told $(grep -c 'warning\[W0009\]' warned) time"
ranks --mesh context=2 --shard T=context --steps 4 -o context 2>/dev/null; echo "context=2: $(loss context)"
ranks --mesh expert=2 --steps 2 -o moved 2>/dev/null
ranks --mesh pipe=2 --steps 3 -o moved --resume 2>/dev/null
"$plinth" train "${model[@]}" --steps 4 -o moved --resume 2>/dev/null; echo "expert=2, pipe=2, then one device: $(loss moved)"
capacity() { # RANKS MESH
  n=$1 ranks --set capacity=1.25 --mesh "$2" --steps 5 -o "capacity-$2" 2>/dev/null
  paste <(losses capacity) <(losses "capacity-$2") | awk -v name="capacity, $2" '{ d = $1 - $2; if (d < 0) d = -d; if (d > 2e-5 * $1) bad = 1; n++ }
    END { print name ": " (n < 5 ? "too few" : bad ? "OTHER" : "same") " losses" }'
}
losses() { sed -E 's/.*"train_loss": ?([0-9.]+).*/\1/' "$1/metrics.jsonl"; }
"$plinth" train "${model[@]}" --set capacity=1.25 --steps 5 -o capacity 2>/dev/null
capacity 2 expert=2
capacity 4 expert=4
capacity 4 data=2,expert=2
