/* codegen/cuda/spell.h: scalar functions as CUDA C expressions. */
#ifndef PL_CUDA_SPELL_H
#define PL_CUDA_SPELL_H
#include "codegen/cuda/body.h"

/* A row of ir/scalar.def of operands of dtype `of` (those that `where` chooses from); NULL where there is none. */
const char *cuda_spell(Arena *a, Scalar s, DType of, const char *x, const char *y, const char *z);

#endif
