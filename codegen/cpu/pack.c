/* codegen/cpu/pack.c: operands into panels; see panel.h. An operand is a body, evaluated in vectors along
 * whichever direction it is contiguous in: along the panel's rows straight away, across them through a
 * transposition in registers. */
#include "codegen/cpu/panel.h"

#include <string.h>

typedef LLVMValueRef V;

/* ---- ranges ---- */

Range range_of(const Kernel *k, DimRole role)
{
	Range r = { k->ndim, k->ndim };
	for (u32 d = 0; d < k->ndim; d++) {
		if (k->dim[d].role != role)
			continue;
		if (r.first == k->ndim)
			r.first = d;
		r.last = d + 1;
	}
	return r;
}

i64 range_count(const Kernel *k, Range r)
{
	i64 n = 1;
	for (u32 d = r.first; d < r.last; d++)
		n *= k->dim[d].extent;
	return n;
}

u32 range_mask(Range r)
{
	u32 mask = 0;
	for (u32 d = r.first; d < r.last; d++)
		mask |= 1u << d;
	return mask;
}

void run_begin(Body *b, Run *r, Range range, V from, V to, V length)
{
	CpuModule *m = b->m;
	assert(range.first < range.last);
	r->looped = range.last - range.first > 1;
	if (!r->looped) {
		r->begin = from;
		r->end = to;
		r->base = cpu_i64(m, 0);
		return;
	}
	u32 outer = range.last - 1, n = length ? 0 : outer - range.first;
	V one = cpu_i64(m, 1), extent = length ? length : b->extent[outer], first = cpu_div(m, from, extent);
	V last = cpu_div(m, cpu_add(m, to, cpu_sub(m, extent, one)), extent);
	r->loop = (CpuLoop){ 0 };
	r->first = range.first;
	r->last = range.first + n;
	body_unflatten(b, r->first, r->last, first);
	cpu_loop_begin(m, &r->loop, first, last, one, n, b->coord + r->first);
	memcpy(b->coord + r->first, r->loop.carried, n * sizeof *b->coord);
	r->base = cpu_mul(m, r->loop.index, extent);
	if (length) /* the last dimensions are 0 there */
		body_unflatten(b, range.first, range.last, r->base);
	V end = cpu_add(m, r->base, extent);
	r->begin = LLVMBuildSelect(m->builder, cpu_less(m, from, r->base), r->base, from, "");
	r->end = cpu_min(m, to, end);
}

void run_end(Body *b, Run *r)
{
	if (!r->looped)
		return;
	/* coordinates are counted from run to run: dividing takes as long as a short run does */
	V unit[KERNEL_DIMS];
	memcpy(b->coord + r->first, r->loop.carried, (r->last - r->first) * sizeof *b->coord);
	body_unit(b, r->first, r->last, unit);
	body_advance(b, r->first, r->last, unit);
	r->loop.unroll = 1;
	cpu_loop_end(b->m, &r->loop, b->coord + r->first);
}

void run_lanes_begin(Body *b, RunLanes *l, const Run *r, Range range, u32 pass, u32 n, const V *carried)
{
	CpuModule *m = b->m;
	V L = cpu_i64(m, b->lanes.lanes), span = cpu_sub(m, r->end, r->begin);
	V whole = cpu_add(m, r->begin, cpu_mul(m, cpu_div(m, span, L), L));
	l->loop = (CpuLoop){ 0 };
	cpu_loop_begin(m, &l->loop, pass ? whole : r->begin, pass ? r->end : whole, L, n, carried);
	l->mark = body_mark(b);
	b->vector_dim = range.last - 1;
	b->coord[b->vector_dim] = cpu_sub(m, l->loop.index, r->base);
	b->mask = pass ? simd_mask(&b->lanes, cpu_sub(m, r->end, l->loop.index)) : NULL;
}

void run_lanes_end(Body *b, RunLanes *l, const V *next)
{
	b->mask = NULL;
	b->vector_dim = NONE;
	body_release(b, l->mark);
	l->loop.unroll = 1;
	cpu_loop_end(b->m, &l->loop, next);
}

/* Those of a flattened index, beside what is set. */
static void coordinates_of(Body *b, Range range, V flat, V out[KERNEL_DIMS])
{
	V was[KERNEL_DIMS];
	memcpy(was, b->coord, sizeof was);
	body_unflatten(b, range.first, range.last, flat);
	memcpy(out, b->coord, sizeof was);
	memcpy(b->coord, was, sizeof was);
}

