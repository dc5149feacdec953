/* codegen/cpu/product.c: a piece of a matrix product: some packed tiles of rows times some panels of columns,
 * and the kernel's body on what comes out; see panel.h. The panels' columns are packed into the thread's
 * scratch, cut along K to stay in the cache; the tile runs down the rows for each cut, and with the last
 * one the body sees the whole sums, still in the cache. */
#include "codegen/cpu/panel.h"

typedef LLVMValueRef V;

/* Where there are 16 registers, panels are narrow: a piece of one is in the first cache, with the tiles of rows that it meets.
 * Several are packed together, so that what is read of a row is long enough for memory, and take turns on a block of tiles
 * of rows that is in the second cache, as the panels are. Where there are 32, one wide panel is in the second cache and meets
 * all the rows.
 *
 * Measured on Zen 3 (32 and 512 KiB), products of GPT-2 with variants in turns, call by call: pieces of 256 take 0.97 of the time
 * of pieces that fill the second cache (848) with 256 rows, 0.96 with the head's 128, 0.99 to 1.00 with 1024 and 4096; 192, 320
 * and 384 are within a hundredth of that. Chunks of 1024 rows take 2 to 10% longer at M = 4096, two panels in place of four 1 to 3%;
 * blocks of a tenth to a half of the second cache differ by less than can be seen. */
enum {
	PIECE_K = 800,           /* at most */
	PIECE_BYTES = 150 << 10, /* with 32 registers */
	PANELS = 4,              /* with 16 */
	USUAL_L1 = 32 << 10,
	USUAL_L2 = 512 << 10,
	CHUNK_ROWS_16 = 4096,
	CHUNK_ROWS_32 = 1024,
};

/* Along K. */
static i64 piece_for(const CpuMachine *machine, Tile t)
{
	i64 bytes = t.dtype == DT_f64 ? 8 : 4, row = tile_width(t) * bytes, l1 = machine->l1 ? (i64)machine->l1 : USUAL_L1;
	if (machine->tuning.k)
		return MAX(machine->tuning.k * 4 / bytes / 16 * 16, 16);
	if (machine->registers >= 32)
		return MIN(PIECE_K, PIECE_BYTES / row) / 16 * 16;
	return MAX(MIN(PIECE_K, l1 / (row + 2 * t.rows * bytes)) / 16 * 16, 64);
}

Blocks blocks_for(const CpuMachine *machine, Tile t)
{
	bool many = machine->registers >= 32;
	i64 bytes = t.dtype == DT_f64 ? 8 : 4, l2 = machine->l2 ? (i64)machine->l2 : USUAL_L2;
	i64 most = machine->tuning.panels ? machine->tuning.panels : many ? 1 : PANELS;
	i64 panels = MAX(1, MIN(most, STRIP_VECTORS / (i64)t.vectors)), k = piece_for(machine, t);
	i64 left = panels == 1 && many ? 0 : MAX(l2 / 5 / (k * t.rows * bytes), 1);
	i64 rows = machine->tuning.chunk ? machine->tuning.chunk : many ? CHUNK_ROWS_32 : CHUNK_ROWS_16;
	return (Blocks){ k * (t.pairs ? 2 : 1), (u32)panels, left, rows };
}

u32 tiles_together(Tile t)
{
	enum { TOGETHER = 32 }; /* rows */
	u32 each = (t.rows + t.lanes - 1) / t.lanes; /* vectors of a tile */
	return MAX(1u, MIN(TOGETHER / t.rows, STRIP_VECTORS / each));
}

/* Elements of a packed panel. */
static i64 panel_size(const CpuMachine *machine, Tile t)
{
	i64 rows = blocks_for(machine, t).k / (t.pairs ? 2 : 1);
	return (rows + PACK_SPILL) * tile_width(t);
}

Count product_scratch(CpuModule *m, const CpuMachine *machine, Tile t, Count panels, Count tiles, Count k)
{
	Count one = count_of(m, 1), whole = count_of(m, blocks_for(machine, t).k);
	Count sums = count_if_less(m, whole, k, count_mul(m, panels, tiles), one);
	Count n = count_add(m, count_mul(m, panels, count_of(m, panel_size(machine, t))),
			    count_mul(m, sums, count_of(m, (i64)t.rows * tile_width(t))));
	return count_add(m, count_mul(m, n, count_of(m, t.dtype == DT_f64 ? 8 : 4)), count_of(m, 64));
}

