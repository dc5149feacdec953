/* runtime/comm/collectives.c: a package's collectives by messages of a transport: tensors are packed into one message for each member,
 * and what comes is put where it belongs, or added in order of coordinates. Among ranks of one host share.c does the same in memory that they share. */
#include "runtime/comm/blocks.h"
#include "runtime/comm/reduce.h"
#include "runtime/comm/state.h"

#include <stdlib.h>
#include <string.h>

/* ---- memory and messages ---- */

Status messages_open(Messages *m, u32 ranks)
{
	bool all = true;
	for (u32 i = 0; i < COUNT(m->count); i++)
		all &= (m->count[i] = calloc(ranks, sizeof(int))) != NULL;
	for (u32 i = 0; i < COUNT(m->bytes); i++)
		all &= (m->bytes[i] = calloc(ranks, sizeof(u64))) != NULL;
	return all ? OK : FAIL(STATUS_MEMORY, "no memory for messages");
}

void messages_close(Messages *m)
{
	for (u32 i = 0; i < COUNT(m->count); i++)
		free(m->count[i]);
	for (u32 i = 0; i < COUNT(m->bytes); i++)
		free(m->bytes[i]);
	for (u32 i = 0; i < m->nsent; i++)
		free(m->sent[i].p);
	free(m->sent);
	free(m->send.p);
	free(m->receive.p);
	free(m->slots.p);
}

