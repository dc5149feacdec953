/* ir/ops/topk.c: the k largest of each row, in order; ties go to the lower index (the sort is
 * stable). Its derivative is that of the expansion: a scatter along the row. */
#include "ir/ops/composite.h"
#include "ir/sample.h"

static bool top_k_infer(InferCx *cx)
{
	i64 k = ((const top_k_attr *)cx->attr)->k, extent;
	const Type *t = infer_type(cx, 0);
	if (t->rank == 0)
		return infer_fail(cx, "top_k: a scalar has no last dimension to choose from");
	if (k < 1)
		return infer_fail(cx, "top_k: k must be at least 1, not %lld", (long long)k);
	if (dim_is_number(t->dim[t->rank - 1], &extent) && k > extent)
		return infer_fail(cx, "top_k: k = %lld of a last dimension of %lld in %s", (long long)k,
				  (long long)extent, infer_text(cx, 0));
	Dim dim[MAX_RANK];
	Axis axis[MAX_RANK];
	for (u32 d = 0; d < t->rank; d++) {
		dim[d] = t->dim[d];
		axis[d] = infer_axis(cx, 0)[d];
	}
	/* k of n is an axis of its own */
	dim[t->rank - 1] = dim_number(cx->ir, k);
	axis[t->rank - 1] = (Axis){ 0 };
	return result_is(cx, 0, t->dtype, t->rank, dim, axis) &&
	       result_is(cx, 1, DT_i32, t->rank, dim, axis);
}

static void top_k_expand(Builder *b, const Node *n, Val *out)
{
	const Type *t = val_type(b->g, n->in[0]);
	Val sorted = BA(b, sort, (n->in[0]), .axis = t->rank - 1, .descending = true);
	Dim start[MAX_RANK], size[MAX_RANK];
	i64 step[MAX_RANK];
	for (u32 d = 0; d < t->rank; d++) {
		start[d] = dim_number(b->g->ir, 0);
		size[d] = t->dim[d];
		step[d] = 1;
	}
	size[t->rank - 1] = dim_number(b->g->ir, ATTR(n, top_k)->k);
	for (u32 i = 0; i < 2; i++)
		out[i] = BA(b, slice, ((Val){ sorted.i + i }), .start = { t->rank, start },
			    .size = { t->rank, size }, .step = { t->rank, step });
}

static Val top_k_sample(Random *r, Builder *b)
{
	Dim dim[MAX_RANK];
	u32 rank = random_shape(r, b, 1, 3, dim);
	i64 n = random_int(r, 1, 6);
	dim[rank - 1] = dim_number(b->g->ir, n);
	return BA(b, top_k, (sample_real(r, b, random_float(r), rank, dim)),
		  .k = random_int(r, 1, n));
}

const OpDef def_top_k = { .infer = top_k_infer, .expand = top_k_expand, .along = along_but_last,
			  .sample = top_k_sample };
