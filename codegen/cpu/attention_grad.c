/* codegen/cpu/attention_grad.c: ATTENTION_GRAD kernels. Probabilities are made again from the log-sum-exp,
 * a block of keys and a few panels of queries at a time, and never more of them are held. Three phases a
 * block of (batch, kv head) items:
 *
 *   0  a task is a step of an item's queries: q and dout are packed both ways that products want them, with
 *      lse and delta = rowsum(dout * out) - dlse; the step's dq is zero.
 *   1  a task is a share of an item's blocks of keys, which are dealt out in turn. It packs a block, walks
 *      the steps that see it, keeps the block's dk and dv, and adds to its own copy of dq.
 *   2  a task is a step again: the copies of dq are added up in order.
 *
 * How many shares there are follows from the number of keys, so bits do not depend on threads. Five products
 * a pair, as few as there can be: scores and dP = V dout^T turned (attention.h), so that dQ = dS K has
 * its panel at hand; P and dS are turned in registers for dV = P^T dout and dK = dS^T Q.
 *
 * Where dbias is wanted all of it is stored, and so nothing is skipped.
 *
 * After Dao, FlashAttention-2, 2023. */
#include "codegen/cpu/attention.h"

#include <math.h>

typedef LLVMValueRef V;

enum {
	BLOCK_KEYS = 96,
	STEP_QUERIES = 48,     /* long enough a sum for a tile, short enough to stay in the cache */
	SHARE_KEYS = 512,      /* keys of a share, at least, */
	MAX_SHARES = 8,        /* and how many of them at most */
	BUDGET = 1 << 21,      /* elements of workspace that items fill, where there are so many */
	PHASES = 3,
};

/* One width of features, of q and k or of v: its tiles, and where its panels are. */
typedef struct Side {
	Range f;
	Count n;            /* features */
	Tile tile;          /* rows are features */
	Count tiles, rows;  /* tiles; rows of a result that is read in whole tiles and whole vectors */
	Count features;     /* to whole vectors: a row of a turned result */
	Count panel, turned, left;         /* sizes: [n][width]; a tile of [queries][features]; of [n][keys] */
	Count panel_at, turned_at;         /* of a step */
	Count left_at, result_at;          /* in scratch: the block's keys or values, and dk or dv */
	Packing query, query_turned, left_packing; /* q or dout, twice; k or v by key */
	V tile_function;
} Side;

typedef struct Backward {
	Attention a;
	u32 panels;             /* of a step */
	u32 key_panels;         /* of a block */
	Side k, v;
	Count steps, key_blocks, shares, score_tiles;
	Count nb;               /* items of a block */
	Count lse_at, delta_at, dq_at, dq_copy, step_size, item_size;
	/* scratch */
	Count score_at, dp_at, ds_at, slope_at, bias_at, mask_at, p_turned_at, ds_turned_at, keys_at, rows_at, scale_at, sum_at,
		scratch;
	Count keys;             /* size of a tile of keys by feature, for dq */
	u32 out, lse, dout, dlse; /* operands; dlse 0: none */
	bool wants[4];
	Packing key_packing, bias, mask;
	V score_function;
} Backward;

static Side side_make(CpuModule *m, const Attention *a, Range f, Count n, u32 step)
{
	Side s = { .f = f, .n = n, .tile = feature_tile(a, range_count(a->k, f)) };
#define N_(x) count_of(m, (x))
	Count rows = N_(s.tile.rows), spill = N_(PACK_SPILL);
	s.tiles = count_div_up(m, n, rows);
	s.features = count_round(m, n, a->score.lanes);
	s.rows = count_max(m, count_mul(m, s.tiles, rows), s.features);
	s.panel = count_mul(m, count_add(m, n, spill), N_(a->width));
	s.turned = count_mul(m, N_(step + PACK_SPILL), rows);
	s.left = count_mul(m, count_add(m, n, spill), N_(a->score.rows));
	return s;
#undef N_
}

/* Tile functions depend on these. */
static void constants(Backward *f)
{
	Attention *a = &f->a;
	f->key_panels = (BLOCK_KEYS + a->width - 1) / a->width;
	f->panels = (STEP_QUERIES + a->width - 1) / a->width;
	a->block = f->key_panels * a->width;
	const Kernel *k = a->k;
	f->out = 3 + k->has_mask + k->has_bias;
	f->lse = f->out + 1;
	f->dout = f->out + 2;
	f->dlse = f->out + 3 < k->noperand ? f->out + 3 : 0;
	for (u32 i = 0; i < 4; i++)
		f->wants[i] = kernel_stores_result(k, i);
}

