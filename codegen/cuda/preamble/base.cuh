// codegen/cuda/preamble/base.cuh: what every generated function may use. Includes nothing: NVRTC may be all that
// is installed. Compiled with --fmad=false, IEEE division and square root, denormals kept.
//
// A value is held as float (also bf16, f16 and floats of 8 bits, exactly), double, int (also i8, wrapped), unsigned (also u8),
// long long or bool; in memory it is float, double, unsigned short (bf16, f16), int, signed char, unsigned char
// (also bool, f8e4m3, f8e5m2) and so on. Functions of values are overloaded by these types and mean what ir/scalar.def says.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned u32;
typedef unsigned long long u64;
typedef long long i64;

#define PL static __device__ __forceinline__
// A statement for each element j of a vector in registers.
#define EACH(n) _Pragma("unroll") for (int j = 0; j < (n); j++)
// The same for each chunk c of a vector.
#define CHUNKS(n) _Pragma("unroll") for (int c = 0; c < (n); c++)

// What cuTensorMapEncodeTiled makes.
struct alignas(64) TensorMap {
	u64 opaque[16];
};

#define INFINITY_F __int_as_float(0x7f800000)
#define NAN_F __int_as_float(0x7fffffff)
#define INFINITY_D __longlong_as_double(0x7ff0000000000000ll)
#define NAN_D __longlong_as_double(0x7fffffffffffffffll)

// ---- bf16 and f16 ----

PL float pl_from_bf16(u16 x) { return __uint_as_float((u32)x << 16); }
PL float pl_low_bf16(u32 pair) { return __uint_as_float(pair << 16); }
PL float pl_high_bf16(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }
PL u16 pl_to_bf16(float x)
{
	u16 y;
	asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y) : "f"(x));
	return y;
}
PL u32 pl_pair_bf16(float low, float high)
{
	u32 y;
	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
	return y;
}
PL float pl_from_f16(u16 x)
{
	float y;
	asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
	return y;
}
PL float pl_low_f16(u32 pair) { return pl_from_f16((u16)pair); }
PL float pl_high_f16(u32 pair) { return pl_from_f16((u16)(pair >> 16)); }
PL u16 pl_to_f16(float x)
{
	u16 y;
	asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
	return y;
}
PL u32 pl_pair_f16(float low, float high)
{
	u32 y;
	asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
	return y;
}
PL float pl_round_bf16(float x) { return pl_from_bf16(pl_to_bf16(x)); }
PL float pl_round_f16(float x) { return pl_from_f16(pl_to_f16(x)); }

// ---- f8e4m3 and f8e5m2: casts to nearest even, saturated, two at a time where there are instructions for it ----

#if __CUDA_ARCH__ >= 900 || (__CUDA_ARCH__ >= 890 && __CUDACC_VER_MAJOR__ * 100 + __CUDACC_VER_MINOR__ >= 1201)
#define PL_F8(d, ptx, below, normal, largest, from) \
	PL u16 pl_near_##d(float low, float high) \
	{ \
		u16 y; \
		asm("cvt.rn.satfinite." ptx "x2.f32 %0, %1, %2;" : "=h"(y) : "f"(high), "f"(low)); \
		return y; \
	} \
	PL u32 pl_halves_##d(u16 pair) \
	{ \
		u32 y; \
		asm("cvt.rn.f16x2." ptx "x2 %0, %1;" : "=r"(y) : "h"(pair)); \
		return y; \
	} \
	PL float pl_low_##d(u16 pair) { return pl_low_f16(pl_halves_##d(pair)); } \
	PL float pl_high_##d(u16 pair) { return pl_high_f16(pl_halves_##d(pair)); } \
	PL float pl_from_##d(u8 x) { return pl_low_##d(x); } \
	PL float pl_round_##d(float x) { return pl_low_##d(pl_near_##d(x, 0.0f)); }
