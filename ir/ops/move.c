/* ir/ops/move.c: the ops that move elements and compute nothing: broadcast, transpose, slice, split,
 * pad, concat (reshape, which regroups axes, has a file of its own). Two of one kind fold to one; one
 * of a constant folds to a constant. Axis classes pass through. */
#include "ir/ops/help.h"
#include "ir/sample.h"

static Axis first_class(Axis a, Axis b)
{
	return a.id ? a : b;
}

static bool is_zero(Dim d)
{
	return d->n == 0;
}

/* ---- broadcast ---- */

static bool broadcast_infer(InferCx *cx)
{
	const broadcast_attr *a = cx->attr;
	const Type *t = infer_type(cx, 0);
	if (a->shape.n > MAX_RANK)
		return infer_fail(cx, "broadcast: %u dimensions, and %d is the most", a->shape.n, MAX_RANK);
	if (a->dims.n != t->rank)
		return infer_fail(cx, "broadcast names %u dimensions for the %u of %s", a->dims.n,
				  t->rank, infer_text(cx, 0));
	for (u32 i = 0; i < t->rank; i++) {
		i64 to = a->dims.v[i];
		if (to < 0 || to >= a->shape.n || (i && to <= a->dims.v[i - 1]))
			return infer_fail(cx, "broadcast: dims must ascend within the result's %u dimensions",
					  a->shape.n);
		if (a->shape.v[to] != t->dim[i])
			return infer_fail(cx, "broadcast: %s does not fit %s at dimension %lld",
					  infer_text(cx, 0),
					  infer_dims_text(cx, a->shape.n, a->shape.v), (long long)to);
		cx->axis[0][to] = infer_axis(cx, 0)[i];
	}
	infer_result(cx, 0, type_make(cx->ir, t->dtype, a->shape.n, a->shape.v));
	return true;
}

static Val broadcast_fold(Builder *b, const Node *n)
{
	const broadcast_attr *a = ATTR(n, broadcast);
	if (a->dims.n == a->shape.n)
		return n->in[0]; /* dims ascend: each in its place */
	const Node *inner = made_by(b->g, n->in[0], OP_broadcast);
	if (inner) {
		const broadcast_attr *i = ATTR(inner, broadcast);
		i64 map[MAX_RANK];
		for (u32 d = 0; d < i->dims.n; d++)
			map[d] = a->dims.v[i->dims.v[d]];
		return BA(b, broadcast, (inner->in[0]), .shape = a->shape, .dims = { i->dims.n, map });
	}
	return reshaped_full(b, n->in[0], a->shape);
}

static void broadcast_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	const broadcast_attr *a = ATTR(n, broadcast);
	i64 axes[MAX_RANK];
	u32 naxes = 0, i = 0;
	for (u32 d = 0; d < a->shape.n; d++) {
		if (i < a->dims.n && a->dims.v[i] == d)
			i++;
		else
			axes[naxes++] = d;
	}
	din[0] = naxes ? BA(b, sum, (dout[0]), .axes = { naxes, axes }) : dout[0];
}

static void broadcast_eval(EvalCx *cx)
{
	const broadcast_attr *a = ATTR(cx->node, broadcast);
	i64 from[MAX_RANK], stride[MAX_RANK] = { 0 };
	tensor_strides(cx->in[0], from);
	for (u32 i = 0; i < a->dims.n; i++)
		stride[a->dims.v[i]] = from[i];
	copy_strided(&cx->out[0], cx->in[0]->data, 0, stride);
}

static Along broadcast_along(const Graph *g, const Node *n, u32 in, u32 d)
{
	(void)g, (void)in;
	const broadcast_attr *a = ATTR(n, broadcast);
	for (u32 i = 0; i < a->dims.n; i++)
		if (a->dims.v[i] == d)
			return ALONG_POINTWISE;
	return ALONG_NOT_THERE;
}

