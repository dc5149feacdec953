/* ir/ops/index.c: the ops whose indexing is data, or that work along one axis in order: gather and
 * its adjoint, take_along and its adjoint, argmax, cumsum, sort.
 *
 * An index outside the axis is clamped to it, in the adjoints too. NaN counts as the largest number,
 * as in PyTorch. */
#include "ir/ops/help.h"
#include "ir/sample.h"

#include <math.h>
#include <stdlib.h>

/* ---- gather, scatter_add ---- */

/* Are these indices 0, 1, 2, ...? Then how many (a number). */
static bool counts_up(const Graph *g, Val index, i64 *n)
{
	const Node *iota = made_by(g, index, OP_iota);
	return iota && ATTR(iota, iota)->shape.n == 1 && dim_is_number(ATTR(iota, iota)->shape.v[0], n);
}

static bool gather_infer(InferCx *cx)
{
	i64 axis = ((const gather_attr *)cx->attr)->axis;
	const Type *t = infer_type(cx, 0), *index = infer_type(cx, 1);
	if (!infer_has_axis(cx, axis, 0) || !infer_is_integer(cx, 1))
		return false;
	if (t->rank - 1u + index->rank > MAX_RANK)
		return infer_fail(cx, "gather: %s indexed by %s has more than %d dimensions",
				  infer_text(cx, 0), infer_text(cx, 1), MAX_RANK);
	Dim dim[MAX_RANK];
	u32 rank = 0;
	for (u32 d = 0; d < t->rank; d++) {
		if (d != axis) {
			cx->axis[0][rank] = infer_axis(cx, 0)[d];
			dim[rank++] = t->dim[d];
			continue;
		}
		for (u32 k = 0; k < index->rank; k++) {
			cx->axis[0][rank] = infer_axis(cx, 1)[k];
			dim[rank++] = index->dim[k];
		}
	}
	infer_result(cx, 0, type_make(cx->ir, t->dtype, rank, dim));
	return true;
}

/* Of a constant; of the first n slices. */
static Val gather_fold(Builder *b, const Node *n)
{
	const Graph *g = b->g;
	const Type *t = val_type(g, n->in[0]), *index = val_type(g, n->in[1]);
	i64 axis = ATTR(n, gather)->axis, count, extent, step[MAX_RANK];
	Dim dim[MAX_RANK], start[MAX_RANK];
	if (made_by(g, n->in[0], OP_full)) {
		u32 rank = 0;
		for (u32 d = 0; d < t->rank; d++) {
			if (d != axis)
				dim[rank++] = t->dim[d];
			for (u32 k = 0; d == axis && k < index->rank; k++)
				dim[rank++] = index->dim[k];
		}
		return reshaped_full(b, n->in[0], (dims){ rank, dim });
	}
	if (!counts_up(g, n->in[1], &count) || !dim_is_number(t->dim[axis], &extent) || count > extent)
		return (Val){ 0 };
	for (u32 d = 0; d < t->rank; d++) {
		start[d] = dim_number(g->ir, 0);
		dim[d] = d == axis ? index->dim[0] : t->dim[d];
		step[d] = 1;
	}
	return BA(b, slice, (n->in[0]), .start = { t->rank, start }, .size = { t->rank, dim },
		  .step = { t->rank, step });
}

static void gather_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	i64 axis = ATTR(n, gather)->axis;
	Dim size = dim_of(b->g, n->in[0], (u32)axis);
	din[0] = BA(b, scatter_add, (dout[0], n->in[1]), .axis = axis, .size = { 1, &size });
	graph_set_axis(b->g, din[0], val_axis(b->g, n->in[0])); /* rows of the table, which rules of division name */
}

