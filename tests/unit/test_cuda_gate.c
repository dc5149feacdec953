/* The static gate of CUDA code: every kernel of the models' training steps, at the presets' test size for three
 * architectures and with GPT-2's and Llama's real widths for sm_90a, is compiled by the real NVRTC, and must not spill,
 * use local memory or double precision, nor lose wgmma to a warning; where operands are of 16 or 8 bits, products must be
 * done by tensor cores, as what they are. No GPU is needed; without NVRTC the gate says so and is skipped. All of it takes minutes and runs with
 * PLINTH_GATE=full (`ctest -C full`); without, GPT-2's step for each architecture. An argument names one part. */
#include "codegen/cuda/dot.h"
#include "cuda_run.h"
#include "find_model.h"
#include "frontend/elaborate.h"
#include "support/io.h"
#include "tools/driver.h"

typedef struct GateModel {
	const char *name, *preset, *set, *sizes, *precision;
} GateModel;

typedef struct Gate {
	Arena arena;
	VEC(Kernel *) kernel;
	VEC(const char *) of; /* which model each is of */
	u32 products;         /* that tensor cores must do */
} Gate;

/* All architectures and sizes: minutes. */
static bool full(void)
{
	const char *wanted = getenv("PLINTH_GATE");
	return wanted && !strcmp(wanted, "full");
}

/* The kernels of all entries, planned for the architecture. */
static void plan_model(Gate *g, const GateModel *m, const char *arch)
{
	Arena *a = &g->arena;
	Diag *d = NEW(a, Diag);
	d->arena = a;
	Ir *ir = ir_new(a, d);
	const char *path;
	Str text;
	assert_true(find_model(NULL, a, m->name, &path, &text));
	const Ast *ast = parse_source(a, &ir->names, d, path, text);
	ElaborateOptions e = { .preset = m->preset, .find = find_model, .set = &m->set, .nset = m->set != NULL };
	Model *model = ast ? elaborate(a, ir, ast, &e) : NULL;
	Compiled compiled = { 0 };
	static const char *const step[] = { "micro", "update" };
	DriverOptions o = { .device = "cuda", .arch = arch, .sizes = m->sizes, .precision = m->precision, .accumulate = full(),
			    .entry = full() ? NULL : step, .nentry = full() ? 0 : COUNT(step) };
	Status s = model ? driver_plan(a, model->program, &o, &compiled) : OK;
	diag_print(d, stderr, false);
	if (s)
		fail_msg("%s for %s: %s", m->name, arch, s->text);
	assert_non_null(compiled.plan);
	for (u32 i = 0; i < compiled.plan->kernel.n; i++) {
		VEC_PUSH(a, &g->kernel, compiled.plan->kernel.v[i]);
		VEC_PUSH(a, &g->of, m->name);
	}
}

/* Machine code, the text that it was made of, and what ptxas said; equal kernels once. NVRTC's answers are kept in the build
 * folder by what it was asked: only what has changed since is compiled again. */
static CudaCode compile_all(Gate *g, const CudaArch *arch)
{
	CudaCode code;
	Cache *cache;
	assert_null(cache_open(&g->arena, "tests/gate", 0, &cache));
	Status s = cuda_code(arch, &(CudaOptions){ .output = CUDA_CUBIN, .verbose = true, .cache = cache }, g->kernel.v, g->kernel.n, &g->arena,
			     &code);
	if (s)
		fail_msg("%s", s->text);
	return code;
}

static bool on_tensor_cores(const Kernel *k)
{
	bool product = k->class == KERNEL_DOT || k->class == KERNEL_ATTENTION || k->class == KERNEL_ATTENTION_GRAD ||
		       k->class == KERNEL_GROUPED || k->class == KERNEL_GROUPED_WEIGHTS;
	return dtype_is_narrow_float(k->compute) && product;
}

/* What the text that goes into ptxas holds. */
static const char *wrong_in_ptx(const Kernel *k, const CudaArch *arch, const char *ptx)
{
	if (!has_f64(k) && strstr(ptx, ".f64"))
		return "computes in double precision";
	if (strstr(ptx, ".local ") || strstr(ptx, "ld.local") || strstr(ptx, "st.local"))
		return "uses local memory";
	if (!on_tensor_cores(k))
		return NULL;
	bool warpgroup = strstr(ptx, "wgmma.mma_async");
	if (!warpgroup && !strstr(ptx, "mma.sync"))
		return "multiplies bf16 without tensor cores";
	if (dtype_is_f8(k->compute) && !strstr(ptx, ".e4m3.") && !strstr(ptx, ".e5m2."))
		return "multiplies 8 bits as something wider";
	if (k->class == KERNEL_DOT && arch->specific && dot_hopper(arch, k) && !warpgroup)
		return "should multiply by warpgroups, and does not";
	return NULL;
}

