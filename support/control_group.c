/* support/control_group.c: see control_group.h. /proc/self/cgroup says where the groups are; where controllers are mounted is where distributions and
 * container engines mount them. */
#include "support/control_group.h"

#include <stdio.h>
#include <string.h>

enum { PATH = 1300 };

/* `group` and those around it, up to `mount`. */
static void outwards(const char *mount, const char *group, bool second_version, ControlGroupSeen *seen, void *cx)
{
	char folder[PATH];
	size_t root = strlen(mount);
	if (snprintf(folder, sizeof folder, "%s%s", mount, group) >= (int)sizeof folder)
		return;
	for (;;) {
		seen(cx, folder, second_version);
		char *slash = strrchr(folder + root, '/');
		if (!slash)
			return;
		*slash = 0;
	}
}

/* Where it is among the words between commas, or NULL. */
static const char *among(const char *controllers, const char *name)
{
	size_t length = strlen(name);
	for (const char *at = controllers; *at;) {
		size_t n = strcspn(at, ",");
		if (n == length && !strncmp(at, name, n))
			return at;
		at += n + (at[n] == ',');
	}
	return NULL;
}

void control_groups(const char *root, const char *controller, ControlGroupSeen *seen, void *cx)
{
	char line[1024], path[PATH];
	if (snprintf(path, sizeof path, "%s/proc/self/cgroup", root) >= (int)sizeof path)
		return;
	FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f)) { /* number:controllers:group, of version 2 0::group */
		char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
		if (!group)
			continue;
		*controllers++ = 0;
		*group++ = 0;
		group[strcspn(group, "\n")] = 0;
		bool second = !*controllers;
		if (!second && !among(controllers, controller))
			continue;
		/* version 1's are under their names, most often with a link for each; version 2's beside those, where both are there */
		const char *const at[] = { second ? "" : controller, second ? "unified" : !strcmp(controller, "cpu") ? "cpu,cpuacct" : NULL };
		for (u32 i = 0; i < COUNT(at) && at[i]; i++) {
			snprintf(path, sizeof path, "%.100s/sys/fs/cgroup%s%.40s", root, *at[i] ? "/" : "", at[i]);
			outwards(path, group, second, seen, cx);
		}
	}
	if (f)
		fclose(f);
}
