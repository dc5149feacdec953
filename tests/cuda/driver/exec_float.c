/* exec_float.c: f32 and f64 arithmetic, and the approximate functions, which are computed in full
 * precision and rounded once. Rounding other than to nearest, .ftz and .sat wrap a plain function. */
#include "decode.h"
#include <fenv.h>
#include <math.h>

static f32 flushed(f32 v)
{
	return fpclassify(v) == FP_SUBNORMAL ? copysignf(0, v) : v;
}

#define FLOAT_1(name, T, ...)                                            \
	static Action name(Warp *w, const Inst *in, u32 mask)            \
	{                                                                \
		T *d = (T *)(w->r + in->reg[0]);                         \
		const T *a = (const T *)(w->r + in->reg[1]);             \
		EACH_LANE(mask, T x = a[l]; d[l] = (__VA_ARGS__););      \
		return GO;                                               \
	}
#define FLOAT_2(name, T, ...)                                                                     \
	static Action name(Warp *w, const Inst *in, u32 mask)                                     \
	{                                                                                         \
		T *d = (T *)(w->r + in->reg[0]);                                                  \
		const T *a = (const T *)(w->r + in->reg[1]), *b = (const T *)(w->r + in->reg[2]); \
		EACH_LANE(mask, T x = a[l]; T y = b[l]; d[l] = (__VA_ARGS__););                   \
		return GO;                                                                        \
	}

FLOAT_2(add_f32, f32, x + y)
FLOAT_2(add_f64, f64, x + y)
FLOAT_2(sub_f32, f32, x - y)
FLOAT_2(sub_f64, f64, x - y)
FLOAT_2(mul_f32, f32, x * y)
FLOAT_2(mul_f64, f64, x * y)
FLOAT_2(div_f32, f32, x / y)
FLOAT_2(div_f64, f64, x / y)
/* div.full and div.approx: y of 2^126 to 2^128 gives 0 in approx; the quotient itself is good for all else. */
FLOAT_2(div_approx_f32, f32, (f32)((f64)x / (f64)y))
FLOAT_2(copysign_f32, f32, copysignf(y, x)) /* copysign.f32 d, a, b: b with the sign of a */
FLOAT_2(copysign_f64, f64, copysign(y, x))
FLOAT_1(neg_f32, f32, -x)
FLOAT_1(neg_f64, f64, -x)
FLOAT_1(abs_f32, f32, fabsf(x))
FLOAT_1(abs_f64, f64, fabs(x))
FLOAT_1(sqrt_f32, f32, sqrtf(x))
FLOAT_1(sqrt_f64, f64, sqrt(x))
FLOAT_1(rcp_f32, f32, 1.0f / x)
FLOAT_1(rcp_f64, f64, 1.0 / x)
FLOAT_1(rsqrt_f32, f32, (f32)(1.0 / sqrt((f64)x)))
FLOAT_1(rsqrt_f64, f64, 1.0 / sqrt(x))
FLOAT_1(sin_f32, f32, (f32)sin((f64)x))
FLOAT_1(cos_f32, f32, (f32)cos((f64)x))
FLOAT_1(ex2_f32, f32, (f32)exp2((f64)x))
FLOAT_1(lg2_f32, f32, (f32)log2((f64)x))
FLOAT_1(tanh_f32, f32, (f32)tanh((f64)x))

static Action fma_f32(Warp *w, const Inst *in, u32 mask)
{
	f32 *d = rf32(w, in->reg[0]);
	const f32 *a = rf32(w, in->reg[1]), *b = rf32(w, in->reg[2]), *c = rf32(w, in->reg[3]);
	EACH_LANE(mask, d[l] = fmaf(a[l], b[l], c[l]););
	return GO;
}

static Action fma_f64(Warp *w, const Inst *in, u32 mask)
{
	f64 *d = rf64(w, in->reg[0]);
	const f64 *a = rf64(w, in->reg[1]), *b = rf64(w, in->reg[2]), *c = rf64(w, in->reg[3]);
	EACH_LANE(mask, d[l] = fma(a[l], b[l], c[l]););
	return GO;
}