static void gather_eval(EvalCx *cx)
{
	AxisView from = axis_view(cx->in[0], ATTR(cx->node, gather)->axis);
	const Tensor *index = cx->in[1];
	f64 *to = cx->out[0].data;
	if (cx->out[0].n && from.extent == 0)
		NEVER("gather from an axis of extent 0");
	for (i64 o = 0; o < from.outer; o++)
		for (i64 i = 0; i < index->n; i++) {
			i64 at = clamp_index(index->data[i], from.extent);
			const f64 *row = cx->in[0]->data + (o * from.extent + at) * from.inner;
			for (i64 k = 0; k < from.inner; k++)
				*to++ = row[k];
		}
}

/* What is chosen is read and written; the rest of the table is not touched. */
static Cost gather_cost(const Graph *g, const Node *n)
{
	f64 result = (f64)type_bytes(val_type(g, n->out));
	return (Cost){ 0, 2 * result + (f64)type_bytes(val_type(g, n->in[1])) };
}

static Along gather_along(const Graph *g, const Node *n, u32 in, u32 d)
{
	i64 axis = ATTR(n, gather)->axis;
	bool of_index = d >= axis && d < axis + val_type(g, n->in[1])->rank;
	return of_index == (in == 1) ? ALONG_POINTWISE : ALONG_NOT_THERE;
}

static Val gather_sample(Random *r, Builder *b)
{
	Dim dim[MAX_RANK], index[MAX_RANK];
	u32 rank = random_shape(r, b, 1, 3, dim), nindex = random_shape(r, b, 0, 2, index);
	i64 axis = random_int(r, 0, rank - 1);
	Val x = sample_real(r, b, random_float(r), rank, dim);
	i64 extent = type_extent(val_type(b->g, x), (u32)axis);
	/* now and then outside */
	Val i = sample_input(r, b, SAMPLE_WHOLE, random_chance(r, 0.5) ? DT_i32 : DT_i64, nindex, index,
			     -1, (f64)extent);
	return BA(b, gather, (x, i), .axis = axis);
}

/* A table split along what is chosen from: each device has the rows that it holds, and zeros. */
static void gather_shard(ShardRule *r)
{
	const Type *t = val_type(r->g, r->n->in[0]), *index = val_type(r->g, r->n->in[1]);
	u32 axis = (u32)ATTR(r->n, gather)->axis, to = 0;
	for (u32 d = 0; d < t->rank; d++) {
		u32 l = shard_label(r, type_extent(t, d));
		shard_at(r, l, 0, d, 1);
		if (d != axis) {
			shard_at(r, l, 2, to++, 1);
			continue;
		}
		r->label.v[l].reduce = SHARD_SUM;
		r->label.v[l].fix = SHARD_LOOKUP;
		for (u32 k = 0; k < index->rank; k++) {
			l = shard_label(r, type_extent(index, k));
			shard_at(r, l, 1, k, 1);
			shard_at(r, l, 2, to++, 1);
		}
	}
	shard_linear(r, 1);
}

const OpDef def_gather = { .shard = gather_shard, .infer = gather_infer, .fold = gather_fold, .vjp = gather_vjp,
			   .cost = gather_cost,	  .eval = gather_eval, .along = gather_along,
			   .sample = gather_sample };

static bool scatter_add_infer(InferCx *cx)
{
	const scatter_add_attr *a = cx->attr;
	const Type *t = infer_type(cx, 0), *index = infer_type(cx, 1);
	if (cx->nin < 2 || cx->nin > 3)
		return infer_fail(cx, "scatter_add takes 2 or 3 operands, not %u", cx->nin);
	if (!infer_is_integer(cx, 1))
		return false;
	if (a->size.n != 1)
		return infer_fail(cx, "scatter_add takes one size, not %u", a->size.n);
	bool fits = a->axis >= 0 && a->axis + index->rank <= t->rank &&
		    t->rank - index->rank < MAX_RANK && t->dtype != DT_b1;
	for (u32 k = 0; fits && k < index->rank; k++)
		fits = t->dim[a->axis + k] == index->dim[k];
	if (!fits)
		return infer_fail(cx, "scatter_add: the dimensions of the indices %s are not those of %s "
				  "from axis %lld",
				  infer_text(cx, 1), infer_text(cx, 0), (long long)a->axis);
	Dim dim[MAX_RANK];
	u32 rank = 0;
	for (u32 d = 0; d <= t->rank; d++) {
		if (d == a->axis)
			dim[rank++] = a->size.v[0];
		if (d == t->rank || (d >= a->axis && d < a->axis + index->rank))
			continue;
		cx->axis[0][rank] = infer_axis(cx, 0)[d];
		dim[rank++] = t->dim[d];
	}
	const Type *to = type_make(cx->ir, t->dtype, rank, dim);
	if (cx->nin == 3 && infer_type(cx, 2) != to)
		return infer_fail(cx, "scatter_add: what is added to is %s, and what is added makes another type", infer_text(cx, 2));
	infer_result(cx, 0, to);
	return true;
}

