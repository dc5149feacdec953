#!/usr/bin/env bash
# planning.sh: predicted beside measured on this machine's CPU: every model of models/ at several sizes, `plinth plan --machine host`
# against `plinth bench`, one after the other on a quiet machine (some ten minutes on two cores). Writes benchmarks/planning.md.
# It measures the machine first (plinth doctor --calibrate) unless MACHINE names a machine file. PLINTH: the binary.
# `planning.sh gpt2` does those models alone and writes nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export PLINTH=${PLINTH:-$here/../build/plinth}
if [ -z "${MACHINE:-}" ]; then
	"$PLINTH" doctor --calibrate >/dev/null
fi
exec python3 "$here/planning.py" "$@"
