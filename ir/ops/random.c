/* ir/ops/random.c: what is made from the uniform draws of op `random`. A draw depends on its key,
 * seed and step alone, so that a derivative (or a recomputation) draws again instead of keeping a
 * mask: equal draws are one node, and the fused backward kernel makes its own. */
#include "ir/ops/composite.h"
#include "ir/sample.h"

/* ---- dropout ---- */

/* Operands `at`, `at + 1` are seed and step: i64[]. */
static bool need_seed(InferCx *cx, u32 at)
{
	for (u32 i = at; i < at + 2; i++)
		if (infer_type(cx, i) != type_scalar(cx->ir, DT_i64))
			return infer_fail(cx, "%s: %s must be i64[], not %s", op_info[cx->op].name,
					  i == at ? "seed" : "step", infer_text(cx, i));
	return true;
}

static bool dropout_infer(InferCx *cx)
{
	f64 rate = ((const dropout_attr *)cx->attr)->rate;
	if (!(rate >= 0 && rate < 1))
		return infer_fail(cx, "dropout: a rate of %g is not in [0, 1)", rate);
	return need_float(cx, 0, "x") && need_seed(cx, 1) &&
	       result_like(cx, 0, 0, infer_type(cx, 0)->dtype);
}

static Val dropout_fold(Builder *b, const Node *n)
{
	(void)b;
	return ATTR(n, dropout)->rate == 0 ? n->in[0] : (Val){ 0 };
}

static void dropout_expand(Builder *b, const Node *n, Val *out)
{
	const dropout_attr *a = ATTR(n, dropout);
	const Type *t = val_type(b->g, n->in[0]);
	Val u = BA(b, random, (n->in[1], n->in[2]), .key = a->key, .shape = { t->rank, t->dim });
	Val keep = B(b, le, make_full_like(b, u, a->rate), u);
	Val kept = where_or_zero(b, keep, times(b, widened(b, n->in[0]), 1 / (1 - a->rate)));
	out[0] = make_cast(b, kept, t->dtype);
}

/* The same draw on dy. */
static void dropout_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	din[0] = build(b, OP_dropout, (Val[]){ dout[0], n->in[1], n->in[2] }, 3, 0, n->attr);
}

static Along dropout_along(const Graph *g, const Node *n, u32 in, u32 d)
{
	(void)g, (void)n, (void)d;
	return in == 0 ? ALONG_POINTWISE : ALONG_NOT_THERE;
}

static void sample_seed(Random *r, Builder *b, Val *seed, Val *step)
{
	*seed = sample_input(r, b, SAMPLE_WHOLE, DT_i64, 0, NULL, 0, 1e6);
	*step = sample_input(r, b, SAMPLE_WHOLE, DT_i64, 0, NULL, 0, 1e6);
}

static Val dropout_sample(Random *r, Builder *b)
{
	Dim dim[MAX_RANK];
	u32 rank = random_shape(r, b, 0, 3, dim);
	Val x = sample_real(r, b, random_float(r), rank, dim), seed, step;
	sample_seed(r, b, &seed, &step);
	return BA(b, dropout, (x, seed, step), .key = intern_z(&b->g->ir->names, "h.0.drop"),
		  .rate = 0.1 * (f64)random_int(r, 1, 9));
}

const OpDef def_dropout = { .infer = dropout_infer, .fold = dropout_fold, .expand = dropout_expand,
			    .vjp = dropout_vjp, .along = dropout_along,
			    .sample = dropout_sample };

/* ---- random_normal (Box and Muller 1958) ---- */

static bool random_normal_infer(InferCx *cx)
{
	const random_normal_attr *a = cx->attr;
	if (a->shape.n > MAX_RANK)
		return infer_fail(cx, "random_normal: at most %d dimensions, not %u", MAX_RANK,
				  a->shape.n);
	return need_seed(cx, 0) && result_is(cx, 0, DT_f32, a->shape.n, a->shape.v, NULL);
}

static Val draw(Builder *b, const Node *n, const char *part)
{
	const random_normal_attr *a = ATTR(n, random_normal);
	const char *key = intern_printf(&b->g->ir->names, "%s.%s", a->key ? a->key : "", part);
	return BA(b, random, (n->in[0], n->in[1]), .key = key, .shape = a->shape);
}

/* sqrt(-2 log(1 - u)) cos(2 pi v): 1 - u is in (0, 1], so that the logarithm is finite. */
static void random_normal_expand(Builder *b, const Node *n, Val *out)
{
	Val u = draw(b, n, "radius"), v = draw(b, n, "angle");
	Val l = B(b, log, B(b, sub, make_full_like(b, u, 1), u));
	Val radius = B(b, sqrt, times(b, l, -2));
	out[0] = B(b, mul, radius, B(b, cos, times(b, v, 6.28318530717958647692)));
}

static Along random_normal_along(const Graph *g, const Node *n, u32 in, u32 d)
{
	(void)g, (void)n, (void)in, (void)d;
	return ALONG_NOT_THERE;
}

static Val random_normal_sample(Random *r, Builder *b)
{
	Dim dim[MAX_RANK];
	u32 rank = random_shape(r, b, 0, 3, dim);
	Val seed, step;
	sample_seed(r, b, &seed, &step);
	return BA(b, random_normal, (seed, step), .key = intern_z(&b->g->ir->names, "noise"),
		  .shape = { rank, dim });
}

const OpDef def_random_normal = { .infer = random_normal_infer, .expand = random_normal_expand,
				  .along = random_normal_along, .sample = random_normal_sample };
