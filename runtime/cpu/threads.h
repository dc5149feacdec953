/* runtime/cpu/threads.h: the pool of threads that kernels run on. A kernel's tasks are numbered; thread
 * t of n begins with the t-th of n contiguous ranges, and then helps others with theirs: on a machine that is shared, a
 * core may be away for a while. Results depend neither on n nor on who computed what, as long as tasks do not depend on
 * each other.
 *
 * The caller is thread 0 and works too; the others spin for a while after a kernel, because the
 * next one is usually near, and then sleep. One caller at a time: a pool belongs to one executor.
 */
#ifndef PL_THREADS_H
#define PL_THREADS_H
#include "support/status.h"

typedef struct Threads Threads;

/* What one thread is told: tasks begin <= i < end. */
typedef struct TaskRange {
	u32 thread, nthread;
	i64 begin, end;
} TaskRange;

typedef void TaskFunction(void *argument, TaskRange range);

typedef struct ThreadsOptions {
	u32 count;   /* 0: one per core that this process may use (support/cores.h) */
	bool pinned; /* thread t stays on the t-th of those cores, the caller too, until the pool is destroyed */
	u32 spin_us; /* before sleeping; 0: 50, or none where threads are more than cores */
} ThreadsOptions;

/* A count of 1 makes no threads. */
PL_MUST_USE Status threads_create(const ThreadsOptions *options, Threads **out);
void threads_destroy(Threads *p);
u32 threads_count(const Threads *p);
/* How many a count of 0 makes. */
u32 threads_usable(void);

/* Calls `run` on threads with ranges of tasks, each task being in one, and returns when all are done: what
 * they wrote is then seen by the caller, and by every thread in the next run. Not from within a
 * run. */
void threads_run(Threads *p, TaskFunction *run, void *argument, i64 ntask);

/* Calls `run` on every thread, with tasks begin = thread, end = thread + 1: for skeletons that
 * divide their work themselves and meet at threads_barrier, which all threads must then reach. */
void threads_run_all(Threads *p, TaskFunction *run, void *argument);
/* Within threads_run_all: returns when all threads have come; what was written before is seen
 * after. */
void threads_barrier(Threads *p);

/* One turn of a loop that waits for another core. */
static inline void threads_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

#endif
