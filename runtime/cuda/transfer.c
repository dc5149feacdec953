/* runtime/cuda/transfer.c: bytes to and from the device. What is written goes through a ring of slots in pinned
 * memory: up on the copies' stream, at any time, into the slot's twin on the device, and from there into the arena on
 * the stream of runs, in their order. So the next batch is uploaded while a step runs, though both have one place in
 * the arena, and the caller waits only where all slots are under way. */
#include "runtime/cuda/cuda.h"

#include <string.h>

Status cuda_transfer_open(Cuda *c)
{
	enum { LEAST = 256 << 10, MOST = 4 << 20 };
	u64 largest = LEAST;
	for (u32 e = 0; e < c->package->nentry; e++)
		for (u32 i = 0; i < c->package->entry[e].ninput; i++)
			largest = MAX(largest, c->package->entry[e].input[i].bytes);
	c->slot_bytes = ALIGN_UP(MIN(largest, (u64)MOST), 4096);
	c->staging_bytes = c->slot_bytes * CUDA_SLOTS;
	CU(c->d, "have memory for uploads", c->d->allocate(&c->staging, c->staging_bytes));
	CU(c->d, "have pinned memory of the host",
	   c->d->allocate_host((void **)&c->pinned, c->staging_bytes + DEVICE_FETCHES * DEVICE_FETCH_BYTES));
	for (u32 i = 0; i < CUDA_SLOTS; i++) {
		CudaSlot *s = &c->slot[i];
		s->host = c->pinned + i * c->slot_bytes;
		s->device = c->staging + i * c->slot_bytes;
		CU(c->d, "make an event", c->d->event_create(&s->uploaded, CUDA_EVENT_UNTIMED));
		CU(c->d, "make an event", c->d->event_create(&s->free, CUDA_EVENT_UNTIMED));
	}
	for (u32 i = 0; i < DEVICE_FETCHES; i++)
		CU(c->d, "make an event", c->d->event_create(&c->fetched[i], CUDA_EVENT_UNTIMED));
	return OK;
}

void cuda_transfer_close(Cuda *c)
{
	for (u32 i = 0; i < CUDA_SLOTS; i++) {
		if (c->slot[i].uploaded)
			c->d->event_destroy(c->slot[i].uploaded);
		if (c->slot[i].free)
			c->d->event_destroy(c->slot[i].free);
	}
	for (u32 i = 0; i < DEVICE_FETCHES; i++)
		if (c->fetched[i])
			c->d->event_destroy(c->fetched[i]);
	if (c->pinned)
		c->d->release_host(c->pinned);
	if (c->staging)
		c->d->release(c->staging);
}

/* The next slot, once nothing uses it any more. An event that was never recorded is done. */
static Status take(Cuda *c, CudaSlot **out)
{
	*out = &c->slot[c->next_slot];
	c->next_slot = (c->next_slot + 1) % CUDA_SLOTS;
	return cuda_wait(c, (*out)->free);
}

Status cuda_write(Cuda *c, u64 offset, const void *from, u64 bytes)
{
	const CudaDriver *d = c->d;
	for (u64 at = 0; at < bytes; at += c->slot_bytes) {
		u64 n = MIN(c->slot_bytes, bytes - at);
		CudaSlot *s;
		TRY(take(c, &s));
		memcpy(s->host, (const u8 *)from + at, n);
		CU(d, "upload", d->to_device(s->device, s->host, n, c->copies));
		CU(d, "upload", d->event_record(s->uploaded, c->copies));
		CU(d, "upload", d->stream_wait(c->stream, s->uploaded, 0));
		CU(d, "upload", d->on_device(c->arena + offset + at, s->device, n, c->stream));
		CU(d, "upload", d->event_record(s->free, c->stream));
	}
	return OK;
}

/* As many pieces at a time as there are slots. */
Status cuda_read(Cuda *c, u64 offset, void *to, u64 bytes)
{
	const CudaDriver *d = c->d;
	for (u64 at = 0; at < bytes;) {
		CudaSlot *slot[CUDA_SLOTS];
		u64 size[CUDA_SLOTS];
		u32 n = 0;
		for (u64 from = at; from < bytes && n < CUDA_SLOTS; from += size[n++]) {
			size[n] = MIN(c->slot_bytes, bytes - from);
			TRY(take(c, &slot[n]));
			CU(d, "download", d->to_host(slot[n]->host, c->arena + offset + from, size[n], c->stream));
		}
		TRY(cuda_wait(c, NULL));
		for (u32 i = 0; i < n; at += size[i++])
			memcpy((u8 *)to + at, slot[i]->host, size[i]);
	}
	return OK;
}

static u8 *fetch_place(const Cuda *c, u32 slot)
{
	return c->pinned + c->staging_bytes + slot * DEVICE_FETCH_BYTES;
}

Status cuda_fetch(Cuda *c, u64 offset, u32 bytes, u32 slot)
{
	assert(slot < DEVICE_FETCHES && bytes <= DEVICE_FETCH_BYTES);
	CU(c->d, "download", c->d->to_host(fetch_place(c, slot), c->arena + offset, bytes, c->stream));
	CU(c->d, "download", c->d->event_record(c->fetched[slot], c->stream));
	return OK;
}

Status cuda_fetched(Cuda *c, u32 slot, u32 bytes, void *to)
{
	TRY(cuda_wait(c, c->fetched[slot]));
	memcpy(to, fetch_place(c, slot), bytes);
	return OK;
}
