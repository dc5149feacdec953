#!/usr/bin/env bash
# mesh.sh PLINTH ROOT TMP: see ../mesh.test.
set -euo pipefail
plinth=$1 root=$2 tmp=$3
rm -rf "$tmp"; mkdir -p "$tmp"; cd "$tmp"
export OMPI_MCA_rmaps_base_oversubscribe=1
"$plinth" data tokenize "$root/LICENSE" --tokenizer bpe --vocab 320 --validation-last 0.1 -o d >/dev/null 2>&1
model=("$root/models/gpt2.plinth" --data d --precision f32 --log 1 --set vocab=320 --set layers=1 --set width=32 --set heads=4
  --set context=16 --set train.batch.B=8 --set train.batch.T=16 --set train.batch.accumulate=2)
ranks() { local n=$1; shift; mpirun --allow-run-as-root --oversubscribe -n "$n" "$plinth" train "${model[@]}" "$@"; }
# losses of a run's metrics, rounded to what f32 sums in another order leave
losses() { sed -E 's/.*"train_loss": ?([0-9.]+).*/\1/' "$1/metrics.jsonl"; }
same() { # NAME RUN
  paste <(losses one) <(losses "$2") | awk -v name="$1" '{ d = $1 - $2; if (d < 0) d = -d; if (d > 2e-5 * $1) bad = 1; n++ }
    END { print name ": " (n < 5 ? "too few" : bad ? "OTHER" : "same") " losses" }'
}
"$plinth" train "${model[@]}" --steps 6 -o one 2>/dev/null && echo one device
ranks 2 --mesh data=2 --steps 6 -o data 2>/dev/null; same data=2 data
ranks 2 --mesh data=2 --steps 6 -o again 2>/dev/null
parts=0; for f in data/step-000006/*.safetensors; do cmp -s "$f" "again${f#data}" && parts=$((parts + 1)); done
cmp -s data/latest again/latest && echo "data=2 again: same bits in $parts files"
ranks 2 --mesh data=2 --shard bucket=0 --steps 6 -o alone 2>/dev/null
cmp <(losses data) <(losses alone) && echo "data=2, each message by itself: same bits"
ranks 4 --mesh data=2,tensor=2 --steps 6 -o both 2>both.log; same data=2,tensor=2 both
grep -o 'memory shared over data and tensor' both.log
ranks 2 --mesh data=2 --shard parameters=data --steps 6 -o zero 2>/dev/null; same "data=2, parameters divided" zero
ranks 2 --mesh tensor=2 --shard sequence=tensor --steps 6 -o sequence 2>/dev/null; same "tensor=2, sequence divided" sequence
ranks 4 --mesh context=4 --shard T=context --shard optimizer_state=context --steps 6 -o stripes 2>/dev/null; same context=4 stripes
ranks 4 --mesh context=4 --shard T=context --shard attention_heads=context --steps 6 -o heads 2>/dev/null; same "context=4, heads divided" heads
ranks 4 --mesh context=2,tensor=2 --shard T=context --shard sequence=tensor --steps 6 -o long 2>/dev/null; same context=2,tensor=2 long
ranks 2 --mesh data=2 --steps 3 -o moved 2>/dev/null
ranks 2 --mesh tensor=2 --steps 6 -o moved --resume 2>/dev/null; same "resumed on tensor=2" moved
ranks 4 --mesh data=2,tensor=2 --steps 3 -o back 2>/dev/null
"$plinth" train "${model[@]}" --steps 6 -o back --resume 2>/dev/null; same "resumed on one device" back
# 3 devices divide no width: parts are padded, and no checkpoint is
even=("${model[@]}")
model+=(--set train.batch.B=6)
"$plinth" train "${model[@]}" --steps 6 -o three 2>/dev/null
by_three() { # NAME RUN
  paste <(losses three) <(losses "$2") | awk -v name="$1" '{ d = $1 - $2; if (d < 0) d = -d; if (d > 2e-5 * $1) bad = 1; n++ }
    END { print name ": " (n < 5 ? "too few" : bad ? "OTHER" : "same") " losses" }'
}
ranks 3 --mesh data=3 --shard optimizer_state=data --steps 6 -o states 2>/dev/null; by_three "data=3, states padded" states
ranks 3 --mesh data=3 --shard optimizer_state=data --steps 6 -o again3 2>/dev/null
parts=0; for f in states/step-000006/*.safetensors; do cmp -s "$f" "again3${f#states}" && parts=$((parts + 1)); done
echo "data=3 again: same bits in $parts files"
ranks 6 --mesh data=3,tensor=2 --shard parameters=data --steps 3 -o padded3 2>/dev/null
"$plinth" verify padded3 | sed -E 's/.* ([0-9]+ tensors of [0-9]+ elements).*/\1/'; "$plinth" verify one | sed -E 's/.* tensors of ([0-9]+ elements).*/\1/'
cp -r padded3 padded2
"$plinth" train "${model[@]}" --steps 6 -o padded3 --resume 2>/dev/null; by_three "padded, resumed on one device" padded3
ranks 2 --mesh data=2 --shard parameters=data --steps 6 -o padded2 --resume 2>/dev/null; by_three "padded, resumed on data=2" padded2
"$plinth" train "${model[@]}" --steps 3 -o whole3 2>/dev/null
ranks 3 --mesh data=3 --shard parameters=data --steps 6 -o whole3 --resume 2>/dev/null; by_three "one device, resumed padded" whole3
model=("${even[@]}")
# padding that lies unevenly: one device of four has nothing else
padding=("$root/tests/passes/partition/Inputs/padding.plinth" --data d --precision f32 --log 1 --set vocab=320)
"$plinth" train "${padding[@]}" -o one_padded 2>/dev/null
mpirun --allow-run-as-root --oversubscribe -n 4 "$plinth" train "${padding[@]}" --mesh data=4 -o padded 2>/dev/null
paste <(losses one_padded) <(losses padded) | awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > 2e-5 * $1) bad = 1; n++ }
  END { print "uneven padding: " (n < 5 ? "too few" : bad ? "OTHER" : "same") " losses" }'
