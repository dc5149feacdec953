/* codegen/cpu/library.h: the part of an exported library that is the model's own besides its kernels: the table that
 * the runtime (runtime/library/library.h) is given, and the functions of the C interface under the model's name. */
#ifndef PL_CPU_LIBRARY_H
#define PL_CPU_LIBRARY_H
#include "codegen/cpu/llvm.h"
#include "codegen/package.h"

typedef struct CpuLibraryVariant {
	const char *cpu, *features;  /* of GPUs "sm_90a", "" */
	const Package *package;      /* with the names of its functions */
	const char *package_symbol;  /* under which package_encode's bytes are */
	u64 package_bytes;
} CpuLibraryVariant;

typedef struct CpuLibrary {
	const char *name;            /* "gpt2": of the functions, a C identifier */
	const CpuLibraryVariant *variant;
	u32 nvariant;
	const char *weights_symbol;  /* NULL: not embedded */
	u64 weights_bytes;
	bool has_state;              /* entries keep something from run to run */
	bool cuda;                   /* kernels are for GPUs: runtime/library/cuda.c runs them */
} CpuLibrary;

/* CpuUnit.emit; `library` is a CpuLibrary. */
void cpu_library_emit(CpuModule *m, const void *library);
/* What a user of the library can name. */
const char **cpu_library_symbols(Arena *arena, const CpuLibrary *library, u32 *n);

#endif
