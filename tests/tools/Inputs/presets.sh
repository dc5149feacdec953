#!/usr/bin/env bash
# presets.sh PLINTH MODELS: plans each model's presets `test` and `tiny` as the train block says; tells those that cannot be.
set -uo pipefail
plinth=$1
n=0
for model in "$2"/*.plinth; do
  for preset in $(grep -oE '^preset (test|tiny) ' "$model" | cut -d' ' -f2); do
    n=$((n + 1))
    "$plinth" plan "$model" --preset "$preset" --machine h100 >/dev/null 2>&1 || echo "$(basename "$model") $preset: not planned"
  done
done
echo "$((n > 10)) tried"
