/* codegen/cpu/columns.c: COLUMN kernels (sums over rows: the gradients of biases and gains) and SCATTER
 * kernels (gradients of embeddings).
 *
 * A sum over rows is taken in blocks of SUM_BLOCK rows, whose sums are then added, in order: the error grows with the number of
 * blocks rather than of rows. Phase 0 makes the sums of blocks, which are in the workspace, and phase 1 adds these. A task has
 * blocks one after the other, and walks their rows whole: what is read lies together, which strips of columns do not, and there
 * are many tasks where columns are few. Which blocks make a task, and how many rows are walked at once, changes no bits.
 * Sums of so few rows that they are one block are in the thread's scratch instead, and phase 0 stores them: what many places have
 * of them may be as large as the operand.
 * (On two Zen 3 cores, 1592 x 32 f32 from memory take 9 us so, in strips of columns 24; two sums of 2021 x 512 260 instead of 440.)
 *
 * A scatter gives a strip of columns to a task, which then walks all rows in order by itself: no partial sums, no atomics. */
#include "codegen/cpu/kernels.h"

#include <string.h>

typedef LLVMValueRef V;

enum {
	STRIP = 4, /* vectors */
	SUM_BLOCK = 64,
	PIECE = 2048, /* columns of a task, at most: of long rows, two pages of each */
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

typedef struct Columns {
	u32 r0, last;         /* dimensions [r0, last) are reduced */
	u32 *reduce, nreduce; /* instructions */
	Count n, rows, outer;
	Count blocks, pieces, strips; /* of a sum: blocks of rows; pieces and strips of columns */
	Count units, each;    /* of phase 0: (outer, block, piece); how many make a task */
	Count totals, some;   /* of phase 1: (outer, strip); likewise */
	Count padded;         /* columns whose sums lie together, to whole vectors */
	i64 bytes;            /* of the sums of one column in one block */
	V sums, first_col;    /* where these lie, and the column that is the first there */
} Columns;

/* What a sum is held in between blocks. */
static DType sum_type(const KInst *in)
{
	return dtype_is_narrow_float((DType)in->dtype) ? DT_f32 : (DType)in->dtype;
}

static Columns columns_of(Body *b, const CpuMachine *machine, const Kernel *k, Arena *arena)
{
	CpuModule *m = b ? b->m : NULL;
	Columns c = { .r0 = first_of(k, DIM_REDUCE), .last = k->ndim - 1, .reduce = NEWN(arena, u32, k->inst.n + 1) };
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_reduce) {
			c.reduce[c.nreduce++] = i;
			c.bytes += dtype_info[sum_type(&k->inst.v[i])].bytes;
		}
	Count one = count_of(m, 1), piece = count_of(m, PIECE), block = count_of(m, SUM_BLOCK), width = count_of(m, STRIP * (i64)machine->lanes);
	c.n = count_extent(b, k, c.last, k->ndim);
	c.rows = count_extent(b, k, c.r0, c.last);
	c.outer = count_extent(b, k, 0, c.r0);
	c.blocks = count_max(m, one, count_div_up(m, c.rows, block));
	c.pieces = count_div_up(m, c.n, piece);
	c.strips = count_div_up(m, c.n, width);
	c.padded = count_round(m, count_if_less(m, one, c.blocks, c.n, count_min(m, c.n, piece)), machine->lanes);
	c.units = count_mul(m, c.outer, count_mul(m, c.blocks, c.pieces));
	c.each = loop_task_rows(m, machine, k, c.units, count_mul(m, count_min(m, c.rows, block), count_min(m, c.n, piece)));
	c.totals = count_mul(m, c.outer, c.strips);
	c.some = loop_task_rows(m, machine, k, c.totals, count_mul(m, c.blocks, width));
	return c;
}

/* Address of the sum `r` of block `block`, of those that lie together, at column `col`. */
static V sum_at(Body *b, const Columns *c, V block, u32 r, V col)
{
	CpuModule *m = b->m;
	i64 before = 0, bytes = dtype_info[sum_type(&b->k->inst.v[c->reduce[r]])].bytes;
	for (u32 i = 0; i < r; i++)
		before += dtype_info[sum_type(&b->k->inst.v[c->reduce[i]])].bytes;
	V row = cpu_add(m, cpu_mul(m, block, cpu_i64(m, c->bytes)), cpu_i64(m, before));
	V along = cpu_mul(m, cpu_sub(m, col, c->first_col), cpu_i64(m, bytes));
	return cpu_at_byte(m, c->sums, cpu_add(m, cpu_mul(m, row, c->padded.v), along));
}

