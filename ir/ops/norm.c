/* ir/ops/norm.c: means and products over axes, and the normalizations: layer_norm (Ba et al. 2016),
 * rms_norm (Zhang and Sennrich 2019), group_norm (Wu and He 2018).
 *
 * The gradient of a normalization is in terms of xhat = (x - mean) * r and g = dy * weight:
 *   dx = r * (g - mean(g) - xhat * mean(g * xhat)),  dweight = sum(dy * xhat),  dbias = sum(dy)
 * (rms_norm without the mean(g) term). Statistics are recomputed from x, which costs less than
 * keeping them: the backward kernel reads the row anyway. */
#include "ir/ops/composite.h"
#include "ir/sample.h"

/* Some axes of a random operand, ascending. */
static Val sample_reduced(Random *r, Builder *b, ints *axes)
{
	Dim dim[MAX_RANK];
	i64 axis[MAX_RANK];
	u32 rank = random_shape(r, b, 1, 3, dim), n = 0;
	for (u32 d = 0; d < rank; d++)
		if (random_chance(r, 0.5))
			axis[n++] = d;
	*axes = ints_of(b, axis, n);
	return sample_real(r, b, random_float(r), rank, dim);
}

/* ---- mean ---- */

static bool mean_infer(InferCx *cx)
{
	return infer_reduced(cx, ((const mean_attr *)cx->attr)->axes);
}

static void mean_expand(Builder *b, const Node *n, Val *out)
{
	const mean_attr *a = ATTR(n, mean);
	Val x = widened(b, n->in[0]);
	Val s = BA(b, sum, (x), .axes = a->axes);
	Val m = B(b, div, s, repeated(b, count_along(b, x, a->axes), s));
	out[0] = make_cast(b, m, val_type(b->g, n->in[0])->dtype);
}

static void mean_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	const mean_attr *a = ATTR(n, mean);
	Val dy = widened(b, dout[0]);
	Val share = B(b, div, dy, repeated(b, count_along(b, n->in[0], a->axes), dy));
	din[0] = make_unreduce(b, share, n->in[0], a->axes);
}

static Val mean_sample(Random *r, Builder *b)
{
	ints axes;
	Val x = sample_reduced(r, b, &axes);
	return BA(b, mean, (x), .axes = axes);
}

const OpDef def_mean = { .infer = mean_infer, .expand = mean_expand, .vjp = mean_vjp,
			 .along = along_pointwise, .sample = mean_sample };

/* ---- prod ---- */

static bool prod_infer(InferCx *cx)
{
	return infer_reduced(cx, ((const prod_attr *)cx->attr)->axes);
}

/* Of the elements that are not 0: their product; and how many are 0. */
static void prod_parts(Builder *b, Val x, ints axes, Val *product, Val *zeros)
{
	Val zero = make_full_like(b, x, 0), one = make_full_like(b, x, 1);
	Val is_zero = B(b, eq, x, zero);
	Val magnitude = B(b, where, is_zero, one, B(b, abs, x));
	Val size = B(b, exp, BA(b, sum, (B(b, log, magnitude)), .axes = axes));
	Val negatives = BA(b, sum, (B(b, where, B(b, lt, x, zero), one, zero)), .axes = axes);
	Val odd = B(b, mod, negatives, make_full_like(b, negatives, 2));
	Val sign = B(b, sub, make_full_like(b, odd, 1), times(b, odd, 2));
	*product = B(b, mul, sign, size);
	*zeros = BA(b, sum, (B(b, where, is_zero, one, zero)), .axes = axes);
}

static void prod_expand(Builder *b, const Node *n, Val *out)
{
	Val product, zeros, x = widened(b, n->in[0]);
	prod_parts(b, x, ATTR(n, prod)->axes, &product, &zeros);
	Val none = B(b, eq, zeros, make_full_like(b, zeros, 0));
	out[0] = make_cast(b, where_or_zero(b, none, product), val_type(b->g, n->in[0])->dtype);
}

/* dx = dy * the product of the others: product / x without a zero, the product of the rest at the
 * only zero, 0 elsewhere. */
