/* ir/scalar.c: see scalar.h. */
#include "ir/scalar.h"

#include <math.h>

#define SCALAR(op, nin, result, expression, flops)                            \
	static f64 op##_value(f64 a PL_UNUSED, f64 b PL_UNUSED, f64 c PL_UNUSED) \
	{                                                                     \
		return expression;                                            \
	}
#include "ir/scalar.def"
#undef SCALAR

enum { RESULT_SAME = false, RESULT_BOOL = true };

const ScalarInfo scalar_info[OPS] = {
#define SCALAR(op, nin, result, expression, flops) \
	[OP_##op] = { nin, RESULT_##result, flops, op##_value },
#include "ir/scalar.def"
#undef SCALAR
};
