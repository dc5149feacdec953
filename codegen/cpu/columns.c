/* codegen/cpu/columns.c: COLUMN kernels (sums over rows: the gradients of biases and gains) and SCATTER
 * kernels (gradients of embeddings). Both give a strip of columns to a task, which then walks all rows in
 * order by itself: no partial sums, no atomics, and the same bits for any number of threads.
 *
 * A sum over rows is taken in blocks of SUM_BLOCK rows, whose sums are then added: the error grows with
 * the number of blocks rather than of rows. */
#include "codegen/cpu/kernels.h"

#include <string.h>

typedef LLVMValueRef V;

enum {
	STRIP = 4, /* vectors */
	WIDE = 8,  /* of one sum, at most, */
	WIDTH = 64, /* and elements: rows of a strip lie apart. On two Zen 3 cores, columns of 1024 x 3072 f32 from memory take 0.75 of
		     * the time that strips of 32 do, of 256 x 3072 0.69; 96 are no better, 128 worse, asking ahead is worse.
		     * Two sums gain nothing */
	SUM_BLOCK = 64,
	CLEAR = 1 << 16, /* elements that a task clears */
	LARGE = 16 << 20, /* bytes that are cleared past the caches, which have better use */
};

static u32 first_of(const Kernel *k, DimRole role)
{
	for (u32 d = 0; d < k->ndim; d++)
		if (k->dim[d].role == role)
			return d;
	return k->ndim;
}

/* ---- COLUMN ---- */

static u32 collect_reductions(const Kernel *k, u32 *reduce)
{
	u32 n = 0;
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_reduce)
			reduce[n++] = i;
	return n;
}

/* One strip of up to WIDE vectors from column `col`; `mask[v]` NULL for whole vectors. */
static void column_strip(Body *b, V col, V n, u32 vectors, bool masked)
{
	CpuModule *m = b->m;
	const Kernel *k = b->k;
	u32 L = b->lanes.lanes, last = k->ndim - 1, r0 = first_of(k, DIM_REDUCE);
	u32 *reduce = NEWN(b->arena, u32, k->inst.n + 1), nreduce = collect_reductions(k, reduce);
	u32 nacc = nreduce * vectors;
	assert(nacc <= CPU_CARRIED);
	V zero[CPU_CARRIED], mask[WIDE] = { 0 };
	for (u32 v = 0; v < vectors; v++) {
		for (u32 r = 0; r < nreduce; r++) {
			const KInst *in = &k->inst.v[reduce[r]];
			zero[v * nreduce + r] = reduce_identity(&b->lanes, in->reduce, in->dtype);
		}
		if (masked)
			mask[v] = simd_mask(&b->lanes, cpu_sub(m, n, cpu_add(m, col, cpu_i64(m, (i64)v * L))));
	}
	b->vector_dim = last;
	b->coord[last] = col;
	V rows = body_product(b, r0, last), block = cpu_i64(m, SUM_BLOCK);
	CpuLoop outer = { 0 }, inner = { 0 };
	cpu_loop_begin(m, &outer, cpu_i64(m, 0), rows, block, nacc, zero);
	V end = cpu_min(m, rows, cpu_add(m, outer.index, block));
	cpu_loop_begin(m, &inner, outer.index, end, cpu_i64(m, 1), nacc, zero);
	u32 mark = body_mark(b);
	body_unflatten(b, r0, last, inner.index);
	/* what is the same for all of the strip */
	body_hoist(b, (1u << last) - 1, NULL);
	V next[CPU_CARRIED];
	for (u32 v = 0; v < vectors; v++) {
		u32 here = body_mark(b);
		b->coord[last] = cpu_add(m, col, cpu_i64(m, (i64)v * L));
		b->mask = mask[v];
		for (u32 r = 0; r < nreduce; r++) {
			const KInst *in = &k->inst.v[reduce[r]];
			V x = body_vector(b, in->in[0]);
			u32 at = v * nreduce + r;
			next[at] = reduce_combine(&b->lanes, in->reduce, in->dtype, inner.carried[at], x);
		}
		body_release(b, here);
	}
	body_release(b, mark);
	inner.unroll = 1;
	cpu_loop_end(m, &inner, next);
	for (u32 i = 0; i < nacc; i++) {
		const KInst *in = &k->inst.v[reduce[i % nreduce]];
		next[i] = reduce_combine(&b->lanes, in->reduce, in->dtype, outer.carried[i], inner.carried[i]);
	}
	outer.unroll = 1;
	cpu_loop_end(m, &outer, next);
	for (u32 d = r0; d < last; d++)
		b->coord[d] = cpu_i64(m, 0);
	for (u32 v = 0; v < vectors; v++) {
		u32 here = body_mark(b);
		b->coord[last] = cpu_add(m, col, cpu_i64(m, (i64)v * L));
		b->mask = mask[v];
		for (u32 r = 0; r < nreduce; r++) {
			KVal value = { reduce[r] };
			if (body_in_lanes(b, value))
				body_set(b, value, outer.carried[v * nreduce + r], true);
			else /* the operand does not change along the strip: any lane has it */
				body_set(b, value, simd_lane(&b->lanes, outer.carried[v * nreduce + r], 0), false);
		}
		/* a store that is the same for all columns happens once a strip */
		for (u32 i = 1; i < k->inst.n; i++)
			if (k->inst.v[i].op == K_store && (v == 0 || k->inst.v[i].depends >> last & 1))
				body_store(b, i);
		body_release(b, here);
	}
	b->mask = NULL;
	b->vector_dim = NONE;
}

