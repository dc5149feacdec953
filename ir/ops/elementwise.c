/* ir/ops/elementwise.c: the ops of one scalar function, made from scalar.def: what they take, how
 * they fold, their derivatives. Operands have one shape and one element type, but for where's
 * condition, which is b1.
 *
 * Fold rules keep values: nothing here assumes that a float is finite, so x * 0, x - x and x == x
 * stay (x + 0 may turn -0 into 0, which compare equal). Constants are computed in f64 and rounded to
 * their type.
 *
 * Derivatives: where the function has a kink, abs has 0 and min and max give half to each operand (as
 * PyTorch and JAX do); mod gives its gradient to a, and to b times -floor(a / b). */
#include "ir/ops/help.h"
#include "ir/sample.h"
#include "ir/scalar.h"

#include <math.h>

typedef enum Domain { BOOLS, FLOATS, NUMBERS, ANY } Domain;

/* Values of (op, what it takes, derivative, from, to): the range suits random tests. */
#define ELEMENTWISE(X)                          \
	X(neg, NUMBERS, neg_vjp, -2, 2)         \
	X(abs, NUMBERS, abs_vjp, -2, 2)         \
	X(sign, NUMBERS, NULL, -2, 2)           \
	X(exp, FLOATS, exp_vjp, -2, 2)          \
	X(log, FLOATS, log_vjp, 0.2, 4)         \
	X(sqrt, FLOATS, sqrt_vjp, 0.2, 4)       \
	X(rsqrt, FLOATS, rsqrt_vjp, 0.3, 4)     \
	X(recip, FLOATS, recip_vjp, 0.3, 4)     \
	X(sin, FLOATS, sin_vjp, -4, 4)          \
	X(cos, FLOATS, cos_vjp, -4, 4)          \
	X(tanh, FLOATS, tanh_vjp, -2, 2)        \
	X(sigmoid, FLOATS, sigmoid_vjp, -4, 4)  \
	X(erf, FLOATS, erf_vjp, -2, 2)          \
	X(floor, FLOATS, NULL, -4, 4)           \
	X(ceil, FLOATS, NULL, -4, 4)            \
	X(round, FLOATS, NULL, -4, 4)           \
	X(binade, FLOATS, NULL, -4, 4)          \
	X(not, BOOLS, NULL, 0, 1)               \
	X(add, NUMBERS, add_vjp, -2, 2)         \
	X(sub, NUMBERS, sub_vjp, -2, 2)         \
	X(mul, NUMBERS, mul_vjp, -2, 2)         \
	X(div, FLOATS, div_vjp, 0.3, 2)         \
	X(floordiv, NUMBERS, NULL, -4, 4)       \
	X(mod, NUMBERS, mod_vjp, 0.3, 2)        \
	X(pow, FLOATS, pow_vjp, 0.3, 2)         \
	X(min, NUMBERS, min_vjp, -2, 2)         \
	X(max, NUMBERS, max_vjp, -2, 2)         \
	X(lt, ANY, NULL, -2, 2)                 \
	X(le, ANY, NULL, -2, 2)                 \
	X(eq, ANY, NULL, -2, 2)                 \
	X(ne, ANY, NULL, -2, 2)                 \
	X(and, BOOLS, NULL, 0, 1)               \
	X(or, BOOLS, NULL, 0, 1)                \
	X(fma, NUMBERS, fma_vjp, -2, 2)         \
	X(where, ANY, where_vjp, -2, 2)

static const struct {
	Domain domain;
	f64 low, high;
} takes[OPS] = {
#define X(op, domain, vjp, low, high) [OP_##op] = { domain, low, high },
	ELEMENTWISE(X)
#undef X
};

static bool suits(Domain domain, DType d)
{
	switch (domain) {
	case BOOLS: return d == DT_b1;
	case FLOATS: return dtype_is_float(d);
	case NUMBERS: return d != DT_b1;
	case ANY: return true;
	}
	NEVER("a domain without a rule");
}

