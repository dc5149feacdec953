#!/usr/bin/env bash
# gpu.sh [--minutes N] [--short] [PART...]: tests and benchmarks on an NVIDIA GPU, under 10 minutes in all. Parts, most important first, which is
# the order they run in (all but sweep, if none is named):
#   test       plinth test --device cuda: the tests made from tables and models, on the real driver
#   train      GPT-2 124M and 355M and a Llama-like 1B, in turns with PyTorch, compiled and eager; one alone: 124m, 355m, 1b.
#              Both by autocast: products of bf16 whose results are rounded to bf16, everything else f32
#   attention  attention beside PyTorch's
#   dot        matrix products, alone and with epilogues, beside cuBLASLt
#   memory     kernels alone: those that memory bounds, beside a device copy
#   sanitize   compute-sanitizer over test-size training steps: memory, races, synchronization
#   sweep      GPT-2 124M over batch sizes; only if it is named
# Each part has a share of the time, and what one leaves the next ones have: one that hangs costs itself alone. What was stopped or left out
# is named in the table and in the JSON. --minutes N: more time, or less; --short: 5 minutes, for the test and what is measured of GPT-2 124M.
# Without a GPU that works, or without PyTorch, it says so: the first measures nothing and ends with status 2, the second leaves the peers
# out. Leaves benchmarks/results/<gpu>-<date>.json and prints tables last; logs go to OUT.
#   PLINTH=binary   prebuilt; otherwise built here without LLVM, which a source package can anywhere
#   BENCH=folder    of the programs cuda_attention and cuda_dot; beside PLINTH, or in benchmarks/ there, if not given
#   PYTHON=python3  the one that has PyTorch
#   OUT=folder      of logs and raw results
#   RESULTS=folder  of the JSON, instead of benchmarks/results
set -u
[ -z "${PLINTH:-}" ] || PLINTH=$(realpath "$PLINTH")
[ -z "${BENCH:-}" ] || BENCH=$(realpath "$BENCH")
[ -z "${OUT:-}" ] || { mkdir -p "$OUT" && OUT=$(realpath "$OUT"); }
[ -z "${RESULTS:-}" ] || { mkdir -p "$RESULTS" && RESULTS=$(realpath "$RESULTS"); }
cd "$(dirname "$0")/.." || exit 2
python=${PYTHON:-python3} short='' seconds='' named=' '
usage() { sed -n '2,22s/^# //p' "$0" >&2 && exit 1; }
while [ $# -gt 0 ]; do
	case $1 in
	--short) short=1 ;;
	--minutes) [[ ${2:-} =~ ^[1-9][0-9]{0,3}$ ]] || usage && seconds=$((60 * $2)) && shift ;;
	train) named+='124m 355m 1b ' ;;
	test | sanitize | 124m | 355m | 1b | attention | dot | memory | sweep) named+="$1 " ;;
	*) usage ;;
	esac
	shift
done
# part:share of the time
shares=(test:14 124m:24 attention:8 dot:7 memory:5 355m:17 1b:17 sanitize:8)
[ -z "$short" ] || shares=(test:30 124m:40 attention:12 dot:10 memory:8)
[ "$named" = ' ' ] || shares=(test:14 124m:24 attention:8 dot:7 memory:5 355m:17 1b:17 sanitize:8 sweep:10)
out=${OUT:-$(mktemp -d /tmp/plinth-gpu.XXXXXX)}
results=${RESULTS:-benchmarks/results}
mkdir -p "$out" "$results"
rm -f "$out/left-out"
# empty caches: the first round's first step is a cold one, on both sides
export XDG_CACHE_HOME=${XDG_CACHE_HOME:-$out/cache} TORCHINDUCTOR_CACHE_DIR=$out/inductor PYTHONUNBUFFERED=1
begun=$SECONDS
seconds=${seconds:-${BUDGET:-$([ -n "$short" ] && echo 300 || echo 600)}} # BUDGET: for tests, which have no minutes
end=$((begun + seconds - seconds / 40))                                    # the tables are made in the rest
part=all part_begun=$begun part_end=$end
failed=0

# NAME WHY...: what has no result, and why, for the table.
left_out() {
	echo "$(date +%T)  $1: ${*:2}"
	printf '%s\t%s\n' "$1" "${*:2}" >>"$out/left-out"
}

# PERCENT NAME COMMAND...: output becomes $out/NAME.out, complaints $out/NAME.log; never longer than so much of the part's time, nor than is left of it.
limited() {
	local limit=$((($1 * (part_end - part_begun) + 99) / 100)) name=$2 left=$((part_end - SECONDS)) from=$SECONDS rc
	shift 2
	[ "$left" -ge 2 ] || { left_out "$name" "left out: the time of $part is up" && return 1; }
	[ "$limit" -le "$left" ] || limit=$left
	timeout -k 3 "$limit" "$@" >"$out/$name.out" 2>"$out/$name.log" </dev/null
	rc=$?
	case $rc in
	0) echo "$(date +%T)  $name: $((SECONDS - from)) s" ;;
	124 | 137) left_out "$name" "stopped after $limit s" ;;
	*) left_out "$name" "FAILED ($rc) after $((SECONDS - from)) s" ;;
	esac
	if [ $rc != 0 ]; then
		failed=1
		tail -n 4 "$out/$name.log" | cut -c1-300 | sed 's/^/            /'
	fi
	return $rc
}

# As limited, of a script of PyTorch's.
peer() {
	if [ -n "$torch" ]; then
		limited "$1" "$2" "$python" "${@:3}"
	else
		left_out "$2" "left out: no PyTorch with CUDA"
	fi
}

