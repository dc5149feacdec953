/* tools/export_shrink.c: see export_shrink.h.
 *
 * bf16 and f16: each weight rounded. int8: groups of weights along the last axis share a factor, the largest of them is
 * 127 of it. int4: two weights a byte, in the lower halves of a group's bytes the first half of the group, so that neighbours lie
 * side by side in either half, 0 to 15 for -8 to 7 times the factor, which is the largest weight by -8, as the format Q4_0 of ggml
 * has it. Factors are f16, and are rounded before the weights are.
 * Only matrices are stored so: vectors (biases, gains) are few.
 *
 * In the program a read of the parameter becomes the arithmetic that gives its values back; fusion puts it where the
 * parameter was read, so that products unpack weights as they pack them. */
#include "tools/export_shrink.h"
#include "passes/rewrite.h"
#include "runtime/checkpoint/stacked.h"
#include "runtime/evaluate.h"
#include "runtime/views.h"
#include "support/half.h"

#include <math.h>
#include <string.h>

static bool whole(const Shrink *how)
{
	return how->kind == SHRINK_INT8 || how->kind == SHRINK_INT4;
}

Status shrink_parse(const char *text, i64 asked, i64 usual, Shrink *out)
{
	static const char *const name[] = { "f32", "bf16", "f16", "int8", "int4" };
	i64 group = asked ? asked : usual;
	*out = (Shrink){ SHRINK_NONE, (u32)group };
	if (group < 2 || group > 1024 || group % 2)
		return FAIL(STATUS_INPUT, "--group %lld: an even number from 2 to 1024", (long long)group);
	for (u32 i = 0; i < COUNT(name); i++)
		if (!strcmp(text, name[i])) {
			out->kind = (ShrinkKind)i;
			if (asked && !whole(out))
				return FAIL(STATUS_INPUT, "--group is of weights that share a factor, --store int8 or int4: here they are stored as %s", text);
			return OK;
		}
	return FAIL(STATUS_INPUT, "--store %s: f32, bf16, f16, int8 or int4", text);
}

/* ---- the program ---- */

/* The size of a group that divides the last axis: the one that was asked for, or halves of it; 0: none does. */
static i64 group_of(const Shrink *how, i64 last)
{
	i64 g = how->group;
	while (g >= 8 && last % g)
		g = g % 4 ? 0 : g / 2;
	return g >= 8 ? g : 0;
}

/* Dimensions that a matrix has beside its own where it is unpacked. */
static u32 dims_of_groups(const Shrink *how)
{
	return how->kind == SHRINK_INT4 ? 2 : whole(how);
}

static bool shrinks(const Shrink *how, const Buffer *b)
{
	const Type *t = b->type;
	return b->kind == BUFFER_PARAMETER && t->dtype == DT_f32 && t->rank >= 2 && t->rank + dims_of_groups(how) <= MAX_RANK &&
	       (!whole(how) || group_of(how, type_extent(t, t->rank - 1)));
}

static const char *factor_name(Ir *ir, const char *name)
{
	return intern_printf(&ir->names, "%s.factor", name);
}

/* The shape with the last axis divided by `by`. */
static const Type *divided(Ir *ir, const Type *t, DType dtype, i64 by)
{
	Dim dim[MAX_RANK];
	memcpy(dim, t->dim, t->rank * sizeof *dim);
	dim[t->rank - 1] = dim_number(ir, type_extent(t, t->rank - 1) / by);
	return type_make(ir, dtype, t->rank, dim);
}

/* How weights of 4 bits are stored: [..., D / g, g / 2], the bytes of each group. */
static const Type *bytes_of_groups(Ir *ir, const Type *t, i64 g)
{
	Dim dim[MAX_RANK];
	memcpy(dim, t->dim, t->rank * sizeof *dim);
	dim[t->rank - 1] = dim_number(ir, type_extent(t, t->rank - 1) / g);
	dim[t->rank] = dim_number(ir, g / 2);
	return type_make(ir, DT_u8, t->rank + 1, dim);
}

