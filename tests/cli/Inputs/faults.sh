#!/usr/bin/env bash
# faults.sh PLINTH INPUTS ROOT TMP: see ../faults.test.
set -uo pipefail
plinth=$1 inputs=$2 root=$3 tmp=$4
rm -rf "$tmp"; mkdir -p "$tmp"; cd "$tmp" || exit 1
"$plinth" data tokenize "$root/LICENSE" --tokenizer char -o text >/dev/null
tiny=("$inputs/tiny.plinth" --data text --log 1)
whole() { # RUN: each line of its metrics is an object, and its checkpoint holds
  grep -vc '^{"step": .*}$' "$1/metrics.jsonl" | sed 's/^/lines that are none: /'
  "$plinth" verify "$1" | grep -o "hashes hold"
}
# Waits until a run has made a step, or is no more.
await() { for _ in $(seq 3000); do [ -s "$1/metrics.jsonl" ] && return; kill -0 "$2" 2>/dev/null || return; sleep 0.02; done; }

"$plinth" train "${tiny[@]}" --steps 3 -o closed >&- 2>&-
echo "closed streams: status $?"; whole closed

"$plinth" train "${tiny[@]}" --steps 20 -o unread 2>&1 | head -1 >/dev/null
echo "a reader that leaves: status ${PIPESTATUS[0]}"; whole unread

"$plinth" train "${tiny[@]}" --steps 100000 -o hung 2>log & mine=$!
await hung $mine
"$plinth" train "${tiny[@]}" --steps 3 -o hung 2>second; echo "a second run: status $?"
grep -o 'hung/metrics.jsonl is being written by another process.*' second
kill -HUP $mine; wait $mine; echo "a terminal that closes: status $?"; whole hung

cp text.train.000.tok kept
"$plinth" train "${tiny[@]}" --steps 100000 -o cut --set train.checkpoint.every=1 2>log & mine=$!
await cut $mine
for _ in $(seq 3000); do [ -s cut/latest ] && break; sleep 0.02; done
truncate -s 0 text.train.000.tok; wait $mine; echo "data that is cut off: status $?"
grep -o 'cannot read text.train.000.tok: it was cut off while it was in use' log
mv kept text.train.000.tok; whole cut

large=("${tiny[@]}" --set width=128 --steps 3 -o large)
(ulimit -f 500; "$plinth" train "${large[@]}" 2>log); echo "files that may not be as large: status $?"
grep -o 'saving large/step-000003.*ulimit -f.*' log; find large -name '*tmp*' -o -name 'step*' | wc -l
"$plinth" train "${large[@]}" --resume 2>/dev/null; echo "and when they may: status $?"; whole large
