/* benchmarks/kernels.c: GFLOP/s of the matrix products of a GPT-2 training step beside the multiply-add
 * peak measured in the same run: `kernels [M [FILTER...]]`, of products such as "fc dy W^T" those whose name has a FILTER in it.
 * Each shape's three products are those of forward (x W), and backward (dy W^T and x^T dy). The peak is taken right before and
 * after each product for about as long, and a share of the peak is of those two, the median over the turns: cores that other
 * guests of a host slow down for a while slow both. OpenBLAS and oneDNN compute the same in the same turns, by the same measure,
 * where they are installed (kernels_library.h). Options: `--threads N`, `--turns N`, `--alone` without the libraries, `--bf16`
 * for operands of that, sums being f32 and the peak that of multiply-adds of bf16 pairs where the processor has them; `--cold`
 * takes another matrix of weights, or of their gradients, each time, as the layers of a model do: what caches hold of the last
 * one is of no use. */
#include "benchmarks/kernels_library.h"
#include "codegen/cpu/target.h"
#include "codegen/cpu/vector.h"
#include "runtime/cpu/code.h"
#include "runtime/cpu/memory.h"
#include "support/clock.h"
#include "tools/roofline.h"

#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void must(Status s)
{
	if (!s)
		return;
	fprintf(stderr, "%s\n", s->text);
	exit(status_exit(s));
}

/* ---- the peak: independent multiply-adds in registers ---- */

enum {
	PEAK_TURNS = 200000, /* somewhat less than a millisecond */
	PEAK_SUMS = 12,
	TURNS = 100,
	COLD_BYTES = 128 << 20, /* of matrices that take turns, at least: more than a last-level cache */
};
#define WINDOW 0.015 /* s that something is measured for, at least */

static bool pairs(const CpuMachine *machine, DType operand)
{
	return operand == DT_bf16 && machine->bf16_pairs;
}

static void emit_peak(CpuModule *m, const void *operand)
{
	bool pair = pairs(m->machine, *(const DType *)operand);
	const CpuParameter p[] = { { .type = m->pointer, .name = "x" } };
	cpu_function_begin(m, "peak", m->none, 1, p, false);
	Simd s = { m, m->machine->lanes };
	LLVMValueRef x = cpu_parameter(m, 0), sum[PEAK_SUMS];
	LLVMValueRef a = simd_load(&s, pair ? DT_i32 : DT_f32, x, 0);
	for (u32 i = 0; i < PEAK_SUMS; i++)
		sum[i] = simd_load(&s, DT_f32, cpu_at(m, m->f32, x, cpu_i64(m, 16 * (i + 1))), 0);
	CpuLoop l = { 0 };
	cpu_loop_begin(m, &l, cpu_i64(m, 0), cpu_i64(m, PEAK_TURNS), cpu_i64(m, 1), PEAK_SUMS, sum);
	for (u32 i = 0; i < PEAK_SUMS; i++)
		sum[i] = pair ? simd_dot_bf16(&s, l.carried[i], a, a) : simd_fma(&s, a, a, l.carried[i]);
	cpu_loop_end(m, &l, sum);
	for (u32 i = 0; i < PEAK_SUMS; i++)
		simd_store(&s, DT_f32, l.carried[i], cpu_at(m, m->f32, x, cpu_i64(m, 16 * (i + 1))), 0);
	cpu_function_end(m, NULL);
}

typedef void PeakFunction(f32 *x);

static void run_peak(void *argument, TaskRange range)
{
	PeakFunction *f = *(PeakFunction **)argument;
	f32 x[16 * (PEAK_SUMS + 1)] = { 0 };
	for (i64 i = range.begin; i < range.end; i++)
		f(x);
}

/* Operations a second over at least so many seconds; lanes: multiply-adds of an instruction. */
static f64 peak(PeakFunction *f, Threads *pool, u32 lanes, f64 seconds)
{
	f64 start = clock_seconds(), took = 0, n = 0;
	for (; n == 0 || took < seconds; took = clock_seconds() - start, n++)
		threads_run(pool, run_peak, (void *)&f, threads_count(pool));
	return 2.0 * lanes * PEAK_SUMS * (f64)PEAK_TURNS * threads_count(pool) * n / took;
}

/* ---- products ---- */

enum { FORMS = 3 };

