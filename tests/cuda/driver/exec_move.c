/* exec_move.c: mov in all its forms, addresses between spaces, clocks. */
#include "decode.h"
#include <time.h>

static Action mov_32(Warp *w, const Inst *in, u32 mask)
{
	u32 *d = r32(w, in->reg[0]);
	const u32 *a = r32(w, in->reg[1]);
	EACH_LANE(mask, d[l] = a[l];);
	return GO;
}

static Action mov_64(Warp *w, const Inst *in, u32 mask)
{
	u64 *d = r64(w, in->reg[0]);
	const u64 *a = r64(w, in->reg[1]);
	EACH_LANE(mask, d[l] = a[l];);
	return GO;
}

static Action mov_pred(Warp *w, const Inst *in, u32 mask)
{
	set_predicate(w, in->reg[0], mask, predicate(w, in->reg[1]) ^ (in->flags & 2 ? ALL_LANES : 0));
	return GO;
}

/* A special register, u32, into a wider one. */
static Action mov_widen(Warp *w, const Inst *in, u32 mask)
{
	u64 *d = r64(w, in->reg[0]);
	const u32 *a = r32(w, in->reg[1]);
	EACH_LANE(mask, d[l] = a[l];);
	return GO;
}

/* {parts} = whole: list holds the parts' slots, size the bits of one. */
static Action mov_unpack(Warp *w, const Inst *in, u32 mask)
{
	u32 bits = in->size;
	for (u32 i = 0; i < in->nlist; i++) {
		if (bits == 64) {
			u64 *d = r64(w, in->list[i]);
			const u64 *a = r64(w, in->reg[1]) + i * LANES;
			EACH_LANE(mask, d[l] = a[l];);
			continue;
		}
		u32 *d = r32(w, in->list[i]);
		u64 keep = ((u64)1 << bits) - 1;
		if (in->wide & 2) {
			const u64 *a = r64(w, in->reg[1]);
			u64 copy[LANES];
			memcpy(copy, a, sizeof copy);
			EACH_LANE(mask, d[l] = (u32)(copy[l] >> i * bits & keep););
		} else {
			/* A part may be the whole's own register. */
			const u32 *a = r32(w, i ? in->reg[5] : in->reg[1]);
			if (!i)
				memcpy(r32(w, in->reg[5]), a, LANES * sizeof *a);
			a = r32(w, in->reg[5]);
			EACH_LANE(mask, d[l] = (u32)(a[l] >> i * bits & keep););
		}
	}
	return GO;
}

static Action mov_pack(Warp *w, const Inst *in, u32 mask)
{
	u32 bits = in->size;
	for (u32 m = mask; m; m &= m - 1) {
		int l = __builtin_ctz(m);
		u64 v = 0;
		if (bits == 64) {
			u64 low = r64(w, in->list[0])[l], high = r64(w, in->list[1])[l];
			r64(w, in->reg[0])[l] = low;
			r64(w, in->reg[0])[LANES + l] = high;
			continue;
		}
		for (u32 i = 0; i < in->nlist; i++)
			v |= ((u64)r32(w, in->list[i])[l] & (((u64)1 << bits) - 1)) << i * bits;
		if (in->wide & 1)
			r64(w, in->reg[0])[l] = v;
		else
			r32(w, in->reg[0])[l] = (u32)v;
	}
	return GO;
}

static Action mov_128(Warp *w, const Inst *in, u32 mask)
{
	EACH_LANE(mask, for (u32 i = 0; i < 2; i++)
				r64(w, in->reg[0])[i * LANES + (u32)l] = r64(w, in->reg[1])[i * LANES + (u32)l];);
	return GO;
}

static Action mov_clock(Warp *w, const Inst *in, u32 mask)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	u64 now = (u64)t.tv_sec * 1000000000u + (u64)t.tv_nsec;
	if (in->variant == SPECIAL_CLOCK_HI)
		now >>= 32;
	if (in->wide & 1)
		EACH_LANE(mask, r64(w, in->reg[0])[l] = now;);
	else
		EACH_LANE(mask, r32(w, in->reg[0])[l] = (u32)now;);
	return GO;
}

