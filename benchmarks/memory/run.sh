#!/usr/bin/env bash
# What budgets of memory cost on this machine: for each budget the predicted memory of a step, the most that the process was
# seen to hold beyond what it had before, and the time of a step beside that with everything kept.
#   benchmarks/memory/run.sh [MODEL PRESET SIZES PRECISION [BUDGET...]]
# Prints a Markdown table. Needs a built plinth (build/plinth) and Python 3.
set -euo pipefail
cd "$(dirname "$0")/../.."
model=${1:-gpt2} preset=${2:-small} sizes=${3:-B=1,T=1024} precision=${4:-f32}
shift $(($# < 4 ? $# : 4))
plinth=${PLINTH:-build/plinth} out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
budgets=("$@")
row() { # budget, or nothing for everything kept
  local args=(bench "models/$model.plinth" --preset "$preset" --sizes "$sizes" --precision "$precision" --no-probes --runs 3 --steps 1 --json)
  [ -n "$1" ] && args+=(--memory "$1")
  python3 - "${1:-all kept}" "$plinth" "${args[@]}" <<'PY'
import json, subprocess, sys
name, command = sys.argv[1], sys.argv[2:]
point = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["points"][0]
m = point["memory"]
print(json.dumps({"budget": name, "memory": m["held_bytes"], "resident": m["resident_bytes"] - m["resident_before_bytes"],
                  "seconds": point["step"]["seconds"]["median"]}))
PY
}
row "" >"$out/rows"
if [ ${#budgets[@]} = 0 ]; then # at three quarters, half and a quarter of what may be let go
  "$plinth" plan "models/$model.plinth" --preset "$preset" --sizes "$sizes" --precision "$precision" --sweep --json >"$out/curve.json"
  mapfile -t budgets < <(python3 - "$out/curve.json" "$out/rows" <<'PY'
import json, sys
f, held = json.load(open(sys.argv[1]))["fit"], json.load(open(sys.argv[2]))["memory"]
for k in (0.75, 0.5, 0.25):
    print(f"{int(held - (f['peak_all_kept'] - f['peak_least']) * (1 - k)) >> 10}KiB")
PY
  )
fi
for b in "${budgets[@]}"; do row "$b" >>"$out/rows"; done
python3 - "$out/rows" "$model $preset, $sizes, $precision" <<'PY'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
print(f"{sys.argv[2]}\n\n| budget | planned, MiB | resident, MiB | step, ms | to all kept |\n|---|---:|---:|---:|---:|")
for r in rows:
    print(f"| {r['budget']} | {r['memory'] / 2**20:.0f} | {r['resident'] / 2**20:.0f} | {r['seconds'] * 1e3:.0f} | {r['seconds'] / rows[0]['seconds']:.3f} |")
PY
