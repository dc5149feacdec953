/* tools/plan_search.h: `plinth plan MODEL --machine NAME --mesh auto --devices 1024 --batch 2048`: which division of a model over
 * that many devices takes the least time, among those that fit.
 *
 * Searched together: sizes of the axes data, tensor and pipe, of the one that a rule divides texts over (`--shard T=context`)
 * and of that of experts (devices along it have other sequences, and divide something else besides), the micro-batch (all that divide the batch), chunks of stages (interleaved 1F1B), what is
 * computed again, what the batch's devices divide among them (nothing, optimizer states, gradients too, parameters too), and whether those along
 * tensor, which have the same tokens, divide these where no feature is divided (`--shard sequence=tensor`), and whether attention over divided texts is a ring
 * or divides its heads (`--shard attention_heads=context`).
 * Each (tensor, expert, context, sequence, attention, micro-batch) that may have a division to tell is planned once on a batch of one device, which bounds every division
 * that has them (plan_bounds.h). Whether it may is said by what the model's products take at best, and by the pipelines that it leaves. Whichever may be the fastest is
 * planned next, be it such a base or a division as it is, until the least bound that is left is 2% above the time of the last of those that are told.
 *
 * What is said is not searched: `--mesh auto,tensor=8`, `--micro 2`, `--schedule 1f1b`; `--recompute none,whole` and
 * `--divided gradients,sequence` (at most) say what there is to choose from, such as what a framework has. */
#ifndef PL_PLAN_SEARCH_H
#define PL_PLAN_SEARCH_H
#include "tools/plan_cluster.h"

enum { SEARCH_TOLD = 5 };

/* `all`: every one that may fit is planned, and told. The exit status. */
int plan_search(const ClusterOptions *o, const Machine *machine, i64 devices, bool all);

#endif
