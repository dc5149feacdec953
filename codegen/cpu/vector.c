/* codegen/cpu/vector.c: arithmetic, comparison and conversion; see vector.h. Loads and stores are in vector_memory.c, what goes
 * across lanes in vector_lanes.c, functions in vector_math.c, random numbers in vector_random.c.
 *
 * bf16 is rounded by integer arithmetic: the x86 instruction for it takes denormals as zeros, and
 * would make the result depend on the CPU. */
#include "codegen/cpu/vector.h"

#include <math.h>

#define B s->m->builder

/* ---- types and constants ---- */

LLVMTypeRef simd_wide(const Simd *s, LLVMTypeRef scalar)
{
	return s->lanes == 1 ? scalar : LLVMVectorType(scalar, s->lanes);
}

LLVMTypeRef simd_scalar_type(const Simd *s, DType d)
{
	switch (d) {
	case DT_b1:
		return s->m->i1;
	case DT_u8:
	case DT_i8:
		return s->m->i8;
	case DT_u32:
	case DT_i32:
		return s->m->i32;
	case DT_i64:
		return s->m->i64;
	case DT_f64:
		return s->m->f64;
	case DT_f8e4m3:
	case DT_f8e5m2:
	case DT_f16:
	case DT_bf16:
	case DT_f32:
		return s->m->f32;
	default:
		NEVER("no such dtype");
	}
}

LLVMTypeRef simd_type(const Simd *s, DType d)
{
	return simd_wide(s, simd_scalar_type(s, d));
}

LLVMTypeRef simd_memory_type(const Simd *s, DType d)
{
	return d == DT_b1 || dtype_is_f8(d) ? s->m->i8
	       : dtype_is_narrow_float(d)   ? s->m->i16
					    : simd_scalar_type(s, d);
}

/* The constant in every lane. */
static LLVMValueRef repeat(const Simd *s, LLVMValueRef constant)
{
	if (s->lanes == 1)
		return constant;
	LLVMValueRef lane[64];
	assert(s->lanes <= COUNT(lane));
	for (u32 i = 0; i < s->lanes; i++)
		lane[i] = constant;
	return LLVMConstVector(lane, s->lanes);
}

LLVMValueRef simd_constant(const Simd *s, DType d, f64 x)
{
	x = dtype_round(d, x);
	LLVMValueRef c;
	if (d == DT_f64)
		c = cpu_f64(s->m, x);
	else if (dtype_is_float(d))
		c = cpu_f32(s->m, (f32)x);
	else if (d == DT_i64 && x >= 0x1p63) /* the largest, which f64 cannot hold */
		c = LLVMConstInt(simd_scalar_type(s, d), INT64_MAX, false);
	else
		c = LLVMConstInt(simd_scalar_type(s, d),
				 dtype_info[d].kind == KIND_U ? (u64)x : (u64)(i64)x, false);
	return repeat(s, c);
}

LLVMValueRef simd_f32(const Simd *s, f32 x)
{
	return repeat(s, cpu_f32(s->m, x));
}

LLVMValueRef simd_i32(const Simd *s, i64 x)
{
	return repeat(s, cpu_i32(s->m, x));
}

LLVMValueRef simd_i64(const Simd *s, i64 x)
{
	return repeat(s, cpu_i64(s->m, x));
}

LLVMValueRef simd_iota(const Simd *s, DType d)
{
	LLVMTypeRef type = simd_scalar_type(s, d);
	LLVMValueRef lane[64];
	for (u32 i = 0; i < s->lanes; i++)
		lane[i] = LLVMConstInt(type, i, false);
	return s->lanes == 1 ? lane[0] : LLVMConstVector(lane, s->lanes);
}

