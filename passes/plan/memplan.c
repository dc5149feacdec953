/* passes/plan/memplan.c: where every buffer lies in the arena; see plan.h and ir/plan.h.
 *
 * First, what can be computed in place is: an output takes over the memory of an input that dies with the
 * step, where the kernel allows it (KSlot.may_alias). Buffers that share memory so are one block, alive
 * from the first's beginning to the last's end.
 *
 * Blocks are laid out by two methods, and the smaller arena wins. By rank: the largest first (by size, then
 * by size times lifetime), each into the smallest gap among those placed before that are alive with it
 * (the greedy-by-size planner of Pisarchyk and Lee 2020); only for the blocks that matter, since it looks
 * at pairs. By time: as an allocator would, the best fitting hole at each step. The bound that both are
 * measured by is the largest sum of sizes alive at one step. Where the best leaves more than a part
 * NEAR of that in gaps, blocks are packed below a given height: the largest first again, but those that then find no place
 * sooner; or in order of time, each at one end of some hole, by chance and with going back. */
#include "passes/plan/plan.h"

#include <stdlib.h>
#include <string.h>

/* By rank looks at no more blocks than this; the rest is laid out by time, behind them. */
enum { RANKED = 4096 };
/* Gaps of more than bound / NEAR are worked on, for as long as it takes to look at so many pairs of blocks. */
enum { PAIRS = 200000000, NEAR = 400 };

static u64 rounded(u64 bytes)
{
	return ALIGN_UP(bytes, MEMORY_ALIGN);
}

/* ---- the bound ---- */

u64 blocks_bound(Arena *tmp, const MemoryBlock *b, u32 n)
{
	ArenaMark mark = arena_mark(tmp);
	u32 steps = 0;
	for (u32 i = 0; i < n; i++)
		steps = MAX(steps, b[i].last + 1);
	i64 *change = NEWN(tmp, i64, steps + 1), now = 0, most = 0;
	for (u32 i = 0; i < n; i++) {
		change[b[i].first] += (i64)rounded(b[i].bytes);
		change[b[i].last + 1] -= (i64)rounded(b[i].bytes);
	}
	for (u32 s = 0; s < steps; s++) {
		now += change[s];
		most = MAX(most, now);
	}
	arena_release(tmp, mark);
	return (u64)most;
}

/* ---- by rank ---- */

typedef struct Ranked {
	f64 rank;
	u32 block;
} Ranked;

static int larger_first(const void *a, const void *b)
{
	const Ranked *x = a, *y = b;
	if (x->rank != y->rank)
		return x->rank > y->rank ? -1 : 1;
	return x->block < y->block ? -1 : x->block > y->block;
}

/* The blocks listed in `r`, in order, from offset 0, each in the smallest gap that it fits into, or the `lowest`; the end
 * of the highest. */
static u64 place_ranked(Arena *tmp, MemoryBlock *b, const Ranked *r, u32 n, bool lowest)
{
	u32 *placed = NEWN(tmp, u32, n + 1), nplaced = 0; /* by offset */
	u64 top = 0;
	for (u32 i = 0; i < n; i++) {
		MemoryBlock *x = &b[r[i].block];
		u64 size = rounded(x->bytes), end = 0, best = UINT64_MAX, at = 0;
		bool found = false;
		for (u32 k = 0; k < nplaced; k++) {
			const MemoryBlock *y = &b[placed[k]];
			if (y->last < x->first || x->last < y->first)
				continue;
			if (y->offset > end && y->offset - end >= size && y->offset - end < best && !(lowest && found)) {
				best = y->offset - end;
				at = end;
				found = true;
			}
			end = MAX(end, y->offset + rounded(y->bytes));
		}
		x->offset = found ? at : end;
		top = MAX(top, x->offset + size);
		u32 k = nplaced++;
		for (; k > 0 && b[placed[k - 1]].offset > x->offset; k--)
			placed[k] = placed[k - 1];
		placed[k] = r[i].block;
	}
	return top;
}

/* ---- by time ---- */

typedef struct Hole {
	u64 at, size;
} Hole;

