/* runtime/cuda/collective.c: what devices say to one another in the middle of a step, by NCCL, on a stream beside that of
 * the step; see cuda.h. For each mesh axis there is a communicator among the ranks that differ along it alone.
 *
 * NCCL knows tensors that are cut along their first axis. Others are packed into scratch memory before, or unpacked after,
 * by copies of rows. What is under way is told by a number that is copied to the host before each collective, so that a rank
 * which waits in vain can say for what.
 *
 * Of sums the order is NCCL's: the same for the same ranks, GPUs and version. */
#include "runtime/comm/blocks.h"
#include "runtime/comm/comm.h"
#include "runtime/cuda/cuda.h"
#include "support/clock.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- joining and leaving ---- */

Status cuda_rank_device(const CudaDriver *d, u32 local_rank, u32 *index)
{
	int n = 0;
	CU(d, "count the GPUs", d->device_count(&n));
	/* a launcher may show each rank its own GPU alone */
	*index = n == 1 ? 0 : local_rank;
	if (*index < (u32)n)
		return OK;
	return FAIL(STATUS_INPUT, "this is rank %u of its host, counted from 0, and the driver shows %d GPU%s: a rank for each GPU", local_rank, n,
		    n == 1 ? "" : "s");
}

static Rows rows_of(const PackageCollective *w, const PackageCollectiveTensor *t, u32 parts)
{
	return block_rows(t, t->axis, t->outer, w->kind != PACKAGE_ALL_GATHER, parts);
}

/* Scratch of one tensor: what is packed first, then what is unpacked. */
static void scratch_of(const PackageCollective *w, const PackageCollectiveTensor *t, u32 parts, u64 *packed, u64 *unpacked)
{
	*packed = w->kind == PACKAGE_REDUCE_SCATTER && rows_of(w, t, parts).n > 1 ? said_bytes(t) : 0;
	*unpacked = w->kind == PACKAGE_ALL_GATHER && rows_of(w, t, parts).n > 1 ? said_bytes(t) * parts : 0;
	if (w->kind != PACKAGE_ALL_TO_ALL)
		return;
	*packed = rows_sent(t, parts).n > 1 ? said_bytes(t) : 0;
	*unpacked = rows_received(t, parts).n > 1 ? said_bytes(t) : 0;
}

static void count_steps(Cuda *c, CudaMesh *m)
{
	const Package *p = c->package;
	u32 room = 0;
	for (u32 e = 0; e < p->nentry; e++)
		room += p->entry[e].nstep;
	m->step = NEWN(&c->memory, const PackageStep *, room + 1);
	for (u32 e = 0; e < p->nentry; e++)
		for (u32 i = 0; i < p->entry[e].nstep; i++) {
			const PackageCollective *w = p->entry[e].step[i].collective;
			u64 bytes = 0, packed, unpacked;
			if (!w)
				continue;
			m->step[m->nstep++] = &p->entry[e].step[i];
			for (u32 t = 0; t < w->n; t++) {
				scratch_of(w, &w->tensor[t], p->mesh.axis[w->mesh].size, &packed, &unpacked);
				bytes += ALIGN_UP(packed, CUDA_SCRATCH_ALIGN) + ALIGN_UP(unpacked, CUDA_SCRATCH_ALIGN);
			}
			m->scratch_bytes = MAX(m->scratch_bytes, bytes);
		}
}

/* Who is first along the axis makes the id, and all are told all ids. */
static Status join_axis(Cuda *c, CudaMesh *m, u32 axis)
{
	Comm *comm = c->options.comm;
	u32 n = c->package->mesh.axis[axis].size, at = comm_coordinate(comm, axis);
	NcclId mine = { 0 }, *all = calloc(comm_ranks(comm), sizeof *all);
	if (!all)
		return FAIL(STATUS_MEMORY, "no memory for ranks");
	Status s = OK;
	int code = at ? 0 : m->nccl->unique_id(&mine);
	if (code)
		s = nccl_failed(m->nccl, code, "have an id");
	if (!s)
		s = comm_gather(comm, "telling ids of NCCL", &mine, sizeof mine, all);
	if (!s) {
		code = m->nccl->join(&m->group[axis], (int)n, all[comm_rank_at(comm, axis, 0)], (int)at);
		if (code)
			s = status_context(nccl_failed(m->nccl, code, "join the other ranks"), "mesh axis %s", c->package->mesh.axis[axis].name);
	}
	free(all);
	return s;
}

