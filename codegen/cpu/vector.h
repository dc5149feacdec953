/* codegen/cpu/vector.h: the vocabulary in which kernels are emitted: explicit vectors of a given
 * number of lanes; with one lane the values are scalars and everything means the same.
 *
 * A value in a register has the type that `simd_type` gives for its DType: f32 for f32, bf16 and
 * f16 (the last two hold values that were rounded to them), i1 for b1, else the DType's own.
 * Integers have no sign in LLVM, so functions that care take the DType.
 *
 * Accuracy of the functions below is over all f32, in units in the last place of the result, and
 * holds with and without fma instructions (test_vector_math.c measures it against libm in f64).
 * They are right for infinities, NaN, signed zeros and denormals. For f64 they call libm, lane by
 * lane. */
#ifndef PL_CPU_VECTOR_H
#define PL_CPU_VECTOR_H
#include "codegen/cpu/llvm.h"
#include "ir/type.h"

typedef struct Simd {
	CpuModule *m;
	u32 lanes; /* 1, or a power of two up to 64 */
} Simd;

/* ---- types and constants ---- */

LLVMTypeRef simd_wide(const Simd *s, LLVMTypeRef scalar); /* as many of it as there are lanes */
LLVMTypeRef simd_type(const Simd *s, DType d);        /* of a register */
LLVMTypeRef simd_scalar_type(const Simd *s, DType d); /* of one lane of it */
LLVMTypeRef simd_memory_type(const Simd *s, DType d); /* of an element in memory: i8 for b1 and
							 floats of 8 bits, i16 for bf16 and f16 */
LLVMValueRef simd_constant(const Simd *s, DType d, f64 x); /* in every lane; rounded to d */
LLVMValueRef simd_f32(const Simd *s, f32 x);
LLVMValueRef simd_i32(const Simd *s, i64 x); /* its low 32 bits */
LLVMValueRef simd_i64(const Simd *s, i64 x);
LLVMValueRef simd_iota(const Simd *s, DType d);               /* 0, 1, 2, ...; i32 or i64 */
LLVMValueRef simd_splat(const Simd *s, LLVMValueRef scalar);  /* into every lane */
LLVMValueRef simd_lane(const Simd *s, LLVMValueRef x, u32 i); /* one lane of it */

/* ---- memory: addresses of the first element; `align` of it in bytes, 0: that of the element ----
 */

LLVMValueRef simd_load(const Simd *s, DType d, LLVMValueRef at, u32 align);
/* Stores to narrow floats round to nearest even; no rounding of one's own is needed before. */
void simd_store(const Simd *s, DType d, LLVMValueRef x, LLVMValueRef at, u32 align);
/* Past the caches, for what is written once and not soon read; `align` must be the vector's size.
 */
void simd_store_stream(const Simd *s, DType d, LLVMValueRef x, LLVMValueRef at, u32 align);
/* After streaming stores, before another thread reads: once, at the end of a task. */
void simd_store_fence(const Simd *s);

/* Lane i is on where i < count (i64; below 0 is none, above the lanes is all). */
LLVMValueRef simd_mask(const Simd *s, LLVMValueRef count);
/* Lanes that are off are neither read nor written, and read as 0. */
LLVMValueRef simd_load_masked(const Simd *s, DType d, LLVMValueRef at, u32 align,
			      LLVMValueRef mask);
void simd_store_masked(const Simd *s, DType d, LLVMValueRef x, LLVMValueRef at, u32 align,
		       LLVMValueRef mask);
/* at[index[lane]], an i32 or i64 index per lane, counted in elements; `mask` may be NULL. */
LLVMValueRef simd_gather(const Simd *s, DType d, LLVMValueRef at, LLVMValueRef index,
			 LLVMValueRef mask);
/* Where indices repeat, the highest lane's value stays. */
void simd_scatter(const Simd *s, DType d, LLVMValueRef x, LLVMValueRef at, LLVMValueRef index,
		  LLVMValueRef mask);
/* at[lane * stride], stride an i64 scalar in elements. */
LLVMValueRef simd_load_strided(const Simd *s, DType d, LLVMValueRef at, LLVMValueRef stride,
			       LLVMValueRef mask);
void simd_store_strided(const Simd *s, DType d, LLVMValueRef x, LLVMValueRef at,
			LLVMValueRef stride, LLVMValueRef mask);
