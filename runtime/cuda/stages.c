/* runtime/cuda/stages.c: what stages of a pipeline say to one another, by NCCL; see cuda.h.
 *
 * NCCL's messages have no tags: those of one communicator go one behind the other, and a send lasts until the other rank receives.
 * But stages come to their messages in different orders (one sends the next micro-batch on before it takes a gradient back, the
 * other gives the gradient first), and on one stream each would wait for the other. So each value that crosses from one stage to
 * another has a *channel*: a communicator of the two, as PyTorch has one for each pair, and a stream of its own. Both ends come
 * to a channel's messages in order of micro-batches.
 *
 * Who sends copies the value to a place of the channel and goes on. A channel has as many places as its chunks hold micro-batches,
 * the more of the two: no schedule waits in a circle then (tests/unit/test_schedule.c). Who receives does so when its stream comes
 * there, to where the value belongs. What one chunk of a stage tells another of the same stage is copied, to a place and from it.
 *
 * None of this is captured: a graph ends with all that it has begun, and a send goes on behind it. launch.c cuts entries at
 * messages. A sum over some stages has a communicator too, and is else a collective like others. */
#include "runtime/comm/blocks.h"
#include "runtime/comm/comm.h"
#include "runtime/cuda/cuda.h"

#include <stdlib.h>
#include <string.h>

enum { NO_TAG = UINT32_MAX }; /* of a sum: those of one set of stages go one behind the other */

bool cuda_between_stages(const PackageCollective *w)
{
	return w && (w->kind == PACKAGE_SEND || w->kind == PACKAGE_RECEIVE);
}

static u64 bit(u32 coordinate)
{
	return (u64)1 << coordinate;
}

static bool same(const CudaChannel *a, const CudaChannel *b)
{
	return a->mesh == b->mesh && a->members == b->members && a->first == b->first && a->tag == b->tag;
}

/* Which one the collective goes through. */
static CudaChannel key_of(const Cuda *c, const PackageCollective *w)
{
	u32 me = comm_coordinate(c->options.comm, w->mesh);
	CudaChannel key = { .mesh = w->mesh, .members = bit(me) | bit(w->peer), .tag = w->tag };
	if (w->kind == PACKAGE_REDUCE_AMONG) {
		key.members = w->members;
		key.first = (u32)__builtin_ctzll(w->members);
		key.tag = NO_TAG;
	} else {
		key.first = w->kind == PACKAGE_SEND ? me : w->peer;
	}
	return key;
}

static CudaChannel *find(const Cuda *c, const PackageCollective *w)
{
	CudaChannel key = key_of(c, w);
	for (u32 i = 0; i < c->mesh->nchannel; i++)
		if (same(&c->mesh->channel[i], &key))
			return &c->mesh->channel[i];
	return NULL;
}

static bool among_all(const Cuda *c, const PackageCollective *w)
{
	return (u32)__builtin_popcountll(w->members) == c->package->mesh.axis[w->mesh].size;
}

NcclComm *cuda_members(const Cuda *c, const PackageCollective *w)
{
	return w->kind == PACKAGE_REDUCE_AMONG && !among_all(c, w) ? find(c, w)->comm : c->mesh->group[w->mesh];
}

/* ---- which channels there are ---- */

static CudaChannel *add(Cuda *c, const PackageCollective *w)
{
	CudaMesh *m = c->mesh;
	CudaChannel *channel = find(c, w);
	if (!channel) {
		channel = &m->channel[m->nchannel++];
		*channel = key_of(c, w);
	}
	return channel;
}

/* By what all members agree on, so that all come to them in this order. */
static int in_order(const void *x, const void *y)
{
	const CudaChannel *a = x, *b = y;
	if (a->mesh != b->mesh)
		return a->mesh < b->mesh ? -1 : 1;
	if (a->members != b->members)
		return a->members < b->members ? -1 : 1;
	if (a->first != b->first)
		return a->first < b->first ? -1 : 1;
	return a->tag < b->tag ? -1 : a->tag > b->tag;
}

/* Of a half of a micro-batch there is an entry for each micro-batch that the chunk holds. */
static void find_channels(Cuda *c)
{
	const Package *p = c->package;
	CudaMesh *m = c->mesh;
	bool *runs = NEWN(&c->memory, bool, p->nentry + 1);
	for (u32 i = 0; i < p->pipe.ntask; i++)
		runs[p->pipe.task[i].entry] = true;
	m->channel = NEWN(&c->memory, CudaChannel, m->nstep + 1);
	for (u32 e = 0; e < p->nentry; e++)
		for (u32 i = 0; i < p->entry[e].nstep; i++) {
			const PackageCollective *w = p->entry[e].step[i].collective;
			if (!cuda_between_stages(w) && !(w && w->kind == PACKAGE_REDUCE_AMONG && !among_all(c, w)))
				continue;
			CudaChannel *channel = add(c, w);
			channel->bytes = MAX(channel->bytes, said_bytes(w->tensor));
			channel->entries[w->kind == PACKAGE_SEND] += runs[e];
		}
	qsort(m->channel, m->nchannel, sizeof *m->channel, in_order);
}

