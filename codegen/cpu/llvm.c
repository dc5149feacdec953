/* codegen/cpu/llvm.c: building a module; see llvm.h. Loops come out rotated (a guard, then the test
 * at the bottom), which is the form LLVM's loop passes want, so none has to make it. */
#include "codegen/cpu/llvm.h"

#include <string.h>

/* ---- functions ---- */

static void attribute(CpuModule *m, LLVMValueRef function, LLVMAttributeIndex where, const char *name, u64 value)
{
	u32 kind = LLVMGetEnumAttributeKindForName(name, strlen(name));
	assert(kind);
	LLVMAddAttributeAtIndex(function, where, LLVMCreateEnumAttribute(m->context, kind, value));
}

static void text_attribute(CpuModule *m, const char *name, const char *value)
{
	LLVMAddAttributeAtIndex(m->function, (LLVMAttributeIndex)LLVMAttributeFunctionIndex,
				LLVMCreateStringAttribute(m->context, name, (u32)strlen(name),
							  value, (u32)strlen(value)));
}

LLVMValueRef cpu_function_declare(CpuModule *m, const char *name, LLVMTypeRef result, u32 n, const CpuParameter *parameter)
{
	LLVMTypeRef type[64];
	assert(n <= COUNT(type));
	for (u32 i = 0; i < n; i++)
		type[i] = parameter[i].type;
	LLVMValueRef f = LLVMAddFunction(m->module, name, LLVMFunctionType(result, type, n, false));
	for (u32 i = 0; i < n; i++) {
		const char *called = parameter[i].name ? parameter[i].name : "";
		LLVMSetValueName2(LLVMGetParam(f, i), called, strlen(called));
		attribute(m, f, i + 1, "noundef", 0);
		if (type[i] != m->pointer)
			continue;
		if (parameter[i].noalias)
			attribute(m, f, i + 1, "noalias", 0);
		if (parameter[i].readonly)
			attribute(m, f, i + 1, "readonly", 0);
		if (parameter[i].align)
			attribute(m, f, i + 1, "align", parameter[i].align);
	}
	attribute(m, f, (LLVMAttributeIndex)LLVMAttributeFunctionIndex, "nounwind", 0);
	return f;
}

LLVMValueRef cpu_function_begin(CpuModule *m, const char *name, LLVMTypeRef result, u32 n,
				const CpuParameter *parameter, bool local)
{
	m->function = cpu_function_declare(m, name, result, n, parameter);
	if (local)
		LLVMSetLinkage(m->function, LLVMInternalLinkage);
	text_attribute(m, "target-cpu", m->machine->name);
	text_attribute(m, "target-features", m->machine->features);
	/* else LLVM halves 512-bit vectors on CPUs that it thinks prefer 256 bits */
	const char *bits = m->machine->lanes == 16 ? "512" : m->machine->lanes == 8 ? "256" : "128";
	text_attribute(m, "prefer-vector-width", bits);
	text_attribute(m, "min-legal-vector-width", bits);
	LLVMPositionBuilderAtEnd(m->builder,
				 LLVMAppendBasicBlockInContext(m->context, m->function, ""));
	return m->function;
}

void cpu_function_end(CpuModule *m, LLVMValueRef result)
{
	if (result)
		LLVMBuildRet(m->builder, result);
	else
		LLVMBuildRetVoid(m->builder);
	m->function = NULL;
}

LLVMValueRef cpu_parameter(const CpuModule *m, u32 index)
{
	return LLVMGetParam(m->function, index);
}

LLVMValueRef cpu_call(CpuModule *m, LLVMValueRef function, u32 n, LLVMValueRef *argument)
{
	return LLVMBuildCall2(m->builder, LLVMGlobalGetValueType(function), function, argument, n,
			      "");
}

