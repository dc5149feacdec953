/* codegen/cpu/deep.h: DOT kernels of few results and long sums: see deep.c. */
#ifndef PL_CPU_DEEP_H
#define PL_CPU_DEEP_H
#include "codegen/cpu/count.h"
#include "codegen/cpu/panel.h"

/* Is the product one of few results, whose sums are long enough to be divided? Then these stand for what dot.c does. */
bool dot_is_deep(const Kernel *k);
CountNeeds deep_needs(Body *b, const CpuMachine *machine, const Kernel *k, Tile t, Count phase);
void deep_emit(CpuModule *m, const Kernel *k, Arena *arena, const char *name, Tile t);

#endif