/* Rows are walked one by one, as memory asks ahead best, but where sums would be read and written more often than anything else, and
 * where each row has pages of its own. */
enum { ROWS = 4, NARROW = 64, LONG = 1024 };

/* Rows whose values are at hand while their columns are walked. */
typedef struct Walked {
	u32 n;
	V coord[ROWS][KERNEL_DIMS];
	V *known[ROWS]; /* [inst] what is the same for all columns, or NULL */
} Walked;

/* Adds what rows have at column `col` to their block's sums. */
static void add_vector(Body *b, const Columns *c, const Walked *w, V block, V col, V mask)
{
	const Kernel *k = b->k;
	V *sum = NEWN(b->arena, V, c->nreduce), *at = NEWN(b->arena, V, c->nreduce);
	for (u32 r = 0; r < c->nreduce; r++) {
		at[r] = sum_at(b, c, block, r, col);
		sum[r] = simd_load(&b->lanes, sum_type(&k->inst.v[c->reduce[r]]), at[r], 0);
	}
	b->mask = mask;
	for (u32 g = 0; g < w->n; g++) {
		u32 mark = body_mark(b);
		memcpy(b->coord + c->r0, w->coord[g] + c->r0, (c->last - c->r0) * sizeof *b->coord);
		b->coord[c->last] = col;
		for (u32 i = 1; i < k->inst.n; i++)
			if (w->known[g][i] && !b->scalar[i])
				body_set(b, (KVal){ i }, w->known[g][i], false);
		for (u32 r = 0; r < c->nreduce; r++) {
			const KInst *in = &k->inst.v[c->reduce[r]];
			sum[r] = reduce_combine(&b->lanes, in->reduce, in->dtype, sum[r], body_vector(b, in->in[0]));
		}
		body_release(b, mark);
	}
	b->mask = NULL;
	for (u32 r = 0; r < c->nreduce; r++)
		simd_store(&b->lanes, sum_type(&k->inst.v[c->reduce[r]]), sum[r], at[r], 0);
}

/* Rows [begin, end) of a block, `n` at once, which divides how many they are, and their columns [from, to). coord: in and out, that of
 * the row; it is counted from row to row. */
static void add_rows(Body *b, const Columns *c, u32 n, V begin, V end, V block, V from, V to, V *coord)
{
	CpuModule *m = b->m;
	const Kernel *k = b->k;
	u32 L = b->lanes.lanes, ncoord = c->last - c->r0, pair = 2 * L;
	V unit[KERNEL_DIMS];
	body_unit(b, c->r0, c->last, unit);
	Walked w = { .n = n };
	CpuLoop rows = { 0 }, whole = { 0 }, rest = { 0 };
	cpu_loop_begin(m, &rows, begin, end, cpu_i64(m, n), ncoord, coord + c->r0);
	memcpy(b->coord + c->r0, rows.carried, ncoord * sizeof *b->coord);
	for (u32 g = 0; g < n; g++) {
		u32 mark = body_mark(b);
		memcpy(w.coord[g], b->coord, sizeof b->coord);
		body_hoist(b, (1u << c->last) - 1, NULL);
		w.known[g] = COPYN(b->arena, V, b->scalar, k->inst.n);
		body_release(b, mark);
		body_advance(b, c->r0, c->last, unit);
	}
	V next[KERNEL_DIMS];
	memcpy(next, b->coord + c->r0, ncoord * sizeof *next);
	V all = cpu_add(m, from, cpu_mul(m, cpu_div(m, cpu_sub(m, to, from), cpu_i64(m, pair)), cpu_i64(m, pair)));
	cpu_loop_begin(m, &whole, from, all, cpu_i64(m, pair), 0, NULL);
	for (u32 v = 0; v < 2; v++)
		add_vector(b, c, &w, block, cpu_add(m, whole.index, cpu_i64(m, (i64)v * L)), NULL);
	whole.unroll = 1;
	cpu_loop_end(m, &whole, NULL);
	cpu_loop_begin(m, &rest, all, to, cpu_i64(m, L), 0, NULL);
	add_vector(b, c, &w, block, rest.index, simd_mask(&b->lanes, cpu_sub(m, to, rest.index)));
	rest.unroll = 1;
	cpu_loop_end(m, &rest, NULL);
	rows.unroll = 1;
	cpu_loop_end(m, &rows, next);
	memcpy(coord + c->r0, rows.carried, ncoord * sizeof *coord);
}

