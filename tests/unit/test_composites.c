/* Units of the composite ops: values known in closed form, edges (rows of -inf, masked rows, nothing
 * but ignored targets, large logits) and their gradients, shapes with symbols, and what is said of
 * operands that do not fit. What holds of all ops is in test_ops.c and test_grad.c. */
#include "bench.h"
#include "ir/cost.h"
#include "ir/expand.h"
#include "ir/ops/composite.h"

static const f64 inf = INFINITY;

static Val scalar_i64(Bench *t, i64 n)
{
	return BS(&t->b, full, .value = (f64)n, .dtype = DT_i64);
}

/* ---- values ---- */

static void activations_have_known_values(void **state)
{
	(void)state;
	Bench *t = bench_new();
	Builder *b = &t->b;
	Val x = bench_input(t, DT_f64, EXTENTS(5), DATA(0, 1, -1, 30, -40));
	CHECK(t, B(b, square, x), 0, 0, 1, 1, 900, 1600);
	CHECK(t, B(b, relu, x), 0, 0, 1, 0, 30, 0);
	f64 s = 1 / (1 + exp(-1));
	CHECK(t, B(b, silu, x), 1e-15, 0, s, s - 1, 30 / (1 + exp(-30)), -40 * exp(-40));
	/* the normal distribution function at 1, from its table */
	f64 p = 0.8413447460685429;
	CHECK(t, BA(b, gelu, (x), .approximate = false), 1e-15, 0, p, p - 1, 30, 0);
	CHECK(t, BA(b, gelu, (x), .approximate = true), 1e-10, 0, 0.8411919906082768,
	      -0.15880800939172324, 30, 0);
	/* log(1 + e), and its series where that is all rounding */
	const Tensor *y = bench_eval(t, &t->arena, B(b, softplus, x));
	assert_true(near(y->data[1], 1.3132616875182228, 1e-15));
	assert_true(near(y->data[2], 0.3132616875182228, 1e-15));
	assert_true(y->data[3] > 30 && y->data[3] < 30 + 1e-12);
	assert_true(fabs(y->data[4] / exp(-40) - 1) < 1e-12);
	/* in f32 too, where 1 + exp(-20) is 1 */
	Val narrow = bench_input(t, DT_f32, EXTENTS(2), DATA(-20, -3));
	y = bench_eval(t, &t->arena, B(b, softplus, narrow));
	assert_true(fabs(y->data[0] / exp(-20) - 1) < 1e-6);
	assert_true(fabs(y->data[1] / log1p(exp(-3)) - 1) < 1e-6);
	/* the slope of relu at 0 is 0 */
	Val dx, loss = BA(b, sum, (B(b, relu, x)), .axes = INTS(b, 0));
	assert_true(grad_append(b, loss, &x, 1, &dx));
	CHECK(t, dx, 0, 0, 1, 0, 1, 0);
	bench_free(t);
}

static void means_and_products(void **state)
{
	(void)state;
	Bench *t = bench_new();
	Builder *b = &t->b;
	Val x = bench_input(t, DT_f64, EXTENTS(3, 3), DATA(2, -3, 4, 0, 5, -1, 0, 0, 7));
	CHECK(t, BA(b, mean, (x), .axes = INTS(b, 1)), 1e-15, 1, 4.0 / 3, 7.0 / 3);
	CHECK(t, BA(b, mean, (x), .axes = INTS(b, 0, 1)), 1e-15, 14.0 / 9);
	Val product = BA(b, prod, (x), .axes = INTS(b, 1));
	CHECK(t, product, 1e-14, -24, 0, 0);
	/* the product of the others: no zero, one, two */
	Val dx, loss = BA(b, sum, (product), .axes = INTS(b, 0));
	assert_true(grad_append(b, loss, &x, 1, &dx));
	CHECK(t, dx, 1e-14, -12, 8, -6, -5, 0, 0, 0, 0, 0);
	bench_free(t);
}

static void softmax_of_rows(void **state)
{
	(void)state;
	Bench *t = bench_new();
	Builder *b = &t->b;
	Val x = bench_input(t, DT_f64, EXTENTS(4, 3),
			    DATA(0, log(2), log(5), 1000, 1000 + log(3), -inf, -inf, -inf, -inf, -800,
				 -800, -800));
	f64 third = 1.0 / 3;
	Val y = BA(b, softmax, (x), .axis = 1), l = BA(b, logsumexp, (x), .axis = 1);
	Val z = BA(b, log_softmax, (x), .axis = 1);
	CHECK(t, y, 1e-13, 0.125, 0.25, 0.625, 0.25, 0.75, 0, 0, 0, 0, third, third, third);
	CHECK(t, l, 1e-13, log(8), 1000 + log(4), -inf, log(3) - 800);
	CHECK(t, z, 1e-13, -log(8), log(0.25), log(0.625), log(0.25), log(0.75), -inf, -inf, -inf,
	      -inf, -log(3), -log(3), -log(3));
	/* along the other axis, where the columns of -inf are no rows of -inf */
	Val v = bench_input(t, DT_f64, EXTENTS(2, 2), DATA(0, 1, log(3), 1));
	CHECK(t, BA(b, softmax, (v), .axis = 0), 1e-15, 0.25, 0.5, 0.75, 0.5);
	/* no NaN flows back from any of them */
	Val weight = bench_input(t, DT_f64, EXTENTS(4, 3), DATA(1, 0, 0, 1, 0, 0, 1, 1, 1, 0, 0, 3));
	Val dx, s = BA(b, sum, (B(b, mul, y, weight)), .axes = INTS(b, 0, 1));
	assert_true(grad_append(b, s, &x, 1, &dx));
	CHECK(t, dx, 1e-13, 0.125 * 0.875, -0.25 * 0.125, -0.625 * 0.125, 0.25 * 0.75, -0.1875, 0, 0, 0,
	      0, -third, -third, 2 * third);
	Val row = bench_input(t, DT_f64, EXTENTS(4), DATA(1, 2, 3, 4));
	s = BA(b, sum, (B(b, mul, l, row)), .axes = INTS(b, 0));
	assert_true(grad_append(b, s, &x, 1, &dx));
	CHECK(t, dx, 1e-13, 0.125, 0.25, 0.625, 0.5, 1.5, 0, 0, 0, 0, 4 * third, 4 * third,
	      4 * third);
	bench_free(t);
}

