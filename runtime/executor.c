/* runtime/executor.c: see executor.h. */
#include "runtime/executor.h"

#include <string.h>
#include <time.h>

static f64 now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (f64)t.tv_sec + 1e-9 * (f64)t.tv_nsec;
}

Status executor_create(const Package *package, u32 threads, Executor **out)
{
	Arena memory = ARENA("executor");
	Executor *e = NEW(&memory, Executor);
	e->package = package;
	TRY(threads_create(&(ThreadsOptions){ .count = threads }, &e->threads));
	u32 most = 0;
	for (u32 i = 0; i < package->nentry; i++)
		for (u32 s = 0; s < package->entry[i].nstep; s++)
			most = MAX(most, package->entry[i].step[s].nslot);
	e->slot = NEWN(&memory, void *, most + 1);
	e->scratch_size = ALIGN_UP(package->thread_scratch, 4096);
	size_t arena = ALIGN_UP(package->arena_bytes, 4096);
	Status s = host_arena_create(arena + e->scratch_size * threads_count(e->threads), e->threads, &e->arena);
	if (s) {
		threads_destroy(e->threads);
		arena_free(&memory);
		return s;
	}
	e->scratch = e->arena.base + arena;
	e->memory = memory;
	*out = e;
	return OK;
}

void executor_destroy(Executor *e)
{
	threads_destroy(e->threads);
	host_arena_destroy(&e->arena);
	Arena memory = e->memory;
	arena_free(&memory);
}

u64 executor_bytes(const Executor *e)
{
	return e->arena.size;
}

void *executor_buffer(const Executor *e, const char *name, const PackageBuffer **what)
{
	for (u32 i = 0; i < e->package->nbuffer; i++) {
		const PackageBuffer *b = &e->package->buffer[i];
		if (strcmp(b->tensor.name, name))
			continue;
		if (what)
			*what = b;
		return e->arena.base + b->tensor.offset;
	}
	return NULL;
}

static void *tensor(const Executor *e, const PackageTensor *t, u32 n, const char *name, const PackageTensor **what)
{
	for (u32 i = 0; i < n; i++) {
		if (strcmp(t[i].name, name))
			continue;
		if (what)
			*what = &t[i];
		return e->arena.base + t[i].offset;
	}
	return NULL;
}

void *executor_input(const Executor *e, const PackageEntry *entry, const char *name, const PackageTensor **what)
{
	return tensor(e, entry->input, entry->ninput, name, what);
}

const void *executor_result(const Executor *e, const PackageEntry *entry, const char *name,
			    const PackageTensor **what)
{
	return tensor(e, entry->result, entry->nresult, name, what);
}

typedef struct Launch {
	const Executor *e;
	const PackageStep *step;
	i64 phase;
} Launch;

static void run_tasks(void *argument, TaskRange range)
{
	const Launch *l = argument;
	l->step->function(l->e->slot, l->step->number, l->e->arena.base + l->step->workspace,
			  l->e->scratch + range.thread * l->e->scratch_size, l->phase, range.begin, range.end);
}

void executor_run(Executor *e, const PackageEntry *entry, StepHook *hook, void *cx)
{
	for (u32 i = 0; i < entry->nstep; i++) {
		const PackageStep *s = &entry->step[i];
		f64 begun = hook ? now() : 0;
		for (u32 k = 0; k < s->nslot; k++)
			e->slot[k] = e->arena.base + s->slot[k];
		for (u32 phase = 0; phase < s->nphase; phase++) {
			Launch l = { e, s, phase };
			if (s->tasks[phase] > 0)
				threads_run(e->threads, run_tasks, &l, s->tasks[phase]);
		}
		if (hook && !hook(cx, entry, i, now() - begun))
			return;
	}
}
