/* ir/ops/activation.c: elementwise functions made of others. Each has a derivative of its own that
 * recomputes from its operand, so that the backward pass keeps nothing but that operand. */
#include "ir/ops/composite.h"
#include "ir/sample.h"

#include <math.h>

static bool infer_same(InferCx *cx)
{
	return infer_like(cx, 0, 0);
}

/* Computes f(operand) wide and rounds to the operand's type. */
static void expand_with(Builder *b, const Node *n, Val *out, Val (*f)(Builder *b, Val x))
{
	out[0] = make_cast(b, f(b, widened(b, n->in[0])), val_type(b->g, n->in[0])->dtype);
}

/* dx = dy * f'(x). */
static void vjp_with(Builder *b, const Node *n, const Val *dout, Val *din,
		     Val (*derivative)(Builder *b, Val x))
{
	din[0] = B(b, mul, widened(b, dout[0]), derivative(b, widened(b, n->in[0])));
}

static Val sample_any(Random *r, Builder *b)
{
	Dim dim[MAX_RANK];
	u32 rank = random_shape(r, b, 0, 3, dim);
	return sample_input(r, b, SAMPLE_REAL, random_float(r), rank, dim, -6, 6);
}

/* ---- square ---- */

static void square_expand(Builder *b, const Node *n, Val *out)
{
	out[0] = B(b, mul, n->in[0], n->in[0]);
}

static Val square_derivative(Builder *b, Val x)
{
	return times(b, x, 2);
}

static void square_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	vjp_with(b, n, dout, din, square_derivative);
}

static Val square_sample(Random *r, Builder *b)
{
	return B(b, square, sample_any(r, b));
}

const OpDef def_square = { .infer = infer_same, .expand = square_expand, .vjp = square_vjp,
			   .along = along_pointwise, .sample = square_sample };

/* ---- relu: its derivative at 0 is 0 ---- */

static void relu_expand(Builder *b, const Node *n, Val *out)
{
	out[0] = B(b, max, n->in[0], make_full_like(b, n->in[0], 0));
}

static void relu_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	Val x = n->in[0];
	din[0] = where_or_zero(b, B(b, lt, make_full_like(b, x, 0), x), dout[0]);
}

static Val relu_sample(Random *r, Builder *b)
{
	return B(b, relu, sample_any(r, b));
}

const OpDef def_relu = { .infer = infer_same, .expand = relu_expand, .vjp = relu_vjp,
			 .along = along_pointwise, .sample = relu_sample };

/* ---- silu ---- */

static Val silu_value(Builder *b, Val x)
{
	return B(b, mul, x, B(b, sigmoid, x));
}

/* s + x s (1 - s) */
static Val silu_derivative(Builder *b, Val x)
{
	Val s = B(b, sigmoid, x);
	Val one = make_full_like(b, x, 1);
	return B(b, mul, s, B(b, add, one, B(b, mul, x, B(b, sub, one, s))));
}

static void silu_expand(Builder *b, const Node *n, Val *out)
{
	expand_with(b, n, out, silu_value);
}

static void silu_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	vjp_with(b, n, dout, din, silu_derivative);
}

static Val silu_sample(Random *r, Builder *b)
{
	return B(b, silu, sample_any(r, b));
}

const OpDef def_silu = { .infer = infer_float_like, .expand = silu_expand, .vjp = silu_vjp,
			 .along = along_pointwise, .sample = silu_sample };

/* ---- gelu ---- */

static const f64 sqrt_half = 0.70710678118654752440, two_over_root_pi = 1.12837916709551257390;
static const f64 gelu_cubic = 0.044715;

/* The normal distribution function, (1 + erf(x / sqrt 2)) / 2. */
static Val normal_cdf(Builder *b, Val x)
{
	return times(b, plus(b, B(b, erf, times(b, x, sqrt_half)), 1), 0.5);
}

/* tanh(sqrt(2 / pi) (x + 0.044715 x^3)) */
static Val gelu_tanh(Builder *b, Val x)
{
	Val cube = B(b, mul, x, B(b, mul, x, x));
	Val inner = B(b, add, x, times(b, cube, gelu_cubic));
	return B(b, tanh, times(b, inner, two_over_root_pi * sqrt_half));
}

static Val gelu_value(Builder *b, Val x)
{
	return B(b, mul, x, normal_cdf(b, x));
}

static Val gelu_tanh_value(Builder *b, Val x)
{
	return B(b, mul, times(b, x, 0.5), plus(b, gelu_tanh(b, x), 1));
}

/* cdf(x) + x pdf(x) */
static Val gelu_derivative(Builder *b, Val x)
{
	Val e = B(b, exp, times(b, B(b, mul, x, x), -0.5));
	Val density = times(b, e, 0.5 * two_over_root_pi * sqrt_half);
	return B(b, add, normal_cdf(b, x), B(b, mul, x, density));
}

/* (1 + t) / 2 + x (1 - t^2) / 2 * sqrt(2 / pi) (1 + 3 * 0.044715 x^2) */
static Val gelu_tanh_derivative(Builder *b, Val x)
{
	Val t = gelu_tanh(b, x);
	Val slope = B(b, sub, make_full_like(b, x, 1), B(b, mul, t, t));
	Val inner = plus(b, times(b, B(b, mul, x, x), 3 * gelu_cubic), 1);
	Val right = B(b, mul, x, B(b, mul, slope, inner));
	return B(b, add, times(b, plus(b, t, 1), 0.5),
		 times(b, right, 0.5 * two_over_root_pi * sqrt_half));
}

static void gelu_expand(Builder *b, const Node *n, Val *out)
{
	expand_with(b, n, out, ATTR(n, gelu)->approximate ? gelu_tanh_value : gelu_value);
}

static void gelu_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	vjp_with(b, n, dout, din,
		 ATTR(n, gelu)->approximate ? gelu_tanh_derivative : gelu_derivative);
}

static Val gelu_sample(Random *r, Builder *b)
{
	return BA(b, gelu, (sample_any(r, b)), .approximate = random_chance(r, 0.5));
}

const OpDef def_gelu = { .infer = infer_float_like, .expand = gelu_expand, .vjp = gelu_vjp,
			 .along = along_pointwise, .sample = gelu_sample };

/* ---- softplus ---- */

/* max(x, 0) + log1p(e), e = exp(-|x|), with log1p(e) = e log(u) / (u - 1) for u = 1 + e as rounded
 * (Kahan's: the error of u cancels), and e itself where u is 1. */
static Val softplus_value(Builder *b, Val x)
{
	Val one = make_full_like(b, x, 1);
	Val e = B(b, exp, B(b, neg, B(b, abs, x)));
	Val u = B(b, add, one, e);
	Val tiny = B(b, eq, u, one);
	Val ratio = B(b, div, B(b, log, u), B(b, where, tiny, one, B(b, sub, u, one)));
	Val log1p = B(b, where, tiny, e, B(b, mul, e, ratio));
	return B(b, add, B(b, max, x, make_full_like(b, x, 0)), log1p);
}

static Val softplus_derivative(Builder *b, Val x)
{
	return B(b, sigmoid, x);
}

static void softplus_expand(Builder *b, const Node *n, Val *out)
{
	expand_with(b, n, out, softplus_value);
}

static void softplus_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	vjp_with(b, n, dout, din, softplus_derivative);
}

static Val softplus_sample(Random *r, Builder *b)
{
	return B(b, softplus, sample_any(r, b));
}

const OpDef def_softplus = { .infer = infer_float_like, .expand = softplus_expand,
			     .vjp = softplus_vjp, .along = along_pointwise, .sample = softplus_sample };
