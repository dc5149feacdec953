/* support/embedded.h: files that are part of the binary (cmake/embed.cmake): the standard library, machines, the pieces that
 * generated CUDA C stands on, the object code of exported libraries. */
#ifndef PL_EMBEDDED_H
#define PL_EMBEDDED_H
#include <stddef.h>

typedef struct Embedded {
	const char *name; /* of the file, without its ending */
	const char *text; /* or bytes; a 0 follows */
	size_t n;
} Embedded;

#endif
