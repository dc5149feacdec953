/* runtime/evaluate.h: a model's loss on a dataset, front to back, each row once: what the training loop does for its
 * validation, and what `plinth eval` prints. */
#ifndef PL_EVALUATE_H
#define PL_EVALUATE_H
#include "runtime/data/dataset.h"
#include "runtime/executor.h"

typedef struct Evaluation {
	f64 loss;     /* mean over the targets; nats, where it is a loss */
	f64 targets;  /* how many there were: the entry's count */
	u64 batches;  /* that were run */
	bool whole;   /* nothing of the set was left out */
	bool stopped; /* a signal came before it was through: the loss is that of fewer batches than were asked for */
	f64 seconds;
} Evaluation;

/* Runs an entry with results loss_sum and loss_count, `eval` or another one (EVALUATE_NAMED and a name), over `data`, at
 * most `most` batches of it (0: all). Stops early when the process is asked to (signals.h): then `stopped` is true.
 * Parameters must be there; nothing that persists changes. */
PL_MUST_USE Status evaluate(Executor *x, const char *entry, const Dataset *data, u64 most, Evaluation *out);
#define EVALUATE_NAMED "eval." /* `eval accuracy { }` of a source is the entry eval.accuracy */

/* The loss of all of `shards` in bits, over what the tokens stand for. */
f64 bits_per_byte(const Evaluation *e, const Shards *shards);
f64 bits_per_character(const Evaluation *e, const Shards *shards);

#endif
