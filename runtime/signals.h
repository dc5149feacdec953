/* runtime/signals.h: being asked to stop. The training loop looks at signals_requested() between
 * steps, saves, and leaves. */
#ifndef PL_SIGNALS_H
#define PL_SIGNALS_H
#include "support/status.h"

/* From here on SIGINT, SIGTERM and SIGHUP (a terminal that was closed; not under nohup) only set a flag, and system
 * calls they interrupt go on. A SIGINT when one was already seen ends the process at once, as if there were no handler. */
PL_MUST_USE Status signals_install(void);
/* Nobody reads what this process says any more (`| tee log`, which a Ctrl-C ends first): no reason to end. */
PL_MUST_USE Status signals_outlive_readers(void);
/* The first signal that came, or 0. */
int signals_requested(void);
/* "SIGINT", "SIGTERM", "SIGHUP" */
const char *signals_name(int signal);

#endif
