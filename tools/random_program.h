/* tools/random_program.h: random valid programs: every op's own samples, joined by elementwise
 * ops, views, reductions and contractions of whatever has the types for it, with axis classes,
 * places, scopes and buffers. Everything follows from the seed. */
#ifndef PL_RANDOM_PROGRAM_H
#define PL_RANDOM_PROGRAM_H
#include "ir/op.h"

/* One entry of `steps` steps whose every value may be a result, over buffers that it reads and
 * writes. The Diag of `ir` must have two sources. */
Program *random_program(Arena *arena, Ir *ir, u64 seed, u32 steps);
/* The same with extents that are powers of two, which divide over devices. */
Program *random_even_program(Arena *arena, Ir *ir, u64 seed, u32 steps);

#endif
