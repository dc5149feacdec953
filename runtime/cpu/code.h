/* runtime/cpu/code.h: a package's code for CPUs, loaded by the C library's own loader: no LLVM is needed. */
#ifndef PL_CPU_CODE_H
#define PL_CPU_CODE_H
#include "codegen/package.h"

/* Sets the functions of the variant's package. `path` is for messages. */
typedef struct CpuCodeImage CpuCodeImage;
PL_MUST_USE Status cpu_code_load(const char *path, PackageVariant *v, CpuCodeImage **out);
void cpu_code_unload(CpuCodeImage *image);

#endif
