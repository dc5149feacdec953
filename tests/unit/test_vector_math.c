/* Vectors against C: functions of f32 against libm in f64, in units in the last place, over samples
 * of all f32 and where special things happen; with the host's lanes, with AVX2, without fma and
 * with one lane. Philox against the known answers of Random123. */
#include "codegen/cpu/vector.h"
#include "ir/philox.h"
#include "kernel_code.h"

#include <math.h>
#include <float.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static Arena arena = ARENA("test");

/* ---- compiling a kernel of n inputs for some CPU and lanes ---- */

typedef struct Target {
	const char *cpu;
	u32 lanes; /* 0: the machine's */
} Target;

#if defined(__x86_64__)
static const Target targets[] = {
	{ NULL, 0 }, { NULL, 1 }, { "haswell", 0 }, { "x86-64", 0 }, { "x86-64", 1 },
};
#else
static const Target targets[] = { { NULL, 0 }, { NULL, 1 } };
#endif

typedef struct Kernel {
	void (*body)(const Simd *s, LLVMValueRef in, LLVMValueRef other, LLVMValueRef out);
	const void *argument;
	u32 lanes, step; /* elements in a turn */
} Kernel;

/* void run(in, other, out, n): the body at every `step` elements' addresses, as 4-byte elements */
static void emit(CpuModule *m, const void *argument)
{
	const Kernel *k = argument;
	CpuParameter p[] = { { .type = m->pointer, .noalias = true },
			     { .type = m->pointer, .noalias = true },
			     { .type = m->pointer, .noalias = true },
			     { .type = m->i64 } };
	cpu_function_begin(m, "run", m->none, COUNT(p), p, false);
	Simd s = { m, k->lanes };
	CpuLoop l;
	cpu_loop_begin(m, &l, cpu_i64(m, 0), cpu_parameter(m, 3), cpu_i64(m, k->step), 0, NULL);
	LLVMValueRef at[3];
	for (u32 i = 0; i < 3; i++)
		at[i] = cpu_at(m, m->f32, cpu_parameter(m, i), l.index);
	k->body(&s, at[0], at[1], at[2]);
	cpu_loop_end(m, &l, NULL);
	cpu_function_end(m, NULL);
}

typedef void Run(const void *in, const void *other, void *out, i64 n);

typedef struct Loaded {
	CpuCompiler *compiler;
	CpuCodeImage *image;
	Run *run;
	u32 lanes;
} Loaded;

static u32 lanes_of(const Target *t)
{
	CpuMachine machine;
	assert_null(cpu_machine(t->cpu, &machine));
	return t->lanes ? t->lanes : machine.lanes;
}

/* False where the machine at hand cannot run it. */
static bool compile(const Target *t, Kernel k, Loaded *out)
{
	CpuOptions o = { .cpu = t->cpu };
	assert_null(cpu_compiler_create(&o, &out->compiler));
	const CpuMachine *machine = cpu_compiler_machine(out->compiler);
	if (!machine->runs_here) {
		cpu_compiler_destroy(out->compiler);
		return false;
	}
	CpuUnit unit = { "kernel", .emit = emit, .argument = &k };
	out->lanes = k.lanes;
	out->image = load_unit(out->compiler, &arena, &unit, "run");
	out->run = (Run *)(uintptr_t)cpu_code_find(out->image, "run");
	assert_non_null(out->run);
	return true;
}

static void unload(Loaded *l)
{
	cpu_code_unload(l->image);
	cpu_compiler_destroy(l->compiler);
}

/* ---- functions ---- */

static f64 sigmoid(f64 x)
{
	return 1 / (1 + exp(-x));
}

static f64 rsqrt(f64 x)
{
	return 1 / sqrt(x);
}

static f64 binade(f64 x)
{
	int e;
	frexp(x, &e);
	return x == 0 || isnan(x) || isinf(x) ? fabs(x) : ldexp(1, e - 1);
}

static f64 recip(f64 x)
{
	return 1 / x;
}

