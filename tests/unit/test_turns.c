/* What turns of a measurement say (tools/turns.h), on made-up times; and what tells that somebody else had the cores
 * (support/run_queue.h), on a core that has more to do than it can. */
#include "support/arena.h"
#include "support/clock.h"
#include "support/run_queue.h"
#include "tools/turns.h"

#include <math.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- turns ---- */

static Settled settled(u32 n, Turn *turn)
{
	return turns_settle(turn, n);
}

static void close_to(f64 is, f64 wanted)
{
	assert_true(fabs(is - wanted) < 1e-9);
}

static void two_that_agree_are_enough(void **state)
{
	(void)state;
	Settled s = settled(3, (Turn[]){ { 1.02, 0 }, { 7, 0 }, { 1, 0 } });
	close_to(s.seconds, 1.02);
	close_to(s.off, 0.02);
	assert_false(turns_disturbed(s));
	/* whichever comes first, and with equal ones */
	s = settled(4, (Turn[]){ { 3, 0.2 }, { 2, 0.001 }, { 5, 0.6 }, { 2, 0 } });
	close_to(s.seconds, 2);
	assert_false(turns_disturbed(s));
}

static void one_alone_is_not(void **state)
{
	(void)state;
	/* two of three were a third too long, or one of them was too short: nobody knows */
	Settled s = settled(3, (Turn[]){ { 1.35, 0 }, { 1, 0 }, { 1.33, 0 } });
	close_to(s.seconds, 1);
	close_to(s.off, 0.33);
	assert_true(turns_disturbed(s));
	/* one more tells */
	s = settled(4, (Turn[]){ { 1.35, 0 }, { 1, 0 }, { 1.33, 0 }, { 1.01, 0 } });
	close_to(s.seconds, 1.01);
	assert_false(turns_disturbed(s));
	assert_true(turns_disturbed(settled(1, (Turn[]){ { 1, 0 } })));
	/* one of seven that had luck is left out: a third of them come to 1.31 */
	s = settled(7, (Turn[]){ { 1.3, 0 }, { 1, 0 }, { 1.4, 0 }, { 1.31, 0 }, { 1.35, 0 }, { 1.33, 0 }, { 1.34, 0 } });
	close_to(s.seconds, 1.31);
	assert_false(turns_disturbed(s));
}

static void who_was_there_all_the_time_is_told_by_waiting(void **state)
{
	(void)state;
	/* all agree, and had the cores for half of the time: it is twice what the work takes */
	Settled s = settled(3, (Turn[]){ { 2, 0.5 }, { 2, 0.5 }, { 2.01, 0.5 } });
	close_to(s.off, 1);
	assert_true(turns_disturbed(s));
	s = settled(3, (Turn[]){ { 2, 0.01 }, { 2, 0.01 }, { 2.01, 0.5 } });
	close_to(s.off, 0.01 / 0.99);
	assert_false(turns_disturbed(s));
}

static void what_was_disturbed_is_named(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	const Disturbed d[] = { { "effort", 0, 0.4 }, { "matmul", 25.4, 0.12 }, { "matmul", 812.7, 0.31 }, { "stream", 1.2e6, 1.5 } };
	assert_string_equal(turns_disturbed_text(&a, d, 4), "effort by 40%, matmul from 25.4 to 813 by up to 31%, stream at 1.2e+06 by 150%");
	assert_null(turns_disturbed_text(&a, d, 0));
	arena_free(&a);
}

/* ---- the run queue ---- */

/* Keeps the core that this process is on busy, until it is killed. */
static pid_t other(void)
{
	pid_t pid = fork();
	if (!pid)
		for (volatile u32 i = 0;; i++)
			;
	return pid;
}

static void work_for(f64 seconds)
{
	for (f64 end = clock_seconds() + seconds; clock_seconds() < end;)
		;
}

static void on_one_core(cpu_set_t *was)
{
	cpu_set_t one;
	CPU_ZERO(&one);
	assert_int_equal(sched_getaffinity(0, sizeof *was, was), 0);
	u32 core = 0;
	while (!CPU_ISSET(core, was))
		core++;
	CPU_SET(core, &one);
	assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
}

static void waiting_is_seen(void **state)
{
	(void)state;
	static const f64 LONG = 0.4;
	Arena a = ARENA("test");
	cpu_set_t was;
	RunQueue q;
	on_one_core(&was);
	run_queue_open(&a, &q);
	if (!q.n)
		skip(); /* a kernel that does not count */
	pid_t pid[] = { other(), other(), other() };
	run_queue_waited(&q);
	f64 begun = clock_seconds();
	work_for(LONG);
	/* three others on the core: at most a quarter is this one's, of so long as several slices */
	f64 waited = run_queue_waited(&q), took = clock_seconds() - begun;
	for (u32 i = 0; i < COUNT(pid); i++) {
		kill(pid[i], SIGKILL);
		waitpid(pid[i], NULL, 0);
	}
	assert_true(waited > 0.5 * LONG && waited < took);
	/* what was told is not told again */
	assert_true(run_queue_waited(&q) < waited / 2);
	run_queue_close(&q);
	sched_setaffinity(0, sizeof was, &was);
	arena_free(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_that_agree_are_enough),
		cmocka_unit_test(one_alone_is_not),
		cmocka_unit_test(who_was_there_all_the_time_is_told_by_waiting),
		cmocka_unit_test(what_was_disturbed_is_named),
		cmocka_unit_test(waiting_is_seen),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