static void norms_of_short_rows(void **state)
{
	(void)state;
	Bench *t = bench_new();
	Builder *b = &t->b;
	Val x = bench_input(t, DT_f64, EXTENTS(2, 2), DATA(1, 3, 1005, 1001));
	Val w = bench_input(t, DT_f64, EXTENTS(2), DATA(2, 3));
	Val c = bench_input(t, DT_f64, EXTENTS(2), DATA(10, 20));
	CHECK(t, BA(b, layer_norm, (x, w, c), .eps = 0), 1e-12, 8, 23, 12, 17);
	/* variance 1 and 4: with eps = 3, roots 2 and sqrt 7 */
	f64 r = 2 / sqrt(7);
	CHECK(t, BA(b, layer_norm, (x, w, c), .eps = 3), 1e-12, 9, 21.5, 10 + 2 * r, 20 - 3 * r);
	Val y = bench_input(t, DT_f64, EXTENTS(1, 2), DATA(3, 4));
	f64 root = sqrt(12.5);
	CHECK(t, BA(b, rms_norm, (y, w), .eps = 0), 1e-15, 6 / root, 12 / root);
	CHECK(t, BA(b, rms_norm, (y, w), .eps = 3.5), 1e-15, 1.5, 3);
	/* [1, 4 channels, 2]: two groups of two channels */
	Val z = bench_input(t, DT_f64, EXTENTS(1, 4, 2), DATA(1, 1, 3, 3, 5, 5, 5, 9));
	Val gain = bench_input(t, DT_f64, EXTENTS(4), DATA(1, 2, 1, 1));
	Val shift = bench_input(t, DT_f64, EXTENTS(4), DATA(0, 0, 0, 100));
	f64 a = 1 / sqrt(3), d = 3 / sqrt(3);
	CHECK(t, BA(b, group_norm, (z, gain, shift), .groups = 2, .eps = 0), 1e-12, -1, -1, 2, 2, -a,
	      -a, 100 - a, 100 + d);
	bench_free(t);
}

