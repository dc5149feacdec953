/* Units of support/half.h: against the compiler's own _Float16 for f16, and against the definition of
 * rounding (the nearer neighbour, the even one of two) for bf16. */
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

static void same_float(f32 want, f32 got)
{
	if (isnan(want))
		assert_true(isnan(got));
	else
		assert_int_equal(f32_bits(want), f32_bits(got));
}

static void every_f16_widens_as_the_compiler_says(void **state)
{
	(void)state;
	for (u32 h = 0; h < 0x10000; h++) {
		u16 bits = (u16)h;
		_Float16 x;
		memcpy(&x, &bits, sizeof x);
		same_float((f32)x, f32_from_f16(bits));
		if (!isnan((f32)x))
			assert_int_equal(f16_from_f32((f32)x), bits);
	}
}

static void check_f16(f32 x)
{
	_Float16 want = (_Float16)x;
	u16 bits;
	memcpy(&bits, &want, sizeof bits);
	if (isnan(x))
		assert_true(isnan(f32_from_f16(f16_from_f32(x))));
	else
		assert_int_equal(bits, f16_from_f32(x));
}

static void f16_rounds_as_the_compiler_does(void **state)
{
	(void)state;
	u64 seed = 1;
	for (u32 i = 0; i < 1000000; i++)
		check_f16(f32_from_bits(next_bits(&seed)));
	/* all around each value and each midpoint between two */
	for (u32 h = 0; h < 0x7C00; h++) {
		f32 low = f32_from_f16((u16)h), high = f32_from_f16((u16)(h + 1));
		f32 middle = isinf(high) ? 65520.0f : (low + high) / 2;
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
		cmocka_unit_test(every_f16_widens_as_the_compiler_says),
		cmocka_unit_test(f16_rounds_as_the_compiler_does),
		cmocka_unit_test(bf16_rounds_to_the_nearest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
