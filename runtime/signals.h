/* runtime/signals.h: being asked to stop. The training loop looks at signals_requested() between
 * steps, saves, and leaves. */
#ifndef PL_SIGNALS_H
#define PL_SIGNALS_H
#include "support/status.h"

/* From here on SIGINT and SIGTERM only set a flag, and system calls they interrupt go on. A SIGINT
 * when one was already seen ends the process at once, as if there were no handler. */
PL_MUST_USE Status signals_install(void);
/* The first signal that came, or 0. */
int signals_requested(void);
/* "SIGINT", "SIGTERM" */
const char *signals_name(int signal);

#endif
