/* exec_warp.c: what the lanes of a warp do together: shuffles, votes, matches, reductions. Each waits
 * until the lanes that its member mask names are there. */
#include "decode.h"

/* The members, once they are here: 0 while they are not, or after a fault (*action). Operand k names
 * them. */
static u32 members(Warp *w, const Inst *in, u32 k, u32 mask, Action *action)
{
	Fragment *f = &w->fragment[w->current];
	u32 named = uniform(w, in, k, mask);
	*action = FAULT;
	if (mask & ~named) {
		fault(w, in, __builtin_ctz(mask & ~named), ERROR_ILLEGAL_INSTRUCTION,
		      "the lane executes this with a member mask (%08x) that does not name it", named);
		return 0;
	}
	if (!converged(w, named)) {
		*action = WAIT;
		return 0;
	}
	f = &w->fragment[w->current];
	if (in->guard >= 0) {
		u32 p = predicate(w, (u32)in->guard);
		mask = f->mask & (in->guard_negated ? ~p : p);
	} else {
		mask = f->mask;
	}
	if ((mask & named & w->live) != (named & w->live)) {
		fault(w, in, -1, ERROR_ILLEGAL_INSTRUCTION, "lanes %08x are named but do not take part",
		      named & w->live & ~mask);
		return 0;
	}
	*action = GO;
	return mask & named;
}

enum { SHUFFLE_UP, SHUFFLE_DOWN, SHUFFLE_BUTTERFLY, SHUFFLE_INDEX };

/* d|p, a, b, c, members. A lane that takes from one that is not there gets all ones. */
static Action shfl(Warp *w, const Inst *in, u32 mask)
{
	Action action;
	mask = members(w, in, 4, mask, &action);
	if (!mask)
		return action;
	u32 from[LANES], in_range = 0;
	u32 *d = r32(w, in->reg[0]);
	const u32 *b = r32(w, in->reg[2]), *c = r32(w, in->reg[3]);
	memcpy(from, r32(w, in->reg[1]), sizeof from);
	for (u32 m = mask; m; m &= m - 1) {
		int l = __builtin_ctz(m);
		int clamp = (int)(c[l] & 31), segment = (int)(c[l] >> 8 & 31), by = (int)(b[l] & 31);
		int most = (l & segment) | (clamp & ~segment), j = l;
		bool ok = false;
		switch (in->variant) {
		case SHUFFLE_UP: j = l - by; ok = j >= most; break;
		case SHUFFLE_DOWN: j = l + by; ok = j <= most; break;
		case SHUFFLE_BUTTERFLY: j = l ^ by; ok = j <= most; break;
		default: j = (l & segment) | (by & ~segment); ok = j <= most; break;
		}
		if (!ok)
			j = l;
		d[l] = mask >> j & 1 ? from[j] : ~0u;
		in_range |= (u32)ok << l;
	}
	if (in->space)
		set_predicate(w, in->reg[5], mask, in_range);
	return GO;
}

static void decode_shfl(Decoder *d, Inst *in)
{
	static const char *const modes[] = { "up", "down", "bfly", "idx" };
	if (!take(d, "sync"))
		decode_fail(d, "only .sync is known");
	u32 mode = take_one_of(d, modes, COUNT(modes));
	if (mode == COUNT(modes))
		decode_fail(d, "which shuffle?");
	in->variant = (u8)mode;
	take_type(d);
	expect_operands(d, 5, 5);
	destination(d, in, 0, TYPE_B32);
	for (u32 k = 1; k < 5; k++)
		source(d, in, k, TYPE_B32);
	const Operand *p = operand_at(d, 0)->pair;
	if (p) {
		bool wide;
		in->reg[5] = slot_of(d, p, TYPE_PRED, true, &wide);
		in->space = 1;
	}
	in->control = true;
	in->run = shfl;
}

enum { VOTE_ALL, VOTE_ANY, VOTE_UNI, VOTE_BALLOT };

static Action vote(Warp *w, const Inst *in, u32 mask)
{
	Action action;
	mask = members(w, in, 2, mask, &action);
	if (!mask)
		return action;
	u32 p = (predicate(w, in->reg[1]) ^ (in->flags & 2 ? ALL_LANES : 0)) & mask;
	if (in->variant == VOTE_BALLOT) {
		u32 *d = r32(w, in->reg[0]);
		EACH_LANE(mask, d[l] = p;);
	} else {
		bool yes = in->variant == VOTE_ALL ? p == mask : in->variant == VOTE_ANY ? p != 0 : !p || p == mask;
		set_predicate(w, in->reg[0], mask, yes ? ALL_LANES : 0);
	}
	return GO;
}

static void decode_vote(Decoder *d, Inst *in)
{
	static const char *const modes[] = { "all", "any", "uni", "ballot" };
	if (!take(d, "sync"))
		decode_fail(d, "only .sync is known");
	u32 mode = take_one_of(d, modes, COUNT(modes));
	in->variant = (u8)mode;
	take_type(d);
	expect_operands(d, 3, 3);
	destination(d, in, 0, mode == VOTE_BALLOT ? TYPE_B32 : TYPE_PRED);
	source_predicate(d, in, 1);
	source(d, in, 2, TYPE_B32);
	in->control = true;
	in->run = vote;
}

