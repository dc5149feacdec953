/* codegen/cpu/vector_memory.c: loads and stores of vectors, whole, under masks, of elements apart; see vector.h. */
#include "codegen/cpu/vector.h"

#define B s->m->builder

/* Memory's form of a register and back. */
static LLVMValueRef widen(const Simd *s, DType d, LLVMValueRef x)
{
	switch (d) {
	case DT_b1:
		return LLVMBuildICmp(B, LLVMIntNE, x, LLVMConstNull(LLVMTypeOf(x)), "");
	case DT_bf16:
		return simd_from_bf16(s, x);
	case DT_f16:
		return simd_from_f16(s, x);
	case DT_f8e4m3:
	case DT_f8e5m2:
		return simd_from_f8(s, d, x);
	default:
		return x;
	}
}

/* What goes to memory is one of the type's values already, which infinity is where memory had it: a cast saturates, a copy keeps it. */
static LLVMValueRef f8_to_memory(const Simd *s, DType d, LLVMValueRef x)
{
	LLVMValueRef code = simd_to_f8(s, d, x), size = simd_and(s, simd_bits(s, DT_i32, x), simd_i32(s, 0x7fffffff));
	if (d != DT_f8e5m2)
		return code;
	LLVMValueRef infinite = simd_eq(s, size, simd_i32(s, 0x7f800000));
	return LLVMBuildAdd(B, code, LLVMBuildZExt(B, infinite, simd_wide(s, s->m->i8), ""), "");
}

static LLVMValueRef narrow(const Simd *s, DType d, LLVMValueRef x)
{
	switch (d) {
	case DT_b1:
		return LLVMBuildZExt(B, x, simd_wide(s, s->m->i8), "");
	case DT_bf16:
		return simd_to_bf16(s, x);
	case DT_f16:
		return simd_to_f16(s, x);
	case DT_f8e4m3:
	case DT_f8e5m2:
		return f8_to_memory(s, d, x);
	default:
		return x;
	}
}

static u32 alignment(DType d, u32 align)
{
	return align ? align : dtype_info[d].bytes;
}

static LLVMValueRef load(const Simd *s, DType d, LLVMTypeRef type, LLVMValueRef at, u32 align)
{
	LLVMValueRef x = LLVMBuildLoad2(B, type, at, "");
	LLVMSetAlignment(x, alignment(d, align));
	return x;
}

LLVMValueRef simd_load(const Simd *s, DType d, LLVMValueRef at, u32 align)
{
	return widen(s, d, load(s, d, simd_wide(s, simd_memory_type(s, d)), at, align));
}

static LLVMValueRef store(const Simd *s, DType d, LLVMValueRef x, LLVMValueRef at, u32 align)
{
	LLVMValueRef i = LLVMBuildStore(B, narrow(s, d, x), at);
	LLVMSetAlignment(i, alignment(d, align));
	return i;
}

void simd_store(const Simd *s, DType d, LLVMValueRef x, LLVMValueRef at, u32 align)
{
	store(s, d, x, at, align);
}

void simd_store_stream(const Simd *s, DType d, LLVMValueRef x, LLVMValueRef at, u32 align)
{
	LLVMContextRef c = s->m->context;
	LLVMMetadataRef one = LLVMValueAsMetadata(cpu_i32(s->m, 1));
	LLVMSetMetadata(store(s, d, x, at, align), LLVMGetMDKindIDInContext(c, "nontemporal", 11),
			LLVMMetadataAsValue(c, LLVMMDNodeInContext2(c, &one, 1)));
}

void simd_store_fence(const Simd *s)
{
	LLVMBuildFence(B, LLVMAtomicOrderingSequentiallyConsistent, false, "");
}

LLVMValueRef simd_mask(const Simd *s, LLVMValueRef count)
{
	CpuModule *m = s->m;
	if (s->lanes == 1)
		return cpu_less(m, cpu_i64(m, 0), count);
	/* in i32, the width of what it will mask */
	LLVMValueRef zero = cpu_i64(m, 0), n = cpu_min(m, count, cpu_i64(m, s->lanes));
	n = LLVMBuildSelect(B, cpu_less(m, n, zero), zero, n, "");
	n = simd_splat(s, LLVMBuildTrunc(B, n, m->i32, ""));
	return LLVMBuildICmp(B, LLVMIntSLT, simd_iota(s, DT_i32), n, "");
}

LLVMValueRef simd_load_masked(const Simd *s, DType d, LLVMValueRef at, u32 align, LLVMValueRef mask)
{
	CpuModule *m = s->m;
	LLVMTypeRef type = simd_wide(s, simd_memory_type(s, d));
	LLVMValueRef zero = LLVMConstNull(type);
	if (s->lanes == 1) {
		CpuIf on;
		cpu_if_begin(m, &on, mask, 50);
		LLVMValueRef x = load(s, d, type, at, align);
		cpu_if_end(m, &on, 1, &x, &zero);
		return widen(s, d, on.value[0]);
	}
	LLVMTypeRef overload[] = { type, m->pointer };
	LLVMValueRef argument[] = { at, cpu_i32(m, alignment(d, align)), mask, zero };
	return widen(s, d, cpu_intrinsic(m, "llvm.masked.load", 2, overload, 4, argument));
}

