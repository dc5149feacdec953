/* codegen/cpu/dot.c: DOT kernels. The product is cut into blocks of (batch, M, K) whose A fits a budget;
 * each block is two phases: its A is packed into the workspace by all threads together, in panels of as
 * many rows as the register tile has; then a task is one panel of B's columns and a piece of the block's
 * rows: it packs its columns of B into its own scratch, cut along K to stay in the cache, and runs the
 * tile down the rows of A. A tile's sum is kept between pieces of K, in scratch or, where K is cut into
 * blocks, in the workspace; with the last piece the epilogue sees the whole sum, still in the cache.
 *
 * Sums are taken in order of k, so neither blocks nor tasks change bits.
 *
 * After Goto and van de Geijn 2008 and Van Zee and van de Geijn, BLIS, 2015. */
#include "codegen/cpu/count.h"
#include "codegen/cpu/kernels.h"
#include "codegen/cpu/panel.h"

#include <string.h>

typedef LLVMValueRef V;

enum {
	BUDGET = 1 << 21,     /* elements of A that a block packs at least, where there are so many */
	LONG_K = 8192,        /* beyond this, K is cut into blocks */
	BLOCK_K = 4096,       /* of at least so many */
	PIECE_K = 800,        /* k in a panel of B, at most */
	PIECE_BYTES = 150 << 10,
	CHUNK_ROWS = 1024,    /* rows of a task, at most */
	FEW_ROWS = 32,        /* and at least: packing B is shared by them */
};

/* ---- the division of work ---- */

typedef struct Division {
	Count B, M, N, K;
	Count tiles, panels; /* of rows of the tile's height; of columns of its width */
	Count ks, nks;       /* k in a block, and how many blocks: at most 4 */
	Count tile_size;     /* elements of a packed tile of a block, with what packing spills */
	Count nb, tb;        /* batch items and tiles of a block */
	Count nbb, nmb;      /* how many blocks of them; no more than 32 blocks in all */
	Count ct;            /* tiles of a task */
} Division;

static i64 ceil_div(i64 a, i64 b)
{
	return (a + b - 1) / b;
}

static i64 piece_k(Tile t)
{
	i64 fit = PIECE_BYTES / (tile_width(t) * (t.dtype == DT_f64 ? 8 : 4));
	return MIN(PIECE_K, fit) / 16 * 16;
}

/* b: NULL where no code is being made. */
static Division divide(Body *b, const CpuMachine *machine, const Kernel *k, Tile t)
{
	CpuModule *m = b ? b->m : NULL;
#define N_(x) count_of(m, (x))
	const DimRole role[] = { DIM_BATCH, DIM_M, DIM_N, DIM_K };
	Count extent[4], one = N_(1);
	for (u32 i = 0; i < 4; i++) {
		Range r = range_of(k, role[i]);
		extent[i] = count_extent(b, k, r.first, r.last);
	}
	Division g = { .B = extent[0], .M = extent[1], .N = extent[2], .K = extent[3] };
	g.tiles = count_div_up(m, g.M, N_(t.rows));
	g.panels = count_div_up(m, g.N, N_(tile_width(t)));
	Count quarter = count_mul(m, count_div_up(m, g.K, N_(64)), N_(16));
	g.ks = count_if_less(m, N_(LONG_K), g.K, count_max(m, quarter, N_(BLOCK_K)), count_max(m, g.K, one));
	g.nks = count_max(m, one, count_div_up(m, g.K, g.ks));
	g.tile_size = count_mul(m, count_add(m, count_round(m, g.ks, 16), N_(PACK_SPILL)), N_(t.rows));
	Count all = count_mul(m, g.tiles, g.tile_size);
	Count parts = count_if_less(m, one, g.nks, N_(2), N_(10));
	Count budget = count_max(m, N_(BUDGET), count_div(m, count_mul(m, g.B, all), parts));
	g.nb = count_max(m, one, count_div(m, budget, count_max(m, all, one)));
	g.nb = count_min(m, count_max(m, g.B, one), g.nb);
	g.tb = count_max(m, one, count_div(m, budget, g.tile_size));
	g.tb = count_min(m, count_max(m, g.tiles, one), g.tb);
	g.nbb = count_div_up(m, g.B, g.nb);
	g.nmb = count_div_up(m, g.tiles, g.tb);
	/* a block's rows are divided only where there would be too few tasks */
	Count columns = count_max(m, one, count_mul(m, g.nb, g.panels));
	Count pieces = count_div_up(m, N_(4 * (i64)machine->cores), columns);
	g.ct = count_max(m, count_div_up(m, g.tb, pieces), count_min(m, g.tb, N_(ceil_div(FEW_ROWS, t.rows))));
	g.ct = count_min(m, g.ct, N_(MAX(1, CHUNK_ROWS / (i64)t.rows)));
	return g;
#undef N_
}

