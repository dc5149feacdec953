/* tools/kernel_time.c: see kernel_time.h. */
#include "tools/kernel_time.h"
#include "support/clock.h"
#include "support/run_queue.h"

#include <stdlib.h>
#include <string.h>

/* ---- programs ---- */

typedef struct Maker {
	Arena *arena;
	Ir *ir;
	Program *program;
	Builder b;
} Maker;

static Maker maker_new(Arena *a)
{
	Diag *d = NEW(a, Diag);
	d->arena = a;
	diag_source(d, "measured", STR(""));
	Maker m = { .arena = a, .ir = ir_new(a, d) };
	m.program = program_new(a, m.ir, "measured");
	m.b = builder_new(program_entry(m.program, "entry"));
	return m;
}

static Val tensor(Maker *m, const char *name, DType dtype, u32 rank, const i64 *extent)
{
	Dim *d = NEWN(m->arena, Dim, rank + 1);
	for (u32 i = 0; i < rank; i++)
		d[i] = dim_number(m->ir, extent[i]);
	return BS(&m->b, input, .name = intern_z(&m->ir->names, name), .dtype = dtype, .shape = { rank, d });
}

static const Program *made(Maker *m, const Val *result, u32 n)
{
	for (u32 i = 0; i < n; i++)
		graph_result(m->b.g, intern_z(&m->ir->names, arena_printf(m->arena, "out%u", i)), NONE, result[i]);
	builder_done(&m->b);
	return m->program;
}

const Program *program_product(Arena *a, i64 m, i64 n, i64 k, DType dtype, bool turned)
{
	Maker x = maker_new(a);
	Val left = tensor(&x, "a", dtype, 2, turned ? (const i64[]){ k, m } : (const i64[]){ m, k });
	Val right = tensor(&x, "b", dtype, 2, (const i64[]){ k, n });
	Val out = BA(&x.b, dot, (left, right), .spec = intern_z(&x.ir->names, turned ? "ki,kj->ij" : "ik,kj->ij"));
	return made(&x, &out, 1);
}

const Program *program_stream(Arena *a, i64 n)
{
	Maker m = maker_new(a);
	Val left = tensor(&m, "a", DT_f32, 1, &n), right = tensor(&m, "b", DT_f32, 1, &n);
	Val out = B(&m.b, add, left, right);
	return made(&m, &out, 1);
}

static void add_products(Maker *m, i64 n, u32 count, DType dtype, Val *out)
{
	const i64 wide[] = { 4 * n, n }, square[] = { n, n };
	for (u32 i = 0; i < count; i++) {
		bool gradient = i % 2;
		Val left = tensor(m, arena_printf(m->arena, "a%u", i), dtype, 2, wide);
		Val right = tensor(m, arena_printf(m->arena, "b%u", i), dtype, 2, gradient ? wide : square);
		out[i] = BA(&m->b, dot, (left, right), .spec = intern_z(&m->ir->names, gradient ? "ki,kj->ij" : "ik,kj->ij"));
	}
}

const Program *program_products(Arena *a, i64 n, u32 count, DType dtype)
{
	Maker m = maker_new(a);
	Val *out = NEWN(a, Val, count + 1);
	add_products(&m, n, count, dtype, out);
	return made(&m, out, count);
}

const Program *program_streams(Arena *a, i64 n, u32 count)
{
	Maker m = maker_new(a);
	Val *out = NEWN(a, Val, count + 1);
	for (u32 i = 0; i < count; i++) {
		Val left = tensor(&m, arena_printf(a, "a%u", i), DT_f32, 1, &n), right = tensor(&m, arena_printf(a, "b%u", i), DT_f32, 1, &n);
		out[i] = B(&m.b, add, left, right);
	}
	return made(&m, out, count);
}

const Program *program_small(Arena *a, u32 count)
{
	Maker m = maker_new(a);
	Val *out = NEWN(a, Val, count + 1);
	for (u32 i = 0; i < count; i++) {
		Val x = tensor(&m, arena_printf(a, "a%u", i), DT_f32, 2, (const i64[]){ 4, 16 });
		out[i] = BA(&m.b, sum, (B(&m.b, exp, B(&m.b, mul, x, make_full_like(&m.b, x, -1 - i / 8.0)))), .axes = INTS(&m.b, 1));
	}
	return made(&m, out, count);
}

const Program *program_gelu(Arena *a, i64 n)
{
	Maker m = maker_new(a);
	Val out = BA(&m.b, gelu, (tensor(&m, "a", DT_f32, 1, &n)), .approximate = true);
	return made(&m, &out, 1);
}

