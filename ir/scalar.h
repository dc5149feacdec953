/* ir/scalar.h: what scalar.def says, by op: the f64 reference value and the FLOPs of each elementwise
 * op. The op table's EW rows and scalar.def's rows are the same set. */
#ifndef PL_SCALAR_H
#define PL_SCALAR_H
#include "ir/op.h"

typedef struct ScalarInfo {
	u8 nin;
	bool real;    /* operands that are no floats become f32 */
	bool boolean; /* the result is b1 whatever the operands are */
	u8 flops, effort;
	f64 (*value)(f64 a, f64 b, f64 c);
} ScalarInfo;
/* nin is 0 for ops that are not elementwise. */
extern const ScalarInfo scalar_info[OPS];

#endif
