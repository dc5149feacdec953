/* runtime/comm/comm.c: see comm.h. */
#include "runtime/comm/comm.h"
#include "runtime/comm/blocks.h"
#include "runtime/comm/queue.h"
#include "runtime/comm/reduce.h"
#include "runtime/comm/share.h"
#include "support/clock.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Who a rank is: for messages, and to see whether it lives. */
typedef struct Peer {
	char host[64];
	i64 process;
} Peer;

typedef struct Buffer {
	u8 *p;
	u64 size;
} Buffer;

/* Under way: the bytes are kept until they have left. */
typedef struct Sent {
	void *message;
	u8 *p;
} Sent;

/* A collective under way. */
typedef struct Flow {
	Share *share; /* where it is; NULL: in the queue */
	const PackageStep *step;
} Flow;

struct Comm {
	const Transport *transport;
	void *state;
	u32 rank, ranks, local_rank, local_ranks;
	Peer *peer; /* [ranks] */
	PackageMesh mesh;
	void *group[6];
	u32 at[6];  /* this rank's coordinates */
	Buffer send, receive, slots; /* slots: addresses */
	int *count[4]; /* [ranks] bytes and places, sent and received */
	u64 *bytes[2]; /* [ranks] to send and to receive */
	Sent *sent;
	u32 nsent, room;
	char what[300]; /* that is waited for */
	void (*doing)(void *cx, char *to, size_t size); /* of the device that runs steps; or NULL */
	void *doing_cx;
	Queue *queue; /* of collectives under way; NULL: there were none yet */
	Flow flow[COMM_ROOM]; /* what is under way */
	u32 begun, done, queued; /* all so far, and how many of those under way are in the queue */
};

u32 comm_launched(void)
{
	static const char *const name[] = { "OMPI_COMM_WORLD_SIZE", "PMIX_SIZE", "PMI_SIZE" };
	for (u32 i = 0; i < COUNT(name); i++)
		if (getenv(name[i]))
			return (u32)strtoul(getenv(name[i]), NULL, 10);
	return 0;
}

/* ---- waiting ---- */

static void pause_for(f64 seconds)
{
	nanosleep(&(struct timespec){ 0, (long)(seconds * 1e9) }, NULL);
}

/* One that has ended and that its parent has not asked for yet is gone too, and kill(2) would still find it. */
static bool is_gone(i64 process)
{
	int watch = (int)syscall(SYS_pidfd_open, (pid_t)process, 0);
	if (watch < 0) /* before Linux 5.3, and where it is forbidden */
		return kill((pid_t)process, 0) != 0 && errno == ESRCH;
	struct pollfd ended = { .fd = watch, .events = POLLIN };
	bool gone = poll(&ended, 1, 0) > 0;
	close(watch);
	return gone;
}

/* A rank on this host whose process is gone, or NONE. */
static u32 dead_rank(const Comm *c)
{
	for (u32 r = 0; c->peer && r < c->ranks; r++)
		if (r != c->rank && !strcmp(c->peer[r].host, c->peer[c->rank].host) && is_gone(c->peer[r].process))
			return r;
	return UINT32_MAX;
}

Status comm_alive(Comm *c, const char *what, f64 seconds)
{
	u32 dead = dead_rank(c);
	if (dead == UINT32_MAX)
		return OK;
	char doing[300] = "";
	if (c->doing)
		c->doing(c->doing_cx, doing, sizeof doing);
	return FAIL(STATUS_IO, "rank %u (process %lld on %s) is gone; rank %u was in %s, for %.1f s%s%s", dead, (long long)c->peer[dead].process,
		    c->peer[dead].host, c->rank, what, seconds, *doing ? "; its GPU was in " : "", doing);
}

Status comm_failed(Comm *c, Status s, const char *what, f64 seconds)
{
	/* a dying process closes its connections before it is gone */
	for (f64 begun = clock_seconds(); s && clock_seconds() - begun < 1; pause_for(0.01))
		TRY(comm_alive(c, what, seconds));
	return s;
}

