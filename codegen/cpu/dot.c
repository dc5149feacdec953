/* codegen/cpu/dot.c: DOT kernels. The product is cut into blocks of (batch, M, K) whose A fits a budget;
 * each block is two phases: its A is packed into the workspace by all threads together, in panels of as
 * many rows as the register tile has; then a task is some panels of B's columns and a piece of the block's
 * rows, which is a product (product.c). Where K is cut into blocks, sums are kept in the workspace.
 *
 * Sums are taken in order of k, so neither blocks nor tasks change bits. Products of few rows have code of their own
 * (thin.c), and so have those of few results (deep.c).
 *
 * After Goto and van de Geijn 2008 and Van Zee and van de Geijn, BLIS, 2015. */
#include "codegen/cpu/count.h"
#include "codegen/cpu/deep.h"
#include "codegen/cpu/kernels.h"
#include "codegen/cpu/panel.h"
#include "codegen/cpu/thin.h"

typedef LLVMValueRef V;

enum {
	BUDGET = 1 << 21,     /* elements of A that a block packs at least, where there are so many */
	LONG_K = 8192,        /* beyond this, K is cut into blocks */
	BLOCK_K = 4096,       /* of at least so many: what is packed is still in the last cache when it is read */
	MOST_K = 8,           /* at most so many blocks: phases are limited */
	FEW_ROWS = 32,        /* of a task, at least: packing B is shared by them */
};

/* ---- the division of work ---- */

typedef struct Division {
	ProductSize of;
	Count ks, nks;       /* k in a block, and how many blocks: at most MOST_K */
	Count tile_size;     /* elements of a packed tile of a block, with what packing spills */
	Count nb, tb;        /* batch items and tiles of a block */
	Count nbb, nmb;      /* how many blocks of them; no more than 32 blocks in all */
	Count ct, cp;        /* tiles and panels of a task */
	Count groups;        /* of panels */
	Count tp;            /* tiles that are packed together */
} Division;

/* b: NULL where no code is being made. */
static Division divide(Body *b, const CpuMachine *machine, const Kernel *k, Tile t)
{
	CpuModule *m = b ? b->m : NULL;
#define N_(x) count_of(m, (x))
	Count one = N_(1);
	Division g = { .of = product_size(b, k, t, DIM_BATCH) };
	Count part = count_mul(m, count_div_up(m, g.of.K, N_(16 * MOST_K)), N_(16));
	g.ks = count_if_less(m, N_(LONG_K), g.of.K, count_max(m, part, N_(BLOCK_K)), count_max(m, g.of.K, one));
	g.nks = count_max(m, one, count_div_up(m, g.of.K, g.ks));
	g.tile_size = packed_tile(m, t, g.ks);
	Count all = count_mul(m, g.of.tiles, g.tile_size);
	Count parts = count_if_less(m, one, g.nks, N_(2), N_(10));
	Count budget = count_max(m, N_(BUDGET), count_div(m, count_mul(m, g.of.outer, all), parts));
	g.nb = count_max(m, one, count_div(m, budget, count_max(m, all, one)));
	g.nb = count_min(m, count_max(m, g.of.outer, one), g.nb);
	g.tb = count_max(m, one, count_div(m, budget, g.tile_size));
	g.tb = count_min(m, count_max(m, g.of.tiles, one), g.tb);
	g.nbb = count_div_up(m, g.of.outer, g.nb);
	g.nmb = count_div_up(m, g.of.tiles, g.tb);
	/* a block's rows are divided only where there would be too few tasks */
	Count columns = count_max(m, one, count_mul(m, g.nb, g.of.panels));
	Count pieces = count_div_up(m, N_(4 * (i64)machine->cores), columns);
	g.ct = count_max(m, count_div_up(m, g.tb, pieces), count_min(m, g.tb, N_((FEW_ROWS + t.rows - 1) / t.rows)));
	/* of equal pieces: threads get equal numbers of tasks, so a short last piece would let one of them idle */
	Count longest = count_min(m, g.ct, N_(MAX(1, blocks_for(machine, t).rows / (i64)t.rows)));
	g.ct = count_div_up(m, g.tb, count_div_up(m, g.tb, longest));
	/* and neighbouring panels are one task's where there are many */
	Count each = count_div(m, columns, N_(4 * (i64)machine->cores));
	g.cp = count_max(m, one, count_min(m, each, N_(blocks_for(machine, t).panels)));
	g.groups = count_div_up(m, g.of.panels, g.cp);
	Count few = count_div(m, count_mul(m, g.nb, g.tb), N_(4 * (i64)machine->cores));
	g.tp = count_max(m, one, count_min(m, few, N_(tiles_together(t))));
	return g;
#undef N_
}

static Tile tile_of(const CpuMachine *machine, const Kernel *k)
{
	Tile t = product_tile(machine, k->compute, range_count(k, range_of(k, DIM_M)), range_count(k, range_of(k, DIM_N)));
	t.pairs = tile_pairs(machine, k, range_of(k, DIM_K));
	return t;
}

