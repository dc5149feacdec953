/* tests/unit/kernel_run.h: kernels made by hand or at random, run as code and by kernel_eval, compared.
 *
 * Each kernel is compiled for the host and for an AVX2 CPU; its tasks are divided in one, two and three
 * ways, which must give the same bits; what is around its slots, workspace and scratch must stay. */
#ifndef PL_TEST_KERNEL_RUN_H
#define PL_TEST_KERNEL_RUN_H
#include "codegen/cpu/kernels.h"
#include "codegen/cpu/target.h"
#include "ir/sample.h"

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

static inline f64 ulp_of(DType d)
{
	return d == DT_f64 ? 0x1p-52 : d == DT_f32 ? 0x1p-23 : d == DT_bf16 ? 0x1p-7 : d == DT_f16 ? 0x1p-10 : 0;
}

static inline u16 f16_bits(f64 x)
{
	u16 sign = signbit(x) ? 0x8000 : 0;
	x = fabs(x);
	if (isnan(x))
		return 0x7e00;
	if (isinf(x))
		return sign | 0x7c00;
	int e;
	if (x < 0x1p-14)
		return sign | (u16)(x * 0x1p24);
	f64 m = frexp(x, &e);
	return sign | (u16)((e + 14) << 10 | ((int)(m * 2048) & 1023));
}

static inline f64 f16_value(u16 b)
{
	int e = b >> 10 & 31, m = b & 1023;
	f64 x = e == 31 ? (m ? NAN : INFINITY) : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
	return b & 0x8000 ? -x : x;
}

static inline void put(DType d, void *base, i64 i, f64 x)
{
	switch (d) {
	case DT_b1:
	case DT_u8: ((u8 *)base)[i] = (u8)x; break;
	case DT_i8: ((i8 *)base)[i] = (i8)x; break;
	case DT_u32: ((u32 *)base)[i] = (u32)x; break;
	case DT_i32: ((i32 *)base)[i] = (i32)x; break;
	case DT_i64: ((i64 *)base)[i] = (i64)x; break;
	case DT_f64: ((f64 *)base)[i] = x; break;
	case DT_f32: ((f32 *)base)[i] = (f32)x; break;
	case DT_f16: ((u16 *)base)[i] = f16_bits(x); break;
	default: {
		f32 f = (f32)x;
		u32 bits;
		memcpy(&bits, &f, 4);
		((u16 *)base)[i] = (u16)(bits >> 16);
	}
	}
}

