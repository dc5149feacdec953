/* test_standin_ptx.c: single PTX instructions in the stand-in against their meaning written in C: integers
 * and bits exactly, roundings exactly, approximations within two units in the last place. */
#include "harness.h"
#include <fenv.h>

enum { N = 512 };
typedef enum Kind { I32, I64, S32, F32, F64, NEAR } Kind;

static f32 f32_bits(u32 b)
{
	f32 v;
	memcpy(&v, &b, 4);
	return v;
}
static u32 bits_f32(f32 v)
{
	u32 b;
	memcpy(&b, &v, 4);
	return b;
}
static f64 f64_bits(u64 b)
{
	f64 v;
	memcpy(&v, &b, 8);
	return v;
}
static u64 bits_f64(f64 v)
{
	u64 b;
	memcpy(&b, &v, 8);
	return b;
}
static f32 rounded(int mode, f64 exact_sum_a, f64 exact_sum_b, f64 c)
{
	/* a b + c in f32 with a rounding: the product is exact in f64. */
	fesetround(mode);
	volatile f32 a = (f32)exact_sum_a, b = (f32)exact_sum_b, d = (f32)c;
	volatile f32 r = fmaf(a, b, d);
	fesetround(FE_TONEAREST);
	return r;
}
static u32 reverse(u32 v)
{
	u32 r = 0;
	for (u32 i = 0; i < 32; i++)
		r |= (v >> i & 1) << (31 - i);
	return r;
}
static u32 prmt(u32 a, u32 b, u32 c)
{
	u8 bytes[8], r[4];
	memcpy(bytes, &a, 4);
	memcpy(bytes + 4, &b, 4);
	for (u32 i = 0; i < 4; i++) {
		u32 s = c >> 4 * i & 15;
		r[i] = s & 8 ? (u8)((i8)bytes[s & 7] >> 7) : bytes[s];
	}
	memcpy(&a, r, 4);
	return a;
}
static u32 field(u32 a, u32 start, u32 length)
{
	start &= 255;
	length &= 255;
	u64 v = start < 32 ? a >> start : 0;
	return (u32)(length < 32 ? v & (((u64)1 << length) - 1) : v);
}
static u32 lut(u32 a, u32 b, u32 c, u32 table)
{
	u32 r = 0;
	for (u32 i = 0; i < 32; i++)
		r |= (table >> ((a >> i & 1) * 4 + (b >> i & 1) * 2 + (c >> i & 1)) & 1) << i;
	return r;
}
/* By definition, the nearest of the neighbours above and below. */
static u16 to_bf16(f32 v)
{
	if (isnan(v))
		return 0x7fff;
	u32 low = bits_f32(v) & 0xffff0000;
	f64 below = (f64)f32_bits(low), above = (low & 0x7fffffff) == 0x7f7f0000 ? copysign(0x1p128, v) : (f64)f32_bits(low + 0x10000);
	f64 a = fabs((f64)v - below), b = fabs(above - (f64)v);
	if (isinf(v))
		return (u16)(low >> 16);
	bool up = a > b || (a == b && low & 0x10000);
	return (u16)((low >> 16) + up);
}
static u16 to_f16(f64 v)
{
	if (isnan(v))
		return 0x7fff;
	u16 sign = signbit(v) ? 0x8000 : 0;
	f64 x = fabs(v), unit = x < 0x1p-14 ? 0x1p-24 : ldexp(1, ilogb(x) - 10);
	if (isinf(v))
		return sign | 0x7c00;
	x = nearbyint(x / unit) * unit;
	if (x > 65504)
		return sign | 0x7c00;
	if (x < 0x1p-14)
		return (u16)(sign | (u16)(x * 0x1p24));
	int e = ilogb(x);
	return (u16)(sign | ((u32)(e + 15) << 10) | ((u32)(ldexp(x, 10 - e)) & 1023));
}
static f64 of_f16(u32 h)
{
	f64 v = (h >> 10 & 31) == 31 ? (h & 1023 ? NAN : INFINITY) : h >> 10 & 31 ? ldexp(1024 + (h & 1023), (int)(h >> 10 & 31) - 25)
								      : ldexp(h & 1023, -24);
	return h & 0x8000 ? -v : v;
}
static f64 of_bf16(u32 h)
{
	return f32_bits(h << 16);
}
/* Two numbers, each by its own rounding. */
static u32 both(u16 low, u16 high)
{
	return low | (u32)high << 16;
}
static f64 lesser(f64 x, f64 y)
{
	return isnan(x) ? y : isnan(y) ? x : x == y ? (signbit(x) ? x : y) : x < y ? x : y;
}
static u32 tf32(f32 v)
{
	/* ties away from zero, 10 bits of fraction */
	u32 b = bits_f32(v);
	return isnan(v) ? 0x7fffe000 : isinf(v) ? b : (b + 0x1000) & 0xffffe000;
}
static f32 minimum(f32 x, f32 y)
{
	if (isnan(x) || isnan(y))
		return isnan(x) && isnan(y) ? f32_bits(0x7fffffff) : isnan(x) ? y : x;
	return x == y ? (signbit(x) ? x : y) : x < y ? x : y;
}
static i32 to_s32(f32 v, f32 whole)
{
	return isnan(v) ? 0 : whole >= 0x1p31f ? INT32_MAX : whole <= -0x1p31f ? INT32_MIN : (i32)whole;
}
static u64 to_u64(f32 v)
{
	return isnan(v) ? (u64)1 << 63 : v >= 0x1p64f ? ~(u64)0 : v <= 0 ? 0 : (u64)truncf(v);
}
static f32 quiet(f32 v)
{
	return v;
}