/* Sums of a block of the rows from `row` on, in columns [from, to). */
static void sum_block(Body *b, const Columns *c, V row, V block, V from, V to)
{
	CpuModule *m = b->m;
	const Kernel *k = b->k;
	V end = cpu_min(m, c->rows.v, cpu_add(m, row, cpu_i64(m, SUM_BLOCK)));
	CpuLoop clear = { 0 };
	cpu_loop_begin(m, &clear, from, to, cpu_i64(m, b->lanes.lanes), 0, NULL);
	for (u32 r = 0; r < c->nreduce; r++) {
		const KInst *in = &k->inst.v[c->reduce[r]];
		simd_store(&b->lanes, sum_type(in), reduce_identity(&b->lanes, in->reduce, in->dtype), sum_at(b, c, block, r, clear.index), 0);
	}
	clear.unroll = 1;
	cpu_loop_end(m, &clear, NULL);
	b->vector_dim = c->last;
	body_unflatten(b, c->r0, c->last, row);
	V coord[KERNEL_DIMS];
	memcpy(coord, b->coord, sizeof coord);
	V many = cpu_add(m, row, cpu_mul(m, cpu_div(m, cpu_sub(m, end, row), cpu_i64(m, ROWS)), cpu_i64(m, ROWS)));
	V narrow = cpu_less(m, c->n.v, cpu_i64(m, NARROW + 1)), wide = cpu_less(m, cpu_i64(m, LONG - 1), c->n.v);
	many = LLVMBuildSelect(m->builder, LLVMBuildOr(m->builder, narrow, wide, ""), many, row, "");
	add_rows(b, c, ROWS, row, many, block, from, to, coord);
	add_rows(b, c, 1, many, end, block, from, to, coord);
	b->vector_dim = NONE;
}

/* Stores of a strip from column `col`, whose sums are in sum[reduction * STRIP + vector]. */
static void store_strip(Body *b, const Columns *c, V col, const V *sum, bool masked)
{
	CpuModule *m = b->m;
	const Kernel *k = b->k;
	for (u32 v = 0; v < STRIP; v++) {
		u32 mark = body_mark(b);
		b->coord[c->last] = cpu_add(m, col, cpu_i64(m, (i64)v * b->lanes.lanes));
		b->mask = masked ? simd_mask(&b->lanes, cpu_sub(m, c->n.v, b->coord[c->last])) : NULL;
		for (u32 r = 0; r < c->nreduce; r++) {
			KVal value = { c->reduce[r] };
			V x = sum[r * STRIP + v];
			if (body_in_lanes(b, value))
				body_set(b, value, x, true);
			else /* the operand does not change along the strip: any lane has it */
				body_set(b, value, simd_lane(&b->lanes, x, 0), false);
		}
		/* a store that is the same for all columns happens once a strip */
		for (u32 i = 1; i < k->inst.n; i++)
			if (k->inst.v[i].op == K_store && (v == 0 || k->inst.v[i].depends >> c->last & 1))
				body_store(b, i);
		body_release(b, mark);
	}
	b->mask = NULL;
}

/* Adds the sums of all blocks from `first` on in columns [from, to), and stores what is made of them. */
static void add_blocks(Body *b, const Columns *c, V first, V from, V to)
{
	CpuModule *m = b->m;
	const Kernel *k = b->k;
	V width = cpu_i64(m, STRIP * (i64)b->lanes.lanes), *sum = NEWN(b->arena, V, c->nreduce * STRIP + 1);
	CpuLoop strip = { 0 };
	for (u32 d = c->r0; d < c->last; d++)
		b->coord[d] = cpu_i64(m, 0);
	cpu_loop_begin(m, &strip, from, to, width, 0, NULL);
	u32 mark = body_mark(b);
	for (u32 r = 0; r < c->nreduce; r++) {
		const KInst *in = &k->inst.v[c->reduce[r]];
		V none[STRIP], next[STRIP];
		CpuLoop block = { 0 };
		for (u32 v = 0; v < STRIP; v++)
			none[v] = reduce_identity(&b->lanes, in->reduce, in->dtype);
		cpu_loop_begin(m, &block, first, cpu_add(m, first, c->blocks.v), cpu_i64(m, 1), STRIP, none);
		for (u32 v = 0; v < STRIP; v++) {
			V at = sum_at(b, c, block.index, r, cpu_add(m, strip.index, cpu_i64(m, (i64)v * b->lanes.lanes)));
			next[v] = reduce_combine(&b->lanes, in->reduce, in->dtype, block.carried[v], simd_load(&b->lanes, sum_type(in), at, 0));
		}
		block.unroll = 1;
		cpu_loop_end(m, &block, next);
		memcpy(sum + r * STRIP, block.carried, sizeof next);
	}
	b->vector_dim = c->last;
	CpuIf whole = { 0 };
	cpu_if_begin(m, &whole, cpu_less(m, cpu_add(m, strip.index, width), cpu_add(m, c->n.v, cpu_i64(m, 1))), 90);
	u32 branch = body_mark(b);
	store_strip(b, c, strip.index, sum, false);
	body_release(b, branch);
	cpu_if_else(m, &whole);
	store_strip(b, c, strip.index, sum, true);
	body_release(b, branch);
	cpu_if_end(m, &whole, 0, NULL, NULL);
	b->vector_dim = NONE;
	body_release(b, mark);
	strip.unroll = 1;
	cpu_loop_end(m, &strip, NULL);
}

