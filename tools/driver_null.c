/* tools/driver_null.c: the way down for the device that does nothing: a plan as for the CPU, or for the GPU that
 * --arch names, and no code. */
#include "tools/driver.h"

static Status target(Arena *arena, const DriverOptions *o, Compiled *out)
{
#if PLINTH_LLVM
	if (!o->arch)
		return driver_cpu.target(arena, o, out);
#endif
	DriverOptions cuda = *o;
	cuda.arch = o->arch ? o->arch : "sm_90a";
	return driver_cuda.target(arena, &cuda, out);
}

static Status code(Arena *arena, const DriverOptions *o, Cache *cache, Compiled *out)
{
	(void)o, (void)cache;
	Package *p = package_link(arena, out->plan, out->flops, str_of(out->machine));
	p->device = "null";
	out->package = p;
	return OK;
}

static void close(void *code)
{
	(void)code;
}

const DriverBackend driver_null = { .name = "null", .target = target, .code = code, .close = close };
