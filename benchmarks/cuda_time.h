/* benchmarks/cuda_time.h: kernels made by hand, compiled for the GPU at hand and timed by events,
 * without the runtime. */
#ifndef PL_BENCHMARKS_CUDA_TIME_H
#define PL_BENCHMARKS_CUDA_TIME_H
#include "codegen/cuda/target.h"
#include "support/library.h"

#include <stdlib.h>
#include <string.h>

static inline void must(Status s)
{
	if (!s)
		return;
	fprintf(stderr, "%s\n", s->text);
	exit(status_exit(s));
}

/* ---- the driver ---- */

typedef struct Gpu {
	char name[128];
	int major, minor, multiprocessors;
	CudaArch arch;
	bool ptx; /* no machine code: the driver is tests/cuda/driver */
	int (*mem_alloc)(u64 *, size_t);
	int (*mem_free)(u64);
	int (*to_device)(u64, const void *, size_t);
	int (*from_device)(void *, u64, size_t);
	int (*module_load)(void **, const void *);
	int (*module_function)(void **, void *, const char *);
	int (*function_set)(void *, int, int);
	int (*launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
		      void *, void **, void **);
	int (*event_create)(void **, unsigned);
	int (*event_record)(void *, void *);
	int (*event_wait)(void *);
	int (*event_elapsed)(float *, void *, void *);
} Gpu;

#define GPU(call) gpu_check((call), #call)
static inline void gpu_check(int error, const char *call)
{
	if (!error)
		return;
	fprintf(stderr, "%s: CUDA error %d\n", call, error);
	exit(2);
}

static inline void gpu_symbol(const Library *l, const char *name, void *to)
{
	if (library_find(l, name, to))
		return;
	fprintf(stderr, "%s has no %s\n", l->path, name);
	exit(2);
}

static inline Gpu gpu_open(void)
{
	Gpu g = { .major = 0 };
	static const char *const file[] = { "libcuda.so.1", NULL };
	Library library, *l = &library;
	must(library_open("PLINTH_LIBCUDA", file, RTLD_LOCAL, l));
	int (*init)(unsigned), (*get)(int *, int), (*get_name)(char *, int, int),
		(*attribute)(int *, int, int), (*retain)(void **, int), (*set_current)(void *),
		device;
	void *context;
#define GET(to, name) gpu_symbol(l, name, &(to))
	GET(init, "cuInit");
	GET(get, "cuDeviceGet");
	GET(get_name, "cuDeviceGetName");
	GET(attribute, "cuDeviceGetAttribute");
	GET(retain, "cuDevicePrimaryCtxRetain");
	GET(set_current, "cuCtxSetCurrent");
	GET(g.mem_alloc, "cuMemAlloc_v2");
	GET(g.mem_free, "cuMemFree_v2");
	GET(g.to_device, "cuMemcpyHtoD_v2");
	GET(g.from_device, "cuMemcpyDtoH_v2");
	GET(g.module_load, "cuModuleLoadData");
	GET(g.module_function, "cuModuleGetFunction");
	GET(g.function_set, "cuFuncSetAttribute");
	GET(g.launch, "cuLaunchKernel");
	GET(g.event_create, "cuEventCreate");
	GET(g.event_record, "cuEventRecord");
	GET(g.event_wait, "cuEventSynchronize");
	GET(g.event_elapsed, "cuEventElapsedTime");
#undef GET
	GPU(init(0));
	GPU(get(&device, 0));
	GPU(get_name(g.name, sizeof g.name, device));
	g.ptx = strstr(g.name, "stand-in") != NULL;
	GPU(attribute(&g.major, 75, device));
	GPU(attribute(&g.minor, 76, device));
	GPU(attribute(&g.multiprocessors, 16, device));
	GPU(retain(&context, device));
	GPU(set_current(context));
	/* the architecture's own instructions where Plinth knows them */
	char name[32];
	Status s = OK;
	for (u32 i = 0; i < 3; i++) {
		snprintf(name, sizeof name, "sm_%d%d%s", g.major, i < 2 ? g.minor : 0,
			 i == 0 ? "a" : "");
		s = cuda_arch(name, &g.arch);
		if (!s)
			break;
	}
	must(s);
	g.arch.multiprocessors = (u32)g.multiprocessors;
	return g;
}

