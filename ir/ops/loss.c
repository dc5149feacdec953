/* ir/ops/loss.c: cross entropy over logits, and the norm of everything.
 *
 * Cross entropy never gathers along rows: the target's logit is the sum of where(index == target),
 * which fuses with the row reductions of the log-sum-exp into one pass over the row. A target that
 * is `ignore` adds neither to the sum nor to the count; one outside the vocabulary is a bug of the
 * data that the loader checks. */
#include "ir/ops/composite.h"
#include "ir/sample.h"

static bool need_targets(InferCx *cx)
{
	const Type *logits = infer_type(cx, 0), *targets = infer_type(cx, 1);
	if (!need_float(cx, 0, "logits") || !need_integer(cx, 1, "targets"))
		return false;
	if (logits->rank == 0)
		return infer_fail(cx, "%s: logits must have a last dimension, and a scalar has none",
				  op_info[cx->op].name);
	bool fits = targets->rank + 1u == logits->rank;
	for (u32 d = 0; fits && d < targets->rank; d++)
		fits = targets->dim[d] == logits->dim[d];
	if (!fits)
		return infer_fail(cx,
				  "%s: targets %s must be shaped like logits %s without the last "
				  "dimension",
				  op_info[cx->op].name, infer_text(cx, 1), infer_text(cx, 0));
	for (u32 d = 0; d < targets->rank; d++)
		same_axis(cx, 0, d, 1, d);
	return true;
}

static bool cross_entropy_infer(InferCx *cx)
{
	if (!need_targets(cx))
		return false;
	DType wide = compute_dtype(infer_type(cx, 0)->dtype);
	return result_is(cx, 0, wide, 0, NULL, NULL) && result_is(cx, 1, wide, 0, NULL, NULL) &&
	       result_like(cx, 2, 1, wide);
}

/* Is each target counted? */
static Val counted(Builder *b, Val targets, i64 ignore)
{
	return B(b, ne, targets, make_full_like(b, targets, (f64)ignore));
}

/* Where the last axis of `logits` is the row's target. */
static Val is_target(Builder *b, Val logits, Val targets)
{
	const Type *t = val_type(b->g, logits);
	Val index = BS(b, iota, .axis = t->rank - 1, .dtype = val_type(b->g, targets)->dtype,
		       .shape = { t->rank, t->dim });
	return B(b, eq, index, along_axis(b, targets, logits, t->rank - 1));
}

static Val sum_all(Builder *b, Val v)
{
	static const i64 index[MAX_RANK] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 };
	u32 rank = val_type(b->g, v)->rank;
	return rank == 0 ? v : BA(b, sum, (v), .axes = { rank, index });
}

static void cross_entropy_expand(Builder *b, const Node *n, Val *out)
{
	Val logits = widened(b, n->in[0]), targets = n->in[1];
	i64 last = val_type(b->g, logits)->rank - 1;
	Val lse = logsumexp_of(b, logits, last);
	Val picked = sum_axis(b, where_or_zero(b, is_target(b, logits, targets), logits), last);
	Val keep = counted(b, targets, ATTR(n, cross_entropy)->ignore);
	out[0] = sum_all(b, where_or_zero(b, keep, B(b, sub, lse, picked)));
	out[1] = sum_all(b, make_cast(b, keep, val_type(b->g, logits)->dtype));
	out[2] = lse;
}

/* dlogits = (exp(logits - lse) - onehot) dsum where counted, + exp(logits - lse) dlse. */
static void cross_entropy_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	Val logits = widened(b, n->in[0]), lse = { n->out.i + 2 };
	i64 last = val_type(b->g, logits)->rank - 1;
	if (dout[0].i)
		din[0] = BA(b, cross_entropy_grad, (n->in[0], n->in[1], lse, dout[0]),
			    .ignore = ATTR(n, cross_entropy)->ignore);
	if (dout[2].i) {
		Val shift = along_axis(b, finite_shift(b, lse), logits, last);
		Val p = B(b, exp, B(b, sub, logits, shift));
		Val d = B(b, mul, p, along_axis(b, dout[2], logits, last));
		din[0] = din[0].i ? B(b, add, din[0], d) : d;
	}
}

/* Targets are 0 to V - 1; `ignore` is among them half of the time. */
static void sample_targets(Random *r, Builder *b, Val *logits, Val *targets, i64 *ignore)
{
	Dim dim[MAX_RANK];
	u32 rank = random_shape(r, b, 1, 3, dim);
	i64 vocab = random_int(r, 2, 6);
	dim[rank - 1] = dim_number(b->g->ir, vocab);
	*logits = sample_real(r, b, random_float(r), rank, dim);
	*targets = sample_input(r, b, SAMPLE_WHOLE, DT_i32, rank - 1, dim, 0, (f64)vocab - 1);
	*ignore = random_chance(r, 0.5) ? random_int(r, 0, vocab - 1) : -100;
}

