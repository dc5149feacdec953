/* codegen/cuda/loops.h: what the ways of MAP kernels share. */
#ifndef PL_CUDA_LOOPS_H
#define PL_CUDA_LOOPS_H
#include "codegen/cuda/body.h"

/* Bytes that load or store i moves, if each element moves once; 0 for other instructions. */
f64 cuda_traffic(const Kernel *k, u32 i);
/* Everything that is stored at the current coordinates. Loads first: they are then under way together, and done before a
 * store that may share their memory. */
void cuda_emit_point(CudaBody *b);

/* transpose.c: does it read along another dimension than it writes? */
bool cuda_is_transpose(const Kernel *k);
CudaNeeds cuda_transpose_needs(const Kernel *k);
void cuda_transpose_emit(CudaText *t, const Kernel *k, const char *name);

#endif
