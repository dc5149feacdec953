/* tools/calibrate.c: what planning needs to know of a device (ir/machine.h), measured with kernels that Plinth makes for
 * it: peaks and bandwidth by the device's own probes, and what share of them work of several sizes reaches. One walk goes over
 * all FIGURES, times that are each measured alone; it is gone several times, so that a figure's TURNS lie apart, and then again over those
 * figures alone whose turns do not settle (turns.h), as long as there is time. A last walk measures nothing and makes of the times
 * that were settled on what the machine's file says. A minute. */
#include "tools/calibrate.h"
#include "runtime/comm/comm.h"
#include "support/clock.h"
#include "support/run_queue.h"
#include "tools/kernel_time.h"
#include "tools/turns.h"

#include <math.h>
#include <time.h>

enum { POINTS = 8, ROUNDS = 3, TURNS = 3, MOST_TURNS = 9 };
/* For turns beyond the first ones, all together; and between any two of them, for whoever disturbs to be done. */
static const f64 PATIENCE = 30, PAUSE = 1;

typedef enum Measured {
	M_MATMUL,         /* FLOPs a second, by the cube root of M N K */
	M_ATTENTION,      /* FLOPs a second, by length */
	M_ATTENTION_GRAD,
	M_HEADS,          /* FLOPs a second of both, by width */
	M_WINDOWS,        /* bytes a second, by the length of an image's row */
	M_ROWS,           /* additions a second, by the length of a row */
	M_REDUCTIONS,     /* the same where rows are summed */
	M_STREAM,         /* bytes a second, by bytes */
	M_CURVES
} Measured;

static const char *const curve_name[] = { "matmul", "attention", "attention_grad", "heads", "windows", "rows", "reductions", "stream" };

/* Of the device: what a walk makes of figures. */
typedef struct Sample {
	f64 peak[DTYPES], bandwidth;  /* by the device's probes; 0: it has none */
	f64 launch;                   /* seconds */
	f64 arithmetic, effort, scatter; /* FLOPs, additions, bytes a second */
	f64 series;                   /* additions beside what ir/scalar.def says */
	f64 link, latency, occupies, uneven; /* bytes a second, seconds, shares */
	f64 rate[M_CURVES][POINTS];
} Sample;

/* One time. */
typedef struct Figure {
	const char *name;
	f64 at;          /* of a curve's */
	KernelTime last; /* of the last turn */
	VEC(Turn) turn;  /* none: the device has no such */
	Settled settled;
	bool wanted;
} Figure;

typedef struct Calibration {
	Arena *arena;
	DriverOptions driver;
	DeviceOptions device;
	void (*say)(const char *what);
	const char *name, *machine;
	DType narrow;           /* what curves of products are measured in */
	f64 memory;
	u32 ranks;              /* that are devices beside one another; 1: one device, no link */
	u32 n[M_CURVES];        /* points of the curves, which the first turn sets */
	f64 at[M_CURVES][POINTS];
	u32 turn;
	bool last;              /* the walk that measures nothing */
	VEC(Figure) figure;     /* as the walk comes to them */
	u32 next;
	Sample to;
} Calibration;

static void tell(Calibration *c, const char *what)
{
	if (!c->last && c->turn < TURNS)
		c->say(arena_printf(c->arena, "%s (%u of %u)", what, c->turn + 1, TURNS));
}

static f64 median(f64 *x, u32 n)
{
	for (u32 i = 1; i < n; i++)
		for (u32 k = i; k && x[k] < x[k - 1]; k--) {
			f64 swap = x[k];
			x[k] = x[k - 1];
			x[k - 1] = swap;
		}
	return x[n / 2];
}

/* ---- figures ---- */

/* Until the next call. */
static Figure *figure_next(Calibration *c, const char *name, f64 at)
{
	if (!c->turn && !c->last)
		VEC_PUSH(c->arena, &c->figure, ((Figure){ .name = name, .at = at, .wanted = true }));
	return &c->figure.v[c->next++];
}