static Val broadcast_sample(Random *r, Builder *b)
{
	Dim shape[MAX_RANK], dim[MAX_RANK];
	i64 map[MAX_RANK];
	u32 rank = random_shape(r, b, 1, 4, shape), n = 0;
	for (u32 d = 0; d < rank; d++)
		if (random_chance(r, 0.5)) {
			dim[n] = shape[d];
			map[n++] = d;
		}
	Val x = sample_real(r, b, random_float(r), n, dim);
	return BA(b, broadcast, (x), .shape = { rank, shape }, .dims = { n, map });
}

/* What repeats may be repeated on each device for its part. */
static void broadcast_shard(ShardRule *r)
{
	const broadcast_attr *a = ATTR(r->n, broadcast);
	for (u32 d = 0, i = 0; d < a->shape.n; d++) {
		u32 l = shard_label(r, type_extent(val_type(r->g, r->n->out), d));
		r->label.v[l].pads = true;
		shard_at(r, l, 1, d, 1);
		if (i < a->dims.n && a->dims.v[i] == d)
			shard_at(r, l, 0, i++, 1);
	}
	shard_linear(r, 1);
}

const OpDef def_broadcast = { .shard = broadcast_shard, .infer = broadcast_infer, .fold = broadcast_fold,
			      .vjp = broadcast_vjp,	.cost = cost_movement,
			      .eval = broadcast_eval,	.along = broadcast_along,
			      .sample = broadcast_sample };

/* ---- transpose ---- */

static bool transpose_infer(InferCx *cx)
{
	const transpose_attr *a = cx->attr;
	const Type *t = infer_type(cx, 0);
	Dim dim[MAX_RANK];
	u32 mask;
	if (a->perm.n != t->rank)
		return infer_fail(cx, "transpose names %u dimensions for the %u of %s", a->perm.n, t->rank,
				  infer_text(cx, 0));
	if (!infer_axes(cx, a->perm, 0, &mask))
		return false;
	for (u32 d = 0; d < t->rank; d++) {
		dim[d] = t->dim[a->perm.v[d]];
		cx->axis[0][d] = infer_axis(cx, 0)[a->perm.v[d]];
	}
	infer_result(cx, 0, type_make(cx->ir, t->dtype, t->rank, dim));
	return true;
}

static Val transpose_fold(Builder *b, const Node *n)
{
	ints perm = ATTR(n, transpose)->perm;
	bool identity = true;
	for (u32 d = 0; d < perm.n; d++)
		identity &= perm.v[d] == d;
	if (identity)
		return n->in[0];
	const Node *inner = made_by(b->g, n->in[0], OP_transpose);
	if (inner) {
		i64 both[MAX_RANK];
		for (u32 d = 0; d < perm.n; d++)
			both[d] = ATTR(inner, transpose)->perm.v[perm.v[d]];
		return BA(b, transpose, (inner->in[0]), .perm = { perm.n, both });
	}
	Dim dim[MAX_RANK];
	for (u32 d = 0; d < perm.n; d++)
		dim[d] = dim_of(b->g, n->in[0], (u32)perm.v[d]);
	return reshaped_full(b, n->in[0], (dims){ perm.n, dim });
}

static void transpose_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	ints perm = ATTR(n, transpose)->perm;
	i64 back[MAX_RANK];
	for (u32 d = 0; d < perm.n; d++)
		back[perm.v[d]] = d;
	din[0] = BA(b, transpose, (dout[0]), .perm = { perm.n, back });
}

static void transpose_eval(EvalCx *cx)
{
	ints perm = ATTR(cx->node, transpose)->perm;
	i64 from[MAX_RANK], stride[MAX_RANK];
	tensor_strides(cx->in[0], from);
	for (u32 d = 0; d < perm.n; d++)
		stride[d] = from[perm.v[d]];
	copy_strided(&cx->out[0], cx->in[0]->data, 0, stride);
}