/* The other operand if one is NaN (with .NaN: NaN); -0 is less than +0. NaNs are the canonical one. */
#define LESS(x, y)    ((x) < (y) || ((x) == (y) && signbit(x) && !signbit(y)))
#define EXTREME(T, canonical, take_x)                                                         \
	(isnan(x) || isnan(y) ? (in->variant || (isnan(x) && isnan(y)) ? (canonical) : isnan(x) ? y : x) \
			      : (take_x) ? x : y)
FLOAT_2(min_f32, f32, EXTREME(f32, f32_of_bits(0x7fffffff), LESS(x, y)))
FLOAT_2(max_f32, f32, EXTREME(f32, f32_of_bits(0x7fffffff), LESS(y, x)))
FLOAT_2(min_f64, f64, EXTREME(f64, (f64)NAN, LESS(x, y)))
FLOAT_2(max_f64, f64, EXTREME(f64, (f64)NAN, LESS(y, x)))

/* Wrappers: of in->inner. */
enum { WRAP_FLUSH = 1, WRAP_SATURATE = 2 };

static const int fenv_rounding[] = { [ROUND_NEAREST] = FE_TONEAREST, [ROUND_ZERO] = FE_TOWARDZERO,
				     [ROUND_DOWN] = FE_DOWNWARD, [ROUND_UP] = FE_UPWARD };

static Action wrapped(Warp *w, const Inst *in, u32 mask)
{
	Inst plain = *in;
	if (in->variant & WRAP_FLUSH) {
		/* Copies of the operands, without their subnormals. */
		for (u32 k = 1; k <= in->count; k++) {
			const f32 *from = rf32(w, in->reg[k]);
			f32 *to = rf32(w, in->list[k]);
			EACH_LANE(mask, to[l] = flushed(from[l]););
			plain.reg[k] = in->list[k];
		}
	}
	plain.variant = (u8)(in->variant >> 4);
	if (in->round != ROUND_NEAREST)
		fesetround(fenv_rounding[in->round]);
	Action a = in->inner(w, &plain, mask);
	if (in->round != ROUND_NEAREST)
		fesetround(FE_TONEAREST);
	if (type_bytes((Type)in->type) == 8)
		return a;
	f32 *d = rf32(w, in->reg[0]);
	if (in->variant & WRAP_FLUSH)
		EACH_LANE(mask, d[l] = flushed(d[l]););
	if (in->variant & WRAP_SATURATE)
		EACH_LANE(mask, d[l] = d[l] > 1 ? 1 : d[l] > 0 ? d[l] : 0;); /* NaN becomes 0 */
	return a;
}

void wrap_float(Decoder *d, Inst *in, Type type, bool flush, bool saturate)
{
	flush = flush && type == TYPE_F32;
	in->type = (u8)type;
	if (!flush && !saturate && in->round == ROUND_NEAREST)
		return;
	in->inner = in->run;
	in->run = wrapped;
	in->variant = (u8)((flush ? WRAP_FLUSH : 0) | (saturate ? WRAP_SATURATE : 0) | in->variant << 4);
	if (flush) {
		in->count = (u8)(operand_count(d) - 1);
		in->list = scratch_slots(d);
	}
}

static void decode(Decoder *d, Inst *in, u32 n, Run single, Run of_double)
{
	bool flush = take(d, "ftz"), saturate = take(d, "sat");
	static const char *const approximations[] = { "approx", "full" };
	take_one_of(d, approximations, COUNT(approximations));
	in->round = (u8)take_rounding(d, ROUND_NEAREST);
	Type t = take_type(d);
	if (t != TYPE_F32 && t != TYPE_F64)
		return;
	in->run = t == TYPE_F32 ? single : of_double;
	if (!in->run)
		decode_fail(d, "no such function of f64");
	if (in->round > ROUND_UP)
		decode_fail(d, "this rounding is not known");
	expect_operands(d, n, n);
	destination(d, in, 0, t);
	for (u32 k = 1; k < n; k++)
		source(d, in, k, t);
	wrap_float(d, in, t, flush, saturate);
}

