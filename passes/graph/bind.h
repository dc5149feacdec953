/* passes/graph/bind.h: numbers for symbols, in a whole program. */
#ifndef PL_PASSES_BIND_H
#define PL_PASSES_BIND_H
#include "ir/graph.h"

typedef struct SymbolValues {
	u32 n;
	const char *const *symbol; /* interned */
	const i64 *value;
} SymbolValues;

/* The symbols in the types of buffers and values and in attributes, in order of first use. */
u32 program_symbols(Arena *arena, const Program *p, const char ***symbol);

/* The program with those symbols replaced, in `out`. NULL, with messages in the Ir's Diag, where a
 * dimension would not be whole, would be negative or too large, or where an op does not take the
 * numbers. Axis classes whose size changes become new ones with the same names, sizes bound. */
Program *bind_program(Arena *out, Arena *tmp, const Program *in, const SymbolValues *binding);

#endif
