/* ir/shard.h: how an op may be divided over devices. An op's sharding rule is a list of *labels*, as the
 * letters of an einsum are: a label is a range of positions that some dimensions of operands and results
 * share (a dimension, or a factor of one, so that reshape has labels too). To divide a node over a mesh axis of
 * n devices is to choose a label and divide it in n: tensors with the label are split, operands without it are
 * whole, and results without it are partial: each device holds a part, and their sum (or largest, smallest) is
 * the value. Beside labels, a node that is linear in some of its operands may take these partial, and gives
 * results that are so.
 *
 * A dimension is split by a *digit*: extent = outer * n * inner, and device i of n holds, of every outer
 * position, block i of inner elements. outer = 1 is the ordinary split into consecutive parts; splitting H of a
 * fused (three H K) is outer = three; inner = 1 are stripes, of which device i has every n-th position from i on. Digits of several mesh axes may lie in one dimension beside one another; in
 * which order is a fact of the digits, not of the mesh.
 *
 * A digit that does not divide is there where it is alone in its dimension and consecutive (outer = 1): the dimension is *padded*
 * to a multiple of n, and each device has ceil(extent / n) positions. What is in those behind the end is nobody's: it is zero
 * where something is cut (partition), pointwise ops compute of it what they do, a sum over the dimension leaves it out,
 * and what is put together is cut off behind the end. */
#ifndef PL_SHARD_H
#define PL_SHARD_H
#include "ir/op.h"

/* What a rule divides (`B -> data`, `--shard parameters=data`): an axis of the model, or one of these. */
typedef enum RuleOf {
	RULE_OF_OPTIMIZER_STATE,
	RULE_OF_GRADIENTS,  /* optimizer states too */
	RULE_OF_PARAMETERS, /* both of these too */
	RULE_OF_LAYERS,
	RULE_OF_SEQUENCE,
	RULE_OF_ATTENTION_HEADS,
	RULE_OF_AXIS,
} RuleOf;
extern const char *const rule_of_name[RULE_OF_AXIS]; /* "optimizer_state", ... */
RuleOf rule_of(Str name);

/* How the parts of a partial value are put together. */
typedef enum ShardReduce { SHARD_NONE, SHARD_SUM, SHARD_MAX, SHARD_MIN } ShardReduce;
extern const char *const shard_reduce_name[4]; /* "", "sum", "max", "min" */
ShardReduce shard_reduce_named(const char *name); /* or SHARD_NONE */

/* Where a label is in a tensor. */
typedef struct ShardPoint {
	i8 dim; /* -1: not there */
	i64 outer;
} ShardPoint;

/* What the local node needs beside local shapes. */
typedef enum ShardFix {
	SHARD_AS_IS,
	SHARD_COUNTS, /* the result depends on where in the whole it is: iota, random */
	SHARD_LOOKUP, /* the split axis is one that indices choose from: those of others are masked */
	SHARD_RING,   /* attention's positions: blocks of keys and values go round (passes/graph/ring.h) */
	SHARD_GROUPS, /* groups of rows, such as those of experts: rows of others' groups are in none */
} ShardFix;

typedef struct ShardLabel {
	i64 extent;
	ShardReduce reduce; /* of results without the label; NONE: these are the same on every device */
	ShardFix fix;
	bool pads;          /* a digit that does not divide will do: nothing of the result depends on padding */
	bool stripes;       /* to be divided in stripes: positions that all see those before them are equal work only so */
	bool heads;         /* of attention: heads, or groups that share keys */
	ShardPoint *at;     /* [nin + nout] */
} ShardLabel;

typedef struct ShardRule {
	Arena *arena;
	const Graph *g;
	const Node *n;
	VEC(ShardLabel) label;
	VEC(u64) linear;    /* operands that may be partial sums together, bit i: operand i; the others whole */
	bool any_reduce;    /* what is linear passes largest and smallest on as well: views */
} ShardRule;

/* The rule of a node whose sizes are numbers. An op without one (OpDef.shard is NULL) runs whole everywhere. */
void shard_rule(Arena *arena, const Graph *g, const Node *n, ShardRule *out);

/* ---- for the ops' own rules: ir/ops/ ---- */

/* Appends a label of so many positions that is nowhere yet; its index. */
u32 shard_label(ShardRule *r, i64 extent);
/* The label is dimension `dim` of the tensor (operands, then results), from `outer` on. */
void shard_at(ShardRule *r, u32 label, u32 tensor, u32 dim, i64 outer);
void shard_linear(ShardRule *r, u64 operands);
/* Each dimension is a label that all operands and results of that rank have. */
void shard_pointwise(ShardRule *r);
/* The same but for these dimensions (bits). */
void shard_pointwise_but(ShardRule *r, u32 dims);
/* A rule of both, for ops that are linear in operand 0. */
void shard_linear_pointwise(ShardRule *r);

/* ---- values ---- */

typedef enum PlaceKind { PLACE_WHOLE, PLACE_SPLIT, PLACE_PARTIAL } PlaceKind;

/* How a value lies over one mesh axis. */
typedef struct Place {
	u8 kind;
	u8 reduce;  /* PARTIAL: ShardReduce */
	u8 dim;     /* SPLIT */
	i64 outer;  /* SPLIT: positions of the whole dimension before the digit */
	i64 whole;  /* SPLIT, of a text: positions of the whole dimension, which is padded; 0: the digit divides it */
} Place;

static inline bool place_equal(Place a, Place b)
{
	if (a.kind != b.kind)
		return false;
	return a.kind == PLACE_WHOLE || (a.kind == PLACE_PARTIAL ? a.reduce == b.reduce : a.dim == b.dim && a.outer == b.outer);
}

/* Text of the places of a value: "data 0 1, tensor +": SPLIT has dimension and outer ("data 0 1 of 10": and the extent, where it is
 * padded), PARTIAL its reduction (+ for a sum); WHOLE is left out. NULL where all are whole. Interned. */
const char *places_text(Ir *ir, const Mesh *mesh, const Place *place);
/* Reads it back; `text` may be NULL. False where it is wrong. */
bool places_read(const Mesh *mesh, const char *text, Place place[MESH_AXES]);

/* Do these digits fit one dimension of that extent together? */
bool places_fit(const Mesh *mesh, const Place *place, u32 dim, i64 extent);
/* Or may the dimension be padded? One that has fewer positions than there are devices is not. */
bool places_fit_padded(const Mesh *mesh, const Place *place, u32 dim, i64 extent);
/* The extent of a dimension on one device, padding included. */
i64 place_extent(const Mesh *mesh, const Place *place, u32 dim, i64 extent);
/* Says in places that pad a dimension of the type how long it is: for their text. */
void places_note_padded(const Mesh *mesh, Place *place, const Type *whole);
const Type *place_type(Ir *ir, const Mesh *mesh, const Place *place, const Type *whole);
/* Positions of the local dimension before the digit of mesh axis m, which splits it. */
i64 place_local_outer(const Mesh *mesh, const Place *place, u32 m);

/* A device's coordinate along mesh axis m: the first axis is the slowest. */
u32 mesh_coordinate(const Mesh *mesh, u32 rank, u32 m);
u32 mesh_devices(const Mesh *mesh);
u32 mesh_find(const Mesh *mesh, const char *name); /* or NONE */
/* The ranks that differ from `rank` along m alone, by coordinate: group[mesh->axis[m].size]. */
void mesh_group(const Mesh *mesh, u32 rank, u32 m, u32 *group);
/* The buffer that holds a device's coordinate: "mesh.data". */
const char *mesh_buffer(Ir *ir, const char *axis);

#endif
