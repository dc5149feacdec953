/* driver_module.c: PTX texts as modules, their functions, and launches: what the driver checks before a
 * kernel may run, and the operations of a stream done. */
#include "driver.h"
#include <stdlib.h>

enum { SHARED_DEFAULT = 48 << 10, SHARED_MOST = 232448 };

static void put_relocations(const Variable *v)
{
	for (u32 i = 0; i < v->relocations.n; i++) {
		Relocation r = v->relocations.v[i];
		u64 address = r.to->address + (u64)r.add;
		memcpy(memory_host(v->address, v->size) + r.offset, &address, 8);
	}
}

static CUresult place_variables(Module *m)
{
	for (u32 i = 0; i < m->variables.n; i++) {
		Variable *v = m->variables.v[i];
		if (v->space != SPACE_GLOBAL && v->space != SPACE_CONST)
			continue;
		if (v->is_extern)
			return driver_fail(CUDA_ERROR_INVALID_PTX, "variable '%s' is not in the module", v->name);
		CUresult r = memory_allocate(&v->address, v->size);
		if (r)
			return r;
		memset(memory_host(v->address, v->size), 0, v->size);
		if (v->init)
			memcpy(memory_host(v->address, v->size), v->init, v->size);
	}
	for (u32 i = 0; i < m->variables.n; i++)
		put_relocations(m->variables.v[i]);
	return CUDA_SUCCESS;
}

static void module_free(LoadedModule *x)
{
	for (u32 i = 0; i < x->m.variables.n; i++)
		if (x->m.variables.v[i]->address)
			memory_free(x->m.variables.v[i]->address);
	arena_free(&x->m.arena);
	free(x->function);
	free(x->text);
	free(x);
}

static CUresult load(LoadedModule *x, const char *text)
{
	x->text = strdup(text);
	if (!x->text)
		NEVER("out of host memory");
	if (!ptx_parse(&x->m, str_of(x->text)))
		return driver_fail(CUDA_ERROR_INVALID_PTX, "%s", x->m.error);
	if (x->m.target > settings()->cc || (x->m.one_target && x->m.target != settings()->cc))
		return driver_fail(CUDA_ERROR_NO_BINARY_FOR_GPU, "PTX for sm_%u%s on a device of sm_%u", x->m.target,
				   x->m.one_target ? "a" : "", settings()->cc);
	CUresult r = place_variables(&x->m);
	if (r)
		return r;
	x->function = calloc(x->m.functions.n + 1, sizeof *x->function);
	if (!x->function)
		NEVER("out of host memory");
	for (u32 i = 0; i < x->m.functions.n; i++) {
		Function *f = x->m.functions.v[i];
		if (!f->is_entry || f->is_declaration)
			continue;
		Kernel *k = kernel_decode(&x->m, f);
		if (!k)
			return driver_fail(CUDA_ERROR_INVALID_PTX, "%s", x->m.error);
		k->max_dynamic = SHARED_DEFAULT - (i32)k->shared_bytes;
		x->function[x->nfunction++] = (LoadedFunction){ k, x };
	}
	return CUDA_SUCCESS;
}

CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, u32 noptions, int *options, void **values)
{
	ENTER;
	const u8 *bytes = image;
	if (!image || !module)
		LEAVE(CUDA_ERROR_INVALID_VALUE);
	if (!memcmp(bytes, "\177ELF", 4) || (bytes[0] == 0x50 && bytes[1] == 0xed && bytes[2] == 0x55 && bytes[3] == 0xba))
		LEAVE(driver_fail(CUDA_ERROR_NO_BINARY_FOR_GPU, "a cubin cannot run on the CPU: load PTX"));
	LoadedModule *x = calloc(1, sizeof *x);
	if (!x)
		NEVER("out of host memory");
	CUresult r = load(x, image);
	if (r) {
		/* CU_JIT_ERROR_LOG_BUFFER and its size. */
		char *log = NULL;
		size_t size = 0;
		for (u32 i = 0; i < noptions; i++) {
			if (options[i] == 5)
				log = values[i];
			else if (options[i] == 6)
				size = (size_t)(uintptr_t)values[i];
		}
		if (log && size)
			snprintf(log, size, "%s", context.report);
		module_free(x);
		LEAVE(r);
	}
	*module = x;
	LEAVE(CUDA_SUCCESS);
}