/* name, kind of operands a b c (x y z are the same bits as floats), PTX into %r0 (or %d0 for 64 bits), what
 * it must give. */
#define CASES(X)                                                                                                        \
	X(add_u32, I32, "add.u32 %r0, %r1, %r2;", a + b)                                                                \
	X(sub_s32, I32, "sub.s32 %r0, %r1, %r2;", a - b)                                                                \
	X(add_sat, I32, "add.sat.s32 %r0, %r1, %r2;",                                                                   \
	  (i64)(i32)a + (i32)b > INT32_MAX ? INT32_MAX : (i64)(i32)a + (i32)b < INT32_MIN ? (u32)INT32_MIN : a + b)      \
	X(mul_lo, I32, "mul.lo.s32 %r0, %r1, %r2;", a * b)                                                              \
	X(mul_hi_u, I32, "mul.hi.u32 %r0, %r1, %r2;", (u32)((u64)a * b >> 32))                                          \
	X(mul_hi_s, I32, "mul.hi.s32 %r0, %r1, %r2;", (u32)((u64)((i64)(i32)a * (i32)b) >> 32))                         \
	X(mad_lo, I32, "mad.lo.u32 %r0, %r1, %r2, %r3;", a * b + c)                                                     \
	X(mul_wide_s, I64, "mul.wide.s32 %d0, %r1, %r2;", (u64)((i64)(i32)a * (i32)b))                                  \
	X(mad_wide_u, I64, "mad.wide.u32 %d0, %r1, %r2, %d3;", (u64)(u32)a * (u32)b + c)                                \
	X(mul_lo_64, I64, "mul.lo.s64 %d0, %d1, %d2;", a * b)                                                           \
	X(mul_hi_64, I64, "mul.hi.u64 %d0, %d1, %d2;", (u64)((__uint128_t)a * b >> 64))                                 \
	X(div_s32, I32, "div.s32 %r0, %r1, %r2;",                                                                       \
	  !b ? ~0u : a == 0x80000000 && b == ~0u ? a : (u32)((i32)a / (i32)b))                                          \
	X(rem_u64, I64, "rem.u64 %d0, %d1, %d2;", b ? a % b : a)                                                        \
	X(div_u64, I64, "div.u64 %d0, %d1, %d2;", b ? a / b : ~(u64)0)                                                  \
	X(min_s32, I32, "min.s32 %r0, %r1, %r2;", (i32)a < (i32)b ? a : b)                                              \
	X(max_u32, I32, "max.u32 %r0, %r1, %r2;", a > b ? a : b)                                                        \
	X(abs_s32, I32, "abs.s32 %r0, %r1;", (i32)a < 0 ? 0 - a : a)                                                    \
	X(neg_s64, I64, "neg.s64 %d0, %d1;", 0 - a)                                                                     \
	X(sad, I32, "sad.u32 %r0, %r1, %r2, %r3;", c + (a > b ? a - b : b - a))                                         \
	X(carry, I64, "add.cc.u32 %r0, %r1, %r2; addc.u32 %r4, 5, 7; mov.b64 %d0, {%r0, %r4};",                         \
	  (u64)(u32)(a + b) | (u64)(12 + (((u64)(u32)a + (u32)b) >> 32)) << 32)                                         \
	X(borrow, I64, "sub.cc.u32 %r0, %r1, %r2; subc.u32 %r4, 9, 1; mov.b64 %d0, {%r0, %r4};",                        \
	  (u64)(u32)((u32)a - (u32)b) | (u64)(8 - ((u32)a < (u32)b)) << 32)                                             \
	X(mul16, I32, "cvt.u16.u32 %h1, %r1; cvt.u16.u32 %h2, %r2; mul.wide.u16 %r0, %h1, %h2;", (a & 0xffff) * (b & 0xffff)) \
	X(add16, I32, "cvt.u16.u32 %h1, %r1; cvt.u16.u32 %h2, %r2; add.s16 %h1, %h1, %h2; cvt.s32.s16 %r0, %h1;",       \
	  (u32)(i32)(i16)(a + b))                                                                                       \
	X(mul24, I32, "mul24.lo.u32 %r0, %r1, %r2;", (u32)((u64)(a & 0xffffff) * (b & 0xffffff)))                       \
	X(and_, I32, "and.b32 %r0, %r1, %r2;", a & b)                                                                   \
	X(xor_64, I64, "xor.b64 %d0, %d1, %d2;", a ^ b)                                                                 \
	X(not_, I32, "not.b32 %r0, %r1;", ~a)                                                                           \
	X(shl, I32, "and.b32 %r2, %r2, 63; shl.b32 %r0, %r1, %r2;", (b & 63) > 31 ? 0 : a << (b & 63))                  \
	X(shr_s, I32, "and.b32 %r2, %r2, 63; shr.s32 %r0, %r1, %r2;", (u32)((i32)a >> ((b & 63) > 31 ? 31 : b & 63)))   \
	X(shr_u64, I64, "and.b32 %r2, %r2, 127; shr.u64 %d0, %d1, %r2;", (b & 127) > 63 ? 0 : a >> (b & 127))           \
	X(shf_l, I32, "shf.l.wrap.b32 %r0, %r1, %r2, %r3;", c & 31 ? b << (c & 31) | a >> (32 - (c & 31)) : b)          \
	X(shf_r, I32, "shf.r.clamp.b32 %r0, %r1, %r2, %r3;",                                                            \
	  c >= 32 ? b : c ? a >> c | b << (32 - c) : a)                                                                 \
	X(popc, I32, "popc.b32 %r0, %r1;", (u32)__builtin_popcount(a))                                                  \
	X(clz, I32, "clz.b32 %r0, %r1;", a ? (u32)__builtin_clz(a) : 32)                                                \
	X(clz_64, I64, "clz.b64 %r0, %d1; cvt.u64.u32 %d0, %r0;", a ? (u64)__builtin_clzll(a) : 64)                     \
	X(brev, I32, "brev.b32 %r0, %r1;", reverse(a))                                                                  \
	X(bfind, I32, "bfind.u32 %r0, %r1;", a ? 31 - (u32)__builtin_clz(a) : ~0u)                                      \
	X(bfe, I32, "bfe.u32 %r0, %r1, %r2, %r3;", field(a, b, c))                                                      \
	X(bfe_s, I32, "bfe.s32 %r0, %r1, 3, 7;", (u32)((i32)(a << 22) >> 25))                                           \
	X(bfi, I32, "bfi.b32 %r0, %r1, %r2, 5, 9;", (b & ~(511u << 5)) | (a & 511) << 5)                                \
	X(lop3, I32, "lop3.b32 %r0, %r1, %r2, %r3, 0xE8;", lut(a, b, c, 0xE8))                                          \
	X(lop3_2, I32, "lop3.b32 %r0, %r1, %r2, %r3, 0x1B;", lut(a, b, c, 0x1B))                                        \
	X(prmt_, I32, "prmt.b32 %r0, %r1, %r2, %r3;", prmt(a, b, c))                                                    \
	X(selp, I32, "setp.lt.s32 %p1, %r1, %r2; selp.b32 %r0, %r3, 17, %p1;", (i32)a < (i32)b ? c : 17)                \
	X(setp_and, I32, "setp.ge.u32 %p2, %r3, %r1; setp.hi.and.u32 %p1|%p3, %r1, %r2, %p2;"                           \
			 "selp.u32 %r0, 1, 0, %p1; @%p3 add.u32 %r0, %r0, 2;",                                          \
	  ((a > b) & (c >= a)) + 2u * ((a <= b) & (c >= a)))                                                            \
	X(setp_not, I32, "setp.eq.u32 %p2, %r3, 0; setp.lt.or.s32 %p1, %r1, %r2, !%p2; selp.u32 %r0, 1, 0, %p1;",       \
	  (i32)a < (i32)b || c != 0)                                                                                    \
	X(set_, I32, "set.lt.u32.s32 %r0, %r1, %r2;", (i32)a < (i32)b ? ~0u : 0)                                        \
	X(slct_, I32, "slct.u32.s32 %r0, %r1, %r2, %r3;", (i32)c >= 0 ? a : b)                                          \
	X(guard, I32, "mov.u32 %r0, 5; setp.gt.u32 %p1, %r1, %r2; @%p1 mov.u32 %r0, %r3; @!%p1 add.u32 %r0, %r0, 1;",   \
	  a > b ? c : 6)                                                                                                \
	X(dp4a, I32, "dp4a.s32.u32 %r0, %r1, %r2, %r3;",                                                                \
	  c + (u32)((i8)a * (u8)b + (i8)(a >> 8) * (u8)(b >> 8) + (i8)(a >> 16) * (u8)(b >> 16) + (i8)(a >> 24) * (u8)(b >> 24))) \
	X(fadd, F32, "add.f32 %r0, %r1, %r2;", bits_f32(x + y))                                                         \
	X(fsub, F32, "sub.rn.f32 %r0, %r1, %r2;", bits_f32(x - y))                                                      \
	X(fmul, F32, "mul.f32 %r0, %r1, %r2;", bits_f32(x * y))                                                         \
	X(ffma, F32, "fma.rn.f32 %r0, %r1, %r2, %r3;", bits_f32(fmaf(x, y, z)))                                         \
	X(ffma_rz, F32, "fma.rz.f32 %r0, %r1, %r2, %r3;", bits_f32(rounded(FE_TOWARDZERO, x, y, z)))                    \
	X(ffma_rm, F32, "fma.rm.f32 %r0, %r1, %r2, %r3;", bits_f32(rounded(FE_DOWNWARD, x, y, z)))                      \
	X(ffma_rp, F32, "fma.rp.f32 %r0, %r1, %r2, %r3;", bits_f32(rounded(FE_UPWARD, x, y, z)))                        \
	X(fsat, F32, "add.sat.f32 %r0, %r1, %r2;", bits_f32(x + y > 1 ? 1 : x + y > 0 ? x + y : 0))                     \
	X(fftz, F32, "mul.ftz.f32 %r0, %r1, 0f3F800000;", fpclassify(x) == FP_SUBNORMAL ? a & 0x80000000 : bits_f32(x * 1)) \
	X(fdiv, F32, "div.rn.f32 %r0, %r1, %r2;", bits_f32(x / y))                                                      \
	X(fsqrt, F32, "sqrt.rn.f32 %r0, %r1;", bits_f32(sqrtf(x)))                                                      \
	X(frcp, F32, "rcp.rn.f32 %r0, %r1;", bits_f32(1 / x))                                                           \
	X(fmin, F32, "min.f32 %r0, %r1, %r2;", bits_f32(minimum(x, y)))                                                 \
	X(fmax, F32, "max.f32 %r0, %r1, %r2;", bits_f32(-minimum(-x, -y)))                                              \
	X(fmax_nan, F32, "max.NaN.f32 %r0, %r1, %r2;", isnan(x) || isnan(y) ? 0x7fffffff : bits_f32(-minimum(-x, -y)))  \
	X(fabs_, F32, "abs.f32 %r0, %r1;", a & 0x7fffffff)                                                              \
	X(fneg, F32, "neg.f32 %r0, %r1;", a ^ 0x80000000)                                                               \
	X(fcopysign, F32, "copysign.f32 %r0, %r1, %r2;", (b & 0x7fffffff) | (a & 0x80000000))                           \
	X(lt, F32, "setp.lt.f32 %p1, %r1, %r2; selp.u32 %r0, 1, 0, %p1;", x < y)                                        \
	X(ltu, F32, "setp.ltu.f32 %p1, %r1, %r2; selp.u32 %r0, 1, 0, %p1;", !(x >= y))                                  \
	X(ne, F32, "setp.ne.f32 %p1, %r1, %r2; selp.u32 %r0, 1, 0, %p1;", x < y || x > y)                               \
	X(neu, F32, "setp.neu.f32 %p1, %r1, %r2; selp.u32 %r0, 1, 0, %p1;", x != y)                                     \
	X(equ, F32, "setp.equ.f32 %p1, %r1, %r2; selp.u32 %r0, 1, 0, %p1;", !(x < y || x > y))                          \
	X(nan_, F32, "setp.nan.f32 %p1, %r1, %r2; selp.u32 %r0, 1, 0, %p1;", isnan(x) || isnan(y))                      \
	X(testp, F32, "testp.finite.f32 %p1, %r1; selp.u32 %r0, 1, 0, %p1;", isfinite(x) != 0)                          \
	X(dadd, F64, "mov.b64 %g1, %d1; mov.b64 %g2, %d2; add.f64 %g0, %g1, %g2; mov.b64 %d0, %g0;", bits_f64(x + y))   \
	X(dfma, F64, "mov.b64 %g1, %d1; mov.b64 %g2, %d2; mov.b64 %g3, %d3; fma.rn.f64 %g0, %g1, %g2, %g3;"             \
		     "mov.b64 %d0, %g0;", bits_f64(fma(x, y, z)))                                                       \
	X(ddiv, F64, "mov.b64 %g1, %d1; mov.b64 %g2, %d2; div.rn.f64 %g0, %g1, %g2; mov.b64 %d0, %g0;", bits_f64(x / y)) \
	X(d_to_f, F64, "mov.b64 %g1, %d1; cvt.rn.f32.f64 %f0, %g1; cvt.f64.f32 %g0, %f0; mov.b64 %d0, %g0;",            \
	  bits_f64((f64)(f32)x))                                                                                        \
	X(ex2, NEAR, "ex2.approx.f32 %r0, %r1;", bits_f32(exp2f(x)))                                                    \
	X(ex2_ftz, NEAR, "ex2.approx.ftz.f32 %r0, %r1;",                                                                \
	  fpclassify(exp2f(x)) == FP_SUBNORMAL ? 0 : bits_f32(exp2f(x)))                                                \
	X(lg2, NEAR, "abs.f32 %r1, %r1; lg2.approx.f32 %r0, %r1;", bits_f32(log2f(fabsf(x))))                           \
	X(rsqrt_, NEAR, "abs.f32 %r1, %r1; rsqrt.approx.f32 %r0, %r1;", bits_f32((f32)(1 / sqrt(fabs((f64)x)))))        \
	X(tanh_, NEAR, "tanh.approx.f32 %r0, %r1;", bits_f32(tanhf(x)))                                                 \
	X(sin_, NEAR, "sin.approx.f32 %r0, %r1;", bits_f32((f32)sin((f64)x)))                                           \
	X(rcp_, NEAR, "rcp.approx.ftz.f32 %r0, %r1;", fpclassify(x) == FP_SUBNORMAL ? bits_f32(copysignf(INFINITY, x))  \
		: fpclassify(1 / x) == FP_SUBNORMAL ? bits_f32(copysignf(0, x)) : bits_f32(1 / x))                      \
	X(bf16, F32, "cvt.rn.bf16.f32 %h1, %r1; cvt.u32.u16 %r0, %h1;", to_bf16(x))                                     \
	X(bf16x2, F32, "cvt.rn.bf16x2.f32 %r0, %r1, %r2;", (u32)to_bf16(x) << 16 | to_bf16(y))                          \
	X(bf16_back, F32, "cvt.rn.bf16.f32 %h1, %r1; cvt.f32.bf16 %r0, %h1;", (u32)to_bf16(x) << 16)                    \
	X(bf16_rz, F32, "cvt.rz.bf16x2.f32 %r0, %r1, %r2;",                                                             \
	  (isnan(x) ? 0x7fff0000 : a & 0xffff0000) | (isnan(y) ? 0x7fff : b >> 16))                                     \
	X(relu, F32, "cvt.rn.relu.bf16x2.f32 %r0, %r1, %r2;",                                                           \
	  (u32)to_bf16(x > 0 || isnan(x) ? x : 0) << 16 | to_bf16(y > 0 || isnan(y) ? y : 0))                           \
	X(f16, F32, "cvt.rn.f16.f32 %h1, %r1; cvt.u32.u16 %r0, %h1;", to_f16(x))                                        \
	X(f16x2, F32, "cvt.rn.f16x2.f32 %r0, %r1, %r2;", (u32)to_f16(x) << 16 | to_f16(y))                              \
	X(tf32_, F32, "cvt.rna.tf32.f32 %r0, %r1;", tf32(x))                                                            \
	X(rni, F32, "cvt.rni.s32.f32 %r0, %r1;", (u32)to_s32(x, nearbyintf(x)))                                         \
	X(rzi, F32, "cvt.rzi.s32.f32 %r0, %r1;", (u32)to_s32(x, truncf(x)))                                             \
	X(rmi, F32, "cvt.rmi.s32.f32 %r0, %r1;", (u32)to_s32(x, floorf(x)))                                             \
	X(rpi_f, F32, "cvt.rpi.f32.f32 %r0, %r1;", bits_f32(ceilf(x)))                                                  \
	X(sat_f, F32, "cvt.sat.f32.f32 %r0, %r1;", bits_f32(x > 1 ? 1 : x > 0 ? x : 0))                                 \
	X(f_to_u64, I64, "mov.b32 %f1, %r1; cvt.rzi.u64.f32 %d0, %f1;", to_u64(quiet(f32_bits((u32)a))))                \
	X(s32_to_f, I32, "cvt.rn.f32.s32 %r0, %r1;", bits_f32((f32)(i32)a))                                             \
	X(u64_to_f, I64, "cvt.rn.f32.u64 %f0, %d1; mov.b32 %r0, %f0; cvt.u64.u32 %d0, %r0;", bits_f32((f32)a))          \
	X(s64_to_d, I64, "cvt.rn.f64.s64 %g0, %d1; mov.b64 %d0, %g0;", bits_f64((f64)(i64)a))                           \
	X(s8, I32, "cvt.s32.s8 %r0, %r1;", (u32)(i32)(i8)a)                                                             \
	X(u8_, I32, "cvt.u32.u8 %r0, %r1;", a & 255)                                                                    \
	X(sat_u8, I32, "cvt.sat.u8.s32 %r0, %r1;", (i32)a < 0 ? 0 : (i32)a > 255 ? 255 : a)                             \
	X(widen, I64, "cvt.s64.s32 %d0, %r1;", (u64)(i64)(i32)a)                                                        \
	X(hadd, I32, "cvt.u16.u32 %h1, %r1; cvt.u16.u32 %h2, %r2; add.f16 %h0, %h1, %h2; cvt.u32.u16 %r0, %h0;",          \
	  to_f16(of_f16(a & 0xffff) + of_f16(b & 0xffff)))                                                              \
	X(hsub2, I32, "sub.rn.f16x2 %r0, %r1, %r2;",                                                                    \
	  both(to_f16(of_f16(a & 0xffff) - of_f16(b & 0xffff)), to_f16(of_f16(a >> 16) - of_f16(b >> 16))))             \
	X(hfma2, I32, "fma.rn.f16x2 %r0, %r1, %r2, %r3;",                                                               \
	  both(to_f16(fma(of_f16(a & 0xffff), of_f16(b & 0xffff), of_f16(c & 0xffff))),                                 \
	       to_f16(fma(of_f16(a >> 16), of_f16(b >> 16), of_f16(c >> 16)))))                                         \
	X(hmin, I32, "cvt.u16.u32 %h1, %r1; cvt.u16.u32 %h2, %r2; min.f16 %h0, %h1, %h2; cvt.u32.u16 %r0, %h0;",          \
	  to_f16(lesser(of_f16(a & 0xffff), of_f16(b & 0xffff))))                                                       \
	X(hwiden, I32, "cvt.u16.u32 %h1, %r1; cvt.f32.f16 %f0, %h1; mov.b32 %r0, %f0; setp.nan.f32 %p1, %f0, %f0;"        \
		       "@%p1 mov.b32 %r0, 0x7fffffff;",                                                                 \
	  isnan(of_f16(a & 0xffff)) ? 0x7fffffff : bits_f32((f32)of_f16(a & 0xffff)))                                   \
	X(hlt, I32, "cvt.u16.u32 %h1, %r1; cvt.u16.u32 %h2, %r2; setp.lt.f16 %p1, %h1, %h2; selp.u32 %r0, 1, 0, %p1;",    \
	  of_f16(a & 0xffff) < of_f16(b & 0xffff))                                                                      \
	X(bmul2, I32, "mul.rn.bf16x2 %r0, %r1, %r2;",                                                                   \
	  both(to_bf16((f32)(of_bf16(a & 0xffff) * of_bf16(b & 0xffff))), to_bf16((f32)(of_bf16(a >> 16) * of_bf16(b >> 16))))) \
	X(bneg, I32, "neg.bf16x2 %r0, %r1;", a ^ 0x80008000)                                                            \
	X(babs, I32, "abs.f16x2 %r0, %r1;", a & 0x7fff7fff)                                                             \
	X(bmax, I32, "max.bf16x2 %r0, %r1, %r2;",                                                                       \
	  both(to_bf16((f32)-lesser(-of_bf16(a & 0xffff), -of_bf16(b & 0xffff))), to_bf16((f32)-lesser(-of_bf16(a >> 16), -of_bf16(b >> 16))))) \
	X(fp8, F32, "cvt.rn.satfinite.e4m3x2.f32 %h1, %r1, 0f00000000; cvt.rn.f16x2.e4m3x2 %r0, %h1; shr.u32 %r0, %r0, 16;", \
	  isnan(x) ? 0x7fff : to_f16(copysign(fmin(fabs((f64)x) < 0x1p-6 ? nearbyint(fabs((f64)x) * 512) / 512                \
		: nearbyint(fabs((f64)x) * ldexp(1, 3 - ilogb(x))) / ldexp(1, 3 - ilogb(x)), 448), x)))                       \
	X(pairs, I32, "min.s16x2 %r0, %r1, %r2;",                                                                       \
	  both((u16)((i16)a < (i16)b ? a : b), (u16)((i16)(a >> 16) < (i16)(b >> 16) ? a >> 16 : b >> 16)))             \
	X(unpack, I64, "mov.b64 {%r4, %r5}, %d1; mov.b64 %d0, {%r5, %r4};", a >> 32 | a << 32)                          \
	X(unpack16, I32, "mov.b32 {%h1, %h2}, %r1; mov.b32 %r0, {%h2, %h1};", a >> 16 | a << 16)