ProductSize product_size(Body *b, const Kernel *k, Tile t, DimRole outer)
{
	CpuModule *m = b ? b->m : NULL;
	const DimRole role[] = { outer, DIM_M, DIM_N, DIM_K };
	Count extent[COUNT(role)];
	for (u32 i = 0; i < COUNT(role); i++) {
		Range r = range_of(k, role[i]);
		extent[i] = count_extent(b, k, r.first, r.last);
	}
	return (ProductSize){ .outer = extent[0], .M = extent[1], .N = extent[2], .K = extent[3],
			      .tiles = count_div_up(m, extent[1], count_of(m, t.rows)),
			      .panels = count_div_up(m, extent[2], count_of(m, tile_width(t))) };
}

Count packed_tile(CpuModule *m, Tile t, Count k)
{
	Count deep = t.pairs ? count_div_up(m, k, count_of(m, 2)) : k;
	return count_mul(m, count_add(m, count_round(m, deep, 16), count_of(m, PACK_SPILL)), count_of(m, t.rows));
}

Product product_open(Body *b, Tile t, V tile_function, DimRole outer, Packing *left)
{
	const Kernel *k = b->k;
	Range kr = range_of(k, DIM_K);
	b->lanes.lanes = t.lanes;
	Product p = { .b = b, .t = t, .tile_function = tile_function, .mr = range_of(k, DIM_M), .nr = range_of(k, DIM_N),
		      .outer = range_mask(range_of(k, outer)) };
	*left = packing_of(b, k->operand[0], p.mr, kr, t.rows, k->compute, t.lanes);
	p.right = packing_of(b, k->operand[1], p.nr, kr, tile_width(t), k->compute, t.lanes);
	left->pairs = p.right.pairs = t.pairs;
	return p;
}

static V at_element(const Product *p, V base, V index)
{
	CpuModule *m = p->b->m;
	return cpu_at(m, panel_type(m, p->t.dtype), base, index);
}

V product_sums(const Product *p)
{
	CpuModule *m = p->b->m;
	return at_element(p, p->b->scratch, cpu_mul(m, p->panels, cpu_i64(m, panel_size(m->machine, p->t))));
}

/* ---- the body ---- */

V product_run(Body *b, Range nr)
{
	return nr.last - nr.first > 1 ? body_run(b, (KVal){ 0 }, nr.first, nr.last) : NULL;
}

/* Sets the accumulators from a tile's row, at `column`. */
static void set_sum(const Product *p, V tile, V row, V column)
{
	Body *b = p->b;
	CpuModule *m = b->m;
	V index = cpu_add(m, cpu_mul(m, row, cpu_i64(m, tile_width(p->t))), column);
	V x = simd_load(&b->lanes, p->t.dtype, at_element(p, tile, index), 0);
	for (u32 i = 1; i < b->k->inst.n; i++)
		if (b->k->inst.v[i].op == K_acc) {
			assert(b->k->inst.v[i].imm == 0); /* operands' own sums are asked of no CPU (TargetInfo.sums_beside) */
			body_set(b, (KVal){ i }, simd_convert(&b->lanes, p->t.dtype, (DType)b->k->inst.v[i].dtype, x),
				 true);
		}
}

static void store_all(Body *b)
{
	for (u32 i = 1; i < b->k->inst.n; i++)
		if (b->k->inst.v[i].op == K_store)
			body_store(b, i);
}

/* Vectors of the tile's row that lie in one run: no masks. */
static void results_strip(const Product *p, const Strip *s, V tile, V row)
{
	Body *b = p->b;
	b->vector_dim = p->nr.last - 1;
	for (u32 v = 0; v < s->n; v++) {
		u32 mark = body_mark(b);
		strip_set(b, s, p->nr, v);
		set_sum(p, tile, row, cpu_i64(b->m, v * p->t.lanes));
		store_all(b);
		body_release(b, mark);
	}
}

static void results_runs(const Product *p, V tile, V row)
{
	Body *b = p->b;
	CpuModule *m = b->m;
	Run run = { 0 };
	V end = cpu_min(m, p->N, cpu_add(m, p->n0, cpu_i64(m, tile_width(p->t))));
	run_begin(b, &run, p->nr, p->n0, end, p->run);
	for (u32 pass = 0; pass < 2; pass++) {
		RunLanes lane;
		run_lanes_begin(b, &lane, &run, p->nr, pass, 0, NULL);
		set_sum(p, tile, row, cpu_sub(m, lane.loop.index, p->n0));
		store_all(b);
		run_lanes_end(b, &lane, NULL);
	}
	run_end(b, &run);
}

