#!/usr/bin/env bash
# planning.sh: predicted beside measured on this machine's CPU: every model of models/ at several sizes, `plinth plan` against
# `plinth bench`, and some of them on two ranks, `plinth plan --mesh` against `plinth train`; one after the other on a quiet machine
# (some ten minutes a round on two cores). Writes benchmarks/planning.md. It measures the machine, whole and as two ranks, in each of ROUNDS
# rounds (3), unless MACHINE and RANKS name machine files. PLINTH: the binary; MPIRUN: `mpirun --oversubscribe`, or as you start it.
# KEEP=FILE keeps what was measured there, and a later call goes on from it: where the machine is quiet for a few minutes at a time.
# `planning.sh gpt2` does those models alone and writes nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export PLINTH=${PLINTH:-$here/../build/plinth} MPIRUN=${MPIRUN:-mpirun --oversubscribe}
python3 "$here/planning.py" "$@"