static Status reserve(Bytes *b, u64 bytes)
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
		c->messages.count[0][k] = (int)out[k];
		c->messages.count[1][k] = (int)sent;
		c->messages.count[2][k] = (int)in[k];
		c->messages.count[3][k] = (int)received;
		sent += out[k];
		received += in[k];
	}
	TRY(check_bytes(c, MAX(sent, received)));
	Status s = c->transport->all_to_all(c->state, c->group[m], c->messages.send.p, c->messages.count[0], c->messages.count[1], c->messages.receive.p, c->messages.count[2], c->messages.count[3]);
	TRY(comm_said_failed(c, s, 0));
	return comm_wait_message(c, NULL);
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
	TRY(comm_said_failed(c, c->transport->all_gather(c->state, c->group[m], c->messages.send.p, (int)bytes, c->messages.receive.p), 0));
	return comm_wait_message(c, NULL);
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
		c->messages.bytes[0][k] = 0;
		c->messages.bytes[1][k] = mine;
		for (u32 i = 0; i < w->n; i++) {
			chunk(said_elements(&w->tensor[i]), n, k, &from, &count);
			c->messages.bytes[0][k] += count * package_dtype_bytes[w->tensor[i].dtype];
		}
		most = MAX(most, c->messages.bytes[0][k]);
	}
	TRY(reserve(&c->messages.send, MAX(total, most)));
	TRY(reserve(&c->messages.receive, MAX(mine, most) * n));
	for (u32 k = 0; k < n; k++)
		for (u32 i = 0; i < w->n; i++) {
			u64 size = package_dtype_bytes[w->tensor[i].dtype];
			chunk(said_elements(&w->tensor[i]), n, k, &from, &count);
			memcpy(c->messages.send.p + at, in[i] + from * size, count * size);
			at += count * size;
		}
	TRY(exchange(c, w->mesh, n, c->messages.bytes[0], c->messages.bytes[1]));
	at = 0;
	for (u32 i = 0; i < w->n; i++) {
		u64 size = package_dtype_bytes[w->tensor[i].dtype];
		chunk(said_elements(&w->tensor[i]), n, me, &from, &count);
		memcpy(c->messages.send.p + at, c->messages.receive.p + at, count * size);
		for (u32 k = 1; k < n; k++)
			reduce_into(w->reduce, w->tensor[i].dtype, c->messages.send.p + at, c->messages.receive.p + k * mine + at, count);
		at += count * size;
	}
	TRY(all_gather(c, w->mesh, most));
	for (u32 k = 0; k < n; k++) {
		at = k * most;
		for (u32 i = 0; i < w->n; i++) {
			u64 size = package_dtype_bytes[w->tensor[i].dtype];
			chunk(said_elements(&w->tensor[i]), n, k, &from, &count);
			memcpy(out[i] + from * size, c->messages.receive.p + at, count * size);
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
	TRY(reserve(&c->messages.send, total));
	TRY(reserve(&c->messages.receive, total * n));
	for (u32 i = 0; i < w->n; at += said_bytes(&w->tensor[i++]))
		memcpy(c->messages.send.p + at, in[i], said_bytes(&w->tensor[i]));
	TRY(all_gather(c, w->mesh, total));
	for (u32 k = 0; k < n; k++) {
		at = k * total;
		for (u32 i = 0; i < w->n; at += said_bytes(&w->tensor[i++]))
			put_block(out[i], c->messages.receive.p + at, block_rows(&w->tensor[i], w->tensor[i].axis, w->tensor[i].outer, false, n), n, k);
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
	TRY(reserve(&c->messages.send, *total));
	TRY(reserve(&c->messages.receive, *total));
	for (u32 k = 0; k < n; k++) {
		c->messages.bytes[0][k] = c->messages.bytes[1][k] = *total / n;
		for (u32 i = 0; i < w->n; at += said_bytes(&w->tensor[i++]) / n) {
			const PackageCollectiveTensor *t = &w->tensor[i];
			take_block(c->messages.send.p + at, in[i], to ? rows_sent(t, n) : block_rows(t, t->axis, t->outer, true, n), n, k);
		}
	}
	return exchange(c, w->mesh, n, c->messages.bytes[0], c->messages.bytes[1]);
}

static Status reduce_scatter(Comm *c, const PackageCollective *w, u8 *const *in, u8 *const *out)
{
	u32 n = c->mesh.axis[w->mesh].size;
	u64 total, at = 0;
	TRY(exchange_blocks(c, w, in, false, &total));
	for (u32 i = 0; i < w->n; i++) {
		u64 bytes = said_bytes(&w->tensor[i]) / n;
		memcpy(out[i], c->messages.receive.p + at, bytes);
		for (u32 k = 1; k < n; k++)
			reduce_into(w->reduce, w->tensor[i].dtype, out[i], c->messages.receive.p + k * (total / n) + at,
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
			put_block(out[i], c->messages.receive.p + at, rows_received(&w->tensor[i], n), n, k);
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
	TRY(reserve(&c->messages.send, total));
	TRY(reserve(&c->messages.receive, total));
	for (u32 i = 0; i < w->n; at += said_bytes(&w->tensor[i++]))
		memcpy(c->messages.send.p + at, in[i], said_bytes(&w->tensor[i]));
	for (u32 k = 0; k < n; k++) {
		c->messages.bytes[0][k] = k == to ? total : 0;
		c->messages.bytes[1][k] = k == from ? total : 0;
	}
	TRY(exchange(c, w->mesh, n, c->messages.bytes[0], c->messages.bytes[1]));
	at = 0;
	for (u32 i = 0; i < w->n; at += said_bytes(&w->tensor[i++]))
		memcpy(out[i], c->messages.receive.p + at, said_bytes(&w->tensor[i]));
	return OK;
}

/* ---- between two ---- */

static Status forget_sent(Comm *c)
{
	for (u32 i = 0; i < c->messages.nsent;) {
		bool done = false;
		TRY(comm_said_failed(c, c->transport->test_message(c->state, &c->messages.sent[i].message, &done), 0));
		if (!done) {
			i++;
			continue;
		}
		free(c->messages.sent[i].p);
		c->messages.sent[i] = c->messages.sent[--c->messages.nsent];
	}
	return OK;
}

/* Does not wait: the bytes are copied. */
static Status post(Comm *c, u32 m, u32 to, u32 tag, const void *bytes, u64 n)
{
	TRY(check_bytes(c, n));
	TRY(forget_sent(c));
	if (c->messages.nsent == c->messages.room) {
		u32 room = MAX(2 * c->messages.room, 16u);
		Sent *more = realloc(c->messages.sent, room * sizeof *more);
		if (!more)
			return FAIL(STATUS_MEMORY, "no memory for messages");
		c->messages.sent = more;
		c->messages.room = room;
	}
	Sent *s = &c->messages.sent[c->messages.nsent];
	*s = (Sent){ .p = malloc(n + 1) };
	if (!s->p)
		return FAIL(STATUS_MEMORY, "no memory for a message of %llu bytes", (unsigned long long)n);
	memcpy(s->p, bytes, n);
	c->messages.nsent++;
	return comm_said_failed(c, c->transport->send(c->state, c->group[m], to, tag, s->p, (int)n, &s->message), 0);
}

static Status take(Comm *c, u32 m, u32 from, u32 tag, void *bytes, u64 n)
{
	void *message;
	TRY(check_bytes(c, n));
	TRY(comm_said_failed(c, c->transport->receive(c->state, c->group[m], from, tag, bytes, (int)n, &message), 0));
	return comm_wait_message(c, &message);
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
	TRY(reserve(&c->messages.receive, count * size));
	for (u32 k = 0; k < n; k++) {
		const u8 *part = in[0] + from * size;
		if (k != mine) {
			TRY(take(c, w->mesh, member[k], tag, c->messages.receive.p, count * size));
			part = c->messages.receive.p;
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

Status collective_run(void *cx, const PackageStep *step, u8 *memory)
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
	TRY(reserve(&c->messages.slots, step->nslot * sizeof(u8 *)));
	u8 **slot = (u8 **)c->messages.slots.p;
	for (u32 i = 0; i < step->nslot; i++)
		slot[i] = memory + step->slot[i];
	return run[what->kind](c, what, slot, slot + what->n);
}