CUresult cuModuleLoadData(CUmodule *module, const void *image)
{
	return cuModuleLoadDataEx(module, image, 0, NULL, NULL);
}

CUresult cuModuleUnload(CUmodule module)
{
	ENTER;
	CUresult r = stream_drain_all();
	module_free(module);
	LEAVE(r);
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name)
{
	ENTER;
	for (u32 i = 0; i < module->nfunction; i++)
		if (!strcmp(module->function[i].kernel->name, name)) {
			*function = &module->function[i];
			LEAVE(CUDA_SUCCESS);
		}
	LEAVE(CUDA_ERROR_NOT_FOUND);
}

CUresult cuModuleGetFunctionCount(u32 *count, CUmodule module)
{
	*count = module->nfunction;
	return CUDA_SUCCESS;
}

CUresult cuModuleGetGlobal_v2(CUdeviceptr *pointer, size_t *bytes, CUmodule module, const char *name)
{
	ENTER;
	for (u32 i = 0; i < module->m.variables.n; i++) {
		const Variable *v = module->m.variables.v[i];
		if (!v->address || strcmp(v->name, name))
			continue;
		if (pointer)
			*pointer = v->address;
		if (bytes)
			*bytes = v->size;
		LEAVE(CUDA_SUCCESS);
	}
	LEAVE(CUDA_ERROR_NOT_FOUND);
}

CUresult cuModuleGetLoadingMode(int *mode)
{
	*mode = 1; /* eager */
	return CUDA_SUCCESS;
}

static u32 threads_at_most(const Kernel *k)
{
	const u32 *m = k->function->required_threads[0] ? k->function->required_threads : k->function->max_threads;
	return m[0] ? MIN(m[0] * m[1] * m[2], 1024) : 1024;
}

CUresult cuFuncGetAttribute(int *value, int attribute, CUfunction function)
{
	ENTER;
	const Kernel *k = function->kernel;
	switch (attribute) {
	case 0: *value = (int)threads_at_most(k); break;
	case 1: *value = (int)k->shared_bytes; break;
	case 2: *value = 0; break;
	case 3: *value = (int)k->local_bytes; break;
	case 4: *value = 64; break; /* PTX has no registers of a machine: a middling number */
	case 5: case 6: *value = (int)settings()->cc; break;
	case 8: *value = k->max_dynamic; break;
	case 9: *value = -1; break;
	case 7: case 10: case 11: case 12: case 13: case 14: case 15: *value = 0; break;
	default: LEAVE(CUDA_ERROR_INVALID_VALUE);
	}
	LEAVE(CUDA_SUCCESS);
}

