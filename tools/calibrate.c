/* tools/calibrate.c: what planning needs to know of a device (ir/machine.h), measured with kernels that Plinth makes for
 * it: peaks and bandwidth by the device's own probes, and what share of them work of several sizes reaches. Some ten seconds. */
#include "tools/calibrate.h"
#include "runtime/comm/comm.h"
#include "tools/kernel_time.h"

#include <math.h>
#include <string.h>
#include <time.h>

enum { POINTS = 16, ROUNDS = 5 };

typedef struct Calibration {
	Arena *arena;
	DriverOptions driver;
	DeviceOptions device;
	void (*say)(const char *what);
	const char *name, *machine;
	DType narrow;        /* what curves of products are measured in */
	f64 peak[DTYPES], bandwidth, memory;
	f64 launch, arithmetic, scatter;
	u32 ranks;           /* that are devices beside one another; 1: one device, no link */
	f64 link, latency;   /* bytes a second, seconds */
} Calibration;

/* Seconds beyond the launches of `count` kernels. */
static Status work_time(Calibration *c, const Program *p, u32 count, KernelTime *out)
{
	TRY(kernel_time(p, &c->driver, &c->device, ROUNDS, out));
	out->seconds = MAX(out->median - count * c->launch, out->median * 0.05);
	return OK;
}

/* How many kernels of so many bytes each are measured together: as a step's layers have, but not more memory than it takes to leave no cache. */
static u32 together(f64 bytes)
{
	return (u32)MIN(MAX(256e6 / bytes, 2), 24);
}

/* Peaks, bandwidth, names: of an executor that holds a small program. */
static Status probe(Calibration *c)
{
	c->say("peaks and bandwidth");
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
		c->peak[DT_f32] = d->peak(x->state, PACKAGE_F32);
		c->peak[DT_bf16] = d->peak(x->state, PACKAGE_BF16);
		c->bandwidth = MAX(rate[MOVE_UPDATE], rate[MOVE_COPY]);
		c->memory = (f64)info.memory / c->ranks;
		c->machine = compiled.machine;
		c->name = arena_printf(c->arena, "%s, %s", compiled.machine, d->describe(x->state, c->arena));
		executor_destroy(x);
	}
	driver_close(&compiled);
	return s;
}

/* The share of the peak that products of several sizes reach; the largest tells the peak where nothing else does. */
static Status products(Calibration *c, CurvePoint *point, u32 *n)
{
	c->say("matrix products");
	static const i64 size[] = { 16, 32, 64, 128, 256, 512, 1024, 2048 };
	KernelTime t = { 0 };
	for (*n = 0; *n < COUNT(size) && t.seconds < 0.2; (*n)++) {
		u32 count = together((f64)(9 * size[*n] * size[*n]) * dtype_info[c->narrow].bytes);
		TRY(work_time(c, program_products(c->arena, size[*n], count, c->narrow), count, &t));
		t.seconds /= count;
		point[*n] = (CurvePoint){ cbrt(4) * (f64)size[*n], t.flops / count / t.seconds };
		c->peak[c->narrow] = MAX(c->peak[c->narrow], point[*n].share);
	}
	for (u32 i = 0; i < *n; i++)
		point[i].share /= c->peak[c->narrow];
	if (!(c->peak[DT_f32] > 0))
		c->peak[DT_f32] = c->peak[c->narrow];
	return OK;
}

enum { HEADS = 12, FEATURES = 64 };

static Status attention(Calibration *c, bool derivative, CurvePoint *point, u32 *n)
{
	c->say(derivative ? "attention's derivative" : "attention");
	static const i64 size[] = { 64, 256, 1024, 4096 };
	KernelTime t = { 0 };
	for (*n = 0; *n < COUNT(size) && t.seconds < 0.1; (*n)++) {
		TRY(work_time(c, program_attention(c->arena, HEADS, size[*n], FEATURES, c->narrow, derivative), 1, &t));
		point[*n] = (CurvePoint){ (f64)size[*n], t.flops / t.seconds / c->peak[c->narrow] };
	}
	return OK;
}

