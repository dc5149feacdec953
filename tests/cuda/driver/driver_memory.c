/* driver_memory.c: device memory and pinned host memory. A device address lies in a range that is
 * reserved and never accessible; the bytes are at the same place of a second range that only the stand-in
 * knows. So a host that follows a device pointer is stopped by the hardware. */
#include "driver.h"
#include <stdlib.h>
#include <sys/mman.h>

enum { GUARD = 1 << 16, GRAIN = 512 };

static u8 *reserved, *backing;
static Range *ranges;          /* sorted by base */
static u32 nrange, range_room;
static u64 in_use;

typedef struct Pinned {
	u8 *base;
	size_t bytes;
	bool ours;
	struct Pinned *next;
} Pinned;
static Pinned *pinned;

static bool reserve(void)
{
	/* Twice the memory, for the gaps between allocations. */
	size_t bytes = settings()->memory * 2;
	if (reserved)
		return true;
	u8 *a = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	u8 *b = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (a == MAP_FAILED || b == MAP_FAILED)
		return false;
	reserved = a;
	backing = b;
	return true;
}

intptr_t memory_to_host(void)
{
	return (intptr_t)backing - (intptr_t)reserved;
}

const Range *memory_ranges(u32 *n)
{
	*n = nrange;
	return ranges;
}

CUresult memory_allocate(u64 *address, u64 bytes)
{
	if (!reserve() || bytes > settings()->memory - in_use)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (nrange == range_room) {
		range_room = range_room ? range_room * 2 : 64;
		ranges = realloc(ranges, range_room * sizeof *ranges);
		if (!ranges)
			NEVER("out of host memory");
	}
	/* The first gap that is large enough, with a guard on either side. */
	u64 at = (u64)(uintptr_t)reserved + GUARD;
	u32 i = 0;
	for (; i < nrange && ranges[i].base < at + bytes + GUARD; i++)
		at = ALIGN_UP(ranges[i].base + ranges[i].size + GUARD, GRAIN);
	if (at + bytes + GUARD > (u64)(uintptr_t)reserved + settings()->memory * 2)
		return CUDA_ERROR_OUT_OF_MEMORY;
	memmove(&ranges[i + 1], &ranges[i], (nrange - i) * sizeof *ranges);
	ranges[i] = (Range){ at, bytes };
	nrange++;
	in_use += bytes;
	*address = at;
	if (settings()->poison)
		memset((u8 *)(at + (u64)memory_to_host()), 0xff, bytes);
	return CUDA_SUCCESS;
}

bool memory_free(u64 address)
{
	for (u32 i = 0; i < nrange; i++)
		if (ranges[i].base == address) {
			u64 first = ALIGN_UP(address, 4096), end = (address + ranges[i].size) & ~(u64)4095;
			in_use -= ranges[i].size;
			if (end > first)
				madvise((void *)(first + (u64)memory_to_host()), end - first, MADV_DONTNEED);
			memmove(&ranges[i], &ranges[i + 1], (nrange - i - 1) * sizeof *ranges);
			nrange--;
			return true;
		}
	return false;
}

static const Range *range_of(u64 address)
{
	for (u32 i = 0; i < nrange; i++)
		if (address - ranges[i].base < ranges[i].size)
			return &ranges[i];
	return NULL;
}

u8 *memory_host(u64 address, u64 bytes)
{
	const Range *r = range_of(address);
	if (!r || address - r->base + bytes > r->size)
		return NULL;
	return (u8 *)(address + (u64)memory_to_host());
}

bool memory_is_pinned(const void *p, size_t bytes)
{
	for (const Pinned *x = pinned; x; x = x->next)
		if ((const u8 *)p >= x->base && (const u8 *)p + bytes <= x->base + x->bytes)
			return true;
	return false;
}

CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t bytes)
{
	ENTER;
	LEAVE(!pointer || !bytes ? CUDA_ERROR_INVALID_VALUE : memory_allocate(pointer, bytes));
}

CUresult cuMemFree_v2(CUdeviceptr pointer)
{
	ENTER;
	if (!pointer)
		LEAVE(CUDA_SUCCESS);
	CUresult r = stream_drain_all();
	if (r)
		LEAVE(r);
	LEAVE(memory_free(pointer) ? CUDA_SUCCESS
				   : driver_fail(CUDA_ERROR_INVALID_VALUE, "cuMemFree: 0x%llx was not allocated",
						 (unsigned long long)pointer));
}

/* In stream order: what is known at once is the address. */
CUresult cuMemAllocAsync(CUdeviceptr *pointer, size_t bytes, CUstream stream)
{
	(void)stream;
	return cuMemAlloc_v2(pointer, bytes);
}

