/* tests/unit/kernel_run.h: kernels made by hand or at random, run as code and by kernel_eval, compared.
 *
 * Each kernel is compiled for the host, and for a CPU with AVX2 and one with nothing beyond the baseline where these are others, and run
 * as launch_run (launch.h) does. With PLINTH_RECORD
 * they are compiled for another processor and written to that folder, to be run there (tests/emulator). */
#ifndef PL_TEST_KERNEL_RUN_H
#define PL_TEST_KERNEL_RUN_H
#include "codegen/cpu/kernels.h"
#include "codegen/cpu/target.h"
#include "ir/sample.h"
#include "kernel_code.h"
#include "launch.h"
#include "support/io.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* ---- making kernels ---- */

static inline void kb_dim(Kernel *k, DimRole role, i64 extent)
{
	k->dim[k->ndim++] = (KDim){ .role = role, .extent = extent };
}

static inline u32 kb_slot(Kernel *k, DType d, i64 elements)
{
	return kernel_slot(k, (KSlot){ .dtype = d, .elements = elements, .name = "" });
}

/* An access with the given strides, in order of dimensions. */
#define ACCESS(slot_, offset_, ...) \
	((Access){ .slot = (slot_), .offset = (offset_), .stride = { __VA_ARGS__ } })

static inline KVal kb_load(Kernel *k, Access a, KVal condition)
{
	k->slot.v[a.slot].read = true;
	return kernel_inst(k, (KInst){ .op = K_load, .dtype = (u8)k->slot.v[a.slot].dtype, .access = &a,
				       .in = { condition } });
}

static inline void kb_store(Kernel *k, Access a, KVal x, KVal condition)
{
	k->slot.v[a.slot].written = true;
	kernel_inst(k, (KInst){ .op = K_store, .dtype = (u8)k->slot.v[a.slot].dtype, .access = &a,
				.in = { x, condition } });
}

static inline KVal kb_const(Kernel *k, DType d, f64 x)
{
	return kernel_inst(k, (KInst){ .op = K_const, .dtype = (u8)d, .imm = x });
}

static inline KVal kb_index(Kernel *k, DType d, Access a)
{
	return kernel_inst(k, (KInst){ .op = K_index, .dtype = (u8)d, .access = &a });
}

static inline KVal kb_cast(Kernel *k, DType d, KVal x)
{
	if (k->inst.v[x.i].dtype == d)
		return x;
	return kernel_inst(k, (KInst){ .op = K_cast, .dtype = (u8)d, .in = { x } });
}

static inline KVal kb_reduce(Kernel *k, Reduce r, KVal x)
{
	return kernel_inst(k, (KInst){ .op = K_reduce, .reduce = (u8)r, .dtype = k->inst.v[x.i].dtype,
				       .in = { x } });
}

static inline KVal kb_acc(Kernel *k, DType d, u32 which)
{
	return kernel_inst(k, (KInst){ .op = K_acc, .dtype = (u8)d, .imm = which });
}

static inline KVal kb_op3(Kernel *k, Scalar s, KVal a, KVal b, KVal c)
{
	u8 d = kernel_scalar[s].is_bool ? DT_b1 : k->inst.v[(s == S_where ? b : a).i].dtype;
	return kernel_inst(k, (KInst){ .op = K_scalar, .scalar = (u8)s, .dtype = d, .in = { a, b, c } });
}
#define NO ((KVal){ 0 })

static inline KVal kb_op(Kernel *k, Scalar s, KVal a, KVal b)
{
	return kb_op3(k, s, a, b, NO);
}

/* ---- cases ---- */

typedef struct Case {
	Kernel *k;
	/* values of a slot are drawn from [low, high] (whole numbers for integers); low == high == 0:
	 * floats from [-1, 1], integers from [0, 9] */
	f64 low[32], high[32];
	bool sorted[32]; /* in order */
	const f64 *given[32]; /* or just these */
	/* allowed: units in the last place of the slot's dtype, of a number as large as the wanted one or
	 * `scale`. 0: the same bits */
	f64 ulps, scale;
} Case;

typedef struct Suite {
	Arena arena;
	Diag diag;
	Ir *ir;
	VEC(Case) cases;
} Suite;

static inline Kernel *suite_kernel(Suite *s, KernelClass class, const char *name)
{
	if (!s->ir) {
		s->arena = ARENA("test");
		s->diag.arena = &s->arena;
		s->ir = ir_new(&s->arena, &s->diag);
	}
	Kernel *k = kernel_new(&s->arena, s->ir, class);
	k->name = arena_printf(&s->arena, "%s", name);
	k->compute = DT_f32;
	return k;
}

