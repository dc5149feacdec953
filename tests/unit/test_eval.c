/* The reference evaluator: what it says where the table's random tests do not look. Expected values
 * are worked out by hand, or come from the papers. */
#include "ir/cost.h"
#include "ir/eval.h"
#include "ir/philox.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef struct Fixture {
	Arena arena;
	Diag diag;
	Ir *ir;
	Builder b;
	Tensor source[8];
	u32 nsource;
} Fixture;

static int setup(void **state)
{
	Fixture *f = calloc(1, sizeof *f);
	f->arena = ARENA("eval");
	f->diag.arena = &f->arena;
	f->ir = ir_new(&f->arena, &f->diag);
	f->b = builder_new(graph_new(&f->arena, f->ir, "test"));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	Fixture *f = *state;
	builder_done(&f->b);
	arena_free(&f->arena);
	free(f);
	return 0;
}

static dims shape_of(Fixture *f, u32 rank, const i64 *extent)
{
	Dim dim[MAX_RANK];
	for (u32 d = 0; d < rank; d++)
		dim[d] = dim_number(f->ir, extent[d]);
	return dims_of(&f->b, dim, rank);
}
#define SHAPE(...) \
	shape_of(f, (u32)COUNT(((const i64[]){ __VA_ARGS__ })), (const i64[]){ __VA_ARGS__ })

/* An input of these values; one value stands for all. */
static Val given(Fixture *f, DType d, dims shape, u32 n, const f64 *value)
{
	Val v = BS(&f->b, input, .name = intern_printf(&f->ir->names, "x%u", f->nsource), .dtype = d,
		   .shape = shape);
	Tensor t = tensor_new(&f->arena, val_type(f->b.g, v));
	assert_true(n == t.n || n == 1);
	for (i64 i = 0; i < t.n; i++)
		t.data[i] = value[n == 1 ? 0 : i];
	f->source[f->nsource++] = t;
	return v;
}
#define GIVEN(dtype, shape, ...)                                                            \
	given(f, dtype, shape, (u32)COUNT(((const f64[]){ __VA_ARGS__ })), (const f64[]){ __VA_ARGS__ })

static void expect_(Fixture *f, Val v, bool round, const f64 *want, u32 n)
{
	Tensor got;
	eval_values(&f->arena, f->b.g, f->source, &v, 1, &got, (EvalOptions){ .round = round });
	assert_int_equal(got.n, n);
	for (u32 i = 0; i < n; i++)
		if (!(got.data[i] == want[i] || (isnan(got.data[i]) && isnan(want[i]))))
			fail_msg("element %u is %.17g, not %.17g", i, got.data[i], want[i]);
}
#define EXPECT(v, ...) \
	expect_(f, v, false, (const f64[]){ __VA_ARGS__ }, (u32)COUNT(((const f64[]){ __VA_ARGS__ })))
#define EXPECT_ROUNDED(v, ...) \
	expect_(f, v, true, (const f64[]){ __VA_ARGS__ }, (u32)COUNT(((const f64[]){ __VA_ARGS__ })))

/* ---- random numbers ---- */

