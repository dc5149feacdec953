/* exec_integer.c: integer arithmetic: a function over lanes per operation and type, and their decoders. */
#include "decode.h"

/* One expression serves signed and unsigned types. */
#pragma GCC diagnostic ignored "-Wtype-limits"

enum { I_U16, I_S16, I_U32, I_S32, I_U64, I_S64, I_TYPES };

static u32 integer_index(Type t)
{
	switch (t) {
	case TYPE_U16: case TYPE_B16: return I_U16;
	case TYPE_S16: return I_S16;
	case TYPE_U32: case TYPE_B32: return I_U32;
	case TYPE_S32: return I_S32;
	case TYPE_U64: case TYPE_B64: return I_U64;
	case TYPE_S64: return I_S64;
	default: return I_TYPES;
	}
}

/* Whether the type of v is a signed one. */
#define T_IS_SIGNED(v) _Generic((v), u16: 0, i16: 1, u32: 0, i32: 1, u64: 0, i64: 1)

/* op, the operands' C type, the slot's, the unsigned one, the result. */
#define INTEGER_1(op, T, S, U, expression)                                          \
	static Action op##_##T(Warp *w, const Inst *in, u32 mask)                   \
	{                                                                           \
		S *d = (S *)(w->r + in->reg[0]);                                    \
		const S *a = (const S *)(w->r + in->reg[1]);                        \
		EACH_LANE(mask, T x = (T)a[l]; d[l] = (S)(U)(expression););         \
		return GO;                                                          \
	}
#define INTEGER_2(op, T, S, U, expression)                                          \
	static Action op##_##T(Warp *w, const Inst *in, u32 mask)                   \
	{                                                                           \
		S *d = (S *)(w->r + in->reg[0]);                                    \
		const S *a = (const S *)(w->r + in->reg[1]);                        \
		const S *b = (const S *)(w->r + in->reg[2]);                        \
		EACH_LANE(mask, T x = (T)a[l]; T y = (T)b[l]; d[l] = (S)(U)(expression);); \
		return GO;                                                          \
	}
#define INTEGER_3(op, T, S, U, expression)                                          \
	static Action op##_##T(Warp *w, const Inst *in, u32 mask)                   \
	{                                                                           \
		S *d = (S *)(w->r + in->reg[0]);                                    \
		const S *a = (const S *)(w->r + in->reg[1]);                        \
		const S *b = (const S *)(w->r + in->reg[2]);                        \
		const S *c = (const S *)(w->r + in->reg[3]);                        \
		EACH_LANE(mask, T x = (T)a[l]; T y = (T)b[l]; T z = (T)c[l]; d[l] = (S)(U)(expression);); \
		return GO;                                                          \
	}
#define ALL_TYPES(shape, op, expression)             \
	shape(op, u16, u32, u16, expression)         \
	shape(op, i16, u32, u16, expression)         \
	shape(op, u32, u32, u32, expression)         \
	shape(op, i32, u32, u32, expression)         \
	shape(op, u64, u64, u64, expression)         \
	shape(op, i64, u64, u64, expression)         \
	static const Run op##_runs[I_TYPES] = { op##_u16, op##_i16, op##_u32, op##_i32, op##_u64, op##_i64 };

/* Arithmetic that wraps is done in u64, where C lets it. */
ALL_TYPES(INTEGER_2, add, (u64)x + (u64)y)
ALL_TYPES(INTEGER_2, sub, (u64)x - (u64)y)
ALL_TYPES(INTEGER_2, mul_lo, (u64)x * (u64)y)
ALL_TYPES(INTEGER_3, mad_lo, (u64)x * (u64)y + (u64)z)
ALL_TYPES(INTEGER_2, minimum, x < y ? x : y)
ALL_TYPES(INTEGER_2, maximum, x > y ? x : y)
ALL_TYPES(INTEGER_1, negate, 0 - (u64)x)
ALL_TYPES(INTEGER_1, absolute, (i64)x < 0 ? 0 - (u64)x : (u64)x)
ALL_TYPES(INTEGER_3, sad, (u64)z + (x < y ? (u64)y - (u64)x : (u64)x - (u64)y))
/* By zero: all ones, as GPUs give. The most negative number over -1 wraps. */
ALL_TYPES(INTEGER_2, divide, y == 0 ? ~(u64)0 : (i64)y == -1 && (T_IS_SIGNED(x)) ? 0 - (u64)x : (u64)(x / y))
ALL_TYPES(INTEGER_2, remainder, y == 0 ? (u64)x : (i64)y == -1 && (T_IS_SIGNED(x)) ? 0 : (u64)(x % y))