static bool elementwise_infer(InferCx *cx)
{
	u32 first = cx->op == OP_where;
	const Type *t = infer_type(cx, first);
	static const char *const wanted[] = {
		[BOOLS] = "b1", [FLOATS] = "floating-point numbers", [NUMBERS] = "numbers, not b1",
	};
	Domain domain = takes[cx->op].domain;
	if (first) {
		const Type *c = infer_type(cx, 0);
		if (c->dtype != DT_b1)
			return infer_fail(cx, "the condition of where must be b1, not %s",
					  infer_text(cx, 0));
		if (type_with_dtype(cx->ir, c, t->dtype) != t)
			return infer_fail(cx, "where: the condition %s and the operand %s differ in shape",
					  infer_text(cx, 0), infer_text(cx, 1));
	}
	if (!suits(domain, t->dtype))
		return infer_fail(cx, "%s takes %s, but its operand is %s", op_info[cx->op].name,
				  wanted[domain], infer_text(cx, first));
	for (u32 i = first + 1; i < cx->nin; i++)
		if (infer_type(cx, i) != t)
			return infer_fail(cx, "%s: operands %s and %s differ", op_info[cx->op].name,
					  infer_text(cx, first), infer_text(cx, i));
	infer_result(cx, 0, scalar_info[cx->op].boolean ? type_with_dtype(cx->ir, t, DT_b1) : t);
	for (u32 d = 0; d < t->rank; d++)
		for (u32 i = 0; i < cx->nin && !cx->axis[0][d].id; i++)
			cx->axis[0][d] = infer_axis(cx, i)[d];
	return true;
}

/* ---- folding ---- */

static Val fold_constants(Builder *b, const Node *n)
{
	f64 x[3] = { 0 };
	for (u32 i = 0; i < n->nin; i++)
		if (!is_full(b->g, n->in[i], &x[i]))
			return (Val){ 0 };
	const ScalarInfo *s = &scalar_info[n->op];
	const Type *t = val_type(b->g, n->in[n->nin - 1]);
	DType d = s->boolean ? DT_b1 : t->dtype;
	return make_full(b, dtype_round(d, s->value(x[0], x[1], x[2])), d, dims_of_type(b, t));
}

/* `a` with `x` on either side of a commuting op that leaves it as it is, or {0}. */
static Val other_than(const Graph *g, const Node *n, f64 x)
{
	return is_number(g, n->in[1], x) ? n->in[0] : is_number(g, n->in[0], x) ? n->in[1] : (Val){ 0 };
}

static Val fold_one(Builder *b, const Node *n)
{
	const Graph *g = b->g;
	const Node *a = val_node(g, n->in[0]);
	switch (n->op) {
	case OP_neg:
	case OP_not:
		return a->op == n->op ? a->in[0] : (Val){ 0 };
	case OP_abs: {
		/* -1 is 255 in u8 */
		bool with_sign = dtype_info[val_type(g, n->in[0])->dtype].kind != KIND_U;
		return a->op == OP_abs ? n->in[0] : a->op == OP_neg && with_sign ? B(b, abs, a->in[0]) : (Val){ 0 };
	}
	case OP_floor:
	case OP_ceil:
	case OP_round:
		return a->op == OP_floor || a->op == OP_ceil || a->op == OP_round ? n->in[0]
										  : (Val){ 0 };
	default: return (Val){ 0 };
	}
}

