/* tools/calibrate.c: what planning needs to know of a device (ir/machine.h), measured with kernels that Plinth makes for
 * it: peaks and bandwidth by the device's own probes, and what share of them work of several sizes reaches. All is measured in
 * TURNS, one behind the other, and each number is the median of its own over them: who shares the machine for a second or two
 * has one turn, not a number. Shares are taken of medians. A minute. */
#include "tools/calibrate.h"
#include "runtime/comm/comm.h"
#include "support/clock.h"
#include "tools/kernel_time.h"

#include <math.h>
#include <string.h>
#include <time.h>

enum { POINTS = 8, ROUNDS = 5, TURNS = 3 };

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

/* What one turn has measured. */
typedef struct Sample {
	f64 peak[DTYPES], bandwidth;  /* by the device's probes; 0: it has none */
	f64 launch;                   /* seconds */
	f64 arithmetic, effort, scatter; /* FLOPs, additions, bytes a second */
	f64 series;                   /* additions beside what ir/scalar.def says */
	f64 link, latency, occupies, uneven; /* bytes a second, seconds, shares */
	f64 rate[M_CURVES][POINTS];
} Sample;

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
	Sample *to;             /* of this turn */
} Calibration;

static void tell(Calibration *c, const char *what)
{
	c->say(arena_printf(c->arena, "%s (%u of %u)", what, c->turn + 1, TURNS));
}

/* One more point of a curve: `rate` at `at`. */
static void point(Calibration *c, Measured curve, u32 i, f64 at, f64 rate)
{
	assert(i < POINTS);
	c->at[curve][i] = at;
	c->to->rate[curve][i] = rate;
	if (!c->turn)
		c->n[curve] = i + 1;
}

/* Is there a point i? Later turns have the first one's; that one goes on to where a point takes `most` seconds. */
static bool more(const Calibration *c, Measured curve, u32 i, u32 sizes, f64 seconds, f64 most)
{
	return !c->turn ? i < sizes && seconds < most : i < c->n[curve];
}

/* Seconds beyond the launches of `count` kernels. */
static Status work_time(Calibration *c, const Program *p, u32 count, KernelTime *out)
{
	TRY(kernel_time(p, &c->driver, &c->device, ROUNDS, out));
	out->seconds = MAX(out->median - count * c->to->launch, out->median * 0.05);
	return OK;
}

/* How many kernels of so many bytes each are measured together: as a step's layers have, but not more memory than it takes to leave no cache. */
static u32 together(f64 bytes, u32 least)
{
	return (u32)MIN(MAX(256e6 / bytes, least), 24);
}

