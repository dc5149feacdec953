/* The memory planner and the order of steps: layouts checked pair by pair, orders against all orders of
 * small problems, results that go to buffers whose old values others want. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "ir/sample.h"
#include "plan_run.h"
#include "plan_text.h"

/* ---- layouts ---- */

static void assert_apart(const MemoryBlock *b, u32 n, u64 total)
{
	for (u32 i = 0; i < n; i++) {
		assert_int_equal(b[i].offset % MEMORY_ALIGN, 0);
		assert_true(b[i].offset + b[i].bytes <= total);
		for (u32 k = 0; k < i; k++) {
			bool together = b[i].first <= b[k].last && b[k].first <= b[i].last;
			bool apart = b[i].offset + b[i].bytes <= b[k].offset || b[k].offset + b[k].bytes <= b[i].offset;
			assert_true(!together || apart);
		}
	}
}

/* The most alive at once, counted step by step. */
static u64 most_alive(const MemoryBlock *b, u32 n, u32 steps)
{
	u64 most = 0;
	for (u32 s = 0; s < steps; s++) {
		u64 now = 0;
		for (u32 i = 0; i < n; i++)
			if (b[i].first <= s && s <= b[i].last)
				now += (b[i].bytes + MEMORY_ALIGN - 1) / MEMORY_ALIGN * MEMORY_ALIGN;
		most = MAX(most, now);
	}
	return most;
}

static void random_layouts(void **state)
{
	(void)state;
	Arena tmp = ARENA("test");
	for (u64 seed = 0; seed < 200; seed++) {
		Random r = random_new(&tmp, seed);
		u32 n = (u32)random_int(&r, 0, 80), steps = (u32)random_int(&r, 1, 60);
		MemoryBlock *b = NEWN(&tmp, MemoryBlock, n + 1);
		for (u32 i = 0; i < n; i++) {
			b[i].bytes = (u64)random_int(&r, 0, random_chance(&r, 0.3) ? 100000 : 700);
			b[i].first = (u32)random_int(&r, 0, steps - 1);
			b[i].last = (u32)random_int(&r, b[i].first, MIN(steps - 1, b[i].first + 12));
		}
		u64 bound = blocks_bound(&tmp, b, n), total = blocks_lay_out(&tmp, b, n);
		assert_int_equal(bound, most_alive(b, n, steps));
		assert_true(total >= bound);
		assert_apart(b, n, total);
		assert_true(total <= bound + bound / 2);
	}
	arena_free(&tmp);
}

/* Activations of a forward half, freed in turn by the backward half, with a scratch buffer at each step. */
static void nested_lifetimes(void **state)
{
	(void)state;
	Arena tmp = ARENA("test");
	enum { LAYERS = 3000 };
	MemoryBlock *b = NEWN(&tmp, MemoryBlock, 4 * LAYERS);
	for (u32 i = 0; i < LAYERS; i++) {
		b[2 * i] = (MemoryBlock){ 4096 + 64 * (i % 7), i, 2 * LAYERS - 1 - i, 0 };
		b[2 * i + 1] = (MemoryBlock){ 1000, i, i, 0 };
	}
	u64 bound = blocks_bound(&tmp, b, 2 * LAYERS), total = blocks_lay_out(&tmp, b, 2 * LAYERS);
	assert_true(total <= bound + bound / 100);
	assert_apart(b, 2 * LAYERS, total);
	arena_free(&tmp);
}

/* ---- orders ---- */

enum { SMALL = 7 };

typedef struct Small {
	OrderStep step[SMALL];
	u32 before[SMALL][SMALL], reads[SMALL][SMALL], writes[SMALL][1];
	u64 bytes[SMALL + 1];
	bool at_start[SMALL + 1], to_end[SMALL + 1];
	OrderProblem p;
} Small;