const Program *program_update(Arena *a, i64 n, u32 times)
{
	Maker m = maker_new(a);
	static const char *const name[] = { "p", "g", "m", "v" };
	Val x[COUNT(name)];
	for (u32 i = 0; i < COUNT(name); i++)
		x[i] = tensor(&m, name[i], DT_f32, 1, &n);
#define TIMES(v, by) B(&m.b, mul, v, make_full_like(&m.b, v, by))
	for (u32 i = 0; i < times; i++) {
		x[2] = B(&m.b, add, TIMES(x[2], 0.875), TIMES(x[1], 0.125));
		x[3] = B(&m.b, add, TIMES(x[3], 0.96875), TIMES(B(&m.b, mul, x[1], x[1]), 0.03125));
		Val down = B(&m.b, add, B(&m.b, sqrt, x[3]), make_full_like(&m.b, x[3], 0x1p-20));
		x[0] = B(&m.b, sub, x[0], TIMES(B(&m.b, div, x[2], down), 0x1p-10));
	}
#undef TIMES
	return made(&m, (Val[]){ x[0], x[2], x[3] }, 3);
}

const Program *program_rows(Arena *a, i64 images, i64 n)
{
	Maker m = maker_new(a);
	Val x = tensor(&m, "x", DT_f32, 3, (const i64[]){ images, n - 2, n - 2 }), scale = tensor(&m, "scale", DT_f32, 1, &images);
	Val y = B(&m.b, silu, B(&m.b, mul, x, make_unreduce(&m.b, scale, x, INTS(&m.b, 1, 2))));
	Dim around[] = { dim_number(m.ir, 0), dim_number(m.ir, 1), dim_number(m.ir, 1) };
	Val out = BA(&m.b, pad, (y), .low = { 3, around }, .high = { 3, around }, .value = 0);
	return made(&m, &out, 1);
}

const Program *program_norm(Arena *a, i64 rows, i64 n)
{
	Maker m = maker_new(a);
	Val x = tensor(&m, "x", DT_f32, 2, (const i64[]){ rows, n }), gain = tensor(&m, "gain", DT_f32, 1, &n), bias = tensor(&m, "bias", DT_f32, 1, &n);
	Val out = BA(&m.b, layer_norm, (x, gain, bias), .eps = 0x1p-16);
	return made(&m, &out, 1);
}

const Program *program_windows(Arena *a, i64 images, i64 in, const i64 out[2], i64 n)
{
	Maker m = maker_new(a);
	Val y[2];
	for (u32 i = 0; i < COUNT(y); i++) {
		Val x = tensor(&m, arena_printf(a, "x%u", i), DT_f32, 4, (const i64[]){ images, in, n + 2, n + 2 });
		Val w = tensor(&m, arena_printf(a, "w%u", i), DT_f32, 4, (const i64[]){ out[i], in, 3, 3 });
		y[i] = BA(&m.b, conv2d, (x, w), .groups = 1);
	}
	return made(&m, y, COUNT(y));
}

const Program *program_scatter(Arena *a, i64 n, i64 wide)
{
	Maker m = maker_new(a);
	Val rows = tensor(&m, "a", DT_f32, 2, (const i64[]){ n, wide }), place = tensor(&m, "b", DT_f32, 1, &n);
	/* inputs are numbers from 1/2 to 2 */
	Val scale = make_full_like(&m.b, place, (f64)n / 2);
	Val at = BA(&m.b, cast, (B(&m.b, mul, place, scale)), .dtype = DT_i32);
	Dim size = dim_number(m.ir, n);
	Val out = BA(&m.b, scatter_add, (rows, at), .axis = 0, .size = { 1, &size });
	return made(&m, &out, 1);
}

/* Heads of one of the three that lie beside one another in x[T, 3, heads, features]. */
static Val heads_of(Maker *m, Val x, i64 which, i64 heads, i64 n, i64 features)
{
	const i64 from[] = { 0, which, 0, 0 }, part[] = { n, 1, heads, features }, wide[] = { 1, n, heads, features };
	Dim start[4], size[4], shape[4];
	for (u32 d = 0; d < 4; d++) {
		start[d] = dim_number(m->ir, from[d]);
		size[d] = dim_number(m->ir, part[d]);
		shape[d] = dim_number(m->ir, wide[d]);
	}
	x = BA(&m->b, slice, (x), .start = { 4, start }, .size = { 4, size }, .step = INTS(&m->b, 1, 1, 1, 1));
	x = BA(&m->b, reshape, (x), .shape = { 4, shape });
	return BA(&m->b, transpose, (x), .perm = INTS(&m->b, 0, 2, 1, 3));
}

