/* tools/plan_cluster.h: `plinth plan MODEL --machine NAME --mesh data=128,tensor=8,pipe=16`: what a training step takes on
 * a cluster that one does not have. The program that a device of one stage runs is made and planned; the step is put together
 * from it (passes/plan/cluster.h). The axis `pipe` is this page's: the others are divided over as by the shard block. */
#ifndef PL_PLAN_CLUSTER_TOOL_H
#define PL_PLAN_CLUSTER_TOOL_H
#include "passes/plan/cluster.h"
#include "tools/lm.h"

/* What frameworks do that Plinth's own steps do not: 16-bit parameters beside f32 masters (passes/graph/masters.c),
 * attention without a kernel of its own, all logits at once, and what stands for gradients that products add up themselves. */
typedef struct ClusterHabits {
	const char *masters; /* "bf16": parameters and gradients; "bf16,f32": each; "bf16,bf16+f32": a micro-batch's, and sums; "f32": as they are, but sums of layers narrow; NULL: f32 */
	const char *attention; /* "whole" (or NULL), or "scores": these are written and read */
	const char *loss;      /* "chunks" (or NULL) of tokens, or "whole": all logits at once */
	const char *placeholders; /* "bf16": tensors of this type, that stand for the gradients of a layer's weights; NULL: there are none */
} ClusterHabits;

typedef struct ClusterOptions {
	const char *path;
	const SourceOptions *source;
	const char *mesh;        /* "data=128,tensor=8,pipe=16" */
	const TextList *shard;   /* --shard */
	const char *sizes, *precision;
	i64 micro, batch;        /* sequences: of a device's micro-batch, of a step; 0: not given */
	const char *recompute, *schedule;
	const char *divided;     /* of a search: what may be divided at most, "gradients,sequence"; NULL: all of it */
	ClusterHabits habits;
	f64 tokens, price;
	const char *trace;       /* a file, or NULL */
	bool json, scaling;
	f64 flops;               /* of --scaling, if not those of `tokens`; or 0 */
} ClusterOptions;

/* A model with as few layers as tell the rest of them (passes/plan/alike.h), and how many it has; 0: it has those that are there. */
typedef struct ClusterModel {
	Lm lm;
	u32 layers, planned;
	u32 *stand; /* [layers]: the planned layer, counted from 1, that each is like; `lm` has it */
} ClusterModel;

/* Opens the model with so few layers where its config has a number of `layers`, as in layers -> pipe, that many are what it has, and few tell
 * them; else as it is, all of it. */
PL_MUST_USE Status cluster_open(const char *path, const SourceOptions *source, ClusterModel *out);

/* One division of a model: what the plan depends on. */
typedef struct ClusterCase {
	const char *mesh;   /* without the axis pipe: "data=128,tensor=8" */
	const TextList *shard;
	i64 data;           /* devices that the batch is divided over */
	i64 micro, length;  /* sequences of a device's micro-batch; tokens of one, 0: as the file says */
	bool accumulate;    /* more than one micro-batch a step */
	bool late_sums;     /* gradients are summed over devices in the update alone */
	bool no_update;   /* a step's micro-batches are planned, and its update is not */
	const char *sizes, *precision;
	Recompute recompute;
	ClusterHabits habits;
	DriverPrepared *prepared; /* of a search; or NULL */
} ClusterCase;

typedef struct ClusterPlanned {
	ClusterWork *work;
	Compiled compiled;
	f64 tokens;         /* of a micro-batch, all devices of a stage together */
	f64 flops;          /* the model's, of a micro-batch, on one device of each stage; all layers */
	f64 flops_full;
	const char *rules;
} ClusterPlanned;

PL_MUST_USE Status cluster_plan(Arena *a, ClusterModel *m, const Machine *machine, const ClusterCase *c, ClusterPlanned *out);

PL_MUST_USE Status cluster_recompute(const char *text, Recompute *out);

/* What was asked, planned: ready for cluster_step on any machine with the same devices. */
typedef struct ClusterRun {
	ClusterModel model;
	ClusterShape shape;
	i64 batch, micro;
	const char *precision;
	ClusterPlanned planned;
} ClusterRun;
/* What joins so many devices is known. */
PL_MUST_USE Status cluster_links(const Machine *m, i64 devices);
/* Also after a failure the caller closes out->model.lm, whose diagnostics may say why. */
PL_MUST_USE Status cluster_prepare(const ClusterOptions *o, const Machine *machine, ClusterRun *out);

/* The verb's part: prints, or says what is wrong; the exit status. */
int plan_cluster(const ClusterOptions *o, const Machine *machine);

#endif
