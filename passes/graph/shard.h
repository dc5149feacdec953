/* passes/graph/shard.h: which part of every value each device of a mesh holds.
 *
 * Rules say which mesh axis a logical axis is divided over (B -> data, Attention.H -> tensor), and which the
 * parameters, gradients and optimizer states are divided over beside that (ZeRO: Rajbhandari et al. 2020). From
 * these, the names of axes and the sharding rules of ops (ir/shard.h) follows a placement for every value of
 * every entry: along each mesh axis it is whole, split or partial.
 *
 * Each mesh axis is a labelling of the nodes: a node runs whole, or divided at one of its labels, or on partial
 * operands. A named axis decides where its label is possible; of several, and where no name speaks, the cost
 * decides: seconds of communication between what is made and what is wanted, and of work that is repeated. The
 * search starts from the names, forwards, and then changes one node at a time, in sweeps in both directions, while
 * that makes the whole cheaper: the result does not depend on the order of rules. It does so twice, and the second time what
 * is whole is not made a part of a sum again, so that a residual stream is summed once and not at each of its readers;
 * the cheaper of both counts. Where rules divide parameters beside names, it does so once more: then a product may be divided where its parameter
 * is, whatever names say of its rows, and what follows from it too, so that rows go to weights instead of weights to rows. That counts where messages of
 * parameters and gradients are too many to go beside the work, and are more than those of rows twice, which are waited for. What counts is the whole
 * model: where a program has few of its layers, as a plan of a cluster has, each counts as many times as the model has layers like it (`layers=1+78+1`), and it
 * is divided as the whole is. (The per-axis labelling follows GSPMD, Xu et al. 2021, and Mesh-TensorFlow, Shazeer et al. 2018.) */
#ifndef PL_PASSES_SHARD_H
#define PL_PASSES_SHARD_H
#include "ir/shard.h"
#include "passes/pass.h"

typedef struct AxisRule {
	const char *axis; /* "B", "Attention.H": a name of axis classes, qualified or not */
	u32 mesh;
	bool secondary;   /* only where no other rule divides the value over that mesh axis: sequence parallelism */
	Loc loc;
} AxisRule;

typedef struct ShardRules {
	Mesh mesh;
	VEC(AxisRule) axis;
	u32 parameters, gradients, states; /* mesh axes (bits) over which these are divided too */
	u32 heads;        /* mesh axes (bits) over which attention divides its heads, whatever divides its operands (Jacobs et al. 2023) */
	u32 tokens;       /* mesh axes (bits) that divide B or T: over these, sums are of gradients */
	VEC(u32) stands;  /* by layer of the program, for how many of the whole model's it stands; none: it is the whole */
	DType messages;   /* what parts of products' sums are rounded to on their way (autocast); f32: they are not */
} ShardRules;

/* What a node does along one mesh axis. */
typedef enum ChoiceKind { CHOICE_UNSET, CHOICE_WHOLE, CHOICE_GIVEN, CHOICE_LABEL, CHOICE_LINEAR } ChoiceKind;
typedef struct Choice {
	u8 kind;
	u8 which;  /* LABEL: the label; LINEAR: which of the rule's lists of operands */
	i64 outer; /* LABEL: where in the label the digit is */
} Choice;

typedef struct Places {
	Place at[MESH_AXES];
} Places;

typedef struct EntryPlacement {
	const Graph *g;
	ShardRule *rule;             /* [node] */
	Choice (*choice)[MESH_AXES]; /* [node] */
	Places *given;               /* [node] of input and read */
	Places *result;              /* [result] as they leave the entry */
	VEC(Place) (*wanted)[MESH_AXES]; /* [value] every placement that somebody wants, along each axis */
} EntryPlacement;

typedef struct Placement {
	const Program *p;
	const ShardRules *rules;
	Places *buffer;              /* [buffer] */
	EntryPlacement *entry;       /* [entry] */
	f64 seconds;                 /* the cost of what was chosen, as the search counts it */
} Placement;

/* Reads the arguments of the passes `shard` and `partition`: mesh=data:4,mesh=tensor:2,B=data,F=tensor,
 * optimizer_state=data,sequence=tensor,attention_heads=context,layers=1+78+1,messages=bf16. False with messages. */
bool shard_rules_read(PassCx *cx, ShardRules *out);
/* `in` bound and expanded. NULL with messages: an axis that does not divide. */
Placement *shard_program(PassCx *cx, const Program *in, const ShardRules *rules);

/* Where result `index` of a node is, and where the node wants its operand. */
Place choice_result(const EntryPlacement *e, u32 node, u32 index, u32 m);
Place choice_operand(const EntryPlacement *e, u32 node, u32 operand, u32 m);
Places value_places(const EntryPlacement *e, const Mesh *mesh, Val v);

/* A value that is one number everywhere: each user has it as it wants it, for nothing, if it is no part of a sum. */
static inline bool one_number(const Graph *g, const Node *n)
{
	return n->op == OP_full || (n->op == OP_broadcast && !val_type(g, n->in[0])->rank);
}

#endif
