/* passes/lower/lower.h: a fused group becomes a kernel; what both sides of that share.
 *
 * Lowering pulls: from what the group stores, backwards through its nodes, an index is carried along.
 * Views only change the index, so that no view ever costs a copy. An index is affine in the domain's
 * coordinates; where a reshape cuts across a coordinate, the domain dimension is split in two and the
 * kernel is made again; where that cannot be, quotients and remainders of the coordinate are carried along (digits), which
 * another reshape, or the tensor's strides in memory, mostly put together again; what is left of them is computed by division at
 * run time. */
#ifndef PL_LOWER_H
#define PL_LOWER_H
#include "passes/fuse.h"

/* scale * (coordinate `dim` / by % mod); mod 0: no remainder is taken. What a reshape leaves of a coordinate that cannot be
 * split in two (a row's). */
typedef struct Digit {
	i64 by, mod, scale;
	u32 dim;
} Digit;

/* An index into one dimension of a tensor: offset + sum of coef[d] * coordinate d + sum of digits + scale * dynamic. */
enum { PLACE_DIGITS = 4 };
typedef struct Place {
	i64 offset;
	i64 coef[KERNEL_DIMS];
	u32 ndigit;
	Digit digit[PLACE_DIGITS]; /* ascending by dim, by and mod, no two alike; those that make up a coordinate are in coef */
	KVal dynamic;
	i64 scale;
} Place;

typedef struct Index {
	u32 rank;
	Place dim[MAX_RANK];
} Index;

/* A dimension that a group is stated in: a dimension of its shape or a label of a dot. It stands for one
 * domain dimension or, after splits, for several (the product of their extents is its own). */
typedef struct BaseDim {
	DimRole role;
	i64 extent;
	Axis axis;
	u32 nfactor;
	i64 factor[KERNEL_DIMS]; /* extents, outermost first */
	u32 at[KERNEL_DIMS];     /* the domain dimension of each */
} BaseDim;

typedef struct Lower {
	Arena *arena, *tmp;
	const Grouping *f;
	const Graph *g;
	u32 group;
	u32 before; /* what groups from this place of the order on store is not in memory; NONE: all is */
	Kernel *k;
	BaseDim base[KERNEL_DIMS];
	u32 nbase;
	KVal guard;              /* loads happen under it, if it is one */
	Map memo;                /* hash of (value, index, guard) -> list of Memo */
	u32 depth;               /* of calls of lower_value within one another */
	Map slot;                /* value -> slot + 1 */
	VEC(Val) slot_value;     /* the value of each slot */
	/* a split that is wanted: of domain dimension `split_dim`, to an inner extent; 0 is none */
	u32 split_dim;
	i64 split_inner;
} Lower;

/* The index of base dimension `b` in the domain's coordinates. */
Place place_base(const Lower *l, u32 b);
Place place_number(i64 offset);
Place place_add(Lower *l, Place a, Place b);
Place place_scaled(Lower *l, Place p, i64 by);
/* The place as an integer instruction of `dtype`. */
KVal place_value(Lower *l, const Place *p, DType dtype);
/* The type that a place is worked out in: lanes of 32 bits are twice as many as of 64, and are compared and divided faster. */
DType place_dtype(const Lower *l, const Place *p);
/* What of the place is not affine, as integer instructions with their strides, behind `n` that there are: at most `most`, then what
 * is left is added up. How many there are then. */
u32 place_terms(Lower *l, const Place *p, u32 n, u32 most, KVal *term, i64 *stride);
bool place_equal(const Place *a, const Place *b);

/* The operand's index from the result's, through a reshape. May set l->split_dim. */
void index_reshape(Lower *l, const Type *result, const Index *at, const Type *operand, Index *out);

/* The value of `v` at `at`, as instructions of l->k. */
KVal lower_value(Lower *l, Val v, const Index *at);
/* Its slot, made on first use. */
u32 lower_slot(Lower *l, Val v, bool written);
Access lower_access(Lower *l, Val v, const Index *at, bool written);
void lower_store(Lower *l, Val v, const Index *at, KVal value);

/* The domain, operands and indices of a skeleton group: skeleton.c. */
void skeleton_domain(Lower *l, const Node *n);
void skeleton_body(Lower *l, const Node *n);
/* A sum beside the product: which of the skeleton's results it is; `out`: the index at which it is computed. */
u32 skeleton_sum(const Lower *l, const Node *dot, const Node *sum, Index *out);
/* Index at which value `v`, a result of the group's skeleton node, is computed. */
void skeleton_home(const Lower *l, const Node *n, u32 result, Index *out);

/* The kernel of a group, and for each of its slots the value it holds (in `arena`). `copy` (if not {0}):
 * instead, a kernel that computes that value (a view, a constant, a buffer) alone and stores it, just before the group
 * runs (NONE: at the end). */
Kernel *lower_group(Arena *arena, const Grouping *f, u32 group, Val copy, const Val **slot_value);

/* After lowering, kernels.c: drops dimensions of one element from strides, merges neighbouring
 * dimensions of a role that are stepped through as one, finds which slots may share memory, and counts
 * FLOPs and bytes. */
void kernel_finish(Kernel *k);

#endif
