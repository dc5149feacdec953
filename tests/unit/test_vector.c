/* The vocabulary of vectors against C, with the host's lanes, AVX2's, those of plain x86-64 and
 * one: memory, conversion of every 16-bit and 8-bit float and many f32, integer division, tails, gathers,
 * reductions by their tree, transposition. */
#include "codegen/cpu/vector.h"
#include "kernel_code.h"
#include "support/float8.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static Arena arena = ARENA("test");

#if defined(__x86_64__)
static const struct {
	const char *cpu;
	u32 lanes;
} targets[] = { { NULL, 0 }, { NULL, 1 }, { "haswell", 0 }, { "x86-64", 0 }, { "x86-64", 1 } };
#else
static const struct {
	const char *cpu;
	u32 lanes;
} targets[] = { { NULL, 0 }, { NULL, 1 } };
#endif

typedef void Body(const Simd *s, LLVMValueRef a, LLVMValueRef b, LLVMValueRef out, LLVMValueRef n);
typedef void Run(const void *a, const void *b, void *out, i64 n);

typedef struct Kernel {
	Body *body;
	u32 lanes;
} Kernel;

static void emit(CpuModule *m, const void *argument)
{
	const Kernel *k = argument;
	CpuParameter p[] = { { .type = m->pointer, .noalias = true },
			     { .type = m->pointer, .noalias = true },
			     { .type = m->pointer, .noalias = true },
			     { .type = m->i64 } };
	cpu_function_begin(m, "run", m->none, COUNT(p), p, false);
	Simd s = { m, k->lanes };
	k->body(&s, cpu_parameter(m, 0), cpu_parameter(m, 1), cpu_parameter(m, 2),
		cpu_parameter(m, 3));
	cpu_function_end(m, NULL);
}

/* Compiles for each target and calls `check` with the code and its lanes. */
static void on_targets(Body *body, void (*check)(Run *run, u32 lanes))
{
	for (u32 t = 0; t < COUNT(targets); t++) {
		CpuCompiler *c;
		CpuOptions o = { .cpu = targets[t].cpu };
		assert_null(cpu_compiler_create(&o, &c));
		const CpuMachine *machine = cpu_compiler_machine(c);
		Kernel k = { body, targets[t].lanes ? targets[t].lanes : machine->lanes };
		CpuUnit unit = { "kernel", .emit = emit, .argument = &k };
		if (machine->runs_here) {
			CpuCodeImage *image = load_unit(c, &arena, &unit, "run");
			check((Run *)(uintptr_t)cpu_code_find(image, "run"), k.lanes);
			cpu_code_unload(image);
		}
		cpu_compiler_destroy(c);
	}
}

static LLVMValueRef at(const Simd *s, DType d, LLVMValueRef base, LLVMValueRef index)
{
	return cpu_at(s->m, simd_memory_type(s, d), base, index);
}

static LLVMValueRef i64_(const Simd *s, i64 x)
{
	return cpu_i64(s->m, x);
}

/* ---- tails: out[i] = a[i] for i < n, in f32, bf16, b1 and i8 ---- */

static void copy_tail(const Simd *s, DType d, LLVMValueRef a, LLVMValueRef out, LLVMValueRef n)
{
	CpuLoop l;
	cpu_loop_begin(s->m, &l, i64_(s, 0), n, i64_(s, s->lanes), 0, NULL);
	LLVMValueRef mask = simd_mask(s, cpu_sub(s->m, n, l.index));
	LLVMValueRef x = simd_load_masked(s, d, at(s, d, a, l.index), 0, mask);
	simd_store_masked(s, d, x, at(s, d, out, l.index), 0, mask);
	cpu_loop_end(s->m, &l, NULL);
}