static void pass_gate(const GateModel *model, u32 n, const char *name)
{
	need_nvrtc();
	Gate g = { .arena = ARENA("gate") };
	CudaArch arch = arch_named(name);
	for (u32 i = 0; i < n; i++)
		plan_model(&g, &model[i], name);
	CudaCode code = compile_all(&g, &arch);
	u32 products = 0, bad = 0;
	for (u32 i = 0; i < g.kernel.n; i++) {
		const Kernel *k = g.kernel.v[i];
		const CudaUnit *unit = &code.unit[code.unit_of[i]];
		const char *why = wrong_in_log(&g.arena, k, code.symbol[i], unit);
		if (!why)
			why = wrong_in_ptx(k, &arch, arena_strn(&g.arena, ptx_of(unit->ptx, code.symbol[i])));
		if (why)
			print_message("%s: kernel %s (%s) %s\n", g.of.v[i], k->name, kernel_class_name[k->class], why);
		bad += why != NULL;
		products += on_tensor_cores(k);
	}
	print_message("%s: %u kernels in %u units (%u compiled now), %u of them products on tensor cores\n", name, g.kernel.n, code.nunit,
		      code.compiled, products);
	assert_int_equal(bad, 0);
	assert_true(products > 0);
	arena_free(&g.arena);
}

static const GateModel test_size[] = {
	{ "gpt2", "test", NULL, "B=2,T=64", "bf16" },
	/* with PLINTH_GATE=full */
	{ "llama", "test", NULL, "B=2,T=64", "bf16" },
	{ "gpt2", "test", NULL, "B=2,T=64", "f32" },
	{ "bible", "tiny", NULL, "B=2,T=64", "bf16" },
	{ "bert", "test", NULL, "B=2,T=64", "bf16" },
	{ "bert", "test", "task=\"embed\"", "B=2,T=64", "bf16" },
	{ "vit", "test", NULL, "B=2", "bf16" },
	{ "vit", "test", "trained=32", "B=2", "bf16" },
	{ "t5", "test", NULL, "B=2,S=64,T=32", "bf16" },
	{ "clip", "test", NULL, "B=4,N=4,T=32", "bf16" },
	{ "mixtral", "test", "capacity=1.25", "B=2,T=64", "bf16" },
	{ "lora", "test", NULL, "B=2,T=64", "bf16" },
	{ "roberta", "test", "task=\"classify\"", "B=2,T=64", "bf16" },
	{ "unet", "test", NULL, "B=2,h=16,w=16,S=5", "bf16" },
	{ "vae", "test", NULL, "B=2,h=16,w=16", "bf16" },
	{ "fashion", "test", NULL, "B=2,h=14,w=14", "bf16" },
	{ "gpt2", "test", NULL, "B=2,T=64", "autocast" },
	{ "gpt2", "test", NULL, "B=2,T=64", "fp8" },
	{ "llama", "test", NULL, "B=2,T=64", "f16" },
};
enum { QUICK = 1 };

/* One layer of what is benchmarked: the shapes that registers and shared memory are divided for. */
static const GateModel real_size[] = {
	{ "gpt2", "small", "layers=1", "B=32,T=1024", "bf16" },
	{ "llama", "llama_1b", "layers=1", "B=4,T=2048", "bf16" },
};

static void test_sizes(const char *arch)
{
	pass_gate(test_size, full() ? COUNT(test_size) : QUICK, arch);
}

static void hopper(void **state)
{
	(void)state;
	test_sizes("sm_90a");
}

static void ampere(void **state)
{
	(void)state;
	test_sizes("sm_80");
}

static void blackwell(void **state)
{
	(void)state;
	test_sizes("sm_100");
}

static void hopper_at_real_sizes(void **state)
{
	(void)state;
	pass_gate(real_size, COUNT(real_size), "sm_90a");
}

/* ---- the gate closes ---- */

static void release(NvrtcResult *r)
{
	free(r->image);
	free(r->log);
	free(r->ptx);
}