CUresult cuFuncSetAttribute(CUfunction function, int attribute, int value)
{
	ENTER;
	Kernel *k = function->kernel;
	if (attribute == 8) {
		if (value < 0 || value + (i32)k->shared_bytes > SHARED_MOST)
			LEAVE(driver_fail(CUDA_ERROR_INVALID_VALUE, "%s: %d bytes of dynamic shared memory with %u static are more than %d",
					  k->name, value, k->shared_bytes, SHARED_MOST));
		k->max_dynamic = value;
		LEAVE(CUDA_SUCCESS);
	}
	LEAVE(attribute == 9 || attribute == 14 || attribute == 15 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
}

CUresult cuFuncSetCacheConfig(CUfunction function, int config)
{
	(void)function;
	(void)config;
	return CUDA_SUCCESS;
}

CUresult cuFuncGetParamInfo(CUfunction function, size_t index, size_t *offset, size_t *size)
{
	ENTER;
	const Function *f = function->kernel->function;
	if (index >= f->params.n)
		LEAVE(CUDA_ERROR_INVALID_VALUE);
	*offset = f->params.v[index]->address;
	if (size)
		*size = f->params.v[index]->size;
	LEAVE(CUDA_SUCCESS);
}

CUresult cuFuncGetName(const char **name, CUfunction function)
{
	*name = function->kernel->name;
	return CUDA_SUCCESS;
}

CUresult cuFuncLoad(CUfunction function)
{
	(void)function;
	return CUDA_SUCCESS;
}

/* Blocks that fit a multiprocessor of sm_90: 2048 threads, 32 blocks, 228 KB of shared memory, of which
 * each block takes 1 KB more than it says. Registers are not known. */
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function, int threads, size_t shared)
{
	ENTER;
	size_t each = ALIGN_UP(shared + function->kernel->shared_bytes, 128) + SHARED_RESERVED;
	if (threads <= 0)
		LEAVE(CUDA_ERROR_INVALID_VALUE);
	size_t n = MIN(2048 / ALIGN_UP((size_t)threads, LANES), ((size_t)228 << 10) / each);
	*blocks = threads > 1024 ? 0 : (int)MIN(n, 32);
	LEAVE(CUDA_SUCCESS);
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, CUfunction function, int threads,
							      size_t shared, u32 flags)
{
	(void)flags;
	return cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, threads, shared);
}

/* Launches. */

static CUresult params_copied(const Kernel *k, void **params, void **extra, u8 **out)
{
	const Function *f = k->function;
	u8 *buffer = calloc(1, f->param_bytes + 16u);
	if (!buffer)
		NEVER("out of host memory");
	*out = buffer;
	if (extra) {
		const u8 *from = NULL;
		size_t size = 0;
		for (; *extra != CU_LAUNCH_PARAM_END; extra += 2) {
			if (extra[0] == CU_LAUNCH_PARAM_BUFFER_POINTER)
				from = extra[1];
			else if (extra[0] == CU_LAUNCH_PARAM_BUFFER_SIZE)
				size = *(const size_t *)extra[1];
		}
		if (size != f->param_bytes)
			return driver_fail(CUDA_ERROR_INVALID_VALUE, "%s takes %u bytes of parameters and is given %zu", k->name,
					   f->param_bytes, size);
		memcpy(buffer, from, size);
		return CUDA_SUCCESS;
	}
	if (f->params.n && !params)
		return driver_fail(CUDA_ERROR_INVALID_VALUE, "%s takes %u parameters and is given none", k->name, f->params.n);
	for (u32 i = 0; i < f->params.n; i++) {
		if (!params[i])
			return driver_fail(CUDA_ERROR_INVALID_VALUE, "%s: parameter %u is a null pointer", k->name, i);
		memcpy(buffer + f->params.v[i]->address, params[i], f->params.v[i]->size);
	}
	return CUDA_SUCCESS;
}

static CUresult launch_check(const Kernel *k, const u32 *grid, const u32 *block, u32 dynamic)
{
	const Function *f = k->function;
	u64 threads = (u64)block[0] * block[1] * block[2];
	if (!grid[0] || !grid[1] || !grid[2] || grid[0] > 0x7fffffff || grid[1] > 65535 || grid[2] > 65535)
		return driver_fail(CUDA_ERROR_INVALID_VALUE, "%s: a grid of %ux%ux%u blocks", k->name, grid[0], grid[1], grid[2]);
	if (!threads || block[0] > 1024 || block[1] > 1024 || block[2] > 64 || threads > threads_at_most(k))
		return driver_fail(CUDA_ERROR_INVALID_VALUE, "%s: blocks of %ux%ux%u threads, where %u are the most", k->name,
				   block[0], block[1], block[2], threads_at_most(k));
	if (f->required_threads[0] && (f->required_threads[0] != block[0] || f->required_threads[1] != block[1] ||
				       f->required_threads[2] != block[2]))
		return driver_fail(CUDA_ERROR_INVALID_VALUE, "%s: blocks of %ux%ux%u threads, where %ux%ux%u are required", k->name,
				   block[0], block[1], block[2], f->required_threads[0], f->required_threads[1],
				   f->required_threads[2]);
	if ((i64)dynamic > k->max_dynamic)
		return driver_fail(CUDA_ERROR_INVALID_VALUE,
				   "%s: %u bytes of dynamic shared memory (and %u static), where the host has asked for at most %d",
				   k->name, dynamic, k->shared_bytes, k->max_dynamic);
	return CUDA_SUCCESS;
}

