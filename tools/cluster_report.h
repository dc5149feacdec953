/* tools/cluster_report.h: what a step on a cluster will take (plan_cluster.h), for people, for programs, and as a timeline. */
#ifndef PL_CLUSTER_REPORT_H
#define PL_CLUSTER_REPORT_H
#include "tools/plan_cluster.h"

typedef struct ClusterReport {
	Arena *arena;
	const Lm *lm;
	const Machine *machine;
	const ClusterPlanned *planned;
	const ClusterStep *step;
	i64 batch, micro;      /* sequences */
	const char *mesh, *precision;
	bool usual_length;     /* of a text: as the train block says, since nobody said another */
	f64 tokens, price;     /* of a run; 0: not given */
} ClusterReport;

/* What follows from a step. */
typedef struct ClusterNumbers {
	f64 devices, tokens, flops, flops_full; /* of a step, all devices; the model's FLOPs */
	f64 per_device, mfu;                    /* FLOPs a second of a device; of the peak of its precision */
	f64 peak;
	f64 exposed, hidden;                    /* seconds of the busiest stage in which messages held it up, or did not */
	u64 room;                               /* bytes that the machine leaves */
	f64 steps, seconds, hours, dollars, kilowatt_hours; /* of the run; hours of all devices together */
} ClusterNumbers;
ClusterNumbers cluster_numbers(const ClusterReport *r);

/* The way around many devices is paid for once a bucket: the least of larger ones that brings nearly all there is to gain, and the
 * step's seconds with it, where that is 1% of the step; the message that is put together lies beside all else. 0: none. */
u64 cluster_larger_bucket(const ClusterReport *r, f64 *seconds);

void cluster_print(const ClusterReport *r);
void cluster_json(const ClusterReport *r);
/* A trace of one step in the format of `plinth bench --trace`: a track for each stage, and the kernels and messages of one
 * micro-batch on a device of the busiest stage. */
PL_MUST_USE Status cluster_trace(const ClusterReport *r, const char *path);
/* Fails with STATUS_CONTRACT where it does not fit into the machine's memory. */
PL_MUST_USE Status cluster_fits(const ClusterReport *r);

#endif