/* name, bound in ulp (what vector.h says), the interval where most samples lie */
#define FUNCTIONS(F)                                                                               \
	F(exp, 1, -105, 90)                                                                        \
	F(exp2, 1.25, -151, 129)                                                                   \
	F(expm1, 1.5, -20, 90)                                                                     \
	F(log, 1, 0, 4)                                                                            \
	F(log2, 1.6, 0, 4)                                                                         \
	F(log1p, 1.5, -1, 4)                                                                       \
	F(tanh, 1.5, -10, 10)                                                                      \
	F(sigmoid, 2, -105, 20)                                                                  \
	F(erf, 1.5, -4, 4)                                                                         \
	F(sin, 1.5, -1e5f, 1e5f)                                                                   \
	F(cos, 1.5, -1e5f, 1e5f)                                                                   \
	F(sqrt, 0.5001, 0, 4)                                                                      \
	F(rsqrt, 1.5, 0, 4)                                                                        \
	F(recip, 0.5001, -4, 4)                                                                    \
	F(floor, 0, -100, 100)                                                                     \
	F(binade, 0, -1e-37f, 1e-37f)                                                              \
	F(ceil, 0, -100, 100)                                                                      \
	F(trunc, 0, -100, 100)                                                                     \
	F(round, 0, -100, 100)

