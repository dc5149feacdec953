#!/usr/bin/env bash
# cpu.sh [--short] [--rounds N] [--only REGEX]: Plinth's training steps beside PyTorch's and JAX's on this machine, in turns. PyTorch
# is run as it comes, tuned (threads that sleep when they wait, memory that malloc keeps: more than twice as fast here)
# and compiled, JAX with the same tuning of malloc. Leaves benchmarks/results/<cpu>-<date>.json, and prints a table.
#   PLINTH=build/plinth      the binary
#   PEERS=~/.cache/plinth/peers   a virtual environment for PyTorch and JAX, made if missing (2 GiB to fetch)
#   WHO=regex                of plinth, torch, installed, torch.compile, jax: those that are run (torch: tuned; installed: as it comes)
#   LIMIT=seconds            for one measurement; 1200 if not given
#   OUT=folder               of logs; a fresh one under /tmp if not given
set -u
[ -z "${PLINTH:-}" ] || PLINTH=$(realpath "$PLINTH")
[ -z "${OUT:-}" ] || { mkdir -p "$OUT" && OUT=$(realpath "$OUT"); }
cd "$(dirname "$0")/.." || exit 2
TORCH=torch==2.15.0 JAX=jax==0.10.2 NUMPY=numpy==2.4.6
plinth=${PLINTH:-build/plinth} peers=${PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/plinth/peers} rounds=3 short='' only=.
while [ $# -gt 0 ]; do
	case $1 in
	--short) short=1 rounds=1 ;;
	--rounds) rounds=$2 && shift ;;
	--only) only=$2 && shift ;;
	*) sed -n '2,10s/^# //p' "$0" >&2 && exit 1 ;;
	esac
	shift
done
[ -x "$plinth" ] || { echo "cpu.sh: there is no $plinth: cmake --preset default && cmake --build --preset default, or PLINTH=binary" >&2; exit 2; }
out=${OUT:-$(mktemp -d /tmp/plinth-bench.XXXXXX)}
mkdir -p "$out" benchmarks/results
if [ ! -x "$peers/bin/python" ] || ! "$peers/bin/python" -c 'import torch, jax' 2>/dev/null; then
	echo "making $peers with $TORCH and $JAX (this takes minutes, once)" >&2
	{ [ -x "$peers/bin/python" ] || python3 -m venv "$peers"; } &&
		"$peers/bin/pip" install --no-cache-dir $TORCH $JAX $NUMPY >"$out/pip.log" 2>&1 ||
		echo "cpu.sh: PyTorch and JAX could not be installed (see $out/pip.log): what is missing is not measured" >&2
fi
"$peers/bin/python" -c 'import torch, jax, jaxlib; print("PyTorch", torch.__version__ + ", JAX", jax.__version__ + ", jaxlib", jaxlib.__version__)' >&2