static void body_tails(const Simd *s, LLVMValueRef a, LLVMValueRef b, LLVMValueRef out,
		       LLVMValueRef n)
{
	static const DType type[] = { DT_f32, DT_bf16, DT_b1, DT_i8, DT_f16, DT_i64, DT_f8e4m3, DT_f8e5m2 };
	(void)b;
	for (u32 i = 0; i < COUNT(type); i++)
		copy_tail(s, type[i], cpu_at_byte(s->m, a, i64_(s, i * 1024)),
			  cpu_at_byte(s->m, out, i64_(s, i * 1024)), n);
}

static void check_tails(Run *run, u32 lanes)
{
	static const u32 size[] = { 4, 2, 1, 1, 2, 8, 1, 1 };
	(void)lanes;
	static u8 in[8 * 1024], out[sizeof in];
	for (u32 i = 0; i < sizeof in; i++)
		in[i] = (u8)(i * 37 % 120); /* no NaNs */
	for (u32 i = 2048; i < 3072; i++)
		in[i] &= 1;
	for (i64 n = 0; n < 40; n++) {
		memset(out, 0xee, sizeof out);
		run(in, in, out, n);
		for (u32 t = 0; t < 8; t++) {
			u32 end = (u32)n * size[t];
			assert_memory_equal(out + t * 1024, in + t * 1024, end);
			for (u32 i = end; i < 1024; i++)
				assert_int_equal(out[t * 1024 + i], 0xee);
		}
	}
}

static void test_tails(void **state)
{
	(void)state;
	on_targets(body_tails, check_tails);
}

/* ---- 16-bit floats ---- */

static void body_widen(const Simd *s, LLVMValueRef a, LLVMValueRef b, LLVMValueRef out,
		       LLVMValueRef n)
{
	(void)b;
	CpuLoop l;
	cpu_loop_begin(s->m, &l, i64_(s, 0), n, i64_(s, s->lanes), 0, NULL);
	simd_store(s, DT_f32, simd_load(s, DT_f16, at(s, DT_f16, a, l.index), 0),
		   at(s, DT_f32, out, l.index), 0);
	simd_store(s, DT_f32, simd_load(s, DT_bf16, at(s, DT_bf16, a, l.index), 0),
		   at(s, DT_f32, out, cpu_add(s->m, n, l.index)), 0);
	cpu_loop_end(s->m, &l, NULL);
}

static void check_widen(Run *run, u32 lanes)
{
	(void)lanes;
	u16 *in = NEWN(&arena, u16, 65536);
	u32 *out = NEWN(&arena, u32, 2 * 65536);
	for (u32 i = 0; i < 65536; i++)
		in[i] = (u16)i;
	run(in, in, out, 65536);
	for (u32 i = 0; i < 65536; i++) {
		assert_int_equal(out[i], f32_bits(f32_from_f16((u16)i)));
		assert_int_equal(out[65536 + i], i << 16);
	}
}

static void body_narrow(const Simd *s, LLVMValueRef a, LLVMValueRef b, LLVMValueRef out,
			LLVMValueRef n)
{
	(void)b;
	CpuLoop l;
	cpu_loop_begin(s->m, &l, i64_(s, 0), n, i64_(s, s->lanes), 0, NULL);
	LLVMValueRef x = simd_load(s, DT_f32, at(s, DT_f32, a, l.index), 0);
	simd_store(s, DT_f16, x, at(s, DT_f16, out, l.index), 0);
	simd_store(s, DT_bf16, x, at(s, DT_bf16, out, cpu_add(s->m, n, l.index)), 0);
	cpu_loop_end(s->m, &l, NULL);
}

static void check_narrow(Run *run, u32 lanes)
{
	(void)lanes;
	enum { N = 1 << 18 };
	u32 *in = NEWN(&arena, u32, N);
	u16 *out = NEWN(&arena, u16, 2 * N);
	for (u32 i = 0; i < N; i++)
		in[i] = i % 4 == 0   ? i << 14
			: i % 4 == 1 ? (i << 14) + 1 + i % 3
			: i % 4 == 2 ? i * 2654435761u
				     : 0x33000000 + i * 1103u; /* f16's range */
	run(in, in, out, N);
	for (u32 i = 0; i < N; i++) {
		f32 x = f32_from_bits(in[i]);
		assert_int_equal(out[i], f16_from_f32(x));
		assert_int_equal(out[N + i], bf16_from_f32(x));
	}
}

