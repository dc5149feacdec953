/* Units of passes/plan/overlap: where collectives begin and who waits for them, in programs for which that can be said beforehand;
 * within a budget; plans that would touch what is on its way are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "plan_text.h"

enum { LAYERS = 6 };

/* The step of the n-th kernel of a class. */
static u32 step_of(const PlannedText *c, KernelClass class, u32 n)
{
	for (u32 i = 0; i < c->e->step.n; i++)
		if (c->plan->kernel.v[c->e->step.v[i].kernel]->class == class && n-- == 0)
			return i;
	fail_msg("there are fewer");
	return 0;
}

static u32 said(const PlannedText *c, u32 n)
{
	return step_of(c, KERNEL_COLLECTIVE, n);
}

static u32 product(const PlannedText *c, u32 n)
{
	return step_of(c, KERNEL_DOT, n);
}

/* A chain of products with parameters that are gathered: 2 x 1024^3 FLOPs each, 4 MiB each; `made`: what is gathered is computed from them. */
static const char *gathers(Arena *a, bool made)
{
	Buf b = { .arena = a };
	buf_printf(&b, "program t\nfacts BOUND EXPANDED\nmesh x = 4\n");
	for (u32 i = 0; i < LAYERS; i++)
		buf_printf(&b, "buffer @w%u : f32[256, 1024] parameter\n", i);
	buf_printf(&b, "entry e {\n  %%1 = input x : f32[1024, 1024]\n");
	for (u32 i = 0; i < LAYERS; i++) {
		u32 at = (3 + made) * i + 2;
		buf_printf(&b, "  %%%u = read @w%u : f32[256, 1024]\n", at, i);
		if (made) {
			buf_printf(&b, "  %%%u = exp %%%u : f32[256, 1024]\n", at + 1, at);
			at++;
		}
		buf_printf(&b, "  %%%u = all_gather %%%u {over = \"x\", parts = 4, axes = [0], outer = [1], again = 0} : f32[1024, 1024]\n", at + 1, at);
		buf_printf(&b, "  %%%u = dot %%%u, %%%u {spec = \"ik,kj->ij\"} : f32[1024, 1024]\n", at + 2, at - 1 - made, at + 1);
	}
	buf_printf(&b, "  result y = %%%u\n}\n", (3 + made) * LAYERS + 1);
	return b.text;
}

/* Parameters of the next layer are on their way while this one is at work, and those of no other. */
static void gathers_one_layer_ahead(void **state)
{
	(void)state;
	Arena a = ARENA("text");
	PlannedText c;
	plan_text(&c, gathers(&a, false), "lower", 0);
	for (u32 i = 0; i < LAYERS; i++) {
		assert_int_equal(c.e->step.v[said(&c, i)].until, product(&c, i));
		if (i > 0)
			assert_true(said(&c, i) < product(&c, i - 1));
		if (i > 1)
			assert_true(said(&c, i) > product(&c, i - 2));
	}
	plan_text_free(&c);
	arena_free(&a);
}

/* So are those of which something is computed first. */
static void what_is_gathered_is_computed_ahead(void **state)
{
	(void)state;
	Arena a = ARENA("text");
	PlannedText c;
	plan_text(&c, gathers(&a, true), "lower", 0);
	for (u32 i = 1; i < LAYERS; i++) {
		assert_int_equal(c.e->step.v[said(&c, i)].until, product(&c, i));
		assert_true(step_of(&c, KERNEL_MAP, i) < said(&c, i));
		assert_true(said(&c, i) < product(&c, i - 1));
		if (i > 1)
			assert_true(said(&c, i) > product(&c, i - 2));
	}
	plan_text_free(&c);
	arena_free(&a);
}

/* Memory for two layers' parameters is not there: each is waited for at once, and fits. */
static void within_a_budget_waits_at_once(void **state)
{
	(void)state;
	Arena a = ARENA("text");
	PlannedText free, tight;
	plan_text(&free, gathers(&a, false), "lower", 0);
	plan_text(&tight, gathers(&a, false), "lower", free.plan->arena_bytes - (4 << 20));
	assert_true(tight.plan->arena_bytes <= free.plan->arena_bytes - (4 << 20));
	for (u32 i = 0; i < LAYERS; i++)
		assert_int_equal(tight.e->step.v[said(&tight, i)].until, said(&tight, i) + 1);
	plan_text_free(&tight);
	plan_text_free(&free);
	arena_free(&a);
}

/* Products whose results are summed and then added to what was there, one layer behind the other. */
static const char *sums(Arena *a)
{
	Buf b = { .arena = a };
	buf_printf(&b, "program t\nfacts BOUND EXPANDED\nmesh x = 4\n");
	for (u32 i = 0; i < LAYERS; i++)
		buf_printf(&b, "buffer @g%u : f32[256, 1024] gradient\n", i);
	buf_printf(&b, "entry e {\n  %%1 = input x : f32[1024, 1024]\n");
	for (u32 i = 0; i < LAYERS; i++) {
		u32 at = 4 * i + 2;
		buf_printf(&b, "  %%%u = dot %%%u, %%1 {spec = \"ik,kj->ij\"} : f32[1024, 1024]\n", at, i ? at - 4 : 1);
		buf_printf(&b, "  %%%u = reduce_scatter %%%u {over = \"x\", parts = 4, reduce = \"sum\", axes = [0], outer = [1]} : f32[256, 1024]\n", at + 1, at);
		buf_printf(&b, "  %%%u = read @g%u : f32[256, 1024]\n", at + 2, i);
		buf_printf(&b, "  %%%u = add %%%u, %%%u : f32[256, 1024]\n", at + 3, at + 2, at + 1);
	}
	for (u32 i = 0; i < LAYERS; i++)
		buf_printf(&b, "  write @g%u = %%%u\n", i, 4 * i + 5);
	buf_printf(&b, "}\n");
	return b.text;
}