static u64 variant_dot(const CpuMachine *machine, const Kernel *k)
{
	if (dot_is_thin(machine, k))
		return thin_variant(machine, k);
	Tile t = tile_of(machine, k);
	Range kr = range_of(k, DIM_K);
	u64 left = packing_variant(k, k->operand[0], range_of(k, DIM_M), kr, t.rows, t.lanes);
	u64 right = packing_variant(k, k->operand[1], range_of(k, DIM_N), kr, tile_width(t), t.lanes);
	return (u64)dot_is_deep(k) << 62 | t.rows | t.vectors << 8 | (u64)t.pairs << 16 | left << 24 | right << 32;
}

static u32 tiles_of_dot(const CpuMachine *machine, const Kernel *k, Tile tile[CPU_TILES])
{
	if (dot_is_thin(machine, k))
		return 0;
	tile[0] = tile_of(machine, k);
	return 1;
}

/* A block of the work, whose two phases are 2 * block and 2 * block + 1. */
typedef struct Block {
	Count kb, batch0, nbatch, tile0, ntile; /* which cut of K; items; tiles of rows */
} Block;

static Block block_of(CpuModule *m, const Division *g, Count phase)
{
	Count block = count_div(m, phase, count_of(m, 2)), one = count_of(m, 1), zero = count_of(m, 0);
	Count nks = count_max(m, g->nks, one), nmb = count_max(m, g->nmb, one);
	Block x = { .kb = count_rem(m, block, nks) };
	block = count_div(m, block, nks);
	x.batch0 = count_mul(m, count_div(m, block, nmb), g->nb);
	x.nbatch = count_max(m, zero, count_min(m, g->nb, count_sub(m, g->of.outer, x.batch0)));
	x.tile0 = count_mul(m, count_rem(m, block, nmb), g->tb);
	x.ntile = count_min(m, g->tb, count_sub(m, g->of.tiles, x.tile0));
	return x;
}

static CountNeeds needs_dot(Body *b, const CpuMachine *machine, const Kernel *k, Count phase)
{
	if (dot_is_thin(machine, k))
		return thin_needs(b, machine, k);
	CpuModule *m = b ? b->m : NULL;
	Tile t = tile_of(machine, k);
	if (dot_is_deep(k))
		return deep_needs(b, machine, k, t, phase);
	Division g = divide(b, machine, k, t);
	Block x = block_of(m, &g, phase);
	Count one = count_of(m, 1), two = count_of(m, 2), items = count_mul(m, g.nb, g.tb), tile = count_of(m, (i64)t.rows * tile_width(t));
	Count sums = count_if_less(m, one, g.nks, count_mul(m, count_mul(m, items, g.of.panels), tile), count_of(m, 0));
	Count bytes = count_mul(m, count_add(m, count_mul(m, items, g.tile_size), sums), count_of(m, panel_bytes(k->compute)));
	Count odd = count_rem(m, phase, two);
	Count pack = count_div_up(m, x.ntile, g.tp), multiply = count_mul(m, count_div_up(m, x.ntile, g.ct), g.groups);
	return (CountNeeds){
		.workspace = count_add(m, bytes, count_of(m, 64)),
		.scratch = product_scratch(m, machine, t, g.cp, count_if_less(m, one, g.nks, one, g.ct), g.ks),
		.phases = count_mul(m, two, count_mul(m, count_mul(m, g.nbb, g.nmb), g.nks)),
		.tasks = count_mul(m, x.nbatch, count_if_less(m, odd, one, pack, multiply)),
	};
}

/* ---- code ---- */

typedef struct Dot {
	Division g;
	Range batch;
	Packing left;
	Product p; /* its columns are the right operand's */
	/* of the phase */
	V batch0, tile0, ntile;
} Dot;

static V at_element(Dot *d, V base, V index)
{
	CpuModule *m = d->p.b->m;
	return cpu_at(m, panel_type(m, d->p.t.dtype), base, index);
}

static void decode_phase(Dot *d)
{
	CpuModule *m = d->p.b->m;
	const Division *g = &d->g;
	Block x = block_of(m, g, (Count){ 0, d->p.b->phase });
	V kb = x.kb.v;
	d->batch0 = x.batch0.v;
	d->tile0 = x.tile0.v;
	d->ntile = x.ntile.v;
	d->p.left_k = d->p.k0 = cpu_mul(m, kb, g->ks.v);
	d->p.k1 = cpu_min(m, g->of.K.v, cpu_add(m, d->p.k0, g->ks.v));
	d->p.keep = cpu_less(m, cpu_i64(m, 1), g->nks.v);
	d->p.first = cpu_equal(m, kb, cpu_i64(m, 0));
	d->p.last = cpu_equal(m, cpu_add(m, kb, cpu_i64(m, 1)), g->nks.v);
}

/* Batch item `item` of the block: its coordinates, and what depends on them alone. */
static void set_batch(Dot *d, V item)
{
	body_unflatten(d->p.b, d->batch.first, d->batch.last, cpu_add(d->p.b->m, d->batch0, item));
	body_hoist(d->p.b, range_mask(d->batch), NULL);
}

