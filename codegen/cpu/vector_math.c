/* codegen/cpu/vector_math.c: functions of vectors; see vector.h.
 *
 * f32: the argument is reduced exactly, or with what was lost kept, to an interval where a short
 * polynomial will do, and the result is put together without cancellation; special values come out
 * of the arithmetic where they can and of a selection where not. Reduction is that of Cody and
 * Waite (Software Manual for the Elementary Functions, 1980), for large angles of Payne and Hanek
 * (Radian reduction for trigonometric functions, 1983); in general Muller, Elementary Functions,
 * 3rd ed., 2016. The coefficients were fitted for this file with Sollya's fpminimax, to f32 (f64)
 * numbers; the comment gives the relative error of the polynomial alone.
 *
 * sin, cos and pow reduce in f64, which costs two instructions for one and saves many.
 * f64: libm's functions, a lane at a time. */
#include "codegen/cpu/vector.h"

#include <math.h>

#define B s->m->builder

typedef LLVMValueRef Value;

static bool is_f64(const Simd *s, Value x)
{
	LLVMTypeRef type = LLVMTypeOf(x);
	return type == s->m->f64 || (LLVMGetTypeKind(type) == LLVMVectorTypeKind &&
				     LLVMGetElementType(type) == s->m->f64);
}

static Value intrinsic(const Simd *s, const char *name, Value x)
{
	LLVMTypeRef type = LLVMTypeOf(x);
	return cpu_intrinsic(s->m, name, 1, &type, 1, &x);
}

/* libm's function of f64, lane by lane; y may be NULL. */
static Value libm(const Simd *s, const char *name, Value x, Value y)
{
	Value all = LLVMGetPoison(LLVMTypeOf(x));
	for (u32 i = 0; i < s->lanes; i++) {
		Value argument[2] = { simd_lane(s, x, i) };
		if (y)
			argument[1] = simd_lane(s, y, i);
		Value one = cpu_call_host(s->m, name, s->m->f64, y ? 2 : 1, argument);
		if (s->lanes == 1)
			return one;
		all = LLVMBuildInsertElement(B, all, one, cpu_i32(s->m, i), "");
	}
	return all;
}

/* ((c[0] x + c[1]) x + ...) + c[n-1]; the coefficients of highest degree first. */
static Value polynomial(const Simd *s, Value x, const f32 *c, u32 n)
{
	Value y = simd_f32(s, c[0]);
	for (u32 i = 1; i < n; i++)
		y = simd_multiply_add(s, y, x, simd_f32(s, c[i]));
	return y;
}

static Value polynomial64(const Simd *s, Value x, const f64 *c, u32 n)
{
	Value y = simd_constant(s, DT_f64, c[0]);
	for (u32 i = 1; i < n; i++)
		y = simd_multiply_add(s, y, x, simd_constant(s, DT_f64, c[i]));
	return y;
}
#define POLYNOMIAL(s, x, ...)                                                                      \
	polynomial((s), (x), (const f32[]){ __VA_ARGS__ }, COUNT(((const f32[]){ __VA_ARGS__ })))
#define POLYNOMIAL64(s, x, ...)                                                                    \
	polynomial64((s), (x), (const f64[]){ __VA_ARGS__ }, COUNT(((const f64[]){ __VA_ARGS__ })))

/* Clamped to [low, high]; a NaN stays. */
static Value clamp(const Simd *s, Value x, f32 low, f32 high)
{
	return simd_max_fast(s, simd_f32(s, low), simd_min_fast(s, simd_f32(s, high), x));
}

static Value abs32(const Simd *s, Value x)
{
	return simd_abs(s, DT_f32, x);
}

/* x with its sign changed where that of `sign` is set. */
static Value flip_sign(const Simd *s, Value x, Value sign)
{
	Value bit = simd_and(s, simd_bits(s, DT_i32, sign), simd_i32(s, 0x80000000));
	return simd_bits(s, DT_f32, simd_xor(s, simd_bits(s, DT_i32, x), bit));
}

/* ---- without polynomials ---- */

Value simd_sqrt(const Simd *s, Value x)
{
	return intrinsic(s, "llvm.sqrt", x);
}

Value simd_recip(const Simd *s, Value x)
{
	return LLVMBuildFDiv(B, simd_constant(s, is_f64(s, x) ? DT_f64 : DT_f32, 1), x, "");
}

