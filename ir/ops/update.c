/* ir/ops/update.c: update_slice: a few rows of a buffer become new ones, at a place known when it runs: how keys
 * and values are kept while decoding. By expansion each element is either as it was or one of the new; where the result
 * takes the place of the buffer that it updates, a kernel writes the new rows alone (passes/graph/expand.c). */
#include "ir/ops/composite.h"
#include "ir/sample.h"

static bool update_slice_infer(InferCx *cx)
{
	const update_slice_attr *a = cx->attr;
	const Type *t = infer_type(cx, 0), *u = infer_type(cx, 1), *at = infer_type(cx, 2);
	if (!infer_has_axis(cx, a->axis, 0))
		return false;
	bool fits = t->rank == u->rank && t->dtype == u->dtype;
	for (u32 d = 0; fits && d < t->rank; d++)
		fits = d == a->axis || t->dim[d] == u->dim[d];
	if (!fits)
		return infer_fail(cx, "update_slice: %s does not fit %s off axis %lld", infer_text(cx, 1), infer_text(cx, 0),
				  (long long)a->axis);
	if (at->rank || at->dtype != DT_i32)
		return infer_fail(cx, "update_slice: it begins at an i32[], not %s", infer_text(cx, 2));
	for (u32 d = 0; d < t->rank; d++)
		if (d != a->axis)
			same_axis(cx, 0, d, 1, d);
	return infer_like(cx, 0, 0);
}

static void update_slice_expand(Builder *b, const Node *n, Val *out)
{
	const Type *t = val_type(b->g, n->in[0]), *u = val_type(b->g, n->in[1]);
	u32 axis = (u32)ATTR(n, update_slice)->axis;
	dims shape = { t->rank, t->dim }, row = { 1, &t->dim[axis] };
	Val at = BS(b, iota, .axis = 0, .dtype = DT_i32, .shape = row);
	at = B(b, sub, at, make_broadcast(b, n->in[2], row));
	Val count = BS(b, extent, .size = { 1, &u->dim[axis] }, .dtype = DT_i32);
	Val inside = B(b, and, B(b, le, make_full(b, 0, DT_i32, row), at), B(b, lt, at, make_broadcast(b, count, row)));
	i64 map[] = { axis };
	inside = BA(b, broadcast, (inside), .shape = shape, .dims = { 1, map });
	out[0] = B(b, where, inside, BA(b, gather, (n->in[1], at), .axis = axis), n->in[0]);
}

static Val update_slice_sample(Random *r, Builder *b)
{
	Dim dim[MAX_RANK], part[MAX_RANK];
	u32 rank = random_shape(r, b, 1, 3, dim);
	i64 axis = random_int(r, 0, rank - 1);
	for (u32 d = 0; d < rank; d++)
		part[d] = d == axis ? random_extent(r, b) : dim[d];
	DType dtype = random_float(r);
	Val a = sample_real(r, b, dtype, rank, dim), n = sample_real(r, b, dtype, rank, part);
	Val at = sample_input(r, b, SAMPLE_WHOLE, DT_i32, 0, NULL, -2, 4);
	return BA(b, update_slice, (a, n, at), .axis = axis);
}

const OpDef def_update_slice = { .infer = update_slice_infer, .expand = update_slice_expand, .sample = update_slice_sample };
