/* passes/plan/predict.h: how long a planned program takes on a machine, before it runs: each launch by the roofline
 * (Williams, Waterman, Patterson 2009) under the machine's efficiency curves (ir/machine.h), launches one behind the other. */
#ifndef PL_PREDICT_H
#define PL_PREDICT_H
#include "ir/machine.h"
#include "ir/plan.h"

typedef enum Limiter { LIMIT_ARITHMETIC, LIMIT_MEMORY, LIMIT_LAUNCH, LIMITERS } Limiter;
extern const char *const limiter_name[LIMITERS];

/* Of one launch. */
typedef struct LaunchTime {
	f64 seconds;
	Limiter by; /* the largest part of it */
} LaunchTime;
LaunchTime predict_kernel(const Machine *m, const Kernel *k);

/* Of an entry that runs `times` times. */
typedef struct EntryTime {
	f64 seconds;
	f64 by[LIMITERS]; /* seconds of the launches that each limits */
} EntryTime;
EntryTime predict_entry(const Machine *m, const Plan *p, const EntryPlan *e);

/* Of one collective (an op with the trait T_COLLECTIVE) over `parts` devices that are numbered `stride` apart, the whole
 * being `bytes`: rings (Thakur, Rabenseifner and Gropp 2005; Patarasuk and Yuan 2009). all_gather, reduce_scatter and
 * all_to_all move (parts - 1) / parts of the whole over each device's link, all_reduce twice that, permute all of it once.
 * Devices are numbered domain by domain: a ring that leaves a domain crosses with as many network links as it has
 * members there, which is the bus bandwidth that NCCL's tests print. 0 for one part; the machine has the links it needs. */
f64 predict_collective(const Machine *m, Op op, f64 bytes, i64 parts, i64 stride);

#endif