static void lay_step(CpuModule *m, Backward *f)
{
	const Attention *a = &f->a;
	Count at = count_of(m, 0), panels = count_of(m, f->panels), step = count_of(m, f->panels * a->width);
	for (u32 i = 0; i < 2; i++) {
		Side *s = i ? &f->v : &f->k;
		s->panel_at = attention_lay(m, &at, count_mul(m, panels, s->panel));
		s->turned_at = attention_lay(m, &at, count_mul(m, s->tiles, s->turned));
	}
	f->lse_at = attention_lay(m, &at, step);
	f->delta_at = attention_lay(m, &at, step);
	f->dq_copy = count_mul(m, f->k.rows, step);
	f->dq_at = attention_lay(m, &at, count_mul(m, f->shares, f->dq_copy));
	f->step_size = at;
	f->item_size = count_mul(m, f->steps, f->step_size);
}

static void lay_scratch(CpuModule *m, Backward *f)
{
	const Attention *a = &f->a;
#define N_(x) count_of(m, (x))
#define LAY(elements) attention_lay(m, &f->scratch, (elements))
	Count width = N_(a->width), block = N_(a->block), rows = N_(a->block + a->score.rows);
	Count extra = count_mul(m, N_(a->block + PACK_SPILL), width), none = N_(0);
	Count turned = N_((i64)f->key_panels * f->panels * a->width * a->width);
	f->scratch = none;
	f->score_at = LAY(count_mul(m, rows, width));
	f->dp_at = LAY(count_mul(m, rows, width));
	f->ds_at = LAY(f->wants[3] ? count_mul(m, rows, width) : none);
	f->slope_at = LAY(a->k->softcap > 0 ? count_mul(m, rows, width) : none);
	f->bias_at = LAY(a->bias ? extra : none);
	f->mask_at = LAY(a->mask ? extra : none);
	f->p_turned_at = LAY(turned);
	f->ds_turned_at = LAY(turned);
	for (u32 i = 0; i < 2; i++) {
		Side *s = i ? &f->v : &f->k;
		s->left_at = LAY(count_mul(m, f->score_tiles, s->left));
		s->result_at = LAY(count_mul(m, s->rows, block));
	}
	f->keys = count_mul(m, N_(a->block + PACK_SPILL), N_(f->k.tile.rows));
	f->keys_at = LAY(count_mul(m, f->k.tiles, f->keys));
	/* rows of a result, turned: of the features, or of a block's keys */
	Count longest = count_max(m, block, count_max(m, f->k.features, f->v.features));
	f->rows_at = LAY(count_mul(m, longest, width));
	f->scale_at = LAY(width);
	f->sum_at = LAY(width);
#undef LAY
#undef N_
}

static Backward backward_make(Body *b, const CpuMachine *machine, const Kernel *k)
{
	CpuModule *m = b ? b->m : NULL;
	Backward f = { .a = attention_make(b, machine, k) };
	Attention *a = &f.a;
	constants(&f);
#define N_(x) count_of(m, (x))
	u32 step = f.panels * a->width;
	f.k = side_make(m, a, a->kd, a->K, step);
	f.v = side_make(m, a, a->v, a->V, step);
	f.steps = count_div_up(m, a->X, N_(step));
	f.key_blocks = count_div_up(m, a->N, N_(a->block));
	Count one = N_(1), items = count_max(m, a->items, one);
	f.shares = count_max(m, one, count_min(m, N_(MAX_SHARES), count_div(m, a->N, N_(SHARE_KEYS))));
	f.score_tiles = N_((a->block + a->score.rows - 1) / a->score.rows);
	lay_step(m, &f);
	lay_scratch(m, &f);
	Count fit = count_div_up(m, N_(BUDGET), count_max(m, f.item_size, one));
	Count busy = count_div_up(m, N_(4 * (i64)machine->cores), f.shares);
	f.nb = count_max(m, count_div_up(m, items, N_(KERNEL_PHASES / PHASES)), count_max(m, fit, busy));
	f.nb = count_min(m, items, f.nb);
	return f;
#undef N_
}

static u64 variant_attention_grad(const CpuMachine *machine, const Kernel *k)
{
	Backward f = backward_make(NULL, machine, k);
	return f.a.score.rows | f.a.score.vectors << 8 | f.k.tile.rows << 16 | (u64)f.v.tile.rows << 24;
}

