#!/bin/sh
# old_nvrtc.sh LIBRARY: makes one that says that it is NVRTC of CUDA 12.3, and does nothing else.
set -eu
{
	echo 'int nvrtcVersion(int *major, int *minor) { *major = 12; *minor = 3; return 0; }'
	for f in GetErrorString CreateProgram DestroyProgram CompileProgram GetProgramLogSize GetProgramLog GetPTXSize GetPTX GetCUBINSize GetCUBIN; do
		echo "int nvrtc$f(void) { return 1; }"
	done
} | cc -shared -fPIC -x c - -o "$1"