#else
// As f8_from_f32 of support/float8.h.
PL u8 pl_f8(float x, u32 below, u32 normal, u32 largest)
{
	u32 b = __float_as_uint(x), sign = b >> 24 & 0x80, size = b & 0x7fffffff;
	if (size > 0x7f800000u)
		return 0x7f;
	float place = __uint_as_float((normal + below) << 23);
	u32 small = __float_as_uint(__uint_as_float(size) + place) - __float_as_uint(place);
	u32 rounded = (size + (1u << (below - 1)) - 1 + (size >> below & 1) - ((normal - 1) << 23)) >> below;
	u32 y = size < normal << 23 ? small : rounded < largest ? rounded : largest;
	return (u8)(sign | y);
}
// An f8e5m2 is the upper half of an f16; an f8e4m3, moved to where its bits are, has an exponent that is 8 too small.
PL float pl_upper_half(u8 x) { return pl_from_f16((u16)(x << 8)); }
PL float pl_moved(u8 x)
{
	u32 size = x & 0x7f;
	return size == 0x7f ? NAN_F : pl_from_f16((u16)((x & 0x80) << 8 | size << 7)) * 256.0f;
}
#define PL_F8(d, ptx, below, normal, largest, from) \
	PL u16 pl_near_##d(float low, float high) \
	{ \
		return (u16)(pl_f8(low, below, normal, largest) | pl_f8(high, below, normal, largest) << 8); \
	} \
	PL float pl_from_##d(u8 x) { return from(x); } \
	PL float pl_low_##d(u16 pair) { return from((u8)pair); } \
	PL float pl_high_##d(u16 pair) { return from((u8)(pair >> 8)); } \
	PL float pl_round_##d(float x) { return from((u8)pl_near_##d(x, 0.0f)); }
#endif
PL_F8(f8e4m3, "e4m3", 20, 121, 0x7e, pl_moved)
PL_F8(f8e5m2, "e5m2", 21, 113, 0x7b, pl_upper_half)
// What goes to memory is one of the type's values already, which infinity is where memory had it: a cast saturates, a copy keeps it.
PL u16 pl_pair_f8e4m3(float low, float high) { return pl_near_f8e4m3(low, high); }
PL u16 pl_pair_f8e5m2(float low, float high)
{
	return (u16)(pl_near_f8e5m2(low, high) + (fabsf(low) == INFINITY_F ? 1 : 0) + (fabsf(high) == INFINITY_F ? 256 : 0));
}
PL u8 pl_to_f8e4m3(float x) { return (u8)pl_pair_f8e4m3(x, 0.0f); }
PL u8 pl_to_f8e5m2(float x) { return (u8)pl_pair_f8e5m2(x, 0.0f); }

// ---- conversions between values, as dtype_round does ----

// Rounded to odd, so that a second rounding to a narrow float is right.
PL float pl_odd(double x)
{
	float y = __double2float_rz(x);
	return (double)y == x || x != x ? y : __int_as_float(__float_as_int(y) | 1);
}
PL float pl_odd(int x)
{
	float y = __int2float_rz(x);
	return (i64)y == (i64)x ? y : __int_as_float(__float_as_int(y) | 1);
}
PL float pl_odd(u32 x)
{
	float y = __uint2float_rz(x);
	return (i64)y == (i64)x ? y : __int_as_float(__float_as_int(y) | 1);
}
PL float pl_odd(i64 x)
{
	float y = __ll2float_rz(x);
	return (i64)y == x ? y : __int_as_float(__float_as_int(y) | 1);
}