/* ---- joining and leaving ---- */

/* What a rank tells of a channel of its own; who is first gives the id. */
typedef struct Told {
	u64 members;
	u32 mesh, first, tag, entries; /* that a step runs: of the two ways of a stage with itself, the more */
	NcclId id;
} Told;

static Status tell(Cuda *c, Told *mine)
{
	for (u32 i = 0; i < c->mesh->nchannel; i++) {
		const CudaChannel *x = &c->mesh->channel[i];
		mine[i].members = x->members;
		mine[i].mesh = x->mesh;
		mine[i].first = x->first;
		mine[i].tag = x->tag;
		mine[i].entries = MAX(x->entries[0], x->entries[1]);
		if (x->first == comm_coordinate(c->options.comm, x->mesh))
			NC(c->mesh->nccl, "have an id", c->mesh->nccl->unique_id(&mine[i].id));
	}
	return OK;
}

static const Told *told_by(const Cuda *c, const CudaChannel *x, u32 coordinate, const Told *all, u32 most)
{
	const Told *of = all + (size_t)comm_rank_at(c->options.comm, x->mesh, coordinate) * most;
	for (u32 i = 0; i < most; i++)
		if (of[i].members == x->members && of[i].mesh == x->mesh && of[i].first == x->first && of[i].tag == x->tag)
			return &of[i];
	return NULL;
}

/* A member's rank in the communicator: who is first has 0. */
static int place_among(const CudaChannel *x, u32 coordinate)
{
	return x->tag == NO_TAG ? __builtin_popcountll(x->members & (bit(coordinate) - 1)) : coordinate != x->first;
}

/* NCCL connects two ranks when they first speak, and the host waits for that: so they do now, in the order of channels. */
static Status connect(Cuda *c, const CudaChannel *x, u32 me)
{
	const Nccl *n = c->mesh->nccl;
	CudaAddress at = c->mesh->numbers; /* zeros, for zeros */
	if (x->first == me)
		NC(n, "send", n->send(at, 1, NCCL_BYTES, 1 - place_among(x, me), x->comm, x->stream));
	else
		NC(n, "receive", n->receive(at, 1, NCCL_BYTES, 1 - place_among(x, me), x->comm, x->stream));
	CU(c->d, "speak with another stage", c->d->stream_synchronize(x->stream));
	return OK;
}

static Status make_places(Cuda *c, CudaChannel *x, u32 places)
{
	const CudaDriver *d = c->d;
	x->places = places;
	if (places) {
		u64 bytes = x->places * ALIGN_UP(x->bytes, CUDA_SCRATCH_ALIGN);
		CU(d, "have memory for messages", d->allocate(&x->place, bytes));
		c->mesh->places_bytes += bytes;
	}
	if (__builtin_popcountll(x->members) == 1)
		return OK;
	CU(d, "make a stream", d->stream_create(&x->stream, CUDA_STREAM_APART));
	CU(d, "make an event", d->event_create(&x->made, CUDA_EVENT_UNTIMED));
	x->done = NEWN(&c->memory, CudaEvent *, x->places + 1);
	for (u32 i = 0; i < MAX(x->places, 1u); i++)
		CU(d, "make an event", d->event_create(&x->done[i], CUDA_EVENT_UNTIMED));
	return OK;
}

static Status open_channel(Cuda *c, CudaChannel *x, const Told *all, u32 most)
{
	u32 me = comm_coordinate(c->options.comm, x->mesh), places = 1;
	for (u32 k = 0; k < 64; k++) {
		const Told *told = x->members & bit(k) ? told_by(c, x, k, all, most) : NULL;
		assert((told || !(x->members & bit(k))) && "the stages of a program have the same messages");
		places = told ? MAX(places, told->entries) : places;
	}
	if (x->tag != NO_TAG)
		TRY(make_places(c, x, x->first == me ? places : 0));
	if (__builtin_popcountll(x->members) == 1)
		return OK;
	NcclId id = told_by(c, x, x->first, all, most)->id;
	NC(c->mesh->nccl, "join another stage",
	   c->mesh->nccl->join(&x->comm, __builtin_popcountll(x->members), id, place_among(x, me)));
	return x->tag == NO_TAG ? OK : connect(c, x, me);
}

