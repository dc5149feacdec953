/* codegen/cpu/grouped.c: GROUPED and GROUPED_WEIGHTS kernels: the products of a mixture of experts, whose
 * rows are sorted by group. As a DOT, the left operand is packed in tiles of rows by all threads together,
 * in blocks that fit a budget; then a task is a panel of columns of one group: it finds out where its group
 * is, and multiplies the tiles that hold rows of it (GROUPED), or all tiles over the group's stretch of K
 * (GROUPED_WEIGHTS). Nothing is padded but the tiles on a group's two edges, which both neighbours multiply.
 *
 * Rows of no group are zero: those before a group are its task's, those after the last one a task's of
 * their own. Where offsets do not rise, a row belongs to the first group that claims it, and no row to two.
 *
 * After Gale et al., MegaBlocks, 2023. */
#include "codegen/cpu/count.h"
#include "codegen/cpu/kernels.h"
#include "codegen/cpu/panel.h"

typedef LLVMValueRef V;

enum {
	BUDGET = 1 << 22,  /* elements of the left operand that a block packs */
	CHUNK_ROWS = 1024, /* rows that a panel of columns is kept for, at most */
};

typedef struct Division {
	ProductSize of;
	Count tile_size;     /* elements of a packed tile, with what packing spills */
	Count tb, nmb;       /* tiles of a block; blocks */
	Count chunk;         /* tiles of a chunk */
	Count groups;        /* that tasks are made of: one more for what is after the last */
} Division;

static bool of_weights(const Kernel *k)
{
	return k->class == KERNEL_GROUPED_WEIGHTS;
}

/* b: NULL where no code is being made. */
static Division divide(Body *b, const Kernel *k, Tile t)
{
	CpuModule *m = b ? b->m : NULL;
#define N_(x) count_of(m, (x))
	Count one = N_(1);
	Division g = { .of = product_size(b, k, t, DIM_G) };
	g.tile_size = packed_tile(m, t, g.of.K);
	g.tb = count_max(m, count_div(m, N_(BUDGET), g.tile_size), count_div_up(m, g.of.tiles, N_(KERNEL_PHASES / 2)));
	g.tb = count_min(m, count_max(m, g.of.tiles, one), count_max(m, g.tb, one));
	g.nmb = count_div_up(m, g.of.tiles, g.tb);
	g.chunk = count_min(m, g.tb, N_(MAX(1, CHUNK_ROWS / (i64)t.rows)));
	g.groups = of_weights(k) ? g.of.outer : count_add(m, g.of.outer, one);
	return g;
#undef N_
}

/* A tile for the rows of a group, on average. */
static Tile tile_of(const CpuMachine *machine, const Kernel *k)
{
	i64 M = range_count(k, range_of(k, DIM_M)), G = range_count(k, range_of(k, DIM_G));
	i64 rows = of_weights(k) ? M : M / MAX(G, 1);
	Tile t = product_tile(machine, k->compute, MAX(rows, 1), range_count(k, range_of(k, DIM_N)));
	/* a group's stretch of K may begin at an odd row */
	t.pairs = !of_weights(k) && tile_pairs(machine, k, range_of(k, DIM_K));
	return t;
}

static u64 variant_grouped(const CpuMachine *machine, const Kernel *k)
{
	Tile t = tile_of(machine, k);
	return t.rows | t.vectors << 8 | (u64)t.pairs << 16;
}

static CountNeeds needs_grouped(Body *b, const CpuMachine *machine, const Kernel *k, Count phase)
{
	CpuModule *m = b ? b->m : NULL;
	Tile t = tile_of(machine, k);
	Division g = divide(b, k, t);
	Count one = count_of(m, 1), two = count_of(m, 2), bytes = count_of(m, panel_bytes(k->compute));
	Count tile0 = count_mul(m, count_div(m, phase, two), g.tb), pack = count_min(m, g.tb, count_sub(m, g.of.tiles, tile0));
	return (CountNeeds){
		.workspace = count_add(m, count_mul(m, count_mul(m, g.tb, g.tile_size), bytes), count_of(m, 64)),
		.scratch = product_scratch(m, machine, t, one, g.chunk, g.of.K),
		.phases = count_mul(m, two, g.nmb),
		.tasks = count_if_less(m, count_rem(m, phase, two), one, pack, count_mul(m, g.groups, g.of.panels)),
	};
}

/* ---- code ---- */