static Val transpose_sample(Random *r, Builder *b)
{
	Dim dim[MAX_RANK];
	i64 perm[MAX_RANK];
	u32 rank = random_shape(r, b, 0, 4, dim);
	for (u32 d = 0; d < rank; d++) {
		i64 k = random_int(r, 0, d);
		perm[d] = perm[k];
		perm[k] = d;
	}
	Val x = sample_real(r, b, random_float(r), rank, dim);
	return BA(b, transpose, (x), .perm = { rank, perm });
}

static void transpose_shard(ShardRule *r)
{
	ints perm = ATTR(r->n, transpose)->perm;
	for (u32 d = 0; d < perm.n; d++) {
		u32 l = shard_label(r, type_extent(val_type(r->g, r->n->out), d));
		r->label.v[l].pads = true;
		shard_at(r, l, 0, (u32)perm.v[d], 1);
		shard_at(r, l, 1, d, 1);
	}
	shard_linear(r, 1);
}

const OpDef def_transpose = { .shard = transpose_shard, .infer = transpose_infer, .fold = transpose_fold,
			      .vjp = transpose_vjp,	.cost = cost_movement,
			      .eval = transpose_eval,	.along = along_pointwise,
			      .sample = transpose_sample };

/* ---- slice ---- */

static bool slice_infer(InferCx *cx)
{
	const slice_attr *a = cx->attr;
	const Type *t = infer_type(cx, 0);
	if (a->start.n != t->rank || a->size.n != t->rank || a->step.n != t->rank)
		return infer_fail(cx, "slice needs a start, a size and a step for each dimension of %s",
				  infer_text(cx, 0));
	for (u32 d = 0; d < t->rank; d++) {
		i64 start, size, extent, step = a->step.v[d];
		if (step == 0)
			return infer_fail(cx, "slice: the step along dimension %u is 0", d);
		if (dim_is_number(a->start.v[d], &start) && dim_is_number(a->size.v[d], &size) &&
		    dim_is_number(t->dim[d], &extent)) {
			i64 last = start + (size - 1) * step;
			if (size < 0 || (size > 0 && (start < 0 || start >= extent || last < 0 ||
						      last >= extent)))
				return infer_fail(cx, "slice: %lld elements from %lld by %lld leave "
						      "dimension %u of %s",
						  (long long)size, (long long)start, (long long)step, d,
						  infer_text(cx, 0));
		}
		if (a->size.v[d] == t->dim[d])
			cx->axis[0][d] = infer_axis(cx, 0)[d];
	}
	infer_result(cx, 0, type_make(cx->ir, t->dtype, t->rank, a->size.v));
	return true;
}

/* Does the slice leave dimension d whole and in order? */
static bool slice_keeps(const slice_attr *a, const Type *t, u32 d)
{
	return is_zero(a->start.v[d]) && a->size.v[d] == t->dim[d] && a->step.v[d] == 1;
}

/* A slice of repetitions is fewer of them. */
static Val slice_of_broadcast(Builder *b, const slice_attr *a, const Type *t, const Node *repeat)
{
	const broadcast_attr *i = ATTR(repeat, broadcast);
	for (u32 k = 0; k < i->dims.n; k++)
		if (!slice_keeps(a, t, (u32)i->dims.v[k]))
			return (Val){ 0 };
	return BA(b, broadcast, (repeat->in[0]), .shape = a->size, .dims = i->dims);
}