/* Valid until the next. */
static inline Case *suite_add(Suite *s, Kernel *k, f64 ulps, f64 scale)
{
	Diag d = { .arena = &s->arena };
	if (!kernel_verify(k, &d)) {
		kernel_print(k, stderr);
		diag_print(&d, stderr, false);
		fail_msg("kernel %s is not valid", k->name);
	}
	VEC_PUSH(&s->arena, &s->cases, (Case){ .k = k, .ulps = ulps, .scale = scale });
	return &s->cases.v[s->cases.n - 1];
}

static inline int by_value(const void *p, const void *q)
{
	f64 a = *(const f64 *)p, b = *(const f64 *)q;
	return (a > b) - (a < b);
}

/* What a slot holds before: f64 numbers that its dtype can hold. */
static inline f64 *draw(Arena *a, Random *r, const Case *c, u32 slot)
{
	const KSlot *s = &c->k->slot.v[slot];
	f64 *x = NEWN(a, f64, s->elements + 1), low = c->low[slot], high = c->high[slot];
	bool is_float = dtype_is_float(s->dtype);
	if (c->given[slot]) {
		memcpy(x, c->given[slot], sizeof *x * (size_t)s->elements);
		return x;
	}
	if (low == 0 && high == 0) {
		low = is_float ? -1 : 0;
		high = is_float ? 1 : s->dtype == DT_b1 ? 1 : 9;
	}
	for (i64 i = 0; i < s->elements; i++)
		x[i] = is_float ? dtype_round(s->dtype, low + (high - low) * random_unit(r))
				: (f64)random_int(r, (i64)low, (i64)high);
	if (c->sorted[slot])
		qsort(x, (size_t)s->elements, sizeof *x, by_value);
	return x;
}

/* What the kernel is to do with slots drawn from the seed: by kernel_eval. */
static inline Launch launch_of(const Case *c, u32 seed, LaunchNeeds needs, const char *symbol, Arena *a)
{
	const Kernel *k = c->k;
	Random r = random_new(a, seed);
	Launch l = { .name = k->name, .symbol = symbol, .needs = needs, .nslot = k->slot.n,
		     .nnumber = kernel_numbers(k, NULL), .ulps = c->ulps, .scale = c->scale };
	f64 **want = NEWN(a, f64 *, l.nslot + 1);
	l.slot = NEWN(a, LaunchSlot, l.nslot + 1);
	l.number = NEWN(a, i64, l.nnumber + 1);
	kernel_numbers(k, l.number);
	for (u32 s = 0; s < l.nslot; s++) {
		const KSlot *slot = &k->slot.v[s];
		want[s] = draw(a, &r, c, s);
		l.slot[s] = (LaunchSlot){ slot->dtype, slot->elements, NULL, slot->written ? want[s] : NULL };
		l.slot[s].before = arena_push(a, dtype_info[slot->dtype].bytes, (size_t)slot->elements + 1, 64);
		for (i64 i = 0; i < slot->elements; i++)
			put(slot->dtype, l.slot[s].before, i, want[s][i]);
	}
	kernel_eval(k, want);
	return l;
}

static inline void run_case(const Case *c, u32 seed, const TargetInfo *target, KernelFunction *f,
			    const char *cpu)
{
	Arena a = ARENA("run");
	Launch l = launch_of(c, seed, target->needs(target, c->k), "", &a);
	const char *wrong = launch_run(&l, f, false, &a);
	if (wrong) {
		kernel_print(c->k, stderr);
		fail_msg("for %s: %s", cpu, wrong);
	}
	arena_free(&a);
}

/* ---- for another processor: written instead of run (tests/emulator) ---- */

/* Is it little enough to run where each instruction takes a microsecond? */
static inline bool small_enough(const Kernel *k)
{
	f64 points = 1, bytes = 0;
	for (u32 d = 0; d < k->ndim; d++)
		points *= k->dim[d].role == DIM_V ? 1 : (f64)k->dim[d].extent; /* attention is two products, of K and of V */
	for (u32 s = 0; s < k->slot.n; s++)
		bytes += (f64)k->slot.v[s].elements * dtype_info[k->slot.v[s].dtype].bytes;
	return points <= 1 << 21 && bytes <= 1 << 20;
}