LLVMValueRef cpu_call_host(CpuModule *m, const char *name, LLVMTypeRef result, u32 n,
			   LLVMValueRef *argument)
{
	LLVMTypeRef type[8];
	assert(n <= COUNT(type));
	for (u32 i = 0; i < n; i++)
		type[i] = LLVMTypeOf(argument[i]);
	LLVMTypeRef function_type = LLVMFunctionType(result, type, n, false);
	LLVMValueRef f = LLVMGetNamedFunction(m->module, name);
	if (!f)
		f = LLVMAddFunction(m->module, name, function_type);
	LLVMValueRef call = LLVMBuildCall2(m->builder, function_type, f, argument, n, "");
	/* not a built-in: LLVM must not put something near it in its place */
	const char *flags[] = { "nobuiltin", "nounwind" };
	for (u32 i = 0; i < COUNT(flags); i++)
		LLVMAddCallSiteAttribute(
			call, (LLVMAttributeIndex)LLVMAttributeFunctionIndex,
			LLVMCreateEnumAttribute(
				m->context,
				LLVMGetEnumAttributeKindForName(flags[i], strlen(flags[i])), 0));
	return call;
}

LLVMValueRef cpu_intrinsic(CpuModule *m, const char *name, u32 noverload, LLVMTypeRef *overload,
			   u32 n, LLVMValueRef *argument)
{
	u32 id = LLVMLookupIntrinsicID(name, strlen(name));
	assert(id);
	LLVMValueRef f = LLVMGetIntrinsicDeclaration(m->module, id, overload, noverload);
	LLVMTypeRef type = LLVMIntrinsicGetType(m->context, id, overload, noverload);
	return LLVMBuildCall2(m->builder, type, f, argument, n, "");
}

/* ---- constants, integers, addresses ---- */

LLVMValueRef cpu_i1(const CpuModule *m, bool x)
{
	return LLVMConstInt(m->i1, x, false);
}

LLVMValueRef cpu_i32(const CpuModule *m, i64 x)
{
	return LLVMConstInt(m->i32, (u32)x, false);
}

LLVMValueRef cpu_i64(const CpuModule *m, i64 x)
{
	return LLVMConstInt(m->i64, (u64)x, false);
}

LLVMValueRef cpu_f32(const CpuModule *m, f32 x)
{
	u32 bits;
	memcpy(&bits, &x, sizeof bits);
	return LLVMConstBitCast(LLVMConstInt(m->i32, bits, false), m->f32);
}

LLVMValueRef cpu_f64(const CpuModule *m, f64 x)
{
	u64 bits;
	memcpy(&bits, &x, sizeof bits);
	return LLVMConstBitCast(LLVMConstInt(m->i64, bits, false), m->f64);
}

LLVMValueRef cpu_add(CpuModule *m, LLVMValueRef a, LLVMValueRef b)
{
	return LLVMBuildNSWAdd(m->builder, a, b, "");
}

LLVMValueRef cpu_sub(CpuModule *m, LLVMValueRef a, LLVMValueRef b)
{
	return LLVMBuildNSWSub(m->builder, a, b, "");
}

LLVMValueRef cpu_mul(CpuModule *m, LLVMValueRef a, LLVMValueRef b)
{
	return LLVMBuildNSWMul(m->builder, a, b, "");
}

LLVMValueRef cpu_min(CpuModule *m, LLVMValueRef a, LLVMValueRef b)
{
	return LLVMBuildSelect(m->builder, cpu_less(m, a, b), a, b, "");
}

LLVMValueRef cpu_max(CpuModule *m, LLVMValueRef a, LLVMValueRef b)
{
	return LLVMBuildSelect(m->builder, cpu_less(m, a, b), b, a, "");
}

LLVMValueRef cpu_div_up(CpuModule *m, LLVMValueRef a, LLVMValueRef b)
{
	return cpu_div(m, cpu_add(m, a, cpu_sub(m, b, cpu_i64(m, 1))), b);
}

LLVMValueRef cpu_div(CpuModule *m, LLVMValueRef a, LLVMValueRef b)
{
	return LLVMBuildUDiv(m->builder, a, b, "");
}

LLVMValueRef cpu_rem(CpuModule *m, LLVMValueRef a, LLVMValueRef b)
{
	return LLVMBuildURem(m->builder, a, b, "");
}

LLVMValueRef cpu_less(CpuModule *m, LLVMValueRef a, LLVMValueRef b)
{
	return LLVMBuildICmp(m->builder, LLVMIntSLT, a, b, "");
}

