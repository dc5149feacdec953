#!/usr/bin/env bash
# kill.sh PLINTH: a run that saves every step is killed at 20 random moments and resumed each time; then one is
# asked to stop. Its parameters and optimizer must be, byte for byte, those of a run that nobody touched.
set -eu
plinth=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
steps=240
RANDOM=7
"$plinth" data tokenize "$here/../../LICENSE" --tokenizer char -o "$work/text" >/dev/null
"$plinth" train "$here/Inputs/tiny.plinth" --data "$work/text" --steps $steps --out "$work/whole" 2>/dev/null

# the first start takes longest: the folder must be there before one can speak of a resume
"$plinth" train "$here/Inputs/tiny.plinth" --data "$work/text" --steps $steps --out "$work/killed" \
	--set train.checkpoint.every=1 2>"$work/log" &
# Waits until the run has saved a step that it had not when this began; gives up when the process ends.
saved() { cat "$work/killed/latest" 2>/dev/null || true; }
await_progress() {
	local before
	before=$(saved)
	for _ in $(seq 2000); do
		[ "$(saved)" = "$before" ] || return 0
		kill -0 $! 2>/dev/null || return 0
		sleep 0.005
	done
}
# How many steps a machine does in a second differs a hundredfold: what is counted is its progress. Every fourth
# is killed while it starts.
kills=0 ends=0
while [ $kills -lt 20 ]; do
	if [ $((kills % 4)) = 3 ]; then
		sleep "0.$(printf %03d $((RANDOM % 150)))"
	else
		await_progress
		sleep "0.0$(printf %02d $((RANDOM % 40)))"
	fi
	if kill -KILL $! 2>/dev/null; then
		kills=$((kills + 1))
	fi
	wait $! 2>/dev/null || true
	if [ -e "$work/killed/step-000$steps" ]; then
		ends=1
		break
	fi
	if [ -e "$work/killed/run.json" ]; then
		"$plinth" train "$work/killed" --resume 2>"$work/log" &
	else
		"$plinth" train "$here/Inputs/tiny.plinth" --data "$work/text" --steps $steps --out "$work/killed" \
			--set train.checkpoint.every=1 2>"$work/log" &
	fi
done
# now asked, once it is under way
await_progress
kill -TERM $! 2>/dev/null || true
status=0
wait $! || status=$?
if [ $ends = 0 ] && [ $status != 0 ] && [ $status != 143 ]; then
	cat "$work/log"
	echo "SIGTERM: exit status $status"
	exit 1
fi
"$plinth" train "$work/killed" --resume 2>"$work/log" || { cat "$work/log"; exit 1; }
"$plinth" verify "$work/killed" >/dev/null
for file in model optimizer; do
	cmp "$work/whole/step-000$steps/$file.safetensors" "$work/killed/step-000$steps/$file.safetensors"
done
loss() { sed 's/.*"step": \([0-9]*\),.*"train_loss": \([0-9.]*\),.*/\1 \2/' "$1"; }
cmp <(loss "$work/whole/metrics.jsonl") <(loss "$work/killed/metrics.jsonl")
echo "$kills kills, SIGTERM with status $status: the same bytes"
[ $kills -ge 10 ]
