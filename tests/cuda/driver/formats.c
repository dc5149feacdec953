/* formats.c: rounding of a number to a floating-point format of few bits, by the formats' definition
 * (IEEE 754 binary16, bfloat16, tf32, and OCP's e4m3 and e5m2). */
#include "formats.h"
#include <math.h>

/* `v` to the nearest number of `precision` bits (the leading one included) that is a multiple of
 * 2^(least - precision + 1), where 2^least is the smallest normal number. */
static f64 to_precision(f64 v, int precision, int least, Rounding round)
{
	if (v == 0 || !isfinite(v))
		return v;
	int exponent = ilogb(v);
	f64 unit = ldexp(1, MAX(exponent, least) - precision + 1);
	f64 q = v / unit; /* exact: a power of two, and the result is of moderate size */
	f64 whole = trunc(q), rest = fabs(q - whole), away = copysign(1, v);
	switch (round) {
	case ROUND_NEAREST:
		if (rest > 0.5 || (rest == 0.5 && fmod(whole, 2) != 0))
			whole += away;
		break;
	case ROUND_AWAY:
		if (rest >= 0.5)
			whole += away;
		break;
	case ROUND_DOWN:
		if (rest > 0 && v < 0)
			whole += away;
		break;
	case ROUND_UP:
		if (rest > 0 && v > 0)
			whole += away;
		break;
	case ROUND_ZERO:
		break;
	}
	return copysign(whole * unit, v);
}

u32 format_encode(const Format *f, f64 v, Rounding round, bool saturate)
{
	u32 sign = signbit(v) ? 1u << (f->exponent_bits + f->fraction_bits) : 0;
	int bias = (1 << (f->exponent_bits - 1)) - 1;
	if (isnan(v))
		return f->nan;
	f64 r = fabs(to_precision(v, f->fraction_bits + 1, 1 - bias, round));
	if (r > f->largest) {
		bool away = round == ROUND_NEAREST || round == ROUND_AWAY || (round == ROUND_UP) == !sign;
		if (round == ROUND_ZERO || (round == ROUND_DOWN && !sign) || (round == ROUND_UP && sign))
			away = isinf(v) != 0;
		if (saturate || !away)
			r = f->largest;
		else
			return sign | f->infinity;
	}
	if (r == 0)
		return sign;
	int exponent = ilogb(r);
	if (exponent < 1 - bias)
		return sign | (u32)ldexp(r, bias - 1 + f->fraction_bits);
	u32 fraction = (u32)ldexp(r, f->fraction_bits - exponent) & ((1u << f->fraction_bits) - 1);
	return sign | (u32)(exponent + bias) << f->fraction_bits | fraction;
}

f64 format_decode(const Format *f, u32 bits)
{
	int bias = (1 << (f->exponent_bits - 1)) - 1;
	u32 magnitude = bits & ((1u << (f->exponent_bits + f->fraction_bits)) - 1);
	f64 sign = bits >> (f->exponent_bits + f->fraction_bits) & 1 ? -1 : 1;
	if (magnitude == f->infinity && f->infinity != f->nan)
		return sign * (f64)INFINITY;
	u32 exponent = magnitude >> f->fraction_bits, fraction = magnitude & ((1u << f->fraction_bits) - 1);
	f64 r = exponent ? ldexp(1 + ldexp(fraction, -f->fraction_bits), (int)exponent - bias)
			 : ldexp(fraction, 1 - bias - f->fraction_bits);
	return r > f->largest ? (f64)NAN : sign * r;
}

/* infinity == nan: the format has no infinity. */
const Format format_f16 = { 5, 10, 65504, 0x7c00, 0x7fff };
const Format format_bf16 = { 8, 7, 0x1.fep127, 0x7f80, 0x7fff };
const Format format_tf32 = { 8, 10, 0x1.ffcp127, 0xff << 10, 0x3ffff };
const Format format_e4m3 = { 4, 3, 448, 0x7f, 0x7f };
const Format format_e5m2 = { 5, 2, 57344, 0x7c, 0x7f };

u16 f16_of_f64(f64 v, Rounding round)
{
	return (u16)format_encode(&format_f16, v, round, false);
}

u16 bf16_of_f64(f64 v, Rounding round)
{
	return (u16)format_encode(&format_bf16, v, round, false);
}
