/* Time predicted for kernels, against what a pencil says. */
#include "passes/plan/predict.h"
#include "runtime/cuda/cuda.h"
#include "tools/peak.h"
#include "tools/prediction.h"
#include "tools/scaling.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void close_to(f64 got, f64 want)
{
	if (!(fabs(got - want) <= 1e-12 * fabs(want)))
		fail_msg("%.17g, should be %.17g", got, want);
}

static const CurvePoint points[] = { { 100, 0.2 }, { 1000, 0.5 }, { 10000, 0.9 } };
static const Curve curve = { points, 3 };

static void curves_run_with_the_logarithm(void **state)
{
	(void)state;
	close_to(curve_share(&curve, 1), 0.2);
	close_to(curve_share(&curve, 100), 0.2);
	close_to(curve_share(&curve, 1000), 0.5);
	close_to(curve_share(&curve, sqrt(1000.0 * 10000.0)), 0.7);
	close_to(curve_share(&curve, 1e9), 0.9);
	close_to(curve_share(&(Curve){ 0 }, 5), 1);
}

static Machine machine(void)
{
	Machine m = { .bandwidth = 1e12, .launch = 1e-6, .arithmetic = 0.5, .matmul = curve };
	m.peak[DT_f32] = 1e12;
	m.peak[DT_bf16] = 1e14;
	return m;
}

static void products_by_size_and_type(void **state)
{
	(void)state;
	Machine m = machine();
	Kernel k = { .class = KERNEL_DOT, .ndim = 3, .compute = DT_bf16, .flops = 2e9, .bytes_read = 4e6, .bytes_written = 2e6 };
	k.dim[0] = (KDim){ .role = DIM_M, .extent = 1000 };
	k.dim[1] = (KDim){ .role = DIM_N, .extent = 1000 };
	k.dim[2] = (KDim){ .role = DIM_K, .extent = 1000 };
	LaunchTime t = predict_kernel(&m, &k);
	close_to(t.seconds, 1e-6 + 2e9 / (1e14 * 0.5)); /* 41 us, against 6 us for the bytes */
	assert_int_equal(t.by, LIMIT_ARITHMETIC);
	k.compute = DT_f32;
	close_to(predict_kernel(&m, &k).seconds, 1e-6 + 2e9 / (1e12 * 0.5));
	k.compute = DT_f16; /* no peak of its own */
	close_to(predict_kernel(&m, &k).seconds, 1e-6 + 2e9 / (1e12 * 0.5));
	k.compute = DT_f8e4m3;
	assert_false(machine_products_f8(&m));
	m.peak[DT_f8e4m3] = 3e14;
	assert_true(machine_products_f8(&m));
	close_to(predict_kernel(&m, &k).seconds, 1e-6 + 2e9 / (3e14 * 0.5)); /* 14 us */
	k.bytes_read = 3e7; /* 33 us */
	assert_int_equal(predict_kernel(&m, &k).by, LIMIT_MEMORY);
}

/* MFU is by the peak of what products take at most. */
static void peaks_by_precision(void **state)
{
	(void)state;
	Machine m = machine();
	close_to(precision_peak(&m, "f32"), 1e12);
	close_to(precision_peak(&m, "autocast"), 1e14);
	close_to(precision_peak(&m, "fp8"), 1e14);
	m.peak[DT_f8e4m3] = 3e14;
	close_to(precision_peak(&m, "fp8"), 3e14);
	close_to(precision_peak(&m, "bf16"), 1e14);
}

/* By NVIDIA's data sheets: an A100 has no products of 8 bits, so that what fp8 multiplies there is bf16. */
static void peaks_of_makers(void **state)
{
	(void)state;
	static const struct {
		const char *name;
		f64 bf16, f8;
	} gpu[] = { { "NVIDIA H100 80GB HBM3", 989e12, 1979e12 }, { "NVIDIA H100 PCIe", 756e12, 1513e12 }, { "NVIDIA GeForce RTX 4090", 165e12, 330e12 },
		    { "NVIDIA A100-SXM4-80GB", 312e12, 0 }, { "NVIDIA TITAN", 0, 0 } };
	for (u32 i = 0; i < COUNT(gpu); i++) {
		DeviceInfo info = { .datasheet = cuda_datasheet(gpu[i].name, PACKAGE_BF16), .datasheet_f8 = cuda_datasheet(gpu[i].name, PACKAGE_F8E4M3) };
		close_to(info.datasheet, gpu[i].bf16);
		close_to(info.datasheet_f8, gpu[i].f8);
		close_to(peak_published(&info, "autocast"), gpu[i].bf16);
		close_to(peak_published(&info, "fp8"), gpu[i].f8 > 0 ? gpu[i].f8 : gpu[i].bf16);
		close_to(peak_published(&info, "f32"), 0);
		close_to(peak_published(&info, NULL), 0);
	}
}