#define OPERANDS_I32 u32 a = (u32)a_, b = (u32)b_, c = (u32)c_; (void)a; (void)b; (void)c;
#define OPERANDS_I64 u64 a = a_, b = b_, c = c_; (void)a; (void)b; (void)c;
#define OPERANDS_F32 OPERANDS_I32 f32 x = f32_bits(a), y = f32_bits(b), z = f32_bits(c); (void)x; (void)y; (void)z;
#define OPERANDS_NEAR OPERANDS_F32
#define OPERANDS_F64 f64 x = f64_bits(a_), y = f64_bits(b_), z = f64_bits(c_); (void)x; (void)y; (void)z;
#define X(name, kind, ptx, value)                               \
	static u64 want_##name(u64 a_, u64 b_, u64 c_)          \
	{                                                       \
		OPERANDS_##kind return (u64)(value);            \
	}
CASES(X)
#undef X

static const struct {
	const char *name, *ptx;
	Kind kind;
	u64 (*want)(u64 a, u64 b, u64 c);
} cases[] = {
#define X(name, kind, ptx, value) { #name, ptx, kind, want_##name },
	CASES(X)
#undef X
};

/* Operands: corner cases among random ones. */
static u64 operand(Kind kind, u32 *seed)
{
	static const u32 integers[] = { 0, 1, 2, 31, 32, 33, 0x7fffffff, 0x80000000, 0xffffffff, 0xffff, 0x8000, 255 };
	static const u32 floats[] = { 0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 1, 0x807fffff,
				      0x7f7fffff, 0x3f808000, 0x3f818000, 0x477fe000, 0x477ff000, 0x33000000, 0x40200000, 0x4f000000,
				      0x387fc000, 0x33800001, 0x3f801000 };
	u32 r = test_random(seed) ^ test_random(seed) << 12;
	bool corner = test_random(seed) % 3 == 0;
	switch (kind) {
	case I64:
		return corner ? integers[r % COUNT(integers)] | (u64)(r & 64 ? ~0u : 0) << 32 : r | (u64)test_random(seed) << 36;
	case F64:
		return corner ? bits_f64((f64)f32_bits(floats[r % COUNT(floats)])) : bits_f64(ldexp(test_uniform(seed) + 1e-9 * r, (int)(r % 40) - 20));
	case F32:
		return corner ? floats[r % COUNT(floats)] : r & 1 ? bits_f32(ldexpf(test_uniform(seed), (int)(r % 60) - 30)) : r;
	case NEAR:
		return corner ? floats[r % COUNT(floats)] : bits_f32(4 * test_uniform(seed));
	default:
		return corner ? integers[r % COUNT(integers)] : r;
	}
}

