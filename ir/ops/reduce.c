/* ir/ops/reduce.c: sum, reduce_max, reduce_min: the named axes disappear. Over nothing they give 0,
 * the lowest and the highest number. */
#include "ir/ops/help.h"
#include "ir/sample.h"

#include <math.h>

/* The three have one attribute struct in all but name. */
static ints reduced_axes(const void *attr)
{
	return ((const sum_attr *)attr)->axes;
}
_Static_assert(sizeof(sum_attr) == sizeof(reduce_max_attr) &&
		       offsetof(sum_attr, axes) == offsetof(reduce_max_attr, axes) &&
		       offsetof(sum_attr, axes) == offsetof(reduce_min_attr, axes),
	       "reductions have one attribute, axes");

static u32 axes_mask(ints axes)
{
	u32 mask = 0;
	for (u32 i = 0; i < axes.n; i++)
		mask |= 1u << axes.v[i];
	return mask;
}

/* The dimensions that stay. */
static u32 kept_dims(const Type *t, u32 mask, Dim *dim)
{
	u32 n = 0;
	for (u32 d = 0; d < t->rank; d++)
		if (!(mask & 1u << d))
			dim[n++] = t->dim[d];
	return n;
}

static bool reduce_infer(InferCx *cx)
{
	const Type *t = infer_type(cx, 0);
	Dim dim[MAX_RANK];
	u32 mask, n = 0;
	if (!infer_axes(cx, reduced_axes(cx->attr), 0, &mask))
		return false;
	if (t->dtype == DT_b1)
		return infer_fail(cx, "%s takes numbers, not %s", op_info[cx->op].name, infer_text(cx, 0));
	for (u32 d = 0; d < t->rank; d++)
		if (!(mask & 1u << d))
			cx->axis[0][n++] = infer_axis(cx, 0)[d];
	n = kept_dims(t, mask, dim);
	infer_result(cx, 0, type_make(cx->ir, t->dtype, n, dim));
	return true;
}

/* axes of a reduction's result as axes of its operand, together with those it reduced. */
static ints merged_axes(Builder *b, const Type *t, ints inner, ints outer)
{
	u32 mask = axes_mask(inner), place = 0, outer_mask = axes_mask(outer), n = 0;
	i64 axes[MAX_RANK];
	for (u32 d = 0; d < t->rank; d++) {
		bool gone = mask & 1u << d;
		if (gone || (outer_mask & 1u << place))
			axes[n++] = d;
		place += !gone;
	}
	return ints_of(b, axes, n);
}

/* Over axes of extent 1: a reshape. Of a reduction of the same kind: one. Of a constant: a constant. */
static Val reduce_fold(Builder *b, const Node *n)
{
	const Graph *g = b->g;
	ints axes = reduced_axes(n->attr);
	const Type *t = val_type(g, n->in[0]);
	Dim dim[MAX_RANK];
	u32 mask = axes_mask(axes), rank = kept_dims(t, mask, dim);
	i64 count = 1;
	bool bound = true;
	if (axes.n == 0)
		return n->in[0];
	for (u32 d = 0; d < t->rank; d++) {
		i64 extent;
		if (!(mask & 1u << d))
			continue;
		bound = bound && dim_is_number(t->dim[d], &extent);
		if (!bound)
			count = 0;
		else if (__builtin_mul_overflow(count, extent, &count))
			count = INT64_MAX;
	}
	if (bound && count == 1)
		return BA(b, reshape, (n->in[0]), .shape = { rank, dim });
	const Node *inner = val_node(g, n->in[0]);
	if (inner->op == n->op) {
		ints both = merged_axes(b, val_type(g, inner->in[0]), reduced_axes(inner->attr), axes);
		return build(b, (Op)n->op, inner->in, 1, 0, &(sum_attr){ .axes = both });
	}
	f64 x;
	if (bound && count > 0 && is_full(g, n->in[0], &x)) {
		f64 value = n->op == OP_sum ? dtype_round(t->dtype, x * (f64)count) : x;
		return make_full(b, value, t->dtype, (dims){ rank, dim });
	}
	return (Val){ 0 };
}

static Along reduce_along(const Graph *g, const Node *n, u32 in, u32 d)
{
	(void)g, (void)n, (void)in, (void)d;
	return ALONG_POINTWISE; /* of what stays */
}

/* ---- evaluation: the reduced axes last, row by row ---- */

typedef f64 (*Combine)(f64 a, f64 b);

static void reduce_with(EvalCx *cx, Combine combine, f64 start)
{
	const Tensor *x = cx->in[0];
	u32 mask = axes_mask(reduced_axes(cx->node->attr));
	i64 stride[MAX_RANK], out_stride[MAX_RANK] = { 0 }, index[MAX_RANK] = { 0 }, s = 1, at = 0;
	f64 *to = cx->out[0].data;
	tensor_strides(x, stride);
	for (u32 d = x->rank; d-- > 0;)
		if (!(mask & 1u << d)) {
			out_stride[d] = s;
			s *= x->dim[d];
		}
	for (i64 i = 0; i < cx->out[0].n; i++)
		to[i] = start;
	for (i64 i = 0; i < x->n; i++) {
		to[at] = combine(to[at], x->data[i]);
		for (u32 d = x->rank; d-- > 0;) {
			at += out_stride[d];
			if (++index[d] < x->dim[d])
				break;
			at -= out_stride[d] * x->dim[d];
			index[d] = 0;
		}
	}
}