Value simd_rsqrt(const Simd *s, Value x)
{
	return simd_recip(s, simd_sqrt(s, x));
}

Value simd_floor(const Simd *s, Value x)
{
	return intrinsic(s, "llvm.floor", x);
}

Value simd_ceil(const Simd *s, Value x)
{
	return intrinsic(s, "llvm.ceil", x);
}

Value simd_trunc(const Simd *s, Value x)
{
	return intrinsic(s, "llvm.trunc", x);
}

Value simd_round(const Simd *s, Value x)
{
	return intrinsic(s, "llvm.roundeven", x);
}

/* ---- exponentials ---- */

/* Rounds to the nearest integer by a sum whose last place is 1, which also leaves the integer in
 * the lowest bits: no conversion, and nothing undefined for NaN. Good for |x * scale| < 2^22. */
static Value nearest(const Simd *s, Value x, f32 scale, Value *as_i32)
{
	const f32 magic = 0x1.8p23f;
	Value sum = simd_multiply_add(s, x, simd_f32(s, scale), simd_f32(s, magic));
	*as_i32 = simd_sub(s, simd_bits(s, DT_i32, sum), simd_i32(s, 0x4b400000));
	return simd_sub(s, sum, simd_f32(s, magic));
}

/* 2^n, -126 <= n <= 127. */
static Value power_of_two(const Simd *s, Value n)
{
	n = simd_add(s, n, simd_i32(s, 127));
	return simd_bits(s, DT_f32, LLVMBuildShl(B, n, simd_i32(s, 23), ""));
}

/* x * 2^n, -252 <= n <= 254, rounded once when x is near 1: the first product is exact. */
static Value scale_by(const Simd *s, Value x, Value n)
{
	Value half = LLVMBuildAShr(B, n, simd_i32(s, 1), "");
	x = simd_mul(s, x, power_of_two(s, half));
	return simd_mul(s, x, power_of_two(s, simd_sub(s, n, half)));
}

/* x = n ln 2 + r, |r| <= 0.3475: gives e^r - 1. */
static Value reduced_expm1(const Simd *s, Value x, Value *n)
{
	Value k = simd_neg(s, nearest(s, x, 0x1.715476p0f, n));
	/* ln 2 in two parts, the first short enough for k times it to be exact */
	Value r = simd_multiply_add(s, k, simd_f32(s, 0x1.63p-1f), x);
	r = simd_multiply_add(s, k, simd_f32(s, -0x1.bd0106p-13f), r);
	/* (e^r - 1 - r) / r^2, 2^-30 */
	Value p = POLYNOMIAL(s, r, 0x1.a26768p-13f, 0x1.6d30cep-10f, 0x1.110ff2p-7f, 0x1.5555p-5f,
			     0x1.555556p-3f, 0x1p-1f);
	return simd_multiply_add(s, simd_mul(s, r, r), p, r);
}

Value simd_exp(const Simd *s, Value x)
{
	if (is_f64(s, x))
		return libm(s, "exp", x, NULL);
	Value n, one = simd_f32(s, 1);
	Value y = reduced_expm1(s, clamp(s, x, -104, 89), &n);
	return scale_by(s, simd_add(s, y, one), n);
}

Value simd_exp_normal(const Simd *s, Value x)
{
	if (is_f64(s, x))
		return simd_exp(s, x);
	Value n, y = reduced_expm1(s, x, &n);
	return simd_mul(s, simd_add(s, y, simd_f32(s, 1)), power_of_two(s, n));
}

Value simd_exp2(const Simd *s, Value x)
{
	if (is_f64(s, x))
		return libm(s, "exp2", x, NULL);
	Value n;
	x = clamp(s, x, -151, 129);
	Value f = simd_sub(s, x, nearest(s, x, 1, &n));
	/* (2^f - 1) / f, 2^-27.6 */
	Value p = POLYNOMIAL(s, f, 0x1.427918p-13f, 0x1.5ef4a2p-10f, 0x1.3b2c58p-7f, 0x1.c6af9ep-5f,
			     0x1.ebfbdep-3f, 0x1.62e43p-1f);
	return scale_by(s, simd_multiply_add(s, f, p, simd_f32(s, 1)), n);
}

