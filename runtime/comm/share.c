/* runtime/comm/share.c: see share.h. Members of an axis meet in memory of their own: each counts there the collectives that it has begun,
 * and for each that is under way two counters say how many of its pieces are taken and how many are done. These carry the
 * collective's turn, so that nobody sets them back: counters of an earlier turn count as 0. One more counter changes
 * when something that is waited for has come; who waits looks at it for a while and then sleeps on it, as in
 * runtime/cpu/threads.c, but among processes. */
#include "runtime/comm/share.h"
#include "runtime/comm/blocks.h"
#include "runtime/comm/comm.h"
#include "runtime/comm/reduce.h"
#include "support/clock.h"

#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { LINE = 64 };
enum {
	PIECE = 64 << 10, /* bytes that are taken at once: some microseconds' */
	BLOCK = 8 << 10,  /* and of them, what stays in the first cache from one tensor to the next */
	MANY = 256 << 10, /* bytes from which on all threads of a rank take part */
};

typedef struct Count {
	_Alignas(LINE) atomic_uint value;
} Count;

typedef struct Turn {
	_Alignas(LINE) _Atomic u64 taken; /* the turn in the upper half, pieces in the lower */
	_Alignas(LINE) _Atomic u64 done;
} Turn;

typedef struct Meeting {
	Count changes;
	Count sleepers;
	Turn turn[COMM_ROOM];
	Count begun[]; /* [n] each member's own */
} Meeting;

typedef struct Flight {
	const PackageStep *step;
	const ShareAxis *axis;
	u32 number;  /* of those of the axis */
	u32 pieces;
} Flight;

struct Share {
	ShareOptions o;
	ShareAxis axis[6];
	u32 begun[6]; /* of each axis */
	Flight flight[COMM_ROOM];
	u32 first, n;
};

/* ---- pieces ---- */

/* Block c of each row of a tensor, as one tensor of its own. */
typedef struct View {
	u8 *base;
	Rows rows;
	u32 parts, c;
} View;

/* The place of byte `at`, and how many lie together from there on, if that is less than *run. */
static u8 *view_at(const View *v, u64 at, u64 *run)
{
	u64 row = at / v->rows.bytes, in = at % v->rows.bytes;
	*run = MIN(*run, v->rows.bytes - in);
	return v->base + (row * v->parts + v->c) * v->rows.bytes + in;
}

static View whole(u8 *base, u64 bytes)
{
	return (View){ base, { 1, bytes }, 1, 0 };
}

/* Of a tensor: how many blocks it has that are made from one another, and their bytes. */
static u32 blocks(const PackageCollective *w, u32 n)
{
	return w->kind == PACKAGE_ALL_REDUCE ? 1 : w->kind == PACKAGE_ALL_TO_ALL ? n * n : n;
}

static u64 block_bytes(const PackageCollective *w, u32 i, u32 n)
{
	bool divided = w->kind == PACKAGE_REDUCE_SCATTER || w->kind == PACKAGE_ALL_TO_ALL;
	return said_bytes(&w->tensor[i]) / (divided ? n : 1);
}

/* What is added to make block b of tensor i: the s-th of `sources`; and where it goes. */
static u32 sources(const PackageCollective *w, u32 n)
{
	return w->kind == PACKAGE_ALL_REDUCE || w->kind == PACKAGE_REDUCE_SCATTER ? n : 1;
}

static u32 targets(const PackageCollective *w, u32 n)
{
	return w->kind == PACKAGE_ALL_REDUCE || w->kind == PACKAGE_ALL_GATHER ? n : 1;
}

static View source(const Flight *f, u32 i, u32 b, u32 s)
{
	const PackageCollective *w = f->step->collective;
	const PackageCollectiveTensor *t = &w->tensor[i];
	u32 n = f->axis->n;
	u64 at = f->step->slot[i], bytes = block_bytes(w, i, n);
	switch (w->kind) {
	case PACKAGE_ALL_REDUCE: return whole(f->axis->arena[s] + at, bytes);
	case PACKAGE_REDUCE_SCATTER: return (View){ f->axis->arena[s] + at, block_rows(t, t->axis, t->outer, true, n), n, b };
	case PACKAGE_ALL_TO_ALL: return (View){ f->axis->arena[b / n] + at, rows_sent(t, n), n, b % n };
	case PACKAGE_PERMUTE: return whole(f->axis->arena[ring_member(b, w->shift, n, true)] + at, bytes);
	default: return whole(f->axis->arena[b] + at, bytes);
	}
}