static bool figure_wanted(const Calibration *c, const Figure *f)
{
	return f->wanted && !c->last;
}

static void figure_took(Calibration *c, Figure *f, KernelTime t)
{
	f->last = t;
	if (t.median > 0)
		VEC_PUSH(c->arena, &f->turn, ((Turn){ t.median, t.waited }));
}

/* What is known of it by now: all that the last walk needs. */
static KernelTime figure_time(const Calibration *c, const Figure *f)
{
	KernelTime t = f->last;
	if (c->last)
		t.median = t.seconds = f->settled.seconds;
	return t;
}

static Status timed(Calibration *c, const char *name, f64 at, const Program *p, KernelTime *out)
{
	Figure *f = figure_next(c, name, at);
	if (figure_wanted(c, f)) {
		TRY(kernel_time(p, &c->driver, &c->device, ROUNDS, out));
		figure_took(c, f, *out);
	}
	*out = figure_time(c, f);
	return OK;
}

/* As the last turn had it; 0: the device has no such probe. */
static f64 rate_of(const Calibration *c, const Figure *f)
{
	f64 seconds = figure_time(c, f).median;
	return seconds > 0 ? 1 / seconds : 0;
}

/* Of all ranks, what some rank is off by, and which are wanted again. */
static Status settle(Calibration *c, u32 *wanted)
{
	u32 n = c->figure.n;
	f64 *off = NEWN(c->arena, f64, n + 1), *all = NEWN(c->arena, f64, n * c->ranks + 1);
	for (u32 i = 0; i < n; i++) {
		Figure *f = &c->figure.v[i];
		f->settled = f->turn.n ? turns_settle(f->turn.v, f->turn.n) : (Settled){ 0, 0 };
		all[i] = off[i] = f->settled.off;
	}
	if (c->ranks > 1)
		TRY(comm_gather(c->device.comm, "telling what was disturbed", off, n * sizeof *off, all));
	*wanted = 0;
	for (u32 i = 0; i < n; i++) {
		Figure *f = &c->figure.v[i];
		for (u32 r = 0; r < c->ranks; r++)
			f->settled.off = MAX(f->settled.off, all[r * n + i]);
		f->wanted = turns_disturbed(f->settled);
		*wanted += f->wanted;
	}
	return OK;
}

static const char *disturbed(const Calibration *c)
{
	Disturbed *d = NEWN(c->arena, Disturbed, c->figure.n + 1);
	u32 n = 0;
	for (u32 i = 0; i < c->figure.n; i++)
		if (c->figure.v[i].wanted)
			d[n++] = (Disturbed){ c->figure.v[i].name, c->figure.v[i].at, c->figure.v[i].settled.off };
	return turns_disturbed_text(c->arena, d, n);
}

/* ---- curves ---- */

/* One more point of a curve: `rate` at `at`. */
static void point(Calibration *c, Measured curve, u32 i, f64 at, f64 rate)
{
	assert(i < POINTS);
	c->at[curve][i] = at;
	c->to.rate[curve][i] = rate;
	if (!c->turn && !c->last)
		c->n[curve] = i + 1;
}

/* Is there a point i? Later turns have the first one's; that one goes on to where a point takes `most` seconds on some rank. */
static Status more(Calibration *c, Measured curve, u32 i, u32 sizes, f64 seconds, f64 most, bool *out)
{
	if (c->turn || c->last) {
		*out = i < c->n[curve];
		return OK;
	}
	bool enough = i >= sizes || seconds >= most;
	TRY(comm_any(c->device.comm, "measuring", enough, &enough));
	*out = !enough;
	return OK;
}

/* Seconds beyond the launches of `count` kernels. */
static Status work_time(Calibration *c, const char *name, f64 at, const Program *p, u32 count, KernelTime *out)
{
	TRY(timed(c, name, at, p, out));
	out->seconds = MAX(out->median - count * c->to.launch, out->median * 0.05);
	return OK;
}

