/* codegen/cpu/vector_math.c: functions of vectors; see vector.h. */
#include "codegen/cpu/vector.h"

#define B s->m->builder

static LLVMValueRef intrinsic(const Simd *s, const char *name, LLVMValueRef x)
{
	LLVMTypeRef type = LLVMTypeOf(x);
	return cpu_intrinsic(s->m, name, 1, &type, 1, &x);
}

LLVMValueRef simd_sqrt(const Simd *s, LLVMValueRef x)
{
	return intrinsic(s, "llvm.sqrt", x);
}

LLVMValueRef simd_floor(const Simd *s, LLVMValueRef x)
{
	return intrinsic(s, "llvm.floor", x);
}

LLVMValueRef simd_ceil(const Simd *s, LLVMValueRef x)
{
	return intrinsic(s, "llvm.ceil", x);
}

LLVMValueRef simd_trunc(const Simd *s, LLVMValueRef x)
{
	return intrinsic(s, "llvm.trunc", x);
}

LLVMValueRef simd_round(const Simd *s, LLVMValueRef x)
{
	return intrinsic(s, "llvm.roundeven", x);
}
