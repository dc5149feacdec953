/* passes/plan/work.h: what one device does in a planned entry, piece by piece, and to which layer each piece belongs: the
 * form in which a step is put together again for a cluster (cluster.h), from a plan of as few layers as tell the rest.
 *
 * Units are what a pipeline may cut between: unit 0 is what comes before the layers (an embedding), 1 to layers the layers
 * in order (a layer is what lies under a scope with a number, such as model.layers.3), and behind them the last one, what
 * comes after (a head, the loss). A piece is forward if the loss needs it. The rank of a piece counts units in the order
 * in which a step comes to them: forward 0 .. units - 1, backward the same in reverse. */
#ifndef PL_PLAN_WORK_H
#define PL_PLAN_WORK_H
#include "ir/plan.h"

/* What the backward half of a layer computes again instead of keeping it. */
typedef enum Recompute {
	RECOMPUTE_NONE,
	RECOMPUTE_NEEDED, /* whatever of its forward half it reads: the layer's input is kept */
	RECOMPUTE_WHOLE,  /* its forward half, all of it: what checkpointing a layer does in PyTorch and Megatron-LM */
	RECOMPUTES
} Recompute;
extern const char *const recompute_name[RECOMPUTES]; /* "none", "needed", "whole" */

typedef struct Piece {
	const Kernel *kernel;
	u32 rank;
	bool message;     /* a collective */
	bool outside;     /* of no layer by its scope: there is one, whichever unit it belongs to */
	bool early;       /* one that waits for nothing: parameters are gathered */
	u32 behind;       /* of what the backward half gathers again, and that was there all along: the kernel before it in the plan, with
	                     which it may begin; NONE: it begins when what it waits for is there */
	bool late;        /* one that nothing waits for, or such alone: gradients are summed */
	bool again;       /* computed again: a copy */
	bool repeats;     /* one that has a copy */
	bool constant;    /* of parameters alone: the same for every micro-batch */
	u64 lasting;      /* bytes of what it reads and writes of parameters, of what follows from them alone, and of gradients */
	bool apart;       /* backward, and of parameters and gradients as they were alone: it may stand before everything, and tells nothing of what stands there */
	const u32 *after; /* earlier pieces whose values it reads */
	u32 nafter;
} Piece;

/* Values that are only there for a while. */
typedef struct WorkValue {
	u64 bytes;
	u32 maker, last; /* who makes it, and who reads it last */
	u32 next;        /* who reads it first in the next unit's forward half; NONE: nobody */
	bool kept;       /* from the forward half for the backward half */
} WorkValue;

typedef struct Work {
	const Plan *plan;
	const EntryPlan *entry;
	const Mesh *mesh;
	u32 layers, units; /* units = layers + 2 */
	bool halves;       /* there is a loss, and what it does not need */
	u32 npiece, nvalue;
	Piece *piece;
	WorkValue *value;
	/* by unit. What one kernel of the next unit reads first, and adds up (a layer's input and what the layer makes of it),
	 * counts as their sum, which is what a stage would hand on, and what is kept of a layer that is computed again */
	u64 *kept;    /* bytes that its forward half leaves for the backward half: of each micro-batch; of an entry without halves, bytes
	               * that stay while other units are at work: summed gradients, until the norm of all is known */
	u64 *same;    /* the same, of what is so for every micro-batch (rounded parameters): once, however many are in flight */
	u64 *summed;  /* of `kept`, sums over devices of what persistent gradients are */
	u64 *handed;  /* bytes that it hands to the next unit, forward */
	u64 *working; /* by rank: the most bytes alive at once beside what is kept */
} Work;

static inline bool work_backward(const Work *w, u32 rank)
{
	return rank >= w->units;
}
static inline u32 work_unit(const Work *w, u32 rank)
{
	return rank < w->units ? rank : 2 * w->units - 1 - rank;
}
static inline u32 work_rank(const Work *w, u32 unit, bool backward)
{
	return backward ? 2 * w->units - 1 - unit : unit;
}

/* Of an entry with a loss (micro), of update or of forward; the plan's program may be one device's part. */
Work *work_of(Arena *arena, Arena *tmp, const Plan *p, const EntryPlan *e);
/* The same with layers that compute again; `w` itself for RECOMPUTE_NONE. */
const Work *work_again(Arena *arena, Arena *tmp, const Work *w, Recompute how);

/* The same where what lasts takes no time to read and write: products are left of what is done with it. */
const Work *work_without_lasting(Arena *arena, const Work *w);

/* Bytes of the program's persistent buffers that lie with a unit, by kind; a parameter that is read both before and behind
 * the layers (a tied head) lies with both, and is what `tied` has. `micro`, in which nothing is computed again, names the readers. */
typedef struct UnitBytes {
	u64 parameters, gradients, optimizer, other;
} UnitBytes;
UnitBytes *work_persistent(Arena *arena, const Work *micro, UnitBytes *tied);
/* The same of those alone whose `split` says that mesh axis m divides them. */
UnitBytes *work_divided(Arena *arena, const Work *micro, u32 m);
/* By unit, numbers in the weights that its products take: operands made of parameters alone. */
u64 *work_weights(Arena *arena, Arena *tmp, const Work *micro);
/* Rows that a layer's weight multiplies, for each of its longest dimension: the least of all; 0 where layers have no weights. */
f64 work_rows(Arena *tmp, const Work *micro);

#endif
