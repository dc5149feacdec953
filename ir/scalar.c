/* ir/scalar.c: see scalar.h. */
#include "ir/scalar.h"

#include <math.h>

#define SCALAR(op, nin, result, expression, flops, effort)                       \
	static f64 op##_value(f64 a PL_UNUSED, f64 b PL_UNUSED, f64 c PL_UNUSED) \
	{                                                                     \
		return expression;                                            \
	}
#include "ir/scalar.def"
#undef SCALAR

enum { RESULT_SAME, RESULT_REAL, RESULT_BOOL };

const ScalarInfo scalar_info[OPS] = {
#define SCALAR(op, nin, result, expression, flops, effort) \
	[OP_##op] = { nin, RESULT_##result == RESULT_REAL, RESULT_##result == RESULT_BOOL, flops, effort, op##_value },
#include "ir/scalar.def"
#undef SCALAR
};
