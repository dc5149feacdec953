/* tools/driver_cpu.c: the way down for the CPU: LLVM makes objects of the plan's kernels, and loads them; or they are
 * kept (driver_objects.h). */
#include "tools/driver.h"

#if PLINTH_LLVM
#include "tools/driver_objects.h"

#include <stdlib.h>

typedef struct CpuBackend {
	CpuCompiler *compiler;
	CpuProgram *program;
} CpuBackend;

static Status target(Arena *arena, const DriverOptions *o, Compiled *out)
{
	CpuMachine machine;
	TRY(cpu_machine(o->cpu, &machine));
	if (o->tuning)
		machine.tuning = *o->tuning;
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

static Package *link_package(Arena *arena, const Compiled *c, KernelFunction *const *function)
{
	const CpuMachine *m = c->target->self;
	return package_link(arena, c->plan, function, c->flops, str_of(arena_printf(arena, "%s %s", m->name, m->features)));
}

static Status load(CpuBackend *b, Arena *arena, const DriverOptions *o, Cache *cache, Compiled *out)
{
	CpuOptions options = { .cpu = o->cpu, .tuning = o->tuning, .threads = o->threads, .cache = cache };
	TRY(cpu_compiler_create(&options, &b->compiler));
	const Plan *p = out->plan;
	KernelFunction **function = NEWN(arena, KernelFunction *, p->kernel.n + 1);
	TRY(cpu_code(b->compiler, p->kernel.v, p->kernel.n, arena, &b->program, function));
	out->package = link_package(arena, out, function);
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

/* ---- kept ---- */

const char *const driver_needed[DRIVER_NEEDED] = { "libm.so.6", "libc.so.6" };

Status driver_objects(Arena *arena, const DriverOptions *o, Cache *cache, const char *prefix, Compiled *c, DriverObjects *out)
{
	const CpuMachine *m = c->target->self;
	CpuOptions options = { .cpu = m->spelled, .threads = o->threads, .cache = cache, .prefix = prefix, .needs = c->plan->sizes != NULL };
	*out = (DriverObjects){ 0 };
	TRY(cpu_compiler_create(&options, &out->compiler));
	Status s = cpu_code_units(out->compiler, c->plan->kernel.v, c->plan->kernel.n, arena, &out->code);
	if (s) {
		driver_objects_close(out);
		return s;
	}
	out->object = NEWN(arena, ObjectFile, out->code.nunit + 1);
	for (u32 i = 0; i < out->code.nunit; i++)
		out->object[i] = (ObjectFile){ arena_printf(arena, "%s%u.o", prefix, i), out->code.unit[i].object };
	Package *p = link_package(arena, c, NULL);
	package_name_code(arena, c->plan, out->code.symbol, out->code.needs, p);
	c->package = p;
	return OK;
}

void driver_objects_close(DriverObjects *d)
{
	cpu_compiler_destroy(d->compiler);
	d->compiler = NULL;
}

const DriverBackend driver_cpu = { .name = "cpu", .target = target, .code = code, .close = close };
#endif