/* A slice that lies in one of the pieces is a slice of that piece. */
static Val slice_of_concat(Builder *b, const slice_attr *a, const Node *concat)
{
	i64 axis = ATTR(concat, concat)->axis, start, size, from = 0;
	if (!dim_is_number(a->start.v[axis], &start) || !dim_is_number(a->size.v[axis], &size) ||
	    a->step.v[axis] != 1)
		return (Val){ 0 };
	for (u32 i = 0; i < concat->nin; i++) {
		i64 extent;
		if (!dim_is_number(dim_of(b->g, concat->in[i], (u32)axis), &extent))
			return (Val){ 0 };
		if (start >= from && start + size <= from + extent) {
			Dim begin[MAX_RANK];
			for (u32 d = 0; d < a->start.n; d++)
				begin[d] = d == axis ? dim_number(b->g->ir, start - from) : a->start.v[d];
			return BA(b, slice, (concat->in[i]), .start = { a->start.n, begin },
				  .size = a->size, .step = a->step);
		}
		from += extent;
	}
	return (Val){ 0 };
}

static Val slice_fold(Builder *b, const Node *n)
{
	const slice_attr *a = ATTR(n, slice);
	const Type *t = val_type(b->g, n->in[0]);
	Ir *ir = b->g->ir;
	bool whole = true;
	for (u32 d = 0; d < t->rank; d++)
		whole &= slice_keeps(a, t, d);
	if (whole)
		return n->in[0];
	const Node *from = val_node(b->g, n->in[0]);
	if (from->op == OP_slice) {
		const slice_attr *i = ATTR(from, slice);
		Dim start[MAX_RANK];
		i64 step[MAX_RANK];
		for (u32 d = 0; d < t->rank; d++) {
			Dim skip = dim_mul(ir, a->start.v[d], dim_number(ir, i->step.v[d]));
			start[d] = dim_add(ir, i->start.v[d], skip);
			step[d] = a->step.v[d] * i->step.v[d];
		}
		return BA(b, slice, (from->in[0]), .start = { t->rank, start }, .size = a->size,
			  .step = { t->rank, step });
	}
	if (from->op == OP_broadcast)
		return slice_of_broadcast(b, a, t, from);
	if (from->op == OP_concat)
		return slice_of_concat(b, a, from);
	return reshaped_full(b, n->in[0], a->size);
}

/* start + step * i as indices, for the dimensions whose step is not 1. */
static Val slice_indices(Builder *b, Dim start, Dim size, i64 step)
{
	dims shape = { 1, &size };
	Val i = BS(b, iota, .axis = 0, .dtype = DT_i32, .shape = shape);
	Val from = BS(b, extent, .size = { 1, &start }, .dtype = DT_i32);
	i = B(b, mul, i, make_full(b, (f64)step, DT_i32, shape));
	return B(b, add, i, make_broadcast(b, from, shape));
}

/* Zeros around: pad for the dimensions of step 1, scatter_add for the others. */
static void slice_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	const slice_attr *a = ATTR(n, slice);
	const Type *t = val_type(b->g, n->in[0]);
	Ir *ir = b->g->ir;
	Dim low[MAX_RANK], high[MAX_RANK];
	Val d = dout[0];
	for (u32 k = 0; k < t->rank; k++) {
		low[k] = high[k] = dim_number(ir, 0);
		if (a->step.v[k] == 1) {
			low[k] = a->start.v[k];
			high[k] = dim_sub(ir, dim_sub(ir, t->dim[k], low[k]), a->size.v[k]);
			continue;
		}
		Val at = slice_indices(b, a->start.v[k], a->size.v[k], a->step.v[k]);
		d = BA(b, scatter_add, (d, at), .axis = k, .size = { 1, &t->dim[k] });
	}
	din[0] = BA(b, pad, (d), .low = { t->rank, low }, .high = { t->rank, high }, .value = 0);
}

static void slice_eval(EvalCx *cx)
{
	const slice_attr *a = ATTR(cx->node, slice);
	i64 stride[MAX_RANK], base = 0;
	tensor_strides(cx->in[0], stride);
	for (u32 d = 0; d < cx->in[0]->rank; d++) {
		i64 start;
		if (!dim_is_number(a->start.v[d], &start))
			NEVER("a slice was evaluated before sizes were bound");
		base += start * stride[d];
		stride[d] *= a->step.v[d];
	}
	copy_strided(&cx->out[0], cx->in[0]->data, base, stride);
}

