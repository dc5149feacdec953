/* support/map.h: one hash map for everything: u64 keys (interned pointers, packed indices, content
 * hashes) to u64 values, open addressing, in an arena. A key of 0 is allowed. Iteration is in
 * insertion order, so that nothing that is printed depends on an address. */
#ifndef PL_MAP_H
#define PL_MAP_H
#include "support/arena.h"

typedef struct MapEntry {
	u64 key, value;
} MapEntry;

typedef struct Map {
	Arena *arena;
	MapEntry *entry; /* in insertion order, `n` of them */
	u32 n, cap;
	u32 *slot; /* index + 1 into entry; 0 is free */
	u32 nslot;
} Map;

/* The value's place, or NULL. Valid until the next map_put. */
u64 *map_get(const Map *m, u64 key);
/* Adds or replaces. */
void map_put(Map *m, u64 key, u64 value);
/* `to` holds what `from` does, and nothing else; its arena stays its own. */
void map_assign(Map *to, const Map *from);
#define MAP_KEY(pointer) ((u64)(uintptr_t)(pointer))

#endif