static V code_div_up(CpuModule *m, V a, V b)
{
	return cpu_div(m, cpu_add(m, a, cpu_sub(m, b, cpu_i64(m, 1))), b);
}

static V code_max(CpuModule *m, V a, V b)
{
	return LLVMBuildSelect(m->builder, cpu_less(m, a, b), b, a, "");
}

static Tile tile_of(const CpuMachine *machine, const Kernel *k)
{
	return tile_for(machine, k->compute, range_count(k, range_of(k, DIM_M)),
			range_count(k, range_of(k, DIM_N)));
}

static u64 variant_dot(const CpuMachine *machine, const Kernel *k)
{
	Tile t = tile_of(machine, k);
	return t.rows | t.vectors << 8;
}

static LaunchNeeds needs_dot(const CpuMachine *machine, const Kernel *k)
{
	Tile t = tile_of(machine, k);
	Division g = divide(NULL, machine, k, t);
	u64 bytes = panel_bytes(k->compute), tile = (u64)t.rows * tile_width(t);
	LaunchNeeds n = { 0 };
	u64 a = (u64)(g.nb.n * g.tb.n * g.tile_size.n), c = g.nks.n > 1 ? (u64)(g.nb.n * g.tb.n * g.panels.n) * tile : 0;
	n.workspace = (a + c) * bytes + 64;
	u64 sums = g.nks.n == 1 && g.ks.n > piece_k(t) ? (u64)g.ct.n : 1;
	n.thread_scratch = ((u64)(piece_k(t) + PACK_SPILL) * tile_width(t) + sums * tile) * bytes + 64;
	for (i64 bb = 0; bb < g.nbb.n; bb++)
		for (i64 mb = 0; mb < g.nmb.n; mb++)
			for (i64 kb = 0; kb < g.nks.n; kb++) {
				i64 batch = MIN(g.nb.n, g.B.n - bb * g.nb.n), tiles = MIN(g.tb.n, g.tiles.n - mb * g.tb.n);
				assert(n.nphase + 2 <= KERNEL_PHASES);
				n.tasks[n.nphase++] = batch * tiles;
				n.tasks[n.nphase++] = batch * ceil_div(tiles, g.ct.n) * g.panels.n;
			}
	return n;
}

/* ---- code ---- */

typedef struct Dot {
	Body *b;
	Tile t;
	Division g;
	Range batch, mr, nr, kr;
	Packing left, right;
	V micro;
	/* of the phase */
	V batch0, nbatch, tile0, ntile, k0, k1, last_block, first_block;
} Dot;

static V at_element(Dot *d, V base, V index)
{
	CpuModule *m = d->b->m;
	return cpu_at(m, panel_type(m, d->t.dtype), base, index);
}

static void decode_phase(Dot *d)
{
	CpuModule *m = d->b->m;
	const Division *g = &d->g;
	V block = cpu_div(m, d->b->phase, cpu_i64(m, 2)), kb = cpu_rem(m, block, g->nks.v);
	block = cpu_div(m, block, g->nks.v);
	V mb = cpu_rem(m, block, g->nmb.v), bb = cpu_div(m, block, g->nmb.v);
	d->batch0 = cpu_mul(m, bb, g->nb.v);
	d->nbatch = cpu_min(m, g->nb.v, cpu_sub(m, g->B.v, d->batch0));
	d->tile0 = cpu_mul(m, mb, g->tb.v);
	d->ntile = cpu_min(m, g->tb.v, cpu_sub(m, g->tiles.v, d->tile0));
	d->k0 = cpu_mul(m, kb, g->ks.v);
	d->k1 = cpu_min(m, g->K.v, cpu_add(m, d->k0, g->ks.v));
	d->first_block = cpu_equal(m, kb, cpu_i64(m, 0));
	d->last_block = cpu_equal(m, cpu_add(m, kb, cpu_i64(m, 1)), g->nks.v);
}