static inline f64 get(DType d, const void *base, i64 i)
{
	switch (d) {
	case DT_b1:
	case DT_u8: return ((const u8 *)base)[i];
	case DT_i8: return ((const i8 *)base)[i];
	case DT_u32: return ((const u32 *)base)[i];
	case DT_i32: return ((const i32 *)base)[i];
	case DT_i64: return (f64)((const i64 *)base)[i];
	case DT_f64: return ((const f64 *)base)[i];
	case DT_f32: return (f64)((const f32 *)base)[i];
	case DT_f16: return f16_value(((const u16 *)base)[i]);
	default: {
		u32 bits = (u32)((const u16 *)base)[i] << 16;
		f32 f;
		memcpy(&f, &bits, 4);
		return (f64)f;
	}
	}
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

enum { ZONE = 256 /* bytes around every buffer that must stay */ };

static inline u8 *zoned(Arena *a, u64 bytes)
{
	u8 *p = (u8 *)arena_push(a, 1, bytes + 2 * ZONE, 64);
	memset(p, 0xa5, bytes + 2 * ZONE);
	return p + ZONE;
}

static inline bool zone_stays(const u8 *p, u64 bytes)
{
	for (u32 i = 0; i < ZONE; i++)
		if (p[-1 - (i64)i] != 0xa5 || p[bytes + i] != 0xa5)
			return false;
	return true;
}

/* Runs all phases, each in `ways` parts, the last part first where `backwards`. */
static inline void run_kernel(KernelFunction *f, const Kernel *k, const LaunchNeeds *n, void *const *slot,
			      Arena *a, u32 ways, bool backwards)
{
	i64 *number = NEWN(a, i64, kernel_numbers(k, NULL) + 1);
	kernel_numbers(k, number);
	/* NaN: what nothing has written must not reach a result */
	u8 *workspace = memset(zoned(a, n->workspace), 0xff, n->workspace), *scratch[8];
	for (u32 w = 0; w < ways; w++)
		scratch[w] = memset(zoned(a, n->thread_scratch), 0xff, n->thread_scratch);
	for (u32 p = 0; p < n->nphase; p++)
		for (u32 i = 0; i < ways; i++) {
			u32 w = backwards ? ways - 1 - i : i;
			i64 from = n->tasks[p] * w / ways, to = n->tasks[p] * (w + 1) / ways;
			if (from < to)
				f(slot, number, workspace, scratch[w], p, from, to);
		}
	if (!zone_stays(workspace, n->workspace))
		fail_msg("%s: writes beyond its workspace", k->name);
	for (u32 w = 0; w < ways; w++)
		if (!zone_stays(scratch[w], n->thread_scratch))
			fail_msg("%s: writes beyond its scratch", k->name);
}

static inline void compare(const Case *c, u32 slot, const f64 *want, const u8 *got, const char *cpu)
{
	const KSlot *s = &c->k->slot.v[slot];
	for (i64 i = 0; i < s->elements; i++) {
		f64 x = get(s->dtype, got, i), w = want[i];
		if (s->dtype == DT_f32 && (c->ulps == 0 || fabs(w) > dtype_info[DT_f32].largest))
			w = (f64)(f32)w;
		f64 allowed = c->ulps * ulp_of(s->dtype) * fmax(fabs(w), c->scale);
		bool same = x == w || (isnan(x) && isnan(w));
		if (!same && !(fabs(x - w) <= allowed)) {
			kernel_print(c->k, stderr);
			fail_msg("%s for %s: slot %u element %lld is %.9g, not %.9g (allowed %.3g)", c->k->name,
				 cpu, slot, (long long)i, x, w, allowed);
		}
	}
}

static inline void run_case(const Case *c, u32 seed, const TargetInfo *target, KernelFunction *f,
			    const char *cpu)
{
	const Kernel *k = c->k;
	Arena a = ARENA("run");
	Random r = random_new(&a, seed);
	f64 **want = NEWN(&a, f64 *, k->slot.n + 1);
	u8 **before = NEWN(&a, u8 *, k->slot.n + 1), **first = NEWN(&a, u8 *, k->slot.n + 1);
	for (u32 s = 0; s < k->slot.n; s++) {
		const KSlot *slot = &k->slot.v[s];
		want[s] = draw(&a, &r, c, s);
		before[s] = arena_push(&a, dtype_info[slot->dtype].bytes, (size_t)slot->elements + 1, 64);
		for (i64 i = 0; i < slot->elements; i++)
			put(slot->dtype, before[s], i, want[s][i]);
	}
	kernel_eval(k, want);
	LaunchNeeds n = target->needs(target, k);
	for (u32 ways = 1; ways <= 3; ways++)
		for (u32 backwards = 0; backwards <= (ways > 1); backwards++) {
			void **slot = NEWN(&a, void *, k->slot.n + 1);
			for (u32 s = 0; s < k->slot.n; s++) {
				u64 bytes = (u64)k->slot.v[s].elements * dtype_info[k->slot.v[s].dtype].bytes;
				slot[s] = zoned(&a, bytes);
				memcpy(slot[s], before[s], bytes);
			}
			run_kernel(f, k, &n, slot, &a, ways, backwards);
			for (u32 s = 0; s < k->slot.n; s++) {
				u64 bytes = (u64)k->slot.v[s].elements * dtype_info[k->slot.v[s].dtype].bytes;
				if (!zone_stays(slot[s], bytes))
					fail_msg("%s for %s: writes beyond slot %u", k->name, cpu, s);
				if (ways == 1) {
					first[s] = slot[s];
					compare(c, s, want[s], slot[s], cpu);
				} else if (memcmp(first[s], slot[s], bytes) != 0) {
					fail_msg("%s for %s: slot %u is other bits in %u parts", k->name, cpu, s,
						 ways);
				}
			}
		}
	arena_free(&a);
}

static inline void suite_run(Suite *s, u32 seed)
{
	const char *const cpu[] = { "host", "haswell" };
	Kernel **k = NEWN(&s->arena, Kernel *, s->cases.n + 1);
	for (u32 i = 0; i < s->cases.n; i++)
		k[i] = s->cases.v[i].k;
	for (u32 m = 0; m < COUNT(cpu); m++) {
		CpuCompiler *c;
		CpuOptions options = { .cpu = cpu[m] };
		Status why = cpu_compiler_create(&options, &c);
		if (why)
			fail_msg("%s", why->text);
		if (!cpu_compiler_machine(c)->runs_here) {
			cpu_compiler_destroy(c);
			continue;
		}
		const TargetInfo *target = cpu_target(cpu_compiler_machine(c), &s->arena);
		KernelFunction **f = NEWN(&s->arena, KernelFunction *, s->cases.n + 1);
		CpuProgram *p;
		why = cpu_code(c, k, s->cases.n, &s->arena, &p, f);
		if (why)
			fail_msg("%s", why->text);
		for (u32 i = 0; i < s->cases.n; i++)
			run_case(&s->cases.v[i], seed + i, target, f[i], cpu[m]);
		cpu_program_unload(p);
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
	assert_null(cpu_compiler_create(&(CpuOptions){ 0 }, &c));
	CpuMachine machine = *cpu_compiler_machine(c);
	machine.bf16_pairs = true;
	const TargetInfo *target = cpu_target(&machine, &s->arena);
	for (u32 i = 0; i < s->cases.n; i++) {
		CpuUnit unit = { "pairs", .emit = emit_pairs, .argument = s->cases.v[i].k };
		CpuProgram *p;
		cpu_compile(c, &s->arena, &unit, 1);
		assert_null(cpu_program_load(cpu_compiler_machine(c), &unit.object, 1, &p));
		run_case(&s->cases.v[i], seed + i, target, (KernelFunction *)(uintptr_t)cpu_program_find(p, "pairs"),
			 "pairs");
		cpu_program_unload(p);
	}
	cpu_compiler_destroy(c);
	arena_free(&s->arena);
	*s = (Suite){ 0 };
}

#endif