static void prod_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	ints axes = ATTR(n, prod)->axes;
	Val product, zeros, x = widened(b, n->in[0]);
	prod_parts(b, x, axes, &product, &zeros);
	product = make_unreduce(b, product, x, axes);
	zeros = make_unreduce(b, zeros, x, axes);
	Val is_zero = B(b, eq, x, make_full_like(b, x, 0));
	Val divisor = B(b, where, is_zero, make_full_like(b, x, 1), x);
	/* zeros among the others: all zeros, less this element if it is one */
	Val others = B(b, sub, zeros,
		       B(b, where, is_zero, make_full_like(b, x, 1), make_full_like(b, x, 0)));
	Val rest = where_or_zero(b, B(b, eq, others, make_full_like(b, x, 0)),
				 B(b, div, product, divisor));
	din[0] = B(b, mul, make_unreduce(b, widened(b, dout[0]), x, axes), rest);
}

static Val prod_sample(Random *r, Builder *b)
{
	ints axes;
	Val x = sample_reduced(r, b, &axes);
	return BA(b, prod, (x), .axes = axes);
}

const OpDef def_prod = { .infer = prod_infer, .expand = prod_expand, .vjp = prod_vjp,
			 .along = along_pointwise, .sample = prod_sample };

/* ---- what normalizations share ---- */

static Val mean_over(Builder *b, Val x, ints axes)
{
	Val s = BA(b, sum, (x), .axes = axes);
	return B(b, div, s, repeated(b, count_along(b, x, axes), s));
}

/* (x - mean) * r over `axes`, r = 1 / sqrt(var + eps); without the mean where `centre` is false. *r
 * has the shape of x without the axes. */
static Val normalized(Builder *b, Val x, ints axes, f64 eps, bool centre, Val *r)
{
	if (centre)
		x = B(b, sub, x, make_unreduce(b, mean_over(b, x, axes), x, axes));
	*r = B(b, rsqrt, plus(b, mean_over(b, B(b, mul, x, x), axes), eps));
	return B(b, mul, x, make_unreduce(b, *r, x, axes));
}

/* dx from xhat, r and g = dy * weight. */
static Val normalized_grad(Builder *b, Val xhat, Val r, Val g, ints axes, bool centre)
{
	Val c = make_unreduce(b, mean_over(b, B(b, mul, g, xhat), axes), xhat, axes);
	Val d = B(b, sub, g, B(b, mul, xhat, c));
	if (centre)
		d = B(b, sub, d, make_unreduce(b, mean_over(b, g, axes), xhat, axes));
	return B(b, mul, d, make_unreduce(b, r, xhat, axes));
}

/* Sum over all but the last dimension. */
static Val column_sum(Builder *b, Val v)
{
	static const i64 index[MAX_RANK] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 };
	u32 rank = val_type(b->g, v)->rank;
	return rank == 1 ? v : BA(b, sum, (v), .axes = { rank - 1, index });
}

/* x[.., D] and operands [D] from `first` to `last`. */
static bool need_norm(InferCx *cx, u32 first, u32 last)
{
	const char *name[] = { "x", "weight", "bias" };
	if (!need_float(cx, 0, "x"))
		return false;
	const Type *x = infer_type(cx, 0);
	if (x->rank == 0)
		return infer_fail(cx, "%s: x must have a last dimension, and a scalar has none",
				  op_info[cx->op].name);
	for (u32 i = first; i <= last; i++) {
		const Type *w = infer_type(cx, i);
		if (!need_float(cx, i, name[i]))
			return false;
		if (w->rank != 1 || w->dim[0] != x->dim[x->rank - 1])
			return infer_fail(cx, "%s: %s %s does not fit the last dimension of x %s",
					  op_info[cx->op].name, name[i], infer_text(cx, i),
					  infer_text(cx, 0));
	}
	for (u32 i = first; i <= last; i++)
		same_axis(cx, i, 0, 0, x->rank - 1);
	return true;
}

/* x, weight, dy: dx and `sums` results of weight's shape. */
static bool norm_grad_infer(InferCx *cx, u32 sums)
{
	if (!need_norm(cx, 1, 1))
		return false;
	const Type *x = infer_type(cx, 0), *dy = infer_type(cx, 2);
	if (dy->rank != x->rank || type_with_dtype(cx->ir, dy, x->dtype) != x)
		return infer_fail(cx, "%s: dy %s is not shaped like x %s", op_info[cx->op].name,
				  infer_text(cx, 2), infer_text(cx, 0));
	DType wide = compute_dtype(x->dtype);
	for (u32 i = 1; i <= sums; i++)
		result_like(cx, i, 1, wide);
	return result_like(cx, 0, 0, wide);
}

