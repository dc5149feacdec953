/* Units of runtime/metrics.h: the lines, the file across a resume, the progress line. */
#include "runtime/metrics.h"
#include "support/io.h"

#include <jansson.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cmocka.h>

static const StepMetrics all = { .step = 500,
				 .total = 20000,
				 .units = 4096000,
				 .memory_bytes = 1288490189,
				 .train_loss = 2.34567,
				 .validation_loss = 2.5,
				 .gradient_norm = 0.5321,
				 .learning_rate = 6e-4,
				 .step_ms = 123.4,
				 .units_per_second = 66640,
				 .tflops = 0.18349,
				 .mfu = 0.412,
				 .peak_share = 0.61,
				 .eta_seconds = 2406.3 };

static void text_has_every_number(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	assert_string_equal(metrics_text(&a, &all, 0),
			    "step 500/20000  loss 2.3457  val 2.5000  grad 0.532  lr 6.00e-04  "
			    "123 ms  66.6k tokens/s  0.183 TFLOPS/device  MFU 41.2%  "
			    "61.0% of measured peak  1.20 GiB  ETA 40m 06s");
	StepMetrics m = metrics_none();
	m.step = 3;
	assert_string_equal(metrics_text(&a, &m, 0), "step 3");
	m.train_loss = NAN;
	m.step_ms = 4.567;
	m.units_per_second = 1.2345e6;
	m.tflops = 812.34;
	m.memory_bytes = 3 << 20;
	m.eta_seconds = 100000;
	assert_string_equal(metrics_text(&a, &m, 0), "step 3  loss nan  4.57 ms  1.23M tokens/s  "
			    "812.3 TFLOPS/device  3.0 MiB  ETA 1d 03h");
	m.unit = "images";
	m.units = 3000;
	m.named[m.nnamed++] = (NamedMetric){ "accuracy", 0.88125 };
	assert_non_null(strstr(metrics_json(&a, &m), "\"images\": 3000, "));
	assert_non_null(strstr(metrics_json(&a, &m), "\"accuracy\": 0.88125, \"step_ms\""));
	m.units_per_second = 999.6; /* rounds up to the next unit */
	m.step_ms = 99999;
	m.eta_seconds = INFINITY;
	assert_string_equal(metrics_text(&a, &m, 0), "step 3  loss nan  accuracy 0.8812  100.0 s  1.00k images/s  "
			    "812.3 TFLOPS/device  3.0 MiB  ETA ?");
	arena_free(&a);
}

static void narrow_text_keeps_what_matters(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	for (u32 width = 14; width < 200; width++)
		assert_true(strlen(metrics_text(&a, &all, width)) <= width);
	assert_string_equal(metrics_text(&a, &all, 60),
			    "step 500/20000  loss 2.3457  val 2.5000  0.183 TFLOPS/device");
	assert_string_equal(metrics_text(&a, &all, 1), "step 500/20000");
	arena_free(&a);
}

static void json_gives_the_numbers_back(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	StepMetrics m = all;
	m.train_loss = 0.1 + 0.2; /* needs 17 digits */
	m.gradient_norm = NAN;
	m.mfu = METRIC_UNKNOWN;
	m.step_ms = INFINITY;
	const char *text = metrics_json(&a, &m);
	assert_null(strchr(text, '\n'));
	json_t *j = json_loads(text, 0, NULL);
	assert_non_null(j);
	assert_int_equal(json_integer_value(json_object_get(j, "step")), 500);
	assert_int_equal(json_integer_value(json_object_get(j, "memory_bytes")), 1288490189);
	assert_true(json_number_value(json_object_get(j, "train_loss")) == 0.1 + 0.2);
	assert_true(json_number_value(json_object_get(j, "tflops_per_device")) == 0.18349);
	assert_true(json_number_value(json_object_get(j, "learning_rate")) == 6e-4);
	assert_string_equal(json_string_value(json_object_get(j, "gradient_norm")), "NaN");
	assert_string_equal(json_string_value(json_object_get(j, "step_ms")), "Infinity");
	assert_null(json_object_get(j, "mfu"));
	json_decref(j);
	assert_non_null(strstr(text, "\"learning_rate\": 0.0006,"));
	StepMetrics again;
	assert_true(metrics_read(str_of(text), m.unit, &again));
	again.total = m.total;
	again.nnamed = m.nnamed;
	memcpy(again.named, m.named, sizeof m.named);
	assert_string_equal(metrics_json(&a, &again), text);
	assert_false(metrics_read(STR("{\"st"), m.unit, &again));
	assert_false(metrics_read(STR("[1]"), m.unit, &again));
	arena_free(&a);
}

