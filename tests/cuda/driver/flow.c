/* flow.c: lays out a kernel's basic blocks so that the program counter is a priority: topologically, with
 * the blocks of a loop together and before the loop's exits. Then the fragment with the smallest program
 * counter is always one that others may have to wait for. Loops are natural loops (back edges to a
 * dominator; dominators as in Cooper, Harvey, Kennedy, A Simple, Fast Dominance Algorithm, 2001). In
 * irreducible code retreating edges stand for back edges: still right, only less well converged. */
#include "flow.h"

typedef struct Flow {
	Arena *arena;
	const Inst *in;
	u32 n, nblock;
	u32 *start, *end;     /* instructions of each block */
	u32 *block_of;        /* of an instruction that starts one */
	u32 **next, *nnext;   /* successors */
	u32 *order, *rank;    /* reverse post-order and each block's place in it; rank 0xffffffff: unreachable */
	u32 nreached;
	u32 *dominator;
	u64 **loop;           /* per loop: bits of its blocks */
	u32 *header, *size, nloop;
} Flow;

static bool is_branch(const Inst *i)
{
	return i->run == run_branch || i->run == run_branch_indexed;
}

static bool falls_through(const Inst *i)
{
	return i->guard >= 0 || !(is_branch(i) || i->run == run_exit);
}

static void find_blocks(Flow *f)
{
	u8 *leader = NEWN(f->arena, u8, f->n + 1);
	leader[0] = 1;
	for (u32 i = 0; i < f->n; i++) {
		const Inst *x = &f->in[i];
		if (x->run == run_branch)
			leader[x->target] = 1;
		for (u32 k = 0; k < x->ntargets; k++)
			leader[x->targets[k]] = 1;
		if (is_branch(x) || x->run == run_exit)
			leader[i + 1] = 1;
	}
	f->start = NEWN(f->arena, u32, f->n);
	f->end = NEWN(f->arena, u32, f->n);
	f->block_of = NEWN(f->arena, u32, f->n + 1);
	for (u32 i = 0; i < f->n; i++) {
		if (leader[i]) {
			f->start[f->nblock] = i;
			f->block_of[i] = f->nblock++;
		}
		f->end[f->nblock - 1] = i + 1;
	}
	f->next = NEWN(f->arena, u32 *, f->nblock);
	f->nnext = NEWN(f->arena, u32, f->nblock);
	for (u32 b = 0; b < f->nblock; b++) {
		const Inst *last = &f->in[f->end[b] - 1];
		f->next[b] = NEWN(f->arena, u32, last->ntargets + 2);
		if (falls_through(last) && f->end[b] < f->n)
			f->next[b][f->nnext[b]++] = f->block_of[f->end[b]];
		if (last->run == run_branch)
			f->next[b][f->nnext[b]++] = f->block_of[last->target];
		for (u32 k = 0; k < last->ntargets; k++)
			f->next[b][f->nnext[b]++] = f->block_of[last->targets[k]];
	}
}

static void find_order(Flow *f)
{
	u32 *stack = NEWN(f->arena, u32, f->nblock + 1), *at = NEWN(f->arena, u32, f->nblock);
	u8 *seen = NEWN(f->arena, u8, f->nblock);
	u32 depth = 0, place = f->nblock;
	f->order = NEWN(f->arena, u32, f->nblock);
	f->rank = NEWN(f->arena, u32, f->nblock);
	memset(f->rank, 0xff, f->nblock * sizeof *f->rank);
	stack[depth++] = 0;
	seen[0] = 1;
	while (depth) {
		u32 b = stack[depth - 1];
		if (at[b] < f->nnext[b]) {
			u32 to = f->next[b][at[b]++];
			if (!seen[to]) {
				seen[to] = 1;
				stack[depth++] = to;
			}
		} else {
			f->order[--place] = b;
			depth--;
		}
	}
	f->nreached = f->nblock - place;
	memmove(f->order, f->order + place, f->nreached * sizeof *f->order);
	for (u32 i = 0; i < f->nreached; i++)
		f->rank[f->order[i]] = i;
}

static void find_dominators(Flow *f)
{
	f->dominator = NEWN(f->arena, u32, f->nblock);
	memset(f->dominator, 0xff, f->nblock * sizeof *f->dominator);
	f->dominator[0] = 0;
	for (bool changed = true; changed;) {
		changed = false;
		for (u32 i = 0; i < f->nreached; i++) {
			u32 from = f->order[i];
			for (u32 k = 0; k < f->nnext[from]; k++) {
				u32 to = f->next[from][k], a = from, b = f->dominator[to];
				if (!to)
					continue;
				if (b == 0xffffffffu) {
					b = a;
				} else {
					while (a != b) {
						if (f->rank[a] > f->rank[b])
							a = f->dominator[a];
						else
							b = f->dominator[b];
					}
				}
				if (f->dominator[to] != b) {
					f->dominator[to] = b;
					changed = true;
				}
			}
		}
	}
}

static bool dominates(const Flow *f, u32 a, u32 b)
{
	while (b != a && b)
		b = f->dominator[b];
	return a == b;
}

static bool has_bit(const u64 *bits, u32 i)
{
	return bits[i / 64] >> i % 64 & 1;
}

