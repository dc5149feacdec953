/* runtime/sampling.h: the next token out of a model's logits. Which one depends on the logits, the settings
 * and the count of draws before it, and on nothing else.
 *
 * The order is that of the field: temperature, then the k most probable, then the smallest set of the most
 * probable whose probabilities add up to at least p (nucleus sampling, Holtzman et al. 2020). */
#ifndef PL_SAMPLING_H
#define PL_SAMPLING_H
#include "support/status.h"

typedef struct Sampling {
	f64 temperature; /* 0 is greedy */
	u32 top_k;       /* 0: all */
	f64 top_p;       /* 1: all */
	u64 seed;
} Sampling;

/* temperature 0 and above, top_p above 0 and at most 1. */
PL_MUST_USE Status sampling_check(const Sampling *s);

/* Room for sampling_pick, for a vocabulary of n. */
typedef struct SamplingRoom {
	u32 n;
	u32 *order;
	f64 *weight;
} SamplingRoom;
SamplingRoom sampling_room(Arena *a, u32 n);

/* An index below n. Ties in probability go to the lower index. NaN logits are never picked, unless there
 * is nothing else: then n is given. */
u32 sampling_pick(const Sampling *s, const f32 *logit, u32 n, u64 draw, SamplingRoom *room);

#endif
