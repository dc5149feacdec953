/* codegen/cpu/attention.c: ATTENTION kernels. Two phases a block of (batch, kv head) items: keys and values
 * are packed into the workspace; then a task is a panel of queries of one item, which walks the blocks of
 * keys that it sees with a running maximum and sum per query (online softmax), and never holds more
 * scores than those of one block. See attention.h. */
#include "codegen/cpu/attention.h"

#include <math.h>

typedef LLVMValueRef V;

enum {
	BLOCK_KEYS = 128,
	BUDGET = 1 << 21, /* elements of keys and values that a phase packs at least, where there are so many */
	PARTS = 8,        /* tasks of packing keys, and as many of values, per item */
};

typedef struct Forward {
	Attention a;
	Tile out;                   /* rows are value features */
	Count ktiles, vtiles;
	Count ktile_size, vtile_size, item_size;
	Count nb;                   /* items of a block */
	/* where things are in scratch, in elements */
	Count q_at, score_at, bias_at, mask_at, out_at, turned_at, factor_at, lse_at, scratch;
	Count features;             /* V, to whole vectors: a row of the turned result */
	Packing q, key, value, bias, mask;
	V score_tile, out_tile;
} Forward;

static Forward forward_make(Body *b, const CpuMachine *machine, const Kernel *k)
{
	CpuModule *m = b ? b->m : NULL;
	Forward f = { .a = attention_make(b, machine, k) };
	Attention *a = &f.a;
	a->block = (BLOCK_KEYS + a->score.rows - 1) / a->score.rows * a->score.rows; /* whole tiles */
#define N_(x) count_of(m, (x))
	f.out = feature_tile(a, range_count(k, a->v));
	f.ktiles = count_div_up(m, a->N, N_(a->score.rows));
	f.vtiles = count_div_up(m, a->V, N_(f.out.rows));
	f.ktile_size = count_mul(m, count_add(m, a->K, N_(PACK_SPILL)), N_(a->score.rows));
	f.vtile_size = count_mul(m, count_add(m, a->N, N_(PACK_SPILL)), N_(f.out.rows));
	f.item_size = count_add(m, count_mul(m, f.ktiles, f.ktile_size), count_mul(m, f.vtiles, f.vtile_size));
	Count one = N_(1), items = count_max(m, a->items, one);
	Count fit = count_div_up(m, N_(BUDGET), count_max(m, f.item_size, one));
	Count busy = count_div_up(m, N_(4 * (i64)machine->cores), count_max(m, a->panels, one));
	f.nb = count_max(m, count_div_up(m, items, N_(KERNEL_PHASES / 2)), count_max(m, fit, busy));
	f.nb = count_min(m, items, f.nb);
	Count width = N_(a->width), rows = N_(a->block + a->score.rows);
	f.features = count_round(m, a->V, a->score.lanes);
	f.scratch = N_(0);
	f.q_at = attention_lay(m, &f.scratch, count_mul(m, count_add(m, a->K, N_(PACK_SPILL)), width));
	f.score_at = attention_lay(m, &f.scratch, count_mul(m, rows, width));
	Count extra = count_mul(m, N_(a->block + PACK_SPILL), width);
	f.bias_at = attention_lay(m, &f.scratch, a->bias ? extra : N_(0));
	f.mask_at = attention_lay(m, &f.scratch, a->mask ? extra : N_(0));
	Count out_rows = count_max(m, count_mul(m, f.vtiles, N_(f.out.rows)), f.features);
	f.out_at = attention_lay(m, &f.scratch, count_mul(m, out_rows, width));
	f.turned_at = attention_lay(m, &f.scratch, count_mul(m, f.features, width));
	f.factor_at = attention_lay(m, &f.scratch, width);
	f.lse_at = attention_lay(m, &f.scratch, width);
	return f;
#undef N_
}

static u64 variant_attention(const CpuMachine *machine, const Kernel *k)
{
	Forward f = forward_make(NULL, machine, k);
	return f.a.score.rows | f.a.score.vectors << 8 | f.out.rows << 16;
}

static CountNeeds needs_attention(Body *b, const CpuMachine *machine, const Kernel *k, Count phase)
{
	CpuModule *m = b ? b->m : NULL;
	Forward f = forward_make(b, machine, k);
	Count tasks[] = { count_of(m, 2 * PARTS), f.a.panels };
	return attention_needs(m, &f.a, count_mul(m, f.nb, f.item_size), f.scratch, f.nb, phase, 2, tasks);
}

/* ---- code ---- */

static V scratch_at(const Forward *f, Count at)
{
	return attention_at(&f->a, f->a.b->scratch, at.v);
}