void strip_make(Body *b, Strip *s, Range range, V at, V count, u32 n, u32 step, V length)
{
	CpuModule *m = b->m;
	u32 last = range.last - 1;
	V extent = length ? length : b->extent[last];
	assert(n <= STRIP_VECTORS);
	s->n = n;
	V end = cpu_add(m, at, cpu_i64(m, (i64)n * step));
	s->whole = cpu_less(m, end, cpu_add(m, count, cpu_i64(m, 1)));
	V by[KERNEL_DIMS];
	if (!length)
		coordinates_of(b, range, cpu_i64(m, step), by);
	for (u32 v = 0; v < n; v++) {
		V first = cpu_add(m, at, cpu_i64(m, (i64)v * step));
		V in_run = length ? cpu_rem(m, first, length) : NULL;
		if (length || !v)
			body_unflatten(b, range.first, range.last, length ? cpu_sub(m, first, in_run) : first);
		else
			body_advance(b, range.first, range.last, by);
		if (length)
			b->coord[last] = in_run;
		memcpy(s->coord[v], b->coord, sizeof s->coord[v]);
		if (range.last - range.first < 2)
			continue;
		V past = cpu_add(m, b->coord[last], cpu_i64(m, step - 1));
		s->whole = LLVMBuildAnd(m->builder, s->whole, cpu_less(m, past, extent), "");
	}
}

void strip_set(Body *b, const Strip *s, Range range, u32 v)
{
	for (u32 d = range.first; d < range.last; d++)
		b->coord[d] = s->coord[v][d];
}

/* ---- which way ---- */

enum { SHORT_RUN = 8 }; /* of windows: a vector of most machines */

/* Loads that are contiguous in dimension x or k, counted with the operands they need. */
static void count_contiguous(const Kernel *k, KVal v, u32 x, u32 kd, bool *seen, i32 *along_x, i32 *along_k)
{
	if (!v.i || seen[v.i])
		return;
	seen[v.i] = true;
	const KInst *in = &k->inst.v[v.i];
	for (u32 i = 0; i < 3; i++)
		count_contiguous(k, in->in[i], x, kd, seen, along_x, along_k);
	if (!in->access)
		return;
	u32 dynamic = 0;
	for (u32 i = 0; i < in->access->ndynamic; i++) {
		KVal index = in->access->dynamic[i].index;
		dynamic |= k->inst.v[index.i].depends;
		count_contiguous(k, index, x, kd, seen, along_x, along_k);
	}
	if (in->op != K_load)
		return;
	*along_x += in->access->stride[x] == 1 && !(dynamic >> x & 1);
	*along_k += in->access->stride[kd] == 1 && !(dynamic >> kd & 1);
}

bool operand_along_k(const Kernel *kernel, Arena *tmp, KVal operand, Range x, Range k)
{
	bool *seen = NEWN(tmp, bool, kernel->inst.n);
	i32 along_x = 0, along_k = 0;
	count_contiguous(kernel, operand, x.last - 1, k.last - 1, seen, &along_x, &along_k);
	if (kernel->class == KERNEL_DOT && along_k == along_x && along_k > 0) {
		i64 run = kernel->dim[x.last - 1].extent;
		return run < SHORT_RUN && run < kernel->dim[k.last - 1].extent;
	}
	return along_k > along_x;
}

static u32 power_above(u32 n)
{
	u32 p = 1;
	while (p < n)
		p *= 2;
	return p;
}

/* Lanes of the vectors that columns are packed in: a narrow panel's are one group. */
static u32 group_lanes(u32 width, u32 lanes)
{
	return width % lanes == 0 ? lanes : power_above(width);
}

static Runs runs_of(const Kernel *k, Range x, u32 width, u32 lanes)
{
	if (k->class != KERNEL_DOT || x.last - x.first < 2)
		return (Runs){ 0 };
	i64 run = k->dim[x.last - 1].extent, step = MIN(group_lanes(width, lanes), width);
	return (Runs){ (u32)MIN(run, step), run && (run < step ? step % run == 0 && width % run == 0 : run % step == 0) };
}

Packing packing_of(const Body *b, KVal operand, Range x, Range k, u32 width, DType compute, u32 lanes)
{
	return (Packing){ .operand = operand, .x = x, .k = k, .width = width, .compute = compute, .lanes = lanes,
			  .along_k = operand_along_k(b->k, b->arena, operand, x, k), .runs = runs_of(b->k, x, width, lanes) };
}

u64 packing_variant(const Kernel *kernel, KVal operand, Range x, Range k, u32 width, u32 lanes)
{
	Arena tmp = ARENA("packing");
	Runs r = runs_of(kernel, x, width, lanes);
	u64 v = operand_along_k(kernel, &tmp, operand, x, k) | (u64)r.aligned << 1 | (u64)r.length << 2;
	arena_free(&tmp);
	return v;
}