/* The known answers that come with Random123 (Salmon et al.). */
static void philox_gives_the_known_answers(void **state)
{
	(void)state;
	static const struct {
		u32 counter[4], key[2], want[4];
	} known[] = {
		{ { 0, 0, 0, 0 }, { 0, 0 }, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
		{ { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff },
		  { 0xffffffff, 0xffffffff },
		  { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
		{ { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 },
		  { 0xa4093822, 0x299f31d0 },
		  { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
	};
	for (u32 i = 0; i < COUNT(known); i++) {
		u32 got[4];
		philox4x32_10(known[i].counter, known[i].key, got);
		assert_memory_equal(got, known[i].want, sizeof got);
	}
}

/* As ir/philox.h defines it, from the block's words. */
static void random_follows_its_definition(void **state)
{
	Fixture *f = *state;
	i64 seed = -3, step = ((i64)5 << 32) + 7;
	Val s = GIVEN(DT_i64, SHAPE(1), (f64)seed), t = GIVEN(DT_i64, SHAPE(1), (f64)step);
	s = BA(&f->b, reshape, (s), .shape = { 0 });
	t = BA(&f->b, reshape, (t), .shape = { 0 });
	Val v = BA(&f->b, random, (s, t), .key = intern_z(&f->ir->names, "h.3.drop"),
		   .shape = SHAPE(2, 5));
	u64 key = hash_bytes(HASH_SEED, "h.3.drop", 8) ^ (u64)seed;
	f64 want[10];
	for (u32 e = 0; e < 10; e++) {
		u32 word[4];
		philox4x32_10((const u32[4]){ e / 4, 0, 7, 5 },
			      (const u32[2]){ (u32)key, (u32)(key >> 32) }, word);
		want[e] = (f64)(word[e % 4] >> 8) / 16777216.0;
		assert_true(want[e] >= 0 && want[e] < 1);
	}
	expect_(f, v, false, want, 10);
}

/* ---- edges ---- */

static void ties_share_the_gradient_of_a_maximum(void **state)
{
	Fixture *f = *state;
	Builder *b = &f->b;
	Val x = GIVEN(DT_f32, SHAPE(2, 4), 1, 3, 3, 3, 2, 2, 0, 1), d = GIVEN(DT_f32, SHAPE(2), 6, 8), dx;
	Val y = BA(b, reduce_max, (x), .axes = INTS(b, 1));
	op_info[OP_reduce_max].def->vjp(b, val_node(b->g, y), &d, &dx);
	EXPECT(dx, 0, 2, 2, 2, 4, 4, 0, 0);
	Val p = GIVEN(DT_f32, SHAPE(3), 1, 2, 5), q = GIVEN(DT_f32, SHAPE(3), 1, 3, 4), din[2];
	Val e = GIVEN(DT_f32, SHAPE(3), 2, 4, 6);
	Val m = B(b, max, p, q);
	op_info[OP_max].def->vjp(b, val_node(b->g, m), &e, din);
	EXPECT(din[0], 1, 0, 6);
	EXPECT(din[1], 1, 4, 0);
}

static void nan_is_the_largest(void **state)
{
	Fixture *f = *state;
	Builder *b = &f->b;
	Val x = GIVEN(DT_f32, SHAPE(4), 2, NAN, -1, INFINITY);
	Val up = BA(b, sort, (x), .axis = 0), down = BA(b, sort, (x), .axis = 0, .descending = true);
	EXPECT(up, -1, 2, INFINITY, NAN);
	EXPECT((Val){ up.i + 1 }, 2, 0, 3, 1);
	EXPECT(down, NAN, INFINITY, 2, -1);
	EXPECT(BA(b, argmax, (x), .axis = 0), 1);
	EXPECT(BA(b, reduce_max, (x), .axes = INTS(b, 0)), NAN);
	EXPECT(BA(b, reduce_min, (x), .axes = INTS(b, 0)), NAN);
}

static void order_is_stable(void **state)
{
	Fixture *f = *state;
	Builder *b = &f->b;
	Val x = GIVEN(DT_i32, SHAPE(5), 1, 0, 1, 0, 1);
	Val up = BA(b, sort, (x), .axis = 0), down = BA(b, sort, (x), .axis = 0, .descending = true);
	EXPECT((Val){ up.i + 1 }, 1, 3, 0, 2, 4);
	EXPECT((Val){ down.i + 1 }, 0, 2, 4, 1, 3);
	EXPECT(BA(b, argmax, (x), .axis = 0), 0);
}

static void nothing_reduces_to_the_neutral_element(void **state)
{
	Fixture *f = *state;
	Builder *b = &f->b;
	Val x = GIVEN(DT_f32, SHAPE(0, 2), 0), i = GIVEN(DT_i32, SHAPE(0, 1), 0);
	EXPECT(BA(b, sum, (x), .axes = INTS(b, 0)), 0, 0);
	EXPECT(BA(b, reduce_max, (x), .axes = INTS(b, 0)), -INFINITY, -INFINITY);
	EXPECT(BA(b, reduce_min, (x), .axes = INTS(b, 0)), INFINITY, INFINITY);
	EXPECT(BA(b, reduce_max, (i), .axes = INTS(b, 0)), -2147483648.0);
	EXPECT(BA(b, dot, (x, x), .spec = intern_z(&f->ir->names, "kn,km->nm")), 0, 0, 0, 0);
}

static void integers_divide_as_python_does(void **state)
{
	Fixture *f = *state;
	Val a = GIVEN(DT_i32, SHAPE(5), 7, -7, 7, -7, 5), b = GIVEN(DT_i32, SHAPE(5), 2, 2, -2, -2, 0);
	EXPECT(B(&f->b, floordiv, a, b), 3, -4, -4, 3, 0);
	EXPECT(B(&f->b, mod, a, b), 1, 1, -1, -1, 0);
}

static void integers_wrap(void **state)
{
	Fixture *f = *state;
	Val a = GIVEN(DT_i32, SHAPE(2), 2147483647, 65536), one = GIVEN(DT_i32, SHAPE(2), 1, 65536);
	EXPECT(B(&f->b, add, a, one), -2147483648.0, 131072);
	EXPECT(B(&f->b, mul, a, one), 2147483647, 0);
	Val u = GIVEN(DT_u8, SHAPE(1), 3), v = GIVEN(DT_u8, SHAPE(1), 5);
	EXPECT(B(&f->b, sub, u, v), 254);
}

static void only_casts_to_narrow_types_round_when_exact(void **state)
{
	Fixture *f = *state;
	Builder *b = &f->b;
	f64 third = 1.0 / 3.0;
	Val x = GIVEN(DT_f64, SHAPE(1), third);
	Val single = BA(b, cast, (x), .dtype = DT_f32), half = BA(b, cast, (x), .dtype = DT_bf16);
	EXPECT(single, third);
	EXPECT(half, 0.333984375);
	EXPECT(B(b, mul, half, half), 0.333984375 * 0.333984375);
	EXPECT_ROUNDED(single, (f64)(f32)third);
	/* 0.11154556274... between 0.111328125 and 0.11181640625 */
	EXPECT_ROUNDED(B(b, mul, half, half), 0.111328125);
	EXPECT_ROUNDED(B(b, add, x, x), 2 * third);
}

/* ---- whole programs ---- */

/* w and n are read as they were; w <- w - lr * g and n <- n + 1 afterwards; the old loss comes out. */
static void entries_read_first_and_write_last(void **state)
{
	Fixture *f = *state;
	Program *p = program_new(&f->arena, f->ir, "sgd");
	dims two = SHAPE(2);
	const Type *weights = type_make(f->ir, DT_f32, 1, two.v), *count = type_scalar(f->ir, DT_i32);
	u32 w = program_buffer(p, (Buffer){ .name = "w", .type = weights, .of = NONE });
	u32 n = program_buffer(p, (Buffer){ .name = "n", .type = count, .of = NONE });
	Builder b = builder_new(program_entry(p, "update"));
	Val old = BS(&b, read, .buffer = p->buffer.v[w].name, .dtype = DT_f32, .shape = two);
	Val g = BS(&b, input, .name = intern_z(&f->ir->names, "g"), .dtype = DT_f32, .shape = two);
	Val step = BS(&b, read, .buffer = p->buffer.v[n].name, .dtype = DT_i32, .shape = { 0 });
	Val new = B(&b, sub, old, B(&b, mul, g, make_full_like(&b, g, 0.5)));
	graph_result(b.g, "w", w, new);
	graph_result(b.g, "n", n, B(&b, add, step, make_full_like(&b, step, 1)));
	graph_result(b.g, "norm", NONE, BA(&b, sum, (B(&b, mul, old, old)), .axes = INTS(&b, 0)));
	builder_done(&b);

	f64 w0[] = { 3, 4 }, n0[] = { 8 }, g0[] = { 2, -2 };
	Tensor buffer[2] = { { .dtype = DT_f32, .rank = 1, .dim = { 2 }, .n = 2, .data = w0 },
			     { .dtype = DT_i32, .n = 1, .data = n0 } };
	Tensor input = { .dtype = DT_f32, .rank = 1, .dim = { 2 }, .n = 2, .data = g0 }, result[3];
	for (u32 i = 0; i < 2; i++)
		eval_entry(&f->arena, p, b.g, &input, buffer, result, (EvalOptions){ 0 });
	assert_true(buffer[w].data[0] == 1 && buffer[w].data[1] == 6);
	assert_true(buffer[n].data[0] == 10);
	assert_true(result[2].data[0] == 4 + 25);
	assert_true(w0[0] == 3); /* the caller's own memory is not written */
}

/* ---- costs ---- */

static void costs_are_counted(void **state)
{
	Fixture *f = *state;
	Builder *b = &f->b;
	Val x = GIVEN(DT_f32, SHAPE(2, 3, 4), 0), w = GIVEN(DT_f32, SHAPE(4, 5), 0);
	Val y = BA(b, dot, (x, w), .spec = intern_z(&f->ir->names, "btk,kn->btn"));
	Val dead = B(b, exp, y), z = B(b, silu, y);
	(void)dead;
	NodeCost dot = node_cost(b->g, val_node(b->g, y));
	assert_true(dot.flops == 2 * 2 * 3 * 4 * 5 && dot.matmul_flops == dot.flops);
	assert_true(dot.bytes == 4 * (24 + 20 + 30));
	/* a * sigmoid(a) */
	NodeCost silu = node_cost(b->g, val_node(b->g, z));
	assert_true(silu.flops == 2 * 30 && silu.matmul_flops == 0 && silu.bytes == 4 * 60);
	graph_result(b->g, "z", NONE, z);
	NodeCost all = graph_cost(b->g);
	assert_true(all.flops == dot.flops + silu.flops && all.matmul_flops == dot.flops);
	assert_true(all.bytes == dot.bytes + silu.bytes);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(philox_gives_the_known_answers),
		TEST(random_follows_its_definition),
		TEST(ties_share_the_gradient_of_a_maximum),
		TEST(nan_is_the_largest),
		TEST(order_is_stable),
		TEST(nothing_reduces_to_the_neutral_element),
		TEST(integers_divide_as_python_does),
		TEST(integers_wrap),
		TEST(only_casts_to_narrow_types_round_when_exact),
		TEST(entries_read_first_and_write_last),
		TEST(costs_are_counted),
	};
	return cmocka_run_group_tests_name("evaluator", tests, NULL, NULL);
}