void product_results(const Product *p, const Strip *s, V m0, V first, V last, V tile)
{
	Body *b = p->b;
	CpuModule *m = b->m;
	CpuIf whole = { 0 };
	cpu_if_begin(m, &whole, s->whole, 90);
	for (u32 branch = 0; branch < 2; branch++) {
		CpuLoop row = { 0 };
		cpu_loop_begin(m, &row, first, last, cpu_i64(m, 1), 0, NULL);
		u32 mark = body_mark(b);
		body_unflatten(b, p->mr.first, p->mr.last, cpu_add(m, m0, row.index));
		body_hoist(b, p->outer | range_mask(p->mr), NULL);
		if (branch == 0)
			results_strip(p, s, tile, row.index);
		else
			results_runs(p, tile, row.index);
		b->vector_dim = NONE;
		body_release(b, mark);
		row.unroll = 1;
		cpu_loop_end(m, &row, NULL);
		if (branch == 0)
			cpu_if_else(m, &whole);
	}
	cpu_if_end(m, &whole, 0, NULL, NULL);
}

/* Asks for what the body will read and write in rows [first, last) of a tile whose row 0 is m0. */
static void results_ask(const Product *p, const Strip *s, V m0, V first, V last)
{
	Body *b = p->b;
	CpuModule *m = b->m;
	const Kernel *k = b->k;
	u32 x = p->nr.last - 1, rows = range_mask(p->mr);
	CpuLoop row = { 0 };
	cpu_loop_begin(m, &row, first, last, cpu_i64(m, 1), 0, NULL);
	u32 mark = body_mark(b);
	body_unflatten(b, p->mr.first, p->mr.last, cpu_add(m, m0, row.index));
	for (u32 i = 1; i < k->inst.n; i++) {
		const KInst *in = &k->inst.v[i];
		const Access *a = in->op == K_load || in->op == K_store ? in->access : NULL;
		bool plain = a && !a->ndynamic && a->stride[x] == 1 && (in->depends & rows);
		if (!plain || (in->depends & ~(p->outer | rows | range_mask(p->nr))))
			continue;
		u32 bytes = p->t.lanes * dtype_info[k->slot.v[a->slot].dtype].bytes;
		for (u32 v = 0; v < s->n; v++) /* one in each line, and the last */
			if (v + 1 == s->n || v * bytes % m->machine->line == 0) {
				strip_set(b, s, p->nr, v);
				simd_prefetch(&b->one, body_address(b, a), 1, in->op == K_store);
			}
	}
	body_release(b, mark);
	row.unroll = 1;
	cpu_loop_end(m, &row, NULL);
}

/* ---- the product ---- */

/* A cut of K, and what is packed after it, which is asked for ahead. */
typedef struct Cut {
	V from, to, more, last;
	V next_n, next_from, next_to;
	V sums, panel_stride, tile_stride; /* where sums are, and elements from those of one to the next */
} Cut;

/* One tile of rows and one panel, which is at `right`; the body where this is the last cut. */
static void emit_tile(const Product *p, const Cut *c, V tile, V panel, V right, const Strip *s)
{
	Body *b = p->b;
	CpuModule *m = b->m;
	V rows = cpu_i64(m, p->t.rows), zero = cpu_i64(m, 0), i = cpu_sub(m, tile, p->tile0);
	V left = at_element(p, p->left, cpu_mul(m, tile, p->tile_size)), row = cpu_sub(m, c->from, p->left_k);
	row = p->t.pairs ? cpu_div(m, row, cpu_i64(m, 2)) : row;
	left = at_element(p, left, cpu_mul(m, row, rows));
	V at = cpu_add(m, cpu_mul(m, i, c->tile_stride), cpu_mul(m, panel, c->panel_stride));
	V sum = at_element(p, c->sums, at);
	V m0 = cpu_add(m, p->row0, cpu_mul(m, tile, rows));
	V first = cpu_max(m, zero, cpu_sub(m, p->row_begin, m0)), last = cpu_min(m, rows, cpu_sub(m, p->row_end, m0));
	V asked = LLVMBuildSelect(m->builder, c->last, last, first, "");
	results_ask(p, s, m0, first, asked);
	/* the next tile's rows come from the third cache, far from these: without asking, the tile does 84% of what it does
	 * from the first cache, with it 95% (Zen 3, the loop alone, 256 tiles of 768 by 4) */
	V next = at_element(p, left, p->tile_size);
	cpu_call(m, p->tile_function, 6, (V[]){ left, right, sum, cpu_sub(m, c->to, c->from), c->more, next });
	CpuIf done = { 0 };
	cpu_if_begin(m, &done, c->last, 50);
	product_results(p, s, m0, first, last, sum);
	cpu_if_end(m, &done, 0, NULL, NULL);
}

