#!/usr/bin/env bash
# large.sh PLINTH BIBLE_TEXT: models at their real size train on a real book: losses are finite and fall, and no more memory is
# taken than was said (2% and 8 MiB, as tests/cli/memory.test). Minutes, and 3 GB of memory.
set -eu
plinth=$1 book=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$book" >"$work/book.txt"
"$plinth" data tokenize "$work/book.txt" --tokenizer byte --validation-last 0.001 -o "$work/book" >/dev/null
bad=0

# train MODEL PRESET PRECISION BATCH LENGTH STEPS: a run whose last loss must lie a fifth of a nat or more below the first.
train() {
	local model=$1 preset=$2 precision=$3 batch=$4 length=$5 steps=$6 run="$work/run" log="$work/log"
	rm -rf "$run"
	if ! "$plinth" train "models/$model.plinth" --preset "$preset" --data "$work/book" -o "$run" --steps "$steps" --log 1 \
		--precision "$precision" --set train.batch.B="$batch" --set train.batch.T="$length" \
		--set train.checkpoint.keep=1 2>"$log"; then
		tail -20 "$log"
		bad=1
		return
	fi
	python3 - "$run/metrics.jsonl" "$log" "$model $preset $precision ${batch}x$length" <<'END' || bad=1
import json
import math
import re
import sys

losses = [r["train_loss"] for r in map(json.loads, open(sys.argv[1])) if "train_loss" in r]
text = open(sys.argv[2]).read()
numbers = re.search(r"memory ([\d.]+ .iB) planned, ([\d.]+ .iB) of the program itself, ([\d.]+ .iB) the most in use", text).groups()
planned, own, most = (float(n.split()[0]) * {"MiB": 1, "GiB": 1024}[n.split()[1]] for n in numbers)
falls = all(map(math.isfinite, losses)) and losses[-1] < losses[0] - 0.2
fits = planned < most <= (planned + own) * 1.02 + 8
print(f"{sys.argv[3]}: loss {losses[0]:.3f} to {losses[-1]:.3f}{'' if falls else ', which does not fall'}; "
      f"{planned:.0f} + {own:.0f} MiB said, {most:.0f} MiB taken{'' if fits else ', which is not what was said'}")
sys.exit(not (falls and fits))
END
}

cd "$(dirname "$0")/../.."
train gpt2 small f32 4 64 6
train gpt2 small f32 1 1024 4
train gpt2 small bf16 4 64 6
train llama llama_110m f32 1 1024 3
exit $bad