static Val fold_two(Builder *b, const Node *n)
{
	const Graph *g = b->g;
	Val x = n->in[0], y = n->in[1], none = { 0 }, kept;
	DType d = val_type(g, x)->dtype;
	const Node *neg_x = made_by(g, x, OP_neg), *neg_y = made_by(g, y, OP_neg);
	f64 c;
	switch (n->op) {
	case OP_add:
		if ((kept = other_than(g, n, 0)).i)
			return kept;
		return neg_y ? B(b, sub, x, neg_y->in[0]) : neg_x ? B(b, sub, y, neg_x->in[0]) : none;
	case OP_sub:
		if (is_number(g, y, 0))
			return x;
		if (x.i == y.i && !dtype_is_float(d))
			return make_full_like(b, x, 0);
		return neg_y ? B(b, add, x, neg_y->in[0]) : none;
	case OP_mul:
		if ((kept = other_than(g, n, 1)).i)
			return kept;
		if (!dtype_is_float(d) && other_than(g, n, 0).i)
			return make_full_like(b, x, 0);
		if (dtype_info[d].kind != KIND_U && (kept = other_than(g, n, -1)).i)
			return B(b, neg, kept);
		return neg_x && neg_y ? B(b, mul, neg_x->in[0], neg_y->in[0]) : none;
	case OP_div:
		if (is_full(g, y, &c)) {
			int e;
			if (c == 1)
				return x;
			/* by a power of two, within the type's range: exact */
			if (fabs(frexp(c, &e)) == 0.5 && e > -12 && e < 12 && dtype_round(d, 1 / c) == 1 / c)
				return B(b, mul, x, make_full_like(b, x, 1 / c));
		}
		return is_number(g, x, 1) ? B(b, recip, y) : none;
	case OP_floordiv:
		return is_number(g, y, 1) && !dtype_is_float(d) ? x : none;
	case OP_pow:
		if (!is_full(g, y, &c))
			return none;
		return c == 0	 ? make_full_like(b, x, 1)
		       : c == 1	 ? x
		       : c == 2	 ? B(b, mul, x, x)
		       : c == -1 ? B(b, recip, x)
				 : none;
	case OP_min:
	case OP_max:
		return x.i == y.i ? x : none;
	case OP_lt:
	case OP_ne:
		if (x.i != y.i || (n->op == OP_ne && dtype_is_float(d)))
			return none;
		return make_full(b, 0, DT_b1, dims_of_type(b, val_type(g, x)));
	case OP_le:
	case OP_eq:
		if (x.i != y.i || dtype_is_float(d))
			return none;
		return make_full(b, 1, DT_b1, dims_of_type(b, val_type(g, x)));
	case OP_and:
		if (x.i == y.i || is_number(g, y, 1) || is_number(g, x, 0))
			return x;
		return is_number(g, x, 1) || is_number(g, y, 0) ? y : none;
	case OP_or:
		if (x.i == y.i || is_number(g, y, 0) || is_number(g, x, 1))
			return x;
		return is_number(g, x, 0) || is_number(g, y, 1) ? y : none;
	default: return none;
	}
}

static Val fold_three(Builder *b, const Node *n)
{
	const Graph *g = b->g;
	f64 c;
	if (n->op != OP_where)
		return (Val){ 0 };
	if (is_full(g, n->in[0], &c))
		return c != 0 ? n->in[1] : n->in[2];
	if (n->in[1].i == n->in[2].i)
		return n->in[1];
	const Node *not = made_by(g, n->in[0], OP_not);
	return not ? B(b, where, not->in[0], n->in[2], n->in[1]) : (Val){ 0 };
}

static Val elementwise_fold(Builder *b, const Node *n)
{
	Val v = fold_constants(b, n);
	if (v.i)
		return v;
	return n->nin == 1 ? fold_one(b, n) : n->nin == 2 ? fold_two(b, n) : fold_three(b, n);
}

/* ---- derivatives: d is that of the result, y the result ---- */

#define VJP(op)                                                                               \
	static void op##_vjp(Builder *b, const Node *n, const Val *dout, Val *din);           \
	static void op##_vjp(Builder *b PL_UNUSED, const Node *n PL_UNUSED, const Val *dout, Val *din)
#define NUMBER(x) make_full_like(b, d, (x))

VJP(neg)
{
	din[0] = B(b, neg, dout[0]);
}

VJP(abs)
{
	din[0] = B(b, mul, dout[0], B(b, sign, n->in[0]));
}

VJP(exp)
{
	din[0] = B(b, mul, dout[0], n->out);
}

VJP(log)
{
	din[0] = B(b, div, dout[0], n->in[0]);
}

VJP(sqrt)
{
	Val d = dout[0];
	din[0] = B(b, div, B(b, mul, d, NUMBER(0.5)), n->out);
}

