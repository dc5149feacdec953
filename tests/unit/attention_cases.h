/* tests/unit/attention_cases.h: ATTENTION and ATTENTION_GRAD kernels that every target must run
 * like kernel_eval. */
#ifndef PL_TEST_ATTENTION_CASES_H
#define PL_TEST_ATTENTION_CASES_H
#include "kernel_run.h"

typedef struct Shape {
	i64 B, G, R, M, N, K, V;
	bool causal, mask, bias;
	i64 window;
	DType compute;
	bool joined;   /* q, k and v are [B, T, heads, width], else [B, heads, T, width] */
	bool computed; /* q, k and v are f32, and a bias for each feature is added before they are
			  rounded */
	f64 scale, softcap;
} Shape;

enum { B_, G_, R_, M_, N_, K_, V_ };

static inline Kernel *attention_kernel(Suite *s, KernelClass class, const char *name,
				       const Shape *h)
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
	k->softcap = h->softcap;
	return k;
}

/* A tensor over batch, groups, `heads` of each, `rows` (a dimension) and `features` (one, or -1).
 */
static inline Access tensor(Kernel *k, DType d, const Shape *h, bool heads, u32 rows, i32 features)
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

static inline void operand(Kernel *k, KVal v)
{
	k->operand[k->noperand++] = v;
}

static inline DType wide(const Shape *h)
{
	return h->compute == DT_f64 ? DT_f64 : DT_f32;
}

static inline void features(Kernel *k, const Shape *h, bool heads, u32 rows, i32 dim)
{
	if (!h->computed) {
		operand(k, kb_load(k, tensor(k, h->compute, h, heads, rows, dim), NO));
		return;
	}
	KVal x = kb_load(k, tensor(k, DT_f32, h, heads, rows, dim), NO);
	Access bias = { .slot = kb_slot(k, DT_f32, dim == K_ ? h->K : h->V),
			.stride = { [V_] = 0 } };
	bias.stride[dim] = 1;
	operand(k, kb_cast(k, h->compute, kb_op(k, S_add, x, kb_load(k, bias, NO))));
}

/* q, k, v, [mask], [bias] */
static inline void operands(Kernel *k, const Shape *h)
{
	features(k, h, true, M_, K_);
	features(k, h, false, N_, K_);
	features(k, h, false, N_, V_);
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

static inline f64 allowed(const Shape *h)
{
	/* probabilities are rounded relative to another maximum than the oracle's */
	return h->compute == DT_f16 ? 0x1p13 * 2 : h->compute == DT_bf16 ? 0x1p16 * 2 : 30;
}

static inline void add_forward(Suite *s, const Shape *h)
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

static inline void add_backward(Suite *s, const Shape *h, u32 what)
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
		kb_store(k, tensor(k, w, h, false, N_, K_), kb_op(k, S_mul, kb_acc(k, w, 1), gate),
			 NO);
	}
	if (what & DV)
		kb_store(k, tensor(k, w, h, false, N_, V_), kb_acc(k, w, 2), NO);
	if (what & DBIAS) {
		i64 T = h->M * h->N;
		kb_store(k,
			 ACCESS(kb_slot(k, w, h->B * h->G * h->R * T), 0, h->G * h->R * T, h->R * T,
				T, h->N, 1),
			 kb_acc(k, w, 3), NO);
	}
	/* sums of M, N, K and V products of numbers up to 1, dS up to V of them, times
	 * probabilities that are up to e^score of any log-sum-exp: from above those of the scores,
	 * so that they are below 1 */
	f64 terms = (f64)(h->V + 2) * (f64)MAX(h->R * h->M, h->N), size = sqrt(terms);
	Case *c = suite_add(s, k, allowed(h), MAX(1, size / 4));
	c->low[lse.slot] = 0.5;
	c->high[lse.slot] = 3;
}

#endif