static void decode_mov(Decoder *d, Inst *in)
{
	Type t = take_type(d);
	expect_operands(d, 2, 2);
	const Operand *to = operand_at(d, 0), *from = operand_at(d, 1);
	u32 bits = type_bytes(t) * 8;
	if (from->kind == OPERAND_SPECIAL && from->index >= SPECIAL_CLOCK) {
		destination(d, in, 0, t);
		in->variant = (u8)from->index;
		in->run = mov_clock;
	} else if (to->kind == OPERAND_VECTOR || from->kind == OPERAND_VECTOR) {
		bool unpack = to->kind == OPERAND_VECTOR;
		u32 n = unpack ? to->count : from->count;
		if (n != 2 && n != 4)
			decode_fail(d, "parts of 2 or 4");
		in->size = (u8)(bits / n);
		Type part = bits / n == 64 ? TYPE_B64 : bits / n == 32 ? TYPE_B32 : bits / n == 16 ? TYPE_B16 : TYPE_B8;
		if (unpack) {
			list_of(d, in, 0, part, true);
			in->wide = 0;
			source(d, in, 1, t);
			in->reg[5] = scratch_slots(d)[0];
			in->run = mov_unpack;
		} else {
			list_of(d, in, 1, part, false);
			in->wide = 0;
			destination(d, in, 0, t);
			in->run = mov_pack;
		}
	} else if (t == TYPE_PRED) {
		destination(d, in, 0, t);
		source_predicate(d, in, 1);
		in->run = mov_pred;
	} else if (bits == 128) {
		destination(d, in, 0, t);
		source(d, in, 1, t);
		in->run = mov_128;
	} else {
		destination(d, in, 0, t);
		source_loose(d, in, 1, t);
		in->run = bits < 64 ? mov_32 : in->wide & 2 ? mov_64 : mov_widen;
	}
}

/* cvta: variant 1 to the space, else from it to generic. */
static Action cvta(Warp *w, const Inst *in, u32 mask)
{
	u64 window = in->space == SPACE_SHARED ? SHARED_WINDOW : in->space == SPACE_LOCAL ? LOCAL_WINDOW
		   : in->space == SPACE_PARAM ? PARAM_WINDOW : 0;
	for (u32 m = mask; m; m &= m - 1) {
		int l = __builtin_ctz(m);
		u64 a = operand_of(w, in, 1, l);
		a = in->variant ? a - window : a + window;
		if (in->wide & 1)
			r64(w, in->reg[0])[l] = a;
		else
			r32(w, in->reg[0])[l] = (u32)a;
	}
	return GO;
}

static void decode_cvta(Decoder *d, Inst *in)
{
	in->variant = take(d, "to");
	in->space = (u8)take_space_of(d, SPACE_GENERIC);
	Type t = take_type(d);
	expect_operands(d, 2, 2);
	destination(d, in, 0, t);
	source_loose(d, in, 1, t);
	in->run = cvta;
}

static Action isspacep(Warp *w, const Inst *in, u32 mask)
{
	u32 bits = 0;
	for (u32 m = mask; m; m &= m - 1) {
		int l = __builtin_ctz(m);
		Space s;
		u64 at;
		bool known = space_of_address(operand_of(w, in, 1, l), &s, &at);
		if (s == SPACE_GLOBAL && in->space == SPACE_CONST)
			s = SPACE_CONST; /* constants lie in device memory */
		bits |= (u32)(known && s == (Space)in->space) << l;
	}
	set_predicate(w, in->reg[0], mask, bits);
	return GO;
}

static void decode_isspacep(Decoder *d, Inst *in)
{
	in->space = (u8)take_space_of(d, SPACE_GENERIC);
	expect_operands(d, 2, 2);
	destination(d, in, 0, TYPE_PRED);
	source_loose(d, in, 1, TYPE_U64);
	in->run = isspacep;
}

/* mapa, getctarank: every block is a cluster of one. */
static Action mapa(Warp *w, const Inst *in, u32 mask)
{
	for (u32 m = mask; m; m &= m - 1) {
		int l = __builtin_ctz(m);
		if (r32(w, in->reg[2])[l])
			return fault(w, in, l, ERROR_ILLEGAL_INSTRUCTION, "block %u of a cluster of one", r32(w, in->reg[2])[l]);
		u64 a = operand_of(w, in, 1, l);
		if (in->wide & 1)
			r64(w, in->reg[0])[l] = a;
		else
			r32(w, in->reg[0])[l] = (u32)a;
	}
	return GO;
}

static void decode_mapa(Decoder *d, Inst *in)
{
	take_space_of(d, SPACE_GENERIC);
	Type t = take_type(d);
	expect_operands(d, 3, 3);
	destination(d, in, 0, t);
	source(d, in, 1, t);
	source(d, in, 2, TYPE_U32);
	in->run = mapa;
}

const Family family_move[] = {
	{ "mov", decode_mov }, { "cvta", decode_cvta }, { "isspacep", decode_isspacep }, { "mapa", decode_mapa }, { NULL, NULL },
};
