#!/usr/bin/env bash
# What benchmarks/gpu.sh asks of the programs beside plinth, at one size that the stand-in is done with in seconds. Called by their names; $PROGRAMS: their folder.
# compute-sanitizer, which has no GPU to look at here, runs the program and counts nothing.
set -eu
case ${0##*/} in
cuda_attention) exec "$PROGRAMS/cuda_attention" "$@" 1 1 64 32 ;;
cuda_dot) exec "$PROGRAMS/cuda_dot" "small gelu" ;;
compute-sanitizer)
	[ "$1 $3 $4" = "--tool --error-exitcode 9" ]
	"${@:5}"
	echo "========= ERROR SUMMARY: 0 errors"
	;;
esac
