#!/usr/bin/env bash
# cluster.sh: predicted against published training steps (benchmarks/cluster.md): plans every run of benchmarks/cluster/runs.csv.
# `cluster.sh --fit` fits the machine files to the training rows first (some ten minutes on two cores). PLINTH: the binary.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ "${1:-}" != --fit ] || python3 "$here/cluster/validate.py" fit
python3 "$here/cluster/validate.py" report
