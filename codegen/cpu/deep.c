/* codegen/cpu/deep.c: DOT kernels of few results and long sums, as gradients of small weights are: convolutions' over all places of all
 * images, adapters' over all tokens. Their results are too few to be divided among threads, so the sum is.
 *
 * K is cut into parts, by its length alone: how many threads there are changes no bits. A task of phase 0 has a part for all results,
 * which is taken in order of k: both operands are packed in the thread's scratch, each element once, piece by piece, and what comes out is
 * in the workspace. Phase 1 adds the parts in order, and the body sees the sums, as behind any product. */
#include "codegen/cpu/deep.h"

typedef LLVMValueRef V;

enum {
	MOST_RESULTS = 1 << 14, /* more are enough tasks by themselves */
	MOST_SIDES = 512,       /* rows and columns together: pieces of both are in the second cache */
	LEAST_K = 1024,
	PART_K = 512,           /* at most, while there are fewer parts than the most; writing and adding sums is a small part of a part */
	ROUND = 4,              /* parts are a multiple of so many, for threads to have equal work */
	MOST_PARTS = 64,
};

bool dot_is_deep(const Kernel *k)
{
	i64 rows = range_count(k, range_of(k, DIM_M)), columns = range_count(k, range_of(k, DIM_N));
	i64 items = range_count(k, range_of(k, DIM_BATCH)), sum = range_count(k, range_of(k, DIM_K));
	return sum >= LEAST_K && rows + columns <= MOST_SIDES && items * rows * columns <= MOST_RESULTS;
}

typedef struct Division {
	ProductSize of;
	Count parts, length;          /* of K: how many, and how long each is but the last */
	Count results;                /* elements that a part's results take: those of a tile and a panel together */
	Count units, each;            /* of phase 1: (item, panel, tile); how many make a task */
	i64 left_size, right_size;    /* elements of a packed tile and of a panel */
} Division;

static Division divide(Body *b, const CpuMachine *machine, const Kernel *k, Tile t)
{
	CpuModule *m = b ? b->m : NULL;
#define N_(x) count_of(m, (x))
	Count one = N_(1);
	Division d = { .of = product_size(b, k, t, DIM_BATCH) };
	Count rounds = count_div_up(m, d.of.K, N_(ROUND * PART_K));
	Count parts = count_if_less(m, d.of.K, N_(LEAST_K), one, count_min(m, N_(MOST_PARTS), count_mul(m, rounds, N_(ROUND))));
	d.length = count_max(m, N_(16), count_round(m, count_div_up(m, d.of.K, parts), 16));
	d.parts = count_max(m, one, count_div_up(m, d.of.K, d.length));
	d.results = count_mul(m, count_mul(m, d.of.tiles, d.of.panels), N_((i64)t.rows * tile_width(t)));
	d.units = count_mul(m, d.of.outer, count_mul(m, d.of.tiles, d.of.panels));
	d.each = count_max(m, one, count_div(m, d.units, N_(4 * (i64)machine->cores)));
	i64 rows = blocks_for(machine, t).k / (t.pairs ? 2 : 1) + PACK_SPILL;
	d.left_size = rows * t.rows;
	d.right_size = rows * tile_width(t);
	return d;
#undef N_
}

CountNeeds deep_needs(Body *b, const CpuMachine *machine, const Kernel *k, Tile t, Count phase)
{
	CpuModule *m = b ? b->m : NULL;
	Division d = divide(b, machine, k, t);
	Count one = count_of(m, 1), bytes = count_of(m, panel_bytes(k->compute)), spill = count_of(m, 64);
	Count part = count_mul(m, d.of.outer, d.parts);
	Count packed = count_add(m, count_mul(m, d.of.tiles, count_of(m, d.left_size)), count_mul(m, d.of.panels, count_of(m, d.right_size)));
	return (CountNeeds){
		.workspace = count_add(m, count_mul(m, count_mul(m, part, d.results), bytes), spill),
		.scratch = count_add(m, count_mul(m, packed, bytes), spill),
		.phases = count_of(m, 2),
		.tasks = count_if_less(m, phase, one, part, count_div_up(m, d.units, d.each)),
	};
}

/* ---- code ---- */

typedef struct Deep {
	Division d;
	Range batch;
	Packing left;
	Product p; /* its columns are the right operand's */
} Deep;

static V at_element(const Deep *x, V base, V index)
{
	CpuModule *m = x->p.b->m;
	return cpu_at(m, panel_type(m, x->p.t.dtype), base, index);
}

