/* exec_atomic.c: atom and red. Blocks run on several threads, so each lane's update is one of the host's
 * atomic operations on the word; lanes take turns in the order of the schedule. */
#include "decode.h"
#include "formats.h"
#include "race.h"
#include <math.h>

enum { A_ADD, A_MIN, A_MAX, A_AND, A_OR, A_XOR, A_EXCH, A_CAS, A_INC, A_DEC, A_OPS };
static const char *const op_names[A_OPS] = { "add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec" };

static u16 half_update(u32 op, Type t, u16 old, u16 b)
{
	const Format *f = t == TYPE_BF16 || t == TYPE_BF16X2 ? &format_bf16 : &format_f16;
	f64 x = format_decode(f, old), y = format_decode(f, b);
	if (isnan(x) || isnan(y))
		return (u16)(op == A_ADD || (isnan(x) && isnan(y)) ? f->nan : isnan(x) ? b : old);
	return (u16)format_encode(f, op == A_ADD ? x + y : op == A_MIN ? fmin(x, y) : fmax(x, y), ROUND_NEAREST, false);
}

static u64 updated(u32 op, Type t, u64 old, u64 b, u64 c)
{
	switch (op) {
	case A_AND: return old & b;
	case A_OR: return old | b;
	case A_XOR: return old ^ b;
	case A_EXCH: return b;
	case A_CAS: return old == b ? c : old;
	case A_INC: return (u32)old >= (u32)b ? 0 : (u32)old + 1;
	case A_DEC: return (u32)old == 0 || (u32)old > (u32)b ? (u32)b : (u32)old - 1;
	default: break;
	}
	switch (t) {
	case TYPE_F16: case TYPE_BF16: return half_update(op, t, (u16)old, (u16)b);
	case TYPE_F16X2: case TYPE_BF16X2:
		return half_update(op, t, (u16)old, (u16)b) | (u32)half_update(op, t, (u16)(old >> 16), (u16)(b >> 16)) << 16;
	case TYPE_F32: {
		f32 x = f32_of_bits((u32)old), y = f32_of_bits((u32)b);
		return bits_of_f32(op == A_ADD ? x + y : op == A_MIN ? fminf(x, y) : fmaxf(x, y));
	}
	case TYPE_F64: {
		f64 x, y;
		memcpy(&x, &old, 8);
		memcpy(&y, &b, 8);
		x = op == A_ADD ? x + y : op == A_MIN ? fmin(x, y) : fmax(x, y);
		memcpy(&old, &x, 8);
		return old;
	}
	case TYPE_S32: {
		i32 x = (i32)old, y = (i32)b;
		return op == A_ADD ? (u32)old + (u32)b : (u32)(op == A_MIN ? MIN(x, y) : MAX(x, y));
	}
	case TYPE_S64: {
		i64 x = (i64)old, y = (i64)b;
		return op == A_ADD ? old + b : (u64)(op == A_MIN ? MIN(x, y) : MAX(x, y));
	}
	case TYPE_U32: case TYPE_B32:
		return op == A_ADD ? (u32)old + (u32)b : op == A_MIN ? MIN((u32)old, (u32)b) : MAX((u32)old, (u32)b);
	default: return op == A_ADD ? old + b : op == A_MIN ? MIN(old, b) : MAX(old, b);
	}
}

#define UPDATE(T)                                                                                       \
	do {                                                                                            \
		T *at = (T *)p, old = __atomic_load_n(at, __ATOMIC_RELAXED);                            \
		while (!__atomic_compare_exchange_n(at, &old, (T)updated(op, t, old, b, c), false,      \
						    __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))                \
			;                                                                               \
		return old;                                                                             \
	} while (0)
static u64 update(u8 *p, u32 size, u32 op, Type t, u64 b, u64 c)
{
	if (size == 2)
		UPDATE(u16);
	if (size == 4)
		UPDATE(u32);
	UPDATE(u64);
}

static u64 value(Warp *w, u32 slot, u32 size, int l)
{
	return size == 8 ? r64(w, slot)[l] : size == 4 ? r32(w, slot)[l] : r32(w, slot)[l] & 0xffff;
}

/* reg[1] address; list: the results (atom only), then the sources. */
static Action atom(Warp *w, const Inst *in, u32 mask)
{
	bool reverse = settings()->schedule == SCHEDULE_DESCENDING;
	bool is_red = in->flags & 1;
	const u32 *results = in->list, *sources = in->list + (is_red ? 0 : in->count);
	for (u32 m = mask; m;) {
		int l = reverse ? 31 - __builtin_clz(m) : __builtin_ctz(m);
		m &= ~(1u << l);
		u64 address = operand_of(w, in, 1, l) + (u64)in->offset;
		u32 bytes = (u32)in->size * in->count;
		u8 *p = resolve(w, in, l, (Space)in->space, address, bytes, true);
		Space space = (Space)in->space;
		if (!p)
			return FAULT;
		if (space == SPACE_GENERIC)
			space_of_address(address, &space, &address);
		if (w->block->race && space == SPACE_SHARED && !race_access(w, in, l, (u32)address, bytes, ACCESS_ATOMIC))
			return FAULT;
		if (settings()->race && space == SPACE_GLOBAL && !race_global(w, in, l, address, bytes, ACCESS_ATOMIC))
			return FAULT;
		for (u32 i = 0; i < in->count; i++) {
			u64 b = value(w, sources[i], in->size, l);
			u64 c = in->variant == A_CAS ? value(w, in->reg[3], in->size, l) : 0;
			u64 old = update(p + i * in->size, in->size, in->variant, (Type)in->type, b, c);
			if (is_red)
				continue;
			if (in->size == 8)
				r64(w, results[i])[l] = old;
			else
				r32(w, results[i])[l] = (u32)old;
		}
	}
	return GO;
}

static void decode_atom(Decoder *d, Inst *in)
{
	bool is_red = !strcmp(decode_statement(d)->opcode, "red");
	take_order(d);
	take_cache_hints(d);
	take(d, "noftz");
	in->space = (u8)take_space_of(d, SPACE_GENERIC);
	u32 op = take_one_of(d, op_names, A_OPS);
	if (op == A_OPS)
		decode_fail(d, "which operation?");
	in->variant = (u8)op;
	in->count = take(d, "v2") ? 2 : take(d, "v4") ? 4 : take(d, "v8") ? 8 : 1;
	Type t = take_type(d);
	in->type = (u8)t;
	in->size = (u8)type_bytes(t);
	in->flags = is_red;
	if (in->size > 8 || in->size < 2)
		decode_fail(d, "atomics of %u bytes are not known", in->size);
	if (!is_red)
		list_of(d, in, 0, t, true);
	list_of(d, in, is_red ? 1 : 2, t, false);
	in->wide = 0;
	address(d, in, is_red ? 0 : 1, 1);
	if (op == A_CAS) {
		bool wide;
		in->reg[3] = slot_of(d, operand_at(d, 3), t, false, &wide);
	}
	if (in->nlist != (is_red ? 1u : 2u) * in->count)
		decode_fail(d, "operands for %u elements", in->count);
	in->run = atom;
}

const Family family_atomic[] = { { "atom", decode_atom }, { "red", decode_atom }, { NULL, NULL } };
