/* Collectives under way (runtime/comm/queue.h), with a transport that is none: in the order in which they are begun, each once; whoever
 * waits for one finds what it wrote, and it what was computed before it was begun; failures, and queues that close in the middle.
 * ThreadSanitizer sees every access that the two threads share. */
#include "runtime/comm/queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

enum { STEPS = 3000, WIDTH = 8 };

/* Sums slot 0 of each collective into slot 1, as a rank alone would. */
typedef struct World {
	Queue *queue;   /* that stops, for `patient` */
	u32 spoken;     /* of the queue's thread, and of whoever has waited */
	u32 order[STEPS];
	u32 fails_at;   /* which one; STEPS: none */
	u32 pause_every;
	bool patient;   /* waits for what never comes, until the queue is to close */
} World;

static void nap(void)
{
	nanosleep(&(struct timespec){ 0, 20000 }, NULL);
}

static Status speak(void *cx, const PackageStep *step, u8 *memory)
{
	World *w = cx;
	const u32 *in = (const u32 *)(memory + step->slot[0]);
	u32 *out = (u32 *)(memory + step->slot[1]);
	if (w->spoken == w->fails_at)
		return FAIL(STATUS_IO, "message %u is lost", w->spoken);
	while (w->patient && !queue_stops(w->queue))
		nap();
	if (w->patient)
		return FAIL(STATUS_IO, "it was to end");
	for (u32 i = 0; i < WIDTH; i++)
		out[i] = in[i] + 1;
	w->order[w->spoken++] = (u32)step->slot[0];
	if (w->pause_every && w->spoken % w->pause_every == 0)
		nap();
	return OK;
}

/* A ring of places; collective i goes from place i to place i + 1. */
enum { PLACES = 16 };
typedef struct Steps {
	PackageStep step[PLACES];
	u64 slot[PLACES][2];
	u32 memory[PLACES][WIDTH];
} Steps;

static void make_steps(Steps *s)
{
	memset(s, 0, sizeof *s);
	for (u32 i = 0; i < PLACES; i++) {
		s->slot[i][0] = i * sizeof s->memory[0];
		s->slot[i][1] = (i + 1) % PLACES * sizeof s->memory[0];
		s->step[i] = (PackageStep){ .slot = s->slot[i], .nslot = 2 };
	}
}

/* What is computed before a collective is what it takes, and what it gives is there when it was waited for. */
static void in_turns(void **state)
{
	(void)state;
	for (u32 pause = 0; pause < 3; pause++) {
		World w = { .fails_at = STEPS, .pause_every = pause };
		Steps s;
		make_steps(&s);
		assert_null(queue_open(speak, &w, &w.queue));
		for (u32 i = 0; i < STEPS; i++) {
			u32 at = i % PLACES;
			for (u32 k = 0; k < WIDTH; k++)
				s.memory[at][k] += i;
			u32 was = s.memory[at][WIDTH - 1];
			queue_begin(w.queue, &s.step[at], (u8 *)s.memory);
			assert_null(queue_wait(w.queue, 0));
			assert_int_equal(s.memory[(at + 1) % PLACES][WIDTH - 1], was + 1);
			assert_int_equal(w.spoken, i + 1);
		}
		queue_close(w.queue);
	}
}

/* Many under way, and those waited for that are needed: more than the ring has room for too. */
static void behind(void **state)
{
	(void)state;
	for (u32 left = 0; left < PLACES - 1; left += 7) {
		World w = { .fails_at = STEPS, .pause_every = 97 };
		Steps s;
		make_steps(&s);
		assert_null(queue_open(speak, &w, &w.queue));
		for (u32 i = 0; i < STEPS; i++) {
			queue_begin(w.queue, &s.step[i % PLACES], (u8 *)s.memory);
			assert_null(queue_wait(w.queue, left));
			/* what it says is done may be used: nobody else touches its result before PLACES more have begun */
			if (i >= left)
				assert_true(s.memory[(i - left + 1) % PLACES][0] == i - left + 1);
		}
		assert_null(queue_wait(w.queue, 0));
		for (u32 i = 0; i < STEPS; i++)
			assert_int_equal(w.order[i], s.slot[i % PLACES][0]);
		queue_close(w.queue);
	}
	World w = { .fails_at = STEPS };
	Steps s;
	make_steps(&s);
	assert_null(queue_open(speak, &w, &w.queue));
	for (u32 i = 0; i < STEPS; i++)
		queue_begin(w.queue, &s.step[i % PLACES], (u8 *)s.memory);
	assert_null(queue_wait(w.queue, 0));
	assert_int_equal(s.memory[STEPS % PLACES][0], STEPS);
	queue_close(w.queue);
}

/* After a failure nothing more is said, and everybody is told why. */
static void fails(void **state)
{
	(void)state;
	World w = { .fails_at = 40 };
	Steps s;
	make_steps(&s);
	assert_null(queue_open(speak, &w, &w.queue));
	for (u32 i = 0; i < 100; i++)
		queue_begin(w.queue, &s.step[i % PLACES], (u8 *)s.memory);
	for (u32 i = 0; i < 2; i++) {
		Status failed = queue_wait(w.queue, 0);
		assert_non_null(failed);
		assert_int_equal(failed->code, STATUS_IO);
		assert_non_null(strstr(failed->text, "message 40 is lost"));
	}
	assert_int_equal(w.spoken, 40);
	queue_close(w.queue);
}

/* A queue closes while a collective waits for a rank that does not come, and others are behind it; and with nothing to do. */
static void closes(void **state)
{
	(void)state;
	for (u32 n = 0; n < 20; n++) {
		World w = { .fails_at = STEPS, .patient = true };
		Steps s;
		make_steps(&s);
		assert_null(queue_open(speak, &w, &w.queue));
		for (u32 i = 0; i < n % 4; i++)
			queue_begin(w.queue, &s.step[i], (u8 *)s.memory);
		if (n % 2)
			nap();
		queue_close(w.queue);
		assert_int_equal(w.spoken, 0);
	}
	queue_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(in_turns), cmocka_unit_test(behind), cmocka_unit_test(fails), cmocka_unit_test(closes) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
