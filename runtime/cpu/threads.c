/* runtime/cpu/threads.c: see threads.h. A run is announced by one counter, `generation`, that the
 * threads watch, and finished when another, `arrived`, has counted them all; a hot dispatch is two
 * cache lines that travel. Tasks are claimed from a thread's own part at the front, by halves of what is left, and from others' at
 * the back (the guided self-scheduling of Polychronopoulos and Kuck 1987, with a part for each thread). Sleeping is on a futex of the same counters, so that nobody who looks at
 * them can miss a change; the waker makes the system call only when someone sleeps. */
#include "runtime/cpu/threads.h"
#include "support/cores.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MAX_THREADS 1024
#define LINE        64

typedef struct Worker {
	Threads *pool;
	pthread_t thread;
	u32 index;
	_Alignas(LINE) _Atomic u64 left; /* of its part: tasks from the lower half's number to below the upper half's */
} Worker;

/* A counter that can be waited for, on a cache line of its own. */
typedef struct Gate {
	_Alignas(LINE) atomic_uint value;
	atomic_uint sleepers;
} Gate;

struct Threads {
	u32 count;
	u32 spins;
	bool in_run; /* of the caller's: a run within a run is a mistake */
	bool pinned;
	cpu_set_t was; /* where the caller could be before */
	bool stopping;
	/* the run; written by the caller before `generation` changes */
	TaskFunction *run;
	void *argument;
	bool everyone;
	Gate generation;                    /* counts runs */
	Gate arrived;                       /* threads done with the run, counted over all runs */
	Gate meeting;                       /* counts barriers passed */
	_Alignas(LINE) atomic_uint waiting; /* threads at the barrier */
	Worker worker[];
};

/* ---- waiting ---- */

