/* frontend/std.h: the standard library's sources, which are part of the binary (cmake/embed.cmake). */
#ifndef PL_STD_H
#define PL_STD_H
#include <stddef.h>

typedef struct StdFile {
	const char *name; /* "nn" for std.nn */
	const char *text;
	size_t n;
} StdFile;
extern const StdFile std_files[]; /* ended by a NULL name */

#endif
