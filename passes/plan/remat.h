/* passes/plan/remat.h: which values of a step to keep for its second half, and which to let go and compute again, within a
 * budget of memory and for as little time as can be; and how far from the least that is.
 *
 * The steps of an entry come in a stated order, with a *turn*: what steps up to it make, later ones read. A value made
 * before the turn may be let go after its last use there. Right before the first later step that needs it, it is computed
 * again, once, and then it stays until its last use. That is done in one of two ways: the step that made it runs once more
 * (and all that it makes is there again), or, where the value follows place by place from others, a kernel of its own, its
 * *map*, makes it from those, which is cheaper and free where the step runs once more anyhow. What either reads must be
 * there: kept, or computed again itself. So the set of values kept determines everything: which steps run when, memory at
 * each of them, the time that is added. This file and remat_bound.c choose the set.
 *
 * Memory is counted as memplan.c does it: sizes rounded up, a step's workspace, outputs in the place of inputs that end. */
#ifndef PL_PASSES_REMAT_H
#define PL_PASSES_REMAT_H
#include "ir/plan.h"

/* An output that may be where an input is. */
typedef struct RematPair {
	u32 out, in;
} RematPair;

typedef struct RematStep {
	const u32 *reads, *writes; /* buffers, each once */
	u32 nread, nwrite;
	const RematPair *pair;     /* in the order in which they are tried */
	u32 npair;
	u64 workspace;
	f64 seconds;
	bool again;                /* it may run once more: the same values would come out */
} RematStep;

typedef struct RematMap {
	RematStep step; /* writes the value alone */
	u32 host;       /* the step that made it */
} RematMap;

typedef struct RematProblem {
	const RematStep *step; /* in the stated order */
	u32 nstep;
	const RematMap *map;
	u32 nmap, nbuffer;
	const u64 *bytes;      /* of each buffer; 0 for those that are there anyway */
	const bool *input;     /* alive from the beginning */
	const bool *result;    /* alive to the end */
} RematProblem;

/* What runs: a step, a step once more, or a map. */
typedef enum RematKind { REMAT_STEP, REMAT_AGAIN, REMAT_MAP } RematKind;
typedef struct RematRun {
	RematKind kind;
	u32 index; /* of the step, or of the map */
} RematRun;

/* What follows from a set of values let go. `drop` has a flag for each buffer. */
typedef struct RematOutcome {
	u64 peak;          /* the most alive at once */
	u32 peak_run;      /* the run at which that is */
	f64 seconds;       /* that are added */
	const RematRun *run;
	u32 nrun;
	const bool *drop;
	const u32 *remade; /* [buffer] the run that computes it again, or NONE: reads behind it mean the new one */
} RematOutcome;

typedef struct Remat Remat;
Remat *remat_new(Arena *arena, const RematProblem *p);
/* The step behind which the second half begins. */
u32 remat_turn(const Remat *r);
/* May this value be let go? */
bool remat_may_drop(const Remat *r, u32 buffer);
/* Valid until the next call; `drop` is copied. */
const RematOutcome *remat_outcome(Remat *r, const bool *drop);

typedef struct RematAnswer {
	const bool *drop;
	u64 peak;
	f64 seconds;
	f64 bound;  /* no set of values kept adds less time within the budget: a lower bound */
	bool fits;  /* else the answer is the one with the least peak that was found */
} RematAnswer;
/* Whatever was found for one budget serves the others: more memory never costs more time. Valid as long as `r`. */
RematAnswer remat_solve(Remat *r, u64 budget);
/* The same without a search: of what was found for other budgets. */
RematAnswer remat_known(const Remat *r, u64 budget);
/* What comes of a set of values let go, which the search knows from then on. */
RematAnswer remat_offer(Remat *r, const bool *drop);
/* The peaks with everything kept and as low as could be found; and one that no set is below. */
void remat_extremes(Remat *r, u64 *most, u64 *least, u64 *none_below);

/* ---- between remat.c and remat_bound.c ---- */

typedef struct RematBound RematBound;
RematBound *remat_bound_new(Arena *arena, const Remat *r);
/* Raises the bound at this budget by minimum cuts; `found` is told each set of values let go that comes up. */
void remat_bound_raise(RematBound *b, u64 budget, void (*found)(void *cx, const bool *drop), void *cx);
f64 remat_bound_at(const RematBound *b, u64 budget);
/* The seconds that a byte less costs there, by the bound. */
f64 remat_bound_price(const RematBound *b, u64 budget);
/* No set needs less than that: in less, more time would be added than everything once more takes. */
u64 remat_bound_least(const RematBound *b);

/* What both look at. */
typedef struct RematLife {
	u32 made;          /* step, or NONE: an input, or nothing to do with memory */
	u32 last1;         /* the last step up to the turn that makes or reads it */
	u32 first2, last2; /* steps behind the turn that read it, or NONE */
	u32 first, last;   /* of all */
	u32 map;           /* or NONE */
	bool may;          /* be let go */
} RematLife;
const RematLife *remat_lives(const Remat *r);
const RematProblem *remat_problem(const Remat *r);

#endif