/* Heads of 108 elements of 2 bytes do not begin at multiples of 16 bytes, those of 104 do; keys are no axis of the operands. */
static void rows_that_are_not_aligned(void **state)
{
	(void)state;
	Machine m = machine();
	m.attention = curve;
	m.unaligned = 0.25;
	Kernel k = { .class = KERNEL_ATTENTION, .ndim = 4, .compute = DT_bf16, .flops = 2e9, .causal = true };
	k.dim[0] = (KDim){ .role = DIM_M, .extent = 1000 };
	k.dim[1] = (KDim){ .role = DIM_N, .extent = 1001 };
	k.dim[2] = (KDim){ .role = DIM_K, .extent = 104 };
	k.dim[3] = (KDim){ .role = DIM_V, .extent = 104 };
	close_to(predict_kernel(&m, &k).seconds, 1e-6 + 2e9 / (1e14 * 0.5));
	static const CurvePoint width[] = { { 52, 0.5 }, { 208, 1 } };
	m.heads = (Curve){ width, 2 };
	close_to(predict_kernel(&m, &k).seconds, 1e-6 + 2e9 / (1e14 * 0.5 * 0.75));
	m.heads = (Curve){ 0 };
	k.dim[2].extent = k.dim[3].extent = 108;
	close_to(predict_kernel(&m, &k).seconds, 1e-6 + 2e9 / (1e14 * 0.5 * 0.25));
	k.compute = DT_f32;
	close_to(predict_kernel(&m, &k).seconds, 1e-6 + 2e9 / (1e12 * 0.5)); /* 432 bytes */
	m.unaligned = 0;
	k.compute = DT_bf16;
	close_to(predict_kernel(&m, &k).seconds, 1e-6 + 2e9 / (1e14 * 0.5));
	m.unaligned = 0.25;
	k.class = KERNEL_DOT; /* an odd vocabulary */
	k.dim[2].extent = k.dim[3].extent = 1000;
	close_to(predict_kernel(&m, &k).seconds, 1e-6 + 2e9 / (1e14 * 0.25 * curve_share(&curve, cbrt(1000.0 * 1001 * 1000))));
}

/* Of 500 keys that all are seen, a query has as many as one of 1000 that sees those before it. */
static void attention_by_keys(void **state)
{
	(void)state;
	Machine m = machine();
	m.attention = m.attention_grad = curve;
	Kernel k = { .class = KERNEL_ATTENTION, .ndim = 4, .compute = DT_bf16, .flops = 2e9 };
	static const DimRole role[] = { DIM_M, DIM_N, DIM_K, DIM_V };
	static const i64 size[] = { 7, 500, 64, 64 };
	for (u32 d = 0; d < 4; d++)
		k.dim[d] = (KDim){ .role = role[d], .extent = size[d] };
	for (u32 grad = 0; grad < 2; grad++) {
		k.class = grad ? KERNEL_ATTENTION_GRAD : KERNEL_ATTENTION;
		close_to(predict_kernel(&m, &k).seconds, 1e-6 + 2e9 / (1e14 * 0.5));
	}
	k.causal = true;
	k.dim[0].extent = k.dim[1].extent = 1000;
	close_to(predict_kernel(&m, &k).seconds, 1e-6 + 2e9 / (1e14 * 0.5));
}

/* What is worked out beside a product, in additions, takes its time on top; FLOPs of it alone tell none. */
static void bodies_of_products(void **state)
{
	(void)state;
	Machine m = machine();
	Kernel k = { .class = KERNEL_DOT, .ndim = 3, .compute = DT_f32, .flops = 2e9, .effort = 4e8, .costly = 1e8 };
	static const DimRole role[] = { DIM_M, DIM_N, DIM_K };
	for (u32 d = 0; d < 3; d++)
		k.dim[d] = (KDim){ .role = role[d], .extent = 1000 };
	close_to(predict_kernel(&m, &k).seconds, 1e-6 + 2e9 / (1e12 * 0.5));
	m.effort = 0.125;
	m.series = 3;
	close_to(predict_kernel(&m, &k).seconds, 1e-6 + 2e9 / (1e12 * 0.5) + (4e8 + 2e8) / (1e12 * 0.125));
}