static bool same(Kind kind, u64 got, u64 want)
{
	if (got == want)
		return true;
	if (kind == F64)
		return isnan(f64_bits(got)) && isnan(f64_bits(want));
	if (kind == F32 || kind == NEAR) {
		f32 g = f32_bits((u32)got), w = f32_bits((u32)want);
		if (isnan(g) && isnan(w))
			return true;
		return kind == NEAR && fabs((f64)g - (f64)w) <= 2.5 * 0x1p-24 * fabs((f64)w) + 0x1p-148;
	}
	return false;
}

static void test_instructions(void **state)
{
	(void)state;
	static u64 in[N][3], out[N];
	CUdeviceptr d_in, d_out;
	CU(cuMemAlloc_v2(&d_in, sizeof in));
	CU(cuMemAlloc_v2(&d_out, sizeof out));
	u32 seed = 7, wrong = 0;
	for (u32 i = 0; i < COUNT(cases); i++) {
		char body[1200];
		bool wide = cases[i].kind == I64 || cases[i].kind == F64;
		for (u32 n = 0; n < N; n++)
			for (u32 k = 0; k < 3; k++)
				in[n][k] = operand(cases[i].kind, &seed);
		CU(cuMemcpyHtoD_v2(d_in, in, sizeof in));
		snprintf(body, sizeof body,
			 "mov.u32 %%r60, %%tid.x; mul.wide.u32 %%d20, %%r60, 24; ld.param.u64 %%d21, [p0]; add.u64 %%d20, %%d20, %%d21;\n"
			 "ld.global.u64 %%d1, [%%d20]; ld.global.u64 %%d2, [%%d20+8]; ld.global.u64 %%d3, [%%d20+16];\n"
			 "cvt.u32.u64 %%r1, %%d1; cvt.u32.u64 %%r2, %%d2; cvt.u32.u64 %%r3, %%d3;\n%s\n%s"
			 "ld.param.u64 %%d22, [p1]; mul.wide.u32 %%d23, %%r60, 8; add.u64 %%d22, %%d22, %%d23;\n"
			 "st.global.u64 [%%d22], %%d0;", cases[i].ptx, wide ? "" : "cvt.u64.u32 %d0, %r0;\n");
		char *ptx = ptx_kernel("", body);
		CUmodule m;
		CUfunction f = load_function(ptx, "k", &m);
		CU(run_kernel(f, 1, N, 0, (u64[]){ d_in, d_out, 0 }, 3));
		CU(cuMemcpyDtoH_v2(out, d_out, sizeof out));
		for (u32 n = 0; n < N; n++) {
			u64 want = cases[i].want(in[n][0], in[n][1], in[n][2]);
			if (same(cases[i].kind, out[n], want))
				continue;
			print_error("%s: a %llx b %llx c %llx: %llx, not %llx\n", cases[i].ptx, (unsigned long long)in[n][0],
				    (unsigned long long)in[n][1], (unsigned long long)in[n][2], (unsigned long long)out[n],
				    (unsigned long long)want);
			wrong++;
			break;
		}
		CU(cuModuleUnload(m));
		free(ptx);
	}
	assert_int_equal(wrong, 0);
	print_message("%zu instructions\n", COUNT(cases));
}

