/* ir/kernel_eval.c: what a kernel means, in plain loops over its domain: against this the code of targets
 * is tested, and lowering against the graph's evaluator. Numbers are f64 throughout, rounded where the
 * graph's evaluator rounds them (ir/eval.h, exact mode): integers and booleans always, floats where a
 * cast or the memory makes them f16 or bf16. */
#include "ir/kernel.h"
#include "ir/philox.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Eval {
	const Kernel *k;
	f64 *const *slot;
	i64 coord[KERNEL_DIMS];
	/* value[i] holds for the point `epoch` where stamp[i] equals it */
	f64 *value;
	u64 *stamp, epoch;
	/* reductions that are known: they outlive a point of the dimensions they run over */
	f64 *fixed;
	bool *is_fixed;
} Eval;

static f64 value_at(Eval *e, KVal v);

/* A list of dimensions, walked as one. */
typedef struct Dims {
	u32 n, dim[KERNEL_DIMS];
} Dims;

static Dims dims_with(const Kernel *k, u32 roles)
{
	Dims d = { 0 };
	for (u32 i = 0; i < k->ndim; i++)
		if (roles >> k->dim[i].role & 1)
			d.dim[d.n++] = i;
	return d;
}

static i64 dims_count(const Kernel *k, const Dims *d)
{
	i64 n = 1;
	for (u32 i = 0; i < d->n; i++)
		n *= k->dim[d->dim[i]].extent;
	return n;
}

/* The point whose flattened index in these dimensions is `flat`; a new point. */
static void move_to(Eval *e, const Dims *d, i64 flat)
{
	for (u32 i = d->n; i-- > 0;) {
		i64 extent = e->k->dim[d->dim[i]].extent;
		e->coord[d->dim[i]] = flat % extent;
		flat /= extent;
	}
	e->epoch++;
}

static void set(Eval *e, u32 inst, f64 x)
{
	e->fixed[inst] = x;
	e->is_fixed[inst] = true;
	e->epoch++;
}

/* Sets every K_acc of result `which`. */
static void set_result(Eval *e, u32 which, f64 x)
{
	for (u32 i = 1; i < e->k->inst.n; i++)
		if (e->k->inst.v[i].op == K_acc && (u32)e->k->inst.v[i].imm == which)
			set(e, i, x);
}

static bool wants_result(const Kernel *k, u32 which)
{
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_acc && (u32)k->inst.v[i].imm == which)
			return true;
	return false;
}

static i64 place(Eval *e, const Access *a)
{
	i64 at = a->offset;
	for (u32 d = 0; d < e->k->ndim; d++)
		at += a->stride[d] * e->coord[d];
	for (u32 i = 0; i < a->ndynamic; i++)
		at += a->dynamic[i].stride * (i64)value_at(e, a->dynamic[i].index);
	return at;
}

static f64 *element(Eval *e, const Access *a)
{
	i64 at = place(e, a);
	assert(at >= 0 && at < e->k->slot.v[a->slot].elements);
	return &e->slot[a->slot][at];
}

static f64 rounded(DType d, f64 x)
{
	return d == DT_f32 ? x : dtype_round(d, x);
}

static f64 compute(Eval *e, u32 i)
{
	const KInst *in = &e->k->inst.v[i];
	DType d = (DType)in->dtype;
	switch (in->op) {
	case K_const: return rounded(d, in->imm);
	case K_index: return rounded(d, (f64)place(e, in->access));
	case K_load: return in->in[0].i && value_at(e, in->in[0]) == 0 ? 0 : *element(e, in->access);
	case K_cast: return rounded(d, value_at(e, in->in[0]));
	case K_random: {
		u64 key = in->key ^ (u64)(i64)value_at(e, in->in[0]);
		return (f64)philox_uniform(key, (i64)value_at(e, in->in[1]), (u64)place(e, in->access));
	}
	case K_scalar: {
		f64 x[3] = { 0 };
		for (u32 j = 0; j < 3 && in->in[j].i; j++)
			x[j] = value_at(e, in->in[j]);
		f64 y = kernel_scalar_value((Scalar)in->scalar, x[0], x[1], x[2]);
		return rounded(kernel_scalar[in->scalar].is_bool ? DT_b1 : d, y);
	}
	default: NEVER("a kernel's instruction is asked for before the loops gave it a value");
	}
}