#define HIGH(op, T, S, U, W, bits)                                                              \
	INTEGER_2(mul_hi_##op, T, S, U, (U)((W)((W)x * (W)y) >> bits))                          \
	INTEGER_3(mad_hi_##op, T, S, U, (u64)(U)((W)((W)x * (W)y) >> bits) + (u64)z)
HIGH(x, u16, u32, u16, u32, 16)
HIGH(x, i16, u32, u16, i32, 16)
HIGH(x, u32, u32, u32, u64, 32)
HIGH(x, i32, u32, u32, i64, 32)
HIGH(x, u64, u64, u64, __uint128_t, 64)
HIGH(x, i64, u64, u64, __int128_t, 64)
static const Run mul_hi_runs[I_TYPES] = { mul_hi_x_u16, mul_hi_x_i16, mul_hi_x_u32,
					  mul_hi_x_i32, mul_hi_x_u64, mul_hi_x_i64 };
static const Run mad_hi_runs[I_TYPES] = { mad_hi_x_u16, mad_hi_x_i16, mad_hi_x_u32,
					  mad_hi_x_i32, mad_hi_x_u64, mad_hi_x_i64 };

/* Twice as wide a result. */
#define WIDE(T, S, D, W)                                                                         \
	static Action mul_wide_##T(Warp *w, const Inst *in, u32 mask)                            \
	{                                                                                        \
		D *d = (D *)(w->r + in->reg[0]);                                                 \
		const S *a = (const S *)(w->r + in->reg[1]), *b = (const S *)(w->r + in->reg[2]); \
		EACH_LANE(mask, d[l] = (D)((W)(T)a[l] * (W)(T)b[l]););                           \
		return GO;                                                                       \
	}                                                                                        \
	static Action mad_wide_##T(Warp *w, const Inst *in, u32 mask)                            \
	{                                                                                        \
		D *d = (D *)(w->r + in->reg[0]);                                                 \
		const S *a = (const S *)(w->r + in->reg[1]), *b = (const S *)(w->r + in->reg[2]); \
		const D *c = (const D *)(w->r + in->reg[3]);                                     \
		EACH_LANE(mask, d[l] = (D)((W)(T)a[l] * (W)(T)b[l]) + c[l];);                    \
		return GO;                                                                       \
	}
WIDE(u16, u32, u32, u32)
WIDE(i16, u32, u32, i32)
WIDE(u32, u32, u64, u64)
WIDE(i32, u32, u64, i64)

/* 24-bit products. */
#define LOW24(v) (T_IS_SIGNED(v) ? (i64)((i32)((u32)(v) << 8) >> 8) : (i64)((u32)(v) & 0xffffff))
INTEGER_2(mul24_lo, u32, u32, u32, (u64)(LOW24(x) * LOW24(y)))
INTEGER_2(mul24_lo, i32, u32, u32, (u64)(LOW24(x) * LOW24(y)))
INTEGER_2(mul24_hi, u32, u32, u32, (u64)(LOW24(x) * LOW24(y)) >> 16)
INTEGER_2(mul24_hi, i32, u32, u32, (u64)(LOW24(x) * LOW24(y)) >> 16)

static Action saturating(Warp *w, const Inst *in, u32 mask)
{
	u32 *d = r32(w, in->reg[0]);
	const i32 *a = (const i32 *)r32(w, in->reg[1]), *b = (const i32 *)r32(w, in->reg[2]);
	EACH_LANE(mask, i64 v = in->variant ? (i64)a[l] - b[l] : (i64)a[l] + b[l];
		  d[l] = (u32)(i32)(v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : v););
	return GO;
}

/* add.cc, addc, sub.cc, subc, mad.lo.cc, madc.hi...: through the carry flag. For subtractions it is a
 * borrow. */
enum { CARRY_IN = 1, CARRY_OUT = 2, CARRY_SUB = 4, CARRY_MAD = 8, CARRY_HIGH = 16 };

static Action carried(Warp *w, const Inst *in, u32 mask)
{
	bool wide = type_bytes((Type)in->type) == 8;
	u32 bits = wide ? 64 : 32, v = in->variant;
	for (u32 m = mask; m; m &= m - 1) {
		int l = __builtin_ctz(m);
		u64 a = operand_of(w, in, 1, l), b = operand_of(w, in, 2, l);
		__uint128_t sum;
		u32 carry = v & CARRY_IN ? w->carry >> l & 1 : 0;
		if (v & CARRY_MAD) {
			__uint128_t product = (__uint128_t)a * b;
			if (type_is_signed((Type)in->type))
				product = wide ? (__uint128_t)((__int128_t)(i64)a * (i64)b)
					       : (__uint128_t)((__int128_t)(i32)a * (i32)b);
			a = (u64)(v & CARRY_HIGH ? product >> bits : product);
			b = operand_of(w, in, 3, l);
			if (!wide)
				a = (u32)a;
		}
		sum = v & CARRY_SUB ? (__uint128_t)a - b - carry : (__uint128_t)a + b + carry;
		if (wide)
			r64(w, in->reg[0])[l] = (u64)sum;
		else
			r32(w, in->reg[0])[l] = (u32)sum;
		if (v & CARRY_OUT)
			w->carry = (w->carry & ~(1u << l)) | (u32)(sum >> bits & 1) << l;
	}
	return GO;
}

static void operands(Decoder *d, Inst *in, u32 n, Type t)
{
	expect_operands(d, n, n);
	destination(d, in, 0, t);
	for (u32 k = 1; k < n; k++)
		source(d, in, k, t);
}

static void simple(Decoder *d, Inst *in, const Run *runs, u32 n)
{
	Type t = take_type(d);
	u32 i = integer_index(t);
	if (i == I_TYPES)
		return;
	in->type = (u8)t;
	operands(d, in, n, t);
	in->run = runs[i];
}

static void add_or_subtract(Decoder *d, Inst *in, bool subtract, bool carry_in)
{
	bool carry_out = take(d, "cc"), saturate = take(d, "sat");
	simple(d, in, subtract ? sub_runs : add_runs, 3);
	if (!in->run)
		return;
	if (carry_in || carry_out) {
		in->run = carried;
		in->variant = (u8)((carry_in ? CARRY_IN : 0) | (carry_out ? CARRY_OUT : 0) | (subtract ? CARRY_SUB : 0));
	} else if (saturate) {
		if (in->type != TYPE_S32)
			decode_fail(d, ".sat is for .s32");
		in->run = saturating;
		in->variant = subtract;
	}
}

static void decode_add(Decoder *d, Inst *in)
{
	add_or_subtract(d, in, false, false);
}
static void decode_addc(Decoder *d, Inst *in)
{
	add_or_subtract(d, in, false, true);
}
static void decode_sub(Decoder *d, Inst *in)
{
	add_or_subtract(d, in, true, false);
}
static void decode_subc(Decoder *d, Inst *in)
{
	add_or_subtract(d, in, true, true);
}

static void product(Decoder *d, Inst *in, bool add, bool carry_in)
{
	u32 n = add ? 4 : 3;
	bool high = take(d, "hi"), wide = take(d, "wide"), low = take(d, "lo"), carry_out = take(d, "cc");
	Type t = take_type(d);
	u32 i = integer_index(t);
	if (i == I_TYPES)
		return;
	if (!high && !wide && !low)
		decode_fail(d, "one of .lo, .hi, .wide is missing");
	in->type = (u8)t;
	if (wide) {
		static const Run muls[] = { mul_wide_u16, mul_wide_i16, mul_wide_u32, mul_wide_i32 };
		static const Run mads[] = { mad_wide_u16, mad_wide_i16, mad_wide_u32, mad_wide_i32 };
		Type result = type_bytes(t) == 2 ? TYPE_U32 : TYPE_U64;
		if (i >= I_U64)
			decode_fail(d, ".wide is for 16 and 32 bits");
		expect_operands(d, n, n);
		destination(d, in, 0, result);
		source(d, in, 1, t);
		source(d, in, 2, t);
		if (add)
			source(d, in, 3, result);
		in->run = (add ? mads : muls)[i];
		return;
	}
	operands(d, in, n, t);
	if (carry_in || carry_out) {
		in->run = carried;
		in->variant = (u8)(CARRY_MAD | (carry_in ? CARRY_IN : 0) | (carry_out ? CARRY_OUT : 0) |
				   (high ? CARRY_HIGH : 0));
	} else {
		in->run = high ? (add ? mad_hi_runs : mul_hi_runs)[i] : (add ? mad_lo_runs : mul_lo_runs)[i];
	}
}

static void decode_mul(Decoder *d, Inst *in)
{
	product(d, in, false, false);
}
static void decode_mad(Decoder *d, Inst *in)
{
	product(d, in, true, false);
}
static void decode_madc(Decoder *d, Inst *in)
{
	product(d, in, true, true);
}
static void decode_mul24(Decoder *d, Inst *in)
{
	bool high = take(d, "hi");
	take(d, "lo");
	Type t = take_type(d);
	operands(d, in, 3, t);
	if (t == TYPE_U32)
		in->run = high ? mul24_hi_u32 : mul24_lo_u32;
	else if (t == TYPE_S32)
		in->run = high ? mul24_hi_i32 : mul24_lo_i32;
}
static void decode_min(Decoder *d, Inst *in)
{
	simple(d, in, minimum_runs, 3);
}
static void decode_max(Decoder *d, Inst *in)
{
	simple(d, in, maximum_runs, 3);
}
static void decode_div(Decoder *d, Inst *in)
{
	simple(d, in, divide_runs, 3);
}
static void decode_rem(Decoder *d, Inst *in)
{
	simple(d, in, remainder_runs, 3);
}
static void decode_neg(Decoder *d, Inst *in)
{
	simple(d, in, negate_runs, 2);
}
static void decode_abs(Decoder *d, Inst *in)
{
	simple(d, in, absolute_runs, 2);
}
static void decode_sad(Decoder *d, Inst *in)
{
	simple(d, in, sad_runs, 4);
}

const Family family_integer[] = {
	{ "add", decode_add },     { "addc", decode_addc }, { "sub", decode_sub }, { "subc", decode_subc },
	{ "mul", decode_mul },     { "mad", decode_mad },   { "madc", decode_madc }, { "mul24", decode_mul24 },
	{ "min", decode_min },     { "max", decode_max },   { "div", decode_div }, { "rem", decode_rem },
	{ "neg", decode_neg },     { "abs", decode_abs },   { "sad", decode_sad }, { NULL, NULL },
};
