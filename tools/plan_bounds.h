/* tools/plan_bounds.h: what a division of a step takes at least, in seconds and in bytes, without a plan of its own (plan_search.h).
 *
 * Divisions that differ in pipe, data, chunks, in how many micro-batches there are and in what the devices of other tokens divide have one plan in common: of
 * a first micro-batch on one device along data, where none of what they divide is divided. Messages that sum gradients and gather parameters only add
 * time to it, and what they add at least follows from their bytes: those behind the last micro-batch, and in the update, nothing hides beyond its backward half.
 * Dividing spares memory only of what lies there for good, and of what is rounded of it.
 *
 * Where weights are large and rows are few, a divided weight may stay where it is, and rows go to it: what is then sent, and kept of rows, is less, and a device reads
 * its part of weights alone. Messages of divided parameters and gradients count then as what rows come to, and what is done with weights as its products. */
#ifndef PL_PLAN_BOUNDS_H
#define PL_PLAN_BOUNDS_H
#include "tools/plan_cluster.h"

/* What devices that have other tokens divide: each with what comes before it. */
typedef enum Divided { DIVIDED_NOTHING, DIVIDED_STATES, DIVIDED_GRADIENTS, DIVIDED_PARAMETERS, DIVIDES } Divided;
extern const char *const divided_name[DIVIDES]; /* "nothing", "optimizer_state", ... */

/* A division, what bounds it, and what its plan came to. */
typedef struct Choice {
	u32 tensor, expert, context, pipe, data, chunks, micro, micros, divide;
	bool sequence;   /* tensor's devices divide it where no feature is divided, by a rule of the search */
	bool heads;      /* context's devices divide attention's heads, and not its positions, by one too */
	Recompute recompute;
	f64 bound;       /* seconds: not less */
	u64 least;       /* bytes: not less */
	bool planned;
	f64 seconds;
	u64 memory;
	f64 mfu;
	f64 run_seconds, dollars; /* of all tokens, if they are said */
} Choice;

/* Devices that have other tokens. */
static inline u32 choice_apart(const Choice *c)
{
	return c->data * c->context * c->expert;
}
ClusterShape choice_shape(const Choice *c, u32 layers);

/* What bounds all divisions that have a plan in common. */
typedef struct Bounds {
	const Machine *machine;
	const Program *program;
	const ClusterWork *work;
	ClusterWalks walks;
	const ClusterWork *products; /* of what lasts, products alone: where rows may go to weights; or NULL */
	ClusterWalks product_walks;
	u32 layers;       /* of the model */
	f64 gathered;     /* bytes of a parameter that layers' products take, on its way, for each that is stored */
	f64 rounded;      /* bytes that are read and written to make what is gathered of it, the same */
	f64 summed;       /* the same of a gradient's sum */
	f64 trained;      /* bytes of a parameter that the update gathers for each of its gradient */
	f64 rows;         /* that a weight multiplies, for each of its longest dimension (work_rows) */
	u64 own, layer;   /* bytes of the smallest layer: gradients that devices along `experts` have each their own of; parameters */
} Bounds;

/* Of a plan of one device along data; `experts`: the mesh axis of that name, or empty. */
Bounds bounds_of(Arena *arena, const Machine *m, const ClusterPlanned *p, ClusterWork *w, u32 layers, Str experts, const char *precision, bool masters);
/* Whether rows may go to weights that the choice divides: its step is then one of b->products. */
bool bounds_rows_go(const Bounds *b, const Choice *c);
/* Sets bound and least. */
void bounds_choice(const Bounds *b, const ClusterStep *t, Choice *c);

/* Before anything of a division is planned: seconds of its products at the machine's best rate, which are the same for all, whoever divides them. Of sequences on one
 * device, forward and backward: before the layers, in each of them, and behind. */
typedef struct Products {
	f64 before, layer, behind;
} Products;
Products products_of(const Machine *m, const Work *micro);
/* Seconds of a step: each stage's, behind the first micro-batch's way to it, and before the last one's way back. `one`: of one sequence. */
f64 products_seconds(const Products *one, const Choice *c, u32 layers);

#endif