/* How many kernels of so many bytes each are measured together: as a step's layers have, but not more memory than it takes to leave no cache. */
static u32 together(f64 bytes, u32 least)
{
	return (u32)MIN(MAX(256e6 / bytes, least), 24);
}

typedef enum Probe { PROBE_F32, PROBE_BF16, PROBE_F8, PROBE_BANDWIDTH, PROBES } Probe;

static Status probe_once(const Executor *x, Probe which, f64 *rate)
{
	const Device *d = x->device;
	static const PackageDtype operands[] = { [PROBE_F32] = PACKAGE_F32, [PROBE_BF16] = PACKAGE_BF16, [PROBE_F8] = PACKAGE_F8E4M3 };
	if (which != PROBE_BANDWIDTH) {
		*rate = d->peak(x->state, operands[which]);
		return OK;
	}
	f64 move[DEVICE_MOVES] = { 0 };
	if (d->bandwidth)
		TRY(d->bandwidth(x->state, move));
	*rate = MAX(move[MOVE_UPDATE], move[MOVE_COPY]);
	return OK;
}

/* The time of one FLOP or byte, by a probe of the device's: the best of some, until one had the cores to itself. Peaks are each the best of
 * many moments that are shorter than others come for, so that their turns alone tell. */
static Status probe(Calibration *c, const Executor *x, Probe which, Figure *f)
{
	enum { TRIES = 8 };
	static const f64 CALM = 0.01;
	if (!figure_wanted(c, f))
		return OK;
	f64 best = 0, least = 1;
	RunQueue q;
	run_queue_open(c->arena, &q);
	Status s = OK;
	for (u32 i = 0; i < TRIES && least > CALM && !s; i++) {
		f64 rate = 0, begun = clock_seconds();
		run_queue_waited(&q);
		s = probe_once(x, which, &rate);
		f64 waited = run_queue_waited(&q) / (clock_seconds() - begun);
		least = MIN(least, waited);
		best = MAX(best, rate);
	}
	run_queue_close(&q);
	if (!s)
		figure_took(c, f, (KernelTime){ .median = best > 0 ? 1 / best : 0, .waited = which == PROBE_BANDWIDTH ? least : 0 });
	return s;
}

/* Peaks, bandwidth, names: of an executor that holds a small program. */
static Status probes(Calibration *c)
{
	static const char *const name[PROBES] = { "peak of f32", "peak of bf16", "peak of f8e4m3", "bandwidth" };
	tell(c, "peaks and bandwidth");
	u32 first = c->next;
	bool any = false;
	for (u32 i = 0; i < PROBES; i++)
		any |= figure_wanted(c, figure_next(c, name[i], 0));
	Figure *f = &c->figure.v[first];
	c->to.peak[DT_f32] = rate_of(c, &f[PROBE_F32]);
	c->to.peak[DT_bf16] = rate_of(c, &f[PROBE_BF16]);
	c->to.peak[DT_f8e4m3] = rate_of(c, &f[PROBE_F8]);
	c->to.bandwidth = rate_of(c, &f[PROBE_BANDWIDTH]);
	if (!any)
		return OK;
	Compiled compiled;
	TRY(driver_compile(c->arena, program_stream(c->arena, 16), &c->driver, &compiled));
	if (!compiled.package)
		return FAIL(STATUS_UNSUPPORTED, "this build makes no code for the device");
	Executor *x;
	Status s = executor_create(compiled.package, &c->device, &x);
	if (!s) {
		DeviceInfo info = { 0 };
		if (x->device->info)
			s = x->device->info(c->device.index, &info);
		for (Probe i = 0; i < PROBES && !s; i++)
			s = probe(c, x, i, &f[i]);
		c->memory = (f64)info.memory / c->ranks;
		c->machine = compiled.machine;
		c->name = arena_printf(c->arena, "%s, %s", compiled.machine, x->device->describe(x->state, c->arena));
		executor_destroy(x);
	}
	driver_close(&compiled);
	return s;
}