static CountNeeds needs_attention_grad(Body *b, const CpuMachine *machine, const Kernel *k, Count phase)
{
	CpuModule *m = b ? b->m : NULL;
	Backward f = backward_make(b, machine, k);
	Count tasks[PHASES] = { f.steps, f.shares, f.wants[0] ? f.steps : count_of(m, 0) };
	return attention_needs(m, &f.a, count_mul(m, f.nb, f.item_size), f.scratch, f.nb, phase, PHASES, tasks);
}

/* ---- code: where things are ---- */

static V scratch_at(const Backward *f, Count at)
{
	return attention_at(&f->a, f->a.b->scratch, at.v);
}

/* Field `at` of step `step` of item `item`, element `index` of it. */
static V step_at(const Backward *f, V item, V step, Count at, V index)
{
	CpuModule *m = f->a.b->m;
	V base = cpu_add(m, cpu_mul(m, item, f->item_size.v), cpu_mul(m, step, f->step_size.v));
	return attention_at(&f->a, f->a.b->workspace, cpu_add(m, cpu_add(m, base, at.v), index));
}

static V times(const Backward *f, V index, Count size)
{
	return cpu_mul(f->a.b->m, index, size.v);
}

/* The coordinates of BATCH and G, and what depends on them alone. */
static void set_item(const Backward *f, V item)
{
	Body *b = f->a.b;
	V block = cpu_div(b->m, b->phase, cpu_i64(b->m, PHASES));
	V index = cpu_add(b->m, cpu_mul(b->m, block, f->nb.v), item);
	body_unflatten(b, f->a.outer.first, f->a.outer.last, index);
	body_hoist(b, range_mask(f->a.outer), NULL);
}

/* The loop over tasks, each an item and one of `n` parts of it. */
typedef struct Tasks {
	CpuLoop loop;
	u32 mark;
	V item, part;
} Tasks;

static void tasks_begin(const Backward *f, Tasks *t, Count n)
{
	Body *b = f->a.b;
	*t = (Tasks){ 0 };
	cpu_loop_begin(b->m, &t->loop, b->begin, b->end, cpu_i64(b->m, 1), 0, NULL);
	t->mark = body_mark(b);
	t->item = cpu_div(b->m, t->loop.index, n.v);
	t->part = cpu_rem(b->m, t->loop.index, n.v);
	set_item(f, t->item);
}

static void tasks_end(const Backward *f, Tasks *t)
{
	body_release(f->a.b, t->mark);
	t->loop.unroll = 1;
	cpu_loop_end(f->a.b->m, &t->loop, NULL);
}

/* The loop over the panels of queries of a step that there are. */
typedef struct Panels {
	CpuLoop loop;
	u32 mark;
	Queries q; /* of the panel */
} Panels;

static void panels_begin(const Backward *f, Panels *p, V step)
{
	const Attention *a = &f->a;
	Body *b = a->b;
	CpuModule *m = b->m;
	*p = (Panels){ 0 };
	V first = cpu_mul(m, step, cpu_i64(m, f->panels));
	V n = cpu_min(m, cpu_i64(m, f->panels), cpu_sub(m, a->panels.v, first));
	cpu_loop_begin(m, &p->loop, cpu_i64(m, 0), n, cpu_i64(m, 1), 0, NULL);
	p->mark = body_mark(b);
	queries_make(a, &p->q, cpu_add(m, first, p->loop.index));
}

static void panels_end(const Backward *f, Panels *p)
{
	body_release(f->a.b, p->mark);
	p->loop.unroll = 1;
	cpu_loop_end(f->a.b->m, &p->loop, NULL);
}

/* ---- phase 0: queries ---- */

static V typed(const Backward *f, const Simd *s, u32 operand, V x)
{
	const Kernel *k = f->a.k;
	return simd_convert(s, (DType)k->inst.v[k->operand[operand].i].dtype, f->a.type, x);
}

/* Adds dout * out over the features of the row that is set, in lanes, to what is at `sum`. */
static void emit_row_sum(const Backward *f, V sum)
{
	const Attention *a = &f->a;
	Body *b = a->b;
	CpuModule *m = b->m;
	Run run = { 0 };
	run_begin(b, &run, a->v, cpu_i64(m, 0), a->V.v, NULL);
	V total = simd_load(&b->lanes, a->type, sum, 0);
	for (u32 pass = 0; pass < 2; pass++) {
		RunLanes lane;
		run_lanes_begin(b, &lane, &run, a->v, pass, 1, &total);
		V x = typed(f, &b->lanes, f->out, body_vector(b, a->k->operand[f->out]));
		V y = typed(f, &b->lanes, f->dout, body_vector(b, a->k->operand[f->dout]));
		V was = lane.loop.carried[0], next = simd_multiply_add(&b->lanes, x, y, was);
		next = pass ? simd_select(&b->lanes, b->mask, next, was) : next;
		run_lanes_end(b, &lane, &next);
		total = lane.loop.carried[0];
	}
	simd_store(&b->lanes, a->type, total, sum, 0);
	run_end(b, &run);
}