LLVMValueRef simd_splat(const Simd *s, LLVMValueRef scalar)
{
	if (s->lanes == 1)
		return scalar;
	if (LLVMIsConstant(scalar))
		return repeat(s, scalar);
	LLVMTypeRef type = simd_wide(s, LLVMTypeOf(scalar));
	LLVMValueRef one =
		LLVMBuildInsertElement(B, LLVMGetPoison(type), scalar, cpu_i32(s->m, 0), "");
	LLVMTypeRef mask = LLVMVectorType(s->m->i32, s->lanes);
	return LLVMBuildShuffleVector(B, one, LLVMGetPoison(type), LLVMConstNull(mask), "");
}

LLVMValueRef simd_lane(const Simd *s, LLVMValueRef x, u32 i)
{
	return s->lanes == 1 ? x : LLVMBuildExtractElement(B, x, cpu_i32(s->m, i), "");
}

static LLVMTypeRef scalar_of(LLVMValueRef x)
{
	LLVMTypeRef type = LLVMTypeOf(x);
	return LLVMGetTypeKind(type) == LLVMVectorTypeKind ? LLVMGetElementType(type) : type;
}

static bool is_float(LLVMValueRef x)
{
	LLVMTypeKind kind = LLVMGetTypeKind(scalar_of(x));
	return kind == LLVMFloatTypeKind || kind == LLVMDoubleTypeKind;
}

/* A call of an intrinsic overloaded on the type of its arguments, which are of one type. */
static LLVMValueRef call(const Simd *s, const char *name, u32 n, LLVMValueRef *argument)
{
	LLVMTypeRef type = LLVMTypeOf(argument[0]);
	return cpu_intrinsic(s->m, name, 1, &type, n, argument);
}

/* ---- arithmetic ---- */

LLVMValueRef simd_add(const Simd *s, LLVMValueRef a, LLVMValueRef b)
{
	return is_float(a) ? LLVMBuildFAdd(B, a, b, "") : LLVMBuildAdd(B, a, b, "");
}

LLVMValueRef simd_sub(const Simd *s, LLVMValueRef a, LLVMValueRef b)
{
	return is_float(a) ? LLVMBuildFSub(B, a, b, "") : LLVMBuildSub(B, a, b, "");
}

LLVMValueRef simd_mul(const Simd *s, LLVMValueRef a, LLVMValueRef b)
{
	return is_float(a) ? LLVMBuildFMul(B, a, b, "") : LLVMBuildMul(B, a, b, "");
}

LLVMValueRef simd_neg(const Simd *s, LLVMValueRef a)
{
	return is_float(a) ? LLVMBuildFNeg(B, a, "") : LLVMBuildNeg(B, a, "");
}

LLVMValueRef simd_fma(const Simd *s, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c)
{
	return call(s, "llvm.fma", 3, (LLVMValueRef[]){ a, b, c });
}

LLVMValueRef simd_multiply_add(const Simd *s, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c)
{
	return s->m->machine->has_fma ? simd_fma(s, a, b, c) : simd_add(s, simd_mul(s, a, b), c);
}

LLVMValueRef simd_dot_bf16(const Simd *s, LLVMValueRef acc, LLVMValueRef a, LLVMValueRef b)
{
	CpuModule *m = s->m;
	if (m->machine->has_bf16 && s->lanes >= 4 && s->lanes <= 16) {
		const char *name = s->lanes == 16 ? "llvm.x86.avx512bf16.dpbf16ps.512" :
				   s->lanes == 8  ? "llvm.x86.avx512bf16.dpbf16ps.256" :
						    "llvm.x86.avx512bf16.dpbf16ps.128";
		LLVMTypeRef halves = LLVMVectorType(LLVMBFloatTypeInContext(m->context), 2 * s->lanes);
		LLVMValueRef operand[] = { acc, LLVMBuildBitCast(B, a, halves, ""), LLVMBuildBitCast(B, b, halves, "") };
		return cpu_intrinsic(m, name, 0, NULL, 3, operand);
	}
	LLVMValueRef upper = simd_i32(s, 0xffff0000), half = simd_i32(s, 16);
	LLVMValueRef x = simd_bits(s, DT_f32, simd_and(s, a, upper)), y = simd_bits(s, DT_f32, simd_and(s, b, upper));
	acc = simd_fma(s, x, y, acc);
	x = simd_bits(s, DT_f32, LLVMBuildShl(B, a, half, ""));
	y = simd_bits(s, DT_f32, LLVMBuildShl(B, b, half, ""));
	return simd_fma(s, x, y, acc);
}