static Cost slice_cost(const Graph *g, const Node *n)
{
	return (Cost){ 0, 2 * (f64)type_bytes(val_type(g, n->out)) };
}

static Along slice_along(const Graph *g, const Node *n, u32 in, u32 d)
{
	(void)in;
	return slice_keeps(ATTR(n, slice), val_type(g, n->in[0]), d) ? ALONG_POINTWISE : ALONG_MIXING;
}

static Val slice_sample(Random *r, Builder *b)
{
	Dim dim[MAX_RANK], start[MAX_RANK], size[MAX_RANK];
	i64 step[MAX_RANK];
	u32 rank = random_shape(r, b, 0, 3, dim);
	Val x = sample_real(r, b, random_float(r), rank, dim);
	for (u32 d = 0; d < rank; d++) {
		i64 extent = type_extent(val_type(b->g, x), d), from = random_int(r, 0, extent - 1);
		step[d] = random_int(r, 1, 2) * (random_chance(r, 0.3) ? -1 : 1);
		i64 room = step[d] > 0 ? (extent - 1 - from) / step[d] : from / -step[d];
		start[d] = dim_number(b->g->ir, from);
		size[d] = dim_number(b->g->ir, random_int(r, 1, room + 1));
	}
	return BA(b, slice, (x), .start = { rank, start }, .size = { rank, size },
		  .step = { rank, step });
}

/* Along what stays whole. */
static void slice_shard(ShardRule *r)
{
	const Type *t = val_type(r->g, r->n->in[0]);
	u32 cut = 0;
	for (u32 d = 0; d < t->rank; d++)
		cut |= (u32)!slice_keeps(ATTR(r->n, slice), t, d) << d;
	shard_pointwise_but(r, cut);
	shard_linear(r, 1);
}

const OpDef def_slice = { .shard = slice_shard, .infer = slice_infer, .fold = slice_fold,   .vjp = slice_vjp,
			  .cost = slice_cost,	.eval = slice_eval,   .along = slice_along,
			  .sample = slice_sample };

/* ---- split ---- */

static bool split_infer(InferCx *cx)
{
	const split_attr *a = cx->attr;
	const Type *t = infer_type(cx, 0);
	if (!infer_has_axis(cx, a->axis, 0))
		return false;
	if (a->sizes.n == 0)
		return infer_fail(cx, "split needs at least one size");
	Dim total = dim_number(cx->ir, 0), dim[MAX_RANK];
	for (u32 i = 0; i < a->sizes.n; i++)
		total = dim_add(cx->ir, total, a->sizes.v[i]);
	if (total != t->dim[a->axis])
		return infer_fail(cx, "split: the sizes %s do not add up to dimension %lld of %s",
				  infer_dims_text(cx, a->sizes.n, a->sizes.v), (long long)a->axis,
				  infer_text(cx, 0));
	for (u32 d = 0; d < t->rank; d++)
		dim[d] = t->dim[d];
	for (u32 i = 0; i < a->sizes.n; i++) {
		i64 size;
		if (dim_is_number(a->sizes.v[i], &size) && size < 0)
			return infer_fail(cx, "split: size %lld is negative", (long long)size);
		dim[a->axis] = a->sizes.v[i];
		infer_result(cx, i, type_make(cx->ir, t->dtype, t->rank, dim));
		for (u32 d = 0; d < t->rank; d++)
			if (dim[d] == t->dim[d])
				cx->axis[i][d] = infer_axis(cx, 0)[d];
	}
	return true;
}

static Val split_fold(Builder *b, const Node *n)
{
	(void)b;
	return n->in[0]; /* asked only where there is one piece: the whole */
}