static void add_buffers(Program *to, const Shrink *how, const Buffer *from)
{
	static const DType stored[] = { [SHRINK_BF16] = DT_bf16, [SHRINK_F16] = DT_f16, [SHRINK_INT8] = DT_i8, [SHRINK_INT4] = DT_u8 };
	Buffer b = *from, factor = *from;
	Ir *ir = to->ir;
	b.of = factor.of = NONE; /* indices of the program that it comes from */
	b.axis = COPYN(to->arena, Axis, from->axis, from->type->rank);
	if (!shrinks(how, from)) {
		program_buffer(to, b);
		return;
	}
	b.type = type_with_dtype(ir, from->type, stored[how->kind]);
	if (!whole(how)) {
		program_buffer(to, b);
		return;
	}
	/* of groups, no axis of the model's is the last one */
	u32 last = from->type->rank - 1u;
	i64 g = group_of(how, type_extent(from->type, last));
	Axis *axis = NEWN(to->arena, Axis, last + 2);
	memcpy(axis, from->axis, last * sizeof *axis);
	if (how->kind == SHRINK_INT4) {
		b.type = bytes_of_groups(ir, from->type, g);
		b.axis = axis;
	}
	program_buffer(to, b);
	factor.name = factor_name(ir, from->name);
	factor.type = divided(ir, from->type, DT_f16, g);
	factor.axis = axis;
	program_buffer(to, factor);
}

typedef struct Cx {
	const Shrink *how;
	const Program *in;
} Cx;

static Val read(Builder *b, const char *name, const Type *t)
{
	return BS(b, read, .buffer = name, .dtype = t->dtype, .shape = dims_of_type(b, t));
}

/* [..., D / g, of[0], of[1], ...] of [..., D] */
static dims grouped(Builder *b, const Type *t, i64 g, u32 n, const i64 *of)
{
	Dim dim[MAX_RANK + 2];
	memcpy(dim, t->dim, t->rank * sizeof *dim);
	dim[t->rank - 1] = dim_number(b->g->ir, type_extent(t, t->rank - 1) / g);
	for (u32 i = 0; i < n; i++)
		dim[t->rank + i] = dim_number(b->g->ir, of[i]);
	return dims_of(b, dim, t->rank + n);
}

/* 0 to 15 of the lower halves of each group's bytes, then of their upper ones: [..., D / g, 2, g / 2], as f32. */
static Val halves(Builder *b, Val bytes, const Type *t, i64 g)
{
	dims shape = grouped(b, t, g, 2, (i64[]){ 2, g / 2 });
	Val x = BA(b, reshape, (make_cast(b, bytes, DT_i32)), .shape = grouped(b, t, g, 2, (i64[]){ 1, g / 2 }));
	x = make_broadcast(b, x, shape);
	Val sixteen = make_full_like(b, x, 16), low = B(b, mod, x, sixteen), high = B(b, floordiv, x, sixteen);
	Val half = BS(b, iota, .axis = (i64)shape.n - 2, .dtype = DT_i32, .shape = shape);
	return make_cast(b, B(b, where, B(b, eq, half, make_full_like(b, half, 0)), low, high), DT_f32);
}

static bool visit(Rewrite *rw, const Node *n, const Val *in, Val *out)
{
	const Cx *cx = rw->data;
	(void)in;
	if (n->op != OP_read)
		return false;
	const Buffer *from = &cx->in->buffer.v[program_find_buffer(cx->in, ATTR(n, read)->buffer)];
	if (!shrinks(cx->how, from))
		return false;
	Builder *b = &rw->b;
	Ir *ir = b->g->ir;
	const Type *t = from->type;
	if (!whole(cx->how)) {
		DType d = cx->how->kind == SHRINK_BF16 ? DT_bf16 : DT_f16;
		out[0] = make_cast(b, read(b, from->name, type_with_dtype(ir, t, d)), DT_f32);
		return true;
	}
	i64 g = group_of(cx->how, type_extent(t, t->rank - 1));
	dims groups = grouped(b, t, g, 1, &g);
	bool four = cx->how->kind == SHRINK_INT4;
	Val q = read(b, from->name, four ? bytes_of_groups(ir, t, g) : type_with_dtype(ir, t, DT_i8));
	Val f = make_cast(b, read(b, factor_name(ir, from->name), divided(ir, t, DT_f16, g)), DT_f32);
	f = make_broadcast(b, BA(b, reshape, (f), .shape = grouped(b, t, g, 1, (i64[]){ 1 })), groups);
	q = BA(b, reshape, (four ? halves(b, q, t, g) : make_cast(b, q, DT_f32)), .shape = groups);
	if (four)
		q = B(b, sub, q, make_full_like(b, q, 8));
	out[0] = BA(b, reshape, (B(b, mul, q, f)), .shape = dims_of_type(b, t));
	return true;
}

const Program *shrink_program(Arena *arena, const Program *in, const Shrink *how)
{
	Arena tmp = ARENA("shrink");
	Program *to = program_new(arena, in->ir, in->name);
	to->facts = in->facts;
	for (u32 i = 0; i < in->buffer.n; i++)
		add_buffers(to, how, &in->buffer.v[i]);
	Cx cx = { how, in };
	for (u32 i = 0; i < in->entry.n; i++) {
		const char *name = in->entry.v[i]->name;
		if (!strcmp(name, "forward") || !strcmp(name, "eval"))
			VEC_PUSH(arena, &to->entry, rewrite_graph(arena, &tmp, in->entry.v[i], visit, &cx, false));
	}
	arena_free(&tmp);
	return to;
}

