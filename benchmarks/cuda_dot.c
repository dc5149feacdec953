/* benchmarks/cuda_dot.c: matrix products on a GPU: Plinth's kernels by mma.sync and by wgmma beside cuBLASLt, at GPT-2's
 * sizes (65536 tokens; forward, the derivative of the input, that of the weights) and at two squares. Operands of bf16, and of 8 bits where
 * the name ends in f8 (compute capability 8.9 and up; what is summed over fastest in both; of derivatives one f8e5m2), random;
 * medians by events, and the largest difference from cuBLASLt in units of the results' size. Where more is done with the sums
 * before they are stored, cuBLASLt does the product alone, and what differs is wgmma from mma.sync. wgmma is of compute
 * capability 9.0; elsewhere there is mma.sync alone. Run by hand:
 *
 *   cuda_dot [FILTER]        those whose name contains FILTER
 *
 * libcuda, NVRTC and cuBLASLt are loaded at run time; without the last, wgmma is compared with mma.sync. */
#include "codegen/cuda/target.h"
#include "support/library.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef u64 Address;
typedef void *Handle;

/* ---- libcuda ---- */

#define DRIVER(X) \
	X(init, "cuInit", (unsigned)) \
	X(device_get, "cuDeviceGet", (int *, int)) \
	X(device_name, "cuDeviceGetName", (char *, int, int)) \
	X(attribute, "cuDeviceGetAttribute", (int *, int, int)) \
	X(retain, "cuDevicePrimaryCtxRetain", (Handle *, int)) \
	X(set_current, "cuCtxSetCurrent", (Handle)) \
	X(synchronize, "cuCtxSynchronize", (void)) \
	X(alloc, "cuMemAlloc_v2", (Address *, size_t)) \
	X(release, "cuMemFree_v2", (Address)) \
	X(to_device, "cuMemcpyHtoD_v2", (Address, const void *, size_t)) \
	X(from_device, "cuMemcpyDtoH_v2", (void *, Address, size_t)) \
	X(on_device, "cuMemcpyDtoD_v2", (Address, Address, size_t)) \
	X(fill, "cuMemsetD32_v2", (Address, unsigned, size_t)) \
	X(module_load, "cuModuleLoadData", (Handle *, const void *)) \
	X(module_unload, "cuModuleUnload", (Handle)) \
	X(function, "cuModuleGetFunction", (Handle *, Handle, const char *)) \
	X(function_set, "cuFuncSetAttribute", (Handle, int, int)) \
	X(launch, "cuLaunchKernel", \
	  (Handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Handle, void **, void **)) \
	X(event_create, "cuEventCreate", (Handle *, unsigned)) \
	X(event_record, "cuEventRecord", (Handle, Handle)) \
	X(event_synchronize, "cuEventSynchronize", (Handle)) \
	X(elapsed, "cuEventElapsedTime", (float *, Handle, Handle)) \
	X(encode, "cuTensorMapEncodeTiled", \
	  (void *, int, unsigned, void *, const u64 *, const u64 *, const unsigned *, const unsigned *, int, int, int, int))

static struct {
#define X(field, name, args) int(*field) args;
	DRIVER(X)
#undef X
} cu;

static void die(const char *what, int error)
{
	fprintf(stderr, "cuda_dot: %s: error %d\n", what, error);
	exit(2);
}