static void split_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	Val *piece = NEWN(b->g->arena, Val, n->nout);
	DType d = DT_f32;
	for (u32 i = 0; i < n->nout; i++)
		if (dout[i].i)
			d = val_type(b->g, dout[i])->dtype;
	for (u32 i = 0; i < n->nout; i++) {
		const Type *t = val_type(b->g, (Val){ n->out.i + i });
		piece[i] = dout[i].i ? dout[i] : make_full(b, 0, d, dims_of_type(b, t));
	}
	din[0] = build(b, OP_concat, piece, n->nout, 0,
		       &(concat_attr){ .axis = ATTR(n, split)->axis });
}

static void split_eval(EvalCx *cx)
{
	i64 axis = ATTR(cx->node, split)->axis, stride[MAX_RANK], base = 0;
	tensor_strides(cx->in[0], stride);
	for (u32 i = 0; i < cx->node->nout; i++) {
		copy_strided(&cx->out[i], cx->in[0]->data, base, stride);
		base += cx->out[i].dim[axis] * stride[axis];
	}
}

static Along split_along(const Graph *g, const Node *n, u32 in, u32 d)
{
	(void)g, (void)in;
	return d == ATTR(n, split)->axis ? ALONG_MIXING : ALONG_POINTWISE;
}

static Val split_sample(Random *r, Builder *b)
{
	Ir *ir = b->g->ir;
	Dim dim[MAX_RANK], size[3];
	u32 rank = random_shape(r, b, 1, 3, dim), n = (u32)random_int(r, 2, 3);
	i64 axis = random_int(r, 0, rank - 1);
	dim[axis] = dim_number(ir, 0);
	for (u32 i = 0; i < n; i++) {
		size[i] = random_extent(r, b);
		dim[axis] = dim_add(ir, dim[axis], size[i]);
	}
	Val x = sample_real(r, b, random_float(r), rank, dim);
	return BA(b, split, (x), .axis = axis, .sizes = { n, size });
}

static void split_shard(ShardRule *r)
{
	shard_pointwise_but(r, 1u << ATTR(r->n, split)->axis);
	shard_linear(r, 1);
}

const OpDef def_split = { .shard = split_shard, .infer = split_infer, .fold = split_fold,   .vjp = split_vjp,
			  .cost = cost_movement, .eval = split_eval,  .along = split_along,
			  .sample = split_sample };

/* ---- pad ---- */

static bool pad_infer(InferCx *cx)
{
	const pad_attr *a = cx->attr;
	const Type *t = infer_type(cx, 0);
	Dim dim[MAX_RANK];
	if (a->low.n != t->rank || a->high.n != t->rank)
		return infer_fail(cx, "pad needs a low and a high width for each dimension of %s",
				  infer_text(cx, 0));
	if (!dtype_is_float(t->dtype) && dtype_round(t->dtype, a->value) != a->value)
		return infer_fail(cx, "pad: %g is not a value of %s", a->value, infer_text(cx, 0));
	for (u32 d = 0; d < t->rank; d++) {
		i64 low, high;
		if ((dim_is_number(a->low.v[d], &low) && low < 0) ||
		    (dim_is_number(a->high.v[d], &high) && high < 0))
			return infer_fail(cx, "pad: a width along dimension %u is negative", d);
		dim[d] = dim_add(cx->ir, dim_add(cx->ir, a->low.v[d], t->dim[d]), a->high.v[d]);
		if (dim[d] == t->dim[d])
			cx->axis[0][d] = infer_axis(cx, 0)[d];
	}
	infer_result(cx, 0, type_make(cx->ir, t->dtype, t->rank, dim));
	return true;
}

static bool pad_keeps(const pad_attr *a, u32 d)
{
	return is_zero(a->low.v[d]) && is_zero(a->high.v[d]);
}

