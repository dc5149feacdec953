/* ir/ops/composite.c: see composite.h. */
#include "ir/ops/composite.h"

#include <math.h>

DType compute_dtype(DType d)
{
	return d == DT_f64 ? DT_f64 : DT_f32;
}

/* ---- infer ---- */

const char *dim_text(InferCx *cx, Dim d)
{
	if (!cx->why)
		return "";
	Buf t = { .arena = cx->why->arena };
	dim_print(&t, d);
	return t.text;
}

bool need_float(InferCx *cx, u32 operand, const char *what)
{
	if (dtype_is_float(infer_type(cx, operand)->dtype))
		return true;
	return infer_fail(cx, "%s: %s must be floating point, not %s", op_info[cx->op].name, what,
			  infer_text(cx, operand));
}

bool need_integer(InferCx *cx, u32 operand, const char *what)
{
	DTypeKind kind = dtype_info[infer_type(cx, operand)->dtype].kind;
	if (kind == KIND_I || kind == KIND_U)
		return true;
	return infer_fail(cx, "%s: %s must be integers, not %s", op_info[cx->op].name, what,
			  infer_text(cx, operand));
}

bool need_rank(InferCx *cx, u32 operand, const char *what, u32 rank)
{
	if (infer_type(cx, operand)->rank == rank)
		return true;
	return infer_fail(cx, "%s: %s must have %u dimensions, not those of %s", op_info[cx->op].name,
			  what, rank, infer_text(cx, operand));
}

bool result_is(InferCx *cx, u32 i, DType dtype, u32 rank, const Dim *dim, const Axis *axis)
{
	cx->out[i] = type_make(cx->ir, dtype, rank, dim);
	for (u32 d = 0; d < rank; d++)
		cx->axis[i][d] = axis ? axis[d] : (Axis){ 0 };
	return true;
}

bool result_like(InferCx *cx, u32 i, u32 operand, DType dtype)
{
	const Type *t = infer_type(cx, operand);
	return result_is(cx, i, dtype, t->rank, t->dim, infer_axis(cx, operand));
}

bool infer_reduced(InferCx *cx, ints axes)
{
	const Type *t = infer_type(cx, 0);
	Dim dim[MAX_RANK];
	Axis axis[MAX_RANK];
	u32 n = 0, gone;
	if (!need_float(cx, 0, "the operand") || !infer_axes(cx, axes, 0, &gone))
		return false;
	for (u32 d = 0; d < t->rank; d++) {
		if (gone >> d & 1)
			continue;
		dim[n] = t->dim[d];
		axis[n++] = infer_axis(cx, 0)[d];
	}
	return result_is(cx, 0, t->dtype, n, dim, axis);
}

void same_axis(InferCx *cx, u32 a, u32 d, u32 b, u32 e)
{
	axis_unify(cx->ir, infer_axis(cx, a)[d], infer_axis(cx, b)[e]);
}

bool broadcasts_to(const Type *t, u32 rank, const Dim *dim)
{
	if (t->rank > rank)
		return false;
	for (u32 d = 0; d < t->rank; d++) {
		i64 one;
		if (t->dim[d] != dim[rank - t->rank + d] &&
		    !(dim_is_number(t->dim[d], &one) && one == 1))
			return false;
	}
	return true;
}

Dim dim_whole(Ir *ir, Dim a, Dim b)
{
	Dim q = dim_div(ir, a, b);
	if (q && q->n == 1 && q->term[0].n == 0 && q->term[0].den != 1)
		return NULL;
	return q;
}

bool infer_float_like(InferCx *cx)
{
	return need_float(cx, 0, "the operand") && result_like(cx, 0, 0, infer_type(cx, 0)->dtype);
}

/* ---- expand, vjp ---- */

Val widened(Builder *b, Val v)
{
	return make_cast(b, v, compute_dtype(val_type(b->g, v)->dtype));
}

Val times(Builder *b, Val v, f64 factor)
{
	return B(b, mul, v, make_full_like(b, v, factor));
}

Val plus(Builder *b, Val v, f64 term)
{
	return B(b, add, v, make_full_like(b, v, term));
}

Val sum_axis(Builder *b, Val v, i64 axis)
{
	return BA(b, sum, (v), .axes = { 1, &axis });
}

Val max_axis(Builder *b, Val v, i64 axis)
{
	return BA(b, reduce_max, (v), .axes = { 1, &axis });
}

Val along_axis(Builder *b, Val v, Val like, i64 axis)
{
	return make_unreduce(b, v, like, (ints){ 1, &axis });
}

Val repeated(Builder *b, Val v, Val like)
{
	const Type *t = val_type(b->g, like);
	return make_broadcast(b, v, (dims){ t->rank, t->dim });
}

Val count_along(Builder *b, Val like, ints axes)
{
	const Type *t = val_type(b->g, like);
	Dim n = dim_number(b->g->ir, 1);
	for (u32 i = 0; i < axes.n; i++)
		n = dim_mul(b->g->ir, n, t->dim[axes.v[i]]);
	return BS(b, extent, .size = { 1, &n }, .dtype = compute_dtype(t->dtype));
}

Val finite_shift(Builder *b, Val v)
{
	Val empty = B(b, eq, v, make_full_like(b, v, -INFINITY));
	return B(b, where, empty, make_full_like(b, v, 0), v);
}

Val where_or_zero(Builder *b, Val condition, Val v)
{
	return B(b, where, condition, v, make_full_like(b, v, 0));
}

Val logsumexp_of(Builder *b, Val v, i64 axis)
{
	Val shift = finite_shift(b, max_axis(b, v, axis));
	Val e = B(b, exp, B(b, sub, v, along_axis(b, shift, v, axis)));
	return B(b, add, shift, B(b, log, sum_axis(b, e, axis)));
}

Along along_but_last(const Graph *g, const Node *n, u32 in, u32 d)
{
	u32 rank = val_type(g, n->in[0])->rank;
	if (in > 0)
		return d + 1 == rank ? ALONG_POINTWISE : ALONG_NOT_THERE;
	return d + 1 == rank ? ALONG_MIXING : ALONG_POINTWISE;
}