/* Into $PLINTH_RECORD, as code for $PLINTH_RECORD_CPU: the cases that are small. */
static inline void suite_record(Suite *s, u32 seed, const char *folder)
{
	static u32 nfile;
	Arena *a = &s->arena;
	CpuCompiler *c;
	assert_null(cpu_compiler_create(&(CpuOptions){ .cpu = getenv("PLINTH_RECORD_CPU") }, &c));
	const TargetInfo *target = cpu_target(cpu_compiler_machine(c), a);
	Kernel **k = NEWN(a, Kernel *, s->cases.n + 1);
	u32 *which = NEWN(a, u32, s->cases.n + 1), n = 0;
	for (u32 i = 0; i < s->cases.n; i++)
		if (small_enough(s->cases.v[i].k)) {
			which[n] = i;
			k[n++] = s->cases.v[i].k;
		}
	CpuCode code;
	assert_null(cpu_code_units(c, k, n, a, &code));
	Blob library;
	assert_null(cpu_link(a, code.unit, code.nunit, code.symbol, n, &library));
	AtomicFile f;
	assert_null(io_create(arena_printf(a, "%s/%s.%u.launches", folder, program_invocation_short_name, nfile++), &f));
	u64 head[2] = { n, library.n };
	launch_put(f.file, head, sizeof head);
	launch_put(f.file, library.p, library.n);
	for (u32 i = 0; i < n; i++) {
		Arena tmp = ARENA("launch");
		Launch l = launch_of(&s->cases.v[which[i]], seed + which[i], target->needs(target, k[i]), code.symbol[i], &tmp);
		launch_write(f.file, &l);
		arena_free(&tmp);
	}
	assert_null(io_commit(&f));
	cpu_compiler_destroy(c);
	arena_free(a);
	*s = (Suite){ 0 };
}

static inline void suite_run(Suite *s, u32 seed)
{
	const char *const cpu[] = { "host", "haswell", "baseline" };
	CpuMachine host = { 0 };
	if (getenv("PLINTH_RECORD")) {
		suite_record(s, seed, getenv("PLINTH_RECORD"));
		return;
	}
	Kernel **k = NEWN(&s->arena, Kernel *, s->cases.n + 1);
	for (u32 i = 0; i < s->cases.n; i++)
		k[i] = s->cases.v[i].k;
	for (u32 m = 0; m < COUNT(cpu); m++) {
		CpuCompiler *c;
		CpuOptions options = { .cpu = cpu[m] };
		Status why = cpu_compiler_create(&options, &c);
		if (why)
			fail_msg("%s", why->text);
		const CpuMachine *machine = cpu_compiler_machine(c);
		bool same = m && machine->lanes == host.lanes && machine->registers == host.registers && machine->has_fma == host.has_fma;
		if (!m)
			host = *machine;
		if (!machine->runs_here || same) {
			cpu_compiler_destroy(c);
			continue;
		}
		const TargetInfo *target = cpu_target(cpu_compiler_machine(c), &s->arena);
		CpuCode code;
		why = cpu_code_units(c, k, s->cases.n, &s->arena, &code);
		if (why)
			fail_msg("%s", why->text);
		CpuCodeImage *image = load_units(&s->arena, code.unit, code.nunit, code.symbol, s->cases.n);
		for (u32 i = 0; i < s->cases.n; i++)
			run_case(&s->cases.v[i], seed + i, target, (KernelFunction *)(uintptr_t)cpu_code_find(image, code.symbol[i]), cpu[m]);
		cpu_code_unload(image);
		cpu_compiler_destroy(c);
	}
	arena_free(&s->arena);
	*s = (Suite){ 0 };
}

/* ---- operands in pairs, as CPUs with a product of bf16 pairs want them ---- */

/* Code with such panels for this CPU, which computes a pair's product by its definition. */
static inline void emit_pairs(CpuModule *m, const void *argument)
{
	const Kernel *k = argument;
	CpuMachine machine = *m->machine;
	machine.bf16_pairs = true;
	machine.has_bf16 = false;
	m->machine = &machine;
	Arena tmp = ARENA("emit");
	cpu_kernel_class[k->class]->emit(m, k, &tmp, "pairs");
	arena_free(&tmp);
}

static inline void suite_run_pairs(Suite *s, u32 seed)
{
	CpuCompiler *c;
	if (getenv("PLINTH_RECORD")) {
		suite_record(s, seed, getenv("PLINTH_RECORD"));
		return;
	}
	assert_null(cpu_compiler_create(&(CpuOptions){ 0 }, &c));
	CpuMachine machine = *cpu_compiler_machine(c);
	machine.bf16_pairs = true;
	const TargetInfo *target = cpu_target(&machine, &s->arena);
	for (u32 i = 0; i < s->cases.n; i++) {
		CpuUnit unit = { "pairs", .emit = emit_pairs, .argument = s->cases.v[i].k };
		CpuCodeImage *image = load_unit(c, &s->arena, &unit, "pairs");
		run_case(&s->cases.v[i], seed + i, target, (KernelFunction *)(uintptr_t)cpu_code_find(image, "pairs"), "pairs");
		cpu_code_unload(image);
	}
	cpu_compiler_destroy(c);
	arena_free(&s->arena);
	*s = (Suite){ 0 };
}

#endif
