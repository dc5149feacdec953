/* ATTENTION and ATTENTION_GRAD kernels on the CPU against kernel_eval: layouts, grouped queries, causal,
 * windows, masks, biases, every precision, edges of blocks and panels. */
#include "kernel_run.h"

typedef struct Shape {
	i64 B, G, R, M, N, K, V;
	bool causal, mask, bias;
	i64 window;
	DType compute;
	bool joined; /* q, k and v are [B, T, heads, width], else [B, heads, T, width] */
	f64 scale;
} Shape;

enum { B_, G_, R_, M_, N_, K_, V_ };

static Kernel *attention_kernel(Suite *s, KernelClass class, const char *name, const Shape *h)
{
	Kernel *k = suite_kernel(s, class, name);
	const i64 extent[] = { h->B, h->G, h->R, h->M, h->N, h->K, h->V };
	const DimRole role[] = { DIM_BATCH, DIM_G, DIM_R, DIM_M, DIM_N, DIM_K, DIM_V };
	for (u32 i = 0; i < 7; i++)
		kb_dim(k, role[i], extent[i]);
	k->causal = h->causal;
	k->has_mask = h->mask;
	k->has_bias = h->bias;
	k->window = h->window;
	k->compute = h->compute;
	k->scale = h->scale;
	return k;
}

/* A tensor over batch, groups, `heads` of each, `rows` (a dimension) and `features` (one, or -1). */
static Access tensor(Kernel *k, DType d, const Shape *h, bool heads, u32 rows, i32 features)
{
	const i64 extent[] = { h->B, h->G, h->R, h->M, h->N, h->K, h->V };
	i64 f = features < 0 ? 1 : extent[features], r = heads ? h->R : 1, T = extent[rows];
	Access a = { .slot = kb_slot(k, d, h->B * h->G * r * T * f) };
	if (features >= 0)
		a.stride[features] = 1;
	a.stride[rows] = h->joined ? h->G * r * f : f;
	a.stride[R_] = heads ? (h->joined ? f : T * f) : 0;
	a.stride[G_] = h->joined ? r * f : r * T * f;
	a.stride[B_] = h->G * r * T * f;
	return a;
}

static void operand(Kernel *k, KVal v)
{
	k->operand[k->noperand++] = v;
}

static DType wide(const Shape *h)
{
	return h->compute == DT_f64 ? DT_f64 : DT_f32;
}

/* q, k, v, [mask], [bias] */
static void operands(Kernel *k, const Shape *h)
{
	operand(k, kb_load(k, tensor(k, h->compute, h, true, M_, K_), NO));
	operand(k, kb_load(k, tensor(k, h->compute, h, false, N_, K_), NO));
	operand(k, kb_load(k, tensor(k, h->compute, h, false, N_, V_), NO));
	if (h->mask) { /* the same for all heads */
		Access a = { .slot = kb_slot(k, DT_b1, h->B * h->M * h->N) };
		a.stride[B_] = h->M * h->N;
		a.stride[M_] = h->N;
		a.stride[N_] = 1;
		operand(k, kb_load(k, a, NO));
	}
	if (h->bias) { /* the same for all items; turned */
		Access a = { .slot = kb_slot(k, wide(h), h->G * h->R * h->M * h->N) };
		a.stride[G_] = h->R * h->M * h->N;
		a.stride[R_] = h->M * h->N;
		a.stride[M_] = 1;
		a.stride[N_] = h->M;
		operand(k, kb_load(k, a, NO));
	}
}

static f64 allowed(const Shape *h)
{
	/* probabilities are rounded relative to another maximum than the oracle's */
	return h->compute == DT_f16 ? 0x1p13 * 2 : h->compute == DT_bf16 ? 0x1p16 * 2 : 30;
}

static void add_forward(Suite *s, const Shape *h)
{
	Kernel *k = attention_kernel(s, KERNEL_ATTENTION, "attention", h);
	operands(k, h);
	KVal out = kb_acc(k, wide(h), 0), lse = kb_acc(k, wide(h), 1);
	kb_store(k, tensor(k, wide(h), h, true, M_, V_), out, NO);
	kb_store(k, tensor(k, wide(h), h, true, M_, -1), lse, NO);
	/* something after it: a gate per feature */
	KVal gate = kb_load(k, ACCESS(kb_slot(k, wide(h), h->V), 0, 0, 0, 0, 0, 0, 0, 1), NO);
	kb_store(k, tensor(k, wide(h), h, true, M_, V_), kb_op(k, S_mul, out, gate), NO);
	suite_add(s, k, allowed(h), 1);
}

/* What the gradient is wanted of, as bits: dq dk dv dbias, dlse too. */
enum { DQ = 1, DK = 2, DV = 4, DBIAS = 8, DLSE = 16, ALL = DQ | DK | DV };

