/* runtime/cuda/device.c: NVIDIA GPUs as a device: what opens and closes, and the table; see cuda.h. */
#include "runtime/comm/comm.h"
#include "runtime/cuda/cuda.h"

#include <stdlib.h>
#include <string.h>

static Status attribute(const CudaDriver *d, int device, int which, u32 *out)
{
	int value = 0;
	CU(d, "ask what the GPU can do", d->device_attribute(&value, which, device));
	*out = (u32)value;
	return OK;
}

static Status describe_device(const CudaDriver *d, u32 index, int *device, DeviceInfo *out)
{
	*out = (DeviceInfo){ 0 };
	int n = 0;
	size_t total = 0;
	CU(d, "count the GPUs", d->device_count(&n));
	if (index >= (u32)n)
		return FAIL(STATUS_UNSUPPORTED, "there is no cuda:%u: the driver shows %d GPU%s (see nvidia-smi, and CUDA_VISIBLE_DEVICES)",
			    index, n, n == 1 ? "" : "s");
	CU(d, "open the GPU", d->device_get(device, (int)index));
	CU(d, "ask for the GPU's name", d->device_name(out->name, sizeof out->name, *device));
	CU(d, "ask for the GPU's memory", d->device_memory(&total, *device));
	out->memory = total;
	TRY(attribute(d, *device, CUDA_ATTRIBUTE_MAJOR, &out->major));
	TRY(attribute(d, *device, CUDA_ATTRIBUTE_MINOR, &out->minor));
	TRY(attribute(d, *device, CUDA_ATTRIBUTE_MULTIPROCESSORS, &out->multiprocessors));
	TRY(attribute(d, *device, CUDA_ATTRIBUTE_SHARED_PER_BLOCK, &out->shared_per_block));
	TRY(attribute(d, *device, CUDA_ATTRIBUTE_SHARED_PER_MULTIPROCESSOR, &out->shared_per_multiprocessor));
	out->datasheet = cuda_datasheet(out->name, PACKAGE_BF16);
	out->datasheet_f8 = cuda_datasheet(out->name, PACKAGE_F8E4M3);
	return OK;
}

static Status cuda_info(u32 index, DeviceInfo *out)
{
	const CudaDriver *d;
	int device;
	TRY(cuda_driver(&d));
	return describe_device(d, index, &device, out);
}

#define GIB(n) ((f64)(n) / 0x1p30)

static u64 bytes_beside(const Cuda *c)
{
	return c->staging_bytes + c->workspace_bytes + (c->mesh ? c->mesh->scratch_bytes + c->mesh->places_bytes : 0);
}

/* The arena begins as zeros. */
static Status allocate(Cuda *c)
{
	const Package *p = c->package;
	size_t free = 0, total = 0;
	CU(c->d, "ask for free memory", c->d->memory_info(&free, &total));
	c->info.memory_free = free;
	u64 beside = bytes_beside(c);
	if (p->arena_bytes > free)
		return FAIL(STATUS_MEMORY,
			    "the program needs %.2f GiB of the GPU's memory, and %s has %.2f GiB free of %.2f GiB (%.2f GiB are taken beside "
			    "for uploads and libraries); lower the batch size, or set a `memory` budget so that the compiler recomputes to "
			    "fit",
			    GIB(p->arena_bytes), c->info.name, GIB(free), GIB(total), GIB(beside));
	u64 bytes = MAX(p->arena_bytes, (u64)256);
	CU(c->d, "have the memory of the program", c->d->allocate(&c->arena, bytes));
	return OK;
}

static Status open(Cuda *c)
{
	TRY(cuda_driver(&c->d));
	const CudaDriver *d = c->d;
	if (c->options.comm && !c->options.index)
		TRY(cuda_rank_device(d, comm_local_rank(c->options.comm), &c->options.index));
	TRY(describe_device(d, c->options.index, &c->device, &c->info));
	CU(d, "use the GPU", d->context_retain(&c->context, c->device));
	CU(d, "use the GPU", d->context_set(c->context));
	CU(d, "make a stream", d->stream_create(&c->stream, CUDA_STREAM_APART));
	TRY(cuda_mesh_open(c));
	TRY(cuda_transfer_open(c));
	TRY(allocate(c));
	CU(d, "make a stream", d->stream_create(&c->copies, CUDA_STREAM_APART));
	CU(d, "make an event", d->event_create(&c->from, 0));
	CU(d, "make an event", d->event_create(&c->to, 0));
	TRY(cuda_load(c));
	TRY(cuda_matmuls_open(c));
	CU(d, "clear memory", d->fill(c->arena, 0, MAX(c->package->arena_bytes, (u64)256), c->stream));
	CU(d, "clear memory", d->stream_synchronize(c->stream));
	return OK;
}

static void cuda_close(void *state)
{
	Cuda *c = state;
	const CudaDriver *d = c->d;
	if (c->context) {
		d->context_set(c->context);
		if (c->stream)
			d->stream_synchronize(c->stream);
		if (c->copies)
			d->stream_synchronize(c->copies);
		cuda_drop_graphs(c);
		cuda_mesh_close(c);
		cublas_close(c->cublas);
		cuda_unload(c);
		cuda_transfer_close(c);
		if (c->from)
			d->event_destroy(c->from);
		if (c->to)
			d->event_destroy(c->to);
		if (c->stream)
			d->stream_destroy(c->stream);
		if (c->copies)
			d->stream_destroy(c->copies);
		if (c->workspace)
			d->release(c->workspace);
		if (c->arena)
			d->release(c->arena);
		d->context_release(c->device);
	}
	arena_free(&c->memory);
	free(c);
}

