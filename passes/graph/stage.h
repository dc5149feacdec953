/* passes/graph/stage.h: a program cut into the stages of a pipeline.
 *
 * Layers are what a source makes in a loop: nodes whose scope has the loop's number in it ("h.3"). They are cut into p v
 * consecutive *virtual stages* of nearly equal work, of which device s along the pipeline's mesh axis has its v *chunks*
 * (passes/plan/schedule.h). Every node is in one virtual stage, but for *free* ones, which are made wherever they are needed:
 * what follows from constants and inputs alone, parameters, and what these are seen as:
 *
 *   forward nodes    in that of their layer, or of the last operand where that is later: values go to later stages only
 *   backward nodes   in that of their layer, or of the first gradient that they take where that is earlier
 *
 * so that before the first layer comes what the first stage does, and behind the last what the last one does. A parameter
 * is in every stage that reads it (tied embeddings are in the first and the last); its gradient is a sum over these. */
#ifndef PL_PASSES_STAGE_H
#define PL_PASSES_STAGE_H
#include "ir/op.h"
#include "passes/pass.h"
#include "passes/plan/schedule.h"

typedef struct StageRules {
	const char *over; /* mesh axis */
	u32 stages, axis; /* its size, and where it stands in the mesh */
	u32 at;           /* the stage to make */
	PipeKind kind;
	u32 chunks, micros;
} StageRules;

enum { STAGES_MOST = 64 }; /* sets of stages are bits */

/* What a stage tells another: the whole crossing value, from one virtual stage to another. The index is the tag. */
typedef struct Crossing {
	Val value;
	u32 from, to; /* virtual stages */
	bool backward; /* made in the backward half of `from`, for that of `to` */
} Crossing;

typedef enum EntryKind { ENTRY_INIT, ENTRY_UPDATE, ENTRY_TRAIN, ENTRY_CHAIN } EntryKind;

typedef struct EntryStages {
	const Graph *g;
	EntryKind kind;
	bool *needed;   /* [node] by a result, or an input */
	u32 *uses;      /* [value] by needed nodes and results */
	bool *backward; /* [node] */
	u32 *at;        /* [node] virtual stage; NONE: free */
	bool *inside;   /* [node] of a gradient that several virtual stages add to: made for each of them alone */
	VEC(Crossing) crossing;
} EntryStages;

typedef struct StagePlan {
	PassCx *cx;
	const Program *p;
	StageRules rules;
	u32 nvirtual;
	EntryStages *entry; /* [entry] */
	u64 *holders;       /* [buffer] stages that have it, bits */
	u64 *adds;          /* [buffer] of a gradient: stages that add to it */
} StagePlan;

/* False with messages. */
bool stage_assign(PassCx *cx, const Program *p, const StageRules *rules, StagePlan *out);

/* Nodes that cost little to compute again. */
bool stage_cheap(const Node *n);
/* A gradient that is `add`ed up or reduced on the way to its buffer: what of `v` is linear in its operand 0 alone. */
bool stage_linear(const Node *n);
/* What follows from the old value of a gradient buffer, and constants, alone. */
bool stage_old_gradient(const StagePlan *x, const EntryStages *e, Val v);

/* Which values of the forward half chunk `virtual` keeps for its backward half: stash[value]. What the backward half needs
 * beside is computed again, place by place, from those (a minimum cut: the fewest bytes). */
void stage_stash(const StagePlan *x, const EntryStages *e, u32 virtual, bool *stash);

/* The sum of what these stages (bits) have; they have the same tag for it, and no other one. */
Val stage_sum(Builder *b, const StageRules *r, u64 members, i64 tag, Val mine);

/* The entry `update` of this stage, in which stages add up what they have in common. */
Graph *stage_update(const StagePlan *x, const EntryStages *e);

#endif