/* Which collective has begun last, for messages. */
static void tell_now(void *cx, char *to, size_t size)
{
	const Cuda *c = cx;
	const CudaMesh *m = c->mesh;
	u32 now = *(volatile u32 *)m->now;
	const PackageStep *s = now < m->nstep ? m->step[now] : NULL;
	*to = 0;
	if (!s)
		return;
	int n = snprintf(to, size, "%s over %s", s->name, c->package->mesh.axis[s->collective->mesh].name);
	if (s->line && n > 0 && (size_t)n < size)
		snprintf(to + n, size - (size_t)n, " (%s:%u)", s->file, s->line);
}

Status cuda_mesh_open(Cuda *c)
{
	const PackageMesh *mesh = &c->package->mesh;
	const CudaDriver *d = c->d;
	if (!c->options.comm || !mesh->n)
		return OK;
	CudaMesh *m = c->mesh = NEW(&c->memory, CudaMesh);
	TRY(nccl_library(&m->nccl));
	count_steps(c, m);
	TRY(comm_mesh(c->options.comm, mesh));
	for (u32 i = 0; i < mesh->n; i++)
		if (mesh->axis[i].size > 1)
			TRY(join_axis(c, m, i));
	if (m->scratch_bytes)
		CU(d, "have memory for messages", d->allocate(&m->scratch, m->scratch_bytes));
	CU(d, "make a stream", d->stream_create(&m->stream, CUDA_STREAM_APART));
	CU(d, "make an event", d->event_create(&m->made, CUDA_EVENT_UNTIMED));
	m->done = NEWN(&c->memory, CudaEvent *, m->nstep + 1);
	for (u32 i = 0; i < m->nstep; i++)
		CU(d, "make an event", d->event_create(&m->done[i], CUDA_EVENT_UNTIMED));
	/* numbers that the host is told */
	u64 bytes = (m->nstep + 1) * sizeof *m->now;
	CU(d, "have pinned memory of the host", d->allocate_host((void **)&m->now, bytes));
	CU(d, "have memory for messages", d->allocate(&m->numbers, bytes));
	for (u32 i = 0; i <= m->nstep; i++)
		m->now[i] = i;
	CU(d, "upload", d->to_device(m->numbers, m->now, bytes, c->stream));
	CU(d, "upload", d->stream_synchronize(c->stream));
	*m->now = m->nstep; /* none yet */
	TRY(cuda_channels_open(c));
	comm_order(c->options.comm, c->stream, tell_now, c);
	return OK;
}

void cuda_mesh_abort(Cuda *c)
{
	CudaMesh *m = c->mesh;
	for (u32 i = 0; m && i < COUNT(m->group); i++) {
		if (m->group[i])
			m->nccl->abort(m->group[i]);
		m->group[i] = NULL;
	}
	if (m)
		cuda_channels_abort(c);
}

void cuda_mesh_close(Cuda *c)
{
	CudaMesh *m = c->mesh;
	if (!m)
		return;
	comm_order(c->options.comm, NULL, NULL, NULL);
	cuda_channels_close(c);
	for (u32 i = 0; i < COUNT(m->group); i++)
		if (m->group[i])
			m->nccl->leave(m->group[i]);
	for (u32 i = 0; m->done && i < m->nstep; i++)
		if (m->done[i])
			c->d->event_destroy(m->done[i]);
	if (m->made)
		c->d->event_destroy(m->made);
	if (m->stream)
		c->d->stream_destroy(m->stream);
	if (m->scratch)
		c->d->release(m->scratch);
	if (m->numbers)
		c->d->release(m->numbers);
	if (m->now)
		c->d->release_host(m->now);
}

/* ---- saying ---- */

/* Block k of each row, between where it is one of `parts` and where rows follow one another. */
static Status copy_block(Cuda *c, CudaAddress packed, CudaAddress whole, Rows r, u32 parts, u32 k, bool pack, CudaStream *on)
{
	CudaAddress block = whole + k * r.bytes;
	CudaCopy2D copy = {
		.from_kind = CUDA_MEMORY_DEVICE,
		.from = pack ? block : packed,
		.from_pitch = pack ? parts * r.bytes : r.bytes,
		.to_kind = CUDA_MEMORY_DEVICE,
		.to = pack ? packed : block,
		.to_pitch = pack ? r.bytes : parts * r.bytes,
		.width = r.bytes,
		.height = r.n,
	};
	CU(c->d, "copy blocks of a tensor", c->d->copy_rows(&copy, on));
	return OK;
}

