/* ir/ops/unfold.c: windows along one axis, as a view: result[.., o, i, ..] = a[.., o * step + i * dilation, ..]. Two of
 * them make of an image what a convolution multiplies, which its product reads in place, whatever overlaps. No composition will
 * do: slices are a node for each position in a window, and a gather's index is data, not known to be affine.
 *
 * The derivative adds what windows share, one slice for each position in a window. */
#include "ir/ops/composite.h"
#include "ir/sample.h"

Dim window_extent(Ir *ir, Dim in, Dim size, i64 stride, i64 padding, i64 dilation)
{
	Dim one = dim_number(ir, 1);
	Dim reach = dim_mul(ir, dim_number(ir, dilation), dim_sub(ir, size, one));
	Dim room = dim_sub(ir, dim_add(ir, in, dim_number(ir, 2 * padding - 1)), reach);
	i64 constant = 0;
	for (u32 i = 0; i < room->n; i++) {
		if (room->term[i].n == 0) {
			if (room->term[i].den != 1)
				return NULL;
			constant = room->term[i].num;
		}
	}
	Dim symbolic = dim_sub(ir, room, dim_number(ir, constant));
	i64 whole = constant / stride - (constant % stride < 0);
	Dim out = dim_add(ir, dim_div(ir, symbolic, dim_number(ir, stride)),
			  dim_number(ir, whole + 1));
	i64 n;
	return dim_is_number(out, &n) && n < 1 ? NULL : out;
}

Val slice_along(Builder *b, Val x, i64 axis, Dim start, Dim size, i64 step)
{
	const Type *t = val_type(b->g, x);
	Dim from[MAX_RANK], extent[MAX_RANK];
	i64 by[MAX_RANK];
	for (u32 d = 0; d < t->rank; d++) {
		from[d] = d == axis ? start : dim_number(b->g->ir, 0);
		extent[d] = d == axis ? size : t->dim[d];
		by[d] = d == axis ? step : 1;
	}
	return BA(b, slice, (x), .start = { t->rank, from }, .size = { t->rank, extent }, .step = { t->rank, by });
}

Val pull_back(Builder *b, Val result, Val dy)
{
	const Node n = *val_node(b->g, result);
	Val din[1] = { { 0 } };
	op_info[n.op].def->vjp(b, &n, &dy, din);
	return din[0];
}

static bool unfold_infer(InferCx *cx)
{
	const unfold_attr *a = cx->attr;
	const Type *t = infer_type(cx, 0);
	Ir *ir = cx->ir;
	if (!infer_has_axis(cx, a->axis, 0))
		return false;
	if (t->rank == MAX_RANK)
		return infer_fail(cx, "unfold: %s has %d dimensions, and that is the most", infer_text(cx, 0), MAX_RANK);
	if (a->size < 1 || a->step < 1 || a->dilation < 1)
		return infer_fail(cx, "unfold: size, step and dilation are at least 1, not %lld, %lld and %lld", (long long)a->size,
				  (long long)a->step, (long long)a->dilation);
	u32 axis = (u32)a->axis;
	Dim size = dim_number(ir, a->size), windows = window_extent(ir, t->dim[axis], size, a->step, 0, a->dilation);
	if (!windows)
		return infer_fail(cx, "unfold: no window of %lld (step %lld, dilation %lld) fits dimension %u of %s, or its step does not divide it",
				  (long long)a->size, (long long)a->step, (long long)a->dilation, axis, infer_text(cx, 0));
	Dim dim[MAX_RANK];
	for (u32 d = 0; d <= t->rank; d++) {
		u32 from = d > axis ? d - 1 : d;
		dim[d] = d == axis ? windows : d == axis + 1 ? size : t->dim[from];
		if (d != axis && d != axis + 1)
			cx->axis[0][d] = infer_axis(cx, 0)[from];
	}
	infer_result(cx, 0, type_make(ir, t->dtype, t->rank + 1, dim));
	return true;
}