static Val as(Builder *b, Val v, Val like)
{
	return make_cast(b, v, val_type(b->g, like)->dtype);
}

/* The row's axis of x, as a list. */
static ints last_axis(Builder *b, Val x)
{
	return INTS(b, val_type(b->g, x)->rank - 1);
}

/* x[.., D], weight and bias [D], and dy like x. */
static void sample_norm(Random *r, Builder *b, Val in[4])
{
	Dim dim[MAX_RANK];
	DType dtype = random_float(r);
	u32 rank = random_shape(r, b, 1, 3, dim);
	dim[rank - 1] = dim_number(b->g->ir, random_int(r, 2, 6));
	in[0] = sample_real(r, b, dtype, rank, dim);
	in[1] = sample_real(r, b, dtype, 1, dim + rank - 1);
	in[2] = sample_real(r, b, dtype, 1, dim + rank - 1);
	in[3] = sample_real(r, b, dtype, rank, dim);
}

/* ---- layer_norm ---- */

static bool layer_norm_infer(InferCx *cx)
{
	return need_norm(cx, 1, 2) && result_like(cx, 0, 0, infer_type(cx, 0)->dtype);
}

static void layer_norm_expand(Builder *b, const Node *n, Val *out)
{
	Val r, x = widened(b, n->in[0]);
	Val xhat = normalized(b, x, last_axis(b, x), ATTR(n, layer_norm)->eps, true, &r);
	Val scaled = B(b, mul, xhat, repeated(b, as(b, n->in[1], x), x));
	Val y = B(b, add, scaled, repeated(b, as(b, n->in[2], x), x));
	out[0] = as(b, y, n->in[0]);
}

static void layer_norm_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	Val g = BA(b, layer_norm_grad, (n->in[0], n->in[1], dout[0]),
		   .eps = ATTR(n, layer_norm)->eps);
	for (u32 i = 0; i < 3; i++)
		din[i] = (Val){ g.i + i };
}

static Val layer_norm_sample(Random *r, Builder *b)
{
	Val in[4];
	sample_norm(r, b, in);
	return BA(b, layer_norm, (in[0], in[1], in[2]), .eps = 1e-2);
}

const OpDef def_layer_norm = { .infer = layer_norm_infer, .expand = layer_norm_expand,
			       .vjp = layer_norm_vjp, .along = along_but_last, .sample = layer_norm_sample };

static bool layer_norm_grad_infer(InferCx *cx)
{
	return norm_grad_infer(cx, 2);
}

static void layer_norm_grad_expand(Builder *b, const Node *n, Val *out)
{
	Val r, x = widened(b, n->in[0]), dy = as(b, n->in[2], x);
	ints axes = last_axis(b, x);
	Val xhat = normalized(b, x, axes, ATTR(n, layer_norm_grad)->eps, true, &r);
	Val g = B(b, mul, dy, repeated(b, as(b, n->in[1], x), x));
	out[0] = normalized_grad(b, xhat, r, g, axes, true);
	out[1] = column_sum(b, B(b, mul, dy, xhat));
	out[2] = column_sum(b, dy);
}

static Val layer_norm_grad_sample(Random *r, Builder *b)
{
	Val in[4];
	sample_norm(r, b, in);
	return BA(b, layer_norm_grad, (in[0], in[1], in[3]), .eps = 1e-2);
}

const OpDef def_layer_norm_grad = { .infer = layer_norm_grad_infer,
				    .expand = layer_norm_grad_expand, .sample = layer_norm_grad_sample };

/* ---- rms_norm ---- */

static bool rms_norm_infer(InferCx *cx)
{
	return need_norm(cx, 1, 1) && result_like(cx, 0, 0, infer_type(cx, 0)->dtype);
}

static void rms_norm_expand(Builder *b, const Node *n, Val *out)
{
	Val r, x = widened(b, n->in[0]);
	Val xhat = normalized(b, x, last_axis(b, x), ATTR(n, rms_norm)->eps, false, &r);
	out[0] = as(b, B(b, mul, xhat, repeated(b, as(b, n->in[1], x), x)), n->in[0]);
}

