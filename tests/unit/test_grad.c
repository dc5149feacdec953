/* Units of passes/graph/grad: random programs and random uses of every op against central differences,
 * and what grad promises: total derivatives, only what lies on paths, places and scopes, near-linear size,
 * wide cotangents. Every op of the table has a derivative or is T_NOGRAD, so that E0350 has no example
 * here. */
#include "bench.h"

/* ---- random programs ---- */

/* A random f64 value made from those made so far; shapes are [4, 4], [4] or [], so that operands often
 * fit. */
static Val random_node(Bench *t, Random *r, const Val *have, u32 n)
{
	Builder *b = &t->b;
	Val x = have[random_int(r, 0, n - 1)];
	const Type *type = val_type(t->g, x);
	Val y = x;
	for (u32 tries = 0; tries < 8; tries++) {
		Val other = have[random_int(r, 0, n - 1)];
		if (val_type(t->g, other) == type) {
			y = other;
			break;
		}
	}
	u32 rank = type->rank;
	Dim four = dim_number(t->ir, 4);
	dims square = { 2, (Dim[]){ four, four } };
	switch (random_int(r, 0, 17)) {
	case 0: return B(b, add, x, y);
	case 1: return B(b, mul, x, y);
	case 2: return B(b, sub, x, y);
	case 3: return B(b, tanh, x);
	case 4: return B(b, sin, x);
	case 5: return BA(b, gelu, (x), .approximate = random_chance(r, 0.5));
	case 6: return B(b, silu, B(b, mul, x, y));
	case 7: return rank == 2 ? BA(b, dot, (x, y), .spec = intern_z(&t->ir->names, "ij,jk->ik"))
				 : B(b, sigmoid, x);
	case 8: return rank ? BA(b, softmax, (x), .axis = random_int(r, 0, rank - 1)) : B(b, cos, x);
	case 9: return rank ? BA(b, logsumexp, (x), .axis = random_int(r, 0, rank - 1)) : x;
	case 10: return rank == 2 ? BA(b, transpose, (x), .perm = INTS(b, 1, 0)) : B(b, tanh, x);
	case 11: return rank == 1 ? make_broadcast(b, x, square) : B(b, tanh, x);
	case 12: return rank == 0 ? make_broadcast(b, x, (dims){ 1, &four }) : B(b, sin, x);
	case 13: return rank ? BA(b, mean, (x), .axes = INTS(b, rank - 1)) : x;
	case 14: return rank ? BA(b, cumsum, (x), .axis = 0, .reverse = random_chance(r, 0.5)) : x;
	case 15: return B(b, where, B(b, lt, x, y), B(b, sin, x), B(b, mul, y, y));
	case 16: return rank == 2 ? BA(b, slice, (x), .start = dims_of(b, (Dim[]){ dim_number(t->ir, 3),
						 dim_number(t->ir, 0) }, 2), .size = square,
				       .step = INTS(b, -1, 1))
				  : B(b, softplus, x);
	default: return B(b, fma, x, y, x);
	}
}

static Val sum_of(Builder *b, Val v)
{
	static const i64 all[MAX_RANK] = { 0, 1, 2, 3 };
	u32 rank = val_type(b->g, v)->rank;
	return rank ? BA(b, sum, (v), .axes = { rank, all }) : v;
}

static void random_programs(void **state)
{
	(void)state;
	for (u64 seed = 1; seed <= 60; seed++) {
		Bench *t = bench_new();
		Random r = random_new(&t->arena, seed);
		Val have[32], wrt[3];
		u32 n = 0;
		static const i64 shape[3][2] = { { 4, 4 }, { 4, 0 }, { 0, 0 } };
		for (u32 i = 0; i < 3; i++) {
			have[n++] = wrt[i] = bench_input(t, DT_f64, 2 - i, shape[i], NULL);
			Tensor *x = &t->input.v[t->input.n - 1].tensor;
			for (i64 k = 0; k < x->n; k++)
				x->data[k] = 2 * random_unit(&r) - 1;
		}
		for (; n < 20; n++)
			have[n] = random_node(t, &r, have, n);
		Val loss = { 0 };
		for (u32 i = 14; i < n; i++) {
			Val s = B(&t->b, sin, sum_of(&t->b, have[i]));
			loss = loss.i ? B(&t->b, add, loss, s) : s;
		}
		bench_check_gradient(t, arena_printf(&t->arena, "program %llu", (unsigned long long)seed),
				     loss, wrt, 3);
		bench_free(t);
	}
}

/* ---- every op ---- */

static bool is_wide(DType d)
{
	return d == DT_f32 || d == DT_f64;
}