static Action match(Warp *w, const Inst *in, u32 mask)
{
	Action action;
	mask = members(w, in, 2, mask, &action);
	if (!mask)
		return action;
	u64 v[LANES];
	bool same = true;
	for (u32 m = mask; m; m &= m - 1) {
		v[__builtin_ctz(m)] = operand_of(w, in, 1, __builtin_ctz(m));
		same = same && v[__builtin_ctz(m)] == v[__builtin_ctz(mask)];
	}
	for (u32 m = mask; m; m &= m - 1) {
		int l = __builtin_ctz(m);
		u32 equal = 0;
		for (u32 k = mask; k; k &= k - 1)
			equal |= (u32)(v[__builtin_ctz(k)] == v[l]) << __builtin_ctz(k);
		r32(w, in->reg[0])[l] = !in->variant ? equal : same ? mask : 0;
	}
	if (in->space)
		set_predicate(w, in->reg[5], mask, same ? ALL_LANES : 0);
	return GO;
}

static void decode_match(Decoder *d, Inst *in)
{
	in->variant = take(d, "all");
	take(d, "any");
	take(d, "sync");
	Type t = take_type(d);
	expect_operands(d, 3, 3);
	destination(d, in, 0, TYPE_B32);
	source(d, in, 1, t);
	source(d, in, 2, TYPE_B32);
	const Operand *p = operand_at(d, 0)->pair;
	if (p) {
		bool wide;
		in->reg[5] = slot_of(d, p, TYPE_PRED, true, &wide);
		in->space = 1;
	}
	in->control = true;
	in->run = match;
}

enum { REDUX_ADD, REDUX_MIN, REDUX_MAX, REDUX_AND, REDUX_OR, REDUX_XOR };

static Action redux(Warp *w, const Inst *in, u32 mask)
{
	Action action;
	mask = members(w, in, 2, mask, &action);
	if (!mask)
		return action;
	const u32 *a = r32(w, in->reg[1]);
	u32 v = a[__builtin_ctz(mask)];
	bool is_signed = in->type == TYPE_S32;
	for (u32 m = mask & (mask - 1); m; m &= m - 1) {
		u32 x = a[__builtin_ctz(m)];
		bool less = is_signed ? (i32)x < (i32)v : x < v;
		switch (in->variant) {
		case REDUX_ADD: v += x; break;
		case REDUX_MIN: v = less ? x : v; break;
		case REDUX_MAX: v = less ? v : x; break;
		case REDUX_AND: v &= x; break;
		case REDUX_OR: v |= x; break;
		default: v ^= x; break;
		}
	}
	u32 *d = r32(w, in->reg[0]);
	EACH_LANE(mask, d[l] = v;);
	return GO;
}

static void decode_redux(Decoder *d, Inst *in)
{
	static const char *const ops[] = { "add", "min", "max", "and", "or", "xor" };
	take(d, "sync");
	u32 op = take_one_of(d, ops, COUNT(ops));
	if (op == COUNT(ops))
		decode_fail(d, "which reduction?");
	Type t = take_type(d);
	if (t != TYPE_U32 && t != TYPE_S32 && t != TYPE_B32)
		decode_fail(d, "only 32-bit integers are known");
	in->variant = (u8)op;
	in->type = (u8)t;
	expect_operands(d, 3, 3);
	destination(d, in, 0, t);
	source(d, in, 1, t);
	source(d, in, 2, TYPE_B32);
	in->control = true;
	in->run = redux;
}

/* elect.sync d|p, members: the lowest lane is elected. */
static Action elect(Warp *w, const Inst *in, u32 mask)
{
	Action action;
	mask = members(w, in, 1, mask, &action);
	if (!mask)
		return action;
	u32 *d = r32(w, in->reg[0]), leader = (u32)__builtin_ctz(mask);
	EACH_LANE(mask, d[l] = leader;);
	set_predicate(w, in->reg[5], mask, 1u << leader);
	return GO;
}

static void decode_elect(Decoder *d, Inst *in)
{
	bool wide;
	take(d, "sync");
	expect_operands(d, 2, 2);
	destination(d, in, 0, TYPE_B32);
	source(d, in, 1, TYPE_B32);
	if (!operand_at(d, 0)->pair)
		decode_fail(d, "no predicate for the elected");
	in->reg[5] = slot_of(d, operand_at(d, 0)->pair, TYPE_PRED, true, &wide);
	in->control = true;
	in->run = elect;
}

static Action activemask(Warp *w, const Inst *in, u32 mask)
{
	u32 *d = r32(w, in->reg[0]);
	EACH_LANE(mask, d[l] = mask;);
	return GO;
}

static void decode_activemask(Decoder *d, Inst *in)
{
	take_type(d);
	expect_operands(d, 1, 1);
	destination(d, in, 0, TYPE_B32);
	in->run = activemask;
}

const Family family_warp[] = {
	{ "shfl", decode_shfl },   { "vote", decode_vote },   { "match", decode_match },
	{ "redux", decode_redux }, { "elect", decode_elect }, { "activemask", decode_activemask }, { NULL, NULL },
};
