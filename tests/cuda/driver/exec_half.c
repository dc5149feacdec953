/* exec_half.c: arithmetic of f16 and bf16, single and in pairs, and of pairs of 16-bit integers: in f64,
 * rounded once. */
#include "decode.h"
#include "formats.h"
#include <math.h>

enum { H_ADD, H_SUB, H_MUL, H_FMA, H_MIN, H_MAX, H_NEG, H_ABS, H_EX2, H_TANH };
enum { H_SATURATE = 1, H_RELU = 2, H_NAN = 4, H_FLUSH = 8 };

/* p + c, to odd in the last bit of f64 where it is not exact, so that rounding again errs nowhere. */
static f64 sum_to_odd(f64 p, f64 c)
{
	f64 s = p + c;
	if (!isfinite(s))
		return s;
	f64 back = s - p;
	f64 error = (p - (s - back)) + (c - back);
	u64 bits;
	memcpy(&bits, &s, 8);
	if (error != 0 && !(bits & 1)) {
		s = nextafter(s, error > 0 ? (f64)INFINITY : -(f64)INFINITY);
	}
	return s;
}

static u16 half(const Format *f, u32 op, u32 flags, u16 a, u16 b, u16 c)
{
	f64 x = format_decode(f, a), y = format_decode(f, b), z = format_decode(f, c), v;
	switch (op) {
	case H_NEG: return (u16)(a ^ 0x8000);
	case H_ABS: return (u16)(a & 0x7fff);
	case H_ADD: v = sum_to_odd(x, y); break;
	case H_SUB: v = sum_to_odd(x, -y); break;
	case H_MUL: v = x * y; break;
	case H_FMA: v = sum_to_odd(x * y, z); break;
	case H_EX2: v = exp2(x); break;
	case H_TANH: v = tanh(x); break;
	default:
		if (isnan(x) || isnan(y))
			return (u16)(flags & H_NAN || (isnan(x) && isnan(y)) ? f->nan : isnan(x) ? b : a);
		if (x == y)
			return (u16)(op == H_MIN ? a | b : a & b); /* zeroes of either sign */
		return (op == H_MIN) == (x < y) ? a : b;
	}
	if (flags & H_SATURATE)
		v = v > 1 ? 1 : v > 0 ? v : 0;
	if (flags & H_RELU && !isnan(v))
		v = v > 0 ? v : 0;
	u16 r = (u16)format_encode(f, v, ROUND_NEAREST, false);
	if (flags & H_FLUSH && !(r & 0x7c00) && f == &format_f16)
		r &= 0x8000;
	return r;
}

static Action run_half(Warp *w, const Inst *in, u32 mask)
{
	const Format *f = in->type == TYPE_BF16 || in->type == TYPE_BF16X2 ? &format_bf16 : &format_f16;
	u32 parts = type_bytes((Type)in->type) / 2;
	for (u32 m = mask; m; m &= m - 1) {
		int l = __builtin_ctz(m);
		u32 v = 0, x[3] = { 0 };
		for (u32 k = 0; k < in->count; k++)
			x[k] = r32(w, in->reg[k + 1])[l];
		for (u32 i = 0; i < parts; i++)
			v |= (u32)half(f, in->size, in->variant, (u16)(x[0] >> 16 * i), (u16)(x[1] >> 16 * i),
				       (u16)(x[2] >> 16 * i)) << 16 * i;
		r32(w, in->reg[0])[l] = v;
	}
	return GO;
}

static Action run_pairs(Warp *w, const Inst *in, u32 mask)
{
	bool is_signed = in->type == TYPE_S16X2;
	for (u32 m = mask; m; m &= m - 1) {
		int l = __builtin_ctz(m);
		u32 a = r32(w, in->reg[1])[l], b = r32(w, in->reg[2])[l], v = 0;
		for (u32 i = 0; i < 2; i++) {
			u16 x = (u16)(a >> 16 * i), y = (u16)(b >> 16 * i);
			bool less = is_signed ? (i16)x < (i16)y : x < y;
			u16 r = in->size == H_ADD ? (u16)(x + y) : (in->size == H_MIN) == less ? x : y;
			v |= (u32)r << 16 * i;
		}
		r32(w, in->reg[0])[l] = v;
	}
	return GO;
}

static void decode(Decoder *d, Inst *in, u32 op, u32 operands)
{
	u32 flags = (take(d, "sat") ? H_SATURATE : 0) | (take(d, "relu") ? H_RELU : 0) | (take(d, "NaN") ? H_NAN : 0) |
		    (take(d, "ftz") ? H_FLUSH : 0);
	take(d, "approx");
	take(d, "rn");
	Type t = take_type(d);
	bool pairs = t == TYPE_S16X2 || t == TYPE_U16X2;
	if (t != TYPE_F16 && t != TYPE_BF16 && t != TYPE_F16X2 && t != TYPE_BF16X2 && !pairs)
		return;
	if (pairs && op != H_ADD && op != H_MIN && op != H_MAX)
		return;
	in->type = (u8)t;
	in->size = (u8)op;
	in->count = (u8)operands;
	in->variant = (u8)flags;
	expect_operands(d, operands + 1, operands + 1);
	destination(d, in, 0, t);
	for (u32 k = 1; k <= operands; k++)
		source(d, in, k, t);
	in->run = pairs ? run_pairs : run_half;
}

#define DECODE(name, op, operands)                          \
	static void decode_##name(Decoder *d, Inst *in)     \
	{                                                   \
		decode(d, in, op, operands);                \
	}
DECODE(add, H_ADD, 2)
DECODE(sub, H_SUB, 2)
DECODE(mul, H_MUL, 2)
DECODE(fma, H_FMA, 3)
DECODE(min, H_MIN, 2)
DECODE(max, H_MAX, 2)
DECODE(neg, H_NEG, 1)
DECODE(abs, H_ABS, 1)
DECODE(ex2, H_EX2, 1)
DECODE(tanh, H_TANH, 1)

const Family family_half[] = {
	{ "add", decode_add }, { "sub", decode_sub }, { "mul", decode_mul }, { "fma", decode_fma },   { "min", decode_min },
	{ "max", decode_max }, { "neg", decode_neg }, { "abs", decode_abs }, { "ex2", decode_ex2 }, { "tanh", decode_tanh },
	{ NULL, NULL },
};