/* What is not known fails when the module is loaded, and is named. */
static void test_unknown(void **state)
{
	(void)state;
	static const char *const wrong[] = { "frobnicate.b32 %r1, %r2;", "add.wonderful.u32 %r1, %r1, %r2;",
					     "tcgen05.fence;", "add.u32 %r1, %nowhere, 1;", "bra missing;", "add.u32 %d1, %r1, %r2;",
					     "wgmma.mma_async.sync.aligned.m64n8k32.f32.e4m3.e4m3 {%f1, %f2, %f3, %f4}, %d1, %d2, %p1, 1, 1, 0, 0;",
					     "wgmma.mma_async.sync.aligned.m64n8k16.f32.e4m3.e4m3 {%f1, %f2, %f3, %f4}, %d1, %d2, %p1, 1, 1;" };
	static const char *const named[] = { "frobnicate", ".wonderful", "tcgen05", "%nowhere", "missing", "64", "8 operands", "m64nNk32" };
	standin_set("quiet=on");
	for (u32 i = 0; i < COUNT(wrong); i++) {
		CUmodule m;
		char *ptx = ptx_kernel("", wrong[i]);
		assert_int_equal(cuModuleLoadData(&m, ptx), CUDA_ERROR_INVALID_PTX);
		if (!strstr(standinLastReport(), named[i]))
			fail_msg("'%s' does not name %s", standinLastReport(), named[i]);
		free(ptx);
	}
	CUmodule m;
	assert_int_equal(cuModuleLoadData(&m, "\177ELF and so on"), CUDA_ERROR_NO_BINARY_FOR_GPU);
	/* PTX for sm_90a is for that GPU alone. */
	char *ptx = ptx_kernel("", "");
	standin_set("quiet=on, cc=80");
	assert_int_equal(cuModuleLoadData(&m, ptx), CUDA_ERROR_NO_BINARY_FOR_GPU);
	standin_set("quiet=on, cc=100");
	assert_int_equal(cuModuleLoadData(&m, ptx), CUDA_ERROR_NO_BINARY_FOR_GPU);
	free(ptx);
	/* Products of 8 bits came with sm_89. */
	for (u32 i = 0; i < 2; i++) {
		standin_set("quiet=on");
		ptx = ptx_kernel("", "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e5m2.f32 {%f1, %f2, %f3, %f4}, {%r1, %r2, %r3, %r4}, {%r5, %r6}, {%f1, %f2, %f3, %f4};");
		memcpy(strstr(ptx, "sm_90a"), i ? "sm_86 " : "sm_89 ", 6);
		assert_int_equal(cuModuleLoadData(&m, ptx), i ? CUDA_ERROR_INVALID_PTX : CUDA_SUCCESS);
		if (!i)
			cuModuleUnload(m);
		free(ptx);
	}
	standin_set("");
}