static f64 value_at(Eval *e, KVal v)
{
	assert(v.i && v.i < e->k->inst.n);
	if (e->is_fixed[v.i])
		return e->fixed[v.i];
	if (e->stamp[v.i] != e->epoch) {
		f64 x = compute(e, v.i);
		e->stamp[v.i] = e->epoch;
		e->value[v.i] = x;
	}
	return e->value[v.i];
}

static void store(Eval *e, u32 i)
{
	const KInst *in = &e->k->inst.v[i];
	if (in->in[1].i && value_at(e, in->in[1]) == 0)
		return;
	f64 x = value_at(e, in->in[0]);
	*element(e, in->access) = rounded(e->k->slot.v[in->access->slot].dtype, x);
}

/* The stores that need result `which` (-1: every store). */
static void store_all(Eval *e, i32 which)
{
	for (u32 i = 1; i < e->k->inst.n; i++) {
		const KInst *in = &e->k->inst.v[i];
		if (in->op != K_store)
			continue;
		u32 needs = kernel_results_needed(e->k, in->in[0]) | kernel_results_needed(e->k, in->in[1]);
		if (which < 0 || needs >> which & 1)
			store(e, i);
	}
}

/* ---- MAP, ROW, COLUMN ---- */

static f64 identity(const KInst *in)
{
	if (in->reduce == REDUCE_sum)
		return 0;
	f64 most = dtype_info[in->dtype].largest;
	f64 least = dtype_info[in->dtype].kind == KIND_I ? -most - 1 : 0;
	if (dtype_is_float((DType)in->dtype)) {
		most = INFINITY;
		least = -INFINITY;
	}
	return in->reduce == REDUCE_max ? least : most;
}

static f64 combine(const KInst *in, f64 a, f64 b)
{
	f64 x = in->reduce == REDUCE_sum   ? a + b
		: in->reduce == REDUCE_max ? kernel_scalar_value(S_max, a, b, 0)
					   : kernel_scalar_value(S_min, a, b, 0);
	return rounded((DType)in->dtype, x);
}

static void eval_map(Eval *e)
{
	Dims all = dims_with(e->k, ~0u);
	i64 n = dims_count(e->k, &all);
	for (i64 p = 0; p < n; p++) {
		move_to(e, &all, p);
		store_all(e, -1);
	}
}

/* ROW and COLUMN: for each point of the others, sweeps over the reduced dimensions; then the stores. A
 * store that does not depend on them happens again and again with the same value. */
static void eval_reduce(Eval *e)
{
	const Kernel *k = e->k;
	u32 reduced = 1u << DIM_ROW | 1u << DIM_REDUCE;
	Dims outer = dims_with(k, ~reduced), inner = dims_with(k, reduced);
	i64 n = dims_count(k, &outer), m = dims_count(k, &inner);
	u32 sweeps = 0;
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_reduce)
			sweeps = MAX(sweeps, k->inst.v[i].sweep);
	for (i64 p = 0; p < n; p++) {
		move_to(e, &outer, p);
		memset(e->is_fixed, 0, k->inst.n);
		for (u32 s = 1; s <= sweeps; s++)
			for (u32 i = 1; i < k->inst.n; i++) {
				const KInst *in = &k->inst.v[i];
				if (in->op != K_reduce || in->sweep != s)
					continue;
				f64 sum = identity(in);
				for (i64 q = 0; q < m; q++) {
					move_to(e, &inner, q);
					sum = combine(in, sum, value_at(e, in->in[0]));
				}
				set(e, i, sum);
			}
		for (i64 q = 0; q < m || q == 0; q++) {
			move_to(e, &inner, m ? q : 0);
			for (u32 i = 1; i < k->inst.n; i++)
				if (k->inst.v[i].op == K_store) {
					bool once = true;
					for (u32 d = 0; d < inner.n; d++)
						once &= !(k->inst.v[i].depends >> inner.dim[d] & 1);
					if (q == 0 ? once || m : !once)
						store(e, i);
				}
		}
	}
}

