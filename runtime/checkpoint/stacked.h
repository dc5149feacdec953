/* runtime/checkpoint/stacked.h: a program's buffer that is several tensors in files. Where leading axes stand in braces
 * in its name, "experts.{E}.w1.weight" of [E, F, D], files have one tensor of [F, D] for each index,
 * "experts.0.w1.weight", ..., as published checkpoints do. */
#ifndef PL_STACKED_H
#define PL_STACKED_H
#include "runtime/checkpoint/part.h"

/* How many tensors of files the buffer is: 1 for a plain name. Of a buffer that is a part, those of the whole: what it has
 * nothing of is a part without elements. */
u32 stacked_count(const NamedBuffer *b);
/* Each of them, in row-major order of their indices; names are made in `a`. */
void stacked_parts(Arena *a, const NamedBuffer *b, NamedBuffer *out);

#endif
