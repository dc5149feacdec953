/* runtime/cuda/transport.c: NCCL as a transport (runtime/comm/comm.h), for ranks that Slurm or torchrun started and that have
 * no MPI: what the host says goes through the GPU's memory. What devices say in the middle of a step does not come here:
 * collective.c.
 *
 * Ranks meet without any means of our own: where NCCL_COMM_ID is host:port, ncclGetUniqueId gives every rank the same id,
 * with that address in it, and ncclCommInitRank's rank 0 waits there for the others (NCCL's src/bootstrap.cc,
 * bootstrapGetUniqueId, and src/init.cc, ncclCommInitRankDev). It is taken away again then: other communicators have ids
 * of their own.
 *
 * Two communicators at a time may wait for each other, if ranks begin them in different orders: so what is said goes onto
 * the device's own stream once there is one, in the order of its steps. */
#include "runtime/comm/comm.h"
#include "runtime/comm/launch.h"
#include "runtime/cuda/cuda.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct World {
	const Nccl *nccl;
	const CudaDriver *d;
	int device;
	CudaContext *context;
	CudaStream *own, *stream; /* that everything goes onto */
	NcclComm *comm;
	u32 ranks;
	u8 *pinned;         /* [ranks + 1] messages: mine, everybody's */
	CudaAddress memory; /* the same on the device */
	u64 room;
	void *receive;      /* where what is under way goes */
	u64 bytes;          /* of all of it */
} World;

static Status join(World *w, const Launch *l)
{
	static const char variable[] = "NCCL_COMM_ID";
	NcclId id;
	if (setenv(variable, l->meeting, 0) != 0) /* the user's own stands */
		return FAIL(STATUS_MEMORY, "no memory for the environment");
	NC(w->nccl, "have the id of the run's ranks", w->nccl->unique_id(&id));
	Status s = OK;
	int code = w->nccl->join(&w->comm, (int)l->ranks, id, (int)l->rank);
	if (code)
		s = status_context(nccl_failed(w->nccl, code, "join the other ranks"), "rank %u of %u at %s", l->rank, l->ranks, getenv(variable));
	unsetenv(variable);
	return s;
}

static void nccl_close(void *state)
{
	World *w = state;
	if (w->context) {
		w->d->context_set(w->context);
		if (w->own)
			w->d->stream_synchronize(w->own);
		if (w->comm)
			w->nccl->leave(w->comm);
		if (w->memory)
			w->d->release(w->memory);
		if (w->pinned)
			w->d->release_host(w->pinned);
		if (w->own)
			w->d->stream_destroy(w->own);
		w->d->context_release(w->device);
	}
	free(w);
}

static Status open(World *w, const Launch *l)
{
	u32 index;
	TRY(nccl_library(&w->nccl));
	TRY(cuda_driver(&w->d));
	TRY(cuda_rank_device(w->d, l->local_rank, &index));
	CU(w->d, "open the GPU", w->d->device_get(&w->device, (int)index));
	CU(w->d, "use the GPU", w->d->context_retain(&w->context, w->device));
	CU(w->d, "use the GPU", w->d->context_set(w->context));
	CU(w->d, "make a stream", w->d->stream_create(&w->own, CUDA_STREAM_APART));
	w->stream = w->own;
	return join(w, l);
}

static Status nccl_open(void **state, u32 *rank, u32 *ranks)
{
	Launch l;
	TRY(launch_read(&l));
	World *w = calloc(1, sizeof *w);
	if (!w)
		return FAIL(STATUS_MEMORY, "no memory for ranks");
	w->ranks = l.ranks;
	Status s = open(w, &l);
	if (s) {
		nccl_close(w);
		return s;
	}
	*rank = l.rank;
	*ranks = l.ranks;
	*state = w;
	return OK;
}

/* The others see that this rank is gone, and their launcher too. */
static void nccl_abort(void *state, int status)
{
	World *w = state;
	w->nccl->abort(w->comm);
	_exit(status);
}

static void nccl_order(void *state, void *stream)
{
	World *w = state;
	w->stream = stream ? stream : w->own;
}

static Status reserve(World *w, u64 bytes)
{
	if (bytes <= w->room)
		return OK;
	bytes = ALIGN_UP(bytes, 4096);
	w->room = 0;
	if (w->memory)
		CU(w->d, "give memory of messages back", w->d->release(w->memory));
	w->memory = 0;
	if (w->pinned)
		CU(w->d, "give memory of messages back", w->d->release_host(w->pinned));
	w->pinned = NULL;
	CU(w->d, "have memory for messages", w->d->allocate(&w->memory, bytes));
	CU(w->d, "have pinned memory for messages", w->d->allocate_host((void **)&w->pinned, bytes));
	w->room = bytes;
	return OK;
}

static Status nccl_all_gather(void *state, void *group, const void *send, int bytes, void *receive)
{
	World *w = state;
	u64 n = (u64)bytes, all = n * w->ranks;
	assert(!group);
	(void)group;
	CU(w->d, "use the GPU", w->d->context_set(w->context));
	TRY(reserve(w, n + all));
	memcpy(w->pinned, send, n);
	CU(w->d, "send a message", w->d->to_device(w->memory, w->pinned, n, w->stream));
	NC(w->nccl, "gather messages", w->nccl->all_gather(w->memory, w->memory + n, n, NCCL_BYTES, w->comm, w->stream));
	CU(w->d, "take a message", w->d->to_host(w->pinned + n, w->memory + n, all, w->stream));
	w->receive = receive;
	w->bytes = all;
	return OK;
}

static Status nccl_test(void *state, bool *done)
{
	World *w = state;
	int code = w->d->stream_query(w->stream), error = 0;
	if (code == CUDA_NOT_READY || code == 0) {
		NC(w->nccl, "ask how messages are", w->nccl->async_error(w->comm, &error));
		NC(w->nccl, "gather messages", error);
	}
	*done = !code;
	if (*done)
		memcpy(w->receive, w->pinned + w->bytes / w->ranks, w->bytes);
	return code && code != CUDA_NOT_READY ? cuda_failed(w->d, code, "gather messages") : OK;
}

/* only the device speaks among some of the ranks */
const Transport transport_nccl = {
	.name = "NCCL",
	.open = nccl_open,
	.close = nccl_close,
	.abort = nccl_abort,
	.order = nccl_order,
	.all_gather = nccl_all_gather,
	.test = nccl_test,
};
