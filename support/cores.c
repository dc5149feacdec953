/* support/cores.c: see cores.h. Of both versions of Linux's control groups: a group's limit is that of the groups around it too. In a
 * container the path that the kernel tells may be the host's, and only its end, or nothing of it, be there to see: what is not there limits nothing. */
#include "support/cores.h"

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

/* The least that `group` and those around it up to `mount` are granted. */
static f64 least_granted(const char *mount, const char *group, bool second_version)
{
	char folder[1300];
	size_t root = strlen(mount);
	if (snprintf(folder, sizeof folder, "%s%s", mount, group) >= (int)sizeof folder)
		return 0;
	for (f64 least = 0;;) {
		f64 x = granted_to(folder, second_version);
		least = x > 0 && (least == 0 || x < least) ? x : least;
		char *slash = strrchr(folder + root, '/');
		if (!slash)
			return least;
		*slash = 0;
	}
}

/* Is cpu among the words between commas? */
static bool of_cpu(const char *controllers)
{
	for (const char *at = controllers; *at;) {
		size_t n = strcspn(at, ",");
		if (n == 3 && !strncmp(at, "cpu", 3))
			return true;
		at += n + (at[n] == ',');
	}
	return false;
}

f64 cores_granted(const char *root)
{
	char line[1024], path[1200];
	if (snprintf(path, sizeof path, "%s/proc/self/cgroup", root) >= (int)sizeof path)
		return 0;
	FILE *f = fopen(path, "r");
	f64 least = 0;
	while (f && fgets(line, sizeof line, f)) { /* number:controllers:group, of version 2 0::group */
		char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
		if (!group)
			continue;
		*controllers++ = 0;
		*group++ = 0;
		group[strcspn(group, "\n")] = 0;
		bool second = !*controllers;
		if (!second && !of_cpu(controllers))
			continue;
		/* version 1's are under their names, most often with a link for each; version 2's beside those, where both are there */
		const char *const at[] = { second ? "" : "/cpu", second ? "/unified" : "/cpu,cpuacct" };
		for (u32 i = 0; i < COUNT(at); i++) {
			snprintf(path, sizeof path, "%.100s/sys/fs/cgroup%s", root, at[i]);
			f64 x = least_granted(path, group, second);
			least = x > 0 && (least == 0 || x < least) ? x : least;
		}
	}
	if (f)
		fclose(f);
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
