/* benchmarks/kernels.c: GFLOP/s of the matrix products of a GPT-2 training step beside the multiply-add
 * peak measured in the same run: `kernels [M [threads [turns]]]`. Each shape's three products are those of
 * forward (x W), and backward (dy W^T and x^T dy). The peak is taken right before and after each product for about as
 * long, and a share of the peak is of those two, the median over the turns: cores that other guests of a
 * host slow down for a while slow both. OpenBLAS and oneDNN compute the same in the same turns, by the same measure,
 * where they are installed (kernels_library.h). */
#include "benchmarks/kernels_library.h"
#include "codegen/cpu/target.h"
#include "codegen/cpu/vector.h"
#include "runtime/cpu/memory.h"
#include "support/clock.h"
#include "tools/roofline.h"

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

enum { PEAK_TURNS = 200000 /* somewhat less than a millisecond */, PEAK_SUMS = 12, TURNS = 100 };
#define WINDOW 0.015 /* s that something is measured for, at least */

static void emit_peak(CpuModule *m, const void *argument)
{
	(void)argument;
	const CpuParameter p[] = { { .type = m->pointer, .name = "x" } };
	cpu_function_begin(m, "peak", m->none, 1, p, false);
	Simd s = { m, m->machine->lanes };
	LLVMValueRef x = cpu_parameter(m, 0), sum[PEAK_SUMS];
	LLVMValueRef a = simd_load(&s, DT_f32, x, 0);
	for (u32 i = 0; i < PEAK_SUMS; i++)
		sum[i] = simd_load(&s, DT_f32, cpu_at(m, m->f32, x, cpu_i64(m, 16 * (i + 1))), 0);
	CpuLoop l = { 0 };
	cpu_loop_begin(m, &l, cpu_i64(m, 0), cpu_i64(m, PEAK_TURNS), cpu_i64(m, 1), PEAK_SUMS, sum);
	for (u32 i = 0; i < PEAK_SUMS; i++)
		sum[i] = simd_fma(&s, a, a, l.carried[i]);
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

/* Operations a second over at least so many seconds. */
static f64 peak(PeakFunction *f, Threads *pool, u32 lanes, f64 seconds)
{
	f64 start = clock_seconds(), took = 0, n = 0;
	for (; n == 0 || took < seconds; took = clock_seconds() - start, n++)
		threads_run(pool, run_peak, (void *)&f, threads_count(pool));
	return 2.0 * lanes * PEAK_SUMS * (f64)PEAK_TURNS * threads_count(pool) * n / took;
}

/* ---- products ---- */

typedef struct Product {
	const char *name;
	i64 M, N, K;
	bool a_turned, b_turned;
	Kernel *k;
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

static Kernel *product_kernel(Arena *a, Ir *ir, const Product *p)
{
	Kernel *k = kernel_new(a, ir, KERNEL_DOT);
	k->name = p->name;
	k->compute = DT_f32;
	const i64 extent[] = { p->M, p->N, p->K };
	const DimRole role[] = { DIM_M, DIM_N, DIM_K };
	k->ndim = 3;
	for (u32 d = 0; d < 3; d++)
		k->dim[d] = (KDim){ .role = role[d], .extent = extent[d] };
	const i64 elements[] = { p->M * p->K, p->K * p->N, p->M * p->N };
	for (u32 i = 0; i < 3; i++)
		kernel_slot(k, (KSlot){ .dtype = DT_f32, .elements = elements[i], .read = i < 2, .written = i == 2 });
	Access x[] = {
		{ .slot = 0, .stride = { p->a_turned ? 1 : p->K, 0, p->a_turned ? p->M : 1 } },
		{ .slot = 1, .stride = { 0, p->b_turned ? p->K : 1, p->b_turned ? 1 : p->N } },
		{ .slot = 2, .stride = { p->N, 1, 0 } },
	};
	for (u32 i = 0; i < 2; i++)
		k->operand[i] = kernel_inst(k, (KInst){ .op = K_load, .dtype = DT_f32, .access = &x[i] });
	k->noperand = 2;
	KVal sum = kernel_inst(k, (KInst){ .op = K_acc, .dtype = DT_f32 });
	kernel_inst(k, (KInst){ .op = K_store, .dtype = DT_f32, .access = &x[2], .in = { sum } });
	return k;
}

typedef struct Launch {
	const Product *p;
	void *const *slot;
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

static f64 run_product(Product *p, Threads *pool, Launch *l)
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
	/* operands are at most 1/2: a sum of K products is off by K roundings of partial sums of at most K / 4 */
	f64 bound = (f64)p->K * (f64)p->K / 4 * 0x1p-23;
	for (i64 i = 0; i < LOOKED_AT; i++)
		if (!(fabs((f64)was[i] - c[i * step]) <= bound)) {
			fprintf(stderr, "%s: %s computes %g where the generated code has %g\n", p->name, l->name, (f64)c[i * step],
				(f64)was[i]);
			exit(1);
		}
}

/* What a step's products take: by medians, and of the peak. `times`: how often each of `n` is in a step. */
typedef struct Sum {
	f64 seconds, share;
} Sum;
static Sum sum_of(const Product *p, const u32 *times, u32 n, u32 step, u32 who, u32 turns)
{
	Sum s = { 0 };
	f64 work = 0, bound = 0;
	for (u32 i = 0; i < n; i += step) {
		s.seconds += times[i] * spread_of(p[i].seconds[who], turns).median;
		work += times[i] * product_flops(&p[i]);
		bound += times[i] * product_flops(&p[i]) / spread_of(p[i].share[who], turns).median;
	}
	s.share = work / bound;
	return s;
}

int main(int argc, char **argv)
{
	i64 M = argc > 1 ? atoll(argv[1]) : 256;
	u32 threads = argc > 2 ? (u32)atoi(argv[2]) : 0, turns = MIN(MAX(argc > 3 ? (u32)atoi(argv[3]) : 10, 1u), TURNS);
	static const struct {
		const char *name;
		i64 in, out;
		bool tied; /* its matrix is the embedding's, [out, in] */
	} layer[] = { { "qkv", 768, 2304, false }, { "aproj", 768, 768, false }, { "fc", 768, 3072, false }, { "fcproj", 3072, 768, false },
		      { "head", 768, 50257, false }, { "tied", 768, 50257, true } };
	Arena a = ARENA("benchmark");
	Diag diag = { .arena = &a };
	Ir *ir = ir_new(&a, &diag);
	static Product product[3 * COUNT(layer)];
	Kernel *kernel[COUNT(product)];
	KernelFunction *function[COUNT(product)];
	for (u32 i = 0; i < COUNT(product); i++) {
		i64 in = layer[i / 3].in, out = layer[i / 3].out;
		const Product p[] = { { .name = "x W", .M = M, .N = out, .K = in },
				      { .name = "dy W^T", .M = M, .N = in, .K = out, .b_turned = true },
				      { .name = "x^T dy", .M = in, .N = out, .K = M, .a_turned = true } };
		const Product tied[] = { { .name = "x W^T", .M = M, .N = out, .K = in, .b_turned = true },
					 { .name = "dy W", .M = M, .N = in, .K = out },
					 { .name = "dy^T x", .M = out, .N = in, .K = M, .a_turned = true } };
		product[i] = layer[i / 3].tied ? tied[i % 3] : p[i % 3];
		kernel[i] = product[i].k = product_kernel(&a, ir, &product[i]);
	}
	CpuCompiler *c;
	CpuProgram *program, *peak_program;
	CpuOptions options = { 0 };
	must(cpu_compiler_create(&options, &c));
	const CpuMachine *machine = cpu_compiler_machine(c);
	f64 start = clock_seconds();
	CpuCode code;
	must(cpu_code_units(c, kernel, COUNT(product), &a, &code));
	f64 compile = clock_seconds() - start;
	must(cpu_code(c, kernel, COUNT(product), &a, &program, function));
	CpuUnit unit = { "peak", .emit = emit_peak };
	cpu_compile(c, &a, &unit, 1);
	must(cpu_program_load(machine, &unit.object, 1, &peak_program));
	PeakFunction *peak_function = (PeakFunction *)(uintptr_t)cpu_program_find(peak_program, "peak");
	const TargetInfo *target = cpu_target(machine, &a);
	Threads *pool;
	must(threads_create(&(ThreadsOptions){ .count = threads, .pinned = true }, &pool));
	ProductLibrary library[PRODUCT_LIBRARIES];
	u32 nlibrary = product_libraries(threads_count(pool), library);
	u64 workspace = 0, scratch = 0, slot_bytes[3] = { 0 };
	for (u32 i = 0; i < COUNT(product); i++) {
		Product *p = &product[i];
		p->f = function[i];
		p->needs = target->needs(target, p->k);
		p->number = NEWN(&a, i64, kernel_numbers(p->k, NULL));
		kernel_numbers(p->k, p->number);
		workspace = MAX(workspace, p->needs.workspace);
		scratch = MAX(scratch, p->needs.thread_scratch);
		for (u32 s = 0; s < 3; s++)
			slot_bytes[s] = MAX(slot_bytes[s], (u64)p->k->slot.v[s].elements * 4);
	}
	HostArena memory;
	u64 at[4] = { 0 };
	for (u32 s = 0; s < 3; s++)
		at[s + 1] = ALIGN_UP(at[s] + slot_bytes[s], 4096);
	u64 work_at = at[3], scratch_at = ALIGN_UP(work_at + workspace, 4096);
	must(host_arena_create(scratch_at + (scratch + 4096) * threads_count(pool), pool, &memory));
	u32 state = 1;
	for (u64 i = 0; i < (at[2]) / 4; i++) {
		state = state * 1664525u + 1013904223u;
		((f32 *)memory.base)[i] = (f32)(i32)(state >> 9) * 0x1p-23f - 0.5f;
	}
	void *slot[] = { memory.base, memory.base + at[1], memory.base + at[2] };
	Launch l = { .slot = slot, .workspace = memory.base + work_at, .scratch = memory.base + scratch_at,
		     .scratch_bytes = ALIGN_UP(scratch + 64, 4096) };
	f64 most = 0;
	for (u32 i = 0; i < COUNT(product); i++)
		for (u32 t = 0; t < turns; t++) {
			Product *p = &product[i];
			for (u32 k = 0; k < nlibrary && t == 0; k++) {
				run_product(p, pool, &l);
				check_library(p, &library[k], slot);
			}
			f64 before = peak(peak_function, pool, machine->lanes, WINDOW);
			for (u32 who = 0; who <= nlibrary; who++) {
				f64 *took = &p->seconds[who][t], sum = 0;
				u32 n = 0;
				/* the first wakes threads, which would count against a library that is called once */
				for (f64 one; n == 0 || sum < WINDOW; sum += n++ ? one : 0)
					one = who ? run_library(p, &library[who - 1], slot) : run_product(p, pool, &l);
				*took = sum / (n - 1);
				if (who) /* its threads are still awake, and would be in the peak's way */
					nanosleep(&(struct timespec){ .tv_nsec = 3000000 }, NULL);
				f64 after = peak(peak_function, pool, machine->lanes, MIN(sum, 5 * WINDOW));
				p->share[who][t] = product_flops(p) / *took / ((before + after) / 2);
				most = MAX(most, after);
				before = after;
			}
		}
	printf("%s, %u threads, M = %lld: peak %.1f GFLOP/s; %u units compiled in %.0f ms\n", machine->name,
	       threads_count(pool), (long long)M, most * 1e-9, code.nunit, compile * 1e3);
	u32 times[COUNT(product)];
	for (u32 i = 0; i < COUNT(product); i++) {
		const Product *p = &product[i];
		times[i] = i / 3 < 4 ? 12 : layer[i / 3].tied; /* layers, and GPT-2's head */
		printf("%-8s %-8s %6lld x %6lld x %6lld", layer[i / 3].name, p->name, (long long)p->M, (long long)p->N, (long long)p->K);
		for (u32 who = 0; who <= nlibrary; who++)
			printf("   %s%s%.3f ms %5.1f %%", who ? library[who - 1].name : "", who ? " " : "", spread_of(p->seconds[who], turns).median * 1e3,
			       100 * spread_of(p->share[who], turns).median);
		printf("\n");
	}
	for (u32 form = 0; form < 4; form++) {
		printf("step: %-7s", form < 3 ? product[form].name : "all");
		Sum own = { 0 };
		for (u32 who = 0; who <= nlibrary; who++) {
			u32 first = form % 3, step = form < 3 ? 3 : 1;
			Sum s = sum_of(product + first, times + first, COUNT(product) - first, step, who, turns);
			own = who ? own : s;
			printf("   %s%s%.1f ms, %.1f %% of peak", who ? library[who - 1].name : "", who ? " " : "", s.seconds * 1e3, 100 * s.share);
			if (who)
				printf(" (the generated code takes %.2f of it)", s.share / own.share);
		}
		printf("\n");
	}
	host_arena_destroy(&memory);
	threads_destroy(pool);
	cpu_program_unload(program);
	cpu_program_unload(peak_program);
	cpu_compiler_destroy(c);
	arena_free(&a);
	return 0;
}