/* ---- 8-bit floats ---- */

static void body_widen_f8(const Simd *s, LLVMValueRef a, LLVMValueRef b, LLVMValueRef out, LLVMValueRef n)
{
	(void)b;
	CpuLoop l;
	cpu_loop_begin(s->m, &l, i64_(s, 0), n, i64_(s, s->lanes), 0, NULL);
	for (u32 i = 0; i < 2; i++) {
		DType d = i ? DT_f8e5m2 : DT_f8e4m3;
		LLVMValueRef to = at(s, DT_f32, out, i ? cpu_add(s->m, n, l.index) : l.index);
		simd_store(s, DT_f32, simd_load(s, d, at(s, d, a, l.index), 0), to, 0);
	}
	cpu_loop_end(s->m, &l, NULL);
}

static bool same_number(f32 a, f32 b)
{
	return f32_bits(a) == f32_bits(b) || (isnan(a) && isnan(b));
}

static void check_widen_f8(Run *run, u32 lanes)
{
	(void)lanes;
	u8 in[256];
	f32 out[512];
	for (u32 i = 0; i < 256; i++)
		in[i] = (u8)i;
	run(in, in, out, 256);
	for (u32 i = 0; i < 256; i++) {
		assert_true(same_number(out[i], f32_from_f8e4m3((u8)i)));
		assert_true(same_number(out[256 + i], f32_from_f8e5m2((u8)i)));
	}
}

static void body_narrow_f8(const Simd *s, LLVMValueRef a, LLVMValueRef b, LLVMValueRef out, LLVMValueRef n)
{
	(void)b;
	CpuLoop l;
	cpu_loop_begin(s->m, &l, i64_(s, 0), n, i64_(s, s->lanes), 0, NULL);
	LLVMValueRef x = simd_load(s, DT_f32, at(s, DT_f32, a, l.index), 0);
	simd_store(s, DT_f8e4m3, x, at(s, DT_f8e4m3, out, l.index), 0);
	simd_store(s, DT_f8e5m2, x, at(s, DT_f8e5m2, out, cpu_add(s->m, n, l.index)), 0);
	cpu_loop_end(s->m, &l, NULL);
}

/* Every pattern of the bits that are kept and of the two below them, with others below those; NaNs too, and infinities, which
 * are values of f8e5m2 that a store keeps: it is a cast that saturates. */
static void check_narrow_f8(Run *run, u32 lanes)
{
	(void)lanes;
	enum { N = 1 << 18 };
	u32 *in = NEWN(&arena, u32, N);
	u8 *out = NEWN(&arena, u8, 2 * N);
	for (u32 i = 0; i < N; i++)
		in[i] = i << 14 | (i % 3 == 0 ? 0 : i % 3 == 1 ? 1 : i * 2654435761u >> 18);
	run(in, in, out, N);
	for (u32 i = 0; i < N; i++) {
		assert_int_equal(out[i], f8e4m3_from_f32(f32_from_bits(in[i])));
		f32 x = f32_from_bits(in[i]);
		assert_int_equal(out[N + i], isinf(x) ? (x < 0 ? 0xfc : 0x7c) : f8e5m2_from_f32(x));
	}
}

static void test_half(void **state)
{
	(void)state;
	on_targets(body_widen_f8, check_widen_f8);
	on_targets(body_narrow_f8, check_narrow_f8);
	on_targets(body_widen, check_widen);
	on_targets(body_narrow, check_narrow);
}

/* ---- conversions, against dtype_round ---- */

