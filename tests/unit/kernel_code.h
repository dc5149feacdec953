/* tests/unit/kernel_code.h: units of code for this CPU, linked and loaded as a package's are, without a package. */
#ifndef PL_TEST_KERNEL_CODE_H
#define PL_TEST_KERNEL_CODE_H
#include "codegen/cpu/llvm.h"
#include "runtime/cpu/code.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/* `symbol`: the functions that can be found. */
static inline CpuCodeImage *load_units(Arena *a, const CpuUnit *unit, u32 n, const char *const *symbol, u32 nsymbol)
{
	Blob library;
	CpuCodeImage *image = NULL;
	Status s = cpu_link(a, unit, n, symbol, nsymbol, &library);
	if (!s)
		s = cpu_code_open("a test", library, &image);
	if (s)
		fail_msg("%s", s->text);
	return image;
}

/* Compiled too: one unit, that has one function to be found. */
static inline CpuCodeImage *load_unit(CpuCompiler *c, Arena *a, CpuUnit *unit, const char *symbol)
{
	cpu_compile(c, a, unit, 1);
	return load_units(a, unit, 1, &symbol, 1);
}

#endif
