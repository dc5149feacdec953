/* tools/calibrate.h: a machine file (docs/planning.md) measured on the device at hand: `plinth doctor --calibrate`. */
#ifndef PL_CALIBRATE_H
#define PL_CALIBRATE_H
#include "tools/lm.h"

/* The text of a machine block, in `a`, and what of it others disturbed (turns.h), or NULL, which the block says too. `say` is told what is being measured. With where->comm every rank calls, and each is a device:
 * all measure at the same time, with where->threads, and then the link between them; ranks are on one host. */
PL_MUST_USE Status calibrate(Arena *a, const RunOptions *where, void (*say)(const char *what), const char **text, const char **disturbed);

#endif