static Status products(Calibration *c)
{
	tell(c, "matrix products");
	static const i64 size[] = { 16, 32, 64, 128, 256, 512, 1024, 2048 };
	KernelTime t = { 0 };
	bool any;
	for (u32 i = 0;; i++) {
		TRY(more(c, M_MATMUL, i, COUNT(size), t.seconds, 0.2, &any));
		if (!any)
			return OK;
		f64 at = cbrt(4) * (f64)size[i];
		u32 count = together((f64)(9 * size[i] * size[i]) * dtype_info[c->narrow].bytes, 2); /* forward and backward */
		TRY(work_time(c, curve_name[M_MATMUL], at, program_products(c->arena, size[i], count, c->narrow), count, &t));
		t.seconds /= count;
		point(c, M_MATMUL, i, at, t.flops / count / t.seconds);
	}
}

enum { HEADS = 12, FEATURES = 64 };

/* One of several, that each have operands of their own; long ones read these so often that it does not matter what caches held before. */
static Status attention_time(Calibration *c, Measured curve, f64 at, i64 n, i64 features, bool derivative, KernelTime *t)
{
	enum { LONG = 1024 };
	u32 tensors = derivative ? 8 : 4, count = n < LONG ? together((f64)(tensors * HEADS * n * features) * dtype_info[c->narrow].bytes, 1) : 1;
	TRY(work_time(c, curve_name[curve], at, program_attention(c->arena, count, HEADS, n, features, c->narrow, derivative), count, t));
	t->seconds /= count;
	t->flops /= count;
	return OK;
}

static Status attention(Calibration *c, bool derivative)
{
	tell(c, derivative ? "attention's derivative" : "attention");
	static const i64 size[] = { 16, 64, 256, 1024, 4096 };
	Measured curve = derivative ? M_ATTENTION_GRAD : M_ATTENTION;
	KernelTime t = { 0 };
	bool any;
	for (u32 i = 0;; i++) {
		TRY(more(c, curve, i, COUNT(size), t.seconds, 0.1, &any));
		if (!any)
			return OK;
		TRY(attention_time(c, curve, (f64)size[i], size[i], FEATURES, derivative, &t));
		point(c, curve, i, (f64)size[i], t.flops / t.seconds);
	}
}

static const i64 head_width[] = { 8, 16, 32, FEATURES, 128 };

/* Attention and its derivative with heads of other widths, beside those that the curves are measured with. */
static Status heads(Calibration *c)
{
	tell(c, "widths of heads");
	enum { QUERIES = 256 };
	for (u32 i = 0; i < COUNT(head_width); i++) {
		KernelTime t, grad;
		f64 at = (f64)head_width[i];
		TRY(attention_time(c, M_HEADS, at, QUERIES, head_width[i], false, &t));
		TRY(attention_time(c, M_HEADS, at, QUERIES, head_width[i], true, &grad));
		point(c, M_HEADS, i, at, (t.flops + grad.flops) / (t.seconds + grad.seconds));
	}
	return OK;
}

static const i64 image_row[] = { 4, 7, 14, 28, 60 }; /* vectors begin anywhere in most */

/* What windows take to be brought into order: what would be left of a convolution that makes no channels, by two that make few. */
static Status windows(Calibration *c)
{
	enum { PLACES = 4096, CHANNELS = 16, FEW = 8, MORE = 24 };
	tell(c, "windows of convolutions");
	for (u32 i = 0; i < COUNT(image_row); i++) {
		i64 row = image_row[i], images = MAX(PLACES / (row * row), 1);
		Figure *f = figure_next(c, curve_name[M_WINDOWS], (f64)row);
		if (figure_wanted(c, f)) {
			KernelTime t[2];
			TRY(kernel_times(program_windows(c->arena, images, CHANNELS, (const i64[]){ FEW, MORE }, row), 2, &c->driver, &c->device, ROUNDS, t));
			const KernelTime *fewer = &t[t[0].flops > t[1].flops], *wider = &t[t[0].flops <= t[1].flops];
			f64 few = MAX(fewer->seconds - c->to.launch, fewer->seconds * 0.05), channel = (wider->seconds - fewer->seconds) / (MORE - FEW);
			figure_took(c, f, (KernelTime){ .median = MAX(few - FEW * channel, few * 0.05), .waited = fewer->waited });
		}
		f64 bytes = (f64)(images * row * row * 9 * CHANNELS) * sizeof(f32);
		point(c, M_WINDOWS, i, (f64)row, bytes / figure_time(c, f).median);
	}
	return OK;
}