/* A convolution: columns and sum of three dimensions each, of which images' rows of 10 are the longest run; a plain product of two
 * such ranges has nothing to bring into order where the sum is one dimension. */
static void windows_are_brought_into_order(void **state)
{
	(void)state;
	Machine m = machine();
	static const CurvePoint run[] = { { 5, 0.1 }, { 20, 0.3 } };
	m.windows = (Curve){ run, 2 };
	Kernel k = { .class = KERNEL_DOT, .ndim = 5, .compute = DT_f32, .flops = 2.0 * 4 * 500 * 20 };
	static const DimRole role[] = { DIM_M, DIM_N, DIM_N, DIM_K, DIM_K };
	static const i64 size[] = { 4, 50, 10, 10, 2 };
	for (u32 d = 0; d < 5; d++)
		k.dim[d] = (KDim){ .role = role[d], .extent = size[d] };
	f64 product = k.flops / (1e12 * curve_share(&curve, cbrt(4.0 * 500 * 20)));
	close_to(predict_kernel(&m, &k).seconds, 1e-6 + product + 500.0 * 20 * 4 / (1e12 * 0.2));
	k.ndim = 4;
	k.dim[3].extent = 20;
	close_to(predict_kernel(&m, &k).seconds, 1e-6 + product);
}

static void what_limits(void **state)
{
	(void)state;
	Machine m = machine();
	m.stream = (Curve){ points, 2 };
	Kernel k = { .class = KERNEL_MAP, .flops = 1e6, .bytes_read = 1e9 };
	LaunchTime t = predict_kernel(&m, &k);
	close_to(t.seconds, 1e-6 + 1e9 / (1e12 * 0.5));
	assert_int_equal(t.by, LIMIT_MEMORY);
	k.class = KERNEL_SCATTER;
	m.scatter = 0.125;
	close_to(predict_kernel(&m, &k).seconds, 1e-6 + 1e9 / (1e12 * 0.125));
	k.class = KERNEL_MAP;
	k.bytes_read = 10;
	k.flops = 10;
	assert_int_equal(predict_kernel(&m, &k).by, LIMIT_LAUNCH);
}

/* Where the machine tells what a vector unit does, that counts rather than FLOPs, and rows that are short take longer: of 10 elements,
 * half way between those of 5 and 20. */
static void rows_by_effort_and_length(void **state)
{
	(void)state;
	Machine m = machine();
	static const CurvePoint row[] = { { 5, 0.25 }, { 20, 0.75 } };
	m.rows = (Curve){ row, 2 };
	Kernel k = { .class = KERNEL_MAP, .ndim = 2, .flops = 1e9, .effort = 4e9, .costly = 1e9 };
	k.dim[0] = (KDim){ .role = DIM_PARALLEL, .extent = 1000 };
	k.dim[1] = (KDim){ .role = DIM_PARALLEL, .extent = 10 };
	close_to(predict_kernel(&m, &k).seconds, 1e-6 + 1e9 / (1e12 * 0.5));
	m.effort = 0.125;
	close_to(predict_kernel(&m, &k).seconds, 1e-6 + 4e9 / (1e12 * 0.125 * 0.5));
	m.series = 3;
	close_to(predict_kernel(&m, &k).seconds, 1e-6 + (3e9 + 3e9) / (1e12 * 0.125 * 0.5));
	k.dim[1].extent = 1000;
	close_to(predict_kernel(&m, &k).seconds, 1e-6 + 6e9 / (1e12 * 0.125 * 0.75));
	/* sums over rows have a curve of their own, where there is one, for what is no costly function */
	k.class = KERNEL_ROW;
	k.dim[1] = (KDim){ .role = DIM_ROW, .extent = 10 };
	close_to(predict_kernel(&m, &k).seconds, 1e-6 + 6e9 / (1e12 * 0.125 * 0.5));
	static const CurvePoint sum[] = { { 5, 0.0625 }, { 20, 0.1875 } };
	m.reductions = (Curve){ sum, 2 };
	close_to(predict_kernel(&m, &k).seconds, 1e-6 + 3e9 / (1e12 * 0.125 * 0.125) + 3e9 / (1e12 * 0.125 * 0.5));
	k.class = KERNEL_MAP;
	close_to(predict_kernel(&m, &k).seconds, 1e-6 + 6e9 / (1e12 * 0.125 * 0.5));
}

