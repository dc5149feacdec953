/* formats.h: narrow floating-point formats by their definition. */
#ifndef STANDIN_FORMATS_H
#define STANDIN_FORMATS_H
#include "exec.h"

typedef struct Format {
	int exponent_bits, fraction_bits;
	f64 largest;
	u32 infinity, nan; /* bits without a sign */
} Format;

extern const Format format_f16, format_bf16, format_tf32, format_e4m3, format_e5m2;
u32 format_encode(const Format *f, f64 v, Rounding round, bool saturate);
f64 format_decode(const Format *f, u32 bits);
#endif
