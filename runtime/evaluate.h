/* runtime/evaluate.h: a model's loss on a set of tokens, front to back, every token but the first predicted
 * once: what the training loop does for its validation, and what `plinth eval` prints. */
#ifndef PL_EVALUATE_H
#define PL_EVALUATE_H
#include "runtime/data/shard.h"
#include "runtime/executor.h"

typedef struct Evaluation {
	f64 loss;     /* mean over the targets, in nats */
	f64 targets;  /* how many there were */
	u64 batches;  /* that were run */
	bool whole;   /* nothing of the set was left out */
	f64 seconds;
} Evaluation;

/* Runs the entry `eval` over `shards`, at most `most` batches of them (0: all). Stops early when the process
 * is asked to (signals.h): then `whole` is false. Parameters must be there; nothing that persists changes. */
PL_MUST_USE Status evaluate(Executor *x, const Shards *shards, u64 most, Evaluation *out);

/* The loss of all of `shards` in bits, over what the tokens stand for. */
f64 bits_per_byte(const Evaluation *e, const Shards *shards);
f64 bits_per_character(const Evaluation *e, const Shards *shards);

#endif