/* A failure of the transport, in the words of this rank. */
static Status said_failed(Comm *c, Status s, f64 seconds)
{
	return s ? comm_failed(c, status_context(s, "rank %u in %s", c->rank, c->what), c->what, seconds) : OK;
}

/* Until the message, or else the collective, that was begun is done; spins a little, then sleeps, for ranks may be more than
 * cores. */
static Status wait_message(Comm *c, void **message)
{
	f64 begun = clock_seconds(), looked = begun;
	for (u32 tries = 0;; tries++) {
		bool done = false;
		Status s = message ? c->transport->test_message(c->state, message, &done) : c->transport->test(c->state, &done);
		f64 now = clock_seconds();
		if (s)
			return said_failed(c, s, now - begun);
		if (done)
			return OK;
		if (c->queue && queue_stops(c->queue))
			return FAIL(STATUS_IO, "rank %u was in %s, for %.1f s, when it was to end", c->rank, c->what, now - begun);
		if (now - looked > 0.1) {
			looked = now;
			TRY(comm_alive(c, c->what, now - begun));
		}
		if (tries < 64)
			sched_yield();
		else
			pause_for(now - begun < 0.01 ? 20e-6 : 200e-6);
	}
}

static Status wait_done(Comm *c)
{
	return wait_message(c, NULL);
}

static void waiting_for(Comm *c, const char *what)
{
	snprintf(c->what, sizeof c->what, "%s", what);
}

/* ---- memory and messages ---- */

static Status reserve(Buffer *b, u64 bytes)
{
	if (bytes <= b->size)
		return OK;
	free(b->p);
	b->size = 0;
	b->p = malloc(bytes + 64);
	if (!b->p)
		return FAIL(STATUS_MEMORY, "no memory for %llu bytes of messages", (unsigned long long)bytes);
	b->size = bytes;
	return OK;
}

static Status check_bytes(const Comm *c, u64 bytes)
{
	if (bytes <= INT32_MAX)
		return OK;
	return FAIL(STATUS_UNSUPPORTED, "%s: a message of %llu bytes, and 2 GiB is the most", c->what, (unsigned long long)bytes);
}

/* Sends send.p, bytes[k] for member k in turn; what comes is in receive.p likewise. */
static Status exchange(Comm *c, u32 m, u32 n, const u64 *out, const u64 *in)
{
	u64 sent = 0, received = 0;
	for (u32 k = 0; k < n; k++) {
		c->count[0][k] = (int)out[k];
		c->count[1][k] = (int)sent;
		c->count[2][k] = (int)in[k];
		c->count[3][k] = (int)received;
		sent += out[k];
		received += in[k];
	}
	TRY(check_bytes(c, MAX(sent, received)));
	Status s = c->transport->all_to_all(c->state, c->group[m], c->send.p, c->count[0], c->count[1], c->receive.p, c->count[2], c->count[3]);
	TRY(said_failed(c, s, 0));
	return wait_done(c);
}

/* ---- blocks of a dimension ---- */

static void take_block(u8 *to, const u8 *whole, Rows r, u32 parts, u32 c)
{
	for (u64 i = 0; i < r.n; i++)
		memcpy(to + i * r.bytes, whole + (i * parts + c) * r.bytes, r.bytes);
}

static void put_block(u8 *whole, const u8 *from, Rows r, u32 parts, u32 c)
{
	for (u64 i = 0; i < r.n; i++)
		memcpy(whole + (i * parts + c) * r.bytes, from + i * r.bytes, r.bytes);
}

/* ---- the collectives ---- */

/* Elements of a tensor that member c sums in an all_reduce. */
static void chunk(u64 n, u32 parts, u32 c, u64 *from, u64 *count)
{
	*from = n * c / parts;
	*count = n * (c + 1) / parts - *from;
}

