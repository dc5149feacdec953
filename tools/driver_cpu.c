/* tools/driver_cpu.c: the way down for the CPU: LLVM makes objects of the plan's kernels, and loads them. */
#include "tools/driver.h"

#if PLINTH_LLVM
#include "codegen/cpu/target.h"

#include <stdlib.h>

typedef struct CpuBackend {
	CpuCompiler *compiler;
	CpuProgram *program;
} CpuBackend;

static Status target(Arena *arena, const DriverOptions *o, Compiled *out)
{
	CpuMachine machine;
	TRY(cpu_machine(o->cpu, &machine));
	out->target = cpu_target(&machine, arena);
	out->machine = COPYN(arena, char, machine.name, strlen(machine.name) + 1);
	return OK;
}

static void close(void *code)
{
	CpuBackend *b = code;
	cpu_program_unload(b->program);
	cpu_compiler_destroy(b->compiler);
	free(b);
}

static Status load(CpuBackend *b, Arena *arena, const DriverOptions *o, Cache *cache, Compiled *out)
{
	CpuOptions options = { .cpu = o->cpu, .threads = o->threads, .cache = cache };
	TRY(cpu_compiler_create(&options, &b->compiler));
	const Plan *p = out->plan;
	KernelFunction **function = NEWN(arena, KernelFunction *, p->kernel.n + 1);
	TRY(cpu_code(b->compiler, p->kernel.v, p->kernel.n, arena, &b->program, function));
	const CpuMachine *m = cpu_compiler_machine(b->compiler);
	out->package = package_link(arena, p, function, out->flops, str_of(arena_printf(arena, "%s %s", m->name, m->features)));
	CpuTimes t = cpu_compiler_times(b->compiler);
	out->times.compiled = t.misses;
	out->times.cached = t.hits;
	return OK;
}

static Status code(Arena *arena, const DriverOptions *o, Cache *cache, Compiled *out)
{
	CpuBackend *b = calloc(1, sizeof *b);
	if (!b)
		return FAIL(STATUS_MEMORY, "no memory for the compiler");
	Status s = load(b, arena, o, cache, out);
	if (s)
		close(b);
	else
		out->code = b;
	return s;
}

const DriverBackend driver_cpu = { .name = "cpu", .target = target, .code = code, .close = close };
#endif