static char folder[] = "/tmp/plinth-metrics-XXXXXX";

/* A run of 10 lines that is killed in its 8th and resumed from a checkpoint after its 5th has the
 * same file as one that ran through. */
static void resume_doubles_no_line(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	const char *path = arena_printf(&a, "%s/metrics.jsonl", folder);
	assert_null(io_write(path, (Blob){ (const u8 *)"an older run\n", 13 }));
	MetricsFile m;
	u64 at = 0;
	Buf want = { .arena = &a };
	assert_null(metrics_open(path, 0, &m));
	for (int i = 1; i <= 7; i++) {
		assert_null(metrics_put(&m, arena_printf(&a, "{\"step\": %d}", i)));
		if (i == 5) {
			assert_null(metrics_sync(&m));
			at = m.bytes;
		}
	}
	assert_int_equal(write(m.fd, "{\"st", 4), 4);
	metrics_close(&m);

	assert_null(metrics_open(path, at, &m));
	assert_int_equal(m.bytes, at);
	for (int i = 6; i <= 10; i++)
		assert_null(metrics_put(&m, arena_printf(&a, "{\"step\": %d}", i)));
	metrics_close(&m);
	for (int i = 1; i <= 10; i++)
		buf_printf(&want, "{\"step\": %d}\n", i);
	Str got;
	assert_null(io_read(&a, path, &got));
	assert_string_equal(got.s, want.text);
	assert_int_equal(m.bytes, got.n);

	/* shorter than recorded, with half a line at its end: nothing whole is lost */
	assert_null(io_write(path, (Blob){ (const u8 *)"{\"step\": 1}\n{\"s", 15 }));
	assert_null(metrics_open(path, 1000, &m));
	assert_int_equal(m.bytes, 12);
	metrics_close(&m);
	Status why = metrics_open(folder, 0, &m);
	assert_non_null(why);
	assert_non_null(strstr(why->text, folder));
	arena_free(&a);
}

static void one_process_writes(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	const char *path = arena_printf(&a, "%s/shared.jsonl", folder);
	MetricsFile one, two;
	Str got;
	assert_null(metrics_open(path, 0, &one));
	assert_null(metrics_put(&one, "{\"step\": 1}"));
	Status why = metrics_open(path, 0, &two);
	assert_non_null(why);
	assert_non_null(strstr(why->text, path));
	assert_null(io_read(&a, path, &got));
	assert_string_equal(got.s, "{\"step\": 1}\n");
	metrics_close(&one);
	assert_null(metrics_open(path, 1000, &two));
	metrics_close(&two);
	arena_free(&a);
}

/* A line that does not fit on the disk is not there at all. */
static void half_a_line_is_cut_off(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	const char *path = arena_printf(&a, "%s/full.jsonl", folder);
	MetricsFile m;
	Str got;
	struct rlimit was, less;
	assert_null(metrics_open(path, 0, &m));
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	less = (struct rlimit){ 20, was.rlim_max };
	void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &less), 0);
	Status first = metrics_put(&m, "{\"step\": 1}"), why = metrics_put(&m, "{\"step\": 2}");
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
	signal(SIGXFSZ, handler);
	assert_null(first);
	assert_non_null(why);
	assert_non_null(strstr(why->text, path));
	assert_non_null(strstr(why->text, "ulimit -f"));
	assert_null(io_read(&a, path, &got));
	assert_string_equal(got.s, "{\"step\": 1}\n");
	assert_int_equal(m.bytes, got.n);
	metrics_close(&m);
	arena_free(&a);
}