/* What the real compiler says of text that has each fault. */
static void faults_are_seen(void **state)
{
	(void)state;
	need_nvrtc();
	const Nvrtc *nvrtc;
	assert_null(nvrtc_open(&nvrtc));
	static const char spill[] =
		"extern \"C\" __global__ void __launch_bounds__(1024, 2) bad_p0(float *x) {\n"
		"  float v[64];\n"
		"#pragma unroll\n"
		"  for (int i = 0; i < 64; i++) v[i] = x[i * 4096 + threadIdx.x];\n"
		"  __syncthreads();\n"
		"#pragma unroll\n"
		"  for (int i = 0; i < 64; i++) x[i * 4096 + threadIdx.x] = v[63 - i] * v[(i * 7) % 64];\n"
		"}\n";
	static const char local[] = "extern \"C\" __global__ void bad_p0(float *x, int n) {\n"
				    "  float v[32];\n"
				    "  for (int i = 0; i < 32; i++) v[i] = x[i];\n"
				    "  for (int i = 0; i < n; i++) v[(i * n) & 31] += v[i & 31];\n"
				    "  x[threadIdx.x] = v[n & 31];\n"
				    "}\n";
	/* sums that something else changes while products are under way */
	static const char waiting[] =
		"#define PRODUCT asm volatile(\"wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0, %1, %2, %3}, %4, %5, 1, 1, 1, 0, 0;\" \\\n"
		"	: \"+f\"(d[0]), \"+f\"(d[1]), \"+f\"(d[2]), \"+f\"(d[3]) : \"l\"(a), \"l\"(b))\n"
		"extern \"C\" __global__ void __launch_bounds__(128) bad_p0(float *x, unsigned long long a, unsigned long long b) {\n"
		"  float d[4] = {};\n"
		"  asm volatile(\"wgmma.fence.sync.aligned;\" ::: \"memory\");\n"
		"  PRODUCT;\n"
		"  d[0] += x[threadIdx.x];\n"
		"  PRODUCT;\n"
		"  asm volatile(\"wgmma.commit_group.sync.aligned;\\n wgmma.wait_group.sync.aligned 0;\" ::: \"memory\");\n"
		"  x[threadIdx.x] = d[0] + d[1] + d[2] + d[3];\n"
		"}\n";
	static const char wide[] = "extern \"C\" __global__ void bad_p0(float *x) { x[0] = x[0] * 0.1; }\n";
	NvrtcResult r;
	unsigned frame = 0, stores = 0, loads = 0;
	assert_null(nvrtc_compile(nvrtc, "spill", spill, "sm_90a", &r));
	assert_true(ptxas_bytes(r.log, &frame, &stores, &loads));
	assert_true(stores > 0 && loads > 0);
	release(&r);
	Kernel none = { .class = KERNEL_MAP };
	CudaArch arch = arch_named("sm_90a");
	assert_null(nvrtc_compile(nvrtc, "local", local, "compute_90a", &r));
	assert_string_equal(wrong_in_ptx(&none, &arch, r.image), "uses local memory");
	release(&r);
	assert_null(nvrtc_compile(nvrtc, "waiting", waiting, "sm_90a", &r));
	assert_non_null(serialized_products(r.log));
	release(&r);
	assert_null(nvrtc_compile(nvrtc, "wide", wide, "compute_90a", &r));
	assert_string_equal(wrong_in_ptx(&none, &arch, r.image), "computes in double precision");
	Kernel product = { .class = KERNEL_ATTENTION, .compute = DT_bf16 };
	assert_string_equal(wrong_in_ptx(&product, &arch, "fma.rn.f32"), "multiplies bf16 without tensor cores");
	assert_null(wrong_in_ptx(&product, &arch, "mma.sync.aligned.m16n8k16"));
	product.compute = DT_f8e4m3;
	assert_string_equal(wrong_in_ptx(&product, &arch, "cvt.rn.f16x2.e4m3x2; mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"),
			    "multiplies 8 bits as something wider");
	assert_null(wrong_in_ptx(&product, &arch, "wgmma.mma_async.sync.aligned.m64n128k32.f32.e5m2.e4m3"));
	release(&r);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(faults_are_seen), cmocka_unit_test(ampere), cmocka_unit_test(hopper), cmocka_unit_test(blackwell),
	};
	const struct CMUnitTest large[] = { cmocka_unit_test(hopper_at_real_sizes) };
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	return failed + (full() ? cmocka_run_group_tests(large, NULL, NULL) : 0);
}
