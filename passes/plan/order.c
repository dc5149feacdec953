/* passes/plan/order.c: in which order steps run, for a low peak of memory; see plan.h.
 *
 * The order given is a good one: that of the model, forward and then backward. Two greedy walks improve on
 * it. Forwards: a step that frees more than it makes runs as soon as it can, and otherwise the order is
 * kept. Backwards, the same from the end: a step that makes more than it frees is put off until something
 * needs it. Each walk is list scheduling with liveness as its measure; the best of the given order, both,
 * and one after the other is taken.
 *
 * What a step frees changes when it is left as the last reader of a buffer, which is found once for each
 * buffer; so a walk takes time in proportion to edges, times the logarithm of a heap. */
#include "passes/plan/plan.h"

#include <string.h>

/* ---- a heap of steps by key, smallest first ---- */

typedef struct Heap {
	const u32 *key; /* of each step */
	u32 *step, n;
} Heap;

static void heap_push(Heap *h, u32 step)
{
	u32 i = h->n++;
	while (i && h->key[h->step[(i - 1) / 2]] > h->key[step]) {
		h->step[i] = h->step[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	h->step[i] = step;
}

static u32 heap_pop(Heap *h)
{
	u32 top = h->step[0], last = h->step[--h->n], i = 0;
	for (;;) {
		u32 child = 2 * i + 1;
		if (child >= h->n)
			break;
		if (child + 1 < h->n && h->key[h->step[child + 1]] < h->key[h->step[child]])
			child++;
		if (h->key[h->step[child]] >= h->key[last])
			break;
		h->step[i] = h->step[child];
		i = child;
	}
	h->step[i] = last;
	return top;
}

/* ---- one direction of time ---- */

/* A list of lists: item[start[i]] .. item[start[i + 1]] belong to i. */
typedef struct Lists {
	u32 *start, *item;
} Lists;

/* The relations that lists are made of, from the fields of steps. */
typedef enum Relation { AFTER, BEFORE, READS, WRITES, READERS, WRITERS } Relation;

static void relate(const OrderProblem *p, Relation r, Lists *l, u32 *fill)
{
	for (u32 s = 0; s < p->nstep; s++) {
		const OrderStep *o = &p->step[s];
		bool steps = r == AFTER || r == BEFORE, writes = r == WRITES || r == WRITERS;
		const u32 *other = steps ? o->before : writes ? o->writes : o->reads;
		u32 n = steps ? o->nbefore : writes ? o->nwrite : o->nread;
		bool flip = r == AFTER || r == READERS || r == WRITERS;
		for (u32 i = 0; i < n; i++) {
			u32 from = flip ? other[i] : s, to = flip ? s : other[i];
			if (fill)
				l->item[fill[from]++] = to;
			else
				l->start[from + 1]++;
		}
	}
}

static Lists lists(Arena *tmp, const OrderProblem *p, Relation r)
{
	u32 n = r >= READERS ? p->nbuffer : p->nstep;
	Lists l = { .start = NEWN(tmp, u32, n + 2) };
	relate(p, r, &l, NULL);
	for (u32 i = 0; i < n; i++)
		l.start[i + 1] += l.start[i];
	l.item = NEWN(tmp, u32, l.start[n] + 1);
	relate(p, r, &l, COPYN(tmp, u32, l.start, n + 1));
	return l;
}

/* The problem as one walk sees it. In its direction of time, a buffer comes alive with the first of its
 * makers and is gone after the last of its enders. */
typedef struct Walk {
	const OrderProblem *p;
	Lists after;          /* step -> steps that wait for it */
	Lists makes, ends;    /* step -> buffers */
	Lists makers, enders; /* buffer -> steps */
	const bool *stays;    /* buffers that are never gone */
	u32 *waits;           /* step -> how many it waits for */
	bool *done, *queued;  /* steps; queued: in the heap of those that free more than they make */
	bool *alive;          /* buffers */
	u32 *left;            /* enders of each buffer that are not done */
	i64 *delta;           /* of each step: bytes made less bytes ended */
	Heap ready, freeing;
} Walk;

static void note_freeing(Walk *w, u32 step)
{
	if (w->done[step] || w->queued[step] || w->waits[step] || w->delta[step] >= 0)
		return;
	w->queued[step] = true;
	heap_push(&w->freeing, step);
}

/* One ender is left: it frees the buffer. */
static void note_last(Walk *w, u32 buffer)
{
	if (w->left[buffer] != 1 || w->stays[buffer])
		return;
	for (u32 i = w->enders.start[buffer]; i < w->enders.start[buffer + 1]; i++) {
		u32 step = w->enders.item[i];
		if (w->done[step])
			continue;
		w->delta[step] -= (i64)w->p->bytes[buffer];
		note_freeing(w, step);
		return;
	}
}

static void come_alive(Walk *w, u32 buffer)
{
	if (w->alive[buffer])
		return;
	w->alive[buffer] = true;
	for (u32 i = w->makers.start[buffer]; i < w->makers.start[buffer + 1]; i++) {
		u32 step = w->makers.item[i];
		w->delta[step] -= (i64)w->p->bytes[buffer];
		note_freeing(w, step);
	}
}

static void run_step(Walk *w, u32 step)
{
	w->done[step] = true;
	for (u32 i = w->makes.start[step]; i < w->makes.start[step + 1]; i++)
		come_alive(w, w->makes.item[i]);
	for (u32 i = w->ends.start[step]; i < w->ends.start[step + 1]; i++) {
		w->left[w->ends.item[i]]--;
		note_last(w, w->ends.item[i]);
	}
	for (u32 i = w->after.start[step]; i < w->after.start[step + 1]; i++) {
		u32 next = w->after.item[i];
		if (--w->waits[next])
			continue;
		heap_push(&w->ready, next);
		note_freeing(w, next);
	}
}

/* `place[step]` says where a step stands in the order that is improved on. */
static u32 *greedy(Arena *tmp, const OrderProblem *p, const u32 *place, bool backwards)
{
	u32 n = p->nstep;
	u32 *key = NEWN(tmp, u32, n + 1), *order = NEWN(tmp, u32, n + 1);
	for (u32 s = 0; s < n; s++)
		key[s] = backwards ? n - 1 - place[s] : place[s];
	Walk w = { .p = p,
		   .after = lists(tmp, p, backwards ? BEFORE : AFTER),
		   .makes = lists(tmp, p, backwards ? READS : WRITES),
		   .ends = lists(tmp, p, backwards ? WRITES : READS),
		   .makers = lists(tmp, p, backwards ? READERS : WRITERS),
		   .enders = lists(tmp, p, backwards ? WRITERS : READERS),
		   .stays = backwards ? p->at_start : p->to_end,
		   .waits = NEWN(tmp, u32, n + 1),
		   .done = NEWN(tmp, bool, n + 1),
		   .queued = NEWN(tmp, bool, n + 1),
		   .alive = NEWN(tmp, bool, p->nbuffer + 1),
		   .left = NEWN(tmp, u32, p->nbuffer + 1),
		   .delta = NEWN(tmp, i64, n + 1),
		   .ready = { key, NEWN(tmp, u32, n + 1), 0 },
		   .freeing = { key, NEWN(tmp, u32, n + 1), 0 } };
	for (u32 i = 0; i < w.after.start[n]; i++)
		w.waits[w.after.item[i]]++;
	for (u32 s = 0; s < n; s++)
		for (u32 i = w.makes.start[s]; i < w.makes.start[s + 1]; i++)
			w.delta[s] += (i64)p->bytes[w.makes.item[i]];
	const bool *there = backwards ? p->to_end : p->at_start;
	for (u32 b = 0; b < p->nbuffer; b++) {
		w.left[b] = w.enders.start[b + 1] - w.enders.start[b];
		if (there[b])
			come_alive(&w, b);
		note_last(&w, b);
	}
	for (u32 s = 0; s < n; s++) {
		if (w.waits[s])
			continue;
		heap_push(&w.ready, s);
		note_freeing(&w, s);
	}
	for (u32 i = 0; i < n;) {
		u32 step = heap_pop(w.freeing.n ? &w.freeing : &w.ready);
		if (w.done[step])
			continue;
		order[backwards ? n - 1 - i : i] = step;
		i++;
		run_step(&w, step);
	}
	return order;
}

/* ---- which is best ---- */

u64 order_peak(Arena *tmp, const OrderProblem *p, const u32 *order)
{
	ArenaMark mark = arena_mark(tmp);
	Lists readers = lists(tmp, p, READERS);
	u32 *left = NEWN(tmp, u32, p->nbuffer + 1);
	bool *alive = NEWN(tmp, bool, p->nbuffer + 1);
	u64 now = 0, peak = 0;
	for (u32 b = 0; b < p->nbuffer; b++) {
		left[b] = readers.start[b + 1] - readers.start[b];
		alive[b] = p->at_start[b];
		now += alive[b] ? p->bytes[b] : 0;
	}
	for (u32 i = 0; i < p->nstep; i++) {
		const OrderStep *s = &p->step[order[i]];
		for (u32 k = 0; k < s->nwrite; k++) {
			now += alive[s->writes[k]] ? 0 : p->bytes[s->writes[k]];
			alive[s->writes[k]] = true;
		}
		peak = MAX(peak, now + s->workspace);
		for (u32 k = 0; k < s->nread; k++)
			if (--left[s->reads[k]] == 0 && !p->to_end[s->reads[k]])
				now -= p->bytes[s->reads[k]];
	}
	arena_release(tmp, mark);
	return peak;
}

const u32 *order_steps(Arena *arena, Arena *tmp, const OrderProblem *p)
{
	u32 n = p->nstep, *order[4], best = 0;
	u32 *result = NEWN(arena, u32, n + 1); /* `arena` may be `tmp` */
	ArenaMark mark = arena_mark(tmp);
	order[0] = NEWN(tmp, u32, n + 1);
	for (u32 s = 0; s < n; s++)
		order[0][s] = s;
	order[1] = greedy(tmp, p, order[0], false);
	order[2] = greedy(tmp, p, order[0], true);
	u32 *place = NEWN(tmp, u32, n + 1);
	for (u32 i = 0; i < n; i++)
		place[order[2][i]] = i;
	order[3] = greedy(tmp, p, place, false);
	u64 least = order_peak(tmp, p, order[0]);
	for (u32 i = 1; i < COUNT(order); i++) {
		u64 peak = order_peak(tmp, p, order[i]);
		if (peak < least) {
			least = peak;
			best = i;
		}
	}
	memcpy(result, order[best], n * sizeof *result);
	arena_release(tmp, mark);
	return result;
}