#define BODY(name, bound, low, high)                                                               \
	static void body_##name(const Simd *s, LLVMValueRef in, LLVMValueRef other,                \
				LLVMValueRef out)                                                  \
	{                                                                                          \
		(void)other;                                                                       \
		simd_store(s, DT_f32, simd_##name(s, simd_load(s, DT_f32, in, 0)), out, 0);        \
	}
FUNCTIONS(BODY)

#define round nearbyint
static const struct {
	const char *name;
	void (*body)(const Simd *s, LLVMValueRef in, LLVMValueRef other, LLVMValueRef out);
	f64 (*reference)(f64);
	f64 bound;
	f32 low, high;
} functions[] = {
#define ROW(name, bound, low, high) { #name, body_##name, name, bound, low, high },
	FUNCTIONS(ROW)
};
#undef round

static f32 from_bits(u32 bits)
{
	f32 x;
	memcpy(&x, &bits, sizeof x);
	return x;
}

static u32 to_bits(f32 x)
{
	u32 bits;
	memcpy(&bits, &x, sizeof bits);
	return bits;
}

/* Distance in units in the last place of the reference, rounded to f32; 0 when both are the same
 * special value, infinity when only one is. */
static f64 ulps(f32 got, f64 want)
{
	f32 rounded = (f32)want;
	if (isnan(want) || isnan(got))
		return isnan(want) && isnan(got) ? 0 : INFINITY;
	if (got == rounded)
		return got == 0 && want == 0 && !signbit(got) != !signbit(want) ? INFINITY
		       : isinf(got)                                             ? 0
				    : fabs((f64)got - want) /
					      ldexp(1, MAX(ilogb(want ? want : 1), -126) - 23);
	if (isinf(rounded) || isinf(got)) /* next to each other is one ulp */
		return fabs((f64)(isinf(got) ? rounded : got)) == FLT_MAX ? 1 : INFINITY;
	return fabs((f64)got - want) / ldexp(1, MAX(ilogb(want ? want : FLT_MIN), -126) - 23);
}

enum { EDGES = 4096, SAMPLES = 1 << 17 };

static u64 random_state = 88172645463325252u;
static u32 random_bits(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (u32)(random_state >> 16);
}

/* Special values, their neighbours, powers of two and multiples of pi/2 and theirs; then half of
 * all bits, half of the interval. */
static u32 inputs(f32 *x, u32 n, f32 low, f32 high)
{
	static const f32 special[] = {
		0,       1,         2,         0.5f,           INFINITY,      FLT_MAX,
		FLT_MIN, 0x1p-149f, 88.72284f, 103.97208f,     87.33655f,     128,
		126,     149,       150,       9.010914f,      3.9192059f,    0x1p20f,
		0x1p21f, 0x1p24f,   1e5f,      0x1.6a09e6p-1f, 0x1.6a09e6p0f, 0.95f,
		2.5f,    0x1p-24f,  0x1p-12f
	};
	u32 at = 0;
	for (u32 i = 0; i < COUNT(special); i++)
		for (i32 d = -3; d <= 3; d++) {
			u32 bits = to_bits(special[i]) + (u32)d;
			if ((i32)bits < 0)
				continue;
			x[at++] = from_bits(bits);
			x[at++] = -from_bits(bits);
		}
	x[at++] = NAN;
	x[at++] = -NAN;
	for (i32 e = -149; e < 128; e++)
		x[at++] = ldexpf(1, e), x[at++] = -ldexpf(1.5f, e);
	for (u32 k = 1; at < EDGES - 8; k += 1 + k / 100)
		for (i32 d = -1; d <= 1; d++)
			x[at++] = from_bits(to_bits((f32)(k * 1.5707963267948966)) + (u32)d);
	for (u32 i = at; i < n; i++)
		x[i] = i & 1 ? from_bits(random_bits())
			     : low + (high - low) * (f32)(random_bits() >> 8) * 0x1p-24f;
	return n;
}

static void test_functions(void **state)
{
	(void)state;
	const char *verbose = getenv("PLINTH_TEST_VERBOSE"), *more = getenv("PLINTH_TEST_SAMPLES");
	u32 n = more ? (u32)strtoul(more, NULL, 0) & ~63u : SAMPLES;
	f32 *x = NEWN(&arena, f32, n), *y = NEWN(&arena, f32, n);
	f64 *want = NEWN(&arena, f64, n);
	bool good = true;
	for (u32 f = 0; f < COUNT(functions); f++) {
		inputs(x, n, functions[f].low, functions[f].high);
		for (u32 i = 0; i < n; i++)
			want[i] = functions[f].reference((f64)x[i]);
		for (u32 t = 0; t < COUNT(targets); t++) {
			Loaded l;
			u32 lanes = lanes_of(&targets[t]);
			if (!compile(&targets[t], (Kernel){ functions[f].body, NULL, lanes, lanes },
				     &l))
				continue;
			l.run(x, x, y, n);
			unload(&l);
			f64 worst = 0;
			u32 where = 0;
			for (u32 i = 0; i < n; i++) {
				f64 error = ulps(y[i], want[i]);
				if (error > worst)
					worst = error, where = i;
			}
			bool fails = worst > functions[f].bound;
			if (fails || verbose)
				printf("%-8s %s/%u: %.4f ulp at %a: %a, should be %a\n",
				       functions[f].name, targets[t].cpu ? targets[t].cpu : "host",
				       lanes, worst, x[where], y[where], (f32)want[where]);
			good &= !fails;
		}
	}
	assert_true(good);
}

/* The bits in which the two differ. */
static void body_exp_normal(const Simd *s, LLVMValueRef in, LLVMValueRef other, LLVMValueRef out)
{
	(void)other;
	LLVMValueRef x = simd_load(s, DT_f32, in, 0);
	LLVMValueRef y = simd_bits(s, DT_i32, simd_exp(s, x)), z = simd_bits(s, DT_i32, simd_exp_normal(s, x));
	simd_store(s, DT_i32, simd_xor(s, y, z), out, 0);
}

static void test_exp_normal(void **state)
{
	(void)state;
	u32 n = SAMPLES, *y = NEWN(&arena, u32, n);
	f32 *x = NEWN(&arena, f32, n);
	inputs(x, n, -87, 88);
	for (u32 i = 0; i < n; i++)
		x[i] = x[i] < -87 || x[i] > 88 ? 0 : x[i];
	for (u32 t = 0; t < COUNT(targets); t++) {
		Loaded l;
		u32 lanes = lanes_of(&targets[t]);
		if (!compile(&targets[t], (Kernel){ body_exp_normal, NULL, lanes, lanes }, &l))
			continue;
		l.run(x, x, y, n);
		unload(&l);
		for (u32 i = 0; i < n; i++)
			assert_int_equal(y[i], 0);
	}
}

static void body_pow(const Simd *s, LLVMValueRef in, LLVMValueRef other, LLVMValueRef out)
{
	LLVMValueRef x = simd_load(s, DT_f32, in, 0), y = simd_load(s, DT_f32, other, 0);
	simd_store(s, DT_f32, simd_pow(s, x, y), out, 0);
}

static void test_pow(void **state)
{
	(void)state;
	static const f32 special[] = { 0,
				       1,
				       2,
				       3,
				       0.5f,
				       0.1f,
				       1.5f,
				       INFINITY,
				       NAN,
				       FLT_MAX,
				       FLT_MIN,
				       0x1p-149f,
				       0x1p23f,
				       0x1p24f,
				       0x1.000002p23f,
				       0x1.fffffep-1f,
				       0x1.000002p0f,
				       1e4f,
				       127,
				       128,
				       149,
				       151,
				       33 };
	enum { N = 1 << 16 };
	f32 *x = NEWN(&arena, f32, N), *y = NEWN(&arena, f32, N), *z = NEWN(&arena, f32, N);
	u32 at = 0;
	for (u32 i = 0; i < COUNT(special); i++)
		for (u32 j = 0; j < COUNT(special); j++)
			for (u32 sign = 0; sign < 4; sign++) {
				x[at] = sign & 1 ? -special[i] : special[i];
				y[at++] = sign & 2 ? -special[j] : special[j];
			}
	for (; at < N; at++) {
		x[at] = from_bits(random_bits() & 0x7fffffff);
		/* so that the result is a number, mostly */
		f32 range = 150 / (fabsf(log2f(x[at])) + 1e-3f);
		y[at] = range * ((f32)(random_bits() >> 8) * 0x1p-23f - 1);
	}
	for (u32 t = 0; t < COUNT(targets); t++) {
		Loaded l;
		u32 lanes = lanes_of(&targets[t]);
		if (!compile(&targets[t], (Kernel){ body_pow, NULL, lanes, lanes }, &l))
			continue;
		l.run(x, y, z, N);
		unload(&l);
		f64 worst = 0;
		u32 where = 0;
		for (u32 i = 0; i < N; i++) {
			f64 error = ulps(z[i], pow((f64)x[i], (f64)y[i]));
			if (error > worst)
				worst = error, where = i;
		}
		if (worst > 0.51 || getenv("PLINTH_TEST_VERBOSE"))
			printf("pow %s/%u: %.4f ulp at %a ** %a: %a\n",
			       targets[t].cpu ? targets[t].cpu : "host", lanes, worst, x[where],
			       y[where], z[where]);
		assert_true(worst <= 0.51);
	}
}

/* f64 is libm's own. */
static void body_f64(const Simd *s, LLVMValueRef in, LLVMValueRef other, LLVMValueRef out)
{
	LLVMValueRef x = simd_load(s, DT_f64, in, 8), y = simd_load(s, DT_f64, other, 8);
	LLVMValueRef sum = simd_add(s, simd_exp(s, x), simd_pow(s, simd_abs(s, DT_f64, x), y));
	sum = simd_add(s, sum, simd_erf(s, y));
	simd_store(s, DT_f64, simd_mul(s, sum, simd_rsqrt(s, simd_exp(s, y))), out, 8);
}

static void test_f64(void **state)
{
	(void)state;
	f64 x[32], y[32], z[32];
	for (u32 i = 0; i < 32; i++)
		x[i] = (i - 15.5) / 3, y[i] = (i * 7 % 32 - 15.5) / 4;
	for (u32 t = 0; t < COUNT(targets); t++) {
		Loaded l;
		u32 lanes = lanes_of(&targets[t]);
		if (!compile(&targets[t], (Kernel){ body_f64, NULL, lanes, 2 * lanes }, &l))
			continue;
		l.run(x, y, z, 64);
		unload(&l);
		for (u32 i = 0; i < 32; i++) {
			f64 want = (exp(x[i]) + pow(fabs(x[i]), y[i])) + erf(y[i]);
			assert_true(z[i] == want * (1 / sqrt(exp(y[i]))));
		}
	}
}

/* ---- Philox ---- */

/* in: 6 words of counter and key per lane, as six arrays of `lanes`; out: four. */
static void body_philox(const Simd *s, LLVMValueRef in, LLVMValueRef other, LLVMValueRef out)
{
	(void)other;
	LLVMValueRef word[6], result[4];
	for (u32 i = 0; i < 6; i++)
		word[i] = simd_load(s, DT_u32,
				    cpu_at(s->m, s->m->i32, in, cpu_i64(s->m, i * s->lanes)), 0);
	simd_philox(s, word, word + 4, result);
	for (u32 i = 0; i < 4; i++)
		simd_store(s, DT_u32, result[i],
			   cpu_at(s->m, s->m->i32, out, cpu_i64(s->m, i * s->lanes)), 0);
}

static const u32 known_answers[3][10] = {
	{ 0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 },
	{ 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d,
	  0x41c83b0e, 0xa20bc7c6, 0x6d5451fd },
	{ 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09,
	  0x94fdcceb, 0x5001e420, 0x24126ea1 },
};

static void test_philox(void **state)
{
	(void)state;
	for (u32 t = 0; t < COUNT(targets); t++) {
		Loaded l;
		u32 lanes = lanes_of(&targets[t]);
		if (!compile(&targets[t], (Kernel){ body_philox, NULL, lanes, lanes }, &l))
			continue;
		for (u32 first = 0; first < 3; first++) {
			u32 in[6 * 16], out[4 * 16];
			for (u32 j = 0; j < lanes; j++)
				for (u32 i = 0; i < 6; i++)
					in[i * lanes + j] = known_answers[(first + j) % 3][i];
			l.run(in, in, out, lanes);
			for (u32 j = 0; j < lanes; j++)
				for (u32 i = 0; i < 4; i++)
					assert_int_equal(out[i * lanes + j],
							 known_answers[(first + j) % 3][6 + i]);
		}
		unload(&l);
	}
}

#define KEY  0x0123456789abcdef
#define STEP 0x500000003

/* simd_random for elements 4 * lanes at a time, and as uniform numbers */
static void body_random(const Simd *s, LLVMValueRef in, LLVMValueRef other, LLVMValueRef out)
{
	CpuModule *m = s->m;
	LLVMValueRef key = cpu_i64(m, KEY), step = cpu_i64(m, STEP), four[4];
	LLVMValueRef first = simd_load(&(Simd){ m, 1 }, DT_i64, in, 4);
	(void)other;
	simd_random4(s, key, step, first, four);
	for (u32 i = 0; i < 4; i++) {
		LLVMValueRef at = cpu_at(m, m->i32, out, cpu_i64(m, i * s->lanes));
		simd_store(s, DT_u32, four[i], at, 0);
		LLVMValueRef element = cpu_add(m, first, cpu_i64(m, i * s->lanes));
		element = simd_add(s, simd_splat(s, element), simd_iota(s, DT_i64));
		at = cpu_at(m, m->i32, out, cpu_i64(m, (4 + i) * s->lanes));
		simd_store(s, DT_u32, simd_random(s, key, step, element), at, 0);
		at = cpu_at(m, m->i32, out, cpu_i64(m, (8 + i) * s->lanes));
		simd_store(s, DT_f32, simd_uniform(s, four[i]), at, 0);
	}
}

static void test_random(void **state)
{
	(void)state;
	for (u32 t = 0; t < COUNT(targets); t++) {
		Loaded l;
		u32 lanes = lanes_of(&targets[t]);
		if (!compile(&targets[t], (Kernel){ body_random, NULL, lanes, 1 }, &l))
			continue;
		i64 first[] = { 0, 64, ((i64)1 << 34) - 32 };
		for (u32 f = 0; f < COUNT(first); f++) {
			u32 out[12 * 16];
			l.run(&first[f], NULL, out, 1);
			for (u32 i = 0; i < 4 * lanes; i++) {
				u64 e = (u64)first[f] + i;
				u32 c[] = { (u32)(e / 4), (u32)(e / 4 >> 32), (u32)STEP,
					    (u32)((u64)STEP >> 32) };
				u32 key[] = { (u32)KEY, (u32)((u64)KEY >> 32) }, want[4];
				philox4x32_10(c, key, want);
				assert_int_equal(out[i], want[e % 4]);
				assert_int_equal(out[4 * lanes + i], want[e % 4]);
				f32 u = from_bits(out[8 * lanes + i]);
				assert_true(u == philox_uniform(KEY, STEP, e));
			}
		}
		unload(&l);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_functions), cmocka_unit_test(test_exp_normal), cmocka_unit_test(test_pow),
		cmocka_unit_test(test_f64),       cmocka_unit_test(test_philox),
		cmocka_unit_test(test_random),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	arena_free(&arena);
	return failed;
}