static const DType convert_from[] = { DT_f64, DT_f64, DT_f32, DT_f16, DT_i32, DT_bf16, DT_f64, DT_f64, DT_f64, DT_f32, DT_f32, DT_f32,
				      DT_i32, DT_i32, DT_u32, DT_i64, DT_i8,  DT_u8,
				      DT_f32, DT_i32, DT_b1,  DT_u32, DT_f32, DT_f64 };
static const DType convert_to[] = { DT_f8e4m3, DT_f8e5m2, DT_f8e4m3, DT_f8e5m2, DT_f8e4m3, DT_f8e4m3, DT_f32,  DT_bf16, DT_f16, DT_i32, DT_u8,   DT_b1,
				    DT_f32,  DT_bf16, DT_f16, DT_f32, DT_bf16, DT_i64,
				    DT_bf16, DT_i8,   DT_f32, DT_f64, DT_f64,  DT_i32 };

/* a: for each pair, 64 values as f64 that the first type can hold; out: the result as f64 */
static void body_convert(const Simd *s, LLVMValueRef a, LLVMValueRef b, LLVMValueRef out,
			 LLVMValueRef n)
{
	(void)b;
	(void)n;
	for (u32 p = 0; p < COUNT(convert_from); p++) {
		CpuLoop l;
		cpu_loop_begin(s->m, &l, i64_(s, p * 64), i64_(s, p * 64 + 64), i64_(s, s->lanes),
			       0, NULL);
		LLVMValueRef x = simd_load(s, DT_f64, at(s, DT_f64, a, l.index), 0);
		x = simd_convert(s, DT_f64, convert_from[p], x);
		x = simd_convert(s, convert_from[p], convert_to[p], x);
		x = simd_convert(s, convert_to[p], DT_f64, x);
		simd_store(s, DT_f64, x, at(s, DT_f64, out, l.index), 0);
		cpu_loop_end(s->m, &l, NULL);
	}
}

static void check_convert(Run *run, u32 lanes)
{
	(void)lanes;
	static const f64 value[] = {
		0,
		1,
		-1,
		0.5,
		-0.5,
		1.5,
		2.5,
		-2.5,
		127,
		128,
		255,
		256,
		-129,
		300.7,
		-300.7,
		65504,
		65519,
		65520,
		1e5,
		2147483647,
		2147483648.0,
		-2147483648.0,
		4294967295.0,
		4294967297.5,
		16777217,
		16842753,
		33619969,
		1e-8,
		6e-8,
		3e-8,
		1e-40,
		1e30,
		1e-46,
		/* around ties of floats of 8 bits: subnormal, normal, the largest */
		0x1p-10,
		0x1p-10 + 0x1p-60,
		-0x3p-10,
		0x1p-17,
		1.0625,
		1.0625 + 0x1p-40,
		1.1875 - 0x1p-40,
		-1.125,
		1.375,
		463,
		464,
		57344,
		61440,
		/* halfway between two bf16, but for what f32 would round away */
		1.00390625,
		1.00390625 + 0x1p-40,
		1.01171875 - 0x1p-40,
		1.00048828125 + 0x1p-40,
		1.00146484375 - 0x1p-40,
		3.3895313892515355e38,
		3.4e38,
	};
	f64 in[COUNT(convert_from) * 64], out[COUNT(in)];
	for (u32 p = 0; p < COUNT(convert_from); p++)
		for (u32 i = 0; i < 64; i++) {
			f64 x = value[i % COUNT(value)];
			if (convert_from[p] == DT_i64 && fabs(x) > 0x1p63)
				x = -3;
			in[p * 64 + i] = dtype_round(convert_from[p], x);
		}
	run(in, in, out, 0);
	for (u32 i = 0; i < COUNT(in); i++) {
		f64 want = dtype_round(convert_to[i / 64], in[i]);
		if (out[i] != want)
			fail_msg("%s to %s: %a gives %a, not %a",
				 dtype_info[convert_from[i / 64]].name,
				 dtype_info[convert_to[i / 64]].name, in[i], out[i], want);
	}
}