/* Of zeros; to the first n slices; to zeros. */
static Val scatter_add_fold(Builder *b, const Node *n)
{
	const Graph *g = b->g;
	const scatter_add_attr *a = ATTR(n, scatter_add);
	const Type *t = val_type(g, n->in[0]);
	u32 nindex = val_type(g, n->in[1])->rank, rank = 0;
	Dim low[MAX_RANK], high[MAX_RANK], dim[MAX_RANK];
	i64 count, size;
	if (n->nin == 3 && is_number(g, n->in[2], 0))
		return build(b, OP_scatter_add, n->in, 2, 0, a);
	if (is_number(g, n->in[0], 0)) {
		if (n->nin == 3)
			return n->in[2];
		for (u32 d = 0; d <= t->rank; d++) {
			if (d == a->axis)
				dim[rank++] = a->size.v[0];
			if (d < t->rank && !(d >= a->axis && d < a->axis + nindex))
				dim[rank++] = t->dim[d];
		}
		return make_full(b, 0, t->dtype, (dims){ rank, dim });
	}
	if (n->nin == 3 || !counts_up(g, n->in[1], &count) || !dim_is_number(a->size.v[0], &size) || count > size)
		return (Val){ 0 };
	for (u32 d = 0; d < t->rank; d++)
		low[d] = high[d] = dim_number(g->ir, 0);
	high[a->axis] = dim_number(g->ir, size - count);
	return BA(b, pad, (n->in[0]), .low = { t->rank, low }, .high = { t->rank, high });
}

static void scatter_add_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	din[0] = BA(b, gather, (dout[0], n->in[1]), .axis = ATTR(n, scatter_add)->axis);
	if (n->nin == 3)
		din[2] = dout[0];
}

static void scatter_add_eval(EvalCx *cx)
{
	AxisView to = axis_view(&cx->out[0], ATTR(cx->node, scatter_add)->axis);
	const Tensor *index = cx->in[1];
	const f64 *from = cx->in[0]->data;
	if (cx->in[0]->n && to.extent == 0)
		NEVER("scatter_add to an axis of extent 0");
	if (cx->node->nin == 3)
		memcpy(cx->out[0].data, cx->in[2]->data, (size_t)cx->out[0].n * sizeof(f64));
	for (i64 o = 0; o < to.outer; o++)
		for (i64 i = 0; i < index->n; i++) {
			i64 at = clamp_index(index->data[i], to.extent);
			f64 *row = cx->out[0].data + (o * to.extent + at) * to.inner;
			for (i64 k = 0; k < to.inner; k++)
				row[k] += *from++;
		}
}

static Along scatter_add_along(const Graph *g, const Node *n, u32 in, u32 d)
{
	(void)g;
	if (d == ATTR(n, scatter_add)->axis)
		return ALONG_MIXING;
	return in == 1 ? ALONG_NOT_THERE : ALONG_POINTWISE;
}

