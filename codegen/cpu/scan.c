/* codegen/cpu/scan.c: SCAN kernels: running sums along ROW. Lanes run across the last PARALLEL dimension
 * where rows lie beside each other in memory, and then each lane adds in order; else they run along the
 * row, a vector's running sums are taken in log2(lanes) steps of shifting and adding (Hillis and Steele
 * 1986), and what came before is added. Either way a task is whole rows, so that bits do not depend on
 * threads. Sums of narrow floats are f32. */
#include "codegen/cpu/kernels.h"

#include <string.h>

typedef LLVMValueRef V;

static DType sum_type(const Kernel *k)
{
	DType d = (DType)k->inst.v[k->operand[0].i].dtype;
	return dtype_is_float(d) && d != DT_f64 ? DT_f32 : d;
}

/* Across: no load is contiguous along the row, and there are lanes' worth of rows. */
static bool goes_across(const Kernel *k)
{
	u32 row = k->ndim - 1;
	if (k->ndim < 2 || k->dim[row - 1].extent < 4)
		return false;
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_load && k->inst.v[i].access->stride[row] == 1)
			return false;
	return true;
}

static u64 variant_scan(const CpuMachine *machine, const Kernel *k)
{
	(void)machine;
	return goes_across(k);
}

/* ---- tasks: some units, each a row or a vector of rows ---- */

typedef struct Units {
	u32 lanes;     /* rows of a unit */
	u32 outer;     /* dimensions before those that lanes run across */
	Count vectors; /* of the dimension across */
	Count all, per; /* units; of a task */
} Units;

static Units units_of(Body *b, const CpuMachine *machine, const Kernel *k)
{
	CpuModule *m = b ? b->m : NULL;
	u32 row = k->ndim - 1;
	Count one = count_of(m, 1);
	Units u = { .lanes = goes_across(k) ? machine->lanes : 1, .outer = goes_across(k) ? row - 1 : row, .vectors = one };
	if (u.lanes > 1)
		u.vectors = count_div_up(m, count_extent(b, k, u.outer, row), count_of(m, u.lanes));
	u.all = count_mul(m, count_extent(b, k, 0, u.outer), u.vectors);
	Count length = count_max(m, count_extent(b, k, row, k->ndim), one);
	u.per = count_max(m, one, count_div(m, count_of(m, TASK_ELEMENTS), count_mul(m, length, count_of(m, u.lanes))));
	return u;
}

static CountNeeds needs_scan(Body *b, const CpuMachine *machine, const Kernel *k, Count phase)
{
	(void)phase;
	CpuModule *m = b ? b->m : NULL;
	Units u = units_of(b, machine, k);
	return (CountNeeds){ .phases = count_of(m, 1), .tasks = count_div_up(m, u.all, u.per) };
}

/* ---- a vector along the row ---- */

/* Lane i of the result is lane i - by of x, zero where there is none (reverse: i + by). */
static V shifted(const Simd *s, V x, V zero, u32 by, bool reverse)
{
	u32 index[64];
	for (u32 i = 0; i < s->lanes; i++) {
		u32 from = reverse ? i + by : i - by; /* wraps below zero */
		index[i] = from < s->lanes ? from : s->lanes;
	}
	return simd_shuffle(s, x, zero, index, s->lanes);
}

static V running(const Simd *s, V x, V zero, bool reverse)
{
	for (u32 by = 1; by < s->lanes; by *= 2)
		x = simd_add(s, x, shifted(s, x, zero, by, reverse));
	return x;
}

/* Sets the result and stores; `before` and `sum`: without and with the element itself. */
static void finish(Body *b, V before, V sum)
{
	const Kernel *k = b->k;
	DType d = sum_type(k);
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_acc)
			body_set(b, (KVal){ i },
				 simd_convert(&b->lanes, d, (DType)k->inst.v[i].dtype, k->exclusive ? before : sum), true);
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_store)
			body_store(b, i);
}

static V operand(Body *b)
{
	const Kernel *k = b->k;
	return simd_convert(&b->lanes, (DType)k->inst.v[k->operand[0].i].dtype, sum_type(k),
			    body_vector(b, k->operand[0]));
}