VJP(rsqrt)
{
	Val d = dout[0], cube = B(b, mul, n->out, B(b, mul, n->out, n->out));
	din[0] = B(b, mul, B(b, mul, d, NUMBER(-0.5)), cube);
}

VJP(recip)
{
	din[0] = B(b, neg, B(b, mul, dout[0], B(b, mul, n->out, n->out)));
}

VJP(sin)
{
	din[0] = B(b, mul, dout[0], B(b, cos, n->in[0]));
}

VJP(cos)
{
	din[0] = B(b, neg, B(b, mul, dout[0], B(b, sin, n->in[0])));
}

VJP(tanh)
{
	Val d = dout[0];
	din[0] = B(b, mul, d, B(b, sub, NUMBER(1), B(b, mul, n->out, n->out)));
}

VJP(sigmoid)
{
	Val d = dout[0], slope = B(b, mul, n->out, B(b, sub, NUMBER(1), n->out));
	din[0] = B(b, mul, d, slope);
}

VJP(erf)
{
	Val d = dout[0], bell = B(b, exp, B(b, neg, B(b, mul, n->in[0], n->in[0])));
	din[0] = B(b, mul, B(b, mul, d, NUMBER(2 / sqrt(M_PI))), bell);
}

VJP(add)
{
	din[0] = din[1] = dout[0];
}

VJP(sub)
{
	din[0] = dout[0];
	din[1] = B(b, neg, dout[0]);
}

VJP(mul)
{
	din[0] = B(b, mul, dout[0], n->in[1]);
	din[1] = B(b, mul, dout[0], n->in[0]);
}

VJP(div)
{
	din[0] = B(b, div, dout[0], n->in[1]);
	din[1] = B(b, neg, B(b, mul, din[0], n->out));
}

VJP(mod)
{
	din[0] = dout[0];
	din[1] = B(b, neg, B(b, mul, dout[0], B(b, floordiv, n->in[0], n->in[1])));
}

/* d/da = b a^(b - 1), 0 where b is 0; d/db = a^b log a where a > 0, else 0. */
VJP(pow)
{
	Val d = dout[0], x = n->in[0], e = n->in[1], zero = NUMBER(0), one = NUMBER(1);
	Val slope = B(b, mul, e, B(b, pow, x, B(b, sub, e, one)));
	din[0] = B(b, mul, d, B(b, where, B(b, eq, e, zero), zero, slope));
	Val positive = B(b, where, B(b, lt, zero, x), x, one);
	din[1] = B(b, mul, d, B(b, mul, n->out, B(b, log, positive)));
}

/* The first operand's share where `wins` says that it is the result, half where they tie. */
static void share_ties(Builder *b, const Node *n, Val d, Val wins, Val *din)
{
	Val half = B(b, mul, d, NUMBER(0.5)), zero = NUMBER(0);
	Val tie = B(b, where, B(b, eq, n->in[0], n->in[1]), half, zero);
	din[0] = B(b, where, wins, d, tie);
	din[1] = B(b, sub, d, din[0]);
}

VJP(min)
{
	share_ties(b, n, dout[0], B(b, lt, n->in[0], n->in[1]), din);
}

VJP(max)
{
	share_ties(b, n, dout[0], B(b, lt, n->in[1], n->in[0]), din);
}

VJP(fma)
{
	din[0] = B(b, mul, dout[0], n->in[1]);
	din[1] = B(b, mul, dout[0], n->in[0]);
	din[2] = dout[0];
}

VJP(where)
{
	Val d = dout[0], zero = NUMBER(0);
	din[1] = B(b, where, n->in[0], d, zero);
	din[2] = B(b, where, n->in[0], zero, d);
}

/* ---- the rest ---- */

static Cost elementwise_cost(const Graph *g, const Node *n)
{
	f64 flops = scalar_info[n->op].flops;
	return (Cost){ flops ? flops * val_elements(g, n->out) : 0, node_bytes(g, n) };
}