const Program *program_attention(Arena *a, u32 count, i64 heads, i64 n, i64 features, DType dtype, bool derivative)
{
	Maker m = maker_new(a);
	const i64 all[] = { n, 3, heads, features }, wide[] = { 1, heads, n, features }, row[] = { 1, heads, n }, turned[] = { 1, n, heads, features };
	Val *out = NEWN(a, Val, 3 * count + 1);
	for (u32 i = 0; i < count; i++) {
		Val in[6], x = tensor(&m, arena_printf(a, "qkv%u", i), dtype, 4, all);
		for (u32 k = 0; k < 3; k++)
			in[k] = heads_of(&m, x, k, heads, n, features);
		if (!derivative) {
			attention_attr attr = { .causal = true, .scale = 0.125 };
			out[i] = build(&m.b, OP_attention, in, 3, 2, &attr);
			continue;
		}
		in[3] = tensor(&m, arena_printf(a, "out%u_", i), dtype, 4, wide);
		in[4] = tensor(&m, arena_printf(a, "lse%u", i), DT_f32, 3, row);
		in[5] = BA(&m.b, transpose, (tensor(&m, arena_printf(a, "dout%u", i), dtype, 4, turned)), .perm = INTS(&m.b, 0, 2, 1, 3));
		attention_grad_attr attr = { .causal = true, .scale = 0.125 };
		Val first = build(&m.b, OP_attention_grad, in, COUNT(in), 3, &attr);
		for (u32 k = 0; k < 3; k++)
			out[3 * i + k] = (Val){ first.i + k };
	}
	return made(&m, out, derivative ? 3 * count : count);
}

const Program *program_all_reduce(Arena *a, u32 parts, i64 n, i64 size, u32 count)
{
	Maker m = maker_new(a);
	Val *out = NEWN(a, Val, count + 1);
	const char *over = intern_z(&m.ir->names, "rank"), *name = intern_z(&m.ir->names, "gradient");
	m.program->mesh = (Mesh){ .n = 1, .axis = { { over, parts } } };
	if (n) {
		Dim dim = dim_number(m.ir, n);
		Val was = BS(&m.b, read, .buffer = name, .dtype = DT_f32, .shape = { 1, &dim });
		u32 buffer = program_buffer(m.program, (Buffer){ .name = name, .kind = BUFFER_GRADIENT, .type = val_type(m.b.g, was), .of = NONE,
								 .axis = COPYN(a, Axis, val_axis(m.b.g, was), 1) });
		all_reduce_attr attr = { .over = over, .parts = parts, .reduce = intern_z(&m.ir->names, "sum") };
		graph_result(m.b.g, name, buffer, build(&m.b, OP_all_reduce, &was, 1, 1, &attr));
	}
	add_products(&m, size, count, DT_f32, out);
	return made(&m, out, count);
}

/* ---- the clock ---- */

/* Numbers between 1/2 and 2 with random digits, as bf16 and as f32. */
static Status fill(Arena *tmp, Executor *x, const PackageTensor *t)
{
	u64 state = 1, n = t->bytes / sizeof(u16);
	u16 *bits = NEWN(tmp, u16, n + 1);
	for (u64 i = 0; i < n; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		bits[i] = (u16)(0x3f00 | (state >> 40 & 0x80ff));
	}
	return executor_write(x, t, bits);
}

/* Rounds go on until so many seconds of them were seen that nobody else's work stood in; where somebody's does, for as many times that. */
static const f64 LONG_ENOUGH = 0.1, PATIENCE = 4;
enum { MOST_ROUNDS = 20000 };
/* Rounds of about a millisecond, or one that is longer, are looked at together: who comes between comes for longer than that. */
static const f64 BLOCK = 1e-3;
/* Share of a time that a thread may have waited for its core: waking up takes some. */
static const f64 CALM = 0.05;
/* After what somebody disturbed: who has rested so long has its core at once when it wakes, for a moment. */
static const f64 REST = 1e-2;

static bool add_up(void *cx, const PackageEntry *entry, u32 step, f64 seconds)
{
	(void)entry, (void)step;
	*(f64 *)cx += seconds;
	return true;
}

