#!/usr/bin/env bash
# gpu.sh [--short] [PART...]: tests and benchmarks on an NVIDIA GPU, each part under a time limit of its own, so that one
# that hangs costs the others nothing. Parts, in this order (all, if none is named):
#   test       plinth test --device cuda: the tests made from tables and models, on the real driver
#   train      GPT-2 124M and 355M and a Llama-like 1B, in turns with PyTorch, eager and compiled; one alone: 124m, 355m, 1b.
#              Both by autocast: products of bf16 whose results are rounded to bf16, everything else f32
#   attention  attention beside PyTorch's
#   dot        matrix products beside cuBLASLt
#   memory     kernels alone: those that memory bounds, beside a device copy
#   sanitize   compute-sanitizer over test-size training steps: memory, races, synchronization
#   sweep      GPT-2 124M over batch sizes; only if it is named
# Under 10 minutes, under 5 with --short. Without a GPU that works, or without PyTorch, it says so: the first measures nothing
# and ends with status 2, the second leaves the peers out. Leaves benchmarks/results/<gpu>-<date>.json and prints tables last; logs go to OUT.
#   PLINTH=binary   prebuilt; otherwise built here without LLVM, which a source package can anywhere
#   BENCH=folder    of the programs cuda_attention and cuda_dot; beside PLINTH, or in benchmarks/ there, if not given
#   PYTHON=python3  the one that has PyTorch
#   OUT=folder      of logs and raw results
#   RESULTS=folder  of the JSON, instead of benchmarks/results
#   BUDGET=580      seconds in all
set -u
[ -z "${PLINTH:-}" ] || PLINTH=$(realpath "$PLINTH")
[ -z "${BENCH:-}" ] || BENCH=$(realpath "$BENCH")
[ -z "${OUT:-}" ] || { mkdir -p "$OUT" && OUT=$(realpath "$OUT"); }
[ -z "${RESULTS:-}" ] || { mkdir -p "$RESULTS" && RESULTS=$(realpath "$RESULTS"); }
cd "$(dirname "$0")/.." || exit 2
python=${PYTHON:-python3} short='' parts=()
while [ $# -gt 0 ]; do
	case $1 in
	--short) short=1 ;;
	test | sanitize | train | 124m | 355m | 1b | attention | dot | memory | sweep) parts+=("$1") ;;
	*) sed -n '2,21s/^# //p' "$0" >&2 && exit 1 ;;
	esac
	shift
done
[ ${#parts[@]} -gt 0 ] || parts=(test train attention dot memory sanitize)
out=${OUT:-$(mktemp -d /tmp/plinth-gpu.XXXXXX)}
results=${RESULTS:-benchmarks/results}
mkdir -p "$out" "$results"
export XDG_CACHE_HOME=${XDG_CACHE_HOME:-$out/cache} PYTHONUNBUFFERED=1
begun=$SECONDS
budget=${BUDGET:-$([ -n "$short" ] && echo 280 || echo 580)}
failed=0

# SECONDS NAME COMMAND...: output becomes $out/NAME.out, complaints $out/NAME.log; never longer than given, nor than is left.
limited() {
	local limit=$1 name=$2 left=$((budget - SECONDS + begun)) from=$SECONDS rc
	shift 2
	[ "$left" -ge 5 ] || { echo "$(date +%T)  $name: left out, the time is up" && return 1; }
	[ "$limit" -le "$left" ] || limit=$left
	timeout -k 3 "$limit" "$@" >"$out/$name.out" 2>"$out/$name.log" </dev/null
	rc=$?
	case $rc in
	0) echo "$(date +%T)  $name: $((SECONDS - from)) s" ;;
	124 | 137) echo "$(date +%T)  $name: stopped after $limit s" ;;
	*) echo "$(date +%T)  $name: FAILED ($rc) after $((SECONDS - from)) s" ;;
	esac
	if [ $rc != 0 ]; then
		failed=1
		tail -n 4 "$out/$name.log" | cut -c1-300 | sed 's/^/            /'
	fi
	return $rc
}

# As limited, of a script of PyTorch's.
peer() {
	[ -z "$torch" ] || limited "$1" "$2" "$python" "${@:3}"
}

# ---- what there is ----
plinth=${PLINTH:-}
if [ -z "$plinth" ]; then
	plinth=build-cuda/plinth
	limited 200 0-build-plinth bash -c "cmake --preset cuda && cmake --build --preset cuda -j \$(nproc) --target plinth cuda_attention cuda_dot" ||
		{ echo "gpu.sh: no binary: PLINTH=binary brings one"; exit 2; }
fi
bench=${BENCH:-$(dirname "$plinth")/benchmarks}
[ -d "$bench" ] || bench=$(dirname "$plinth")
"$plinth" --version || { echo "gpu.sh: $plinth does not run here"; exit 2; }
# one kernel is compiled and run
if ! timeout 60 "$plinth" doctor --device cuda >"$out/doctor.txt" 2>&1; then
	cat "$out/doctor.txt"
	echo "gpu.sh: --device cuda does not work here, for what is said above: nothing was measured" && exit 2