/* Attention and its derivative with heads of other widths, beside those that the curves are measured with. */
static Status heads(Calibration *c, CurvePoint *point, u32 *n)
{
	c->say("widths of heads");
	static const i64 width[] = { 8, 16, 32, FEATURES, 128 };
	enum { QUERIES = 256 };
	f64 usual = 0;
	for (*n = 0; *n < COUNT(width); (*n)++) {
		KernelTime t, grad;
		TRY(work_time(c, program_attention(c->arena, HEADS, QUERIES, width[*n], c->narrow, false), 1, &t));
		TRY(work_time(c, program_attention(c->arena, HEADS, QUERIES, width[*n], c->narrow, true), 1, &grad));
		point[*n] = (CurvePoint){ (f64)width[*n], (t.flops + grad.flops) / (t.seconds + grad.seconds) };
		if (width[*n] == FEATURES)
			usual = point[*n].share;
	}
	for (u32 i = 0; i < *n; i++)
		point[i].share /= usual;
	return OK;
}

/* What convolutions take beyond plain products of their size: windows of images, by the length of an image's row. */
static Status windows(Calibration *c, const Curve *matmul, CurvePoint *point, u32 *n)
{
	c->say("windows of convolutions");
	static const i64 row[] = { 4, 7, 14, 28, 60 }; /* vectors begin anywhere in most */
	enum { PLACES = 4096, CHANNELS = 16, HELD = 9 * CHANNELS };
	for (*n = 0; *n < COUNT(row); (*n)++) {
		KernelTime t;
		i64 images = MAX(PLACES / (row[*n] * row[*n]), 1);
		TRY(work_time(c, program_windows(c->arena, images, CHANNELS, row[*n]), 1, &t));
		f64 places = (f64)(images * row[*n] * row[*n]);
		f64 product = t.flops / (c->peak[DT_f32] * curve_share(matmul, cbrt(places * CHANNELS * HELD)));
		f64 bytes = places * HELD * sizeof(f32);
		point[*n] = (CurvePoint){ (f64)row[*n], bytes / MAX(t.seconds - product, t.seconds * 0.05) / c->bandwidth };
	}
	return OK;
}

/* What moves bytes, by how many: small ones stay in caches. */
static Status streams(Calibration *c, CurvePoint *point, u32 *n)
{
	c->say("memory");
	static const i64 size[] = { 1000, 10000, 100000, 1000000, 4000000, 32000000 };
	enum { SMALL = 64 };
	KernelTime t;
	TRY(kernel_time(program_small(c->arena, SMALL), &c->driver, &c->device, ROUNDS, &t));
	c->launch = t.median / SMALL; /* with the way to code that does not run twice in a row */
	for (*n = 0; *n < COUNT(size); (*n)++) {
		u32 count = together(12 * (f64)size[*n]);
		TRY(work_time(c, program_streams(c->arena, size[*n], count), count, &t));
		point[*n] = (CurvePoint){ t.bytes / count, t.bytes / t.seconds };
	}
	if (!(c->bandwidth > 0))
		c->bandwidth = point[*n - 1].share;
	for (u32 i = 0; i < *n; i++)
		point[i].share /= c->bandwidth;
	TRY(work_time(c, program_gelu(c->arena, 100000), 1, &t));
	c->arithmetic = t.flops / t.seconds;
	TRY(work_time(c, program_scatter(c->arena, 1024, 128), 1, &t));
	c->scatter = t.bytes / t.seconds / c->bandwidth;
	return OK;
}

/* ---- between ranks ---- */

static f64 now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (f64)t.tv_sec + 1e-9 * (f64)t.tv_nsec;
}