/* Of each query in [x0, x1): the log-sum-exp, and delta: the sum over features of dout * out, less dlse. */
static void emit_deltas(const Backward *f, V x0, V x1, V lses, V deltas)
{
	const Attention *a = &f->a;
	Body *b = a->b;
	CpuModule *m = b->m;
	const Simd *one = &b->one;
	V sum = scratch_at(f, f->sum_at), never = simd_constant(one, a->type, -INFINITY);
	CpuLoop row = { 0 };
	cpu_loop_begin(m, &row, x0, x1, cpu_i64(m, 1), 0, NULL);
	u32 mark = body_mark(b);
	V at = cpu_sub(m, row.index, x0);
	body_unflatten(b, a->x.first, a->x.last, row.index);
	V lse = typed(f, one, f->lse, body_scalar(b, a->k->operand[f->lse]));
	/* a query that sees nothing: e^(-inf - 0) is the probability of everything */
	lse = simd_select(one, simd_eq(one, lse, never), simd_constant(one, a->type, 0), lse);
	simd_store(one, a->type, lse, attention_at(a, lses, at), 0);
	simd_store(&b->lanes, a->type, simd_constant(&b->lanes, a->type, 0), sum, 0);
	emit_row_sum(f, sum);
	V delta = simd_reduce_add(&b->lanes, simd_load(&b->lanes, a->type, sum, 0));
	if (f->dlse)
		delta = simd_sub(one, delta, typed(f, one, f->dlse, body_scalar(b, a->k->operand[f->dlse])));
	simd_store(one, a->type, delta, attention_at(a, deltas, at), 0);
	body_release(b, mark);
	row.unroll = 1;
	cpu_loop_end(m, &row, NULL);
}

static void emit_queries(const Backward *f)
{
	const Attention *a = &f->a;
	Body *b = a->b;
	CpuModule *m = b->m;
	V zero = cpu_i64(m, 0);
	Tasks t;
	tasks_begin(f, &t, f->steps);
	V step = cpu_i64(m, (i64)f->panels * a->width), x0 = cpu_mul(m, t.part, step);
	V x1 = cpu_min(m, a->X.v, cpu_add(m, x0, step));
	emit_deltas(f, x0, x1, step_at(f, t.item, t.part, f->lse_at, zero), step_at(f, t.item, t.part, f->delta_at, zero));
	Panels p;
	panels_begin(f, &p, t.part);
	for (u32 i = 0; i < 2; i++) {
		const Side *s = i ? &f->v : &f->k;
		V to = step_at(f, t.item, t.part, s->panel_at, times(f, p.loop.index, s->panel));
		pack(b, &s->query, p.q.x0, a->X.v, zero, s->n.v, to);
	}
	panels_end(f, &p);
	for (u32 i = 0; i < 2; i++) {
		const Side *s = i ? &f->v : &f->k;
		TilesPacked turned = { .p = &s->query_turned, .first = zero, .last = s->tiles.v, .size = s->turned.v,
				       .base = step_at(f, t.item, t.part, s->turned_at, zero), .x0 = zero,
				       .x_count = s->n.v, .from = x0, .to = x1 };
		if (f->wants[i + 1])
			tiles_pack(a, &turned);
	}
	if (f->wants[0])
		rows_clear(a, step_at(f, t.item, t.part, f->dq_at, zero),
			   cpu_mul(m, f->shares.v, cpu_mul(m, f->k.rows.v, cpu_i64(m, f->panels))));
	tasks_end(f, &t);
}

/* ---- phase 1: keys ---- */

/* Where a task is: a block of keys, a step of queries. */
typedef struct Place {
	V item, share, key0, count; /* count: keys of the block */
	V step, rows;               /* rows: keys of it that some query of the step sees */
} Place;