Status shrink_for(Lm *lm, const char *store, i64 group, Shrink *out, LmCompile *how)
{
	TRY(shrink_parse(store ? store : "f32", group, 32, out));
	if (!out->kind)
		return OK;
	if (lm->file)
		return FAIL(STATUS_INPUT, "%s is compiled: --store is for a source or a run", lm->operand.source);
	if (lm->operand.run && lm_saves_trained(lm))
		return FAIL(STATUS_INPUT, "--store is for files that have all parameters, and %s has what training changed alone", lm->operand.run);
	how->store = arena_printf(&lm->arena, "%s %u", store, out->group);
	how->program = shrink_program(&lm->source.arena, lm->model->program, out);
	return OK;
}

/* ---- the values ---- */

static void add_error(f64 error[2], f32 was, f32 is)
{
	error[0] += ((f64)was - (f64)is) * ((f64)was - (f64)is);
	error[1] += (f64)was * (f64)was;
}

/* The factor of a group, as f16. */
static u16 factor_of(const Shrink *how, const f32 *w, i64 n)
{
	f32 largest = 0;
	for (i64 i = 0; i < n; i++)
		if (fabsf(w[i]) > fabsf(largest))
			largest = w[i];
	f32 f = how->kind == SHRINK_INT8 ? fabsf(largest) / 127 : largest / -8;
	return f16_from_f32(f);
}

static f32 whole_of(const Shrink *how, f32 w, f32 factor)
{
	f32 least = how->kind == SHRINK_INT8 ? -127 : -8, most = how->kind == SHRINK_INT8 ? 127 : 7;
	f32 q = factor != 0 ? rintf(w / factor) : 0;
	return q < least ? least : q > most ? most : q;
}

static void narrow(const Shrink *how, const f32 *w, u64 n, u16 *to, f64 error[2])
{
	for (u64 i = 0; i < n; i++) {
		to[i] = how->kind == SHRINK_BF16 ? bf16_from_f32(w[i]) : f16_from_f32(w[i]);
		add_error(error, w[i], how->kind == SHRINK_BF16 ? f32_from_bf16(to[i]) : f32_from_f16(to[i]));
	}
}

bool shrink_values(Arena *arena, const Shrink *how, const NamedBuffer *have, u32 n, NamedBuffer *want, f64 error[2])
{
	Str name = str_of(want->name);
	bool factor = str_ends(name, STR(".factor"));
	const NamedBuffer *from = NULL, *of = NULL; /* of this name; that the factors are of */
	for (u32 i = 0; i < n; i++) {
		if (!strcmp(have[i].name, want->name))
			from = &have[i];
		if (factor && str_equal(str_of(have[i].name), (Str){ name.s, name.n - strlen(".factor") }))
			of = &have[i];
	}
	from = from ? from : of;
	if (!from)
		return false;
	if (from->dtype == want->dtype && from != of) {
		want->data = from->data;
		return true;
	}
	const f32 *w = from->data;
	u64 count = safe_buffer_bytes(from) / sizeof *w;
	want->data = arena_push(arena, 1, safe_buffer_bytes(want), 64);
	if (!whole(how)) {
		narrow(how, w, count, want->data, error);
		return true;
	}
	i64 g = group_of(how, from->dim[from->rank - 1]);
	u64 half = (u64)g / 2;
	for (u64 at = 0; at < count; at += (u64)g) {
		u16 factor_bits = factor_of(how, w + at, g);
		f32 f = f32_from_f16(factor_bits);
		if (from == of) {
			((u16 *)want->data)[at / (u64)g] = factor_bits;
			continue;
		}
		for (u64 i = at; i < at + (u64)g; i++) {
			f32 q = whole_of(how, w[i], f);
			add_error(error, w[i], q * f);
			if (how->kind == SHRINK_INT8)
				((i8 *)want->data)[i] = (i8)q;
			else
				((u8 *)want->data)[at / 2 + (i - at) % half] |= (u8)((u32)(q + 8) << 4 * (i - at >= half));
		}
	}
	return true;
}