/* ---- a kernel ---- */

typedef struct Launch {
	const Kernel *k;
	CudaNeeds needs;
	void *function[CUDA_PHASES];
	u64 slot[32], workspace;
	void *parameter[33];
} Launch;

static inline u64 gpu_bytes(const Gpu *g, u64 bytes)
{
	u64 p;
	GPU(g->mem_alloc(&p, bytes + 256));
	return p;
}

/* Compiles and loads it; slots are allocated where slot[i] is 0. */
static inline void launch_make(Launch *l, const Gpu *g, Kernel *k, Arena *a)
{
	CudaCode code;
	CudaOptions options = { .output = g->ptx ? CUDA_PTX : CUDA_CUBIN,
				.threads = 1,
				.verbose = true };
	must(cuda_code(&g->arch, &options, &k, 1, a, &code));
	if (getenv("VERBOSE"))
		fprintf(stderr, "%s\n", code.unit[0].log);
	void *module;
	GPU(g->module_load(&module, code.unit[0].image));
	l->k = k;
	l->needs = cuda_kernel_class[k->class]->needs(&g->arch, k);
	for (u32 p = 0; p < l->needs.nphase; p++) {
		GPU(g->module_function(&l->function[p], module,
				       arena_printf(a, "%s_p%u", code.symbol[0], p)));
		if (l->needs.launch[p].shared > 48 << 10)
			GPU(g->function_set(l->function[p], 8, (int)l->needs.launch[p].shared));
	}
	u32 n = 0;
	for (u32 i = 0; i < k->slot.n; i++) {
		if (!l->slot[i])
			l->slot[i] = gpu_bytes(g, (u64)k->slot.v[i].elements *
							  dtype_info[k->slot.v[i].dtype].bytes);
		l->parameter[n++] = &l->slot[i];
	}
	if (l->needs.workspace) {
		l->workspace = gpu_bytes(g, l->needs.workspace);
		l->parameter[n++] = &l->workspace;
	}
}

static inline void launch_phase(const Gpu *g, Launch *l, u32 p)
{
	const CudaLaunch *n = &l->needs.launch[p];
	GPU(g->launch(l->function[p], n->grid[0], n->grid[1], n->grid[2], n->block[0], n->block[1],
		      n->block[2], n->shared, NULL, l->parameter, NULL));
}

static inline int by_size(const void *p, const void *q)
{
	f32 a = *(const f32 *)p, b = *(const f32 *)q;
	return (a > b) - (a < b);
}

/* The median of `turns` launches, after two that warm up; phase[p], if not NULL, of each phase.
 * Milliseconds. */
static inline f64 launch_time(const Gpu *g, Launch *l, u32 turns, f64 *phase)
{
	void *event[CUDA_PHASES + 1];
	f32 *all = calloc((size_t)turns * (CUDA_PHASES + 1), sizeof *all);
	for (u32 p = 0; p <= l->needs.nphase; p++)
		GPU(g->event_create(&event[p], 0));
	for (u32 turn = 0; turn < turns + 2; turn++) {
		GPU(g->event_record(event[0], NULL));
		for (u32 p = 0; p < l->needs.nphase; p++) {
			launch_phase(g, l, p);
			GPU(g->event_record(event[p + 1], NULL));
		}
		GPU(g->event_wait(event[l->needs.nphase]));
		if (turn < 2)
			continue;
		for (u32 p = 0; p < l->needs.nphase; p++)
			GPU(g->event_elapsed(&all[(p + 1) * turns + turn - 2], event[p],
					     event[p + 1]));
		GPU(g->event_elapsed(&all[turn - 2], event[0], event[l->needs.nphase]));
	}
	for (u32 p = 0; p <= l->needs.nphase; p++) {
		qsort(all + p * turns, turns, sizeof *all, by_size);
		if (p && phase)
			phase[p - 1] = (f64)all[p * turns + turns / 2];
	}
	f64 median = (f64)all[turns / 2];
	free(all);
	return median;
}

#endif