/* Where the block's tiles of an item are. */
static V packed_item(Dot *d, V item)
{
	return at_element(d, d->p.b->workspace, cpu_mul(d->p.b->m, cpu_mul(d->p.b->m, item, d->g.tb.v), d->g.tile_size.v));
}

static void emit_pack(Dot *d)
{
	Body *b = d->p.b;
	CpuModule *m = b->m;
	CpuLoop task = { 0 };
	cpu_loop_begin(m, &task, b->begin, b->end, cpu_i64(m, 1), 0, NULL);
	u32 mark = body_mark(b);
	V groups = cpu_div_up(m, d->ntile, d->g.tp.v), item = cpu_div(m, task.index, groups);
	V tile = cpu_mul(m, cpu_rem(m, task.index, groups), d->g.tp.v);
	V count = cpu_min(m, d->g.tp.v, cpu_sub(m, d->ntile, tile));
	set_batch(d, item);
	V row = cpu_mul(m, cpu_add(m, d->tile0, tile), cpu_i64(m, d->p.t.rows));
	V to = at_element(d, packed_item(d, item), cpu_mul(m, tile, d->g.tile_size.v));
	pack_panels(b, &d->left, row, d->g.of.M.v, d->p.k0, d->p.k1, to, tiles_together(d->p.t), count,
		    d->g.tile_size.v);
	body_release(b, mark);
	task.unroll = 1;
	cpu_loop_end(m, &task, NULL);
}

static void emit_multiply(Dot *d)
{
	Product *p = &d->p;
	Body *b = p->b;
	CpuModule *m = b->m;
	V chunks = cpu_div_up(m, d->ntile, d->g.ct.v), rows = cpu_i64(m, p->t.rows);
	CpuLoop task = { 0 };
	cpu_loop_begin(m, &task, b->begin, b->end, cpu_i64(m, 1), 0, NULL);
	u32 mark = body_mark(b);
	V panel = cpu_mul(m, cpu_rem(m, task.index, d->g.groups.v), d->g.cp.v);
	V rest = cpu_div(m, task.index, d->g.groups.v);
	V item = cpu_div(m, rest, chunks);
	p->tile0 = cpu_mul(m, cpu_rem(m, rest, chunks), d->g.ct.v);
	p->tile1 = cpu_min(m, d->ntile, cpu_add(m, p->tile0, d->g.ct.v));
	p->n0 = cpu_mul(m, panel, cpu_i64(m, tile_width(p->t)));
	p->panels = cpu_min(m, d->g.cp.v, cpu_sub(m, d->g.of.panels.v, panel));
	set_batch(d, item);
	p->left = packed_item(d, item);
	p->row_begin = p->row0 = cpu_mul(m, d->tile0, rows);
	/* where K is cut, sums stay in the workspace: after A, those of each tile and panel */
	V size = cpu_i64(m, (i64)p->t.rows * tile_width(p->t)), a = cpu_mul(m, d->g.nb.v, d->g.tb.v);
	V index = cpu_mul(m, cpu_add(m, cpu_mul(m, item, d->g.tb.v), p->tile0), d->g.of.panels.v);
	index = cpu_mul(m, cpu_add(m, index, panel), size);
	p->sums = at_element(d, b->workspace, cpu_add(m, cpu_mul(m, a, d->g.tile_size.v), index));
	p->sum_stride = cpu_mul(m, d->g.of.panels.v, size);
	product(p);
	body_release(b, mark);
	task.unroll = 1;
	cpu_loop_end(m, &task, NULL);
}

/* Of both kinds of phases; tile: its function. */
static void emit_phase(Body *b, u32 kind, const void *tile)
{
	CpuModule *m = b->m;
	const Kernel *k = b->k;
	Tile t = tile_of(m->machine, k);
	Dot d = { .batch = range_of(k, DIM_BATCH) };
	d.p = product_open(b, t, *(const V *)tile, DIM_BATCH, &d.left);
	d.g = divide(b, m->machine, k, t);
	d.p.N = d.g.of.N.v;
	d.p.run = product_run(b, d.p.nr);
	d.p.row_end = d.g.of.M.v;
	d.p.tile_size = d.g.tile_size.v;
	decode_phase(&d);
	body_hoist(b, 0, NULL);
	if (kind == 0)
		emit_pack(&d);
	else
		emit_multiply(&d);
}

static void emit_dot(CpuModule *m, const Kernel *k, Arena *arena, const char *name)
{
	if (dot_is_thin(m->machine, k)) {
		thin_emit(m, k, arena, name);
		return;
	}
	Tile t = tile_of(m->machine, k);
	if (dot_is_deep(k)) {
		deep_emit(m, k, arena, name, t);
		return;
	}
	V tile = tile_function(m, t);
	body_phases(m, k, arena, name, 2, emit_phase, &tile);
}

const CpuKernelClass cpu_dot = { .needs = needs_dot, .emit = emit_dot, .variant = variant_dot, .tiles = tiles_of_dot };
