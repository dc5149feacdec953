/* runtime/comm/queue.c: see queue.h. A ring of what was begun, and two counters: what was begun and what is done.
 *
 * Everything that is shared changes under one lock, so that whoever finds a collective done also finds what it wrote, and the
 * thread finds what was computed before it was begun. */
#include "runtime/comm/queue.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

enum { ROOM = 256 };

typedef struct Job {
	const PackageStep *step;
	u8 *memory;
} Job;

struct Queue {
	SpeakFunction *speak;
	void *cx;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t begins, ends;
	Job job[ROOM];
	u64 begun, done;
	bool stops, failed;
	Failure failure; /* statuses are a thread's own: this one is told to others */
};

static void *run(void *argument)
{
	Queue *q = argument;
	pthread_mutex_lock(&q->lock);
	for (;;) {
		while (q->done == q->begun && !q->stops)
			pthread_cond_wait(&q->begins, &q->lock);
		if (q->stops)
			break;
		Job job = q->job[q->done % ROOM];
		bool fails = q->failed;
		pthread_mutex_unlock(&q->lock);
		Status s = fails ? OK : q->speak(q->cx, job.step, job.memory);
		pthread_mutex_lock(&q->lock);
		if (s) {
			q->failed = true;
			q->failure = *s;
		}
		q->done++;
		pthread_cond_broadcast(&q->ends);
	}
	pthread_mutex_unlock(&q->lock);
	return NULL;
}

/* Signals are for the thread that computes. */
static int start(Queue *q)
{
	sigset_t all, was;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &was);
	int code = pthread_create(&q->thread, NULL, run, q);
	pthread_sigmask(SIG_SETMASK, &was, NULL);
	return code;
}

Status queue_open(SpeakFunction *speak, void *cx, Queue **out)
{
	Queue *q = calloc(1, sizeof *q);
	if (!q)
		return FAIL(STATUS_MEMORY, "no memory for messages");
	q->speak = speak;
	q->cx = cx;
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->begins, NULL);
	pthread_cond_init(&q->ends, NULL);
	if (start(q) != 0) {
		free(q);
		return FAIL(STATUS_MEMORY, "cannot start a thread for messages: too many processes or threads, see ulimit -u");
	}
	*out = q;
	return OK;
}

void queue_close(Queue *q)
{
	if (!q)
		return;
	pthread_mutex_lock(&q->lock);
	q->stops = true;
	pthread_cond_signal(&q->begins);
	pthread_mutex_unlock(&q->lock);
	pthread_join(q->thread, NULL);
	pthread_cond_destroy(&q->ends);
	pthread_cond_destroy(&q->begins);
	pthread_mutex_destroy(&q->lock);
	free(q);
}

bool queue_stops(Queue *q)
{
	pthread_mutex_lock(&q->lock);
	bool stops = q->stops;
	pthread_mutex_unlock(&q->lock);
	return stops;
}

void queue_begin(Queue *q, const PackageStep *step, u8 *memory)
{
	pthread_mutex_lock(&q->lock);
	while (q->begun - q->done == ROOM)
		pthread_cond_wait(&q->ends, &q->lock);
	q->job[q->begun++ % ROOM] = (Job){ step, memory };
	pthread_cond_signal(&q->begins);
	pthread_mutex_unlock(&q->lock);
}

Status queue_wait(Queue *q, u32 left)
{
	pthread_mutex_lock(&q->lock);
	while (q->begun - q->done > left)
		pthread_cond_wait(&q->ends, &q->lock);
	bool failed = q->failed;
	pthread_mutex_unlock(&q->lock);
	return failed ? &q->failure : OK;
}
