/* warp.c: one warp: which fragment runs, branches, exits, and the wait for other lanes. */
#include "decode.h"
#include "flow.h"

static void remove_fragment(Warp *w, u32 i)
{
	w->fragment[i] = w->fragment[--w->nfragment];
}

/* Makes current the ready fragment furthest behind, with all that are at the same place; gives the place
 * of the next one in *next. False if none is ready. */
static bool choose(Warp *w, u32 *next)
{
	u32 best = LANES;
	*next = 0xffffffffu;
	for (int pass = 0; pass < 2 && best == LANES; pass++)
		for (u32 i = 0; i < w->nfragment; i++) {
			Fragment *f = &w->fragment[i];
			if (pass)
				f->yielded = false;
			if (f->state == READY && !f->yielded && (best == LANES || f->pc < w->fragment[best].pc))
				best = i;
		}
	if (best == LANES)
		return false;
	for (u32 i = w->nfragment; i-- > 0;) {
		Fragment *f = &w->fragment[best], *g = &w->fragment[i];
		if (i == best || g->state != READY)
			continue;
		if (g->pc == f->pc) {
			f->mask |= g->mask;
			remove_fragment(w, i);
			if (best == w->nfragment)
				best = i;
		} else if (!g->yielded && g->pc < *next) {
			*next = g->pc;
		}
	}
	w->current = best;
	return true;
}

static u32 guarded(const Warp *w, const Inst *in, u32 mask)
{
	if (in->guard < 0)
		return mask;
	u32 p = predicate(w, (u32)in->guard);
	return mask & (in->guard_negated ? ~p : p);
}

bool warp_run(Warp *w, u32 budget)
{
	const Inst *code = w->kernel->code;
	u32 next;
	while (budget && choose(w, &next)) {
		Fragment *f = &w->fragment[w->current];
		while (budget) {
			const Inst *in = &code[f->pc];
			u32 mask = guarded(w, in, f->mask);
			budget--;
			Action a = mask || in->always ? in->run(w, in, mask) : GO;
			if (a == FAULT)
				return false;
			if (in->control) {
				if (a == GO)
					w->fragment[w->current].pc++;
				break;
			}
			f->pc++;
			if (f->pc >= next)
				break;
		}
		if (++w->spin > SPIN_LIMIT && w->nfragment) {
			/* Perhaps it waits for something that another fragment or warp does. */
			w->spin = 0;
			w->fragment[w->current % w->nfragment].yielded = true;
			w->block->spun = true;
			return true;
		}
	}
	return true;
}

bool converged(Warp *w, u32 needed)
{
	Fragment *f = &w->fragment[w->current];
	needed &= w->live;
	for (u32 i = 0; i < w->nfragment && (f->mask & needed) != needed;) {
		Fragment *g = &w->fragment[i];
		if (g != f && g->pc == f->pc && g->state == AT_SYNC) {
			f->mask |= g->mask;
			remove_fragment(w, i);
			if (w->current == w->nfragment)
				w->current = i;
			f = &w->fragment[w->current];
		} else {
			i++;
		}
	}
	if ((f->mask & needed) == needed)
		return true;
	f->state = AT_SYNC;
	return false;
}

Action run_branch(Warp *w, const Inst *in, u32 mask)
{
	Fragment *f = &w->fragment[w->current];
	if (mask == f->mask) {
		f->pc = in->target;
		return JUMPED;
	}
	w->fragment[w->nfragment++] = (Fragment){ .pc = in->target, .mask = mask };
	f->mask &= ~mask;
	f->pc++;
	return JUMPED;
}

Action run_branch_indexed(Warp *w, const Inst *in, u32 mask)
{
	Fragment *f = &w->fragment[w->current];
	u32 at = w->current, left = mask;
	u32 pc = f->pc;
	const u32 *index = r32(w, in->reg[0]);
	if (f->mask & ~mask) {
		/* Those whose guard does not hold go on. */
		w->fragment[w->nfragment++] = (Fragment){ .pc = pc + 1, .mask = f->mask & ~mask };
	}
	for (bool first = true; left; first = false) {
		u32 i = index[__builtin_ctz(left)], group = 0;
		if (i >= in->ntargets)
			return fault(w, in, __builtin_ctz(left), ERROR_ILLEGAL_INSTRUCTION,
				     "branch to entry %u of a table of %u", i, in->ntargets);
		for (u32 m = left; m; m &= m - 1)
			if (index[__builtin_ctz(m)] == i)
				group |= 1u << __builtin_ctz(m);
		Fragment piece = { .pc = in->targets[i], .mask = group };
		if (first)
			w->fragment[at] = piece;
		else
			w->fragment[w->nfragment++] = piece;
		left &= ~group;
	}
	return JUMPED;
}

Action run_exit(Warp *w, const Inst *in, u32 mask)
{
	(void)in;
	Fragment *f = &w->fragment[w->current];
	w->live &= ~mask;
	f->mask &= ~mask;
	f->pc++;
	if (!f->mask)
		remove_fragment(w, w->current);
	/* What waits for the lanes of this warp may now have them all. */
	for (u32 i = 0; i < w->nfragment; i++)
		if (w->fragment[i].state == AT_SYNC)
			w->fragment[i].state = READY;
	w->block->progress++;
	if (!w->live) {
		w->nfragment = 0;
		w->block->done++;
		barriers_after_exit(w->block);
	}
	return JUMPED;
}

Action run_copy_frame(Warp *w, const Inst *in, u32 mask)
{
	u32 stride = w->kernel->local_bytes;
	EACH_LANE(mask, memmove(w->local + (u32)l * stride + in->reg[0] - LOCAL_RESERVED,
				w->local + (u32)l * stride + in->reg[1] - LOCAL_RESERVED, in->reg[2]););
	return GO;
}
