/* support/no_memory.h: the end of a process whose compiler has no more memory, in its arenas or in a library that makes code: nothing is
 * wrong in Plinth, and nobody can go on without. Whoever plans for what a run takes is told by a status instead. */
#ifndef PL_NO_MEMORY_H
#define PL_NO_MEMORY_H
#include "support/base.h"

/* Says so, and for what, and ends the process (2, as for any STATUS_MEMORY). */
PL_NORETURN void pl_out_of_memory(const char *what);

#endif
