/* exec_mbarrier.c: mbarriers: phases that complete when all expected arrivals and bytes have come. A
 * try_wait waits for the phase (the instruction may), so a deadlock is seen as one. */
#include "decode.h"
#include "engine.h"
#include "race.h"

enum { MOST_ARRIVALS = (1 << 20) - 1 };

Engine *engine_of(Block *b)
{
	if (!b->engine)
		b->engine = NEW(&b->arena, Engine);
	return b->engine;
}

static Mbarrier *find(Block *b, u64 address)
{
	Engine *e = engine_of(b);
	for (u32 i = 0; i < e->mbarriers.n; i++)
		if (e->mbarriers.v[i].address == address)
			return &e->mbarriers.v[i];
	return NULL;
}

Mbarrier *mbarrier_at(Warp *w, const Inst *in, int lane, u64 address)
{
	Space space = SPACE_SHARED;
	if (address >= WINDOW_SIZE)
		space_of_address(address, &space, &address);
	if (space != SPACE_SHARED || !resolve(w, in, lane, SPACE_SHARED, address, 8, true)) {
		fault(w, in, lane, ERROR_ILLEGAL_ADDRESS, "an mbarrier outside of shared memory");
		return NULL;
	}
	Mbarrier *x = find(w->block, address);
	if (!x)
		fault(w, in, lane, ERROR_ILLEGAL_INSTRUCTION, "there is no mbarrier at shared address %llu: it was not initialized",
		      (unsigned long long)address);
	return x;
}

static void complete(Block *b, Mbarrier *x)
{
	if (x->pending || x->bytes)
		return;
	x->phase++;
	x->pending = x->expected;
	b->progress++;
	for (u32 i = 0; i < b->nwarp; i++)
		for (u32 k = 0; k < b->warp[i].nfragment; k++)
			if (b->warp[i].fragment[k].state == AT_MBARRIER)
				b->warp[i].fragment[k].state = READY;
}

void mbarrier_bytes(Block *b, Mbarrier *x, i64 change)
{
	x->bytes -= change;
	complete(b, x);
}

void mbarrier_arrive(Block *b, Mbarrier *x, u32 count, Warp *by)
{
	if (b->race)
		race_release(by, x->clock);
	x->pending -= MIN(count, x->pending);
	complete(b, x);
}

enum { MB_INIT, MB_INVAL, MB_ARRIVE, MB_ARRIVE_DROP, MB_EXPECT, MB_COMPLETE, MB_TEST, MB_TRY, MB_PENDING, MB_ASYNC };
enum { PARITY = 1, EXPECT_TX = 2, NOINC = 4, COUNTED = 8 };

/* reg[1] address, reg[2] count, state, bytes or parity; reg[0] result. */
static Action update(Warp *w, const Inst *in, int l)
{
	Block *b = w->block;
	u64 address = operand_of(w, in, 1, l) + (u64)in->offset;
	u32 operand = in->flags & COUNTED ? (u32)operand_of(w, in, 2, l) : 1;
	if (in->variant == MB_INIT) {
		if (!resolve(w, in, l, SPACE_SHARED, address & (WINDOW_SIZE - 1), 8, true))
			return FAULT;
		if (!operand || operand > MOST_ARRIVALS)
			return fault(w, in, l, ERROR_ILLEGAL_INSTRUCTION, "an mbarrier for %u arrivals", operand);
		address &= WINDOW_SIZE - 1;
		Mbarrier *old = find(b, address);
		Mbarrier fresh = { .address = (u32)address, .expected = operand, .pending = operand };
		if (b->race && !race_access(w, in, l, (u32)address, 8, ACCESS_WRITE))
			return FAULT;
		if (old)
			*old = fresh;
		else
			VEC_PUSH(&b->arena, &engine_of(b)->mbarriers, fresh);
		return GO;
	}
	Mbarrier *x = mbarrier_at(w, in, l, address);
	if (!x)
		return FAULT;
	if (b->race && !race_access(w, in, l, x->address, 8, ACCESS_READ))
		return FAULT; /* not known to be initialized */
	u64 state = x->phase & 1;
	switch (in->variant) {
	case MB_INVAL:
		*x = engine_of(b)->mbarriers.v[--engine_of(b)->mbarriers.n];
		return GO;
	case MB_ASYNC:
		copies_complete(w, 1u << l);
		if (!(in->flags & NOINC))
			x->pending++;
		operand = 1;
		break;
	case MB_EXPECT:
		mbarrier_bytes(b, x, -(i64)operand);
		return GO;
	case MB_COMPLETE:
		mbarrier_bytes(b, x, operand);
		return GO;
	case MB_ARRIVE_DROP:
		if (x->expected)
			x->expected--;
		break;
	default:
		break;
	}
	if (in->flags & EXPECT_TX) {
		x->bytes += operand;
		operand = 1;
	}
	if (operand > x->pending)
		return fault(w, in, l, ERROR_LAUNCH_FAILED, "%u arrivals at an mbarrier that expects %u more (of %u)", operand,
			     x->pending, x->expected);
	if (in->reg[0])
		r64(w, in->reg[0])[l] = state;
	mbarrier_arrive(b, x, operand, w);
	return GO;
}