static void set_batch(Deep *x, V item)
{
	Body *b = x->p.b;
	body_unflatten(b, x->batch.first, x->batch.last, item);
	body_hoist(b, range_mask(x->batch), NULL);
}

/* All `count` panels of an operand, k in [from, to), `most` together. */
static void pack_all(Body *b, const Packing *p, V columns, V count, V from, V to, V where, u32 most, i64 size)
{
	CpuModule *m = b->m;
	CpuLoop group = { 0 };
	cpu_loop_begin(m, &group, cpu_i64(m, 0), count, cpu_i64(m, most), 0, NULL);
	u32 mark = body_mark(b);
	V first = cpu_mul(m, group.index, cpu_i64(m, p->width)), n = cpu_min(m, cpu_i64(m, most), cpu_sub(m, count, group.index));
	V at = cpu_at(m, panel_type(m, p->compute), where, cpu_mul(m, group.index, cpu_i64(m, size)));
	pack_panels(b, p, first, columns, from, to, at, most, n, cpu_i64(m, size));
	body_release(b, mark);
	group.unroll = 1;
	cpu_loop_end(m, &group, NULL);
}

/* Packed rows times packed columns, all of both, `k` long, to the part's results at `sums`, or where `more` added to them. */
static void multiply(Deep *x, V left, V right, V k, V more, V sums)
{
	CpuModule *m = x->p.b->m;
	Tile t = x->p.t;
	V zero = cpu_i64(m, 0), one = cpu_i64(m, 1);
	CpuLoop panel = { 0 }, tile = { 0 };
	cpu_loop_begin(m, &panel, zero, x->d.of.panels.v, one, 0, NULL);
	V b = at_element(x, right, cpu_mul(m, panel.index, cpu_i64(m, x->d.right_size)));
	cpu_loop_begin(m, &tile, zero, x->d.of.tiles.v, one, 0, NULL);
	V a = at_element(x, left, cpu_mul(m, tile.index, cpu_i64(m, x->d.left_size)));
	V index = cpu_add(m, cpu_mul(m, panel.index, x->d.of.tiles.v), tile.index);
	V sum = at_element(x, sums, cpu_mul(m, index, cpu_i64(m, (i64)t.rows * tile_width(t))));
	cpu_call(m, x->p.tile_function, 6, (V[]){ a, b, sum, k, more, at_element(x, a, cpu_i64(m, x->d.left_size)) });
	tile.unroll = 1;
	cpu_loop_end(m, &tile, NULL);
	panel.unroll = 1;
	cpu_loop_end(m, &panel, NULL);
}

static void emit_parts(Deep *x)
{
	Body *b = x->p.b;
	CpuModule *m = b->m;
	Blocks blocks = blocks_for(m->machine, x->p.t);
	V one = cpu_i64(m, 1), zero = cpu_i64(m, 0), sixteen = cpu_i64(m, 16);
	V left = b->scratch, right = at_element(x, left, cpu_mul(m, x->d.of.tiles.v, cpu_i64(m, x->d.left_size)));
	CpuLoop task = { 0 }, piece = { 0 };
	cpu_loop_begin(m, &task, b->begin, b->end, one, 0, NULL);
	u32 mark = body_mark(b);
	set_batch(x, cpu_div(m, task.index, x->d.parts.v));
	V k0 = cpu_mul(m, cpu_rem(m, task.index, x->d.parts.v), x->d.length.v), k1 = cpu_min(m, x->d.of.K.v, cpu_add(m, k0, x->d.length.v));
	/* equal pieces, of whole vectors */
	V pieces = cpu_max(m, one, cpu_div_up(m, cpu_sub(m, k1, k0), cpu_i64(m, blocks.k)));
	V length = cpu_mul(m, cpu_div_up(m, cpu_div_up(m, cpu_sub(m, k1, k0), pieces), sixteen), sixteen);
	cpu_loop_begin(m, &piece, zero, pieces, one, 0, NULL);
	V from = cpu_min(m, k1, cpu_add(m, k0, cpu_mul(m, piece.index, length))), to = cpu_min(m, k1, cpu_add(m, from, length));
	pack_all(b, &x->left, x->d.of.M.v, x->d.of.tiles.v, from, to, left, tiles_together(x->p.t), x->d.left_size);
	pack_all(b, &x->p.right, x->d.of.N.v, x->d.of.panels.v, from, to, right, blocks.panels, x->d.right_size);
	multiply(x, left, right, cpu_sub(m, to, from), cpu_less(m, zero, piece.index),
		 at_element(x, b->workspace, cpu_mul(m, task.index, x->d.results.v)));
	piece.unroll = 1;
	cpu_loop_end(m, &piece, NULL);
	body_release(b, mark);
	task.unroll = 1;
	cpu_loop_end(m, &task, NULL);
}

