/* runtime/executor.h: runs the entries of a package. One arena of exactly the size that the plan says is
 * allocated when the executor is made, and nothing after; threads divide the tasks of each kernel and never
 * change what is computed. One thread at a time may call an executor. */
#ifndef PL_EXECUTOR_H
#define PL_EXECUTOR_H
#include "codegen/package.h"
#include "runtime/memory.h"
#include "runtime/threads.h"

typedef struct Executor {
	const Package *package;
	Threads *threads;
	HostArena arena;
	u8 *scratch;         /* of thread 0; that of thread t is scratch + t * scratch_size */
	size_t scratch_size;
	void **slot;         /* room for the addresses of one launch */
	Arena memory;        /* of the fields above */
} Executor;

/* Called after each step of an entry, for profiles and for checks of numbers: seconds the step took.
 * Returning false stops the run. */
typedef bool StepHook(void *cx, const PackageEntry *entry, u32 step, f64 seconds);

/* `threads` 0: one per core. Fails where the arena does not fit into this machine, with numbers. */
PL_MUST_USE Status executor_create(const Package *package, u32 threads, Executor **out);
void executor_destroy(Executor *e);

/* Bytes that the executor holds: the arena and the threads' scratch. */
u64 executor_bytes(const Executor *e);

/* A persistent buffer; NULL where there is none of the name. It may be read and written between runs. */
void *executor_buffer(const Executor *e, const char *name, const PackageBuffer **what);

/* Where an entry's input goes and its result is found: row-major, as the tensor says. An input must be
 * written before every run, and a result be read before the next run of any entry: entries share memory.
 * NULL where there is none of the name. */
void *executor_input(const Executor *e, const PackageEntry *entry, const char *name, const PackageTensor **what);
const void *executor_result(const Executor *e, const PackageEntry *entry, const char *name,
			    const PackageTensor **what);

/* Runs all steps of an entry; `hook` may be NULL. */
void executor_run(Executor *e, const PackageEntry *entry, StepHook *hook, void *cx);

#endif