Value simd_expm1(const Simd *s, Value x)
{
	if (is_f64(s, x))
		return libm(s, "expm1", x, NULL);
	Value n, y = reduced_expm1(s, clamp(s, x, -20, 89), &n);
	/* 2^n (e^r - 1) + 2^n - 1, by halves since 2^128 is not a number */
	Value half = power_of_two(s, simd_sub(s, n, simd_i32(s, 1)));
	y = simd_multiply_add(s, y, half, simd_sub(s, half, simd_f32(s, 0.5f)));
	y = simd_add(s, y, y);
	return simd_select(s, simd_lt(s, DT_f32, abs32(s, x), simd_f32(s, 0x1p-24f)), x, y);
}

/* |x| < 0.55: x + x^3 P(x^2); above: 1 - 2 / (e^2|x| + 1) and the sign of x, 1 from 9.01 on. */
Value simd_tanh(const Simd *s, Value x)
{
	if (is_f64(s, x))
		return libm(s, "tanh", x, NULL);
	Value one = simd_f32(s, 1), size = abs32(s, x), z = simd_mul(s, size, size);
	/* (tanh x / x - 1) / x^2 on [0, 0.55], 2^-28 */
	Value p = POLYNOMIAL(s, z, -0x1.afceb8p-8f, 0x1.5ce4a2p-6f, -0x1.b9993cp-5f, 0x1.110fc4p-3f,
			     -0x1.555554p-2f);
	Value small = simd_multiply_add(s, simd_mul(s, z, p), size, size);
	Value n, a = simd_min_fast(s, simd_f32(s, 10), size);
	Value e = reduced_expm1(s, simd_add(s, a, a), &n), scale = power_of_two(s, n);
	e = simd_multiply_add(s, e, scale, simd_add(s, scale, one));
	Value large = simd_sub(s, one, LLVMBuildFDiv(B, simd_f32(s, 2), e, ""));
	Value is_small = simd_lt(s, DT_f32, size, simd_f32(s, 0.55f));
	return flip_sign(s, simd_select(s, is_small, small, large), x);
}

/* 1 / (1 + e^-x) from e = e^-|x|, which does not overflow, and keeps its accuracy for x << 0. What
 * the sum lost is put back, to first order. */
Value simd_sigmoid(const Simd *s, Value x)
{
	if (is_f64(s, x)) {
		Value e = libm(s, "exp", simd_neg(s, x), NULL);
		return simd_recip(s, simd_add(s, e, simd_constant(s, DT_f64, 1)));
	}
	Value one = simd_f32(s, 1), e = simd_exp(s, simd_neg(s, abs32(s, x)));
	Value above = simd_select(s, simd_lt(s, DT_f32, x, simd_f32(s, 0)), e, one);
	Value sum = simd_add(s, e, one), lost = simd_sub(s, simd_sub(s, sum, one), e);
	Value y = LLVMBuildFDiv(B, above, sum, "");
	return simd_multiply_add(s, y, lost, y);
}

/* ---- logarithms ---- */

/* x = 2^k (1 + f), sqrt(1/2) <= 1 + f < sqrt 2, for normal x > 0; k as f32. */
static Value split(const Simd *s, Value x, Value *k)
{
	Value root = simd_i32(s, 0x3f3504f3);
	Value i = simd_sub(s, simd_bits(s, DT_i32, x), root);
	*k = LLVMBuildAShr(B, i, simd_i32(s, 23), "");
	Value m = simd_add(s, simd_and(s, i, simd_i32(s, 0x7fffff)), root);
	return simd_sub(s, simd_bits(s, DT_f32, m), simd_f32(s, 1));
}

/* The same for denormals too. */
static Value split_any(const Simd *s, Value x, Value *k)
{
	Value small = simd_lt(s, DT_f32, x, simd_f32(s, 0x1p-126f));
	x = simd_select(s, small, simd_mul(s, x, simd_f32(s, 0x1p23f)), x);
	Value f = split(s, x, k);
	*k = simd_sub(s, *k, simd_select(s, small, simd_i32(s, 23), simd_i32(s, 0)));
	return f;
}