/* ---- DOT and its grouped forms ---- */

/* Operand `i` here, as the products take it. */
static f64 operand(Eval *e, u32 i)
{
	return rounded(kernel_operand_dtype(e->k, i), value_at(e, e->k->operand[i]));
}

static void eval_dot(Eval *e)
{
	const Kernel *k = e->k;
	Dims out = dims_with(k, ~(1u << DIM_K)), inner = dims_with(k, 1u << DIM_K);
	i64 n = dims_count(k, &out), m = dims_count(k, &inner);
	for (i64 p = 0; p < n; p++) {
		move_to(e, &out, p);
		f64 sum[3] = { 0 };
		for (i64 q = 0; q < m; q++) {
			move_to(e, &inner, q);
			f64 a = operand(e, 0), b = operand(e, 1);
			sum[0] += a * b;
			sum[1] += a;
			sum[2] += b;
		}
		move_to(e, &inner, 0);
		for (u32 i = 0; i < COUNT(sum); i++)
			set_result(e, i, sum[i]);
		store_all(e, -1);
	}
}

/* Rows [from, to) of group g, of n: operands 2 and 3 are where it begins and ends. */
static void group_rows(Eval *e, u32 group_dim, i64 g, i64 n, i64 *from, i64 *to)
{
	e->coord[group_dim] = g;
	e->epoch++;
	*from = MAX(0, MIN(n, (i64)value_at(e, e->k->operand[2])));
	*to = MAX(*from, MIN(n, (i64)value_at(e, e->k->operand[3])));
}

static void eval_grouped(Eval *e)
{
	const Kernel *k = e->k;
	Dims g = dims_with(k, 1u << DIM_G), m = dims_with(k, 1u << DIM_M), n = dims_with(k, 1u << DIM_N),
	     inner = dims_with(k, 1u << DIM_K);
	i64 groups = dims_count(k, &g), M = dims_count(k, &m), N = dims_count(k, &n), K = dims_count(k, &inner);
	bool weights = k->class == KERNEL_GROUPED_WEIGHTS;
	for (i64 r = 0; r < (weights ? groups : M); r++) {
		i64 from = 0, to = 0, group = 0;
		if (weights) {
			group_rows(e, g.dim[0], r, K, &from, &to);
		} else {
			/* the group of row r; rows of no group are 0 */
			for (group = 0; group < groups; group++) {
				group_rows(e, g.dim[0], group, M, &from, &to);
				if (from <= r && r < to)
					break;
			}
			from = 0;
			to = group < groups ? K : 0;
			group = MIN(group, groups - 1);
		}
		i64 rows = weights ? M : 1;
		for (i64 i = 0; i < rows; i++)
			for (i64 j = 0; j < N; j++) {
				move_to(e, &g, weights ? r : group);
				move_to(e, &m, weights ? i : r);
				move_to(e, &n, j);
				f64 sum = 0;
				for (i64 q = from; q < to; q++) {
					move_to(e, &inner, q);
					sum += operand(e, 0) * operand(e, 1);
				}
				move_to(e, &inner, 0);
				set_result(e, 0, sum);
				store_all(e, -1);
			}
	}
}

/* ---- attention ---- */

typedef struct Attention {
	Dims outer, r, m, n, kd, v; /* outer: BATCH and G */
	i64 R, M, N, K, V;
	f64 scale;
	u32 mask, bias, out, lse, dout, dlse; /* operands, 0 for none */
	f64 *p, *ds, *slope;                  /* of a row; slope: of softcap's tanh */
} Attention;