static Status cuda_open(const Package *p, const DeviceOptions *o, void **state)
{
	Cuda *c = calloc(1, sizeof *c);
	if (!c)
		return FAIL(STATUS_MEMORY, "no memory for a device");
	c->package = p;
	c->options = *o;
	c->memory = ARENA("cuda");
	Status s = open(c);
	if (s)
		cuda_close(c);
	else
		*state = c;
	return s;
}

/* Makes the GPU this thread's. */
static Status enter(Cuda *c)
{
	CU(c->d, "use the GPU", c->d->context_set(c->context));
	return OK;
}

static DeviceBytes cuda_bytes(const void *state)
{
	const Cuda *c = state;
	return (DeviceBytes){ c->package->arena_bytes, bytes_beside(c) };
}

static u8 *cuda_memory(const void *state)
{
	(void)state;
	return NULL;
}

static Status device_write(void *state, u64 offset, const void *from, u64 bytes)
{
	TRY(enter(state));
	return cuda_write(state, offset, from, bytes);
}

static Status device_read(void *state, u64 offset, void *to, u64 bytes)
{
	TRY(enter(state));
	return cuda_read(state, offset, to, bytes);
}

static Status device_fetch(void *state, u64 offset, u32 bytes, u32 slot)
{
	TRY(enter(state));
	return cuda_fetch(state, offset, bytes, slot);
}

static Status device_fetched(void *state, u32 slot, u32 bytes, void *to)
{
	TRY(enter(state));
	return cuda_fetched(state, slot, bytes, to);
}

static Status device_run(void *state, const PackageEntry *entry, StepHook *hook, void *cx)
{
	Cuda *c = state;
	Status s = enter(c);
	if (!s)
		s = cuda_run(c, entry, hook, cx);
	return s && c->mesh ? comm_failed(c->options.comm, s, "starting a step on its GPU", 0) : s;
}

static Status cuda_synchronize(void *state)
{
	Cuda *c = state;
	TRY(enter(c));
	return cuda_wait(c, NULL);
}

static f64 cuda_peak(void *state, PackageDtype dtype)
{
	return enter(state) ? 0 : cuda_matmuls_peak(state, dtype);
}

/* Copies between two halves; what the GPU's two levels of cache hold is a small part of them. */
enum { BANDWIDTH_TRIES = 5 };
static const size_t bandwidth_bytes[] = { (size_t)1 << 30, (size_t)256 << 20, (size_t)64 << 20 }; /* the first that is had */

static Status time_copies(Cuda *c, CudaAddress memory, size_t half, f64 *rate)
{
	const CudaDriver *d = c->d;
	for (u32 i = 0; i <= BANDWIDTH_TRIES; i++) {
		f32 milliseconds = 0;
		CU(d, "measure the memory", d->event_record(c->from, c->stream));
		CU(d, "measure the memory", d->on_device(memory + half, memory, half, c->stream));
		CU(d, "measure the memory", d->event_record(c->to, c->stream));
		CU(d, "measure the memory", d->event_synchronize(c->to));
		CU(d, "measure the memory", d->event_elapsed(&milliseconds, c->from, c->to));
		/* the first one touches the memory */
		if (i && milliseconds > 0)
			*rate = MAX(*rate, 2e3 * (f64)half / milliseconds);
	}
	return OK;
}

static Status cuda_bandwidth(void *state, f64 rate[DEVICE_MOVES])
{
	Cuda *c = state;
	const CudaDriver *d = c->d;
	for (u32 i = 0; i < DEVICE_MOVES; i++)
		rate[i] = 0;
	TRY(enter(c));
	for (u32 i = 0; i < COUNT(bandwidth_bytes); i++) {
		CudaAddress memory = 0;
		size_t free = 0, total = 0;
		CU(d, "ask for free memory", d->memory_info(&free, &total));
		if (free / 2 < bandwidth_bytes[i] || d->allocate(&memory, bandwidth_bytes[i]))
			continue;
		Status s = time_copies(c, memory, bandwidth_bytes[i] / 2, &rate[MOVE_COPY]);
		d->release(memory);
		return s;
	}
	return OK; /* the program has taken all memory: unknown */
}

static const char *cuda_describe(const void *state, Arena *a)
{
	const Cuda *c = state;
	const char *text = arena_printf(a, "%s, driver %d.%d", c->info.name, c->d->number / 1000, c->d->number % 1000 / 10);
	return c->cublas ? arena_printf(a, "%s, %s", text, cublas_version_text(c->cublas, a)) : text;
}

static u32 cuda_choices(const void *state, Arena *a, const DeviceChoice **out)
{
	return cuda_matmuls_choices(state, a, out);
}

static Status cuda_choose(void *state, const DeviceChoice *choice, u32 n)
{
	TRY(enter(state));
	return cuda_matmuls_choose(state, choice, n);
}

const Device device_cuda = {
	.name = "cuda",
	.deferred = true,
	.info = cuda_info,
	.open = cuda_open,
	.close = cuda_close,
	.bytes = cuda_bytes,
	.memory = cuda_memory,
	.write = device_write,
	.read = device_read,
	.fetch = device_fetch,
	.fetched = device_fetched,
	.run = device_run,
	.synchronize = cuda_synchronize,
	.peak = cuda_peak,
	.bandwidth = cuda_bandwidth,
	.describe = cuda_describe,
	.choices = cuda_choices,
	.choose = cuda_choose,
};
