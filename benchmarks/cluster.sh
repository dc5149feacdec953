#!/usr/bin/env bash
# cluster.sh: predicted against published training steps (benchmarks/cluster.md): plans every run of benchmarks/cluster/runs.csv.
# cluster/search_ranks.py searches for plans of each model, to rank the published ones among them; its table is part of the page.
# `cluster.sh --fit` fits the machine files to the training rows first (some ten minutes on two cores). PLINTH: the binary.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ "${1:-}" != --fit ] || python3 "$here/cluster/validate.py" fit
python3 "$here/cluster/validate.py" report