static CUresult launch(CUfunction function, const u32 *grid, const u32 *block, u32 dynamic, CUstream stream,
		       void **params, void **extra)
{
	if (!function)
		return CUDA_ERROR_INVALID_HANDLE;
	Op op = { .kind = OP_KERNEL, .function = function, .dynamic = dynamic };
	memcpy(op.grid, grid, sizeof op.grid);
	memcpy(op.threads, block, sizeof op.threads);
	CUresult r = launch_check(function->kernel, grid, block, dynamic);
	if (!r)
		r = params_copied(function->kernel, params, extra, &op.params);
	if (r) {
		free(op.params);
		return r;
	}
	return stream_push(stream_of(stream), op);
}

CUresult cuLaunchKernel(CUfunction function, u32 gx, u32 gy, u32 gz, u32 bx, u32 by, u32 bz, u32 shared_bytes,
			CUstream stream, void **params, void **extra)
{
	ENTER;
	LEAVE(launch(function, (u32[]){ gx, gy, gz }, (u32[]){ bx, by, bz }, shared_bytes, stream, params, extra));
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *c, CUfunction function, void **params, void **extra)
{
	ENTER;
	for (u32 i = 0; i < c->nattributes; i++) {
		const CUlaunchAttribute *a = &c->attributes[i];
		const u32 *n = a->value.dimensions;
		/* Clusters and grids that wait for each other need blocks that run at once. */
		if ((a->id == 4 && (n[0] != 1 || n[1] != 1 || n[2] != 1)) || (a->id == 2 && a->value.flag))
			LEAVE(driver_fail(CUDA_ERROR_NOT_SUPPORTED, "%s: %s are not known to the stand-in", function->kernel->name,
					  a->id == 4 ? "clusters" : "cooperative launches"));
	}
	LEAVE(launch(function, c->grid, c->block, c->shared_bytes, c->stream, params, extra));
}

CUresult op_run(Op *op)
{
	switch (op->kind) {
	case OP_KERNEL: {
		Launch x = { .kernel = op->function->kernel, .dynamic = op->dynamic, .params = op->params, .to_host = memory_to_host() };
		memcpy(x.grid, op->grid, sizeof x.grid);
		memcpy(x.threads, op->threads, sizeof x.threads);
		x.range = memory_ranges(&x.nrange);
		x.nblock = (u64)op->grid[0] * op->grid[1] * op->grid[2];
		launch_run(&x);
		return x.error ? driver_fail(x.error, "%s", x.message) : CUDA_SUCCESS;
	}
	case OP_COPY: {
		u8 *to = op->to_device ? memory_host(op->to, op->bytes) : (u8 *)(uintptr_t)op->to;
		const u8 *from = op->staged ? op->staged
			       : op->from_device ? memory_host(op->from, op->bytes) : (const u8 *)(uintptr_t)op->from;
		if (!to || !from)
			return driver_fail(CUDA_ERROR_ILLEGAL_ADDRESS, "a copy to or from memory that has been freed");
		memmove(to, from, op->bytes);
		return CUDA_SUCCESS;
	}
	case OP_SET: {
		u8 *to = memory_host(op->to, op->bytes);
		if (!to)
			return driver_fail(CUDA_ERROR_ILLEGAL_ADDRESS, "memory that has been freed is set");
		for (u64 i = 0; i < op->bytes; i += op->width)
			memcpy(to + i, &op->value, op->width);
		return CUDA_SUCCESS;
	}
	case OP_HOST:
		op->host(op->data);
		return CUDA_SUCCESS;
	case OP_WORK:
		return op->work(op->data);
	default:
		return CUDA_SUCCESS;
	}
}
