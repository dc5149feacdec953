/* test_standin_kernels.c: kernels in CUDA C, compiled by the real NVRTC to PTX, run by the stand-in in
 * several schedules, against plain C. */
#include "kernels.h"
#include "harness.h"

static const char *const schedules[] = {
	"schedule=ascending, async=eager", "schedule=descending, async=late", "schedule=random:1, async=late, race=on, uninitialized=on",
	"schedule=random:2, async=eager, threads=1",
};

/* y = a x + b, and functions of it; a tail of threads beyond n. */
static const char pointwise[] =
	"extern \"C\" __global__ void k(const float *x, float *y, long long n) {\n"
	"  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;\n"
	"  if (i >= n) return;\n"
	"  float v = 1.5f * x[i] + 0.25f;\n"
	"  if (i % 3 == 0) v = v > 0 ? v / 3.0f : -v; else for (int j = 0; j < i % 5; j++) v = v * 0.5f + j;\n"
	"  y[i] = v + sqrtf(fabsf(v)) + expf(-v * v) + erff(v) + tanhf(v);\n"
	"}\n";

static f64 pointwise_reference(f32 x, i64 i)
{
	f32 v = fmaf(1.5f, x, 0.25f);
	if (i % 3 == 0)
		v = v > 0 ? v / 3.0f : -v;
	else
		for (int j = 0; j < i % 5; j++)
			v = fmaf(v, 0.5f, (f32)j);
	return (f64)v + sqrt(fabs((f64)v)) + exp(-(f64)v * v) + erf((f64)v) + tanh((f64)v);
}

static void test_pointwise(void **state)
{
	(void)state;
	enum { N = 1000 };
	f32 x[N], y[N];
	u32 seed = 1;
	char *ptx = nvrtc_ptx(pointwise, "compute_90a");
	for (u32 i = 0; i < N; i++)
		x[i] = 3 * test_uniform(&seed);
	for (u32 s = 0; s < COUNT(schedules); s++) {
		CUmodule m;
		standin_set(schedules[s]);
		CUfunction f = load_function(ptx, "k", &m);
		CUdeviceptr dx = device_copy(x, sizeof x), dy = device_copy(NULL, sizeof y);
		CU(run_kernel(f, 8, 128, 0, (u64[]){ dx, dy, N }, 3));
		CU(cuMemcpyDtoH_v2(y, dy, sizeof y));
		for (u32 i = 0; i < N; i++) {
			f64 want = pointwise_reference(x[i], i);
			/* expf, erff, tanhf of CUDA: 2 ulp or so each, of terms of at most 6 */
			assert_true(fabs(y[i] - want) <= 2e-6 * (1 + fabs(want)));
		}
		CU(cuMemFree_v2(dx));
		CU(cuMemFree_v2(dy));
		CU(cuModuleUnload(m));
	}
	free(ptx);
}

static void test_softmax(void **state)
{
	(void)state;
	enum { ROWS = 9, N = 300 };
	static f32 x[ROWS][N], y[ROWS][N];
	u32 seed = 2;
	char *ptx = nvrtc_ptx(kernel_softmax, "compute_80");
	for (u32 i = 0; i < ROWS * N; i++)
		x[i / N][i % N] = 8 * test_uniform(&seed);
	for (u32 s = 0; s < COUNT(schedules); s++) {
		CUmodule m;
		standin_set(schedules[s]);
		CUfunction f = load_function(ptx, "k", &m);
		CUdeviceptr dx = device_copy(x, sizeof x), dy = device_copy(NULL, sizeof y);
		CU(run_kernel(f, ROWS, 128, N * 4, (u64[]){ dx, dy, N }, 3));
		CU(cuMemcpyDtoH_v2(y, dy, sizeof y));
		for (u32 r = 0; r < ROWS; r++) {
			f64 top = -INFINITY, sum = 0;
			for (u32 i = 0; i < N; i++)
				top = fmax(top, x[r][i]);
			for (u32 i = 0; i < N; i++)
				sum += exp(x[r][i] - top);
			/* sums of 300 f32 in a tree, expf of 2 ulp and an argument rounded to 2^-21 */
			for (u32 i = 0; i < N; i++)
				assert_true(fabs(y[r][i] - exp(x[r][i] - top) / sum) <= 2e-6 * exp(x[r][i] - top) / sum + 1e-30);
		}
		CU(cuMemFree_v2(dx));
		CU(cuMemFree_v2(dy));
		CU(cuModuleUnload(m));
	}
	free(ptx);
}

static f32 widened(u16 h)
{
	u32 b = (u32)h << 16;
	f32 f;
	memcpy(&f, &b, 4);
	return f;
}