static Status copy_blocks(Cuda *c, CudaAddress packed, CudaAddress whole, Rows r, u32 parts, bool pack, CudaStream *on)
{
	for (u32 k = 0; k < parts; k++)
		TRY(copy_block(c, packed + k * r.n * r.bytes, whole, r, parts, k, pack, on));
	return OK;
}

/* One tensor of a collective, as NCCL is to see it. */
typedef struct Said {
	CudaAddress in, out; /* contiguous by blocks */
} Said;

static Status say(Cuda *c, const PackageCollective *w, const PackageCollectiveTensor *t, Said s, CudaStream *on)
{
	const CudaMesh *m = c->mesh;
	const Nccl *n = m->nccl;
	NcclComm *group = cuda_members(c, w);
	u32 parts = c->package->mesh.axis[w->mesh].size, me = comm_coordinate(c->options.comm, w->mesh);
	u64 elements = said_elements(t), bytes = said_bytes(t);
	switch (w->kind) {
	case PACKAGE_ALL_REDUCE:
	case PACKAGE_REDUCE_AMONG:
		NC(n, "add up", n->all_reduce(s.in, s.out, elements, nccl_dtype(t->dtype), nccl_reduce(w->reduce), group, on));
		break;
	case PACKAGE_REDUCE_SCATTER:
		NC(n, "add up", n->reduce_scatter(s.in, s.out, elements / parts, nccl_dtype(t->dtype), nccl_reduce(w->reduce), group, on));
		break;
	case PACKAGE_ALL_GATHER: NC(n, "gather", n->all_gather(s.in, s.out, bytes, NCCL_BYTES, group, on)); break;
	case PACKAGE_ALL_TO_ALL:
		for (u32 k = 0; k < parts; k++) {
			NC(n, "send", n->send(s.in + k * (bytes / parts), bytes / parts, NCCL_BYTES, (int)k, group, on));
			NC(n, "receive", n->receive(s.out + k * (bytes / parts), bytes / parts, NCCL_BYTES, (int)k, group, on));
		}
		break;
	case PACKAGE_PERMUTE:
		NC(n, "send", n->send(s.in, bytes, NCCL_BYTES, (int)ring_member(me, w->shift, parts, false), group, on));
		NC(n, "receive", n->receive(s.out, bytes, NCCL_BYTES, (int)ring_member(me, w->shift, parts, true), group, on));
		break;
	default: NEVER("a message between stages");
	}
	return OK;
}

static Status say_all(Cuda *c, const PackageCollective *w, const Said *said, CudaStream *on)
{
	Status s = OK;
	NC(c->mesh->nccl, "begin messages", c->mesh->nccl->group_start());
	for (u32 i = 0; i < w->n && !s; i++)
		s = say(c, w, &w->tensor[i], said[i], on);
	int code = c->mesh->nccl->group_end();
	return s || !code ? s : nccl_failed(c->mesh->nccl, code, "end messages");
}

static Status run(Cuda *c, const PackageStep *step, Said *said, CudaStream *on)
{
	const PackageCollective *w = step->collective;
	u32 parts = c->package->mesh.axis[w->mesh].size;
	CudaAddress at = c->mesh->scratch;
	u64 packed, unpacked;
	for (u32 i = 0; i < w->n; i++) {
		const PackageCollectiveTensor *t = &w->tensor[i];
		said[i] = (Said){ c->arena + step->slot[i], c->arena + step->slot[w->n + i] };
		scratch_of(w, t, parts, &packed, &unpacked);
		if (packed) {
			Rows r = w->kind == PACKAGE_ALL_TO_ALL ? rows_sent(t, parts) : rows_of(w, t, parts);
			TRY(copy_blocks(c, at, said[i].in, r, parts, true, on));
			said[i].in = at;
		}
		at += ALIGN_UP(packed, CUDA_SCRATCH_ALIGN);
		if (unpacked)
			said[i].out = at;
		at += ALIGN_UP(unpacked, CUDA_SCRATCH_ALIGN);
	}
	TRY(say_all(c, w, said, on));
	for (u32 i = 0; i < w->n; i++) {
		const PackageCollectiveTensor *t = &w->tensor[i];
		scratch_of(w, t, parts, &packed, &unpacked);
		if (!unpacked)
			continue;
		Rows r = w->kind == PACKAGE_ALL_TO_ALL ? rows_received(t, parts) : rows_of(w, t, parts);
		TRY(copy_blocks(c, said[i].out, c->arena + step->slot[w->n + i], r, parts, false, on));
	}
	return OK;
}

