/* tests/unit/cuda_run.h: the suites of kernel_run.h on the CUDA target.
 *
 * cuda_suite_compile() compiles each kernel by the real NVRTC for several architectures and looks at what ptxas says and
 * at the PTX. cuda_suite_run() runs the PTX by a driver and compares with kernel_eval: the driver that
 * $PLINTH_LIBCUDA names (libcuda.so.1: a GPU), else the stand-in of tests/cuda/driver, which carries PTX out on the
 * CPU. Where NVRTC or a driver is missing, both say so and skip. */
#ifndef PL_TEST_CUDA_RUN_H
#define PL_TEST_CUDA_RUN_H
#include "codegen/cuda/nvrtc.h"
#include "codegen/cuda/target.h"
#include "kernel_run.h"

#include <dlfcn.h>
#include <unistd.h>

/* What code is run for. A test whose code is the same for all defines one. */
#ifndef CUDA_RUN_ARCHS
#define CUDA_RUN_ARCHS "sm_80", "sm_90a"
#endif

static inline CudaArch arch_named(const char *name)
{
	CudaArch a;
	Status s = cuda_arch(name, &a);
	if (s)
		fail_msg("%s", s->text);
	return a;
}

/* NVRTC or the end of this test, which is then skipped. */
static inline void need_nvrtc(void)
{
	const Nvrtc *n;
	Status s = nvrtc_open(&n);
	if (s) {
		print_message("skipped: %s\n", s->text);
		skip();
	}
}

static inline CudaCode compile_suite(Suite *s, const CudaArch *arch, CudaOutput output)
{
	Kernel **k = NEWN(&s->arena, Kernel *, s->cases.n + 1);
	for (u32 i = 0; i < s->cases.n; i++)
		k[i] = s->cases.v[i].k;
	CudaCode code;
	Status why = cuda_code(arch, &(CudaOptions){ .output = output, .threads = 2 }, k, s->cases.n, &s->arena, &code);
	if (why)
		fail_msg("%s", why->text);
	return code;
}

/* ---- what the compiler says ---- */

/* Does a value of f64 occur? */
static inline bool has_f64(const Kernel *k)
{
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].dtype == DT_f64)
			return true;
	return k->compute == DT_f64;
}

/* Bytes that ptxas says the function uses of local memory; `log` begins at the function. False: it says nothing. */
static inline bool ptxas_bytes(const char *log, unsigned *frame, unsigned *stores, unsigned *loads)
{
	const char *at = strstr(log, " bytes stack frame"), *number = at;
	while (number && number > log && number[-1] >= '0' && number[-1] <= '9')
		number--;
	return number && sscanf(number, "%u bytes stack frame, %u bytes spill stores, %u bytes spill loads", frame, stores,
				loads) == 3;
}

/* What the compiler says where products of a warpgroup wait for each other, or NULL: "Potential Performance Loss: wgmma.mma_async
 * instructions are serialized due to ...", C7510 to C7520. That ptxas puts in fences and waits of its own (C7517, C7519) it tells
 * too, and costs little. */
static inline const char *serialized_products(const char *log)
{
	return strstr(log, "serialized");
}

/* What ptxas says of the kernel's functions that must not be, or NULL. CUDA's own functions of f64 (division, cos) may use
 * local memory, and save registers. */
static inline const char *wrong_in_log(Arena *arena, const Kernel *k, const char *symbol, const CudaUnit *u)
{
	char begin[256];
	snprintf(begin, sizeof begin, "Compiling entry function '%s_p", symbol);
	u32 n = 0;
	for (const char *at = u->log; (at = strstr(at, begin)); at++, n++) {
		unsigned frame, stores, loads;
		if (!ptxas_bytes(at, &frame, &stores, &loads))
			return arena_printf(arena, "has no account of local memory: %.400s", at);
		if ((stores || loads || frame) && !has_f64(k))
			return arena_printf(arena, "uses local memory: %.400s", at);
	}
	if (!n)
		return arena_printf(arena, "is not spoken of by ptxas (%s)", symbol);
	const char *wgmma = serialized_products(u->log);
	return wgmma ? arena_printf(arena, "has products that wait for each other: %.200s", wgmma) : NULL;
}