static Action run_update(Warp *w, const Inst *in, u32 mask)
{
	for (u32 m = mask; m; m &= m - 1)
		if (update(w, in, __builtin_ctz(m)) == FAULT)
			return FAULT;
	w->block->progress++;
	return GO;
}

static Action run_wait(Warp *w, const Inst *in, u32 mask)
{
	u32 done = 0;
	for (u32 m = mask; m; m &= m - 1) {
		int l = __builtin_ctz(m);
		Mbarrier *x = mbarrier_at(w, in, l, operand_of(w, in, 1, l) + (u64)in->offset);
		if (!x)
			return FAULT;
		if (w->block->race && !race_access(w, in, l, x->address, 8, ACCESS_READ))
			return FAULT;
		if ((x->phase & 1) != (operand_of(w, in, 2, l) & 1)) {
			done |= 1u << l;
			if (w->block->race)
				race_acquire(w, x->clock);
		}
	}
	if (!done && in->variant == MB_TRY) {
		w->fragment[w->current].state = AT_MBARRIER;
		w->spin = 0;
		return WAIT;
	}
	if (!done)
		w->spin = SPIN_LIMIT; /* it will ask again: others first */
	set_predicate(w, in->reg[0], mask, done);
	return GO;
}

static Action run_pending(Warp *w, const Inst *in, u32 mask)
{
	(void)mask;
	return fault(w, in, -1, ERROR_ILLEGAL_INSTRUCTION, "mbarrier.pending_count is not known");
}

static void take_common(Decoder *d, Inst *in)
{
	static const char *const words[] = { "release", "acquire", "relaxed", "cta", "cluster", "noComplete" };
	while (take_one_of(d, words, COUNT(words)) < COUNT(words))
		;
	take_space_of(d, SPACE_SHARED);
	take(d, "b64");
	in->control = true;
}

static void operand_2(Decoder *d, Inst *in, u32 k)
{
	bool wide;
	in->reg[2] = slot_of(d, operand_at(d, k), TYPE_U32, false, &wide);
	in->wide |= (u8)(wide ? 4 : 0);
	in->flags |= COUNTED;
}

static void decode_mbarrier(Decoder *d, Inst *in)
{
	static const char *const ops[] = { "init", "inval", "arrive", "arrive_drop", "expect_tx", "complete_tx", "test_wait",
					   "try_wait", "pending_count" };
	u32 op = take_one_of(d, ops, COUNT(ops)), n = operand_count(d);
	if (op == COUNT(ops))
		decode_fail(d, "which operation?");
	u32 flags = (take(d, "parity") ? PARITY : 0) | (op != MB_EXPECT && take(d, "expect_tx") ? EXPECT_TX : 0);
	take_common(d, in);
	in->run = run_update;
	switch (op) {
	case MB_INIT: case MB_EXPECT: case MB_COMPLETE:
		expect_operands(d, 2, 2);
		address(d, in, 0, 1);
		operand_2(d, in, 1);
		in->reg[0] = 0;
		break;
	case MB_INVAL:
		expect_operands(d, 1, 1);
		address(d, in, 0, 1);
		break;
	case MB_ARRIVE: case MB_ARRIVE_DROP: {
		/* The state may be left out where the barrier is another block's. */
		u32 at = operand_at(d, 0)->kind == OPERAND_ADDRESS ? 0 : 1;
		bool wide;
		expect_operands(d, at + 1, at + 2);
		if (at)
			in->reg[0] = slot_of(d, operand_at(d, 0), TYPE_U64, true, &wide);
		address(d, in, at, 1);
		if (n > at + 1)
			operand_2(d, in, at + 1);
		break;
	}
	case MB_PENDING:
		in->run = run_pending;
		break;
	default:
		expect_operands(d, 3, 4);
		destination(d, in, 0, TYPE_PRED);
		address(d, in, 1, 1);
		operand_2(d, in, 2);
		in->run = run_wait;
		break;
	}
	in->variant = (u8)op;
	in->flags |= (u8)flags;
}

static void decode_cp_mbarrier(Decoder *d, Inst *in)
{
	if (!take(d, "async") || !take(d, "mbarrier"))
		return;
	take(d, "arrive");
	in->flags = take(d, "noinc") ? NOINC : 0;
	take_common(d, in);
	expect_operands(d, 1, 1);
	address(d, in, 0, 1);
	in->variant = MB_ASYNC;
	in->run = run_update;
}

const Family family_mbarrier[] = { { "mbarrier", decode_mbarrier }, { "cp", decode_cp_mbarrier }, { NULL, NULL } };
