#!/usr/bin/env bash
# peers.sh [ROUNDS] [peers.py's options]: inference of BERT and ViT beside PyTorch and ONNX Runtime, of GPT-2 124M and a Llama of
# 135M (prompts and decoding) beside PyTorch, on this machine's cores, in turns; prints ratios, and leaves benchmarks/results/inference-<date>.json.
#   PLINTH=build/plinth      the binary
#   PEERS=~/.cache/plinth/peers   a virtual environment for them, made if missing (3 GiB to fetch)
#   OUT=folder               for weights and libraries (8 GiB); a fresh one under /tmp if not given
set -eu
plinth=$(realpath "${PLINTH:-build/plinth}") peers=${PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/plinth/peers}
cd "$(dirname "$0")/../.."
out=${OUT:-$(mktemp -d /tmp/plinth-inference.XXXXXX)} rounds=${1:-5}
[ $# -eq 0 ] || shift
[ -x "$plinth" ] || { echo "peers.sh: there is no $plinth: PLINTH=binary" >&2; exit 2; }
[ -x "$peers/bin/python" ] || python3 -m venv "$peers"
"$peers/bin/python" -c 'import torch, transformers, onnxruntime, onnxscript' 2>/dev/null ||
	"$peers/bin/pip" install -q torch==2.15.0 numpy==2.4.6 transformers==5.24.0 safetensors==0.8.0 onnx==1.23.2 onnxruntime==1.32.0 onnxscript==0.7.2
mkdir -p "$out" benchmarks/results
"$peers/bin/python" benchmarks/inference/peers.py --plinth "$plinth" --out "$out" --rounds "$rounds" \
	--json "benchmarks/results/inference-$(date +%F).json" "$@"
