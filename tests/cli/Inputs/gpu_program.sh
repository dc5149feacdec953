#!/usr/bin/env bash
# What benchmarks/gpu.sh asks of the programs beside plinth, at one size that the stand-in is done with in seconds. Called by their names; $PROGRAMS: their folder.
set -eu
case ${0##*/} in
cuda_attention) exec "$PROGRAMS/cuda_attention" "$@" 1 1 64 32 ;;
cuda_dot) exec "$PROGRAMS/cuda_dot" "small gelu" ;;
esac