/* Elements [at, at + lanes) of the row; `total`: the sum before them, in every lane. The sum after them. */
static V along_vector(Body *b, V at, V mask, V total)
{
	const Simd *s = &b->lanes;
	u32 mark = body_mark(b), last = b->k->reverse ? 0 : s->lanes - 1, every[64];
	V zero = simd_constant(s, sum_type(b->k), 0);
	b->coord[b->k->ndim - 1] = at;
	b->mask = mask;
	V x = operand(b);
	if (mask)
		x = simd_select(s, mask, x, zero);
	V sum = running(s, x, zero, b->k->reverse);
	V before = simd_add(s, shifted(s, sum, zero, 1, b->k->reverse), total);
	sum = simd_add(s, sum, total);
	finish(b, before, sum);
	b->mask = NULL;
	body_release(b, mark);
	for (u32 i = 0; i < s->lanes; i++)
		every[i] = last;
	return simd_shuffle(s, sum, NULL, every, s->lanes);
}

/* What is left of the row after whole vectors. */
static V along_rest(Body *b, V whole, V n, V total)
{
	CpuModule *m = b->m;
	CpuIf some = { 0 };
	cpu_if_begin(m, &some, cpu_less(m, whole, n), 50);
	V after = along_vector(b, whole, simd_mask(&b->lanes, cpu_sub(m, n, whole)), total);
	cpu_if_end(m, &some, 1, &after, &total);
	return some.value[0];
}

static void along(Body *b)
{
	CpuModule *m = b->m;
	u32 row = b->k->ndim - 1;
	V L = cpu_i64(m, b->lanes.lanes), n = b->extent[row], vectors = cpu_div(m, n, L), whole = cpu_mul(m, vectors, L);
	V total = simd_constant(&b->lanes, sum_type(b->k), 0);
	b->vector_dim = row;
	if (b->k->reverse)
		total = along_rest(b, whole, n, total);
	CpuLoop l = { 0 };
	cpu_loop_begin(m, &l, cpu_i64(m, 0), whole, L, 1, &total);
	V at = b->k->reverse ? cpu_sub(m, cpu_sub(m, whole, L), l.index) : l.index;
	V next = along_vector(b, at, NULL, l.carried[0]);
	l.unroll = 1;
	cpu_loop_end(m, &l, &next);
	if (!b->k->reverse)
		along_rest(b, whole, n, l.carried[0]);
	b->vector_dim = NONE;
}

/* ---- a vector of rows ---- */

static void across(Body *b, V first)
{
	CpuModule *m = b->m;
	const Kernel *k = b->k;
	u32 row = k->ndim - 1;
	V n = b->extent[row], one = cpu_i64(m, 1), zero = simd_constant(&b->lanes, sum_type(k), 0);
	b->vector_dim = row - 1;
	b->coord[row - 1] = first;
	V mask = simd_mask(&b->lanes, cpu_sub(m, b->extent[row - 1], first));
	CpuLoop l = { 0 };
	cpu_loop_begin(m, &l, cpu_i64(m, 0), n, one, 1, &zero);
	u32 mark = body_mark(b);
	b->coord[row] = k->reverse ? cpu_sub(m, cpu_sub(m, n, one), l.index) : l.index;
	b->mask = mask;
	V sum = simd_add(&b->lanes, l.carried[0], operand(b));
	finish(b, l.carried[0], sum);
	b->mask = NULL;
	body_release(b, mark);
	l.unroll = 1;
	cpu_loop_end(m, &l, &sum);
	b->vector_dim = NONE;
}

static void emit_scan(CpuModule *m, const Kernel *k, Arena *arena, const char *name)
{
	Body b;
	body_begin(&b, m, k, arena, name);
	Units u = units_of(&b, m->machine, k);
	u32 L = u.lanes, outer = u.outer;
	V one = cpu_i64(m, 1), units = u.all.v, vectors = u.vectors.v, per = u.per.v;
	body_hoist(&b, 0, NULL);
	CpuLoop unit = { 0 };
	V end = cpu_min(m, units, cpu_mul(m, b.end, per));
	cpu_loop_begin(m, &unit, cpu_mul(m, b.begin, per), end, one, 0, NULL);
	u32 mark = body_mark(&b);
	body_unflatten(&b, 0, outer, cpu_div(m, unit.index, vectors));
	body_hoist(&b, (1u << outer) - 1, NULL);
	if (L > 1)
		across(&b, cpu_mul(m, cpu_rem(m, unit.index, vectors), cpu_i64(m, L)));
	else
		along(&b);
	body_release(&b, mark);
	unit.unroll = 1;
	cpu_loop_end(m, &unit, NULL);
	body_end(&b);
}

const CpuKernelClass cpu_scan = { .needs = needs_scan, .emit = emit_scan, .variant = variant_scan };
