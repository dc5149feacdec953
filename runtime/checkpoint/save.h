/* runtime/checkpoint/save.h: the names in a run's folder, for those who look into it. */
#ifndef PL_CHECKPOINT_SAVE_H
#define PL_CHECKPOINT_SAVE_H
#include "support/base.h"

#define CHECKPOINT_FOLDER "step-%06llu"
#define CHECKPOINT_LATEST "latest"
#define CHECKPOINT_BEST "best"

/* Is `name` that of a checkpoint's folder? */
bool checkpoint_step_of(const char *name, u64 *step);
/* Is `name` one that a save uses for what is not finished? */
bool checkpoint_is_temporary(const char *name);

#endif