static Attention attention_of(const Kernel *k, Arena *tmp)
{
	Attention a = { .outer = dims_with(k, 1u << DIM_BATCH | 1u << DIM_G), .r = dims_with(k, 1u << DIM_R),
			.m = dims_with(k, 1u << DIM_M), .n = dims_with(k, 1u << DIM_N),
			.kd = dims_with(k, 1u << DIM_K), .v = dims_with(k, 1u << DIM_V) };
	a.R = dims_count(k, &a.r);
	a.M = dims_count(k, &a.m);
	a.N = dims_count(k, &a.n);
	a.K = dims_count(k, &a.kd);
	a.V = dims_count(k, &a.v);
	a.scale = k->scale != 0 ? k->scale : 1 / sqrt((f64)a.K);
	u32 at = 3;
	a.mask = k->has_mask ? at++ : 0;
	a.bias = k->has_bias ? at++ : 0;
	a.out = at;
	a.lse = at + 1;
	a.dout = at + 2;
	a.dlse = at + 3 < k->noperand ? at + 3 : 0;
	a.p = NEWN(tmp, f64, a.N + 1);
	a.ds = NEWN(tmp, f64, a.N + 1);
	a.slope = NEWN(tmp, f64, a.N + 1);
	return a;
}

static f64 score(Eval *e, const Attention *a, i64 t, i64 s)
{
	i64 age = t + a->N - a->M - s;
	a->slope[s] = 1;
	if (e->k->causal && (age < 0 || (e->k->window && age >= e->k->window)))
		return -INFINITY;
	move_to(e, &a->m, t);
	move_to(e, &a->n, s);
	if (a->mask && value_at(e, e->k->operand[a->mask]) == 0)
		return -INFINITY;
	f64 sum = 0;
	for (i64 i = 0; i < a->K; i++) {
		move_to(e, &a->kd, i);
		sum += operand(e, 0) * operand(e, 1);
	}
	f64 x = sum * a->scale, cap = e->k->softcap;
	if (cap > 0) {
		f64 t = tanh(x / cap);
		a->slope[s] = 1 - t * t;
		x = cap * t;
	}
	return x + (a->bias ? value_at(e, e->k->operand[a->bias]) : 0);
}

static void eval_attention(Eval *e, Arena *tmp)
{
	const Kernel *k = e->k;
	Attention a = attention_of(k, tmp);
	i64 outer = dims_count(k, &a.outer);
	for (i64 b = 0; b < outer * a.R * a.M; b++) {
		i64 t = b % a.M;
		move_to(e, &a.outer, b / a.M / a.R);
		move_to(e, &a.r, b / a.M % a.R);
		f64 most = -INFINITY, total = 0;
		for (i64 s = 0; s < a.N; s++) {
			a.p[s] = score(e, &a, t, s);
			most = a.p[s] > most || isnan(a.p[s]) ? a.p[s] : most;
		}
		f64 shift = isinf(most) && most < 0 ? 0 : most;
		for (i64 s = 0; s < a.N; s++)
			total += a.p[s] = exp(a.p[s] - shift);
		move_to(e, &a.m, t);
		set_result(e, 1, shift + log(total));
		for (i64 j = 0; j < a.V; j++) {
			f64 sum = 0;
			move_to(e, &a.v, j);
			for (i64 s = 0; s < a.N; s++) {
				move_to(e, &a.n, s);
				sum += rounded(k->compute, a.p[s]) * operand(e, 2);
			}
			move_to(e, &a.n, 0);
			set_result(e, 0, sum / (total == 0 ? 1 : total));
			store_all(e, 0);
		}
		move_to(e, &a.v, 0);
		store_all(e, 1);
	}
}

