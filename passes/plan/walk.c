/* passes/plan/walk.c: see walk.h. */
#include "passes/plan/walk.h"
#include "support/map.h"

#include <string.h>

/* A message of what lies outside of layers, on its way. */
typedef struct Outer {
	f64 begin, end;
	u32 rank;
} Outer;

typedef struct Walker {
	const Machine *m;
	const Work *w;
	Walk *out;
	f64 *cost;    /* seconds of each piece */
	f64 *taken;   /* of a message: those in which no kernel runs */
	bool *done;
	u32 *reader;  /* of a message: the first rank that waits for it, by itself or by other messages; its own where none before does */
	f64 *started; /* [rank]: when the first kernel of it began, or less than 0 */
	VEC(u32) waiting; /* messages that were not sent, in the plan's order */
	VEC(Outer) outer;
	f64 kernels, links; /* when these are free */
	Arena *tmp;
	Limiter *by;
} Walker;

/* Alike messages that wait for nothing, or that nothing waits for, go together as the pass `bucket` has them (passes/graph/bucket.h),
 * but never those of two layers, for one planned layer stands for many: a bucket pays for the way once. */
static void price(Arena *tmp, Walker *x, u64 bucket)
{
	const Work *w = x->w;
	bool meets = false;
	for (u32 i = 0; i < w->mesh->n; i++)
		meets |= w->mesh->axis[i].size > 1;
	Map open = { .arena = tmp }; /* -> bytes in the bucket that is being filled, and one more */
	for (u32 i = 0; i < w->npiece; i++) {
		const Piece *p = &w->piece[i];
		x->taken[i] = p->message ? message_occupies(x->m, w->mesh, p->kernel->collective) : 0; /* a share, until its time is known */
		if (!p->message) {
			LaunchTime t = predict_kernel(x->m, p->kernel);
			x->cost[i] = t.seconds * (meets ? 1 + x->m->uneven : 1);
			x->by[i] = t.by;
			continue;
		}
		const KCollective *c = p->kernel->collective;
		x->cost[i] = predict_message(x->m, w->mesh, c, 1);
		if (!p->early && !p->late)
			continue;
		const all_reduce_attr *a = c->attr; /* `over` is first in all of them */
		u64 key = hash_bytes(HASH_SEED, &(u64[]){ p->rank, c->op, (u64)(uintptr_t)a->over }, 3 * sizeof(u64));
		u64 *was = map_get(&open, key), bytes = (u64)message_bytes(c);
		bool joins = was && *was - 1 + bytes <= bucket;
		if (joins)
			x->cost[i] -= predict_message(x->m, w->mesh, c, 0);
		map_put(&open, key, (joins ? *was : 1) + bytes);
	}
	for (u32 i = 0; i < w->npiece; i++)
		x->taken[i] *= x->cost[i];
}

/* When what the piece waits for is there; less than 0: not known yet. */
static f64 ready(const Walker *x, u32 i)
{
	const Piece *p = &x->w->piece[i];
	f64 at = 0;
	for (u32 k = 0; k < p->nafter; k++) {
		if (!x->done[p->after[k]])
			return -1;
		at = MAX(at, x->out->end[p->after[k]]);
	}
	if (p->early && x->reader[i] > 1) {
		/* one layer ahead of who reads it: that one's predecessor has begun */
		f64 begun = x->started[x->reader[i] - 1];
		if (begun < 0)
			return -1;
		at = MAX(at, begun);
	}
	if (p->behind != NONE) {
		if (!x->done[p->behind])
			return -1;
		at = MAX(at, x->out->begin[p->behind]);
	}
	return at;
}

/* The piece waited from `from` to `to`. As long as messages of what lies outside of layers took the links, that is theirs: one layer
 * stands for many, and they are said once. */
static void add_waiting(Walker *x, const Piece *p, f64 from, f64 to)
{
	f64 own = to - from;
	for (u32 i = x->outer.n; i-- > 0 && !p->outside && x->outer.v[i].end > from;) {
		const Outer *o = &x->outer.v[i];
		f64 part = MIN(o->end, to) - MAX(o->begin, from);
		if (part <= 0)
			continue;
		own -= part;
		x->out->rank[o->rank].seconds += part;
		x->out->rank[o->rank].waiting += part;
	}
	x->out->rank[p->rank].seconds += own;
	x->out->rank[p->rank].waiting += own;
}

