/* support/float8.h: the two 8-bit floats of the Open Compute Project's OFP8 specification (Micikevicius et al. 2022, FP8
 * Formats for Deep Learning) as bits: f8e4m3, four bits of exponent and three of fraction, up to 448, without infinities;
 * f8e5m2, the upper half of an f16, up to 57344, with them. Widening is exact (every value is one of f16 and of bf16 too).
 * Narrowing rounds to nearest, ties to even, keeps subnormals, and saturates, as GPUs' conversions do (cvt.satfinite): what
 * is larger than the largest becomes the largest, infinity too. A NaN becomes the one NaN 0x7F. */
#ifndef PL_FLOAT8_H
#define PL_FLOAT8_H
#include "support/half.h"

static inline f32 f32_from_f8e5m2(u8 x)
{
	return f32_from_f16((u16)(x << 8));
}

/* Its bits moved to where those of an f16 are, with an exponent that is 8 too small. */
static inline f32 f32_from_f8e4m3(u8 x)
{
	u16 moved = (u16)((x & 0x80) << 8 | (x & 0x7F) << 7);
	return (x & 0x7F) == 0x7F ? f32_from_bits(0x7FC00000 | (u32)(x & 0x80) << 24) : f32_from_f16(moved) * 256;
}

/* `fraction` bits; the smallest normal is 2^least; `largest` as bits. */
static inline u8 f8_from_f32(f32 x, u32 fraction, i32 least, u32 largest)
{
	u32 b = f32_bits(x), sign = b >> 24 & 0x80, size = b & 0x7FFFFFFF, below = 23 - fraction;
	if (size > 0x7F800000)
		return 0x7F;
	if (size < (u32)(127 + least) << 23) {
		/* the sum's last place is the subnormals': the adder rounds */
		f32 place = f32_from_bits((u32)(127 + least + (i32)below) << 23);
		return (u8)(sign | (f32_bits(f32_from_bits(size) + place) - f32_bits(place)));
	}
	u32 rounded = size + (1u << (below - 1)) - 1 + (size >> below & 1);
	rounded = (rounded - ((u32)(127 + least - 1) << 23)) >> below;
	return (u8)(sign | (rounded < largest ? rounded : largest));
}

static inline u8 f8e4m3_from_f32(f32 x)
{
	return f8_from_f32(x, 3, -6, 0x7E);
}

static inline u8 f8e5m2_from_f32(f32 x)
{
	return f8_from_f32(x, 2, -14, 0x7B);
}

#endif
