/* passes/plan/plan.h: from a program to its plan: groups, kernels, buffers, the order of steps, offsets. */
#ifndef PL_PASSES_PLAN_H
#define PL_PASSES_PLAN_H
#include "ir/machine.h"
#include "ir/plan.h"

/* `bound`: numbers for every dimension, composites expanded, in canonical form (pass `canonical`). NULL,
 * with errors in `diag`, where the target refuses a kernel. The plan lies in `arena` and refers to the
 * program. `target` NULL: no workspaces, nothing refused. */
Plan *plan_program(Arena *arena, Arena *tmp, const Program *bound, const TargetInfo *target, Diag *diag);

struct RematProblem;
typedef struct PlanLimits {
	u64 memory; /* bytes for the arena; 0: as many as it takes */
	u32 curve;  /* for so many budgets, what each would cost (PlanRemat.curve); 0: none */
	const Machine *machine; /* by which launches take time; NULL: a rough one */
	const Program *like; /* the same program bound to other sizes, by which fusion decides; NULL: its own */
	bool unplaced;          /* no offsets are looked for: plans that are only counted and timed, not run */
	/* shown what is asked of remat.h for an entry; NULL: nobody looks */
	void (*look)(void *cx, const char *entry, const struct RematProblem *p);
	void *look_cx;
} PlanLimits;
/* The same within a budget: values are let go and computed again (remat.h) in entries that need more. Where that is not
 * enough, the plan is the smallest that was found, and entries say so (PlanRemat.fits). */
Plan *plan_within(Arena *arena, Arena *tmp, const Program *bound, const TargetInfo *target, const PlanLimits *limits,
		  Diag *diag);

/* ---- sizes that are known only when it runs: dynamic.c ---- */

enum { PLAN_AXES = 4 };
/* The sizes that plans are made at to find out how they depend on sizes: size[i] is of axis i. */
typedef struct PlanAt {
	i64 size[PLAN_AXES];
} PlanAt;
u32 plan_points(Arena *arena, const PlanAxis *axis, u32 naxis, PlanAt **out);
/* One plan for all sizes in range, made of plan[0], from plans of one program at these points. NULL, told in `diag`, where
 * they differ in more than numbers. */
Plan *plan_for_sizes(Arena *tmp, const PlanAxis *axis, u32 naxis, const PlanAt *at, Plan *const *plan, u32 n, Diag *diag);

/* ---- stores past the caches: stream.c ---- */

/* Marks the outputs of the plan's steps that are larger than `beyond` bytes (0: the target's last-level cache) and not used again
 * before as many have been moved. Not for plans that are to be compared for other sizes (plan_for_sizes). */
void plan_stream(Plan *p, u64 beyond);

/* ---- the order of steps: order.c ---- */

/* What a step does to memory. Buffers are numbers below OrderProblem.nbuffer. */
typedef struct OrderStep {
	const u32 *before; /* steps that must come earlier; repeats are fine */
	u32 nbefore;
	const u32 *reads, *writes; /* buffers, each once */
	u32 nread, nwrite;
	u64 workspace;
} OrderStep;

typedef struct OrderProblem {
	const OrderStep *step;
	u32 nstep, nbuffer;
	const u64 *bytes;      /* of each buffer; 0 for those that are there anyway */
	const bool *at_start;  /* alive from the beginning: inputs */
	const bool *to_end;    /* alive to the end: results */
} OrderProblem;

/* A topological order with a low peak, given that 0, 1, 2, ... is one: never a higher peak than that.
 * Follows from the problem alone. */
const u32 *order_steps(Arena *arena, Arena *tmp, const OrderProblem *p);
/* The most bytes alive at once in this order. */
u64 order_peak(Arena *tmp, const OrderProblem *p, const u32 *order);

/* ---- offsets: memplan.c ---- */

typedef struct MemoryBlock {
	u64 bytes;
	u32 first, last; /* alive at these steps and between */
	u64 offset;      /* out: a multiple of MEMORY_ALIGN */
} MemoryBlock;

/* Lays blocks out so that no two that are alive together overlap; the bytes that it takes. */
u64 blocks_lay_out(Arena *tmp, MemoryBlock *b, u32 n);
/* The largest sum of sizes (each rounded up to MEMORY_ALIGN) alive at one step. */
u64 blocks_bound(Arena *tmp, const MemoryBlock *b, u32 n);

/* Offsets of the program's buffers. */
void plan_persistent(Plan *p);
/* Of an entry's, whose first and last steps are set: in-place first. Sets root, offset and the entry's sizes. */
void plan_entry_memory(Arena *tmp, Plan *p, EntryPlan *e);
/* The plan's size, from its entries'. */
void plan_sum(Plan *p);

#endif