/* A sum begins when its product is made, and goes on while the next one is: what adds it up is put off. */
static void sums_go_on_beside_work(void **state)
{
	(void)state;
	Arena a = ARENA("text");
	PlannedText c;
	plan_text(&c, sums(&a), "lower", 0);
	for (u32 i = 0; i < LAYERS; i++) {
		assert_int_equal(said(&c, i), product(&c, i) + 1);
		if (i + 1 < LAYERS)
			assert_true(c.e->step.v[said(&c, i)].until > product(&c, i + 1));
	}
	plan_text_free(&c);
	arena_free(&a);
}

/* Gradients that are padded and summed, each with its square's sum that waits for it; or parts that are gathered and cut off. 4 MiB each. */
static const char *padded(Arena *a, bool gathered)
{
	Buf b = { .arena = a };
	buf_printf(&b, "program t\nfacts BOUND EXPANDED\nmesh x = 3\n");
	for (u32 i = 0; i < LAYERS; i++)
		buf_printf(&b, "buffer @w%u : f32[1000, 1024] parameter\nbuffer @m%u : f32[334, 1024] state of @w%u\n", i, i, i);
	buf_printf(&b, "entry e {\n");
	for (u32 i = 0; i < LAYERS; i++) {
		u32 at = 4 * i + 1;
		buf_printf(&b, "  %%%u = read @%c%u : f32[%u, 1024]\n", at, gathered ? 'm' : 'w', i, gathered ? 334 : 1000);
		if (gathered)
			buf_printf(&b, "  %%%u = exp %%%u : f32[334, 1024]\n"
				       "  %%%u = all_gather %%%u {over = \"x\", parts = 3, axes = [0], outer = [1], again = 0} : f32[1002, 1024]\n"
				       "  %%%u = slice %%%u {start = [0, 0], size = [1000, 1024], step = [1, 1]} : f32[1000, 1024]\n",
				   at + 1, at, at + 2, at + 1, at + 3, at + 2);
		else
			buf_printf(&b, "  %%%u = pad %%%u {low = [0, 0], high = [2, 0], value = 0} : f32[1002, 1024]\n"
				       "  %%%u = reduce_scatter %%%u {over = \"x\", parts = 3, reduce = \"sum\", axes = [0], outer = [1]} : f32[334, 1024]\n"
				       "  %%%u = sum %%%u {axes = [0, 1]} : f32[]\n",
				   at + 1, at, at + 2, at + 1, at + 3, at + 2);
	}
	for (u32 i = 0; i < LAYERS; i++)
		buf_printf(&b, gathered ? "  write @w%u = %%%u\n" : "  result s%u = %%%u\n", i, 4 * i + 4);
	buf_printf(&b, "}\n");
	return b.text;
}

/* Messages go one behind the other: what one takes, or makes, is not there while others stand before it. One on its way and one that is next
 * have a padded tensor each, and parts of it, a third of that. */
static void what_waits_its_turn_takes_no_memory(void **state)
{
	(void)state;
	for (u32 gathered = 0; gathered < 2; gathered++) {
		Arena a = ARENA("text");
		PlannedText c;
		plan_text(&c, padded(&a, gathered), "lower", 0);
		u64 tensor = 1002 * 1024 * 4, transient = c.plan->arena_bytes - c.plan->persistent_bytes;
		if (transient > 3 * tensor)
			fail_msg("%s: %llu bytes are %.2f tensors", gathered ? "gathered" : "summed", (unsigned long long)transient, (f64)transient / (f64)tensor);
		plan_text_free(&c);
		arena_free(&a);
	}
}

/* What must not be: a sum that is waited for behind its reader, one that is never, and memory that is used again. */
static void wrong_plans_are_found(void **state)
{
	(void)state;
	Arena a = ARENA("text");
	PlannedText c;
	plan_text(&c, sums(&a), "lower", 0);
	Step *s = &c.e->step.v[said(&c, 1)];
	u32 until = s->until;
	s->until++;
	assert_false(plan_verify(c.plan, &c.diag));
	s->until = said(&c, 1);
	assert_false(plan_verify(c.plan, &c.diag));
	s->until = until;
	assert_true(plan_verify(c.plan, &c.diag));
	PlanBuffer *sent = &c.e->buffer.v[s->slot[0]], *next = &c.e->buffer.v[c.e->step.v[said(&c, 2)].slot[0]];
	assert_true(sent->last >= until - 1 && next->first < until);
	assert_true(sent->offset != next->offset);
	plan_text_free(&c);
	arena_free(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gathers_one_layer_ahead), cmocka_unit_test(what_is_gathered_is_computed_ahead), cmocka_unit_test(within_a_budget_waits_at_once),
		cmocka_unit_test(sums_go_on_beside_work),  cmocka_unit_test(what_waits_its_turn_takes_no_memory),
		cmocka_unit_test(wrong_plans_are_found),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
