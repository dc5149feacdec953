/* runtime/executor.h: a package on a device: its buffers, inputs and results by name, and its entries run.
 * What device it is makes no difference to who calls. One thread at a time may call an executor. */
#ifndef PL_EXECUTOR_H
#define PL_EXECUTOR_H
#include "runtime/device.h"

typedef struct Executor {
	const Package *package;
	const Device *device;
	void *state; /* the device's */
	struct Comm *comm; /* the other ranks, of a package for a mesh; else NULL */
	u32 fetch;   /* the next of its slots */
} Executor;

/* On the device that the package is for. `options` NULL: all by default. Fails where the arena does not fit,
 * with numbers. Nothing is allocated after. */
PL_MUST_USE Status executor_create(const Package *package, const DeviceOptions *options, Executor **out);
void executor_destroy(Executor *e);

/* Bytes that the executor holds on its device: the arena, and what is beside it. */
u64 executor_bytes(const Executor *e);

/* NULL where there is none of the name. */
const PackageBuffer *executor_buffer(const Executor *e, const char *name);
const PackageTensor *executor_input(const PackageEntry *entry, const char *name);
const PackageTensor *executor_result(const PackageEntry *entry, const char *name);

/* All of a tensor, row-major. A buffer may be read and written between any runs. An input must be written before
 * every run, and a result be read before the next run of any entry: entries share memory. */
PL_MUST_USE Status executor_write(Executor *e, const PackageTensor *t, const void *from);
PL_MUST_USE Status executor_read(Executor *e, const PackageTensor *t, void *to);
/* `bytes` from byte `at` of the arena on. */
PL_MUST_USE Status executor_write_at(Executor *e, u64 at, const void *from, u64 bytes);
PL_MUST_USE Status executor_read_at(Executor *e, u64 at, void *to, u64 bytes);
/* Where the tensor is, if the host can address the device's memory; otherwise NULL. */
void *executor_memory(const Executor *e, const PackageTensor *t);

/* A scalar as it is once all that was run before is done, without waiting for it. */
typedef struct Fetch {
	u32 slot;
	u8 dtype;
	bool exists;
} Fetch;
/* `t` NULL: nothing, which reads as `otherwise`. At most DEVICE_FETCHES are under way. */
PL_MUST_USE Status executor_fetch(Executor *e, const PackageTensor *t, Fetch *out);
/* Waits, and gives it as a number. */
PL_MUST_USE Status executor_fetched(Executor *e, Fetch f, f64 otherwise, f64 *out);
/* The same at once. */
PL_MUST_USE Status executor_scalar(Executor *e, const PackageTensor *t, f64 otherwise, f64 *out);

/* Runs all steps of an entry; `hook` may be NULL. */
PL_MUST_USE Status executor_run(Executor *e, const PackageEntry *entry, StepHook *hook, void *cx);
/* Waits until all is done. */
PL_MUST_USE Status executor_synchronize(Executor *e);

#endif