static void add_backward(Suite *s, const Shape *h, u32 what)
{
	Kernel *k = attention_kernel(s, KERNEL_ATTENTION_GRAD, "gradient", h);
	DType w = wide(h);
	operands(k, h);
	Access lse = tensor(k, w, h, true, M_, -1);
	operand(k, kb_load(k, tensor(k, w, h, true, M_, V_), NO));
	operand(k, kb_load(k, lse, NO));
	operand(k, kb_load(k, tensor(k, w, h, true, M_, V_), NO));
	if (what & DLSE)
		operand(k, kb_load(k, tensor(k, w, h, true, M_, -1), NO));
	if (what & DQ)
		kb_store(k, tensor(k, w, h, true, M_, K_), kb_acc(k, w, 0), NO);
	if (what & DK) { /* something after it: a gate per feature */
		KVal gate = kb_load(k, ACCESS(kb_slot(k, w, h->K), 0, 0, 0, 0, 0, 0, 1), NO);
		kb_store(k, tensor(k, w, h, false, N_, K_), kb_op(k, S_mul, kb_acc(k, w, 1), gate), NO);
	}
	if (what & DV)
		kb_store(k, tensor(k, w, h, false, N_, V_), kb_acc(k, w, 2), NO);
	if (what & DBIAS) {
		i64 T = h->M * h->N;
		kb_store(k, ACCESS(kb_slot(k, w, h->B * h->G * h->R * T), 0, h->G * h->R * T, h->R * T, T, h->N, 1),
			 kb_acc(k, w, 3), NO);
	}
	/* sums of M, N, K and V products of numbers up to 1, dS up to V of them, times probabilities that are up
	 * to e^score of any log-sum-exp: from above those of the scores, so that they are below 1 */
	f64 terms = (f64)(h->V + 2) * (f64)MAX(h->R * h->M, h->N), size = sqrt(terms);
	Case *c = suite_add(s, k, allowed(h), MAX(1, size / 4));
	c->low[lse.slot] = 0.5;
	c->high[lse.slot] = 3;
}

static const Shape forward[] = {
	{ 1, 1, 1, 5, 7, 4, 3, .compute = DT_f32 },
	{ 2, 3, 1, 33, 33, 16, 16, .causal = true, .compute = DT_f32, .joined = true },
	{ 1, 2, 1, 100, 100, 64, 64, .causal = true, .compute = DT_f32, .joined = true },
	{ 1, 2, 2, 70, 300, 24, 40, .causal = true, .compute = DT_f32 },
	{ 2, 2, 3, 1, 201, 32, 32, .causal = true, .compute = DT_f32 },
	{ 1, 1, 1, 300, 300, 8, 8, .causal = true, .window = 40, .compute = DT_f32 },
	{ 1, 2, 2, 50, 20, 16, 24, .causal = true, .compute = DT_f32 },
	{ 1, 1, 1, 20, 150, 17, 5, .mask = true, .compute = DT_f32 },
	{ 2, 1, 2, 19, 31, 8, 9, .mask = true, .bias = true, .causal = true, .compute = DT_f32 },
	{ 1, 1, 4, 61, 140, 10, 70, .bias = true, .compute = DT_f32, .scale = 0.7 },
	{ 1, 2, 1, 40, 140, 32, 32, .compute = DT_bf16, .causal = true },
	{ 1, 2, 1, 40, 50, 32, 32, .compute = DT_f16, .joined = true },
	{ 1, 2, 1, 37, 141, 12, 20, .compute = DT_f64, .causal = true },
	{ 1, 1, 2, 1, 1, 1, 1, .compute = DT_f32 },
	{ 3, 1, 1, 2, 400, 64, 8, .compute = DT_f32 },
};

static void test_forward(void **state)
{
	(void)state;
	Suite s = { 0 };
	for (u32 i = 0; i < COUNT(forward); i++)
		add_forward(&s, &forward[i]);
	suite_run(&s, 31);
}

static const struct {
	Shape shape;
	u32 what;
} backward[] = {
	/* one shape of code: kernels that differ in numbers alone are compiled once */
	{ { 2, 3, 2, 33, 33, 16, 16, .causal = true, .compute = DT_f32, .joined = true }, ALL },
	{ { 2, 2, 2, 61, 61, 64, 64, .causal = true, .compute = DT_f32, .joined = true }, ALL },
	{ { 2, 2, 2, 35, 300, 24, 40, .causal = true, .compute = DT_f32 }, ALL },
	{ { 2, 2, 3, 50, 20, 16, 24, .causal = true, .compute = DT_f32 }, ALL },
	{ { 2, 2, 3, 1, 201, 32, 32, .causal = true, .compute = DT_f32 }, ALL },
	{ { 1, 1, 1, 300, 300, 8, 8, .causal = true, .window = 40, .compute = DT_f32 }, ALL | DLSE },
	{ { 1, 1, 2, 50, 120, 8, 24, .causal = true, .window = 7, .compute = DT_f32 }, ALL },
	{ { 1, 1, 1, 20, 150, 17, 5, .mask = true, .compute = DT_f32 }, ALL },
	{ { 2, 1, 2, 19, 31, 8, 9, .mask = true, .bias = true, .causal = true, .compute = DT_f32 },
	  ALL | DBIAS | DLSE },
	{ { 1, 1, 4, 61, 140, 10, 33, .bias = true, .compute = DT_f32, .scale = 0.7 }, DK | DBIAS },
	{ { 1, 2, 1, 60, 140, 32, 32, .compute = DT_bf16, .causal = true }, ALL | DLSE },
	{ { 1, 2, 1, 40, 50, 32, 32, .compute = DT_f16, .bias = true, .joined = true }, ALL | DBIAS },
	{ { 1, 2, 1, 37, 141, 12, 20, .compute = DT_f64, .causal = true }, ALL },
	{ { 1, 1, 2, 1, 1, 1, 1, .compute = DT_f32 }, ALL },
	{ { 1, 1, 1, 20, 1600, 8, 8, .compute = DT_f32 }, ALL }, /* keys in shares */
	{ { 30, 1, 1, 3, 5, 4, 4, .compute = DT_f32 }, DQ | DV },
};

static void test_backward(void **state)
{
	(void)state;
	Suite s = { 0 };
	for (u32 i = 0; i < COUNT(backward); i++)
		add_backward(&s, &backward[i].shape, backward[i].what);
	suite_run(&s, 57);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forward),
		cmocka_unit_test(test_backward),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