static Status all_gather(Comm *c, u32 m, u64 bytes)
{
	TRY(check_bytes(c, bytes * c->mesh.axis[m].size));
	TRY(said_failed(c, c->transport->all_gather(c->state, c->group[m], c->send.p, (int)bytes, c->receive.p), 0));
	return wait_done(c);
}

/* Every member sums its part of each tensor, in order of coordinates, and hands it round. */
static Status all_reduce(Comm *c, const PackageCollective *w, u8 *const *in, u8 *const *out)
{
	u32 n = c->mesh.axis[w->mesh].size, me = c->at[w->mesh];
	u64 total = 0, mine = 0, from, count, at = 0;
	for (u32 i = 0; i < w->n; i++) {
		chunk(said_elements(&w->tensor[i]), n, me, &from, &count);
		mine += count * package_dtype_bytes[w->tensor[i].dtype];
		total += said_bytes(&w->tensor[i]);
	}
	u64 most = 0; /* of a member's part: what all_gather hands round */
	for (u32 k = 0; k < n; k++) {
		c->bytes[0][k] = 0;
		c->bytes[1][k] = mine;
		for (u32 i = 0; i < w->n; i++) {
			chunk(said_elements(&w->tensor[i]), n, k, &from, &count);
			c->bytes[0][k] += count * package_dtype_bytes[w->tensor[i].dtype];
		}
		most = MAX(most, c->bytes[0][k]);
	}
	TRY(reserve(&c->send, MAX(total, most)));
	TRY(reserve(&c->receive, MAX(mine, most) * n));
	for (u32 k = 0; k < n; k++)
		for (u32 i = 0; i < w->n; i++) {
			u64 size = package_dtype_bytes[w->tensor[i].dtype];
			chunk(said_elements(&w->tensor[i]), n, k, &from, &count);
			memcpy(c->send.p + at, in[i] + from * size, count * size);
			at += count * size;
		}
	TRY(exchange(c, w->mesh, n, c->bytes[0], c->bytes[1]));
	at = 0;
	for (u32 i = 0; i < w->n; i++) {
		u64 size = package_dtype_bytes[w->tensor[i].dtype];
		chunk(said_elements(&w->tensor[i]), n, me, &from, &count);
		memcpy(c->send.p + at, c->receive.p + at, count * size);
		for (u32 k = 1; k < n; k++)
			reduce_into(w->reduce, w->tensor[i].dtype, c->send.p + at, c->receive.p + k * mine + at, count);
		at += count * size;
	}
	TRY(all_gather(c, w->mesh, most));
	for (u32 k = 0; k < n; k++) {
		at = k * most;
		for (u32 i = 0; i < w->n; i++) {
			u64 size = package_dtype_bytes[w->tensor[i].dtype];
			chunk(said_elements(&w->tensor[i]), n, k, &from, &count);
			memcpy(out[i] + from * size, c->receive.p + at, count * size);
			at += count * size;
		}
	}
	return OK;
}

static Status gather_parts(Comm *c, const PackageCollective *w, u8 *const *in, u8 *const *out)
{
	u32 n = c->mesh.axis[w->mesh].size;
	u64 total = 0, at = 0;
	for (u32 i = 0; i < w->n; i++)
		total += said_bytes(&w->tensor[i]);
	TRY(reserve(&c->send, total));
	TRY(reserve(&c->receive, total * n));
	for (u32 i = 0; i < w->n; at += said_bytes(&w->tensor[i++]))
		memcpy(c->send.p + at, in[i], said_bytes(&w->tensor[i]));
	TRY(all_gather(c, w->mesh, total));
	for (u32 k = 0; k < n; k++) {
		at = k * total;
		for (u32 i = 0; i < w->n; at += said_bytes(&w->tensor[i++]))
			put_block(out[i], c->receive.p + at, block_rows(&w->tensor[i], w->tensor[i].axis, w->tensor[i].outer, false, n), n, k);
	}
	return OK;
}