static u32 strip_vectors(const Kernel *k, const CpuMachine *machine)
{
	Arena tmp = ARENA("strip");
	u32 *reduce = NEWN(&tmp, u32, k->inst.n + 1), n = collect_reductions(k, reduce);
	arena_free(&tmp);
	if (n == 1 && k->inst.n <= 60)
		return MIN(WIDE, MAX(STRIP, WIDTH / machine->lanes));
	return n <= 4 && k->inst.n <= 60 ? STRIP : n <= 16 ? 2 : 1;
}

static void emit_column(CpuModule *m, const Kernel *k, Arena *arena, const char *name)
{
	Body b;
	body_begin(&b, m, k, arena, name);
	u32 last = k->ndim - 1, r0 = first_of(k, DIM_REDUCE), vectors = strip_vectors(k, m->machine);
	V width = cpu_i64(m, (i64)vectors * b.lanes.lanes), n = b.extent[last];
	V strips = cpu_div(m, cpu_sub(m, cpu_add(m, n, width), cpu_i64(m, 1)), width);
	body_hoist(&b, 0, NULL);
	CpuLoop task = { 0 };
	cpu_loop_begin(m, &task, b.begin, b.end, cpu_i64(m, 1), 0, NULL);
	u32 mark = body_mark(&b);
	V col = cpu_mul(m, cpu_rem(m, task.index, strips), width);
	body_unflatten(&b, 0, r0, cpu_div(m, task.index, strips));
	body_hoist(&b, (1u << r0) - 1, NULL);
	CpuIf whole = { 0 };
	cpu_if_begin(m, &whole, cpu_less(m, cpu_add(m, col, width), cpu_add(m, n, cpu_i64(m, 1))), 90);
	u32 branch = body_mark(&b);
	column_strip(&b, col, n, vectors, false);
	body_release(&b, branch);
	cpu_if_else(m, &whole);
	column_strip(&b, col, n, vectors, true);
	body_release(&b, branch);
	cpu_if_end(m, &whole, 0, NULL, NULL);
	body_release(&b, mark);
	task.unroll = 1;
	cpu_loop_end(m, &task, NULL);
	body_end(&b);
}

static CountNeeds needs_column(Body *b, const CpuMachine *machine, const Kernel *k, Count phase)
{
	(void)phase;
	CpuModule *m = b ? b->m : NULL;
	Count width = count_of(m, (i64)strip_vectors(k, machine) * machine->lanes), n = count_extent(b, k, k->ndim - 1, k->ndim);
	Count outer = count_extent(b, k, 0, first_of(k, DIM_REDUCE));
	return (CountNeeds){ .phases = count_of(m, 1), .tasks = count_mul(m, outer, count_div_up(m, n, width)) };
}

const CpuKernelClass cpu_column = { .needs = needs_column, .emit = emit_column };

/* ---- SCATTER: phase 0 clears the result, phase 1 adds ---- */

