/* frontend/std.h: the standard library's sources, which are part of the binary (cmake/embed.cmake). */
#ifndef PL_STD_H
#define PL_STD_H
#include "support/embedded.h"

extern const Embedded std_files[]; /* "nn" for std.nn; ended by a NULL name */

#endif