typedef struct Heap {
	Hole *hole; /* by place; never two that touch */
	u32 n;
	u64 top;
} Heap;

static u64 heap_take(Heap *h, u64 size)
{
	u32 best = NONE;
	for (u32 i = 0; i < h->n; i++)
		if (h->hole[i].size >= size && (best == NONE || h->hole[i].size < h->hole[best].size))
			best = i;
	u64 at;
	if (best == NONE) {
		/* grow, from the last hole if it is at the top */
		bool last = h->n && h->hole[h->n - 1].at + h->hole[h->n - 1].size == h->top;
		at = last ? h->hole[--h->n].at : h->top;
		h->top = at + size;
		return at;
	}
	at = h->hole[best].at;
	h->hole[best].at += size;
	h->hole[best].size -= size;
	if (!h->hole[best].size)
		memmove(h->hole + best, h->hole + best + 1, (--h->n - best) * sizeof *h->hole);
	return at;
}

static void heap_give(Heap *h, u64 at, u64 size)
{
	if (!size)
		return;
	u32 low = 0, high = h->n;
	while (low < high) {
		u32 middle = (low + high) / 2;
		if (h->hole[middle].at < at)
			low = middle + 1;
		else
			high = middle;
	}
	bool before = low && h->hole[low - 1].at + h->hole[low - 1].size == at;
	bool after = low < h->n && at + size == h->hole[low].at;
	if (before && after) {
		h->hole[low - 1].size += size + h->hole[low].size;
		memmove(h->hole + low, h->hole + low + 1, (--h->n - low) * sizeof *h->hole);
	} else if (before) {
		h->hole[low - 1].size += size;
	} else if (after) {
		h->hole[low].at = at;
		h->hole[low].size += size;
	} else {
		memmove(h->hole + low + 1, h->hole + low, (h->n++ - low) * sizeof *h->hole);
		h->hole[low] = (Hole){ at, size };
	}
}

typedef struct Event {
	u32 step;
	bool end;
	u64 bytes;
	u32 block;
} Event;

/* In a step, all come alive before any dies; the largest first. */
static int by_time(const void *a, const void *b)
{
	const Event *x = a, *y = b;
	if (x->step != y->step)
		return x->step < y->step ? -1 : 1;
	if (x->end != y->end)
		return x->end ? 1 : -1;
	if (x->bytes != y->bytes)
		return x->bytes > y->bytes ? -1 : 1;
	return x->block < y->block ? -1 : x->block > y->block;
}

/* The blocks listed, from offset `base`; the end of the highest. */
static u64 place_by_time(Arena *tmp, MemoryBlock *b, const u32 *list, u32 n, u64 base)
{
	Event *event = NEWN(tmp, Event, 2 * n + 1);
	for (u32 i = 0; i < n; i++) {
		const MemoryBlock *x = &b[list[i]];
		event[2 * i] = (Event){ x->first, false, x->bytes, list[i] };
		event[2 * i + 1] = (Event){ x->last, true, x->bytes, list[i] };
	}
	qsort(event, 2 * (size_t)n, sizeof *event, by_time);
	Heap h = { .hole = NEWN(tmp, Hole, n + 2), .top = base };
	for (u32 i = 0; i < 2 * n; i++) {
		MemoryBlock *x = &b[event[i].block];
		if (event[i].end)
			heap_give(&h, x->offset, rounded(x->bytes));
		else
			x->offset = heap_take(&h, rounded(x->bytes));
	}
	return h.top;
}

/* ---- within a given height ---- */

static u32 draw(u64 *state, u32 below)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (u32)((*state >> 33) % below);
}

typedef struct Shelf {
	u64 at, end;
	u32 block;
} Shelf;

typedef struct Shelves {
	Shelf *v; /* what is alive, by place */
	u32 n;
	u64 height;
	u64 state; /* of chance */
} Shelves;

static void shelf_take(Shelves *x, const MemoryBlock *b, u32 block)
{
	u32 k = x->n++;
	for (; k > 0 && x->v[k - 1].at > b[block].offset; k--)
		x->v[k] = x->v[k - 1];
	x->v[k] = (Shelf){ b[block].offset, b[block].offset + rounded(b[block].bytes), block };
}

