/* tools/driver.h: the whole way from a program to something that runs, in one place: which passes, in which
 * order, then the plan, the code and the package. What differs between devices is a table (DriverBackend). */
#ifndef PL_DRIVER_H
#define PL_DRIVER_H
#include "codegen/link.h"
#include "ir/machine.h"
#include "passes/pass.h"
#include "passes/plan/schedule.h"
#include "support/cache.h"

/* One stage of a pipeline: arguments of the pass `stage`. */
typedef struct DriverPipe {
	const char *over; /* mesh axis */
	u32 axis, stages, at;
	PipeKind kind;
	u32 chunks, micros;
} DriverPipe;

struct RematProblem;

/* Programs before they are divided over devices, for plans of one program whose options differ in sizes, accumulate, no_update and shard
 * alone: those of the last few sizes are made once. Each is as the first, whatever was planned before it. What a plan was made with, and what
 * its graphs say of axes, may be gone when the next one is. */
enum { DRIVER_PREPARED = 8 };
typedef struct DriverPrepared {
	struct {
		Arena arena;
		const char *sizes;
		bool accumulate;
		const Program *model, *program;
		AxisState axes; /* when it had been made */
	} of[DRIVER_PREPARED];
	Arena arena;
	AxisState begun;        /* before any was */
	u32 next;
} DriverPrepared;

#define DRIVER_NEVER (~(u64)0)
/* What changes the code that is made for one CPU is in the key of tools/kept.c too. */
typedef struct DriverOptions {
	const char *const *entry; /* those to compile, by the names that elaboration gives them; NULL: all */
	u32 nentry;
	const char *sizes;        /* "B=4,T=64"; "B=4,T<=64": for all T from 1 to 64 at once, on CPUs, up to the plan or objects */
	const char *precision;    /* "f32", "bf16", "f16", "autocast", "fp8" (elaborate.h); NULL is f32 */
	const char *parameters, *gradients, *parts; /* types that these are stored as (passes/graph/masters.c); NULL: as in the source */
	const char *store;        /* what of the source's program was changed before (tools/export_shrink.h), in words; NULL: nothing */
	bool scores;              /* attention without a kernel of its own (passes/graph/scores.c) */
	bool unchunked;           /* logits and their derivative are whole values (without passes/graph/chunk.c) */
	const char *decode_along; /* the axis, "T": entries prefill and decode are derived from forward; NULL: they are not */
	i64 capacity;             /* positions that these keep */
	u64 memory;               /* bytes that the plan may take, values computed again where it must; 0: no limit */
	u32 curve;                /* PlanLimits.curve */
	bool sized;               /* one of the plans of a program for all sizes: `like` decides, NULL for the first */
	const Program *like;      /* PlanLimits.like */
	const Machine *machine;   /* by which computing again takes time; NULL: a rough one */
	bool unplaced;            /* PlanLimits.unplaced: for driver_plan alone */
	void (*look)(void *cx, const char *entry, const struct RematProblem *p); /* PlanLimits.look */
	void *look_cx;
	bool accumulate;          /* keep the entry that adds to gradients: more than one micro-step a step */
	bool no_update;           /* of a training step, micro-batches are planned alone, with all buffers */
	const char *shard;        /* arguments of the pass partition: one device's part is made; NULL: the whole */
	u64 bucket;               /* bytes of messages that are put together; 0: as many as the pass bucket has by itself */
	bool late_sums;           /* gradients are summed over devices in update (without passes/graph/sums.c) */
	DriverPrepared *prepared; /* NULL: nothing is kept; else programs are verified behind the last pass of each pipeline alone */
	const DriverPipe *pipe;   /* of that, a stage; NULL: there is no pipeline */
	const char *device;       /* "cpu", "cuda", "cuda:1", "null"; NULL: the default of this build */
	const char *cpu;          /* the processor to compile for; NULL: the host */
	u64 stream_beyond;        /* plan_stream; 0: the last-level cache, DRIVER_NEVER: no store passes the caches */
	const struct CpuTuning *tuning; /* of a tuning run: in place of what is on record (codegen/cpu/tuning.h); NULL: that */
	const char *arch;         /* the GPU architecture to compile for, "sm_90a"; NULL: the device's own */
	u32 threads;              /* that compile; 0: one per core */
	FILE *trace;              /* where passes between the model and its kernels say what they decided; NULL: nowhere */
	bool no_cache;            /* object code is neither looked up nor kept */
	Cache *cache;             /* one that is open; NULL: driver_cache opens it */
} DriverOptions;

/* How often a step of so many micro-batches runs the entry, of those of training. */
i64 driver_times(const Program *p, const char *entry, i64 accumulate);

/* Seconds of each part. */
typedef struct DriverTimes {
	f64 passes, plan, code, total;
	VEC(PassTime) pass;
	u32 compiled, cached; /* units of code */
	bool kept;            /* the program was in the cache as a whole (tools/kept.h) */
} DriverTimes;

typedef struct DriverBackend DriverBackend;

typedef struct Compiled {
	const Program *model;   /* differentiated, composites as they are: what FLOPs are counted on */
	const EntryFlops *flops; /* of its entries */
	const Program *program; /* as it was planned */
	const Plan *plan;
	const Package *package;
	const PackageVariant *variant; /* of a CPU: the package with its code; else NULL */
	const TargetInfo *target;
	const char *machine;    /* what code is made for: "sapphirerapids", "sm_90a" */
	DriverTimes times;
	/* private */
	const DriverBackend *backend;
	void *code;
} Compiled;

/* Up to the plan: nothing is compiled. What is wrong with the program is in ir->diag, and then out->plan is
 * NULL; a Status is the world's, or a budget's that does not hold (out->plan is the least then). All lies in `arena`. */
PL_MUST_USE Status driver_plan(Arena *arena, const Program *program, const DriverOptions *options, Compiled *out);
/* The same and code: out->package is ready for executor_create, until driver_close. */
PL_MUST_USE Status driver_compile(Arena *arena, const Program *program, const DriverOptions *options, Compiled *out);
void driver_close(Compiled *c);
/* Where code is looked up and kept; NULL: options want none, or there is no place for it. */
Cache *driver_cache(Arena *arena, const DriverOptions *o);
void driver_prepared_free(DriverPrepared *all);

/* "cpu", or "cuda" in a build that makes no code for CPUs. */
const char *driver_default_device(void);
/* --cpu is of processors, --arch and --matmul of GPUs: fails where one is given (not NULL) and none of the devices (a name, or several
 * with commas; NULL: the default) is what it speaks of. */
PL_MUST_USE Status driver_device_options(const char *device, const char *cpu, const char *arch, const char *matmul);

/* Whether sizes have bounds; such as a run would have them: "T<=64" as T=64. */
bool driver_bounds(const char *sizes);
const char *driver_largest(Arena *arena, const char *sizes);

/* ---- what a device needs done for it ---- */

struct DriverBackend {
	const char *name;
	/* Sets target and machine. */
	Status (*target)(Arena *arena, const DriverOptions *o, Compiled *out);
	/* Sets package, and code, which lives until `close`. `cache` may be NULL. */
	Status (*code)(Arena *arena, const DriverOptions *o, Cache *cache, Compiled *out);
	void (*close)(void *code);
};
extern const DriverBackend driver_cpu, driver_cuda, driver_null;

#endif
