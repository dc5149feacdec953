/* runtime/null.c: the device that does nothing: runs take no time, and all memory reads as zeros. It shows what
 * a package asks of a device, takes plans of any size, and is what a new device starts from. */
#include "runtime/device.h"

#include <stdlib.h>
#include <string.h>

typedef struct Null {
	const Package *package;
} Null;

static Status null_info(u32 index, DeviceInfo *out)
{
	(void)index;
	*out = (DeviceInfo){ .name = "null" };
	return OK;
}

static Status null_open(const Package *p, const DeviceOptions *o, void **state)
{
	(void)o;
	Null *n = calloc(1, sizeof *n);
	if (!n)
		return FAIL(STATUS_MEMORY, "no memory for a device");
	n->package = p;
	*state = n;
	return OK;
}

static void null_close(void *state)
{
	free(state);
}

static DeviceBytes null_bytes(const void *state)
{
	return (DeviceBytes){ .arena = ((const Null *)state)->package->arena_bytes };
}

static u8 *null_memory(const void *state)
{
	(void)state;
	return NULL;
}

static Status null_write(void *state, u64 offset, const void *from, u64 bytes)
{
	(void)state, (void)offset, (void)from, (void)bytes;
	return OK;
}

static Status null_read(void *state, u64 offset, void *to, u64 bytes)
{
	(void)state, (void)offset;
	memset(to, 0, bytes);
	return OK;
}

static Status null_fetch(void *state, u64 offset, u32 bytes, u32 slot)
{
	(void)state, (void)offset, (void)bytes, (void)slot;
	return OK;
}

static Status null_fetched(void *state, u32 slot, u32 bytes, void *to)
{
	(void)state, (void)slot;
	memset(to, 0, bytes);
	return OK;
}

static Status null_run(void *state, const PackageEntry *entry, StepHook *hook, void *cx)
{
	(void)state;
	for (u32 i = 0; i < entry->nstep && hook; i++)
		if (!hook(cx, entry, i, 0))
			break;
	return OK;
}

static Status null_synchronize(void *state)
{
	(void)state;
	return OK;
}

static f64 null_peak(void *state, PackageDtype dtype)
{
	(void)state, (void)dtype;
	return 0;
}

static Status null_bandwidth(void *state, f64 rate[DEVICE_MOVES])
{
	(void)state;
	for (int i = 0; i < DEVICE_MOVES; i++)
		rate[i] = 0;
	return OK;
}

static const char *null_describe(const void *state, Arena *a)
{
	(void)state, (void)a;
	return "nothing is computed";
}

static u32 null_choices(const void *state, Arena *a, const DeviceChoice **out)
{
	(void)state, (void)a;
	*out = NULL;
	return 0;
}

static Status null_choose(void *state, const DeviceChoice *choice, u32 n)
{
	(void)state;
	return n ? FAIL(STATUS_UNSUPPORTED, "%s was recorded as %s, and this device has no such choice", choice[0].what,
			choice[0].chosen) :
		   OK;
}

const Device device_null = {
	.name = "null",
	.info = null_info,
	.open = null_open,
	.close = null_close,
	.bytes = null_bytes,
	.memory = null_memory,
	.write = null_write,
	.read = null_read,
	.fetch = null_fetch,
	.fetched = null_fetched,
	.run = null_run,
	.synchronize = null_synchronize,
	.peak = null_peak,
	.bandwidth = null_bandwidth,
	.describe = null_describe,
	.choices = null_choices,
	.choose = null_choose,
};
