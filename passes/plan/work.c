/* passes/plan/work.c: see work.h. */
#include "passes/plan/work.h"
#include "ir/shard.h"
#include "support/map.h"

#include <string.h>

const char *const recompute_name[RECOMPUTES] = { "none", "needed", "whole" };

/* ---- which layer ---- */

typedef struct Layers {
	Map of; /* hash of the layer's name -> its number, from 1 */
	u32 n;
} Layers;

static u64 layer_key(const char *scope)
{
	size_t n = scope_layer(scope);
	return n ? hash_bytes(HASH_SEED, scope, n) : 0;
}

static u32 layer_number(const Layers *l, const char *scope)
{
	u64 key = layer_key(scope), *found = key ? map_get(&l->of, key) : NULL;
	return found ? (u32)*found : 0;
}

/* ---- pieces ---- */

static const Kernel *kernel_of(const Work *w, u32 step)
{
	return w->plan->kernel.v[w->entry->step.v[step].kernel];
}

static const Buffer *persistent_of(const Plan *p, const PlanBuffer *b)
{
	return b->persistent == NONE ? NULL : &p->program->buffer.v[b->persistent];
}

/* Which steps a step waits for: those that last wrote what it reads. */
static void find_edges(Arena *arena, Work *w)
{
	const EntryPlan *e = w->entry;
	u32 *writer = NEWN(arena, u32, e->buffer.n + 1);
	for (u32 i = 0; i < e->buffer.n; i++)
		writer[i] = NONE;
	for (u32 s = 0; s < e->step.n; s++) {
		const Step *st = &e->step.v[s];
		const Kernel *k = kernel_of(w, s);
		Piece *p = &w->piece[s];
		u32 *after = NEWN(arena, u32, k->slot.n + 1);
		for (u32 i = 0; i < k->slot.n; i++)
			if (!k->slot.v[i].written && writer[st->slot[i]] != NONE)
				after[p->nafter++] = writer[st->slot[i]];
		p->after = after;
		for (u32 i = 0; i < k->slot.n; i++)
			if (k->slot.v[i].written)
				writer[st->slot[i]] = s;
	}
}

static bool writes_loss(const Work *w, u32 step)
{
	const Step *st = &w->entry->step.v[step];
	const Kernel *k = kernel_of(w, step);
	for (u32 i = 0; i < k->slot.n; i++) {
		const PlanBuffer *b = &w->entry->buffer.v[st->slot[i]];
		const Buffer *to = persistent_of(w->plan, b);
		const char *name = to ? to->name : b->name;
		if (k->slot.v[i].written && b->kind != MEMORY_TRANSIENT && name && !strcmp(name, "loss_sum"))
			return true;
	}
	return false;
}

/* What the loss needs, and what it does not. */
static void tell_halves(Arena *tmp, const Work *w, bool *backward)
{
	u32 n = w->npiece;
	bool any = false, *forward = NEWN(tmp, bool, n + 1);
	for (u32 s = n; s-- > 0;) {
		forward[s] |= writes_loss(w, s);
		any |= forward[s];
		for (u32 i = 0; forward[s] && i < w->piece[s].nafter; i++)
			forward[w->piece[s].after[i]] = true;
	}
	for (u32 s = 0; s < n; s++)
		backward[s] = any && !forward[s];
}

/* What follows from parameters, and from nothing else that a micro-batch or a step may change. */
static void tell_constant(Work *w)
{
	for (u32 s = 0; s < w->npiece; s++) {
		Piece *p = &w->piece[s];
		p->constant = true;
		for (u32 i = 0; i < p->nafter; i++)
			p->constant &= w->piece[p->after[i]].constant;
		for (u32 i = 0; i < p->kernel->slot.n; i++) {
			const PlanBuffer *b = &w->entry->buffer.v[w->entry->step.v[s].slot[i]];
			const Buffer *from = persistent_of(w->plan, b);
			if (!p->kernel->slot.v[i].written && b->kind != MEMORY_TRANSIENT)
				p->constant &= from && from->kind == BUFFER_PARAMETER;
		}
	}
}

