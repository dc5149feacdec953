/* codegen/runtime_object.h: what exported libraries have besides their kernels: runtime/library/, compiled when
 * Plinth is built (cmake/runtime.cmake), an object for each machine. */
#ifndef PL_RUNTIME_OBJECT_H
#define PL_RUNTIME_OBJECT_H
#include <stddef.h>

typedef struct RuntimeObject {
	const char *machine; /* "x86_64-linux-gnu" */
	const char *bytes;
	size_t n;
} RuntimeObject;

extern const RuntimeObject runtime_objects[]; /* ended by a NULL machine */

#endif
