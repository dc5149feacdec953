/* exec_bits.c: logic, shifts, bit fields and byte permutations. */
#include "decode.h"

#define BITS_2(name, S, expression)                                                                   \
	static Action name(Warp *w, const Inst *in, u32 mask)                                         \
	{                                                                                             \
		S *d = (S *)(w->r + in->reg[0]);                                                      \
		const S *a = (const S *)(w->r + in->reg[1]), *b = (const S *)(w->r + in->reg[2]);     \
		EACH_LANE(mask, S x = a[l]; S y = b[l]; d[l] = (expression););                        \
		return GO;                                                                            \
	}
#define LOGIC(op, expression)              \
	BITS_2(op##_32, u32, expression)   \
	BITS_2(op##_64, u64, expression)   \
	static Action op##_pred(Warp *w, const Inst *in, u32 mask)                                    \
	{                                                                                             \
		u32 x = predicate(w, in->reg[1]) ^ (in->flags & 2 ? ALL_LANES : 0);                   \
		u32 y = predicate(w, in->reg[2]) ^ (in->flags & 4 ? ALL_LANES : 0);                   \
		set_predicate(w, in->reg[0], mask, expression);                                       \
		return GO;                                                                            \
	}

LOGIC(and, x & y)
LOGIC(or, x | y)
LOGIC(xor, x ^ y)

static void logic(Decoder *d, Inst *in, Run narrow, Run wide, Run pred)
{
	Type t = take_type(d);
	expect_operands(d, 3, 3);
	destination(d, in, 0, t);
	source(d, in, 1, t);
	source(d, in, 2, t);
	in->run = t == TYPE_PRED ? pred : type_bytes(t) == 8 ? wide : narrow;
}

static void decode_and(Decoder *d, Inst *in)
{
	logic(d, in, and_32, and_64, and_pred);
}
static void decode_or(Decoder *d, Inst *in)
{
	logic(d, in, or_32, or_64, or_pred);
}
static void decode_xor(Decoder *d, Inst *in)
{
	logic(d, in, xor_32, xor_64, xor_pred);
}

/* One operand; in->size is the type's width in bits. */
#define BITS_1(name, S, R, expression)                              \
	static Action name(Warp *w, const Inst *in, u32 mask)       \
	{                                                           \
		R *d = (R *)(w->r + in->reg[0]);                    \
		const S *a = (const S *)(w->r + in->reg[1]);        \
		EACH_LANE(mask, S x = a[l]; d[l] = (R)(expression);); \
		return GO;                                          \
	}
BITS_1(not_16, u32, u32, (u16)~x)
BITS_1(not_32, u32, u32, ~x)
BITS_1(not_64, u64, u64, ~x)
BITS_1(cnot_32, u32, u32, x == 0)
BITS_1(cnot_64, u64, u64, x == 0)
BITS_1(popc_32, u32, u32, __builtin_popcount(x))
BITS_1(popc_64, u64, u32, __builtin_popcountll(x))
BITS_1(clz_32, u32, u32, x ? __builtin_clz(x) : 32)
BITS_1(clz_64, u64, u32, x ? __builtin_clzll(x) : 64)

static u64 reversed(u64 x, u32 bits)
{
	u64 r = 0;
	for (u32 i = 0; i < bits; i++)
		r |= (x >> i & 1) << (bits - 1 - i);
	return r;
}
BITS_1(brev_32, u32, u32, reversed(x, 32))
BITS_1(brev_64, u64, u64, reversed(x, 64))

/* The place of the highest bit that differs from the sign; with .shiftamt its distance from the top. */
static u32 found(u64 x, u32 bits, bool is_signed, bool shift)
{
	if (is_signed && (x >> (bits - 1) & 1))
		x = ~x;
	if (bits == 32)
		x &= 0xffffffffu;
	if (!x)
		return ~0u;
	u32 place = 63 - (u32)__builtin_clzll(x);
	return shift ? bits - 1 - place : place;
}
BITS_1(bfind_32, u32, u32, found(x, 32, in->variant & 1, in->variant & 2))
BITS_1(bfind_64, u64, u32, found(x, 64, in->variant & 1, in->variant & 2))

static Action not_pred(Warp *w, const Inst *in, u32 mask)
{
	set_predicate(w, in->reg[0], mask, ~predicate(w, in->reg[1]));
	return GO;
}

static void unary(Decoder *d, Inst *in, Run narrow, Run wide, Type result)
{
	Type t = take_type(d);
	expect_operands(d, 2, 2);
	destination(d, in, 0, result == TYPE_NONE ? t : result);
	source(d, in, 1, t);
	in->run = type_bytes(t) == 8 ? wide : narrow;
}

static void decode_not(Decoder *d, Inst *in)
{
	Type t = take_type(d);
	expect_operands(d, 2, 2);
	destination(d, in, 0, t);
	source(d, in, 1, t);
	in->run = t == TYPE_PRED ? not_pred : type_bytes(t) == 8 ? not_64 : type_bytes(t) == 4 ? not_32 : not_16;
}
static void decode_cnot(Decoder *d, Inst *in)
{
	unary(d, in, cnot_32, cnot_64, TYPE_NONE);
}
static void decode_popc(Decoder *d, Inst *in)
{
	unary(d, in, popc_32, popc_64, TYPE_U32);
}
static void decode_clz(Decoder *d, Inst *in)
{
	unary(d, in, clz_32, clz_64, TYPE_U32);
}
static void decode_brev(Decoder *d, Inst *in)
{
	unary(d, in, brev_32, brev_64, TYPE_NONE);
}
static void decode_bfind(Decoder *d, Inst *in)
{
	bool shift = take(d, "shiftamt");
	unary(d, in, bfind_32, bfind_64, TYPE_U32);
	const Statement *s = decode_statement(d);
	in->variant = (u8)((s->modifier[s->nmodifier - 1][0] == 's') | shift << 1);
}

/* Shifts clamp their amount to the width; the amount is always of 32 bits. */
#define SHIFT(name, T, S, U, bits, big, expression)                           \
	static Action name(Warp *w, const Inst *in, u32 mask)                 \
	{                                                                     \
		S *d = (S *)(w->r + in->reg[0]);                              \
		const S *a = (const S *)(w->r + in->reg[1]);                  \
		const u32 *b = r32(w, in->reg[2]);                            \
		EACH_LANE(mask, T x = (T)a[l]; u32 n = b[l];                  \
			  d[l] = (S)(U)(n >= bits ? (big) : (expression));); \
		return GO;                                                    \
	}
SHIFT(shl_16, u16, u32, u16, 16, 0, (u32)x << n)
SHIFT(shl_32, u32, u32, u32, 32, 0, x << n)
SHIFT(shl_64, u64, u64, u64, 64, 0, x << n)
SHIFT(shr_u16, u16, u32, u16, 16, 0, x >> n)
SHIFT(shr_u32, u32, u32, u32, 32, 0, x >> n)
SHIFT(shr_u64, u64, u64, u64, 64, 0, x >> n)
SHIFT(shr_s16, i16, u32, u16, 16, x >> 15, x >> n)
SHIFT(shr_s32, i32, u32, u32, 32, x >> 31, x >> n)
SHIFT(shr_s64, i64, u64, u64, 64, x >> 63, x >> n)

static void shift(Decoder *d, Inst *in, const Run *unsigned_runs, const Run *signed_runs)
{
	Type t = take_type(d);
	u32 i = type_bytes(t) == 8 ? 2 : type_bytes(t) == 4 ? 1 : 0;
	expect_operands(d, 3, 3);
	destination(d, in, 0, t);
	source(d, in, 1, t);
	source(d, in, 2, TYPE_U32);
	in->run = (type_is_signed(t) ? signed_runs : unsigned_runs)[i];
}

static void decode_shl(Decoder *d, Inst *in)
{
	static const Run runs[] = { shl_16, shl_32, shl_64 };
	shift(d, in, runs, runs);
}
static void decode_shr(Decoder *d, Inst *in)
{
	static const Run u[] = { shr_u16, shr_u32, shr_u64 }, s[] = { shr_s16, shr_s32, shr_s64 };
	shift(d, in, u, s);
}

/* shf: a 64-bit value b:a shifted, of which 32 bits are kept. variant: 1 right, 2 wrap. */
static Action funnel(Warp *w, const Inst *in, u32 mask)
{
	u32 *d = r32(w, in->reg[0]);
	const u32 *a = r32(w, in->reg[1]), *b = r32(w, in->reg[2]), *c = r32(w, in->reg[3]);
	EACH_LANE(mask, u64 v = (u64)b[l] << 32 | a[l]; u32 n = in->variant & 2 ? c[l] & 31 : MIN(c[l], 32);
		  d[l] = (u32)(in->variant & 1 ? v >> n : v << n >> 32););
	return GO;
}

static void decode_shf(Decoder *d, Inst *in)
{
	bool right = take(d, "r"), wrap = take(d, "wrap");
	take(d, "l");
	take(d, "clamp");
	take_type(d);
	expect_operands(d, 4, 4);
	destination(d, in, 0, TYPE_B32);
	for (u32 k = 1; k < 4; k++)
		source(d, in, k, TYPE_B32);
	in->variant = (u8)(right | wrap << 1);
	in->run = funnel;
}

/* Bit fields. */
static u64 extract(u64 a, u32 start, u32 length, u32 bits, bool is_signed)
{
	start &= 255;
	length &= 255;
	u32 last = MIN(start + length - 1, bits - 1);
	u64 sign = !is_signed || !length ? 0 : a >> last & 1;
	u64 v = 0;
	for (u32 i = 0; i < bits; i++)
		v |= (i < length && start + i < bits ? a >> (start + i) & 1 : sign) << i;
	return v;
}

static Action bfe(Warp *w, const Inst *in, u32 mask)
{
	const u32 *b = r32(w, in->reg[2]), *c = r32(w, in->reg[3]);
	bool is_signed = type_is_signed((Type)in->type);
	if (type_bytes((Type)in->type) == 8)
		EACH_LANE(mask, r64(w, in->reg[0])[l] = extract(r64(w, in->reg[1])[l], b[l], c[l], 64, is_signed););
	else
		EACH_LANE(mask, r32(w, in->reg[0])[l] = (u32)extract(r32(w, in->reg[1])[l], b[l], c[l], 32, is_signed););
	return GO;
}

static u64 insert(u64 a, u64 b, u32 start, u32 length, u32 bits)
{
	start &= 255;
	length &= 255;
	u64 field = length >= 64 ? ~(u64)0 : ((u64)1 << length) - 1;
	if (start >= bits)
		return b;
	return (b & ~(field << start)) | (a & field) << start;
}

static Action bfi(Warp *w, const Inst *in, u32 mask)
{
	const u32 *c = r32(w, in->reg[3]), *e = r32(w, in->reg[4]);
	if (type_bytes((Type)in->type) == 8)
		EACH_LANE(mask, r64(w, in->reg[0])[l] =
					insert(r64(w, in->reg[1])[l], r64(w, in->reg[2])[l], c[l], e[l], 64););
	else
		EACH_LANE(mask, r32(w, in->reg[0])[l] =
					(u32)insert(r32(w, in->reg[1])[l], r32(w, in->reg[2])[l], c[l], e[l], 32););
	return GO;
}

static void decode_bfe(Decoder *d, Inst *in)
{
	Type t = take_type(d);
	in->type = (u8)t;
	expect_operands(d, 4, 4);
	destination(d, in, 0, t);
	source(d, in, 1, t);
	source(d, in, 2, TYPE_U32);
	source(d, in, 3, TYPE_U32);
	in->run = bfe;
}
static void decode_bfi(Decoder *d, Inst *in)
{
	Type t = take_type(d);
	in->type = (u8)t;
	expect_operands(d, 5, 5);
	destination(d, in, 0, t);
	source(d, in, 1, t);
	source(d, in, 2, t);
	source(d, in, 3, TYPE_U32);
	source(d, in, 4, TYPE_U32);
	in->run = bfi;
}

/* Any function of three bits; the table's bit for (a, b, c) is at 4a + 2b + c. */
static Action lop3(Warp *w, const Inst *in, u32 mask)
{
	u32 *d = r32(w, in->reg[0]);
	const u32 *a = r32(w, in->reg[1]), *b = r32(w, in->reg[2]), *c = r32(w, in->reg[3]);
	u32 table = (u32)in->offset;
	EACH_LANE(mask, u32 v = 0; u32 x = a[l]; u32 y = b[l]; u32 z = c[l];
		  if (table & 1) v |= ~x & ~y & ~z;
		  if (table & 2) v |= ~x & ~y & z;
		  if (table & 4) v |= ~x & y & ~z;
		  if (table & 8) v |= ~x & y & z;
		  if (table & 16) v |= x & ~y & ~z;
		  if (table & 32) v |= x & ~y & z;
		  if (table & 64) v |= x & y & ~z;
		  if (table & 128) v |= x & y & z;
		  d[l] = v;);
	return GO;
}

static void decode_lop3(Decoder *d, Inst *in)
{
	take_type(d);
	expect_operands(d, 5, 5);
	destination(d, in, 0, TYPE_B32);
	for (u32 k = 1; k < 4; k++)
		source(d, in, k, TYPE_B32);
	in->offset = (i64)number(d, 4);
	in->run = lop3;
}

/* prmt: four bytes of b:a, chosen by nibbles of c (or by a mode); bit 3 of a nibble spreads the sign. */
static u32 permuted(u32 a, u32 b, u32 c, u32 mode)
{
	static const u16 tables[6][4] = {
		{ 0x3210, 0x4321, 0x5432, 0x6543 }, { 0x5670, 0x6701, 0x7012, 0x0123 },
		{ 0x0000, 0x1111, 0x2222, 0x3333 }, { 0x3210, 0x3211, 0x3222, 0x3333 },
		{ 0x0000, 0x1110, 0x2210, 0x3210 }, { 0x1010, 0x3232, 0x1010, 0x3232 },
	};
	u64 bytes = (u64)b << 32 | a;
	u32 r = 0;
	if (mode)
		c = tables[mode - 1][c & 3];
	for (u32 i = 0; i < 4; i++) {
		u32 s = c >> 4 * i & 15;
		u32 v = (u32)(bytes >> 8 * (s & 7)) & 255;
		if (s & 8)
			v = v & 128 ? 255 : 0;
		r |= v << 8 * i;
	}
	return r;
}

static Action prmt(Warp *w, const Inst *in, u32 mask)
{
	u32 *d = r32(w, in->reg[0]);
	const u32 *a = r32(w, in->reg[1]), *b = r32(w, in->reg[2]), *c = r32(w, in->reg[3]);
	EACH_LANE(mask, d[l] = permuted(a[l], b[l], c[l], in->variant););
	return GO;
}

static void decode_prmt(Decoder *d, Inst *in)
{
	static const char *const modes[] = { "f4e", "b4e", "rc8", "ecl", "ecr", "rc16" };
	take_type(d);
	u32 mode = take_one_of(d, modes, COUNT(modes));
	in->variant = mode < COUNT(modes) ? (u8)(mode + 1) : 0;
	expect_operands(d, 4, 4);
	destination(d, in, 0, TYPE_B32);
	for (u32 k = 1; k < 4; k++)
		source(d, in, k, TYPE_B32);
	in->run = prmt;
}

/* dp4a: four products of bytes, summed. variant: 1 a signed, 2 b signed. */
static Action dp4a(Warp *w, const Inst *in, u32 mask)
{
	u32 *d = r32(w, in->reg[0]);
	const u32 *a = r32(w, in->reg[1]), *b = r32(w, in->reg[2]), *c = r32(w, in->reg[3]);
	EACH_LANE(mask, u32 sum = c[l]; for (u32 i = 0; i < 4; i++) {
		u32 x = a[l] >> 8 * i & 255; u32 y = b[l] >> 8 * i & 255;
		sum += (u32)((in->variant & 1 ? (i32)(i8)x : (i32)x) * (in->variant & 2 ? (i32)(i8)y : (i32)y));
	} d[l] = sum;);
	return GO;
}

static void decode_dp4a(Decoder *d, Inst *in)
{
	Type a = take_type(d), b = take_type(d);
	expect_operands(d, 4, 4);
	destination(d, in, 0, TYPE_B32);
	for (u32 k = 1; k < 4; k++)
		source(d, in, k, TYPE_B32);
	in->variant = (u8)(type_is_signed(a) | type_is_signed(b) << 1);
	in->run = dp4a;
}

const Family family_bits[] = {
	{ "and", decode_and },   { "or", decode_or },       { "xor", decode_xor },     { "not", decode_not },
	{ "cnot", decode_cnot }, { "popc", decode_popc },   { "clz", decode_clz },     { "brev", decode_brev },
	{ "bfind", decode_bfind }, { "shl", decode_shl },   { "shr", decode_shr },     { "shf", decode_shf },
	{ "bfe", decode_bfe },   { "bfi", decode_bfi },     { "lop3", decode_lop3 },   { "prmt", decode_prmt },
	{ "dp4a", decode_dp4a }, { NULL, NULL },
};