static inline void check_log(Arena *arena, const Kernel *k, const char *symbol, const CudaUnit *u, const char *arch)
{
	const char *why = wrong_in_log(arena, k, symbol, u);
	if (why)
		fail_msg("%s: %s %s", arch, k->name, why);
}

/* The PTX of function `symbol`, all phases: from the first .entry to the end of the last. */
static inline Str ptx_of(const char *ptx, const char *symbol)
{
	char name[256];
	snprintf(name, sizeof name, ".entry %s_p", symbol);
	const char *first = strstr(ptx, name), *last = first;
	for (const char *at = first; at; at = strstr(at + 1, name))
		last = at;
	if (!first)
		return (Str){ ptx, 0 };
	const char *end = strstr(last, "\n}");
	end = end ? end : ptx + strlen(ptx);
	return (Str){ first, (size_t)(end - first) };
}

/* For each of n architectures. */
static inline void cuda_suite_compile_for(Suite *s, const char *const *name, u32 n)
{
	need_nvrtc();
	for (u32 i = 0; i < n; i++) {
		CudaArch arch = arch_named(name[i]);
		CudaCode code = compile_suite(s, &arch, CUDA_CUBIN);
		for (u32 j = 0; j < s->cases.n; j++)
			check_log(&s->arena, s->cases.v[j].k, code.symbol[j], &code.unit[code.unit_of[j]], name[i]);
	}
	CudaArch arch = arch_named("sm_90a");
	CudaCode code = compile_suite(s, &arch, CUDA_PTX);
	for (u32 i = 0; i < s->cases.n; i++) {
		const Kernel *k = s->cases.v[i].k;
		Str ptx = ptx_of(code.unit[code.unit_of[i]].image, code.symbol[i]);
		const char *text = arena_strn(&s->arena, ptx);
		if (!has_f64(k) && strstr(text, ".f64"))
			fail_msg("%s computes in double precision:\n%s", k->name, text);
	}
}

static inline void cuda_suite_compile(Suite *s)
{
	const char *const name[] = { "sm_80", "sm_90a", "sm_100" };
	cuda_suite_compile_for(s, name, COUNT(name));
}

/* ---- running ---- */

typedef struct Gpu {
	void *library;
	const char *path;
	bool standin;
	int (*init)(unsigned);
	int (*device_get)(int *, int);
	int (*device_attribute)(int *, int, int);
	int (*retain)(void **, int);
	int (*set_current)(void *);
	int (*synchronize)(void);
	int (*mem_alloc)(u64 *, size_t);
	int (*mem_free)(u64);
	int (*to_device)(u64, const void *, size_t);
	int (*from_device)(void *, u64, size_t);
	int (*module_load)(void **, const void *);
	int (*module_unload)(void *);
	int (*module_function)(void **, void *, const char *);
	int (*function_set)(void *, int, int);
	int (*launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **);
	int major, minor; /* compute capability */
} Gpu;

static inline void *gpu_symbol(void *library, const char *name)
{
	void *p = dlsym(library, name);
	if (!p)
		fail_msg("the driver has no %s", name);
	return p;
}

/* The driver; NULL where there is none. */
static inline Gpu *gpu(void)
{
	static Gpu g;
	static bool tried;
	if (tried)
		return g.library ? &g : NULL;
	tried = true;
	const char *path = getenv("PLINTH_LIBCUDA");
	g.standin = !path || !*path;
	g.path = g.standin ? "tests/standin/libcuda.so.1" : path;
	g.library = dlopen(g.path, RTLD_NOW | RTLD_LOCAL);
	if (!g.library) {
		if (!g.standin || access(g.path, F_OK) == 0)
			fail_msg("%s", dlerror());
		return NULL;
	}
#define GET(field, name) *(void **)&g.field = gpu_symbol(g.library, name)
	GET(init, "cuInit");
	GET(device_get, "cuDeviceGet");
	GET(device_attribute, "cuDeviceGetAttribute");
	GET(retain, "cuDevicePrimaryCtxRetain");
	GET(set_current, "cuCtxSetCurrent");
	GET(synchronize, "cuCtxSynchronize");
	GET(mem_alloc, "cuMemAlloc_v2");
	GET(mem_free, "cuMemFree_v2");
	GET(to_device, "cuMemcpyHtoD_v2");
	GET(from_device, "cuMemcpyDtoH_v2");
	GET(module_load, "cuModuleLoadData");
	GET(module_unload, "cuModuleUnload");
	GET(module_function, "cuModuleGetFunction");
	GET(function_set, "cuFuncSetAttribute");
	GET(launch, "cuLaunchKernel");
#undef GET
	int device;
	void *context;
	if (g.init(0) || g.device_get(&device, 0) || g.retain(&context, device) || g.set_current(context) ||
	    g.device_attribute(&g.major, 75, device) || g.device_attribute(&g.minor, 76, device))
		fail_msg("%s: no device can be used", g.path);
	return &g;
}

