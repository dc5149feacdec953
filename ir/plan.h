/* ir/plan.h: what one run does: kernels, memory and the order of launches. The last IR; it becomes a
 * package (codegen/package.h).
 *
 * Memory is one arena per device, laid out at compile time: persistent buffers first, then what the
 * entries need for a while. Entries run one at a time, so their transients share the same bytes: the
 * arena's size is the persistent bytes plus the largest transient of any entry. */
#ifndef PL_PLAN_H
#define PL_PLAN_H
#include "ir/kernel.h"
#include "ir/target.h"

typedef enum MemoryKind {
	MEMORY_PERSISTENT, /* a buffer of the program */
	MEMORY_INPUT,      /* given by the entry's caller, copied into the arena before the launch */
	MEMORY_RESULT,     /* read by the caller after the entry */
	MEMORY_TRANSIENT,  /* an intermediate */
	MEMORY_WORKSPACE   /* of one launch */
} MemoryKind;

typedef struct PlanBuffer {
	MemoryKind kind;
	const char *name;
	u32 persistent;   /* index into Program.buffer, or NONE */
	const Type *type; /* NULL for a workspace */
	const Type *sized; /* with symbols for sizes that are known only when it runs (type: at most), or NULL */
	u64 bytes;
	u64 offset;       /* in the arena; set by memplan */
	u32 first, last;  /* steps between which it is alive, both included */
	u32 root;         /* the buffer whose memory this one takes over (in place), or NONE */
	Loc loc;
	const char *scope;
} PlanBuffer;

typedef struct Step {
	u32 kernel;       /* index into Plan.kernel */
	const u32 *slot;  /* PlanBuffer of each slot */
	u32 workspace;    /* PlanBuffer, or NONE */
	bool again;       /* makes values that were there before and let go */
	u32 until;        /* of a collective, which begins here and goes on beside the steps behind it: the one that finds it done, or
			   * the number of steps: the entry's end. Until then nobody touches what it writes or changes what it reads */
} Step;

/* A value that the second half of an entry needs from the first: kept for it, or let go and computed again. */
typedef struct PlanValue {
	u32 buffer; /* as it is made first */
	u32 remade; /* the step that computes it again, or NONE: kept */
} PlanValue;

/* What a budget of memory costs. Seconds are modelled: each kernel's FLOPs and bytes by the target's rates. */
typedef struct PlanPoint {
	u64 budget, peak; /* of the entry's transient bytes; peak: as counted, before gaps */
	f64 seconds;      /* added by computing again */
	f64 bound;        /* no choice within the budget adds less, in this order of steps */
} PlanPoint;

/* How an entry was fitted into a budget of memory (passes/plan/remat.h). */
typedef struct PlanRemat {
	bool fits;
	u64 budget;
	u64 most, least;  /* peaks, where the curve was asked for: everything kept; the lowest that was found */
	u64 none_below;   /* a peak that is proved to be no higher than the lowest there is */
	f64 step_seconds; /* of the entry where everything is kept */
	f64 seconds, bound;
	PlanPoint blocks; /* checkpointing by blocks, as by hand */
	VEC(PlanValue) value;
	VEC(PlanPoint) curve; /* if asked for: from `least` to `most` */
} PlanRemat;

typedef struct EntryPlan {
	const char *name;
	VEC(PlanBuffer) buffer;
	VEC(Step) step;
	/* name, buffer: what the caller gives and takes */
	VEC(u32) input, result;
	u64 transient_bytes; /* the most alive at once, as laid out */
	u64 lower_bound;     /* the largest sum of sizes alive at one step: no layout can be smaller */
	PlanRemat *remat;    /* or NULL: there was no budget to keep, or nothing to let go */
} EntryPlan;

/* A symbol whose number is known only when it runs: 1 to `most`. */
typedef struct PlanAxis {
	const char *symbol; /* interned */
	i64 most;
	bool steady; /* the same in runs that share what is kept between them, which may therefore follow from it */
} PlanAxis;

/* A plan for all sizes in range (passes/plan/dynamic.c). Kernels and buffers are those of large sizes, offsets hold for all of
 * them, and what launches need beside their slots is asked when they run. */
typedef struct PlanSizes {
	const PlanAxis *axis;
	u32 naxis;
	const Dim *const *number;   /* [kernel][of kernel_numbers]: what follows from sizes; NULL: the kernel's number */
	const Dim *const *elements; /* [kernel][slot] */
} PlanSizes;

typedef struct Plan {
	Arena *arena;
	Ir *ir;
	const Program *program;
	const TargetInfo *target;
	VEC(Kernel *) kernel;
	VEC(EntryPlan *) entry;
	u64 *persistent_offset; /* of each Program.buffer */
	u64 persistent_bytes, arena_bytes;
	bool unplaced;          /* buffers have no offsets: transient_bytes is lower_bound */
	u64 identity;           /* what the fingerprint is made of; 0: the hash of `program` */
	const PlanSizes *sizes; /* or NULL: numbers are the kernels' */
	u64 thread_scratch;     /* bytes that each thread brings, outside the arena of values */
} Plan;

enum { MEMORY_ALIGN = 64 };

/* Of a buffer of the program, each of its slots beginning on a line: none where another stage has it. */
u64 plan_buffer_bytes(const Program *p, const Buffer *b);

void plan_print(const Plan *p, FILE *to);
bool plan_verify(const Plan *p, Diag *d);

#endif
