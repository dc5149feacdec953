/* exec_convert.c: cvt: any type to any other, with every rounding. Common pairs have loops of their own;
 * the rest go through exact intermediates (128-bit integers, f64), one lane at a time. */
#include "decode.h"
#include "formats.h"
#include <fenv.h>
#include <math.h>

enum { SATURATE = 1, FLUSH = 2, RELU = 4, INTEGRAL = 8, SATFINITE = 16 };

static bool is_float(Type t)
{
	return t == TYPE_F16 || t == TYPE_BF16 || t == TYPE_F32 || t == TYPE_F64 || t == TYPE_TF32;
}

static __int128_t integer_of(u64 bits, Type t)
{
	switch (t) {
	case TYPE_U8: case TYPE_B8: return (u8)bits;
	case TYPE_S8: return (i8)bits;
	case TYPE_U16: case TYPE_B16: return (u16)bits;
	case TYPE_S16: return (i16)bits;
	case TYPE_U32: case TYPE_B32: return (u32)bits;
	case TYPE_S32: return (i32)bits;
	case TYPE_S64: return (i64)bits;
	default: return bits;
	}
}

static f64 float_of(u64 bits, Type t)
{
	f64 v;
	switch (t) {
	case TYPE_F16: return (f64)f32_of_f16((u16)bits);
	case TYPE_BF16: return (f64)f32_of_bf16((u16)bits);
	case TYPE_F32: case TYPE_TF32: return (f64)f32_of_bits((u32)bits);
	default: memcpy(&v, &bits, 8); return v;
	}
}

static f64 integral(f64 v, Rounding round)
{
	switch (round) {
	case ROUND_ZERO: return trunc(v);
	case ROUND_DOWN: return floor(v);
	case ROUND_UP: return ceil(v);
	default: return rint(v); /* the mode is to nearest even */
	}
}

static int fenv_of(Rounding round)
{
	return round == ROUND_ZERO ? FE_TOWARDZERO : round == ROUND_DOWN ? FE_DOWNWARD : round == ROUND_UP ? FE_UPWARD : FE_TONEAREST;
}

static u64 float_bits(f64 v, Type t, Rounding round, u32 flags)
{
	u64 bits;
	if (flags & RELU && !(v > 0) && !isnan(v))
		v = 0;
	switch (t) {
	case TYPE_F16: return format_encode(&format_f16, v, round, flags & SATFINITE);
	case TYPE_BF16: return format_encode(&format_bf16, v, round, flags & SATFINITE);
	case TYPE_TF32: return (u64)format_encode(&format_tf32, v, round, flags & SATFINITE) << 13;
	case TYPE_E4M3: return format_encode(&format_e4m3, v, round, true);
	case TYPE_E5M2: return format_encode(&format_e5m2, v, round, true);
	case TYPE_F32: {
		fesetround(fenv_of(round));
		volatile f32 narrow = (f32)v;
		fesetround(FE_TONEAREST);
		return bits_of_f32(isnan(v) ? f32_of_bits(0x7fffffff) : narrow);
	}
	default:
		memcpy(&bits, &v, 8);
		return bits;
	}
}

static __int128_t clamped(__int128_t v, Type t)
{
	u32 bits = type_bytes(t) * 8;
	__int128_t high = type_is_signed(t) ? ((__int128_t)1 << (bits - 1)) - 1 : ((__int128_t)1 << bits) - 1;
	__int128_t low = type_is_signed(t) ? -high - 1 : 0;
	return v < low ? low : v > high ? high : v;
}

static u64 convert(u64 bits, Type to, Type from, Rounding round, u32 flags)
{
	if (!is_float(from)) {
		__int128_t v = integer_of(bits, from);
		if (!is_float(to))
			return (u64)integer_of((u64)(flags & SATURATE ? clamped(v, to) : v), to);
		if (to == TYPE_F64 || to == TYPE_F32) {
			fesetround(fenv_of(round));
			volatile __int128_t held = v;
			volatile f64 wide = type_is_signed(from) ? (f64)(i64)held : (f64)(u64)held;
			volatile f32 narrow = type_is_signed(from) ? (f32)(i64)held : (f32)(u64)held;
			fesetround(FE_TONEAREST);
			f64 w = wide;
			u64 out = bits_of_f32(narrow);
			if (to == TYPE_F64)
				memcpy(&out, &w, 8);
			return out;
		}
		return float_bits((f64)v, to, round, flags);
	}
	f64 v = float_of(bits, from);
	if (flags & FLUSH && from == TYPE_F32 && fpclassify(f32_of_bits((u32)bits)) == FP_SUBNORMAL)
		v = copysign(0, v);
	if (is_float(to)) {
		if (flags & INTEGRAL)
			v = integral(v, round);
		if (flags & SATURATE)
			v = v > 1 ? 1 : v > 0 ? v : 0;
		u64 out = float_bits(v, to, flags & INTEGRAL ? ROUND_NEAREST : round, flags);
		if (flags & FLUSH && to == TYPE_F32 && fpclassify(f32_of_bits((u32)out)) == FP_SUBNORMAL)
			out &= 0x80000000u;
		return out;
	}
	if (isnan(v))
		return type_bytes(to) == 8 ? (u64)1 << 63 : 0;
	v = integral(v, round);
	v = v > 0x1p65 ? 0x1p65 : v < -0x1p65 ? -0x1p65 : v;
	return (u64)clamped((__int128_t)v, to);
}

