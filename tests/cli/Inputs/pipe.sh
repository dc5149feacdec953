#!/usr/bin/env bash
# pipe.sh PLINTH ROOT TMP: see ../pipe.test.
set -euo pipefail
plinth=$1 root=$2 tmp=$3
rm -rf "$tmp"; mkdir -p "$tmp"; cd "$tmp"
export OMPI_MCA_rmaps_base_oversubscribe=1
"$plinth" data tokenize "$root/LICENSE" --tokenizer bpe --vocab 320 --validation-last 0.1 -o d >/dev/null 2>&1
model=("$root/models/gpt2.plinth" --data d --precision f32 --log 1 --set vocab=320 --set layers=4 --set width=32 --set heads=4
  --set context=16 --set train.batch.B=4 --set train.batch.T=16 --set train.batch.accumulate=4)
ranks() { local n=$1; shift; timeout 600 mpirun --allow-run-as-root --oversubscribe -n "$n" "$plinth" train "${model[@]}" "$@"; }
losses() { sed -E 's/.*"train_loss": ?([0-9.]+).*/\1/' "$1/metrics.jsonl"; }
same() { # NAME RUN
  paste <(losses one) <(losses "$2") | awk -v name="$1" '{ d = $1 - $2; if (d < 0) d = -d; if (d > 2e-5 * $1) bad = 1; n++ }
    END { print name ": " (n < 5 ? "too few" : bad ? "OTHER" : "same") " losses" }'
  grep -o '"validation_loss": *[0-9.]*' "$2/metrics.jsonl" | tail -1 | cut -c1-25
}
"$plinth" train "${model[@]}" --steps 5 -o one 2>/dev/null && echo one device
grep -o '"validation_loss": *[0-9.]*' one/metrics.jsonl | tail -1 | cut -c1-25
ranks 2 --mesh pipe=2 --steps 5 -o pipe 2>/dev/null; same pipe=2 pipe
ranks 2 --mesh pipe=2 --schedule interleaved:2 --steps 5 -o inter 2>/dev/null; same "pipe=2, interleaved" inter
ranks 4 --mesh data=2,pipe=2 --schedule gpipe --steps 5 -o both 2>both.log; same "data=2,pipe=2" both
ranks 4 --mesh pipe=2,tensor=2 --steps 5 -o three 2>/dev/null; same "pipe=2,tensor=2" three
ranks 4 --mesh data=2,pipe=2 --steps 3 -o moved 2>/dev/null
ranks 2 --mesh tensor=2 --steps 5 -o moved --resume 2>/dev/null; same "resumed on tensor=2" moved
ranks 2 --mesh tensor=2 --steps 3 -o back 2>/dev/null
ranks 2 --mesh pipe=2 --steps 5 -o back --resume 2>/dev/null; same "resumed on pipe=2" back
ranks 2 --mesh pipe=2 --set layers=1 --steps 2 -o wrong 2>&1 | grep -m1 -o 'pipe = 2 stages.*' || true
ranks 2 --mesh pipe=2 --schedule zigzag --steps 2 -o wrong 2>&1 | grep -m1 -o 'a schedule is.*' || true
(ranks 2 --mesh pipe=2 --steps 100000 -o "$tmp/killed" >killed.log 2>&1 || true) &
for _ in $(seq 3000); do [ -s killed/metrics.jsonl ] && break; sleep 0.1; done
mine=$(pgrep -f -- "-o $tmp/killed" | while read -r p; do tr '\0' '\n' 2>/dev/null <"/proc/$p/environ" | grep -qx OMPI_COMM_WORLD_RANK=1 && echo "$p"; done | head -1)
kill -9 "$mine"
wait
echo "a killed rank: $(grep -m1 -o 'rank 1 (process.*' killed.log)"
grep 'mean' both.log
