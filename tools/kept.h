/* tools/kept.h: programs that were compiled before, whole, in the cache (support/cache.h): what this build of Plinth made of equal
 * source and settings with equal options, on this processor. One that is found needs no passes, no plan and no LLVM. Those for one
 * CPU are kept; parts that are made for a rank, and programs for GPUs, are not. */
#ifndef PL_KEPT_H
#define PL_KEPT_H
#include "tools/driver.h"
#include "tools/source.h"

typedef struct Kept {
	Cache *cache; /* NULL: such a program is not kept */
	CacheKey key;
	const Diag *diag;
	u32 nwarning; /* of the source, before it is compiled */
} Kept;

/* `cache` may be NULL. */
Kept kept_of(Arena *arena, const SourceFile *source, const DriverOptions *o, Cache *cache);
/* What was put, but for its sizes, which are ""; all lies in `arena`. False: nothing. */
bool kept_find(Arena *arena, const Kept *k, PackageVariant *out);
/* Nothing is put of a program that was warned of: the next run shall say so too. */
void kept_put(Arena *arena, const Kept *k, const PackageVariant *v);

#endif