static Action cvt(Warp *w, const Inst *in, u32 mask)
{
	for (u32 m = mask; m; m &= m - 1) {
		int l = __builtin_ctz(m);
		u64 v = convert(operand_of(w, in, 1, l), (Type)in->type, (Type)in->from, (Rounding)in->round, in->variant);
		if (in->wide & 1)
			r64(w, in->reg[0])[l] = v;
		else
			r32(w, in->reg[0])[l] = (u32)v;
	}
	return GO;
}

/* Two numbers into one register: the first operand above the second. type is that of a part. */
static Action cvt_pack(Warp *w, const Inst *in, u32 mask)
{
	u32 bits = type_bytes((Type)in->type) * 8;
	for (u32 m = mask; m; m &= m - 1) {
		int l = __builtin_ctz(m);
		f64 high = (f64)f32_of_bits(r32(w, in->reg[1])[l]), low = (f64)f32_of_bits(r32(w, in->reg[2])[l]);
		u64 above = float_bits(high, (Type)in->type, (Rounding)in->round, in->variant);
		u64 below = float_bits(low, (Type)in->type, (Rounding)in->round, in->variant);
		r32(w, in->reg[0])[l] = (u32)(above << bits | below);
	}
	return GO;
}

/* cvt.rn.f16x2.e4m3x2, and back from f16x2. */
static Action cvt_pairs(Warp *w, const Inst *in, u32 mask)
{
	for (u32 m = mask; m; m &= m - 1) {
		int l = __builtin_ctz(m);
		u32 a = r32(w, in->reg[1])[l], v = 0;
		for (u32 i = 0; i < 2; i++) {
			if (in->from == TYPE_F16X2) {
				const Format *f = in->type == TYPE_E4M3X2 ? &format_e4m3 : &format_e5m2;
				f64 x = (f64)f32_of_f16((u16)(a >> 16 * i));
				v |= format_encode(f, in->variant & RELU && !(x > 0) && !isnan(x) ? 0 : x, ROUND_NEAREST, true) << 8 * i;
			} else {
				const Format *f = in->from == TYPE_E4M3X2 ? &format_e4m3 : &format_e5m2;
				f64 x = format_decode(f, a >> 8 * i & 255);
				v |= (u32)f16_of_f64(in->variant & RELU && !(x > 0) && !isnan(x) ? 0 : x, ROUND_NEAREST) << 16 * i;
			}
		}
		r32(w, in->reg[0])[l] = v;
	}
	return GO;
}

/* The common pairs. */
#define PAIR(name, D, S, expression)                                 \
	static Action name(Warp *w, const Inst *in, u32 mask)        \
	{                                                            \
		D *d = (D *)(w->r + in->reg[0]);                     \
		const S *a = (const S *)(w->r + in->reg[1]);         \
		EACH_LANE(mask, S x = a[l]; d[l] = (D)(expression);); \
		return GO;                                           \
	}
PAIR(cvt_u64_u32, u64, u32, x)
PAIR(cvt_s64_s32, u64, u32, (i64)(i32)x)
PAIR(cvt_u32_u64, u32, u64, x)
PAIR(cvt_u32_u16, u32, u32, (u16)x)
PAIR(cvt_s32_s16, u32, u32, (i32)(i16)x)
PAIR(cvt_32_32, u32, u32, x)
PAIR(cvt_f32_s32, f32, u32, (i32)x)
PAIR(cvt_f32_u32, f32, u32, x)
PAIR(cvt_f32_bf16, u32, u32, x << 16)

static inline u32 bf16_nearest(u32 x)
{
	return (x & 0x7fffffff) > 0x7f800000 ? 0x7fff : (x + 0x7fff + (x >> 16 & 1)) >> 16;
}
PAIR(cvt_bf16_f32, u32, u32, bf16_nearest(x))

