/* support/build_id.h: which build of Plinth this is: what it makes of a source is kept in the cache by it. */
#ifndef PL_BUILD_ID_H
#define PL_BUILD_ID_H
#include "support/status.h"

/* A hash of all that was linked into the program (the note NT_GNU_BUILD_ID); of no bytes where the linker made none. */
Blob build_id(void);

#endif
