/* codegen/cpu/attention_common.c: what attention and its gradient share; see attention.h. */
#include "codegen/cpu/attention.h"

#include <math.h>

typedef LLVMValueRef V;

static Range joined(Range a, Range b)
{
	return (Range){ a.first, b.last };
}

Attention attention_make(Body *b, const CpuMachine *machine, const Kernel *k)
{
	Attention a = { .b = b, .k = k, .machine = machine, .type = panel_dtype(k->compute) };
	Range r = range_of(k, DIM_R);
	a.outer = (Range){ 0, r.first };
	a.x = joined(r, range_of(k, DIM_M));
	a.m = range_of(k, DIM_M);
	a.n = range_of(k, DIM_N);
	a.kd = range_of(k, DIM_K);
	a.v = range_of(k, DIM_V);
	CpuModule *m = b ? b->m : NULL;
	a.items = count_extent(b, k, a.outer.first, a.outer.last);
	a.X = count_extent(b, k, a.x.first, a.x.last);
	a.M = count_extent(b, k, a.m.first, a.m.last);
	a.N = count_extent(b, k, a.n.first, a.n.last);
	a.K = count_extent(b, k, a.kd.first, a.kd.last);
	a.V = count_extent(b, k, a.v.first, a.v.last);
	/* rows enough for any number of keys; columns as the queries ask for */
	a.score = tile_for(machine, k->compute, 1 << 20, range_count(k, a.x));
	a.width = tile_width(a.score);
	a.panels = count_div_up(m, a.X, count_of(m, a.width));
	a.mask = k->has_mask ? 3 : 0;
	a.bias = k->has_bias ? 3 + k->has_mask : 0;
	return a;
}

Count attention_lay(CpuModule *m, Count *used, Count elements)
{
	Count at = *used;
	*used = count_add(m, at, count_round(m, elements, 16));
	return at;
}

CountNeeds attention_needs(CpuModule *m, const Attention *a, Count workspace, Count scratch, Count nb, Count phase, u32 phases,
			   const Count *tasks)
{
	Count bytes = count_of(m, panel_bytes(a->k->compute)), line = count_of(m, 64), n = count_of(m, phases);
	Count of = count_rem(m, phase, n), each = tasks[phases - 1];
	for (u32 i = phases - 1; i-- > 0;)
		each = count_if_less(m, of, count_of(m, i + 1), tasks[i], each);
	Count first = count_mul(m, count_div(m, phase, n), nb), items = count_min(m, nb, count_sub(m, a->items, first));
	return (CountNeeds){
		.workspace = count_add(m, count_mul(m, workspace, bytes), line),
		.scratch = count_add(m, count_mul(m, scratch, bytes), line),
		.phases = count_mul(m, n, count_div_up(m, a->items, nb)),
		.tasks = count_mul(m, items, each),
	};
}

Tile feature_tile(const Attention *a, i64 features)
{
	Tile t = a->score;
	i64 high = MAX(1, (features + t.rows - 1) / t.rows);
	t.rows = (u32)MAX(1, (features + high - 1) / high);
	return t;
}

LLVMValueRef attention_at(const Attention *a, V base, V index)
{
	CpuModule *m = a->b->m;
	return cpu_at(m, panel_type(m, a->type), base, index);
}

LLVMValueRef attention_scale_value(const Attention *a)
{
	CpuModule *m = a->b->m;
	Simd one = { m, 1 };
	if (a->k->scale != 0)
		return simd_constant(&one, a->type, a->k->scale);
	V width = LLVMBuildSIToFP(m->builder, a->K.v, m->f64, "");
	V x = simd_recip(&one, simd_sqrt(&one, width));
	return simd_convert(&one, DT_f64, a->type, x);
}

/* ---- which keys are seen ---- */

void queries_range(const Attention *a, Queries *q, V x0, V most)
{
	CpuModule *m = a->b->m;
	LLVMBuilderRef B = m->builder;
	V zero = cpu_i64(m, 0), one = cpu_i64(m, 1);
	*q = (Queries){ .x0 = x0, .key_begin = zero, .key_end = a->N.v };
	q->count = cpu_min(m, most, cpu_sub(m, a->X.v, q->x0));
	if (!a->k->causal)
		return;
	/* query m sees keys up to m + N - M */
	V shift = cpu_sub(m, a->N.v, a->M.v);
	V last = cpu_sub(m, cpu_add(m, q->x0, q->count), one);
	V same = cpu_equal(m, cpu_div(m, q->x0, a->M.v), cpu_div(m, last, a->M.v));
	V low = LLVMBuildSelect(B, same, cpu_rem(m, q->x0, a->M.v), zero, "");
	V high = LLVMBuildSelect(B, same, cpu_rem(m, last, a->M.v), cpu_sub(m, a->M.v, one), "");
	q->limit_low = cpu_add(m, low, shift);
	q->limit_high = cpu_add(m, high, shift);
	V end = cpu_min(m, a->N.v, cpu_add(m, q->limit_high, one));
	q->key_end = LLVMBuildSelect(B, cpu_less(m, end, zero), zero, end, "");
	if (!a->k->window)
		return;
	V begin = cpu_sub(m, q->limit_low, cpu_i64(m, a->k->window - 1));
	begin = LLVMBuildSelect(B, cpu_less(m, begin, zero), zero, begin, "");
	q->key_begin = cpu_min(m, begin, q->key_end);
}