typedef struct Grouped {
	Division g;
	Range gr;
	Packing left;
	Product p;
	/* of the phase */
	V tile0, ntile, row_begin, row_end; /* the block's tiles and rows */
} Grouped;

static void decode_phase(Grouped *d)
{
	CpuModule *m = d->p.b->m;
	V block = cpu_div(m, d->p.b->phase, cpu_i64(m, 2)), rows = cpu_i64(m, d->p.t.rows);
	d->tile0 = cpu_mul(m, block, d->g.tb.v);
	d->ntile = cpu_min(m, d->g.tb.v, cpu_sub(m, d->g.of.tiles.v, d->tile0));
	d->row_begin = cpu_mul(m, d->tile0, rows);
	d->row_end = cpu_min(m, d->g.of.M.v, cpu_mul(m, cpu_add(m, d->tile0, d->ntile), rows));
}

static void emit_pack(Grouped *d)
{
	Body *b = d->p.b;
	CpuModule *m = b->m;
	CpuLoop task = { 0 };
	cpu_loop_begin(m, &task, b->begin, b->end, cpu_i64(m, 1), 0, NULL);
	u32 mark = body_mark(b);
	V row = cpu_mul(m, cpu_add(m, d->tile0, task.index), cpu_i64(m, d->p.t.rows));
	V to = cpu_at(m, panel_type(m, b->k->compute), b->workspace, cpu_mul(m, task.index, d->g.tile_size.v));
	pack(b, &d->left, row, d->g.of.M.v, cpu_i64(m, 0), d->g.of.K.v, to);
	body_release(b, mark);
	task.unroll = 1;
	cpu_loop_end(m, &task, NULL);
}

/* Where group `g` begins or ends (operand 2 or 3), not below `low`, not beyond `most`. */
static V bound(Grouped *d, u32 operand, V g, V low, V most)
{
	Body *b = d->p.b;
	u32 mark = body_mark(b);
	b->coord[d->gr.first] = g;
	KVal v = b->k->operand[operand];
	V x = simd_convert(&b->one, (DType)b->k->inst.v[v.i].dtype, DT_i64, body_scalar(b, v));
	body_release(b, mark);
	return cpu_max(b->m, low, cpu_min(b->m, x, most));
}

typedef struct Bounds {
	V free, from, to; /* rows [free, from) are of no group, rows [from, to) of this one */
} Bounds;

static Bounds group_rows(Grouped *d, V g)
{
	CpuModule *m = d->p.b->m;
	V zero = cpu_i64(m, 0), one = cpu_i64(m, 1), M = d->g.of.M.v, start[] = { zero, zero, zero };
	CpuLoop l = { 0 };
	cpu_loop_begin(m, &l, zero, cpu_min(m, d->g.of.outer.v, cpu_add(m, g, one)), one, 3, start);
	V before = l.carried[2], from = bound(d, 2, l.index, before, M), to = bound(d, 3, l.index, from, M);
	l.unroll = 1;
	cpu_loop_end(m, &l, (V[]){ before, from, to });
	/* past the last group */
	V past = cpu_less(m, cpu_sub(m, d->g.of.outer.v, one), g);
	return (Bounds){ LLVMBuildSelect(m->builder, past, l.carried[2], l.carried[0], ""),
			 LLVMBuildSelect(m->builder, past, M, l.carried[1], ""),
			 LLVMBuildSelect(m->builder, past, M, l.carried[2], "") };
}

/* Rows of no group. */
static void emit_zeros(Grouped *d, V from, V to)
{
	Product *p = &d->p;
	Body *b = p->b;
	CpuModule *m = b->m;
	CpuIf some = { 0 };
	cpu_if_begin(m, &some, cpu_less(m, from, to), 10);
	V tile = product_sums(p), rows = cpu_i64(m, p->t.rows), zero = cpu_i64(m, 0);
	for (u32 i = 0; i < p->t.rows * p->t.vectors; i++)
		simd_store(&b->lanes, p->t.dtype, simd_constant(&b->lanes, p->t.dtype, 0),
			   cpu_at(m, panel_type(m, p->t.dtype), tile, cpu_i64(m, i * p->t.lanes)), 0);
	Strip strip;
	strip_make(b, &strip, p->nr, p->n0, p->N, p->t.vectors, p->t.lanes, p->run);
	CpuLoop l = { 0 };
	cpu_loop_begin(m, &l, from, to, rows, 0, NULL);
	u32 mark = body_mark(b);
	product_results(p, &strip, l.index, zero, cpu_min(m, rows, cpu_sub(m, to, l.index)), tile);
	body_release(b, mark);
	l.unroll = 1;
	cpu_loop_end(m, &l, NULL);
	cpu_if_end(m, &some, 0, NULL, NULL);
}