/* $PLINTH_STANDIN has changed. A GPU is as it is. */
static inline void gpu_read_settings(void)
{
	const Gpu *g = gpu();
	void (*read)(void) = NULL;
	if (g)
		*(void **)&read = dlsym(g->library, "standinReadSettings");
	if (read)
		read();
}

#define GPU(call) \
	do { \
		int error_ = call; \
		if (error_) \
			fail_msg("%s: %s: error %d", k->name, #call, error_); \
	} while (0)

/* A buffer on the device with ZONE bytes around it that must stay. */
static inline u64 gpu_zoned(const Gpu *g, const Kernel *k, Arena *a, const void *from, u64 bytes)
{
	u8 *all = zoned(a, bytes) - ZONE;
	if (from)
		memcpy(all + ZONE, from, bytes);
	u64 to;
	GPU(g->mem_alloc(&to, bytes + 2 * ZONE));
	GPU(g->to_device(to, all, bytes + 2 * ZONE));
	return to + ZONE;
}

static inline u8 *gpu_back(const Gpu *g, const Kernel *k, Arena *a, u64 at, u64 bytes)
{
	u8 *all = (u8 *)arena_push(a, 1, bytes + 2 * ZONE, 64);
	GPU(g->from_device(all, at - ZONE, bytes + 2 * ZONE));
	GPU(g->mem_free(at - ZONE));
	return all + ZONE;
}

static inline void gpu_tensor_map(const Gpu *g, const Kernel *k, const CudaTensorMap *m, u64 slot, void *to)
{
	/* CUtensorMapDataType, CUtensorMapSwizzle */
	int type = m->dtype == DT_bf16 ? 9 : m->dtype == DT_f16 ? 6 : m->dtype == DT_f32 ? 7 : 0;
	int swizzle = m->swizzle == 128 ? 3 : m->swizzle == 64 ? 2 : m->swizzle == 32 ? 1 : 0;
	u64 size = dtype_info[m->dtype].bytes, stride[5];
	unsigned step[5];
	for (u32 d = 0; d < m->rank; d++) {
		step[d] = 1;
		if (d)
			stride[d - 1] = m->stride[d] * size;
	}
	int (*encode)(void *, int, unsigned, void *, const u64 *, const u64 *, const unsigned *, const unsigned *, int, int,
		      int, int);
	*(void **)&encode = gpu_symbol(g->library, "cuTensorMapEncodeTiled");
	void *address = (void *)(uintptr_t)(slot + m->offset * size);
	GPU(encode(to, type, m->rank, address, m->extent, stride, m->box, step, 0, swizzle, 2, 0));
}

/* All phases of one kernel; `slot`: device addresses. */
static inline void gpu_launch(const Gpu *g, const Kernel *k, const CudaArch *arch, void *module, const char *symbol,
			      const u64 *slot, Arena *a)
{
	CudaNeeds n = cuda_kernel_class[k->class]->needs(arch, k);
	u64 *value = NEWN(a, u64, k->slot.n + k->inst.n + 2);
	void **parameter = NEWN(a, void *, k->slot.n + k->inst.n + CUDA_TENSOR_MAPS + 2);
	u32 np = 0;
	for (u32 s = 0; s < k->slot.n; s++)
		value[np++] = slot[s];
	u64 workspace = 0;
	if (n.workspace)
		value[np++] = workspace = gpu_zoned(g, k, a, NULL, n.workspace);
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_random)
			value[np++] = k->inst.v[i].key;
	for (u32 i = 0; i < np; i++)
		parameter[i] = &value[i];
	u8 *map = arena_push(a, 128, CUDA_TENSOR_MAPS, 64);
	for (u32 i = 0; i < n.nmap; i++) {
		gpu_tensor_map(g, k, &n.map[i], n.map[i].slot == NONE ? workspace : slot[n.map[i].slot], map + 128 * i);
		parameter[np++] = map + 128 * i;
	}
	for (u32 p = 0; p < n.nphase; p++) {
		const CudaLaunch *l = &n.launch[p];
		void *function;
		const char *name = arena_printf(a, "%s_p%u", symbol, p);
		GPU(g->module_function(&function, module, name));
		if (l->shared > 48 << 10)
			GPU(g->function_set(function, 8, (int)l->shared));
		GPU(g->launch(function, l->grid[0], l->grid[1], l->grid[2], l->block[0], l->block[1], l->block[2], l->shared,
			   NULL, parameter, NULL));
	}
	GPU(g->synchronize());
	if (n.workspace && !zone_stays(gpu_back(g, k, a, workspace, n.workspace), n.workspace))
		fail_msg("%s writes beyond its workspace", k->name);
}

