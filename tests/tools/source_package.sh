#!/usr/bin/env bash
# source_package.sh BUILD VERSION: makes a source package, builds it for GPUs alone where flex, bison, LLVM and pkg-config are not to be found, and has
# the binary check a model, compile its step to PTX and machine code (where there is NVRTC), and run a small one's by way of BUILD's stand-in for a driver.
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
if ! build-cuda/plinth compile models/gpt2.plinth --preset test --set layers=1 --sizes B=1,T=32 --arch sm_90a -o code >"$scratch/log" 2>&1; then
  grep -q 'needs NVRTC' "$scratch/log" || { cat "$scratch/log"; exit 1; }
  echo "no NVRTC here: no kernel was compiled"
  exit 0
fi
kernels=$(grep -c '"layer"' code/sm_90a/index.json)
[ "$kernels" -gt 20 ] && [ -s "$(echo code/sm_90a/*.ptx | cut -d' ' -f1)" ] && [ -s "$(echo code/sm_90a/*.cubin | cut -d' ' -f1)" ]
echo "$kernels kernels for sm_90a"
standin=$1/tests/standin/libcuda.so.1
if [ -e "$standin" ]; then
  XDG_CACHE_HOME=$scratch PLINTH_LIBCUDA=$standin PLINTH_CUDA_IMAGE=ptx build-cuda/plinth bench tests/cli/Inputs/tiny.plinth --sizes B=1,T=8 --matmul generated \
    --runs 1 --steps 1 --no-probes | sed -n 1,3p
fi