static void send(Walker *x, u32 which, f64 from)
{
	u32 i = x->waiting.v[which];
	x->out->begin[i] = from;
	x->out->end[i] = x->links = from + x->cost[i];
	if (x->taken[i] > 0)
		x->kernels = MAX(x->kernels, from) + x->taken[i];
	u32 rank = x->w->piece[i].rank;
	if (x->w->piece[i].outside)
		VEC_PUSH(x->tmp, &x->outer, ((Outer){ from, x->links, rank }));
	RankTime *r = &x->out->rank[rank];
	r->messages += x->cost[i];
	r->late += x->w->piece[i].late ? x->cost[i] : 0;
	x->done[i] = true;
	memmove(&x->waiting.v[which], &x->waiting.v[which + 1], (x->waiting.n - which - 1) * sizeof *x->waiting.v);
	x->waiting.n--;
}

/* Sends the message that can go first, if that is no later than `until`; false: none can. */
static bool send_first(Walker *x, f64 until)
{
	u32 best = NONE;
	f64 from = 0;
	for (u32 k = 0; k < x->waiting.n; k++) {
		f64 at = ready(x, x->waiting.v[k]);
		if (at < 0)
			continue;
		at = MAX(at, x->links);
		if (best == NONE || at < from) {
			best = k;
			from = at;
		}
	}
	if (best == NONE || from > until)
		return false;
	send(x, best, from);
	return true;
}

static void run(Walker *x, u32 i)
{
	const Piece *p = &x->w->piece[i];
	RankTime *r = &x->out->rank[p->rank];
	/* a rank that has begun lets parameters of the next one be gathered: also where nothing of those between is left. What follows
	 * from parameters alone is no beginning: it is there early */
	for (u32 k = p->rank + !p->constant; k-- > 0 && x->started[k] < 0;)
		x->started[k] = x->kernels;
	f64 at = ready(x, i), was = x->kernels;
	while (at < 0 || at > x->kernels) { /* messages are on their way first */
		if (!send_first(x, at < 0 ? 1e300 : at))
			break;
		at = ready(x, i);
	}
	assert(at >= 0);
	while (send_first(x, x->kernels))
		;
	f64 from = MAX(at, x->kernels), end = from + x->cost[i];
	add_waiting(x, p, was, from);
	r->seconds += end - from;
	r->by[x->by[i]] += x->cost[i];
	x->out->begin[i] = from;
	x->out->end[i] = x->kernels = end;
	x->done[i] = true;
}

Walk walk(Arena *arena, const Machine *m, const Work *w, u64 bucket)
{
	Arena tmp = ARENA("walk");
	Walk out = { .rank = NEWN(arena, RankTime, 2 * w->units + 1), .begin = NEWN(arena, f64, w->npiece + 1),
		     .end = NEWN(arena, f64, w->npiece + 1) };
	Walker x = { .m = m, .w = w, .out = &out, .tmp = &tmp, .cost = NEWN(&tmp, f64, w->npiece + 1), .taken = NEWN(&tmp, f64, w->npiece + 1), .done = NEWN(&tmp, bool, w->npiece + 1),
		     .by = NEWN(&tmp, Limiter, w->npiece + 1), .started = NEWN(&tmp, f64, 2 * w->units + 1) };
	for (u32 r = 0; r < 2 * w->units; r++)
		x.started[r] = -1;
	price(&tmp, &x, bucket);
	x.reader = NEWN(&tmp, u32, w->npiece + 1);
	for (u32 i = 0; i < w->npiece; i++)
		x.reader[i] = w->piece[i].rank;
	for (u32 i = w->npiece; i-- > 0;) /* what one layer has may be read in another, whose backward half comes before its own */
		for (u32 k = 0; k < w->piece[i].nafter; k++)
			if (w->piece[w->piece[i].after[k]].message)
				x.reader[w->piece[i].after[k]] = MIN(x.reader[w->piece[i].after[k]], x.reader[i]);
	/* messages wait in line from the start: what lies one layer ahead must be seen before its own place in the plan */
	for (u32 i = 0; i < w->npiece; i++)
		if (w->piece[i].message)
			VEC_PUSH(&tmp, &x.waiting, i);
	for (u32 i = 0; i < w->npiece; i++) {
		if (w->piece[i].message)
			continue;
		run(&x, i);
		out.last = w->piece[i].rank;
	}
	for (u32 r = 0; r < 2 * w->units; r++)
		x.started[r] = MAX(x.started[r], 0);
	f64 was = x.kernels;
	while (send_first(&x, 1e300))
		;
	assert(!x.waiting.n);
	out.rest = MAX(x.links, x.kernels) - was;
	out.rank[out.last].seconds += out.rest;
	out.rank[out.last].waiting += out.rest;
	out.seconds = MAX(x.kernels, x.links);
	arena_free(&tmp);
	return out;
}
