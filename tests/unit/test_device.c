/* What every device promises (runtime/device.h), on one small package compiled for each: memory, order, runs,
 * fetches, hooks. The device that does nothing promises all but values. CUDA is tested where there is a driver
 * (tests/cuda: the stand-in) and NVRTC. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "ir/op.h"
#include "runtime/executor.h"
#include "tools/driver.h"

enum { N = 3000 };

typedef struct Made {
	Arena arena;
	Diag diag;
	Compiled compiled;
	Executor *x;
	const PackageEntry *add, *twice;
	const PackageTensor *in, *sum, *total, *runs;
	bool computes;
} Made;

/* total += in, sum = total * 2 + in, runs += 1; twice: total *= 2. */
static const Program *program(Made *m)
{
	Ir *ir = ir_new(&m->arena, &m->diag);
	diag_source(&m->diag, "device", STR(""));
	Program *p = program_new(&m->arena, ir, "device");
	Dim n = dim_number(ir, N);
	const Type *t = type_make(ir, DT_f32, 1, &n);
	program_buffer(p, (Buffer){ .name = intern_z(&ir->names, "total"), .kind = BUFFER_STATE, .type = t, .of = NONE, .scope = "" });
	program_buffer(p, (Buffer){ .name = intern_z(&ir->names, "runs"), .kind = BUFFER_COUNTER, .type = type_make(ir, DT_f32, 0, NULL),
				    .of = NONE, .scope = "" });
	Graph *g = program_entry(p, "add");
	Builder b = builder_new(g);
	Val in = BS(&b, input, .name = intern_z(&ir->names, "in"), .dtype = DT_f32, .shape = { 1, t->dim });
	Val was = BS(&b, read, .buffer = p->buffer.v[0].name, .dtype = DT_f32, .shape = { 1, t->dim });
	Val total = B(&b, add, was, in);
	graph_result(g, intern_z(&ir->names, "total"), 0, total);
	graph_result(g, intern_z(&ir->names, "sum"), NONE, B(&b, add, B(&b, add, total, total), in));
	Val runs = BS(&b, read, .buffer = p->buffer.v[1].name, .dtype = DT_f32, .shape = { 0, NULL });
	runs = B(&b, add, runs, make_full_like(&b, runs, 1));
	graph_result(g, intern_z(&ir->names, "runs"), 1, runs);
	graph_result(g, intern_z(&ir->names, "runs_now"), NONE, runs);
	builder_done(&b);
	g = program_entry(p, "twice");
	b = builder_new(g);
	was = BS(&b, read, .buffer = p->buffer.v[0].name, .dtype = DT_f32, .shape = { 1, t->dim });
	graph_result(g, intern_z(&ir->names, "total"), 0, B(&b, add, was, was));
	builder_done(&b);
	return p;
}

static bool make(Made *m, const char *device)
{
	*m = (Made){ .arena = ARENA("test") };
	m->diag.arena = &m->arena;
	DriverOptions o = { .device = device, .threads = 1 };
	Status s = driver_compile(&m->arena, program(m), &o, &m->compiled);
	if (s && !strcmp(device, "cuda")) {
		print_message("skipped: %s\n", s->text);
		assert_int_equal(s->code, STATUS_UNSUPPORTED);
		arena_free(&m->arena);
		return false;
	}
	if (s)
		fail_msg("%s", s->text);
	diag_print(&m->diag, stderr, false);
	const Package *p = m->compiled.package;
	assert_non_null(p);
	assert_string_equal(p->device, device);
	s = executor_create(p, &(DeviceOptions){ .threads = 2 }, &m->x);
	if (s)
		fail_msg("%s", s->text);
	m->add = package_entry(p, "add");
	m->twice = package_entry(p, "twice");
	m->in = executor_input(m->add, "in");
	m->sum = executor_result(m->add, "sum");
	m->runs = executor_result(m->add, "runs_now");
	m->total = &executor_buffer(m->x, "total")->tensor;
	m->computes = m->x->device != &device_null;
	assert_null(executor_buffer(m->x, "in"));
	assert_null(executor_input(m->add, "total"));
	return true;
}

static void drop(Made *m)
{
	executor_destroy(m->x);
	driver_close(&m->compiled);
	arena_free(&m->arena);
}

static void good(Status s)
{
	if (s)
		fail_msg("%s", s->text);
}

static void expect(Made *m, const PackageTensor *t, const f32 *want)
{
	f32 got[N];
	good(executor_read(m->x, t, got));
	for (u32 i = 0; i < N; i++)
		assert_true(got[i] == (m->computes ? want[i] : 0));
}

static bool count(void *cx, const PackageEntry *entry, u32 step, f64 seconds)
{
	u32 *n = cx;
	assert_true(seconds >= 0 && step == *n && step < entry->nstep);
	++*n;
	return true;
}

static bool stop(void *cx, const PackageEntry *entry, u32 step, f64 seconds)
{
	(void)entry, (void)step, (void)seconds;
	++*(u32 *)cx;
	return false;
}

