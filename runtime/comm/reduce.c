/* runtime/comm/reduce.c: see reduce.h. */
#include "runtime/comm/reduce.h"
#include "support/float8.h"

static f64 combined(PackageReduce how, f64 a, f64 b)
{
	if (how == PACKAGE_SUM)
		return a + b;
	return how == PACKAGE_MAX ? (a > b || a != a ? a : b) : (a < b || a != a ? a : b);
}

/* Compilers take a loop of a known length for vectors at any level of optimization. */
enum { TOGETHER = 32 };

#define EACH(type, expression)                                    \
	do {                                                      \
		u64 i = 0;                                        \
		for (; i + TOGETHER <= n; i += TOGETHER)          \
			for (u32 k = 0; k < TOGETHER; k++) {      \
				type a = x[i + k], b = y[i + k];  \
				x[i + k] = (expression);          \
			}                                         \
		for (; i < n; i++) {                              \
			type a = x[i], b = y[i];                  \
			x[i] = (expression);                      \
		}                                                 \
	} while (0)

#define REDUCE(type)                                                                                       \
	static void reduce_##type(PackageReduce how, type *restrict x, const type *restrict y, u64 n)      \
	{                                                                                                  \
		if (how == PACKAGE_SUM)                                                                    \
			EACH(type, (type)(a + b));                                                         \
		else if (how == PACKAGE_MAX)                                                               \
			EACH(type, a > b || a != a ? a : b);                                               \
		else                                                                                       \
			EACH(type, a < b || a != a ? a : b);                                               \
	}
REDUCE(f32)
REDUCE(f64)
REDUCE(i32)
REDUCE(i64)
REDUCE(u32)
REDUCE(u8)
REDUCE(i8)

/* Narrow floats: in f32, and rounded. */
#define REDUCE_NARROW(name, type)                                                                     \
	static void reduce_##name(PackageReduce how, type *x, const type *y, u64 n)                   \
	{                                                                                             \
		for (u64 i = 0; i < n; i++) {                                                         \
			f32 z = (f32)combined(how, f32_from_##name(x[i]), f32_from_##name(y[i]));     \
			x[i] = name##_from_f32(z);                                                    \
		}                                                                                     \
	}
REDUCE_NARROW(bf16, u16)
REDUCE_NARROW(f16, u16)
REDUCE_NARROW(f8e4m3, u8)
REDUCE_NARROW(f8e5m2, u8)

void reduce_into(PackageReduce how, u8 dtype, void *to, const void *from, u64 n)
{
	switch (dtype) {
	case PACKAGE_F32: reduce_f32(how, to, from, n); break;
	case PACKAGE_F64: reduce_f64(how, to, from, n); break;
	case PACKAGE_I32: reduce_i32(how, to, from, n); break;
	case PACKAGE_I64: reduce_i64(how, to, from, n); break;
	case PACKAGE_U32: reduce_u32(how, to, from, n); break;
	case PACKAGE_U8: reduce_u8(how, to, from, n); break;
	case PACKAGE_I8: reduce_i8(how, to, from, n); break;
	case PACKAGE_BF16: reduce_bf16(how, to, from, n); break;
	case PACKAGE_F16: reduce_f16(how, to, from, n); break;
	case PACKAGE_F8E4M3: reduce_f8e4m3(how, to, from, n); break;
	case PACKAGE_F8E5M2: reduce_f8e5m2(how, to, from, n); break;
	default: NEVER("a sum of what cannot be added");
	}
}