fi
gpu=$(sed -n 's/^cuda:0 *found *\([^,]*\),.*/\1/p' "$out/doctor.txt")
nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit --format=csv,noheader >"$out/gpu.txt" 2>/dev/null
echo "$gpu: $(cat "$out/gpu.txt")"
torch=$("$python" -c 'import torch; torch.zeros(1).cuda(); print("torch", torch.__version__, "cuda", torch.version.cuda)' 2>/dev/null)
echo "${torch:-no PyTorch with CUDA in $python: peers are left out}"

# ---- the parts ----

part_test() {
	limited "$([ -n "$short" ] && echo 60 || echo 150)" "0-tests-plinth" "$plinth" test --device cuda
}

# One step under each tool; generated matrix products alone, for those are the ones to look at.
part_sanitize() {
	command -v compute-sanitizer >/dev/null || { echo "no compute-sanitizer here" && return; }
	local run
	for run in "memcheck gpt2" "memcheck llama" "racecheck gpt2" "synccheck gpt2"; do
		[ -z "$short" ] || [ "$run" = "memcheck gpt2" ] || continue
		limited 45 "0-$run-plinth" compute-sanitizer --tool "${run% *}" --error-exitcode 9 "$plinth" bench "models/${run#* }.plinth" \
			--preset test --sizes B=2,T=64 --device cuda --matmul generated --steps 1 --runs 1 --no-probes
		grep -hE "SUMMARY|========= (Invalid|Error|Race)" "$out/0-$run-plinth."{out,log} | sort | uniq -c | head -5
		rm -f "$out/0-$run-plinth.out" # times under a sanitizer mean nothing
	done
}

# CONFIGURATION MODEL PRESET SCRIPT "BATCHES" SEQ SECONDS: Plinth with the first batch that fits, PyTorch with the same, Plinth again.
train() {
	local what=$1 model=$2 preset=$3 script=$4 batches=$5 seq=$6 seconds=$7 batch name
	for batch in $batches; do
		name="$what B=$batch T=$seq autocast"
		limited "$seconds" "1-$name-plinth" "$plinth" bench models/$model.plinth --preset "$preset" --sizes B=$batch,T=$seq --device cuda \
			--precision autocast --runs 3 --json && break
		grep -qi memory "$out/1-$name-plinth.log" || break # a smaller batch would not help
	done
	peer "$seconds" "1-$name-torch.compile" benchmarks/peers/$script --preset "$preset" --device cuda --precision bf16 --batch $batch \
		--seq $seq --runs 3 --compile
	[ -n "$short" ] || peer "$seconds" "1-$name-torch" benchmarks/peers/$script --preset "$preset" --device cuda --precision bf16 \
		--batch $batch --seq $seq --runs 3
	# once more, in the other order, so that a GPU that warms up is not to one's credit
	limited "$seconds" "2-$name-plinth" "$plinth" bench models/$model.plinth --preset "$preset" --sizes B=$batch,T=$seq --device cuda \
		--precision autocast --runs 3 --json --trace "$out/trace $what.json"
}

part_124m() { train "gpt2 124M" gpt2 small gpt2_torch.py "64 32 16" 1024 75; }
part_355m() { train "gpt2 355M" gpt2 medium gpt2_torch.py "32 16 8" 1024 90; }
part_1b() { train "llama 1B" llama llama_1b llama_torch.py "8 4 2" 2048 90; }
part_train() {
	part_124m
	[ -z "$short" ] || return 0
	part_355m
	part_1b
}

part_attention() {
	[ -x "$bench/cuda_attention" ] && limited 40 "0-attention-plinth" "$bench/cuda_attention"
	peer 40 "0-attention-torch" benchmarks/peers/attention.py
}

part_dot() {
	[ -x "$bench/cuda_dot" ] && limited 60 "0-dot-plinth" "$bench/cuda_dot"
}

part_memory() {
	limited 45 "0-gpt2 124M B=32 T=1024-plinth alone" "$plinth" bench models/gpt2.plinth --preset small --sizes B=32,T=1024 --device cuda \
		--precision autocast --kernels --runs 3 --steps 1 --json
}

part_sweep() {
	limited 60 "0-gpt2 124M sweep-plinth" "$plinth" bench models/gpt2.plinth --preset small --sizes T=1024 --sweep B=8,16,32,64 --device cuda \
		--precision autocast --runs 3 --csv
	grep -E ',step,|^sizes' "$out/0-gpt2 124M sweep-plinth.out" 2>/dev/null
}

for part in "${parts[@]}"; do
	echo "== $part"
	part_"$part"
done
slug=$(echo "$gpu" | tr 'A-Z ' 'a-z-' | tr -cd 'a-z0-9-')
"$python" benchmarks/collect.py "$out" "$results/$slug-$(date +%F).json" --what "$(cat "$out/gpu.txt"); $("$plinth" --version); $(git describe --always --dirty 2>/dev/null)"
echo "$((SECONDS - begun)) s in all; logs in $out"
exit $failed
