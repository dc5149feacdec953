/* settings.c: PLINTH_STANDIN: words after commas, as in
 * "schedule=random:7, async=late, poison=on, race=on, threads=1, cc=90, driver=13000, memory=8G". */
#include "exec.h"
#include <stdlib.h>
#include <unistd.h>

static Settings now;
static bool known;

static bool on(const char *value)
{
	return !strcmp(value, "on") || !strcmp(value, "1");
}

static void set(const char *key, const char *value)
{
	if (!strcmp(key, "schedule") && !strcmp(value, "ascending")) {
		now.schedule = SCHEDULE_ASCENDING;
	} else if (!strcmp(key, "schedule") && !strcmp(value, "descending")) {
		now.schedule = SCHEDULE_DESCENDING;
	} else if (!strcmp(key, "schedule") && !strncmp(value, "random", 6)) {
		now.schedule = SCHEDULE_RANDOM;
		now.seed = value[6] == ':' ? strtoull(value + 7, NULL, 10) : 1;
	} else if (!strcmp(key, "async")) {
		now.async_late = !strcmp(value, "late");
	} else if (!strcmp(key, "streams")) {
		now.streams_eager = !strcmp(value, "eager");
	} else if (!strcmp(key, "poison")) {
		now.poison = on(value);
	} else if (!strcmp(key, "race")) {
		now.race = on(value);
	} else if (!strcmp(key, "uninitialized")) {
		now.uninitialized = on(value);
	} else if (!strcmp(key, "sums")) {
		now.short_sums = !strcmp(value, "short");
	} else if (!strcmp(key, "quiet")) {
		now.quiet = on(value);
	} else if (!strcmp(key, "threads")) {
		now.threads = (u32)strtoul(value, NULL, 10);
	} else if (!strcmp(key, "cc")) {
		now.cc = (u32)strtoul(value, NULL, 10);
	} else if (!strcmp(key, "driver")) {
		now.driver = (u32)strtoul(value, NULL, 10);
	} else if (!strcmp(key, "memory")) {
		char *end;
		now.memory = strtoull(value, &end, 10);
		now.memory <<= *end == 'G' ? 30 : *end == 'M' ? 20 : 0;
	} else {
		fprintf(stderr, "plinth stand-in: PLINTH_STANDIN: '%s=%s' is not known\n", key, value);
	}
}

void settings_read(void)
{
	const char *text = getenv("PLINTH_STANDIN");
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	now = (Settings){ .async_late = true, .poison = true, .cc = 90, .driver = 13000, .memory = (u64)8 << 30, .seed = 1,
			  .threads = cores > 0 ? (u32)cores : 1 };
	while (text && *text) {
		char key[32], value[64];
		int used = 0;
		text += strspn(text, ", \t");
		if (!*text)
			break;
		if (sscanf(text, "%31[a-z]=%63[^, \t]%n", key, value, &used) != 2) {
			fprintf(stderr, "plinth stand-in: PLINTH_STANDIN: cannot read '%s'\n", text);
			break;
		}
		set(key, value);
		text += used;
	}
	if (!now.threads)
		now.threads = 1;
	known = true;
}

const Settings *settings(void)
{
	if (!known)
		settings_read();
	return &now;
}