static void add_loop(Flow *f, u32 **before, const u32 *nbefore, u32 latch, u32 header)
{
	u32 l = 0;
	while (l < f->nloop && f->header[l] != header)
		l++;
	if (l == f->nloop) {
		f->header[l] = header;
		f->loop[l] = NEWN(f->arena, u64, f->nblock / 64 + 1);
		f->loop[l][header / 64] |= (u64)1 << header % 64;
		f->size[l] = 1;
		f->nloop++;
	}
	u32 *stack = NEWN(f->arena, u32, f->nblock + 1), depth = 0;
	stack[depth++] = latch;
	for (bool first = true; depth; first = false) {
		u32 b = stack[--depth];
		if (first) {
			if (has_bit(f->loop[l], b))
				break;
			f->loop[l][b / 64] |= (u64)1 << b % 64;
			f->size[l]++;
		}
		for (u32 k = 0; k < nbefore[b]; k++) {
			u32 p = before[b][k];
			if (has_bit(f->loop[l], p))
				continue;
			f->loop[l][p / 64] |= (u64)1 << p % 64;
			f->size[l]++;
			stack[depth++] = p;
		}
	}
}

static void find_loops(Flow *f)
{
	u32 **before = NEWN(f->arena, u32 *, f->nblock), *nbefore = NEWN(f->arena, u32, f->nblock);
	u32 *room = NEWN(f->arena, u32, f->nblock);
	for (u32 i = 0; i < f->nreached; i++)
		for (u32 k = 0; k < f->nnext[f->order[i]]; k++)
			room[f->next[f->order[i]][k]]++;
	for (u32 b = 0; b < f->nblock; b++)
		before[b] = NEWN(f->arena, u32, room[b] + 1);
	for (u32 i = 0; i < f->nreached; i++) {
		u32 b = f->order[i];
		for (u32 k = 0; k < f->nnext[b]; k++)
			before[f->next[b][k]][nbefore[f->next[b][k]]++] = b;
	}
	f->loop = NEWN(f->arena, u64 *, f->nblock);
	f->header = NEWN(f->arena, u32, f->nblock);
	f->size = NEWN(f->arena, u32, f->nblock);
	for (u32 i = 0; i < f->nreached; i++) {
		u32 b = f->order[i];
		for (u32 k = 0; k < f->nnext[b]; k++)
			if (dominates(f, f->next[b][k], b))
				add_loop(f, before, nbefore, b, f->next[b][k]);
	}
}

/* Kahn's algorithm over the forward edges; while a loop is open, its blocks come first. */
static u32 *choose_order(Flow *f)
{
	u32 *missing = NEWN(f->arena, u32, f->nblock), *out = NEWN(f->arena, u32, f->nreached);
	u32 *left = NEWN(f->arena, u32, f->nloop + 1);
	u8 *done = NEWN(f->arena, u8, f->nblock), *open = NEWN(f->arena, u8, f->nloop + 1);
	for (u32 l = 0; l < f->nloop; l++)
		left[l] = f->size[l];
	for (u32 i = 0; i < f->nreached; i++)
		for (u32 k = 0; k < f->nnext[f->order[i]]; k++)
			if (f->rank[f->next[f->order[i]][k]] > i)
				missing[f->next[f->order[i]][k]]++;
	for (u32 n = 0; n < f->nreached; n++) {
		const u64 *inner = NULL;
		u32 smallest = f->nblock + 1;
		for (u32 l = 0; l < f->nloop; l++)
			if (open[l] && left[l] && f->size[l] < smallest) {
				smallest = f->size[l];
				inner = f->loop[l];
			}
		u32 best = f->nblock;
		bool best_inside = false;
		for (u32 b = 0; b < f->nblock; b++) {
			if (done[b] || missing[b] || f->rank[b] == 0xffffffffu)
				continue;
			bool inside = inner && has_bit(inner, b);
			if (best == f->nblock || (inside && !best_inside)) {
				best = b;
				best_inside = inside;
			}
		}
		done[best] = 1;
		out[n] = best;
		for (u32 l = 0; l < f->nloop; l++)
			if (has_bit(f->loop[l], best)) {
				left[l]--;
				open[l] = 1;
			}
		for (u32 k = 0; k < f->nnext[best]; k++)
			if (f->rank[f->next[best][k]] > f->rank[best])
				missing[f->next[best][k]]--;
	}
	return out;
}

Inst *flow_lay_out(Arena *arena, const Inst *in, u32 n, u32 *count)
{
	Flow f = { .arena = arena, .in = in, .n = n };
	find_blocks(&f);
	find_order(&f);
	find_dominators(&f);
	find_loops(&f);
	u32 *chosen = choose_order(&f);
	u32 *moved = NEWN(arena, u32, f.nblock);
	Inst *out = NEWN(arena, Inst, n + f.nreached);
	u32 at = 0;
	for (u32 i = 0; i < f.nreached; i++) {
		u32 b = chosen[i];
		moved[b] = at;
		for (u32 k = f.start[b]; k < f.end[b]; k++)
			out[at++] = in[k];
		const Inst *last = &in[f.end[b] - 1];
		if (falls_through(last) && f.end[b] < n) {
			u32 to = f.block_of[f.end[b]];
			if (i + 1 == f.nreached || chosen[i + 1] != to)
				out[at++] = (Inst){ .run = run_branch, .control = true, .guard = -1, .target = f.end[b],
						    .statement = last->statement };
		}
	}
	for (u32 i = 0; i < at; i++) {
		if (out[i].run == run_branch)
			out[i].target = moved[f.block_of[out[i].target]];
		if (out[i].ntargets) {
			u32 *targets = NEWN(arena, u32, out[i].ntargets);
			for (u32 k = 0; k < out[i].ntargets; k++)
				targets[k] = moved[f.block_of[out[i].targets[k]]];
			out[i].targets = targets;
		}
	}
	*count = at;
	return out;
}