LLVMValueRef cpu_equal(CpuModule *m, LLVMValueRef a, LLVMValueRef b)
{
	return LLVMBuildICmp(m->builder, LLVMIntEQ, a, b, "");
}

LLVMValueRef cpu_at_byte(CpuModule *m, LLVMValueRef base, LLVMValueRef bytes)
{
	return cpu_at(m, m->i8, base, bytes);
}

LLVMValueRef cpu_at(CpuModule *m, LLVMTypeRef element, LLVMValueRef base, LLVMValueRef index)
{
	return LLVMBuildInBoundsGEP2(m->builder, element, base, &index, 1, "");
}

LLVMValueRef cpu_stack(CpuModule *m, LLVMTypeRef element, u64 count, u32 align)
{
	LLVMBasicBlockRef now = LLVMGetInsertBlock(m->builder);
	LLVMBasicBlockRef entry = LLVMGetEntryBasicBlock(m->function);
	LLVMValueRef first = LLVMGetFirstInstruction(entry);
	if (first)
		LLVMPositionBuilderBefore(m->builder, first);
	else
		LLVMPositionBuilderAtEnd(m->builder, entry);
	LLVMValueRef at = LLVMBuildAlloca(m->builder, LLVMArrayType2(element, count), "");
	LLVMSetAlignment(at, align);
	LLVMPositionBuilderAtEnd(m->builder, now);
	return at;
}

LLVMValueRef cpu_table(CpuModule *m, LLVMTypeRef element, const LLVMValueRef *value, u32 n)
{
	LLVMValueRef array = LLVMConstArray2(element, (LLVMValueRef *)(uintptr_t)value, n);
	LLVMValueRef at = LLVMAddGlobal(m->module, LLVMTypeOf(array), "table");
	LLVMSetInitializer(at, array);
	LLVMSetGlobalConstant(at, true);
	LLVMSetLinkage(at, LLVMPrivateLinkage);
	LLVMSetUnnamedAddress(at, LLVMGlobalUnnamedAddr);
	LLVMSetAlignment(at, 64);
	return at;
}

/* ---- control flow ---- */

static LLVMBasicBlockRef block(CpuModule *m, const char *name)
{
	return LLVMAppendBasicBlockInContext(m->context, m->function, name);
}

static void add_incoming(LLVMValueRef phi, LLVMValueRef value, LLVMBasicBlockRef from)
{
	LLVMAddIncoming(phi, &value, &from, 1);
}

void cpu_loop_begin(CpuModule *m, CpuLoop *loop, LLVMValueRef begin, LLVMValueRef end,
		    LLVMValueRef step, u32 n, const LLVMValueRef *initial)
{
	assert(n <= CPU_CARRIED);
	loop->ncarried = n;
	loop->unroll = 0;
	loop->end = end;
	loop->step = step;
	loop->body = block(m, "loop");
	loop->after = block(m, "after");
	LLVMBasicBlockRef before = block(m, "before");

	LLVMBuildCondBr(m->builder, cpu_less(m, begin, end), before, loop->after);
	loop->guard = LLVMGetInsertBlock(m->builder);
	LLVMPositionBuilderAtEnd(m->builder, before);
	LLVMBuildBr(m->builder, loop->body);
	LLVMPositionBuilderAtEnd(m->builder, loop->body);
	loop->index = LLVMBuildPhi(m->builder, m->i64, "i");
	add_incoming(loop->index, begin, before);
	for (u32 i = 0; i < n; i++) {
		loop->initial[i] = initial[i];
		loop->carried[i] = LLVMBuildPhi(m->builder, LLVMTypeOf(initial[i]), "");
		add_incoming(loop->carried[i], initial[i], before);
	}
}

static LLVMMetadataRef loop_property(CpuModule *m, const char *name, const u32 *value)
{
	LLVMMetadataRef part[2] = { LLVMMDStringInContext2(m->context, name, strlen(name)) };
	if (value)
		part[1] = LLVMValueAsMetadata(cpu_i32(m, *value));
	return LLVMMDNodeInContext2(m->context, part, value ? 2 : 1);
}

