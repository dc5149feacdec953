/* tools/peak.c: see peak.h. */
#include "tools/peak.h"

enum { ROUNDS = 4 };

/* out = a b, all n x n. */
static const Program *square(Arena *a, Diag *d, i64 n, DType dtype)
{
	Ir *ir = ir_new(a, d);
	diag_source(d, "peak", STR(""));
	Program *p = program_new(a, ir, "peak");
	Graph *g = program_entry(p, "entry");
	Builder b = builder_new(g);
	Dim extent[] = { dim_number(ir, n), dim_number(ir, n) };
	Val left = BS(&b, input, .name = intern_z(&ir->names, "a"), .dtype = dtype, .shape = { 2, extent });
	Val right = BS(&b, input, .name = intern_z(&ir->names, "b"), .dtype = dtype, .shape = { 2, extent });
	Val out = BA(&b, dot, (left, right), .spec = intern_z(&ir->names, "ik,kj->ij"));
	graph_result(g, intern_z(&ir->names, "out"), NONE, out);
	builder_done(&b);
	return p;
}

/* Numbers between 1/2 and 2 with random digits, as bf16 and as f32: power depends on how many bits change. */
static Status fill(Arena *tmp, Executor *x, const PackageTensor *t)
{
	u64 state = 1, n = t->bytes / sizeof(u16);
	u16 *bits = NEWN(tmp, u16, n);
	for (u64 i = 0; i < n; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		bits[i] = (u16)(0x3f00 | (state >> 40 & 0x80ff));
	}
	return executor_write(x, t, bits);
}

static bool add_up(void *cx, const PackageEntry *entry, u32 step, f64 seconds)
{
	(void)entry, (void)step;
	*(f64 *)cx += seconds;
	return true;
}

static Status measure(Arena *tmp, const Package *p, const DeviceOptions *device, f64 *least)
{
	Executor *x;
	TRY(executor_create(p, device, &x));
	Status s = OK;
	*least = 0;
	for (u32 i = 0; i < p->entry[0].ninput && !s; i++)
		s = fill(tmp, x, &p->entry[0].input[i]);
	for (u32 round = 0; round < ROUNDS && !s; round++) {
		f64 seconds = 0;
		s = executor_run(x, &p->entry[0], add_up, &seconds);
		if (round && seconds > 0) /* the first one warms up */
			*least = *least > 0 ? MIN(*least, seconds) : seconds;
	}
	executor_destroy(x);
	return s;
}

/* Seconds of one product; 0: it could not be had. */
static f64 time_square(const DriverOptions *driver, const DeviceOptions *device, i64 n, DType dtype)
{
	Arena tmp = ARENA("peak");
	Diag diag = { .arena = &tmp };
	Compiled c;
	f64 seconds = 0;
	DriverOptions o = { .device = driver->device, .cpu = driver->cpu, .arch = driver->arch, .threads = driver->threads };
	if (!driver_compile(&tmp, square(&tmp, &diag, n, dtype), &o, &c)) {
		if (c.package && measure(&tmp, c.package, device, &seconds))
			seconds = 0;
		driver_close(&c);
	}
	arena_free(&tmp);
	return seconds;
}

f64 peak_of(Executor *x, const DriverOptions *driver, const DeviceOptions *device, PackageDtype dtype)
{
	enum { LEAST = 512, MOST = 8192 };
	f64 best = x->device->peak(x->state, dtype), seconds = 0;
	if (best > 0 || x->device == &device_null)
		return best;
	/* larger ones until one takes long enough to fill the device */
	for (i64 n = LEAST; n <= MOST && seconds < 1e-3; n *= 2) {
		seconds = time_square(driver, device, n, dtype == PACKAGE_BF16 ? DT_bf16 : DT_f32);
		if (seconds <= 0)
			break;
		best = MAX(best, 2 * (f64)n * (f64)n * (f64)n / seconds);
	}
	return best;
}