// trunc(x) modulo 2^32; NaN gives 0, infinities what the caller says.
PL int pl_wrap(float x, int low, int high)
{
	if (fabsf(x) < 2147483648.0f)
		return __float2int_rz(x);
	if (x != x)
		return 0;
	if (fabsf(x) == INFINITY_F)
		return x > 0 ? high : low;
	u32 bits = __float_as_uint(x), shift = (bits >> 23 & 255) - 150;
	u32 y = shift < 32 ? (bits & 0x7fffff | 0x800000) << shift : 0;
	return (int)(x < 0 ? 0u - y : y);
}
PL int pl_wrap(double x, int low, int high)
{
	if (fabs(x) < 2147483648.0)
		return __double2int_rz(x);
	if (x != x)
		return 0;
	if (fabs(x) == INFINITY_D)
		return x > 0 ? high : low;
	u64 bits = (u64)__double_as_longlong(x), m = bits & 0xfffffffffffffull | 0x10000000000000ull;
	int shift = (int)(bits >> 52 & 2047) - 1075;
	u32 y = shift < 0 ? (u32)(m >> -shift) : shift < 32 ? (u32)m << shift : 0;
	return (int)(x < 0 ? 0u - y : y);
}
// Saturating; NaN gives 0.
PL i64 pl_saturate(float x) { return x != x ? 0 : __float2ll_rz(x); }
PL i64 pl_saturate(double x) { return x != x ? 0 : __double2ll_rz(x); }

// ---- scalar functions ----

PL int pl_add(int a, int b) { return (int)((u32)a + (u32)b); }
PL i64 pl_add(i64 a, i64 b) { return (i64)((u64)a + (u64)b); }
PL int pl_sub(int a, int b) { return (int)((u32)a - (u32)b); }
PL i64 pl_sub(i64 a, i64 b) { return (i64)((u64)a - (u64)b); }
PL int pl_mul(int a, int b) { return (int)((u32)a * (u32)b); }
PL i64 pl_mul(i64 a, i64 b) { return (i64)((u64)a * (u64)b); }

PL float pl_abs(float x) { return fabsf(x); }
PL double pl_abs(double x) { return fabs(x); }
PL int pl_abs(int x) { return x < 0 ? pl_sub(0, x) : x; }
PL i64 pl_abs(i64 x) { return x < 0 ? pl_sub((i64)0, x) : x; }
PL u32 pl_abs(u32 x) { return x; }

PL float pl_sign(float x) { return x > 0 ? 1.0f : x < 0 ? -1.0f : 0.0f; }
PL double pl_sign(double x) { return x > 0 ? 1.0 : x < 0 ? -1.0 : 0.0; }
PL int pl_sign(int x) { return (x > 0) - (x < 0); }
PL i64 pl_sign(i64 x) { return (x > 0) - (x < 0); }
PL u32 pl_sign(u32 x) { return x > 0; }

// NaN when either is.
template <class T> PL T pl_max(T a, T b) { return a > b || a != a ? a : b; }
template <class T> PL T pl_min(T a, T b) { return a < b || a != a ? a : b; }

// As Python's: rounded down, and 0 where b is 0.
PL float pl_floordiv(float a, float b) { return b == 0 ? 0.0f : floorf(a / b); }
PL double pl_floordiv(double a, double b) { return b == 0 ? 0.0 : floor(a / b); }
PL u32 pl_floordiv(u32 a, u32 b) { return b ? a / b : 0; }
PL int pl_floordiv(int a, int b)
{
	if (b == 0 || b == -1)
		return b ? pl_sub(0, a) : 0;
	int q = a / b;
	return q - (a % b != 0 && (a < 0) != (b < 0));
}
PL i64 pl_floordiv(i64 a, i64 b)
{
	if (b == 0 || b == -1)
		return b ? pl_sub((i64)0, a) : 0;
	i64 q = a / b;
	return q - (a % b != 0 && (a < 0) != (b < 0));
}
PL float pl_mod(float a, float b) { return b == 0 ? 0.0f : a - b * floorf(a / b); }
PL double pl_mod(double a, double b) { return b == 0 ? 0.0 : a - b * floor(a / b); }
PL u32 pl_mod(u32 a, u32 b) { return b ? a % b : 0; }
PL int pl_mod(int a, int b) { return b == 0 ? 0 : pl_sub(a, pl_mul(b, pl_floordiv(a, b))); }
PL i64 pl_mod(i64 a, i64 b) { return b == 0 ? 0 : pl_sub(a, pl_mul(b, pl_floordiv(a, b))); }