static void test_convert(void **state)
{
	(void)state;
	on_targets(body_convert, check_convert);
}

/* ---- integers, min and max, sign ---- */

enum { ARITHMETIC = 10 };
static void body_arithmetic(const Simd *s, LLVMValueRef a, LLVMValueRef b, LLVMValueRef out,
			    LLVMValueRef n)
{
	CpuLoop l;
	cpu_loop_begin(s->m, &l, i64_(s, 0), n, i64_(s, s->lanes), 0, NULL);
	LLVMValueRef x = simd_load(s, DT_i32, at(s, DT_i32, a, l.index), 0);
	LLVMValueRef y = simd_load(s, DT_i32, at(s, DT_i32, b, l.index), 0);
	LLVMValueRef f = simd_bits(s, DT_f32, x), g = simd_bits(s, DT_f32, y);
	LLVMValueRef r[ARITHMETIC] = {
		simd_floordiv(s, DT_i32, x, y), simd_mod(s, DT_i32, x, y),
		simd_floordiv(s, DT_u32, x, y), simd_mod(s, DT_u32, x, y),
		simd_abs(s, DT_i32, x),         simd_sign(s, DT_i32, x),
		simd_max(s, DT_u32, x, y),      simd_min(s, DT_i32, x, y),
		simd_max(s, DT_f32, f, g),      simd_min(s, DT_f32, f, g),
	};
	for (u32 i = 0; i < ARITHMETIC; i++) {
		LLVMValueRef to = cpu_add(s->m, l.index, cpu_mul(s->m, n, i64_(s, i)));
		simd_store(s, i < 8 ? DT_i32 : DT_f32, r[i], at(s, DT_i32, out, to), 0);
	}
	cpu_loop_end(s->m, &l, NULL);
}

static f32 max_of(f32 a, f32 b)
{
	return a > b || a != a ? a : b;
}

static f32 min_of(f32 a, f32 b)
{
	return a < b || a != a ? a : b;
}

static void check_arithmetic(Run *run, u32 lanes)
{
	(void)lanes;
	static const u32 value[] = { 0,          1,          2,          7,
				     0xffffffff, 0xfffffff9, 100,        0x7fffffff,
				     0x80000000, 0x80000001, 0x3f800000, 0xbf800000,
				     0x7fc00000, 0x7f800000, 0xff800000, 13 };
	enum { N = COUNT(value) * COUNT(value) };
	u32 x[N], y[N], out[ARITHMETIC * N];
	for (u32 i = 0; i < N; i++) {
		x[i] = value[i / COUNT(value)];
		y[i] = value[i % COUNT(value)];
	}
	run(x, y, out, N);
	for (u32 i = 0; i < N; i++) {
		i64 a = (i32)x[i], b = (i32)y[i];
		i64 q = b ? (i64)floor((f64)a / (f64)b) : 0;
		assert_int_equal(out[i], (u32)q);
		assert_int_equal(out[N + i], b ? (u32)(a - q * b) : 0);
		assert_int_equal(out[2 * N + i], y[i] ? x[i] / y[i] : 0);
		assert_int_equal(out[3 * N + i], y[i] ? x[i] % y[i] : 0);
		assert_int_equal(out[4 * N + i], (u32)(a < 0 ? -a : a));
		assert_int_equal((i32)out[5 * N + i], (a > 0) - (a < 0));
		assert_int_equal(out[6 * N + i], MAX(x[i], y[i]));
		assert_int_equal((i32)out[7 * N + i], MIN(a, b));
		f32 f = f32_from_bits(x[i]), g = f32_from_bits(y[i]);
		assert_int_equal(out[8 * N + i], f32_bits(max_of(f, g)));
		assert_int_equal(out[9 * N + i], f32_bits(min_of(f, g)));
	}
}