static void futex_wait(atomic_uint *at, u32 expected)
{
	/* returns at once if the value has changed; a spurious return is looked at again */
	syscall(SYS_futex, at, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

/* Waits until the gate's value is not `old`; gives the new one. */
static u32 gate_wait(Gate *g, u32 old, u32 spins)
{
	u32 now;
	for (u32 i = 0; i < spins; i++) {
		now = atomic_load_explicit(&g->value, memory_order_acquire);
		if (now != old)
			return now;
		threads_relax();
	}
	/* Between saying that one sleeps and sleeping, the value may change: the kernel compares it
	 * again. Sequential consistency orders this increment before that comparison, and the
	 * waker's change of the value before its look at `sleepers`. */
	atomic_fetch_add(&g->sleepers, 1);
	while ((now = atomic_load(&g->value)) == old)
		futex_wait(&g->value, old);
	atomic_fetch_sub(&g->sleepers, 1);
	return now;
}

static u32 gate_add(Gate *g, u32 by)
{
	u32 now = atomic_fetch_add(&g->value, by) + by;
	if (atomic_load(&g->sleepers))
		syscall(SYS_futex, &g->value, FUTEX_WAKE_PRIVATE, 1 << 30, NULL, NULL, 0);
	return now;
}

/* ---- the work of one thread ---- */

static u64 part(u64 begin, u64 end)
{
	return end << 32 | begin;
}

/* Half of what is left of a part, rounded up; false: nothing is. */
static bool claim(_Atomic u64 *left, bool front, TaskRange *r)
{
	for (u64 was = atomic_load(left);;) {
		u64 begin = was & UINT32_MAX, end = was >> 32, half = (end - begin + 1) / 2;
		if (begin >= end)
			return false;
		u64 now = front ? part(begin + half, end) : part(begin, end - half);
		if (!atomic_compare_exchange_weak(left, &was, now))
			continue;
		r->begin = (i64)(front ? begin : end - half);
		r->end = r->begin + (i64)half;
		return true;
	}
}

static void work(Threads *p, u32 thread)
{
	TaskRange r = { .thread = thread, .nthread = p->count, .begin = thread, .end = (i64)thread + 1 };
	if (p->everyone) {
		p->run(p->argument, r);
		return;
	}
	for (u32 i = 0; i < p->count; i++)
		while (claim(&p->worker[(thread + i) % p->count].left, i == 0, &r))
			p->run(p->argument, r);
}

/* The first `rest` threads get one more. */
static void divide(Threads *p, i64 ntask)
{
	assert(ntask <= UINT32_MAX);
	u64 each = (u64)ntask / p->count, rest = (u64)ntask % p->count, begin = 0;
	for (u32 t = 0; t < p->count; t++) {
		u64 end = begin + each + (t < rest);
		atomic_store_explicit(&p->worker[t].left, part(begin, end), memory_order_relaxed);
		begin = end;
	}
}

static void *worker(void *argument)
{
	Worker *w = argument;
	Threads *p = w->pool;
	for (u32 seen = 0;;) {
		seen = gate_wait(&p->generation, seen, p->spins);
		if (p->stopping)
			return NULL;
		work(p, w->index);
		gate_add(&p->arrived, 1);
	}
}

static void start(Threads *p)
{
	assert(!p->in_run && "threads_run within a run of the same pool");
	p->in_run = true;
	/* p->arrived counts over all runs; unsigned arithmetic wraps as it should */
	u32 target = atomic_load(&p->arrived.value) + p->count - 1;
	gate_add(&p->generation, 1);
	work(p, 0);
	for (u32 now = atomic_load(&p->arrived.value); now != target;)
		now = gate_wait(&p->arrived, now, p->spins);
	p->in_run = false;
}

void threads_run(Threads *p, TaskFunction *run, void *argument, i64 ntask)
{
	p->run = run;
	p->argument = argument;
	p->everyone = false;
	if (p->count > 1 && ntask > 1) {
		divide(p, ntask);
		start(p);
		return;
	}
	assert(!p->in_run && "threads_run within a run of the same pool");
	p->in_run = true;
	if (ntask > 0)
		run(argument, (TaskRange){ .nthread = p->count, .end = ntask });
	p->in_run = false;
}

void threads_run_all(Threads *p, TaskFunction *run, void *argument)
{
	p->run = run;
	p->argument = argument;
	p->everyone = true;
	start(p);
}

void threads_barrier(Threads *p)
{
	assert(p->everyone && "a barrier that not every thread reaches");
	u32 passed = atomic_load(&p->meeting.value);
	if (atomic_fetch_add(&p->waiting, 1) + 1 < p->count) {
		gate_wait(&p->meeting, passed, p->spins);
		return;
	}
	/* the last one; the count goes back before the others can come again */
	atomic_store(&p->waiting, 0);
	gate_add(&p->meeting, 1);
}

/* ---- making and ending ---- */

u32 threads_usable(void)
{
	return MIN(cores_usable(), (u32)MAX_THREADS);
}

static void pin(pthread_t thread, u32 core)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(core, &set);
	/* a container that forbids it is no reason to stop: the pool is only a little slower */
	pthread_setaffinity_np(thread, sizeof set, &set);
}

/* Turns of the spinning loop in a microsecond. */
static u32 turns_per_us(void)
{
	struct timespec a, b;
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (u32 i = 0; i < 2000; i++)
		threads_relax();
	clock_gettime(CLOCK_MONOTONIC, &b);
	i64 ns = (b.tv_sec - a.tv_sec) * 1000000000 + (b.tv_nsec - a.tv_nsec);
	return (u32)(2000 * 1000 / MAX(ns, 2000)) + 1;
}

Status threads_create(const ThreadsOptions *options, Threads **out)
{
	static const ThreadsOptions usual;
	const ThreadsOptions *o = options ? options : &usual;
	u32 core[MAX_THREADS], ncore = cores_list(core, MAX_THREADS), usable = threads_usable();
	u32 count = o->count ? o->count : usable;
	if (count > MAX_THREADS)
		return FAIL(STATUS_INPUT, "%u threads are more than the %u that a pool can have",
			    count, MAX_THREADS);
	size_t size = ALIGN_UP(sizeof(Threads) + count * sizeof(Worker), LINE);
	Threads *p = aligned_alloc(LINE, size);
	if (!p)
		return FAIL(STATUS_MEMORY, "no memory for a pool of %u threads", count);
	memset(p, 0, size);
	/* Where threads share cores, one that spins keeps another from the work it waits for. */
	if (count <= usable && count > 1)
		p->spins = (o->spin_us ? o->spin_us : 50) * turns_per_us();
	p->pinned = o->pinned && ncore > 1 && !pthread_getaffinity_np(pthread_self(), sizeof p->was, &p->was);
	if (p->pinned)
		pin(pthread_self(), core[0]);
	p->count = 1;
	for (u32 i = 1; i < count; i++) {
		p->worker[i] = (Worker){ .pool = p, .index = i };
		int e = pthread_create(&p->worker[i].thread, NULL, worker, &p->worker[i]);
		if (e) {
			threads_destroy(p);
			return FAIL(STATUS_MEMORY,
				    "cannot start thread %u of %u: %s; ask for fewer, or raise the "
				    "limit (ulimit -u)",
				    i + 1, count, strerror(e));
		}
		if (p->pinned)
			pin(p->worker[i].thread, core[i % ncore]);
		p->count = i + 1;
	}
	*out = p;
	return OK;
}

void threads_destroy(Threads *p)
{
	if (!p)
		return;
	assert(!p->in_run);
	p->stopping = true;
	gate_add(&p->generation, 1);
	for (u32 i = 1; i < p->count; i++)
		pthread_join(p->worker[i].thread, NULL);
	if (p->pinned)
		pthread_setaffinity_np(pthread_self(), sizeof p->was, &p->was);
	free(p);
}

u32 threads_count(const Threads *p)
{
	return p->count;
}
