/* tools/selftest.c: see selftest.h. */
#include "tools/selftest.h"
#include "ir/eval.h"
#include "support/float8.h"

#include <math.h>
#include <string.h>

/* ---- numbers in memory ---- */

f64 element_get(u8 dtype, const void *p, i64 i)
{
	switch ((DType)dtype) {
	case DT_b1:
	case DT_u8: return ((const u8 *)p)[i];
	case DT_i8: return ((const i8 *)p)[i];
	case DT_u32: return ((const u32 *)p)[i];
	case DT_i32: return ((const i32 *)p)[i];
	case DT_i64: return (f64)((const i64 *)p)[i];
	case DT_f8e4m3: return (f64)f32_from_f8e4m3(((const u8 *)p)[i]);
	case DT_f8e5m2: return (f64)f32_from_f8e5m2(((const u8 *)p)[i]);
	case DT_f16: return (f64)f32_from_f16(((const u16 *)p)[i]);
	case DT_bf16: return (f64)f32_from_bf16(((const u16 *)p)[i]);
	case DT_f32: return (f64)((const f32 *)p)[i];
	case DT_f64: return ((const f64 *)p)[i];
	default: NEVER("no such type");
	}
}

void element_put(u8 dtype, void *p, i64 i, f64 x)
{
	switch ((DType)dtype) {
	case DT_b1:
	case DT_u8: ((u8 *)p)[i] = (u8)x; break;
	case DT_i8: ((i8 *)p)[i] = (i8)x; break;
	case DT_u32: ((u32 *)p)[i] = (u32)x; break;
	case DT_i32: ((i32 *)p)[i] = (i32)x; break;
	case DT_i64: ((i64 *)p)[i] = (i64)x; break;
	case DT_f8e4m3: ((u8 *)p)[i] = f8e4m3_from_f32((f32)x); break;
	case DT_f8e5m2: ((u8 *)p)[i] = f8e5m2_from_f32((f32)x); break;
	case DT_f16: ((u16 *)p)[i] = f16_from_f32((f32)x); break;
	case DT_bf16: ((u16 *)p)[i] = bf16_from_f32((f32)x); break;
	case DT_f32: ((f32 *)p)[i] = (f32)x; break;
	case DT_f64: ((f64 *)p)[i] = x; break;
	default: NEVER("no such type");
	}
}

static i64 elements(const PackageTensor *t)
{
	return (i64)(t->bytes / dtype_info[t->dtype].bytes);
}

static Status put(Arena *tmp, Executor *x, const PackageTensor *t, const f64 *from)
{
	ArenaMark mark = arena_mark(tmp);
	void *bytes = NEWN(tmp, f64, t->bytes / sizeof(f64) + 1); /* aligned for every type */
	for (i64 i = 0, n = elements(t); i < n; i++)
		element_put(t->dtype, bytes, i, from[i]);
	Status s = executor_write(x, t, bytes);
	arena_release(tmp, mark);
	return s;
}

static Status get(Arena *tmp, Executor *x, const PackageTensor *t, f64 *to)
{
	ArenaMark mark = arena_mark(tmp);
	void *bytes = NEWN(tmp, f64, t->bytes / sizeof(f64) + 1); /* aligned for every type */
	Status s = executor_read(x, t, bytes);
	for (i64 i = 0, n = elements(t); i < n && !s; i++)
		to[i] = element_get(t->dtype, bytes, i);
	arena_release(tmp, mark);
	return s;
}

/* ---- a program, compiled and open ---- */

static bool only_refused(const Diag *d)
{
	for (const Message *m = d->first; m; m = m->next)
		if (m->severity == SEV_ERROR && m->code != E0719)
			return false;
	return d->nerror > 0;
}

bool tested_open(Arena *arena, const Program *p, const DriverOptions *driver, const DeviceOptions *device, Random *r, Tested *out,
		 Status *status)
{
	*out = (Tested){ .reference = p, .random = r, .least = 1, .allowed = ALLOWED };
	*status = driver_compile(arena, p, driver, &out->compiled);
	if (*status)
		return false;
	if (!out->compiled.package) {
		if (!only_refused(p->ir->diag))
			*status = FAIL(STATUS_INPUT, "the program was refused");
		driver_close(&out->compiled);
		return false;
	}
	*status = executor_create(out->compiled.package, device, &out->executor);
	out->again = out->executor;
	if (!*status && out->executor->device == &device_cpu) {
		DeviceOptions other = *device;
		other.threads = device->threads == 3 ? 2 : 3;
		*status = executor_create(out->compiled.package, &other, &out->again);
		if (*status)
			executor_destroy(out->executor);
	}
	if (*status)
		driver_close(&out->compiled);
	return !*status;
}