/* Buffers that hold what lasts are marked as their writers are come to. */
static void tell_lasting(Arena *tmp, Work *w)
{
	const EntryPlan *e = w->entry;
	bool *lasts = NEWN(tmp, bool, e->buffer.n + 1);
	for (u32 i = 0; i < e->buffer.n; i++) {
		const Buffer *from = persistent_of(w->plan, &e->buffer.v[i]);
		lasts[i] = from && (from->kind == BUFFER_PARAMETER || from->kind == BUFFER_GRADIENT);
	}
	for (u32 s = 0; s < w->npiece; s++) {
		Piece *p = &w->piece[s];
		for (u32 i = 0; i < p->kernel->slot.n; i++) {
			u32 b = e->step.v[s].slot[i];
			lasts[b] |= p->constant && p->kernel->slot.v[i].written;
			p->lasting += lasts[b] ? e->buffer.v[b].bytes : 0;
		}
	}
}

static void tell_apart(Work *w, const bool *backward)
{
	for (u32 s = 0; s < w->npiece; s++) {
		Piece *p = &w->piece[s];
		p->apart = backward[s];
		for (u32 i = 0; i < p->nafter; i++)
			p->apart &= w->piece[p->after[i]].constant || w->piece[p->after[i]].apart;
	}
}

/* In the order in which a step comes to them; what follows from parameters alone, or waits for nothing of the step, may come earlier. */
static void number_layers(Arena *tmp, const Work *w, Layers *l)
{
	*l = (Layers){ .of = { .arena = tmp } };
	for (u32 early = 0; early < 2; early++)
		for (u32 s = 0; s < w->npiece; s++) {
			const Piece *p = &w->piece[s];
			u64 key = layer_key(kernel_of(w, s)->scope);
			if (key && (p->constant || p->apart) == early && !map_get(&l->of, key))
				map_put(&l->of, key, ++l->n);
		}
}

/* Does all that the piece reads come from behind the layers? So does the gradient of a tied table that the head gives, however late it is made. */
static bool of_head(const Work *w, u32 s)
{
	const Piece *p = &w->piece[s];
	bool all = p->nafter > 0;
	for (u32 i = 0; i < p->nafter; i++)
		all &= work_unit(w, w->piece[p->after[i]].rank) == w->units - 1;
	return all;
}

/* Pieces outside of layers belong to what lies before or behind these, by where they stand; a scope that the forward half
 * has is where that has it, but no later than who reads it. What follows from parameters alone may stand anywhere: it tells nothing of what stands
 * beside it, and belongs, outside of layers, to who reads it first. */
static void tell_ranks(Arena *tmp, Work *w, const Layers *l, const bool *backward)
{
	Map outside = { .arena = tmp };
	u32 at = 0;
	for (u32 s = 0; s < w->npiece; s++) { /* forward */
		const Kernel *k = kernel_of(w, s);
		if (backward[s])
			continue;
		u32 unit = layer_number(l, k->scope);
		if (!w->piece[s].constant)
			at = MAX(at, unit);
		if (!unit)
			unit = at == l->n && l->n ? l->n + 1 : at;
		u64 key = hash_bytes(HASH_SEED, k->scope, strlen(k->scope));
		if (*k->scope && !w->piece[s].constant && !map_get(&outside, key))
			map_put(&outside, key, unit);
		w->piece[s].rank = work_rank(w, unit, false);
	}
	at = l->n + 1;
	u32 left = l->n;
	for (u32 s = 0; s < w->npiece; s++) {
		const Kernel *k = kernel_of(w, s);
		if (!backward[s])
			continue;
		u32 unit = layer_number(l, k->scope);
		u64 *known = map_get(&outside, hash_bytes(HASH_SEED, k->scope, strlen(k->scope)));
		if (!unit && of_head(w, s))
			unit = l->n + 1;
		else if (!unit)
			unit = *k->scope && known ? (u32)*known : at > 1 || left == 0 ? at : 0;
		else if (!w->piece[s].constant && !w->piece[s].apart)
			at = MIN(at, unit);
		w->piece[s].rank = work_rank(w, unit, true);
	}
	u32 *first = NEWN(tmp, u32, w->npiece + 1); /* rank of who reads it first in its half */
	for (u32 s = w->npiece; s-- > 0;) {
		Piece *p = &w->piece[s];
		if (first[s] && !layer_number(l, kernel_of(w, s)->scope) && (p->constant || first[s] - 1 < p->rank))
			p->rank = first[s] - 1;
		for (u32 i = 0; i < p->nafter; i++) {
			u32 d = p->after[i];
			if (backward[d] == backward[s])
				first[d] = first[d] ? MIN(first[d], p->rank + 1) : p->rank + 1;
		}
	}
}