static Val pad_fold(Builder *b, const Node *n)
{
	const pad_attr *a = ATTR(n, pad);
	const Type *t = val_type(b->g, n->in[0]);
	bool whole = true;
	for (u32 d = 0; d < t->rank; d++)
		whole &= pad_keeps(a, d);
	if (whole)
		return n->in[0];
	if (is_number(b->g, n->in[0], dtype_round(t->dtype, a->value))) {
		Ir *ir = b->g->ir;
		Dim dim[MAX_RANK];
		for (u32 d = 0; d < t->rank; d++)
			dim[d] = dim_add(ir, dim_add(ir, a->low.v[d], t->dim[d]), a->high.v[d]);
		return make_full(b, a->value, t->dtype, (dims){ t->rank, dim });
	}
	return (Val){ 0 };
}

static void pad_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	const Type *t = val_type(b->g, n->in[0]);
	i64 step[MAX_RANK];
	for (u32 d = 0; d < t->rank; d++)
		step[d] = 1;
	din[0] = BA(b, slice, (dout[0]), .start = ATTR(n, pad)->low, .size = { t->rank, t->dim },
		    .step = { t->rank, step });
}

static void pad_eval(EvalCx *cx)
{
	const pad_attr *a = ATTR(cx->node, pad);
	const Tensor *x = cx->in[0];
	Tensor *y = &cx->out[0];
	i64 stride[MAX_RANK], base = 0, index[MAX_RANK] = { 0 };
	tensor_strides(y, stride);
	for (i64 i = 0; i < y->n; i++)
		y->data[i] = a->value;
	for (u32 d = 0; d < y->rank; d++) {
		i64 low;
		if (!dim_is_number(a->low.v[d], &low))
			NEVER("a pad was evaluated before sizes were bound");
		base += low * stride[d];
	}
	for (i64 i = 0; i < x->n; i++) {
		i64 at = base;
		for (u32 d = 0; d < x->rank; d++)
			at += index[d] * stride[d];
		y->data[at] = x->data[i];
		for (u32 d = x->rank; d-- > 0 && ++index[d] == x->dim[d];)
			index[d] = 0;
	}
}

static Along pad_along(const Graph *g, const Node *n, u32 in, u32 d)
{
	(void)g, (void)in;
	return pad_keeps(ATTR(n, pad), d) ? ALONG_POINTWISE : ALONG_MIXING;
}

static Val pad_sample(Random *r, Builder *b)
{
	Dim dim[MAX_RANK], low[MAX_RANK], high[MAX_RANK];
	u32 rank = random_shape(r, b, 0, 3, dim);
	for (u32 d = 0; d < rank; d++) {
		low[d] = dim_number(b->g->ir, random_int(r, 0, 2));
		high[d] = dim_number(b->g->ir, random_int(r, 0, 2));
	}
	Val x = sample_real(r, b, random_float(r), rank, dim);
	return BA(b, pad, (x), .low = { rank, low }, .high = { rank, high }, .value = 0.5);
}

static void pad_shard(ShardRule *r)
{
	const pad_attr *a = ATTR(r->n, pad);
	u32 padded = 0;
	for (u32 d = 0; d < a->low.n; d++)
		padded |= (u32)!pad_keeps(a, d) << d;
	shard_pointwise_but(r, padded);
	if (a->value == 0)
		shard_linear(r, 1);
}

const OpDef def_pad = { .shard = pad_shard, .infer = pad_infer,    .fold = pad_fold, .vjp = pad_vjp,
			.cost = cost_movement, .eval = pad_eval, .along = pad_along,
			.sample = pad_sample };

/* ---- concat ---- */