/* A block of tiles of rows stays in the cache while the panels take turns. */
static void emit_cut(const Product *p, const Cut *c)
{
	Body *b = p->b;
	CpuModule *m = b->m;
	Blocks blocks = blocks_for(m->machine, p->t);
	V zero = cpu_i64(m, 0), one = cpu_i64(m, 1), size = cpu_i64(m, panel_size(m->machine, p->t));
	pack_panels(b, &p->right, p->n0, p->N, c->from, c->to, b->scratch, blocks.panels, p->panels, size);
	V count = cpu_sub(m, p->tile1, p->tile0), by = blocks.left ? cpu_i64(m, blocks.left) : cpu_max(m, count, one);
	V parts = cpu_mul(m, count, p->panels);
	CpuLoop block = { 0 }, panel = { 0 }, tile = { 0 };
	cpu_loop_begin(m, &block, p->tile0, p->tile1, by, 0, NULL);
	V end = cpu_min(m, p->tile1, cpu_add(m, block.index, by)), in_block = cpu_sub(m, end, block.index);
	V done = cpu_mul(m, cpu_sub(m, block.index, p->tile0), p->panels);
	cpu_loop_begin(m, &panel, zero, p->panels, one, 0, NULL);
	u32 outer = body_mark(b);
	Product here = *p;
	here.n0 = cpu_add(m, p->n0, cpu_mul(m, panel.index, cpu_i64(m, tile_width(p->t))));
	Strip strip;
	strip_make(b, &strip, p->nr, here.n0, p->N, p->t.vectors, p->t.lanes, p->run);
	V right = at_element(p, b->scratch, cpu_mul(m, panel.index, size));
	V part = cpu_add(m, done, cpu_mul(m, panel.index, in_block));
	cpu_loop_begin(m, &tile, block.index, end, one, 0, NULL);
	u32 mark = body_mark(b);
	pack_prefetch(b, &p->right, c->next_n, p->N, c->next_from, c->next_to, p->panels,
		      cpu_add(m, part, cpu_sub(m, tile.index, block.index)), parts);
	emit_tile(&here, c, tile.index, panel.index, right, &strip);
	body_release(b, mark);
	tile.unroll = 1;
	cpu_loop_end(m, &tile, NULL);
	body_release(b, outer);
	panel.unroll = 1;
	cpu_loop_end(m, &panel, NULL);
	block.unroll = 1;
	cpu_loop_end(m, &block, NULL);
}

void product(const Product *p)
{
	Body *b = p->b;
	CpuModule *m = b->m;
	V one = cpu_i64(m, 1), zero = cpu_i64(m, 0), k = cpu_sub(m, p->k1, p->k0);
	V cuts = cpu_max(m, one, cpu_div_up(m, k, cpu_i64(m, blocks_for(m->machine, p->t).k)));
	/* equal cuts, of whole vectors */
	V length = cpu_div_up(m, cpu_div_up(m, k, cuts), cpu_i64(m, 16));
	length = cpu_mul(m, cpu_max(m, length, one), cpu_i64(m, 16));
	Cut c = { 0 };
	V size = cpu_i64(m, (i64)p->t.rows * tile_width(p->t)), mine = product_sums(p), several = cpu_less(m, one, cuts);
	V tiles = cpu_mul(m, size, cpu_sub(m, p->tile1, p->tile0));
	c.sums = mine;
	c.tile_stride = LLVMBuildSelect(m->builder, several, size, zero, "");
	c.panel_stride = LLVMBuildSelect(m->builder, several, tiles, zero, "");
	if (p->keep) {
		c.sums = LLVMBuildSelect(m->builder, p->keep, p->sums, c.sums, "");
		c.tile_stride = LLVMBuildSelect(m->builder, p->keep, p->sum_stride, c.tile_stride, "");
		c.panel_stride = LLVMBuildSelect(m->builder, p->keep, size, c.panel_stride, "");
	}
	CpuLoop cut = { 0 };
	cpu_loop_begin(m, &cut, zero, cuts, one, 0, NULL);
	c.from = cpu_min(m, p->k1, cpu_add(m, p->k0, cpu_mul(m, cut.index, length)));
	c.to = cpu_min(m, p->k1, cpu_add(m, c.from, length));
	V end = cpu_equal(m, cpu_add(m, cut.index, one), cuts);
	c.more = LLVMBuildNot(m->builder, cpu_equal(m, cut.index, zero), "");
	c.last = end;
	if (p->keep) {
		c.more = LLVMBuildOr(m->builder, c.more, LLVMBuildNot(m->builder, p->first, ""), "");
		c.last = LLVMBuildAnd(m->builder, end, p->last, "");
	}
	/* what is packed next: the next cut of these columns, or the first of the next */
	V beside = cpu_add(m, p->n0, cpu_mul(m, p->panels, cpu_i64(m, tile_width(p->t))));
	c.next_n = LLVMBuildSelect(m->builder, end, beside, p->n0, "");
	c.next_from = LLVMBuildSelect(m->builder, end, p->k0, c.to, "");
	c.next_to = cpu_min(m, p->k1, cpu_add(m, c.next_from, length));
	emit_cut(p, &c);
	cut.unroll = 1;
	cpu_loop_end(m, &cut, NULL);
}
