/* runtime/sample.h: a sampler's loop, run: the entries `sample`, `sample_step` once for each element of what the loop goes
 * over, and `sample_end`, with values that go from one to the next (frontend/sample.c says how they are called). */
#ifndef PL_SAMPLE_H
#define PL_SAMPLE_H
#include "runtime/checkpoint/safetensors.h"
#include "runtime/executor.h"

typedef struct SampleValue {
	const char *name;
	const PackageTensor *type;
	void *data; /* row major */
} SampleValue;

typedef struct SampleConfig {
	Executor *executor;
	u64 seed;                 /* of the draws: the same seed gives the same results */
	const Safetensors *input; /* the block's own inputs, by name; may be NULL */
	void (*on_turn)(u64 turn, u64 of); /* may be NULL */
} SampleConfig;

/* What the block writes, named by the form: "png", "safetensors". In `a`. */
PL_MUST_USE Status sample_run(Arena *a, const SampleConfig *c, SampleValue **out, u32 *n);

#endif
