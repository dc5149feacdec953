#!/usr/bin/env bash
# What benchmarks/gpu.sh asks of plinth, on a model so small that the stand-in for a GPU's driver is done with it in a moment. $REAL: plinth; $TINY: the model.
set -eu
verb=$1 rest=()
case $verb in
bench)
	shift 2
	while [ $# -gt 0 ]; do
		case $1 in
		--preset | --sizes | --runs | --steps) shift ;;
		--sweep) rest+=(--sweep B=1,2) && shift ;;
		*) rest+=("$1") ;;
		esac
		shift
	done
	exec "$REAL" bench "$TINY" --sizes B=1,T=8 --runs 1 --steps 1 --no-probes "${rest[@]}"
	;;
test) exec "$REAL" test --device cuda --op add ;;
*) exec "$REAL" "$@" ;;
esac
