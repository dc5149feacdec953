/* The tuning run's search on made-up times (tools/tune.h), what is kept of it (codegen/cpu/tuning.h), and that no tuning
 * changes bits. And the clock behind it (tools/kernel_time.h): what others take of the cores is not the kernel's time. */
#include "codegen/cpu/panel.h"
#include "support/io.h"
#include "support/run_queue.h"
#include "tools/kernel_time.h"
#include "tools/tune.h"

#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- the search ---- */

enum { MODEL_K = 300 }; /* no longer than this are pieces by the model, of the tiles that there are here */

/* Times that follow from the tuning, with noise. */
typedef struct World {
	f64 tile, k, harm; /* factor of tiles of 6 x 2 vectors, of pieces of more than the model's, of product 0 by such pieces */
	f64 noise;
	u64 state;
} World;

static f64 time_of(World *w, u32 product, const CpuTuning *t)
{
	f64 x = 1;
	if (t->rows == 6 && t->vectors == 2)
		x *= w->tile;
	if (t->k > MODEL_K)
		x *= w->k * (product == 0 ? w->harm : 1);
	w->state = w->state * 6364136223846793005u + 1442695040888963407u;
	return x * (1 + w->noise * ((f64)(w->state >> 40) / (1 << 24) * 2 - 1));
}

static Status made_up(void *cx, u32 product, const CpuTuning *a, const CpuTuning *b, f64 ratio[TUNE_ROUNDS])
{
	for (u32 i = 0; i < TUNE_ROUNDS; i++)
		ratio[i] = time_of(cx, product, b) / time_of(cx, product, a);
	return OK;
}

static Tuned search(World w)
{
	CpuMachine m;
	Tuned t;
	assert_null(cpu_machine("haswell", &m));
	m.l1 = 32 << 10;
	m.l2 = 512 << 10;
	w.state = 7;
	assert_null(tune_search(&m, 6, made_up, &w, &t));
	assert_true(t.tried >= 7);
	assert_true(tuning_valid(&m, &t.tuning));
	return t;
}

static void what_wins_is_taken(void **state)
{
	(void)state;
	Tuned t = search((World){ .tile = 0.92, .k = 1.1, .harm = 1, .noise = 0.02 });
	assert_int_equal(t.tuning.rows, 6);
	assert_int_equal(t.tuning.vectors, 2);
	assert_int_equal(t.tuning.k, 0);
	assert_true(t.ratio > 0.9 && t.ratio < 0.94);
	/* both, one after the other */
	t = search((World){ .tile = 0.92, .k = 0.9, .harm = 1, .noise = 0.02 });
	assert_int_equal(t.tuning.rows, 6);
	assert_true(t.tuning.k > MODEL_K);
	assert_true(t.ratio > 0.8 && t.ratio < 0.86);
}

static void noise_is_not_taken(void **state)
{
	(void)state;
	/* nothing is faster */
	Tuned t = search((World){ .tile = 1.05, .k = 1.1, .harm = 1, .noise = 0.02 });
	assert_false(tuning_any(&t.tuning));
	assert_true(t.ratio == 1);
	/* faster by less than what counts, and by less than the noise */
	t = search((World){ .tile = 0.995, .k = 1.1, .harm = 1 });
	assert_false(tuning_any(&t.tuning));
	t = search((World){ .tile = 0.97, .k = 1.1, .harm = 1, .noise = 0.6 });
	assert_false(tuning_any(&t.tuning));
	/* faster for most, and much slower for one */
	t = search((World){ .tile = 1.05, .k = 0.9, .harm = 1.3, .noise = 0.01 });
	assert_false(tuning_any(&t.tuning));
}

/* ---- the file ---- */