# ---- what there is ----
plinth=${PLINTH:-}
if [ -z "$plinth" ]; then
	plinth=build-cuda/plinth
	limited 40 0-build-plinth bash -c "cmake --preset cuda && cmake --build --preset cuda -j \$(nproc) --target plinth cuda_attention cuda_dot" ||
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
torch=$(timeout 60 "$python" -c 'import torch; torch.zeros(1).cuda(); print("torch", torch.__version__, "cuda", torch.version.cuda)' 2>/dev/null)
echo "${torch:-no PyTorch with CUDA in $python: peers are left out}"

# ---- the parts ----

part_test() {
	limited 100 "0-tests-plinth" "$plinth" test --device cuda
}

# One step under each tool; generated matrix products alone, for those are the ones to look at.
part_sanitize() {
	command -v compute-sanitizer >/dev/null || { left_out sanitize "left out: no compute-sanitizer here" && return; }
	local run said
	for run in "memcheck gpt2" "racecheck gpt2" "memcheck llama" "synccheck gpt2"; do
		limited 50 "0-$run-plinth" compute-sanitizer --tool "${run% *}" --error-exitcode 9 "$plinth" bench "models/${run#* }.plinth" \
			--preset test --sizes B=2,T=64 --device cuda --matmul generated --steps 1 --runs 1 --no-probes
		said=$(grep -hE "SUMMARY|========= (Invalid|Error|Race)" "$out/0-$run-plinth."{out,log} 2>/dev/null | sort | uniq -c | head -5)
		echo "$said" | tee "$out/0-$run-plinth.out" # times under a sanitizer mean nothing
	done
}

# CONFIGURATION MODEL PRESET SCRIPT "BATCHES" SEQ: Plinth with the first batch that fits, PyTorch with the same, Plinth again.
train() {
	local what=$1 model=$2 preset=$3 script=$4 batches=$5 seq=$6 batch name
	for batch in $batches; do
		name="$what B=$batch T=$seq autocast"
		limited 40 "1-$name-plinth" "$plinth" bench models/$model.plinth --preset "$preset" --sizes B=$batch,T=$seq --device cuda \
			--precision autocast --runs 3 --json && break
		grep -qi memory "$out/1-$name-plinth.log" || break # a smaller batch would not help
	done
	peer 60 "1-$name-torch.compile" benchmarks/peers/$script --preset "$preset" --device cuda --precision bf16 --batch $batch \
		--seq $seq --runs 3 --compile
	[ -n "$short" ] || peer 40 "1-$name-torch" benchmarks/peers/$script --preset "$preset" --device cuda --precision bf16 \
		--batch $batch --seq $seq --runs 3
	# once more, in the other order, so that a GPU that warms up is not to one's credit; what was compiled is kept now
	limited 40 "2-$name-plinth" "$plinth" bench models/$model.plinth --preset "$preset" --sizes B=$batch,T=$seq --device cuda \
		--precision autocast --runs 3 --json --trace "$out/trace $what.json"
}

part_124m() { train "gpt2 124M" gpt2 small gpt2_torch.py "64 32 16" 1024; }
part_355m() { train "gpt2 355M" gpt2 medium gpt2_torch.py "32 16 8" 1024; }
part_1b() { train "llama 1B" llama llama_1b llama_torch.py "8 4 2" 2048; }

# NAME: one of the programs beside plinth.
program() {
	if [ -x "$bench/cuda_$1" ]; then
		limited 60 "0-$1-plinth" "$bench/cuda_$1" "${@:2}"
	else
		left_out "0-$1-plinth" "left out: no program cuda_$1 in $bench"
	fi
}

part_attention() {
	program attention --json
	peer 60 "0-attention-torch" benchmarks/peers/attention.py --json
}

part_dot() { program dot; }

part_memory() {
	limited 100 "0-gpt2 124M B=32 T=1024-plinth alone" "$plinth" bench models/gpt2.plinth --preset small --sizes B=32,T=1024 --device cuda \
		--precision autocast --kernels --runs 3 --steps 1 --json
}

part_sweep() {
	limited 100 "0-gpt2 124M sweep-plinth" "$plinth" bench models/gpt2.plinth --preset small --sizes T=1024 --sweep B=8,16,32,64 --device cuda \
		--precision autocast --runs 3 --csv
	grep -E ',step,|^sizes' "$out/0-gpt2 124M sweep-plinth.out" 2>/dev/null
}

slug=$(echo "$gpu" | tr 'A-Z ' 'a-z-' | tr -cd 'a-z0-9-')
collect() {
	"$python" benchmarks/collect.py "$out" "$results/$slug-$(date +%F).json" --what "$(cat "$out/gpu.txt"); $("$plinth" --version); $(git describe --always --dirty 2>/dev/null)"
}

# Of the time that is there now each part has its share; it is done when the shares up to its own have passed.
all=0 passed=0 from=$SECONDS
for share in "${shares[@]}"; do
	[[ $named == ' ' || $named == *" ${share%:*} "* ]] && all=$((all + ${share#*:}))
done
for share in "${shares[@]}"; do
	part=${share%:*}
	[[ $named == ' ' || $named == *" $part "* ]] || continue
	passed=$((passed + ${share#*:})) part_begun=$SECONDS
	part_end=$((from + (end - from) * passed / all))
	echo "== $part, until $((part_end - begun)) s"
	part_"$part"
	collect >/dev/null 2>&1 # whoever stops this script, or takes its machine away, leaves what is done
done
collect
echo "$((SECONDS - begun)) s in all; logs in $out"
exit $failed
