/* runtime/executor.c: see executor.h. */
#include "runtime/executor.h"
#include "support/half.h"

#include <stdlib.h>
#include <string.h>

/* Parts of tensors that are padded to be divided begin as zeros: nobody gives padding a value. */
static Status clear_padded(Executor *e)
{
	static const u8 zeros[1 << 16];
	for (u32 i = 0; i < e->package->nbuffer; i++) {
		const PackageBuffer *b = &e->package->buffer[i];
		bool padded = false;
		for (u32 k = 0; k < b->tensor.ndigit; k++)
			padded |= b->tensor.digit[k].whole != 0;
		for (u64 at = 0, n; padded && !b->away && at < b->tensor.bytes; at += n) {
			n = MIN(b->tensor.bytes - at, sizeof zeros);
			TRY(executor_write_at(e, b->tensor.offset + at, zeros, n));
		}
	}
	return OK;
}

Status executor_create(const Package *package, const DeviceOptions *options, Executor **out)
{
	const Device *device = device_find(package->device);
	assert(device && "a package is for a device of the table");
	Executor *e = calloc(1, sizeof *e);
	if (!e)
		return FAIL(STATUS_MEMORY, "no memory for an executor");
	*e = (Executor){ .package = package, .device = device, .comm = options ? options->comm : NULL };
	Status s = device->open(package, options ? options : &(DeviceOptions){ 0 }, &e->state);
	if (s) {
		free(e);
		return s;
	}
	s = clear_padded(e);
	if (s) {
		executor_destroy(e);
		return s;
	}
	*out = e;
	return OK;
}

void executor_destroy(Executor *e)
{
	if (!e)
		return;
	e->device->close(e->state);
	free(e);
}

u64 executor_bytes(const Executor *e)
{
	DeviceBytes b = e->device->bytes(e->state);
	return b.arena + b.workspace;
}

const PackageBuffer *executor_buffer(const Executor *e, const char *name)
{
	for (u32 i = 0; i < e->package->nbuffer; i++)
		if (!strcmp(e->package->buffer[i].tensor.name, name))
			return &e->package->buffer[i];
	return NULL;
}

static const PackageTensor *find(const PackageTensor *t, u32 n, const char *name)
{
	for (u32 i = 0; i < n; i++)
		if (!strcmp(t[i].name, name))
			return &t[i];
	return NULL;
}

const PackageTensor *executor_input(const PackageEntry *entry, const char *name)
{
	return find(entry->input, entry->ninput, name);
}

const PackageTensor *executor_result(const PackageEntry *entry, const char *name)
{
	return find(entry->result, entry->nresult, name);
}

Status executor_write_at(Executor *e, u64 at, const void *from, u64 bytes)
{
	assert(at + bytes <= e->package->arena_bytes);
	return bytes ? e->device->write(e->state, at, from, bytes) : OK;
}

Status executor_read_at(Executor *e, u64 at, void *to, u64 bytes)
{
	assert(at + bytes <= e->package->arena_bytes);
	return bytes ? e->device->read(e->state, at, to, bytes) : OK;
}

Status executor_write(Executor *e, const PackageTensor *t, const void *from)
{
	return executor_write_at(e, t->offset, from, t->bytes);
}

Status executor_read(Executor *e, const PackageTensor *t, void *to)
{
	return executor_read_at(e, t->offset, to, t->bytes);
}

void *executor_memory(const Executor *e, const PackageTensor *t)
{
	u8 *base = e->device->memory(e->state);
	return base ? base + t->offset : NULL;
}

/* ---- scalars ---- */

static f64 number(const void *at, u8 dtype)
{
	f32 x;
	f64 wide;
	u16 half;
	switch (dtype) {
	case PACKAGE_F32: memcpy(&x, at, sizeof x); return x;
	case PACKAGE_F64: memcpy(&wide, at, sizeof wide); return wide;
	case PACKAGE_BF16: memcpy(&half, at, sizeof half); return f32_from_bf16(half);
	default: NEVER("a scalar of another type");
	}
}

Status executor_fetch(Executor *e, const PackageTensor *t, Fetch *out)
{
	*out = (Fetch){ 0 };
	if (!t)
		return OK;
	assert(t->bytes <= sizeof(f64));
	*out = (Fetch){ e->fetch, t->dtype, true };
	e->fetch = (e->fetch + 1) % DEVICE_FETCHES;
	return e->device->fetch(e->state, t->offset, (u32)t->bytes, out->slot);
}

Status executor_fetched(Executor *e, Fetch f, f64 otherwise, f64 *out)
{
	static const u8 size[] = { [PACKAGE_BF16] = 2, [PACKAGE_F32] = 4, [PACKAGE_F64] = 8 };
	u8 bytes[sizeof(f64)];
	*out = otherwise;
	if (!f.exists)
		return OK;
	TRY(e->device->fetched(e->state, f.slot, size[f.dtype], bytes));
	*out = number(bytes, f.dtype);
	return OK;
}

Status executor_scalar(Executor *e, const PackageTensor *t, f64 otherwise, f64 *out)
{
	Fetch f;
	TRY(executor_fetch(e, t, &f));
	return executor_fetched(e, f, otherwise, out);
}

/* ---- runs ---- */

Status executor_run(Executor *e, const PackageEntry *entry, StepHook *hook, void *cx)
{
	return e->device->run(e->state, entry, hook, cx);
}

Status executor_synchronize(Executor *e)
{
	return e->device->synchronize(e->state);
}