static void set_unroll(CpuModule *m, LLVMValueRef branch, u32 count)
{
	/* a loop's name is a node that refers to itself, so that no two are the same */
	LLVMMetadataRef self = LLVMTemporaryMDNode(m->context, NULL, 0);
	LLVMMetadataRef part[] = {
		self,
		count == 1 ? loop_property(m, "llvm.loop.unroll.disable", NULL)
			   : loop_property(m, "llvm.loop.unroll.count", &count),
	};
	LLVMMetadataRef node = LLVMMDNodeInContext2(m->context, part, COUNT(part));
	LLVMMetadataReplaceAllUsesWith(self, node);
	LLVMSetMetadata(branch, LLVMGetMDKindIDInContext(m->context, "llvm.loop", 9),
			LLVMMetadataAsValue(m->context, node));
}

void cpu_loop_end(CpuModule *m, CpuLoop *loop, const LLVMValueRef *next)
{
	LLVMBasicBlockRef last = LLVMGetInsertBlock(m->builder);
	LLVMValueRef index = cpu_add(m, loop->index, loop->step);
	LLVMValueRef branch =
		LLVMBuildCondBr(m->builder, cpu_less(m, index, loop->end), loop->body, loop->after);
	if (loop->unroll)
		set_unroll(m, branch, loop->unroll);
	add_incoming(loop->index, index, last);
	LLVMMoveBasicBlockAfter(loop->after, last);
	LLVMPositionBuilderAtEnd(m->builder, loop->after);
	for (u32 i = 0; i < loop->ncarried; i++) {
		add_incoming(loop->carried[i], next[i], last);
		LLVMValueRef result = LLVMBuildPhi(m->builder, LLVMTypeOf(next[i]), "");
		add_incoming(result, loop->initial[i], loop->guard);
		add_incoming(result, next[i], last);
		loop->carried[i] = result;
	}
}

void cpu_if_begin(CpuModule *m, CpuIf *branch, LLVMValueRef condition, u32 odds)
{
	LLVMBasicBlockRef then = block(m, "then");
	branch->otherwise = block(m, "else");
	branch->after = block(m, "join");
	branch->has_else = false;
	LLVMValueRef jump = LLVMBuildCondBr(m->builder, condition, then, branch->otherwise);
	if (odds != 50) {
		LLVMMetadataRef part[] = {
			LLVMMDStringInContext2(m->context, "branch_weights", 14),
			LLVMValueAsMetadata(cpu_i32(m, odds)),
			LLVMValueAsMetadata(cpu_i32(m, 100 - odds)),
		};
		LLVMSetMetadata(
			jump, LLVMGetMDKindIDInContext(m->context, "prof", 4),
			LLVMMetadataAsValue(m->context, LLVMMDNodeInContext2(m->context, part, 3)));
	}
	LLVMPositionBuilderAtEnd(m->builder, then);
}

void cpu_if_else(CpuModule *m, CpuIf *branch)
{
	assert(!branch->has_else);
	branch->has_else = true;
	branch->then_end = LLVMGetInsertBlock(m->builder);
	LLVMBuildBr(m->builder, branch->after);
	LLVMMoveBasicBlockAfter(branch->otherwise, branch->then_end);
	LLVMPositionBuilderAtEnd(m->builder, branch->otherwise);
}

void cpu_if_end(CpuModule *m, CpuIf *branch, u32 n, const LLVMValueRef *then_value,
		const LLVMValueRef *else_value)
{
	assert(n <= CPU_CARRIED);
	if (!branch->has_else)
		cpu_if_else(m, branch);
	LLVMBasicBlockRef else_end = LLVMGetInsertBlock(m->builder);
	LLVMBuildBr(m->builder, branch->after);
	LLVMMoveBasicBlockAfter(branch->after, else_end);
	LLVMPositionBuilderAtEnd(m->builder, branch->after);
	for (u32 i = 0; i < n; i++) {
		LLVMValueRef phi = LLVMBuildPhi(m->builder, LLVMTypeOf(then_value[i]), "");
		add_incoming(phi, then_value[i], branch->then_end);
		add_incoming(phi, else_value[i], else_end);
		branch->value[i] = phi;
	}
}