static void files_are_read_back(void **state)
{
	(void)state;
	Arena a = ARENA("files");
	CpuMachine m, wide;
	assert_null(cpu_machine("haswell", &m));
	assert_null(cpu_machine("x86-64-v4", &wide));
	CpuTuning t = { 6, 2, 400, 2, 1024 }, back = { 0 };
	const char *text = tuning_text(&a, &t);
	assert_true(tuning_read(&m, str_of(text), &back));
	assert_memory_equal(&t, &back, sizeof t);
	assert_false(tuning_read(&wide, str_of(text), &back)); /* it has no such tile */
	for (size_t n = 0; n < strlen(text); n++)
		if (tuning_read(&m, (Str){ text, n }, &back) && n + 1 < strlen(text))
			fail_msg("the first %zu characters are taken for all", n);
	static const char *const wrong[] = { "", "plinth products 0\ntile 6 2\nk 400\npanels 2\nchunk 1024\nend\n",
					     "plinth products 3\ntile 5 2\nk 400\npanels 2\nchunk 1024\nend\n",
					     "plinth products 3\ntile 6 2\nk 401\npanels 2\nchunk 1024\nend\n",
					     "plinth products 3\ntile 6 2\nk 400\npanels 99\nchunk 1024\nend\n",
					     "plinth products 3\ntile 6 2\nk 400\npanels 2\nchunk 1024\nend\nand more\n",
					     "plinth products 3\ntile 6 2\nk -16\npanels 2\nchunk 1024\nend\n" };
	for (u32 i = 0; i < COUNT(wrong); i++)
		assert_false(tuning_read(&m, str_of(wrong[i]), &back));
	/* a processor that is named has none */
	assert_false(tuning_any(&m.tuning));
	arena_free(&a);
}

/* ---- bits ---- */

static void *result_of(Arena *a, i64 m, i64 n, i64 k, DType dtype, bool turned, const CpuTuning *tuning, u64 *bytes)
{
	DeviceOptions device = { .threads = 2 };
	Timed t;
	f64 seconds;
	const Program *p = program_product(a, m, n, k, dtype, turned);
	assert_null(timed_open(a, p, &(DriverOptions){ .device = "cpu", .tuning = tuning }, &device, &t));
	assert_null(timed_run(&t, &seconds));
	const PackageTensor *out = &t.compiled.package->entry[0].result[0];
	u8 *x = NEWN(a, u8, out->bytes + 1);
	*bytes = out->bytes;
	assert_null(executor_read(t.executor, out, x));
	timed_close(&t);
	return x;
}

static void bits_stay(void **state)
{
	(void)state;
	Arena a = ARENA("bits");
	CpuMachine m;
	assert_null(cpu_machine(NULL, &m));
	static const struct {
		i64 m, n, k;
		DType dtype;
		bool turned;
	} product[] = { { 70, 130, 1900, DT_f32, false }, { 131, 65, 700, DT_f32, true }, { 40, 100, 1000, DT_bf16, false },
			{ 2100, 30, 90, DT_f32, false }, { 33, 60, 9000, DT_f32, false } };
	for (u32 i = 0; i < COUNT(product); i++) {
		CpuTuning none = { 0 };
		u64 n, also;
		void *want = result_of(&a, product[i].m, product[i].n, product[i].k, product[i].dtype, product[i].turned, &none, &n);
		u32 rows, vectors;
		for (u32 tile = 0; tile_at(&m, tile, &rows, &vectors); tile++) {
			CpuTuning t = { rows, vectors, 64 + 336 * (tile % 3), 1 + tile % 4, 64 << 3 * (tile % 3) };
			void *got = result_of(&a, product[i].m, product[i].n, product[i].k, product[i].dtype, product[i].turned, &t, &also);
			assert_int_equal(n, also);
			if (memcmp(got, want, n) != 0)
				fail_msg("product %u has other bits by tiles of %u x %u", i, rows, vectors);
		}
	}
	arena_free(&a);
}

