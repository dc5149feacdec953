/* benchmarks/kernels_library.c: see kernels_library.h. */
#include "benchmarks/kernels_library.h"

#include <dlfcn.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As cblas.h and dnnl.h declare them. */
enum { ROW_MAJOR = 101, AS_IS = 111, TURNED = 112 };
typedef void CblasSgemm(int order, int a_turned, int b_turned, int M, int N, int K, f32 alpha, const f32 *a, int lda, const f32 *b,
			int ldb, f32 beta, f32 *c, int ldc);
/* dnnl_sgemm, and the same of bf16 operands, which the library exports without declaring it */
typedef int DnnlGemm(char a_turned, char b_turned, i64 M, i64 N, i64 K, f32 alpha, const void *a, i64 lda, const void *b, i64 ldb,
		     f32 beta, f32 *c, i64 ldc);
enum { DNNL_UNIMPLEMENTED = 3 };

static CblasSgemm *cblas_sgemm;
static DnnlGemm *dnnl_gemm;

static bool by_openblas(i64 M, i64 N, i64 K, const void *a, bool a_turned, const void *b, bool b_turned, f32 *c)
{
	cblas_sgemm(ROW_MAJOR, a_turned ? TURNED : AS_IS, b_turned ? TURNED : AS_IS, (int)M, (int)N, (int)K, 1, a,
		    (int)(a_turned ? M : K), b, (int)(b_turned ? K : N), 0, c, (int)N);
	return true;
}

static bool by_onednn(i64 M, i64 N, i64 K, const void *a, bool a_turned, const void *b, bool b_turned, f32 *c)
{
	int status = dnnl_gemm(a_turned ? 'T' : 'N', b_turned ? 'T' : 'N', M, N, K, 1, a, a_turned ? M : K, b, b_turned ? K : N, 0, c, N);
	if (status && status != DNNL_UNIMPLEMENTED)
		abort();
	return !status;
}

u32 product_libraries(u32 threads, bool bf16, ProductLibrary out[PRODUCT_LIBRARIES])
{
	ProductLibrary found[PRODUCT_LIBRARIES];
	u32 nfound = 0, n = 0;
	char count[16];
	snprintf(count, sizeof count, "%u", threads);
	/* threads that wait for work awake for about a millisecond, from one call to the next, then sleep: others take turns */
	setenv("OMP_NUM_THREADS", count, 1);
	unsetenv("OMP_WAIT_POLICY");
	setenv("GOMP_SPINCOUNT", "300000", 1);
	/* each on a core of its own, of all there are: where the calling thread alone is pinned, the scheduler puts another
	 * beside it */
	cpu_set_t all;
	memset(&all, 0xff, sizeof all);
	sched_setaffinity(0, sizeof all, &all);
	setenv("OMP_PROC_BIND", "close", 1);
	setenv("OMP_PLACES", "cores", 1);
	setenv("OPENBLAS_NUM_THREADS", count, 1);
	void *blas = bf16 ? NULL : dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
	*(void **)&cblas_sgemm = blas ? dlsym(blas, "cblas_sgemm") : NULL;
	if (cblas_sgemm)
		found[nfound++] = (ProductLibrary){ "OpenBLAS", by_openblas };
	void *dnnl = dlopen("libdnnl.so.2", RTLD_NOW | RTLD_LOCAL);
	if (!dnnl)
		dnnl = dlopen("libdnnl.so.3", RTLD_NOW | RTLD_LOCAL);
	*(void **)&dnnl_gemm = dnnl ? dlsym(dnnl, bf16 ? "dnnl_gemm_bf16bf16f32" : "dnnl_sgemm") : NULL;
	if (dnnl_gemm)
		found[nfound++] = (ProductLibrary){ "oneDNN", by_onednn };
	/* large enough for every thread to have a part */
	enum { WARM = 512 };
	f32 *x = calloc(3 * WARM * WARM, sizeof *x);
	for (u32 i = 0; i < nfound && x; i++)
		if (found[i].run(WARM, WARM, WARM, x, false, x + WARM * WARM, false, x + 2 * WARM * WARM))
			out[n++] = found[i];
		else
			fprintf(stderr, "%s: products of bf16 are not implemented on this processor\n", found[i].name);
	free(x);
	return n;
}