/* Texts that are damaged at random load or are refused, and nothing else happens. */
static void test_damaged(void **state)
{
	(void)state;
	static const char body[] =
		".local .align 8 .b8 l[24]; .shared .align 16 .b8 s[64]; { .reg .b32 t; mov.u32 t, %tid.x; add.u32 %r1, t, 3; }\n"
		"ld.param.u64 %d1, [p0]; setp.lt.s32 %p1, %r1, 7; @!%p1 bra L; LOOP: ld.global.v2.u32 {%r2, %r3}, [%d1+8];\n"
		"atom.global.add.u32 %r4, [%d1], 1; shfl.sync.bfly.b32 %r5|%p2, %r4, 1, 31, -1; @%p2 bra.uni LOOP; L:\n"
		"st.shared.v4.b32 [s+16], {%r1, %r2, %r3, %r4}; bar.sync 0; call.uni (result), twice, (p3); mov.b64 {%r6, %r7}, %d1;\n"
		"cvt.rn.bf16x2.f32 %r8, %f1, 0f3F800000; mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%f1, %f2, %f3, %f4},"
		" {%r1, %r2, %r3, %r4}, {%r5, %r6}, {%f1, %f2, %f3, %f4};\n";
	char *ptx = ptx_kernel(".const .align 4 .b32 t[3] = {1, -2, 0x3}; .global .u64 g = t;\n"
			       ".func (.param .b32 r) twice(.param .b32 a) { .reg .b32 %x<3>; ld.param.u32 %x1, [a]; add.u32 %x2, %x1, %x1;"
			       " st.param.b32 [r], %x2; ret; }", body);
	char *declared = malloc(strlen(ptx) + 100), *bad = malloc(strlen(ptx) + 300);
	char *at = strstr(ptx, ".local");
	sprintf(declared, "%.*s.param .b32 result; .param .b32 p3; %s", (int)(at - ptx), ptx, at);
	CUmodule m;
	standin_set("quiet=on");
	if (cuModuleLoadData(&m, declared))
		fail_msg("%s", standinLastReport());
	CU(cuModuleUnload(m));
	u32 seed = 12, loaded = 0;
	size_t n = strlen(declared);
	for (u32 i = 0; i < 3000; i++) {
		static const char *const words[] = { "", "{", "}", ";", "[", "]", ",", "%r1", ".u64", ".b128", "0", "-1", "99999999999", "@", ":", ".",
						     "bra", ".reg .b32 %z<9>;", "\"", "/*", "p0", "ret;", "_", "|", "<" };
		size_t from = test_random(&seed) % n, gone = test_random(&seed) % (i % 3 ? 3 : 40);
		const char *word = words[test_random(&seed) % COUNT(words)];
		gone = from + gone > n ? n - from : gone;
		sprintf(bad, "%.*s%s%s", (int)from, declared, word, declared + from + gone);
		if (cuModuleLoadData(&m, bad) == CUDA_SUCCESS) {
			loaded++;
			CU(cuModuleUnload(m));
		}
	}
	print_message("%u of 3000 damaged texts still load\n", loaded);
	assert_true(loaded > 0 && loaded < 3000);
	size_t available, total;
	CU(cuMemGetInfo_v2(&available, &total));
	assert_true(total - available < 4096 * 16); /* what the other tests hold; refused modules hold nothing */
	standin_set("");
	free(bad);
	free(declared);
	free(ptx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_instructions),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_damaged),
	};
	return cmocka_run_group_tests(tests, standin_setup, NULL);
}