/* ---- values ---- */

static V operand_value(Body *b, const Packing *p)
{
	DType from = (DType)b->k->inst.v[p->operand.i].dtype;
	return simd_convert(&b->lanes, from, p->compute, body_vector(b, p->operand));
}

/* How many k a row of the panel has. */
static i64 depth(const Packing *p)
{
	return p->pairs ? 2 : 1;
}

/* Lanes of f32 that are bf16 values, as pairs: `first` in the lower halves. */
static V pair_of(Body *b, V first, V second)
{
	LLVMBuilderRef B = b->m->builder;
	V low = LLVMBuildLShr(B, simd_bits(&b->lanes, DT_i32, first), simd_i32(&b->lanes, 16), "");
	return simd_or(&b->lanes, simd_bits(&b->lanes, DT_i32, second), low);
}

/* What is in a row of the panel at the coordinates of x, which the lanes run along: of k, or of k and
 * k + 1, where that is before `end`; the last dimension of k is at k - base. */
static V row_value(Body *b, const Packing *p, V k, V base, V end)
{
	CpuModule *m = b->m;
	u32 kd = p->k.last - 1, mark = body_mark(b);
	b->coord[kd] = cpu_sub(m, k, base);
	V x = operand_value(b, p);
	body_release(b, mark);
	if (!p->pairs)
		return x;
	V next = cpu_add(m, k, cpu_i64(m, 1)), last = cpu_sub(m, end, cpu_i64(m, 1));
	b->coord[kd] = cpu_sub(m, cpu_min(m, next, last), base);
	V y = operand_value(b, p);
	body_release(b, mark);
	y = LLVMBuildSelect(m->builder, cpu_less(m, next, end), y, simd_constant(&b->lanes, DT_f32, 0), "");
	return pair_of(b, x, y);
}

/* Row of the panel that has the k-th of its range. */
static V at_row(Body *b, const Packing *p, V panel, V k, V column)
{
	CpuModule *m = b->m;
	V row = p->pairs ? cpu_div(m, k, cpu_i64(m, 2)) : k;
	V index = cpu_add(m, cpu_mul(m, row, cpu_i64(m, p->width)), column);
	return cpu_at(m, panel_type(m, p->compute), panel, index);
}

/* The first n lanes, or NULL for all. */
static V first_lanes(Body *b, u32 n)
{
	return n >= b->lanes.lanes ? NULL : simd_mask(&b->lanes, cpu_i64(b->m, n));
}

static void put(Body *b, const Packing *p, V x, V at, V mask)
{
	DType d = p->pairs ? DT_i32 : panel_dtype(p->compute);
	if (mask)
		simd_store_masked(&b->lanes, d, x, at, 0, mask);
	else
		simd_store(&b->lanes, d, x, at, 0);
}

/* ---- along the rows of the panel ---- */

static bool one_dim(Range r)
{
	return r.last - r.first == 1;
}

/* The operand's one load that matters: the first that moves with both x and k, and is plain. Of columns that are several dimensions,
 * none is known. */
static const Access *main_load(const Body *b, const Packing *p)
{
	const Kernel *k = b->k;
	u32 xd = p->x.last - 1, kd = p->k.last - 1;
	if (!one_dim(p->x))
		return NULL;
	const Access *found = NULL;
	bool *seen = NEWN(b->arena, bool, k->inst.n);
	i32 along_x = 0, along_k = 0;
	count_contiguous(k, p->operand, xd, kd, seen, &along_x, &along_k);
	for (u32 i = 1; i < k->inst.n; i++) {
		const KInst *in = &k->inst.v[i];
		if (!seen[i] || in->op != K_load || in->access->ndynamic)
			continue;
		u32 both = 1u << xd | 1u << kd;
		if ((in->depends & both) == both && !found)
			found = in->access;
	}
	return found;
}

enum { AHEAD = 24 /* rows of narrow panels that are asked for before they are read */ };

/* Of narrow panels side by side: their columns of a row some rows on. */
static void ask_ahead(Body *b, const Packing *p, const Strip *s, V k, V base)
{
	CpuModule *m = b->m;
	const Access *a = main_load(b, p);
	if (!a || !one_dim(p->k))
		return;
	u32 bytes = p->width * dtype_info[b->k->slot.v[a->slot].dtype].bytes, line = (u32)m->machine->line;
	b->coord[p->k.last - 1] = cpu_sub(m, cpu_add(m, k, cpu_i64(m, AHEAD)), base);
	for (u32 v = 0; v < s->n; v++) /* one in each line */
		if (v == 0 || v * bytes / line != (v - 1) * bytes / line) {
			strip_set(b, s, p->x, v);
			simd_prefetch(&b->one, body_address(b, a), 1, false);
		}
}

