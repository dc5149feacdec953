/* What inference says of elementwise and primitive ops beyond what the table's tests see: axis
 * classes, sizes that are symbols, behaviour along axes, and the sentence for operands that do not
 * fit. */
#include "ir/along.h"
#include "ir/dot.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef struct Fixture {
	Arena arena;
	Diag diag;
	Ir *ir;
	Builder b;
} Fixture;

static int setup(void **state)
{
	Fixture *f = calloc(1, sizeof *f);
	f->arena = ARENA("infer");
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

/* "B, T, 3*D": a shape. */
static dims shape_of(Fixture *f, const char *text)
{
	Dim dim[MAX_RANK];
	u32 n = 0;
	for (const char *p = text; *p;) {
		size_t length = strcspn(p, ",");
		Str one = { p, length };
		while (one.n && *one.s == ' ')
			one = (Str){ one.s + 1, one.n - 1 };
		dim[n] = dim_parse(f->ir, one);
		assert_non_null(dim[n++]);
		p += length + (p[length] == ',');
	}
	return dims_of(&f->b, dim, n);
}

static Val input(Fixture *f, DType dtype, const char *shape)
{
	u32 n = f->b.g->node.n;
	return BS(&f->b, input, .name = intern_printf(&f->ir->names, "x%u", n), .dtype = dtype,
		  .shape = shape_of(f, shape));
}

/* An f32 input whose dimensions have classes named by `names`, one letter each; '_' is none. A
 * letter stands for one class throughout `class`. */
static Val named(Fixture *f, const char *shape, const char *names, Axis class[128])
{
	Val v = input(f, DT_f32, shape);
	Axis axis[MAX_RANK] = { { 0 } };
	for (u32 d = 0; names[d]; d++) {
		if (names[d] == '_')
			continue;
		Axis *a = &class[(u8)names[d]];
		if (!a->id)
			*a = axis_new(f->ir, (char[]){ names[d], 0 }, val_type(f->b.g, v)->dim[d],
				      (Loc){ 0 });
		axis[d] = *a;
	}
	graph_set_axis(f->b.g, v, axis);
	return v;
}

static void expect_type(Fixture *f, Val v, const char *want)
{
	Buf text = { .arena = &f->arena };
	type_print(&text, val_type(f->b.g, v));
	assert_string_equal(text.text, want);
}

static void expect_axes(Fixture *f, Val v, const char *want)
{
	Buf text = { .arena = &f->arena };
	for (u32 d = 0; d < val_type(f->b.g, v)->rank; d++) {
		if (d)
			buf_char(&text, ' ');
		axis_print(&text, f->ir, val_axis(f->b.g, v)[d]);
	}
	assert_string_equal(text.text, want);
}

/* ---- axis classes ---- */

static void elementwise_takes_the_first_class(void **state)
{
	Fixture *f = *state;
	Axis class[128] = { { 0 } };
	Val x = named(f, "B, T", "_T", class), y = named(f, "B, T", "B_", class);
	expect_axes(f, B(&f->b, add, x, y), "B T");
	expect_axes(f, B(&f->b, lt, x, input(f, DT_f32, "B, T")), "_ T");
}

static void movement_carries_classes(void **state)
{
	Fixture *f = *state;
	Builder *b = &f->b;
	Axis class[128] = { { 0 } };
	Val x = named(f, "B, T", "BT", class);
	Val wide = BA(b, broadcast, (x), .shape = shape_of(f, "B, H, T"), .dims = INTS(b, 0, 2));
	expect_axes(f, wide, "B _ T");
	expect_axes(f, BA(b, transpose, (wide), .perm = INTS(b, 2, 0, 1)), "T B _");
	expect_axes(f, BA(b, sum, (wide), .axes = INTS(b, 0)), "_ T");
	Val part = BA(b, slice, (x), .start = shape_of(f, "0, 1"), .size = shape_of(f, "B, T - 1"),
		      .step = INTS(b, 1, 1));
	expect_axes(f, part, "B _");
	expect_axes(f, BA(b, concat, (x, x), .axis = 1), "B _");
	expect_axes(f, BA(b, gather, (named(f, "V, D", "VD", class), input(f, DT_i32, "N, M")), .axis = 0),
		    "_ _ D");
}

static void reshape_splits_a_class(void **state)
{
	Fixture *f = *state;
	Builder *b = &f->b;
	Axis class[128] = { { 0 } };
	Val x = named(f, "B, T, 3*H*K", "BTE", class);
	Val split = BA(b, reshape, (x), .shape = shape_of(f, "B, T, 3, H, K"));
	expect_axes(f, split, "B T _ _ _");
	/* each has a class of its own, and E is their product now */
	const Axis *axis = val_axis(b->g, split);
	axis_name(f->ir, axis[2], "three");
	axis_name(f->ir, axis[3], "H");
	axis_name(f->ir, axis[4], "K");
	expect_axes(f, split, "B T three H K");
	expect_axes(f, x, "B T (three H K)");
	/* the same again, and back: the classes known by now */
	b->no_fold = true;
	expect_axes(f, BA(b, reshape, (x), .shape = shape_of(f, "B, T, 3, H*K")), "B T three (H K)");
	Val back = BA(b, reshape, (split), .shape = shape_of(f, "B, T, 3*H*K"));
	assert_int_equal(axis_find(f->ir, val_axis(b->g, back)[2]).id, class['E'].id);
	Val turned = BA(b, transpose, (split), .perm = INTS(b, 2, 0, 3, 1, 4));
	expect_axes(f, turned, "three B H T K");
}

static void reshape_merges_classes(void **state)
{
	Fixture *f = *state;
	Builder *b = &f->b;
	Axis class[128] = { { 0 } };
	Val x = named(f, "B, T, D", "BTD", class);
	b->no_fold = true;
	Val rows = BA(b, reshape, (x), .shape = shape_of(f, "B*T, D"));
	expect_axes(f, rows, "(B T) D");
	expect_axes(f, BA(b, reshape, (rows), .shape = shape_of(f, "B, T, D")), "B T D");
	/* one class for one product, however often it is made */
	u32 known = f->ir->axis.n;
	Val again = BA(b, reshape, (named(f, "B, T", "BT", class)), .shape = shape_of(f, "B*T"));
	assert_int_equal(val_axis(b->g, again)[0].id, val_axis(b->g, rows)[0].id);
	assert_int_equal(f->ir->axis.n, known);
}

/* A split that was learnt, a product that was made and a name that was given are gone with the state before them, and are learnt again as
 * at first; what the state had stays. */
static void what_was_learnt_is_given_back(void **state)
{
	Fixture *f = *state;
	Builder *b = &f->b;
	Axis class[128] = { { 0 } };
	b->no_fold = true;
	Val x = named(f, "B, T, 3*H", "BTE", class);
	Val rows = BA(b, reshape, (x), .shape = shape_of(f, "B*T, 3*H"));
	const AxisState begun = axis_state(f->ir, &f->arena);
	u32 made[2];
	for (u32 k = 0; k < 2; k++) {
		axis_restore(f->ir, &begun);
		expect_axes(f, x, "B T E");
		expect_axes(f, rows, "(B T) E");
		Val split = BA(b, reshape, (x), .shape = shape_of(f, "B, T, 3, H"));
		axis_name(f->ir, val_axis(b->g, split)[2], k ? "other" : "three");
		axis_name(f->ir, class['T'], k ? "second" : "first");
		expect_axes(f, split, k ? "B T other _" : "B T three _");
		Val more = BA(b, reshape, (split), .shape = shape_of(f, "B, T*3, H"));
		made[k] = val_axis(b->g, more)[1].id;
		assert_int_equal(f->ir->axis.v[class['T'].id].names.n, 2);
		assert_string_equal(f->ir->axis.v[class['T'].id].names.v[1], k ? "second" : "first");
	}
	assert_int_equal(made[0], made[1]);
	axis_restore(f->ir, &begun);
	Val again = BA(b, reshape, (named(f, "B, T", "BT", class)), .shape = shape_of(f, "B*T"));
	assert_int_equal(val_axis(b->g, again)[0].id, val_axis(b->g, rows)[0].id);
}

static void reshape_passes_over_ones(void **state)
{
	Fixture *f = *state;
	Builder *b = &f->b;
	Axis class[128] = { { 0 } };
	Val x = named(f, "B, 1, D", "B_D", class);
	b->no_fold = true;
	expect_axes(f, BA(b, reshape, (x), .shape = shape_of(f, "B, D")), "B D");
	expect_axes(f, BA(b, reshape, (x), .shape = shape_of(f, "1, B, D, 1")), "_ B D _");
	/* (4, 6) to (6, 4): no factor in common */
	Val odd = named(f, "4, 6, D", "XYD", class);
	expect_axes(f, BA(b, reshape, (odd), .shape = shape_of(f, "6, 4, D")), "_ _ D");
	/* a dimension without a class gives its group none */
	Val half = named(f, "B, T, D", "B_D", class);
	expect_axes(f, BA(b, reshape, (half), .shape = shape_of(f, "B*T, D")), "_ D");
}

static void dot_takes_classes_by_label(void **state)
{
	Fixture *f = *state;
	Axis class[128] = { { 0 } };
	Val x = named(f, "B, T, D", "BTD", class), w = named(f, "D, F", "DF", class);
	Val y = BA(&f->b, dot, (x, w), .spec = intern_z(&f->ir->names, "btd,df->bft"));
	expect_type(f, y, "f32[B, F, T]");
	expect_axes(f, y, "B F T");
}

/* ---- sizes that are symbols ---- */

static void symbols_are_sizes(void **state)
{
	Fixture *f = *state;
	Builder *b = &f->b;
	Val x = input(f, DT_f32, "B, T, 4*D");
	Dim size[] = { dim_parse(f->ir, STR("D")), dim_parse(f->ir, STR("3*D")) };
	Val piece = BA(b, split, (x), .axis = 2, .sizes = { 2, size });
	expect_type(f, piece, "f32[B, T, D]");
	expect_type(f, (Val){ piece.i + 1 }, "f32[B, T, 3*D]");
	expect_type(f, BA(b, concat, (piece, (Val){ piece.i + 1 }, x), .axis = 2), "f32[B, T, 8*D]");
	expect_type(f, BA(b, pad, (x), .low = shape_of(f, "0, past, 0"), .high = shape_of(f, "0, 0, 0")),
		    "f32[B, T + past, 4*D]");
	expect_type(f, BA(b, reshape, (x), .shape = shape_of(f, "B*T, 2, 2, D")), "f32[B*T, 2, 2, D]");
	expect_type(f, BA(b, scatter_add, (x, input(f, DT_i32, "B, T")), .axis = 0,
			  .size = shape_of(f, "V")),
		    "f32[V, 4*D]");
}

/* ---- along ---- */

static Along along(Fixture *f, Val v, u32 in, u32 d)
{
	return node_along(f->b.g, val_node(f->b.g, v), in, d);
}

static void ops_know_how_they_run_along_axes(void **state)
{
	Fixture *f = *state;
	Builder *b = &f->b;
	Val x = input(f, DT_f32, "B, T, D"), w = input(f, DT_f32, "D, F");
	Val y = BA(b, dot, (x, w), .spec = intern_z(&f->ir->names, "btd,df->btf"));
	assert_int_equal(along(f, y, 0, 1), ALONG_POINTWISE);
	assert_int_equal(along(f, y, 1, 1), ALONG_NOT_THERE);
	assert_int_equal(along(f, y, 0, 2), ALONG_NOT_THERE);
	Val forward = BA(b, cumsum, (x), .axis = 1), backward = BA(b, cumsum, (x), .axis = 1, .reverse = true);
	assert_int_equal(along(f, forward, 0, 1), ALONG_CAUSAL);
	assert_int_equal(along(f, forward, 0, 0), ALONG_POINTWISE);
	assert_int_equal(along(f, backward, 0, 1), ALONG_MIXING);
	Val heads = BA(b, reshape, (x), .shape = shape_of(f, "B, T, 2, D/2"));
	assert_int_equal(along(f, heads, 0, 1), ALONG_POINTWISE);
	assert_int_equal(along(f, heads, 0, 2), ALONG_MIXING);
	Val rows = BA(b, reshape, (x), .shape = shape_of(f, "B*T, D"));
	assert_int_equal(along(f, rows, 0, 0), ALONG_MIXING);
	Val sorted = BA(b, sort, (x), .axis = 1);
	assert_int_equal(along(f, sorted, 0, 1), ALONG_MIXING);
	Val table = BA(b, gather, (w, input(f, DT_i32, "B, T")), .axis = 0);
	assert_int_equal(along(f, table, 0, 1), ALONG_NOT_THERE);
	assert_int_equal(along(f, table, 1, 1), ALONG_POINTWISE);
	assert_int_equal(along(f, table, 0, 2), ALONG_POINTWISE);
}

/* ---- what does not fit ---- */

static void expect_wrong_(Fixture *f, Op op, const Val *in, u32 nin, u32 nout, const void *attr,
			  const char *want)
{
	Buf why = { .arena = &f->arena };
	u32 values = f->b.g->value.n;
	Val v = build_checked(&f->b, op, in, nin, nout, attr, &why);
	assert_int_equal(v.i, 0);
	assert_int_equal(f->b.g->value.n, values);
	assert_string_equal(buf_str(&why).s, want);
}
#define ARGS(...) VALS(__VA_ARGS__)
#define expect_wrong(want, op, args, ...) \
	expect_wrong_(f, OP_##op, args, 1, &(op##_attr){ .tag_ = 0, __VA_ARGS__ }, want)

static void wrong_operands_are_explained(void **state)
{
	Fixture *f = *state;
	Builder *b = &f->b;
	Interner *names = &f->ir->names;
	Val x = input(f, DT_f32, "B, T, 768"), y = input(f, DT_f32, "B, 768"), w = input(f, DT_f32, "512, D");
	Val i = input(f, DT_i32, "T"), h = input(f, DT_bf16, "B, T, 768"), t = input(f, DT_b1, "B, 768");
	expect_wrong("add: operands f32[B, T, 768] and f32[B, 768] differ", add, ARGS(x, y));
	expect_wrong("add: operands f32[B, T, 768] and bf16[B, T, 768] differ", add, ARGS(x, h));
	expect_wrong("exp takes floating-point numbers, but its operand is i32[T]", exp, ARGS(i));
	expect_wrong("neg takes numbers, not b1, but its operand is b1[B, 768]", neg, ARGS(t));
	expect_wrong("and takes b1, but its operand is i32[T]", and, ARGS(i, i));
	expect_wrong("add takes 2 operands, not 1", add, ARGS(x));
	expect_wrong("the condition of where must be b1, not f32[B, 768]", where, ARGS(y, y, y));
	expect_wrong("where: the condition b1[B, 768] and the operand f32[B, T, 768] differ in shape",
		     where, ARGS(t, x, x));
	expect_wrong("dot \"btd,df->btf\": f32[B, T, 768] and f32[512, D] differ in size along 'd'", dot,
		     ARGS(x, w), .spec = intern_z(names, "btd,df->btf"));
	expect_wrong("dot \"bd,df->bf\" names 2 dimensions of f32[B, T, 768]", dot, ARGS(x, w),
		     .spec = intern_z(names, "bd,df->bf"));
	expect_wrong("dot \"btd,df->bt\": a label is in one operand alone", dot, ARGS(x, w),
		     .spec = intern_z(names, "btd,df->bt"));
	expect_wrong("dot \"btd,df->btg\": a label of the result is in neither operand", dot, ARGS(x, w),
		     .spec = intern_z(names, "btd,df->btg"));
	expect_wrong("dot \"btt,td->bd\": a label is named twice in one operand", dot, ARGS(x, w),
		     .spec = intern_z(names, "btt,td->bd"));
	expect_wrong("dot \"btd\": a spec is of two operands and a result, as in \"bik,bkj->bij\"", dot,
		     ARGS(x, w), .spec = intern_z(names, "btd"));
	expect_wrong("dot: the element types of f32[B, T, 768] and bf16[B, T, 768] differ", dot,
		     ARGS(x, h), .spec = intern_z(names, "btd,bsd->bts"));
	expect_wrong("reshape: f32[B, T, 768] and [B, T, 3, 512] have different numbers of elements",
		     reshape, ARGS(x), .shape = shape_of(f, "B, T, 3, 512"));
	expect_wrong("broadcast: f32[B, 768] does not fit [B, T, 512] at dimension 2", broadcast, ARGS(y),
		     .shape = shape_of(f, "B, T, 512"), .dims = INTS(b, 0, 2));
	expect_wrong("broadcast: dims must ascend within the result's 3 dimensions", broadcast, ARGS(y),
		     .shape = shape_of(f, "768, T, B"), .dims = INTS(b, 2, 0));
	expect_wrong("axis 3 is not a dimension of f32[B, T, 768]", sum, ARGS(x), .axes = INTS(b, 3));
	expect_wrong("axis 1 of f32[B, T, 768] is named twice", sum, ARGS(x), .axes = INTS(b, 1, 1));
	expect_wrong("slice: 3 elements from 766 by 1 leave dimension 1 of f32[B, 768]", slice, ARGS(y),
		     .start = shape_of(f, "0, 766"), .size = shape_of(f, "B, 3"), .step = INTS(b, 1, 1));
	expect_wrong("split: the sizes [256, 256] do not add up to dimension 1 of f32[B, 768]", split,
		     ARGS(y), .axis = 1, .sizes = shape_of(f, "256, 256"));
	expect_wrong("concat: f32[B, T, 768] and f32[B, 768] differ beyond axis 1", concat, ARGS(x, y),
		     .axis = 1);
	expect_wrong("operand 2 of gather must be integers, not f32[B, 768]", gather, ARGS(x, y),
		     .axis = 0);
	expect_wrong("scatter_add: the dimensions of the indices i32[T] are not those of f32[B, 768] "
		     "from axis 0",
		     scatter_add, ARGS(y, i), .axis = 0, .size = shape_of(f, "V"));
	expect_wrong("grouped_dot: offsets must be one more than the groups of f32[G, 768, F], not i32[T]",
		     grouped_dot, ARGS(y, input(f, DT_f32, "G, 768, F"), i));
	expect_wrong_(f, OP_full, NULL, 0, 0,
		      &(full_attr){ .value = 1.5, .dtype = DT_i32, .shape = shape_of(f, "T") },
		      "full: 1.5 is not a value of i32");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(elementwise_takes_the_first_class),
		TEST(movement_carries_classes),
		TEST(reshape_splits_a_class),
		TEST(reshape_merges_classes), TEST(what_was_learnt_is_given_back),
		TEST(reshape_passes_over_ones),
		TEST(dot_takes_classes_by_label),
		TEST(symbols_are_sizes),
		TEST(ops_know_how_they_run_along_axes),
		TEST(wrong_operands_are_explained),
	};
	return cmocka_run_group_tests_name("inference", tests, NULL, NULL);
}