static void rms_norm_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	Val g = BA(b, rms_norm_grad, (n->in[0], n->in[1], dout[0]), .eps = ATTR(n, rms_norm)->eps);
	din[0] = g;
	din[1] = (Val){ g.i + 1 };
}

static Val rms_norm_sample(Random *r, Builder *b)
{
	Val in[4];
	sample_norm(r, b, in);
	return BA(b, rms_norm, (in[0], in[1]), .eps = 1e-2);
}

const OpDef def_rms_norm = { .infer = rms_norm_infer, .expand = rms_norm_expand,
			     .vjp = rms_norm_vjp, .along = along_but_last, .sample = rms_norm_sample };

static bool rms_norm_grad_infer(InferCx *cx)
{
	return norm_grad_infer(cx, 1);
}

static void rms_norm_grad_expand(Builder *b, const Node *n, Val *out)
{
	Val r, x = widened(b, n->in[0]), dy = as(b, n->in[2], x);
	ints axes = last_axis(b, x);
	Val xhat = normalized(b, x, axes, ATTR(n, rms_norm_grad)->eps, false, &r);
	Val g = B(b, mul, dy, repeated(b, as(b, n->in[1], x), x));
	out[0] = normalized_grad(b, xhat, r, g, axes, false);
	out[1] = column_sum(b, B(b, mul, dy, xhat));
}

static Val rms_norm_grad_sample(Random *r, Builder *b)
{
	Val in[4];
	sample_norm(r, b, in);
	return BA(b, rms_norm_grad, (in[0], in[1], in[3]), .eps = 1e-2);
}

const OpDef def_rms_norm_grad = { .infer = rms_norm_grad_infer, .expand = rms_norm_grad_expand, .sample = rms_norm_grad_sample };

/* ---- group_norm ---- */

static bool group_norm_infer(InferCx *cx)
{
	const group_norm_attr *a = cx->attr;
	const Type *x = infer_type(cx, 0);
	const char *name[] = { "x", "weight", "bias" };
	for (u32 i = 0; i < 3; i++)
		if (!need_float(cx, i, name[i]))
			return false;
	if (x->rank < 2 || x->rank == MAX_RANK)
		return infer_fail(cx, "group_norm: x is [B, C, ...] with 2 to %d dimensions, not %s",
				  MAX_RANK - 1, infer_text(cx, 0));
	if (a->groups < 1 || !dim_whole(cx->ir, x->dim[1], dim_number(cx->ir, a->groups)))
		return infer_fail(cx, "group_norm: %lld groups do not divide the %s channels of x %s",
				  (long long)a->groups, dim_text(cx, x->dim[1]), infer_text(cx, 0));
	for (u32 i = 1; i < 3; i++) {
		const Type *w = infer_type(cx, i);
		if (w->rank != 1 || w->dim[0] != x->dim[1])
			return infer_fail(cx, "group_norm: %s %s does not fit the channels of x %s",
					  name[i], infer_text(cx, i), infer_text(cx, 0));
	}
	for (u32 i = 1; i < 3; i++)
		same_axis(cx, i, 0, 0, 1);
	return result_like(cx, 0, 0, x->dtype);
}

/* x[B, C, ...] as [B, groups, C / groups, ...], and the axes of one group. */
static Val grouped(Builder *b, Val x, i64 groups, ints *axes)
{
	Ir *ir = b->g->ir;
	const Type *t = val_type(b->g, x);
	Dim g = dim_number(ir, groups), shape[MAX_RANK] = { t->dim[0], g, dim_div(ir, t->dim[1], g) };
	i64 axis[MAX_RANK];
	for (u32 d = 2; d < t->rank; d++)
		shape[d + 1] = t->dim[d];
	for (u32 d = 2; d < t->rank + 1u; d++)
		axis[d - 2] = d;
	*axes = ints_of(b, axis, t->rank - 1u);
	return BA(b, reshape, (x), .shape = { t->rank + 1u, shape });
}

/* v[C] repeated to the shape of x[B, C, ...]. */
static Val per_channel(Builder *b, Val v, Val x)
{
	const Type *t = val_type(b->g, x);
	return BA(b, broadcast, (v), .shape = { t->rank, t->dim }, .dims = { 1, (i64[]){ 1 } });
}