static const i64 row_length[] = { 3, 5, 9, 16, 30, 62, 130, 514 };

/* Kernels over rows, by their length: short ones are mostly what begins and ends them. What their function takes, beyond what is
 * counted for it, is told by the longest. */
static Status rows(Calibration *c)
{
	enum { ELEMENTS = 100000, N = COUNT(row_length) };
	KernelTime t[N];
	tell(c, "short rows");
	for (u32 i = 0; i < N; i++) {
		i64 n = row_length[i];
		TRY(work_time(c, curve_name[M_ROWS], (f64)n, program_rows(c->arena, MAX(ELEMENTS / (n * n), 1), n), 1, &t[i]));
	}
	const KernelTime *longest = &t[N - 1];
	c->to.series = MAX(1, (longest->seconds * c->to.effort - (longest->effort - longest->costly)) / longest->costly);
	for (u32 i = 0; i < N; i++)
		point(c, M_ROWS, i, (f64)row_length[i], (t[i].effort + t[i].costly * (c->to.series - 1)) / t[i].seconds);
	return OK;
}

static const i64 reduced_length[] = { 4, 16, 30, 62, 130, 514, 1030 };

/* Norms, by the length of a row: of short ones, what begins and ends them and waits for sums. */
static Status reductions(Calibration *c)
{
	enum { ELEMENTS = 100000 };
	tell(c, "sums of short rows");
	for (u32 i = 0; i < COUNT(reduced_length); i++) {
		KernelTime t;
		i64 n = reduced_length[i];
		TRY(work_time(c, curve_name[M_REDUCTIONS], (f64)n, program_norm(c->arena, ELEMENTS / n, n), 1, &t));
		point(c, M_REDUCTIONS, i, (f64)n, (t.effort + t.costly * (c->to.series - 1)) / t.seconds);
	}
	return OK;
}

/* What a vector unit does in long rows: so many updates one behind the other of what stays in caches, so that it is neither memory nor the
 * way to a kernel that takes the time; of several sizes the median. */
static Status efforts(Calibration *c)
{
	enum { UPDATES = 16 };
	static const i64 size[] = { 16384, 32768, 65536 };
	f64 rate[COUNT(size)];
	for (u32 i = 0; i < COUNT(size); i++) {
		KernelTime t;
		TRY(work_time(c, "effort", (f64)size[i], program_update(c->arena, size[i], UPDATES), 1, &t));
		rate[i] = t.effort / t.seconds;
	}
	c->to.effort = median(rate, COUNT(size));
	return OK;
}

/* What moves bytes, by how many: small ones stay in caches. */
static Status streams(Calibration *c)
{
	tell(c, "memory");
	static const i64 size[] = { 1000, 10000, 100000, 1000000, 4000000, 32000000 };
	enum { SMALL = 64 };
	KernelTime t;
	TRY(timed(c, "launch", 0, program_small(c->arena, SMALL), &t));
	c->to.launch = t.median / SMALL; /* with the way to code that does not run twice in a row */
	for (u32 i = 0; i < COUNT(size); i++) {
		f64 bytes = 12 * (f64)size[i];
		u32 count = together(bytes, 2);
		TRY(work_time(c, curve_name[M_STREAM], bytes, program_streams(c->arena, size[i], count), count, &t));
		point(c, M_STREAM, i, t.bytes / count, t.bytes / t.seconds);
	}
	TRY(work_time(c, "arithmetic", 0, program_gelu(c->arena, 100000), 1, &t));
	c->to.arithmetic = t.flops / t.seconds;
	TRY(efforts(c));
	TRY(work_time(c, "scatter", 0, program_scatter(c->arena, 1024, 128), 1, &t));
	c->to.scatter = t.bytes / t.seconds;
	return OK;
}