PL float pl_exp(float x) { return expf(x); }
PL double pl_exp(double x) { return exp(x); }
PL float pl_log(float x) { return logf(x); }
PL double pl_log(double x) { return log(x); }
PL float pl_sqrt(float x) { return __fsqrt_rn(x); }
PL double pl_sqrt(double x) { return __dsqrt_rn(x); }
PL float pl_rsqrt(float x) { return 1.0f / __fsqrt_rn(x); }
PL double pl_rsqrt(double x) { return 1.0 / __dsqrt_rn(x); }
PL float pl_recip(float x) { return 1.0f / x; }
PL double pl_recip(double x) { return 1.0 / x; }
PL float pl_tanh(float x) { return tanhf(x); }
PL double pl_tanh(double x) { return tanh(x); }
PL float pl_erf(float x) { return erff(x); }
PL double pl_erf(double x) { return erf(x); }
PL float pl_pow(float x, float y) { return powf(x, y); }
PL double pl_pow(double x, double y) { return pow(x, y); }
PL float pl_floor(float x) { return floorf(x); }
PL double pl_floor(double x) { return floor(x); }
PL float pl_binade(float x)
{
	float size = fabsf(x), up = size < 1.17549435e-38f ? 1073741824.0f : 1.0f;
	float y = __uint_as_float(__float_as_uint(size * up) & 0x7f800000u) / up;
	return x != x ? x : y;
}
PL double pl_binade(double x)
{
	double size = fabs(x), up = size < 2.2250738585072014e-308 ? 1152921504606846976.0 : 1.0;
	double y = __longlong_as_double(__double_as_longlong(size * up) & 0x7ff0000000000000ll) / up;
	return x != x ? x : y;
}
PL float pl_ceil(float x) { return ceilf(x); }
PL double pl_ceil(double x) { return ceil(x); }
PL float pl_round(float x) { return rintf(x); }
PL double pl_round(double x) { return rint(x); }
PL float pl_fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
PL double pl_fma(double a, double b, double c) { return __fma_rn(a, b, c); }

// 2 / pi, 32 bits at a time, after a word of 0.
static __device__ const u32 pl_two_over_pi[8] = { 0, 0xa2f9836eu, 0x4e441529u, 0xfc2757d1u, 0xf534ddc0u, 0xdb629599u, 0x3c439041u, 0xfe5163abu };