void queries_make(const Attention *a, Queries *q, V panel)
{
	CpuModule *m = a->b->m;
	LLVMBuilderRef B = m->builder;
	Simd s = { m, a->score.lanes };
	V width = cpu_i64(m, a->width);
	queries_range(a, q, cpu_mul(m, panel, width), width);
	if (!a->k->causal)
		return;
	V rows = simd_splat(&s, LLVMBuildTrunc(B, a->M.v, m->i32, ""));
	V shifts = simd_splat(&s, LLVMBuildTrunc(B, cpu_sub(m, a->N.v, a->M.v), m->i32, ""));
	for (u32 v = 0; v < a->score.vectors; v++) {
		V first = cpu_add(m, q->x0, cpu_i64(m, v * a->score.lanes));
		V x = simd_add(&s, simd_splat(&s, LLVMBuildTrunc(B, first, m->i32, "")), simd_iota(&s, DT_i32));
		q->limit[v] = simd_add(&s, LLVMBuildURem(B, x, rows, ""), shifts);
	}
}

/* ---- tiles ---- */

void tiles_pack(const Attention *a, const TilesPacked *t)
{
	Body *b = a->b;
	CpuModule *m = b->m;
	CpuLoop l = { 0 };
	cpu_loop_begin(m, &l, t->first, t->last, cpu_i64(m, 1), 0, NULL);
	u32 mark = body_mark(b);
	V x = cpu_add(m, t->x0, cpu_mul(m, l.index, cpu_i64(m, t->p->width)));
	pack(b, t->p, x, t->x_count, t->from, t->to, attention_at(a, t->base, cpu_mul(m, l.index, t->size)));
	body_release(b, mark);
	l.unroll = 1;
	cpu_loop_end(m, &l, NULL);
}

void tiles_multiply(const Attention *a, const TilesProduct *t)
{
	CpuModule *m = a->b->m;
	CpuLoop l = { 0 };
	cpu_loop_begin(m, &l, cpu_i64(m, 0), t->tiles, cpu_i64(m, 1), 0, NULL);
	V left = attention_at(a, t->left, cpu_mul(m, l.index, t->left_size));
	V to = attention_at(a, t->to, cpu_mul(m, l.index, t->to_size));
	V next = attention_at(a, left, t->left_size);
	cpu_call(m, t->function, 6, (V[]){ left, t->right, to, t->k, cpu_i1(m, t->more), next });
	l.unroll = 1;
	cpu_loop_end(m, &l, NULL);
}

/* ---- rows of a panel ---- */

void rows_begin(const Attention *a, RowsLoop *r, V rows, V count, u32 n, const V *carried)
{
	CpuModule *m = a->b->m;
	Simd s = { m, a->score.lanes };
	r->loop = (CpuLoop){ 0 };
	cpu_loop_begin(m, &r->loop, cpu_i64(m, 0), count, cpu_i64(m, 1), n, carried);
	r->at = attention_at(a, rows, cpu_mul(m, r->loop.index, cpu_i64(m, a->width)));
	for (u32 v = 0; v < a->score.vectors; v++)
		r->x[v] = simd_load(&s, a->type, attention_at(a, r->at, cpu_i64(m, v * s.lanes)), 0);
}

void rows_store(const Attention *a, RowsLoop *r, V rows, V *x)
{
	CpuModule *m = a->b->m;
	Simd s = { m, a->score.lanes };
	V at = attention_at(a, rows, cpu_mul(m, r->loop.index, cpu_i64(m, a->width)));
	for (u32 v = 0; v < a->score.vectors; v++)
		simd_store(&s, a->type, x[v], attention_at(a, at, cpu_i64(m, v * s.lanes)), 0);
}

void rows_end(const Attention *a, RowsLoop *r, const V *next)
{
	r->loop.unroll = 1;
	cpu_loop_end(a->b->m, &r->loop, next);
}

