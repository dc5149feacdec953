/* benchmarks/kernels.c: GFLOP/s of the matrix products of a GPT-2 training step beside the multiply-add
 * peak measured in the same run: `kernels [M [threads [turns]]]`. Each shape's three products are those of
 * forward (x W), and backward (dy W^T and x^T dy); the least of the turns' times counts, and peak and
 * products take turns, so that a busy machine slows both. OpenBLAS and oneDNN compute the same in the same turns where
 * they are installed (kernels_library.h). */
#include "benchmarks/kernels_library.h"
#include "codegen/cpu/target.h"
#include "codegen/cpu/vector.h"
#include "runtime/cpu/memory.h"
#include "support/clock.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void must(Status s)
{
	if (!s)
		return;
	fprintf(stderr, "%s\n", s->text);
	exit(status_exit(s));
}

/* ---- the peak: independent multiply-adds in registers ---- */

enum { PEAK_TURNS = 1000000 /* some milliseconds, as a product takes */, PEAK_SUMS = 12 };

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

static f64 peak(PeakFunction *f, Threads *pool, u32 lanes)
{
	f64 start = clock_seconds();
	threads_run(pool, run_peak, (void *)&f, threads_count(pool));
	return 2.0 * lanes * PEAK_SUMS * (f64)PEAK_TURNS * threads_count(pool) / (clock_seconds() - start);
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
	f64 best, by_library[PRODUCT_LIBRARIES];
} Product;

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

/* The same by a library, over the same memory; the first time, its results are looked at beside those that are there. */
static f64 run_library(const Product *p, const ProductLibrary *l, void *const *slot, bool first)
{
	enum { LOOKED_AT = 64 };
	f32 *c = slot[2], was[LOOKED_AT];
	i64 step = p->M * p->N / LOOKED_AT;
	for (i64 i = 0; i < LOOKED_AT; i++)
		was[i] = c[i * step];
	f64 start = clock_seconds();
	l->run(p->M, p->N, p->K, slot[0], p->a_turned, slot[1], p->b_turned, c);
	f64 took = clock_seconds() - start;
	/* operands are at most 1/2: a sum of K products is off by K roundings of partial sums of at most K / 4 */
	f64 bound = (f64)p->K * (f64)p->K / 4 * 0x1p-23;
	for (i64 i = 0; i < LOOKED_AT && first; i++)
		if (!(fabs((f64)was[i] - c[i * step]) <= bound)) {
			fprintf(stderr, "%s: %s computes %g where the generated code has %g\n", p->name, l->name, (f64)c[i * step],
				(f64)was[i]);
			exit(1);
		}
	return took;
}

static void print_library(const Product *product, const u32 *times, u32 n, u32 library, const char *name, f64 most)
{
	f64 own = 0, its = 0, work = 0;
	for (u32 i = 0; i < n; i++) {
		own += times[i] * product[i].best;
		its += times[i] * product[i].by_library[library];
		work += times[i] * 2.0 * (f64)product[i].M * (f64)product[i].N * (f64)product[i].K;
	}
	printf("step: %-8s %.1f ms, %.1f %% of peak: the generated code takes %.2f of it\n", name, its * 1e3, 100 * work / its / most,
	       own / its);
}

int main(int argc, char **argv)
{
	i64 M = argc > 1 ? atoll(argv[1]) : 256;
	u32 threads = argc > 2 ? (u32)atoi(argv[2]) : 0, turns = argc > 3 ? (u32)atoi(argv[3]) : 10;
	static const struct {
		const char *name;
		i64 in, out;
	} layer[] = { { "qkv", 768, 2304 }, { "aproj", 768, 768 }, { "fc", 768, 3072 }, { "fcproj", 3072, 768 },
		      { "lmhead", 768, 50257 } };
	Arena a = ARENA("benchmark");
	Diag diag = { .arena = &a };
	Ir *ir = ir_new(&a, &diag);
	Product product[3 * COUNT(layer)];
	Kernel *kernel[COUNT(product)];
	KernelFunction *function[COUNT(product)];
	for (u32 i = 0; i < COUNT(product); i++) {
		i64 in = layer[i / 3].in, out = layer[i / 3].out;
		const Product p[] = { { .name = "x W", .M = M, .N = out, .K = in },
				      { .name = "dy W^T", .M = M, .N = in, .K = out, .b_turned = true },
				      { .name = "x^T dy", .M = in, .N = out, .K = M, .a_turned = true } };
		product[i] = p[i % 3];
		product[i].best = 1e30;
		for (u32 k = 0; k < PRODUCT_LIBRARIES; k++)
			product[i].by_library[k] = 1e30;
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
	ProductLibrary library[PRODUCT_LIBRARIES];
	u32 nlibrary = product_libraries(threads ? threads : threads_usable(), library);
	must(threads_create(&(ThreadsOptions){ .count = threads, .pinned = true }, &pool));
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
	for (u32 t = 0; t < turns; t++) {
		for (u32 i = 0; i < 10; i++)
			most = MAX(most, peak(peak_function, pool, machine->lanes));
		for (u32 i = 0; i < COUNT(product); i++)
			product[i].best = MIN(product[i].best, run_product(&product[i], pool, &l));
		for (u32 k = 0; k < nlibrary; k++)
			for (u32 i = 0; i < COUNT(product); i++) {
				Product *p = &product[i];
				if (t == 0)
					run_product(p, pool, &l);
				p->by_library[k] = MIN(p->by_library[k], run_library(p, &library[k], slot, t == 0));
			}
	}
	printf("%s, %u threads, M = %lld: peak %.1f GFLOP/s; %u units compiled in %.0f ms\n", machine->name,
	       threads_count(pool), (long long)M, most * 1e-9, code.nunit, compile * 1e3);
	f64 time[3] = { 0 }, work[3] = { 0 };
	u32 times[COUNT(product)];
	for (u32 i = 0; i < COUNT(product); i++) {
		const Product *p = &product[i];
		f64 flops = 2.0 * (f64)p->M * (f64)p->N * (f64)p->K;
		printf("%-8s %-8s %6lld x %6lld x %6lld %9.3f ms %8.1f GFLOP/s %5.1f %%", layer[i / 3].name, p->name,
		       (long long)p->M, (long long)p->N, (long long)p->K, p->best * 1e3, flops / p->best * 1e-9,
		       100 * flops / p->best / most);
		for (u32 k = 0; k < nlibrary; k++)
			printf("   %s %.3f ms %5.1f %%", library[k].name, p->by_library[k] * 1e3,
			       100 * flops / p->by_library[k] / most);
		printf("\n");
		times[i] = i / 3 < 4 ? 12 : 1; /* layers, and one head */
		time[i % 3] += times[i] * p->best;
		work[i % 3] += times[i] * flops;
	}
	for (u32 i = 0; i < 3; i++)
		printf("step: %-8s %.1f ms, %.1f %% of peak\n", product[i].name, time[i] * 1e3,
		       100 * work[i] / time[i] / most);
	printf("step: all      %.1f ms, %.1f %% of peak\n", (time[0] + time[1] + time[2]) * 1e3,
	       100 * (work[0] + work[1] + work[2]) / (time[0] + time[1] + time[2]) / most);
	for (u32 k = 0; k < nlibrary; k++)
		print_library(product, times, COUNT(product), k, library[k].name, most);
	host_arena_destroy(&memory);
	threads_destroy(pool);
	cpu_program_unload(program);
	cpu_program_unload(peak_program);
	cpu_compiler_destroy(c);
	arena_free(&a);
	return 0;
}
