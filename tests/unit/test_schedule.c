/* Schedules of pipelines: orders that stages can keep, bubbles and activations as the papers have them, and timelines
 * against a slow simulation and a pencil. */
#include "passes/plan/schedule.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static Arena arena = ARENA("test");

static void close_to(f64 got, f64 want)
{
	if (!(fabs(got - want) <= 1e-9 * MAX(1.0, fabs(want))))
		fail_msg("%.17g, should be %.17g", got, want);
}

static f64 *all(f64 value, u32 n)
{
	f64 *v = NEWN(&arena, f64, n);
	for (u32 i = 0; i < n; i++)
		v[i] = value;
	return v;
}

/* Each stage does each task once, forward before backward, micro-batches of a chunk in order. */
static void check_order(const PipeSchedule *s)
{
	for (u32 stage = 0; stage < s->stages; stage++) {
		u32 *next = NEWN(&arena, u32, 2 * s->chunks);
		for (u32 i = 0; i < s->ntask; i++) {
			PipeTask t = pipe_tasks(s, stage)[i];
			assert_true(t.chunk < s->chunks);
			assert_int_equal(t.micro, next[2 * t.chunk + t.backward]);
			next[2 * t.chunk + t.backward]++;
			assert_true(!t.backward || next[2 * t.chunk] > t.micro);
		}
		for (u32 c = 0; c < 2 * s->chunks; c++)
			assert_int_equal(next[c], s->micros);
	}
}

static void orders(void **state)
{
	(void)state;
	for (u32 p = 1; p <= 8; p++)
		for (u32 v = 1; v <= 4; v++)
			for (u32 m = 1; m <= 20; m++)
				for (PipeKind kind = v > 1 ? PIPE_INTERLEAVED : PIPE_GPIPE; kind < PIPE_KINDS; kind++) {
					PipeSchedule s = pipe_schedule(&arena, kind, p, v, m);
					check_order(&s);
					/* that it ends shows that no stage waits for itself */
					PipeTimes t = { .forward = all(1, p * v), .backward = all(2, p * v) };
					PipeTimeline l = pipe_timeline(&arena, &s, &t);
					close_to(l.busy[p - 1], 3.0 * m * v);
					assert_true(l.seconds >= 3.0 * m * v + 3.0 * (p - 1) - 1e-9);
					arena_free(&arena);
				}
}

static void bubbles(void **state)
{
	(void)state;
	for (u32 p = 1; p <= 8; p++)
		for (u32 v = 1; v <= 4; v++)
			for (u32 groups = 1; groups <= 4; groups++)
				for (PipeKind kind = v > 1 ? PIPE_INTERLEAVED : PIPE_GPIPE; kind < PIPE_KINDS; kind++) {
					u32 m = groups * p;
					PipeSchedule s = pipe_schedule(&arena, kind, p, v, m);
					PipeTimes t = { .forward = all(1.25, p * v), .backward = all(2.75, p * v) };
					close_to(pipe_timeline(&arena, &s, &t).bubble, (f64)(p - 1) / (m * v));
					arena_free(&arena);
				}
	/* without interleaving, for any number of micro-batches */
	for (u32 m = 1; m <= 9; m++)
		for (PipeKind kind = PIPE_GPIPE; kind <= PIPE_1F1B; kind++) {
			PipeSchedule s = pipe_schedule(&arena, kind, 4, 1, m);
			PipeTimes t = { .forward = all(1, 4), .backward = all(2, 4) };
			close_to(pipe_timeline(&arena, &s, &t).bubble, 3.0 / m);
		}
	arena_free(&arena);
}