static Val elementwise_sample(Random *r, Builder *b, Op op)
{
	Dim dim[MAX_RANK];
	u32 rank = random_shape(r, b, 0, 3, dim), nin = op_info[op].nin;
	static const DType whole[] = { DT_i32, DT_i64, DT_u8 };
	Domain domain = takes[op].domain;
	DType d = domain == BOOLS ? DT_b1
		  : domain == FLOATS || random_chance(r, 0.6)
			  ? random_float(r)
			  : whole[random_int(r, 0, COUNT(whole) - 1)];
	bool is_float = dtype_is_float(d);
	f64 low = is_float ? takes[op].low : d == DT_i32 || d == DT_i64 ? -9 : 0;
	f64 high = is_float ? takes[op].high : d == DT_b1 ? 1 : 9;
	Val in[3];
	for (u32 i = 0; i < nin; i++)
		in[i] = op == OP_where && i == 0
				? sample_input(r, b, SAMPLE_WHOLE, DT_b1, rank, dim, 0, 1)
				: sample_input(r, b, is_float ? SAMPLE_REAL : SAMPLE_WHOLE, d, rank,
					       dim, low, high);
	return build(b, op, in, nin, 0, &(none_attr){ 0 });
}

#define SCALAR(op, nin, result, expression, flops, effort)                                  \
	static void op##_eval(EvalCx *cx)                                                   \
	{                                                                                   \
		f64 *to = cx->out[0].data;                                                  \
		const f64 *in0 = cx->in[0]->data, *in1 = nin > 1 ? cx->in[1]->data : in0;   \
		const f64 *in2 = nin > 2 ? cx->in[2]->data : in0;                           \
		for (i64 i = 0; i < cx->out[0].n; i++) {                                    \
			f64 a PL_UNUSED = in0[i], b PL_UNUSED = in1[i], c PL_UNUSED = in2[i]; \
			to[i] = expression;                                                 \
		}                                                                           \
	}
#include "ir/scalar.def"
#undef SCALAR

/* Sums of parts pass through what is linear: both operands of a sum, either of a product. */
static void elementwise_shard(ShardRule *r)
{
	shard_pointwise(r);
	switch (r->n->op) {
	case OP_neg: shard_linear(r, 1); break;
	case OP_add:
	case OP_sub: shard_linear(r, 3); break;
	case OP_mul:
		shard_linear(r, 1);
		shard_linear(r, 2);
		break;
	case OP_div: shard_linear(r, 1); break;
	case OP_where: shard_linear(r, 6); break;
	default: break;
	}
}

#define X(op, domain, derivative, low, high)                                      \
	static Val op##_sample(Random *r, Builder *b)                             \
	{                                                                         \
		return elementwise_sample(r, b, OP_##op);                         \
	}                                                                         \
	const OpDef def_##op = { .infer = elementwise_infer,                      \
				 .fold = elementwise_fold,                        \
				 .vjp = derivative,                               \
				 .cost = elementwise_cost,                        \
				 .eval = op##_eval,                               \
				 .along = along_pointwise,                        \
				 .shard = elementwise_shard,                      \
				 .sample = op##_sample };
ELEMENTWISE(X)
#undef X

/* ---- cast and stop_gradient: elementwise too, but for their attribute or trait ---- */

static bool cast_infer(InferCx *cx)
{
	infer_like(cx, 0, 0);
	DType d = ((const cast_attr *)cx->attr)->dtype;
	infer_result(cx, 0, type_with_dtype(cx->ir, infer_type(cx, 0), d));
	return true;
}

/* Does every value of `from` exist in `to`? */
static bool holds_all(DType to, DType from)
{
	if (from == to || from == DT_b1)
		return true;
	switch (to) {
	case DT_f16:
	case DT_bf16: return dtype_is_f8(from);
	case DT_f32: return dtype_is_narrow_float(from) || from == DT_u8 || from == DT_i8;
	case DT_f64: return from != DT_i64;
	case DT_i32: return from == DT_u8 || from == DT_i8;
	case DT_i64: return from == DT_u8 || from == DT_i8 || from == DT_u32 || from == DT_i32;
	default: return false;
	}
}

/* Only what is exact: to the same type, of a constant, and back from a type that holds all. */
static Val cast_fold(Builder *b, const Node *n)
{
	const Graph *g = b->g;
	DType to = ATTR(n, cast)->dtype;
	const Type *t = val_type(g, n->in[0]);
	if (t->dtype == to)
		return n->in[0];
	f64 x;
	if (is_full(g, n->in[0], &x))
		return make_full(b, dtype_round(to, x), to, dims_of_type(b, t));
	const Node *inner = made_by(g, n->in[0], OP_cast);
	if (inner && holds_all(t->dtype, val_type(g, inner->in[0])->dtype))
		return make_cast(b, inner->in[0], to);
	return (Val){ 0 };
}

/* Gradients of narrow values are held in f32. The cotangent of a narrow float that was widened is rounded as the
 * value is, as if gradients were held in the value's type; of a float of 8 bits it is not, whose range is that of values
 * scaled to it. */
static void cast_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	DType from = val_type(b->g, n->in[0])->dtype;
	if (!dtype_is_float(from) || !dtype_is_float(ATTR(n, cast)->dtype))
		return;
	Val d = dout[0];
	if (dtype_info[from].bytes == 2 && val_type(b->g, d)->dtype == DT_f32 && ATTR(n, cast)->dtype == DT_f32)
		d = make_cast(b, d, from);
	din[0] = make_cast(b, d, from == DT_f64 ? DT_f64 : DT_f32);
}

