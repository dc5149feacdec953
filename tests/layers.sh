#!/usr/bin/env bash
# Data flows one way through the folders (docs/architecture.md): each folder includes only what the table
# allows. Prints every line that does not, and fails if there is one.
set -u
cd "$(dirname "$0")/.." || exit 2
declare -A may=(
  [support]="support"
  [ir]="support ir"
  [frontend]="support ir frontend"
  [passes]="support ir passes"
  [codegen]="support ir codegen"
  [runtime]="support runtime codegen/package.h"
)
bad=0 seen=0
for folder in "${!may[@]}"; do
  while IFS=: read -r file line text; do
    target=${text#*\"}; target=${target%\"*}
    seen=$((seen + 1))
    ok=0
    for allowed in ${may[$folder]}; do
      case "$target" in "$allowed" | "$allowed"/*) ok=1 ;; esac
    done
    if [ $ok = 0 ]; then
      echo "$file:$line: $folder/ may not include $target"
      bad=$((bad + 1))
    fi
  done < <(grep -rnE '^#include "' "$folder" --include='*.c' --include='*.h' --include='*.l' --include='*.y' --include='*.def')
done
echo "$seen includes, $bad against the layers"
[ $bad = 0 ] && [ $seen -gt 50 ]
