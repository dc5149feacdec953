/* passes/plan/planner.h: an entry's plan in the making, which plan.c and fit.c work on. */
#ifndef PL_PASSES_PLANNER_H
#define PL_PASSES_PLANNER_H
#include "passes/plan/plan.h"
#include "passes/lower/lower.h"

typedef VEC(u32) Indices;

/* A step in the making. */
typedef struct Draft {
	Kernel *kernel;
	const Val *value;  /* of each slot */
	u32 to;            /* the buffer that a copy writes, or NONE: each value's own */
	u32 from;          /* the buffer that a copy of a copy reads, or NONE */
	Val onto;          /* the value in whose place it writes its only one, or {0} */
	Indices before, after;
	u32 visited;
	bool copy;         /* of a result that nothing computes */
	LaunchNeeds needs;
} Draft;

typedef struct Planner {
	Arena *tmp;
	Plan *plan;
	EntryPlan *entry;
	const Graph *g;
	Grouping *f;
	VEC(Draft) draft;
	u32 *memory;      /* [value] its PlanBuffer, or NONE */
	u32 *maker;       /* [value] the draft that stores it, or NONE */
	u32 *persistent;  /* [buffer of the program] its PlanBuffer, or NONE */
	Indices *readers; /* [buffer of the program] drafts that read its old value */
	u32 visit;
	Map names;        /* of kernels, with how many have it */
	Diag *diag;
} Planner;

/* What runs when: drafts in order, each perhaps more than once, with buffers of its own each time. */
typedef struct Launch {
	u32 draft;
	const u32 *slot; /* PlanBuffer of each slot */
	bool again;
} Launch;
typedef struct Schedule {
	VEC(Launch) launch;
} Schedule;

/* The buffer that a slot of the draft means; values' memory is known. */
u32 planner_slot(const Planner *x, const Draft *d, u32 slot);
/* A buffer of the entry like that one. */
u32 planner_buffer(Planner *x, PlanBuffer b);
/* What the target says to a kernel; false, told, where it refuses it. */
bool planner_needs(Planner *x, Draft *d);

/* A usual machine of the plan's kind, where none is named. What matters of it is how many FLOPs go into a byte's time, in memory
 * and on the way to others. */
const Machine *planner_machine(const Plan *p);

/* ---- work beside messages: overlap.c ---- */

/* Does the entry say anything to others? */
bool overlap_any(const Planner *x);
/* The schedule with collectives as early, and steps that wait for them as late, as hides their way behind others. `place`: where
 * each launch went. */
Schedule overlap_schedule(Planner *x, const Schedule *s, u32 *place);
/* Until when collectives of the entry's steps are under way (Step.until), and what they work on alive: as long as nobody needs
 * them (`beside`), or for their own step alone. */
void overlap_waits(Planner *x, bool beside);

/* Fits the schedule, which is the stated order, into `budget` bytes (0: no limit) of transient memory; gaps that layout
 * leaves are made up for. Puts the entry's steps into its plan, and lays out its memory. */
void plan_fit(Planner *x, Schedule *s, u64 budget, const PlanLimits *limits);
/* The entry's steps as scheduled, with the buffers' first and last ones. */
void plan_steps(Planner *x, const Schedule *s);

#endif
