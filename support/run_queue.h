/* support/run_queue.h: how long threads of this process have been kept waiting for a core that ran something else, as the
 * kernel counts it (/proc/self/task/N/schedstat, of Linux with CONFIG_SCHED_INFO). A clock alone cannot tell work that takes long
 * from work that somebody else's took the place of; this can, even where the others are there all the time. What else is shared
 * (caches, memory, the host of a virtual machine) is not seen here. */
#ifndef PL_RUN_QUEUE_H
#define PL_RUN_QUEUE_H
#include "support/arena.h"

typedef struct WatchedThread {
	int file;
	u64 waited; /* nanoseconds, when last looked */
} WatchedThread;

typedef struct RunQueue {
	WatchedThread *thread;
	u32 n; /* 0: the kernel does not count */
} RunQueue;

/* Watches the threads that there are now, as many as files can be opened. */
void run_queue_open(Arena *a, RunQueue *out);
/* Seconds that whichever waited longest has waited since the last call, or since the watch was opened. */
f64 run_queue_waited(RunQueue *q);
void run_queue_close(RunQueue *q);

#endif