/* Of update and other entries without a loss: all is one half. */
static void tell_ranks_by_name(Work *w, const Layers *l)
{
	bool before = true;
	for (u32 s = 0; s < w->npiece; s++) {
		u32 unit = layer_number(l, kernel_of(w, s)->scope);
		before &= !unit;
		w->piece[s].rank = work_rank(w, unit ? unit : before ? 0 : l->n + 1, false);
	}
}

static void tell_messages(Work *w)
{
	for (u32 s = 0; s < w->npiece; s++) {
		Piece *p = &w->piece[s];
		p->message = p->kernel->class == KERNEL_COLLECTIVE;
		p->outside = !layer_key(p->kernel->scope);
		p->late = p->message;
	}
	for (u32 s = w->npiece; s-- > 0;) { /* whoever waits stands behind */
		Piece *p = &w->piece[s];
		for (u32 i = 0; i < p->nafter && !p->late; i++)
			w->piece[p->after[i]].late = false;
	}
	/* parameters are gathered as they are, or rounded before, by scales of their own: early if all behind it is read from memory */
	u32 kernel = NONE;
	for (u32 s = 0; s < w->npiece; s++) {
		Piece *p = &w->piece[s];
		bool gather = p->message && p->kernel->collective->op == OP_all_gather;
		p->early = gather && !p->constant;
		for (u32 i = 0; i < p->nafter && p->early; i++)
			p->early = w->piece[p->after[i]].nafter == 0 && !w->piece[p->after[i]].message;
		p->early |= p->message && p->constant;
		p->behind = gather && !p->early && ((const all_gather_attr *)p->kernel->collective->attr)->again ? kernel : NONE;
		kernel = p->message ? kernel : s;
	}
}

/* ---- values ---- */

/* Piece `reader` reads the value. */
static void note_next(const Work *w, WorkValue *v, u32 reader)
{
	u32 from = w->piece[v->maker].rank, to = w->piece[reader].rank;
	if (v->next == NONE && !work_backward(w, to) && from + 1 == to)
		v->next = reader;
}

static void find_values(Arena *arena, Work *w)
{
	const EntryPlan *e = w->entry;
	u32 *of = NEWN(arena, u32, e->buffer.n + 1); /* one more than the value that the buffer is */
	w->value = NEWN(arena, WorkValue, e->buffer.n + 1);
	for (u32 s = 0; s < w->npiece; s++) {
		const Kernel *k = kernel_of(w, s);
		for (u32 i = 0; i < k->slot.n; i++) {
			u32 b = e->step.v[s].slot[i];
			u32 root = b;
			while (e->buffer.v[root].root != NONE)
				root = e->buffer.v[root].root;
			const PlanBuffer *x = &e->buffer.v[root];
			if (x->kind == MEMORY_PERSISTENT)
				continue;
			if (!of[root]) {
				w->value[w->nvalue++] = (WorkValue){ .bytes = x->bytes, .maker = s, .next = NONE };
				of[root] = w->nvalue;
			}
			w->value[of[root] - 1].last = s;
			note_next(w, &w->value[of[root] - 1], s);
		}
	}
}

/* Bytes that the value adds to those of its unit, where its reader adds up what it reads; `most`: by reader, what that is
 * counted for already. */
static u64 added(const WorkValue *v, u64 *most)
{
	u64 was = most[v->next];
	most[v->next] = MAX(was, v->bytes);
	return most[v->next] - was;
}

static bool reads_gradient(const Work *w, u32 s)
{
	const Kernel *k = kernel_of(w, s);
	bool gradient = false;
	for (u32 i = 0; i < k->slot.n && !gradient; i++) {
		const Buffer *from = persistent_of(w->plan, &w->entry->buffer.v[w->entry->step.v[s].slot[i]]);
		gradient = !k->slot.v[i].written && from && from->kind == BUFFER_GRADIENT;
	}
	return gradient;
}