Status shrink_read(Lm *lm, const char *from, NamedBuffer **out, u32 *n)
{
	Arena *a = &lm->source.arena;
	const Program *p = lm->model->program;
	*out = NEWN(a, NamedBuffer, p->buffer.n + 1);
	*n = 0;
	for (u32 i = 0; i < p->buffer.n; i++) {
		const Type *t = p->buffer.v[i].type;
		if (p->buffer.v[i].kind != BUFFER_PARAMETER)
			continue;
		i64 *dim = NEWN(a, i64, t->rank + 1);
		for (u32 d = 0; d < t->rank; d++)
			dim[d] = type_extent(t, d);
		(*out)[(*n)++] = (NamedBuffer){ .name = p->buffer.v[i].name, .dtype = safe_dtype_of((PackageDtype)t->dtype), .rank = t->rank,
						.dim = dim, .data = arena_push(a, 1, (size_t)type_bytes(t), 64) };
	}
	u32 nrule = lm->model->weight.n;
	WeightRule *rule = NEWN(a, WeightRule, nrule + 1);
	for (u32 i = 0; i < nrule; i++)
		rule[i] = (WeightRule){ lm->model->weight.v[i].pattern, lm->model->weight.v[i].replacement };
	u32 parts = 0;
	for (u32 i = 0; i < *n; i++)
		parts += stacked_count(&(*out)[i]);
	NamedBuffer *part = NEWN(a, NamedBuffer, parts);
	for (u32 i = 0, at = 0; i < *n; i++) {
		stacked_parts(a, &(*out)[i], part + at);
		at += stacked_count(&(*out)[i]);
	}
	return weights_load(a, from, rule, nrule, part, parts, &lm->source.diag);
}

Status shrink_into(Lm *lm, const Shrink *how, const char *from, LmRun *run)
{
	NamedBuffer *all;
	u32 n;
	f64 error[2] = { 0 };
	TRY(shrink_read(lm, from, &all, &n));
	for (u32 i = 0; i < run->package->nbuffer; i++) {
		const PackageTensor *t = &run->package->buffer[i].tensor;
		NamedBuffer want = { .name = t->name, .dtype = safe_dtype_of((PackageDtype)t->dtype), .rank = t->rank, .dim = t->dim };
		if (run->package->buffer[i].kind != PACKAGE_PARAMETER)
			continue;
		if (!shrink_values(&lm->source.arena, how, all, n, &want, error))
			return FAIL(STATUS_INPUT, "no weights file has %s, which the model reads", t->name);
		TRY(executor_write(run->executor, t, want.data));
	}
	return OK;
}

/* ---- what it costs ---- */

static Status loss_of(Lm *lm, const Program *p, const Shrink *how, const NamedBuffer *values, u32 n, const DriverOptions *o,
		      const Dataset *d, u64 batches, Evaluation *out)
{
	Compiled c;
	Executor *x = NULL;
	f64 error[2] = { 0 };
	TRY(driver_compile(&lm->source.arena, p, o, &c));
	if (!c.package)
		return FAIL(STATUS_INPUT, "%s cannot be compiled", lm->operand.source);
	Status s = executor_create(c.package, &(DeviceOptions){ 0 }, &x);
	for (u32 i = 0; i < c.package->nbuffer && !s; i++) {
		const PackageTensor *t = &c.package->buffer[i].tensor;
		NamedBuffer want = { .name = t->name, .dtype = safe_dtype_of((PackageDtype)t->dtype), .rank = t->rank, .dim = t->dim };
		if (shrink_values(&lm->source.arena, how, values, n, &want, error))
			s = executor_write(x, t, want.data);
	}
	if (!s)
		s = evaluate(x, "eval", d, batches, out);
	if (x)
		executor_destroy(x);
	driver_close(&c);
	return s;
}

Status shrink_measure(Lm *lm, const Shrink *how, const Program *after, const NamedBuffer *values, u32 n, const char *precision,
		      const char *data, u64 batches)
{
	static const char *const entry[] = { "eval" };
	static const Shrink none = { SHRINK_NONE, 0 };
	DriverOptions o = { .entry = entry, .nentry = 1, .precision = precision, .device = "cpu" };
	Dataset d = { 0 };
	Evaluation was, is;
	TRY(lm_held_out(lm, data, &d));
	Status s = lm_check_data(lm, &d);
	if (!s)
		s = lm_sizes(lm, 0, 0, &o.sizes);
	if (!s)
		s = loss_of(lm, lm->model->program, &none, values, n, &o, &d, batches, &was);
	if (!s)
		s = loss_of(lm, after, how, values, n, &o, &d, batches, &is);
	if (!s && d.kind->text)
		printf("perplexity  %.4f before, %.4f after (%+.2f%%), of %.0f tokens%s\n", exp(was.loss), exp(is.loss),
		       100 * (exp(is.loss - was.loss) - 1), is.targets, is.whole ? "" : ", not the whole set");
	else if (!s)
		printf("loss        %.5f before, %.5f after, over %.0f%s\n", was.loss, is.loss, is.targets, is.whole ? "" : ", not the whole set");
	dataset_close(&d);
	return s;
}