typedef struct Product {
	const char *layer, *name;
	u32 form, times; /* of forward and backward; in a step of GPT-2 124M */
	i64 M, N, K;
	bool a_turned, b_turned;
	Kernel *k;
	u32 copies;      /* of its weights, or of their gradient, which is its slot `weights` */
	u32 weights;
	u64 copy_bytes;  /* from one to the next */
	LaunchNeeds needs;
	i64 *number;
	KernelFunction *f;
	/* by Plinth, and by each library: of each turn seconds, and the share of the peak around it */
	f64 seconds[1 + PRODUCT_LIBRARIES][TURNS], share[1 + PRODUCT_LIBRARIES][TURNS];
} Product;

static f64 product_flops(const Product *p)
{
	return 2.0 * (f64)p->M * (f64)p->N * (f64)p->K;
}

static Kernel *product_kernel(Arena *a, Ir *ir, const Product *p, DType operand)
{
	Kernel *k = kernel_new(a, ir, KERNEL_DOT);
	k->name = p->name;
	k->compute = operand;
	const i64 extent[] = { p->M, p->N, p->K };
	const DimRole role[] = { DIM_M, DIM_N, DIM_K };
	k->ndim = 3;
	for (u32 d = 0; d < 3; d++)
		k->dim[d] = (KDim){ .role = role[d], .extent = extent[d] };
	const i64 elements[] = { p->M * p->K, p->K * p->N, p->M * p->N };
	for (u32 i = 0; i < 3; i++)
		kernel_slot(k, (KSlot){ .dtype = i < 2 ? operand : DT_f32, .elements = elements[i], .read = i < 2, .written = i == 2 });
	Access x[] = {
		{ .slot = 0, .stride = { p->a_turned ? 1 : p->K, 0, p->a_turned ? p->M : 1 } },
		{ .slot = 1, .stride = { 0, p->b_turned ? p->K : 1, p->b_turned ? 1 : p->N } },
		{ .slot = 2, .stride = { p->N, 1, 0 } },
	};
	for (u32 i = 0; i < 2; i++)
		k->operand[i] = kernel_inst(k, (KInst){ .op = K_load, .dtype = (u8)operand, .access = &x[i] });
	k->noperand = 2;
	KVal sum = kernel_inst(k, (KInst){ .op = K_acc, .dtype = DT_f32 });
	kernel_inst(k, (KInst){ .op = K_store, .dtype = DT_f32, .access = &x[2], .in = { sum } });
	return k;
}

typedef struct Launch {
	const Product *p;
	void *slot[3];
	u32 copy; /* that is next */
	u8 *workspace, *scratch;
	u64 scratch_bytes;
	u32 phase;
} Launch;

static void run_part(void *argument, TaskRange range)
{
	const Launch *l = argument;
	l->p->f(l->slot, l->p->number, l->workspace, l->scratch + range.thread * l->scratch_bytes, l->phase,
		range.begin, range.end);
}

static f64 run_product(const Product *p, Threads *pool, Launch *l)
{
	f64 start = clock_seconds();
	l->p = p;
	for (l->phase = 0; l->phase < p->needs.nphase; l->phase++)
		threads_run(pool, run_part, l, p->needs.tasks[l->phase]);
	return clock_seconds() - start;
}

/* The same by a library, over the same memory. */
static f64 run_library(const Product *p, const ProductLibrary *l, void *const *slot)
{
	f64 start = clock_seconds();
	l->run(p->M, p->N, p->K, slot[0], p->a_turned, slot[1], p->b_turned, slot[2]);
	return clock_seconds() - start;
}

/* Looks at the library's results beside those that are there. */
static void check_library(const Product *p, const ProductLibrary *l, void *const *slot)
{
	enum { LOOKED_AT = 64 };
	f32 *c = slot[2], was[LOOKED_AT];
	i64 step = p->M * p->N / LOOKED_AT;
	for (i64 i = 0; i < LOOKED_AT; i++)
		was[i] = c[i * step];
	run_library(p, l, slot);
	/* operands are at most 1/2, and products of bf16 are exact: a sum of K products is off by K roundings of partial sums of at most K / 4 */
	f64 bound = (f64)p->K * (f64)p->K / 4 * 0x1p-23;
	for (i64 i = 0; i < LOOKED_AT; i++)
		if (!(fabs((f64)was[i] - c[i * step]) <= bound)) {
			fprintf(stderr, "%s: %s computes %g where the generated code has %g\n", p->name, l->name, (f64)c[i * step],
				(f64)was[i]);
			exit(1);
		}
}

