/* codegen/cpu/target.c: see target.h. */
#include "codegen/cpu/target.h"

#include "codegen/cpu/kernels.h"
#include "codegen/cpu/thin.h"
#include "support/map.h"

const CpuKernelClass *const cpu_kernel_class[KERNEL_CLASSES] = {
	[KERNEL_MAP] = &cpu_map,
	[KERNEL_ROW] = &cpu_row,
	[KERNEL_COLUMN] = &cpu_column,
	[KERNEL_SCATTER] = &cpu_scatter,
	[KERNEL_SCAN] = &cpu_scan,
	[KERNEL_SORT] = &cpu_sort,
	[KERNEL_DOT] = &cpu_dot,
	[KERNEL_GROUPED] = &cpu_grouped,
	[KERNEL_GROUPED_WEIGHTS] = &cpu_grouped_weights,
	[KERNEL_ATTENTION] = &cpu_attention,
	[KERNEL_ATTENTION_GRAD] = &cpu_attention_grad,
};

static const char *refusal(const CpuMachine *machine, const Kernel *k)
{
	const CpuKernelClass *class = cpu_kernel_class[k->class];
	if (!class)
		return "the CPU has no code for kernels of this class";
	return class->refuses ? class->refuses(machine, k) : NULL;
}

static const char *target_refuses(const TargetInfo *t, const Kernel *k)
{
	return refusal(t->self, k);
}

static LaunchNeeds target_needs(const TargetInfo *t, const Kernel *k)
{
	assert(!refusal(t->self, k));
	LaunchNeeds n = cpu_kernel_class[k->class]->needs(t->self, k);
	assert(n.nphase <= KERNEL_PHASES);
	n.workspace = ALIGN_UP(n.workspace, 64);
	n.thread_scratch = ALIGN_UP(n.thread_scratch, 64);
	return n;
}

const TargetInfo *cpu_target(const CpuMachine *machine, Arena *arena)
{
	TargetInfo *t = NEW(arena, TargetInfo);
	*t = (TargetInfo){ .name = "cpu",
			   .refuses = target_refuses,
			   .needs = target_needs,
			   .self = COPYN(arena, CpuMachine, machine, 1) };
	t->whole[OP_attention] = cpu_kernel_class[KERNEL_ATTENTION] != NULL;
	t->whole[OP_update_slice] = true;
	t->few_queries = THIN_ROWS;
	t->whole[OP_attention_grad] = cpu_kernel_class[KERNEL_ATTENTION_GRAD] != NULL;
	return t;
}

/* ---- code ---- */

typedef struct Shape {
	const Kernel *kernel; /* the first that has it */
	const char *symbol;
} Shape;

static void emit_shape(CpuModule *m, const void *argument)
{
	const Shape *s = argument;
	Arena tmp = ARENA("emit");
	cpu_kernel_class[s->kernel->class]->emit(m, s->kernel, &tmp, s->symbol);
	arena_free(&tmp);
}

Status cpu_code_units(CpuCompiler *c, Kernel *const *kernel, u32 n, Arena *arena, CpuCode *out)
{
	const CpuMachine *machine = cpu_compiler_machine(c);
	Shape *shape = NEWN(arena, Shape, n + 1);
	*out = (CpuCode){ .unit = NEWN(arena, CpuUnit, n + 1), .symbol = NEWN(arena, const char *, n + 1) };
	Map known = { .arena = arena };
	for (u32 i = 0; i < n; i++) {
		const Kernel *k = kernel[i];
		if (k->class == KERNEL_COLLECTIVE)
			continue; /* the runtime's */
		const char *why = refusal(machine, k);
		if (why)
			return FAIL(STATUS_UNSUPPORTED, "kernel %s (%s): %s", k->name,
				    kernel_class_name[k->class], why);
		const CpuKernelClass *class = cpu_kernel_class[k->class];
		u64 variant = class->variant ? class->variant(machine, k) : 0;
		u64 h = kernel_shape_hash(k);
		h = hash_bytes(h, &variant, sizeof variant);
		u64 *seen = map_get(&known, h);
		if (seen) {
			out->symbol[i] = shape[*seen].symbol;
			continue;
		}
		map_put(&known, h, out->nunit);
		Shape *s = &shape[out->nunit];
		s->kernel = k;
		s->symbol = out->symbol[i] =
			arena_printf(arena, "%s%s_%016llx", cpu_compiler_prefix(c), kernel_class_name[k->class],
				     (unsigned long long)h);
		out->unit[out->nunit++] = (CpuUnit){ .name = k->name, .emit = emit_shape, .argument = s };
	}
	cpu_compile(c, arena, out->unit, out->nunit);
	return OK;
}

Status cpu_code(CpuCompiler *c, Kernel *const *kernel, u32 n, Arena *arena, CpuProgram **program,
		KernelFunction **function)
{
	CpuCode code;
	TRY(cpu_code_units(c, kernel, n, arena, &code));
	Blob *object = NEWN(arena, Blob, code.nunit + 1);
	for (u32 i = 0; i < code.nunit; i++)
		object[i] = code.unit[i].object;
	TRY(cpu_program_load(cpu_compiler_machine(c), object, code.nunit, program));
	for (u32 i = 0; i < n; i++) {
		if (!code.symbol[i])
			continue;
		function[i] = (KernelFunction *)(uintptr_t)cpu_program_find(*program, code.symbol[i]);
		if (!function[i])
			NEVER("compiled code lacks a kernel's function");
	}
	return OK;
}
