/* The pool: every task runs once, for any number of threads and tasks; threads that are done help those that are not;
 * runs see what the last one wrote; barriers hold; sleeping threads wake up. */
#include "runtime/cpu/threads.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static Threads *pool(u32 count)
{
	Threads *p;
	ThreadsOptions o = { .count = count };
	assert_null(threads_create(&o, &p));
	assert_int_equal(threads_count(p), count);
	return p;
}

enum { MOST = 1000 };
typedef struct Marks {
	atomic_int runs[MOST];
	u32 thread[MOST];
	pthread_t id[8];
	atomic_int wrong;
} Marks;

static void mark(void *argument, TaskRange r)
{
	Marks *m = argument;
	m->id[r.thread] = pthread_self();
	if (r.begin >= r.end)
		atomic_fetch_add(&m->wrong, 1);
	for (i64 i = r.begin; i < r.end; i++) {
		atomic_fetch_add(&m->runs[i], 1);
		m->thread[i] = r.thread;
	}
}

static void test_ranges(void **state)
{
	(void)state;
	for (u32 n = 1; n <= 5; n++) {
		Threads *p = pool(n);
		const i64 tasks[] = { 0, 1, 2, 3, 4, 5, 6, 7, 63, MOST };
		for (u32 t = 0; t < COUNT(tasks); t++) {
			Marks m = { 0 };
			threads_run(p, mark, &m, tasks[t]);
			bool worked[8] = { 0 };
			assert_int_equal(m.wrong, 0);
			for (i64 i = 0; i < MOST; i++) {
				assert_int_equal(m.runs[i], i < tasks[t]);
				assert_true(m.thread[i] < n);
				worked[m.thread[i]] |= i < tasks[t];
			}
			for (u32 i = 0; i < n; i++)
				if (worked[i])
					assert_int_equal(pthread_equal(m.id[i], pthread_self()) != 0, i == 0);
		}
		threads_destroy(p);
	}
}

/* Whoever has task 0 waits until all tasks but its range's are done: others must take what is left of its part. */
typedef struct Stuck {
	i64 tasks;
	atomic_int done;
	bool alone; /* nobody helped within ten seconds */
} Stuck;

static void hold(void *argument, TaskRange r)
{
	Stuck *s = argument;
	i64 mine = r.end - r.begin;
	for (u32 ms = 0; r.begin == 0 && !s->alone && atomic_load(&s->done) < s->tasks - mine; ms++) {
		usleep(1000);
		s->alone = ms > 10000;
	}
	atomic_fetch_add(&s->done, (int)mine);
}

static void test_help(void **state)
{
	(void)state;
	for (u32 n = 2; n <= 4; n++) {
		Threads *p = pool(n);
		Stuck s = { .tasks = 64 };
		threads_run(p, hold, &s, s.tasks);
		assert_int_equal(s.done, s.tasks);
		assert_false(s.alone);
		threads_destroy(p);
	}
}

/* Each run adds what the last run left in the neighbour's cell: wrong if a write is not seen. */
typedef struct Ring {
	u64 cell[2][7];
	u32 from;
} Ring;

static void turn(void *argument, TaskRange r)
{
	Ring *g = argument;
	for (i64 i = r.begin; i < r.end; i++)
		g->cell[!g->from][i] = g->cell[g->from][i] + g->cell[g->from][(i + 3) % 7];
}

static void test_runs_follow(void **state)
{
	(void)state;
	Ring want = { .cell[0] = { 1, 2, 3, 4, 5, 6, 7 } }, got = want;
	for (u32 i = 0; i < 2000; i++, want.from ^= 1)
		turn(&want, (TaskRange){ .nthread = 1, .end = 7 });
	Threads *p = pool(3);
	for (u32 i = 0; i < 2000; i++, got.from ^= 1) {
		threads_run(p, turn, &got, 7);
		if (i % 500 == 250)
			usleep(2000); /* they fall asleep */
	}
	threads_destroy(p);
	assert_memory_equal(want.cell, got.cell, sizeof want.cell);
}

typedef struct Meeting {
	Threads *pool;
	u32 n;
	u64 value[2][8];
	atomic_int wrong;
} Meeting;

static void meet(void *argument, TaskRange r)
{
	Meeting *m = argument;
	assert(r.end == r.begin + 1 && (u32)r.begin == r.thread);
	for (u32 round = 0; round < 300; round++) {
		m->value[round & 1][r.thread] = round;
		threads_barrier(m->pool);
		for (u32 i = 0; i < m->n; i++)
			if (m->value[round & 1][i] != round)
				atomic_fetch_add(&m->wrong, 1);
	}
}

static void test_barrier(void **state)
{
	(void)state;
	for (u32 n = 1; n <= 4; n++) {
		Meeting m = { .pool = pool(n), .n = n };
		for (u32 i = 0; i < 3; i++)
			threads_run_all(m.pool, meet, &m);
		threads_destroy(m.pool);
		assert_int_equal(m.wrong, 0);
	}
}

static void nothing(void *argument, TaskRange r)
{
	(void)argument;
	(void)r;
}

static void test_idle(void **state)
{
	(void)state;
	/* made and ended without a run; pinned, which the caller is no longer then; more than a pool can have */
	threads_destroy(pool(4));
	threads_destroy(NULL);
	Threads *p;
	u32 cores = threads_usable();
	ThreadsOptions o = { .pinned = true };
	assert_null(threads_create(&o, &p));
	threads_run(p, nothing, NULL, 64);
	assert_int_equal(threads_count(p), cores);
	assert_int_equal(threads_usable(), 1);
	threads_destroy(p);
	assert_int_equal(threads_usable(), cores);
	o.count = 100000;
	Status s = threads_create(&o, &p);
	assert_true(s && s->code == STATUS_INPUT);
	/* threads that wait long use no time: the sum of all threads' over a sleep */
	p = pool(2);
	threads_run(p, nothing, NULL, 2);
	usleep(20000);
	struct timespec a, b;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	usleep(50000);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
	i64 ns = (b.tv_sec - a.tv_sec) * 1000000000 + (b.tv_nsec - a.tv_nsec);
	assert_true(ns < 20000000);
	if (getenv("PLINTH_TEST_VERBOSE")) {
		enum { RUNS = 20000 };
		clock_gettime(CLOCK_MONOTONIC, &a);
		for (u32 i = 0; i < RUNS; i++)
			threads_run(p, nothing, NULL, 2);
		clock_gettime(CLOCK_MONOTONIC, &b);
		ns = (b.tv_sec - a.tv_sec) * 1000000000 + (b.tv_nsec - a.tv_nsec);
		printf("%.2f us a run, hot\n", (f64)ns / RUNS / 1000);
	}
	threads_destroy(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_help),
		cmocka_unit_test(test_runs_follow),
		cmocka_unit_test(test_barrier),
		cmocka_unit_test(test_idle),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