static void conforms(const char *device)
{
	Made m;
	if (!make(&m, device))
		skip();
	f32 x[N], total[N] = { 0 }, sum[N];
	DeviceBytes held = m.x->device->bytes(m.x->state);
	assert_int_equal(held.arena, m.compiled.package->arena_bytes);
	assert_int_equal(executor_bytes(m.x), held.arena + held.workspace);
	DeviceInfo info;
	good(m.x->device->info(0, &info));
	assert_true(*info.name);
	assert_non_null(m.x->device->describe(m.x->state, &m.arena));
	/* the arena begins as zeros */
	expect(&m, m.total, total);
	/* inputs, buffers and results, in order; what was given may be changed at once */
	Fetch later[4];
	for (u32 run = 0; run < 4; run++) {
		for (u32 i = 0; i < N; i++) {
			x[i] = (f32)((i * 7 + run * 13) % 101) - 50;
			total[i] += x[i];
			sum[i] = total[i] + total[i] + x[i];
		}
		good(executor_write(m.x, m.in, x));
		memset(x, 0xff, sizeof x);
		good(executor_run(m.x, m.add, NULL, NULL));
		good(executor_fetch(m.x, m.runs, &later[run]));
		if (run % 2)
			expect(&m, m.sum, sum);
	}
	good(executor_run(m.x, m.twice, NULL, NULL));
	for (u32 run = 0; run < 4; run++) {
		f64 got;
		good(executor_fetched(m.x, later[run], -1, &got));
		assert_true(got == (m.computes ? run + 1 : 0));
	}
	f64 none;
	Fetch nothing;
	good(executor_fetch(m.x, NULL, &nothing));
	good(executor_fetched(m.x, nothing, -1, &none));
	assert_true(none == -1);
	for (u32 i = 0; i < N; i++)
		total[i] *= 2;
	expect(&m, m.total, total);
	/* many at a time: each run sees its own input, though nobody waits */
	for (u32 run = 0; run < 100; run++) {
		for (u32 i = 0; i < N; i++) {
			x[i] = (f32)((i + run) % 7);
			total[i] += x[i];
		}
		good(executor_write(m.x, m.in, x));
		good(executor_run(m.x, m.add, NULL, NULL));
	}
	expect(&m, m.total, total);
	/* parts of the arena, also odd ones */
	f32 part[5] = { 1, 2, 3, 4, 5 };
	good(executor_write_at(m.x, m.total->offset + 4 * 7, part, sizeof part));
	memcpy(total + 7, part, sizeof part);
	expect(&m, m.total, total);
	/* memory that the host can address is the same memory */
	f32 *at = executor_memory(m.x, m.total);
	if (at)
		assert_true(at[8] == 2);
	/* watched runs give the same as others */
	for (u32 i = 0; i < N; i++)
		x[i] = (f32)i;
	good(executor_write(m.x, m.in, x));
	u32 steps = 0;
	good(executor_run(m.x, m.add, count, &steps));
	assert_int_equal(steps, m.add->nstep);
	for (u32 i = 0; i < N; i++)
		total[i] += x[i];
	expect(&m, m.total, total);
	steps = 0;
	good(executor_run(m.x, m.twice, stop, &steps));
	assert_int_equal(steps, 1);
	good(executor_synchronize(m.x));
	/* measuring the memory leaves alone what is in it */
	f64 rate[DEVICE_MOVES] = { 0 };
	f32 after[N];
	good(executor_read(m.x, m.total, x));
	if (m.x->device->bandwidth)
		good(m.x->device->bandwidth(m.x->state, rate));
	for (u32 i = 0; i < DEVICE_MOVES; i++)
		assert_true(rate[i] >= 0 && isfinite(rate[i]));
	good(executor_read(m.x, m.total, after));
	assert_memory_equal(x, after, sizeof x);
	/* what it chose it can repeat, and nothing else */
	const DeviceChoice *choice;
	u32 n = m.x->device->choices(m.x->state, &m.arena, &choice);
	good(m.x->device->choose(m.x->state, choice, n));
	DeviceChoice other = { "matmul of nobody", "library 1" };
	Status s = m.x->device->choose(m.x->state, &other, 1);
	assert_true(s && s->code == STATUS_UNSUPPORTED);
	drop(&m);
}

/* An arena that no machine has is refused before anything else happens, with numbers. */
static void refuses(const char *device)
{
	Made m;
	if (!make(&m, device))
		skip();
	Package huge = *m.compiled.package;
	huge.arena_bytes = (u64)1 << 50;
	Executor *x;
	Status s = executor_create(&huge, NULL, &x);
	if (m.computes)
		assert_true(s && s->code == STATUS_MEMORY && strstr(s->text, "1048576.00 GiB"));
	else
		executor_destroy(x);
	drop(&m);
}

#define DEVICE(name)                        \
	static void name##_conforms(void **state) \
	{                                   \
		(void)state;                \
		conforms(#name);            \
	}                                   \
	static void name##_refuses(void **state)  \
	{                                   \
		(void)state;                \
		refuses(#name);             \
	}
DEVICE(null)
#if PLINTH_LLVM
DEVICE(cpu)
#endif
DEVICE(cuda)

static void names(void **state)
{
	(void)state;
	const Device *d;
	u32 index;
	good(device_parse("cpu", &d, &index));
	assert_ptr_equal(d, &device_cpu);
	static const char *const wrong[] = { "", "gpu", "cpu:1", "null:0", "cuda:", "cuda:x", "cuda:1x", "cuda:-1", "CPU", "cpu " };
	for (u32 i = 0; i < COUNT(wrong); i++) {
		Status s = device_parse(wrong[i], &d, &index);
		assert_true(s && s->code == STATUS_INPUT);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),
		cmocka_unit_test(null_conforms),
		cmocka_unit_test(null_refuses),
#if PLINTH_LLVM
		cmocka_unit_test(cpu_conforms),
		cmocka_unit_test(cpu_refuses),
#endif
		cmocka_unit_test(cuda_conforms),
		cmocka_unit_test(cuda_refuses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