/* The evaluator rounds results to narrow types; see eval.h. */
static void copy_eval(EvalCx *cx)
{
	for (i64 i = 0; i < cx->out[0].n; i++)
		cx->out[0].data[i] = cx->in[0]->data[i];
}

static void cast_eval(EvalCx *cx)
{
	DType d = cx->out[0].dtype;
	for (i64 i = 0; i < cx->out[0].n; i++)
		cx->out[0].data[i] = d == DT_f32 ? cx->in[0]->data[i] : dtype_round(d, cx->in[0]->data[i]);
}

static Val cast_sample(Random *r, Builder *b)
{
	Dim dim[MAX_RANK];
	u32 rank = random_shape(r, b, 0, 3, dim);
	static const DType to[] = { DT_f64, DT_f32, DT_f64, DT_i32, DT_b1, DT_i64 };
	Val x = sample_input(r, b, SAMPLE_REAL, random_float(r), rank, dim, -9, 9);
	return BA(b, cast, (x), .dtype = to[random_int(r, 0, COUNT(to) - 1)]);
}

static Val stop_gradient_fold(Builder *b, const Node *n)
{
	f64 x;
	if (made_by(b->g, n->in[0], OP_stop_gradient) || is_full(b->g, n->in[0], &x))
		return n->in[0];
	return (Val){ 0 };
}

static bool same_infer(InferCx *cx)
{
	return infer_like(cx, 0, 0);
}

static Val stop_gradient_sample(Random *r, Builder *b)
{
	Dim dim[MAX_RANK];
	u32 rank = random_shape(r, b, 0, 3, dim);
	return B(b, stop_gradient, sample_real(r, b, random_float(r), rank, dim));
}

/* A part is rounded where its sum would be: not where the type is narrower. */
static void cast_shard(ShardRule *r)
{
	DType from = val_type(r->g, r->n->in[0])->dtype, to = ATTR(r->n, cast)->dtype;
	shard_pointwise(r);
	if (dtype_is_float(from) && dtype_is_float(to) && dtype_info[to].bytes >= dtype_info[from].bytes && from != DT_f16)
		shard_linear(r, 1);
}

const OpDef def_cast = { .infer = cast_infer,
			 .fold = cast_fold,
			 .vjp = cast_vjp,
			 .cost = cost_movement,
			 .eval = cast_eval,
			 .along = along_pointwise,
			 .shard = cast_shard,
			 .sample = cast_sample };
const OpDef def_stop_gradient = { .infer = same_infer,
				  .fold = stop_gradient_fold,
				  .cost = cost_movement,
				  .eval = copy_eval,
				  .along = along_pointwise,
				  .shard = shard_linear_pointwise,
				  .sample = stop_gradient_sample };
