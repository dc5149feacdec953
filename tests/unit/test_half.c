/* Units of support/half.h: against the definition of the formats, and of rounding: the nearer
 * neighbour, the even one of two. */
#include "support/half.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <cmocka.h>

static u32 next_bits(u64 *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (u32)(*state >> 32);
}

/* The value of an f16 that is no NaN, by the definition of the format; infinity as 2^16, where the
 * value after the largest would be. */
static f64 value_of_f16(u16 h)
{
	int exponent = h >> 10 & 0x1F, mantissa = h & 0x3FF;
	f64 x = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
	return h & 0x8000 ? -x : x;
}

/* The nearer of the two f16 around a positive x, the even one of two equally near. */
static u16 nearest_f16(f64 x)
{
	u16 low = 0, high = 0x7C00;
	if (x >= value_of_f16(high))
		return high;
	while (high - low > 1) {
		u16 middle = (u16)((low + high) / 2);
		if (value_of_f16(middle) <= x)
			low = middle;
		else
			high = middle;
	}
	f64 a = x - value_of_f16(low), b = value_of_f16(high) - x;
	return a < b || (a == b && !(low & 1)) ? low : high;
}

static void every_f16_widens_exactly(void **state)
{
	(void)state;
	for (u32 h = 0; h < 0x10000; h++) {
		f32 x = f32_from_f16((u16)h);
		if ((h & 0x7FFF) > 0x7C00) {
			assert_true(isnan(x));
			continue;
		}
		if ((h & 0x7FFF) == 0x7C00)
			assert_true(isinf(x));
		else
			assert_true((f64)x == value_of_f16((u16)h));
		assert_int_equal(signbit(x) != 0, h >> 15);
		assert_int_equal(f16_from_f32(x), h);
	}
}

static void check_f16(f32 x)
{
	if (isnan(x))
		assert_true(isnan(f32_from_f16(f16_from_f32(x))));
	else
		assert_int_equal(f16_from_f32(x),
				 nearest_f16(fabs((f64)x)) | (signbit(x) ? 0x8000 : 0));
}

static void f16_rounds_to_the_nearest(void **state)
{
	(void)state;
	u64 seed = 1;
	for (u32 i = 0; i < 1000000; i++)
		check_f16(f32_from_bits(next_bits(&seed)));
	/* all around each midpoint between two */
	for (u32 h = 0; h < 0x7C00; h++) {
		f32 middle = (f32)((value_of_f16((u16)h) + value_of_f16((u16)(h + 1))) / 2);
		for (i32 d = -1; d <= 1; d++) {
			check_f16(f32_from_bits(f32_bits(middle) + (u32)d));
			check_f16(-f32_from_bits(f32_bits(middle) + (u32)d));
		}
	}
}

/* bf16 by its definition: the nearer of the two neighbours, the even one of two equally near. */
static u16 nearest_bf16(f32 x)
{
	u16 low = (u16)(f32_bits(x) >> 16), high = (u16)(low + 1); /* towards zero, and away */
	f64 beyond = isinf(f32_from_bf16(high)) ? copysign(0x1p128, (f64)x) : (f64)f32_from_bf16(high);
	f64 a = fabs((f64)x - (f64)f32_from_bf16(low)), b = fabs(beyond - (f64)x);
	return a < b || (a == b && !(low & 1)) ? low : high;
}

static void bf16_rounds_to_the_nearest(void **state)
{
	(void)state;
	u64 seed = 2;
	for (u32 i = 0; i < 2000000; i++) {
		u32 bits = next_bits(&seed);
		if (i % 4 == 0)
			bits = (bits & 0xFFFF0000) | 0x8000; /* a midpoint */
		f32 x = f32_from_bits(bits);
		if (isnan(x))
			assert_true(isnan(f32_from_bf16(bf16_from_f32(x))));
		else if (isinf(x))
			assert_int_equal(bf16_from_f32(x), bits >> 16);
		else
			assert_int_equal(bf16_from_f32(x), nearest_bf16(x));
	}
	assert_true(isnan(f32_from_bf16(bf16_from_f32(f32_from_bits(0x7F800001)))));
	assert_int_equal(bf16_from_f32(0x1.ffp127f), 0x7F80);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_f16_widens_exactly),
		cmocka_unit_test(f16_rounds_to_the_nearest),
		cmocka_unit_test(bf16_rounds_to_the_nearest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
