/* tools/driver_cpu.c: the way down for the CPU: LLVM makes objects of the plan's kernels, of which a shared library is linked, as
 * packages have it; it is loaded here, or kept (driver_objects.h). */
#include "tools/driver.h"

#if PLINTH_LLVM
#include "runtime/cpu/code.h"
#include "tools/driver_objects.h"

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

static Package *link_package(Arena *arena, const Compiled *c)
{
	const CpuMachine *m = c->target->self;
	return package_link(arena, c->plan, c->flops, str_of(arena_printf(arena, "%s %s", m->name, m->features)));
}

Status driver_objects(Arena *arena, const DriverOptions *o, Cache *cache, const char *prefix, Compiled *c, DriverObjects *out)
{
	const CpuMachine *m = c->target->self;
	CpuOptions options = { .cpu = m->spelled, .tuning = o->tuning, .threads = o->threads, .cache = cache, .prefix = prefix,
			       .needs = c->plan->sizes != NULL };
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
	Package *p = link_package(arena, c);
	package_name_code(arena, c->plan, out->code.symbol, out->code.needs, p);
	c->package = p;
	return OK;
}

void driver_objects_close(DriverObjects *d)
{
	cpu_compiler_destroy(d->compiler);
	d->compiler = NULL;
}

Status driver_variant(Arena *arena, const DriverOptions *o, Cache *cache, Compiled *c, PackageVariant *out)
{
	DriverObjects objects;
	TRY(driver_objects(arena, o, cache, "", c, &objects));
	CpuTimes t = cpu_compiler_times(objects.compiler);
	c->times.compiled = t.misses;
	c->times.cached = t.hits;
	const CpuMachine *m = c->target->self;
	*out = (PackageVariant){ .machine = m->target, .cpu = arena_printf(arena, "%s", m->name), .features = arena_printf(arena, "%s", m->needs),
				 .sizes = "", .package = *c->package };
	/* a program that only copies nothing has no kernels */
	const CpuCode *code = &objects.code;
	Status s = code->nunit ? cpu_link(arena, code->unit, code->nunit, c->package->symbol, c->package->nsymbol, &out->code) : OK;
	driver_objects_close(&objects);
	return s;
}

/* ---- run here ---- */

static Status code(Arena *arena, const DriverOptions *o, Cache *cache, Compiled *out)
{
	PackageVariant *v = NEW(arena, PackageVariant);
	CpuCodeImage *image;
	const CpuMachine *m = out->target->self;
	if (!m->runs_here)
		return FAIL(STATUS_UNSUPPORTED, "code for %s cannot run on this CPU; compile for the host, or run it elsewhere", m->name);
	TRY(driver_variant(arena, o, cache, out, v));
	TRY(cpu_code_load(out->plan->program->name, v, &image));
	out->code = image;
	out->variant = v;
	out->package = &v->package;
	return OK;
}

static void close(void *code)
{
	cpu_code_unload(code);
}

const DriverBackend driver_cpu = { .name = "cpu", .target = target, .code = code, .close = close };
#endif