static void activations(void **state)
{
	(void)state;
	for (u32 p = 1; p <= 8; p++)
		for (u32 m = 1; m <= 20; m++)
			for (u32 stage = 0; stage < p; stage++) {
				PipeSchedule g = pipe_schedule(&arena, PIPE_GPIPE, p, 1, m), f = pipe_schedule(&arena, PIPE_1F1B, p, 1, m);
				assert_int_equal(pipe_held(&g, stage, 0), m);
				assert_int_equal(pipe_held(&f, stage, 0), MIN(m, p - stage));
				arena_free(&arena);
			}
	/* Narayanan et al. 2021b: the first stage holds 1 + (p - 1) / (p v) times the p micro-batches of 1f1b, each chunk
	 * being 1 / v of a stage */
	for (u32 p = 2; p <= 8; p++)
		for (u32 v = 2; v <= 4; v++) {
			PipeSchedule s = pipe_schedule(&arena, PIPE_INTERLEAVED, p, v, 4 * p);
			assert_int_equal(pipe_held_bytes(&s, 0, NULL), p * v + p - 1);
			u64 one = 0, each = 0, *bytes = NEWN(&arena, u64, v);
			for (u32 c = 0; c < v; c++) {
				bytes[c] = 10;
				one += pipe_held(&s, 0, c);
			}
			each = pipe_held_bytes(&s, 0, bytes);
			assert_int_equal(each, 10 * (p * v + p - 1));
			assert_true(one >= p * v + p - 1);
			arena_free(&arena);
		}
}

/* Stages that run their tasks one by one, where every virtual stage sends something to each that comes later, and backwards to each
 * before it; each value has so many places, which who sends waits for. */
typedef struct Run {
	const PipeSchedule *s;
	u32 *sent, *taken, *places; /* [from][to] virtual stages: messages, backward where from > to */
	u32 *task, *message;        /* [stages] what each is at: receives first, then sends */
} Run;

/* One step of a stage, if it can. */
static bool goes_on(Run *r, u32 stage)
{
	u32 n = r->s->stages * r->s->chunks, at = r->message[stage], other = at % n;
	if (r->task[stage] == r->s->ntask)
		return false;
	PipeTask t = pipe_tasks(r->s, stage)[r->task[stage]];
	u32 me = pipe_virtual(r->s, stage, t.chunk);
	bool receives = at < n, wanted = receives == t.backward ? other > me : other < me;
	u32 k = receives ? other * n + me : me * n + other;
	if (wanted && receives && r->sent[k] == r->taken[k])
		return false;
	if (wanted && !receives && r->sent[k] - r->taken[k] == r->places[k])
		return false;
	if (wanted)
		(receives ? r->taken : r->sent)[k]++;
	if (++r->message[stage] == 2 * n) {
		r->message[stage] = 0;
		r->task[stage]++;
	}
	return true;
}

static bool ends(const PipeSchedule *s, bool one_place)
{
	u32 n = s->stages * s->chunks;
	Run r = { .s = s, .sent = NEWN(&arena, u32, n * n), .taken = NEWN(&arena, u32, n * n), .places = NEWN(&arena, u32, n * n),
		  .task = NEWN(&arena, u32, s->stages), .message = NEWN(&arena, u32, s->stages) };
	for (u32 from = 0; from < n; from++)
		for (u32 to = 0; to < n; to++) {
			/* as runtime/cuda/stages.c has them */
			u32 sender = pipe_held(s, from % s->stages, from / s->stages), receiver = pipe_held(s, to % s->stages, to / s->stages);
			r.places[from * n + to] = one_place ? 1 : MAX(sender, receiver);
		}
	for (bool any = true; any;) {
		any = false;
		for (u32 stage = 0; stage < s->stages; stage++)
			while (goes_on(&r, stage))
				any = true;
	}
	bool all = true;
	for (u32 stage = 0; stage < s->stages; stage++)
		all &= r.task[stage] == s->ntask;
	return all;
}