static View target(const Flight *f, u32 i, u32 b, u32 s)
{
	const PackageCollective *w = f->step->collective;
	const PackageCollectiveTensor *t = &w->tensor[i];
	u32 n = f->axis->n;
	u64 at = f->step->slot[w->n + i], bytes = block_bytes(w, i, n);
	switch (w->kind) {
	case PACKAGE_ALL_REDUCE: return whole(f->axis->arena[s] + at, bytes);
	case PACKAGE_ALL_GATHER: return (View){ f->axis->arena[s] + at, block_rows(t, t->axis, t->outer, false, n), n, b };
	case PACKAGE_ALL_TO_ALL: return (View){ f->axis->arena[b % n] + at, rows_received(t, n), n, b / n };
	default: return whole(f->axis->arena[b] + at, bytes);
	}
}

/* Bytes [at, end) of block b of tensor i. A sum is taken where the first one of its results goes: if that is one of its operands,
 * it is the first one. */
static void make(const Flight *f, u32 i, u32 b, u64 at, u64 end)
{
	const PackageCollective *w = f->step->collective;
	u32 from = sources(w, f->axis->n), to = targets(w, f->axis->n);
	u8 dtype = w->tensor[i].dtype;
	while (at < end) {
		u64 run = MIN(end - at, BLOCK);
		View s = source(f, i, b, 0), t = target(f, i, b, 0);
		u8 *first = view_at(&s, at, &run), *made = view_at(&t, at, &run);
		if (first != made)
			memcpy(made, first, run);
		for (u32 k = 1; k < from; k++) {
			s = source(f, i, b, k);
			reduce_into(w->reduce, dtype, made, view_at(&s, at, &run), run / package_dtype_bytes[dtype]);
		}
		for (u32 k = 1; k < to; k++) {
			t = target(f, i, b, k);
			memcpy(view_at(&t, at, &run), made, run);
		}
		at += run;
	}
}

static u32 pieces_of_block(const PackageCollective *w, u32 i, u32 n)
{
	return (u32)((block_bytes(w, i, n) + PIECE - 1) / PIECE);
}

static u32 pieces(const PackageCollective *w, u32 n)
{
	u32 all = 0;
	for (u32 i = 0; i < w->n; i++)
		all += blocks(w, n) * pieces_of_block(w, i, n);
	return all;
}

/* One more of the turn's, if there are less than `most`. */
static bool count(_Atomic u64 *at, u32 turn, u32 most, u32 *was)
{
	u64 old = atomic_load(at);
	do {
		*was = old >> 32 == turn ? (u32)old : 0;
		if (*was >= most)
			return false;
	} while (!atomic_compare_exchange_weak(at, &old, (u64)turn << 32 | (*was + 1)));
	return true;
}

/* ---- waiting ---- */

static Turn *turn_of(const Flight *f)
{
	return &((Meeting *)f->axis->meeting)->turn[f->number % COMM_ROOM];
}

/* The first one is 1, so that zeros are nobody's. */
static u32 turn_number(const Flight *f)
{
	return f->number + 1;
}

static bool is_done(const Flight *f)
{
	u64 done = atomic_load(&turn_of(f)->done);
	return !f->pieces || (done >> 32 == turn_number(f) && (u32)done == f->pieces);
}

static bool all_have_begun(const Flight *f)
{
	Meeting *m = f->axis->meeting;
	for (u32 k = 0; k < f->axis->n; k++)
		if ((i32)(atomic_load(&m->begun[k].value) - f->number) <= 0)
			return false;
	return true;
}

/* Sequential consistency, as in threads.c: who changes it looks for sleepers behind that, who sleeps says so before the system compares. */
static void change(Meeting *m)
{
	atomic_fetch_add(&m->changes.value, 1);
	if (atomic_load(&m->sleepers.value))
		syscall(SYS_futex, &m->changes.value, FUTEX_WAKE, 1 << 30, NULL, NULL, 0);
}