static Val scatter_add_sample(Random *r, Builder *b)
{
	Dim dim[MAX_RANK];
	u32 rank = random_shape(r, b, 0, 4, dim);
	i64 nindex = random_int(r, 0, MIN(rank, 2u)), axis = random_int(r, 0, rank - nindex);
	i64 extent = random_int(r, 1, 4);
	Dim size = dim_number(b->g->ir, extent);
	Val x = sample_real(r, b, random_float(r), rank, dim);
	Val i = sample_input(r, b, SAMPLE_WHOLE, DT_i32, (u32)nindex, dim + axis, -1, (f64)extent);
	Val onto = BA(b, scatter_add, (x, i), .axis = axis, .size = { 1, &size });
	if (random_chance(r, 0.6))
		return onto;
	const Type *t = val_type(b->g, onto);
	return BA(b, scatter_add, (x, i, sample_real(r, b, t->dtype, t->rank, t->dim)), .axis = axis, .size = { 1, &size });
}

/* Rows divided are summed, unless they are added to something; a result divided takes the rows that are its own. */
static void scatter_add_shard(ShardRule *r)
{
	const Type *t = val_type(r->g, r->n->in[0]), *index = val_type(r->g, r->n->in[1]), *out = val_type(r->g, r->n->out);
	u32 axis = (u32)ATTR(r->n, scatter_add)->axis, to = 0;
	bool onto = r->n->nin == 3;
	for (u32 d = 0; d <= t->rank; d++) {
		if (d == axis) {
			u32 l = shard_label(r, type_extent(out, to));
			for (u32 k = 2; k < 3u + onto; k++)
				shard_at(r, l, k, to, 1);
			to++;
			r->label.v[l].fix = SHARD_LOOKUP;
		}
		if (d == t->rank)
			break;
		bool row = d >= axis && d < axis + index->rank;
		if (row && onto)
			continue;
		u32 l = shard_label(r, type_extent(t, d));
		shard_at(r, l, 0, d, 1);
		if (row) {
			shard_at(r, l, 1, d - axis, 1);
			r->label.v[l].reduce = SHARD_SUM;
		} else {
			for (u32 k = 2; k < 3u + onto; k++)
				shard_at(r, l, k, to, 1);
			to++;
		}
	}
	shard_linear(r, onto ? 5 : 1);
}

const OpDef def_scatter_add = { .shard = scatter_add_shard, .infer = scatter_add_infer, .fold = scatter_add_fold,
				.vjp = scatter_add_vjp,	    .cost = cost_per_operand_element,
				.eval = scatter_add_eval,   .along = scatter_add_along,
				.sample = scatter_add_sample };

/* ---- take_along, scatter_along ---- */

static bool agree_off_axis(InferCx *cx, i64 axis)
{
	const Type *t = infer_type(cx, 0), *index = infer_type(cx, 1);
	if (!infer_has_axis(cx, axis, 0) || !infer_is_integer(cx, 1))
		return false;
	bool fits = t->rank == index->rank;
	for (u32 d = 0; fits && d < t->rank; d++)
		fits = d == axis || t->dim[d] == index->dim[d];
	if (!fits)
		return infer_fail(cx, "%s: %s and the indices %s differ beyond axis %lld",
				  op_info[cx->op].name, infer_text(cx, 0), infer_text(cx, 1),
				  (long long)axis);
	return true;
}

static bool take_along_infer(InferCx *cx)
{
	i64 axis = ((const take_along_attr *)cx->attr)->axis;
	const Type *t = infer_type(cx, 0), *index = infer_type(cx, 1);
	if (!agree_off_axis(cx, axis))
		return false;
	for (u32 d = 0; d < t->rank; d++) {
		cx->axis[0][d] = infer_axis(cx, d == axis)[d];
		if (!cx->axis[0][d].id && d != axis)
			cx->axis[0][d] = infer_axis(cx, 1)[d];
	}
	infer_result(cx, 0, type_make(cx->ir, t->dtype, index->rank, index->dim));
	return true;
}

