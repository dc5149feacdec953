/* benchmarks/kernels_library.h: f32 matrix products by libraries, beside the generated ones: OpenBLAS and oneDNN where they are
 * installed (Debian's libopenblas0-pthread and libdnnl2), loaded at run time. Nothing of Plinth uses them. */
#ifndef PL_KERNELS_LIBRARY_H
#define PL_KERNELS_LIBRARY_H
#include "support/base.h"

/* c[M, N] = a b, row-major: a is [M, K], or [K, M] where it is turned; b [K, N] or [N, K]. */
typedef void LibraryProduct(i64 M, i64 N, i64 K, const f32 *a, bool a_turned, const f32 *b, bool b_turned, f32 *c);

typedef struct ProductLibrary {
	const char *name;
	LibraryProduct *run;
} ProductLibrary;

enum { PRODUCT_LIBRARIES = 2 };
/* Those that are there, told to use so many threads; how many. Their threads are started here,
 * one to a core, whatever core the calling thread was pinned to. */
u32 product_libraries(u32 threads, ProductLibrary out[PRODUCT_LIBRARIES]);

#endif
