/* tools/driver_cuda.c: the way down for NVIDIA GPUs: NVRTC makes machine code of the plan's kernels for the
 * architecture of the device at hand, or for the one that is asked for.
 *
 * PLINTH_CUDA_IMAGE=ptx makes PTX, which the driver compiles when it loads it: for drivers that take no machine
 * code of this architecture. */
#include "codegen/cuda/target.h"
#include "runtime/device.h"
#include "tools/driver.h"

#include <stdlib.h>
#include <string.h>

static Status image_kind(CudaOutput *out)
{
	const char *kind = getenv("PLINTH_CUDA_IMAGE");
	*out = CUDA_CUBIN;
	if (!kind || !strcmp(kind, "cubin"))
		return OK;
	if (strcmp(kind, "ptx"))
		return FAIL(STATUS_INPUT, "PLINTH_CUDA_IMAGE is '%s': cubin or ptx", kind);
	*out = CUDA_PTX;
	return OK;
}

/* That of the device, and its own sizes. */
static Status own_arch(const DriverOptions *o, CudaArch *out)
{
	const Device *device;
	u32 index;
	DeviceInfo info;
	TRY(device_parse(o->device ? o->device : driver_default_device(), &device, &index));
	TRY(device->info(index, &info));
	TRY(cuda_arch_of(info.major, info.minor, out));
	out->multiprocessors = info.multiprocessors;
	out->shared_per_block = info.shared_per_block;
	out->shared_per_multiprocessor = info.shared_per_multiprocessor;
	return OK;
}

static Status target(Arena *arena, const DriverOptions *o, Compiled *out)
{
	CudaArch arch;
	TRY(o->arch ? cuda_arch(o->arch, &arch) : own_arch(o, &arch));
	arch.sized = o->sized;
	arch.name = COPYN(arena, char, arch.name, strlen(arch.name) + 1);
	out->target = cuda_target(&arch, arena);
	out->machine = arch.name;
	return OK;
}

static Status code(Arena *arena, const DriverOptions *o, Cache *cache, Compiled *out)
{
	const CudaArch *arch = out->target->self;
	CudaOptions options = { .threads = o->threads, .cache = cache };
	TRY(image_kind(&options.output));
	const Plan *p = out->plan;
	CudaCode code;
	TRY(cuda_code(arch, &options, p->kernel.v, p->kernel.n, arena, &code));
	Package *package = package_link(arena, p, out->flops, str_of(arch->name));
	cuda_link(arena, p, arch, &code, package);
	out->package = package;
	out->times.compiled = code.compiled;
	out->times.cached = code.cached;
	return OK;
}

static void close(void *code)
{
	(void)code;
}

const DriverBackend driver_cuda = { .name = "cuda", .target = target, .code = code, .close = close };