/* Block k of every tensor, cut along its axis `to` or else `axis`, goes to device k; `total`: bytes of all tensors. */
static Status exchange_blocks(Comm *c, const PackageCollective *w, u8 *const *in, bool to, u64 *total)
{
	u32 n = c->mesh.axis[w->mesh].size;
	u64 at = 0;
	*total = 0;
	for (u32 i = 0; i < w->n; i++)
		*total += said_bytes(&w->tensor[i]);
	TRY(reserve(&c->send, *total));
	TRY(reserve(&c->receive, *total));
	for (u32 k = 0; k < n; k++) {
		c->bytes[0][k] = c->bytes[1][k] = *total / n;
		for (u32 i = 0; i < w->n; at += said_bytes(&w->tensor[i++]) / n) {
			const PackageCollectiveTensor *t = &w->tensor[i];
			take_block(c->send.p + at, in[i], to ? rows_sent(t, n) : block_rows(t, t->axis, t->outer, true, n), n, k);
		}
	}
	return exchange(c, w->mesh, n, c->bytes[0], c->bytes[1]);
}

static Status reduce_scatter(Comm *c, const PackageCollective *w, u8 *const *in, u8 *const *out)
{
	u32 n = c->mesh.axis[w->mesh].size;
	u64 total, at = 0;
	TRY(exchange_blocks(c, w, in, false, &total));
	for (u32 i = 0; i < w->n; i++) {
		u64 bytes = said_bytes(&w->tensor[i]) / n;
		memcpy(out[i], c->receive.p + at, bytes);
		for (u32 k = 1; k < n; k++)
			reduce_into(w->reduce, w->tensor[i].dtype, out[i], c->receive.p + k * (total / n) + at,
				bytes / package_dtype_bytes[w->tensor[i].dtype]);
		at += bytes;
	}
	return OK;
}

static Status all_to_all(Comm *c, const PackageCollective *w, u8 *const *in, u8 *const *out)
{
	u32 n = c->mesh.axis[w->mesh].size;
	u64 total, at;
	TRY(exchange_blocks(c, w, in, true, &total));
	for (u32 k = 0; k < n; k++) {
		at = k * (total / n);
		for (u32 i = 0; i < w->n; at += said_bytes(&w->tensor[i++]) / n)
			put_block(out[i], c->receive.p + at, rows_received(&w->tensor[i], n), n, k);
	}
	return OK;
}

static Status permute(Comm *c, const PackageCollective *w, u8 *const *in, u8 *const *out)
{
	u32 n = c->mesh.axis[w->mesh].size, me = c->at[w->mesh];
	u32 to = ring_member(me, w->shift, n, false), from = ring_member(me, w->shift, n, true);
	u64 total = 0, at = 0;
	for (u32 i = 0; i < w->n; i++)
		total += said_bytes(&w->tensor[i]);
	TRY(reserve(&c->send, total));
	TRY(reserve(&c->receive, total));
	for (u32 i = 0; i < w->n; at += said_bytes(&w->tensor[i++]))
		memcpy(c->send.p + at, in[i], said_bytes(&w->tensor[i]));
	for (u32 k = 0; k < n; k++) {
		c->bytes[0][k] = k == to ? total : 0;
		c->bytes[1][k] = k == from ? total : 0;
	}
	TRY(exchange(c, w->mesh, n, c->bytes[0], c->bytes[1]));
	at = 0;
	for (u32 i = 0; i < w->n; at += said_bytes(&w->tensor[i++]))
		memcpy(out[i], c->receive.p + at, said_bytes(&w->tensor[i]));
	return OK;
}

/* ---- between two ---- */

