/* runtime/cuda/cublaslt.h: matrix products by NVIDIA's cuBLASLt, loaded at run time like the driver: libcublasLt.so.13
 * or .12, or the file that PLINTH_LIBCUBLASLT names. A product (PackageMatmul) is described once, and then run with one
 * of the algorithms that the library proposes for it.
 *
 * The library counts columns first; a row-major product is its transposed one, d' = b' a'. */
#ifndef PL_CUBLASLT_H
#define PL_CUBLASLT_H
#include "codegen/package.h"
#include "runtime/cuda/driver.h"
#include "support/str.h"

typedef struct Cublas Cublas;
typedef struct CublasMatmul CublasMatmul;

/* How a product is computed. The bits of `algorithm` mean something to one version of the library on one kind of
 * GPU. */
typedef struct CublasAlgorithm {
	u64 algorithm[8];
	u64 workspace; /* bytes that it needs */
} CublasAlgorithm;

enum { CUBLAS_PROPOSALS = 8 };

PL_MUST_USE Status cublas_open(Cublas **out);
void cublas_close(Cublas *c);
u64 cublas_version(const Cublas *c);
const char *cublas_version_text(const Cublas *c, Arena *a);

/* Describes a product, in `a`; freed by cublas_close. *out is NULL where the library cannot do it. */
PL_MUST_USE Status cublas_matmul(Cublas *c, Arena *a, const PackageMatmul *m, CublasMatmul **out);
/* What the library proposes, best guess first, with at most `workspace` bytes. None is no failure. */
PL_MUST_USE Status cublas_propose(Cublas *c, const CublasMatmul *m, u64 workspace, CublasAlgorithm *out, u32 *n);
void cublas_choose(CublasMatmul *m, const CublasAlgorithm *chosen);
const CublasAlgorithm *cublas_chosen(const CublasMatmul *m);
/* Puts it on the stream. Operands are at their offsets from `arena`. */
PL_MUST_USE Status cublas_run(Cublas *c, const CublasMatmul *m, CudaAddress arena, CudaAddress workspace, u64 workspace_bytes,
			      CudaStream *stream);

#endif
