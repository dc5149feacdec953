/* codegen/cpu/thin.h: DOT kernels with few rows: see thin.c. */
#ifndef PL_CPU_THIN_H
#define PL_CPU_THIN_H
#include "codegen/cpu/count.h"
#include "codegen/cpu/panel.h"
#include "ir/target.h"

enum { THIN_ROWS = 4 };

/* Is the product one of few rows, which is not worth packing for? Then these stand for what dot.c does. */
bool dot_is_thin(const CpuMachine *machine, const Kernel *k);
u64 thin_variant(const CpuMachine *machine, const Kernel *k);
CountNeeds thin_needs(Body *b, const CpuMachine *machine, const Kernel *k);
void thin_emit(CpuModule *m, const Kernel *k, Arena *arena, const char *name);

#endif