/* What a step's products of a form take, or of all of them: by medians, and of the peak. */
typedef struct Sum {
	f64 seconds, share;
} Sum;
static Sum sum_of(const Product *p, u32 n, u32 form, u32 who, u32 turns)
{
	Sum s = { 0 };
	f64 work = 0, bound = 0;
	for (u32 i = 0; i < n; i++) {
		if (form < FORMS && p[i].form != form)
			continue;
		s.seconds += p[i].times * spread_of(p[i].seconds[who], turns).median;
		work += p[i].times * product_flops(&p[i]);
		bound += p[i].times * product_flops(&p[i]) / spread_of(p[i].share[who], turns).median;
	}
	s.share = bound > 0 ? work / bound : 0;
	return s;
}

/* ---- the benchmark ---- */

static const struct {
	const char *name;
	i64 in, out;
	u32 times; /* in a step of GPT-2 124M */
	bool tied; /* its matrix is the embedding's, [out, in] */
} layer[] = { { "qkv", 768, 2304, 12, false }, { "aproj", 768, 768, 12, false }, { "fc", 768, 3072, 12, false },
	      { "fcproj", 3072, 768, 12, false }, { "head", 768, 50257, 0, false }, { "tied", 768, 50257, 1, true } };

enum { PRODUCTS = FORMS * COUNT(layer) };

typedef struct Bench {
	Product product[PRODUCTS]; /* those that are asked for */
	u32 n;
	u32 turns;
	bool cold;
	DType operand;
	Threads *pool;
	const CpuMachine *machine;
	PeakFunction *peak;
	ProductLibrary library[PRODUCT_LIBRARIES];
	u32 nlibrary;
	HostArena memory;
	Launch launch;
	f64 most; /* of the peaks */
} Bench;

static bool wanted(const Product *p, char **filter, int nfilter)
{
	char name[32];
	snprintf(name, sizeof name, "%s %s", p->layer, p->name);
	bool found = !nfilter;
	for (int i = 0; i < nfilter; i++)
		found |= strstr(name, filter[i]) != NULL;
	return found;
}

static void make_products(Bench *b, Arena *a, Ir *ir, i64 M, char **filter, int nfilter)
{
	for (u32 i = 0; i < PRODUCTS; i++) {
		u32 l = i / FORMS, form = i % FORMS;
		i64 in = layer[l].in, out = layer[l].out;
		const Product plain[FORMS] = { { .name = "x W", .M = M, .N = out, .K = in },
					       { .name = "dy W^T", .M = M, .N = in, .K = out, .b_turned = true },
					       { .name = "x^T dy", .M = in, .N = out, .K = M, .a_turned = true } };
		const Product tied[FORMS] = { { .name = "x W^T", .M = M, .N = out, .K = in, .b_turned = true },
					      { .name = "dy W", .M = M, .N = in, .K = out },
					      { .name = "dy^T x", .M = out, .N = in, .K = M, .a_turned = true } };
		Product *p = &b->product[b->n];
		*p = layer[l].tied ? tied[form] : plain[form];
		p->layer = layer[l].name;
		p->times = layer[l].times;
		p->form = form;
		if (!wanted(p, filter, nfilter))
			continue;
		p->weights = form < 2 ? 1 : 2;
		p->k = product_kernel(a, ir, p, b->operand);
		b->n++;
	}
}

/* Code of all products, and of the peak. */
static void compile(Bench *b, CpuCompiler *c, Arena *a, CpuCodeImage *image[2], CpuCode *code)
{
	static const char *const peak[] = { "peak" };
	Kernel *kernel[PRODUCTS];
	Blob library;
	for (u32 i = 0; i < b->n; i++)
		kernel[i] = b->product[i].k;
	must(cpu_code_units(c, kernel, b->n, a, code));
	must(cpu_link(a, code->unit, code->nunit, code->symbol, b->n, &library));
	must(cpu_code_open("products", library, &image[0]));
	CpuUnit unit = { "peak", .emit = emit_peak, .argument = &b->operand };
	cpu_compile(c, a, &unit, 1);
	must(cpu_link(a, &unit, 1, peak, 1, &library));
	must(cpu_code_open("peak", library, &image[1]));
	b->peak = (PeakFunction *)(uintptr_t)cpu_code_find(image[1], "peak");
	const TargetInfo *target = cpu_target(b->machine, a);
	for (u32 i = 0; i < b->n; i++) {
		Product *p = &b->product[i];
		p->f = (KernelFunction *)(uintptr_t)cpu_code_find(image[0], code->symbol[i]);
		p->needs = target->needs(target, p->k);
		p->number = NEWN(a, i64, kernel_numbers(p->k, NULL));
		kernel_numbers(p->k, p->number);
	}
}