/* P and dS of row t, in a->p and a->ds. */
static void grad_row(Eval *e, const Attention *a, i64 t)
{
	const Kernel *k = e->k;
	move_to(e, &a->m, t);
	f64 row = 0, lse = value_at(e, k->operand[a->lse]);
	f64 dlse = a->dlse ? value_at(e, k->operand[a->dlse]) : 0;
	for (i64 j = 0; j < a->V; j++) {
		move_to(e, &a->v, j);
		row += value_at(e, k->operand[a->dout]) * value_at(e, k->operand[a->out]);
	}
	for (i64 s = 0; s < a->N; s++) {
		f64 x = score(e, a, t, s), dp = 0;
		/* a row that sees nothing has lse = -inf and scores of -inf */
		a->p[s] = isinf(x) && x < 0 ? 0 : exp(x - lse);
		move_to(e, &a->m, t);
		move_to(e, &a->n, s);
		for (i64 j = 0; j < a->V; j++) {
			move_to(e, &a->v, j);
			dp += operand(e, a->dout) * operand(e, 2);
		}
		a->ds[s] = a->p[s] * (dp - row + dlse);
	}
}

static void eval_attention_grad(Eval *e, Arena *tmp)
{
	const Kernel *k = e->k;
	Attention a = attention_of(k, tmp);
	i64 outer = dims_count(k, &a.outer);
	f64 *dq = NEWN(tmp, f64, a.K + 1), *dk = NEWN(tmp, f64, a.N * a.K + 1),
	    *dv = NEWN(tmp, f64, a.N * a.V + 1);
	for (i64 b = 0; b < outer; b++) {
		memset(dk, 0, sizeof *dk * (size_t)(a.N * a.K));
		memset(dv, 0, sizeof *dv * (size_t)(a.N * a.V));
		for (i64 rt = 0; rt < a.R * a.M; rt++) {
			i64 t = rt % a.M;
			move_to(e, &a.outer, b);
			move_to(e, &a.r, rt / a.M);
			grad_row(e, &a, t);
			memset(dq, 0, sizeof *dq * (size_t)a.K);
			for (i64 s = 0; s < a.N; s++) {
				f64 ds = rounded(k->compute, a.ds[s] * a.slope[s]), p = rounded(k->compute, a.p[s]);
				move_to(e, &a.m, t);
				move_to(e, &a.n, s);
				for (i64 i = 0; i < a.K; i++) {
					move_to(e, &a.kd, i);
					dq[i] += ds * operand(e, 1) * a.scale;
					dk[s * a.K + i] += ds * operand(e, 0) * a.scale;
				}
				for (i64 j = 0; j < a.V; j++) {
					move_to(e, &a.v, j);
					dv[s * a.V + j] += p * operand(e, a.dout);
				}
				move_to(e, &a.v, 0);
				move_to(e, &a.kd, 0);
				if (wants_result(k, 3)) {
					set_result(e, 3, a.ds[s]);
					store_all(e, 3);
				}
			}
			move_to(e, &a.n, 0);
			for (i64 i = 0; i < a.K; i++) {
				move_to(e, &a.kd, i);
				set_result(e, 0, dq[i]);
				store_all(e, 0);
			}
			move_to(e, &a.kd, 0);
		}
		move_to(e, &a.m, 0);
		move_to(e, &a.r, 0);
		for (i64 s = 0; s < a.N; s++) {
			move_to(e, &a.n, s);
			for (i64 i = 0; i < a.K; i++) {
				move_to(e, &a.kd, i);
				set_result(e, 1, dk[s * a.K + i]);
				store_all(e, 1);
			}
			move_to(e, &a.kd, 0);
			for (i64 j = 0; j < a.V; j++) {
				move_to(e, &a.v, j);
				set_result(e, 2, dv[s * a.V + j]);
				store_all(e, 2);
			}
			move_to(e, &a.v, 0);
		}
		move_to(e, &a.n, 0);
	}
}

/* ---- SCATTER, SCAN, SORT ---- */