/* Sums a persistent gradient over devices, as it is or padded. */
static bool sums_gradient(const Work *w, u32 s)
{
	const Kernel *k = kernel_of(w, s);
	bool sums = k->collective && (k->collective->op == OP_all_reduce || k->collective->op == OP_reduce_scatter);
	bool gradient = sums && reads_gradient(w, s);
	for (u32 i = 0; i < w->piece[s].nafter && sums && !gradient; i++)
		gradient = reads_gradient(w, w->piece[s].after[i]);
	return gradient;
}

/* Is another unit at work while the value is there? */
static bool outlives_unit(const Work *w, const WorkValue *v)
{
	bool other = false;
	for (u32 s = v->maker; s <= v->last && !other; s++)
		other = w->piece[s].rank != w->piece[v->maker].rank;
	return other;
}

/* From values to what units keep and hand on, and the most alive beside. */
static void sum_values(Arena *arena, Arena *tmp, Work *w)
{
	w->kept = NEWN(arena, u64, w->units + 1);
	w->same = NEWN(arena, u64, w->units + 1);
	w->summed = NEWN(arena, u64, w->units + 1);
	w->handed = NEWN(arena, u64, w->units + 1);
	i64 *change = NEWN(tmp, i64, w->npiece + 2), now = 0;
	u64 *kept = NEWN(tmp, u64, w->npiece + 1), *handed = NEWN(tmp, u64, w->npiece + 1);
	for (u32 i = 0; i < w->nvalue; i++) {
		WorkValue *v = &w->value[i];
		u32 from = w->piece[v->maker].rank, to = w->piece[v->last].rank;
		v->kept = w->halves ? !work_backward(w, from) && work_backward(w, to) : outlives_unit(w, v);
		w->summed[from] += v->kept && !w->halves && sums_gradient(w, v->maker) ? v->bytes : 0;
		bool constant = w->piece[v->maker].constant;
		const Piece *next = v->next == NONE || constant ? NULL : &w->piece[v->next];
		bool summed = next && next->kernel->class != KERNEL_DOT;
		if (next)
			w->handed[from] += summed ? added(v, handed) : v->bytes;
		if (v->kept)
			(constant ? w->same : w->kept)[from] += summed && next->repeats ? added(v, kept) : v->bytes;
		else {
			change[v->maker] += (i64)v->bytes;
			change[v->last + 1] -= (i64)v->bytes;
		}
	}
	w->working = NEWN(arena, u64, 2 * w->units + 1);
	for (u32 i = 0; i < w->npiece; i++) {
		u64 *most = &w->working[w->piece[i].rank];
		now += change[i];
		*most = MAX(*most, (u64)now);
	}
}

Work *work_of(Arena *arena, Arena *tmp, const Plan *p, const EntryPlan *e)
{
	Work *w = NEW(arena, Work);
	*w = (Work){ .plan = p, .entry = e, .mesh = &p->program->mesh, .npiece = e->step.n,
		     .piece = NEWN(arena, Piece, e->step.n + 1) };
	for (u32 s = 0; s < w->npiece; s++)
		w->piece[s].kernel = kernel_of(w, s);
	find_edges(arena, w);
	tell_constant(w);
	tell_lasting(tmp, w);
	bool *backward = NEWN(tmp, bool, w->npiece + 1), any = false;
	tell_halves(tmp, w, backward);
	tell_apart(w, backward);
	Layers layers;
	number_layers(tmp, w, &layers);
	w->layers = layers.n;
	w->units = layers.n + 2;
	for (u32 s = 0; s < w->npiece; s++)
		any |= backward[s];
	w->halves = any;
	if (any)
		tell_ranks(tmp, w, &layers, backward);
	else
		tell_ranks_by_name(w, &layers);
	tell_messages(w);
	find_values(arena, w);
	sum_values(arena, tmp, w);
	return w;
}

/* ---- computed again ---- */

typedef struct Again {
	const Work *from;
	Work *to;
	u32 *place; /* of each piece of `from` in `to` */
	u32 *copy;  /* of forward pieces: one more than their copy's place; 0: none yet */
	u32 *twin;  /* of what the backward half gathers: one more than the forward piece whose copy gathers it already; 0: none does */
	bool *wanted, *settled;
} Again;