/* log(1 + f) - f */
static Value reduced_log(const Simd *s, Value f)
{
	/* (log(1 + f) - f + f^2 / 2) / f^3, 2^-28 */
	Value p = POLYNOMIAL(s, f, 0x1.20456cp-4f, -0x1.d778e8p-4f, 0x1.de32ecp-4f, -0x1.fcbfeap-4f,
			     0x1.23d54ep-3f, -0x1.555c8cp-3f, 0x1.999d44p-3f, -0x1.fffff8p-3f,
			     0x1.555554p-2f);
	Value square = simd_mul(s, f, f);
	p = simd_multiply_add(s, f, p, simd_f32(s, -0.5f));
	return simd_mul(s, square, p);
}

/* k ln 2 + log(1 + f) */
static Value log_of_parts(const Simd *s, Value k, Value f)
{
	k = LLVMBuildSIToFP(B, k, simd_type(s, DT_f32), "");
	Value low = simd_multiply_add(s, k, simd_f32(s, -0x1.bd0106p-13f), reduced_log(s, f));
	return simd_multiply_add(s, k, simd_f32(s, 0x1.63p-1f), simd_add(s, f, low));
}

/* A logarithm's y where x > 0 is finite, and what it is elsewhere: -inf at `pole`, +inf, NaN. */
static Value log_special(const Simd *s, Value x, Value y, f32 pole)
{
	Value end = simd_f32(s, pole), infinite = simd_f32(s, INFINITY);
	y = simd_select(s, simd_lt(s, DT_f32, x, infinite), y, x); /* +inf, NaN */
	y = simd_select(s, simd_eq(s, x, end), simd_f32(s, -INFINITY), y);
	return simd_select(s, simd_lt(s, DT_f32, x, end), simd_f32(s, NAN), y);
}

Value simd_log(const Simd *s, Value x)
{
	if (is_f64(s, x))
		return libm(s, "log", x, NULL);
	Value k, f = split_any(s, x, &k);
	return log_special(s, x, log_of_parts(s, k, f), 0);
}

Value simd_log2(const Simd *s, Value x)
{
	if (is_f64(s, x))
		return libm(s, "log2", x, NULL);
	Value k, f = split_any(s, x, &k), rest = reduced_log(s, f);
	k = LLVMBuildSIToFP(B, k, simd_type(s, DT_f32), "");
	/* (f + rest) (1 + c) + k with 1 + c = log2(e), small parts first */
	Value c = simd_f32(s, 0x1.715476p0f - 1);
	Value y = simd_multiply_add(s, rest, c, rest);
	y = simd_multiply_add(s, f, c, y);
	y = simd_add(s, simd_add(s, f, y), k);
	return log_special(s, x, y, 0);
}

Value simd_log1p(const Simd *s, Value x)
{
	if (is_f64(s, x))
		return libm(s, "log1p", x, NULL);
	/* u + lost = 1 + x exactly (Knuth's two-sum) */
	Value one = simd_f32(s, 1), k, u = simd_add(s, one, x), v = simd_sub(s, u, one);
	Value lost = simd_add(s, simd_sub(s, one, simd_sub(s, u, v)), simd_sub(s, x, v));
	Value f = split(s, u, &k);
	/* what was lost, to the scale of f; k is at most 127 here, and -k at most 25 */
	f = simd_multiply_add(
		s, lost, power_of_two(s, simd_neg(s, simd_min(s, DT_i32, k, simd_i32(s, 126)))), f);
	Value y = log_special(s, x, log_of_parts(s, k, f), -1);
	return simd_select(s, simd_lt(s, DT_f32, abs32(s, x), simd_f32(s, 0x1p-24f)), x, y);
}

/* ---- the error function ---- */

/* |x| < 1: x + x P(x^2); above: 1 - e^Q(|x|), 1 from 3.92 on. */
Value simd_erf(const Simd *s, Value x)
{
	if (is_f64(s, x))
		return libm(s, "erf", x, NULL);
	/* erf(x) / x - 1 in x^2 on [0, 1], 2^-28 */
	Value p = POLYNOMIAL(s, simd_mul(s, x, x), 0x1.4ebacep-14f, -0x1.a5b0ap-11f, 0x1.543816p-8f,
			     -0x1.b7fdbap-6f, 0x1.ce2d1cp-4f, -0x1.81273ep-2f, 0x1.06eba8p-3f);
	Value small = simd_multiply_add(s, x, p, x);
	/* log(erfc(a)) on [0.95, 4]: erf to 2^-28 */
	Value a = simd_min_fast(s, simd_f32(s, 4), abs32(s, x));
	Value q = POLYNOMIAL(s, a, 0x1.ae4002p-20f, -0x1.7c8348p-15f, 0x1.35bb1p-11f,
			     -0x1.36049cp-8f, 0x1.af7da4p-6f, -0x1.c241d6p-4f, -0x1.4394cap-1f,
			     -0x1.215052p0f, 0x1.349f84p-12f);
	Value n, one = simd_f32(s, 1), e = reduced_expm1(s, q, &n);
	Value scale = power_of_two(s, n);
	Value large = simd_sub(s, one, simd_multiply_add(s, e, scale, scale));
	return simd_select(s, simd_lt(s, DT_f32, abs32(s, x), one), small, flip_sign(s, large, x));
}