#            configuration             plinth's model and options                    peer's model         its options
cases=(
	"gpt2 small B=4 T=64 f32|models/gpt2.plinth --preset small --sizes B=4,T=64 --precision f32|gpt2|--preset small --batch 4 --seq 64"
	"gpt2 small B=4 T=64 bf16|models/gpt2.plinth --preset small --sizes B=4,T=64 --precision bf16|gpt2|--preset small --batch 4 --seq 64 --precision bf16"
	"gpt2 small B=1 T=1024 f32|models/gpt2.plinth --preset small --sizes B=1,T=1024 --precision f32|gpt2|--preset small --batch 1 --seq 1024"
	"gpt2 small B=1 T=1024 bf16|models/gpt2.plinth --preset small --sizes B=1,T=1024 --precision bf16|gpt2|--preset small --batch 1 --seq 1024 --precision bf16"
	"llama 110M B=4 T=64 f32|models/llama.plinth --preset llama_110m --sizes B=4,T=64 --precision f32|llama|--preset llama_110m --batch 4 --seq 64"
	"llama 110M B=4 T=64 bf16|models/llama.plinth --preset llama_110m --sizes B=4,T=64 --precision bf16|llama|--preset llama_110m --batch 4 --seq 64 --precision bf16"
	"unet B=1 32x32 f32|models/unet.plinth --preset sd_1_5 --set channels=[96,192,384,384] --set heads=[2,2,2,2] --sizes B=1,h=32,w=32,S=77 --precision f32|unet|--preset small --batch 1 --size 32"
	"vae sd B=1 64x64 f32|models/vae.plinth --preset sd --sizes B=1,h=64,w=64 --precision f32|vae|--preset sd --batch 1 --size 64"
	"fashion B=32 14x14 f32|models/fashion.plinth --sizes B=32,h=14,w=14 --precision f32|unet|--preset fashion --batch 32 --size 14"
	"bert small B=4 T=64 f32|models/bert.plinth --preset small --set drop=0 --sizes B=4,T=64 --precision f32|bert|--preset small --batch 4 --seq 64"
	"t5 flan_small B=4 S=64 T=16 f32|models/t5.plinth --preset flan_small --set drop=0 --sizes B=4,S=64,T=16 --precision f32|t5|--preset flan_small --batch 4 --seq 64 --target 16"
	"clip base_32 B=4 f32|models/clip.plinth --preset base_32 --sizes B=4,N=4,T=77 --precision f32|clip|--preset base_32 --batch 4"
	"gpt2 medium B=1 T=64 f32|models/gpt2.plinth --preset medium --sizes B=1,T=64 --precision f32|gpt2|--preset medium --batch 1 --seq 64"
)
runs=3 limit=${LIMIT:-1200}
[ -z "$short" ] || { cases=("${cases[0]}" "${cases[1]}"); runs=2; limit=${LIMIT:-300}; }

# NAME COMMAND...: its standard output becomes $out/NAME.json, what it complains of $out/NAME.log
measure() {
	local name=$1 who=$2
	shift 2
	[[ $who =~ ^(${WHO:-.*})$ ]] || return 0
	echo "$(date +%T)  $name" >&2
	timeout -k 5 $limit "$@" >"$out/$name.json" 2>"$out/$name.log" || echo "   failed ($?): $out/$name.log" >&2
}
peer() {
	local name=$1 who=$2 tuned=$3
	shift 3
	[ -x "$peers/bin/python" ] || return 0
	if [ "$tuned" = tuned ]; then
		OMP_WAIT_POLICY=PASSIVE MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_MMAP_MAX_=0 MALLOC_TOP_PAD_=268435456 \
			measure "$name" "$who" "$peers/bin/python" "$@"
	else
		measure "$name" "$who" "$peers/bin/python" "$@"
	fi
}
for ((round = 1; round <= rounds; round++)); do
	for case in "${cases[@]}"; do
		IFS='|' read -r name model script options <<<"$case"
		[[ $name =~ $only ]] || continue
		# shellcheck disable=SC2086
		{
			measure "$round-$name-plinth" plinth "$plinth" bench $model --runs $runs --json
			peer "$round-$name-torch, tuned" torch tuned benchmarks/peers/${script}_torch.py $options --runs $runs
			peer "$round-$name-torch, as installed" installed plain benchmarks/peers/${script}_torch.py $options --runs $runs
			peer "$round-$name-torch.compile, tuned" torch.compile tuned benchmarks/peers/${script}_torch.py $options --runs $runs --compile
			[[ $options != *--size* ]] ||
				peer "$round-$name-torch, tuned, channels last" torch tuned benchmarks/peers/${script}_torch.py $options --runs $runs --channels-last
			[ ! -f benchmarks/peers/${script}_jax.py ] ||
				peer "$round-$name-jax, tuned" jax tuned benchmarks/peers/${script}_jax.py $options --runs $runs
		}
	done
done
cpu=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -1)
slug=$(echo "${cpu:-cpu}" | tr 'A-Z ' 'a-z-' | tr -cd 'a-z0-9-')
python3 benchmarks/collect.py "$out" "benchmarks/results/$slug-$(date +%F).json" \
	--what "$cpu, $(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg) at the end; $("$plinth" --version); $(git describe --always --dirty 2>/dev/null)"