/* Which of the forward pieces of `unit` run again. */
static void choose(Again *x, u32 unit, Recompute how)
{
	const Work *w = x->from;
	u32 forward = work_rank(w, unit, false), back = work_rank(w, unit, true);
	for (u32 s = w->npiece; s-- > 0;) {
		const Piece *p = &w->piece[s];
		if (p->rank == forward && how == RECOMPUTE_WHOLE)
			x->wanted[s] = true;
		if (p->rank != back && !(p->rank == forward && x->wanted[s]))
			continue;
		for (u32 i = 0; i < p->nafter; i++)
			if (w->piece[p->after[i]].rank == forward)
				x->wanted[p->after[i]] = true;
	}
}

static void put(Again *x, Arena *arena, u32 s, bool again)
{
	Piece p = x->from->piece[s];
	u32 *after = NEWN(arena, u32, p.nafter + 1);
	bool back = work_backward(x->from, p.rank);
	u32 forward = back ? work_unit(x->from, p.rank) : p.rank;
	for (u32 i = 0; i < p.nafter; i++) {
		u32 d = p.after[i];
		bool copied = (again || back) && x->from->piece[d].rank == forward && x->copy[d];
		after[i] = copied ? x->copy[d] - 1 : x->place[d];
	}
	p.after = after;
	if (p.behind != NONE)
		p.behind = x->place[p.behind];
	if (again) {
		p.rank = work_rank(x->from, p.rank, true);
		p.again = true;
		x->copy[s] = x->to->npiece + 1;
		x->to->piece[x->place[s]].repeats = true;
	} else {
		x->place[s] = x->to->npiece;
	}
	x->to->piece[x->to->npiece++] = p;
}

/* Does piece `b` of the backward half gather what `a` of the forward half does? */
static bool same_gather(const Work *w, u32 a, u32 b)
{
	const Piece *x = &w->piece[a], *y = &w->piece[b];
	bool same = x->message && x->kernel->collective->op == OP_all_gather && (y->behind != NONE || (x->early && y->early)) &&
		    x->kernel->slot.n == y->kernel->slot.n;
	for (u32 i = 0; same && i < x->kernel->slot.n; i++)
		same = x->kernel->slot.v[i].written || w->entry->step.v[a].slot[i] == w->entry->step.v[b].slot[i];
	return same;
}

/* The buffer that a gather writes, by its root. */
static u32 gathers_into(const Work *w, u32 s)
{
	u32 b = NONE;
	for (u32 i = 0; i < w->piece[s].kernel->slot.n; i++)
		if (w->piece[s].kernel->slot.v[i].written)
			b = w->entry->step.v[s].slot[i];
	while (w->entry->buffer.v[b].root != NONE)
		b = w->entry->buffer.v[b].root;
	return b;
}

/* What a buffer lies in that shares its memory with a value that is computed again: the value as it was at first, or again. */
typedef enum Lies { LIES_BY_READER, LIES_IN_FIRST, LIES_IN_COPY } Lies;

/* Values of `from` as the new pieces make and read them. Who reads what the forward half made of its own unit, reads it as it is made again;
 * what the backward half writes in place lies where that was which it takes over, whichever unit reads it next. */