static void full_disk_is_told(void **state)
{
	(void)state;
	if (!io_exists("/dev/full"))
		skip();
	Arena a = ARENA("test");
	MetricsFile m = { .fd = -1, .path = "/dev/full" };
	FILE *full = fopen("/dev/full", "w");
	assert_non_null(full);
	m.fd = fileno(full);
	Status why = metrics_put(&m, "{}");
	assert_non_null(why);
	assert_non_null(strstr(why->text, "/dev/full: No space left on device; free some space"));
	fclose(full);
	arena_free(&a);
}

static void log_has_plain_lines(void **state)
{
	(void)state;
	char *text = NULL;
	size_t n = 0;
	FILE *to = tmpfile();
	assert_non_null(to);
	Progress p = progress_to(to, 10);
	assert_false(p.terminal);
	StepMetrics m = metrics_none();
	m.total = 25;
	for (m.step = 1; m.step <= 25; m.step++) {
		m.validation_loss = m.step == 14 ? 1.5 : METRIC_UNKNOWN;
		progress_show(&p, &m);
	}
	progress_break(&p);
	rewind(to);
	static const char *const want[] = { "step 10/25\n", "step 14/25  val 1.5000\n", "step 20/25\n",
					    "step 25/25\n" };
	for (u32 i = 0; i < COUNT(want); i++) {
		assert_true(getline(&text, &n, to) > 0);
		assert_string_equal(text, want[i]);
	}
	assert_true(getline(&text, &n, to) < 0);
	free(text);
	fclose(to);
}

static void terminal_writes_over_its_line(void **state)
{
	(void)state;
	int mine, theirs;
	struct winsize size = { .ws_col = 30, .ws_row = 10 };
	assert_int_equal(openpty(&mine, &theirs, NULL, NULL, &size), 0);
	FILE *to = fdopen(theirs, "w");
	setenv("TERM", "xterm", 1);
	Progress p = progress_to(to, 100);
	assert_true(p.terminal);
	StepMetrics m = all;
	m.total = 0;
	progress_show(&p, &m);
	m.step = 501;
	progress_show(&p, &m);
	progress_break(&p);
	progress_break(&p);
	setenv("TERM", "dumb", 1);
	assert_false(progress_to(to, 1).terminal);
	/* A terminal passes on what is written when it likes, in as many parts as it likes: a mark
	 * says where it ends. */
	fputc('$', to);
	fflush(to);
	char got[300] = "";
	size_t n = 0;
	while (n < sizeof got - 1 && !strchr(got, '$')) {
		ssize_t part = read(mine, got + n, sizeof got - 1 - n);
		assert_true(part > 0);
		n += (size_t)part;
	}
	assert_string_equal(got, "\rstep 500  loss 2.3457\033[K\rstep 501  loss 2.3457\033[K\r\n$");
	fclose(to);
	close(mine);
}

static int setup(void **state)
{
	(void)state;
	return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return io_remove_folder(folder) ? -1 : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_has_every_number),
		cmocka_unit_test(narrow_text_keeps_what_matters),
		cmocka_unit_test(json_gives_the_numbers_back),
		cmocka_unit_test(resume_doubles_no_line),
		cmocka_unit_test(one_process_writes),
		cmocka_unit_test(half_a_line_is_cut_off),
		cmocka_unit_test(full_disk_is_told),
		cmocka_unit_test(log_has_plain_lines),
		cmocka_unit_test(terminal_writes_over_its_line),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
