/* codegen/cpu/target.h: the CPU as a target: what passes may ask of it (ir/target.h), and the code of a
 * plan's kernels, compiled and loaded. */
#ifndef PL_CPU_TARGET_H
#define PL_CPU_TARGET_H
#include "codegen/cpu/llvm.h"
#include "codegen/package.h"
#include "ir/target.h"

/* The table for this machine, in `arena`; the machine is copied. */
const TargetInfo *cpu_target(const CpuMachine *machine, Arena *arena);

/* Code for n kernels, loaded: function[i] runs kernel[i]. Kernels of equal shape share code; each shape, and each register tile that
 * they call, is a unit of its own for the compiler's threads and its cache. The program is the caller's to unload. */
PL_MUST_USE Status cpu_code(CpuCompiler *c, Kernel *const *kernel, u32 n, Arena *arena,
			    CpuProgram **program, KernelFunction **function);

/* The same without loading: the units, first one per shape, then the tiles', compiled into `arena`, and each kernel's function
 * in them by name. For packages and for printing. */
typedef struct CpuCode {
	CpuUnit *unit;
	u32 nunit;
	const char **symbol; /* [n] */
	const char **needs;  /* [n], the NeedsFunction of each, where the compiler makes them (CpuOptions.needs); else NULL */
} CpuCode;
PL_MUST_USE Status cpu_code_units(CpuCompiler *c, Kernel *const *kernel, u32 n, Arena *arena, CpuCode *out);

#endif