static void copy_values(Again *x, Arena *arena)
{
	const Work *w = x->from;
	Work *to = x->to;
	to->value = NEWN(arena, WorkValue, 2 * w->nvalue + 1);
	/* readers of each value are found again: steps' slots */
	const EntryPlan *e = w->entry;
	u32 *of = NEWN(arena, u32, e->buffer.n + 1), *again = NEWN(arena, u32, e->buffer.n + 1);
	Lies *lies = NEWN(arena, Lies, e->buffer.n + 1), *read = NEWN(arena, Lies, e->buffer.n + 1); /* `read`: by root, of who read it last */
	for (u32 s = 0; s < w->npiece; s++) {
		const Step *st = &e->step.v[s];
		const Kernel *k = w->piece[s].kernel;
		bool back = work_backward(w, w->piece[s].rank);
		for (u32 i = 0; i < 2 * k->slot.n; i++) { /* what is read, then what is written */
			const KSlot *slot = &k->slot.v[i % k->slot.n];
			u32 at = st->slot[i % k->slot.n], b = at;
			if (slot->written != (i >= k->slot.n))
				continue;
			while (e->buffer.v[b].root != NONE)
				b = e->buffer.v[b].root;
			if (e->buffer.v[b].kind == MEMORY_PERSISTENT)
				continue;
			bool first = !of[b];
			if (first && x->twin[s] && slot->written && again[gathers_into(w, x->twin[s] - 1)]) {
				of[b] = again[gathers_into(w, x->twin[s] - 1)];
			} else if (first) {
				to->value[to->nvalue++] = (WorkValue){ .bytes = e->buffer.v[b].bytes, .maker = x->place[s], .next = NONE };
				of[b] = to->nvalue;
				if (x->copy[s]) {
					to->value[to->nvalue++] =
						(WorkValue){ .bytes = e->buffer.v[b].bytes, .maker = x->copy[s] - 1, .next = NONE };
					again[b] = to->nvalue;
				}
			}
			bool own = again[b] && work_unit(w, w->piece[s].rank) == work_unit(w, to->piece[to->value[of[b] - 1].maker].rank);
			if (back && slot->written && at != b)
				lies[at] = read[b];
			bool there = again[b] && to->value[again[b] - 1].maker < x->place[s]; /* again, by then */
			Lies in = lies[at] ? lies[at] : back && there ? LIES_IN_COPY : LIES_IN_FIRST;
			read[b] = slot->written ? read[b] : in;
			WorkValue *v = &to->value[(in == LIES_IN_COPY ? again[b] : of[b]) - 1], *copied = &to->value[(own ? again[b] : of[b]) - 1];
			v->last = MAX(v->last, x->place[s]);
			note_next(to, v, x->place[s]);
			if (x->copy[s]) /* its copy reads too */
				copied->last = MAX(copied->last, x->copy[s] - 1);
		}
	}
}

/* Puts the piece where the backward half comes to it, behind what it reads; what a copy in its layer gathers already is not gathered again. */
static void settle(Again *x, Arena *arena, u32 s)
{
	const Work *w = x->from;
	const Piece *p = &w->piece[s];
	u32 unit = work_unit(w, p->rank), *twin = &x->twin[s];
	if (x->settled[s])
		return;
	x->settled[s] = true;
	for (u32 i = 0; i < p->nafter; i++)
		settle(x, arena, p->after[i]);
	if (p->behind != NONE)
		settle(x, arena, p->behind);
	for (u32 k = 0; work_backward(w, p->rank) && (p->early || p->behind != NONE) && k < s && !*twin; k++)
		if (w->piece[k].rank == unit && x->copy[k] && same_gather(w, k, s))
			*twin = k + 1;
	if (*twin)
		x->place[s] = x->copy[*twin - 1] - 1;
	else
		put(x, arena, s, false);
}

/* A layer begins to compute again where its derivatives begin. What of these may stand before everything in the plan comes then, with its layer, unless others read
 * it before. */
const Work *work_again(Arena *arena, Arena *tmp, const Work *w, Recompute how)
{
	if (how == RECOMPUTE_NONE || !w->layers)
		return w;
	Work *to = NEW(arena, Work);
	*to = *w;
	to->npiece = to->nvalue = 0;
	to->piece = NEWN(arena, Piece, 2 * w->npiece + 1);
	Again x = { w, to, NEWN(tmp, u32, w->npiece + 1), NEWN(tmp, u32, w->npiece + 1), NEWN(tmp, u32, w->npiece + 1),
		    NEWN(tmp, bool, w->npiece + 1), NEWN(tmp, bool, w->npiece + 1) };
	bool *done = NEWN(tmp, bool, w->units + 1);
	for (u32 u = 1; u <= w->layers; u++)
		choose(&x, u, how);
	for (u32 s = 0; s < w->npiece; s++) {
		const Piece *p = &w->piece[s];
		u32 unit = work_unit(w, p->rank);
		bool waits = work_backward(w, p->rank) && unit >= 1 && unit <= w->layers && !done[unit];
		if (waits && p->apart)
			continue;
		if (waits) {
			done[unit] = true;
			for (u32 k = 0; k < w->npiece; k++)
				if (w->piece[k].rank == unit && x.wanted[k])
					put(&x, arena, k, true);
			for (u32 k = 0; k < s; k++)
				if (w->piece[k].rank == p->rank)
					settle(&x, arena, k);
		}
		settle(&x, arena, s);
	}
	for (u32 s = 0; s < w->npiece; s++)
		settle(&x, arena, s);
	copy_values(&x, arena);
	sum_values(arena, tmp, to);
	return to;
}