Status cuda_channels_open(Cuda *c)
{
	static const char what[] = "telling ids of NCCL";
	Comm *comm = c->options.comm;
	u32 ranks = comm_ranks(comm), most = 0;
	find_channels(c);
	u32 *count = NEWN(&c->memory, u32, ranks + 1);
	TRY(comm_gather(comm, what, &c->mesh->nchannel, sizeof *count, count));
	for (u32 r = 0; r < ranks; r++)
		most = MAX(most, count[r]);
	if (!most)
		return OK;
	Told *mine = calloc(most, sizeof *mine), *all = calloc((size_t)most * ranks, sizeof *all);
	Status s = mine && all ? tell(c, mine) : FAIL(STATUS_MEMORY, "no memory for ranks");
	if (!s)
		s = comm_gather(comm, what, mine, (u32)(most * sizeof *mine), all);
	for (u32 i = 0; i < c->mesh->nchannel && !s; i++)
		s = open_channel(c, &c->mesh->channel[i], all, most);
	free(mine);
	free(all);
	return s;
}

void cuda_channels_abort(Cuda *c)
{
	for (u32 i = 0; i < c->mesh->nchannel; i++) {
		if (c->mesh->channel[i].comm)
			c->mesh->nccl->abort(c->mesh->channel[i].comm);
		c->mesh->channel[i].comm = NULL;
	}
}

void cuda_channels_close(Cuda *c)
{
	const CudaDriver *d = c->d;
	for (u32 i = 0; i < c->mesh->nchannel; i++) {
		CudaChannel *x = &c->mesh->channel[i];
		if (x->stream && x->comm)
			d->stream_synchronize(x->stream);
		if (x->comm)
			c->mesh->nccl->leave(x->comm);
		for (u32 k = 0; x->done && k < MAX(x->places, 1u); k++)
			if (x->done[k])
				d->event_destroy(x->done[k]);
		if (x->made)
			d->event_destroy(x->made);
		if (x->stream)
			d->stream_destroy(x->stream);
		if (x->place)
			d->release(x->place);
	}
}

/* ---- messages ---- */

static const char what[] = "speak with another stage";

static CudaAddress next_place(const CudaChannel *x, u32 n)
{
	return x->place + n % x->places * ALIGN_UP(x->bytes, CUDA_SCRATCH_ALIGN);
}

/* What comes now onto the channel's stream comes behind all that is on the step's. */
static Status follow(Cuda *c, const CudaChannel *x, const CudaStep *s)
{
	CU(c->d, what, c->d->event_record(x->made, c->stream));
	CU(c->d, what, c->d->stream_wait(x->stream, x->made, 0));
	return cuda_tell_now(c, s, x->stream);
}

static Status send(Cuda *c, const CudaStep *s, CudaChannel *x)
{
	const PackageStep *step = s->step;
	u64 bytes = said_bytes(step->collective->tensor);
	u32 me = comm_coordinate(c->options.comm, x->mesh), n = x->sent++;
	CudaAddress place = next_place(x, n);
	if (x->comm)
		CU(c->d, what, c->d->stream_wait(c->stream, x->done[n % x->places], 0));
	CU(c->d, what, c->d->on_device(place, c->arena + step->slot[0], bytes, c->stream));
	CU(c->d, what, c->d->fill(c->arena + step->slot[1], 0, 1, c->stream)); /* its token */
	if (!x->comm)
		return OK;
	TRY(follow(c, x, s));
	NC(c->mesh->nccl, "send", c->mesh->nccl->send(place, bytes, NCCL_BYTES, 1 - place_among(x, me), x->comm, x->stream));
	CU(c->d, what, c->d->event_record(x->done[n % x->places], x->stream));
	return OK;
}

static Status receive(Cuda *c, const CudaStep *s, CudaChannel *x)
{
	const PackageStep *step = s->step;
	u64 bytes = said_bytes(step->collective->tensor);
	u32 me = comm_coordinate(c->options.comm, x->mesh);
	CudaAddress to = c->arena + step->slot[1];
	if (!x->comm) {
		CU(c->d, what, c->d->on_device(to, next_place(x, x->received++), bytes, c->stream));
		return OK;
	}
	TRY(follow(c, x, s));
	NC(c->mesh->nccl, "receive", c->mesh->nccl->receive(to, bytes, NCCL_BYTES, 1 - place_among(x, me), x->comm, x->stream));
	CU(c->d, what, c->d->event_record(x->done[0], x->stream));
	CU(c->d, what, c->d->stream_wait(c->stream, x->done[0], 0));
	return OK;
}

Status cuda_message(Cuda *c, const CudaStep *s)
{
	if (!c->mesh)
		return cuda_say(c, s, c->stream); /* refused there */
	CudaChannel *x = find(c, s->step->collective);
	Status failed = s->step->collective->kind == PACKAGE_SEND ? send(c, s, x) : receive(c, s, x);
	return status_context(failed, "%s", s->step->name);
}
