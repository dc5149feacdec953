/* tools/driver_objects.h: the way down for code that is kept: a plan's kernels as objects that a library is linked of. */
#ifndef PL_DRIVER_OBJECTS_H
#define PL_DRIVER_OBJECTS_H
#include "codegen/cpu/target.h"
#include "codegen/elf.h"
#include "tools/driver.h"

typedef struct DriverObjects {
	CpuCompiler *compiler; /* that made them, until driver_objects_close: prints units */
	CpuCode code;
	ObjectFile *object;    /* [code.nunit] */
} DriverObjects;

/* Of `c`, which is planned for a CPU: sets its package, with names of functions, which begin with `prefix`. */
PL_MUST_USE Status driver_objects(Arena *arena, const DriverOptions *o, Cache *cache, const char *prefix, Compiled *c,
				  DriverObjects *out);
void driver_objects_close(DriverObjects *d);
/* The same, linked: the package and its code, as files of packages have them; its sizes are "". */
PL_MUST_USE Status driver_variant(Arena *arena, const DriverOptions *o, Cache *cache, Compiled *c, PackageVariant *out);

#endif