static void test_matmul(void **state)
{
	(void)state;
	enum { M = 128, N = 192, K = 256 };
	static u16 a[M][K], b[K][N], c[M][N];
	u32 seed = 3;
	char *source = malloc(sizeof kernel_wrappers + sizeof kernel_matmul);
	sprintf(source, "%s%s", kernel_wrappers, kernel_matmul);
	char *ptx = nvrtc_ptx(source, "compute_90");
	for (u32 i = 0; i < M * K; i++)
		a[i / K][i % K] = (u16)(0x3c00 + test_random(&seed) % 0x400 + (test_random(&seed) & 1) * 0x8000);
	for (u32 i = 0; i < K * N; i++)
		b[i / N][i % N] = (u16)(0x3c00 + test_random(&seed) % 0x400 + (test_random(&seed) & 1) * 0x8000);
	for (u32 s = 0; s < COUNT(schedules); s++) {
		CUmodule m;
		standin_set(schedules[s]);
		CUfunction f = load_function(ptx, "k", &m);
		CUdeviceptr da = device_copy(a, sizeof a), db = device_copy(b, sizeof b), dc = device_copy(NULL, sizeof c);
		u64 n = N, k = K;
		CU(cuLaunchKernel(f, N / 64, M / 64, 1, 128, 1, 1, 0, NULL, (void *[]){ &da, &db, &dc, &n, &k }, NULL));
		CU(cuMemcpyDtoH_v2(c, dc, sizeof c));
		for (u32 i = 0; i < M; i++)
			for (u32 j = 0; j < N; j++) {
				f64 want = 0, size = 0;
				for (u32 l = 0; l < K; l++) {
					f64 p = (f64)widened(a[i][l]) * widened(b[l][j]);
					want += p;
					size += fabs(p);
				}
				/* one rounding to bf16, and K roundings in f32 */
				assert_true(fabs(widened(c[i][j]) - want) <= fabs(want) * 0x1p-8 + size * K * 0x1p-24);
			}
		CU(cuMemFree_v2(da));
		CU(cuMemFree_v2(db));
		CU(cuMemFree_v2(dc));
		CU(cuModuleUnload(m));
	}
	free(source);
	free(ptx);
}

static void test_histogram(void **state)
{
	(void)state;
	enum { N = 20000 };
	static u8 x[N];
	u32 want[256] = { 0 }, count[261], seed = 4;
	char *ptx = nvrtc_ptx(kernel_histogram, "compute_80");
	for (u32 i = 0; i < N; i++)
		want[x[i] = (u8)(test_random(&seed) % 200)]++;
	for (u32 s = 0; s < COUNT(schedules); s++) {
		CUmodule m;
		standin_set(schedules[s]);
		CUfunction f = load_function(ptx, "k", &m);
		memset(count, 0, sizeof count);
		count[258] = ~0u;
		count[259] = 7;
		CUdeviceptr dx = device_copy(x, sizeof x), dc = device_copy(count, sizeof count);
		CU(run_kernel(f, 7, 96, 0, (u64[]){ dx, dc, N }, 3));
		CU(cuMemcpyDtoH_v2(count, dc, sizeof count));
		assert_memory_equal(count, want, sizeof want);
		assert_int_equal(count[256], N);
		assert_true(count[257] > 0 && count[257] < N && count[258] <= count[257]);
		assert_int_equal(count[259], 9);
		f32 half;
		memcpy(&half, &count[260], 4);
		assert_true(half == 48.0f); /* 96 threads of the last block */
		CU(cuMemFree_v2(dx));
		CU(cuMemFree_v2(dc));
		CU(cuModuleUnload(m));
	}
	free(ptx);
}

typedef struct Three {
	int a;
	double b;
	short c[5];
} Three;

static f64 language_reference(int i, i64 n, Three t)
{
	static const int table[5] = { 3, 1, 4, 1, 5 };
	int v[12];
	f64 s = 0;
	for (int j = 0; j < 12; j++)
		v[(j * 5 + i) % 12] = j * j - i;
	for (int j = 0; j < 6; j++)
		s += v[i % 4 + j];
	f64 r = s / 6 + t.b * t.a + t.c[i % 5] + table[i % 5] + 7;
	switch (i % 7) {
	case 0: return r + pow(3, i % 20);
	case 1: return r - v[i % 12];
	case 2: return r * 2;
	case 3: return r + (i % 2 ? 'w' : 'x');
	case 4: return r + (u8)(i * 77) + (i16)(i * 1999);
	case 5: return r + (f64)(n / (i + 1)) + (f64)(n % (i + 3));
	default: return sqrt(fabs(r));
	}
}

static void test_language(void **state)
{
	(void)state;
	enum { THREADS = 224 };
	f64 out[THREADS];
	Three t = { 5, 0.75, { 1, -2, 3, -4, 5 } };
	i64 n = 123456789012345;
	char *ptx = nvrtc_ptx(kernel_language, "compute_90a");
	for (u32 s = 0; s < COUNT(schedules); s++) {
		CUmodule m;
		standin_set(schedules[s]);
		CUfunction f = load_function(ptx, "k", &m);
		CUdeviceptr d = device_copy(NULL, sizeof out), bias;
		size_t bytes;
		CU(cuModuleGetGlobal_v2(&bias, &bytes, m, "bias"));
		assert_int_equal(bytes, 4);
		CU(cuLaunchKernel(f, 1, 1, 1, THREADS, 1, 1, 0, NULL, (void *[]){ &d, &n, &t }, NULL));
		CU(cuMemcpyDtoH_v2(out, d, sizeof out));
		for (int i = 0; i < THREADS; i++) {
			f64 want = language_reference(i, n, t);
			/* the compiler may contract a product and a sum */
			assert_true(fabs(out[i] - want) <= 1e-14 * fabs(want));
		}
		CU(cuMemFree_v2(d));
		CU(cuModuleUnload(m));
	}
	free(ptx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pointwise), cmocka_unit_test(test_softmax),   cmocka_unit_test(test_matmul),
		cmocka_unit_test(test_histogram), cmocka_unit_test(test_language),
	};
	return cmocka_run_group_tests(tests, standin_setup, NULL);
}
