/* support/cores.h: how many cores there is work for: those that a process may run on, and no more than its container is given time of. Where
 * more threads than that work, the kernel stops all of them for a part of each period, and those that wait for one another wait for that. */
#ifndef PL_CORES_H
#define PL_CORES_H
#include "support/base.h"

/* This process's; at least 1. */
u32 cores_usable(void);
/* The same of all processes of this host, or of this container; and of one of so many that share them. */
u32 cores_of_host(void);
u32 cores_of_rank(u32 ranks);
/* Those that this process may run on, by number, in order; how many, `most` at most. 0: the kernel does not say. */
u32 cores_list(u32 *core, u32 most);

/* Cores' worth of time that control groups grant, by what lies below `root` ("" is this system); 0: there is no limit. */
f64 cores_granted(const char *root);

#endif
