/* Units of support/float8.h and of dtype_round: against the definition of the formats in the OCP specification, and of
 * rounding: the nearer neighbour, the even one of two, the largest for what is beyond it. */
#include "ir/type.h"
#include "support/float8.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <cmocka.h>

typedef struct Format {
	DType dtype;
	int exponent, fraction, bias;
	u32 largest, infinity; /* as bits; infinity 0: there is none */
	f64 largest_value;
	f32 (*widen)(u8 x);
	u8 (*narrow)(f32 x);
} Format;

/* Table 1 of the specification: bias 7 and 15, largest S.1111.110 = 448 and S.11110.11 = 57344. */
static const Format formats[] = {
	{ DT_f8e4m3, 4, 3, 7, 0x7E, 0, 448, f32_from_f8e4m3, f8e4m3_from_f32 },
	{ DT_f8e5m2, 5, 2, 15, 0x7B, 0x7C, 57344, f32_from_f8e5m2, f8e5m2_from_f32 },
};

/* Of a finite one without its sign. */
static f64 value_of(const Format *f, u32 x)
{
	int exponent = (int)(x >> f->fraction), one = 1 << f->fraction, fraction = (int)x & (one - 1);
	return exponent ? ldexp(one + fraction, exponent - f->bias - f->fraction) : ldexp(fraction, 1 - f->bias - f->fraction);
}

static u32 nearest(const Format *f, f64 x)
{
	u32 low = 0;
	while (low < f->largest && value_of(f, low + 1) <= x)
		low++;
	if (low == f->largest)
		return low;
	f64 below = x - value_of(f, low), above = value_of(f, low + 1) - x;
	return below < above || (below == above && !(low & 1)) ? low : low + 1;
}

static void check(const Format *f, f32 x)
{
	u8 got = f->narrow(x);
	if (isnan(x)) {
		assert_int_equal(got, 0x7F);
		assert_true(isnan(dtype_round(f->dtype, (f64)x)));
		return;
	}
	u32 want = nearest(f, fabs((f64)x));
	if (got != (want | (signbit(x) ? 0x80 : 0)))
		fail_msg("%s of %a is %02x, not %02x", dtype_info[f->dtype].name, (f64)x, got, want);
	assert_true(dtype_round(f->dtype, (f64)x) == copysign(value_of(f, want), (f64)x));
}

static void every_value_widens_exactly(void **state)
{
	(void)state;
	for (const Format *f = formats; f < formats + COUNT(formats); f++) {
		assert_true(value_of(f, f->largest) == f->largest_value && dtype_info[f->dtype].largest == f->largest_value);
		for (u32 i = 0; i < 256; i++) {
			u32 size = i & 0x7F;
			f32 x = f->widen((u8)i);
			if (size <= f->largest) {
				assert_true((f64)x == copysign(value_of(f, size), i >> 7 ? -1.0 : 1.0));
				assert_int_equal(signbit(x) != 0, i >> 7);
				assert_int_equal(f->narrow(x), i);
				/* as a product reads it */
				assert_true(f32_from_bf16(bf16_from_f32(x)) == x && f32_from_f16(f16_from_f32(x)) == x);
			} else if (f->infinity && size == f->infinity) {
				assert_true(isinf(x) && (signbit(x) != 0) == i >> 7);
				assert_int_equal(f->narrow(x), (i & 0x80) | f->largest);
			} else {
				assert_true(isnan(x));
				assert_int_equal(f->narrow(x), 0x7F);
			}
		}
	}
}

static void it_rounds_to_the_nearest_and_saturates(void **state)
{
	(void)state;
	u64 seed = 1;
	for (const Format *f = formats; f < formats + COUNT(formats); f++) {
		for (u32 i = 0; i < 200000; i++) {
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			check(f, f32_from_bits((u32)(seed >> 32)));
		}
		/* all around each value and each midpoint between two, and beyond the largest */
		for (u32 i = 0; i < 2 * f->largest + 8; i++) {
			f64 low = value_of(f, i / 2), high = value_of(f, i / 2 + 1);
			f32 x = (f32)(i % 2 ? (low + high) / 2 : low);
			for (u32 d = 0; d < 3; d++) {
				f32 y = f32_from_bits(f32_bits(x) + d - (x > 0));
				check(f, y);
				check(f, -y);
			}
		}
		check(f, INFINITY);
		check(f, -INFINITY);
		check(f, FLT_MAX);
		check(f, f32_from_bits(1));
	}
}

/* What ml_dtypes 0.6.0 makes of some: numpy.float32(x).astype(ml_dtypes.float8_e4m3fn), of float8_e5m2. */
static void it_is_what_others_make_of_it(void **state)
{
	(void)state;
	static const struct {
		f32 x;
		u8 e4m3, e5m2;
	} known[] = {
		{ 0x0.0p+0f, 0x00, 0x00 }, { -0x0.0p+0f, 0x80, 0x80 }, { 0x1.000000p+0f, 0x38, 0x3C }, { -0x1.000000p+0f, 0xB8, 0xBC },
		{ 0x1.99999ap-4f, 0x1D, 0x2E }, { -0x1.333334p-2f, 0xAA, 0xB5 }, { 0x1.921fa0p+1f, 0x45, 0x42 }, { 0x1.100000p+4f, 0x58, 0x4C },
		{ 0x1.300000p+4f, 0x5A, 0x4D }, { 0x1.bfe666p+8f, 0x7E, 0x5F }, { 0x1.c00000p+8f, 0x7E, 0x5F }, { 0x1.cf0000p+8f, 0x7E, 0x5F },
		{ 0x1.000000p-9f, 0x01, 0x18 }, { 0x1.000000p-10f, 0x00, 0x14 }, { 0x1.800000p-10f, 0x01, 0x16 }, { 0x1.000000p-6f, 0x08, 0x24 },
		{ 0x1.a9fbe8p-7f, 0x07, 0x23 }, { 0x1.0624dep-10f, 0x01, 0x14 }, { 0x1.a36e2ep-14f, 0x00, 0x07 }, { 0x1.000000p-16f, 0x00, 0x01 },
		{ 0x1.000000p-17f, 0x00, 0x00 }, { 0x1.b43526p-17f, 0x00, 0x01 }, { -0x1.800000p-1f, 0xB4, 0xBA }, { -0x1.8ae148p+3f, 0xD4, 0xCA },
		{ 0x1.2c0000p+8f, 0x79, 0x5D },
	};
	for (u32 i = 0; i < COUNT(known); i++) {
		assert_int_equal(f8e4m3_from_f32(known[i].x), known[i].e4m3);
		assert_int_equal(f8e5m2_from_f32(known[i].x), known[i].e5m2);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_value_widens_exactly),
		cmocka_unit_test(it_rounds_to_the_nearest_and_saturates),
		cmocka_unit_test(it_is_what_others_make_of_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
