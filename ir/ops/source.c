/* ir/ops/source.c: the ops without tensor operands: input, read, full, iota, extent, random. The
 * evaluator gives inputs and reads their values (eval.h), so they have no eval here. */
#include "ir/ops/help.h"
#include "ir/philox.h"
#include "ir/sample.h"

static bool check_shape(InferCx *cx, dims shape)
{
	if (shape.n > MAX_RANK)
		return infer_fail(cx, "%s has %u dimensions, and %d is the most", op_info[cx->op].name,
				  shape.n, MAX_RANK);
	for (u32 d = 0; d < shape.n; d++) {
		i64 n;
		if (dim_is_number(shape.v[d], &n) && n < 0)
			return infer_fail(cx, "%s: dimension %u of %s is negative",
					  op_info[cx->op].name, d,
					  infer_dims_text(cx, shape.n, shape.v));
	}
	return true;
}

static bool of_shape(InferCx *cx, DType d, dims shape)
{
	if (!check_shape(cx, shape))
		return false;
	infer_result(cx, 0, type_make(cx->ir, d, shape.n, shape.v));
	return true;
}

static Along along_nothing(const Graph *g, const Node *n, u32 in, u32 d)
{
	(void)g, (void)n, (void)in, (void)d;
	return ALONG_NOT_THERE;
}

static Cost cost_source(const Graph *g, const Node *n)
{
	return (Cost){ 0, (f64)type_bytes(val_type(g, n->out)) };
}

/* Given by the caller, or in memory already: nothing moves. */
static Cost cost_given(const Graph *g, const Node *n)
{
	(void)g, (void)n;
	return (Cost){ 0, 0 };
}

/* ---- input, read ---- */

static bool input_infer(InferCx *cx)
{
	const input_attr *a = cx->attr;
	if (!a->name)
		return infer_fail(cx, "an input needs a name");
	return of_shape(cx, a->dtype, a->shape);
}

static bool read_infer(InferCx *cx)
{
	const read_attr *a = cx->attr;
	if (!a->buffer)
		return infer_fail(cx, "read needs the name of a buffer");
	return of_shape(cx, a->dtype, a->shape);
}

static Val input_sample(Random *r, Builder *b)
{
	Dim dim[MAX_RANK];
	u32 rank = random_shape(r, b, 0, 3, dim);
	return sample_real(r, b, random_float(r), rank, dim);
}

static Val read_sample(Random *r, Builder *b)
{
	Dim dim[MAX_RANK];
	u32 rank = random_shape(r, b, 0, 3, dim);
	Val v = BS(b, read, .buffer = intern_z(&b->g->ir->names, "w"), .dtype = DT_f32,
		   .shape = { rank, dim });
	VEC_PUSH(r->arena, &r->input, (SampleInput){ v, SAMPLE_REAL, -2, 2 });
	return v;
}

const OpDef def_input = { .infer = input_infer, .cost = cost_given, .along = along_nothing,
			  .sample = input_sample };
const OpDef def_read = { .infer = read_infer, .cost = cost_given, .along = along_nothing,
			 .sample = read_sample };

/* ---- full ---- */

static bool full_infer(InferCx *cx)
{
	const full_attr *a = cx->attr;
	if (!dtype_is_float(a->dtype) && dtype_round(a->dtype, a->value) != a->value)
		return infer_fail(cx, "full: %g is not a value of %s", a->value,
				  dtype_info[a->dtype].name);
	return of_shape(cx, a->dtype, a->shape);
}

static void full_eval(EvalCx *cx)
{
	for (i64 i = 0; i < cx->out[0].n; i++)
		cx->out[0].data[i] = ATTR(cx->node, full)->value;
}

static Val full_sample(Random *r, Builder *b)
{
	Dim dim[MAX_RANK];
	u32 rank = random_shape(r, b, 0, 3, dim);
	return make_full(b, (f64)random_int(r, -4, 4), random_chance(r, 0.5) ? DT_f32 : DT_i32,
			 (dims){ rank, dim });
}

const OpDef def_full = { .shard = shard_pointwise, .infer = full_infer, .cost = cost_source, .eval = full_eval,
			 .along = along_nothing, .sample = full_sample };

/* ---- iota ---- */

static bool iota_infer(InferCx *cx)
{
	const iota_attr *a = cx->attr;
	if (a->axis < 0 || a->axis >= a->shape.n)
		return infer_fail(cx, "iota: axis %lld is not a dimension of %s", (long long)a->axis,
				  infer_dims_text(cx, a->shape.n, a->shape.v));
	if (a->dtype == DT_b1)
		return infer_fail(cx, "iota counts: its elements cannot be b1");
	return of_shape(cx, a->dtype, a->shape);
}