void rows_clear(const Attention *a, V at, V rows)
{
	CpuModule *m = a->b->m;
	Simd s = { m, a->score.lanes };
	CpuLoop l = { 0 };
	cpu_loop_begin(m, &l, cpu_i64(m, 0), cpu_mul(m, rows, cpu_i64(m, a->score.vectors)), cpu_i64(m, 1), 0, NULL);
	simd_store(&s, a->type, simd_constant(&s, a->type, 0),
		   attention_at(a, at, cpu_mul(m, l.index, cpu_i64(m, s.lanes))), 0);
	cpu_loop_end(m, &l, NULL);
}

/* ---- scores ---- */

LLVMValueRef attention_exp(const Attention *a, const Simd *s, V x)
{
	if (a->type == DT_f64)
		return simd_exp(s, x);
	V low = simd_f32(s, -87);
	V y = simd_exp_normal(s, simd_max_fast(s, low, x));
	return simd_select(s, simd_lt(s, DT_f32, x, low), simd_f32(s, 0), y);
}

/* -inf where key `key0 + row` is not seen. */
static void hide(const Attention *a, const Queries *q, const ScoreBlock *b)
{
	CpuModule *m = a->b->m;
	Simd s = { m, a->score.lanes };
	V last = cpu_sub(m, cpu_add(m, b->key0, b->count), cpu_i64(m, 1));
	V edge = cpu_less(m, q->limit_low, last);
	if (a->k->window) {
		V first = cpu_sub(m, q->limit_high, cpu_i64(m, a->k->window - 1));
		edge = LLVMBuildOr(m->builder, edge, cpu_less(m, b->key0, first), "");
	}
	CpuIf some = { 0 };
	cpu_if_begin(m, &some, edge, 50);
	RowsLoop r;
	rows_begin(a, &r, b->scores, b->count, 0, NULL);
	V key = LLVMBuildTrunc(m->builder, cpu_add(m, b->key0, r.loop.index), m->i32, "");
	V keys = simd_splat(&s, key), never = simd_constant(&s, a->type, -INFINITY);
	for (u32 v = 0; v < a->score.vectors; v++) {
		V seen = simd_le(&s, DT_i32, keys, q->limit[v]);
		if (a->k->window) {
			V oldest = simd_sub(&s, q->limit[v], simd_i32(&s, a->k->window));
			seen = simd_and(&s, seen, simd_lt(&s, DT_i32, oldest, keys));
		}
		r.x[v] = simd_select(&s, seen, r.x[v], never);
	}
	rows_store(a, &r, b->scores, r.x);
	rows_end(a, &r, NULL);
	cpu_if_end(m, &some, 0, NULL, NULL);
}

/* c tanh(scale x / c). Before anything is hidden: of -inf it would be -c. */
static void bound(const Attention *a, const ScoreBlock *b, V scale)
{
	CpuModule *m = a->b->m;
	Simd s = { m, a->score.lanes };
	V cap = simd_constant(&s, a->type, a->k->softcap), one = simd_constant(&s, a->type, 1);
	V inner = simd_mul(&s, scale, simd_constant(&s, a->type, 1 / a->k->softcap));
	RowsLoop r;
	rows_begin(a, &r, b->scores, b->count, 0, NULL);
	V slope[STRIP_VECTORS];
	for (u32 v = 0; v < a->score.vectors; v++) {
		V t = simd_tanh(&s, simd_mul(&s, r.x[v], inner));
		slope[v] = simd_sub(&s, one, simd_mul(&s, t, t));
		r.x[v] = simd_mul(&s, t, cap);
	}
	rows_store(a, &r, b->scores, r.x);
	if (b->slope)
		rows_store(a, &r, b->slope, slope);
	rows_end(a, &r, NULL);
}

void scores_finish(const Attention *a, const Queries *q, const ScoreBlock *b, V *largest)
{
	CpuModule *m = a->b->m;
	Simd s = { m, a->score.lanes };
	u32 n = a->score.vectors;
	V scale = simd_splat(&s, attention_scale_value(a));
	if (a->k->softcap > 0)
		bound(a, b, scale);
	if (a->k->causal)
		hide(a, q, b);
	V never = simd_constant(&s, a->type, -INFINITY);
	RowsLoop r;
	rows_begin(a, &r, b->scores, b->count, largest ? n : 0, largest);
	V next[STRIP_VECTORS];
	V row = cpu_mul(m, r.loop.index, cpu_i64(m, a->width));
	for (u32 v = 0; v < n; v++) {
		V column = cpu_add(m, row, cpu_i64(m, v * s.lanes));
		if (a->k->softcap == 0)
			r.x[v] = simd_mul(&s, r.x[v], scale);
		if (b->bias)
			r.x[v] = simd_add(&s, r.x[v], simd_load(&s, a->type, attention_at(a, b->bias, column), 0));
		if (b->mask) {
			V on = simd_load(&s, a->type, attention_at(a, b->mask, column), 0);
			on = simd_ne(&s, on, simd_constant(&s, a->type, 0));
			r.x[v] = simd_select(&s, on, r.x[v], never);
		}
		if (largest)
			next[v] = simd_max(&s, a->type, r.loop.carried[v], r.x[v]);
	}
	rows_store(a, &r, b->scores, r.x);
	rows_end(a, &r, next);
	for (u32 v = 0; largest && v < n; v++)
		largest[v] = r.loop.carried[v];
}