static void gradients_agree_with_differences(void **state)
{
	(void)state;
	for (u32 op = 0; op < OPS; op++) {
		const OpInfo *info = &op_info[op];
		if (info->nin == 0 || info->traits & T_NOGRAD)
			continue;
		assert_true(info->def->vjp || info->kind == COMP);
		for (u64 seed = 1, done = 0; done < 10; seed++) {
			assert_true(seed < 500);
			Bench *t = bench_new();
			Random r = random_new(&t->arena, seed * 1000 + op);
			Val v = info->def->sample(&r, &t->b), wrt[16];
			bool good = is_wide(val_type(t->g, v)->dtype); /* of casts, those that round none */
			u32 n = 0;
			for (u32 i = 0; i < r.input.n; i++) {
				Val x = r.input.v[i].value;
				DType d = val_type(t->g, x)->dtype;
				good &= !dtype_is_float(d) || is_wide(d);
				sample_fill(&r, &r.input.v[i], bench_bind(t, x));
				if (dtype_is_float(d))
					wrt[n++] = x;
			}
			if (good && n) {
				const char *what =
					arena_printf(&t->arena, "%s (seed %llu)", info->name,
						     (unsigned long long)(seed * 1000 + op));
				bench_check_gradient(t, what, bench_loss(t, &r, v), wrt, n);
				done++;
			}
			bench_free(t);
		}
	}
}

/* ---- promises ---- */

static void derivatives_are_total(void **state)
{
	(void)state;
	Bench *t = bench_new();
	Builder *b = &t->b;
	Val x = bench_input(t, DT_f64, 0, NULL, DATA(3)), unused = bench_input(t, DT_f64, 0, NULL, NULL);
	Val y = B(b, mul, x, x);            /* 9 */
	Val loss = B(b, mul, y, B(b, add, x, y)); /* x^2 (x + x^2) */
	Val d[4], wrt[] = { x, y, unused, x };
	assert_true(grad_append(b, loss, wrt, 4, d));
	CHECK(t, d[0], 1e-15, 3 * 9 + 4 * 27);
	CHECK(t, d[1], 1e-15, 3 + 2 * 9); /* of y (x + y) */
	assert_int_equal(d[2].i, 0);
	assert_int_equal(d[3].i, d[0].i);
	/* the loss by itself */
	assert_true(grad_append(b, loss, &loss, 1, d));
	CHECK(t, d[0], 0, 1);
	bench_free(t);
}

/* stop_gradient and integers end paths. */
static void gradients_stop(void **state)
{
	(void)state;
	Bench *t = bench_new();
	Builder *b = &t->b;
	Val x = bench_input(t, DT_f64, EXTENTS(3), DATA(1, -2, 3)), d;
	Val loss = sum_of(b, B(b, mul, x, B(b, stop_gradient, B(b, mul, x, x))));
	assert_true(grad_append(b, loss, &x, 1, &d));
	CHECK(t, d, 0, 1, 4, 9);
	loss = sum_of(b, B(b, stop_gradient, x));
	assert_true(grad_append(b, loss, &x, 1, &d));
	assert_int_equal(d.i, 0);
	loss = sum_of(b, make_cast(b, make_cast(b, x, DT_i32), DT_f64));
	assert_true(grad_append(b, loss, &x, 1, &d));
	assert_int_equal(d.i, 0);
	loss = sum_of(b, B(b, floor, x));
	assert_true(grad_append(b, loss, &x, 1, &d));
	assert_int_equal(d.i, 0);
	bench_free(t);
}

/* Only one of two results is used; a composite's operands are one value. */
static void several_results_and_equal_operands(void **state)
{
	(void)state;
	Bench *t = bench_new();
	Builder *b = &t->b;
	Val x = bench_input(t, DT_f64, EXTENTS(4), DATA(3, 1, 4, 2)), d;
	Dim two = dim_number(t->ir, 2);
	Val part = BA(b, split, (x), .axis = 0, .sizes = { 2, (Dim[]){ two, two } });
	Val second = { part.i + 1 };
	assert_true(grad_append(b, sum_of(b, B(b, mul, second, second)), &x, 1, &d));
	CHECK(t, d, 0, 0, 0, 8, 4);
	Val w = bench_input(t, DT_f64, EXTENTS(2, 2, 1, 1), DATA(1, 2, 3, 4));
	/* a composite without a derivative of its own, of one value twice: sum over b, o, c of w w */
	Val y = BA(b, conv2d, (w, w), .groups = 1);
	bench_check_gradient(t, "conv2d of itself", sum_of(b, y), &w, 1);
	bench_free(t);
}

/* Derivatives of derivatives: through the gradient ops' expansions. */
static void second_derivatives(void **state)
{
	(void)state;
	Bench *t = bench_new();
	Builder *b = &t->b;
	Val x = bench_input(t, DT_f64, EXTENTS(2, 3), DATA(1, -2, 0.5, 3, 1, 2)), d;
	Val w = bench_input(t, DT_f64, EXTENTS(3), DATA(1, 2, -1));
	Val loss = sum_of(b, B(b, sin, BA(b, rms_norm, (x, w), .eps = 0.1)));
	assert_true(grad_append(b, loss, &x, 1, &d));
	Val again = sum_of(b, B(b, mul, d, d));
	bench_check_gradient(t, "rms_norm twice", again, (Val[]){ x, w }, 2);
	bench_free(t);
}

