/* codegen/cpu/product.c: a piece of a matrix product: some packed tiles of rows times one panel of columns,
 * and the kernel's body on what comes out; see panel.h. The panel's columns are packed into the thread's
 * scratch, cut along K to stay in the cache; the tile runs down the rows for each cut, and with the last
 * one the body sees the whole sums, still in the cache. */
#include "codegen/cpu/panel.h"

typedef LLVMValueRef V;

enum { PIECE_K = 800 /* k in a panel of columns, at most */, PIECE_BYTES = 150 << 10 };

/* Rows of a panel of columns, at most; and the k that it is for. */
static i64 piece_rows(Tile t)
{
	i64 fit = PIECE_BYTES / (tile_width(t) * (t.dtype == DT_f64 ? 8 : 4));
	return MIN(PIECE_K, fit) / 16 * 16;
}

static i64 piece_k(Tile t)
{
	return piece_rows(t) * (t.pairs ? 2 : 1);
}

u64 product_scratch(Tile t, i64 tiles, i64 k)
{
	u64 sums = k > piece_k(t) ? (u64)tiles : 1;
	u64 n = (u64)(piece_rows(t) + PACK_SPILL) * tile_width(t) + sums * t.rows * tile_width(t);
	return n * (t.dtype == DT_f64 ? 8 : 4) + 64;
}

static V at_element(const Product *p, V base, V index)
{
	CpuModule *m = p->b->m;
	return cpu_at(m, panel_type(m, p->t.dtype), base, index);
}

V product_sums(const Product *p)
{
	return at_element(p, p->b->scratch,
			  cpu_i64(p->b->m, (piece_rows(p->t) + PACK_SPILL) * tile_width(p->t)));
}

/* ---- the body ---- */

/* Sets the accumulators from a tile's row, at `column`. */
static void set_sum(const Product *p, V tile, V row, V column)
{
	Body *b = p->b;
	CpuModule *m = b->m;
	V index = cpu_add(m, cpu_mul(m, row, cpu_i64(m, tile_width(p->t))), column);
	V x = simd_load(&b->lanes, p->t.dtype, at_element(p, tile, index), 0);
	for (u32 i = 1; i < b->k->inst.n; i++)
		if (b->k->inst.v[i].op == K_acc)
			body_set(b, (KVal){ i }, simd_convert(&b->lanes, p->t.dtype, (DType)b->k->inst.v[i].dtype, x),
				 true);
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
	run_begin(b, &run, p->nr, p->n0, end);
	CpuLoop lane = { 0 };
	cpu_loop_begin(m, &lane, run.begin, run.end, cpu_i64(m, p->t.lanes), 0, NULL);
	u32 mark = body_mark(b);
	b->mask = simd_mask(&b->lanes, cpu_sub(m, run.end, lane.index));
	b->coord[p->nr.last - 1] = cpu_sub(m, lane.index, run.base);
	set_sum(p, tile, row, cpu_sub(m, lane.index, p->n0));
	store_all(b);
	b->mask = NULL;
	body_release(b, mark);
	lane.unroll = 1;
	cpu_loop_end(m, &lane, NULL);
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
		b->vector_dim = p->nr.last - 1;
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

/* ---- the product ---- */

/* A cut of K, and the one after it, which is asked for ahead. */
typedef struct Cut {
	V from, to, more, last;
	V next_n, next_from, next_to;
	V sums, sum_stride;
} Cut;

static void emit_cut(const Product *p, const Strip *s, const Cut *c)
{
	Body *b = p->b;
	CpuModule *m = b->m;
	pack(b, &p->right, p->n0, p->N, c->from, c->to, b->scratch);
	V count = cpu_sub(m, p->tile1, p->tile0), rows = cpu_i64(m, p->t.rows), zero = cpu_i64(m, 0);
	CpuLoop tile = { 0 };
	cpu_loop_begin(m, &tile, p->tile0, p->tile1, cpu_i64(m, 1), 0, NULL);
	u32 mark = body_mark(b);
	V i = cpu_sub(m, tile.index, p->tile0);
	pack_prefetch(b, &p->right, c->next_n, p->N, c->next_from, c->next_to, i, count);
	V left = at_element(p, p->left, cpu_mul(m, tile.index, p->tile_size));
	V row = cpu_sub(m, c->from, p->left_k);
	row = p->t.pairs ? cpu_div(m, row, cpu_i64(m, 2)) : row;
	left = at_element(p, left, cpu_mul(m, row, rows));
	V sum = at_element(p, c->sums, cpu_mul(m, i, c->sum_stride));
	cpu_call(m, p->tile_function, 5, (V[]){ left, b->scratch, sum, cpu_sub(m, c->to, c->from), c->more });
	CpuIf done = { 0 };
	cpu_if_begin(m, &done, c->last, 50);
	V m0 = cpu_add(m, p->row0, cpu_mul(m, tile.index, rows));
	V first = cpu_max(m, zero, cpu_sub(m, p->row_begin, m0)), last = cpu_min(m, rows, cpu_sub(m, p->row_end, m0));
	product_results(p, s, m0, first, last, sum);
	cpu_if_end(m, &done, 0, NULL, NULL);
	body_release(b, mark);
	tile.unroll = 1;
	cpu_loop_end(m, &tile, NULL);
}

void product(const Product *p)
{
	Body *b = p->b;
	CpuModule *m = b->m;
	V one = cpu_i64(m, 1), zero = cpu_i64(m, 0), k = cpu_sub(m, p->k1, p->k0);
	V cuts = cpu_max(m, one, cpu_div_up(m, k, cpu_i64(m, piece_k(p->t))));
	/* equal cuts, of whole vectors */
	V length = cpu_div_up(m, cpu_div_up(m, k, cuts), cpu_i64(m, 16));
	length = cpu_mul(m, cpu_max(m, length, one), cpu_i64(m, 16));
	Cut c = { 0 };
	V size = cpu_i64(m, (i64)p->t.rows * tile_width(p->t)), mine = product_sums(p);
	V stride = LLVMBuildSelect(m->builder, cpu_less(m, one, cuts), size, zero, "");
	c.sums = p->keep ? LLVMBuildSelect(m->builder, p->keep, p->sums, mine, "") : mine;
	c.sum_stride = p->keep ? LLVMBuildSelect(m->builder, p->keep, p->sum_stride, stride, "") : stride;
	Strip strip;
	strip_make(b, &strip, p->nr, p->n0, p->N, p->t.vectors, p->t.lanes);
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
	V beside = cpu_add(m, p->n0, cpu_i64(m, tile_width(p->t)));
	c.next_n = LLVMBuildSelect(m->builder, end, beside, p->n0, "");
	c.next_from = LLVMBuildSelect(m->builder, end, p->k0, c.to, "");
	c.next_to = cpu_min(m, p->k1, cpu_add(m, c.next_from, length));
	emit_cut(p, &strip, &c);
	cut.unroll = 1;
	cpu_loop_end(m, &cut, NULL);
}
