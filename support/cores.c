/* support/cores.c: see cores.h. In a container the path of a control group that the kernel tells may be the host's, and only its end, or nothing of it,
 * be there to see: what is not there limits nothing. */
#include "support/cores.h"
#include "support/control_group.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

u32 cores_list(u32 *core, u32 most)
{
	/* a set that is too small for the machine is refused */
	for (u32 size = CPU_SETSIZE; size <= 1 << 16; size *= 4) {
		cpu_set_t *set = CPU_ALLOC(size);
		size_t bytes = CPU_ALLOC_SIZE(size);
		bool known = set && sched_getaffinity(0, bytes, set) == 0;
		u32 n = 0;
		for (u32 i = 0; known && i < size && n < most; i++)
			if (CPU_ISSET_S(i, bytes, set))
				core[n++] = i;
		CPU_FREE(set);
		if (known)
			return n;
	}
	return 0;
}

/* Two numbers of a file, or `max` and one; false: it is not there, or says something else. */
static bool read_numbers(const char *path, f64 *first, f64 *second)
{
	char text[64] = "";
	FILE *f = fopen(path, "r");
	if (!f)
		return false;
	bool read = fgets(text, sizeof text, f) != NULL;
	fclose(f);
	*second = 0;
	if (!strncmp(text, "max", 3)) {
		*first = -1;
		return read;
	}
	return read && sscanf(text, "%lf %lf", first, second) >= 1;
}

/* What the group in `folder` itself is granted. */
static f64 granted_to(const char *folder, bool second_version)
{
	char path[1400];
	f64 quota = 0, period = 0, none;
	bool fits;
	if (second_version) {
		fits = snprintf(path, sizeof path, "%s/cpu.max", folder) < (int)sizeof path && read_numbers(path, &quota, &period);
	} else {
		fits = snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder) < (int)sizeof path && read_numbers(path, &quota, &none) &&
		       snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder) < (int)sizeof path && read_numbers(path, &period, &none);
	}
	return fits && quota > 0 && period > 0 ? quota / period : 0;
}

static void least_granted(void *cx, const char *folder, bool second_version)
{
	f64 *least = cx, x = granted_to(folder, second_version);
	*least = x > 0 && (*least == 0 || x < *least) ? x : *least;
}

f64 cores_granted(const char *root)
{
	f64 least = 0;
	control_groups(root, "cpu", least_granted, &least);
	return least;
}

static u32 no_more_than_granted(u32 cores)
{
	f64 granted = cores_granted("");
	return granted > 0 && ceil(granted) < cores ? (u32)ceil(granted) : cores;
}

static u32 online(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);
	return (u32)MAX(n, 1);
}

/* Those that it may run on. */
static u32 allowed(void)
{
	u32 core[4096], n = cores_list(core, COUNT(core));
	return n ? n : online();
}

u32 cores_usable(void)
{
	return no_more_than_granted(allowed());
}

u32 cores_of_host(void)
{
	return no_more_than_granted(online());
}

u32 cores_of_rank(u32 ranks)
{
	u32 mine = allowed(), part = MAX(cores_of_host() / ranks, 1);
	return MIN(mine, part);
}