// x = r + q pi / 2 for x >= 0, |r| <= pi / 4; q modulo 4. Cody and Waite where q is small; else Payne and Hanek: x is
// m 2^(e - 23), and only the bits of 2 / pi that matter modulo 4 are multiplied by m. Infinity and NaN give NaN.
PL float pl_reduce_angle(float x, u32 *q)
{
	if (x < 48000.0f) {
		float n = rintf(x * 0x1.45f306p-1f);
		*q = (u32)n;
		return __fmaf_rn(n, 0x1.ee59dap-50f, __fmaf_rn(n, 0x1.777a5cp-25f, __fmaf_rn(n, -0x1.921fb6p0f, x)));
	}
	u32 bits = __float_as_uint(x), e = (bits >> 23) - 127, m = bits & 0x7fffff | 0x800000;
	if (e > 127) {
		*q = 0;
		return NAN_F;
	}
	const u32 *u = pl_two_over_pi + (e + 7 >> 5);
	u32 shift = e + 7 & 31;
	u64 a0 = __funnelshift_l(u[1], u[0], shift), a1 = __funnelshift_l(u[2], u[1], shift),
	    a2 = __funnelshift_l(u[3], u[2], shift);
	u64 turn = (a0 * m << 32) + a1 * m + (a2 * m >> 32); // x / (2 pi) modulo 1, as 64 bits
	u64 n = turn + (1ull << 61) >> 62;
	*q = (u32)n;
	return (float)(i64)(turn - (n << 62)) * 0x1.921fb6p-62f;
}
// The sine of r + q pi / 2; polynomials to 2^-30, as in the CPU's code.
PL float pl_sine_of_parts(float r, u32 q)
{
	float z = r * r, y;
	if (q & 1) {
		y = __fmaf_rn(z, 0x1.9bc4f8p-16f, -0x1.6c129ap-10f);
		y = __fmaf_rn(z, __fmaf_rn(y, z, 0x1.555554p-5f), -0.5f);
		y = __fmaf_rn(z, y, 1.0f);
	} else {
		y = __fmaf_rn(z, 0x1.87626cp-19f, -0x1.a082eap-13f);
		y = __fmaf_rn(z, __fmaf_rn(y, z, 0x1.111198p-7f), -0x1.555556p-3f);
		y = __fmaf_rn(z * y, r, r);
	}
	return q & 2 ? -y : y;
}
PL float pl_sin(float x)
{
	u32 q;
	float r = pl_reduce_angle(fabsf(x), &q), y = pl_sine_of_parts(r, q);
	return __float_as_uint(x) >> 31 ? -y : y;
}
PL float pl_cos(float x)
{
	u32 q;
	float r = pl_reduce_angle(fabsf(x), &q);
	return pl_sine_of_parts(r, q + 1);
}
PL double pl_sin(double x) { return sin(x); }
PL double pl_cos(double x) { return cos(x); }
// Right at both ends: no overflow on the way.
PL float pl_sigmoid(float x)
{
	float z = expf(-fabsf(x));
	return (x < 0 ? z : 1.0f) / (1.0f + z);
}
PL double pl_sigmoid(double x)
{
	double z = exp(-fabs(x));
	return (x < 0 ? z : 1.0) / (1.0 + z);
}

// ---- random numbers: ir/philox.h ----

PL void pl_philox(u32 *x, u64 block, i64 step, u64 key)
{
	u32 x0 = (u32)block, x1 = (u32)(block >> 32), x2 = (u32)step, x3 = (u32)((u64)step >> 32);
	u32 k0 = (u32)key, k1 = (u32)(key >> 32);
#pragma unroll
	for (int round = 0; round < 10; round++) {
		u64 p = 0xD2511F53ull * x0, q = 0xCD9E8D57ull * x2;
		x0 = (u32)(q >> 32) ^ x1 ^ k0;
		x1 = (u32)q;
		x2 = (u32)(p >> 32) ^ x3 ^ k1;
		x3 = (u32)p;
		k0 += 0x9E3779B9u;
		k1 += 0xBB67AE85u;
	}
	x[0] = x0, x[1] = x1, x[2] = x2, x[3] = x3;
}
PL float pl_uniform_word(u32 draw) { return (float)(draw >> 8) * 0x1p-24f; }
PL float pl_uniform(u64 key, i64 step, u64 element)
{
	u32 x[4];
	pl_philox(x, element >> 2, step, key);
	u32 w = (u32)element & 3;
	return pl_uniform_word(w < 2 ? (w == 0 ? x[0] : x[1]) : (w == 2 ? x[2] : x[3]));
}
// Of N elements from `element`, a multiple of 4.
template <int N> PL void pl_uniforms(float *v, u64 key, i64 step, u64 element)
{
#pragma unroll
	for (int i = 0; i < N; i += 4) {
		u32 x[4];
		pl_philox(x, (element >> 2) + i / 4, step, key);
#pragma unroll
		for (int j = 0; j < 4; j++)
			v[i + j] = pl_uniform_word(x[j]);
	}
}

// ---- vectors in memory: N elements, P of them at each access; p is aligned to those P ----

template <int BYTES> struct Word;
template <> struct Word<1> { typedef u8 T; };
template <> struct Word<2> { typedef u16 T; };
template <> struct Word<4> { typedef u32 T; };
template <> struct Word<8> { typedef uint2 T; };
template <> struct Word<16> { typedef uint4 T; };

