/* Scalar functions and conversions of the CUDA target over all of their range, special values included, against
 * ir/scalar.def in f64: transcendental functions to a few units in the last place, all else to the bit. */
#include "cuda_run.h"

enum { N = 4096 };

/* Zeros, infinities, NaN, the ends of every kind of number, and numbers of every size. */
static f64 *floats(Suite *s, Random *r, DType d)
{
	static const f64 special[] = { 0.0, -0.0, 1, -1, 0.5, -0.5, 1.5, -1.5, 2.5, 1e-45, -1e-45, 0x1p-126, -0x1p-126,
				       0x1.fffffep127, -0x1.fffffep127, 2147483647, -2147483648.0, 2147483648.0, 4294967295.0,
				       4294967296.0, 0x1p63, -0x1p63, 0x1p40, -0x1.8p35, 65504, 65520, 88.7, -103.9, 48000, 47999.9,
				       105615, 255, 256, -129, 127.99, INFINITY, -INFINITY, NAN,
				       /* what two roundings would get wrong */
				       1 + 0x1p-8 + 0x1p-40, 1 + 0x1p-11 + 0x1p-40, -1 - 0x1p-8 - 0x1p-50 };
	f64 *x = NEWN(&s->arena, f64, N);
	for (u32 i = 0; i < N; i++) {
		f64 size = ldexp(1 + random_unit(r), (int)random_int(r, i % 2 ? -149 : -12, i % 2 ? 127 : 12));
		x[i] = dtype_round(d, i < COUNT(special) ? special[i] : random_chance(r, 0.5) ? size : -size);
	}
	return x;
}

static f64 *integers(Suite *s, Random *r, DType d)
{
	static const f64 special[] = { 0, 1, -1, 2, -2, 3, -3, 7, -7, 127, 128, -128, 255, 2147483647, -2147483648.0,
				       /* what two roundings would get wrong */
				       0x1p30 + 0x1p22 + 1, 0x1p40 + 0x1p32 + 1, -0x1p31 + 0x1p23 - 1, 0x1p15 + 0x1p4 };
	f64 *x = NEWN(&s->arena, f64, N);
	for (u32 i = 0; i < N; i++) {
		f64 any = random_chance(r, 0.5) ? (f64)random_int(r, -20, 20) : (f64)random_int(r, -(1ll << 52), 1ll << 52);
		x[i] = dtype_round(d, i < COUNT(special) ? special[i] : random_chance(r, 0.1) ? special[random_int(r, 0, COUNT(special) - 1)] : any);
	}
	return x;
}

static KVal given(Suite *s, Kernel *k, Random *r, DType d, const f64 **values)
{
	*values = dtype_is_float(d) ? floats(s, r, d) : integers(s, r, d);
	return kb_load(k, ACCESS(kb_slot(k, d, N), 0, 1), NO);
}

static void keep(Kernel *k, KVal x)
{
	kb_store(k, ACCESS(kb_slot(k, (DType)k->inst.v[x.i].dtype, N), 0, 1), x, NO);
}

static void add_function(Suite *s, Random *r, Scalar f, DType d, f64 ulps)
{
	Kernel *k = suite_kernel(s, KERNEL_MAP, arena_printf(&s->arena, "%s of %s", kernel_scalar[f].name, dtype_info[d].name));
	const f64 *values[3];
	KVal x[3] = { 0 };
	kb_dim(k, DIM_PARALLEL, N);
	for (u32 i = 0; i < kernel_scalar[f].nin; i++)
		x[i] = given(s, k, r, d, &values[i]);
	keep(k, kb_op3(k, f, x[0], x[1], x[2]));
	/* the smallest numbers of f32 have fewer digits */
	Case *c = suite_add(s, k, ulps, ulps ? 0x1p-126 : 0);
	for (u32 i = 0; i < kernel_scalar[f].nin; i++)
		c->given[i] = values[i];
}