/* ---- angles ---- */

/* a = q pi/2 + r for a >= 2^20 by Payne and Hanek: of the bits of 2/pi only those matter that,
 * times a, are worth less than 4 and more than what f64 can hold. a = m 2^e; three words of 2/pi
 * from the bit on that is worth 2^(1-e) are multiplied by m, modulo 2^96, in units of 2^-94. */
static void reduce_large(const Simd *s, Value a, Value *r, Value *q)
{
	static const u32 two_over_pi[] = { 0x00a2f983, 0x6e4e4415, 0x29fc2757, 0xd1f534dd,
					   0xc0db6295, 0x993c4390, 0x41fe5163, 0xabdebbc5 };
	CpuModule *m = s->m;
	Value entry[COUNT(two_over_pi)], bits = simd_bits(s, DT_i32, a);
	for (u32 i = 0; i < COUNT(entry); i++)
		entry[i] = cpu_i32(m, two_over_pi[i]);
	Value table = cpu_table(m, m->i32, entry, COUNT(entry));
	/* the exponent field is e + 150, and the table begins 8 bits before the point. Infinity and
	 * NaN still read inside the table */
	Value at =
		simd_sub(s, LLVMBuildLShr(B, bits, simd_i32(s, 23), ""), simd_i32(s, 150 + 2 - 8));
	at = simd_max(s, DT_i32, at, simd_i32(s, 0));
	Value word = LLVMBuildLShr(B, at, simd_i32(s, 5), ""),
	      shift = simd_and(s, at, simd_i32(s, 31));
	Value w[4];
	for (u32 i = 0; i < 4; i++)
		w[i] = simd_gather(s, DT_u32, table, simd_add(s, word, simd_i32(s, i)), NULL);
	LLVMTypeRef i32 = simd_type(s, DT_i32);
	for (u32 i = 0; i < 3; i++) {
		w[i] = cpu_intrinsic(m, "llvm.fshl", 1, &i32, 3,
				     (Value[]){ w[i], w[i + 1], shift });
		w[i] = LLVMBuildZExt(B, w[i], simd_type(s, DT_i64), "");
	}
	Value mantissa =
		simd_or(s, simd_and(s, bits, simd_i32(s, 0x7fffff)), simd_i32(s, 0x800000));
	mantissa = LLVMBuildZExt(B, mantissa, simd_type(s, DT_i64), "");
	Value product =
		simd_add(s, LLVMBuildShl(B, simd_mul(s, mantissa, w[0]), simd_i64(s, 32), ""),
			 simd_mul(s, mantissa, w[1]));
	product = simd_add(s, product,
			   LLVMBuildLShr(B, simd_mul(s, mantissa, w[2]), simd_i64(s, 32), ""));
	/* now in units of 2^-62, modulo 4: the upper two bits, rounded, are the quarter */
	Value quarter = LLVMBuildLShr(B, simd_add(s, product, simd_i64(s, (i64)1 << 61)),
				      simd_i64(s, 62), "");
	Value rest = simd_sub(s, product, LLVMBuildShl(B, quarter, simd_i64(s, 62), ""));
	rest = LLVMBuildSIToFP(B, rest, simd_type(s, DT_f64), "");
	rest = simd_mul(s, rest, simd_constant(s, DT_f64, 0x1.921fb54442d18p-62));
	*r = LLVMBuildFPTrunc(B, rest, simd_type(s, DT_f32), "");
	*q = LLVMBuildTrunc(B, quarter, i32, "");
}