#define DECODE(op, n, single, of_double)                 \
	static void decode_##op(Decoder *d, Inst *in)    \
	{                                                \
		decode(d, in, n, single, of_double);     \
	}
DECODE(add, 3, add_f32, add_f64)
DECODE(sub, 3, sub_f32, sub_f64)
DECODE(mul, 3, mul_f32, mul_f64)
DECODE(fma, 4, fma_f32, fma_f64)
DECODE(neg, 2, neg_f32, neg_f64)
DECODE(abs, 2, abs_f32, abs_f64)
DECODE(sqrt, 2, sqrt_f32, sqrt_f64)
DECODE(rcp, 2, rcp_f32, rcp_f64)
DECODE(rsqrt, 2, rsqrt_f32, rsqrt_f64)
DECODE(sin, 2, sin_f32, NULL)
DECODE(cos, 2, cos_f32, NULL)
DECODE(ex2, 2, ex2_f32, NULL)
DECODE(lg2, 2, lg2_f32, NULL)
DECODE(tanh, 2, tanh_f32, NULL)
DECODE(copysign, 3, copysign_f32, copysign_f64)

static void decode_div(Decoder *d, Inst *in)
{
	const Statement *s = decode_statement(d);
	bool approximate = s->nmodifier && (!strcmp(s->modifier[0], "approx") || !strcmp(s->modifier[0], "full"));
	decode(d, in, 3, approximate ? div_approx_f32 : div_f32, div_f64);
}
static void decode_min(Decoder *d, Inst *in)
{
	in->variant = take(d, "NaN");
	decode(d, in, 3, min_f32, min_f64);
}
static void decode_max(Decoder *d, Inst *in)
{
	in->variant = take(d, "NaN");
	decode(d, in, 3, max_f32, max_f64);
}

/* testp: predicates of a number's class. */
static Action testp(Warp *w, const Inst *in, u32 mask)
{
	u32 bits = 0;
	for (u32 m = mask; m; m &= m - 1) {
		int l = __builtin_ctz(m);
		f64 wide = type_bytes((Type)in->type) == 8 ? rf64(w, in->reg[1])[l] : (f64)rf32(w, in->reg[1])[l];
		int c = type_bytes((Type)in->type) == 8 ? fpclassify(wide) : fpclassify(rf32(w, in->reg[1])[l]);
		bool is[] = { isfinite(wide), isinf(wide) != 0, !isnan(wide), isnan(wide) != 0, c == FP_NORMAL,
			      c == FP_SUBNORMAL };
		bits |= (u32)is[in->variant] << l;
	}
	set_predicate(w, in->reg[0], mask, bits);
	return GO;
}

static void decode_testp(Decoder *d, Inst *in)
{
	static const char *const tests[] = { "finite", "infinite", "number", "notanumber", "normal", "subnormal" };
	u32 i = take_one_of(d, tests, COUNT(tests));
	if (i == COUNT(tests))
		decode_fail(d, "which test?");
	in->variant = (u8)i;
	Type t = take_type(d);
	in->type = (u8)t;
	expect_operands(d, 2, 2);
	destination(d, in, 0, TYPE_PRED);
	source(d, in, 1, t);
	in->run = testp;
}

const Family family_float[] = {
	{ "add", decode_add },   { "sub", decode_sub },     { "mul", decode_mul }, { "fma", decode_fma },
	{ "mad", decode_fma },   { "div", decode_div },     { "min", decode_min }, { "max", decode_max },
	{ "neg", decode_neg },   { "abs", decode_abs },     { "rcp", decode_rcp }, { "sqrt", decode_sqrt },
	{ "rsqrt", decode_rsqrt }, { "sin", decode_sin },   { "cos", decode_cos }, { "ex2", decode_ex2 },
	{ "lg2", decode_lg2 },   { "tanh", decode_tanh },   { "copysign", decode_copysign },
	{ "testp", decode_testp }, { NULL, NULL },
};
