/* support/cpu_cache.h: how large this processor's caches are. */
#ifndef PL_CPU_CACHE_H
#define PL_CPU_CACHE_H
#include "support/base.h"

/* Bytes of the data cache of that level, 1 to 3, that the first processor sees: Linux's own count, for the C library's is of
 * all such caches together on processors of AMD (a last-level cache for each group of cores). 0: there is none, or nothing
 * says. */
u64 cpu_cache_bytes(u32 level);

#endif