static void emit_pack_keys(const Backward *f, const Place *at)
{
	const Attention *a = &f->a;
	CpuModule *m = a->b->m;
	V zero = cpu_i64(m, 0), end = cpu_add(m, at->key0, at->count), rows = cpu_i64(m, a->score.rows);
	V tiles = cpu_div(m, cpu_add(m, at->count, cpu_i64(m, a->score.rows - 1)), rows);
	for (u32 i = 0; i < 2; i++) {
		const Side *s = i ? &f->v : &f->k;
		tiles_pack(a, &(TilesPacked){ .p = &s->left_packing, .first = zero, .last = tiles, .size = s->left.v,
					      .base = scratch_at(f, s->left_at), .x0 = at->key0, .x_count = a->N.v,
					      .from = zero, .to = s->n.v });
		rows_clear(a, scratch_at(f, s->result_at), cpu_mul(m, s->rows.v, cpu_i64(m, f->key_panels)));
	}
	if (f->wants[0])
		tiles_pack(a, &(TilesPacked){ .p = &f->key_packing, .first = zero, .last = f->k.tiles.v,
					      .size = f->keys.v, .base = scratch_at(f, f->keys_at), .x0 = zero,
					      .x_count = a->K.v, .from = at->key0, .to = end });
}

/* Scores become probabilities, and dP becomes dS, as the product takes it. */
static void emit_derivative(const Backward *f, const Place *at, V panel)
{
	const Attention *a = &f->a;
	CpuModule *m = a->b->m;
	Simd s = { m, a->score.lanes };
	V row = cpu_mul(m, panel, cpu_i64(m, a->width));
	V lse[STRIP_VECTORS], delta[STRIP_VECTORS];
	for (u32 v = 0; v < a->score.vectors; v++) {
		V lane = cpu_add(m, row, cpu_i64(m, v * s.lanes));
		lse[v] = simd_load(&s, a->type, step_at(f, at->item, at->step, f->lse_at, lane), 0);
		delta[v] = simd_load(&s, a->type, step_at(f, at->item, at->step, f->delta_at, lane), 0);
	}
	RowsLoop p;
	rows_begin(a, &p, scratch_at(f, f->score_at), at->rows, 0, NULL);
	V line = cpu_mul(m, p.loop.index, cpu_i64(m, a->width)), dp = attention_at(a, scratch_at(f, f->dp_at), line);
	V ds[STRIP_VECTORS];
	for (u32 v = 0; v < a->score.vectors; v++) {
		p.x[v] = attention_exp(a, &s, simd_sub(&s, p.x[v], lse[v]));
		V x = simd_load(&s, a->type, attention_at(a, dp, cpu_i64(m, v * s.lanes)), 0);
		ds[v] = simd_mul(&s, p.x[v], simd_sub(&s, x, delta[v]));
	}
	rows_store(a, &p, scratch_at(f, f->score_at), p.x);
	if (f->wants[3])
		rows_store(a, &p, scratch_at(f, f->ds_at), ds);
	for (u32 v = 0; a->k->softcap > 0 && v < a->score.vectors; v++) {
		V at_slope = attention_at(a, scratch_at(f, f->slope_at), cpu_add(m, line, cpu_i64(m, v * s.lanes)));
		ds[v] = simd_mul(&s, ds[v], simd_load(&s, a->type, at_slope, 0));
	}
	for (u32 v = 0; a->k->compute != a->type && v < a->score.vectors; v++)
		ds[v] = simd_convert(&s, a->type, a->k->compute, ds[v]);
	rows_store(a, &p, scratch_at(f, f->dp_at), ds);
	rows_end(a, &p, NULL);
}

/* Rows of keys to panels of keys: [key panel][query of the step][key]. */
static void emit_turn(const Backward *f, V from, V to, V panel, V key_panels)
{
	const Attention *a = &f->a;
	CpuModule *m = a->b->m;
	V width = cpu_i64(m, a->width), square = cpu_i64(m, (i64)a->width * a->width);
	CpuLoop l = { 0 };
	cpu_loop_begin(m, &l, cpu_i64(m, 0), key_panels, cpu_i64(m, 1), 0, NULL);
	V at = cpu_add(m, cpu_mul(m, l.index, cpu_i64(m, f->panels)), panel);
	panel_turn(a, attention_at(a, from, cpu_mul(m, l.index, square)), width,
		   attention_at(a, to, cpu_mul(m, at, square)), width, NULL, a->k->compute);
	l.unroll = 1;
	cpu_loop_end(m, &l, NULL);
}

/* dS of the panel's queries, as results: a row is a query. */
static void emit_bias(const Backward *f, const Place *at, const Queries *q)
{
	const Attention *a = &f->a;
	CpuModule *m = a->b->m;
	V stride = cpu_i64(m, a->block), end = cpu_add(m, at->key0, at->count);
	panel_turn(a, scratch_at(f, f->ds_at), stride, scratch_at(f, f->rows_at), stride, NULL, a->type);
	RowResult r = { .which = 3, .x = a->x, .f = a->n, .f0 = at->key0, .f1 = end,
			.rows = scratch_at(f, f->rows_at), .stride = stride };
	rows_epilogue(a, &r, q->x0, q->count);
}

