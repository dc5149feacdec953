/* runtime/device.h: what runs packages: tables of functions. `null` does nothing (its memory reads as zeros),
 * and a new device starts as a copy of it; `cpu` and `cuda` compute. tests/unit/test_device.c holds for all.
 *
 * A device holds one package in one arena of exactly the planned size, which exists from open to close and
 * begins as zeros. Everything given to it happens in the order in which it was given; one thread at a time
 * may call. What goes wrong on a device that runs behind the host's back is told by a later call. */
#ifndef PL_DEVICE_H
#define PL_DEVICE_H
#include "codegen/package.h"

typedef enum MatmulChoice {
	MATMUL_MEASURE,   /* whichever is faster here, for steps that both can do */
	MATMUL_LIBRARY,   /* the library wherever it can */
	MATMUL_GENERATED  /* the library only where there is no generated code */
} MatmulChoice;

struct Comm; /* runtime/comm/comm.h */

typedef struct DeviceOptions {
	struct Comm *comm; /* of a package for a mesh: what its collectives go through */
	u32 index;   /* which one of its kind */
	u32 threads; /* of the CPU: 0: one per core */
	bool pinned; /* of the CPU: each thread stays on a core of its own (runtime/cpu/threads.h) */
	MatmulChoice matmul;
} DeviceOptions;

/* What a device is, before anything is opened on it. */
typedef struct DeviceInfo {
	char name[256];
	u64 memory, memory_free; /* bytes; 0: unknown */
	/* of GPUs */
	u32 major, minor; /* compute capability */
	u32 multiprocessors, shared_per_block, shared_per_multiprocessor;
	f64 datasheet, datasheet_f8; /* dense peak of products of bf16, of 8 bits, with f32 sums, FLOPs a second; 0: unknown, or none */
} DeviceInfo;

/* A choice made on the device that results' bits depend on: recorded with a checkpoint. */
typedef struct DeviceChoice {
	const char *what, *chosen;
} DeviceChoice;

/* The ways in which bytes are moved through a device's memory. */
typedef enum DeviceMove {
	MOVE_COPY,   /* read here, write there: a CPU reads lines before it writes them, and that is not counted */
	MOVE_STREAM, /* the same with stores that go past the caches */
	MOVE_UPDATE, /* read and write in place, as an optimizer does */
	DEVICE_MOVES
} DeviceMove;
extern const char *const device_move_name[DEVICE_MOVES]; /* "copy", "copy past caches", "update in place" */

typedef struct DeviceBytes {
	u64 arena;     /* as planned */
	u64 workspace; /* beside the arena: threads' scratch, libraries' workspace, staging */
} DeviceBytes;

/* Called after each step of an entry, for profiles and for checks of numbers: seconds the step took.
 * Returning false stops the run. */
typedef bool StepHook(void *cx, const PackageEntry *entry, u32 step, f64 seconds);

enum { DEVICE_FETCHES = 32, DEVICE_FETCH_BYTES = 64 };

typedef struct Device {
	const char *name; /* as Package.device */
	bool deferred;    /* `run` returns before the work is done */
	Status (*info)(u32 index, DeviceInfo *out);
	/* Everything that takes long is done here: code is loaded, memory is had (refused with numbers where it is
	 * not there), libraries are measured. */
	Status (*open)(const Package *p, const DeviceOptions *o, void **state);
	void (*close)(void *state);
	DeviceBytes (*bytes)(const void *state);
	/* The arena, where the host can address it; otherwise NULL. */
	u8 *(*memory)(const void *state);
	/* `from` may be changed as soon as `write` returns; `read` returns with the bytes. */
	Status (*write)(void *state, u64 offset, const void *from, u64 bytes);
	Status (*read)(void *state, u64 offset, void *to, u64 bytes);
	/* A small read that does not wait: `fetch` takes the bytes as they are now in the order of things into one of
	 * DEVICE_FETCHES slots; `fetched` waits for them. */
	Status (*fetch)(void *state, u64 offset, u32 bytes, u32 slot);
	Status (*fetched)(void *state, u32 slot, u32 bytes, void *to);
	Status (*run)(void *state, const PackageEntry *entry, StepHook *hook, void *cx);
	Status (*synchronize)(void *state);
	/* What a short matrix multiplication reaches in FLOPs a second: operands of `dtype`, sums in f32. 0: unknown, or it
	 * has no products of that type. */
	f64 (*peak)(void *state, PackageDtype dtype);
	/* What is kept up over a tenth of a second, where that is less. NULL: the same. */
	f64 (*sustained)(void *state, PackageDtype dtype);
	/* Bytes read and written a second, measured on memory of its own that is given back; 0: no such way, or unknown.
	 * NULL: all unknown. */
	Status (*bandwidth)(void *state, f64 rate[DEVICE_MOVES]);
	/* "2 threads", "NVIDIA H100 80GB HBM3, driver 12.8, cuBLASLt 13.1", in `a`. */
	const char *(*describe)(const void *state, Arena *a);
	/* How many choices were made, and in `a`, texts included, which: they outlive the state. */
	u32 (*choices)(const void *state, Arena *a, const DeviceChoice **out);
	/* Repeats choices; before the first run. STATUS_UNSUPPORTED where they cannot be had here. */
	Status (*choose)(void *state, const DeviceChoice *choice, u32 n);
} Device;

extern const Device device_null, device_cpu, device_cuda;

/* NULL where there is none of the name. */
const Device *device_find(const char *name);
/* "cpu", "cuda", "cuda:1": STATUS_INPUT for anything else. */
PL_MUST_USE Status device_parse(const char *text, const Device **out, u32 *index);
/* "measure", "library", "generated" */
PL_MUST_USE Status device_matmul_parse(const char *text, MatmulChoice *out);

#endif