static Status forget_sent(Comm *c)
{
	for (u32 i = 0; i < c->nsent;) {
		bool done = false;
		TRY(said_failed(c, c->transport->test_message(c->state, &c->sent[i].message, &done), 0));
		if (!done) {
			i++;
			continue;
		}
		free(c->sent[i].p);
		c->sent[i] = c->sent[--c->nsent];
	}
	return OK;
}

/* Does not wait: the bytes are copied. */
static Status post(Comm *c, u32 m, u32 to, u32 tag, const void *bytes, u64 n)
{
	TRY(check_bytes(c, n));
	TRY(forget_sent(c));
	if (c->nsent == c->room) {
		u32 room = MAX(2 * c->room, 16u);
		Sent *more = realloc(c->sent, room * sizeof *more);
		if (!more)
			return FAIL(STATUS_MEMORY, "no memory for messages");
		c->sent = more;
		c->room = room;
	}
	Sent *s = &c->sent[c->nsent];
	*s = (Sent){ .p = malloc(n + 1) };
	if (!s->p)
		return FAIL(STATUS_MEMORY, "no memory for a message of %llu bytes", (unsigned long long)n);
	memcpy(s->p, bytes, n);
	c->nsent++;
	return said_failed(c, c->transport->send(c->state, c->group[m], to, tag, s->p, (int)n, &s->message), 0);
}

static Status take(Comm *c, u32 m, u32 from, u32 tag, void *bytes, u64 n)
{
	void *message;
	TRY(check_bytes(c, n));
	TRY(said_failed(c, c->transport->receive(c->state, c->group[m], from, tag, bytes, (int)n, &message), 0));
	return wait_message(c, &message);
}

static Status send_one(Comm *c, const PackageCollective *w, u8 *const *in, u8 *const *out)
{
	*out[0] = 0; /* its token */
	return post(c, w->mesh, w->peer, w->tag, in[0], said_bytes(w->tensor));
}

static Status receive_one(Comm *c, const PackageCollective *w, u8 *const *in, u8 *const *out)
{
	(void)in;
	return take(c, w->mesh, w->peer, w->tag, out[0], said_bytes(w->tensor));
}

/* A member sums its part of the tensor, in order of coordinates, and hands it round; see all_reduce. */
static Status reduce_among(Comm *c, const PackageCollective *w, u8 *const *in, u8 *const *out)
{
	u32 tag = (1u << 20) + 2 * w->tag; /* above those of send and receive */
	u32 member[64], n = 0, me = c->at[w->mesh], mine = 0;
	const PackageCollectiveTensor *t = w->tensor;
	u64 size = package_dtype_bytes[t->dtype], all = said_elements(t), from, count, other, others;
	for (u32 k = 0; k < 64; k++)
		if (w->members >> k & 1) {
			mine = k == me ? n : mine;
			member[n++] = k;
		}
	for (u32 k = 0; k < n; k++) {
		chunk(all, n, k, &from, &count);
		if (k != mine)
			TRY(post(c, w->mesh, member[k], tag, in[0] + from * size, count * size));
	}
	chunk(all, n, mine, &from, &count);
	TRY(reserve(&c->receive, count * size));
	for (u32 k = 0; k < n; k++) {
		const u8 *part = in[0] + from * size;
		if (k != mine) {
			TRY(take(c, w->mesh, member[k], tag, c->receive.p, count * size));
			part = c->receive.p;
		}
		if (k)
			reduce_into(PACKAGE_SUM, t->dtype, out[0] + from * size, part, count);
		else
			memcpy(out[0] + from * size, part, count * size);
	}
	for (u32 k = 0; k < n; k++)
		if (k != mine)
			TRY(post(c, w->mesh, member[k], tag + 1, out[0] + from * size, count * size));
	for (u32 k = 0; k < n; k++) {
		chunk(all, n, k, &other, &others);
		if (k != mine)
			TRY(take(c, w->mesh, member[k], tag + 1, out[0] + other * size, others * size));
	}
	return OK;
}