/* The same where K is several dimensions, as in a convolution's gradient by its input: what a step of the first of them reads for the
 * strip's columns lies together there (the taps of some filters), and what the next one reads is far away. Each run of a
 * step asks for its part of what a step some rows on reads. */
typedef struct Steps {
	const Access *load; /* or NULL: nothing is asked for */
	V dense;            /* i1: is a step's span little more than what is read of it? */
	V ahead, low;       /* steps to the one that is asked for; elements from where all coordinates are 0 to the first of a span */
	V span, part;       /* elements: of a step, of a run's part */
} Steps;

static Steps steps_ahead(Body *b, const Packing *p, const Strip *s)
{
	CpuModule *m = b->m;
	Steps a = { .load = one_dim(p->k) ? NULL : main_load(b, p) };
	if (!a.load)
		return a;
	u32 first = p->k.first, last = p->k.last - 1;
	V zero = cpu_i64(m, 0), one = cpu_i64(m, 1), columns = cpu_i64(m, s->n * p->width);
	V line = cpu_i64(m, m->machine->line / dtype_info[b->k->slot.v[a.load->slot].dtype].bytes);
	V high = cpu_mul(m, cpu_sub(m, columns, one), body_stride(b, a.load, p->x.first));
	a.low = cpu_min(m, high, zero);
	high = cpu_max(m, high, zero);
	for (u32 d = first + 1; d <= last; d++) {
		V reach = cpu_mul(m, cpu_sub(m, b->extent[d], one), body_stride(b, a.load, d));
		a.low = cpu_add(m, a.low, cpu_min(m, reach, zero));
		high = cpu_add(m, high, cpu_max(m, reach, zero));
	}
	V rows = body_product(b, first + 1, last + 1), runs = body_product(b, first + 1, last);
	a.span = cpu_add(m, cpu_sub(m, high, a.low), one);
	a.dense = cpu_less(m, a.span, cpu_mul(m, cpu_mul(m, rows, columns), cpu_i64(m, 2)));
	a.ahead = cpu_div_up(m, cpu_i64(m, AHEAD), cpu_max(m, rows, one));
	a.part = cpu_mul(m, cpu_div_up(m, cpu_div_up(m, a.span, line), cpu_max(m, runs, one)), line);
	return a;
}

/* In a run, whose coordinates but the last are set. */
static void ask_step(Body *b, const Packing *p, const Strip *s, const Steps *a)
{
	CpuModule *m = b->m;
	if (!a->load)
		return;
	u32 first = p->k.first, last = p->k.last - 1;
	DType d = b->k->slot.v[a->load->slot].dtype;
	V kept[KERNEL_DIMS], mine = cpu_i64(m, 0);
	CpuIf dense = { 0 };
	CpuLoop ask = { 0 };
	cpu_if_begin(m, &dense, a->dense, 90);
	memcpy(kept, b->coord, sizeof kept);
	for (u32 i = first + 1; i < last; i++)
		mine = cpu_add(m, cpu_mul(m, mine, b->extent[i]), b->coord[i]);
	b->coord[first] = cpu_add(m, b->coord[first], a->ahead);
	for (u32 i = first + 1; i <= last; i++)
		b->coord[i] = cpu_i64(m, 0);
	strip_set(b, s, p->x, 0);
	V at = cpu_at(m, simd_memory_type(&b->one, d), body_address(b, a->load), a->low), from = cpu_mul(m, mine, a->part);
	memcpy(b->coord, kept, sizeof kept);
	cpu_loop_begin(m, &ask, from, cpu_min(m, a->span, cpu_add(m, from, a->part)), cpu_i64(m, m->machine->line / dtype_info[d].bytes), 0, NULL);
	simd_prefetch(&b->one, cpu_at(m, simd_memory_type(&b->one, d), at, ask.index), 1, false);
	ask.unroll = 1;
	cpu_loop_end(m, &ask, NULL);
	cpu_if_end(m, &dense, 0, NULL, NULL);
}

