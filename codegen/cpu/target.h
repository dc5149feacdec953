/* codegen/cpu/target.h: the CPU as a target: what passes may ask of it (ir/target.h), and the code of a
 * plan's kernels, compiled and linked. */
#ifndef PL_CPU_TARGET_H
#define PL_CPU_TARGET_H
#include "codegen/cpu/llvm.h"
#include "codegen/package.h"
#include "ir/target.h"

/* The table for this machine, in `arena`; the machine is copied. */
const TargetInfo *cpu_target(const CpuMachine *machine, Arena *arena);

/* Code for n kernels: units, first one per shape, then the register tiles' that they call, compiled into `arena`, each by itself for the
 * compiler's threads and its cache; and each kernel's function in them by name. Kernels of equal shape share code. */
typedef struct CpuCode {
	CpuUnit *unit;
	u32 nunit;
	const char **symbol; /* [n] */
	const char **needs;  /* [n], the NeedsFunction of each, where the compiler makes them (CpuOptions.needs); else NULL */
} CpuCode;
PL_MUST_USE Status cpu_code_units(CpuCompiler *c, Kernel *const *kernel, u32 n, Arena *arena, CpuCode *out);

#endif