/* Of a sum of n f32 over all ranks; the median of as many rounds on every rank, for each waits for the others. */
static Status sum_time(Calibration *c, i64 n, f64 *seconds)
{
	enum { SUMS = 31 };
	f64 took[SUMS];
	Timed t;
	DeviceOptions o = c->device;
	TRY(timed_open(c->arena, program_all_reduce(c->arena, c->ranks, n), &c->driver, &o, &t));
	Status s = comm_mesh(o.comm, &t.compiled.package->mesh);
	for (u32 i = 0; i <= SUMS && !s; i++) {
		f64 from = now(), ignored;
		s = timed_run(&t, &ignored);
		if (i) /* the first one warms up */
			took[i - 1] = now() - from;
	}
	timed_close(&t);
	if (s)
		return s;
	for (u32 i = 1; i < SUMS; i++)
		for (u32 k = i; k && took[k] < took[k - 1]; k--) {
			f64 x = took[k];
			took[k] = took[k - 1];
			took[k - 1] = x;
		}
	*seconds = took[SUMS / 2];
	return OK;
}

/* What predict_collective (passes/plan/predict.h) takes of a link: of a small sum the way, of a large one bytes a second. */
static Status between_ranks(Calibration *c)
{
	static const i64 small = 16, large = 4000000;
	f64 way, whole, ranks = (f64)c->ranks;
	c->say("sums over ranks");
	TRY(sum_time(c, small, &way));
	TRY(sum_time(c, large, &whole));
	c->latency = way / (2 * MIN(ranks - 1, log2(ranks)));
	c->link = 2 * (ranks - 1) / ranks * (f64)(large - small) * sizeof(f32) / MAX(whole - way, whole * 0.05);
	return OK;
}

static void put_curve(Buf *b, const char *name, const CurvePoint *point, u32 n)
{
	buf_printf(b, "  %-14s = [", name);
	for (u32 i = 0; i < n; i++)
		buf_printf(b, "%s(%.6g, %.3g)", i ? ", " : "", point[i].at, point[i].share);
	buf_printf(b, "]\n");
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
	TRY(probe(&c));
	CurvePoint stream[POINTS], matmul[POINTS], forward[POINTS], backward[POINTS], width[POINTS], window[POINTS];
	u32 nstream, nmatmul, nforward, nbackward, nwidth, nwindow;
	TRY(streams(&c, stream, &nstream));
	TRY(products(&c, matmul, &nmatmul));
	TRY(attention(&c, false, forward, &nforward));
	TRY(attention(&c, true, backward, &nbackward));
	TRY(heads(&c, width, &nwidth));
	if (cpu)
		TRY(windows(&c, &(Curve){ matmul, nmatmul }, window, &nwindow));
	if (c.ranks > 1)
		TRY(between_ranks(&c));
	Buf b = { .arena = a };
	buf_printf(&b, "# Measured by `plinth doctor --calibrate`: what planning knows of this machine (docs/planning.md).\nmachine {\n");
	buf_printf(&b, "  name           = \"%s\"\n  device         = \"%s\"\n", c.name, cpu ? "cpu" : "cuda");
	buf_printf(&b, "  arch           = \"%s\"\n", c.machine);
	buf_printf(&b, "  peak           = { f32 = %.4g", c.peak[DT_f32]);
	if (c.peak[DT_bf16] > 0)
		buf_printf(&b, ", bf16 = %.4g", c.peak[DT_bf16]);
	if (!cpu)
		buf_printf(&b, ", f16 = %.4g", c.peak[DT_bf16]);
	buf_printf(&b, " }\n  memory         = %.0f\n  reserved       = %s\n  bandwidth      = %.4g\n", c.memory, cpu ? "256 MiB" : "1 GiB", c.bandwidth);
	buf_printf(&b, "  launch         = %.3g\n  arithmetic     = %.3g\n  scatter        = %.3g\n", c.launch, c.arithmetic / c.peak[DT_f32],
		   c.scatter);
	put_curve(&b, "matmul", matmul, nmatmul);
	put_curve(&b, "attention", forward, nforward);
	put_curve(&b, "attention_grad", backward, nbackward);
	put_curve(&b, "heads", width, nwidth);
	if (cpu)
		put_curve(&b, "windows", window, nwindow);
	put_curve(&b, "stream", stream, nstream);
	if (c.ranks > 1)
		buf_printf(&b, "  domain         = %u\n  link           = { bandwidth = %.4g, latency = %.3g }\n", c.ranks, c.link, c.latency);
	buf_printf(&b, "}\n");
	*text = b.text;
	return OK;
}
