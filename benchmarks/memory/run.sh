#!/usr/bin/env bash
# What budgets of memory cost on this machine: for each budget the predicted memory of a step, the most that the process was
# seen to hold beyond what it had before, and the time of a step beside that with everything kept. All programs are in one
# process and take turns, step by step (`plinth bench --turns`): what else the machine does slows all. The median of the
# rounds' ratios counts, least and most are beside it. Memory is that of a process for each budget alone.
#   benchmarks/memory/run.sh [--rounds N] [MODEL PRESET SIZES PRECISION [BUDGET...]]
# Without budgets: three between the least and all. A budget called `blocks` is what checkpointing by blocks takes, by the plan.
# Prints a Markdown table. Needs a built plinth (build/plinth) and Python 3.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=5
[ "${1:-}" != --rounds ] || { rounds=$2 && shift 2; }
model=${1:-gpt2} preset=${2:-small} sizes=${3:-B=1,T=1024} precision=${4:-f32}
shift $(($# < 4 ? $# : 4))
exec python3 - "${PLINTH:-build/plinth}" "$rounds" "$model" "$preset" "$sizes" "$precision" "$@" <<'PY'
import json, subprocess, sys

plinth, rounds, model, preset, sizes, precision, *budgets = sys.argv[1:]
what = [f"models/{model}.plinth", "--preset", preset, "--sizes", sizes, "--precision", precision]


def plan(*more):
    return json.loads(subprocess.run([plinth, "plan", *what, *more, "--json"], check=True, stdout=subprocess.PIPE).stdout)


def bench(*more):
    command = [plinth, "bench", *what, "--no-probes", "--steps", "1", *more, "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["points"]


def memory(*more):
    [point] = bench("--runs", "1", *more)
    m = point["memory"]
    return m["held_bytes"], m["resident_bytes"] - m["resident_before_bytes"]


held, resident = memory()
curve = plan("--sweep")
fit = curve["fit"]
if not budgets:
    budgets = [f"{int(held - (fit['peak_all_kept'] - fit['peak_least']) * (1 - k)) >> 10}KiB" for k in (0.75, 0.5, 0.25)]
budgets = [f"{(held - fit['peak_all_kept'] + fit['blocks']['peak'] >> 10) + 1}KiB" if b == "blocks" else b for b in budgets]
rows = {b: memory("--memory", b) for b in budgets}
points = bench("--sweep", "memory=" + ",".join(["all", *budgets]), "--turns", "--runs", rounds)
print(f"{model} {preset}, {sizes}, {precision}, {rounds} rounds\n")
print("| budget | planned, MiB | resident, MiB | overhead, by the plan | step to all kept: median (least to most) |\n|---|---:|---:|---:|---:|")
print(f"| everything kept | {held / 2**20:.0f} | {resident / 2**20:.0f} | 0 | 1 |")
for b, point in zip(budgets, points[1:]):
    ratio = point["step"]["beside_first"]
    said = plan("--memory", b)["fit"]
    print(f"| {b} | {rows[b][0] / 2**20:.0f} | {rows[b][1] / 2**20:.0f} | {100 * said['overhead_seconds'] / said['step_seconds']:.2f}% |"
          f" {ratio['median']:.3f} ({ratio['least']:.3f} to {ratio['most']:.3f}) |")
PY
