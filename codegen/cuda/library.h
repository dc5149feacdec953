/* codegen/cuda/library.h: which DOT kernels are matrix products that cuBLASLt can do, prologue and epilogue
 * included. */
#ifndef PL_CUDA_LIBRARY_H
#define PL_CUDA_LIBRARY_H
#include "codegen/cuda/kernels.h"
#include "codegen/package.h"

/* False: it is none. Offsets in `out` are in bytes from the slot's start, and slot[] says which slot each is of
 * (a, b, c, d, aux, bias, scale, sum): the caller adds where slots are. */
typedef struct LibraryMatmul {
	PackageMatmul matmul;
	u32 a, b, c, d, aux, bias, scale[2], sum; /* slots */
} LibraryMatmul;
bool cuda_library_matmul(const Kernel *k, LibraryMatmul *out);

/* Where it would be one but for the memory that a result may take over (dGELU's operand beside), it may not. */
void cuda_library_keep_apart(Kernel *k);

#endif
