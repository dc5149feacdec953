/* codegen/cuda/spell.c: types, literals, conversions and scalar functions as CUDA C. Functions that are more than
 * an operator are in preamble/base.cuh, overloaded by type. Values of u8 and i8 are held in 32 bits and wrapped
 * after whatever may leave their range; narrow floats are computed in float and rounded. */
#include "codegen/cuda/spell.h"

#include <math.h>

const char *cuda_memory_type(DType d)
{
	switch (d) {
	case DT_b1:
	case DT_f8e4m3:
	case DT_f8e5m2:
	case DT_u8: return "u8";
	case DT_u32: return "u32";
	case DT_i8: return "signed char";
	case DT_i32: return "int";
	case DT_i64: return "i64";
	case DT_f16:
	case DT_bf16: return "u16";
	case DT_f32: return "float";
	case DT_f64: return "double";
	default: NEVER("an element type that the CUDA target does not know");
	}
}

const char *cuda_value_type(DType d)
{
	switch (d) {
	case DT_b1: return "bool";
	case DT_u8:
	case DT_u32: return "u32";
	case DT_i8:
	case DT_i32: return "int";
	case DT_i64: return "i64";
	case DT_f64: return "double";
	default: return "float";
	}
}

const char *cuda_literal(Arena *a, f64 value, DType d)
{
	f64 x = dtype_round(d, value);
	if (dtype_is_float(d)) {
		const char *suffix = d == DT_f64 ? "" : "f", *type = d == DT_f64 ? "D" : "F";
		if (isnan(x) || isinf(x))
			return arena_printf(a, isnan(x) ? "NAN_%s" : x < 0 ? "(-INFINITY_%s)" : "INFINITY_%s", type);
		/* short decimals for people; hexadecimal has all digits */
		const char *sign = signbit(x) ? "(" : "", *end = signbit(x) ? ")" : "";
		if (x == rint(x) && fabs(x) < 1e6)
			return arena_printf(a, "%s%.1f%s%s", sign, x, suffix, end);
		return arena_printf(a, "%s%a%s%s", sign, x, suffix, end);
	}
	switch (d) {
	case DT_b1: return x != 0 ? "true" : "false";
	case DT_u8:
	case DT_u32: return arena_printf(a, "%.0fu", x);
	case DT_i64:
		if (x >= 0x1p63)
			return "0x7fffffffffffffffll";
		if (x <= -0x1p63)
			return "(-0x7fffffffffffffffll - 1)";
		return arena_printf(a, x < 0 ? "(%.0fll)" : "%.0fll", x);
	default:
		if (x <= -0x1p31)
			return "(-2147483647 - 1)";
		return arena_printf(a, x < 0 ? "(%.0f)" : "%.0f", x);
	}
}

const char *cuda_widen(Arena *a, DType d, const char *element)
{
	if (dtype_is_narrow_float(d))
		return arena_printf(a, "pl_from_%s(%s)", dtype_info[d].name, element);
	if (d == DT_b1)
		return arena_printf(a, "(%s != 0)", element);
	return dtype_info[d].bytes == 1 ? arena_printf(a, "(%s)%s", cuda_value_type(d), element) : element;
}

const char *cuda_narrow(Arena *a, DType d, const char *value)
{
	if (dtype_is_narrow_float(d))
		return arena_printf(a, "pl_to_%s(%s)", dtype_info[d].name, value);
	return dtype_info[d].bytes == 1 ? arena_printf(a, "(%s)%s", cuda_memory_type(d), value) : value;
}

/* An expression of 32 or 64 bits as a value of the integer type: one of a byte is wrapped. */
static const char *wrapped(Arena *a, DType d, const char *x)
{
	return dtype_info[d].bytes == 1 ? arena_printf(a, "(%s)(%s)(%s)", cuda_value_type(d), cuda_memory_type(d), x) :
					  arena_printf(a, "(%s)(%s)", cuda_value_type(d), x);
}

static const char *float_to_integer(Arena *a, DType to, const char *x)
{
	if (to == DT_i64)
		return arena_printf(a, "pl_saturate(%s)", x);
	f64 high = dtype_info[to].largest, low = dtype_info[to].kind == KIND_I ? -high - 1 : 0;
	const char *last = to == DT_u32 ? "-1" : cuda_literal(a, high, DT_i32);
	return wrapped(a, to, arena_printf(a, "pl_wrap(%s, %s, %s)", x, cuda_literal(a, low, DT_i32), last));
}

