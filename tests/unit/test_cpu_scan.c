/* SCAN and SORT kernels on the CPU against kernel_eval: every dtype, both directions, rows that lie beside
 * each other and rows that lie in line, lengths around those of vectors and of the ways to sort. */
#include "kernel_run.h"

/* Rows of n, P x Q of them: [P, Q, n], or [P, n, Q] where `turned`. */
typedef struct Rows {
	i64 P, Q, n;
	bool turned;
} Rows;

static Access at(Kernel *k, const Rows *r, DType d)
{
	Access a = { .slot = kb_slot(k, d, r->P * r->Q * r->n) };
	a.stride[0] = r->Q * r->n;
	a.stride[1] = r->turned ? 1 : r->n;
	a.stride[2] = r->turned ? r->Q : 1;
	return a;
}

static Kernel *rows_kernel(Suite *s, KernelClass class, const char *name, const Rows *r)
{
	Kernel *k = suite_kernel(s, class, name);
	kb_dim(k, DIM_PARALLEL, r->P);
	kb_dim(k, DIM_PARALLEL, r->Q);
	kb_dim(k, DIM_ROW, r->n);
	return k;
}

static const Rows shapes[] = {
	{ 2, 3, 1, false },  { 3, 2, 7, false },  { 1, 2, 8, false },   { 1, 3, 33, false }, { 2, 1, 300, false },
	{ 2, 3, 5, true },   { 3, 17, 9, true },  { 1, 8, 40, true },   { 2, 50, 70, true }, { 1, 1, 20000, false },
	{ 30, 40, 3, false }, { 30, 41, 3, true },
};

static void add_scan(Suite *s, const Rows *r, DType d, u32 how)
{
	Kernel *k = rows_kernel(s, KERNEL_SCAN, "scan", r);
	k->reverse = how & 1;
	k->exclusive = how >> 1 & 1;
	Access a = at(k, r, d);
	KVal x = kb_load(k, a, NO);
	k->operand[k->noperand++] = kb_op(k, S_add, x, x);
	KVal sum = kb_acc(k, d, 0);
	kb_store(k, at(k, r, d), sum, NO);
	/* something after it, of the same place */
	kb_store(k, at(k, r, d), kb_op(k, S_sub, sum, x), NO);
	bool is_float = dtype_is_float(d);
	/* one rounding a sum, each of half a unit of numbers that grow as the root of the length */
	f64 size = sqrt((f64)r->n), units = d == DT_f32 || d == DT_f64 ? 2 * size : 2;
	suite_add(s, k, is_float ? units : 0, MAX(1, 4 * size));
}

static void test_scan(void **state)
{
	(void)state;
	static const DType dtype[] = { DT_f32, DT_i32, DT_bf16, DT_f64, DT_f16, DT_i64, DT_u8, DT_i8, DT_u32 };
	Suite s = { 0 };
	for (u32 i = 0; i < COUNT(shapes); i++)
		for (u32 how = 0; how < 4; how++)
			add_scan(&s, &shapes[i], dtype[how & 1], how);
	for (u32 i = 2; i < COUNT(dtype); i++) {
		add_scan(&s, &shapes[3], dtype[i], i & 3);
		add_scan(&s, &shapes[6], dtype[i], i & 3);
	}
	suite_run(&s, 41);
}

static void add_sort(Suite *s, const Rows *r, DType d, bool descending, f64 high)
{
	Kernel *k = rows_kernel(s, KERNEL_SORT, "sort", r);
	k->descending = descending;
	Access a = at(k, r, d);
	KVal x = kb_load(k, a, NO);
	DType wide = d == DT_f64 ? d : DT_f32;
	if (dtype_is_float(d)) { /* whole numbers, so that many are equal, both zeros, some that are none */
		KVal w = kb_cast(k, wide, x), y = kb_op(k, S_round, w, NO), low = kb_const(k, wide, -0.8 * high);
		x = kb_op3(k, S_where, kb_op(k, S_lt, w, low), kb_const(k, wide, NAN), y);
		x = kb_cast(k, d, x);
	}
	k->operand[k->noperand++] = x;
	kb_store(k, at(k, r, d), kb_acc(k, d, 0), NO);
	kb_store(k, at(k, r, DT_i32), kb_acc(k, DT_i32, 1), NO);
	Case *c = suite_add(s, k, 0, 1);
	bool below = dtype_is_float(d) || dtype_info[d].kind == KIND_I;
	c->low[0] = below ? -high : 0;
	c->high[0] = high;
}

static void test_sort(void **state)
{
	(void)state;
	static const DType dtype[] = { DT_f32, DT_i32, DT_bf16, DT_f64, DT_f16, DT_i64, DT_u8, DT_i8, DT_u32 };
	Suite s = { 0 };
	for (u32 i = 0; i < COUNT(shapes); i++)
		for (u32 d = 0; d < 2; d++) {
			add_sort(&s, &shapes[i], DT_f32, d, 3);
			add_sort(&s, &shapes[i], DT_i32, d, 1e9);
		}
	for (u32 i = 2; i < COUNT(dtype); i++) {
		f64 high = dtype[i] == DT_i64 || dtype[i] == DT_f64 ? 1e12 : dtype[i] == DT_u32 ? 4e9 : 100;
		add_sort(&s, &shapes[4], dtype[i], i & 1, high);
		add_sort(&s, &shapes[3], dtype[i], !(i & 1), 5);
	}
	/* around the number where the way to sort changes */
	for (i64 n = 31; n < 35; n++)
		add_sort(&s, &(Rows){ 2, 5, n, false }, DT_f32, false, 50);
	suite_run(&s, 42);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scan),
		cmocka_unit_test(test_sort),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