static void shelf_give(Shelves *x, u32 block)
{
	u32 k = 0;
	while (x->v[k].block != block)
		k++;
	memmove(x->v + k, x->v + k + 1, (--x->n - k) * sizeof *x->v);
}

/* Finds a place at the bottom or the top of some hole, by chance; those that live long more often low. */
static bool shelf_place(Shelves *x, MemoryBlock *b)
{
	u64 size = rounded(b->bytes), end = 0;
	bool high = draw(&x->state, 4) < (b->last - b->first > 2 ? 1 : 3), any = !draw(&x->state, 4), found = false;
	for (u32 k = 0; k <= x->n; k++) {
		u64 next = k < x->n ? x->v[k].at : x->height;
		if (next >= end + size && (!found || high) && (!found || !any || draw(&x->state, 2))) {
			found = true;
			b->offset = high ? next - size : end;
		}
		end = k < x->n ? MAX(end, x->v[k].end) : end;
	}
	return found;
}

/* Lays blocks out below `height` in order of time. Where one finds no hole, goes back a few events and tries again, by
 * other chances; the further back, the longer it gets no further. Gives up when it has looked at so many pairs. */
static bool pack_within(Arena *tmp, MemoryBlock *b, u32 n, u64 height, u64 *pairs)
{
	enum { BACK = 4 };
	Event *event = NEWN(tmp, Event, 2 * n + 1);
	Shelves x = { NEWN(tmp, Shelf, n + 1), 0, height, n };
	for (u32 i = 0; i < n; i++) {
		event[2 * i] = (Event){ b[i].first, false, b[i].bytes, i };
		event[2 * i + 1] = (Event){ b[i].last, true, b[i].bytes, i };
	}
	qsort(event, 2 * (size_t)n, sizeof *event, by_time);
	u64 more = *pairs / 3;
	*pairs -= more;
	u32 i = 0, furthest = 0, back = BACK;
	while (i < 2 * n && more) {
		u32 block = event[i].block;
		more -= MIN(more, x.n + 1);
		if (event[i].end || shelf_place(&x, &b[block])) {
			if (event[i].end)
				shelf_give(&x, block);
			else
				shelf_take(&x, b, block);
			i++;
			back = i > furthest ? BACK : back;
			furthest = MAX(furthest, i);
			continue;
		}
		for (u32 k = 1 + draw(&x.state, back); i > 0 && k > 0; k--) {
			i--;
			if (event[i].end)
				shelf_take(&x, b, event[i].block);
			else
				shelf_give(&x, event[i].block);
		}
		back = back < 2 * n ? back + back / BACK : BACK;
	}
	*pairs += more;
	return i == 2 * n;
}

/* ---- within a given height, the guilty first ---- */

/* Finds a place below `height` among the blocks placed, by offset: the lowest or the highest, whichever is nearer to its end. */
static bool end_place(MemoryBlock *b, MemoryBlock *x, const u32 *placed, u32 nplaced, u64 height)
{
	u64 size = rounded(x->bytes), end = 0, low = UINT64_MAX, high = 0;
	for (u32 k = 0; k <= nplaced; k++) {
		const MemoryBlock *y = k < nplaced ? &b[placed[k]] : NULL;
		if (y && (y->last < x->first || x->last < y->first))
			continue;
		u64 next = y ? y->offset : height;
		if (next >= end + size) {
			low = MIN(low, end);
			high = next - size;
		}
		end = y ? MAX(end, y->offset + rounded(y->bytes)) : end;
	}
	x->offset = low <= height - MIN(height, high + size) ? low : high;
	return low != UINT64_MAX;
}

/* Lays blocks out below `height`, the largest first; those that found no place come earlier in the next round (squeaky wheels:
 * Joslin and Clements 1999). So a value that lives through two peaks is put at the bottom or the top before what is larger. */