/* Slots are filled as for the CPU; the result must be kernel_eval's, and the same bits in a second run and for a
 * device of another number of multiprocessors. */
static inline void gpu_case(const Gpu *g, const Case *c, u32 seed, const CudaArch *arch, void *module,
			    const char *symbol)
{
	const Kernel *k = c->k;
	Arena a = ARENA("run");
	Launch wanted = launch_of(c, seed, (LaunchNeeds){ 0 }, symbol, &a);
	u8 **first = NEWN(&a, u8 *, k->slot.n + 1);
	for (u32 round = 0; round < 2; round++) {
		CudaArch other = *arch;
		if (round)
			other.multiprocessors = 3;
		u64 *slot = NEWN(&a, u64, k->slot.n + 1);
		for (u32 s = 0; s < k->slot.n; s++)
			slot[s] = gpu_zoned(g, k, &a, wanted.slot[s].before, launch_slot_bytes(&wanted.slot[s]));
		gpu_launch(g, k, &other, module, symbol, slot, &a);
		for (u32 s = 0; s < k->slot.n; s++) {
			u64 bytes = launch_slot_bytes(&wanted.slot[s]);
			u8 *got = gpu_back(g, k, &a, slot[s], bytes);
			if (!zone_stays(got, bytes))
				fail_msg("%s for %s: writes beyond slot %u", k->name, arch->name, s);
			if (!round) {
				first[s] = got;
				const char *wrong = launch_compare(&wanted, s, got, &a);
				if (wrong) {
					kernel_print(k, stderr);
					fail_msg("for %s: %s", arch->name, wrong);
				}
			} else if (memcmp(first[s], got, bytes) != 0) {
				fail_msg("%s for %s: slot %u is other bits the second time", k->name, arch->name, s);
			}
		}
	}
	arena_free(&a);
}

/* Runs the cases for each of n architectures that the driver can take, and frees the suite. */
static inline void cuda_suite_run_for(Suite *s, u32 seed, const char *const *name, u32 n)
{
	need_nvrtc();
	const Gpu *g = gpu();
	if (!g) {
		print_message("skipped: no CUDA driver (build tests/standin, or set PLINTH_LIBCUDA)\n");
		arena_free(&s->arena);
		*s = (Suite){ 0 };
		skip();
	}
	for (u32 i = 0; i < n; i++) {
		CudaArch arch = arch_named(name[i]);
		u32 has = (u32)(g->major * 10 + g->minor), wants = arch.major * 10 + arch.minor;
		bool fits = arch.specific ? has == wants : has >= wants;
		if (!g->standin && !fits)
			continue;
		CudaCode code = compile_suite(s, &arch, CUDA_PTX);
		void **module = NEWN(&s->arena, void *, code.nunit + 1);
		for (u32 u = 0; u < code.nunit; u++) {
			const Kernel *k = s->cases.v[0].k;
			GPU(g->module_load(&module[u], code.unit[u].image));
		}
		for (u32 j = 0; j < s->cases.n; j++)
			gpu_case(g, &s->cases.v[j], seed + j, &arch, module[code.unit_of[j]], code.symbol[j]);
		for (u32 u = 0; u < code.nunit; u++)
			g->module_unload(module[u]);
	}
	arena_free(&s->arena);
	*s = (Suite){ 0 };
}

static inline void cuda_suite_run(Suite *s, u32 seed)
{
	const char *const name[] = { CUDA_RUN_ARCHS };
	cuda_suite_run_for(s, seed, name, COUNT(name));
}

#endif