/* ---- between ranks ---- */

/* Of a sum of n f32 over all ranks, none if n = 0, and so many products beside it; the median of as many rounds on every rank, for
 * each waits for the others. */
static Status sum_time(Calibration *c, const char *name, i64 n, u32 products, f64 *seconds)
{
	enum { SUMS = 31, SIZE = 256 };
	Figure *f = figure_next(c, name, 0);
	if (figure_wanted(c, f)) {
		f64 took[SUMS], begun = 0;
		Timed t;
		RunQueue q;
		DeviceOptions o = c->device;
		TRY(timed_open(c->arena, program_all_reduce(c->arena, c->ranks, n, SIZE, products), &c->driver, &o, &t));
		run_queue_open(c->arena, &q);
		Status s = OK;
		for (u32 i = 0; i <= SUMS && !s; i++) {
			f64 from = clock_seconds();
			s = executor_run(t.executor, &t.compiled.package->entry[0], NULL, NULL); /* whoever watches steps has them one behind the other */
			if (i)
				took[i - 1] = clock_seconds() - from;
			else { /* the first one warms up */
				begun = clock_seconds();
				run_queue_waited(&q);
			}
		}
		f64 waited = run_queue_waited(&q) / (clock_seconds() - begun);
		run_queue_close(&q);
		timed_close(&t);
		if (s)
			return s;
		figure_took(c, f, (KernelTime){ .median = median(took, SUMS), .waited = waited });
	}
	*seconds = figure_time(c, f).median;
	return OK;
}

typedef struct Meeting {
	f64 waited, worked; /* seconds */
} Meeting;

static bool add_meeting(void *cx, const PackageEntry *entry, u32 step, f64 seconds)
{
	Meeting *m = cx;
	*(entry->step[step].collective ? &m->waited : &m->worked) += seconds;
	return true;
}

/* What ranks wait for one another behind some products, beyond a message's way: of all ranks the mean, as a share of the work between, and
 * of rounds the median. The figure is the time of both, by that of the work. */
static Status wait_share(Calibration *c, i64 n, u32 products, f64 way, f64 *share)
{
	enum { MEETINGS = 31, SIZE = 256 };
	Figure *f = figure_next(c, "uneven", 0);
	if (figure_wanted(c, f)) {
		Meeting mine[MEETINGS + 1] = { 0 }, *all = NEWN(c->arena, Meeting, c->ranks * COUNT(mine));
		Timed t;
		RunQueue q;
		DeviceOptions o = c->device;
		TRY(timed_open(c->arena, program_all_reduce(c->arena, c->ranks, n, SIZE, products), &c->driver, &o, &t));
		run_queue_open(c->arena, &q);
		f64 begun = clock_seconds();
		Status s = OK;
		for (u32 i = 0; i < COUNT(mine) && !s; i++)
			s = executor_run(t.executor, &t.compiled.package->entry[0], add_meeting, &mine[i]);
		f64 waited = run_queue_waited(&q) / (clock_seconds() - begun);
		run_queue_close(&q);
		if (!s)
			s = comm_gather(c->device.comm, "telling what was waited", mine, sizeof mine, all);
		timed_close(&t);
		if (s)
			return s;
		f64 of[MEETINGS];
		for (u32 i = 1; i <= MEETINGS; i++) { /* the first one warms up */
			Meeting sum = { 0 };
			for (u32 r = 0; r < c->ranks; r++) {
				sum.waited += all[r * COUNT(mine) + i].waited - way;
				sum.worked += all[r * COUNT(mine) + i].worked;
			}
			of[i - 1] = sum.waited / sum.worked;
		}
		figure_took(c, f, (KernelTime){ .median = 1 + MAX(median(of, MEETINGS), 0), .waited = waited });
	}
	*share = figure_time(c, f).median - 1;
	return OK;
}

