/* GROUPED and GROUPED_WEIGHTS kernels on the CPU against kernel_eval: groups that are empty, small, large,
 * begin late, end early and are cut by tiles; precisions; several blocks and chunks; something after. */
#include "kernel_run.h"

typedef struct Shape {
	i64 G, M, N, K;      /* M: rows of x, or of the weights; K: width of x, or its rows */
	f64 low, high;       /* offsets are drawn from here */
	DType from, compute;
	u32 turned;          /* bit 0: w is [G, N, K], or x [M, K]; bit 1: something before and after; bit 2: rows and columns of the
			      * result come from two halves in turns, as they may behind a reshape */
} Shape;

/* Coordinate c of a dimension is element c / 2 of half c % 2. */
static void in_halves(Kernel *k, Access *a, u32 dim)
{
	Access along = { 0 };
	along.stride[dim] = 1;
	KVal c = kb_index(k, DT_u32, along), two = kb_const(k, DT_u32, 2);
	a->ndynamic = 2;
	a->dynamic[0].index = kb_op(k, S_floordiv, c, two);
	a->dynamic[0].stride = a->stride[dim];
	a->dynamic[1].index = kb_op(k, S_mod, c, two);
	a->dynamic[1].stride = a->stride[dim] * ((k->dim[dim].extent + 1) / 2);
	a->stride[dim] = 0;
}

static void add(Suite *s, KernelClass class, const Shape *h)
{
	bool weights = class == KERNEL_GROUPED_WEIGHTS;
	Kernel *k = suite_kernel(s, class, kernel_class_name[class]);
	k->compute = h->compute;
	kb_dim(k, DIM_G, h->G);
	kb_dim(k, DIM_M, h->M);
	kb_dim(k, DIM_N, h->N);
	kb_dim(k, DIM_K, h->K);
	bool turned = h->turned & 1, fused = h->turned >> 1 & 1;
	bool halves = h->turned >> 2 & 1;
	u32 sx = kb_slot(k, h->from, (h->M + halves) * h->K);
	Access x = !weights || turned ? ACCESS(sx, 0, 0, h->K, 0, 1) : ACCESS(sx, 0, 0, 1, 0, h->M), w;
	if (weights)
		w = ACCESS(kb_slot(k, h->from, h->K * (h->N + halves)), 0, 0, 0, 1, h->N);
	else
		w = turned ? ACCESS(kb_slot(k, h->from, (h->G * h->N + halves) * h->K), 0, h->K * h->N, 0, h->K, 1)
			   : ACCESS(kb_slot(k, h->from, (h->G * h->N + halves) * h->K), 0, h->K * h->N, 0, 1, h->N);
	if (halves) {
		in_halves(k, &x, 1);
		in_halves(k, &w, 2);
	}
	Access from = ACCESS(kb_slot(k, DT_i32, h->G + 1), 0, 1), to = from;
	to.offset = 1;
	KVal xv = kb_load(k, x, NO);
	k->operand[0] = fused ? kb_op(k, S_abs, xv, NO) : xv;
	k->operand[1] = kb_load(k, w, NO);
	k->operand[2] = kb_load(k, from, NO);
	k->operand[3] = kb_load(k, to, NO);
	k->noperand = 4;
	DType acc = h->compute == DT_f64 ? DT_f64 : DT_f32;
	KVal sum = kb_acc(k, acc, 0);
	if (fused) { /* a bias per column */
		KVal bias = kb_load(k, ACCESS(kb_slot(k, acc, h->N), 0, 0, 0, 1), NO);
		sum = kb_op(k, S_add, sum, bias);
	}
	i64 elements = (weights ? h->G : 1) * h->M * h->N;
	Access out = ACCESS(kb_slot(k, acc, elements), 0, weights ? h->M * h->N : 0, h->N, 1);
	kb_store(k, out, sum, NO);
	f64 size = sqrt((f64)h->K);
	Case *c = suite_add(s, k, 2 + 2 * size, MAX(1, size / 4));
	c->low[from.slot] = h->low;
	c->high[from.slot] = h->high;
	c->sorted[from.slot] = true;
}