static bool pack_guilty(Arena *tmp, MemoryBlock *b, u32 n, u64 height, u64 *pairs)
{
	enum { ROUNDS = 16, BLAME = 4 };
	Ranked *r = NEWN(tmp, Ranked, n + 1);
	u32 *placed = NEWN(tmp, u32, n + 1);
	u64 more = *pairs / 3;
	*pairs -= more;
	for (u32 i = 0; i < n; i++)
		r[i] = (Ranked){ (f64)b[i].bytes, i };
	bool all = false;
	for (u32 round = 0; round < ROUNDS && more && !all; round++) {
		u32 nplaced = 0;
		qsort(r, n, sizeof *r, larger_first);
		for (u32 i = 0; i < n && more; i++) {
			more -= MIN(more, nplaced + 1);
			if (!end_place(b, &b[r[i].block], placed, nplaced, height)) {
				r[i].rank *= BLAME;
				continue;
			}
			u32 k = nplaced++;
			for (; k > 0 && b[placed[k - 1]].offset > b[r[i].block].offset; k--)
				placed[k] = placed[k - 1];
			placed[k] = r[i].block;
		}
		all = nplaced == n;
	}
	*pairs += more;
	return all;
}

/* ---- the best of them ---- */

static u64 attempt(Arena *tmp, MemoryBlock *b, u32 n, u32 method)
{
	u32 *list = NEWN(tmp, u32, n + 1), nlist = 0;
	if (method == 2) {
		for (u32 i = 0; i < n; i++)
			list[nlist++] = i;
		return place_by_time(tmp, b, list, nlist, 0);
	}
	Ranked *r = NEWN(tmp, Ranked, n + 1);
	for (u32 i = 0; i < n; i++) {
		f64 life = (f64)(b[i].last - b[i].first + 1);
		r[i] = (Ranked){ (f64)b[i].bytes * (method == 1 ? life : 1), i };
	}
	qsort(r, n, sizeof *r, larger_first);
	u32 ranked = MIN(n, (u32)RANKED);
	u64 top = place_ranked(tmp, b, r, ranked, false);
	for (u32 i = ranked; i < n; i++)
		list[nlist++] = r[i].block;
	return nlist ? place_by_time(tmp, b, list, nlist, top) : top;
}

/* Blocks of a stretch of time, for an arena of at least `bound` anyway. */
static u64 lay_out_stretch(Arena *tmp, MemoryBlock *b, u32 n, u64 bound, u64 *pairs)
{
	ArenaMark mark = arena_mark(tmp);
	u64 least = UINT64_MAX;
	u64 *offset = NEWN(tmp, u64, n + 1);
	for (u32 method = 0; method < 3 && least > bound; method++) {
		u64 top = attempt(tmp, b, n, method);
		if (top >= least)
			continue;
		least = top;
		for (u32 i = 0; i < n; i++)
			offset[i] = b[i].offset;
	}
	for (u32 part = NEAR; part > NEAR / 4 && least > bound + bound / part; part = part * 2 / 3) {
		u64 height = rounded(bound + bound / part);
		if (least <= height || (!pack_guilty(tmp, b, n, height, pairs) && !pack_within(tmp, b, n, height, pairs)))
			continue;
		arena_release(tmp, mark);
		return height;
	}
	for (u32 i = 0; i < n; i++)
		b[i].offset = offset[i];
	arena_release(tmp, mark);
	return least;
}

static int smaller_first(const void *a, const void *b)
{
	return -larger_first(a, b);
}

/* Blocks that are so small that they hardly count go below the others, so that what lives long and is tiny does not tie
 * everything together: the end of the highest, and which are left, in the order of their beginnings. */
static u64 place_small(Arena *tmp, MemoryBlock *b, u32 n, u64 bound, Ranked *left, u32 *nleft)
{
	u32 *list = NEWN(tmp, u32, n + 1);
	MemoryBlock *small = NEWN(tmp, MemoryBlock, n + 1);
	for (u32 i = 0; i < n; i++)
		left[i] = (Ranked){ (f64)b[i].bytes, i };
	qsort(left, n, sizeof *left, smaller_first);
	for (u32 i = 0; i < n; i++) {
		list[i] = left[i].block;
		small[i] = b[list[i]];
	}
	u32 most = 0; /* how many: the most that need no more than a small share */
	for (u32 bit = 1u << 31; bit; bit >>= 1)
		if ((most | bit) <= n && blocks_bound(tmp, small, most | bit) <= bound / NEAR)
			most |= bit;
	*nleft = n - most;
	for (u32 i = 0; i < *nleft; i++) {
		left[i] = left[most + i];
		left[i].rank = b[left[i].block].first;
	}
	qsort(left, *nleft, sizeof *left, smaller_first);
	u32 empty = 0;
	while (empty < most && !small[empty].bytes)
		b[list[empty++]].offset = 0; /* takes no place */
	return place_by_time(tmp, b, list + empty, most - empty, 0);
}

