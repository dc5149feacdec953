/* tools/machines.h: the texts of machines/, which are part of the binary (cmake/embed.cmake). */
#ifndef PL_MACHINES_H
#define PL_MACHINES_H
#include "support/embedded.h"

extern const Embedded machine_files[]; /* "h100_sxm"; ended by a NULL name */

#endif
