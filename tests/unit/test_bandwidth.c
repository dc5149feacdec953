/* Units of runtime/cpu/bandwidth.h: it measures something that a memory can do, on one thread and on several. */
#include "runtime/cpu/bandwidth.h"

#include <setjmp.h>
#include <cmocka.h>

static void a_memory_of_this_world(void **state)
{
	(void)state;
	for (u32 threads = 1; threads <= 3; threads += 2) {
		Threads *pool;
		Bandwidth b;
		assert_null(threads_create(&(ThreadsOptions){ .count = threads }, &pool));
		assert_null(bandwidth_open(pool, (4 << 20) + 1, &b));
		for (int i = 0; i < DEVICE_MOVES; i++) {
			f64 rate = bandwidth_measure(&b, (DeviceMove)i);
			assert_true(i == MOVE_STREAM || rate > 0);
			assert_true(rate < 1e14);
			assert_true(rate == 0 || rate > 1e7);
		}
		/* what was moved is what was there: an update adds one to zeroes, a copy brings zeroes back */
		const f32 *to = (const f32 *)(const void *)b.memory.base;
		bandwidth_measure(&b, MOVE_COPY);
		bandwidth_measure(&b, MOVE_UPDATE);
		f32 once = to[0];
		assert_true(once >= 1);
		for (size_t k = 0; k < b.bytes / sizeof(f32); k++)
			assert_true(to[k] == once);
		bandwidth_measure(&b, MOVE_COPY);
		for (size_t k = 0; k < b.bytes / sizeof(f32); k++)
			assert_true(to[k] == 0);
		bandwidth_close(&b);
		threads_destroy(pool);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(a_memory_of_this_world) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
