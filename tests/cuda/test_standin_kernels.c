/* test_standin_kernels.c: kernels in CUDA C, compiled by the real NVRTC to PTX, run by the stand-in in
 * several schedules, against plain C. */
#include "harness.h"

static const char *const schedules[] = {
	"schedule=ascending, async=eager", "schedule=descending, async=late", "schedule=random:1, async=late",
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pointwise),
	};
	return cmocka_run_group_tests(tests, standin_setup, NULL);
}
