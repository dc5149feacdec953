/* benchmarks/kernels_library.h: matrix products of f32, or of bf16 summed in f32, by libraries, beside the generated ones: OpenBLAS
 * (f32 alone) and oneDNN where they are installed (Debian's libopenblas0-pthread and libdnnl2), loaded at run time. Nothing of
 * Plinth uses them. */
#ifndef PL_KERNELS_LIBRARY_H
#define PL_KERNELS_LIBRARY_H
#include "support/base.h"

/* c[M, N] = a b, row-major: a is [M, K], or [K, M] where it is turned; b [K, N] or [N, K]. False: the library does not do that on this
 * processor. */
typedef bool LibraryProduct(i64 M, i64 N, i64 K, const void *a, bool a_turned, const void *b, bool b_turned, f32 *c);

typedef struct ProductLibrary {
	const char *name;
	LibraryProduct *run;
} ProductLibrary;

enum { PRODUCT_LIBRARIES = 2 };
/* Those that are there and multiply such operands here (of others it is said why not), told to use so many threads; how many.
 * Their threads are started here, one to a core, whatever core the calling thread was pinned to. */
u32 product_libraries(u32 threads, bool bf16, ProductLibrary out[PRODUCT_LIBRARIES]);

#endif