/* Peaks, bandwidth, names: of an executor that holds a small program. */
static Status probe(Calibration *c)
{
	tell(c, "peaks and bandwidth");
	Compiled compiled;
	TRY(driver_compile(c->arena, program_stream(c->arena, 16), &c->driver, &compiled));
	if (!compiled.package)
		return FAIL(STATUS_UNSUPPORTED, "this build makes no code for the device");
	Executor *x;
	Status s = executor_create(compiled.package, &c->device, &x);
	if (!s) {
		const Device *d = x->device;
		DeviceInfo info = { 0 };
		f64 rate[DEVICE_MOVES] = { 0 };
		if (d->info)
			s = d->info(c->device.index, &info);
		if (!s && d->bandwidth)
			s = d->bandwidth(x->state, rate);
		c->to->peak[DT_f32] = d->peak(x->state, PACKAGE_F32);
		c->to->peak[DT_bf16] = d->peak(x->state, PACKAGE_BF16);
		c->to->bandwidth = MAX(rate[MOVE_UPDATE], rate[MOVE_COPY]);
		c->memory = (f64)info.memory / c->ranks;
		c->machine = compiled.machine;
		c->name = arena_printf(c->arena, "%s, %s", compiled.machine, d->describe(x->state, c->arena));
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
	for (u32 i = 0; more(c, M_MATMUL, i, COUNT(size), t.seconds, 0.2); i++) {
		u32 count = together((f64)(9 * size[i] * size[i]) * dtype_info[c->narrow].bytes, 2); /* forward and backward */
		TRY(work_time(c, program_products(c->arena, size[i], count, c->narrow), count, &t));
		t.seconds /= count;
		point(c, M_MATMUL, i, cbrt(4) * (f64)size[i], t.flops / count / t.seconds);
	}
	return OK;
}

enum { HEADS = 12, FEATURES = 64 };

/* One of several, that each have operands of their own; long ones read these so often that it does not matter what caches held before. */
static Status attention_time(Calibration *c, i64 n, i64 features, bool derivative, KernelTime *t)
{
	enum { LONG = 1024 };
	u32 tensors = derivative ? 8 : 4, count = n < LONG ? together((f64)(tensors * HEADS * n * features) * dtype_info[c->narrow].bytes, 1) : 1;
	TRY(work_time(c, program_attention(c->arena, count, HEADS, n, features, c->narrow, derivative), count, t));
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
	for (u32 i = 0; more(c, curve, i, COUNT(size), t.seconds, 0.1); i++) {
		TRY(attention_time(c, size[i], FEATURES, derivative, &t));
		point(c, curve, i, (f64)size[i], t.flops / t.seconds);
	}
	return OK;
}

static const i64 head_width[] = { 8, 16, 32, FEATURES, 128 };

/* Attention and its derivative with heads of other widths, beside those that the curves are measured with. */
static Status heads(Calibration *c)
{
	tell(c, "widths of heads");
	enum { QUERIES = 256 };
	for (u32 i = 0; i < COUNT(head_width); i++) {
		KernelTime t, grad;
		TRY(attention_time(c, QUERIES, head_width[i], false, &t));
		TRY(attention_time(c, QUERIES, head_width[i], true, &grad));
		point(c, M_HEADS, i, (f64)head_width[i], (t.flops + grad.flops) / (t.seconds + grad.seconds));
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
		const Program *p[] = { program_windows(c->arena, images, CHANNELS, FEW, row), program_windows(c->arena, images, CHANNELS, MORE, row) };
		KernelTime t[COUNT(p)];
		TRY(kernel_times(p, COUNT(p), &c->driver, &c->device, ROUNDS, t));
		f64 few = t[0].seconds - c->to->launch, channel = (t[1].seconds - t[0].seconds) / (MORE - FEW);
		f64 bytes = (f64)(images * row * row * 9 * CHANNELS) * sizeof(f32);
		point(c, M_WINDOWS, i, (f64)row, bytes / MAX(few - FEW * channel, few * 0.05));
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
	for (u32 i = 0; i < N; i++)
		TRY(work_time(c, program_rows(c->arena, MAX(ELEMENTS / (row_length[i] * row_length[i]), 1), row_length[i]), 1, &t[i]));
	const KernelTime *longest = &t[N - 1];
	c->to->series = MAX(1, (longest->seconds * c->to->effort - (longest->effort - longest->costly)) / longest->costly);
	for (u32 i = 0; i < N; i++)
		point(c, M_ROWS, i, (f64)row_length[i], (t[i].effort + t[i].costly * (c->to->series - 1)) / t[i].seconds);
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
		TRY(work_time(c, program_norm(c->arena, ELEMENTS / reduced_length[i], reduced_length[i]), 1, &t));
		point(c, M_REDUCTIONS, i, (f64)reduced_length[i], (t.effort + t.costly * (c->to->series - 1)) / t.seconds);
	}
	return OK;
}

/* What moves bytes, by how many: small ones stay in caches. */
static Status streams(Calibration *c)
{
	tell(c, "memory");
	static const i64 size[] = { 1000, 10000, 100000, 1000000, 4000000, 32000000 };
	enum { SMALL = 64 };
	KernelTime t;
	TRY(kernel_time(program_small(c->arena, SMALL), &c->driver, &c->device, ROUNDS, &t));
	c->to->launch = t.median / SMALL; /* with the way to code that does not run twice in a row */
	for (u32 i = 0; i < COUNT(size); i++) {
		u32 count = together(12 * (f64)size[i], 2);
		TRY(work_time(c, program_streams(c->arena, size[i], count), count, &t));
		point(c, M_STREAM, i, t.bytes / count, t.bytes / t.seconds);
	}
	TRY(work_time(c, program_gelu(c->arena, 100000), 1, &t));
	c->to->arithmetic = t.flops / t.seconds;
	KernelTime plain;
	TRY(work_time(c, program_update(c->arena, 32768), 1, &plain));
	c->to->effort = plain.effort / plain.seconds;
	TRY(work_time(c, program_scatter(c->arena, 1024, 128), 1, &t));
	c->to->scatter = t.bytes / t.seconds;
	return OK;
}

/* ---- between ranks ---- */

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

/* Of a sum of n f32 over all ranks, none if n = 0, and so many products beside it; the median of as many rounds on every rank, for
 * each waits for the others. */
static Status sum_time(Calibration *c, i64 n, u32 products, f64 *seconds)
{
	enum { SUMS = 31, SIZE = 256 };
	f64 took[SUMS];
	Timed t;
	DeviceOptions o = c->device;
	TRY(timed_open(c->arena, program_all_reduce(c->arena, c->ranks, n, SIZE, products), &c->driver, &o, &t));
	Status s = OK;
	for (u32 i = 0; i <= SUMS && !s; i++) {
		f64 from = clock_seconds();
		s = executor_run(t.executor, &t.compiled.package->entry[0], NULL, NULL); /* whoever watches steps has them one behind the other */
		if (i) /* the first one warms up */
			took[i - 1] = clock_seconds() - from;
	}
	timed_close(&t);
	if (s)
		return s;
	*seconds = median(took, SUMS);
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
 * of rounds the median. */
static Status wait_share(Calibration *c, i64 n, u32 products, f64 way, f64 *share)
{
	enum { MEETINGS = 31, SIZE = 256 };
	Meeting mine[MEETINGS + 1] = { 0 }, *all = NEWN(c->arena, Meeting, c->ranks * COUNT(mine));
	Timed t;
	DeviceOptions o = c->device;
	TRY(timed_open(c->arena, program_all_reduce(c->arena, c->ranks, n, SIZE, products), &c->driver, &o, &t));
	Status s = OK;
	for (u32 i = 0; i < COUNT(mine) && !s; i++)
		s = executor_run(t.executor, &t.compiled.package->entry[0], add_meeting, &mine[i]);
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
	*share = MAX(median(of, MEETINGS), 0);
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
	TRY(sum_time(c, small, 0, &way));
	TRY(sum_time(c, large, 0, &whole));
	TRY(sum_time(c, 0, BESIDE, &work));
	TRY(sum_time(c, large, BESIDE, &both));
	TRY(wait_share(c, small, BESIDE, way, &c->to->uneven));
	c->to->latency = way / (2 * MIN(ranks - 1, log2(ranks)));
	c->to->link = 2 * (ranks - 1) / ranks * (f64)(large - small) * sizeof(f32) / MAX(whole - way, whole * 0.05);
	c->to->occupies = MIN(MAX((both - MAX(work, whole)) / MIN(work, whole), 0), 1);
	return OK;
}

/* ---- all of it ---- */

static Status measure(Calibration *c)
{
	TRY(probe(c));
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

/* Of every number its median; a sample is nothing but such. */
static Sample medians(const Sample *turn)
{
	Sample out;
	enum { NUMBERS = sizeof(Sample) / sizeof(f64) };
	for (u32 i = 0; i < NUMBERS; i++) {
		f64 all[TURNS];
		for (u32 k = 0; k < TURNS; k++)
			memcpy(&all[k], (const char *)&turn[k] + i * sizeof(f64), sizeof(f64));
		f64 one = median(all, TURNS);
		memcpy((char *)&out + i * sizeof(f64), &one, sizeof one);
	}
	return out;
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

Status calibrate(Arena *a, const RunOptions *where, void (*say)(const char *what), const char **text)
{
	const char *device = where->device ? where->device : driver_default_device();
	Calibration c = { .arena = a, .say = say };
	c.driver = (DriverOptions){ .device = device, .cpu = where->cpu, .arch = where->arch };
	c.ranks = where->comm ? comm_ranks(where->comm) : 1;
	if (where->comm && comm_local_ranks(where->comm) != c.ranks)
		return FAIL(STATUS_UNSUPPORTED, "ranks on several hosts: a machine's link and network are not told apart; start them on one");
	TRY(run_options(where, &c.device));
	bool cpu = str_starts(str_of(device), STR("cpu"));
	c.narrow = cpu ? DT_f32 : DT_bf16;
	Sample turn[TURNS] = { 0 };
	for (u32 i = 0; i < TURNS; i++) {
		c.turn = i;
		c.to = &turn[i];
		TRY(measure(&c));
	}
	Sample m = medians(turn);
	Curve curve[M_CURVES];
	take_shares(&c, &m, curve);
	Buf b = { .arena = a };
	buf_printf(&b, "# Measured by `plinth doctor --calibrate`: what planning knows of this machine (docs/planning.md).\nmachine {\n");
	buf_printf(&b, "  name           = \"%s\"\n  device         = \"%s\"\n", c.name, cpu ? "cpu" : "cuda");
	buf_printf(&b, "  arch           = \"%s\"\n", c.machine);
	buf_printf(&b, "  peak           = { f32 = %.4g", m.peak[DT_f32]);
	if (m.peak[DT_bf16] > 0)
		buf_printf(&b, ", bf16 = %.4g", m.peak[DT_bf16]);
	if (!cpu)
		buf_printf(&b, ", f16 = %.4g", m.peak[DT_bf16]);
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
	buf_printf(&b, "}\n");
	*text = b.text;
	return OK;
}