/* a = q pi/2 + r, |r| <= pi/4, for a >= 0; q modulo 4 in its lowest bits; NaN for infinity. */
static void reduce_angle(const Simd *s, Value a, Value *r, Value *q)
{
	const f64 magic = 0x1.8p52;
	Value x = LLVMBuildFPExt(B, a, simd_type(s, DT_f64), "");
	Value sum = simd_multiply_add(s, x, simd_constant(s, DT_f64, 0x1.45f306dc9c883p-1),
				      simd_constant(s, DT_f64, magic));
	*q = LLVMBuildTrunc(B, simd_bits(s, DT_i64, sum), simd_type(s, DT_i32), "");
	Value k = simd_neg(s, simd_sub(s, sum, simd_constant(s, DT_f64, magic)));
	/* pi/2 in two parts, the first of 33 bits: exact products up to k = 2^20 */
	x = simd_multiply_add(s, k, simd_constant(s, DT_f64, 0x1.921fb544p0), x);
	x = simd_multiply_add(s, k, simd_constant(s, DT_f64, 0x1.0b4611a626331p-34), x);
	*r = LLVMBuildFPTrunc(B, x, simd_type(s, DT_f32), "");

	Value large = simd_not(s, simd_le(s, DT_f32, a, simd_f32(s, 0x1p20f)));
	CpuIf some;
	cpu_if_begin(s->m, &some, simd_any(s, large), 1);
	Value far_r, far_q;
	reduce_large(s, a, &far_r, &far_q);
	far_r = simd_select(s, simd_lt(s, DT_f32, a, simd_f32(s, INFINITY)), far_r,
			    simd_sub(s, a, a));
	far_r = simd_select(s, large, far_r, *r);
	far_q = simd_select(s, large, far_q, *q);
	cpu_if_end(s->m, &some, 2, (Value[]){ far_r, far_q }, (Value[]){ *r, *q });
	*r = some.value[0];
	*q = some.value[1];
}

/* The sine of r + q pi/2. */
static Value sine_of_parts(const Simd *s, Value r, Value q)
{
	Value z = simd_mul(s, r, r);
	/* (sin r / r - 1) / z, 2^-31; (cos r - 1 + z / 2) / z^2, 2^-29.8 */
	Value sine = POLYNOMIAL(s, z, 0x1.87626cp-19f, -0x1.a082eap-13f, 0x1.111198p-7f,
				-0x1.555556p-3f);
	sine = simd_multiply_add(s, simd_mul(s, z, sine), r, r);
	Value cosine = POLYNOMIAL(s, z, 0x1.9bc4f8p-16f, -0x1.6c129ap-10f, 0x1.555554p-5f, -0.5f);
	cosine = simd_multiply_add(s, z, cosine, simd_f32(s, 1));
	Value odd = simd_ne(s, simd_and(s, q, simd_i32(s, 1)), simd_i32(s, 0));
	Value y = simd_select(s, odd, cosine, sine);
	Value sign = LLVMBuildShl(B, simd_and(s, q, simd_i32(s, 2)), simd_i32(s, 30), "");
	return flip_sign(s, y, simd_bits(s, DT_f32, sign));
}

Value simd_sin(const Simd *s, Value x)
{
	if (is_f64(s, x))
		return libm(s, "sin", x, NULL);
	Value r, q;
	reduce_angle(s, abs32(s, x), &r, &q);
	return flip_sign(s, sine_of_parts(s, r, q), x);
}

Value simd_cos(const Simd *s, Value x)
{
	if (is_f64(s, x))
		return libm(s, "cos", x, NULL);
	Value r, q;
	reduce_angle(s, abs32(s, x), &r, &q);
	return sine_of_parts(s, r, simd_add(s, q, simd_i32(s, 1)));
}

/* ---- powers ---- */

