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

#endif