/* Batch item `item` of the block: its coordinates, and what depends on them alone. */
static void set_batch(Dot *d, V item)
{
	body_unflatten(d->b, d->batch.first, d->batch.last, cpu_add(d->b->m, d->batch0, item));
	body_hoist(d->b, range_mask(d->batch), NULL);
}

static V packed_tile(Dot *d, V item, V tile)
{
	CpuModule *m = d->b->m;
	V index = cpu_add(m, cpu_mul(m, item, d->g.tb.v), tile);
	return at_element(d, d->b->workspace, cpu_mul(m, index, d->g.tile_size.v));
}

static void emit_pack(Dot *d)
{
	Body *b = d->b;
	CpuModule *m = b->m;
	CpuLoop task = { 0 };
	cpu_loop_begin(m, &task, b->begin, b->end, cpu_i64(m, 1), 0, NULL);
	u32 mark = body_mark(b);
	V tile = cpu_rem(m, task.index, d->ntile), item = cpu_div(m, task.index, d->ntile);
	set_batch(d, item);
	V row = cpu_mul(m, cpu_add(m, d->tile0, tile), cpu_i64(m, d->t.rows));
	pack(b, &d->left, row, d->g.M.v, d->k0, d->k1, packed_tile(d, item, tile));
	body_release(b, mark);
	task.unroll = 1;
	cpu_loop_end(m, &task, NULL);
}

/* Sets the accumulators from a tile's row, at `column`; `mask` lanes of it count. */
static void set_sum(Dot *d, V tile, V row, V column)
{
	Body *b = d->b;
	CpuModule *m = b->m;
	V index = cpu_add(m, cpu_mul(m, row, cpu_i64(m, tile_width(d->t))), column);
	V x = simd_load(&b->lanes, d->t.dtype, at_element(d, tile, index), 0);
	for (u32 i = 1; i < b->k->inst.n; i++)
		if (b->k->inst.v[i].op == K_acc)
			body_set(b, (KVal){ i }, simd_convert(&b->lanes, d->t.dtype, (DType)b->k->inst.v[i].dtype, x),
				 true);
}

static void store_all(Body *b)
{
	for (u32 i = 1; i < b->k->inst.n; i++)
		if (b->k->inst.v[i].op == K_store)
			body_store(b, i);
}

/* Vectors of the tile's row that lie in one run: no masks. */
static void epilogue_strip(Dot *d, const Strip *s, V tile, V row)
{
	Body *b = d->b;
	for (u32 v = 0; v < s->n; v++) {
		u32 mark = body_mark(b);
		strip_set(b, s, d->nr, v);
		set_sum(d, tile, row, cpu_i64(b->m, v * d->t.lanes));
		store_all(b);
		body_release(b, mark);
	}
}

static void epilogue_runs(Dot *d, V n0, V tile, V row)
{
	Body *b = d->b;
	CpuModule *m = b->m;
	Run run = { 0 };
	run_begin(b, &run, d->nr, n0, cpu_min(m, d->g.N.v, cpu_add(m, n0, cpu_i64(m, tile_width(d->t)))));
	CpuLoop lane = { 0 };
	cpu_loop_begin(m, &lane, run.begin, run.end, cpu_i64(m, d->t.lanes), 0, NULL);
	u32 mark = body_mark(b);
	b->mask = simd_mask(&b->lanes, cpu_sub(m, run.end, lane.index));
	b->coord[d->nr.last - 1] = cpu_sub(m, lane.index, run.base);
	set_sum(d, tile, row, cpu_sub(m, lane.index, n0));
	store_all(b);
	b->mask = NULL;
	body_release(b, mark);
	lane.unroll = 1;
	cpu_loop_end(m, &lane, NULL);
	run_end(b, &run);
}