/* log2(a) in f64 for f32 a > 0 to 2^-45: a = 2^k m, t = (m - 1) / (m + 1), 2 atanh(t) / ln 2. */
static Value log2_64(const Simd *s, Value a)
{
	const i64 root = 0x3fe6a09e667f3bcd, bias = (i64)1024 << 52; /* keeps k + 1024 positive */
	Value i = simd_bits(s, DT_i64, a), one = simd_constant(s, DT_f64, 1);
	i = simd_add(s, i, simd_i64(s, bias - root));
	Value k = LLVMBuildTrunc(B, LLVMBuildLShr(B, i, simd_i64(s, 52), ""), simd_type(s, DT_i32),
				 "");
	k = LLVMBuildSIToFP(B, simd_sub(s, k, simd_i32(s, 1024)), simd_type(s, DT_f64), "");
	Value m = simd_add(s, simd_and(s, i, simd_i64(s, ((i64)1 << 52) - 1)), simd_i64(s, root));
	m = simd_bits(s, DT_f64, m);
	Value t = LLVMBuildFDiv(B, simd_sub(s, m, one), simd_add(s, m, one), "");
	/* 2 atanh(t) / (t ln 2) in t^2, 2^-45 */
	Value p = POLYNOMIAL64(s, simd_mul(s, t, t), 0x1.21b20cb6a3716p-2, 0x1.479543519f4fp-2,
			       0x1.a61a2f35657b6p-2, 0x1.2776c292c6716p-1, 0x1.ec709dc53cbb8p-1,
			       0x1.71547652b8251p1);
	return simd_multiply_add(s, t, p, k);
}

/* 2^x for |x| <= 200, to 2^-39. */
static Value exp2_64(const Simd *s, Value x)
{
	Value magic = simd_constant(s, DT_f64, 0x1.8p52), sum = simd_add(s, x, magic);
	Value f = simd_sub(s, x, simd_sub(s, sum, magic));
	/* (2^f - 1) / f */
	Value p = POLYNOMIAL64(s, f, 0x1.62c010c12bad8p-20, 0x1.00c080f75339p-16,
			       0x1.43099b4e4ddbp-13, 0x1.5d87762dfc4dbp-10, 0x1.3b2ab6a0e1347p-7,
			       0x1.c6b08da69c95fp-5, 0x1.ebfbdff85f48fp-3, 0x1.62e42fef9cdf7p-1);
	p = simd_multiply_add(s, f, p, simd_constant(s, DT_f64, 1));
	/* n is in the lowest bits of the sum; shifted, only they are left */
	Value n = LLVMBuildShl(B, simd_bits(s, DT_i64, sum), simd_i64(s, 52), "");
	return simd_bits(s, DT_f64, simd_add(s, simd_bits(s, DT_i64, p), n));
}

/* 2^(y log2 |x|) in f64, rounded once; then C's special cases, the weightiest last. */
Value simd_pow(const Simd *s, Value x, Value y)
{
	if (is_f64(s, x))
		return libm(s, "pow", x, y);
	LLVMTypeRef f64_type = simd_type(s, DT_f64);
	Value zero = simd_f32(s, 0), one = simd_f32(s, 1), infinity = simd_f32(s, INFINITY);
	Value a = abs32(s, x), below = simd_lt(s, DT_f32, y, zero);
	Value l = log2_64(s, LLVMBuildFPExt(B, a, f64_type, ""));
	Value e = simd_mul(s, LLVMBuildFPExt(B, y, f64_type, ""), l);
	e = simd_min_fast(s, simd_constant(s, DT_f64, 130), e);
	e = simd_max_fast(s, simd_constant(s, DT_f64, -152), e);
	Value z = LLVMBuildFPTrunc(B, exp2_64(s, e), simd_type(s, DT_f32), "");

	z = simd_select(s, simd_eq(s, a, zero), simd_select(s, below, infinity, zero), z);
	z = simd_select(s, simd_eq(s, a, infinity), simd_select(s, below, zero, infinity), z);
	/* |x| = 1 with infinite y, which was 0 times infinity */
	z = simd_select(s, simd_eq(s, a, one), one, z);
	Value half = simd_mul(s, y, simd_f32(s, 0.5f));
	Value integer = simd_eq(s, simd_trunc(s, y), y);
	Value odd = simd_and(s, integer, simd_ne(s, simd_trunc(s, half), half));
	/* the sign of x, also that of -0, goes to odd powers */
	z = simd_select(s, odd, flip_sign(s, z, x), z);
	Value no_root = simd_and(s, simd_lt(s, DT_f32, x, zero), simd_not(s, integer));
	no_root = simd_and(s, no_root, simd_lt(s, DT_f32, a, infinity));
	z = simd_select(s, no_root, simd_f32(s, NAN), z);
	Value nan = simd_or(s, simd_ne(s, x, x), simd_ne(s, y, y));
	z = simd_select(s, nan, simd_add(s, x, y), z);
	return simd_select(s, simd_or(s, simd_eq(s, y, zero), simd_eq(s, x, one)), one, z);
}