static void emit_panel(const Backward *f, const Place *at, const Queries *q, V panel)
{
	const Attention *a = &f->a;
	Body *b = a->b;
	CpuModule *m = b->m;
	V rows = cpu_i64(m, a->score.rows), end = cpu_add(m, at->key0, at->rows);
	V tiles = cpu_div(m, cpu_add(m, at->rows, cpu_i64(m, a->score.rows - 1)), rows);
	for (u32 i = 0; i < 2; i++) {
		const Side *s = i ? &f->v : &f->k;
		TilesProduct t = { .function = f->score_function, .left = scratch_at(f, s->left_at),
				   .left_size = s->left.v, .to = scratch_at(f, i ? f->dp_at : f->score_at),
				   .right = step_at(f, at->item, at->step, s->panel_at, times(f, panel, s->panel)),
				   .to_size = cpu_i64(m, (i64)a->score.rows * a->width), .tiles = tiles,
				   .k = s->n.v };
		tiles_multiply(a, &t);
	}
	ScoreBlock block = { .scores = scratch_at(f, f->score_at), .key0 = at->key0, .count = at->rows };
	if (a->bias) {
		block.bias = scratch_at(f, f->bias_at);
		pack(b, &f->bias, q->x0, a->X.v, at->key0, end, block.bias);
	}
	if (a->mask) {
		block.mask = scratch_at(f, f->mask_at);
		pack(b, &f->mask, q->x0, a->X.v, at->key0, end, block.mask);
	}
	if (a->k->softcap > 0)
		block.slope = scratch_at(f, f->slope_at);
	scores_finish(a, q, &block, NULL);
	emit_derivative(f, at, panel);
	V width = cpu_i64(m, a->width);
	V key_panels = cpu_div(m, cpu_add(m, at->rows, cpu_i64(m, a->width - 1)), width);
	if (f->wants[2])
		emit_turn(f, scratch_at(f, f->score_at), scratch_at(f, f->p_turned_at), panel, key_panels);
	if (f->wants[1])
		emit_turn(f, scratch_at(f, f->dp_at), scratch_at(f, f->ds_turned_at), panel, key_panels);
	if (f->wants[3])
		emit_bias(f, at, q);
	if (!f->wants[0])
		return;
	V copy = cpu_mul(m, at->share, f->dq_copy.v);
	V to = step_at(f, at->item, at->step, f->dq_at,
		       cpu_add(m, copy, cpu_mul(m, panel, cpu_mul(m, f->k.rows.v, width))));
	tiles_multiply(a, &(TilesProduct){ .function = f->k.tile_function, .left = scratch_at(f, f->keys_at),
					   .left_size = f->keys.v, .right = scratch_at(f, f->dp_at), .to = to,
					   .to_size = cpu_i64(m, (i64)f->k.tile.rows * a->width),
					   .tiles = f->k.tiles.v, .k = at->rows, .more = true });
}

/* dk or dv of the block: the sum over the step's queries. */
static void emit_add(const Backward *f, const Place *at, const Side *s, Count turned, V queries)
{
	const Attention *a = &f->a;
	CpuModule *m = a->b->m;
	V width = cpu_i64(m, a->width);
	V key_panels = cpu_div(m, cpu_add(m, at->rows, cpu_i64(m, a->width - 1)), width);
	CpuLoop l = { 0 };
	cpu_loop_begin(m, &l, cpu_i64(m, 0), key_panels, cpu_i64(m, 1), 0, NULL);
	V right = cpu_mul(m, l.index, cpu_i64(m, (i64)f->panels * a->width * a->width));
	V to = cpu_mul(m, l.index, cpu_mul(m, s->rows.v, width));
	tiles_multiply(a, &(TilesProduct){ .function = s->tile_function, .left_size = s->turned.v,
					   .left = step_at(f, at->item, at->step, s->turned_at, cpu_i64(m, 0)),
					   .right = attention_at(a, scratch_at(f, turned), right),
					   .to = attention_at(a, scratch_at(f, s->result_at), to),
					   .to_size = cpu_i64(m, (i64)s->tile.rows * a->width), .tiles = s->tiles.v,
					   .k = queries, .more = true });
	l.unroll = 1;
	cpu_loop_end(m, &l, NULL);
}