/* A divisor that does not trap: 1 in place of 0, and of -1 below the smallest a, where the quotient
 * wraps to the same. */
static LLVMValueRef safe_divisor(const Simd *s, DType d, LLVMValueRef a, LLVMValueRef b,
				 LLVMValueRef *is_zero)
{
	LLVMTypeRef type = LLVMTypeOf(b);
	LLVMValueRef one = repeat(s, LLVMConstInt(scalar_of(b), 1, false));
	LLVMValueRef unsafe = *is_zero = simd_eq(s, b, LLVMConstNull(type));
	if (dtype_info[d].kind == KIND_I) {
		u64 least = (u64)1 << (8 * dtype_info[d].bytes - 1);
		LLVMValueRef smallest = repeat(s, LLVMConstInt(scalar_of(b), least, false));
		unsafe = simd_or(s, unsafe,
				 simd_and(s, simd_eq(s, a, smallest),
					  simd_eq(s, b, LLVMConstAllOnes(type))));
	}
	return simd_select(s, unsafe, one, b);
}

/* The remainder and the divisor differ in sign: the quotient was rounded up. */
static LLVMValueRef rounded_up(const Simd *s, LLVMValueRef remainder, LLVMValueRef b)
{
	LLVMValueRef zero = LLVMConstNull(LLVMTypeOf(b));
	LLVMValueRef differ = LLVMBuildICmp(B, LLVMIntSLT, simd_xor(s, remainder, b), zero, "");
	return simd_and(s, simd_ne(s, remainder, zero), differ);
}

LLVMValueRef simd_floordiv(const Simd *s, DType d, LLVMValueRef a, LLVMValueRef b)
{
	LLVMValueRef zero = LLVMConstNull(LLVMTypeOf(b));
	if (dtype_is_float(d))
		return simd_select(s, simd_eq(s, b, zero), zero,
				   simd_floor(s, LLVMBuildFDiv(B, a, b, "")));
	LLVMValueRef is_zero, safe = safe_divisor(s, d, a, b, &is_zero), q;
	if (dtype_info[d].kind == KIND_I) {
		q = LLVMBuildSDiv(B, a, safe, "");
		LLVMValueRef up = rounded_up(s, simd_sub(s, a, simd_mul(s, q, safe)), safe);
		q = simd_add(s, q, LLVMBuildSExt(B, up, LLVMTypeOf(q), ""));
	} else {
		q = LLVMBuildUDiv(B, a, safe, "");
	}
	return simd_select(s, is_zero, zero, q);
}

LLVMValueRef simd_mod(const Simd *s, DType d, LLVMValueRef a, LLVMValueRef b)
{
	LLVMValueRef zero = LLVMConstNull(LLVMTypeOf(b));
	if (dtype_is_float(d)) {
		LLVMValueRef q = simd_floor(s, LLVMBuildFDiv(B, a, b, ""));
		return simd_select(s, simd_eq(s, b, zero), zero, simd_sub(s, a, simd_mul(s, b, q)));
	}
	LLVMValueRef is_zero, safe = safe_divisor(s, d, a, b, &is_zero), r;
	if (dtype_info[d].kind == KIND_I) {
		r = LLVMBuildSRem(B, a, safe, "");
		r = simd_select(s, rounded_up(s, r, safe), simd_add(s, r, safe), r);
	} else {
		r = LLVMBuildURem(B, a, safe, "");
	}
	return simd_select(s, is_zero, zero, r);
}

LLVMValueRef simd_div(const Simd *s, DType d, LLVMValueRef a, LLVMValueRef b)
{
	return dtype_is_float(d) ? LLVMBuildFDiv(B, a, b, "") : simd_floordiv(s, d, a, b);
}