/* Where item `item` of the block has its keys and, after them, its values. */
static V item_at(const Forward *f, V item)
{
	return attention_at(&f->a, f->a.b->workspace, cpu_mul(f->a.b->m, item, f->item_size.v));
}

static V values_at(const Forward *f, V item)
{
	CpuModule *m = f->a.b->m;
	return attention_at(&f->a, item_at(f, item), cpu_mul(m, f->ktiles.v, f->ktile_size.v));
}

/* The coordinates of BATCH and G, and what depends on them alone. */
static void set_item(const Forward *f, V item)
{
	Body *b = f->a.b;
	V block = cpu_div(b->m, b->phase, cpu_i64(b->m, 2));
	V index = cpu_add(b->m, cpu_mul(b->m, block, f->nb.v), item);
	body_unflatten(b, f->a.outer.first, f->a.outer.last, index);
	body_hoist(b, range_mask(f->a.outer), NULL);
}

/* Tiles [count * part / PARTS, ...) of an operand. */
static void pack_part(const Forward *f, const Packing *p, Count count, Count size, V part, V x_count, V k_count,
		      V base)
{
	Body *b = f->a.b;
	CpuModule *m = b->m;
	V parts = cpu_i64(m, PARTS);
	V first = cpu_div(m, cpu_mul(m, count.v, part), parts);
	V last = cpu_div(m, cpu_mul(m, count.v, cpu_add(m, part, cpu_i64(m, 1))), parts);
	TilesPacked t = { .p = p, .first = first, .last = last, .size = size.v, .base = base, .x0 = cpu_i64(m, 0),
			  .x_count = x_count, .from = cpu_i64(m, 0), .to = k_count };
	tiles_pack(&f->a, &t);
}

static void emit_pack(const Forward *f)
{
	Body *b = f->a.b;
	CpuModule *m = b->m;
	CpuLoop task = { 0 };
	cpu_loop_begin(m, &task, b->begin, b->end, cpu_i64(m, 1), 0, NULL);
	u32 mark = body_mark(b);
	V item = cpu_div(m, task.index, cpu_i64(m, 2 * PARTS)), part = cpu_rem(m, task.index, cpu_i64(m, 2 * PARTS));
	set_item(f, item);
	CpuIf keys = { 0 };
	cpu_if_begin(m, &keys, cpu_less(m, part, cpu_i64(m, PARTS)), 50);
	u32 here = body_mark(b);
	pack_part(f, &f->key, f->ktiles, f->ktile_size, part, f->a.N.v, f->a.K.v, item_at(f, item));
	body_release(b, here);
	cpu_if_else(m, &keys);
	part = cpu_sub(m, part, cpu_i64(m, PARTS));
	pack_part(f, &f->value, f->vtiles, f->vtile_size, part, f->a.V.v, f->a.N.v, values_at(f, item));
	body_release(b, here);
	cpu_if_end(m, &keys, 0, NULL, NULL);
	body_release(b, mark);
	task.unroll = 1;
	cpu_loop_end(m, &task, NULL);
}

/* Scores of the block's keys: a tile for each few of them. */
static void emit_scores(const Forward *f, V item, V key0, V count)
{
	Body *b = f->a.b;
	CpuModule *m = b->m;
	V rows = cpu_i64(m, f->a.score.rows);
	V tiles = cpu_div(m, cpu_add(m, count, cpu_i64(m, f->a.score.rows - 1)), rows), first = cpu_div(m, key0, rows);
	TilesProduct t = { .function = f->score_tile, .left_size = f->ktile_size.v, .right = scratch_at(f, f->q_at),
			   .left = attention_at(&f->a, item_at(f, item), cpu_mul(m, first, f->ktile_size.v)),
			   .to = scratch_at(f, f->score_at), .tiles = tiles, .k = f->a.K.v,
			   .to_size = cpu_i64(m, (i64)f->a.score.rows * f->a.width) };
	tiles_multiply(&f->a, &t);
}

/* Scores become probabilities, up to the factor e^shift, rounded as the product takes them; their sum. */
static void emit_probabilities(const Forward *f, V count, const V *shift, V *sum)
{
	const Attention *a = &f->a;
	CpuModule *m = a->b->m;
	Simd s = { m, a->score.lanes };
	RowsLoop r;
	rows_begin(a, &r, scratch_at(f, f->score_at), count, a->score.vectors, sum);
	V next[STRIP_VECTORS];
	for (u32 v = 0; v < a->score.vectors; v++) {
		r.x[v] = attention_exp(a, &s, simd_sub(&s, r.x[v], shift[v]));
		next[v] = simd_add(&s, r.loop.carried[v], r.x[v]);
		if (a->k->compute != a->type)
			r.x[v] = simd_convert(&s, a->type, a->k->compute, r.x[v]);
	}
	rows_store(a, &r, scratch_at(f, f->score_at), r.x);
	rows_end(a, &r, next);
	for (u32 v = 0; v < a->score.vectors; v++)
		sum[v] = r.loop.carried[v];
}

