/* codegen/runtime_object.h: what exported libraries have besides their kernels: runtime/library/, compiled when
 * Plinth is built (cmake/runtime.cmake), an object for each machine. */
#ifndef PL_RUNTIME_OBJECT_H
#define PL_RUNTIME_OBJECT_H
#include "support/embedded.h"

extern const Embedded runtime_objects[]; /* "x86_64-linux-gnu", and its bytes; ended by a NULL name */

#endif