void tested_close(Tested *t)
{
	if (t->again != t->executor)
		executor_destroy(t->again);
	executor_destroy(t->executor);
	driver_close(&t->compiled);
}

static void draw_whole(Random *r, Tensor *t)
{
	SampleInput how = { { 0 }, SAMPLE_WHOLE, 0, t->dtype == DT_b1 ? 1 : 3 };
	sample_fill(r, &how, t);
}

Status tested_fill(Arena *arena, Tested *t)
{
	const Program *p = t->reference;
	for (u32 i = 0; i < p->buffer.n; i++) {
		const PackageBuffer *b = executor_buffer(t->executor, p->buffer.v[i].name);
		if (!b)
			continue;
		Tensor x = tensor_new(arena, p->buffer.v[i].type);
		draw_whole(t->random, &x);
		TRY(put(arena, t->executor, &b->tensor, x.data));
	}
	return OK;
}

/* ---- an entry ---- */

static void draw_input(Tested *t, Val v, const char *name, DrawInput *draw, void *cx, Tensor *x)
{
	if (draw) {
		draw(cx, name, x);
	} else {
		SampleInput how = { v, SAMPLE_SORTED, 0, x->dtype == DT_b1 ? 1 : 3 };
		for (u32 k = 0; k < t->random->input.n; k++)
			if (t->random->input.v[k].value.i == v.i)
				how = t->random->input.v[k];
		sample_fill(t->random, &how, x);
	}
	/* what the device can be given */
	for (i64 k = 0; k < x->n; k++)
		x->data[k] = dtype_round(x->dtype, dtype_is_float(x->dtype) && x->dtype != DT_f64 ? (f64)(f32)x->data[k] : x->data[k]);
}

/* The largest of what is finite. */
static f64 magnitude(const Tensor *t)
{
	f64 most = 0;
	for (i64 i = 0; i < t->n; i++)
		if (isfinite(t->data[i]))
			most = fmax(most, fabs(t->data[i]));
	return most;
}

/* Compares element by element, into `out`. */
static void compare(const Tested *t, f64 least, const Tensor *want, const char *name, const f64 *got, Agreement *out)
{
	f64 scale = fmax(least, magnitude(want)), allowed = t->allowed;
	if (dtype_is_narrow_float(want->dtype))
		allowed = dtype_is_f8(want->dtype) ? ALLOWED_F8 : fmax(ALLOWED_NARROW, t->allowed);
	for (i64 i = 0; i < want->n; i++) {
		f64 x = want->data[i], y = got[i];
		/* beyond the type's range: infinite, or near it */
		bool huge = fabs(x) > 1e30 && (isinf(y) || isnan(y) || fabs(y) > 1e30);
		if (x == y || huge || (isnan(x) && isnan(y)))
			continue;
		f64 error = fabs(x - y) / (allowed * scale);
		if (isnan(error))
			error = INFINITY;
		if (error <= out->worst)
			continue;
		*out = (Agreement){ .worst = error, .what = name, .at = i, .want = x, .got = y, .repeats = out->repeats };
	}
}

/* All buffers and the entry's results, as bytes, one after the other. */
static Status snapshot(Arena *arena, Executor *x, const PackageEntry *e, u8 **out, u64 *n)
{
	const Package *p = x->package;
	*n = 0;
	for (u32 i = 0; i < p->nbuffer; i++)
		*n += p->buffer[i].tensor.bytes;
	for (u32 i = 0; i < e->nresult; i++)
		*n += e->result[i].bytes;
	u8 *at = *out = NEWN(arena, u8, *n + 1);
	for (u32 i = 0; i < p->nbuffer; at += p->buffer[i++].tensor.bytes)
		TRY(executor_read(x, &p->buffer[i].tensor, at));
	for (u32 i = 0; i < e->nresult; at += e->result[i++].bytes)
		TRY(executor_read(x, &e->result[i], at));
	return OK;
}