u64 blocks_lay_out(Arena *tmp, MemoryBlock *b, u32 n)
{
	ArenaMark mark = arena_mark(tmp);
	u64 bound = blocks_bound(tmp, b, n), top = 0, pairs = PAIRS;
	Ranked *order = NEWN(tmp, Ranked, n + 1);
	MemoryBlock *part = NEWN(tmp, MemoryBlock, n + 1);
	u32 norder;
	u64 base = place_small(tmp, b, n, bound, order, &norder);
	/* where nothing is alive on both sides, what lies before and after is laid out on its own */
	for (u32 i = 0, end; i < norder; i = end) {
		u32 last = b[order[i].block].last;
		for (end = i; end < norder && (end == i || b[order[end].block].first <= last); end++) {
			part[end - i] = b[order[end].block];
			last = MAX(last, part[end - i].last);
		}
		top = MAX(top, lay_out_stretch(tmp, part, end - i, bound, &pairs));
		for (u32 k = i; k < end; k++)
			b[order[k].block].offset = base + part[k - i].offset;
	}
	arena_release(tmp, mark);
	return base + top;
}

/* ---- in place ---- */

static bool transient(const PlanBuffer *b)
{
	return b->kind != MEMORY_PERSISTENT;
}

/* The buffer of output slot `o` of step `s` takes over that of an input slot, if one may be taken: its bytes, or 0. `said`: until
 * which step a collective is at work on each buffer. */
static u64 take_over(const Plan *p, EntryPlan *e, u32 s, u32 o, const u32 *said, bool *taken)
{
	const Step *step = &e->step.v[s];
	const Kernel *k = p->kernel.v[step->kernel];
	PlanBuffer *out = &e->buffer.v[step->slot[o]];
	if (!transient(out) || out->first != s || out->root != NONE)
		return 0;
	for (u32 i = 0; i < k->slot.n && i < 64; i++) {
		if (!(k->slot.v[o].may_alias >> i & 1))
			continue;
		u32 from = step->slot[i];
		PlanBuffer *in = &e->buffer.v[from];
		bool before = in->first < s || in->kind == MEMORY_INPUT;
		if (!transient(in) || in->kind == MEMORY_RESULT || in->last != s || said[from] > s || !before || taken[from] || in->bytes != out->bytes)
			continue;
		taken[from] = true;
		out->root = in->root == NONE ? from : in->root;
		return rounded(out->bytes);
	}
	return 0;
}

/* Decides what works in place: all that can, or, where `alive` says how much is alive at each step if nothing does, only
 * as much of it as keeps that within `bound`. */
static void take_all(Arena *tmp, const Plan *p, EntryPlan *e, u64 *alive, u64 bound)
{
	bool *taken = NEWN(tmp, bool, e->buffer.n + 1);
	u32 *said = NEWN(tmp, u32, e->buffer.n + 1);
	for (u32 i = 0; i < e->buffer.n; i++)
		e->buffer.v[i].root = NONE;
	for (u32 s = 0; s < e->step.n; s++) {
		const Kernel *k = p->kernel.v[e->step.v[s].kernel];
		for (u32 i = 0; k->collective && i < k->slot.n; i++)
			said[e->step.v[s].slot[i]] = MAX(said[e->step.v[s].slot[i]], e->step.v[s].until);
	}
	for (u32 s = 0; s < e->step.n; s++)
		for (u32 o = 0; o < p->kernel.v[e->step.v[s].kernel]->slot.n; o++) {
			if (alive && alive[s] <= bound)
				break;
			u64 bytes = take_over(p, e, s, o, said, taken);
			if (alive)
				alive[s] -= bytes;
		}
}