/* Elements [from, to) become zero; `past`: past the caches, where the slot may be written so. */
static void clear_range(Body *b, V from, V to, bool past)
{
	CpuModule *m = b->m;
	DType d = b->k->slot.v[b->k->scatter->slot].dtype;
	LLVMTypeRef element = simd_memory_type(&b->one, d);
	V L = cpu_i64(m, b->lanes.lanes), zero = simd_constant(&b->lanes, d, 0), base = b->slot[b->k->scatter->slot];
	V whole = cpu_add(m, from, cpu_mul(m, cpu_div(m, cpu_sub(m, to, from), L), L));
	CpuLoop main = { 0 }, rest = { 0 };
	cpu_loop_begin(m, &main, from, whole, L, 0, NULL);
	V at = cpu_at(m, element, base, main.index);
	if (past)
		simd_store_stream(&b->lanes, d, zero, at, dtype_info[d].bytes * b->lanes.lanes);
	else
		simd_store(&b->lanes, d, zero, at, 0);
	main.unroll = 4;
	cpu_loop_end(m, &main, NULL);
	cpu_loop_begin(m, &rest, whole, to, L, 0, NULL);
	V mask = simd_mask(&b->lanes, cpu_sub(m, to, rest.index));
	simd_store_masked(&b->lanes, d, zero, cpu_at(m, element, base, rest.index), 0, mask);
	rest.unroll = 1;
	cpu_loop_end(m, &rest, NULL);
}

static void emit_clear(Body *b)
{
	CpuModule *m = b->m;
	u32 slot = b->k->scatter->slot, bytes = dtype_info[b->k->slot.v[slot].dtype].bytes;
	V elements = b->number[kernel_numbers(b->k, NULL) - 1], base = b->slot[slot];
	V large = cpu_less(m, cpu_i64(m, LARGE), cpu_mul(m, elements, cpu_i64(m, bytes)));
	V odd = cpu_rem(m, LLVMBuildPtrToInt(m->builder, base, m->i64, ""), cpu_i64(m, (i64)m->machine->line));
	CpuLoop task = { 0 };
	cpu_loop_begin(m, &task, b->begin, b->end, cpu_i64(m, 1), 0, NULL);
	V from = cpu_mul(m, task.index, cpu_i64(m, CLEAR));
	V to = cpu_min(m, elements, cpu_add(m, from, cpu_i64(m, CLEAR)));
	CpuIf past = { 0 };
	cpu_if_begin(m, &past, LLVMBuildAnd(m->builder, large, cpu_equal(m, odd, cpu_i64(m, 0)), ""), 50);
	clear_range(b, from, to, true);
	cpu_if_else(m, &past);
	clear_range(b, from, to, false);
	cpu_if_end(m, &past, 0, NULL, NULL);
	task.unroll = 1;
	cpu_loop_end(m, &task, NULL);
	simd_store_fence(&b->lanes);
}

static void emit_add(Body *b)
{
	CpuModule *m = b->m;
	const Kernel *k = b->k;
	u32 last = k->ndim - 1, i0 = first_of(k, DIM_INDEX), v0 = first_of(k, DIM_VECTOR), L = b->lanes.lanes;
	DType d = k->slot.v[k->scatter->slot].dtype;
	V n = b->extent[last], width = cpu_i64(m, (i64)STRIP * L);
	V strips = cpu_div(m, cpu_sub(m, cpu_add(m, n, width), cpu_i64(m, 1)), width);
	CpuLoop task = { 0 }, index = { 0 }, lane = { 0 };
	cpu_loop_begin(m, &task, b->begin, b->end, cpu_i64(m, 1), 0, NULL);
	u32 mark = body_mark(b);
	V col = cpu_mul(m, cpu_rem(m, task.index, strips), width), rest = cpu_div(m, task.index, strips);
	/* rows: the PARALLEL dimensions, and VECTOR dimensions before the last */
	V inner = body_product(b, v0, last);
	body_unflatten(b, v0, last, cpu_rem(m, rest, inner));
	body_unflatten(b, 0, i0, cpu_div(m, rest, inner));
	V to = cpu_min(m, n, cpu_add(m, col, width));
	cpu_loop_begin(m, &index, cpu_i64(m, 0), body_product(b, i0, v0), cpu_i64(m, 1), 0, NULL);
	u32 row = body_mark(b);
	body_unflatten(b, i0, v0, index.index);
	b->vector_dim = last;
	body_hoist(b, (1u << last) - 1, NULL);
	cpu_loop_begin(m, &lane, col, to, cpu_i64(m, L), 0, NULL);
	u32 here = body_mark(b);
	b->coord[last] = lane.index;
	b->mask = simd_mask(&b->lanes, cpu_sub(m, to, lane.index));
	/* read, add, write: as a load and a store of the same access */
	assert(!body_in_lanes(b, k->operand[1]) || k->dim[last].extent == 1);
	V at = body_address(b, k->scatter);
	V x = body_vector(b, k->operand[0]);
	V old = simd_load_masked(&b->lanes, d, at, 0, b->mask);
	simd_store_masked(&b->lanes, d, simd_add(&b->lanes, old, x), at, 0, b->mask);
	body_release(b, here);
	b->mask = NULL;
	lane.unroll = 1;
	cpu_loop_end(m, &lane, NULL);
	b->vector_dim = NONE;
	body_release(b, row);
	index.unroll = 1;
	cpu_loop_end(m, &index, NULL);
	body_release(b, mark);
	task.unroll = 1;
	cpu_loop_end(m, &task, NULL);
}

