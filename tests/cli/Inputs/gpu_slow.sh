#!/usr/bin/env bash
# A plinth on a GPU that hangs wherever it is to measure something.
case $1 in
doctor) echo "cuda:0         found    Slow, compute capability 9.0" ;;
--version) echo plinth ;;
*) exec sleep 60 ;;
esac