/* out = out * correction + values^T * probabilities */
static void emit_mix(const Forward *f, V item, V key0, V count, const V *correction)
{
	const Attention *a = &f->a;
	CpuModule *m = a->b->m;
	Simd s = { m, a->score.lanes };
	V out = scratch_at(f, f->out_at);
	RowsLoop r;
	rows_begin(a, &r, out, cpu_mul(m, f->vtiles.v, cpu_i64(m, f->out.rows)), 0, NULL);
	for (u32 v = 0; v < a->score.vectors; v++)
		r.x[v] = simd_mul(&s, r.x[v], correction[v]);
	rows_store(a, &r, out, r.x);
	rows_end(a, &r, NULL);
	TilesProduct t = { .function = f->out_tile, .left_size = f->vtile_size.v, .right = scratch_at(f, f->score_at),
			   .left = attention_at(a, values_at(f, item), cpu_mul(m, key0, cpu_i64(m, f->out.rows))),
			   .to = out, .to_size = cpu_i64(m, (i64)f->out.rows * a->width), .tiles = f->vtiles.v,
			   .k = count, .more = true };
	tiles_multiply(a, &t);
}

/* One block of keys; state: the running maxima, then the running sums. */
static void emit_block(const Forward *f, const Queries *q, V item, V key0, V *state)
{
	const Attention *a = &f->a;
	Body *b = a->b;
	CpuModule *m = b->m;
	Simd s = { m, a->score.lanes };
	u32 n = a->score.vectors;
	V count = cpu_min(m, cpu_i64(m, a->block), cpu_sub(m, q->key_end, key0));
	emit_scores(f, item, key0, count);
	V end = cpu_add(m, key0, count);
	ScoreBlock block = { .scores = scratch_at(f, f->score_at), .key0 = key0, .count = count };
	if (a->bias) {
		block.bias = scratch_at(f, f->bias_at);
		pack(b, &f->bias, q->x0, a->X.v, key0, end, block.bias);
	}
	if (a->mask) {
		block.mask = scratch_at(f, f->mask_at);
		pack(b, &f->mask, q->x0, a->X.v, key0, end, block.mask);
	}
	V largest[STRIP_VECTORS], shift[STRIP_VECTORS], correction[STRIP_VECTORS], sum[STRIP_VECTORS];
	for (u32 v = 0; v < n; v++)
		largest[v] = state[v];
	scores_finish(a, q, &block, largest);
	V zero = simd_constant(&s, a->type, 0), never = simd_constant(&s, a->type, -INFINITY);
	for (u32 v = 0; v < n; v++) {
		/* a query that has seen nothing yet */
		shift[v] = simd_select(&s, simd_eq(&s, largest[v], never), zero, largest[v]);
		correction[v] = attention_exp(a, &s, simd_sub(&s, state[v], shift[v]));
		sum[v] = simd_mul(&s, state[n + v], correction[v]);
	}
	emit_probabilities(f, count, shift, sum);
	emit_mix(f, item, key0, count, correction);
	for (u32 v = 0; v < n; v++) {
		state[v] = largest[v];
		state[n + v] = sum[v];
	}
}

/* 1 / sum and the log-sum-exp of each query. */
static void emit_factors(const Forward *f, const V *state)
{
	const Attention *a = &f->a;
	CpuModule *m = a->b->m;
	Simd s = { m, a->score.lanes };
	u32 n = a->score.vectors;
	V zero = simd_constant(&s, a->type, 0), one = simd_constant(&s, a->type, 1);
	V never = simd_constant(&s, a->type, -INFINITY);
	for (u32 v = 0; v < n; v++) {
		V sum = state[n + v], at = cpu_i64(m, v * s.lanes);
		V shift = simd_select(&s, simd_eq(&s, state[v], never), zero, state[v]);
		V some = simd_select(&s, simd_eq(&s, sum, zero), one, sum);
		simd_store(&s, a->type, simd_recip(&s, some), attention_at(a, scratch_at(f, f->factor_at), at), 0);
		V lse = simd_add(&s, shift, simd_log(&s, sum));
		simd_store(&s, a->type, lse, attention_at(a, scratch_at(f, f->lse_at), at), 0);
	}
}

