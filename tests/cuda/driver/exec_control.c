/* exec_control.c: barriers of the block, fences (nothing to do but for race.c: a block's accesses happen in one order),
 * and what asks for nothing that the stand-in must do: prefetches, hints, register counts. */
#include "decode.h"
#include "race.h"

u32 uniform(Warp *w, const Inst *in, u32 k, u32 mask)
{
	return (u32)operand_of(w, in, k, __builtin_ctz(mask));
}

enum { BAR_SYNC, BAR_ARRIVE, BAR_POPC, BAR_AND, BAR_OR };
enum { BAR_ALIGNED = 1, BAR_COUNTED = 2 };

static u32 threads_alive(const Block *b, bool aligned)
{
	u32 n = 0;
	for (u32 i = 0; i < b->nwarp; i++)
		n += !b->warp[i].live ? 0 : aligned ? LANES : (u32)__builtin_popcount(b->warp[i].live);
	return n;
}

/* Opens the barrier if all have come: those that wait go on, with the reduction's result. */
static void open_if_complete(Block *b, u32 id)
{
	Barrier *x = &b->barrier[id];
	u32 expected = x->expected ? x->expected : threads_alive(b, x->aligned);
	if (!x->in_use || x->arrived < expected)
		return;
	for (u32 i = 0; i < b->nwarp; i++) {
		Warp *w = &b->warp[i];
		for (u32 k = 0; k < w->nfragment; k++) {
			Fragment *f = &w->fragment[k];
			if (f->state != AT_BARRIER || f->barrier != id)
				continue;
			const Inst *in = &w->kernel->code[f->pc];
			if (in->variant == BAR_POPC)
				for (u32 m = f->mask; m; m &= m - 1)
					r32(w, in->reg[0])[__builtin_ctz(m)] = x->yes;
			else if (in->variant == BAR_AND || in->variant == BAR_OR)
				set_predicate(w, in->reg[0], f->mask, (in->variant == BAR_AND ? !x->no : x->yes != 0) ? ALL_LANES : 0);
			if (b->race)
				race_acquire(w, race_barrier_clock(b, id));
			f->state = READY;
			f->pc++;
		}
	}
	if (b->race)
		memset(race_barrier_clock(b, id), 0, LANES * sizeof(u32));
	b->progress++;
	*x = (Barrier){ 0 };
}

void barriers_after_exit(Block *b)
{
	for (u32 i = 0; i < BARRIERS; i++)
		if (b->barrier[i].in_use && !b->barrier[i].expected)
			open_if_complete(b, i);
}

/* reg[0] result, reg[1] id, reg[2] count, reg[3] predicate. */
static Action bar(Warp *w, const Inst *in, u32 mask)
{
	Fragment *f = &w->fragment[w->current];
	u32 id = uniform(w, in, 1, mask);
	bool aligned = in->flags & BAR_ALIGNED;
	if (id >= BARRIERS)
		return fault(w, in, -1, ERROR_ILLEGAL_INSTRUCTION, "barrier %u of %u", id, BARRIERS);
	if (mask != f->mask)
		return fault(w, in, -1, ERROR_LAUNCH_FAILED,
			     "lanes %08x of %08x execute a barrier: it may not be divergent", mask, f->mask);
	if (aligned) {
		if (!converged(w, ALL_LANES))
			return WAIT;
		f = &w->fragment[w->current];
		mask = f->mask;
	}
	Barrier *x = &w->block->barrier[id];
	u32 expected = in->flags & BAR_COUNTED ? uniform(w, in, 2, mask) : 0;
	if (in->flags & BAR_COUNTED && (!expected || expected % LANES))
		return fault(w, in, -1, ERROR_ILLEGAL_INSTRUCTION, "a barrier of %u threads, not a multiple of 32", expected);
	if (x->in_use && x->expected != expected)
		return fault(w, in, -1, ERROR_LAUNCH_FAILED, "barrier %u is for %u threads here and %u elsewhere", id,
			     expected, x->expected);
	x->in_use = true;
	x->aligned = aligned;
	x->expected = expected;
	x->arrived += aligned ? LANES : (u32)__builtin_popcount(mask);
	if (w->block->race)
		race_release(w, race_barrier_clock(w->block, id));
	if (expected && x->arrived > expected)
		return fault(w, in, -1, ERROR_LAUNCH_FAILED, "more than the %u threads of barrier %u have come", expected, id);
	if (in->variant >= BAR_POPC) {
		u32 p = predicate(w, in->reg[3]) ^ (in->space ? ALL_LANES : 0);
		x->yes += (u32)__builtin_popcount(p & mask);
		x->no += (u32)__builtin_popcount(~p & mask);
	}
	w->spin = 0;
	if (in->variant == BAR_ARRIVE) {
		f->pc++;
		open_if_complete(w->block, id);
		return JUMPED;
	}
	f->state = AT_BARRIER;
	f->barrier = (u8)id;
	open_if_complete(w->block, id);
	return WAIT;
}

