/* tools/machines.h: the texts of machines/, which are part of the binary (cmake/embed.cmake). */
#ifndef PL_MACHINES_H
#define PL_MACHINES_H
#include <stddef.h>

typedef struct MachineText {
	const char *name; /* "h100_sxm" */
	const char *text;
	size_t n;
} MachineText;
extern const MachineText machine_files[]; /* ended by a NULL name */

#endif