static void emit_column(CpuModule *m, const Kernel *k, Arena *arena, const char *name)
{
	Body body, *b = &body;
	body_begin(b, m, k, arena, name);
	Columns c = columns_of(b, m->machine, k, arena);
	body_hoist(b, 0, NULL);
#define SELECT(if_, then_, else_) LLVMBuildSelect(m->builder, if_, then_, else_, "")
	V zero = cpu_i64(m, 0), summing = cpu_equal(m, b->phase, zero), once = cpu_less(m, c.blocks.v, cpu_i64(m, 2));
	V all = SELECT(summing, c.units.v, c.totals.v), each = SELECT(summing, c.each.v, c.some.v);
	V parts = SELECT(summing, c.pieces.v, c.strips.v), wide = SELECT(summing, cpu_i64(m, PIECE), cpu_i64(m, STRIP * (i64)b->lanes.lanes));
	CpuLoop unit = { 0 };
	cpu_loop_begin(m, &unit, cpu_mul(m, b->begin, each), cpu_min(m, cpu_mul(m, b->end, each), all), cpu_i64(m, 1), 0, NULL);
	u32 mark = body_mark(b);
	V from = cpu_mul(m, cpu_rem(m, unit.index, parts), wide), to = cpu_min(m, c.n.v, cpu_add(m, from, wide));
	V place = cpu_div(m, unit.index, parts); /* a block, over all outer places; or one of these */
	V outer = SELECT(summing, cpu_div(m, place, c.blocks.v), place);
	c.sums = SELECT(once, b->scratch, b->workspace);
	c.first_col = SELECT(once, from, zero);
	body_unflatten(b, 0, c.r0, outer);
	body_hoist(b, (1u << c.r0) - 1, NULL);
	CpuIf first = { 0 }, last = { 0 };
	cpu_if_begin(m, &first, summing, 50);
	u32 branch = body_mark(b);
	sum_block(b, &c, cpu_mul(m, cpu_rem(m, place, c.blocks.v), cpu_i64(m, SUM_BLOCK)), SELECT(once, zero, place), from, to);
	body_release(b, branch);
	cpu_if_end(m, &first, 0, NULL, NULL);
	cpu_if_begin(m, &last, LLVMBuildOr(m->builder, once, LLVMBuildNot(m->builder, summing, ""), ""), 50);
	add_blocks(b, &c, SELECT(once, zero, cpu_mul(m, outer, c.blocks.v)), from, to);
	cpu_if_end(m, &last, 0, NULL, NULL);
#undef SELECT
	body_release(b, mark);
	unit.unroll = 1;
	cpu_loop_end(m, &unit, NULL);
	body_end(b);
}

static CountNeeds needs_column(Body *b, const CpuMachine *machine, const Kernel *k, Count phase)
{
	CpuModule *m = b ? b->m : NULL;
	Arena tmp = ARENA("columns");
	Columns c = columns_of(b, machine, k, &tmp);
	arena_free(&tmp);
	Count one = count_of(m, 1), none = count_of(m, 0), sums = count_mul(m, c.padded, count_of(m, c.bytes));
	Count spill = count_of(m, STRIP * (i64)machine->lanes * 8); /* strips are read whole */
	Count tasks = count_if_less(m, phase, one, count_div_up(m, c.units, c.each), count_div_up(m, c.totals, c.some));
	Count all = count_add(m, count_mul(m, count_mul(m, c.outer, c.blocks), sums), spill);
	return (CountNeeds){ .phases = count_if_less(m, one, c.blocks, count_of(m, 2), one), .tasks = tasks,
			     .workspace = count_if_less(m, one, c.blocks, all, none),
			     .scratch = count_if_less(m, one, c.blocks, none, count_add(m, sums, spill)) };
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