static void await_change(Meeting *m, u32 seen, bool spins)
{
	static const struct timespec look = { 0, 100000000 }; /* whether others live */
	f64 until = clock_seconds() + 200e-6;
	do { /* where ranks share cores, whoever is waited for may have this one */
		for (u32 i = 0; i < 64; i++) {
			if (atomic_load(&m->changes.value) != seen)
				return;
			if (spins)
				threads_relax();
			else
				sched_yield();
		}
	} while (clock_seconds() < until);
	atomic_fetch_add(&m->sleepers.value, 1);
	if (atomic_load(&m->changes.value) == seen)
		syscall(SYS_futex, &m->changes.value, FUTEX_WAIT, seen, &look, NULL, 0);
	atomic_fetch_sub(&m->sleepers.value, 1);
}

/* ---- the work ---- */

static void take_part(void *argument, TaskRange range)
{
	(void)range;
	const Flight *f = argument;
	const PackageCollective *w = f->step->collective;
	u32 n = f->axis->n, piece, done;
	u32 i = 0, before = 0; /* pieces of tensors before the i-th: they are taken in order */
	while (count(&turn_of(f)->taken, turn_number(f), f->pieces, &piece)) {
		while (piece - before >= blocks(w, n) * pieces_of_block(w, i, n))
			before += blocks(w, n) * pieces_of_block(w, i++, n);
		u32 each = pieces_of_block(w, i, n), b = (piece - before) / each;
		u64 at = (u64)((piece - before) % each) * PIECE;
		make(f, i, b, at, MIN(at + PIECE, block_bytes(w, i, n)));
		if (count(&turn_of(f)->done, turn_number(f), f->pieces, &done) && done + 1 == f->pieces)
			change(f->axis->meeting);
	}
}

static Status finish(Share *s, Flight *f)
{
	f64 since = clock_seconds(), looked = since;
	for (bool helped = false;;) {
		Meeting *m = f->axis->meeting;
		u32 seen = atomic_load(&m->changes.value);
		if (is_done(f))
			return OK;
		if (!helped && all_have_begun(f)) {
			helped = true;
			if (threads_count(s->o.pool) > 1 && f->pieces > MANY / PIECE)
				threads_run_all(s->o.pool, take_part, f);
			else
				take_part(f, (TaskRange){ 0 });
			continue;
		}
		await_change(m, seen, s->o.spins);
		f64 now = clock_seconds();
		if (now - looked > 0.1 && s->o.alive) {
			looked = now;
			TRY(s->o.alive(s->o.cx, f->step, now - since));
		}
	}
}

/* ---- in turn ---- */

u64 share_meeting_bytes(u32 members)
{
	return ALIGN_UP(sizeof(Meeting) + members * sizeof(Count), LINE);
}

Status share_open(const ShareOptions *o, Share **out)
{
	Share *s = calloc(1, sizeof *s);
	if (!s)
		return FAIL(STATUS_MEMORY, "no memory for messages");
	assert(o->naxis <= COUNT(s->axis));
	s->o = *o;
	for (u32 m = 0; m < o->naxis; m++)
		s->axis[m] = o->axis[m];
	*out = s;
	return OK;
}

void share_close(Share *s)
{
	free(s);
}

bool share_joins(const Share *s, u32 axis)
{
	return axis < s->o.naxis && s->axis[axis].arena;
}

bool share_takes(const Share *s, const PackageCollective *c)
{
	return c->kind <= PACKAGE_PERMUTE && share_joins(s, c->mesh);
}

void share_begin(Share *s, const PackageStep *step)
{
	const PackageCollective *w = step->collective;
	const ShareAxis *x = &s->axis[w->mesh];
	assert(s->n < COMM_ROOM);
	s->flight[(s->first + s->n++) % COMM_ROOM] = (Flight){ step, x, s->begun[w->mesh]++, pieces(w, x->n) };
	Meeting *m = x->meeting;
	atomic_store(&m->begun[x->me].value, s->begun[w->mesh]);
	change(m);
}

Status share_end(Share *s)
{
	assert(s->n);
	TRY(finish(s, &s->flight[s->first]));
	s->first = (s->first + 1) % COMM_ROOM;
	s->n--;
	return OK;
}