static CUresult free_work(void *data)
{
	return memory_free((u64)(uintptr_t)data) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemFreeAsync(CUdeviceptr pointer, CUstream stream)
{
	ENTER;
	LEAVE(stream_push(stream_of(stream),
			  (Op){ .kind = OP_WORK, .work = free_work, .data = (void *)(uintptr_t)pointer }));
}

CUresult cuMemGetInfo_v2(size_t *available, size_t *total)
{
	ENTER;
	*available = settings()->memory - in_use;
	*total = settings()->memory;
	LEAVE(CUDA_SUCCESS);
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *size, CUdeviceptr pointer)
{
	ENTER;
	const Range *r = range_of(pointer);
	if (!r)
		LEAVE(CUDA_ERROR_NOT_FOUND);
	if (base)
		*base = r->base;
	if (size)
		*size = r->size;
	LEAVE(CUDA_SUCCESS);
}

static void pin(void *p, size_t bytes, bool ours)
{
	Pinned *x = malloc(sizeof *x);
	if (!x)
		NEVER("out of host memory");
	*x = (Pinned){ p, bytes, ours, pinned };
	pinned = x;
}

CUresult cuMemHostAlloc(void **pointer, size_t bytes, u32 flags)
{
	(void)flags;
	ENTER;
	if (!pointer || !bytes)
		LEAVE(CUDA_ERROR_INVALID_VALUE);
	if (posix_memalign(pointer, 4096, bytes))
		LEAVE(CUDA_ERROR_OUT_OF_MEMORY);
	pin(*pointer, bytes, true);
	LEAVE(CUDA_SUCCESS);
}

CUresult cuMemAllocHost_v2(void **pointer, size_t bytes)
{
	return cuMemHostAlloc(pointer, bytes, 0);
}

static CUresult unpin(void *pointer, bool ours, CUresult otherwise)
{
	for (Pinned **at = &pinned; *at; at = &(*at)->next)
		if ((*at)->base == pointer && (*at)->ours == ours) {
			Pinned *x = *at;
			*at = x->next;
			free(x);
			return CUDA_SUCCESS;
		}
	return otherwise;
}

CUresult cuMemFreeHost(void *pointer)
{
	ENTER;
	CUresult r = stream_drain_all();
	if (!r)
		r = unpin(pointer, true, CUDA_ERROR_INVALID_VALUE);
	if (!r)
		free(pointer);
	LEAVE(r);
}

CUresult cuMemHostRegister_v2(void *pointer, size_t bytes, u32 flags)
{
	(void)flags;
	ENTER;
	if (memory_is_pinned(pointer, 1))
		LEAVE(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
	pin(pointer, bytes, false);
	LEAVE(CUDA_SUCCESS);
}

CUresult cuMemHostUnregister(void *pointer)
{
	ENTER;
	CUresult r = stream_drain_all();
	LEAVE(r ? r : unpin(pointer, false, CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED));
}

CUresult cuPointerGetAttribute(void *data, int attribute, CUdeviceptr pointer)
{
	ENTER;
	const Range *r = range_of(pointer);
	bool host = memory_is_pinned((void *)(uintptr_t)pointer, 1);
	if (!r && !host)
		LEAVE(CUDA_ERROR_INVALID_VALUE);
	switch (attribute) {
	case 2: *(u32 *)data = r ? 2 : 1; break; /* memory type: device, host */
	case 3: *(CUdeviceptr *)data = pointer; break;
	case 8: *(u32 *)data = 0; break;         /* managed */
	case 9: *(int *)data = 0; break;         /* device */
	case 11: *(CUdeviceptr *)data = r ? r->base : pointer; break;
	case 12: *(size_t *)data = r ? r->size : 1; break;
	default: LEAVE(CUDA_ERROR_NOT_SUPPORTED);
	}
	LEAVE(CUDA_SUCCESS);
}

/* Copies and fills. */

static CUresult copy(CUstream handle, Op op, bool wait, const char *name)
{
	Stream *s = stream_of(handle);
	op.kind = OP_COPY;
	if (!op.bytes)
		return CUDA_SUCCESS;
	if ((op.to_device && !memory_host(op.to, op.bytes)) || (op.from_device && !memory_host(op.from, op.bytes)))
		return driver_fail(CUDA_ERROR_INVALID_VALUE, "%s: %llu bytes from 0x%llx to 0x%llx are not all in one allocation",
				   name, (unsigned long long)op.bytes, (unsigned long long)op.from, (unsigned long long)op.to);
	if (wait && stream_is_capturing(s))
		return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	/* As the driver does: pageable memory is staged on the way to the device, waited for on the way back. */
	bool pageable = !(op.to_device && op.from_device) &&
			!memory_is_pinned((void *)(uintptr_t)(op.to_device ? op.from : op.to), op.bytes);
	if (pageable && !stream_is_capturing(s)) {
		if (op.to_device) {
			op.staged = malloc(op.bytes);
			if (!op.staged)
				return CUDA_ERROR_OUT_OF_MEMORY;
			memcpy(op.staged, (void *)(uintptr_t)op.from, op.bytes);
		} else {
			wait = true;
		}
	}
	CUresult r = stream_push(s, op);
	return r || !wait ? r : stream_drain(s);
}

#define HOST(p) (u64)(uintptr_t)(p)

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes)
{
	ENTER;
	LEAVE(copy(NULL, (Op){ .to_device = true, .to = to, .from = HOST(from), .bytes = bytes }, true, "cuMemcpyHtoD"));
}

CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes)
{
	ENTER;
	LEAVE(copy(NULL, (Op){ .from_device = true, .to = HOST(to), .from = from, .bytes = bytes }, true, "cuMemcpyDtoH"));
}

CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes)
{
	ENTER;
	LEAVE(copy(NULL, (Op){ .to_device = true, .from_device = true, .to = to, .from = from, .bytes = bytes }, false,
		   "cuMemcpyDtoD"));
}

static Op any_copy(CUdeviceptr to, CUdeviceptr from, size_t bytes)
{
	return (Op){ .to_device = range_of(to) != NULL, .from_device = range_of(from) != NULL, .to = to, .from = from, .bytes = bytes };
}

CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes)
{
	ENTER;
	LEAVE(copy(NULL, any_copy(to, from, bytes), true, "cuMemcpy"));
}

CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)
{
	ENTER;
	LEAVE(copy(stream, any_copy(to, from, bytes), false, "cuMemcpyAsync"));
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream)
{
	ENTER;
	LEAVE(copy(stream, (Op){ .to_device = true, .to = to, .from = HOST(from), .bytes = bytes }, false, "cuMemcpyHtoDAsync"));
}

CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream)
{
	ENTER;
	LEAVE(copy(stream, (Op){ .from_device = true, .to = HOST(to), .from = from, .bytes = bytes }, false,
		   "cuMemcpyDtoHAsync"));
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)
{
	ENTER;
	LEAVE(copy(stream, (Op){ .to_device = true, .from_device = true, .to = to, .from = from, .bytes = bytes }, false,
		   "cuMemcpyDtoDAsync"));
}

static CUresult copy_rows(void *data)
{
	const CUmemcpy2D *c = data;
	for (size_t i = 0; i < c->height; i++)
		memcpy(memory_host(c->to + i * c->to_pitch, c->width), memory_host(c->from + i * c->from_pitch, c->width), c->width);
	return CUDA_SUCCESS;
}

/* From device to device, from the beginning of both. */
CUresult cuMemcpy2DAsync_v2(const CUmemcpy2D *copy, CUstream stream)
{
	enum { DEVICE = 2 };
	ENTER;
	if (copy->from_kind != DEVICE || copy->to_kind != DEVICE || copy->from_x || copy->from_y || copy->to_x || copy->to_y)
		LEAVE(driver_fail(CUDA_ERROR_NOT_SUPPORTED, "cuMemcpy2D: the stand-in copies from device to device alone"));
	if (!copy->width || !copy->height)
		LEAVE(CUDA_SUCCESS);
	if (copy->from_pitch < copy->width || copy->to_pitch < copy->width ||
	    !memory_host(copy->from, (copy->height - 1) * copy->from_pitch + copy->width) ||
	    !memory_host(copy->to, (copy->height - 1) * copy->to_pitch + copy->width))
		LEAVE(driver_fail(CUDA_ERROR_INVALID_VALUE, "cuMemcpy2D: %zu rows of %zu bytes from 0x%llx to 0x%llx are not all in one allocation",
				  copy->height, copy->width, (unsigned long long)copy->from, (unsigned long long)copy->to));
	CUmemcpy2D *own = malloc(sizeof *own);
	if (!own)
		LEAVE(CUDA_ERROR_OUT_OF_MEMORY);
	*own = *copy;
	LEAVE(stream_push(stream_of(stream), (Op){ .kind = OP_WORK, .work = copy_rows, .data = own, .release = free }));
}

static CUresult fill(CUdeviceptr to, u32 value, u32 width, size_t count, CUstream stream)
{
	if (!count)
		return CUDA_SUCCESS;
	if (to % width || !memory_host(to, count * width))
		return driver_fail(CUDA_ERROR_INVALID_VALUE, "cuMemset: %llu bytes at 0x%llx are not all in one allocation",
				   (unsigned long long)count * width, (unsigned long long)to);
	return stream_push(stream_of(stream), (Op){ .kind = OP_SET, .to_device = true, .to = to, .bytes = count * width,
						    .value = value, .width = width });
}

#define FILL(name, T, width)                                                         \
	CUresult name##_v2(CUdeviceptr to, T value, size_t count)                    \
	{                                                                            \
		ENTER;                                                               \
		LEAVE(fill(to, value, width, count, NULL));                          \
	}                                                                            \
	CUresult name##Async(CUdeviceptr to, T value, size_t count, CUstream stream) \
	{                                                                            \
		ENTER;                                                               \
		LEAVE(fill(to, value, width, count, stream));                        \
	}
FILL(cuMemsetD8, u8, 1)
FILL(cuMemsetD16, u16, 2)
FILL(cuMemsetD32, u32, 4)

void *standinHostPointer(CUdeviceptr pointer, size_t bytes)
{
	return memory_host(pointer, bytes);
}