static Status restore(Executor *x, const u8 *from)
{
	const Package *p = x->package;
	for (u32 i = 0; i < p->nbuffer; from += p->buffer[i++].tensor.bytes)
		TRY(executor_write(x, &p->buffer[i].tensor, from));
	return OK;
}

static Status run(Arena *arena, Executor *x, const PackageEntry *e, const Node *const *source, u32 nsource, const Tensor *input)
{
	for (u32 i = 0, k = 0; i < nsource; i++) {
		if (source[i]->op != OP_input)
			continue;
		const PackageTensor *to = executor_input(e, ATTR(source[i], input)->name);
		if (to)
			TRY(put(arena, x, to, input[k].data));
		k++;
	}
	return executor_run(x, e, NULL, NULL);
}

Status tested_entry(Arena *arena, Tested *t, const char *name, DrawInput *draw, void *cx, Agreement *out)
{
	const Program *p = t->reference;
	const Graph *g = program_find_entry(p, str_of(name));
	const PackageEntry *e = package_entry(t->compiled.package, name);
	assert(g && e);
	*out = (Agreement){ 0 };
	u32 n = graph_sources(g, NULL), ninput = 0;
	const Node **source = NEWN(arena, const Node *, n + 1);
	graph_sources(g, source);
	Tensor *input = NEWN(arena, Tensor, n + 1), *buffer = NEWN(arena, Tensor, p->buffer.n + 1);
	Tensor *want = NEWN(arena, Tensor, g->result.n + 1);
	for (u32 i = 0; i < n; i++) {
		if (source[i]->op != OP_input)
			continue;
		input[ninput] = tensor_new(arena, val_type(g, source[i]->out));
		draw_input(t, source[i]->out, ATTR(source[i], input)->name, draw, cx, &input[ninput++]);
	}
	for (u32 i = 0; i < p->buffer.n; i++) {
		const PackageBuffer *b = executor_buffer(t->executor, p->buffer.v[i].name);
		buffer[i] = tensor_new(arena, p->buffer.v[i].type);
		if (b)
			TRY(get(arena, t->executor, &b->tensor, buffer[i].data));
	}
	u8 *before, *after, *again;
	u64 bytes;
	TRY(snapshot(arena, t->executor, e, &before, &bytes));
	TRY(run(arena, t->executor, e, source, n, input));
	TRY(snapshot(arena, t->executor, e, &after, &bytes));
	TRY(restore(t->again, before));
	TRY(run(arena, t->again, e, source, n, input));
	TRY(snapshot(arena, t->again, e, &again, &bytes));
	out->repeats = !memcmp(after, again, bytes);
	eval_entry(arena, p, g, input, buffer, want, (EvalOptions){ .round = t->rounds });
	for (u32 i = 0, k = 0; i < g->result.n; i++) {
		if (g->result.v[i].buffer != NONE)
			continue;
		f64 *got = NEWN(arena, f64, want[i].n + 1);
		TRY(get(arena, t->executor, &e->result[k], got));
		compare(t, t->least, &want[i], e->result[k++].name, got, out);
	}
	f64 gradients = 0;
	for (u32 i = 0; i < p->buffer.n; i++)
		if (p->buffer.v[i].kind == BUFFER_GRADIENT)
			gradients = fmax(gradients, magnitude(&buffer[i]));
	for (u32 i = 0; i < p->buffer.n; i++) {
		const PackageBuffer *b = executor_buffer(t->executor, p->buffer.v[i].name);
		if (!b)
			continue;
		f64 *got = NEWN(arena, f64, buffer[i].n + 1);
		TRY(get(arena, t->executor, &b->tensor, got));
		f64 least = b->kind == PACKAGE_GRADIENT ? fmax(t->least, 1e-2 * gradients) : t->least;
		compare(t, least, &buffer[i], b->tensor.name, got, out);
	}
	return OK;
}

/* ---- programs ---- */

const Program *selftest_op(Arena *arena, Ir *ir, Random *r, u32 op)
{
	if (!op_info[op].def->sample || op == OP_read)
		return NULL;
	Program *p = program_new(arena, ir, "op");
	Graph *g = program_entry(p, "entry");
	Builder b = builder_new(g);
	b.no_fold = true;
	Val v = op_info[op].def->sample(r, &b);
	for (u32 i = 0; i < val_node(g, v)->nout; i++)
		graph_result(g, intern_printf(&ir->names, "r%u", i), NONE, (Val){ v.i + i });
	builder_done(&b);
	return p;
}