/* Buffers of an entry as blocks, those that share memory as one; of[buffer]: its block. */
typedef struct Blocks {
	MemoryBlock *block;
	u32 n, *of;
} Blocks;

static Blocks make_blocks(Arena *tmp, const EntryPlan *e)
{
	Blocks x = { NEWN(tmp, MemoryBlock, e->buffer.n + 1), 0, NEWN(tmp, u32, e->buffer.n + 1) };
	for (u32 i = 0; i < e->buffer.n; i++) {
		const PlanBuffer *b = &e->buffer.v[i];
		if (!transient(b) || b->root != NONE)
			continue;
		x.of[i] = x.n;
		x.block[x.n++] = (MemoryBlock){ b->bytes, b->first, b->last, 0 };
	}
	for (u32 i = 0; i < e->buffer.n; i++) {
		const PlanBuffer *b = &e->buffer.v[i];
		if (b->root == NONE)
			continue;
		x.of[i] = x.of[b->root];
		MemoryBlock *block = &x.block[x.of[i]];
		block->first = MIN(block->first, b->first);
		block->last = MAX(block->last, b->last);
	}
	return x;
}

static u64 *alive_alone(Arena *tmp, const EntryPlan *e)
{
	u64 *alive = NEWN(tmp, u64, e->step.n + 1);
	for (u32 i = 0; i < e->buffer.n; i++) {
		const PlanBuffer *b = &e->buffer.v[i];
		for (u32 s = b->first; transient(b) && s <= b->last && s < e->step.n; s++)
			alive[s] += rounded(b->bytes);
	}
	return alive;
}

void plan_entry_memory(Arena *tmp, Plan *p, EntryPlan *e)
{
	ArenaMark mark = arena_mark(tmp);
	take_all(tmp, p, e, NULL, 0);
	Blocks x = make_blocks(tmp, e);
	e->lower_bound = blocks_bound(tmp, x.block, x.n);
	if (p->unplaced) {
		e->transient_bytes = e->lower_bound;
		arena_release(tmp, mark);
		return;
	}
	e->transient_bytes = blocks_lay_out(tmp, x.block, x.n);
	if (e->transient_bytes - e->lower_bound > e->lower_bound / NEAR) {
		/* Blocks that live shorter leave fewer gaps. */
		u32 *root = NEWN(tmp, u32, e->buffer.n + 1);
		for (u32 i = 0; i < e->buffer.n; i++)
			root[i] = e->buffer.v[i].root;
		take_all(tmp, p, e, alive_alone(tmp, e), e->lower_bound);
		Blocks less = make_blocks(tmp, e);
		u64 bytes = blocks_lay_out(tmp, less.block, less.n);
		for (u32 i = 0; i < e->buffer.n && bytes >= e->transient_bytes; i++)
			e->buffer.v[i].root = root[i];
		if (bytes < e->transient_bytes) {
			x = less;
			e->transient_bytes = bytes;
		}
	}
	for (u32 i = 0; i < e->buffer.n; i++) {
		PlanBuffer *b = &e->buffer.v[i];
		if (!transient(b))
			b->offset = p->persistent_offset[b->persistent];
		else
			b->offset = p->persistent_bytes + x.block[x.of[i]].offset;
	}
	arena_release(tmp, mark);
}

void plan_persistent(Plan *p)
{
	const Program *program = p->program;
	p->persistent_offset = NEWN(p->arena, u64, program->buffer.n + 1);
	p->persistent_bytes = 0;
	for (u32 i = 0; i < program->buffer.n; i++) {
		p->persistent_offset[i] = p->persistent_bytes;
		p->persistent_bytes += plan_buffer_bytes(program, &program->buffer.v[i]);
	}
}

void plan_sum(Plan *p)
{
	u64 most = 0;
	for (u32 i = 0; i < p->entry.n; i++)
		most = MAX(most, p->entry.v[i]->transient_bytes);
	p->arena_bytes = p->persistent_bytes + most;
}