static Action cvt_bf16x2_f32(Warp *w, const Inst *in, u32 mask)
{
	u32 *d = r32(w, in->reg[0]);
	const u32 *a = r32(w, in->reg[1]), *b = r32(w, in->reg[2]);
	EACH_LANE(mask, u32 x = a[l]; u32 y = b[l]; d[l] = bf16_nearest(x) << 16 | bf16_nearest(y););
	return GO;
}

static Run common(const Inst *in)
{
	Type to = (Type)in->type, from = (Type)in->from;
	if (in->variant)
		return NULL;
	if (to == TYPE_F32 && from == TYPE_BF16)
		return cvt_f32_bf16;
	if (in->round == ROUND_NEAREST && to == TYPE_BF16 && from == TYPE_F32)
		return cvt_bf16_f32;
	if (in->round == ROUND_NEAREST && to == TYPE_F32 && (from == TYPE_S32 || from == TYPE_U32))
		return from == TYPE_S32 ? cvt_f32_s32 : cvt_f32_u32;
	if (is_float(to) || is_float(from))
		return NULL;
	u32 size = type_bytes(to);
	bool to_wide = in->wide & 1, from_wide = in->wide >> 1 & 1;
	if (size == 8 && !from_wide && from == TYPE_U32)
		return cvt_u64_u32;
	if (size == 8 && !from_wide && from == TYPE_S32)
		return cvt_s64_s32;
	if (size == 2 && !to_wide && !from_wide && type_bytes(from) >= 2)
		return type_is_signed(to) ? cvt_s32_s16 : cvt_u32_u16;
	if (size <= 4 && !to_wide && from_wide && type_bytes(from) == 8)
		return size == 4 ? cvt_u32_u64 : NULL;
	if (size == 4 && !to_wide && !from_wide)
		return from == TYPE_U16 ? cvt_u32_u16 : from == TYPE_S16 ? cvt_s32_s16 : type_bytes(from) == 4 ? cvt_32_32 : NULL;
	return NULL;
}

static void decode_cvt(Decoder *d, Inst *in)
{
	static const char *const integer_roundings[] = { "rni", "rzi", "rmi", "rpi" };
	u32 flags = 0;
	u32 i = take_one_of(d, integer_roundings, COUNT(integer_roundings));
	if (i < COUNT(integer_roundings)) {
		in->round = (u8)i;
		flags |= INTEGRAL;
	} else {
		in->round = (u8)take_rounding(d, ROUND_NEAREST);
	}
	flags |= take(d, "ftz") ? FLUSH : 0;
	flags |= take(d, "sat") ? SATURATE : 0;
	flags |= take(d, "satfinite") ? SATFINITE : 0;
	flags |= take(d, "relu") ? RELU : 0;
	Type to = take_type(d), from = take_type(d);
	in->variant = (u8)flags;
	bool packs = to == TYPE_F16X2 || to == TYPE_BF16X2 || to == TYPE_E4M3X2 || to == TYPE_E5M2X2;
	if (packs && from == TYPE_F32) {
		Type part = to == TYPE_F16X2 ? TYPE_F16 : to == TYPE_BF16X2 ? TYPE_BF16 : to == TYPE_E4M3X2 ? TYPE_E4M3 : TYPE_E5M2;
		in->type = (u8)part;
		in->from = (u8)from;
		expect_operands(d, 3, 3);
		destination(d, in, 0, type_bytes(to) == 2 ? TYPE_B16 : TYPE_B32);
		source(d, in, 1, from);
		source(d, in, 2, from);
		in->run = part == TYPE_BF16 && !flags && in->round == ROUND_NEAREST ? cvt_bf16x2_f32 : cvt_pack;
		return;
	}
	expect_operands(d, 2, 2);
	if (packs || from == TYPE_E4M3X2 || from == TYPE_E5M2X2) {
		if (!(to == TYPE_F16X2 && (from == TYPE_E4M3X2 || from == TYPE_E5M2X2)) &&
		    !(from == TYPE_F16X2 && (to == TYPE_E4M3X2 || to == TYPE_E5M2X2)))
			decode_fail(d, "this conversion is not known");
		in->type = (u8)to;
		in->from = (u8)from;
		destination(d, in, 0, type_bytes(to) == 2 ? TYPE_B16 : TYPE_B32);
		source(d, in, 1, type_bytes(from) == 2 ? TYPE_B16 : TYPE_B32);
		in->run = cvt_pairs;
		return;
	}
	in->type = (u8)to;
	in->from = (u8)from;
	destination_loose(d, in, 0);
	source_loose(d, in, 1, from);
	Run quick = common(in);
	in->run = quick ? quick : cvt;
}

const Family family_convert[] = { { "cvt", decode_cvt }, { NULL, NULL } };