static void emit_step(const Backward *f, Place *at)
{
	const Attention *a = &f->a;
	Body *b = a->b;
	CpuModule *m = b->m;
	Queries q;
	V step = cpu_i64(m, (i64)f->panels * a->width), zero = cpu_i64(m, 0), width = cpu_i64(m, a->width);
	queries_range(a, &q, cpu_mul(m, at->step, step), step);
	at->rows = at->count;
	CpuIf seen = { 0 };
	if (!f->wants[3]) {
		V end = cpu_add(m, at->key0, at->count), past = cpu_sub(m, q.key_end, at->key0);
		V some = LLVMBuildAnd(m->builder, cpu_less(m, zero, past), cpu_less(m, q.key_begin, end), "");
		cpu_if_begin(m, &seen, some, 50);
		/* whole panels of keys: beyond, all of it would be zero */
		V panels = cpu_div(m, cpu_add(m, past, cpu_i64(m, a->width - 1)), width);
		at->rows = cpu_min(m, at->count, cpu_mul(m, panels, width));
	}
	u32 mark = body_mark(b);
	Panels p;
	panels_begin(f, &p, at->step);
	emit_panel(f, at, &p.q, p.loop.index);
	panels_end(f, &p);
	if (f->wants[2])
		emit_add(f, at, &f->v, f->p_turned_at, q.count);
	if (f->wants[1])
		emit_add(f, at, &f->k, f->ds_turned_at, q.count);
	body_release(b, mark);
	if (!f->wants[3])
		cpu_if_end(m, &seen, 0, NULL, NULL);
}

/* Panel of `width` lanes that are rows of range x, from `x0` on: turned, scaled, stored. */
static void emit_result(const Backward *f, const Side *s, u32 which, Range x, V panel, V x0, V count, bool scaled)
{
	const Attention *a = &f->a;
	V rows = scratch_at(f, f->rows_at);
	panel_turn(a, panel, s->features.v, rows, s->features.v, scaled ? scratch_at(f, f->scale_at) : NULL, a->type);
	RowResult r = { .which = which, .x = x, .f = s->f, .rows = rows, .stride = s->features.v };
	rows_epilogue(a, &r, x0, count);
}

static void emit_key_results(const Backward *f, const Place *at)
{
	const Attention *a = &f->a;
	Body *b = a->b;
	CpuModule *m = b->m;
	V width = cpu_i64(m, a->width);
	CpuLoop l = { 0 };
	cpu_loop_begin(m, &l, cpu_i64(m, 0), at->count, width, 0, NULL);
	u32 mark = body_mark(b);
	V count = cpu_min(m, width, cpu_sub(m, at->count, l.index)), x0 = cpu_add(m, at->key0, l.index);
	for (u32 i = 0; i < 2; i++) {
		const Side *s = i ? &f->v : &f->k;
		V panel = attention_at(a, scratch_at(f, s->result_at), cpu_mul(m, l.index, s->rows.v));
		if (f->wants[i + 1])
			emit_result(f, s, i + 1, a->n, panel, x0, count, i == 0);
		body_release(b, mark);
	}
	l.unroll = 1;
	cpu_loop_end(m, &l, NULL);
}

/* The scale in every lane of a panel. */
static void emit_scale(const Backward *f)
{
	const Attention *a = &f->a;
	CpuModule *m = a->b->m;
	Simd s = { m, a->score.lanes };
	V scale = simd_splat(&s, attention_scale_value(a));
	for (u32 v = 0; v < a->score.vectors; v++)
		simd_store(&s, a->type, scale,
			   attention_at(a, scratch_at(f, f->scale_at), cpu_i64(m, v * s.lanes)), 0);
}

static void emit_keys(const Backward *f)
{
	const Attention *a = &f->a;
	Body *b = a->b;
	CpuModule *m = b->m;
	emit_scale(f);
	Tasks t;
	tasks_begin(f, &t, f->shares);
	CpuLoop block = { 0 }, step = { 0 };
	cpu_loop_begin(m, &block, t.part, f->key_blocks.v, f->shares.v, 0, NULL);
	u32 mark = body_mark(b);
	Place at = { .item = t.item, .share = t.part, .key0 = cpu_mul(m, block.index, cpu_i64(m, a->block)) };
	at.count = cpu_min(m, cpu_i64(m, a->block), cpu_sub(m, a->N.v, at.key0));
	emit_pack_keys(f, &at);
	cpu_loop_begin(m, &step, cpu_i64(m, 0), f->steps.v, cpu_i64(m, 1), 0, NULL);
	u32 here = body_mark(b);
	at.step = step.index;
	emit_step(f, &at);
	body_release(b, here);
	step.unroll = 1;
	cpu_loop_end(m, &step, NULL);
	emit_key_results(f, &at);
	body_release(b, mark);
	block.unroll = 1;
	cpu_loop_end(m, &block, NULL);
	tasks_end(f, &t);
}

