/* support/cache.h: results of slow work (object code, GPU binaries, tuning) on disk, by the hash of
 * everything they depend on. An entry is one file, written whole or not at all and checked when it
 * is read: one that is damaged is as good as missing. Entries unused for longest go first when the
 * size is over the bound. Failures of the disk are not errors: the work is done again. */
#ifndef PL_CACHE_H
#define PL_CACHE_H
#include "support/status.h"
#include "support/str.h"

typedef struct CacheKey {
	u64 high, low;
} CacheKey;

typedef struct Cache Cache;

/* `folder` NULL: "objects" under io_cache_folder. `bound` in bytes, 0: 512 MiB. Safe for threads
 * and processes that use one folder together. */
PL_MUST_USE Status cache_open(Arena *a, const char *folder, u64 bound, Cache **out);

/* A 128-bit hash (XXH3) of the pieces, in order and with their lengths. */
CacheKey cache_key(const Blob *piece, u32 n);

/* False: not there. The bytes are malloc'ed: the caller frees them. */
bool cache_get(const Cache *c, CacheKey key, Blob *out);
void cache_put(Cache *c, CacheKey key, Blob bytes);
/* Brings the folder under its bound, if anything was put since the last call. */
void cache_trim(Cache *c);

#endif
