#!/usr/bin/env bash
# cuda_ranks.sh PLINTH ROOT TMP STANDIN, sourced: ranks with GPUs that stand-ins are, as processes with the variables of torchrun or
# Slurm; a text `d` to train on.
plinth=$1 root=$2 tmp=$3 standin=$4
rm -rf "$tmp"; mkdir -p "$tmp"; cd "$tmp"
export PLINTH_CUDA_IMAGE=ptx PLINTH_LIBCUDA=$standin/libcuda.so.1 PLINTH_LIBCUBLASLT=$standin/libcublasLt.so.13 PLINTH_LIBNCCL=$standin/libnccl.so.2
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
"$plinth" data tokenize "$root/LICENSE" --tokenizer bpe --vocab 320 --validation-last 0.1 -o d >/dev/null 2>&1
rank() { # torchrun|slurm RANK RANKS ARGUMENTS...
  local by=$1 r=$2 n=$3
  shift 3
  if [ "$by" = slurm ]; then
    SLURM_PROCID=$r SLURM_NTASKS=$n SLURM_LOCALID=$r SLURM_JOB_NODELIST="localhost,node[03-07]" MASTER_PORT=$port timeout 300 "$plinth" train "$@"
  else
    RANK=$r WORLD_SIZE=$n LOCAL_RANK=$r MASTER_ADDR=localhost MASTER_PORT=$port timeout 300 "$plinth" train "$@"
  fi
}
ranks() { # NAME by RANKS ARGUMENTS...
  local name=$1 by=$2 n=$3 r
  shift 3
  for ((r = 0; r < n; r++)); do rank "$by" "$r" "$n" "$@" --device cuda -o "$name" >"$name.$r.log" 2>&1 & done
  wait
}
losses() { sed -E 's/.*"train_loss": ?([0-9.]+).*/\1/' "$1/metrics.jsonl"; }
same() { # WHAT ONE OTHER
  paste <(losses "$2") <(losses "$3") | awk -v name="$1" '{ d = $1 - $2; if (d < 0) d = -d; if (d > 2e-5 * $1) bad = 1; n++ }
    END { print name ": " (n < 5 ? "too few" : bad ? "OTHER" : "same") " losses" }'
}
killed() { # ARGUMENTS...: of two ranks that train on and on, one is killed; what the other says
  (rank torchrun 0 2 "$@" --steps 100000 -o killed --device cuda >killed.log 2>&1 || echo "status $?" >>killed.log) &
  RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 MASTER_ADDR=localhost MASTER_PORT=$port "$plinth" train "$@" --steps 100000 -o killed --device cuda >/dev/null 2>&1 &
  local mine=$! before
  for _ in $(seq 1200); do [ "$(cat killed/metrics.jsonl 2>/dev/null | wc -l)" -ge 2 ] && break; sleep 0.1; done
  kill -9 "$mine"
  before=$(date +%s)
  wait
  [ $(($(date +%s) - before)) -lt 10 ] && echo "a killed rank: $(grep -m1 -o 'rank 1 (process.*' killed.log)"
  grep -o 'status .*' killed.log
}