/* Step i makes buffer i and reads those of some steps before it; buffer SMALL is an input. */
static void small_problem(Small *s, Random *r)
{
	*s = (Small){ .at_start = { [SMALL] = true } };
	bool read[SMALL] = { false };
	for (u32 i = 0; i < SMALL; i++) {
		OrderStep *o = &s->step[i];
		for (u32 k = 0; k < i; k++)
			if (random_chance(r, 0.4)) {
				s->before[i][o->nbefore++] = k;
				s->reads[i][o->nread++] = k;
				read[k] = true;
			}
		if (random_chance(r, 0.3))
			s->reads[i][o->nread++] = SMALL;
		s->writes[i][0] = i;
		o->nwrite = 1;
		o->before = s->before[i];
		o->reads = s->reads[i];
		o->writes = s->writes[i];
		o->workspace = (u64)random_int(r, 0, 3);
		s->bytes[i] = (u64)random_int(r, 0, 20);
	}
	s->bytes[SMALL] = (u64)random_int(r, 0, 20);
	for (u32 i = 0; i < SMALL; i++)
		s->to_end[i] = !read[i];
	s->p = (OrderProblem){ s->step, SMALL, SMALL + 1, s->bytes, s->at_start, s->to_end };
}

static bool topological(const Small *s, const u32 *order)
{
	bool done[SMALL] = { false };
	for (u32 i = 0; i < SMALL; i++) {
		if (order[i] >= SMALL || done[order[i]])
			return false;
		for (u32 k = 0; k < s->step[order[i]].nbefore; k++)
			if (!done[s->before[order[i]][k]])
				return false;
		done[order[i]] = true;
	}
	return true;
}

/* Counted anew at each step from what is still to come. */
static u64 plain_peak(const Small *s, const u32 *order)
{
	u64 peak = 0;
	for (u32 i = 0; i < SMALL; i++) {
		u64 now = s->step[order[i]].workspace;
		for (u32 b = 0; b <= SMALL; b++) {
			bool made = s->at_start[b], wanted = s->to_end[b], ever = false;
			for (u32 k = 0; k < SMALL; k++) {
				const OrderStep *o = &s->step[order[k]];
				made |= k <= i && o->writes[0] == b;
				for (u32 j = 0; j < o->nread; j++) {
					ever |= o->reads[j] == b;
					wanted |= k >= i && o->reads[j] == b;
				}
			}
			/* an input that nobody reads stays */
			now += made && (wanted || (!ever && s->at_start[b])) ? s->bytes[b] : 0;
		}
		peak = MAX(peak, now);
	}
	return peak;
}

static u64 best_of_all(const Small *s, u32 *order, u32 n, bool *used)
{
	if (n == SMALL)
		return topological(s, order) ? plain_peak(s, order) : UINT64_MAX;
	u64 best = UINT64_MAX;
	for (u32 i = 0; i < SMALL; i++) {
		if (used[i])
			continue;
		used[i] = true;
		order[n] = i;
		best = MIN(best, best_of_all(s, order, n + 1, used));
		used[i] = false;
	}
	return best;
}

static void small_orders(void **state)
{
	(void)state;
	Arena tmp = ARENA("test");
	f64 given = 0, mine = 0, least = 0;
	for (u64 seed = 0; seed < 60; seed++) {
		Random r = random_new(&tmp, seed);
		Small s;
		small_problem(&s, &r);
		const u32 *order = order_steps(&tmp, &tmp, &s.p);
		assert_true(topological(&s, order));
		u32 first[SMALL], scratch[SMALL];
		bool used[SMALL] = { false };
		for (u32 i = 0; i < SMALL; i++)
			first[i] = i;
		assert_int_equal(order_peak(&tmp, &s.p, order), plain_peak(&s, order));
		assert_true(plain_peak(&s, order) <= plain_peak(&s, first));
		given += (f64)plain_peak(&s, first);
		mine += (f64)plain_peak(&s, order);
		least += (f64)best_of_all(&s, scratch, 0, used);
	}
	/* most of what any order could gain is gained */
	assert_true(mine - least <= 0.5 * (given - least));
	arena_free(&tmp);
}

/* ---- results and the buffers that they go to ---- */