const char *cuda_convert(Arena *a, DType from, DType to, const char *x)
{
	if (from == to)
		return x;
	if (to == DT_b1)
		return arena_printf(a, "(%s != 0)", x);
	bool from_float = dtype_is_float(from);
	if (dtype_is_narrow_float(to)) {
		bool exact = from != DT_f64 && (from_float || dtype_info[from].bytes == 1);
		return arena_printf(a, "pl_round_%s(%s(%s))", dtype_info[to].name, exact ? "(float)" : "pl_odd", x);
	}
	if (dtype_is_float(to))
		return from_float && from != DT_f64 && to != DT_f64 ? x :
								      arena_printf(a, "(%s)%s", cuda_value_type(to), x);
	return from_float ? float_to_integer(a, to, x) : wrapped(a, to, x);
}

/* The expression in C's own arithmetic of the type that values of `of` are held in; bool counts as int. */
static const char *spell(Arena *a, Scalar s, DType of, const char *x, const char *y, const char *z)
{
	bool is_float = dtype_is_float(of), is_signed = dtype_info[of].kind == KIND_I;
	const char *one = NULL; /* a function of the preamble */
	switch (s) {
	case S_neg: return is_signed ? arena_printf(a, "pl_sub((%s)0, %s)", cuda_value_type(of), x) :
				       arena_printf(a, "-%s", x);
	case S_floor:
	case S_ceil:
	case S_round:
		if (!is_float)
			return x;
		break;
	case S_not: return arena_printf(a, "%s == 0", x);
	case S_add:
	case S_sub:
	case S_mul:
		if (!is_signed)
			return arena_printf(a, "%s %c %s", x, s == S_add ? '+' : s == S_sub ? '-' : '*', y);
		break;
	case S_div:
		if (is_float)
			return arena_printf(a, "%s / %s", x, y);
		one = "floordiv";
		break;
	case S_lt: return arena_printf(a, "%s < %s", x, y);
	case S_le: return arena_printf(a, "%s <= %s", x, y);
	case S_eq: return arena_printf(a, "%s == %s", x, y);
	case S_ne: return arena_printf(a, "%s != %s", x, y);
	case S_and: return arena_printf(a, "%s != 0 && %s != 0", x, y);
	case S_or: return arena_printf(a, "%s != 0 || %s != 0", x, y);
	case S_where: return arena_printf(a, "%s ? %s : %s", x, y, z);
	case S_fma:
		if (!is_float)
			return is_signed ? arena_printf(a, "pl_add(pl_mul(%s, %s), %s)", x, y, z) :
					   arena_printf(a, "%s * %s + %s", x, y, z);
		break;
	default: break;
	}
	one = one ? one : kernel_scalar[s].name;
	u32 n = kernel_scalar[s].nin;
	return n == 1 ? arena_printf(a, "pl_%s(%s)", one, x) :
	       n == 2 ? arena_printf(a, "pl_%s(%s, %s)", one, x, y) :
			arena_printf(a, "pl_%s(%s, %s, %s)", one, x, y, z);
}

const char *cuda_spell(Arena *a, Scalar s, DType of, const char *x, const char *y, const char *z)
{
	bool chooses = s == S_where;
	if (of == DT_b1 && !kernel_scalar[s].is_bool && !chooses) {
		/* a bit's arithmetic is that of numbers, then whether it is not 0 */
		const char *p = arena_printf(a, "(int)%s", x), *q = y ? arena_printf(a, "(int)%s", y) : NULL;
		const char *r = z ? arena_printf(a, "(int)%s", z) : NULL;
		return arena_printf(a, "(%s) != 0", spell(a, s, DT_i32, p, q, r));
	}
	const char *e = spell(a, s, of, x, y, z);
	if (kernel_scalar[s].is_bool || chooses)
		return e;
	if (dtype_is_narrow_float(of))
		return arena_printf(a, "pl_round_%s(%s)", dtype_info[of].name, e);
	return dtype_info[of].bytes == 1 ? wrapped(a, of, e) : e;
}