static void test_floats(void **state)
{
	(void)state;
	Suite s = { 0 };
	suite_kernel(&s, KERNEL_MAP, "");
	Random r = random_new(&s.arena, 19);
	static const struct {
		Scalar f;
		f64 ulps;
	} function[] = { { S_exp, 2 },  { S_log, 2 },   { S_sqrt, 0 },    { S_rsqrt, 2 }, { S_recip, 0 }, { S_sin, 2 },   { S_cos, 2 },
			 { S_tanh, 2 }, { S_erf, 2 },   { S_sigmoid, 4 }, { S_floor, 0 }, { S_binade, 0 }, { S_ceil, 0 },  { S_round, 0 }, { S_abs, 0 },
			 { S_sign, 0 }, { S_neg, 0 },   { S_min, 0 },     { S_max, 0 },   { S_add, 0 },   { S_sub, 0 },   { S_mul, 0 },
			 { S_div, 0 },  { S_lt, 0 },    { S_le, 0 },      { S_eq, 0 },    { S_ne, 0 } };
	for (u32 i = 0; i < COUNT(function); i++)
		add_function(&s, &r, function[i].f, DT_f32, function[i].ulps);
	cuda_suite_run(&s, 1);
}

/* Powers of what is near 1, or small, so that results are numbers. */
static void test_pow(void **state)
{
	(void)state;
	Suite s = { 0 };
	Kernel *k = suite_kernel(&s, KERNEL_MAP, "pow");
	Random r = random_new(&s.arena, 23);
	f64 *x = NEWN(&s.arena, f64, N), *y = NEWN(&s.arena, f64, N);
	for (u32 i = 0; i < N; i++) {
		x[i] = dtype_round(DT_f32, ldexp(1 + random_unit(&r), (int)random_int(&r, -30, 30)));
		y[i] = dtype_round(DT_f32, random_unit(&r) * 8 - 4);
		if (i % 5 == 0) {
			y[i] = (f64)random_int(&r, -4, 4);
			x[i] = -x[i];
		}
	}
	kb_dim(k, DIM_PARALLEL, N);
	KVal a = kb_load(k, ACCESS(kb_slot(k, DT_f32, N), 0, 1), NO), b = kb_load(k, ACCESS(kb_slot(k, DT_f32, N), 0, 1), NO);
	keep(k, kb_op(k, S_pow, a, b));
	Case *c = suite_add(&s, k, 4, 0x1p-126);
	c->given[0] = x;
	c->given[1] = y;
	cuda_suite_run(&s, 1);
}

static void test_integers(void **state)
{
	(void)state;
	Suite s = { 0 };
	suite_kernel(&s, KERNEL_MAP, "");
	Random r = random_new(&s.arena, 29);
	static const DType dtypes[] = { DT_u8, DT_u32, DT_i8, DT_i32 };
	static const Scalar function[] = { S_neg, S_abs, S_sign, S_add, S_sub, S_floordiv, S_mod, S_min, S_max, S_lt, S_le, S_eq };
	for (u32 d = 0; d < COUNT(dtypes); d++)
		for (u32 i = 0; i < COUNT(function); i++)
			add_function(&s, &r, function[i], dtypes[d], 0);
	/* products of 32 bits are exact in f64 where one side is short */
	add_function(&s, &r, S_mul, DT_u8, 0);
	add_function(&s, &r, S_mul, DT_i8, 0);
	cuda_suite_run(&s, 1);
}

/* From every type to every type. Integers of more than 53 bits are not the evaluator's to know. */
static void test_conversions(void **state)
{
	(void)state;
	Suite s = { 0 };
	suite_kernel(&s, KERNEL_MAP, "");
	Random r = random_new(&s.arena, 31);
	for (u32 from = 0; from < DTYPES; from++) {
		Kernel *k = suite_kernel(&s, KERNEL_MAP, arena_printf(&s.arena, "conversions of %s", dtype_info[from].name));
		const f64 *values;
		kb_dim(k, DIM_PARALLEL, N);
		KVal x = given(&s, k, &r, (DType)from, &values);
		for (u32 to = 0; to < DTYPES; to++)
			if (to != from)
				keep(k, kb_cast(k, (DType)to, x));
		Case *c = suite_add(&s, k, 0, 0);
		f64 *some = COPYN(&s.arena, f64, values, N);
		for (u32 i = 0; i < N; i++)
			if (fabs(some[i]) >= 0x1p62 && !isinf(some[i])) /* saturates at numbers that f64 lacks */
				some[i] = 3;
			else if (isinf(some[i]))
				some[i] = -2.75;
		c->given[0] = some;
		for (u32 i = 0; i < N; i++)
			some[i] = dtype_round((DType)from, some[i]);
	}
	cuda_suite_run(&s, 1);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_floats),
		cmocka_unit_test(test_pow),
		cmocka_unit_test(test_integers),
		cmocka_unit_test(test_conversions),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