/* Memory that all products share, and numbers in their operands. */
static void make_memory(Bench *b)
{
	u64 workspace = 0, scratch = 0, slot_bytes[3] = { 0 }, at[4] = { 0 };
	for (u32 i = 0; i < b->n; i++) {
		Product *p = &b->product[i];
		workspace = MAX(workspace, p->needs.workspace);
		scratch = MAX(scratch, p->needs.thread_scratch);
		for (u32 s = 0; s < 3; s++) {
			u64 bytes = (u64)p->k->slot.v[s].elements * dtype_info[p->k->slot.v[s].dtype].bytes;
			if (s == p->weights) {
				p->copy_bytes = ALIGN_UP(bytes, 4096);
				p->copies = b->cold ? 1 + COLD_BYTES / (u32)MIN(bytes, (u64)COLD_BYTES) : 1;
				bytes = p->copy_bytes * p->copies;
			}
			slot_bytes[s] = MAX(slot_bytes[s], bytes);
		}
	}
	for (u32 s = 0; s < 3; s++)
		at[s + 1] = ALIGN_UP(at[s] + slot_bytes[s], 4096);
	u64 scratch_at = ALIGN_UP(at[3] + workspace, 4096);
	must(host_arena_create(scratch_at + (scratch + 4096) * threads_count(b->pool), b->pool, &b->memory));
	u32 state = 1;
	u32 bytes = dtype_info[b->operand].bytes;
	for (u64 i = 0; i < at[2] / bytes; i++) {
		state = state * 1664525u + 1013904223u;
		f32 x = (f32)(i32)(state >> 9) * 0x1p-23f - 0.5f;
		/* the upper half of f32's bits is a bf16 */
		memcpy(b->memory.base + i * bytes, (u8 *)&x + sizeof x - bytes, bytes);
	}
	b->launch = (Launch){ .workspace = b->memory.base + at[3], .scratch = b->memory.base + scratch_at,
			      .scratch_bytes = ALIGN_UP(scratch + 64, 4096) };
	for (u32 s = 0; s < 3; s++)
		b->launch.slot[s] = b->memory.base + at[s];
}

/* A product, generated or a library's, once. */
static f64 run_once(Bench *b, const Product *p, u32 who)
{
	Launch l = b->launch;
	l.slot[p->weights] = (u8 *)l.slot[p->weights] + p->copy_bytes * (b->launch.copy++ % p->copies);
	return who ? run_library(p, &b->library[who - 1], l.slot) : run_product(p, b->pool, &l);
}

/* One turn of a product: generated, then each library's. */
static void take_turn(Bench *b, Product *p, u32 turn)
{
	u32 lanes = b->machine->lanes * (pairs(b->machine, b->operand) ? 2 : 1);
	f64 before = peak(b->peak, b->pool, lanes, WINDOW);
	for (u32 who = 0; who <= b->nlibrary; who++) {
		f64 first = run_once(b, p, who), sum = 0;
		u32 n = 0;
		/* the first wakes threads, which would count against a library that is called once, but where it takes long */
		if (first > 4 * WINDOW) {
			sum = first;
			n = 1;
		}
		for (; sum < WINDOW; n++)
			sum += run_once(b, p, who);
		p->seconds[who][turn] = sum / n;
		if (who) /* its threads are still awake, and would be in the peak's way */
			nanosleep(&(struct timespec){ .tv_nsec = 3000000 }, NULL);
		f64 after = peak(b->peak, b->pool, lanes, MIN(sum, 5 * WINDOW));
		p->share[who][turn] = product_flops(p) / (sum / n) / ((before + after) / 2);
		b->most = MAX(b->most, after);
		before = after;
	}
}