static Val take_along_fold(Builder *b, const Node *n)
{
	const Type *index = val_type(b->g, n->in[1]);
	return reshaped_full(b, n->in[0], (dims){ index->rank, index->dim });
}

static void take_along_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	i64 axis = ATTR(n, take_along)->axis;
	Dim size = dim_of(b->g, n->in[0], (u32)axis);
	din[0] = BA(b, scatter_along, (dout[0], n->in[1]), .axis = axis, .size = { 1, &size });
}

static void take_along_eval(EvalCx *cx)
{
	i64 axis = ATTR(cx->node, take_along)->axis;
	AxisView from = axis_view(cx->in[0], axis), to = axis_view(&cx->out[0], axis);
	for (i64 e = 0; e < cx->out[0].n; e++) {
		i64 o = e / to.inner / to.extent, k = e % to.inner;
		i64 at = clamp_index(cx->in[1]->data[e], from.extent);
		cx->out[0].data[e] = cx->in[0]->data[(o * from.extent + at) * from.inner + k];
	}
}

static Cost take_along_cost(const Graph *g, const Node *n)
{
	f64 result = (f64)type_bytes(val_type(g, n->out));
	return (Cost){ 0, 2 * result + (f64)type_bytes(val_type(g, n->in[1])) };
}

static Along take_along_along(const Graph *g, const Node *n, u32 in, u32 d)
{
	(void)g;
	return d == ATTR(n, take_along)->axis && in == 0 ? ALONG_MIXING : ALONG_POINTWISE;
}

/* A float tensor and indices that agree with it off `axis`, within [-1, extent]. */
static void sample_along(Random *r, Builder *b, i64 *axis, i64 extent, Val *x, Val *index)
{
	Dim dim[MAX_RANK];
	u32 rank = random_shape(r, b, 1, 3, dim);
	*axis = random_int(r, 0, rank - 1);
	*x = sample_real(r, b, random_float(r), rank, dim);
	if (!extent) {
		extent = type_extent(val_type(b->g, *x), (u32)*axis);
		dim[*axis] = random_extent(r, b);
	}
	*index = sample_input(r, b, SAMPLE_WHOLE, DT_i32, rank, dim, -1, (f64)extent);
}

static Val take_along_sample(Random *r, Builder *b)
{
	Val x, index;
	i64 axis;
	sample_along(r, b, &axis, 0, &x, &index);
	return BA(b, take_along, (x, index), .axis = axis);
}

static void along_shard(ShardRule *r)
{
	shard_pointwise_but(r, 1u << ATTR(r->n, take_along)->axis);
	shard_linear(r, 1);
}
_Static_assert(offsetof(take_along_attr, axis) == offsetof(scatter_along_attr, axis), "both work along one axis");

const OpDef def_take_along = { .shard = along_shard, .infer = take_along_infer, .fold = take_along_fold,
			       .vjp = take_along_vjp,	  .cost = take_along_cost,
			       .eval = take_along_eval,	  .along = take_along_along,
			       .sample = take_along_sample };

static bool scatter_along_infer(InferCx *cx)
{
	const scatter_along_attr *a = cx->attr;
	const Type *t = infer_type(cx, 0);
	Dim dim[MAX_RANK];
	if (!infer_is_integer(cx, 1))
		return false;
	if (a->size.n != 1)
		return infer_fail(cx, "scatter_along takes one size, not %u", a->size.n);
	if (!agree_off_axis(cx, a->axis))
		return false;
	if (infer_type(cx, 1)->dim[a->axis] != t->dim[a->axis] || t->dtype == DT_b1)
		return infer_fail(cx, "scatter_along: %s and the indices %s differ in shape",
				  infer_text(cx, 0), infer_text(cx, 1));
	for (u32 d = 0; d < t->rank; d++) {
		dim[d] = d == a->axis ? a->size.v[0] : t->dim[d];
		if (d != a->axis)
			cx->axis[0][d] = infer_axis(cx, 0)[d];
	}
	infer_result(cx, 0, type_make(cx->ir, t->dtype, t->rank, dim));
	return true;
}

