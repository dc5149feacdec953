/* ir/ops/softmax.c: logsumexp, softmax, log_softmax over one axis. All shift by the row's maximum;
 * a row of -inf alone gives -inf, 0 and -inf, and derivatives of 0: never NaN. */
#include "ir/ops/composite.h"
#include "ir/sample.h"

#include <math.h>

static bool infer_rows(InferCx *cx, i64 axis)
{
	return infer_has_axis(cx, axis, 0) && infer_float_like(cx);
}

static Val sample_rows(Random *r, Builder *b, i64 *axis)
{
	Dim dim[MAX_RANK];
	u32 rank = random_shape(r, b, 1, 3, dim);
	*axis = random_int(r, 0, rank - 1);
	return sample_input(r, b, SAMPLE_REAL, random_float(r), rank, dim, -4, 4);
}

/* ---- logsumexp ---- */

static bool logsumexp_infer(InferCx *cx)
{
	i64 axis = ((const logsumexp_attr *)cx->attr)->axis;
	return infer_reduced(cx, (ints){ 1, &axis });
}

static void logsumexp_expand(Builder *b, const Node *n, Val *out)
{
	Val x = widened(b, n->in[0]);
	out[0] = make_cast(b, logsumexp_of(b, x, ATTR(n, logsumexp)->axis),
			   val_type(b->g, n->in[0])->dtype);
}

/* dx = dy exp(x - y) */
static void logsumexp_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	i64 axis = ATTR(n, logsumexp)->axis;
	Val x = widened(b, n->in[0]);
	Val y = along_axis(b, finite_shift(b, widened(b, n->out)), x, axis);
	Val dy = along_axis(b, widened(b, dout[0]), x, axis);
	din[0] = B(b, mul, dy, B(b, exp, B(b, sub, x, y)));
}

static Val logsumexp_sample(Random *r, Builder *b)
{
	i64 axis;
	Val x = sample_rows(r, b, &axis);
	return BA(b, logsumexp, (x), .axis = axis);
}

const OpDef def_logsumexp = { .infer = logsumexp_infer, .expand = logsumexp_expand,
			      .vjp = logsumexp_vjp, .along = along_pointwise, .sample = logsumexp_sample };

/* ---- softmax ---- */

static bool softmax_infer(InferCx *cx)
{
	return infer_rows(cx, ((const softmax_attr *)cx->attr)->axis);
}

static void softmax_expand(Builder *b, const Node *n, Val *out)
{
	i64 axis = ATTR(n, softmax)->axis;
	Val x = widened(b, n->in[0]);
	Val shift = finite_shift(b, max_axis(b, x, axis));
	Val e = B(b, exp, B(b, sub, x, along_axis(b, shift, x, axis)));
	Val s = sum_axis(b, e, axis);
	Val empty = B(b, eq, s, make_full_like(b, s, 0));
	Val r = B(b, recip, B(b, where, empty, make_full_like(b, s, 1), s));
	out[0] = make_cast(b, B(b, mul, e, along_axis(b, r, x, axis)),
			   val_type(b->g, n->in[0])->dtype);
}

/* dx = y (dy - sum(dy y)) */
static void softmax_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	i64 axis = ATTR(n, softmax)->axis;
	Val y = widened(b, n->out), dy = widened(b, dout[0]);
	Val s = sum_axis(b, B(b, mul, dy, y), axis);
	din[0] = B(b, mul, y, B(b, sub, dy, along_axis(b, s, y, axis)));
}

static Along softmax_along(const Graph *g, const Node *n, u32 in, u32 d)
{
	(void)g, (void)in;
	return d == ATTR(n, softmax)->axis ? ALONG_MIXING : ALONG_POINTWISE;
}

static Val softmax_sample(Random *r, Builder *b)
{
	i64 axis;
	Val x = sample_rows(r, b, &axis);
	return BA(b, softmax, (x), .axis = axis);
}

const OpDef def_softmax = { .infer = softmax_infer, .expand = softmax_expand, .vjp = softmax_vjp,
			    .along = softmax_along, .sample = softmax_sample };

/* ---- log_softmax ---- */

static bool log_softmax_infer(InferCx *cx)
{
	return infer_rows(cx, ((const log_softmax_attr *)cx->attr)->axis);
}

static void log_softmax_expand(Builder *b, const Node *n, Val *out)
{
	i64 axis = ATTR(n, log_softmax)->axis;
	Val x = widened(b, n->in[0]);
	Val lse = finite_shift(b, logsumexp_of(b, x, axis));
	out[0] = make_cast(b, B(b, sub, x, along_axis(b, lse, x, axis)),
			   val_type(b->g, n->in[0])->dtype);
}

/* dx = dy - exp(y) sum(dy); of a row of -inf alone, 0 */
static void log_softmax_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	i64 axis = ATTR(n, log_softmax)->axis;
	Val y = widened(b, n->out), dy = widened(b, dout[0]);
	Val s = along_axis(b, sum_axis(b, dy, axis), y, axis);
	Val dx = B(b, sub, dy, B(b, mul, B(b, exp, y), s));
	Val most = max_axis(b, y, axis);
	Val some = B(b, ne, most, make_full_like(b, most, -INFINITY));
	din[0] = where_or_zero(b, along_axis(b, some, y, axis), dx);
}

static Along log_softmax_along(const Graph *g, const Node *n, u32 in, u32 d)
{
	(void)g, (void)in;
	return d == ATTR(n, log_softmax)->axis ? ALONG_MIXING : ALONG_POINTWISE;
}

static Val log_softmax_sample(Random *r, Builder *b)
{
	i64 axis;
	Val x = sample_rows(r, b, &axis);
	return BA(b, log_softmax, (x), .axis = axis);
}

const OpDef def_log_softmax = { .infer = log_softmax_infer, .expand = log_softmax_expand,
				.vjp = log_softmax_vjp, .along = log_softmax_along, .sample = log_softmax_sample };