static void measure(Bench *b)
{
	for (u32 i = 0; i < b->n; i++)
		for (u32 k = 0; k < b->nlibrary; k++) {
			run_product(&b->product[i], b->pool, &b->launch);
			check_library(&b->product[i], &b->library[k], b->launch.slot);
		}
	/* all products in each turn, so that what disturbs for a while does not fall on one of them */
	for (u32 t = 0; t < b->turns; t++)
		for (u32 i = 0; i < b->n; i++)
			take_turn(b, &b->product[i], t);
}

static const char *library_name(const Bench *b, u32 who)
{
	return who ? b->library[who - 1].name : "";
}

static void print_products(const Bench *b)
{
	for (u32 i = 0; i < b->n; i++) {
		const Product *p = &b->product[i];
		printf("%-8s %-8s %6lld x %6lld x %6lld", p->layer, p->name, (long long)p->M, (long long)p->N, (long long)p->K);
		for (u32 who = 0; who <= b->nlibrary; who++)
			printf("   %s%s%.3f ms %5.1f %%", library_name(b, who), who ? " " : "", spread_of(p->seconds[who], b->turns).median * 1e3,
			       100 * spread_of(p->share[who], b->turns).median);
		printf("\n");
	}
}

static void print_step(const Bench *b)
{
	static const char *const form_name[] = { "x W", "dy W^T", "x^T dy", "all" };
	for (u32 form = 0; form <= FORMS; form++) {
		Sum own = sum_of(b->product, b->n, form, 0, b->turns);
		if (!(own.seconds > 0))
			continue;
		printf("step: %-7s   %.1f ms, %.1f %% of peak", form_name[form], own.seconds * 1e3, 100 * own.share);
		for (u32 who = 1; who <= b->nlibrary; who++) {
			Sum s = sum_of(b->product, b->n, form, who, b->turns);
			printf("   %s %.1f ms, %.1f %% of peak (the generated code takes %.2f of it)", library_name(b, who), s.seconds * 1e3,
			       100 * s.share, s.share / own.share);
		}
		printf("\n");
	}
}

int main(int argc, char **argv)
{
	static Bench b;
	static const struct option option[] = { { "threads", required_argument, NULL, 'n' }, { "turns", required_argument, NULL, 't' },
						{ "alone", no_argument, NULL, 'a' }, { "bf16", no_argument, NULL, 'b' },
						{ "cold", no_argument, NULL, 'c' }, { 0 } };
	u32 threads = 0;
	bool alone = false;
	b.turns = 10;
	b.operand = DT_f32;
	for (int c; (c = getopt_long(argc, argv, "", option, NULL)) != -1;)
		switch (c) {
		case 'n': threads = (u32)atoi(optarg); break;
		case 't': b.turns = MIN(MAX((u32)atoi(optarg), 1u), TURNS); break;
		case 'a': alone = true; break;
		case 'b': b.operand = DT_bf16; break;
		case 'c': b.cold = true; break;
		default: return 1;
		}
	i64 M = optind < argc ? atoll(argv[optind++]) : 256;
	if (M < 1) {
		fprintf(stderr, "kernels [M [FILTER...]]: M is a number of rows\n");
		return 1;
	}
	Arena a = ARENA("benchmark");
	Diag diag = { .arena = &a };
	make_products(&b, &a, ir_new(&a, &diag), M, argv + optind, argc - optind);
	if (!b.n) {
		fprintf(stderr, "no product has such a name\n");
		return 1;
	}
	CpuCompiler *c;
	CpuCodeImage *image[2];
	CpuCode code;
	must(cpu_compiler_create(&(CpuOptions){ 0 }, &c));
	b.machine = cpu_compiler_machine(c);
	compile(&b, c, &a, image, &code);
	must(threads_create(&(ThreadsOptions){ .count = threads, .pinned = true }, &b.pool));
	if (!alone)
		b.nlibrary = product_libraries(threads_count(b.pool), b.operand == DT_bf16, b.library);
	make_memory(&b);
	measure(&b);
	printf("%s, %u threads, M = %lld, %s%s: peak %.1f GFLOP/s; %u units of code\n", b.machine->name, threads_count(b.pool), (long long)M,
	       dtype_info[b.operand].name, b.cold ? ", weights from memory" : "", b.most * 1e-9, code.nunit);
	print_products(&b);
	print_step(&b);
	host_arena_destroy(&b.memory);
	threads_destroy(b.pool);
	for (u32 i = 0; i < COUNT(image); i++)
		cpu_code_unload(image[i]);
	cpu_compiler_destroy(c);
	arena_free(&a);
	return 0;
}