static void only_paths_are_differentiated(void **state)
{
	(void)state;
	Bench *t = bench_new();
	Builder *b = &t->b;
	Val x = bench_input(t, DT_f64, EXTENTS(3), DATA(1, 2, 3)), d;
	Val frozen = bench_input(t, DT_f64, EXTENTS(3), DATA(4, 5, 6));
	for (u32 i = 0; i < 50; i++)
		frozen = B(b, tanh, frozen);
	Val loss = sum_of(b, B(b, mul, x, frozen));
	u32 before = t->g->node.n;
	assert_true(grad_append(b, loss, &x, 1, &d));
	assert_true(t->g->node.n - before < 8);
	bench_free(t);
}

static u32 gradient_nodes(u32 layers)
{
	Bench *t = bench_new();
	Builder *b = &t->b;
	Val x = bench_input(t, DT_f32, EXTENTS(8, 16), NULL), d[2];
	Val w = bench_input(t, DT_f32, EXTENTS(16, 16), NULL), h = x;
	for (u32 i = 0; i < layers; i++)
		h = B(b, add, h, B(b, tanh, BA(b, dot, (h, w),
					       .spec = intern_z(&t->ir->names, "ij,jk->ik"))));
	Val loss = sum_of(b, h);
	u32 before = t->g->node.n;
	assert_true(grad_append(b, loss, (Val[]){ x, w }, 2, d));
	u32 made = t->g->node.n - before;
	bench_free(t);
	return made;
}

static void size_is_linear_in_depth(void **state)
{
	(void)state;
	u32 ten = gradient_nodes(10), twenty = gradient_nodes(20), many = gradient_nodes(2010);
	assert_int_equal(many - ten, 200 * (twenty - ten));
}

/* Each gradient node stands where the node stands that it differentiates. */
static void places_and_scopes(void **state)
{
	(void)state;
	Bench *t = bench_new();
	Builder *b = &t->b;
	Val x = bench_input(t, DT_f64, EXTENTS(3), DATA(1, 2, 3)), d;
	b->loc = (Loc){ .line = 5 };
	b->scope = intern_z(&t->ir->names, "h.0.mlp");
	Val y = B(b, gelu, x);
	b->loc = (Loc){ .line = 9 };
	b->scope = intern_z(&t->ir->names, "loss");
	Val loss = sum_of(b, B(b, mul, y, y));
	b->loc = (Loc){ .line = 77 };
	b->scope = intern_z(&t->ir->names, "elsewhere");
	u32 before = t->g->node.n;
	assert_true(grad_append(b, loss, &x, 1, &d));
	assert_int_equal(b->loc.line, 77);
	assert_string_equal(b->scope, "elsewhere");
	u32 in_mlp = 0;
	for (u32 i = before; i < t->g->node.n; i++) {
		const Node *n = &t->g->node.v[i];
		assert_true(n->loc.line == 5 || n->loc.line == 9);
		assert_string_equal(n->scope, n->loc.line == 5 ? "h.0.mlp" : "loss");
		in_mlp += n->loc.line == 5;
	}
	assert_true(in_mlp > 3);
	assert_int_equal(val_node(t->g, d)->loc.line, 5);
	bench_free(t);
}

/* The gradient of a weight that is rounded to bf16 for a product is a sum in f32, unrounded. */
static void cotangents_of_narrow_values_are_wide(void **state)
{
	(void)state;
	Bench *t = bench_new();
	Builder *b = &t->b;
	Val x = bench_input(t, DT_f32, EXTENTS(2, 1), DATA(1, 1)), d;
	Val w = bench_input(t, DT_f32, EXTENTS(1, 1), DATA(2));
	Val y = BA(b, dot, (make_cast(b, x, DT_bf16), make_cast(b, w, DT_bf16)),
		   .spec = intern_z(&t->ir->names, "ij,jk->ik"));
	/* cotangents 1 and 1/256: each is a bf16, their sum is not */
	Val c = bench_input(t, DT_f32, EXTENTS(2, 1), DATA(1, 1.0 / 256));
	assert_true(grad_append(b, sum_of(b, B(b, mul, y, c)), &w, 1, &d));
	assert_int_equal(val_type(t->g, d)->dtype, DT_f32);
	CHECK(t, d, 0, 1 + 1.0 / 256);
	bench_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_programs),
		cmocka_unit_test(gradients_agree_with_differences),
		cmocka_unit_test(derivatives_are_total),
		cmocka_unit_test(gradients_stop),
		cmocka_unit_test(several_results_and_equal_operands),
		cmocka_unit_test(second_derivatives),
		cmocka_unit_test(only_paths_are_differentiated),
		cmocka_unit_test(size_is_linear_in_depth),
		cmocka_unit_test(places_and_scopes),
		cmocka_unit_test(cotangents_of_narrow_values_are_wide),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