static Val scatter_along_fold(Builder *b, const Node *n)
{
	const scatter_along_attr *a = ATTR(n, scatter_along);
	const Type *t = val_type(b->g, n->in[0]);
	Dim dim[MAX_RANK];
	if (!is_number(b->g, n->in[0], 0))
		return (Val){ 0 };
	for (u32 d = 0; d < t->rank; d++)
		dim[d] = d == a->axis ? a->size.v[0] : t->dim[d];
	return make_full(b, 0, t->dtype, (dims){ t->rank, dim });
}

static void scatter_along_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	din[0] = BA(b, take_along, (dout[0], n->in[1]), .axis = ATTR(n, scatter_along)->axis);
}

static void scatter_along_eval(EvalCx *cx)
{
	i64 axis = ATTR(cx->node, scatter_along)->axis;
	AxisView from = axis_view(cx->in[0], axis), to = axis_view(&cx->out[0], axis);
	for (i64 e = 0; e < cx->in[0]->n; e++) {
		i64 o = e / from.inner / from.extent, k = e % from.inner;
		i64 at = clamp_index(cx->in[1]->data[e], to.extent);
		cx->out[0].data[(o * to.extent + at) * to.inner + k] += cx->in[0]->data[e];
	}
}

static Along scatter_along_along(const Graph *g, const Node *n, u32 in, u32 d)
{
	(void)g, (void)in;
	return d == ATTR(n, scatter_along)->axis ? ALONG_MIXING : ALONG_POINTWISE;
}

static Val scatter_along_sample(Random *r, Builder *b)
{
	Val x, index;
	i64 axis, extent = random_int(r, 1, 5);
	sample_along(r, b, &axis, extent, &x, &index);
	Dim size = dim_number(b->g->ir, extent);
	return BA(b, scatter_along, (x, index), .axis = axis, .size = { 1, &size });
}

const OpDef def_scatter_along = { .shard = along_shard, .infer = scatter_along_infer, .fold = scatter_along_fold,
				  .vjp = scatter_along_vjp,	.cost = cost_per_operand_element,
				  .eval = scatter_along_eval,	.along = scatter_along_along,
				  .sample = scatter_along_sample };

/* ---- argmax ---- */

static bool argmax_infer(InferCx *cx)
{
	i64 axis = ((const argmax_attr *)cx->attr)->axis;
	const Type *t = infer_type(cx, 0);
	Dim dim[MAX_RANK];
	u32 rank = 0;
	if (!infer_has_axis(cx, axis, 0))
		return false;
	for (u32 d = 0; d < t->rank; d++)
		if (d != axis) {
			cx->axis[0][rank] = infer_axis(cx, 0)[d];
			dim[rank++] = t->dim[d];
		}
	infer_result(cx, 0, type_make(cx->ir, DT_i32, rank, dim));
	return true;
}

static void argmax_eval(EvalCx *cx)
{
	AxisView v = axis_view(cx->in[0], ATTR(cx->node, argmax)->axis);
	for (i64 e = 0; e < cx->out[0].n; e++) {
		const f64 *x = cx->in[0]->data + e / v.inner * v.extent * v.inner + e % v.inner;
		i64 best = 0;
		for (i64 i = 1; i < v.extent; i++) {
			f64 new = x[i * v.inner], old = x[best * v.inner];
			if (new > old || (isnan(new) && !isnan(old)))
				best = i;
		}
		cx->out[0].data[e] = (f64)best;
	}
}

static Val argmax_sample(Random *r, Builder *b)
{
	Dim dim[MAX_RANK];
	u32 rank = random_shape(r, b, 1, 3, dim);
	Val x = random_chance(r, 0.5)
			? sample_real(r, b, random_float(r), rank, dim)
			: sample_input(r, b, SAMPLE_WHOLE, DT_i32, rank, dim, 0, 2); /* ties */
	return BA(b, argmax, (x), .axis = random_int(r, 0, rank - 1));
}