Status cuda_tell_now(Cuda *c, const CudaStep *s, CudaStream *on)
{
	CudaMesh *m = c->mesh;
	CU(c->d, "tell which messages are under way", c->d->to_host(m->now, m->numbers + s->number * sizeof *m->now, sizeof *m->now, on));
	return OK;
}

Status cuda_say(Cuda *c, const CudaStep *s, CudaStream *on)
{
	CudaMesh *m = c->mesh;
	u32 n = s->step->collective->n;
	if (!m)
		return FAIL(STATUS_INPUT, "the program is for one device of a mesh, and there are no other ranks");
	Said few[16], *said = n <= COUNT(few) ? few : malloc(n * sizeof *said);
	if (!said)
		return FAIL(STATUS_MEMORY, "no memory for messages");
	Status failed = cuda_tell_now(c, s, on);
	if (!failed)
		failed = status_context(run(c, s->step, said, on), "%s", s->step->name);
	if (said != few)
		free(said);
	return failed;
}

static const char beside[] = "put messages beside work";

Status cuda_say_beside(Cuda *c, const CudaStep *s)
{
	CudaMesh *m = c->mesh;
	if (!m)
		return cuda_say(c, s, c->stream); /* refused there */
	CU(c->d, beside, c->d->event_record(m->made, c->stream));
	CU(c->d, beside, c->d->stream_wait(m->stream, m->made, 0));
	TRY(cuda_say(c, s, m->stream));
	CU(c->d, beside, c->d->event_record(m->done[s->number], m->stream));
	return OK;
}

Status cuda_hear(Cuda *c, const CudaStep *s)
{
	CU(c->d, beside, c->d->stream_wait(c->stream, c->mesh->done[s->number], 0));
	return OK;
}

/* ---- waiting ---- */

static const char waiting[] = "waiting for its GPU";

/* Fails where a rank is gone, or NCCL has noticed something. */
static Status check_others(Cuda *c, f64 seconds)
{
	CudaMesh *m = c->mesh;
	char now[300];
	TRY(comm_alive(c->options.comm, waiting, seconds));
	for (u32 i = 0; i < COUNT(m->group) + m->nchannel; i++) {
		int error = 0;
		NcclComm *group = i < COUNT(m->group) ? m->group[i] : m->channel[i - COUNT(m->group)].comm;
		if (!group)
			continue;
		int code = m->nccl->async_error(group, &error);
		code = code ? code : error;
		if (!code || code == NCCL_IN_PROGRESS)
			continue;
		tell_now(c, now, sizeof now);
		return status_context(nccl_failed(m->nccl, code, "hear from the other ranks"), "the GPU of rank %u in %s", comm_rank(c->options.comm),
				      *now ? now : "no collective yet");
	}
	return OK;
}

Status cuda_wait(Cuda *c, CudaEvent *event)
{
	static const char what[] = "run what was started";
	f64 begun = clock_seconds(), looked = begun;
	if (!c->mesh) {
		CU(c->d, what, event ? c->d->event_synchronize(event) : c->d->stream_synchronize(c->stream));
		return OK;
	}
	for (u32 tries = 0;; tries++) {
		int code = event ? c->d->event_query(event) : c->d->stream_query(c->stream);
		if (!code)
			return OK;
		f64 now = clock_seconds();
		if (code != CUDA_NOT_READY || now - looked > 0.1) {
			looked = now;
			Status s = check_others(c, now - begun);
			if (!s && code != CUDA_NOT_READY)
				s = cuda_failed(c->d, code, what);
			if (s) {
				s = comm_failed(c->options.comm, s, waiting, now - begun);
				cuda_mesh_abort(c); /* nothing is waited for any more */
				return s;
			}
		}
		if (tries < 1000)
			sched_yield();
		else
			nanosleep(&(struct timespec){ 0, 20000 }, NULL);
	}
}