LLVMValueRef simd_abs(const Simd *s, DType d, LLVMValueRef a)
{
	if (dtype_is_float(d))
		return call(s, "llvm.fabs", 1, &a);
	if (dtype_info[d].kind != KIND_I)
		return a;
	return call(s, "llvm.abs", 2, (LLVMValueRef[]){ a, cpu_i1(s->m, false) });
}

/* The bits of the exponent; denormals are moved to where they have one. */
LLVMValueRef simd_binade(const Simd *s, LLVMValueRef a)
{
	bool wide = scalar_of(a) == s->m->f64;
	DType d = wide ? DT_f64 : DT_f32, bits = wide ? DT_i64 : DT_i32;
	LLVMValueRef mask = wide ? simd_i64(s, (i64)0x7ff0000000000000) : simd_i32(s, 0x7f800000);
	LLVMValueRef size = simd_abs(s, d, a), up = simd_constant(s, d, wide ? 0x1p60 : 0x1p30);
	LLVMValueRef small = simd_lt(s, d, size, simd_constant(s, d, wide ? 0x1p-1022 : 0x1p-126));
	LLVMValueRef x = simd_select(s, small, simd_mul(s, size, up), size);
	x = simd_bits(s, d, simd_and(s, simd_bits(s, bits, x), mask));
	x = simd_select(s, small, simd_mul(s, x, simd_constant(s, d, wide ? 0x1p-60 : 0x1p-30)), x);
	return simd_select(s, simd_ne(s, a, a), a, x);
}

LLVMValueRef simd_sign(const Simd *s, DType d, LLVMValueRef a)
{
	LLVMValueRef zero = LLVMConstNull(LLVMTypeOf(a)), one = simd_constant(s, d, 1);
	LLVMValueRef positive = simd_select(s, simd_lt(s, d, zero, a), one, zero);
	if (dtype_info[d].kind == KIND_U || dtype_info[d].kind == KIND_B)
		return positive;
	return simd_select(s, simd_lt(s, d, a, zero), simd_constant(s, d, -1), positive);
}

LLVMValueRef simd_max_fast(const Simd *s, LLVMValueRef a, LLVMValueRef b)
{
	return simd_select(s, LLVMBuildFCmp(B, LLVMRealOGT, a, b, ""), a, b);
}

LLVMValueRef simd_min_fast(const Simd *s, LLVMValueRef a, LLVMValueRef b)
{
	return simd_select(s, LLVMBuildFCmp(B, LLVMRealOLT, a, b, ""), a, b);
}

LLVMValueRef simd_max(const Simd *s, DType d, LLVMValueRef a, LLVMValueRef b)
{
	if (!dtype_is_float(d))
		return simd_select(s, simd_lt(s, d, b, a), a, b);
	return simd_select(s, simd_ne(s, a, a), a, simd_max_fast(s, a, b));
}

LLVMValueRef simd_min(const Simd *s, DType d, LLVMValueRef a, LLVMValueRef b)
{
	if (!dtype_is_float(d))
		return simd_select(s, simd_lt(s, d, a, b), a, b);
	return simd_select(s, simd_ne(s, a, a), a, simd_min_fast(s, a, b));
}

/* ---- comparison and selection ---- */

LLVMValueRef simd_lt(const Simd *s, DType d, LLVMValueRef a, LLVMValueRef b)
{
	if (dtype_is_float(d))
		return LLVMBuildFCmp(B, LLVMRealOLT, a, b, "");
	return LLVMBuildICmp(B, dtype_info[d].kind == KIND_I ? LLVMIntSLT : LLVMIntULT, a, b, "");
}

LLVMValueRef simd_le(const Simd *s, DType d, LLVMValueRef a, LLVMValueRef b)
{
	if (dtype_is_float(d))
		return LLVMBuildFCmp(B, LLVMRealOLE, a, b, "");
	return LLVMBuildICmp(B, dtype_info[d].kind == KIND_I ? LLVMIntSLE : LLVMIntULE, a, b, "");
}