/* The body after the sum, for the rows of a tile that are rows of the result. */
static void epilogue(Dot *d, const Strip *s, V m0, V n0, V tile)
{
	Body *b = d->b;
	CpuModule *m = b->m;
	V rows = cpu_min(m, cpu_i64(m, d->t.rows), cpu_sub(m, d->g.M.v, m0));
	CpuIf whole = { 0 };
	cpu_if_begin(m, &whole, s->whole, 90);
	for (u32 branch = 0; branch < 2; branch++) {
		CpuLoop row = { 0 };
		cpu_loop_begin(m, &row, cpu_i64(m, 0), rows, cpu_i64(m, 1), 0, NULL);
		u32 mark = body_mark(b);
		body_unflatten(b, d->mr.first, d->mr.last, cpu_add(m, m0, row.index));
		body_hoist(b, range_mask(d->batch) | range_mask(d->mr), NULL);
		b->vector_dim = d->nr.last - 1;
		if (branch == 0)
			epilogue_strip(d, s, tile, row.index);
		else
			epilogue_runs(d, n0, tile, row.index);
		b->vector_dim = NONE;
		body_release(b, mark);
		row.unroll = 1;
		cpu_loop_end(m, &row, NULL);
		if (branch == 0)
			cpu_if_else(m, &whole);
	}
	cpu_if_end(m, &whole, 0, NULL, NULL);
}

typedef struct Task {
	V item, panel, tile0, tile1; /* tiles of the block */
	V n0;
	Strip strip;
	V sums, sum_stride;          /* the first tile's, and between tiles */
	V right;                     /* B's panel */
} Task;

/* k in [from, to), all tiles of the task. */
static void emit_piece(Dot *d, Task *t, V from, V to, V more, V last, V next_n, V next_from, V next_to)
{
	Body *b = d->b;
	CpuModule *m = b->m;
	pack(b, &d->right, t->n0, d->g.N.v, from, to, t->right);
	V count = cpu_sub(m, t->tile1, t->tile0);
	CpuLoop tile = { 0 };
	cpu_loop_begin(m, &tile, t->tile0, t->tile1, cpu_i64(m, 1), 0, NULL);
	u32 mark = body_mark(b);
	V i = cpu_sub(m, tile.index, t->tile0);
	pack_prefetch(b, &d->right, next_n, d->g.N.v, next_from, next_to, i, count);
	V left = packed_tile(d, t->item, tile.index);
	left = at_element(d, left, cpu_mul(m, cpu_sub(m, from, d->k0), cpu_i64(m, d->t.rows)));
	V sum = at_element(d, t->sums, cpu_mul(m, i, t->sum_stride));
	cpu_call(m, d->micro, 5, (V[]){ left, t->right, sum, cpu_sub(m, to, from), more });
	CpuIf done = { 0 };
	cpu_if_begin(m, &done, last, 50);
	V m0 = cpu_mul(m, cpu_add(m, d->tile0, tile.index), cpu_i64(m, d->t.rows));
	epilogue(d, &t->strip, m0, t->n0, sum);
	cpu_if_end(m, &done, 0, NULL, NULL);
	body_release(b, mark);
	tile.unroll = 1;
	cpu_loop_end(m, &tile, NULL);
}