static Action warp_sync(Warp *w, const Inst *in, u32 mask)
{
	u32 members = uniform(w, in, 0, mask);
	return converged(w, members) ? GO : WAIT;
}

/* Operand k of the text into slot `reg`. */
static void operand_into(Decoder *d, Inst *in, u32 k, u32 reg)
{
	bool wide;
	in->reg[reg] = slot_of(d, operand_at(d, k), TYPE_U32, false, &wide);
}

static void decode_bar(Decoder *d, Inst *in)
{
	static const char *const kinds[] = { "sync", "arrive", "popc", "and", "or" };
	bool barrier = !strcmp(decode_statement(d)->opcode, "barrier");
	in->control = true;
	if (take(d, "warp")) {
		take(d, "sync");
		source(d, in, 0, TYPE_U32);
		in->run = warp_sync;
		return;
	}
	take(d, "cta");
	bool reduces = take(d, "red");
	u32 kind = take_one_of(d, kinds, COUNT(kinds));
	if (kind == COUNT(kinds))
		decode_fail(d, "which barrier?");
	in->variant = (u8)kind;
	u32 flags = take(d, "aligned") || !barrier ? BAR_ALIGNED : 0;
	u32 n = operand_count(d), first = reduces ? 1 : 0, last = reduces ? n - 1 : n;
	if (reduces) {
		bool pred = kind != BAR_POPC;
		take_type(d);
		destination(d, in, 0, pred ? TYPE_PRED : TYPE_U32);
		const Operand *o = operand_at(d, n - 1);
		bool wide;
		in->reg[3] = slot_of(d, o, TYPE_PRED, false, &wide);
		in->space = o->negated;
	}
	if (last <= first || last - first > 2)
		decode_fail(d, "a barrier has a number and at most a count");
	operand_into(d, in, first, 1);
	if (last - first == 2) {
		operand_into(d, in, first + 1, 2);
		flags |= BAR_COUNTED;
	}
	in->flags = (u8)flags;
	in->run = bar;
}

static Action nothing(Warp *w, const Inst *in, u32 mask)
{
	(void)w;
	(void)in;
	(void)mask;
	return GO;
}

/* An instruction that asks for nothing: its modifiers are taken whatever they are. */
static void decode_nothing(Decoder *d, Inst *in)
{
	const Statement *s = decode_statement(d);
	for (u32 i = 0; i < s->nmodifier; i++)
		take(d, s->modifier[i]);
	in->run = nothing;
}

static Action proxy_fence(Warp *w, const Inst *in, u32 mask)
{
	(void)in;
	(void)mask;
	if (w->block->race)
		race_proxy_fence(w);
	return GO;
}

static void decode_fence(Decoder *d, Inst *in)
{
	bool proxy = take(d, "proxy") && take(d, "async");
	decode_nothing(d, in);
	if (proxy)
		in->run = proxy_fence;
}

static Action trap(Warp *w, const Inst *in, u32 mask)
{
	return fault(w, in, __builtin_ctz(mask), ERROR_LAUNCH_FAILED, "the kernel asks for a stop");
}

static void decode_trap(Decoder *d, Inst *in)
{
	expect_operands(d, 0, 0);
	in->run = trap;
}

static Action policy(Warp *w, const Inst *in, u32 mask)
{
	EACH_LANE(mask, r64(w, in->reg[0])[l] = 0;);
	return GO;
}

static void decode_createpolicy(Decoder *d, Inst *in)
{
	decode_nothing(d, in);
	destination(d, in, 0, TYPE_U64);
	in->run = policy;
}

const Family family_control[] = {
	{ "bar", decode_bar },          { "barrier", decode_bar },       { "membar", decode_nothing },
	{ "fence", decode_fence },    { "prefetch", decode_nothing },  { "prefetchu", decode_nothing },
	{ "griddepcontrol", decode_nothing }, { "setmaxnreg", decode_nothing }, { "nanosleep", decode_nothing },
	{ "pmevent", decode_nothing },  { "discard", decode_nothing },   { "applypriority", decode_nothing },
	{ "trap", decode_trap },        { "brkpt", decode_trap },        { "createpolicy", decode_createpolicy },
	{ NULL, NULL },
};