static void test_arithmetic(void **state)
{
	(void)state;
	on_targets(body_arithmetic, check_arithmetic);
}

/* ---- across lanes ---- */

enum {
	SUM_AT = 0,
	MAX_AT = 1,
	MIN_AT = 2,
	IMAX_AT = 3,
	GATHER_AT = 16,
	STRIDED_AT = 32,
	MASKED_AT = 48,
	SCATTER_AT = 64,
	SPLAT_AT = 160,
	STREAM_AT = 176,
	TRANSPOSED_AT = 256
};

static void body_lanes(const Simd *s, LLVMValueRef a, LLVMValueRef b, LLVMValueRef out,
		       LLVMValueRef n)
{
	CpuModule *m = s->m;
	Simd one = { m, 1 };
	LLVMValueRef x = simd_load(s, DT_f32, a, 0), index = simd_load(s, DT_i32, b, 0), row[16];
	simd_store(&one, DT_f32, simd_reduce_add(s, x), at(s, DT_f32, out, i64_(s, SUM_AT)), 0);
	simd_store(&one, DT_f32, simd_reduce_max(s, DT_f32, x), at(s, DT_f32, out, i64_(s, MAX_AT)),
		   0);
	simd_store(&one, DT_f32, simd_reduce_min(s, DT_f32, x), at(s, DT_f32, out, i64_(s, MIN_AT)),
		   0);
	simd_store(&one, DT_i32, simd_reduce_max(s, DT_i32, index),
		   at(s, DT_i32, out, i64_(s, IMAX_AT)), 0);
	LLVMValueRef mask = simd_lt(s, DT_i32, index, simd_i32(s, 100));
	simd_store(s, DT_f32, simd_gather(s, DT_f32, a, index, NULL),
		   at(s, DT_f32, out, i64_(s, GATHER_AT)), 0);
	/* lanes that are off may point anywhere */
	LLVMValueRef wild = simd_select(s, mask, index, simd_i32(s, 1 << 30));
	simd_store(s, DT_f32, simd_gather(s, DT_f32, a, wild, mask),
		   at(s, DT_f32, out, i64_(s, MASKED_AT)), 0);
	simd_scatter(s, DT_f32, x, at(s, DT_f32, out, i64_(s, SCATTER_AT)), wild,
		     simd_and(s, mask, simd_lt(s, DT_i32, index, simd_i32(s, 90))));
	simd_store(s, DT_f32, simd_load_strided(s, DT_f32, a, n, NULL),
		   at(s, DT_f32, out, i64_(s, STRIDED_AT)), 0);
	simd_store(s, DT_f32, simd_load_splat(s, DT_f32, at(s, DT_f32, a, i64_(s, 5))),
		   at(s, DT_f32, out, i64_(s, SPLAT_AT)), 0);
	simd_store_stream(s, DT_f32, x, at(s, DT_f32, out, i64_(s, STREAM_AT)), 4 * s->lanes);
	simd_store_fence(s);
	simd_prefetch(s, a, 1, false);
	simd_prefetch(s, out, 2, true);
	for (u32 i = 0; i < s->lanes; i++)
		row[i] = simd_load(s, DT_f32, at(s, DT_f32, a, i64_(s, i * s->lanes)), 0);
	simd_transpose(s, row);
	for (u32 i = 0; i < s->lanes; i++)
		simd_store(s, DT_f32, row[i],
			   at(s, DT_f32, out, i64_(s, TRANSPOSED_AT + i * s->lanes)), 0);
}

static f32 tree_sum(const f32 *x, u32 n)
{
	f32 t[16];
	memcpy(t, x, n * sizeof *t);
	for (u32 h = n / 2; h; h /= 2)
		for (u32 i = 0; i < h; i++)
			t[i] = t[i] + t[i + h];
	return t[0];
}