/* ---- turning a panel ---- */

void panel_turn(const Attention *a, V from, V rows, V to, V stride, V factor, DType round)
{
	CpuModule *m = a->b->m;
	Simd s = { m, a->score.lanes };
	u32 L = s.lanes;
	CpuLoop row = { 0 }, lane = { 0 };
	cpu_loop_begin(m, &row, cpu_i64(m, 0), rows, cpu_i64(m, L), 0, NULL);
	cpu_loop_begin(m, &lane, cpu_i64(m, 0), cpu_i64(m, a->width), cpu_i64(m, L), 0, NULL);
	V x[64], by = factor ? simd_load(&s, a->type, attention_at(a, factor, lane.index), 0) : NULL;
	V at = attention_at(a, from, cpu_add(m, cpu_mul(m, row.index, cpu_i64(m, a->width)), lane.index));
	for (u32 i = 0; i < L; i++) {
		x[i] = simd_load(&s, a->type, attention_at(a, at, cpu_i64(m, (i64)i * a->width)), 0);
		if (by)
			x[i] = simd_mul(&s, x[i], by);
		if (round != a->type)
			x[i] = simd_convert(&s, a->type, round, x[i]);
	}
	simd_transpose(&s, x);
	for (u32 i = 0; i < L; i++) {
		V line = cpu_mul(m, cpu_add(m, lane.index, cpu_i64(m, i)), stride);
		simd_store(&s, a->type, x[i], attention_at(a, to, cpu_add(m, line, row.index)), 0);
	}
	lane.unroll = 1;
	cpu_loop_end(m, &lane, NULL);
	row.unroll = 1;
	cpu_loop_end(m, &row, NULL);
}

/* ---- results ---- */

static void set_result(Body *b, DType from, u32 which, V x, bool lanes)
{
	for (u32 i = 1; i < b->k->inst.n; i++) {
		const KInst *in = &b->k->inst.v[i];
		if (in->op == K_acc && (u32)in->imm == which)
			body_set(b, (KVal){ i }, simd_convert(lanes ? &b->lanes : &b->one, from, (DType)in->dtype, x),
				 lanes);
	}
}

/* The stores that need `which`, or, where `others`, those that need only another result. */
static void store_results(Body *b, u32 which, bool others)
{
	for (u32 i = 1; i < b->k->inst.n; i++) {
		if (b->k->inst.v[i].op != K_store)
			continue;
		bool needs = kernel_results_needed(b->k, (KVal){ i }) >> which & 1;
		if (needs != others)
			body_store(b, i);
	}
}

void rows_epilogue(const Attention *a, const RowResult *r, V x0, V count)
{
	Body *b = a->b;
	CpuModule *m = b->m;
	b->lanes.lanes = a->score.lanes;
	CpuLoop row = { 0 };
	cpu_loop_begin(m, &row, cpu_i64(m, 0), count, cpu_i64(m, 1), 0, NULL);
	u32 mark = body_mark(b);
	body_unflatten(b, r->x.first, r->x.last, cpu_add(m, x0, row.index));
	if (r->scalar_of) {
		V at = attention_at(a, r->scalar_of, row.index);
		set_result(b, a->type, r->scalar_which, simd_load(&b->one, a->type, at, 0), false);
	}
	body_hoist(b, range_mask(a->outer) | range_mask(r->x), NULL);
	if (r->scalar_of)
		store_results(b, r->which, true);
	V line = attention_at(a, r->rows, cpu_mul(m, row.index, r->stride));
	Run run;
	V f0 = r->f0 ? r->f0 : cpu_i64(m, 0), f1 = r->f1 ? r->f1 : body_product(b, r->f.first, r->f.last);
	run_begin(b, &run, r->f, f0, f1, NULL);
	for (u32 pass = 0; pass < 2; pass++) {
		RunLanes lane;
		run_lanes_begin(b, &lane, &run, r->f, pass, 0, NULL);
		V at = attention_at(a, line, cpu_sub(m, lane.loop.index, f0));
		set_result(b, a->type, r->which, simd_load(&b->lanes, a->type, at, 0), true);
		store_results(b, r->which, false);
		run_lanes_end(b, &lane, NULL);
	}
	run_end(b, &run);
	body_release(b, mark);
	row.unroll = 1;
	cpu_loop_end(m, &row, NULL);
}