static Val iota_fold(Builder *b, const Node *n)
{
	const iota_attr *a = ATTR(n, iota);
	i64 extent;
	if (dim_is_number(a->shape.v[a->axis], &extent) && extent == 1)
		return make_full(b, 0, a->dtype, a->shape);
	return (Val){ 0 };
}

static void iota_eval(EvalCx *cx)
{
	AxisView v = axis_view(&cx->out[0], ATTR(cx->node, iota)->axis);
	for (i64 i = 0; i < cx->out[0].n; i++)
		cx->out[0].data[i] = (f64)(i / v.inner % v.extent);
}

static Val iota_sample(Random *r, Builder *b)
{
	Dim dim[MAX_RANK];
	u32 rank = random_shape(r, b, 1, 3, dim);
	return BS(b, iota, .axis = random_int(r, 0, rank - 1),
		  .dtype = random_chance(r, 0.5) ? DT_f32 : DT_i32, .shape = { rank, dim });
}

static void counts_shard(ShardRule *r)
{
	shard_pointwise(r);
	for (u32 l = 0; l < r->label.n; l++)
		if (r->n->op == OP_random || ATTR(r->n, iota)->axis == l)
			r->label.v[l].fix = SHARD_COUNTS;
}

const OpDef def_iota = { .shard = counts_shard, .infer = iota_infer, .fold = iota_fold, .cost = cost_source,
			 .eval = iota_eval, .along = along_nothing, .sample = iota_sample };

/* ---- extent ---- */

static bool extent_infer(InferCx *cx)
{
	const extent_attr *a = cx->attr;
	if (a->size.n != 1)
		return infer_fail(cx, "extent is of one dimension, not %u", a->size.n);
	infer_result(cx, 0, type_scalar(cx->ir, a->dtype));
	return true;
}

static Val extent_fold(Builder *b, const Node *n)
{
	const extent_attr *a = ATTR(n, extent);
	i64 size;
	if (!dim_is_number(a->size.v[0], &size))
		return (Val){ 0 };
	return make_full(b, dtype_round(a->dtype, (f64)size), a->dtype, (dims){ 0 });
}

static void extent_eval(EvalCx *cx)
{
	i64 size;
	if (!dim_is_number(ATTR(cx->node, extent)->size.v[0], &size))
		NEVER("an extent was evaluated before sizes were bound");
	cx->out[0].data[0] = (f64)size;
}

static Val extent_sample(Random *r, Builder *b)
{
	Dim size = random_extent(r, b);
	return BS(b, extent, .size = { 1, &size }, .dtype = random_chance(r, 0.5) ? DT_f32 : DT_i32);
}

const OpDef def_extent = { .infer = extent_infer, .fold = extent_fold, .cost = cost_source,
			   .eval = extent_eval, .along = along_nothing, .sample = extent_sample };

/* ---- random ---- */

static bool random_infer(InferCx *cx)
{
	const random_attr *a = cx->attr;
	if (!a->key)
		return infer_fail(cx, "random needs a key");
	for (u32 i = 0; i < 2; i++)
		if (infer_type(cx, i) != type_scalar(cx->ir, DT_i64))
			return infer_fail(cx, "the %s of random must be i64[], not %s",
					  i ? "step" : "seed", infer_text(cx, i));
	return of_shape(cx, DT_f32, a->shape);
}

static void random_eval(EvalCx *cx)
{
	u64 key = philox_key(ATTR(cx->node, random)->key, (i64)cx->in[0]->data[0]);
	i64 step = (i64)cx->in[1]->data[0];
	for (i64 i = 0; i < cx->out[0].n; i++)
		cx->out[0].data[i] = (f64)philox_uniform(key, step, (u64)i);
}

/* A draw's arithmetic is not counted: FLOPs are the model's. */
static Val random_sample(Random *r, Builder *b)
{
	Dim dim[MAX_RANK];
	u32 rank = random_shape(r, b, 0, 3, dim);
	Val seed = sample_input(r, b, SAMPLE_WHOLE, DT_i64, 0, NULL, 0, 1000);
	Val step = sample_input(r, b, SAMPLE_WHOLE, DT_i64, 0, NULL, 0, 1000);
	return BA(b, random, (seed, step), .key = intern_z(&b->g->ir->names, "sample"),
		  .shape = { rank, dim });
}

const OpDef def_random = { .shard = counts_shard, .infer = random_infer, .cost = cost_source, .eval = random_eval,
			   .along = along_nothing, .sample = random_sample };