LLVMValueRef simd_eq(const Simd *s, LLVMValueRef a, LLVMValueRef b)
{
	return is_float(a) ? LLVMBuildFCmp(B, LLVMRealOEQ, a, b, "")
			   : LLVMBuildICmp(B, LLVMIntEQ, a, b, "");
}

LLVMValueRef simd_ne(const Simd *s, LLVMValueRef a, LLVMValueRef b)
{
	return is_float(a) ? LLVMBuildFCmp(B, LLVMRealUNE, a, b, "")
			   : LLVMBuildICmp(B, LLVMIntNE, a, b, "");
}

LLVMValueRef simd_and(const Simd *s, LLVMValueRef a, LLVMValueRef b)
{
	return LLVMBuildAnd(B, a, b, "");
}

LLVMValueRef simd_or(const Simd *s, LLVMValueRef a, LLVMValueRef b)
{
	return LLVMBuildOr(B, a, b, "");
}

LLVMValueRef simd_xor(const Simd *s, LLVMValueRef a, LLVMValueRef b)
{
	return LLVMBuildXor(B, a, b, "");
}

LLVMValueRef simd_not(const Simd *s, LLVMValueRef a)
{
	return LLVMBuildNot(B, a, "");
}

LLVMValueRef simd_select(const Simd *s, LLVMValueRef mask, LLVMValueRef a, LLVMValueRef b)
{
	return LLVMBuildSelect(B, mask, a, b, "");
}

LLVMValueRef simd_any(const Simd *s, LLVMValueRef mask)
{
	return s->lanes == 1 ? mask : call(s, "llvm.vector.reduce.or", 1, &mask);
}

/* ---- conversion ---- */

LLVMValueRef simd_bits(const Simd *s, DType to, LLVMValueRef x)
{
	return LLVMBuildBitCast(B, x, simd_type(s, to), "");
}

static LLVMValueRef shift_left(const Simd *s, LLVMValueRef x, u32 by)
{
	return LLVMBuildShl(B, x, simd_i32(s, by), "");
}

static LLVMValueRef shift_right(const Simd *s, LLVMValueRef x, u32 by)
{
	return LLVMBuildLShr(B, x, simd_i32(s, by), "");
}

LLVMValueRef simd_from_bf16(const Simd *s, LLVMValueRef bits)
{
	LLVMValueRef x = LLVMBuildZExt(B, bits, simd_wide(s, s->m->i32), "");
	return simd_bits(s, DT_f32, shift_left(s, x, 16));
}

LLVMValueRef simd_to_bf16(const Simd *s, LLVMValueRef x)
{
	LLVMValueRef bits = simd_bits(s, DT_i32, x);
	/* half of the last place kept, less one when that place is even: ties go to even */
	LLVMValueRef odd = simd_and(s, shift_right(s, bits, 16), simd_i32(s, 1));
	LLVMValueRef half = simd_add(s, odd, simd_i32(s, 0x7fff));
	LLVMValueRef rounded = simd_add(s, bits, half);
	/* which would carry some NaNs into infinity */
	LLVMValueRef quiet = simd_or(s, bits, simd_i32(s, 0x400000));
	rounded = simd_select(s, simd_ne(s, x, x), quiet, rounded);
	return LLVMBuildTrunc(B, shift_right(s, rounded, 16), simd_wide(s, s->m->i16), "");
}

