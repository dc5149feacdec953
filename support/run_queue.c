/* support/run_queue.c: see run_queue.h. The files stay open: looking is one read for each thread, a microsecond. */
#include "support/run_queue.h"
#include "support/vec.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

/* Of a thread's file: nanoseconds on a core, nanoseconds waiting for one, how many times it got one. */
static bool waited(int file, u64 *out)
{
	char text[96];
	unsigned long long ran, stood;
	ssize_t n = pread(file, text, sizeof text - 1, 0);
	text[MAX(n, 0)] = 0;
	bool told = sscanf(text, "%llu %llu", &ran, &stood) == 2;
	*out = told ? stood : 0;
	return told;
}

void run_queue_open(Arena *a, RunQueue *out)
{
	*out = (RunQueue){ 0 };
	DIR *tasks = opendir("/proc/self/task");
	if (!tasks)
		return;
	VEC(WatchedThread) all = { 0 };
	for (const struct dirent *d; (d = readdir(tasks));) {
		if (*d->d_name == '.')
			continue;
		char path[64];
		if (snprintf(path, sizeof path, "/proc/self/task/%.20s/schedstat", d->d_name) >= (int)sizeof path)
			continue;
		WatchedThread t = { .file = open(path, O_RDONLY | O_CLOEXEC) };
		if (t.file < 0)
			continue;
		if (waited(t.file, &t.waited))
			VEC_PUSH(a, &all, t);
		else
			close(t.file);
	}
	closedir(tasks);
	*out = (RunQueue){ all.v, all.n };
}

f64 run_queue_waited(RunQueue *q)
{
	f64 most = 0;
	for (u32 i = 0; i < q->n; i++) {
		WatchedThread *t = &q->thread[i];
		u64 now;
		if (!waited(t->file, &now)) /* the thread has ended */
			continue;
		most = MAX(most, 1e-9 * (f64)(now - t->waited));
		t->waited = now;
	}
	return most;
}

void run_queue_close(RunQueue *q)
{
	for (u32 i = 0; i < q->n; i++)
		close(q->thread[i].file);
	*q = (RunQueue){ 0 };
}