/* All rows at once, vectors without a run's end in them; of one panel, or of several that are `size` elements apart. */
static void pack_strip(Body *b, const Packing *p, const Strip *s, V from, V to, V panel, V size)
{
	CpuModule *m = b->m;
	u32 L = b->lanes.lanes, each = (p->width + L - 1) / L;
	bool narrow = each == 1 && s->n > 1;
	Steps steps = narrow ? steps_ahead(b, p, s) : (Steps){ 0 };
	Run run = { 0 };
	run_begin(b, &run, p->k, from, to, NULL);
	ask_step(b, p, s, &steps);
	CpuLoop k = { 0 };
	cpu_loop_begin(m, &k, run.begin, run.end, cpu_i64(m, depth(p)), 0, NULL);
	if (narrow)
		ask_ahead(b, p, s, k.index, run.base);
	for (u32 v = 0; v < s->n; v++) {
		u32 mark = body_mark(b);
		strip_set(b, s, p->x, v);
		b->mask = first_lanes(b, p->width - v % each * L);
		V column = cpu_i64(m, v % each * L);
		if (v >= each)
			column = cpu_add(m, column, cpu_mul(m, cpu_i64(m, v / each), size));
		V at = at_row(b, p, panel, cpu_sub(m, k.index, from), column);
		/* what a narrow panel's vector writes too much, into the next row, that row writes over: masked stores
		 * are slow on some processors */
		put(b, p, row_value(b, p, k.index, run.base, run.end), at, NULL);
		body_release(b, mark);
	}
	b->mask = NULL;
	k.unroll = s->n * b->k->inst.n > 60 ? 1 : 2;
	cpu_loop_end(m, &k, NULL);
	run_end(b, &run);
}

/* Run by run, and vector by vector in a run. */
static void pack_runs(Body *b, const Packing *p, V x0, V x_count, V from, V to, V panel)
{
	CpuModule *m = b->m;
	u32 L = b->lanes.lanes, xd = p->x.last - 1;
	Run x = { 0 }, run = { 0 };
	V end = cpu_min(m, x_count, cpu_add(m, x0, cpu_i64(m, p->width)));
	run_begin(b, &x, p->x, x0, end, NULL);
	CpuLoop lane = { 0 }, k = { 0 };
	cpu_loop_begin(m, &lane, x.begin, x.end, cpu_i64(m, L), 0, NULL);
	V mask = simd_mask(&b->lanes, cpu_sub(m, x.end, lane.index));
	V column = cpu_sub(m, lane.index, x0);
	run_begin(b, &run, p->k, from, to, NULL);
	cpu_loop_begin(m, &k, run.begin, run.end, cpu_i64(m, depth(p)), 0, NULL);
	u32 mark = body_mark(b);
	b->coord[xd] = cpu_sub(m, lane.index, x.base);
	b->mask = mask;
	V value = row_value(b, p, k.index, run.base, run.end);
	put(b, p, value, at_row(b, p, panel, cpu_sub(m, k.index, from), column), mask);
	b->mask = NULL;
	body_release(b, mark);
	k.unroll = 1;
	cpu_loop_end(m, &k, NULL);
	run_end(b, &run);
	lane.unroll = 1;
	cpu_loop_end(m, &lane, NULL);
	run_end(b, &x);
}

/* What of a vector is in one run: its coordinates, as if it began there, and its lanes. */
typedef struct Part {
	V coord[KERNEL_DIMS];
	V mask; /* without those that are past the end */
	V here; /* lanes from the first on: those of the parts before are others */
} Part;

/* How many runs a vector of `step` columns touches, at most. */
static u32 parts_of(Runs r, u32 step)
{
	return r.aligned ? MAX(step / r.length, 1u) : step < 2 ? 1 : (step - 2) / r.length + 2;
}

/* Those of the vector whose first column is `at`. */
static void find_parts(Body *b, const Packing *p, const Strip *s, u32 v, V at, V x_count, u32 n, Part *part)
{
	CpuModule *m = b->m;
	u32 xd = p->x.last - 1;
	V first = cpu_i64(m, 0), left = cpu_sub(m, x_count, at), unit[KERNEL_DIMS];
	body_unit(b, p->x.first, xd, unit);
	strip_set(b, s, p->x, v);
	for (u32 i = 0; i < n; i++) {
		V end = cpu_add(m, first, cpu_sub(m, b->extent[xd], b->coord[xd]));
		if (i)
			b->coord[xd] = cpu_sub(m, cpu_i64(m, 0), first);
		memcpy(part[i].coord, b->coord, sizeof b->coord);
		part[i].mask = simd_mask(&b->lanes, cpu_min(m, end, left));
		part[i].here = LLVMBuildNot(m->builder, simd_mask(&b->lanes, first), "");
		if (i)
			part[i].mask = simd_and(&b->lanes, part[i].mask, part[i].here);
		body_advance(b, p->x.first, xd, unit); /* past the last run: lanes that are off */
		b->coord[xd] = cpu_i64(m, 0);
		first = end;
	}
}

