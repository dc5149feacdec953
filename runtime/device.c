/* runtime/device.c: see device.h. */
#include "runtime/device.h"
#include "support/str.h"

#include <stdlib.h>
#include <string.h>

static const Device *const devices[] = { &device_cpu, &device_cuda, &device_null };

const char *const device_move_name[DEVICE_MOVES] = { "copy", "copy past caches", "update in place" };

const Device *device_find(const char *name)
{
	for (u32 i = 0; i < COUNT(devices); i++)
		if (!strcmp(devices[i]->name, name))
			return devices[i];
	return NULL;
}

Status device_parse(const char *text, const Device **out, u32 *index)
{
	const char *colon = strchr(text, ':');
	char name[16] = "";
	size_t n = colon ? (size_t)(colon - text) : strlen(text);
	if (n < sizeof name)
		memcpy(name, text, n);
	*out = device_find(name);
	*index = 0;
	char *end = NULL;
	unsigned long at = colon ? strtoul(colon + 1, &end, 10) : 0;
	bool numbered = colon && *out == &device_cuda && colon[1] >= '0' && colon[1] <= '9' && !*end && at < 1024;
	if (!*out || (colon && !numbered))
		return FAIL(STATUS_INPUT, "there is no device '%s': cpu, cuda, cuda:1 (the second GPU), null", text);
	*index = (u32)at;
	return OK;
}

Status device_matmul_parse(const char *text, MatmulChoice *out)
{
	static const char *const name[] = { "measure", "library", "generated" };
	for (u32 i = 0; i < COUNT(name); i++)
		if (!strcmp(text, name[i])) {
			*out = (MatmulChoice)i;
			return OK;
		}
	return FAIL(STATUS_INPUT, "matrix products by '%s'? measure, library or generated", text);
}
