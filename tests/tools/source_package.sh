#!/usr/bin/env bash
# source_package.sh BUILD VERSION: makes a source package, and builds it for GPUs alone where flex, bison, LLVM and pkg-config are not to be found, and
# asks the binary for something.
set -euo pipefail
tarball=$1/plinth-$2.tar.gz
cmake --build "$1" --target source-package >/dev/null
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/bin"
# the programs of this machine but for those
IFS=:
for folder in $PATH; do
  for program in "$folder"/*; do
    case ${program##*/} in
    flex* | bison* | llvm-config* | pkg-config | pkgconf | *-pkg-config | *-pkgconf | git | ninja) ;;
    *) [ -e "$scratch/bin/${program##*/}" ] || ln -s "$program" "$scratch/bin/" 2>/dev/null || true ;;
    esac
  done
done
unset IFS
export PATH=$scratch/bin
tar xzf "$tarball" -C "$scratch"
cd "$scratch"/plinth-*
if command -v flex || command -v bison || command -v llvm-config-19 || command -v pkg-config; then
  echo "the test's folder of programs is wrong"; exit 1
fi
# nor in the places where CMake looks by itself
cmake --preset cuda -DCMAKE_FIND_USE_CMAKE_SYSTEM_PATH=FALSE >"$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }
cmake --build --preset cuda --target plinth -j "$(nproc)" >"$scratch/log" 2>&1 || { tail -50 "$scratch/log"; exit 1; }
build-cuda/plinth --version
build-cuda/plinth check models/gpt2.plinth
