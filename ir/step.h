/* ir/step.h: what the entries of a training step are called, in one place. The language gives `micro`, a micro-batch's loss, and
 * `update`; the pass `train` makes of micro
 *   micro_first   a step's first micro-batch: its gradients are written
 *   micro         the others: their gradients are added
 *   micro_last    the last, where another than the first may sum gradients over devices too (pass `sums`)
 * and a pipeline divides each into halves of a chunk, as micro_first.forward.0; a package has these for every place in which a
 * micro-batch's values may be kept, as micro_first.forward.0@1. */
#ifndef PL_STEP_H
#define PL_STEP_H
#include "support/str.h"

typedef enum StepPart {
	STEP_NONE, /* `forward`, `eval`, ... */
	STEP_INIT,
	STEP_FIRST,
	STEP_MORE,
	STEP_LAST,
	STEP_UPDATE,
} StepPart;

typedef struct StepName {
	StepPart part;
	const char *half; /* what follows: "" or ".backward.0"; into the entry's name */
} StepName;

StepName step_name(const char *entry);

/* Is it the whole of that part: micro_first, and not micro_first.forward.0? */
bool step_is(const char *entry, StepPart part);

/* Does it run for a micro-batch? */
static inline bool step_is_micro(StepPart part)
{
	return part == STEP_FIRST || part == STEP_MORE || part == STEP_LAST;
}

/* The name of the same half of that part, in the arena. */
const char *step_named(Arena *arena, StepPart part, const char *half);
#endif