static Val cross_entropy_sample(Random *r, Builder *b)
{
	Val logits, targets;
	i64 ignore;
	sample_targets(r, b, &logits, &targets, &ignore);
	return BA(b, cross_entropy, (logits, targets), .ignore = ignore);
}

/* The sum and count have no axes; asked of result 0 there is nothing along any. */
const OpDef def_cross_entropy = { .infer = cross_entropy_infer, .expand = cross_entropy_expand,
				  .vjp = cross_entropy_vjp, .sample = cross_entropy_sample };

static bool cross_entropy_grad_infer(InferCx *cx)
{
	if (!need_targets(cx))
		return false;
	DType wide = compute_dtype(infer_type(cx, 0)->dtype);
	const Type *targets = infer_type(cx, 1), *lse = infer_type(cx, 2), *dsum = infer_type(cx, 3);
	if (lse != type_with_dtype(cx->ir, targets, wide) || dsum != type_scalar(cx->ir, wide))
		return infer_fail(cx, "cross_entropy_grad: lse %s and dsum %s do not fit targets %s",
				  infer_text(cx, 2), infer_text(cx, 3), infer_text(cx, 1));
	return result_like(cx, 0, 0, wide);
}

static void cross_entropy_grad_expand(Builder *b, const Node *n, Val *out)
{
	Val logits = widened(b, n->in[0]), targets = n->in[1];
	i64 last = val_type(b->g, logits)->rank - 1;
	Val shift = along_axis(b, finite_shift(b, n->in[2]), logits, last);
	Val p = B(b, exp, B(b, sub, logits, shift));
	Val onehot = make_cast(b, is_target(b, logits, targets), val_type(b->g, logits)->dtype);
	Val d = B(b, mul, B(b, sub, p, onehot), repeated(b, n->in[3], logits));
	Val keep = counted(b, targets, ATTR(n, cross_entropy_grad)->ignore);
	out[0] = where_or_zero(b, along_axis(b, keep, logits, last), d);
}

static Val cross_entropy_grad_sample(Random *r, Builder *b)
{
	Val logits, targets;
	i64 ignore;
	sample_targets(r, b, &logits, &targets, &ignore);
	i64 last = val_type(b->g, logits)->rank - 1;
	Val lse = BA(b, logsumexp, (logits), .axis = last);
	Val dsum = sample_real(r, b, val_type(b->g, logits)->dtype, 0, NULL);
	return BA(b, cross_entropy_grad, (logits, targets, lse, dsum), .ignore = ignore);
}

const OpDef def_cross_entropy_grad = { .infer = cross_entropy_grad_infer,
				       .expand = cross_entropy_grad_expand,
				       .sample = cross_entropy_grad_sample };

/* ---- global_norm ---- */

static bool global_norm_infer(InferCx *cx)
{
	if (cx->nin == 0)
		return infer_fail(cx, "global_norm needs at least one operand");
	DType wide = DT_f32;
	for (u32 i = 0; i < cx->nin; i++) {
		if (!need_float(cx, i, "each operand"))
			return false;
		if (infer_type(cx, i)->dtype == DT_f64)
			wide = DT_f64;
	}
	return result_is(cx, 0, wide, 0, NULL, NULL);
}

static DType norm_dtype(const Graph *g, const Node *n)
{
	for (u32 i = 0; i < n->nin; i++)
		if (val_type(g, n->in[i])->dtype == DT_f64)
			return DT_f64;
	return DT_f32;
}

static void global_norm_expand(Builder *b, const Node *n, Val *out)
{
	DType wide = norm_dtype(b->g, n);
	Val total = { 0 };
	for (u32 i = 0; i < n->nin; i++) {
		Val x = make_cast(b, n->in[i], wide);
		Val s = sum_all(b, B(b, mul, x, x));
		total = total.i ? B(b, add, total, s) : s;
	}
	out[0] = B(b, sqrt, total);
}

/* dx = x dy / norm; 0 where all is 0 */
static void global_norm_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	Val zero = make_full_like(b, n->out, 0);
	Val is_zero = B(b, eq, n->out, zero);
	Val ratio = B(b, div, dout[0], B(b, where, is_zero, make_full_like(b, zero, 1), n->out));
	ratio = B(b, where, is_zero, zero, ratio);
	for (u32 i = 0; i < n->nin; i++) {
		Val x = make_cast(b, n->in[i], norm_dtype(b->g, n));
		din[i] = B(b, mul, x, repeated(b, ratio, x));
	}
}

static Val global_norm_sample(Random *r, Builder *b)
{
	Val in[3];
	u32 n = (u32)random_int(r, 1, 3);
	DType dtype = random_float(r);
	for (u32 i = 0; i < n; i++) {
		Dim dim[MAX_RANK];
		u32 rank = random_shape(r, b, 0, 3, dim);
		in[i] = sample_real(r, b, dtype, rank, dim);
	}
	return build(b, OP_global_norm, in, n, 0, &(global_norm_attr){ 0 });
}

const OpDef def_global_norm = { .infer = global_norm_infer, .expand = global_norm_expand,
				.vjp = global_norm_vjp, .sample = global_norm_sample };