/* The sum over parts of a tile and a panel, of which that of the first part is at `first`, to the thread's scratch. */
static void add_parts(Deep *x, V first)
{
	Body *b = x->p.b;
	CpuModule *m = b->m;
	Tile t = x->p.t;
	u32 n = t.rows * t.vectors;
	V sum[CPU_CARRIED];
	assert(n <= CPU_CARRIED);
	for (u32 i = 0; i < n; i++)
		sum[i] = simd_load(&b->lanes, t.dtype, at_element(x, first, cpu_i64(m, i * t.lanes)), 0);
	CpuLoop part = { 0 };
	cpu_loop_begin(m, &part, cpu_i64(m, 1), x->d.parts.v, cpu_i64(m, 1), n, sum);
	V from = at_element(x, first, cpu_mul(m, part.index, x->d.results.v));
	for (u32 i = 0; i < n; i++)
		sum[i] = simd_add(&b->lanes, part.carried[i], simd_load(&b->lanes, t.dtype, at_element(x, from, cpu_i64(m, i * t.lanes)), 0));
	part.unroll = 1;
	cpu_loop_end(m, &part, sum);
	for (u32 i = 0; i < n; i++)
		simd_store(&b->lanes, t.dtype, part.carried[i], at_element(x, b->scratch, cpu_i64(m, i * t.lanes)), 0);
}

static void emit_results(Deep *x)
{
	Product *p = &x->p;
	Body *b = p->b;
	CpuModule *m = b->m;
	V zero = cpu_i64(m, 0), rows = cpu_i64(m, p->t.rows), size = cpu_i64(m, (i64)p->t.rows * tile_width(p->t));
	V tiles = x->d.of.tiles.v, all = cpu_mul(m, tiles, x->d.of.panels.v);
	CpuLoop unit = { 0 };
	cpu_loop_begin(m, &unit, cpu_mul(m, b->begin, x->d.each.v), cpu_min(m, x->d.units.v, cpu_mul(m, b->end, x->d.each.v)), cpu_i64(m, 1), 0,
		       NULL);
	u32 mark = body_mark(b);
	V item = cpu_div(m, unit.index, all), of_item = cpu_rem(m, unit.index, all);
	set_batch(x, item);
	V results = cpu_mul(m, item, cpu_mul(m, x->d.parts.v, x->d.results.v));
	add_parts(x, at_element(x, b->workspace, cpu_add(m, results, cpu_mul(m, of_item, size))));
	V m0 = cpu_mul(m, cpu_rem(m, of_item, tiles), rows);
	p->n0 = cpu_mul(m, cpu_div(m, of_item, tiles), cpu_i64(m, tile_width(p->t)));
	Strip strip;
	strip_make(b, &strip, p->nr, p->n0, p->N, p->t.vectors, p->t.lanes, p->run);
	product_results(p, &strip, m0, zero, cpu_min(m, rows, cpu_sub(m, p->row_end, m0)), b->scratch);
	body_release(b, mark);
	unit.unroll = 1;
	cpu_loop_end(m, &unit, NULL);
}

typedef struct Emitted {
	Tile t;
	V function; /* its */
} Emitted;

static void emit_phase(Body *b, u32 kind, const void *argument)
{
	const Emitted *e = argument;
	const Kernel *k = b->k;
	Deep x = { .batch = range_of(k, DIM_BATCH) };
	x.p = product_open(b, e->t, e->function, DIM_BATCH, &x.left);
	x.d = divide(b, b->m->machine, k, e->t);
	x.p.N = x.d.of.N.v;
	x.p.run = product_run(b, x.p.nr);
	x.p.row_end = x.d.of.M.v;
	body_hoist(b, 0, NULL);
	if (kind == 0)
		emit_parts(&x);
	else
		emit_results(&x);
}

void deep_emit(CpuModule *m, const Kernel *k, Arena *arena, const char *name, Tile t)
{
	Emitted e = { t, tile_function(m, t) };
	body_phases(m, k, arena, name, 2, emit_phase, &e);
}