static void check_entry(const char *text, u32 most_steps)
{
	PlannedText c;
	plan_text(&c, text, "bind,lower", 0);
	const Program *p = c.plan->program;
	Arena *arena = &c.arena, *tmp = &c.tmp;
	assert_true(plan_lines_are_sound(tmp, c.plan));
	assert_true(c.e->step.n <= most_steps);
	Tensor *want = NEWN(arena, Tensor, p->buffer.n), *is = NEWN(arena, Tensor, p->buffer.n), result[8];
	for (u32 i = 0; i < p->buffer.n; i++) {
		want[i] = tensor_new(arena, p->buffer.v[i].type);
		is[i] = tensor_new(arena, p->buffer.v[i].type);
		for (i64 k = 0; k < want[i].n; k++)
			want[i].data[k] = is[i].data[k] = (f64)(10 * i) + (f64)k;
	}
	eval_entry(arena, p, p->entry.v[0], NULL, want, result, (EvalOptions){ 0 });
	run_plan(tmp, c.plan, 0, NULL, is, result);
	for (u32 i = 0; i < p->buffer.n; i++)
		for (i64 k = 0; k < want[i].n; k++)
			assert_true(fabs(is[i].data[k] - want[i].data[k]) <= 1e-12);
	plan_text_free(&c);
}

/* What is copied for devices to be told is computed from what is in memory then: not from %2, which a later kernel stores
 * for the result, beside %6. */
static void told_before_it_is_stored(void **state)
{
	(void)state;
	static const char text[] = "program t\n"
				   "mesh x = 2\n"
				   "entry e {\n"
				   "  %1 = input x : f32[4, 4]\n"
				   "  %2 = neg %1 : f32[4, 4]\n"
				   "  %3 = reshape %2 {shape = [16]} : f32[16]\n"
				   "  %4 = all_reduce %3 {over = \"x\", parts = 2, reduce = \"sum\"} : f32[16]\n"
				   "  %5 = reshape %4 {shape = [4, 4]} : f32[4, 4]\n"
				   "  %6 = mul %2, %5 : f32[4, 4]\n"
				   "  result a = %2\n"
				   "  result b = %6\n"
				   "}\n";
	PlannedText c;
	plan_text(&c, text, "bind,lower", 0);
	/* a copy, the collective, and one kernel for both results */
	assert_int_equal(c.e->step.n, 3);
	plan_text_free(&c);
}

/* Outputs that no cache holds any more when they are used again: %3, which nothing in the entry uses, and %2 where another step comes
 * before the one that reads it; not the sums, which are small, nor what is worked on in place. */
static void far_outputs_are_streamed(void **state)
{
	(void)state;
	static const char text[] = "program t\n"
				   "buffer @a : f32[100, 100] parameter\n"
				   "entry e {\n"
				   "  %1 = input x : f32[100, 100]\n"
				   "  %2 = exp %1 : f32[100, 100]\n"
				   "  %3 = tanh %1 : f32[100, 100]\n"
				   "  %4 = dot %2, %1 {spec = \"ik,kj->ij\"} : f32[100, 100]\n"
				   "  %5 = dot %1, %1 {spec = \"ik,jk->ij\"} : f32[100, 100]\n"
				   "  %6 = sum %1 {axes = [1]} : f32[100]\n"
				   "  %7 = read @a : f32[100, 100]\n"
				   "  %8 = exp %7 : f32[100, 100]\n"
				   "  write @a = %8\n"
				   "  result b = %3\n"
				   "  result c = %4\n"
				   "  result d = %5\n"
				   "  result e = %6\n"
				   "}\n";
	/* beyond, and whether steps come between %2 and its reader: which values are streamed */
	static const struct {
		u64 beyond;
		bool between;
		const char *far;
	} want[] = { { 39000, false, "%3" }, { 39000, true, "%2 %3" }, { 41000, true, "" }, { ~(u64)0, true, "" } };
	for (u32 w = 0; w < COUNT(want); w++) {
		PlannedText c;
		plan_text(&c, text, "bind,lower", 0);
		TargetInfo target = { .name = "test", .streams = { [KERNEL_MAP] = true, [KERNEL_ROW] = true } };
		c.plan->target = &target;
		/* the reader of %2 right behind it, or last */
		EntryPlan *e = c.e;
		u32 made = NONE, read = NONE;
		for (u32 i = 0; i < e->step.n; i++) {
			const Kernel *k = c.plan->kernel.v[e->step.v[i].kernel];
			for (u32 s = 0; s < k->slot.n; s++)
				if (!strcmp(k->slot.v[s].name, "%2"))
					*(k->slot.v[s].written ? &made : &read) = i;
		}
		assert_true(made != NONE && read != NONE && made < read);
		const Step reader = e->step.v[read];
		u32 to = want[w].between ? e->step.n - 1 : made + 1;
		for (u32 i = read; i < to; i++)
			e->step.v[i] = e->step.v[i + 1];
		for (u32 i = read; i > to; i--)
			e->step.v[i] = e->step.v[i - 1];
		e->step.v[to] = reader;
		plan_stream(c.plan, want[w].beyond);
		bool far[4] = { false };
		for (u32 i = 0; i < e->step.n; i++) {
			const Kernel *k = c.plan->kernel.v[e->step.v[i].kernel];
			for (u32 s = 0; s < k->slot.n; s++)
				if (k->slot.v[s].streamed)
					far[k->slot.v[s].name[1] == '2' ? 0 : k->slot.v[s].name[1] == '3' ? 1 : 2] = true;
		}
		const char *got = arena_printf(&c.arena, "%s%s%s", far[0] ? "%2 " : "", far[1] ? "%3" : "", far[2] ? " and others" : "");
		if (strcmp(got, want[w].far) != 0) {
			plan_print(c.plan, stderr);
			fail_msg("beyond %llu: '%s', not '%s'", (unsigned long long)want[w].beyond, got, want[w].far);
		}
		plan_text_free(&c);
	}
}