static void cross_entropy_counts(void **state)
{
	(void)state;
	Bench *t = bench_new();
	Builder *b = &t->b;
	Val x = bench_input(t, DT_f64, EXTENTS(4, 3),
			    DATA(0, 0, 0, 1000, 0, -1000, 0, log(2), log(5), 9, 9, 9));
	Val y = bench_input(t, DT_i32, EXTENTS(4), DATA(2, 1, 2, -100));
	Val out = BA(b, cross_entropy, (x, y), .ignore = -100);
	Val count = { out.i + 1 }, lse = { out.i + 2 };
	CHECK(t, out, 1e-12, log(3) + 1000 + log(8.0 / 5));
	CHECK(t, count, 0, 3);
	CHECK(t, lse, 1e-12, log(3), 1000, log(8), 9 + log(3));
	Val dx;
	assert_true(grad_append(b, out, &x, 1, &dx));
	CHECK(t, dx, 1e-12, 1.0 / 3, 1.0 / 3, -2.0 / 3, 1, -1, 0, 0.125, 0.25, -0.375, 0, 0, 0);
	/* ignored everywhere: sums of nothing */
	Val none = bench_input(t, DT_i32, EXTENTS(4), DATA(7, 7, 7, 7));
	out = BA(b, cross_entropy, (x, none), .ignore = 7);
	count = (Val){ out.i + 1 };
	CHECK(t, out, 0, 0);
	CHECK(t, count, 0, 0);
	assert_true(grad_append(b, out, &x, 1, &dx));
	CHECK(t, dx, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
	/* the log-sum-exp as a loss of its own: gradients of all rows, ignored or not */
	Val z = BA(b, sum, ((Val){ out.i + 2 }), .axes = INTS(b, 0));
	assert_true(grad_append(b, z, &x, 1, &dx));
	f64 p = 1.0 / 3;
	CHECK(t, dx, 1e-12, p, p, p, 1, 0, 0, 0.125, 0.25, 0.625, p, p, p);
	bench_free(t);
}

static void global_norm_of_all(void **state)
{
	(void)state;
	Bench *t = bench_new();
	Builder *b = &t->b;
	Val x = bench_input(t, DT_f64, EXTENTS(2), DATA(1, -2)), dx[2];
	Val y = bench_input(t, DT_f64, EXTENTS(1, 2), DATA(2, 4));
	Val in[] = { x, y };
	Val norm = build(b, OP_global_norm, in, 2, 0, &(global_norm_attr){ 0 });
	CHECK(t, norm, 1e-15, 5);
	assert_true(grad_append(b, norm, in, 2, dx));
	CHECK(t, dx[0], 1e-15, 0.2, -0.4);
	CHECK(t, dx[1], 1e-15, 0.4, 0.8);
	Val zero = bench_input(t, DT_f64, EXTENTS(2), DATA(0, 0));
	norm = build(b, OP_global_norm, &zero, 1, 0, &(global_norm_attr){ 0 });
	assert_true(grad_append(b, norm, &zero, 1, dx));
	CHECK(t, dx[0], 0, 0, 0);
	bench_free(t);
}

static void attention_sees_what_it_should(void **state)
{
	(void)state;
	Bench *t = bench_new();
	Builder *b = &t->b;
	/* queries of zero: every key that is seen weighs the same */
	Val q = bench_input(t, DT_f64, EXTENTS(1, 3, 2), NULL);
	Val k = bench_input(t, DT_f64, EXTENTS(1, 4, 2), DATA(1, 2, 3, 4, 5, 6, 7, 8));
	Val v = bench_input(t, DT_f64, EXTENTS(1, 4, 1), DATA(1, 10, 100, 1000));
	Val out = BA(b, attention, (q, k, v), .causal = false);
	CHECK(t, out, 1e-12, 1111.0 / 4, 1111.0 / 4, 1111.0 / 4);
	/* T = 3, S = 4: the first query sees two keys */
	out = BA(b, attention, (q, k, v), .causal = true);
	CHECK(t, out, 1e-12, 11.0 / 2, 111.0 / 3, 1111.0 / 4);
	Val lse = { out.i + 1 };
	CHECK(t, lse, 1e-12, log(2), log(3), log(4));
	out = BA(b, attention, (q, k, v), .causal = true, .window = 1);
	CHECK(t, out, 1e-12, 10, 100, 1000);
	out = BA(b, attention, (q, k, v), .causal = true, .window = 2);
	CHECK(t, out, 1e-12, 5.5, 55, 550);
	/* a mask: nothing for the first query, all for the second, one for the third */
	Val mask = bench_input(t, DT_b1, EXTENTS(3, 4), DATA(0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 1, 0));
	out = BA(b, attention, (q, k, v, mask), .mask = true);
	CHECK(t, out, 1e-12, 0, 1111.0 / 4, 100);
	lse = (Val){ out.i + 1 };
	CHECK(t, lse, 1e-12, -inf, log(4), 0);
	Val dx[3], loss = BA(b, sum, (out), .axes = INTS(b, 0, 1, 2));
	assert_true(grad_append(b, loss, VALS(q, k, v), dx));
	CHECK(t, dx[2], 1e-12, 0.25, 0.25, 1.25, 0.25);
	const Tensor *dq = bench_eval(t, &t->arena, dx[0]);
	assert_true(dq->data[0] == 0 && dq->data[1] == 0); /* of the row that sees nothing */
	assert_true(dq->data[2] != 0 && !isnan(dq->data[2]));
	/* a bias of log 3 on one key; it repeats over queries */
	Val bias = bench_input(t, DT_f64, EXTENTS(4), DATA(0, log(3), 0, 0));
	out = BA(b, attention, (q, k, v, bias), .bias = true);
	CHECK(t, out, 1e-12, 1131.0 / 6, 1131.0 / 6, 1131.0 / 6);
	bench_free(t);
}

static void attention_weighs_by_scores(void **state)
{
	(void)state;
	Bench *t = bench_new();
	Builder *b = &t->b;
	/* two heads of q over one of k and v; width 4, so that the default scale is 1/2 */
	Val q = bench_input(t, DT_f64, EXTENTS(2, 1, 4), DATA(2, 0, 0, 0, 0, 2, 0, 0));
	Val k = bench_input(t, DT_f64, EXTENTS(1, 2, 4), DATA(log(3), 0, 0, 0, 0, log(9), 0, 0));
	Val v = bench_input(t, DT_f64, EXTENTS(1, 2, 2), DATA(1, 0, 0, 1));
	Val out = BA(b, attention, (q, k, v), .causal = false);
	CHECK(t, out, 1e-15, 0.75, 0.25, 0.1, 0.9);
	assert_true(attention_scale(t->g, val_node(t->g, out)) == 0.5);
	out = BA(b, attention, (q, k, v), .scale = 0.25);
	f64 r = sqrt(3);
	CHECK(t, out, 1e-15, r / (r + 1), 1 / (r + 1), 0.25, 0.75);
	/* scores of half of log 3 and log 9, bounded at 2; then a bias, which is not */
	f64 x = 2 * tanh(log(3) / 4), y = 2 * tanh(log(9) / 4), p = exp(x) / (exp(x) + 1), s = exp(y) / (exp(y) + 1);
	out = BA(b, attention, (q, k, v), .scale = 0.25, .softcap = 2);
	CHECK(t, out, 1e-15, p, 1 - p, 1 - s, s);
	Val bias = bench_input(t, DT_f64, EXTENTS(2), DATA(9, 9 - x));
	out = BA(b, attention, (q, k, v, bias), .bias = true, .scale = 0.25, .softcap = 2);
	CHECK(t, out, 1e-15, exp(2 * x) / (exp(2 * x) + 1), 1 / (exp(2 * x) + 1), exp(x) / (exp(x) + exp(y)), exp(y) / (exp(x) + exp(y)));
	/* scores of a thousand */
	Val far = bench_input(t, DT_f64, EXTENTS(2, 1, 4), DATA(1e6, 0, 0, 0, 0, -1e6, 0, 0));
	out = BA(b, attention, (far, k, v), .causal = false);
	CHECK(t, out, 1e-15, 1, 0, 1, 0);
	bench_free(t);
}

static void attention_counts_visible_work(void **state)
{
	(void)state;
	assert_true(attention_pairs(false, 0, 3, 5) == 15);
	assert_true(attention_pairs(true, 0, 4, 4) == 10);
	assert_true(attention_pairs(true, 0, 3, 5) == 3 + 4 + 5);
	assert_true(attention_pairs(true, 0, 5, 3) == 0 + 0 + 1 + 2 + 3);
	assert_true(attention_pairs(true, 2, 4, 4) == 1 + 2 + 2 + 2);
	assert_true(attention_pairs(true, 9, 4, 4) == 10);
	assert_true(attention_pairs(true, 2, 5, 3) == 0 + 0 + 1 + 2 + 2);
	/* as many as nobody counts one by one */
	assert_true(attention_pairs(true, 0, 1ll << 40, 1ll << 40) == 0x1p79 + 0x1p39);
	Bench *t = bench_new();
	Builder *b = &t->b;
	Val q = bench_input(t, DT_f32, EXTENTS(2, 6, 8, 16), NULL);
	Val k = bench_input(t, DT_f32, EXTENTS(2, 3, 8, 16), NULL);
	Val full = BA(b, attention, (q, k, k), .causal = false);
	Val causal = BA(b, attention, (q, k, k), .causal = true);
	f64 f = op_info[OP_attention].def->cost(t->g, val_node(t->g, full)).flops;
	f64 c = op_info[OP_attention].def->cost(t->g, val_node(t->g, causal)).flops;
	/* two products of 16 over 64 pairs in 12 heads, and little beside */
	f64 dots = 12.0 * 64 * 2 * 2 * 16;
	assert_true(f > dots && f < 1.15 * dots);
	assert_true(c > dots * 36 / 64 && c < 1.15 * dots * 36 / 64);
	bench_free(t);
}

static void rope_turns(void **state)
{
	(void)state;
	Bench *t = bench_new();
	Builder *b = &t->b;
	f64 quarter = acos(0);
	/* K = 4, base 16: frequencies 1 and 1/4 */
	Val x = bench_input(t, DT_f64, EXTENTS(3, 4), DATA(1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4));
	Val at = bench_input(t, DT_f64, EXTENTS(3), DATA(0, quarter, 4 * quarter));
	f64 c = cos(quarter / 4), s = sin(quarter / 4);
	CHECK(t, BA(b, rope, (x, at), .base = 16), 1e-14, 1, 2, 3, 4, -3, 2 * c - 4 * s, 1,
	      4 * c + 2 * s, 1, -4, 3, 2);
	CHECK(t, BA(b, rope, (x, at), .base = 16, .interleaved = true), 1e-14, 1, 2, 3, 4, -2, 1,
	      3 * c - 4 * s, 4 * c + 3 * s, 1, 2, -4, 3);
	bench_free(t);
}

static void windows_of_images(void **state)
{
	(void)state;
	Bench *t = bench_new();
	Builder *b = &t->b;
	Val x = bench_input(t, DT_f64, EXTENTS(1, 1, 3, 3), DATA(0, 1, 2, 3, 4, 5, 6, 7, 8));
	Val w = bench_input(t, DT_f64, EXTENTS(1, 1, 2, 2), DATA(1, 10, 100, 1000));
	CHECK(t, BA(b, conv2d, (x, w), .groups = 1), 1e-15, 4310, 5421, 7643, 8754);
	CHECK(t, BA(b, conv2d, (x, w), .groups = 1, .padding = INTS(b, 1), .stride = INTS(b, 2)), 1e-15,
	      0, 2100, 6030, 8754);
	CHECK(t, BA(b, conv2d, (x, w), .groups = 1, .dilation = INTS(b, 2)), 1e-15, 8620);
	Val two = bench_input(t, DT_f64, EXTENTS(1, 2, 1, 2), DATA(1, 2, 3, 4));
	Val each = bench_input(t, DT_f64, EXTENTS(4, 1, 1, 1), DATA(1, 10, 100, 1000));
	CHECK(t, BA(b, conv2d, (two, each), .groups = 2), 1e-15, 1, 2, 10, 20, 300, 400, 3000, 4000);
	/* windows side by side */
	Val broad = bench_input(t, DT_f64, EXTENTS(1, 1, 2, 4), DATA(0, 1, 2, 3, 4, 5, 6, 7));
	CHECK(t, BA(b, conv2d, (broad, w), .groups = 1, .stride = INTS(b, 2)), 1e-15, 5410, 7632);
	Val rows = bench_input(t, DT_f64, EXTENTS(1, 2, 1, 4), DATA(1, 2, 3, 4, 5, 6, 7, 8));
	Val pairs = bench_input(t, DT_f64, EXTENTS(2, 1, 1, 2), DATA(1, 10, 100, 1000));
	CHECK(t, BA(b, conv2d, (rows, pairs), .groups = 2, .stride = INTS(b, 1, 2)), 1e-15, 21, 43, 6500, 8700);
	ints size = INTS(b, 2), one = INTS(b, 1);
	Val most = BA(b, max_pool2d, (x), .size = size, .stride = one);
	CHECK(t, most, 0, 4, 5, 7, 8);
	CHECK(t, BA(b, max_pool2d, (x), .size = size), 0, 4);
	CHECK(t, BA(b, max_pool2d, (x), .size = size, .stride = size, .padding = one), 0, 0, 2, 6, 8);
	CHECK(t, BA(b, avg_pool2d, (x), .size = size, .stride = one), 1e-15, 2, 3, 5, 6);
	CHECK(t, BA(b, avg_pool2d, (x), .size = size, .stride = size, .padding = one), 1e-15, 0, 0.75,
	      2.25, 6);
	CHECK(t, BA(b, upsample2d, (two), .factor = 2), 0, 1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4,
	      4);
	/* ties: the first of the window, row by row, takes all */
	Val flat = bench_input(t, DT_f64, EXTENTS(1, 1, 3, 3), DATA(5, 5, 5, 5, 5, 5, 5, 5, 5)), dx;
	Val loss = BA(b, sum, (BA(b, max_pool2d, (flat), .size = size, .stride = one)),
		      .axes = INTS(b, 0, 1, 2, 3));
	assert_true(grad_append(b, loss, &flat, 1, &dx));
	CHECK(t, dx, 0, 1, 1, 0, 1, 1, 0, 0, 0, 0);
	Val apart = bench_input(t, DT_f64, EXTENTS(1, 1, 2, 2), DATA(5, 1, 5, 5));
	loss = BA(b, sum, (BA(b, max_pool2d, (apart), .size = size)), .axes = INTS(b, 0, 1, 2, 3));
	assert_true(grad_append(b, loss, &apart, 1, &dx));
	CHECK(t, dx, 0, 1, 0, 0, 0);
	bench_free(t);
}

/* What a convolution multiplies, in plain loops: y += w x, dx += dy w, dw += dy x, of those that are not NULL. */
typedef struct PlainConv {
	i64 B, C, O, groups, in[2], out[2], size[2], stride[2], padding[2], dilation[2];
	const f64 *x, *w, *dy;
	f64 *y, *dx, *dw;
} PlainConv;

static void plain_conv(const PlainConv *c)
{
	i64 each = c->C / c->groups;
	for (i64 b = 0; b < c->B; b++)
		for (i64 o = 0; o < c->O; o++)
			for (i64 h = 0; h < c->out[0]; h++)
				for (i64 v = 0; v < c->out[1]; v++)
					for (i64 k = 0; k < each * c->size[0] * c->size[1]; k++) {
						i64 ch = o / (c->O / c->groups) * each + k / (c->size[0] * c->size[1]);
						i64 i = k / c->size[1] % c->size[0], j = k % c->size[1];
						i64 row = h * c->stride[0] - c->padding[0] + i * c->dilation[0];
						i64 column = v * c->stride[1] - c->padding[1] + j * c->dilation[1];
						if (row < 0 || row >= c->in[0] || column < 0 || column >= c->in[1])
							continue;
						i64 x = ((b * c->C + ch) * c->in[0] + row) * c->in[1] + column;
						i64 y = ((b * c->O + o) * c->out[0] + h) * c->out[1] + v;
						i64 w = o * each * c->size[0] * c->size[1] + k;
						c->y[y] += c->w[w] * c->x[x];
						c->dx[x] += c->dy[y] * c->w[w];
						c->dw[w] += c->dy[y] * c->x[x];
					}
}

static f64 *random_data(Bench *t, Random *r, i64 n)
{
	f64 *x = NEWN(&t->arena, f64, n + 1);
	for (i64 i = 0; i < n; i++)
		x[i] = 2 * random_unit(r) - 1;
	return x;
}

/* Forward and both derivatives, in f64. */
static void check_conv(Random *r, PlainConv c, const char *what)
{
	Bench *t = bench_new();
	Builder *b = &t->b;
	for (u32 d = 0; d < 2; d++) {
		i64 room = c.in[d] + 2 * c.padding[d] - c.dilation[d] * (c.size[d] - 1) - 1;
		if (room < 0) {
			bench_free(t);
			return;
		}
		c.out[d] = room / c.stride[d] + 1;
	}
	i64 nx = c.B * c.C * c.in[0] * c.in[1], nw = c.O * c.C / c.groups * c.size[0] * c.size[1], ny = c.B * c.O * c.out[0] * c.out[1];
	c.x = random_data(t, r, nx), c.w = random_data(t, r, nw), c.dy = random_data(t, r, ny);
	c.y = NEWN(&t->arena, f64, ny), c.dx = NEWN(&t->arena, f64, nx), c.dw = NEWN(&t->arena, f64, nw);
	plain_conv(&c);
	Val in[] = { bench_input(t, DT_f64, EXTENTS(c.B, c.C, c.in[0], c.in[1]), c.x),
		     bench_input(t, DT_f64, EXTENTS(c.O, c.C / c.groups, c.size[0], c.size[1]), c.w) };
	Val dy = bench_input(t, DT_f64, EXTENTS(c.B, c.O, c.out[0], c.out[1]), c.dy), d[2];
	Val y = BA(b, conv2d, (in[0], in[1]), .stride = { 2, c.stride }, .padding = { 2, c.padding }, .dilation = { 2, c.dilation },
		   .groups = c.groups);
	check_near(what, bench_eval(t, &t->arena, y), c.y, ny, 1e-13);
	Val loss = BA(b, sum, (B(b, mul, y, dy)), .axes = INTS(b, 0, 1, 2, 3));
	assert_true(grad_append(b, loss, in, 2, d));
	check_near(what, bench_eval(t, &t->arena, d[0]), c.dx, nx, 1e-13);
	check_near(what, bench_eval(t, &t->arena, d[1]), c.dw, nw, 1e-13);
	bench_free(t);
}

static void convolutions_by_plain_loops(void **state)
{
	(void)state;
	Arena a = ARENA("random");
	Random r = random_new(&a, 7);
	for (i64 size = 1; size <= 4; size++)
		for (i64 stride = 1; stride <= 3; stride++)
			for (i64 padding = 0; padding <= 3; padding++)
				for (i64 dilation = 1; dilation <= 3; dilation++)
					/* even and odd extents, of both image dimensions apart */
					for (i64 odd = 0; odd < 2; odd++)
						check_conv(&r,
							   (PlainConv){ .B = 2, .C = 4, .O = 6, .groups = 1 + odd, .in = { 8 + odd, 7 - odd },
									.size = { size, 1 + size % 3 }, .stride = { stride, 1 + odd },
									.padding = { padding, padding / 2 }, .dilation = { dilation, 2 - odd } },
							   arena_printf(&a, "size %d stride %d padding %d dilation %d odd %d", (int)size,
									(int)stride, (int)padding, (int)dilation, (int)odd));
	/* each channel by itself; windows side by side, and with gaps between */
	check_conv(&r, (PlainConv){ .B = 1, .C = 3, .O = 3, .groups = 3, .in = { 6, 6 }, .size = { 3, 3 }, .stride = { 1, 1 },
				    .padding = { 1, 1 }, .dilation = { 1, 1 } }, "each channel");
	check_conv(&r, (PlainConv){ .B = 1, .C = 2, .O = 4, .groups = 1, .in = { 6, 8 }, .size = { 3, 2 }, .stride = { 3, 2 },
				    .dilation = { 1, 1 } }, "side by side");
	check_conv(&r, (PlainConv){ .B = 1, .C = 2, .O = 4, .groups = 1, .in = { 9, 10 }, .size = { 2, 1 }, .stride = { 4, 3 },
				    .dilation = { 1, 1 } }, "gaps");
	arena_free(&a);
}

/* A convolution and each of its derivatives is one product, and of as many FLOPs as one that keeps the image's size. */
static void convolutions_are_one_product(void **state)
{
	(void)state;
	for (i64 stride = 1; stride <= 2; stride++) {
		Bench *t = bench_new();
		Builder *b = &t->b;
		Val in[] = { bench_input(t, DT_f32, EXTENTS(2, 24, 8, 8), NULL), bench_input(t, DT_f32, EXTENTS(16, 24, 3, 3), NULL) }, d[2];
		Val y = BA(b, conv2d, (in[0], in[1]), .stride = INTS(b, stride), .padding = INTS(b, 1), .groups = 1);
		Val loss = BA(b, sum, (B(b, square, y)), .axes = INTS(b, 0, 1, 2, 3));
		assert_true(grad_append(b, loss, in, 2, d));
		const Node forward = *val_node(t->g, y);
		Val out;
		expand_node(b, t->g, &forward, forward.in, &out);
		u32 products = 0;
		f64 flops = 0, one = 2.0 * 2 * 16 * (8 / (f64)stride) * (8 / (f64)stride) * 24 * 9;
		for (u32 i = 1; i < t->g->node.n; i++)
			if (t->g->node.v[i].op == OP_dot) {
				products++;
				flops += op_info[OP_dot].def->cost(t->g, &t->g->node.v[i]).flops;
			}
		assert_int_equal(products, stride == 1 ? 3 : 6); /* towards x, one for each residue by the stride */
		assert_true(flops == 3 * one);
		bench_free(t);
	}
}

static void the_largest_in_order(void **state)
{
	(void)state;
	Bench *t = bench_new();
	Builder *b = &t->b;
	Val x = bench_input(t, DT_f64, EXTENTS(2, 4), DATA(3, 9, 1, 9, -1, -4, -2, -3));
	Val top = BA(b, top_k, (x), .k = 2), where = { top.i + 1 }, dx;
	CHECK(t, top, 0, 9, 9, -1, -2);
	CHECK(t, where, 0, 1, 3, 0, 2);
	Val w = bench_input(t, DT_f64, EXTENTS(2, 2), DATA(1, 2, 3, 4));
	Val loss = BA(b, sum, (B(b, mul, top, w)), .axes = INTS(b, 0, 1));
	assert_true(grad_append(b, loss, &x, 1, &dx));
	CHECK(t, dx, 0, 0, 1, 0, 2, 3, 0, 4, 0);
	bench_free(t);
}

static void dropout_draws_again(void **state)
{
	(void)state;
	Bench *t = bench_new();
	Builder *b = &t->b;
	i64 n = 4000;
	Val x = bench_input(t, DT_f64, EXTENTS(n), NULL), dx;
	for (i64 i = 0; i < n; i++)
		t->input.v[0].tensor.data[i] = 1;
	Val seed = scalar_i64(t, 7), step = scalar_i64(t, 3);
	const char *key = intern_z(&t->ir->names, "h.0.drop");
	assert_int_equal(BA(b, dropout, (x, seed, step), .key = key, .rate = 0).i, x.i);
	Val y = BA(b, dropout, (x, seed, step), .key = key, .rate = 0.2);
	Val loss = BA(b, sum, (y), .axes = INTS(b, 0));
	assert_true(grad_append(b, loss, &x, 1, &dx));
	const Tensor *kept = bench_eval(t, &t->arena, y), *back = bench_eval(t, &t->arena, dx);
	f64 sum = 0;
	for (i64 i = 0; i < n; i++) {
		assert_true(kept->data[i] == 0 || near(kept->data[i], 1.25, 1e-12));
		assert_true(back->data[i] == kept->data[i]); /* x is 1: the same mask */
		sum += kept->data[i];
	}
	/* the mean is 1, with a deviation of sqrt(0.25 / 4000) = 0.008 */
	assert_true(fabs(sum / (f64)n - 1) < 0.04);
	Val other = BA(b, dropout, (x, seed, step), .key = intern_z(&t->ir->names, "h.1.drop"),
		       .rate = 0.2);
	const Tensor *differs = bench_eval(t, &t->arena, other);
	u32 unequal = 0;
	for (i64 i = 0; i < n; i++)
		unequal += differs->data[i] != kept->data[i];
	assert_true(unequal > 1000); /* of 0.32 n expected */
	bench_free(t);
}

static void normal_draws_are_normal(void **state)
{
	(void)state;
	Bench *t = bench_new();
	Builder *b = &t->b;
	Dim n = dim_number(t->ir, 20000);
	Val x = BA(b, random_normal, (scalar_i64(t, 1), scalar_i64(t, 2)),
		   .key = intern_z(&t->ir->names, "noise"), .shape = { 1, &n });
	const Tensor *v = bench_eval(t, &t->arena, x);
	f64 moment[5] = { 0 }, inside = 0;
	for (i64 i = 0; i < v->n; i++) {
		for (u32 k = 1; k < 5; k++)
			moment[k] += pow(v->data[i], k) / (f64)v->n;
		inside += fabs(v->data[i]) < 1;
	}
	/* five deviations of each moment, sqrt(1, 2, 15, 96 / n) */
	assert_true(fabs(moment[1]) < 0.036);
	assert_true(fabs(moment[2] - 1) < 0.05);
	assert_true(fabs(moment[3]) < 0.14);
	assert_true(fabs(moment[4] - 3) < 0.35);
	assert_true(fabs(inside / (f64)v->n - 0.6827) < 0.017);
	bench_free(t);
}

/* Narrow operands: computed in f32, rounded once. */
static void narrow_operands_compute_wide(void **state)
{
	(void)state;
	Bench *t = bench_new();
	Builder *b = &t->b;
	Val x = bench_input(t, DT_bf16, EXTENTS(2), DATA(1, 3));
	Val w = bench_input(t, DT_f32, EXTENTS(2), DATA(1, 1));
	Val y = BA(b, rms_norm, (x, w), .eps = 0);
	assert_int_equal(val_type(t->g, y)->dtype, DT_bf16);
	CHECK(t, y, 0, dtype_round(DT_bf16, (f64)(f32)(1 / sqrt(5))),
	      dtype_round(DT_bf16, (f64)(f32)(3 / sqrt(5))));
	/* a mean of 1000 and many halves would lose them all in bf16 */
	Val q = bench_input(t, DT_bf16, EXTENTS(1, 2, 2), DATA(1, 0, 0, 1));
	Val out = BA(b, attention, (q, q, q), .causal = true);
	assert_int_equal(val_type(t->g, out)->dtype, DT_f32);
	Val dq, loss = BA(b, sum, (out), .axes = INTS(b, 0, 1, 2));
	assert_true(grad_append(b, loss, &q, 1, &dq));
	assert_int_equal(val_type(t->g, dq)->dtype, DT_f32);
	bench_free(t);
}

/* ---- shapes ---- */

static Val symbolic(Bench *t, const char *name, DType dtype, u32 rank, const char *const *text)
{
	Dim dim[MAX_RANK];
	for (u32 d = 0; d < rank; d++)
		dim[d] = dim_parse(t->ir, str_of(text[d]));
	return BS(&t->b, input, .name = intern_z(&t->ir->names, name), .dtype = dtype,
		  .shape = { rank, dim });
}
#define SYMBOLIC(t, name, ...)                                         \
	symbolic((t), (name), DT_f32, (u32)COUNT(((const char *[]){ __VA_ARGS__ })), \
		 (const char *const[]){ __VA_ARGS__ })

static void check_type(Bench *t, Val v, const char *want)
{
	Buf text = { .arena = &t->arena };
	type_print(&text, val_type(t->g, v));
	assert_string_equal(text.text, want);
}

static void shapes_with_symbols(void **state)
{
	(void)state;
	Bench *t = bench_new();
	Builder *b = &t->b;
	Val x = SYMBOLIC(t, "x", "B", "3", "h", "w");
	Val k = SYMBOLIC(t, "k", "16", "3", "3", "3");
	ints two = INTS(b, 2), one = INTS(b, 1);
	check_type(t, BA(b, conv2d, (x, k), .groups = 1, .padding = one), "f32[B, 16, h, w]");
	check_type(t, BA(b, conv2d, (x, k), .groups = 1, .padding = one, .stride = two),
		   "f32[B, 16, h/2, w/2]");
	check_type(t, BA(b, conv2d, (x, k), .groups = 1), "f32[B, 16, h - 2, w - 2]");
	check_type(t, BA(b, avg_pool2d, (x), .size = two), "f32[B, 3, h/2, w/2]");
	check_type(t, BA(b, upsample2d, (x), .factor = 2), "f32[B, 3, 2*h, 2*w]");
	Val half = SYMBOLIC(t, "half", "B", "4", "h/8", "w/8");
	check_type(t, BA(b, max_pool2d, (half), .size = two), "f32[B, 4, h/16, w/16]");
	Val q = SYMBOLIC(t, "q", "B", "2*G", "T", "K");
	Val s = SYMBOLIC(t, "s", "B", "G", "past + T", "K");
	Val v = SYMBOLIC(t, "v", "B", "G", "past + T", "4*D");
	Val out = BA(b, attention, (q, s, v), .causal = true);
	check_type(t, out, "f32[B, 2*G, T, 4*D]");
	check_type(t, (Val){ out.i + 1 }, "f32[B, 2*G, T]");
	/* and the expansions can be made with symbols too */
	Val made[2];
	const Node n = *val_node(t->g, out);
	op_info[OP_attention].def->expand(b, &n, made);
	check_type(t, made[0], "f32[B, 2*G, T, 4*D]");
	Val dq[3], loss = BA(b, sum, (out), .axes = INTS(b, 0, 1, 2, 3));
	assert_true(grad_append(b, loss, VALS(q, s, v), dq));
	check_type(t, dq[1], "f32[B, G, T + past, K]");
	Val logits = SYMBOLIC(t, "l", "B", "T", "V");
	Val targets = symbolic(t, "y", DT_i32, 2, (const char *const[]){ "B", "T" });
	check_type(t, BA(b, cross_entropy, (logits, targets), .ignore = -1), "f32[]");
	check_type(t, BA(b, mean, (logits), .axes = INTS(b, 0, 2)), "f32[T]");
	check_type(t, BA(b, group_norm, (x, SYMBOLIC(t, "w", "3"), SYMBOLIC(t, "c", "3")), .groups = 3),
		   "f32[B, 3, h, w]");
	bench_free(t);
}

/* ---- what is said of operands that do not fit ---- */

static void refused_with(Bench *t, Op op, const Val *in, u32 nin, const void *attr, const char *want)
{
	Buf why = { .arena = &t->arena };
	Val v = build_checked(&t->b, op, in, nin, 0, attr, &why);
	assert_int_equal(v.i, 0);
	assert_non_null(why.text);
	if (strcmp(why.text, want) != 0)
		fail_msg("said '%s', not '%s'", why.text, want);
}
#define REFUSED(t, op, operands, attrs, want) \
	refused_with((t), OP_##op, VALS operands, &(op##_attr){ .tag_ = 0, UNWRAP attrs }, (want))

static void operands_that_do_not_fit(void **state)
{
	(void)state;
	Bench *t = bench_new();
	Builder *b = &t->b;
	Val q = SYMBOLIC(t, "q", "B", "8", "T", "64");
	Val k3 = SYMBOLIC(t, "k3", "B", "3", "S", "64");
	Val k = SYMBOLIC(t, "k", "B", "2", "S", "64");
	Val narrow = SYMBOLIC(t, "n", "B", "2", "S", "32");
	Val flags = symbolic(t, "m", DT_b1, 2, (const char *const[]){ "S", "T" });
	REFUSED(t, attention, (q, k3, k3), (.causal = true),
		"attention: k has 3 heads, which do not divide the 8 of q");
	REFUSED(t, attention, (q, narrow, k), (.causal = true),
		"attention: q f32[B, 8, T, 64] and k f32[B, 2, S, 32] differ in width");
	REFUSED(t, attention, (q, k, k3), (.causal = true),
		"attention: k f32[B, 2, S, 64] and v f32[B, 3, S, 64] differ in heads or positions");
	REFUSED(t, attention, (q, k, k, flags), (.mask = true),
		"attention: the mask b1[S, T] is not booleans that repeat to [.., 8, T, S] (heads, "
		"queries, keys)");
	REFUSED(t, attention, (q, k, k), (.window = 4),
		"attention: a window of 4 must be positive and needs causal = true");
	REFUSED(t, attention, (q, k, k), (.softcap = -50),
		"attention: a softcap of -50 is not positive");
	REFUSED(t, attention, (q, k, k), (.mask = true),
		"attention: 3 operands, where its mask and bias attributes ask for 4");
	Val odd = SYMBOLIC(t, "o", "T", "7"), at = SYMBOLIC(t, "p", "T"), off = SYMBOLIC(t, "r", "S");
	REFUSED(t, rope, (odd, at), (.base = 1e4),
		"rope: the last dimension of x f32[T, 7] must be even");
	REFUSED(t, rope, (q, off), (.base = 1e4),
		"rope: positions f32[S] do not fit x[.., T, K] of f32[B, 8, T, 64]");
	REFUSED(t, layer_norm, (q, at, at), (.eps = 1e-5),
		"layer_norm: weight f32[T] does not fit the last dimension of x f32[B, 8, T, 64]");
	REFUSED(t, group_norm, (q, at, at), (.groups = 3),
		"group_norm: 3 groups do not divide the 8 channels of x f32[B, 8, T, 64]");
	Val x = SYMBOLIC(t, "x", "B", "4", "5", "w"), w = SYMBOLIC(t, "w", "6", "3", "3", "3");
	REFUSED(t, conv2d, (x, w), (.groups = 1),
		"conv2d: w f32[6, 3, 3, 3] takes 3 channels in each of 1 groups, and x f32[B, 4, 5, w] "
		"has 4");
	REFUSED(t, max_pool2d, (x), (.size = INTS(b, 6)),
		"max_pool2d: a window of 6 (stride 6, padding 0, dilation 1) does not fit the height 5 "
		"of x f32[B, 4, 5, w]; pad x, or choose a height that the stride divides");
	REFUSED(t, max_pool2d, (x), (.size = INTS(b, 2), .padding = INTS(b, 2)),
		"max_pool2d: a padding of 2 is more than half a window of 2");
	REFUSED(t, top_k, (x), (.k = 0), "top_k: k must be at least 1, not 0");
	REFUSED(t, top_k, (odd), (.k = 9), "top_k: k = 9 of a last dimension of 7 in f32[T, 7]");
	Val y = symbolic(t, "y", DT_i32, 1, (const char *const[]){ "B" });
	REFUSED(t, cross_entropy, (odd, y), (.ignore = 0),
		"cross_entropy: targets i32[B] must be shaped like logits f32[T, 7] without the last "
		"dimension");
	REFUSED(t, cross_entropy, (odd, at), (.ignore = 0),
		"cross_entropy: targets must be integers, not f32[T]");
	REFUSED(t, softmax, (y), (.axis = 0),
		"softmax: the operand must be floating point, not i32[B]");
	REFUSED(t, softmax, (odd), (.axis = 2), "axis 2 is not a dimension of f32[T, 7]");
	REFUSED(t, dropout, (odd, scalar_i64(t, 1), scalar_i64(t, 2)), (.rate = 1),
		"dropout: a rate of 1 is not in [0, 1)");
	bench_free(t);
}

/* Classes flow from operands to results, and meet where operands must agree. */
static void classes_of_results(void **state)
{
	(void)state;
	Bench *t = bench_new();
	Builder *b = &t->b;
	Loc nowhere = { 0 };
	Val q = SYMBOLIC(t, "q", "B", "H", "T", "K"), k = SYMBOLIC(t, "k", "B", "H", "T", "K");
	Axis a[4], c[4];
	for (u32 d = 0; d < 4; d++) {
		a[d] = axis_new(t->ir, (const char *[]){ "B", "H", "T", "K" }[d],
				val_type(t->g, q)->dim[d], nowhere);
		c[d] = axis_new(t->ir, (const char *[]){ "b", "h", "S", "k" }[d],
				val_type(t->g, q)->dim[d], nowhere);
	}
	graph_set_axis(t->g, q, a);
	graph_set_axis(t->g, k, c);
	Val out = BA(b, attention, (q, k, k), .causal = false);
	for (u32 d = 0; d < 4; d++)
		assert_int_equal(axis_find(t->ir, val_axis(t->g, out)[d]).id,
				 axis_find(t->ir, d == 3 ? c[3] : a[d]).id);
	assert_int_equal(axis_find(t->ir, a[0]).id, axis_find(t->ir, c[0]).id);
	assert_int_not_equal(axis_find(t->ir, a[2]).id, axis_find(t->ir, c[2]).id); /* T and S */
	bench_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(activations_have_known_values),
		cmocka_unit_test(means_and_products),
		cmocka_unit_test(softmax_of_rows),
		cmocka_unit_test(norms_of_short_rows),
		cmocka_unit_test(cross_entropy_counts),
		cmocka_unit_test(global_norm_of_all),
		cmocka_unit_test(attention_sees_what_it_should),
		cmocka_unit_test(attention_weighs_by_scores),
		cmocka_unit_test(attention_counts_visible_work),
		cmocka_unit_test(rope_turns),
		cmocka_unit_test(windows_of_images),
		cmocka_unit_test(convolutions_by_plain_loops),
		cmocka_unit_test(convolutions_are_one_product),
		cmocka_unit_test(the_largest_in_order),
		cmocka_unit_test(dropout_draws_again),
		cmocka_unit_test(normal_draws_are_normal),
		cmocka_unit_test(narrow_operands_compute_wide),
		cmocka_unit_test(shapes_with_symbols),
		cmocka_unit_test(operands_that_do_not_fit),
		cmocka_unit_test(classes_of_results),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