/* What predict_collective (passes/plan/predict.h) takes of a link: of a small sum the way, of one that no cache holds, as none holds gradients by
 * the end of a step, bytes a second; and how much of that one's time comes on top of work that would hide it. */
static Status between_ranks(Calibration *c)
{
	enum { BESIDE = 8 };
	static const i64 small = 16, large = 16000000;
	f64 way, whole, work, both, ranks = (f64)c->ranks;
	tell(c, "sums over ranks");
	TRY(sum_time(c, "latency of the link", small, 0, &way));
	TRY(sum_time(c, "bandwidth of the link", large, 0, &whole));
	TRY(sum_time(c, "occupies of the link", 0, BESIDE, &work));
	TRY(sum_time(c, "occupies of the link", large, BESIDE, &both));
	TRY(wait_share(c, small, BESIDE, way, &c->to.uneven));
	c->to.latency = way / (2 * MIN(ranks - 1, log2(ranks)));
	c->to.link = 2 * (ranks - 1) / ranks * (f64)(large - small) * sizeof(f32) / MAX(whole - way, whole * 0.05);
	c->to.occupies = MIN(MAX((both - MAX(work, whole)) / MIN(work, whole), 0), 1);
	return OK;
}

/* ---- all of it ---- */

static Status walk(Calibration *c)
{
	c->next = 0;
	TRY(probes(c));
	TRY(streams(c));
	TRY(products(c));
	TRY(attention(c, false));
	TRY(attention(c, true));
	TRY(heads(c));
	if (str_starts(str_of(c->driver.device), STR("cpu"))) {
		TRY(windows(c));
		TRY(rows(c));
		TRY(reductions(c));
	}
	if (c->ranks > 1)
		TRY(between_ranks(c));
	return OK;
}

/* All turns, and the last walk. */
static Status measure(Calibration *c)
{
	for (; c->turn < TURNS; c->turn++)
		TRY(walk(c));
	u32 wanted;
	TRY(settle(c, &wanted));
	f64 begun = clock_seconds();
	for (; wanted && c->turn < MOST_TURNS; c->turn++) {
		bool late;
		TRY(comm_any(c->device.comm, "measuring", clock_seconds() - begun > PATIENCE, &late));
		if (late)
			break;
		c->say(arena_printf(c->arena, "again what was disturbed: %s", disturbed(c)));
		nanosleep(&(struct timespec){ .tv_sec = (time_t)PAUSE }, NULL);
		TRY(walk(c));
		TRY(settle(c, &wanted));
	}
	c->last = true;
	return walk(c);
}

/* Rates become shares; where the device has no probes, the best of a curve is the peak. */
static void take_shares(Calibration *c, Sample *m, Curve curve[M_CURVES])
{
	CurvePoint *p = NEWN(c->arena, CurvePoint, M_CURVES * POINTS);
	for (u32 k = 0; k < M_CURVES; k++)
		curve[k] = (Curve){ p + k * POINTS, c->n[k] };
	for (u32 i = 0; i < c->n[M_MATMUL]; i++)
		m->peak[c->narrow] = MAX(m->peak[c->narrow], m->rate[M_MATMUL][i]);
	if (!(m->peak[DT_f32] > 0))
		m->peak[DT_f32] = m->peak[c->narrow];
	if (!(m->bandwidth > 0))
		m->bandwidth = m->rate[M_STREAM][c->n[M_STREAM] - 1];
	f64 usual = 1;
	for (u32 i = 0; i < c->n[M_HEADS]; i++)
		usual = head_width[i] == FEATURES ? m->rate[M_HEADS][i] : usual;
	const f64 whole[M_CURVES] = { m->peak[c->narrow], m->peak[c->narrow], m->peak[c->narrow], usual, m->bandwidth, m->effort, m->effort, m->bandwidth };
	for (u32 k = 0; k < M_CURVES; k++)
		for (u32 i = 0; i < c->n[k]; i++)
			p[k * POINTS + i] = (CurvePoint){ c->at[k][i], m->rate[k][i] / whole[k] };
	m->arithmetic /= m->peak[DT_f32];
	m->effort /= m->peak[DT_f32];
	m->scatter /= m->bandwidth;
}