static f64 combine_sum(f64 a, f64 b)
{
	return a + b;
}

static f64 combine_max(f64 a, f64 b)
{
	return a > b || isnan(a) ? a : b;
}

static f64 combine_min(f64 a, f64 b)
{
	return a < b || isnan(a) ? a : b;
}

static void sum_eval(EvalCx *cx)
{
	reduce_with(cx, combine_sum, 0);
}

static void reduce_max_eval(EvalCx *cx)
{
	const DTypeInfo *d = &dtype_info[cx->out[0].dtype];
	reduce_with(cx, combine_max,
		    d->kind == KIND_F ? -INFINITY : d->kind == KIND_I ? -d->largest - 1 : 0);
}

static void reduce_min_eval(EvalCx *cx)
{
	const DTypeInfo *d = &dtype_info[cx->out[0].dtype];
	reduce_with(cx, combine_min, d->kind == KIND_F ? INFINITY : d->largest);
}

/* ---- derivatives ---- */

static void sum_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	din[0] = make_unreduce(b, dout[0], n->in[0], reduced_axes(n->attr));
}

/* Ties share equally. */
static void extreme_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	ints axes = reduced_axes(n->attr);
	Val x = n->in[0];
	DType d = val_type(b->g, dout[0])->dtype;
	Val wins = make_cast(b, B(b, eq, x, make_unreduce(b, n->out, x, axes)), d);
	Val share = B(b, div, dout[0], BA(b, sum, (wins), .axes = axes));
	din[0] = B(b, mul, wins, make_unreduce(b, share, x, axes));
}

/* ---- samples ---- */

static Val reduce_sample(Random *r, Builder *b, Op op)
{
	Dim dim[MAX_RANK];
	i64 axes[MAX_RANK];
	u32 rank = random_shape(r, b, 0, 4, dim), n = 0;
	for (u32 d = 0; d < rank; d++)
		if (random_chance(r, 0.5))
			axes[n++] = d;
	if (n > 1 && random_chance(r, 0.3)) {
		i64 swap = axes[0];
		axes[0] = axes[n - 1];
		axes[n - 1] = swap;
	}
	Val x = random_chance(r, 0.8) ? sample_real(r, b, random_float(r), rank, dim)
				      : sample_input(r, b, SAMPLE_WHOLE, DT_i32, rank, dim, -9, 9);
	return build(b, op, &x, 1, 0, &(sum_attr){ .axes = { n, axes } });
}

/* What is reduced may be divided: each device reduces its part. */
static void reduce_shard(ShardRule *r)
{
	const Type *t = val_type(r->g, r->n->in[0]);
	u32 mask = axes_mask(reduced_axes(r->n->attr)), to = 0;
	for (u32 d = 0; d < t->rank; d++) {
		u32 l = shard_label(r, type_extent(t, d));
		shard_at(r, l, 0, d, 1);
		r->label.v[l].pads = r->n->op == OP_sum || !(mask >> d & 1);
		if (!(mask >> d & 1))
			shard_at(r, l, 1, to++, 1);
		else
			r->label.v[l].reduce = r->n->op == OP_sum ? SHARD_SUM : r->n->op == OP_reduce_max ? SHARD_MAX : SHARD_MIN;
	}
	if (r->n->op == OP_sum)
		shard_linear(r, 1);
}

static Val sum_sample(Random *r, Builder *b)
{
	return reduce_sample(r, b, OP_sum);
}

static Val reduce_max_sample(Random *r, Builder *b)
{
	return reduce_sample(r, b, OP_reduce_max);
}

static Val reduce_min_sample(Random *r, Builder *b)
{
	return reduce_sample(r, b, OP_reduce_min);
}

const OpDef def_sum = { .shard = reduce_shard, .infer = reduce_infer, .fold = reduce_fold,   .vjp = sum_vjp,
			.cost = cost_per_operand_element, .eval = sum_eval,
			.along = reduce_along, .sample = sum_sample };
const OpDef def_reduce_max = { .shard = reduce_shard, .infer = reduce_infer, .fold = reduce_fold, .vjp = extreme_vjp,
			       .cost = cost_per_operand_element, .eval = reduce_max_eval,
			       .along = reduce_along, .sample = reduce_max_sample };
const OpDef def_reduce_min = { .shard = reduce_shard, .infer = reduce_infer, .fold = reduce_fold, .vjp = extreme_vjp,
			       .cost = cost_per_operand_element, .eval = reduce_min_eval,
			       .along = reduce_along, .sample = reduce_min_sample };
