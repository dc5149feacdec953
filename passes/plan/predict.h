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
 * being `bytes`: rings (Thakur, Rabenseifner and Gropp 2005; Patarasuk and Yuan 2009) move (parts - 1) / parts of the whole over
 * each device's link for all_gather, reduce_scatter and all_to_all, all_reduce twice that, permute all of it once. all_reduce
 * takes a double binary tree (Sanders, Speck and Traeff 2009) where that is faster: all of it twice, and fewer steps.
 * Devices are numbered domain by domain: what leaves a domain crosses with as many network links as the group has
 * members there, which is the bus bandwidth that NCCL's tests print (less, as the machine's network.apart says, where a domain has
 * several such groups of several members each, whose rings meet on the same links); of a ring's steps one in a domain's members crosses.
 * 0 for one part; the machine has the links it needs. */
f64 predict_collective(const Machine *m, Op op, f64 bytes, i64 parts, i64 stride);
/* Of all its tensors, whole: of a gather, its results'. */
f64 message_bytes(const KCollective *c);
/* The same of a kernel of a plan for `mesh`, whose last axis is numbered first, and `share` of its bytes: 0 is the way alone. */
f64 predict_message(const Machine *m, const Mesh *mesh, const KCollective *c, f64 share);
/* What share of that time kernels stand still, whatever they are (Link.occupies). */
f64 message_occupies(const Machine *m, const Mesh *mesh, const KCollective *c);

#endif