static void collectives_by_ring_and_domain(void **state)
{
	(void)state;
	Machine m = { .domain = 8, .link = { .bandwidth = 400e9, .latency = 1e-6 }, .network = { .bandwidth = 50e9, .latency = 5e-6 } };
	/* within a domain: 8 devices next to each other */
	close_to(predict_collective(&m, OP_all_gather, 8e9, 8, 1), 7e9 / 400e9 + 7e-6);
	close_to(predict_collective(&m, OP_all_reduce, 8e9, 8, 1), 2 * (7e9 / 400e9 + 7e-6));
	/* 16 over two domains: 8 network links of 50 GB/s cross as fast as one link of the domain */
	close_to(predict_collective(&m, OP_reduce_scatter, 16e9, 16, 1), 15e9 / 400e9 + 14 * 1e-6 + 5e-6);
	/* one device of each of 4 domains, beside 7 other such rings */
	close_to(predict_collective(&m, OP_all_reduce, 4e9, 4, 8), 2 * (3e9 / 50e9 + 3 * 5e-6));
	/* two of each of 2 domains */
	close_to(predict_collective(&m, OP_all_to_all, 4e9, 4, 4), 3e9 / 100e9 + 2 * 1e-6 + 5e-6);
	/* small ones by trees: 3 steps within, 2 between */
	close_to(predict_collective(&m, OP_all_reduce, 4e3, 32, 1), 2 * (4e3 / 400e9 + 3 * 1e-6 + 2 * 5e-6));
	close_to(predict_collective(&m, OP_permute, 1e9, 8, 1), 1e9 / 400e9 + 1e-6);
	close_to(predict_collective(&m, OP_all_reduce, 1e9, 1, 1), 0);
	/* four groups of two on each domain share its links: half is left to each; groups of all or of one are as they were */
	m.network.apart = 0.5;
	close_to(predict_collective(&m, OP_all_reduce, 4e9, 16, 4), 2 * (15 / 16.0 * 4e9 / 50e9 + 7 * 5e-6 + 8 * 1e-6));
	close_to(predict_collective(&m, OP_all_reduce, 4e9, 4, 8), 2 * (3e9 / 50e9 + 3 * 5e-6));
	close_to(predict_collective(&m, OP_all_reduce, 8e9, 8, 1), 2 * (7e9 / 400e9 + 7e-6));
}

/* Table A3 of Hoffmann et al. 2022: approach 3 has 40.3 B parameters for Gopher's budget of 5.76e23 FLOPs, from constants
 * that were not rounded; and no other size does better by the fit itself. */
static void the_best_size_for_a_budget(void **state)
{
	(void)state;
	f64 n, d;
	scaling_optimum(&scaling_fit[0], 5.76e23, 6, &n, &d);
	assert_true(n > 30e9 && n < 42e9);
	close_to(6 * n * d, 5.76e23);
	for (u32 i = 0; i < SCALING_FITS; i++) {
		const ScalingFit *f = &scaling_fit[i];
		scaling_optimum(f, 1e22, 6, &n, &d);
		f64 best = scaling_loss(f, n, d);
		assert_true(best < scaling_loss(f, n * 1.01, d / 1.01) && best < scaling_loss(f, n / 1.01, d * 1.01));
		assert_true(fabs(scaling_tokens(f, n) / d - 1) < 1e-9);
	}
	/* Besiroglu et al. 2024 find about 20 tokens for each parameter, as Chinchilla was trained: 70 B on 1.4 T */
	scaling_optimum(&scaling_fit[1], 6 * 70e9 * 1.4e12, 6, &n, &d);
	assert_true(d / n > 18 && d / n < 28);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(curves_run_with_the_logarithm),
		cmocka_unit_test(products_by_size_and_type),
		cmocka_unit_test(peaks_by_precision),
		cmocka_unit_test(peaks_of_makers),
		cmocka_unit_test(rows_that_are_not_aligned), cmocka_unit_test(attention_by_keys), cmocka_unit_test(bodies_of_products),
		cmocka_unit_test(windows_are_brought_into_order), cmocka_unit_test(what_limits),
		cmocka_unit_test(rows_by_effort_and_length), cmocka_unit_test(collectives_by_ring_and_domain),
		cmocka_unit_test(the_best_size_for_a_budget),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
