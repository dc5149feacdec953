/* support/cpu_cache.c: see cpu_cache.h. The files are those of Documentation/ABI/testing/sysfs-devices-system-cpu. */
#include "support/cpu_cache.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { CACHES = 8 }; /* that a processor may have files of */

/* The first word of a file of cache `index`; false: there is none. */
static bool word_of(u32 index, const char *name, char to[32])
{
	char path[96];
	snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%u/%s", index, name);
	FILE *f = fopen(path, "re");
	if (!f)
		return false;
	bool some = fscanf(f, "%31s", to) == 1;
	fclose(f);
	return some;
}

u64 cpu_cache_bytes(u32 level)
{
	static const int name[] = { _SC_LEVEL1_DCACHE_SIZE, _SC_LEVEL2_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE };
	char is[32], type[32], size[32], unit = 0;
	for (u32 i = 0; i < CACHES; i++) {
		u32 at;
		unsigned long long n;
		if (!word_of(i, "level", is) || !word_of(i, "type", type) || !word_of(i, "size", size))
			continue;
		if (sscanf(is, "%u", &at) != 1 || at != level || !strcmp(type, "Instruction"))
			continue;
		if (sscanf(size, "%llu%c", &n, &unit) >= 1)
			return n << (unit == 'K' ? 10 : unit == 'M' ? 20 : unit == 'G' ? 30 : 0);
	}
	assert(level >= 1 && level <= COUNT(name));
	long n = sysconf(name[level - 1]);
	return n > 0 ? (u64)n : 0;
}