static bool concat_infer(InferCx *cx)
{
	i64 axis = ((const concat_attr *)cx->attr)->axis;
	if (cx->nin == 0)
		return infer_fail(cx, "concat needs at least one operand");
	const Type *t = infer_type(cx, 0);
	if (!infer_has_axis(cx, axis, 0))
		return false;
	Dim dim[MAX_RANK], total = dim_number(cx->ir, 0);
	for (u32 i = 0; i < cx->nin; i++) {
		const Type *u = infer_type(cx, i);
		bool fits = u->dtype == t->dtype && u->rank == t->rank;
		for (u32 d = 0; fits && d < t->rank; d++)
			fits = d == axis || u->dim[d] == t->dim[d];
		if (!fits)
			return infer_fail(cx, "concat: %s and %s differ beyond axis %lld",
					  infer_text(cx, 0), infer_text(cx, i), (long long)axis);
		total = dim_add(cx->ir, total, u->dim[axis]);
	}
	for (u32 d = 0; d < t->rank; d++) {
		dim[d] = d == axis ? total : t->dim[d];
		for (u32 i = 0; i < cx->nin; i++)
			if (infer_type(cx, i)->dim[d] == dim[d])
				cx->axis[0][d] = first_class(cx->axis[0][d], infer_axis(cx, i)[d]);
	}
	infer_result(cx, 0, type_make(cx->ir, t->dtype, t->rank, dim));
	return true;
}

/* One operand is the result; all pieces of a split, in order, are what was split. */
static Val concat_fold(Builder *b, const Node *n)
{
	if (n->nin == 1)
		return n->in[0];
	const Node *split = made_by(b->g, n->in[0], OP_split);
	if (!split || split->nout != n->nin || ATTR(split, split)->axis != ATTR(n, concat)->axis)
		return (Val){ 0 };
	for (u32 i = 0; i < n->nin; i++)
		if (n->in[i].i != split->out.i + i)
			return (Val){ 0 };
	return split->in[0];
}

static void concat_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	i64 axis = ATTR(n, concat)->axis;
	Dim *size = NEWN(b->g->arena, Dim, n->nin);
	for (u32 i = 0; i < n->nin; i++)
		size[i] = dim_of(b->g, n->in[i], (u32)axis);
	Val piece = BA(b, split, (dout[0]), .axis = axis, .sizes = { n->nin, size });
	for (u32 i = 0; i < n->nin; i++)
		din[i] = (Val){ piece.i + i };
}

static void concat_eval(EvalCx *cx)
{
	i64 axis = ATTR(cx->node, concat)->axis, at = 0;
	AxisView to = axis_view(&cx->out[0], axis);
	for (u32 i = 0; i < cx->node->nin; i++) {
		i64 run = cx->in[i]->dim[axis] * to.inner;
		for (i64 o = 0; o < to.outer; o++)
			for (i64 k = 0; k < run; k++)
				cx->out[0].data[o * to.extent * to.inner + at + k] =
					cx->in[i]->data[o * run + k];
		at += run;
	}
}

static Along concat_along(const Graph *g, const Node *n, u32 in, u32 d)
{
	(void)g, (void)in;
	return d == ATTR(n, concat)->axis ? ALONG_MIXING : ALONG_POINTWISE;
}

static Val concat_sample(Random *r, Builder *b)
{
	Dim dim[MAX_RANK];
	u32 rank = random_shape(r, b, 1, 3, dim), n = (u32)random_int(r, 1, 3);
	i64 axis = random_int(r, 0, rank - 1);
	DType d = random_float(r);
	Val in[3];
	for (u32 i = 0; i < n; i++) {
		dim[axis] = random_extent(r, b);
		in[i] = sample_real(r, b, d, rank, dim);
	}
	return build(b, OP_concat, in, n, 0, &(concat_attr){ .axis = axis });
}

static void concat_shard(ShardRule *r)
{
	shard_pointwise_but(r, 1u << ATTR(r->n, concat)->axis);
	if (r->n->nin < 64)
		shard_linear(r, (1ull << r->n->nin) - 1);
}

const OpDef def_concat = { .shard = concat_shard, .infer = concat_infer,  .fold = concat_fold, .vjp = concat_vjp,
			   .cost = cost_movement,  .eval = concat_eval, .along = concat_along,
			   .sample = concat_sample };