Status calibrate(Arena *a, const RunOptions *where, void (*say)(const char *what), const char **text, const char **off)
{
	const char *device = where->device ? where->device : driver_default_device();
	Calibration c = { .arena = a, .say = say };
	c.driver = (DriverOptions){ .device = device, .cpu = where->cpu, .arch = where->arch };
	c.ranks = where->comm ? comm_ranks(where->comm) : 1;
	if (where->comm && comm_local_ranks(where->comm) != c.ranks)
		return FAIL(STATUS_UNSUPPORTED, "ranks on several hosts: a machine's link and network are not told apart; start them on one");
	TRY(run_options(where, &c.device));
	c.device.pinned = c.ranks == 1; /* where others have most of the cores, threads may be put on one; ranks do not know of each other's */
	bool cpu = str_starts(str_of(device), STR("cpu"));
	c.narrow = cpu ? DT_f32 : DT_bf16;
	TRY(measure(&c));
	*off = disturbed(&c);
	Sample m = c.to;
	Curve curve[M_CURVES];
	take_shares(&c, &m, curve);
	Buf b = { .arena = a };
	buf_printf(&b, "# Measured by `plinth doctor --calibrate`: what planning knows of this machine (docs/planning.md).\n");
	if (*off)
		buf_printf(&b, "# Others used it meanwhile, and times may be too long by so much as `disturbed` says: measure it again when nothing else runs.\n");
	buf_printf(&b, "machine {\n");
	buf_printf(&b, "  name           = \"%s\"\n  device         = \"%s\"\n", c.name, cpu ? "cpu" : "cuda");
	buf_printf(&b, "  arch           = \"%s\"\n", c.machine);
	buf_printf(&b, "  peak           = { f32 = %.4g", m.peak[DT_f32]);
	if (m.peak[DT_bf16] > 0)
		buf_printf(&b, ", bf16 = %.4g", m.peak[DT_bf16]);
	if (!cpu)
		buf_printf(&b, ", f16 = %.4g", m.peak[DT_bf16]);
	if (m.peak[DT_f8e4m3] > 0) /* where it multiplies these */
		buf_printf(&b, ", f8e4m3 = %.4g", m.peak[DT_f8e4m3]);
	buf_printf(&b, " }\n  memory         = %.0f\n  reserved       = %s\n  bandwidth      = %.4g\n", c.memory, cpu ? "256 MiB" : "1 GiB", m.bandwidth);
	buf_printf(&b, "  launch         = %.3g\n  arithmetic     = %.3g\n  scatter        = %.3g\n", m.launch, m.arithmetic, m.scatter);
	if (cpu)
		buf_printf(&b, "  effort         = %.3g\n  series         = %.3g\n", m.effort, m.series);
	for (u32 k = 0; k < M_CURVES; k++) {
		if (curve[k].n)
			buf_printf(&b, "  %-14s = [", curve_name[k]);
		for (u32 i = 0; i < curve[k].n; i++)
			buf_printf(&b, "%s(%.6g, %.3g)%s", i ? ", " : "", curve[k].point[i].at, curve[k].point[i].share, i + 1 == curve[k].n ? "]\n" : "");
	}
	if (c.ranks > 1)
		buf_printf(&b, "  uneven         = %.3g\n  domain         = %u\n  link           = { bandwidth = %.4g, latency = %.3g, occupies = %.3g }\n", m.uneven, c.ranks,
			   m.link, m.latency, m.occupies);
	if (*off)
		buf_printf(&b, "  disturbed      = \"%s\"\n", *off);
	buf_printf(&b, "}\n");
	*text = b.text;
	return OK;
}