/* Rows [from, to) of the block's, k as set. */
static void emit_rows(Grouped *d, V from, V to)
{
	Product *p = &d->p;
	CpuModule *m = p->b->m;
	V rows = cpu_i64(m, p->t.rows), first = cpu_div(m, cpu_sub(m, from, d->row_begin), rows);
	V last = cpu_div_up(m, cpu_sub(m, to, d->row_begin), rows);
	CpuIf some = { 0 };
	cpu_if_begin(m, &some, cpu_less(m, from, to), 50);
	p->row0 = d->row_begin;
	p->row_begin = from;
	p->row_end = to;
	CpuLoop chunk = { 0 };
	cpu_loop_begin(m, &chunk, first, last, d->g.chunk.v, 0, NULL);
	u32 mark = body_mark(p->b);
	p->tile0 = chunk.index;
	p->tile1 = cpu_min(m, last, cpu_add(m, chunk.index, d->g.chunk.v));
	product(p);
	body_release(p->b, mark);
	chunk.unroll = 1;
	cpu_loop_end(m, &chunk, NULL);
	cpu_if_end(m, &some, 0, NULL, NULL);
}

static void emit_multiply(Grouped *d)
{
	Product *p = &d->p;
	Body *b = p->b;
	CpuModule *m = b->m;
	V zero = cpu_i64(m, 0), last = cpu_max(m, zero, cpu_sub(m, d->g.of.outer.v, cpu_i64(m, 1)));
	CpuLoop task = { 0 };
	cpu_loop_begin(m, &task, b->begin, b->end, cpu_i64(m, 1), 0, NULL);
	u32 mark = body_mark(b);
	V g = cpu_div(m, task.index, d->g.of.panels.v);
	p->n0 = cpu_mul(m, cpu_rem(m, task.index, d->g.of.panels.v), cpu_i64(m, tile_width(p->t)));
	p->left = b->workspace;
	p->tile_size = d->g.tile_size.v;
	p->left_k = zero;
	Bounds r = { 0 };
	if (of_weights(b->k)) {
		p->k0 = bound(d, 2, g, zero, d->g.of.K.v);
		p->k1 = bound(d, 3, g, p->k0, d->g.of.K.v);
	} else {
		p->k0 = zero;
		p->k1 = d->g.of.K.v;
		r = group_rows(d, g);
	}
	b->coord[d->gr.first] = cpu_min(m, g, last);
	body_hoist(b, range_mask(d->gr), NULL);
	if (of_weights(b->k)) {
		emit_rows(d, d->row_begin, d->row_end);
	} else {
		emit_zeros(d, cpu_max(m, r.free, d->row_begin), cpu_min(m, r.from, d->row_end));
		emit_rows(d, cpu_max(m, r.from, d->row_begin), cpu_min(m, r.to, d->row_end));
	}
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
	Grouped d = { .gr = range_of(k, DIM_G) };
	d.p = product_open(b, t, *(const V *)tile, DIM_G, &d.left);
	d.g = divide(b, k, t);
	d.p.N = d.g.of.N.v;
	d.p.panels = cpu_i64(m, 1);
	decode_phase(&d);
	body_hoist(b, 0, NULL);
	if (kind == 0)
		emit_pack(&d);
	else
		emit_multiply(&d);
}

static u32 tiles_of_grouped(const CpuMachine *machine, const Kernel *k, Tile tile[CPU_TILES])
{
	tile[0] = tile_of(machine, k);
	return 1;
}

static void emit_grouped(CpuModule *m, const Kernel *k, Arena *arena, const char *name)
{
	V tile = tile_function(m, tile_of(m->machine, k));
	body_phases(m, k, arena, name, 2, emit_phase, &tile);
}

const CpuKernelClass cpu_grouped = { .needs = needs_grouped, .emit = emit_grouped, .variant = variant_grouped,
				     .tiles = tiles_of_grouped };
const CpuKernelClass cpu_grouped_weights = { .needs = needs_grouped, .emit = emit_grouped,
					     .variant = variant_grouped, .tiles = tiles_of_grouped };