/* One element, read into every lane. */
LLVMValueRef simd_load_splat(const Simd *s, DType d, LLVMValueRef at);
/* Ask for the line at `at`: level 1 to 3 of the cache. */
void simd_prefetch(const Simd *s, LLVMValueRef at, u32 level, bool write);

/* ---- arithmetic: of floats or integers (which wrap), by the operands' type ---- */

LLVMValueRef simd_add(const Simd *s, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef simd_sub(const Simd *s, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef simd_mul(const Simd *s, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef simd_neg(const Simd *s, LLVMValueRef a);
LLVMValueRef simd_fma(const Simd *s, LLVMValueRef a, LLVMValueRef b,
		      LLVMValueRef c); /* one rounding */
/* a * b + c in the fewest instructions: fma where the CPU has it, else two roundings. */
LLVMValueRef simd_multiply_add(const Simd *s, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c);
/* acc + the product of two pairs of bf16: lanes are 32 bits, the first of a pair in the lower half. One
 * instruction where the CPU has it (vdpbf16ps). The definition, which is what others compute:
 *   acc = fma(upper(a), upper(b), acc); acc = fma(lower(a), lower(b), acc)
 * in f32, rounding to nearest even. The instruction takes and gives denormals as 0. */
LLVMValueRef simd_dot_bf16(const Simd *s, LLVMValueRef acc, LLVMValueRef a, LLVMValueRef b);
/* For integers as the graph defines them: the quotient rounded down, and 0 when b is 0. */
LLVMValueRef simd_div(const Simd *s, DType d, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef simd_floordiv(const Simd *s, DType d, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef simd_mod(const Simd *s, DType d, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef simd_abs(const Simd *s, DType d, LLVMValueRef a);
LLVMValueRef simd_binade(const Simd *s, LLVMValueRef a); /* of f32 or f64: the power of two not above |a| */
LLVMValueRef simd_sign(const Simd *s, DType d, LLVMValueRef a); /* -1, 0 or 1; 0 for NaN */
/* (a > b || a != a) ? a : b, so NaN when either is; and with < for min. */
LLVMValueRef simd_max(const Simd *s, DType d, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef simd_min(const Simd *s, DType d, LLVMValueRef a, LLVMValueRef b);
/* a > b ? a : b, one instruction: where a NaN need not come through from a. */
LLVMValueRef simd_max_fast(const Simd *s, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef simd_min_fast(const Simd *s, LLVMValueRef a, LLVMValueRef b);

/* ---- comparison (to masks, i1) and selection; C's meaning for NaN ---- */

LLVMValueRef simd_lt(const Simd *s, DType d, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef simd_le(const Simd *s, DType d, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef simd_eq(const Simd *s, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef simd_ne(const Simd *s, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef simd_and(const Simd *s, LLVMValueRef a, LLVMValueRef b); /* of masks or integers */
LLVMValueRef simd_or(const Simd *s, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef simd_xor(const Simd *s, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef simd_not(const Simd *s, LLVMValueRef a);
LLVMValueRef simd_select(const Simd *s, LLVMValueRef mask, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef simd_any(const Simd *s, LLVMValueRef mask); /* one i1 */

/* ---- conversion ---- */

/* Between the registers of two DTypes, as dtype_round does: to nearest even for floats; toward zero
 * and wrapping for integers (NaN gives 0, infinity the end of the type); nonzero to true. To i64,
 * floats beyond it saturate. */
LLVMValueRef simd_convert(const Simd *s, DType from, DType to, LLVMValueRef x);
/* f32 to the 16 bits that are stored and back, without and with a conversion in hardware alike. */
LLVMValueRef simd_to_bf16(const Simd *s, LLVMValueRef x);
LLVMValueRef simd_from_bf16(const Simd *s, LLVMValueRef bits);
LLVMValueRef simd_to_f16(const Simd *s, LLVMValueRef x);
LLVMValueRef simd_from_f16(const Simd *s, LLVMValueRef bits);
/* The same to the 8 bits of f8e4m3 and f8e5m2, saturated. */
LLVMValueRef simd_to_f8(const Simd *s, DType d, LLVMValueRef x);
LLVMValueRef simd_from_f8(const Simd *s, DType d, LLVMValueRef bits);
/* The same bits as another type of the same width: simd_type of `to`. */
LLVMValueRef simd_bits(const Simd *s, DType to, LLVMValueRef x);

/* ---- across lanes ---- */

/* By halving: lane i with lane i + n/2, then i + n/4, ...; so the result depends on `lanes` only.
 */
LLVMValueRef simd_reduce_add(const Simd *s, LLVMValueRef x);
LLVMValueRef simd_reduce_max(const Simd *s, DType d, LLVMValueRef x);
LLVMValueRef simd_reduce_min(const Simd *s, DType d, LLVMValueRef x);
/* `lanes` vectors in place: row[i] lane j becomes row[j] lane i. */
void simd_transpose(const Simd *s, LLVMValueRef *row);
/* Lane i of the result is lane index[i] of a and b put together. */
LLVMValueRef simd_shuffle(const Simd *s, LLVMValueRef a, LLVMValueRef b, const u32 *index, u32 n);

/* ---- functions, and their greatest error in ulp ---- */

LLVMValueRef simd_sqrt(const Simd *s, LLVMValueRef x);  /* 0.5 */
LLVMValueRef simd_recip(const Simd *s, LLVMValueRef x); /* 0.5: 1 / x */
LLVMValueRef simd_rsqrt(const Simd *s, LLVMValueRef x); /* 1.5: 1 / sqrt(x) */
LLVMValueRef simd_floor(const Simd *s, LLVMValueRef x);
LLVMValueRef simd_ceil(const Simd *s, LLVMValueRef x);
LLVMValueRef simd_trunc(const Simd *s, LLVMValueRef x);
LLVMValueRef simd_round(const Simd *s, LLVMValueRef x);   /* halves to even */
LLVMValueRef simd_exp(const Simd *s, LLVMValueRef x);     /* 1 */
/* The same bits for -87 <= x <= 88, where e^x is a normal number, and for NaN, in two thirds of the instructions. */
LLVMValueRef simd_exp_normal(const Simd *s, LLVMValueRef x);
LLVMValueRef simd_exp2(const Simd *s, LLVMValueRef x);    /* 1.25 */
LLVMValueRef simd_expm1(const Simd *s, LLVMValueRef x);   /* 1.5 */
LLVMValueRef simd_log(const Simd *s, LLVMValueRef x);     /* 1 */
LLVMValueRef simd_log2(const Simd *s, LLVMValueRef x);    /* 1.6 */
LLVMValueRef simd_log1p(const Simd *s, LLVMValueRef x);   /* 1.5 */
LLVMValueRef simd_tanh(const Simd *s, LLVMValueRef x);    /* 1.5 */
LLVMValueRef simd_sigmoid(const Simd *s, LLVMValueRef x); /* 2 */
LLVMValueRef simd_erf(const Simd *s, LLVMValueRef x);     /* 1.5 */
LLVMValueRef simd_sin(const Simd *s, LLVMValueRef x);     /* 1.5, also for the largest x */
LLVMValueRef simd_cos(const Simd *s, LLVMValueRef x);     /* 1.5, likewise */
LLVMValueRef simd_pow(const Simd *s, LLVMValueRef x, LLVMValueRef y); /* 0.51 */

/* ---- random numbers: as ir/philox.h defines them ---- */

/* counter and key: i32 vectors, low word first; gives four i32 vectors. */
void simd_philox(const Simd *s, const LLVMValueRef counter[4], const LLVMValueRef key[2],
		 LLVMValueRef out[4]);
/* One u32 for each of the elements `element` (i64 lanes): element e gets word e % 4 of the block
 * e / 4, with the counter (block low, block high, step low, step high); key and step are i64
 * scalars, 64 bits each. It is the same whatever the number of lanes. */
LLVMValueRef simd_random(const Simd *s, LLVMValueRef key, LLVMValueRef step, LLVMValueRef element);
/* The same for 4 * lanes elements from `first` on (i64 scalar, a multiple of 4), in order, at the
 * cost of one simd_random: for what is contiguous. */
void simd_random4(const Simd *s, LLVMValueRef key, LLVMValueRef step, LLVMValueRef first,
		  LLVMValueRef out[4]);
/* u32 to f32 in [0, 1): its upper 24 bits times 2^-24. */
LLVMValueRef simd_uniform(const Simd *s, LLVMValueRef bits);

#endif