/* Vectors that go on in the next run, or past the end: each part is read under its mask, and one vector is stored. */
static void pack_parts(Body *b, const Packing *p, const Strip *s, V x0, V x_count, V from, V to, V panel)
{
	CpuModule *m = b->m;
	u32 L = b->lanes.lanes, step = MIN(L, p->width), vectors = s->n, n = parts_of(p->runs, step);
	Part *part = NEWN(b->arena, Part, vectors * n);
	for (u32 v = 0; v < vectors; v++)
		find_parts(b, p, s, v, cpu_add(m, x0, cpu_i64(m, (i64)v * step)), x_count, n, part + v * n);
	Run run = { 0 };
	run_begin(b, &run, p->k, from, to, NULL);
	CpuLoop k = { 0 };
	cpu_loop_begin(m, &k, run.begin, run.end, cpu_i64(m, depth(p)), 0, NULL);
	u32 mark = body_mark(b);
	for (u32 v = 0; v < vectors; v++) {
		V value = NULL;
		for (u32 i = 0; i < n; i++) {
			const Part *x = &part[v * n + i];
			for (u32 d = p->x.first; d < p->x.last; d++)
				b->coord[d] = x->coord[d];
			b->mask = x->mask;
			V mine = row_value(b, p, k.index, run.base, run.end);
			value = value ? simd_select(&b->lanes, x->here, mine, value) : mine;
			body_release(b, mark);
		}
		put(b, p, value, at_row(b, p, panel, cpu_sub(m, k.index, from), cpu_i64(m, (i64)v * L)), NULL);
	}
	b->mask = NULL;
	k.unroll = 1;
	cpu_loop_end(m, &k, NULL);
	run_end(b, &run);
}

/* i1: are runs as they were when the code was made, or longer where that does no harm? */
static V runs_hold(Body *b, const Packing *p, u32 step)
{
	CpuModule *m = b->m;
	V extent = b->extent[p->x.last - 1], length = cpu_i64(m, p->runs.length);
	if (p->runs.length < step)
		return cpu_equal(m, extent, length);
	if (!p->runs.aligned)
		return cpu_less(m, length, cpu_add(m, extent, cpu_i64(m, 1)));
	return cpu_equal(m, cpu_rem(m, extent, cpu_i64(m, step)), cpu_i64(m, 0));
}

static void pack_along_x(Body *b, const Packing *p, V x0, V x_count, V from, V to, V panel)
{
	CpuModule *m = b->m;
	Simd was = b->lanes;
	b->lanes.lanes = group_lanes(p->width, p->lanes);
	u32 L = b->lanes.lanes, vectors = (p->width + L - 1) / L;
	b->vector_dim = p->x.last - 1;
	b->inner_dim = p->k.last - 1;
	Strip strip; /* the lanes of a narrow panel's one vector are not all its */
	assert(vectors == 1 || vectors * L == p->width);
	strip_make(b, &strip, p->x, x0, x_count, vectors, MIN(L, p->width), NULL);
	CpuIf whole = { 0 };
	cpu_if_begin(m, &whole, strip.whole, 90);
	u32 mark = body_mark(b);
	pack_strip(b, p, &strip, from, to, panel, NULL);
	body_release(b, mark);
	cpu_if_else(m, &whole);
	CpuIf known = { 0 };
	if (p->runs.length) {
		cpu_if_begin(m, &known, runs_hold(b, p, MIN(L, p->width)), 90);
		pack_parts(b, p, &strip, x0, x_count, from, to, panel);
		body_release(b, mark);
		cpu_if_else(m, &known);
	}
	pack_runs(b, p, x0, x_count, from, to, panel);
	body_release(b, mark);
	if (p->runs.length)
		cpu_if_end(m, &known, 0, NULL, NULL);
	cpu_if_end(m, &whole, 0, NULL, NULL);
	b->vector_dim = b->inner_dim = NONE;
	b->lanes = was;
}

/* ---- across them ---- */

typedef struct Rows {
	u32 n; /* of the group of lanes, those that the panel has */
	V coord[64][KERNEL_DIMS];
} Rows;

/* Lanes of k from `k` on, or of pairs, which are of twice as many; `end`: the run's, or NULL where all of
 * them are before it. */