Status timed_open(Arena *a, const Program *p, const DriverOptions *driver, const DeviceOptions *device, Timed *out)
{
	DriverOptions o = { .device = driver->device, .cpu = driver->cpu, .tuning = driver->tuning, .arch = driver->arch, .threads = driver->threads };
	*out = (Timed){ 0 };
	Status s = driver_compile(a, p, &o, &out->compiled);
	if (s)
		return s;
	const Package *package = out->compiled.package;
	if (!package)
		s = FAIL(STATUS_UNSUPPORTED, "%s has no code for what is measured", driver->device ? driver->device : "this device");
	else
		s = executor_create(package, device, &out->executor);
	for (u32 i = 0; !s && i < package->entry[0].ninput; i++)
		s = fill(a, out->executor, &package->entry[0].input[i]);
	if (s)
		timed_close(out);
	return s;
}

Status timed_run(const Timed *t, f64 *seconds)
{
	*seconds = 0;
	return executor_run(t->executor, &t->compiled.package->entry[0], add_up, seconds);
}

void timed_close(Timed *t)
{
	if (t->executor)
		executor_destroy(t->executor);
	if (t->compiled.package)
		driver_close(&t->compiled);
	*t = (Timed){ 0 };
}

static int by_size(const void *a, const void *b)
{
	const f64 *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

/* What the clock said, and how much of it a thread waited for its core. */
typedef struct Watched {
	f64 seconds, waited;
} Watched;

typedef struct Rounds {
	Arena *arena;
	const Timed *timed;
	u32 n;              /* parts: of all steps together, or of each */
	RunQueue queue;
	VEC(f64) took;      /* of every round n, of those that nobody disturbed */
	VEC(Watched) step;  /* of every round that is watched step by step, all of them */
} Rounds;

static bool calm(Watched w)
{
	return w.waited < CALM * w.seconds;
}

static void rest(Rounds *r)
{
	nanosleep(&(struct timespec){ .tv_nsec = (long)(REST * 1e9) }, NULL);
	run_queue_waited(&r->queue);
}

static bool add_part(void *cx, const PackageEntry *entry, u32 step, f64 seconds)
{
	Rounds *r = cx;
	(void)entry;
	r->took.v[r->took.n - r->n + MIN(step, r->n - 1)] += seconds;
	return true;
}

static bool watch_step(void *cx, const PackageEntry *entry, u32 step, f64 seconds)
{
	Rounds *r = cx;
	f64 waited = run_queue_waited(&r->queue);
	Watched w = { seconds, MIN(waited, seconds) };
	(void)entry, (void)step;
	VEC_PUSH(r->arena, &r->step, w);
	if (!calm(w))
		rest(r);
	return true;
}

static Status run(Rounds *r, StepHook *hook)
{
	return executor_run(r->timed->executor, &r->timed->compiled.package->entry[0], hook, r);
}

static Status block(Rounds *r, Watched *out, u32 *n)
{
	*out = (Watched){ 0, 0 };
	*n = 0;
	run_queue_waited(&r->queue);
	for (f64 begun = clock_seconds(); out->seconds < BLOCK; out->seconds = clock_seconds() - begun) {
		for (u32 i = 0; i < r->n; i++)
			VEC_PUSH(r->arena, &r->took, 0);
		TRY(run(r, add_part));
		++*n;
	}
	out->waited = run_queue_waited(&r->queue);
	return OK;
}

/* Until there were enough rounds that nobody disturbed; false: there are not, for somebody does all the time. */
static Status in_blocks(Rounds *r, u32 rounds, bool *enough)
{
	f64 good = 0, spent = 0;
	for (u32 n, ngood = 0, was = 0; ngood < rounds || good < LONG_ENOUGH; was = r->took.n) {
		Watched w;
		TRY(block(r, &w, &n));
		spent += w.seconds;
		if (calm(w)) {
			ngood += n;
			for (u32 i = was; i < r->took.n; i++)
				good += r->took.v[i];
			if (ngood >= MOST_ROUNDS)
				break;
			continue;
		}
		r->took.n = was;
		rest(r);
		if (spent > 2 * LONG_ENOUGH) {
			*enough = false;
			return OK;
		}
	}
	*enough = true;
	return OK;
}

static void sum_up_rounds(Rounds *r, KernelTime *out)
{
	u32 nround = r->took.n / r->n;
	f64 *took = NEWN(r->arena, f64, nround);
	for (u32 i = 0; i < r->n; i++) {
		for (u32 k = 0; k < nround; k++)
			took[k] = r->took.v[k * r->n + i];
		qsort(took, nround, sizeof(f64), by_size);
		out[i].seconds = took[0];
		out[i].median = took[nround / 2];
	}
}

/* Once at least; of programs of a kernel or two, as often as there is time. */
static Status in_steps(Rounds *r)
{
	f64 begun = clock_seconds();
	do {
		run_queue_waited(&r->queue);
		TRY(run(r, watch_step));
	} while (clock_seconds() - begun < PATIENCE * LONG_ENOUGH);
	return OK;
}

static int by_waiting(const void *a, const void *b)
{
	const Watched *x = a, *y = b;
	f64 one = x->waited * y->seconds, other = y->waited * x->seconds;
	return (one > other) - (one < other);
}

static int by_watched_size(const void *a, const void *b)
{
	return by_size(&((const Watched *)a)->seconds, &((const Watched *)b)->seconds);
}

/* Of each step what its calm rounds say, or the calmest; without what was waited in it. The work does not go on meanwhile, but where other
 * threads take over some of it: they cannot do much before they wait for the one that waits. */
static void sum_up_steps(Rounds *r, KernelTime *out)
{
	u32 nstep = r->timed->compiled.package->entry[0].nstep, nround = r->step.n / nstep;
	Watched *of = NEWN(r->arena, Watched, nround), *all = NEWN(r->arena, Watched, r->n);
	for (u32 i = 0; i < r->n; i++)
		all[i] = (Watched){ 0, 0 };
	for (u32 s = 0; s < nstep; s++) {
		u32 taken = 1, part = MIN(s, r->n - 1);
		for (u32 k = 0; k < nround; k++)
			of[k] = r->step.v[k * nstep + s];
		qsort(of, nround, sizeof *of, by_waiting);
		while (taken < nround && calm(of[taken]))
			taken++;
		qsort(of, taken, sizeof *of, by_watched_size);
		const Watched *w = &of[taken / 2];
		out[part].seconds += of[0].seconds - of[0].waited;
		out[part].median += w->seconds - w->waited;
		all[part].seconds += w->seconds;
		all[part].waited += w->waited;
	}
	for (u32 i = 0; i < r->n; i++)
		out[i].waited = all[i].seconds > 0 ? all[i].waited / all[i].seconds : 0;
}

static Status measure(Arena *tmp, const Timed *t, u32 n, u32 rounds, KernelTime *out)
{
	Rounds r = { .arena = tmp, .timed = t, .n = n };
	bool enough = false;
	f64 seconds;
	TRY(timed_run(t, &seconds)); /* warms up */
	run_queue_open(tmp, &r.queue);
	Status s = in_blocks(&r, rounds, &enough);
	if (!s && enough)
		sum_up_rounds(&r, out);
	else if (!s)
		s = in_steps(&r);
	if (!s && !enough)
		sum_up_steps(&r, out);
	run_queue_close(&r.queue);
	return s;
}

/* Of all steps, or of each. */
static void count(const Timed *t, u32 n, KernelTime *out)
{
	const Plan *plan = t->compiled.plan;
	const EntryPlan *e = plan->entry.v[0];
	for (u32 i = 0; i < e->step.n; i++) {
		const Kernel *k = plan->kernel.v[e->step.v[i].kernel];
		KernelTime *to = &out[MIN(i, n - 1)];
		to->flops += k->flops;
		to->effort += k->effort;
		to->costly += k->costly;
		to->bytes += k->bytes_read + k->bytes_written;
	}
}

static Status of_parts(const Program *p, u32 n, const DriverOptions *driver, const DeviceOptions *device, u32 rounds, KernelTime *out)
{
	Arena tmp = ARENA("kernel_time");
	Timed t;
	memset(out, 0, n * sizeof *out);
	Status s = timed_open(&tmp, p, driver, device, &t);
	if (!s) {
		assert((n == 1 || t.compiled.plan->entry.v[0]->step.n == n) && "a step for each part");
		s = measure(&tmp, &t, n, rounds, out);
		count(&t, n, out);
		timed_close(&t);
	}
	arena_free(&tmp);
	return s;
}

Status kernel_time(const Program *p, const DriverOptions *driver, const DeviceOptions *device, u32 rounds, KernelTime *out)
{
	return of_parts(p, 1, driver, device, rounds, out);
}

Status kernel_times(const Program *p, u32 n, const DriverOptions *driver, const DeviceOptions *device, u32 rounds, KernelTime *out)
{
	return of_parts(p, n, driver, device, rounds, out);
}