LLVMValueRef simd_from_f16(const Simd *s, LLVMValueRef bits)
{
	LLVMTypeRef half = simd_wide(s, s->m->f16), f32 = simd_wide(s, s->m->f32);
	if (s->m->machine->has_f16) {
		LLVMValueRef x = LLVMBuildFPExt(B, LLVMBuildBitCast(B, bits, half, ""), f32, "");
		/* else LLVM moves comparisons and rounding before the widening, and then does them lane by lane */
		return call(s, "llvm.arithmetic.fence", 1, &x);
	}
	/* the exponent is moved into place and scaled by a product, which also takes denormals */
	LLVMValueRef x = LLVMBuildZExt(B, bits, simd_wide(s, s->m->i32), "");
	LLVMValueRef sign = shift_left(s, simd_and(s, x, simd_i32(s, 0x8000)), 16);
	LLVMValueRef size = shift_left(s, simd_and(s, x, simd_i32(s, 0x7fff)), 13);
	LLVMValueRef finite = simd_mul(s, simd_bits(s, DT_f32, size), simd_f32(s, 0x1p112f));
	LLVMValueRef special = simd_or(s, size, simd_i32(s, 0x7f800000));
	LLVMValueRef nan = simd_lt(s, DT_i32, simd_i32(s, 0x7c00 << 13), size);
	special = simd_select(s, nan, simd_or(s, special, simd_i32(s, 0x400000)), special);
	size = simd_select(s, simd_lt(s, DT_i32, size, simd_i32(s, 0x7c00 << 13)),
			   simd_bits(s, DT_i32, finite), special);
	return simd_bits(s, DT_f32, simd_or(s, sign, size));
}

LLVMValueRef simd_to_f16(const Simd *s, LLVMValueRef x)
{
	LLVMTypeRef half = simd_wide(s, s->m->f16), i16 = simd_wide(s, s->m->i16);
	if (s->m->machine->has_f16)
		return LLVMBuildBitCast(B, LLVMBuildFPTrunc(B, x, half, ""), i16, "");
	LLVMValueRef bits = simd_bits(s, DT_i32, x);
	LLVMValueRef sign = shift_right(s, simd_and(s, bits, simd_i32(s, 0x80000000)), 16);
	LLVMValueRef size = simd_and(s, bits, simd_i32(s, 0x7fffffff));
	/* normal results: the exponent moved, and ties to even as for bf16 */
	LLVMValueRef odd = simd_and(s, shift_right(s, size, 13), simd_i32(s, 1));
	LLVMValueRef normal = simd_add(s, size, simd_add(s, odd, simd_i32(s, 0xfff)));
	normal = shift_right(s, simd_sub(s, normal, simd_i32(s, 112 << 23)), 13);
	/* denormal ones: a sum whose last place is theirs lets the adder round */
	LLVMValueRef sum = simd_add(s, simd_bits(s, DT_f32, size), simd_f32(s, 0.5f));
	LLVMValueRef small = simd_sub(s, simd_bits(s, DT_i32, sum), simd_i32(s, 0x3f000000));
	LLVMValueRef is_small = simd_lt(s, DT_i32, size, simd_i32(s, 113 << 23));
	/* 65520 and above are infinite */
	LLVMValueRef is_large = simd_le(s, DT_i32, simd_i32(s, 0x477ff000), size);
	LLVMValueRef is_nan = simd_lt(s, DT_i32, simd_i32(s, 0x7f800000), size);
	LLVMValueRef nan = simd_or(s, simd_and(s, shift_right(s, size, 13), simd_i32(s, 0x3ff)),
				   simd_i32(s, 0x7e00));
	size = simd_select(s, is_small, small, normal);
	size = simd_select(s, is_large, simd_i32(s, 0x7c00), size);
	size = simd_select(s, is_nan, nan, size);
	return LLVMBuildTrunc(B, simd_or(s, sign, size), i16, "");
}

/* An f8e5m2 is the upper half of an f16; an f8e4m3 has its bits where those of an f16 are, after a shift, and an exponent
 * that is 8 too small. */