#define CU(call) \
	do { \
		int error_ = cu.call; \
		if (error_) \
			die(#call, error_); \
	} while (0)

static void open_driver(void)
{
	static const char *const file[] = { "libcuda.so.1", NULL };
	Library library;
	Status s = library_open("PLINTH_LIBCUDA", file, RTLD_LOCAL, &library);
	if (s) {
		fprintf(stderr, "cuda_dot: %s\n", s->text);
		exit(2);
	}
#define X(field, name, args) \
	if (!library_find(&library, name, &cu.field)) \
		die(name, -1);
	DRIVER(X)
#undef X
}

/* ---- cuBLASLt: column-major; D^T = B^T A^T ---- */

typedef struct Heuristic {
	u64 algorithm[8];
	size_t workspace;
	int state;
	float waves;
	int reserved[4];
} Heuristic;

#define LIBRARY(X) \
	X(create, "cublasLtCreate", (Handle *)) \
	X(desc_create, "cublasLtMatmulDescCreate", (Handle *, int, int)) \
	X(desc_set, "cublasLtMatmulDescSetAttribute", (Handle, int, const void *, size_t)) \
	X(layout_create, "cublasLtMatrixLayoutCreate", (Handle *, int, u64, u64, i64)) \
	X(preference_create, "cublasLtMatmulPreferenceCreate", (Handle *)) \
	X(preference_set, "cublasLtMatmulPreferenceSetAttribute", (Handle, int, const void *, size_t)) \
	X(heuristic, "cublasLtMatmulAlgoGetHeuristic", \
	  (Handle, Handle, Handle, Handle, Handle, Handle, Handle, int, Heuristic *, int *)) \
	X(matmul, "cublasLtMatmul", \
	  (Handle, Handle, const void *, Address, Handle, Address, Handle, const void *, Address, Handle, Address, Handle, \
	   const void *, Address, size_t, Handle))

static struct {
	Handle handle;
#define X(field, name, args) int(*field) args;
	LIBRARY(X)
#undef X
} lt;

enum { R_32F = 0, R_16BF = 14, R_8F_E4M3 = 28, R_8F_E5M2 = 29, COMPUTE_32F = 68, TRANSPOSE_A = 3, TRANSPOSE_B = 4, MAX_WORKSPACE = 1 };
enum { NO_BINARY = 209 };
enum { LT_WORKSPACE = 64 << 20, CANDIDATES = 8 };

static bool open_library(void)
{
	static const char *const name[] = { "libcublasLt.so.13", "libcublasLt.so.12", "/usr/local/cuda/lib64/libcublasLt.so.13",
					    "/usr/local/cuda/lib64/libcublasLt.so.12", "/usr/local/cuda/lib64/libcublasLt.so", NULL };
	Library library;
	if (library_open("PLINTH_LIBCUBLASLT", name, RTLD_LOCAL, &library))
		return false;
#define X(field, symbol, args) \
	if (!library_find(&library, symbol, &lt.field)) \
		return false;
	LIBRARY(X)
#undef X
	return lt.create(&lt.handle) == 0;
}

/* ---- problems ---- */

/* What follows the sums: a bias for each column, and gelu; or a bias, and what was there before. */
typedef enum Epilogue { PLAIN, BIAS_GELU, BIAS_RESIDUAL } Epilogue;

typedef struct Problem {
	const char *name;
	i64 M, N, K;
	u32 turned; /* 1: a is [K, M]; 2: b is [N, K] */
	DType to;
	Epilogue epilogue;
	DType of[2]; /* what a and b are */
} Problem;

enum { TOKENS = 65536 };
#define BF16 { DT_bf16, DT_bf16 }
#define LAYER(name, in, out) \
	{ name, TOKENS, out, in, 0, DT_bf16, PLAIN, BF16 }, { name " dx", TOKENS, in, out, 2, DT_bf16, PLAIN, BF16 }, \
	{ name " dw", in, out, TOKENS, 1, DT_f32, PLAIN, BF16 }

/* Copies of the operands in the order of memory that each product wants. */
#define LAYER_F8(name, in, out) \
	{ name " f8", TOKENS, out, in, 2, DT_bf16, PLAIN, { DT_f8e4m3, DT_f8e4m3 } }, \
	{ name " dx f8", TOKENS, in, out, 2, DT_bf16, PLAIN, { DT_f8e5m2, DT_f8e4m3 } }, \
	{ name " dw f8", in, out, TOKENS, 2, DT_f32, PLAIN, { DT_f8e4m3, DT_f8e5m2 } }

static const Problem problems[] = {
	{ "small", 256, 384, 192, 0, DT_bf16, PLAIN, BF16 },
	{ "small gelu", 256, 384, 192, 0, DT_bf16, BIAS_GELU, BF16 },
	{ "small added", 256, 384, 192, 0, DT_bf16, BIAS_RESIDUAL, BF16 },
	{ "small f8", 256, 384, 192, 2, DT_bf16, PLAIN, { DT_f8e4m3, DT_f8e5m2 } },
	{ "square 4096", 4096, 4096, 4096, 2, DT_bf16, PLAIN, BF16 },
	{ "square 8192", 8192, 8192, 8192, 2, DT_bf16, PLAIN, BF16 },
	{ "square 8192 nn", 8192, 8192, 8192, 0, DT_bf16, PLAIN, BF16 },
	{ "square 4096 f8", 4096, 4096, 4096, 2, DT_bf16, PLAIN, { DT_f8e4m3, DT_f8e4m3 } },
	{ "square 8192 f8", 8192, 8192, 8192, 2, DT_bf16, PLAIN, { DT_f8e4m3, DT_f8e4m3 } },
	LAYER("qkv", 768, 2304),
	LAYER("proj", 768, 768),
	LAYER("fc", 768, 3072),
	{ "fc gelu", TOKENS, 3072, 768, 0, DT_bf16, BIAS_GELU, BF16 },
	LAYER("fc proj", 3072, 768),
	{ "fc proj added", TOKENS, 768, 3072, 0, DT_bf16, BIAS_RESIDUAL, BF16 },
	LAYER_F8("qkv", 768, 2304),
	LAYER_F8("fc", 768, 3072),
	LAYER_F8("fc proj", 3072, 768),
	{ "head", TOKENS, 50304, 768, 2, DT_bf16, PLAIN, BF16 },
	{ "head dx", TOKENS, 768, 50304, 0, DT_bf16, PLAIN, BF16 },
	{ "head dw", 50304, 768, TOKENS, 1, DT_f32, PLAIN, BF16 },
};

static KVal scalar(Kernel *k, Scalar s, KVal x, KVal y)
{
	return kernel_inst(k, (KInst){ .op = K_scalar, .scalar = (u8)s, .dtype = DT_f32, .in = { x, y } });
}

static KVal constant(Kernel *k, f64 x)
{
	return kernel_inst(k, (KInst){ .op = K_const, .dtype = DT_f32, .imm = x });
}

static KVal gelu(Kernel *k, KVal x)
{
	KVal cube = scalar(k, S_mul, scalar(k, S_mul, x, x), scalar(k, S_mul, x, constant(k, 0.044715)));
	KVal bent = scalar(k, S_mul, scalar(k, S_add, x, cube), constant(k, 0.79788456080286541));
	KVal slope = scalar(k, S_add, scalar(k, S_tanh, bent, (KVal){ 0 }), constant(k, 1));
	return scalar(k, S_mul, scalar(k, S_mul, x, constant(k, 0.5)), slope);
}

static KVal epilogue(Kernel *k, const Problem *p, KVal sum)
{
	if (p->epilogue == PLAIN)
		return sum;
	Access bias = { .slot = kernel_slot(k, (KSlot){ .dtype = DT_f32, .read = true, .name = "bias", .elements = p->N }), .stride = { 0, 1, 0 } };
	sum = scalar(k, S_add, sum, kernel_inst(k, (KInst){ .op = K_load, .dtype = DT_f32, .access = &bias }));
	if (p->epilogue == BIAS_GELU)
		return gelu(k, sum);
	Access before = { .slot = kernel_slot(k, (KSlot){ .dtype = DT_bf16, .read = true, .name = "before", .elements = p->M * p->N }),
			  .stride = { p->N, 1, 0 } };
	KVal x = kernel_inst(k, (KInst){ .op = K_load, .dtype = DT_bf16, .access = &before });
	return scalar(k, S_add, sum, kernel_inst(k, (KInst){ .op = K_cast, .dtype = DT_f32, .in = { x } }));
}

static Kernel *kernel_of(Arena *a, Ir *ir, const Problem *p)
{
	Kernel *k = kernel_new(a, ir, KERNEL_DOT);
	k->name = p->name;
	k->compute = dtype_is_f8(p->of[0]) ? DT_f8e4m3 : DT_bf16;
	const DimRole role[] = { DIM_M, DIM_N, DIM_K };
	const i64 extent[] = { p->M, p->N, p->K };
	for (u32 i = 0; i < 3; i++)
		k->dim[k->ndim++] = (KDim){ .role = role[i], .extent = extent[i] };
	bool ta = p->turned & 1, tb = p->turned & 2;
	u32 s[3] = { kernel_slot(k, (KSlot){ .dtype = p->of[0], .read = true, .name = "a", .elements = p->M * p->K }),
		     kernel_slot(k, (KSlot){ .dtype = p->of[1], .read = true, .name = "b", .elements = p->K * p->N }),
		     kernel_slot(k, (KSlot){ .dtype = p->to, .written = true, .name = "d", .elements = p->M * p->N }) };
	Access x = { .slot = s[0], .stride = { ta ? 1 : p->K, 0, ta ? p->M : 1 } };
	Access y = { .slot = s[1], .stride = { 0, tb ? p->K : 1, tb ? 1 : p->N } };
	Access z = { .slot = s[2], .stride = { p->N, 1, 0 } };
	k->operand[0] = kernel_inst(k, (KInst){ .op = K_load, .dtype = (u8)p->of[0], .access = &x });
	k->operand[1] = kernel_inst(k, (KInst){ .op = K_load, .dtype = (u8)p->of[1], .access = &y });
	k->noperand = 2;
	KVal sum = epilogue(k, p, kernel_inst(k, (KInst){ .op = K_acc, .dtype = DT_f32 }));
	if (p->to != DT_f32)
		sum = kernel_inst(k, (KInst){ .op = K_cast, .dtype = (u8)p->to, .in = { sum } });
	kernel_inst(k, (KInst){ .op = K_store, .dtype = (u8)p->to, .access = &z, .in = { sum } });
	return k;
}

/* ---- running ---- */

typedef struct Bench {
	Arena arena;
	Ir *ir;
	Address operand[2], bias, before, result, reference, workspace;
	u64 workspace_bytes;
	Handle begin, end;
	bool library;
	const char *arch[2]; /* by mma.sync, by wgmma; the second NULL where the GPU has none */
} Bench;

typedef struct Run {
	Bench *b;
	const Problem *p;
	/* a kernel of ours */
	CudaNeeds needs;
	Handle function[CUDA_PHASES];
	Address value[6];
	void *parameter[6 + CUDA_TENSOR_MAPS];
	u8 map[CUDA_TENSOR_MAPS][128] __attribute__((aligned(64)));
	/* the library's */
	Handle desc, a, bm, d;
	const Heuristic *algorithm;
	Address to;
} Run;

static int launch(Run *r)
{
	if (r->algorithm) {
		const float one = 1, zero = 0;
		return lt.matmul(lt.handle, r->desc, &one, r->b->operand[1], r->bm, r->b->operand[0], r->a, &zero, r->to, r->d,
				 r->to, r->d, r->algorithm->algorithm, r->b->workspace, LT_WORKSPACE, NULL);
	}
	for (u32 i = 0; i < r->needs.nphase; i++) {
		const CudaLaunch *l = &r->needs.launch[i];
		int error = cu.launch(r->function[i], l->grid[0], l->grid[1], l->grid[2], l->block[0], l->block[1], l->block[2],
				      l->shared, NULL, r->parameter, NULL);
		if (error)
			return error;
	}
	return 0;
}

static int by_size(const void *x, const void *y)
{
	float a = *(const float *)x, b = *(const float *)y;
	return (a > b) - (a < b);
}

/* The median of `n` runs, in ms. */
static float median(Run *r, u32 n)
{
	float t[32];
	for (u32 i = 0; i < 2; i++)
		if (launch(r))
			die(r->p->name, -1);
	for (u32 i = 0; i < n; i++) {
		CU(event_record(r->b->begin, NULL));
		if (launch(r))
			die(r->p->name, -1);
		CU(event_record(r->b->end, NULL));
		int error = cu.event_synchronize(r->b->end);
		if (error)
			die(r->p->name, error);
		CU(elapsed(&t[i], r->b->begin, r->b->end));
	}
	qsort(t, n, sizeof *t, by_size);
	return t[n / 2];
}

static void tensor_map(Run *r, u32 i)
{
	const CudaTensorMap *m = &r->needs.map[i];
	const u64 size = dtype_info[m->dtype].bytes;
	u64 stride[5] = { 0 };
	unsigned step[5] = { 1, 1, 1, 1, 1 };
	for (u32 d = 1; d < m->rank; d++)
		stride[d - 1] = m->stride[d] * size;
	Address base = m->slot == NONE ? r->b->workspace : r->b->operand[m->slot];
	void *address = (void *)(uintptr_t)(base + m->offset * size);
	/* bytes or bf16, no interleave, a swizzle of 128 bytes, 256 bytes to L2, zeros outside */
	CU(encode(r->map[i], size == 1 ? 0 : 9, m->rank, address, m->extent, stride, m->box, step, 0, 3, 3, 0));
}

/* ms; 0: there is no such kernel. `note`: what the kernel is. */
static float time_ours(Bench *b, const Problem *p, const char *arch_name, const char **note)
{
	CudaArch arch;
	Status why = cuda_arch(arch_name, &arch);
	Kernel *k = kernel_of(&b->arena, b->ir, p);
	CudaCode code;
	Handle module;
	/* machine code; the stand-in for a driver takes PTX */
	for (u32 ptx = 0; ptx < 2; ptx++) {
		CudaOptions options = { .output = ptx ? CUDA_PTX : CUDA_CUBIN };
		if (!why)
			why = cuda_code(&arch, &options, &k, 1, &b->arena, &code);
		if (why) {
			fprintf(stderr, "cuda_dot: %s\n", why->text);
			exit(2);
		}
		int error = cu.module_load(&module, code.unit[0].image);
		if (!error)
			break;
		if (ptx || error != NO_BINARY)
			die("cuModuleLoadData", error);
	}
	Run r = { .b = b, .p = p, .needs = cuda_dot.needs(&arch, k) };
	u32 n = 0;
	r.value[n++] = b->operand[0];
	r.value[n++] = b->operand[1];
	r.value[n++] = b->result;
	if (p->epilogue)
		r.value[n++] = b->bias;
	if (p->epilogue == BIAS_RESIDUAL)
		r.value[n++] = b->before;
	if (r.needs.workspace) {
		if (r.needs.workspace > b->workspace_bytes)
			die("workspace", -1);
		r.value[n++] = b->workspace;
	}
	for (u32 i = 0; i < n; i++)
		r.parameter[i] = &r.value[i];
	for (u32 i = 0; i < r.needs.nmap; i++) {
		tensor_map(&r, i);
		r.parameter[n++] = r.map[i];
	}
	for (u32 i = 0; i < r.needs.nphase; i++) {
		CU(function(&r.function[i], module, arena_printf(&b->arena, "%s_p%u", code.symbol[0], i)));
		CU(function_set(r.function[i], 8, (int)r.needs.launch[i].shared));
	}
	*note = arena_printf(&b->arena, "%s%s", r.needs.nmap ? "wgmma" : "mma", r.needs.nphase > 1 ? ", K split" : "");
	float t = median(&r, 11);
	CU(module_unload(module));
	return t;
}

static void check_lt(int error, const char *what)
{
	if (error)
		die(what, error);
}

static int library_type(DType d)
{
	return d == DT_f32 ? R_32F : d == DT_f8e4m3 ? R_8F_E4M3 : d == DT_f8e5m2 ? R_8F_E5M2 : R_16BF;
}

/* The fastest of what its heuristics propose. */
static float time_library(Bench *b, const Problem *p)
{
	Run r = { .b = b, .p = p, .to = b->reference };
	int yes = 1;
	bool ta = p->turned & 1, tb = p->turned & 2;
	check_lt(lt.desc_create(&r.desc, COMPUTE_32F, R_32F), "cublasLtMatmulDescCreate");
	if (tb)
		check_lt(lt.desc_set(r.desc, TRANSPOSE_A, &yes, sizeof yes), "transpose");
	if (ta)
		check_lt(lt.desc_set(r.desc, TRANSPOSE_B, &yes, sizeof yes), "transpose");
	u64 M = (u64)p->M, N = (u64)p->N, K = (u64)p->K;
	check_lt(lt.layout_create(&r.bm, library_type(p->of[1]), tb ? K : N, tb ? N : K, (i64)(tb ? K : N)), "layout");
	check_lt(lt.layout_create(&r.a, library_type(p->of[0]), ta ? M : K, ta ? K : M, (i64)(ta ? M : K)), "layout");
	check_lt(lt.layout_create(&r.d, library_type(p->to), N, M, (i64)N), "layout");
	Handle preference;
	u64 most = LT_WORKSPACE;
	check_lt(lt.preference_create(&preference), "preference");
	check_lt(lt.preference_set(preference, MAX_WORKSPACE, &most, sizeof most), "preference");
	Heuristic found[CANDIDATES];
	int n = 0;
	check_lt(lt.heuristic(lt.handle, r.desc, r.bm, r.a, r.d, r.d, preference, CANDIDATES, found, &n), "heuristics");
	float best = 0;
	for (int i = 0; i < n; i++) {
		r.algorithm = &found[i];
		if (found[i].state || launch(&r))
			continue;
		float t = median(&r, 5);
		if (!best || t < best)
			best = t;
	}
	return best;
}

static f64 element(const void *from, DType d, u64 i)
{
	if (d == DT_f32)
		return (f64)((const float *)from)[i];
	u32 bits = (u32)((const u16 *)from)[i] << 16;
	float x;
	memcpy(&x, &bits, 4);
	return (f64)x;
}

/* The largest difference between result and reference over their size, at the beginning and the end. */
static f64 difference(Bench *b, const Problem *p)
{
	u64 width = dtype_info[p->to].bytes, all = (u64)(p->M * p->N) * width, piece = MIN(all, 32ull << 20);
	u8 *x = malloc(piece), *y = malloc(piece);
	f64 most = 0, square = 0;
	for (u32 end = 0; end < 2; end++) {
		u64 at = end ? all - piece : 0;
		CU(from_device(x, b->result + at, piece));
		CU(from_device(y, b->reference + at, piece));
		for (u64 i = 0; i < piece / width; i++) {
			f64 want = element(y, p->to, i), is = element(x, p->to, i), off = fabs(is - want);
			most = off <= most ? most : isnan(off) ? INFINITY : off; /* NaN is far */
			square += want * want;
		}
	}
	square = sqrt(square / (f64)(2 * piece / width));
	free(x);
	free(y);
	return most / square;
}

/* bf16 within 1; in 8 bits numbers from 1/8 (of f8e4m3 from 1/2) to 2, with either sign. */
static void fill_random(Address to, u64 bytes, DType d, u64 seed)
{
	u64 pool = MIN(bytes, 64ull << 20);
	u16 *x = malloc(pool);
	for (u64 i = 0; i < pool / 2; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		float v = (float)(i32)(seed >> 32) * 0x1p-31f;
		u32 bits;
		memcpy(&bits, &v, 4);
		x[i] = dtype_is_f8(d) ? (u16)(0x3030 | (seed >> 40 & 0x8f8f)) : (u16)(bits >> 16);
	}
	CU(to_device(to, x, pool));
	for (u64 at = pool; at < bytes; at += pool)
		CU(on_device(to + at, to, MIN(pool, bytes - at)));
	free(x);
}

static void bench(Bench *b, const Problem *p)
{
	u64 width = dtype_info[p->to].bytes, result = (u64)(p->M * p->N) * width;
	const u64 operand[] = { (u64)(p->M * p->K) * dtype_info[p->of[0]].bytes, (u64)(p->K * p->N) * dtype_info[p->of[1]].bytes };
	for (u32 i = 0; i < 2; i++) {
		CU(alloc(&b->operand[i], operand[i]));
		fill_random(b->operand[i], operand[i], p->of[i], i + 1);
	}
	CU(alloc(&b->result, result));
	CU(alloc(&b->reference, result));
	CU(alloc(&b->bias, (u64)p->N * 4));
	CU(alloc(&b->before, result));
	CU(fill(b->bias, 0x3d800000u, (u64)p->N)); /* 1/16 */
	fill_random(b->before, result, DT_bf16, 3);
	f64 flops = 2.0 * (f64)p->M * (f64)p->N * (f64)p->K, off[2] = { 0, 0 };
	float library = b->library ? time_library(b, p) : 0, ours[2] = { 0 };
	const char *note[2] = { "-", "-" };
	for (u32 i = 0; i < 2 && b->arch[i]; i++) {
		CU(fill(b->result, 0xffffffffu, result / 4)); /* NaN */
		ours[i] = time_ours(b, p, b->arch[i], &note[i]);
		if (i == 0 && (!b->library || p->epilogue))
			CU(on_device(b->reference, b->result, result));
		off[i] = difference(b, p);
	}
	f64 T = flops * 1e-9;
	printf("%-15s %6lld %6lld %6lld  %7.3f %5.0f  ", p->name, (long long)p->M, (long long)p->N, (long long)p->K, (f64)ours[0],
	       T / (f64)ours[0]);
	if (b->arch[1])
		printf("%7.3f %5.0f  ", (f64)ours[1], T / (f64)ours[1]);
	else
		printf("      -     -  ");
	if (library > 0)
		printf("%7.3f %5.0f  %4.0f%%", (f64)library, T / (f64)library, 100.0 * (f64)library / (f64)ours[b->arch[1] != NULL]);
	else
		printf("      -     -     -");
	printf("  %7.1e %7.1e  %s | %s\n", off[0], off[1], note[0], note[1]);
	fflush(stdout);
	CU(release(b->operand[0]));
	CU(release(b->operand[1]));
	CU(release(b->result));
	CU(release(b->reference));
	CU(release(b->bias));
	CU(release(b->before));
}

int main(int argc, char **argv)
{
	open_driver();
	CU(init(0));
	int device, major, minor;
	char name[128];
	Handle context;
	CU(device_get(&device, 0));
	CU(device_name(name, sizeof name, device));
	CU(attribute(&major, 75, device));
	CU(attribute(&minor, 76, device));
	CU(retain(&context, device));
	CU(set_current(context));
	Bench b = { .arena = ARENA("bench"), .workspace_bytes = 512ull << 20 };
	Diag diag = { .arena = &b.arena };
	b.ir = ir_new(&b.arena, &diag);
	b.arch[0] = arena_printf(&b.arena, "sm_%d%d", major, minor);
	b.arch[1] = major == 9 ? "sm_90a" : NULL;
	b.library = open_library();
	CU(alloc(&b.workspace, b.workspace_bytes));
	CU(event_create(&b.begin, 0));
	CU(event_create(&b.end, 0));
	printf("%s%s; ms and TFLOP/s; off: from %s, in units of the results' root mean square\n", name,
	       b.library ? "" : " (cuBLASLt could not be loaded)", b.library ? "cuBLASLt" : "mma.sync");
	printf("%-15s %6s %6s %6s  %7s %5s  %7s %5s  %7s %5s  %5s  %7s %7s\n", "", "M", "N", "K", "mma", "", "wgmma", "",
	       "cublas", "", "share", "off", "off");
	bool f8 = 10 * major + minor >= 89;
	for (u32 i = 0; i < COUNT(problems); i++)
		if ((argc < 2 || strstr(problems[i].name, argv[1])) && (f8 || !dtype_is_f8(problems[i].of[0])))
			bench(&b, &problems[i]);
	return 0;
}
