/* passes/plan/cluster.h: a training step on a cluster, put together from what one device does (work.h, walk.h): stages of a
 * pipeline from the units that lie in them, the pipeline from its schedule's timeline, then the update. Devices that differ
 * along other axes than the pipeline do the same at the same time, so that prices are those of roles, not of devices.
 *
 * The plan may have fewer layers than the model: the first and the last layer are as planned, those between as the plan's
 * middle one, or as those that they are like (alike.h). */
#ifndef PL_PLAN_CLUSTER_H
#define PL_PLAN_CLUSTER_H
#include "passes/plan/schedule.h"
#include "passes/plan/walk.h"

typedef struct ClusterShape {
	u32 pipe, chunks;  /* stages, and virtual ones of each */
	PipeKind schedule;
	u32 micros;        /* micro-batches of a step */
	u32 layers;        /* of the model; 0: as many as were planned */
	Recompute recompute;
	u32 copies;        /* devices of a stage that have the same tokens; 0: 1 */
} ClusterShape;

/* What one stage hands to the next, all devices that have the same tokens hand on in parts, each its own, and gather again behind
 * the network, where that is faster (the scatter and gather of Narayanan et al. 2021b). */

/* What devices of one stage do in a step, and hold. */
typedef struct StageStep {
	u32 first, layers;                 /* of its first chunk; of all chunks */
	f64 forward, backward;             /* of one micro-batch through all chunks */
	f64 sums;                          /* behind its last micro-batch: sums of gradients that nothing hides are on their way */
	f64 update;
	f64 waiting, messages;             /* seconds of a step: waiting for messages, and of messages on their way */
	f64 by[LIMITERS];                  /* seconds of a step in kernels that each limits */
	UnitBytes bytes;
	u64 kept, working, total;          /* bytes: values of micro-batches in flight, of the one at work, all */
	u64 same;                          /* of those kept: what follows from parameters alone, once for all micro-batches */
	u32 held;                          /* micro-batches in flight at most */
} StageStep;

typedef struct ClusterStep {
	ClusterShape shape;
	f64 seconds, pipeline, update;     /* seconds = pipeline + update; a pipeline ends when the gradients of all stages are summed */
	f64 sending;                       /* from one stage to the next, of one micro-batch, the slowest */
	f64 bubble;                        /* share of `pipeline` in which the busiest stage has nothing to do */
	u64 memory;                        /* the most of any stage */
	u32 busiest;
	StageStep *stage;                  /* [pipe] */
	PipeSchedule schedule;
	PipeTimeline timeline;
} ClusterStep;

/* The works of one plan, for as many predictions as there are machines and shapes. */
typedef struct ClusterWork {
	const Work *first, *more, *last, *update; /* micro_first, micro, micro_last and update; NULL: there is none */
	UnitBytes *persistent;
	UnitBytes tied;                    /* what the first and the last stage both have: one has it once */
	i64 within;                        /* devices of a stage */
	u64 bucket;                        /* bytes of messages that go together (walk.h) */
	bool in_place;                     /* the update's sums of gradients over devices lie where the gradients do */
	u64 *weights;                      /* by unit, numbers in the weights that its products take */
	const u32 *stand;                  /* [layers of the model]: the planned layer, counted from 1, that each is like; NULL: the middle one is what all between are */
	u32 placeholder;                   /* bytes that stand for the gradient of each of them, of which layers have the same; 0: there are none */
} ClusterWork;

/* NULL where nothing is a step's first micro-batch. Without an entry `update`, steps are without it. `bucket` as of the pass, though the plan is
 * made without it; 0: BUCKET_BYTES. */
ClusterWork *cluster_work(Arena *arena, const Plan *p, Recompute how, u64 bucket);
/* Of the same plan, and as `w` but for what layers compute again. */
ClusterWork *cluster_again(Arena *arena, const ClusterWork *w, Recompute how);
/* The same where what lasts takes no time to read and write (work.h). */
ClusterWork *cluster_without_lasting(Arena *arena, const ClusterWork *w);

/* How long a machine's device takes over each of the works: the same for all shapes. Of those that are missing, nothing. */
typedef struct ClusterWalks {
	Walk first, more, last, update;
} ClusterWalks;
ClusterWalks cluster_walks(Arena *arena, const Machine *m, const ClusterWork *w);

ClusterStep cluster_shaped(Arena *arena, const Machine *m, const ClusterWork *w, const ClusterWalks *walks, const ClusterShape *shape);
/* The same with walks of its own. */
ClusterStep cluster_step(Arena *arena, const Machine *m, const ClusterWork *w, const ClusterShape *shape);
/* Kernels' FLOPs of a micro-batch on one device of each stage, for a model of so many layers; nothing that is computed again. */
f64 cluster_flops(const ClusterWork *w, u32 layers);
/* The planned unit, of one of its works, that stands for unit `at` of a model of `layers`. */
u32 cluster_unit(const ClusterWork *c, const Work *w, u32 layers, u32 at);
/* How many layers each of `stages` virtual stages has: as even as can be, and where that leaves some with one more, the middle
 * ones, for the first and the last have embedding and head besides. */
u32 cluster_layers(u32 layers, u32 stages, u32 stage);

#endif
