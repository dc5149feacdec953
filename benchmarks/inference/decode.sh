#!/usr/bin/env bash
# decode.sh [ROUNDS]: greedy decoding of GPT-2 124M with random weights on this machine's cores, Plinth and PyTorch in turns.
#   PLINTH=build/plinth      the binary
#   PEERS=~/.cache/plinth/peers   the virtual environment that benchmarks/cpu.sh makes, with safetensors beside PyTorch
#   OUT=folder               for weights; a fresh one under /tmp if not given
set -eu
cd "$(dirname "$0")/../.."
plinth=${PLINTH:-build/plinth} python=${PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/plinth/peers}/bin/python
out=${OUT:-$(mktemp -d /tmp/plinth-decode.XXXXXX)} threads=2 tokens=40
text="In the beginning God created the heaven and the earth. And the earth was without form, and void; and darkness was upon the face"
[ -x "$python" ] || { echo "decode.sh: there is no $python: benchmarks/cpu.sh makes it, or PEERS=folder" >&2; exit 2; }
peer=benchmarks/inference/gpt2_decode.py
mkdir -p "$out"
"$python" -c 'import safetensors' 2>/dev/null || "$python" -m pip install -q safetensors
[ -f "$out/weights.safetensors" ] || "$python" $peer --save "$out/weights.safetensors"
"$plinth" data tokenize LICENSE --tokenizer byte -o "$out/byte" >/dev/null
for _ in $(seq "${1:-3}"); do
	"$plinth" generate models/gpt2.plinth --weights "$out/weights.safetensors" --tokenizer "$out/byte.tokenizer.json" \
		--set train.precision=f32 --greedy --no-prompt --prompt "$text" --tokens $tokens --stats --threads $threads 2>&1 >/dev/null
	for turned in "" --turned; do
		OMP_WAIT_POLICY=PASSIVE "$python" $peer --weights "$out/weights.safetensors" --tokens $tokens --threads $threads --text "$text" $turned |
			"$python" -c 'import json, sys; r = json.load(sys.stdin); print("{what}: first token after {first_ms:.1f} ms, then {token_ms:.2f} ms a token (least {least_ms:.2f}); reading the weights takes {bytes_ms:.1f} ms".format(**r))'
	done
done