LLVMValueRef simd_from_f8(const Simd *s, DType d, LLVMValueRef bits)
{
	LLVMTypeRef i16 = simd_wide(s, s->m->i16);
	LLVMValueRef x = LLVMBuildZExt(B, bits, simd_wide(s, s->m->i32), "");
	if (d == DT_f8e5m2)
		return simd_from_f16(s, LLVMBuildTrunc(B, shift_left(s, x, 8), i16, ""));
	LLVMValueRef size = simd_and(s, x, simd_i32(s, 0x7f));
	LLVMValueRef moved = simd_or(s, shift_left(s, simd_and(s, x, simd_i32(s, 0x80)), 8), shift_left(s, size, 7));
	LLVMValueRef y = simd_mul(s, simd_from_f16(s, LLVMBuildTrunc(B, moved, i16, "")), simd_f32(s, 256));
	return simd_select(s, simd_eq(s, size, simd_i32(s, 0x7f)), simd_f32(s, NAN), y);
}

/* As f8_from_f32 (support/float8.h) does. */
LLVMValueRef simd_to_f8(const Simd *s, DType d, LLVMValueRef x)
{
	bool e4m3 = d == DT_f8e4m3;
	u32 below = e4m3 ? 20 : 21, normal = 127 - (e4m3 ? 6 : 14), largest = e4m3 ? 0x7e : 0x7b;
	LLVMValueRef bits = simd_bits(s, DT_i32, x);
	LLVMValueRef sign = simd_and(s, shift_right(s, bits, 24), simd_i32(s, 0x80));
	LLVMValueRef size = simd_and(s, bits, simd_i32(s, 0x7fffffff));
	LLVMValueRef odd = simd_and(s, shift_right(s, size, below), simd_i32(s, 1));
	LLVMValueRef rounded = simd_add(s, size, simd_add(s, odd, simd_i32(s, (1 << (below - 1)) - 1)));
	rounded = shift_right(s, simd_sub(s, rounded, simd_i32(s, (i64)(normal - 1) << 23)), below);
	/* denormal ones: the adder rounds at the sum's last place, which is theirs */
	u32 place = (normal + below) << 23;
	LLVMValueRef sum = simd_add(s, simd_bits(s, DT_f32, size), simd_bits(s, DT_f32, simd_i32(s, place)));
	LLVMValueRef small = simd_sub(s, simd_bits(s, DT_i32, sum), simd_i32(s, place));
	LLVMValueRef code = simd_select(s, simd_lt(s, DT_i32, size, simd_i32(s, (i64)normal << 23)), small, rounded);
	code = simd_or(s, sign, simd_min(s, DT_i32, code, simd_i32(s, largest)));
	code = simd_select(s, simd_lt(s, DT_i32, simd_i32(s, 0x7f800000), size), simd_i32(s, 0x7f), code);
	return LLVMBuildTrunc(B, code, simd_wide(s, s->m->i8), "");
}

/* f64 to f32, rounded to odd: what is rounded again to a narrower type then comes out as if it had
 * been rounded once (Boldo and Melquiond, Emulation of FMA and correctly rounded sums, 2008). */
static LLVMValueRef round_to_odd(const Simd *s, LLVMValueRef x)
{
	LLVMValueRef y = LLVMBuildFPTrunc(B, x, simd_wide(s, s->m->f32), "");
	LLVMValueRef back = LLVMBuildFPExt(B, y, LLVMTypeOf(x), "");
	LLVMValueRef inexact = LLVMBuildFCmp(B, LLVMRealONE, back, x, "");
	LLVMValueRef away = simd_lt(s, DT_f64, simd_abs(s, DT_f64, x), simd_abs(s, DT_f64, back));
	LLVMTypeRef i32 = simd_wide(s, s->m->i32);
	LLVMValueRef bits = simd_bits(s, DT_i32, y);
	bits = simd_add(s, bits, LLVMBuildSExt(B, away, i32, ""));
	bits = simd_or(s, bits, LLVMBuildZExt(B, inexact, i32, ""));
	return simd_bits(s, DT_f32, bits);
}

