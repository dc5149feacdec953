/* Units of tools/roofline.h: medians, bounds, families of kernels. Expected values are worked out by hand. */
#include "tools/roofline.h"

#include <setjmp.h>
#include <string.h>
#include <cmocka.h>

static void spreads(void **state)
{
	(void)state;
	const f64 v[] = { 5, 1, 4, 2 };
	Spread s = spread_of(v, 4);
	assert_true(s.median == 3 && s.least == 1 && s.most == 5 && s.n == 4);
	s = spread_of(v, 3); /* 5 1 4 */
	assert_true(s.median == 4 && s.least == 1 && s.most == 5);
	s = spread_of(v, 1);
	assert_true(s.median == 5 && s.least == 5 && s.most == 5);
	assert_true(spread_of(NULL, 0).n == 0);
	assert_true(v[0] == 5); /* the caller's order stays */
}

static void bounds(void **state)
{
	(void)state;
	Limits l = { .flops = { 100, 400, 1600 }, .bandwidth = 10 };
	Bound b = roofline_bound(&l, 800, 20, OPERANDS_32); /* 8 s of arithmetic, 2 s of memory */
	assert_true(b.seconds == 8 && b.by_flops);
	b = roofline_bound(&l, 800, 30, OPERANDS_16); /* 2 s, 3 s */
	assert_true(b.seconds == 3 && !b.by_flops);
	b = roofline_bound(&l, 800, 1, OPERANDS_8); /* 0.5 s, 0.1 s */
	assert_true(b.seconds == 0.5 && b.by_flops);
	l.flops[OPERANDS_8] = 0; /* as the machine multiplies bf16 */
	assert_true(roofline_bound(&l, 800, 1, OPERANDS_8).seconds == 2);
	b = roofline_bound(&(Limits){ .flops = { 100 }, .bandwidth = 10 }, 800, 20, OPERANDS_16); /* no narrow peak is known */
	assert_true(b.seconds == 8 && b.by_flops);
	b = roofline_bound(&(Limits){ .bandwidth = 10 }, 800, 20, OPERANDS_32);
	assert_true(b.seconds == 2 && !b.by_flops);
	b = roofline_bound(&(Limits){ 0 }, 800, 20, OPERANDS_32);
	assert_true(b.seconds == 0);
}

static void patterns(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	assert_string_equal(layer_pattern(&a, "h.3.attn.softmax.2"), "h.*.attn.softmax");
	assert_string_equal(layer_pattern(&a, "h.11.attn.softmax"), "h.*.attn.softmax");
	assert_string_equal(layer_pattern(&a, "model.layers.0.experts.7.up"), "model.layers.*.experts.*.up");
	assert_string_equal(layer_pattern(&a, "add"), "add");
	assert_string_equal(layer_pattern(&a, "add.12"), "add");
	assert_string_equal(layer_pattern(&a, "7.add"), "7.add");
	assert_string_equal(layer_pattern(&a, "h2.x1"), "h2.x1");
	arena_free(&a);
}

static void groups(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	const f64 first[] = { 1, 2, 6 }, second[] = { 3, 3, 1 }, other[] = { 10, 11, 12 }, apart[] = { 0.5, 0.5, 0.5 };
	const KernelRun run[] = {
		{ .entry = "micro",
		  .name = "h.0.up",
		  .class = "dot",
		  .shape = "4 x 8 x 2",
		  .times = 2,
		  .flops = 128,
		  .bytes = 100,
		  .seconds = first },
		{ .entry = "micro",
		  .name = "h.1.up",
		  .class = "dot",
		  .shape = "4 x 8 x 2",
		  .times = 2,
		  .flops = 128,
		  .bytes = 100,
		  .seconds = second },
		{ .entry = "micro",
		  .name = "loss",
		  .class = "row",
		  .shape = "4 x 8",
		  .times = 1,
		  .flops = 32,
		  .bytes = 300,
		  .seconds = other },
		{ .entry = "update",
		  .name = "h.1.up",
		  .class = "dot",
		  .shape = "4 x 8 x 2",
		  .times = 1,
		  .flops = 128,
		  .bytes = 100,
		  .seconds = apart },
	};
	Limits l = { .flops = { 64 }, .bandwidth = 100 };
	KernelGroup *g;
	assert_int_equal(kernel_groups(&a, run, 4, 3, &l, &g), 3);
	assert_string_equal(g[0].first.name, "loss");
	assert_true(g[0].calls == 1 && g[0].seconds.median == 11 && g[0].bound.seconds == 3 && !g[0].bound.by_flops);
	/* sums over layers first, the median of the sums then: 4, 5, 7; not 2 + 3 */
	assert_string_equal(g[1].first.name, "h.*.up");
	assert_true(g[1].calls == 4 && g[1].flops == 512 && g[1].bytes == 400);
	assert_true(g[1].seconds.median == 5 && g[1].seconds.least == 4 && g[1].seconds.most == 7);
	assert_true(g[1].bound.seconds == 8 && g[1].bound.by_flops);
	/* another entry's kernel is another family */
	assert_string_equal(g[2].first.entry, "update");
	assert_true(g[2].calls == 1);
	assert_int_equal(kernel_groups(&a, run, 0, 0, &l, &g), 0);
	arena_free(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(spreads), cmocka_unit_test(bounds),
					    cmocka_unit_test(patterns), cmocka_unit_test(groups) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