void comm_step_text(const Comm *c, const PackageStep *step, char *to, size_t size)
{
	const char *over = c->mesh.axis[step->collective->mesh].name;
	if (step->line)
		snprintf(to, size, "%s over %s (%s:%u)", step->name, over, step->file, step->line);
	else
		snprintf(to, size, "%s over %s", step->name, over);
}

static Status speak(void *cx, const PackageStep *step, u8 *memory)
{
	static Status (*const run[])(Comm *, const PackageCollective *, u8 *const *, u8 *const *) = {
		[PACKAGE_ALL_REDUCE] = all_reduce, [PACKAGE_ALL_GATHER] = gather_parts, [PACKAGE_REDUCE_SCATTER] = reduce_scatter,
		[PACKAGE_ALL_TO_ALL] = all_to_all, [PACKAGE_PERMUTE] = permute, [PACKAGE_SEND] = send_one, [PACKAGE_RECEIVE] = receive_one,
		[PACKAGE_REDUCE_AMONG] = reduce_among,
	};
	Comm *c = cx;
	const PackageCollective *what = step->collective;
	comm_step_text(c, step, c->what, sizeof c->what);
	if (!c->transport->group)
		return FAIL(STATUS_UNSUPPORTED, "%s: ranks that meet by %s send nothing from the host: --device cuda", c->what, c->transport->name);
	TRY(reserve(&c->slots, step->nslot * sizeof(u8 *)));
	u8 **slot = (u8 **)c->slots.p;
	for (u32 i = 0; i < step->nslot; i++)
		slot[i] = memory + step->slot[i];
	return run[what->kind](c, what, slot, slot + what->n);
}

/* Does one take what another makes, or write what it reads? A buffer has one place in memory for as long as something of it is under way. */
static bool touches(const PackageStep *a, const PackageStep *b)
{
	for (u32 i = 0; i < a->nslot; i++)
		for (u32 k = 0; k < b->nslot; k++)
			if (a->slot[i] == b->slot[k])
				return true;
	return false;
}

/* Those of the queue come one behind the other, and those of an axis that is shared; otherwise what this one takes must be there. */
static Status wait_for_operands(Comm *c, const Flow *f)
{
	for (u32 i = c->begun; i-- != c->done;) {
		const Flow *was = &c->flow[i % COMM_ROOM];
		bool behind = was->share == f->share && (!f->share || was->step->collective->mesh == f->step->collective->mesh);
		if (!behind && touches(was->step, f->step))
			return comm_wait(c, c->begun - i - 1);
	}
	return OK;
}

Status comm_begin(Comm *c, Share *share, const PackageStep *step, u8 *memory)
{
	Flow f = { share && share_takes(share, step->collective) ? share : NULL, step };
	TRY(comm_wait(c, COMM_ROOM - 1));
	TRY(wait_for_operands(c, &f));
	if (!f.share && !c->queue)
		TRY(queue_open(speak, c, &c->queue));
	if (f.share)
		share_begin(f.share, step);
	else
		queue_begin(c->queue, step, memory);
	c->queued += !f.share;
	c->flow[c->begun++ % COMM_ROOM] = f;
	return OK;
}

Status comm_wait(Comm *c, u32 left)
{
	for (; c->begun - c->done > left; c->done++) {
		Share *share = c->flow[c->done % COMM_ROOM].share;
		TRY(share ? share_end(share) : queue_wait(c->queue, c->queued - 1));
		c->queued -= !share;
	}
	return OK;
}

void comm_forget(Comm *c, const Share *share)
{
	u32 kept = c->done;
	for (u32 i = c->done; i != c->begun; i++)
		if (c->flow[i % COMM_ROOM].share != share)
			c->flow[kept++ % COMM_ROOM] = c->flow[i % COMM_ROOM];
	c->begun = kept;
}

/* ---- joining and leaving ---- */

