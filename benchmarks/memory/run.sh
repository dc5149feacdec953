#!/usr/bin/env bash
# What budgets of memory cost on this machine: for each budget the predicted memory of a step, the most that the process was
# seen to hold beyond what it had before, and the time of a step beside that with everything kept. In each round every budget
# is run right after a run with everything kept, and their times' ratio is formed there: what else the machine does slows
# both. The median of the rounds' ratios counts, least and most are beside it.
#   benchmarks/memory/run.sh [--rounds N] [MODEL PRESET SIZES PRECISION [BUDGET...]]
# Without budgets: three between the least and all. A budget called `blocks` is what checkpointing by blocks takes, by the plan.
# Prints a Markdown table. Needs a built plinth (build/plinth) and Python 3.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=3
[ "${1:-}" != --rounds ] || { rounds=$2 && shift 2; }
model=${1:-gpt2} preset=${2:-small} sizes=${3:-B=1,T=1024} precision=${4:-f32}
shift $(($# < 4 ? $# : 4))
exec python3 - "${PLINTH:-build/plinth}" "$rounds" "$model" "$preset" "$sizes" "$precision" "$@" <<'PY'
import json, statistics, subprocess, sys

plinth, rounds, model, preset, sizes, precision, *budgets = sys.argv[1:]
what = [f"models/{model}.plinth", "--preset", preset, "--sizes", sizes, "--precision", precision]


def plan(*more):
    return json.loads(subprocess.run([plinth, "plan", *what, *more, "--json"], check=True, stdout=subprocess.PIPE).stdout)


def run(budget=None):
    command = [plinth, "bench", *what, "--no-probes", "--runs", "1", "--steps", "1", "--json"] + (["--memory", budget] if budget else [])
    point = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["points"][0]
    m = point["memory"]
    return m["held_bytes"], m["resident_bytes"] - m["resident_before_bytes"], point["step"]["seconds"]["median"]


held, resident, _ = run()
curve = plan("--sweep")
fit = curve["fit"]
if not budgets:
    budgets = [f"{int(held - (fit['peak_all_kept'] - fit['peak_least']) * (1 - k)) >> 10}KiB" for k in (0.75, 0.5, 0.25)]
budgets = [f"{(held - fit['peak_all_kept'] + fit['blocks']['peak'] >> 10) + 1}KiB" if b == "blocks" else b for b in budgets]
rows = {b: [] for b in budgets}
for _ in range(int(rounds)):
    for b in budgets:
        kept = run()
        rows[b].append((*run(b), kept[2]))
        print(f"{b}: {rows[b][-1][2]:.2f} s beside {kept[2]:.2f} s", file=sys.stderr)
print(f"{model} {preset}, {sizes}, {precision}, {rounds} rounds\n")
print("| budget | planned, MiB | resident, MiB | overhead, by the plan | step to all kept: median (least to most) |\n|---|---:|---:|---:|---:|")
print(f"| everything kept | {held / 2**20:.0f} | {resident / 2**20:.0f} | 0 | 1 |")
for b, r in rows.items():
    ratio = [x[2] / x[3] for x in r]
    said = plan("--memory", b)["fit"]
    print(f"| {b} | {r[0][0] / 2**20:.0f} | {max(x[1] for x in r) / 2**20:.0f} | {100 * said['overhead_seconds'] / said['step_seconds']:.2f}% |"
          f" {statistics.median(ratio):.3f} ({min(ratio):.3f} to {max(ratio):.3f}) |")
PY