/* ---- without what lasts ---- */

static bool is_product(const Kernel *k)
{
	return k->class == KERNEL_DOT || k->class == KERNEL_GROUPED || k->class == KERNEL_GROUPED_WEIGHTS;
}

const Work *work_without_lasting(Arena *arena, const Work *w)
{
	Work *to = NEW(arena, Work);
	*to = *w;
	to->piece = NEWN(arena, Piece, w->npiece + 1);
	for (u32 s = 0; s < w->npiece; s++) {
		Piece *p = &to->piece[s];
		*p = w->piece[s];
		f64 bytes = p->kernel->bytes_read + p->kernel->bytes_written, rest = bytes > (f64)p->lasting ? 1 - (f64)p->lasting / bytes : 0;
		if (p->message || !p->lasting)
			continue;
		Kernel *k = NEW(arena, Kernel);
		*k = *p->kernel;
		k->bytes_read *= rest;
		k->bytes_written *= rest;
		k->effort *= rest;
		k->costly *= rest;
		k->flops *= is_product(k) ? 1 : rest;
		p->kernel = k;
	}
	return to;
}

/* ---- persistent buffers ---- */

/* The first and the last forward rank that needs what a piece makes: its own, or those of who reads what follows from
 * parameters alone, such as a rounded one. */
static void find_needed(const Work *w, u32 *first, u32 *last)
{
	for (u32 s = 0; s < w->npiece; s++) {
		first[s] = w->piece[s].constant ? NONE : w->piece[s].rank;
		last[s] = w->piece[s].constant ? 0 : w->piece[s].rank;
	}
	for (u32 s = w->npiece; s-- > 0;) {
		const Piece *x = &w->piece[s];
		if (first[s] == NONE)
			first[s] = last[s] = x->rank;
		for (u32 i = 0; i < x->nafter && !work_backward(w, x->rank); i++) {
			u32 d = x->after[i];
			if (!w->piece[d].constant)
				continue;
			first[d] = MIN(first[d], first[s]);
			last[d] = MAX(last[d], last[s]);
		}
	}
}

/* Does a product's operand need what is read of the slot? Not what is added behind it. */
static bool is_operand(const Kernel *k, const bool *needed, u32 slot)
{
	bool is = false;
	for (u32 i = 1; i < k->inst.n && !is; i++)
		is = needed[i] && k->inst.v[i].op == K_load && k->inst.v[i].access->slot == slot;
	return is;
}

typedef void WeightRead(void *cx, const Piece *p, u32 buffer, const Type *type);

/* Each weight that a product of the forward half takes: piece, buffer and type. */
static void each_weight(Arena *tmp, const Work *w, WeightRead *read, void *cx)
{
	const EntryPlan *e = w->entry;
	bool *constant = NEWN(tmp, bool, e->buffer.n + 1);
	for (u32 i = 0; i < e->buffer.n; i++) {
		const Buffer *from = persistent_of(w->plan, &e->buffer.v[i]);
		constant[i] = from && from->kind == BUFFER_PARAMETER;
	}
	for (u32 s = 0; s < w->npiece; s++) {
		const Piece *p = &w->piece[s];
		bool *needed = NEWN(tmp, bool, p->kernel->inst.n + 1);
		for (u32 i = 0; p->kernel->class == KERNEL_DOT && i < p->kernel->noperand; i++)
			kernel_mark_needed(p->kernel, p->kernel->operand[i], needed);
		for (u32 i = 0; i < p->kernel->slot.n && !work_backward(w, p->rank); i++) {
			u32 b = e->step.v[s].slot[i];
			if (p->kernel->slot.v[i].written)
				constant[b] = p->constant;
			else if (constant[b] && is_operand(p->kernel, needed, i))
				read(cx, p, b, e->buffer.v[b].type);
		}
	}
}

typedef struct Weights {
	const Work *w;
	u64 *elements; /* [unit] */
	u32 *seen;     /* [buffer] the last unit that counted it, from 1 */
	f64 rows;
} Weights;

