#!/usr/bin/env bash
# llama_cpp.sh [ROUNDS] [llama_cpp.py's options]: a Llama of 135M beside llama.cpp, each stored as f32, 16, 8 and 4 bits, on this
# machine's cores, in turns: a prompt of 128 tokens, then tokens one by one, and the time in which memory gives the weights.
#   PLINTH=build/plinth      the binary
#   LLAMA_CPP=~/.cache/plinth/llama_cpp   a virtual environment for it, made if missing: llama.cpp's build b11549 with AVX2, FMA, F16C
#   OUT=folder               for weights and libraries (3 GiB); a fresh one under /tmp if not given
set -eu
plinth=$(realpath "${PLINTH:-build/plinth}") peer=${LLAMA_CPP:-${XDG_CACHE_HOME:-$HOME/.cache}/plinth/llama_cpp}
cd "$(dirname "$0")/../.."
out=${OUT:-$(mktemp -d /tmp/plinth-llama-cpp.XXXXXX)} rounds=${1:-5}
[ $# -eq 0 ] || shift
[ -x "$plinth" ] || { echo "llama_cpp.sh: there is no $plinth: PLINTH=binary" >&2; exit 2; }
[ -x "$peer/bin/python" ] || python3 -m venv "$peer"
"$peer/bin/python" -c 'import xllamacpp, gguf, safetensors' 2>/dev/null ||
	"$peer/bin/pip" install -q xllamacpp==2026.10.11549 gguf==0.19.0 safetensors==0.8.0
mkdir -p "$out" benchmarks/results
${CC:-cc} -O3 -march=native -shared -fPIC -o "$out/read.so" benchmarks/inference/read.c
"$peer/bin/python" benchmarks/inference/llama_cpp.py --plinth "$plinth" --out "$out" --rounds "$rounds" \
	--json "benchmarks/results/llama-cpp-$(date +%F).json" "$@"