static void eval_scatter(Eval *e)
{
	const Kernel *k = e->k;
	u32 s = k->scatter->slot;
	if (!k->accumulate)
		memset(e->slot[s], 0, sizeof(f64) * (size_t)k->slot.v[s].elements);
	Dims all = dims_with(k, ~0u);
	i64 n = dims_count(k, &all);
	for (i64 p = 0; p < n; p++) {
		move_to(e, &all, p);
		f64 x = value_at(e, k->operand[0]), *to = element(e, k->scatter);
		*to = rounded(k->slot.v[s].dtype, *to + x);
	}
}

static void eval_scan(Eval *e)
{
	const Kernel *k = e->k;
	Dims outer = dims_with(k, ~(1u << DIM_ROW)), row = dims_with(k, 1u << DIM_ROW);
	i64 n = dims_count(k, &outer), m = dims_count(k, &row);
	DType d = (DType)k->inst.v[k->operand[0].i].dtype;
	for (i64 p = 0; p < n; p++) {
		move_to(e, &outer, p);
		f64 total = 0;
		for (i64 i = 0; i < m; i++) {
			move_to(e, &row, k->reverse ? m - 1 - i : i);
			f64 next = rounded(dtype_is_float(d) ? DT_f32 : d, total + value_at(e, k->operand[0]));
			set_result(e, 0, k->exclusive ? total : next);
			total = next;
			store_all(e, -1);
		}
	}
}

typedef struct Sorted {
	f64 key;
	i64 at;
	i32 sign; /* -1 where descending */
} Sorted;

/* NaN is above everything; equal keys stay in order. */
static int sorted_order(const void *p, const void *q)
{
	const Sorted *a = p, *b = q;
	int a_nan = isnan(a->key), b_nan = isnan(b->key);
	int order = a_nan || b_nan ? a_nan - b_nan : (a->key > b->key) - (a->key < b->key);
	order *= a->sign;
	return order ? order : (a->at > b->at) - (a->at < b->at);
}

static void eval_sort(Eval *e, Arena *tmp)
{
	const Kernel *k = e->k;
	Dims outer = dims_with(k, ~(1u << DIM_ROW)), row = dims_with(k, 1u << DIM_ROW);
	i64 n = dims_count(k, &outer), m = dims_count(k, &row);
	Sorted *s = NEWN(tmp, Sorted, m + 1);
	for (i64 p = 0; p < n; p++) {
		move_to(e, &outer, p);
		for (i64 i = 0; i < m; i++) {
			move_to(e, &row, i);
			s[i] = (Sorted){ value_at(e, k->operand[0]), i, k->descending ? -1 : 1 };
		}
		qsort(s, (size_t)m, sizeof *s, sorted_order);
		for (i64 i = 0; i < m; i++) {
			move_to(e, &row, i);
			set_result(e, 0, s[i].key);
			set_result(e, 1, (f64)s[i].at);
			store_all(e, -1);
		}
	}
}

void kernel_eval(const Kernel *k, f64 *const *slot)
{
	Arena tmp = ARENA("kernel_eval");
	Eval e = { .k = k, .slot = slot, .value = NEWN(&tmp, f64, k->inst.n), .stamp = NEWN(&tmp, u64, k->inst.n),
		   .epoch = 1, .fixed = NEWN(&tmp, f64, k->inst.n), .is_fixed = NEWN(&tmp, bool, k->inst.n) };
	switch (k->class) {
	case KERNEL_MAP: eval_map(&e); break;
	case KERNEL_ROW:
	case KERNEL_COLUMN: eval_reduce(&e); break;
	case KERNEL_DOT: eval_dot(&e); break;
	case KERNEL_ATTENTION: eval_attention(&e, &tmp); break;
	case KERNEL_ATTENTION_GRAD: eval_attention_grad(&e, &tmp); break;
	case KERNEL_SCATTER: eval_scatter(&e); break;
	case KERNEL_SCAN: eval_scan(&e); break;
	case KERNEL_SORT: eval_sort(&e, &tmp); break;
	case KERNEL_GROUPED:
	case KERNEL_GROUPED_WEIGHTS: eval_grouped(&e); break;
	default: NEVER("a kernel of no class");
	}
	arena_free(&tmp);
}