template <int N, int P, class M> PL void pl_read(M *m, const M *p)
{
	typedef typename Word<P * sizeof(M)>::T W;
#pragma unroll
	for (int i = 0; i < N / P; i++) {
		W w = ((const W *)p)[i];
#pragma unroll
		for (int j = 0; j < P; j++)
			m[i * P + j] = ((const M *)&w)[j];
	}
}
template <int N, int P, class M> PL void pl_write(M *p, const M *m)
{
	typedef typename Word<P * sizeof(M)>::T W;
#pragma unroll
	for (int i = 0; i < N / P; i++) {
		W w;
#pragma unroll
		for (int j = 0; j < P; j++)
			((M *)&w)[j] = m[i * P + j];
		((W *)p)[i] = w;
	}
}

// name, type in memory, type of a value, from memory, to memory
#define PL_VECTORS(d, M, V, FROM, TO) \
	template <int N, int P> PL void pl_load_##d(V *v, const M *p) \
	{ \
		M m[N]; \
		pl_read<N, P>(m, p); \
		EACH(N) v[j] = FROM(m[j]); \
	} \
	template <int N, int P> PL void pl_store_##d(M *p, const V *v) \
	{ \
		M m[N]; \
		EACH(N) m[j] = TO(v[j]); \
		pl_write<N, P>(p, m); \
	}
PL_VECTORS(b1, u8, bool, (bool), (u8))
PL_VECTORS(u8, u8, u32, (u32), (u8))
PL_VECTORS(u32, u32, u32, , )
PL_VECTORS(i8, signed char, int, (int), (signed char))
PL_VECTORS(i32, int, int, , )
PL_VECTORS(i64, i64, i64, , )
PL_VECTORS(f32, float, float, , )
PL_VECTORS(f64, double, double, , )

// Narrow floats go two at a time where they can: name, type in memory, type of a pair.
#define PL_NARROW_VECTORS(d, M, PAIR) \
	template <int N, int P> PL void pl_load_##d(float *v, const M *p) \
	{ \
		if constexpr (P == 1) { \
			EACH(N) v[j] = pl_from_##d(p[j]); \
		} else { \
			PAIR m[N / 2]; \
			pl_read<N / 2, P / 2>(m, (const PAIR *)p); \
			EACH(N / 2) v[2 * j] = pl_low_##d(m[j]), v[2 * j + 1] = pl_high_##d(m[j]); \
		} \
	} \
	template <int N, int P> PL void pl_store_##d(M *p, const float *v) \
	{ \
		if constexpr (P == 1) { \
			EACH(N) p[j] = pl_to_##d(v[j]); \
		} else { \
			PAIR m[N / 2]; \
			EACH(N / 2) m[j] = pl_pair_##d(v[2 * j], v[2 * j + 1]); \
			pl_write<N / 2, P / 2>((PAIR *)p, m); \
		} \
	}
PL_NARROW_VECTORS(bf16, u16, u32)
PL_NARROW_VECTORS(f16, u16, u32)
PL_NARROW_VECTORS(f8e4m3, u8, u16)
PL_NARROW_VECTORS(f8e5m2, u8, u16)

// ---- reductions: fixed trees ----

template <class T> struct Sum { PL T of(T a, T b) { return a + b; } };
template <> struct Sum<int> { PL int of(int a, int b) { return pl_add(a, b); } };
template <> struct Sum<i64> { PL i64 of(i64 a, i64 b) { return pl_add(a, b); } };
template <class T> struct Max { PL T of(T a, T b) { return pl_max(a, b); } };
template <class T> struct Min { PL T of(T a, T b) { return pl_min(a, b); } };