static Val unfold_fold(Builder *b, const Node *n)
{
	const unfold_attr *a = ATTR(n, unfold);
	const Type *t = val_type(b->g, n->in[0]);
	Dim size = dim_number(b->g->ir, a->size), dim[MAX_RANK];
	for (u32 d = 0; d <= t->rank; d++)
		dim[d] = t->dim[d > a->axis ? d - 1 : d];
	dim[a->axis] = window_extent(b->g->ir, t->dim[a->axis], size, a->step, 0, a->dilation);
	dim[a->axis + 1] = size;
	dims shape = { t->rank + 1u, dim };
	if (a->step == a->size && a->dilation == 1 && dim_mul(b->g->ir, dim[a->axis], size) == t->dim[a->axis]) /* side by side */
		return BA(b, reshape, (n->in[0]), .shape = shape);
	return reshaped_full(b, n->in[0], shape);
}

static void unfold_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	const unfold_attr *a = ATTR(n, unfold);
	Ir *ir = b->g->ir;
	const Type *t = val_type(b->g, n->in[0]);
	Dim one = dim_number(ir, 1), windows = dim_of(b->g, n->out, (u32)a->axis), dim[MAX_RANK];
	for (u32 d = 0; d < t->rank; d++)
		dim[d] = d == a->axis ? windows : t->dim[d];
	Val dx = { 0 };
	for (i64 i = 0; i < a->size; i++) {
		Val dy = slice_along(b, dout[0], a->axis + 1, dim_number(ir, i), one, 1);
		dy = BA(b, reshape, (dy), .shape = { t->rank, dim });
		Val seen = slice_along(b, n->in[0], a->axis, dim_number(ir, i * a->dilation), windows, a->step);
		if (seen.i != n->in[0].i)
			dy = pull_back(b, seen, dy);
		dx = dx.i ? B(b, add, dx, dy) : dy;
	}
	din[0] = dx;
}

static void unfold_eval(EvalCx *cx)
{
	const unfold_attr *a = ATTR(cx->node, unfold);
	i64 from[MAX_RANK], stride[MAX_RANK];
	tensor_strides(cx->in[0], from);
	for (u32 d = 0; d < cx->out[0].rank; d++)
		stride[d] = from[d > a->axis ? d - 1 : d];
	stride[a->axis] *= a->step;
	stride[a->axis + 1] *= a->dilation;
	copy_strided(&cx->out[0], cx->in[0]->data, 0, stride);
}

static Cost unfold_cost(const Graph *g, const Node *n)
{
	return (Cost){ 0, 2 * (f64)type_bytes(val_type(g, n->out)) };
}

/* Dimensions behind the axis have another number in the operand. */
static Along unfold_along(const Graph *g, const Node *n, u32 in, u32 d)
{
	(void)g, (void)in;
	return d < ATTR(n, unfold)->axis ? ALONG_POINTWISE : ALONG_MIXING;
}

static void unfold_shard(ShardRule *r)
{
	u32 axis = (u32)ATTR(r->n, unfold)->axis;
	const Type *t = val_type(r->g, r->n->in[0]);
	for (u32 d = 0; d < t->rank; d++) {
		if (d == axis)
			continue;
		u32 l = shard_label(r, type_extent(t, d));
		shard_at(r, l, 0, d, 1);
		shard_at(r, l, 1, d > axis ? d + 1 : d, 1);
	}
	shard_linear(r, 1);
}

static Val unfold_sample(Random *r, Builder *b)
{
	Dim dim[MAX_RANK];
	u32 rank = random_shape(r, b, 1, 3, dim);
	i64 axis = random_int(r, 0, rank - 1), size = random_int(r, 1, 3), dilation = random_int(r, 1, 2);
	dim[axis] = dim_number(b->g->ir, dilation * (size - 1) + random_int(r, 1, 4));
	return BA(b, unfold, (sample_real(r, b, random_float(r), rank, dim)), .axis = axis, .size = size, .step = random_int(r, 1, 2),
		  .dilation = dilation);
}

const OpDef def_unfold = { .infer = unfold_infer, .fold = unfold_fold, .vjp = unfold_vjp, .cost = unfold_cost, .eval = unfold_eval,
			   .along = unfold_along, .shard = unfold_shard, .sample = unfold_sample };