static void emit_task(const Forward *f, V item, V panel)
{
	const Attention *a = &f->a;
	Body *b = a->b;
	CpuModule *m = b->m;
	Simd s = { m, a->score.lanes };
	u32 n = a->score.vectors;
	set_item(f, item);
	Queries q;
	queries_make(a, &q, panel);
	pack(b, &f->q, q.x0, a->X.v, cpu_i64(m, 0), a->K.v, scratch_at(f, f->q_at));
	rows_clear(a, scratch_at(f, f->out_at), cpu_mul(m, f->vtiles.v, cpu_i64(m, f->out.rows)));
	V state[2 * STRIP_VECTORS], block = cpu_i64(m, a->block);
	for (u32 v = 0; v < n; v++) {
		state[v] = simd_constant(&s, a->type, -INFINITY);
		state[n + v] = simd_constant(&s, a->type, 0);
	}
	CpuLoop keys = { 0 };
	V first = cpu_mul(m, cpu_div(m, q.key_begin, block), block);
	cpu_loop_begin(m, &keys, first, q.key_end, block, 2 * n, state);
	u32 mark = body_mark(b);
	V next[2 * STRIP_VECTORS];
	for (u32 i = 0; i < 2 * n; i++)
		next[i] = keys.carried[i];
	emit_block(f, &q, item, keys.index, next);
	body_release(b, mark);
	keys.unroll = 1;
	cpu_loop_end(m, &keys, next);
	emit_factors(f, keys.carried);
	panel_turn(a, scratch_at(f, f->out_at), f->features.v, scratch_at(f, f->turned_at), f->features.v,
		   scratch_at(f, f->factor_at), a->type);
	RowResult r = { .which = 0, .x = a->x, .f = a->v, .rows = scratch_at(f, f->turned_at),
			.stride = f->features.v, .scalar_of = scratch_at(f, f->lse_at), .scalar_which = 1 };
	rows_epilogue(a, &r, q.x0, q.count);
}

static void emit_attend(const Forward *f)
{
	const Attention *a = &f->a;
	Body *b = a->b;
	CpuModule *m = b->m;
	CpuLoop task = { 0 };
	cpu_loop_begin(m, &task, b->begin, b->end, cpu_i64(m, 1), 0, NULL);
	u32 mark = body_mark(b);
	V i = cpu_rem(m, task.index, a->panels.v), two = cpu_i64(m, 2), half = cpu_div(m, i, two);
	/* from both ends in turn: where attention is causal, later panels have more to do */
	V back = cpu_sub(m, cpu_sub(m, a->panels.v, cpu_i64(m, 1)), half);
	V panel = LLVMBuildSelect(m->builder, cpu_equal(m, cpu_rem(m, i, two), cpu_i64(m, 0)), half, back, "");
	emit_task(f, cpu_div(m, task.index, a->panels.v), panel);
	body_release(b, mark);
	task.unroll = 1;
	cpu_loop_end(m, &task, NULL);
}

typedef struct Tiles {
	V score, out;
} Tiles;

static void emit_phase(Body *b, u32 kind, const void *argument)
{
	const Tiles *tiles = argument;
	const Kernel *k = b->k;
	Forward f = forward_make(b, b->m->machine, k);
	const Attention *a = &f.a;
	f.score_tile = tiles->score;
	f.out_tile = tiles->out;
	u32 L = a->score.lanes;
	b->lanes.lanes = L;
	f.q = packing_of(b, k->operand[0], a->x, a->kd, a->width, k->compute, L);
	f.key = packing_of(b, k->operand[1], a->n, a->kd, a->score.rows, k->compute, L);
	f.value = packing_of(b, k->operand[2], a->v, a->n, f.out.rows, k->compute, L);
	if (a->mask)
		f.mask = packing_of(b, k->operand[a->mask], a->x, a->n, a->width, a->type, L);
	if (a->bias)
		f.bias = packing_of(b, k->operand[a->bias], a->x, a->n, a->width, a->type, L);
	body_hoist(b, 0, NULL);
	if (kind == 0)
		emit_pack(&f);
	else
		emit_attend(&f);
}

static u32 tiles_of_attention(const CpuMachine *machine, const Kernel *k, Tile tile[CPU_TILES])
{
	Forward shape = forward_make(NULL, machine, k);
	tile[0] = shape.a.score;
	tile[1] = shape.out;
	return 2;
}

static void emit_attention(CpuModule *m, const Kernel *k, Arena *arena, const char *name)
{
	Tile tile[CPU_TILES];
	tiles_of_attention(m->machine, k, tile);
	Tiles tiles = { .score = tile_function(m, tile[0]), .out = tile_function(m, tile[1]) };
	body_phases(m, k, arena, name, 2, emit_phase, &tiles);
}

const CpuKernelClass cpu_attention = { .needs = needs_attention, .emit = emit_attention,
				       .variant = variant_attention, .tiles = tiles_of_attention };