void simd_store_masked(const Simd *s, DType d, LLVMValueRef x, LLVMValueRef at, u32 align,
		       LLVMValueRef mask)
{
	CpuModule *m = s->m;
	if (s->lanes == 1) {
		CpuIf on;
		cpu_if_begin(m, &on, mask, 50);
		store(s, d, x, at, align);
		cpu_if_end(m, &on, 0, NULL, NULL);
		return;
	}
	x = narrow(s, d, x);
	LLVMTypeRef overload[] = { LLVMTypeOf(x), m->pointer };
	LLVMValueRef argument[] = { x, at, cpu_i32(m, alignment(d, align)), mask };
	cpu_intrinsic(m, "llvm.masked.store", 2, overload, 4, argument);
}

static LLVMValueRef addresses(const Simd *s, DType d, LLVMValueRef at, LLVMValueRef index)
{
	/* not "in bounds": a lane that is off may point anywhere */
	return LLVMBuildGEP2(B, simd_memory_type(s, d), at, &index, 1, "");
}

LLVMValueRef simd_gather(const Simd *s, DType d, LLVMValueRef at, LLVMValueRef index,
			 LLVMValueRef mask)
{
	CpuModule *m = s->m;
	LLVMTypeRef type = simd_wide(s, simd_memory_type(s, d));
	LLVMValueRef each = addresses(s, d, at, index);
	if (s->lanes == 1)
		return mask ? simd_load_masked(s, d, each, 0, mask) : simd_load(s, d, each, 0);
	LLVMTypeRef overload[] = { type, LLVMTypeOf(each) };
	LLVMValueRef argument[] = { each, cpu_i32(m, dtype_info[d].bytes),
				    mask ? mask : simd_splat(s, cpu_i1(m, true)), LLVMConstNull(type) };
	return widen(s, d, cpu_intrinsic(m, "llvm.masked.gather", 2, overload, 4, argument));
}

void simd_scatter(const Simd *s, DType d, LLVMValueRef x, LLVMValueRef at, LLVMValueRef index,
		  LLVMValueRef mask)
{
	CpuModule *m = s->m;
	LLVMValueRef each = addresses(s, d, at, index);
	if (s->lanes == 1) {
		if (mask)
			simd_store_masked(s, d, x, each, 0, mask);
		else
			simd_store(s, d, x, each, 0);
		return;
	}
	x = narrow(s, d, x);
	LLVMTypeRef overload[] = { LLVMTypeOf(x), LLVMTypeOf(each) };
	LLVMValueRef argument[] = { x, each, cpu_i32(m, dtype_info[d].bytes),
				    mask ? mask : simd_splat(s, cpu_i1(m, true)) };
	cpu_intrinsic(m, "llvm.masked.scatter", 2, overload, 4, argument);
}

static LLVMValueRef steps(const Simd *s, LLVMValueRef stride)
{
	return LLVMBuildMul(B, simd_iota(s, DT_i64), simd_splat(s, stride), "");
}

/* Are the lanes that are on known as the code is made? NULL: all are. */
static bool known_lanes(LLVMValueRef mask)
{
	return !mask || LLVMIsConstant(mask);
}

static bool lane_on(LLVMValueRef mask, u32 lane)
{
	return !mask || !LLVMIsNull(LLVMGetAggregateElement(mask, lane));
}

/* Where it is known which lanes are on, each of them has a load or a store whose address scalar arithmetic gives: a gather's
 * addresses are made in vectors, and where the target has no gather taken out of them one by one, which takes twice as
 * many instructions as the loads. */
static LLVMValueRef lane_address(const Simd *s, DType d, LLVMValueRef at, LLVMValueRef stride, u32 lane)
{
	LLVMValueRef offset = LLVMBuildMul(B, stride, cpu_i64(s->m, lane), "");
	return LLVMBuildGEP2(B, simd_memory_type(s, d), at, &offset, 1, "");
}

LLVMValueRef simd_load_strided(const Simd *s, DType d, LLVMValueRef at, LLVMValueRef stride,
			       LLVMValueRef mask)
{
	if (!known_lanes(mask) || s->lanes == 1)
		return simd_gather(s, d, at, steps(s, stride), mask);
	LLVMTypeRef type = simd_memory_type(s, d);
	LLVMValueRef x = LLVMConstNull(simd_wide(s, type));
	for (u32 i = 0; i < s->lanes; i++)
		if (lane_on(mask, i)) {
			LLVMValueRef one = load(s, d, type, lane_address(s, d, at, stride, i), 0);
			x = LLVMBuildInsertElement(B, x, one, cpu_i32(s->m, i), "");
		}
	return widen(s, d, x);
}

void simd_store_strided(const Simd *s, DType d, LLVMValueRef x, LLVMValueRef at,
			LLVMValueRef stride, LLVMValueRef mask)
{
	if (!known_lanes(mask) || s->lanes == 1) {
		simd_scatter(s, d, x, at, steps(s, stride), mask);
		return;
	}
	x = narrow(s, d, x);
	for (u32 i = 0; i < s->lanes; i++)
		if (lane_on(mask, i)) {
			LLVMValueRef one = LLVMBuildExtractElement(B, x, cpu_i32(s->m, i), "");
			LLVMSetAlignment(LLVMBuildStore(B, one, lane_address(s, d, at, stride, i)), alignment(d, 0));
		}
}

LLVMValueRef simd_load_splat(const Simd *s, DType d, LLVMValueRef at)
{
	Simd one = { s->m, 1 };
	return simd_splat(s, simd_load(&one, d, at, 0));
}

void simd_prefetch(const Simd *s, LLVMValueRef at, u32 level, bool write)
{
	CpuModule *m = s->m;
	LLVMValueRef argument[] = { at, cpu_i32(m, write), cpu_i32(m, 4 - level), cpu_i32(m, 1) };
	cpu_intrinsic(m, "llvm.prefetch", 1, &m->pointer, 4, argument);
}
