/* passes/plan/walk.h: how long a device takes over an entry's pieces, by discrete events: kernels one behind the other in
 * the plan's order, messages beside them on the links, each when what it sends is made; who reads what was sent waits for it.
 * A link may take some of a message's time from the device (Link.occupies): kernels then begin so much later, and that is waiting.
 * Devices that meet wait for whoever is late: kernels take so much longer as the machine says (Machine.uneven).
 *
 * Of the messages that are ready the earliest in the plan goes first, one at a time. Parameters are gathered at most one
 * layer ahead of the work, so that two layers' are there at once; alike messages of one layer that wait for nothing, or
 * that nothing waits for, go together, `bucket` bytes at a time. While a layer waits for its turn behind a message of what lies
 * outside of layers, such as the head's parameters, that is time of the latter: there is one of them, and the layer stands for many. */
#ifndef PL_PLAN_WALK_H
#define PL_PLAN_WALK_H
#include "passes/plan/predict.h"
#include "passes/plan/work.h"

/* Seconds of one rank (work.h): of the device from where the one before ends, of that waiting for messages, and of
 * messages on their way, behind work or not; `late`: of those of them that nothing waits for. */
typedef struct RankTime {
	f64 seconds, waiting, messages, late;
	f64 by[LIMITERS]; /* of kernels */
} RankTime;

typedef struct Walk {
	f64 seconds;
	f64 rest;         /* of these, behind the last kernel: late messages that are still on their way. Rank `last` has it */
	u32 last;
	RankTime *rank;   /* [2 * units] */
	f64 *begin, *end; /* [piece] */
} Walk;

Walk walk(Arena *arena, const Machine *m, const Work *w, u64 bucket);

#endif