/* ---- phase 2: dq ---- */

static void emit_dq(const Backward *f)
{
	const Attention *a = &f->a;
	CpuModule *m = a->b->m;
	Simd s = { m, a->score.lanes };
	emit_scale(f);
	Tasks t;
	tasks_begin(f, &t, f->steps);
	Panels p;
	panels_begin(f, &p, t.part);
	V width = cpu_i64(m, a->width), size = cpu_mul(m, f->k.rows.v, width);
	V first = step_at(f, t.item, t.part, f->dq_at, cpu_mul(m, p.loop.index, size));
	CpuLoop copy = { 0 };
	cpu_loop_begin(m, &copy, cpu_i64(m, 1), f->shares.v, cpu_i64(m, 1), 0, NULL);
	RowsLoop r;
	rows_begin(a, &r, attention_at(a, first, cpu_mul(m, copy.index, f->dq_copy.v)), f->k.rows.v, 0, NULL);
	V sum = attention_at(a, first, cpu_mul(m, r.loop.index, width));
	for (u32 v = 0; v < a->score.vectors; v++)
		r.x[v] = simd_add(&s, simd_load(&s, a->type, attention_at(a, sum, cpu_i64(m, v * s.lanes)), 0), r.x[v]);
	rows_store(a, &r, first, r.x);
	rows_end(a, &r, NULL);
	copy.unroll = 1;
	cpu_loop_end(m, &copy, NULL);
	emit_result(f, &f->k, 0, a->x, first, p.q.x0, p.q.count, true);
	panels_end(f, &p);
	tasks_end(f, &t);
}

/* ---- all of it ---- */

static void make_packings(Backward *f)
{
	const Attention *a = &f->a;
	const Kernel *k = a->k;
	Body *b = a->b;
	u32 L = a->score.lanes, w = a->width;
	DType c = k->compute;
	f->k.query = packing_of(b, k->operand[0], a->x, a->kd, w, c, L);
	f->k.query_turned = packing_of(b, k->operand[0], a->kd, a->x, f->k.tile.rows, c, L);
	f->k.left_packing = packing_of(b, k->operand[1], a->n, a->kd, a->score.rows, c, L);
	f->key_packing = packing_of(b, k->operand[1], a->kd, a->n, f->k.tile.rows, c, L);
	f->v.query = packing_of(b, k->operand[f->dout], a->x, a->v, w, c, L);
	f->v.query_turned = packing_of(b, k->operand[f->dout], a->v, a->x, f->v.tile.rows, c, L);
	f->v.left_packing = packing_of(b, k->operand[2], a->n, a->v, a->score.rows, c, L);
	if (a->mask)
		f->mask = packing_of(b, k->operand[a->mask], a->x, a->n, w, a->type, L);
	if (a->bias)
		f->bias = packing_of(b, k->operand[a->bias], a->x, a->n, w, a->type, L);
}

static u32 tiles_of_attention_grad(const CpuMachine *machine, const Kernel *k, Tile tile[CPU_TILES])
{
	Backward shape = backward_make(NULL, machine, k);
	tile[0] = shape.a.score;
	tile[1] = shape.k.tile;
	tile[2] = shape.v.tile;
	return 3;
}

static void emit_phase(Body *b, u32 kind, const void *tiles)
{
	const Backward *t = tiles;
	Backward f = backward_make(b, b->m->machine, b->k);
	f.score_function = t->score_function;
	f.k.tile_function = t->k.tile_function;
	f.v.tile_function = t->v.tile_function;
	b->lanes.lanes = f.a.score.lanes;
	make_packings(&f);
	body_hoist(b, 0, NULL);
	if (kind == 0)
		emit_queries(&f);
	else if (kind == 1)
		emit_keys(&f);
	else if (f.wants[0])
		emit_dq(&f);
}

static void emit_attention_grad(CpuModule *m, const Kernel *k, Arena *arena, const char *name)
{
	Tile tile[CPU_TILES];
	tiles_of_attention_grad(m->machine, k, tile);
	Backward tiles = { .score_function = tile_function(m, tile[0]) };
	tiles.k.tile_function = tile_function(m, tile[1]);
	tiles.v.tile_function = tile_function(m, tile[2]);
	body_phases(m, k, arena, name, PHASES, emit_phase, &tiles);
}

const CpuKernelClass cpu_attention_grad = { .needs = needs_attention_grad, .emit = emit_attention_grad,
					    .variant = variant_attention_grad, .tiles = tiles_of_attention_grad };