static Status meet(Comm *c)
{
	Peer me = { .process = (i64)getpid() };
	if (gethostname(me.host, sizeof me.host - 1) != 0)
		snprintf(me.host, sizeof me.host, "?");
	waiting_for(c, "the start");
	Peer *peer = calloc(c->ranks, sizeof *peer);
	for (u32 i = 0; i < 4; i++)
		c->count[i] = calloc(c->ranks, sizeof(int));
	for (u32 i = 0; i < 2; i++)
		c->bytes[i] = calloc(c->ranks, sizeof(u64));
	if (!peer || !c->count[3] || !c->bytes[1])
		return FAIL(STATUS_MEMORY, "no memory for %u ranks", c->ranks);
	Status s = c->transport->all_gather(c->state, NULL, &me, sizeof me, peer);
	if (!s)
		s = wait_done(c);
	c->peer = peer;
	TRY(s);
	for (u32 r = 0; r < c->ranks; r++)
		if (!strcmp(peer[r].host, me.host)) {
			c->local_rank += r < c->rank;
			c->local_ranks++;
		}
	return OK;
}

Status comm_open(const Transport *by, Comm **out)
{
	Comm *c = calloc(1, sizeof *c);
	if (!c)
		return FAIL(STATUS_MEMORY, "no memory");
	c->transport = by;
	Status s = c->transport->open(&c->state, &c->rank, &c->ranks);
	if (s) {
		free(c);
		return s;
	}
	*out = c;
	return meet(c);
}

static void drop(Comm *c)
{
	for (u32 i = 0; i < 4; i++)
		free(c->count[i]);
	free(c->bytes[0]);
	free(c->bytes[1]);
	free(c->peer);
	for (u32 i = 0; i < c->nsent; i++)
		free(c->sent[i].p);
	free(c->sent);
	free(c->send.p);
	free(c->receive.p);
	free(c->slots.p);
	free(c);
}

void comm_close(Comm *c)
{
	if (!c)
		return;
	queue_close(c->queue);
	c->transport->close(c->state);
	drop(c);
}

void comm_abort(Comm *c, int status)
{
	/* a transport is for one thread at a time */
	queue_close(c->queue);
	c->queue = NULL;
	c->transport->abort(c->state, status);
}

void comm_order(Comm *c, void *stream, void (*doing)(void *cx, char *to, size_t size), void *cx)
{
	c->doing = doing;
	c->doing_cx = cx;
	if (c->transport->order)
		c->transport->order(c->state, stream);
}

u32 comm_rank(const Comm *c)
{
	return c ? c->rank : 0;
}

u32 comm_ranks(const Comm *c)
{
	return c ? c->ranks : 1;
}

u32 comm_local_rank(const Comm *c)
{
	return c->local_rank;
}

u32 comm_local_ranks(const Comm *c)
{
	return c->local_ranks;
}

bool comm_beside(const Comm *c, u32 rank)
{
	return !strcmp(c->peer[rank].host, c->peer[c->rank].host);
}

i64 comm_process(const Comm *c, u32 rank)
{
	return c->peer[rank].process;
}

u32 comm_coordinate(const Comm *c, u32 m)
{
	return c->at[m];
}

static u32 stride_of(const Comm *c, u32 m)
{
	u32 stride = 1;
	for (u32 k = m + 1; k < c->mesh.n; k++)
		stride *= c->mesh.axis[k].size;
	return stride;
}

u32 comm_rank_at(const Comm *c, u32 m, u32 coordinate)
{
	return c->rank + (coordinate - c->at[m]) * stride_of(c, m);
}

u32 comm_coordinate_of(const Comm *c, u32 rank, u32 m)
{
	return rank / stride_of(c, m) % c->mesh.axis[m].size;
}