static void group_norm_expand(Builder *b, const Node *n, Val *out)
{
	const group_norm_attr *a = ATTR(n, group_norm);
	Val r, x = widened(b, n->in[0]);
	const Type *t = val_type(b->g, x);
	ints axes;
	Val xhat = normalized(b, grouped(b, x, a->groups, &axes), axes, a->eps, true, &r);
	xhat = BA(b, reshape, (xhat), .shape = { t->rank, t->dim });
	Val y = B(b, add, B(b, mul, xhat, per_channel(b, as(b, n->in[1], x), x)),
		  per_channel(b, as(b, n->in[2], x), x));
	out[0] = as(b, y, n->in[0]);
}

/* Both sums over a channel's places, of dy and of dy * xhat, serve twice: over the batch they are the gradients of bias and weight, and
 * over a group's channels, times their weights, what is taken from dx. */
static void group_norm_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	const group_norm_attr *a = ATTR(n, group_norm);
	Ir *ir = b->g->ir;
	Val r, x = widened(b, n->in[0]), dy = as(b, dout[0], x), weight = as(b, n->in[1], x);
	const Type *t = val_type(b->g, x);
	ints axes, places, channels = INTS(b, 2);
	i64 place[MAX_RANK];
	Val grouped_x = grouped(b, x, a->groups, &axes), xhat = normalized(b, grouped_x, axes, a->eps, true, &r);
	Val flat = BA(b, reshape, (xhat), .shape = { t->rank, t->dim });
	for (u32 d = 2; d < t->rank; d++)
		place[d - 2] = d;
	places = ints_of(b, place, t->rank - 2u);
	Val along = BA(b, sum, (B(b, mul, dy, flat)), .axes = places), sum = BA(b, sum, (dy), .axes = places);
	/* [B, groups, channels of each] */
	Dim groups = dim_number(ir, a->groups), each = dim_div(ir, t->dim[1], groups);
	dims of_group = { 3, (Dim[]){ t->dim[0], groups, each } };
	along = BA(b, reshape, (along), .shape = of_group);
	sum = BA(b, reshape, (sum), .shape = of_group);
	Val w = BA(b, broadcast, (BA(b, reshape, (weight), .shape = { 2, (Dim[]){ groups, each } })), .shape = of_group, .dims = { 2, (i64[]){ 1, 2 } });
	Val mean_along = BA(b, sum, (B(b, mul, along, w)), .axes = channels), mean = BA(b, sum, (B(b, mul, sum, w)), .axes = channels);
	Val count = repeated(b, count_along(b, grouped_x, axes), mean);
	mean_along = make_unreduce(b, B(b, div, mean_along, count), xhat, axes);
	mean = make_unreduce(b, B(b, div, mean, count), xhat, axes);
	Val g = B(b, mul, dy, per_channel(b, weight, x));
	Val d = B(b, sub, B(b, sub, grouped(b, g, a->groups, &axes), B(b, mul, xhat, mean_along)), mean);
	din[0] = BA(b, reshape, (B(b, mul, d, make_unreduce(b, r, xhat, axes))), .shape = { t->rank, t->dim });
	for (u32 i = 0; i < 2; i++)
		din[1 + i] = BA(b, reshape, (BA(b, sum, (i ? sum : along), .axes = INTS(b, 0))), .shape = { 1, t->dim + 1 });
}

static Along group_norm_along(const Graph *g, const Node *n, u32 in, u32 d)
{
	(void)g, (void)n;
	if (in > 0)
		return d == 1 ? ALONG_POINTWISE : ALONG_NOT_THERE;
	return d == 0 ? ALONG_POINTWISE : ALONG_MIXING;
}

static Val group_norm_sample(Random *r, Builder *b)
{
	Dim dim[MAX_RANK];
	DType dtype = random_float(r);
	i64 groups = random_int(r, 1, 3);
	u32 rank = random_shape(r, b, 2, 4, dim);
	dim[1] = dim_number(b->g->ir, groups * random_int(r, 2, 3));
	Val x = sample_real(r, b, dtype, rank, dim), w = sample_real(r, b, dtype, 1, dim + 1);
	return BA(b, group_norm, (x, w, sample_real(r, b, dtype, 1, dim + 1)), .groups = groups,
		  .eps = 1e-2);
}

const OpDef def_group_norm = { .infer = group_norm_infer, .expand = group_norm_expand,
			       .vjp = group_norm_vjp, .along = group_norm_along, .sample = group_norm_sample };
