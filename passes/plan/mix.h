/* passes/plan/mix.h: the cheapest mixture of given points that uses no more of some resources than there is: a linear program of
 * few rows and some hundred columns. */
#ifndef PL_PASSES_MIX_H
#define PL_PASSES_MIX_H
#include "support/vec.h"

typedef struct MixPoint {
	f64 cost;
	const f64 *use; /* [resource] */
} MixPoint;

/* Least sum of share[i] * cost[i] + penalty * beyond, where shares are none below 0 and sum to 1, and the mixture uses at most
 * limit[k] + beyond of each resource k. price[k]: by how much less it would be for one more of k. `n` is at least 1. */
f64 mix_least(Arena *tmp, const MixPoint *point, u32 n, const f64 *limit, u32 nlimit, f64 penalty, f64 *share, f64 *price);

#endif