static void argmax_shard(ShardRule *r)
{
	u32 axis = (u32)ATTR(r->n, argmax)->axis;
	for (u32 d = 0, to = 0; d < val_type(r->g, r->n->in[0])->rank; d++) {
		if (d == axis)
			continue;
		u32 l = shard_label(r, type_extent(val_type(r->g, r->n->in[0]), d));
		shard_at(r, l, 0, d, 1);
		shard_at(r, l, 1, to++, 1);
	}
}

const OpDef def_argmax = { .shard = argmax_shard, .infer = argmax_infer, .cost = cost_per_operand_element,
			   .eval = argmax_eval,	  .along = along_pointwise,
			   .sample = argmax_sample };

/* ---- cumsum ---- */

static bool cumsum_infer(InferCx *cx)
{
	if (!infer_has_axis(cx, ((const cumsum_attr *)cx->attr)->axis, 0))
		return false;
	if (infer_type(cx, 0)->dtype == DT_b1)
		return infer_fail(cx, "cumsum takes numbers, not %s", infer_text(cx, 0));
	return infer_like(cx, 0, 0);
}

static Val cumsum_fold(Builder *b, const Node *n)
{
	const cumsum_attr *a = ATTR(n, cumsum);
	i64 extent;
	if (is_number(b->g, n->in[0], 0))
		return n->in[0];
	if (!dim_is_number(dim_of(b->g, n->in[0], (u32)a->axis), &extent) || extent != 1)
		return (Val){ 0 };
	return a->exclusive ? make_full_like(b, n->in[0], 0) : n->in[0];
}

static void cumsum_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	const cumsum_attr *a = ATTR(n, cumsum);
	din[0] = BA(b, cumsum, (dout[0]), .axis = a->axis, .reverse = !a->reverse,
		    .exclusive = a->exclusive);
}

static void cumsum_eval(EvalCx *cx)
{
	const cumsum_attr *a = ATTR(cx->node, cumsum);
	AxisView v = axis_view(cx->in[0], a->axis);
	for (i64 o = 0; o < v.outer; o++)
		for (i64 k = 0; k < v.inner; k++) {
			f64 total = 0;
			for (i64 i = 0; i < v.extent; i++) {
				i64 at = a->reverse ? v.extent - 1 - i : i;
				i64 e = (o * v.extent + at) * v.inner + k;
				f64 x = cx->in[0]->data[e];
				cx->out[0].data[e] = a->exclusive ? total : total + x;
				total += x;
			}
		}
}

static Along cumsum_along(const Graph *g, const Node *n, u32 in, u32 d)
{
	(void)g, (void)in;
	const cumsum_attr *a = ATTR(n, cumsum);
	return d != a->axis ? ALONG_POINTWISE : a->reverse ? ALONG_MIXING : ALONG_CAUSAL;
}

static Val cumsum_sample(Random *r, Builder *b)
{
	Dim dim[MAX_RANK];
	u32 rank = random_shape(r, b, 1, 3, dim);
	Val x = sample_real(r, b, random_float(r), rank, dim);
	return BA(b, cumsum, (x), .axis = random_int(r, 0, rank - 1), .reverse = random_chance(r, 0.5),
		  .exclusive = random_chance(r, 0.5));
}

static void cumsum_shard(ShardRule *r)
{
	shard_pointwise_but(r, 1u << ATTR(r->n, cumsum)->axis);
	shard_linear(r, 1);
}

const OpDef def_cumsum = { .shard = cumsum_shard, .infer = cumsum_infer, .fold = cumsum_fold, .vjp = cumsum_vjp,
			   .cost = cost_per_operand_element, .eval = cumsum_eval,
			   .along = cumsum_along, .sample = cumsum_sample };

/* ---- sort ---- */