static V column_value(Body *b, const Packing *p, V k, V base, V end)
{
	CpuModule *m = b->m;
	u32 L = b->lanes.lanes, kd = p->k.last - 1, mark = body_mark(b), even[64], odd[64];
	V half[2];
	for (u32 h = 0; h < depth(p); h++) {
		V at = cpu_add(m, k, cpu_i64(m, (i64)h * L));
		b->mask = end ? simd_mask(&b->lanes, cpu_sub(m, end, at)) : NULL;
		b->coord[kd] = cpu_sub(m, at, base);
		half[h] = operand_value(b, p);
		if (p->pairs && end)
			half[h] = simd_select(&b->lanes, b->mask, half[h], simd_constant(&b->lanes, DT_f32, 0));
		body_release(b, mark);
	}
	b->mask = NULL;
	if (!p->pairs)
		return half[0];
	for (u32 i = 0; i < L; i++)
		odd[i] = (even[i] = 2 * i) + 1;
	return pair_of(b, simd_shuffle(&b->lanes, half[0], half[1], even, L),
		       simd_shuffle(&b->lanes, half[0], half[1], odd, L));
}

/* A block of lanes x lanes from k on. */
static void transpose_block(Body *b, const Packing *p, const Rows *rows, V k, V base, V end, V at)
{
	CpuModule *m = b->m;
	u32 L = b->lanes.lanes;
	V x[64];
	for (u32 i = 0; i < L; i++) {
		if (i >= rows->n) {
			x[i] = simd_constant(&b->lanes, p->pairs ? DT_i32 : panel_dtype(p->compute), 0);
			continue;
		}
		u32 mark = body_mark(b);
		for (u32 d = p->x.first; d < p->x.last; d++)
			b->coord[d] = rows->coord[i][d];
		x[i] = column_value(b, p, k, base, end);
		body_release(b, mark);
	}
	simd_transpose(&b->lanes, x);
	for (u32 i = 0; i < L; i++) /* lanes past a narrow panel's columns: see pack_strip */
		put(b, p, x[i], at_row(b, p, at, cpu_i64(m, i * depth(p)), cpu_i64(m, 0)), NULL);
}

/* Panels of one column: k is contiguous in them too. */
static void copy_block(Body *b, const Packing *p, V k, V base, V end, V at)
{
	CpuModule *m = b->m;
	V x = column_value(b, p, k, base, end);
	V left = end ? cpu_div_up(m, cpu_sub(m, end, k), cpu_i64(m, depth(p))) : NULL;
	put(b, p, x, at, end ? simd_mask(&b->lanes, left) : NULL);
}

/* k in [begin, end) by whole vectors, then what is left under a mask. */
static void pack_columns(Body *b, const Packing *p, const Rows *rows, const Run *run, V from, V to_column)
{
	CpuModule *m = b->m;
	V L = cpu_i64(m, b->lanes.lanes * depth(p)), span = cpu_sub(m, run->end, run->begin);
	V whole = cpu_add(m, run->begin, cpu_mul(m, cpu_div(m, span, L), L));
	for (u32 pass = 0; pass < 2; pass++) {
		CpuLoop k = { 0 };
		cpu_loop_begin(m, &k, pass ? whole : run->begin, pass ? run->end : whole, L, 0, NULL);
		V end = pass ? run->end : NULL;
		V at = at_row(b, p, to_column, cpu_sub(m, k.index, from), cpu_i64(m, 0));
		if (p->width == 1)
			copy_block(b, p, k.index, run->base, end, at);
		else
			transpose_block(b, p, rows, k.index, run->base, end, at);
		k.unroll = 1;
		cpu_loop_end(m, &k, NULL);
	}
}

static void pack_along_k(Body *b, const Packing *p, V x0, V x_count, V from, V to, V panel)
{
	CpuModule *m = b->m;
	Simd was = b->lanes;
	b->lanes.lanes = p->width == 1 ? p->lanes : group_lanes(p->width, p->lanes);
	u32 L = b->lanes.lanes;
	u32 group = p->width == 1 ? 1 : MIN(L, p->width);
	assert(p->width % group == 0);
	b->vector_dim = p->k.last - 1;
	V last = cpu_sub(m, x_count, cpu_i64(m, 1));
	CpuLoop g = { 0 };
	cpu_loop_begin(m, &g, cpu_i64(m, 0), cpu_i64(m, p->width), cpu_i64(m, group), 0, NULL);
	u32 mark = body_mark(b);
	Rows rows = { .n = group };
	V first = cpu_add(m, x0, g.index);
	V by[KERNEL_DIMS];
	body_unit(b, p->x.first, p->x.last, by);
	body_unflatten(b, p->x.first, p->x.last, cpu_min(m, last, first));
	for (u32 i = 0; i < group; i++) {
		if (i) { /* columns past the end repeat the last one */
			V inside = cpu_less(m, cpu_add(m, first, cpu_i64(m, i - 1)), last);
			by[p->x.last - 1] = LLVMBuildZExt(m->builder, inside, m->i64, "");
			body_advance(b, p->x.first, p->x.last, by);
		}
		memcpy(rows.coord[i], b->coord, sizeof rows.coord[i]);
	}
	/* the other operand may keep apart what is one run here: a convolution's weights of a filter, all places of a picture */
	V length = p->k.last - p->k.first > 1 ? body_run(b, p->operand, p->k.first, p->k.last) : NULL;
	Run run = { 0 };
	run_begin(b, &run, p->k, from, to, length);
	pack_columns(b, p, &rows, &run, from, cpu_at(m, panel_type(m, p->compute), panel, g.index));
	run_end(b, &run);
	body_release(b, mark);
	g.unroll = 1;
	cpu_loop_end(m, &g, NULL);
	b->vector_dim = NONE;
	b->lanes = was;
}