#define TWO_BUFFERS                               \
	"program t\n"                             \
	"buffer @a : f32[2, 2] parameter\n"       \
	"buffer @b : f32[2, 2] parameter\n"       \
	"entry e {\n"                             \
	"  %1 = read @a : f32[2, 2]\n"            \
	"  %2 = read @b : f32[2, 2]\n"

static void buffers_change_places(void **state)
{
	(void)state;
	check_entry(TWO_BUFFERS "  write @a = %2\n  write @b = %1\n}\n", 3);
}

static void buffer_becomes_its_transposition(void **state)
{
	(void)state;
	check_entry(TWO_BUFFERS "  %3 = transpose %1 {perm = [1, 0]} : f32[2, 2]\n  write @a = %3\n}\n", 2);
}

static void update_in_place(void **state)
{
	(void)state;
	check_entry(TWO_BUFFERS "  %3 = add %1, %2 : f32[2, 2]\n  write @a = %3\n}\n", 1);
}

/* Each new value needs the other's old one. */
static void crossed_updates(void **state)
{
	(void)state;
	check_entry(TWO_BUFFERS "  %3 = add %1, %2 : f32[2, 2]\n"
				"  %4 = transpose %1 {perm = [1, 0]} : f32[2, 2]\n"
				"  %5 = mul %4, %2 : f32[2, 2]\n"
				"  write @a = %3\n  write @b = %5\n}\n", 3);
}

/* The old value is wanted by what comes later in the model: it runs before the update. */
static void reader_behind_the_writer(void **state)
{
	(void)state;
	check_entry(TWO_BUFFERS "  %3 = add %1, %1 : f32[2, 2]\n"
				"  %4 = dot %1, %2 {spec = \"ik,kj->ij\"} : f32[2, 2]\n"
				"  write @a = %3\n  write @b = %4\n}\n", 3);
}

static void one_value_for_two(void **state)
{
	(void)state;
	check_entry(TWO_BUFFERS "  %3 = exp %1 : f32[2, 2]\n  write @a = %3\n  write @b = %3\n}\n", 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_layouts),
		cmocka_unit_test(nested_lifetimes),
		cmocka_unit_test(small_orders),
		cmocka_unit_test(far_outputs_are_streamed),
		cmocka_unit_test(buffers_change_places),
		cmocka_unit_test(buffer_becomes_its_transposition),
		cmocka_unit_test(update_in_place),
		cmocka_unit_test(crossed_updates),
		cmocka_unit_test(reader_behind_the_writer),
		cmocka_unit_test(one_value_for_two),
		cmocka_unit_test(told_before_it_is_stored),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
