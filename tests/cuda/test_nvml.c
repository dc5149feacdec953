/* Units of runtime/cuda/nvml.h, on the stand-in (nvml_standin.c). */
#include "runtime/cuda/nvml.h"
#include "support/clock.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static int users(void)
{
	void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
	assert_non_null(library);
	int (*count)(void);
	void *at = dlsym(library, "standin_nvml_users");
	assert_non_null(at); /* the stand-in, not a driver's */
	memcpy(&count, &at, sizeof count);
	return count();
}

static void watches_while_it_is_asked_to(void **state)
{
	(void)state;
	GpuWatch *w;
	const GpuSample *s;
	assert_null(gpu_watch_open(0, "Plinth stand-in (PTX on the CPU)", &w));
	assert_int_equal(users(), 1);
	assert_int_equal(gpu_watch_samples(w, &s), 0);
	gpu_watch_begin(w);
	gpu_watch_end(w);
	u32 once = gpu_watch_samples(w, &s);
	assert_true(once >= 1);
	assert_true(s[0].sm_mhz == 1000 && s[0].memory_mhz == 2619 && s[0].watts == 512.5 && s[0].celsius == 0);
	/* one that ends has ended */
	usleep(50000);
	assert_int_equal(gpu_watch_samples(w, &s), once);
	gpu_watch_begin(w);
	for (f64 until = clock_seconds() + 5; clock_seconds() < until && !(gpu_watch_reasons(w) & GPU_HELD_POWER);)
		usleep(1000);
	gpu_watch_end(w);
	u32 n = gpu_watch_samples(w, &s);
	assert_true(n >= 4);
	for (u32 i = 0; i < n; i++)
		assert_true(s[i].sm_mhz == 1000 + 10 * i);
	assert_true(gpu_watch_reasons(w) & GPU_HELD_POWER);
	assert_false(gpu_watch_reasons(w) & GPU_HELD_HEAT);
	assert_true(gpu_watch_most_mhz(w) == 1980);
	assert_true(gpu_watch_limit_watts(w) == 0); /* the stand-in does not have the function */
	gpu_watch_begin(w);
	gpu_watch_close(w); /* ends it first */
	assert_int_equal(users(), 0);
}

static void another_gpu_is_refused(void **state)
{
	(void)state;
	GpuWatch *w;
	Status s = gpu_watch_open(1, "Plinth stand-in (PTX on the CPU)", &w);
	assert_true(s && s->code == STATUS_UNSUPPORTED && strstr(s->text, "no GPU 1"));
	s = gpu_watch_open(0, "NVIDIA H100", &w);
	assert_true(s && s->code == STATUS_UNSUPPORTED && strstr(s->text, "not 'NVIDIA H100'"));
	assert_int_equal(users(), 0);
	gpu_watch_begin(NULL);
	gpu_watch_end(NULL);
	gpu_watch_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(watches_while_it_is_asked_to),
					    cmocka_unit_test(another_gpu_is_refused) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