static const Shape rows[] = {
	{ 4, 50, 40, 24, 0, 50, DT_f32, DT_f32, 0 },    { 4, 50, 40, 24, 5, 40, DT_f32, DT_f32, 1 },
	{ 8, 37, 17, 33, -4, 60, DT_f32, DT_f32, 2 },   { 8, 3, 100, 9, 0, 3, DT_f32, DT_f32, 3 },
	{ 1, 30, 16, 5, 0, 30, DT_f32, DT_f32, 0 },     { 40, 90, 20, 12, 0, 90, DT_f32, DT_f32, 0 },
	{ 3, 64, 33, 1700, 0, 64, DT_f32, DT_f32, 1 },  { 3, 2300, 9, 24, 100, 2300, DT_f32, DT_f32, 0 },
	{ 4, 50, 40, 24, 0, 50, DT_bf16, DT_bf16, 0 },  { 4, 50, 40, 24, 0, 50, DT_f32, DT_f16, 1 },
	{ 4, 50, 40, 24, 0, 50, DT_f64, DT_f64, 0 },    { 2, 5200, 3, 900, 0, 5200, DT_f32, DT_f32, 0 },
	{ 5, 1, 1, 1, 0, 1, DT_f32, DT_f32, 0 },        { 4, 50, 40, 24, 5, 40, DT_f32, DT_f32, 4 },
	{ 3, 37, 17, 33, 0, 37, DT_f32, DT_f32, 7 },
};

static void test_rows(void **state)
{
	(void)state;
	Suite s = { 0 };
	for (u32 i = 0; i < COUNT(rows); i++)
		add(&s, KERNEL_GROUPED, &rows[i]);
	suite_run(&s, 51);
}

static const Shape weights[] = {
	{ 4, 24, 40, 50, 0, 50, DT_f32, DT_f32, 0 },   { 4, 24, 40, 50, 5, 40, DT_f32, DT_f32, 1 },
	{ 8, 33, 17, 37, -4, 60, DT_f32, DT_f32, 2 },  { 8, 9, 100, 3, 0, 3, DT_f32, DT_f32, 3 },
	{ 1, 5, 16, 30, 0, 30, DT_f32, DT_f32, 0 },    { 3, 70, 33, 1700, 0, 1700, DT_f32, DT_f32, 0 },
	{ 4, 24, 40, 50, 0, 50, DT_bf16, DT_bf16, 0 }, { 4, 24, 40, 50, 0, 50, DT_f32, DT_f16, 1 },
	{ 4, 24, 40, 50, 0, 50, DT_f64, DT_f64, 0 },   { 2, 1300, 9, 40, 0, 40, DT_f32, DT_f32, 0 },
	{ 5, 1, 1, 1, 0, 1, DT_f32, DT_f32, 0 },       { 4, 24, 40, 50, 5, 40, DT_f32, DT_f32, 4 },
	{ 3, 33, 17, 37, 0, 37, DT_f32, DT_f32, 7 },
};

static void test_weights(void **state)
{
	(void)state;
	Suite s = { 0 };
	for (u32 i = 0; i < COUNT(weights); i++)
		add(&s, KERNEL_GROUPED_WEIGHTS, &weights[i]);
	suite_run(&s, 52);
}

/* Operands in pairs of k; weights' derivatives have none. */
static void test_pairs(void **state)
{
	(void)state;
	static const Shape shape[] = {
		{ 4, 50, 40, 24, 0, 50, DT_bf16, DT_bf16, 0 },
		{ 4, 50, 40, 25, 5, 40, DT_f32, DT_bf16, 1 },
		{ 3, 64, 33, 1901, 0, 64, DT_bf16, DT_bf16, 1 },
	};
	Suite s = { 0 };
	for (u32 i = 0; i < COUNT(shape); i++)
		add(&s, KERNEL_GROUPED, &shape[i]);
	add(&s, KERNEL_GROUPED_WEIGHTS, &weights[6]);
	suite_run_pairs(&s, 53);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_weights),
		cmocka_unit_test(test_pairs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
