/* tools/random_kernels.h: random programs of a few ops whose extents are those at which code for kernels goes other ways: shorter
 * than a vector, one more than some, longer than a task, sums that are divided and that are not. Everything follows from the seed. */
#ifndef PL_RANDOM_KERNELS_H
#define PL_RANDOM_KERNELS_H
#include "ir/sample.h"

/* One entry of a product, convolution, concatenation, reduction, norm, enlarged image or draw, of operands that are views or functions
 * of inputs, with functions and views behind; `narrow`: of bf16 and f16 too. `r` has what its inputs are drawn from. */
Program *random_kernel_program(Arena *arena, Ir *ir, Random *r, bool narrow);

#endif
