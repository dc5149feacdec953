/* tools/machine.h: the machine that `--machine NAME` means: one of those that come with Plinth (machines/), a file, or
 * `host`, which `plinth doctor --calibrate` has measured. */
#ifndef PL_MACHINE_SOURCE_H
#define PL_MACHINE_SOURCE_H
#include "tools/source.h"

typedef struct MachineFile {
	SourceFile source; /* of the file; what is wrong with it is in source.diag */
	const char *where; /* "h100_sxm", a path */
	const Machine *machine; /* NULL after errors */
} MachineFile;

/* STATUS_INPUT where there is none of the name, with those that there are. */
PL_MUST_USE Status machine_open(Arena *a, const char *name, MachineFile *out);
void machine_close(MachineFile *m);
/* Where the host's own machine file lies: $XDG_CONFIG_HOME/plinth/host.plinth, or under ~/.config. */
const char *machine_host_path(Arena *a);

/* As the language writes it. */
void machine_print(Buf *b, const Machine *m);

#endif