static void places(void **state)
{
	(void)state;
	for (u32 p = 1; p <= 6; p++)
		for (u32 v = 1; v <= 3; v++)
			for (u32 m = 1; m <= 13; m++)
				for (PipeKind kind = v > 1 ? PIPE_INTERLEAVED : PIPE_GPIPE; kind < PIPE_KINDS; kind++) {
					PipeSchedule s = pipe_schedule(&arena, kind, p, v, m);
					if (!ends(&s, false))
						fail_msg("%s of %u stages, %u chunks, %u micro-batches waits in a circle", pipe_kind_name[kind], p, v, m);
					arena_free(&arena);
				}
	PipeSchedule s = pipe_schedule(&arena, PIPE_1F1B, 5, 1, 8);
	assert_false(ends(&s, true));
	arena_free(&arena);
}

/* 1f1b of two stages and two micro-batches: F0 F1 B0 B1 and F0 B0 F1 B1, by hand. */
static void by_hand(void **state)
{
	(void)state;
	PipeSchedule s = pipe_schedule(&arena, PIPE_1F1B, 2, 1, 2);
	f64 forward[] = { 1, 2 }, backward[] = { 3, 4 }, send[] = { 0.5 };
	PipeTimes t = { forward, backward, send, false };
	PipeTimeline l = pipe_timeline(&arena, &s, &t);
	f64 begin[] = { 0, 1, 8, 14, /* second stage: */ 1.5, 3.5, 7.5, 9.5 };
	for (u32 i = 0; i < 8; i++)
		close_to(l.begin[i], begin[i]);
	close_to(l.seconds, 17);
	close_to(l.bubble, 17.0 / 12 - 1);
	/* who sends does nothing else: the second forward of the first stage is half a second later, and no more */
	t.exposed = true;
	l = pipe_timeline(&arena, &s, &t);
	f64 exposed[] = { 0, 1.5, 8, 14.5, 1.5, 3.5, 8, 10 };
	for (u32 i = 0; i < 8; i++)
		close_to(l.begin[i], exposed[i]);
	close_to(l.seconds, 17.5);
	arena_free(&arena);
}

/* Unequal stages and messages: every task begins at the latest of what it waits for. */
static void begins_when_it_can(void **state)
{
	(void)state;
	u32 p = 4, v = 3, m = 10, last = p * v - 1;
	PipeSchedule s = pipe_schedule(&arena, PIPE_INTERLEAVED, p, v, m);
	f64 forward[12], backward[12], send[12];
	for (u32 k = 0; k < 12; k++) {
		forward[k] = 1 + 0.13 * (k * 7 % 5);
		backward[k] = 2 + 0.17 * (k * 5 % 7);
		send[k] = 0.01 * (k + 1);
	}
	PipeTimes t = { forward, backward, send, false };
	PipeTimeline l = pipe_timeline(&arena, &s, &t);
	f64(*end)[10][2] = (f64(*)[10][2])NEWN(&arena, f64, 12 * 10 * 2);
	for (u32 stage = 0; stage < p; stage++)
		for (u32 i = 0; i < s.ntask; i++) {
			PipeTask a = pipe_tasks(&s, stage)[i];
			end[pipe_virtual(&s, stage, a.chunk)][a.micro][a.backward] = l.end[stage * s.ntask + i];
		}
	for (u32 stage = 0; stage < p; stage++)
		for (u32 i = 0; i < s.ntask; i++) {
			PipeTask a = pipe_tasks(&s, stage)[i];
			u32 k = pipe_virtual(&s, stage, a.chunk);
			f64 want = i ? l.end[stage * s.ntask + i - 1] : 0, other = 0;
			if (!a.backward && k)
				other = end[k - 1][a.micro][0] + send[k - 1];
			if (a.backward)
				other = k == last ? end[k][a.micro][0] : end[k + 1][a.micro][1] + send[k];
			close_to(l.begin[stage * s.ntask + i], MAX(want, other));
		}
	arena_free(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(orders), cmocka_unit_test(bubbles), cmocka_unit_test(activations), cmocka_unit_test(places),
					    cmocka_unit_test(by_hand), cmocka_unit_test(begins_when_it_can) };
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	arena_free(&arena);
	return failed;
}