Status comm_mesh(Comm *c, const PackageMesh *mesh)
{
	if (c->mesh.n)
		return OK;
	c->mesh = *mesh;
	u32 stride = 1;
	for (u32 m = mesh->n; m-- > 0;) {
		u32 n = mesh->axis[m].size;
		c->at[m] = c->rank / stride % n;
		/* ranks that agree in all else, by coordinate */
		if (c->transport->group)
			TRY(c->transport->group(c->state, c->rank - c->at[m] * stride, c->at[m], &c->group[m]));
		stride *= n;
	}
	if (stride != c->ranks)
		return FAIL(STATUS_INPUT, "the mesh has %u devices, and there are %u ranks", stride, c->ranks);
	return OK;
}

/* ---- around the run ---- */

Status comm_gather(Comm *c, const char *what, const void *mine, u32 bytes, void *all)
{
	TRY(comm_wait(c, 0));
	waiting_for(c, what);
	TRY(said_failed(c, c->transport->all_gather(c->state, NULL, mine, (int)bytes, all), 0));
	return wait_done(c);
}

Status comm_first(Comm *c, u32 role, bool *first)
{
	*first = true;
	u32 *all = calloc(c->ranks, sizeof *all);
	if (!all)
		return FAIL(STATUS_MEMORY, "no memory");
	Status s = comm_gather(c, "telling who compiles", &role, sizeof role, all);
	for (u32 r = 0; r < c->rank; r++)
		*first &= all[r] != role || strcmp(c->peer[r].host, c->peer[c->rank].host);
	free(all);
	return s;
}

Status comm_barrier(Comm *c, const char *what)
{
	u8 mine = 0, *all = calloc(c->ranks, 1);
	if (!all)
		return FAIL(STATUS_MEMORY, "no memory");
	Status s = comm_gather(c, what, &mine, 1, all);
	free(all);
	return s;
}

Status comm_any(Comm *c, const char *what, bool mine, bool *any)
{
	*any = mine;
	if (!c)
		return OK;
	u8 one = mine, *all = calloc(c->ranks, 1);
	if (!all)
		return FAIL(STATUS_MEMORY, "no memory");
	Status s = comm_gather(c, what, &one, 1, all);
	for (u32 r = 0; r < c->ranks; r++)
		*any |= all[r];
	free(all);
	return s;
}

Status comm_together(Comm *c, const char *what, Status mine)
{
	if (!c)
		return mine;
	u8 failed = mine != NULL, *all = calloc(c->ranks, 1);
	if (!all)
		return FAIL(STATUS_MEMORY, "no memory");
	Status s = comm_gather(c, what, &failed, 1, all);
	for (u32 r = 0; r < c->ranks && !s && !mine; r++)
		if (all[r])
			s = FAIL(STATUS_IO, "rank %u failed in %s", r, what);
	free(all);
	return mine ? mine : s;
}

Status comm_agree(Comm *c, const CommFact *fact, u32 n)
{
	u64 *mine = calloc(n, sizeof *mine), *all = calloc((size_t)n * c->ranks, sizeof *all);
	Status s = mine && all ? OK : FAIL(STATUS_MEMORY, "no memory");
	for (u32 i = 0; i < n && !s; i++)
		mine[i] = fact[i].hash;
	if (!s)
		s = comm_gather(c, "comparing what ranks are to run", mine, (u32)(n * sizeof *mine), all);
	for (u32 r = 1; r < c->ranks && !s; r++)
		for (u32 i = 0; i < n && !s; i++)
			if (all[r * n + i] != all[i])
				s = FAIL(STATUS_INPUT, "rank %u (on %s) has another %s than rank 0 (on %s): all must run the same", r,
					 c->peer[r].host, fact[i].name, c->peer[0].host);
	free(mine);
	free(all);
	return s;
}

void comm_whole_dims(const Comm *c, const PackageTensor *t, i64 *dim)
{
	for (u32 d = 0; d < t->rank; d++)
		dim[d] = t->dim[d];
	for (u32 k = 0; c && k < t->ndigit; k++)
		dim[t->digit[k].dim] *= c->mesh.axis[t->digit[k].mesh].size;
}