ranks 4 --mesh data=4 --set train.batch.B=6 --steps 1 -o wrong 2>&1 | grep -m1 -o 'axis B.*' || true
# a checkpoint in parts: every byte is told for, one device and others read it
"$plinth" verify both | sed -E 's/, [0-9]+ tensors.*: all/: all/'
"$plinth" eval both >both.eval 2>/dev/null; "$plinth" eval one >one.eval 2>/dev/null
paste <(awk '/^loss/ { print $2 }' one.eval) <(awk '/^loss/ { print $2 }' both.eval) | awk '{ d = $1 - $2; if (d < 0) d = -d;
  print "evaluated from parts: " ($1 > 0 && d <= 2e-5 * $1 ? "same" : "OTHER") " loss" }'
ranks 2 --mesh tensor=2 --weights both --steps 1 -o from 2>/dev/null; "$plinth" train "${model[@]}" --weights both --steps 1 -o from1 2>/dev/null
paste <(losses from) <(losses from1) | awk '{ d = $1 - $2; if (d < 0) d = -d; print "weights from parts: " ($1 > 0 && d <= 2e-5 * $1 ? "same" : "OTHER") " loss" }'
cp -r both hurt; printf x | dd of=hurt/step-000006/optimizer-00003-of-00004.safetensors bs=1 seek=20000 conv=notrunc 2>/dev/null
"$plinth" verify hurt 2>&1 | grep -c 'its hash is' || true
rm hurt/step-000006/model-00002-of-00004.safetensors
"$plinth" verify hurt 2>&1 | grep -o 'cannot open hurt.*No such file' || true
ranks 2 --mesh data=2,tensor=2 --steps 2 -o wrong 2>&1 | grep -m1 'the mesh has' || true
"$plinth" train "${model[@]}" --mesh data=2 --steps 2 -o wrong 2>&1 | grep -m1 'the mesh has' || true
WORLD_SIZE=2 RANK=0 "$plinth" train "${model[@]}" --mesh data=2 --steps 2 -o wrong 2>&1 | grep -m1 -o 'WORLD_SIZE is set.*pmix' || true
mpirun --allow-run-as-root --oversubscribe -n 1 "$plinth" train "${model[@]}" --mesh data=2 --steps 2 -o wrong : \
  -n 1 "$plinth" train "${model[@]}" --mesh data=2 --steps 3 -o wrong 2>&1 | grep -m1 'has another' || true
(ranks 2 --mesh data=2 --steps 100000 -o "$tmp/killed" >killed.log 2>&1 || true) &
for _ in $(seq 3000); do [ -s killed/metrics.jsonl ] && break; sleep 0.1; done
mine=$(pgrep -f -- "-o $tmp/killed" | while read -r p; do tr '\0' '\n' 2>/dev/null <"/proc/$p/environ" | grep -qx OMPI_COMM_WORLD_RANK=1 && echo "$p"; done | head -1)
kill -9 "$mine"
wait
echo "a killed rank: $(grep -m1 -o 'rank 1 (process.*' killed.log)"
grep 'mean' both.log