/* What is compiled with a tuning is another object: the cache does not give one for the other. */
static void objects_are_apart(void **state)
{
	(void)state;
	Arena a = ARENA("objects");
	const CpuTuning tuning[] = { { 0 }, { .k = 256 }, { .chunk = 512 }, { .panels = 1 }, { 0 } };
	for (u32 i = 0; i < COUNT(tuning); i++) {
		Compiled c;
		DriverOptions o = { .device = "cpu", .tuning = &tuning[i] };
		assert_null(driver_compile(&a, program_product(&a, 100, 100, 100, DT_f32, false), &o, &c));
		bool again = i + 1 == COUNT(tuning);
		if (i) {
			assert_int_equal(c.times.cached > 0, again);
			assert_int_equal(c.times.compiled > 0, !again);
		}
		driver_close(&c);
	}
	arena_free(&a);
}

/* ---- the clock ---- */

static pid_t busy(void)
{
	pid_t pid = fork();
	if (!pid)
		for (volatile u32 i = 0;; i++)
			;
	return pid;
}

/* What a clock says of a round, others included: the mean, for where most rounds are short the median is one that nobody was in. */
static f64 plain_round(const Program *p, const DriverOptions *driver, const DeviceOptions *device)
{
	static const f64 LONG = 0.3;
	Arena tmp = ARENA("plain");
	Timed t;
	u32 n = 0;
	f64 seconds, sum = 0;
	assert_null(timed_open(&tmp, p, driver, device, &t));
	for (; sum < LONG; sum += seconds, n++)
		assert_null(timed_run(&t, &seconds));
	timed_close(&t);
	arena_free(&tmp);
	return sum / n;
}

/* Of kernels that each take less than anybody's turn on a core, in one of some turns. Together they take longer than that: hardly a round goes
 * by that nobody is in (of shorter ones most do, and a clock that knows nothing of others would do as well). Two others on each core make
 * it three times as long, and the clock says so before and after what is taken. */
static void others_do_not_count(void **state)
{
	(void)state;
	enum { OTHERS = 64, TURNS = 9 };
	static const f64 TOO_LONG = 1.5;
	Arena a = ARENA("others");
	pid_t pid[OTHERS];
	u32 n = MIN(2 * (u32)sysconf(_SC_NPROCESSORS_ONLN), OTHERS);
	KernelTime alone = { .waited = 1 }, beside = { 0 };
	f64 before = 0, after = 0;
	RunQueue q;
	run_queue_open(&a, &q);
	bool counted = q.n > 0;
	run_queue_close(&q);
	if (!counted)
		skip(); /* a kernel that does not count */
	const Program *p = program_streams(&a, 1500000, 12);
	const DriverOptions driver = { .device = "cpu" };
	const DeviceOptions device = { .pinned = true };
	for (u32 i = 0; i < TURNS && alone.waited > 0; i++) /* of whoever else is here */
		assert_null(kernel_time(p, &driver, &device, 3, &alone));
	for (u32 i = 0; i < n; i++)
		pid[i] = busy();
	Status s = OK;
	bool told = false;
	for (u32 i = 0; i < TURNS && !s && !told; i++) {
		before = i ? after : plain_round(p, &driver, &device);
		s = kernel_time(p, &driver, &device, 3, &beside);
		after = plain_round(p, &driver, &device);
		told = MIN(before, after) > TOO_LONG * alone.median && beside.median < TOO_LONG * alone.median;
	}
	for (u32 i = 0; i < n; i++) {
		kill(pid[i], SIGKILL);
		waitpid(pid[i], NULL, 0);
	}
	assert_null(s);
	if (!told)
		fail_msg("%g s alone, %g s beside others (of which %g waited), who made it %g s by the clock and %g s", alone.median, beside.median,
			 beside.waited, before, after);
	arena_free(&a);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	char folder[] = "/tmp/plinth-tune-XXXXXX"; /* caches of its own */
	if (!mkdtemp(folder) || setenv("XDG_CACHE_HOME", folder, 1))
		return 1;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_wins_is_taken), cmocka_unit_test(noise_is_not_taken), cmocka_unit_test(files_are_read_back),
		cmocka_unit_test(bits_stay),	      cmocka_unit_test(objects_are_apart),
		cmocka_unit_test(others_do_not_count),
	};
	int status = cmocka_run_group_tests(tests, NULL, NULL);
	Status s = io_remove_folder(folder);
	return status || s;
}
