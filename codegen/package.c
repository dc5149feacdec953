/* codegen/package.c: looking things up in a package. */
#include "codegen/package.h"

#include <string.h>

const PackageEntry *package_entry(const Package *p, const char *name)
{
	for (u32 i = 0; i < p->nentry; i++)
		if (!strcmp(p->entry[i].name, name))
			return &p->entry[i];
	return NULL;
}
