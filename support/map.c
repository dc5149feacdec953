/* support/map.c: see map.h. */
#include "support/map.h"

#include <string.h>

static u32 spread(u64 key)
{
	key ^= key >> 32;
	key *= 0x9E3779B97F4A7C15u;
	return (u32)(key >> 32);
}

static u32 find(const Map *m, u64 key)
{
	u32 at = spread(key) & (m->nslot - 1);
	while (m->slot[at] && m->entry[m->slot[at] - 1].key != key)
		at = (at + 1) & (m->nslot - 1);
	return at;
}

u64 *map_get(const Map *m, u64 key)
{
	if (!m->nslot)
		return NULL;
	u32 at = find(m, key);
	return m->slot[at] ? &m->entry[m->slot[at] - 1].value : NULL;
}

static void grow(Map *m)
{
	m->cap = m->cap ? m->cap * 2 : 16;
	MapEntry *entry = NEWN(m->arena, MapEntry, m->cap);
	if (m->n)
		memcpy(entry, m->entry, m->n * sizeof *entry);
	m->entry = entry;
	m->nslot = m->cap * 2;
	m->slot = NEWN(m->arena, u32, m->nslot);
	for (u32 i = 0; i < m->n; i++)
		m->slot[find(m, m->entry[i].key)] = i + 1;
}

void map_put(Map *m, u64 key, u64 value)
{
	u64 *old = map_get(m, key);
	if (old) {
		*old = value;
		return;
	}
	if (m->n == m->cap)
		grow(m);
	m->entry[m->n] = (MapEntry){ key, value };
	m->slot[find(m, key)] = ++m->n;
}

void map_assign(Map *to, const Map *from)
{
	to->n = 0;
	if (to->nslot)
		memset(to->slot, 0, to->nslot * sizeof *to->slot);
	for (u32 i = 0; i < from->n; i++)
		map_put(to, from->entry[i].key, from->entry[i].value);
}