PL float pl_shuffle_xor(float x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
PL double pl_shuffle_xor(double x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
PL int pl_shuffle_xor(int x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
PL u32 pl_shuffle_xor(u32 x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
PL i64 pl_shuffle_xor(i64 x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
PL bool pl_shuffle_xor(bool x, int mask) { return __shfl_xor_sync(0xffffffffu, (int)x, mask) != 0; }

// A sum of exp(x - from) as one of exp(x - to); from is -infinity where there was no x, or none but that.
PL float pl_running_sum(float sum, float from, float to)
{
	return from == to || from == -INFINITY_F ? sum : sum * pl_exp(from - to);
}

// Over groups of `n` neighbouring lanes, a power of two; every lane has the result.
template <template <class> class R, int n = 32, class T> PL T pl_reduce_warp(T x)
{
#pragma unroll
	for (int mask = n / 2; mask > 0; mask /= 2)
		x = R<T>::of(x, pl_shuffle_xor(x, mask));
	return x;
}
// Over a block of WARPS warps; every thread has the result. `shared`: WARPS elements, which may be used again at
// once by another call with another array; the same array must see a barrier between.
template <template <class> class R, int WARPS, class T> PL T pl_reduce_block(T x, T *shared)
{
	x = pl_reduce_warp<R>(x);
	if (WARPS == 1)
		return x;
	if (threadIdx.x % 32 == 0)
		shared[threadIdx.x / 32] = x;
	__syncthreads();
	T y = shared[0];
#pragma unroll
	for (int w = 1; w < WARPS; w++)
		y = R<T>::of(y, shared[w]);
	return y;
}
// Over the rows of a block whose threads stand in ROWS rows of COLUMNS, each with N values: row 0 has the results. `shared`:
// ROWS / 2 * COLUMNS * N elements; ROWS is a power of two.
template <template <class> class R, int ROWS, int COLUMNS, int N, class T> PL void pl_reduce_rows(T *x, T *shared)
{
	const int row = threadIdx.x / COLUMNS, column = threadIdx.x % COLUMNS;
#pragma unroll
	for (int half = ROWS / 2; half > 0; half /= 2) {
		if (row >= half && row < 2 * half) {
			EACH(N) shared[((row - half) * N + j) * COLUMNS + column] = x[j];
		}
		__syncthreads();
		if (row < half) {
			EACH(N) x[j] = R<T>::of(x[j], shared[(row * N + j) * COLUMNS + column]);
		}
		__syncthreads();
	}
}

PL float pl_shuffle_up(float x, int by) { return __shfl_up_sync(0xffffffffu, x, by); }
PL double pl_shuffle_up(double x, int by) { return __shfl_up_sync(0xffffffffu, x, by); }
PL int pl_shuffle_up(int x, int by) { return __shfl_up_sync(0xffffffffu, x, by); }
PL u32 pl_shuffle_up(u32 x, int by) { return __shfl_up_sync(0xffffffffu, x, by); }
PL i64 pl_shuffle_up(i64 x, int by) { return __shfl_up_sync(0xffffffffu, x, by); }

// The sum of what threads before this one have; `total`: of all. `shared`: WARPS elements.
template <int WARPS, class T> PL T pl_sum_before(T x, T &total, T *shared)
{
	T sum = x;
#pragma unroll
	for (int by = 1; by < 32; by *= 2) {
		T other = pl_shuffle_up(sum, by);
		sum = threadIdx.x % 32 >= by ? Sum<T>::of(other, sum) : sum;
	}
	T before = pl_shuffle_up(sum, 1);
	before = threadIdx.x % 32 ? before : (T)0;
	__syncthreads();
	if (threadIdx.x % 32 == 31)
		shared[threadIdx.x / 32] = sum;
	__syncthreads();
	T warps = 0;
	total = 0;
#pragma unroll
	for (int w = 0; w < WARPS; w++) {
		warps = w < threadIdx.x / 32 ? Sum<T>::of(warps, shared[w]) : warps;
		total = Sum<T>::of(total, shared[w]);
	}
	return Sum<T>::of(warps, before);
}