static bool sort_infer(InferCx *cx)
{
	const Type *t = infer_type(cx, 0);
	if (!infer_has_axis(cx, ((const sort_attr *)cx->attr)->axis, 0))
		return false;
	infer_like(cx, 0, 0);
	infer_like(cx, 1, 0);
	infer_result(cx, 1, type_with_dtype(cx->ir, t, DT_i32));
	return true;
}

/* The gradient of the values goes where each came from. */
static void sort_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	i64 axis = ATTR(n, sort)->axis;
	Dim size = dim_of(b->g, n->in[0], (u32)axis);
	Val where = { n->out.i + 1 };
	if (dout[0].i)
		din[0] = BA(b, scatter_along, (dout[0], where), .axis = axis, .size = { 1, &size });
}

typedef struct Keyed {
	f64 key;
	i64 at;
} Keyed;

static int keyed_order(const Keyed *a, const Keyed *b)
{
	bool a_nan = isnan(a->key), b_nan = isnan(b->key);
	return a_nan || b_nan ? a_nan - b_nan : (a->key > b->key) - (a->key < b->key);
}

static int keyed_ascending(const void *p, const void *q)
{
	const Keyed *a = p, *b = q;
	int order = keyed_order(a, b);
	return order ? order : (a->at > b->at) - (a->at < b->at);
}

static int keyed_descending(const void *p, const void *q)
{
	const Keyed *a = p, *b = q;
	int order = keyed_order(b, a);
	return order ? order : (a->at > b->at) - (a->at < b->at);
}

static void sort_eval(EvalCx *cx)
{
	const sort_attr *a = ATTR(cx->node, sort);
	AxisView v = axis_view(cx->in[0], a->axis);
	Keyed *run = NEWN(cx->arena, Keyed, v.extent + 1);
	for (i64 o = 0; o < v.outer; o++)
		for (i64 k = 0; k < v.inner; k++) {
			i64 base = o * v.extent * v.inner + k;
			for (i64 i = 0; i < v.extent; i++)
				run[i] = (Keyed){ cx->in[0]->data[base + i * v.inner], i };
			qsort(run, (size_t)v.extent, sizeof *run,
			      a->descending ? keyed_descending : keyed_ascending);
			for (i64 i = 0; i < v.extent; i++) {
				cx->out[0].data[base + i * v.inner] = run[i].key;
				cx->out[1].data[base + i * v.inner] = (f64)run[i].at;
			}
		}
}

/* n log2 n comparisons along the axis, counted as one operation each. */
static Cost sort_cost(const Graph *g, const Node *n)
{
	f64 extent = (f64)type_extent(val_type(g, n->in[0]), (u32)ATTR(n, sort)->axis);
	f64 rounds = extent > 1 ? ceil(log2(extent)) : 0;
	return (Cost){ val_elements(g, n->in[0]) * rounds, node_bytes(g, n) };
}

static Along sort_along(const Graph *g, const Node *n, u32 in, u32 d)
{
	(void)g, (void)in;
	return d == ATTR(n, sort)->axis ? ALONG_MIXING : ALONG_POINTWISE;
}

static Val sort_sample(Random *r, Builder *b)
{
	Dim dim[MAX_RANK];
	u32 rank = random_shape(r, b, 1, 3, dim);
	Val x = random_chance(r, 0.7)
			? sample_real(r, b, random_float(r), rank, dim)
			: sample_input(r, b, SAMPLE_WHOLE, DT_i32, rank, dim, 0, 2); /* ties */
	return BA(b, sort, (x), .axis = random_int(r, 0, rank - 1), .descending = random_chance(r, 0.5));
}

static void sort_shard(ShardRule *r)
{
	shard_pointwise_but(r, 1u << ATTR(r->n, sort)->axis);
}

const OpDef def_sort = { .shard = sort_shard, .infer = sort_infer, .vjp = sort_vjp,	   .cost = sort_cost,
			 .eval = sort_eval,   .along = sort_along, .sample = sort_sample };