void pack(Body *b, const Packing *p, V x0, V x_count, V from, V to, V to_panel)
{
	if (p->along_k)
		pack_along_k(b, p, x0, x_count, from, to, to_panel);
	else
		pack_along_x(b, p, x0, x_count, from, to, to_panel);
}

void pack_panels(Body *b, const Packing *p, V x0, V x_count, V from, V to, V to_panel, u32 most, V count, V size)
{
	CpuModule *m = b->m;
	if (most == 1) {
		pack(b, p, x0, x_count, from, to, to_panel);
		return;
	}
	CpuIf whole = { 0 };
	if (!p->along_k) {
		Simd was = b->lanes;
		b->lanes.lanes = group_lanes(p->width, p->lanes);
		b->vector_dim = p->x.last - 1;
		b->inner_dim = p->k.last - 1;
		u32 L = b->lanes.lanes, each = (p->width + L - 1) / L;
		Strip strip;
		strip_make(b, &strip, p->x, x0, x_count, most * each, MIN(L, p->width), NULL);
		V all = LLVMBuildAnd(m->builder, strip.whole, cpu_equal(m, count, cpu_i64(m, most)), "");
		cpu_if_begin(m, &whole, all, 90);
		u32 mark = body_mark(b);
		pack_strip(b, p, &strip, from, to, to_panel, size);
		body_release(b, mark);
		b->vector_dim = b->inner_dim = NONE;
		b->lanes = was;
		cpu_if_else(m, &whole);
	}
	CpuLoop panel = { 0 };
	cpu_loop_begin(m, &panel, cpu_i64(m, 0), count, cpu_i64(m, 1), 0, NULL);
	u32 mark = body_mark(b);
	V first = cpu_add(m, x0, cpu_mul(m, panel.index, cpu_i64(m, p->width)));
	V at = cpu_at(m, panel_type(m, p->compute), to_panel, cpu_mul(m, panel.index, size));
	pack(b, p, first, x_count, from, to, at);
	body_release(b, mark);
	panel.unroll = 1;
	cpu_loop_end(m, &panel, NULL);
	if (!p->along_k)
		cpu_if_end(m, &whole, 0, NULL, NULL);
}

/* ---- asking ahead ---- */

void pack_prefetch(Body *b, const Packing *p, V x0, V x_count, V from, V to, V count, V part, V parts)
{
	CpuModule *m = b->m;
	const Access *a = main_load(b, p);
	if (!a || !one_dim(p->k))
		return;
	u32 xd = p->x.last - 1, kd = p->k.last - 1;
	u32 line = (u32)m->machine->line / dtype_info[b->k->slot.v[a->slot].dtype].bytes;
	x0 = cpu_min(m, x0, x_count); /* there may be no next panel */
	V x_end = cpu_min(m, x_count, cpu_add(m, x0, cpu_mul(m, count, cpu_i64(m, p->width))));
	V begin = p->along_k ? x0 : from, end = p->along_k ? x_end : to;
	V rows = cpu_sub(m, end, begin);
	V first = cpu_add(m, begin, cpu_div(m, cpu_mul(m, rows, part), parts));
	V last = cpu_add(m, begin, cpu_div(m, cpu_mul(m, rows, cpu_add(m, part, cpu_i64(m, 1))), parts));
	CpuLoop row = { 0 }, along = { 0 };
	cpu_loop_begin(m, &row, first, last, cpu_i64(m, 1), 0, NULL);
	cpu_loop_begin(m, &along, p->along_k ? from : x0, p->along_k ? to : x_end, cpu_i64(m, line), 0, NULL);
	b->coord[xd] = p->along_k ? row.index : along.index;
	b->coord[kd] = p->along_k ? along.index : row.index;
	simd_prefetch(&b->one, body_address(b, a), 2, false);
	along.unroll = 1;
	cpu_loop_end(m, &along, NULL);
	row.unroll = 1;
	cpu_loop_end(m, &row, NULL);
}
