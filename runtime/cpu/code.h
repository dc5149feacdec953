/* runtime/cpu/code.h: a package's code for CPUs, loaded by the C library's own loader: no LLVM is needed. */
#ifndef PL_CPU_CODE_H
#define PL_CPU_CODE_H
#include "codegen/package.h"

typedef struct CpuCodeImage CpuCodeImage;
/* Sets the functions of the variant's package. `path` is for messages. */
PL_MUST_USE Status cpu_code_load(const char *path, PackageVariant *v, CpuCodeImage **out);
/* Of a shared library that is no package's; the address of a function, or NULL. */
PL_MUST_USE Status cpu_code_open(const char *path, Blob code, CpuCodeImage **out);
void *cpu_code_find(const CpuCodeImage *image, const char *symbol);
void cpu_code_unload(CpuCodeImage *image);

#endif
