/* support/half.h: the two 16-bit floats as bits: f16 (IEEE 754 binary16) and bf16 (the upper half of
 * an f32). Widening is exact; narrowing rounds to nearest, ties to even, overflows to infinity, keeps
 * subnormals, and keeps a NaN a NaN (quiet, with the upper bits of its payload). */
#ifndef PL_HALF_H
#define PL_HALF_H
#include "support/base.h"
#include <string.h>

static inline u32 f32_bits(f32 x)
{
	u32 bits;
	memcpy(&bits, &x, sizeof bits);
	return bits;
}

static inline f32 f32_from_bits(u32 bits)
{
	f32 x;
	memcpy(&x, &bits, sizeof x);
	return x;
}

static inline f32 f32_from_bf16(u16 h)
{
	return f32_from_bits((u32)h << 16);
}

static inline u16 bf16_from_f32(f32 x)
{
	u32 b = f32_bits(x);
	if ((b & 0x7FFFFFFF) > 0x7F800000)
		return (u16)(b >> 16 | 0x40);
	return (u16)((b + 0x7FFF + (b >> 16 & 1)) >> 16);
}

static inline f32 f32_from_f16(u16 h)
{
	u32 sign = (u32)(h & 0x8000) << 16, exponent = h >> 10 & 0x1F, mantissa = h & 0x3FF;
	if (exponent == 0x1F)
		return f32_from_bits(sign | 0x7F800000 | mantissa << 13 | (mantissa ? 0x400000 : 0));
	if (exponent)
		return f32_from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
	f32 magnitude = (f32)mantissa * 0x1p-24f; /* zero or subnormal: exact in f32 */
	return sign ? -magnitude : magnitude;
}

static inline u16 f16_from_f32(f32 x)
{
	u32 b = f32_bits(x), sign = b >> 16 & 0x8000, magnitude = b & 0x7FFFFFFF;
	if (magnitude > 0x7F800000)
		return (u16)(sign | 0x7E00 | (magnitude >> 13 & 0x3FF));
	if (magnitude >= 0x477FF000) /* from 65520 on: halfway to 2^16, rounded to even */
		return (u16)(sign | 0x7C00);
	if (magnitude >= 0x38800000) /* normal: 2^-14 and up */
		return (u16)(sign | ((magnitude - 0x38000000 + 0xFFF + (magnitude >> 13 & 1)) >> 13));
	if (magnitude < 0x33000000) /* below 2^-25: rounds to zero */
		return (u16)sign;
	/* subnormal: the significand shifted to units of 2^-24 */
	u32 shift = 126 - (magnitude >> 23), significand = (magnitude & 0x7FFFFF) | 0x800000;
	u32 half = 1u << (shift - 1), kept = significand >> shift, rest = significand & (2 * half - 1);
	return (u16)(sign | (kept + (rest > half || (rest == half && (kept & 1)))));
}

#endif