/* f32 or f64 registers to those of a float type. */
static LLVMValueRef round_to(const Simd *s, DType to, LLVMValueRef x)
{
	bool narrow = dtype_is_narrow_float(to), was_f64 = scalar_of(x) == s->m->f64;
	if (to == DT_f64)
		return was_f64 ? x : LLVMBuildFPExt(B, x, simd_wide(s, s->m->f64), "");
	if (was_f64)
		x = narrow ? round_to_odd(s, x) : LLVMBuildFPTrunc(B, x, simd_wide(s, s->m->f32), "");
	return to == DT_bf16	 ? simd_from_bf16(s, simd_to_bf16(s, x))
	       : to == DT_f16	 ? simd_from_f16(s, simd_to_f16(s, x))
	       : dtype_is_f8(to) ? simd_from_f8(s, to, simd_to_f8(s, to, x))
				 : x;
}

/* trunc(x) modulo 2^32, in [-2^31, 2^31); every step is exact. Infinity gives NaN. */
static LLVMValueRef wrap_32(const Simd *s, DType d, LLVMValueRef x)
{
	LLVMValueRef turn = simd_constant(s, d, 0x1p32), half = simd_constant(s, d, 0x1p31);
	x = simd_trunc(s, x);
	LLVMValueRef turns = simd_trunc(s, simd_mul(s, x, simd_constant(s, d, 0x1p-32)));
	x = simd_sub(s, x, simd_mul(s, turns, turn));
	x = simd_select(s, simd_le(s, d, half, x), simd_sub(s, x, turn), x);
	return simd_select(s, simd_lt(s, d, x, simd_neg(s, half)), simd_add(s, x, turn), x);
}

/* d is f32 or f64. */
static LLVMValueRef float_to_integer(const Simd *s, DType d, DType to, LLVMValueRef x)
{
	LLVMTypeRef overload[] = { simd_wide(s, to == DT_i64 ? s->m->i64 : s->m->i32), LLVMTypeOf(x) };
	LLVMValueRef in_range = to == DT_i64 ? x : wrap_32(s, d, x);
	LLVMValueRef y = cpu_intrinsic(s->m, "llvm.fptosi.sat", 2, overload, 1, &in_range);
	if (to == DT_i64)
		return y;
	if (dtype_info[to].bytes == 1)
		y = LLVMBuildTrunc(B, y, simd_type(s, to), "");
	/* infinities go to the ends */
	f64 high = dtype_info[to].largest, low = dtype_info[to].kind == KIND_I ? -high - 1 : 0;
	y = simd_select(s, simd_eq(s, x, simd_constant(s, d, INFINITY)), simd_constant(s, to, high),
			y);
	return simd_select(s, simd_eq(s, x, simd_constant(s, d, -INFINITY)),
			   simd_constant(s, to, low), y);
}

LLVMValueRef simd_convert(const Simd *s, DType from, DType to, LLVMValueRef x)
{
	LLVMTypeRef type = simd_type(s, to);
	bool to_float = dtype_is_float(to);
	if (from == to)
		return x;
	if (to == DT_b1)
		return simd_ne(s, x, LLVMConstNull(LLVMTypeOf(x)));
	if (dtype_is_float(from))
		return to_float ? round_to(s, to, x)
				: float_to_integer(s, from == DT_f64 ? DT_f64 : DT_f32, to, x);
	bool is_signed = dtype_info[from].kind == KIND_I;
	if (to_float) {
		/* an integer of 32 bits is exact in f64, one of 8 also in f32 */
		LLVMTypeRef via =
			to == DT_f32 || dtype_info[from].bytes == 1 ? s->m->f32 : s->m->f64;
		via = simd_wide(s, via);
		x = is_signed ? LLVMBuildSIToFP(B, x, via, "") : LLVMBuildUIToFP(B, x, via, "");
		return round_to(s, to, x);
	}
	u32 bits = from == DT_b1 ? 1 : 8 * dtype_info[from].bytes, want = 8 * dtype_info[to].bytes;
	if (bits > want)
		return LLVMBuildTrunc(B, x, type, "");
	if (bits == want)
		return x;
	return is_signed ? LLVMBuildSExt(B, x, type, "") : LLVMBuildZExt(B, x, type, "");
}