static void add_weight(void *cx, const Piece *p, u32 buffer, const Type *type)
{
	Weights *x = cx;
	u32 unit = work_unit(x->w, p->rank);
	if (x->seen[buffer] != unit + 1)
		x->elements[unit] += (u64)type_elements(type);
	x->seen[buffer] = unit + 1;
}

u64 *work_weights(Arena *arena, Arena *tmp, const Work *w)
{
	Weights x = { .w = w, .elements = NEWN(arena, u64, w->units + 1), .seen = NEWN(tmp, u32, w->entry->buffer.n + 1) };
	each_weight(tmp, w, add_weight, &x);
	return x.elements;
}

static void note_rows(void *cx, const Piece *p, u32 buffer, const Type *type)
{
	(void)buffer;
	Weights *x = cx;
	u32 unit = work_unit(x->w, p->rank);
	f64 products = 1, longest = 1;
	for (u32 d = 0; d < p->kernel->ndim; d++)
		products *= (f64)p->kernel->dim[d].extent;
	for (u32 d = 0; d < type->rank; d++)
		longest = MAX(longest, (f64)type_extent(type, d));
	f64 rows = products / (f64)type_elements(type) / longest;
	if (unit >= 1 && unit <= x->w->layers)
		x->rows = x->rows > 0 ? MIN(x->rows, rows) : rows;
}

f64 work_rows(Arena *tmp, const Work *w)
{
	Weights x = { .w = w };
	each_weight(tmp, w, note_rows, &x);
	return x.rows;
}

static void add_bytes(UnitBytes *to, BufferKind kind, u64 bytes)
{
	*(kind == BUFFER_PARAMETER ? &to->parameters :
	  kind == BUFFER_GRADIENT  ? &to->gradients :
	  kind == BUFFER_STATE	   ? &to->optimizer :
				     &to->other) += bytes;
}

/* Mesh axis m divides those that count, if it is not NONE. */
static UnitBytes *persistent_bytes(Arena *arena, const Work *w, u32 m, UnitBytes *tied)
{
	const Program *p = w->plan->program;
	u32 *first = NEWN(arena, u32, w->npiece + 1), *last = NEWN(arena, u32, w->npiece + 1);
	find_needed(w, first, last);
	UnitBytes *out = NEWN(arena, UnitBytes, w->units + 1);
	u32 *least = NEWN(arena, u32, p->buffer.n + 1), *most = NEWN(arena, u32, p->buffer.n + 1);
	for (u32 s = 0; s < w->npiece; s++) {
		const Piece *x = &w->piece[s];
		for (u32 i = 0; i < x->kernel->slot.n && !work_backward(w, x->rank); i++) {
			u32 b = w->entry->buffer.v[w->entry->step.v[s].slot[i]].persistent;
			if (b == NONE)
				continue;
			least[b] = least[b] ? MIN(least[b], first[s] + 1) : first[s] + 1;
			most[b] = MAX(most[b], last[s] + 1);
		}
	}
	*tied = (UnitBytes){ 0 };
	for (u32 i = 0; i < p->buffer.n; i++) {
		const Buffer *b = &p->buffer.v[i];
		Place place[MESH_AXES];
		if (m != NONE && !(places_read(&p->mesh, b->split, place) && place[m].kind == PLACE_SPLIT))
			continue;
		u32 from = b->of != NONE ? b->of : i;
		u64 bytes = (u64)type_bytes(b->type);
		u32 unit = least[from] ? least[from] - 1 : 0, other = most[from] ? most[from] - 1 : 0;
		u32 at[2] = { unit, other };
		bool both = unit == 0 && other == w->units - 1;
		for (u32 k = 0; k < (both ? 2u : 1u); k++)
			add_bytes(&out[at[k]], b->kind, bytes);
		if (both)
			add_bytes(tied, b->kind, bytes);
	}
	return out;
}

UnitBytes *work_persistent(Arena *arena, const Work *w, UnitBytes *tied)
{
	return persistent_bytes(arena, w, NONE, tied);
}

UnitBytes *work_divided(Arena *arena, const Work *w, u32 m)
{
	UnitBytes tied;
	return persistent_bytes(arena, w, m, &tied);
}