/* Places that change along the lanes (scatter_along over the innermost dimensions): one element at a
 * time, in order. */
static void emit_add_each(Body *b)
{
	CpuModule *m = b->m;
	const Kernel *k = b->k;
	u32 i0 = first_of(k, DIM_INDEX), v0 = first_of(k, DIM_VECTOR);
	DType d = k->slot.v[k->scatter->slot].dtype;
	CpuLoop task = { 0 }, index = { 0 };
	cpu_loop_begin(m, &task, b->begin, b->end, cpu_i64(m, 1), 0, NULL);
	u32 mark = body_mark(b);
	V inner = body_product(b, v0, k->ndim);
	body_unflatten(b, v0, k->ndim, cpu_rem(m, task.index, inner));
	body_unflatten(b, 0, i0, cpu_div(m, task.index, inner));
	cpu_loop_begin(m, &index, cpu_i64(m, 0), body_product(b, i0, v0), cpu_i64(m, 1), 0, NULL);
	u32 here = body_mark(b);
	body_unflatten(b, i0, v0, index.index);
	V at = body_address(b, k->scatter);
	V sum = simd_add(&b->one, simd_load(&b->one, d, at, 0), body_scalar(b, k->operand[0]));
	simd_store(&b->one, d, sum, at, 0);
	body_release(b, here);
	index.unroll = 1;
	cpu_loop_end(m, &index, NULL);
	body_release(b, mark);
	task.unroll = 1;
	cpu_loop_end(m, &task, NULL);
}

/* Do lanes run along the last dimension, over consecutive elements of the result at one place? */
static bool in_lanes(const Kernel *k)
{
	u32 last = k->ndim - 1;
	bool fixed = !(k->inst.v[k->operand[1].i].depends >> last & 1);
	return fixed && k->scatter->stride[last] == 1;
}

static void emit_scatter(CpuModule *m, const Kernel *k, Arena *arena, const char *name)
{
	Body b;
	body_begin(&b, m, k, arena, name);
	CpuIf clear = { 0 };
	cpu_if_begin(m, &clear, cpu_equal(m, b.phase, cpu_i64(m, 0)), 50);
	emit_clear(&b);
	cpu_if_else(m, &clear);
	if (in_lanes(k))
		emit_add(&b);
	else
		emit_add_each(&b);
	cpu_if_end(m, &clear, 0, NULL, NULL);
	body_end(&b);
}

static CountNeeds needs_scatter(Body *b, const CpuMachine *machine, const Kernel *k, Count phase)
{
	CpuModule *m = b ? b->m : NULL;
	u32 last = k->ndim - 1, i0 = first_of(k, DIM_INDEX), v0 = first_of(k, DIM_VECTOR);
	Count elements = { k->slot.v[k->scatter->slot].elements, b ? b->number[kernel_numbers(k, NULL) - 1] : NULL };
	Count clear = k->accumulate ? count_of(m, 0) : count_div_up(m, elements, count_of(m, CLEAR));
	Count columns = count_extent(b, k, last, k->ndim);
	if (in_lanes(k))
		columns = count_div_up(m, columns, count_of(m, (i64)STRIP * machine->lanes));
	Count add = count_mul(m, count_mul(m, count_extent(b, k, 0, i0), count_extent(b, k, v0, last)), columns);
	return (CountNeeds){ .phases = count_of(m, 2), .tasks = count_if_less(m, phase, count_of(m, 1), clear, add) };
}

const CpuKernelClass cpu_scatter = { .needs = needs_scatter, .emit = emit_scatter };