static void emit_task(Dot *d, Task *t)
{
	Body *b = d->b;
	CpuModule *m = b->m;
	V one = cpu_i64(m, 1), zero = cpu_i64(m, 0), k = cpu_sub(m, d->k1, d->k0);
	V pieces = code_max(m, one, code_div_up(m, k, cpu_i64(m, piece_k(d->t))));
	/* equal pieces, of whole vectors */
	V piece = code_div_up(m, code_div_up(m, k, pieces), cpu_i64(m, 16));
	piece = cpu_mul(m, code_max(m, piece, one), cpu_i64(m, 16));
	/* where sums stay between pieces */
	V width = cpu_i64(m, (i64)d->t.rows * tile_width(d->t)), cut_k = cpu_less(m, one, d->g.nks.v);
	t->right = b->scratch;
	V in_scratch = at_element(d, b->scratch, cpu_i64(m, (i64)(piece_k(d->t) + PACK_SPILL) * tile_width(d->t)));
	V in_scratch_stride = LLVMBuildSelect(m->builder, cpu_less(m, one, pieces), width, zero, "");
	V a_size = cpu_mul(m, cpu_mul(m, d->g.nb.v, d->g.tb.v), d->g.tile_size.v);
	V index = cpu_add(m, cpu_mul(m, t->item, d->g.tb.v), t->tile0);
	index = cpu_add(m, cpu_mul(m, index, d->g.panels.v), t->panel);
	V in_workspace = at_element(d, b->workspace, cpu_add(m, a_size, cpu_mul(m, index, width)));
	t->sums = LLVMBuildSelect(m->builder, cut_k, in_workspace, in_scratch, "");
	t->sum_stride = LLVMBuildSelect(m->builder, cut_k, cpu_mul(m, d->g.panels.v, width), in_scratch_stride, "");
	strip_make(b, &t->strip, d->nr, t->n0, d->g.N.v, d->t.vectors, d->t.lanes);
	CpuLoop p = { 0 };
	cpu_loop_begin(m, &p, zero, pieces, one, 0, NULL);
	V from = cpu_min(m, d->k1, cpu_add(m, d->k0, cpu_mul(m, p.index, piece)));
	V to = cpu_min(m, d->k1, cpu_add(m, from, piece));
	V first = cpu_equal(m, p.index, zero), end = cpu_equal(m, cpu_add(m, p.index, one), pieces);
	V more = LLVMBuildNot(m->builder, LLVMBuildAnd(m->builder, first, d->first_block, ""), "");
	V last = LLVMBuildAnd(m->builder, end, d->last_block, "");
	/* what is packed next: the next piece of these columns, or the first of the next */
	V beside = cpu_add(m, t->n0, cpu_i64(m, tile_width(d->t)));
	V next_n = LLVMBuildSelect(m->builder, end, beside, t->n0, "");
	V next_from = LLVMBuildSelect(m->builder, end, d->k0, to, "");
	V next_to = cpu_min(m, d->k1, cpu_add(m, next_from, piece));
	emit_piece(d, t, from, to, more, last, next_n, next_from, next_to);
	p.unroll = 1;
	cpu_loop_end(m, &p, NULL);
}

static void emit_multiply(Dot *d)
{
	Body *b = d->b;
	CpuModule *m = b->m;
	V chunks = code_div_up(m, d->ntile, d->g.ct.v);
	CpuLoop task = { 0 };
	cpu_loop_begin(m, &task, b->begin, b->end, cpu_i64(m, 1), 0, NULL);
	u32 mark = body_mark(b);
	Task t = { .panel = cpu_rem(m, task.index, d->g.panels.v) };
	V rest = cpu_div(m, task.index, d->g.panels.v);
	t.item = cpu_div(m, rest, chunks);
	t.tile0 = cpu_mul(m, cpu_rem(m, rest, chunks), d->g.ct.v);
	t.tile1 = cpu_min(m, d->ntile, cpu_add(m, t.tile0, d->g.ct.v));
	t.n0 = cpu_mul(m, t.panel, cpu_i64(m, tile_width(d->t)));
	set_batch(d, t.item);
	emit_task(d, &t);
	body_release(b, mark);
	task.unroll = 1;
	cpu_loop_end(m, &task, NULL);
}

static void emit_dot(CpuModule *m, const Kernel *k, Arena *arena, const char *name)
{
	Body b;
	Dot d = { .b = &b, .t = tile_of(m->machine, k) };
	d.micro = tile_function(m, arena_printf(arena, "%s.tile", name), d.t);
	body_begin(&b, m, k, arena, name);
	b.lanes.lanes = d.t.lanes;
	d.batch = range_of(k, DIM_BATCH);
	d.mr = range_of(k, DIM_M);
	d.nr = range_of(k, DIM_N);
	d.kr = range_of(k, DIM_K);
	d.left = packing_of(&b, k->operand[0], d.mr, d.kr, d.t.rows, k->compute, d.t.lanes);
	d.right = packing_of(&b, k->operand[1], d.nr, d.kr, tile_width(d.t), k->compute, d.t.lanes);
	d.g = divide(&b, m->machine, k, d.t);
	decode_phase(&d);
	body_hoist(&b, 0, NULL);
	CpuIf odd = { 0 };
	cpu_if_begin(m, &odd, cpu_equal(m, cpu_rem(m, b.phase, cpu_i64(m, 2)), cpu_i64(m, 0)), 50);
	u32 mark = body_mark(&b);
	emit_pack(&d);
	body_release(&b, mark);
	cpu_if_else(m, &odd);
	emit_multiply(&d);
	body_release(&b, mark);
	cpu_if_end(m, &odd, 0, NULL, NULL);
	body_end(&b);
}

const CpuKernelClass cpu_dot = { .needs = needs_dot, .emit = emit_dot, .variant = variant_dot };