static void check_lanes(Run *run, u32 lanes)
{
	_Alignas(64) static f32 x[1024], out[1024];
	i32 index[16] = { 0 };
	for (u32 i = 0; i < COUNT(x); i++)
		x[i] = sinf((f32)i) * ldexpf(1, (int)(i * 7 % 20));
	f32 largest = x[0], smallest = x[0];
	i32 most = 0;
	for (u32 i = 0; i < lanes; i++) {
		index[i] = (i32)((i * 29 + 41) % 128);
		largest = fmaxf(largest, x[i]);
		smallest = fminf(smallest, x[i]);
		most = MAX(most, index[i]);
	}
	memset(out, 0, sizeof out);
	run(x, index, out, 3);
	assert_true(out[SUM_AT] == tree_sum(x, lanes));
	assert_true(out[MAX_AT] == largest && out[MIN_AT] == smallest);
	assert_int_equal(f32_bits(out[IMAX_AT]), most);
	for (u32 i = 0; i < lanes; i++) {
		assert_true(out[GATHER_AT + i] == x[index[i]]);
		assert_true(out[MASKED_AT + i] == (index[i] < 100 ? x[index[i]] : 0));
		if (index[i] < 90)
			assert_true(out[SCATTER_AT + index[i]] == x[i]);
		assert_true(out[STRIDED_AT + i] == x[3 * i]);
		assert_true(out[SPLAT_AT + i] == x[5]);
		assert_true(out[STREAM_AT + i] == x[i]);
		for (u32 j = 0; j < lanes; j++)
			assert_true(out[TRANSPOSED_AT + i * lanes + j] == x[j * lanes + i]);
	}
}

static void test_lanes(void **state)
{
	(void)state;
	on_targets(body_lanes, check_lanes);
}

/* ---- products of pairs of bf16: the definition, to the bit ---- */

static void body_pairs(const Simd *s, LLVMValueRef a, LLVMValueRef b, LLVMValueRef out, LLVMValueRef n)
{
	CpuLoop l;
	LLVMValueRef zero = simd_constant(s, DT_f32, 0);
	cpu_loop_begin(s->m, &l, i64_(s, 0), n, i64_(s, 1), 1, &zero);
	LLVMValueRef row = cpu_mul(s->m, l.index, i64_(s, s->lanes));
	LLVMValueRef x = simd_load(s, DT_i32, at(s, DT_i32, a, row), 0), y = simd_load(s, DT_i32, at(s, DT_i32, b, row), 0);
	LLVMValueRef next = simd_dot_bf16(s, l.carried[0], x, y);
	cpu_loop_end(s->m, &l, &next);
	simd_store(s, DT_f32, l.carried[0], out, 0);
}

static void check_pairs(Run *run, u32 lanes)
{
	enum { N = 37 };
	u16 a[N * 64][2] = { 0 }, b[N * 64][2] = { 0 };
	f32 out[64];
	for (u32 i = 0; i < N * lanes; i++)
		for (u32 h = 0; h < 2; h++) {
			a[i][h] = bf16_from_f32((f32)((i * 37 + h * 11) % 101) / 7 - 6);
			b[i][h] = bf16_from_f32((f32)((i * 53 + h * 29) % 97) / 9 - 5);
		}
	run(a, b, out, N);
	for (u32 j = 0; j < lanes; j++) {
		f32 sum = 0;
		for (u32 i = j; i < N * lanes; i += lanes)
			for (u32 h = 2; h-- > 0;)
				sum = fmaf(f32_from_bf16(a[i][h]), f32_from_bf16(b[i][h]), sum);
		assert_true(out[j] == sum);
	}
}

static void test_pairs(void **state)
{
	(void)state;
	on_targets(body_pairs, check_pairs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tails),   cmocka_unit_test(test_half),
		cmocka_unit_test(test_convert), cmocka_unit_test(test_arithmetic),
		cmocka_unit_test(test_lanes),   cmocka_unit_test(test_pairs),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	arena_free(&arena);
	return failed;
}
