/* The arena of a run: aligned, zeroed, all of it usable; and a clear answer when it does not fit.
 */
#include "runtime/cpu/memory.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <cmocka.h>

static void test_arena(void **state)
{
	(void)state;
	Threads *pool;
	ThreadsOptions o = { .count = 2 };
	assert_null(threads_create(&o, &pool));
	const size_t sizes[] = { 0, 1, 4097, (size_t)2 << 20, ((size_t)33 << 20) + 5 };
	for (u32 i = 0; i < COUNT(sizes); i++) {
		HostArena a;
		assert_null(host_arena_create(sizes[i], i & 1 ? NULL : pool, &a));
		assert_int_equal((uintptr_t)a.base % ((size_t)2 << 20), 0);
		assert_true(a.size >= sizes[i] && a.huge <= a.size);
		for (size_t at = 0; at < a.size; at += 4093)
			assert_int_equal(a.base[at], 0);
		memset(a.base, 0xa5, a.size);
		host_arena_destroy(&a);
		host_arena_destroy(&a);
	}
	threads_destroy(pool);
}

static void test_peak(void **state)
{
	(void)state;
	size_t before = host_memory_peak(), free_before = host_memory_available();
	assert_true(before > 0 && free_before > 0);
	HostArena a;
	size_t size = (size_t)160 << 20;
	assert_null(host_arena_create(size, NULL, &a));
	/* touched already: the process has it */
	assert_true(host_memory_peak() >= before + size / 2);
	host_arena_destroy(&a);
	assert_true(host_memory_peak() >= before + size / 2);
}

static void test_too_large(void **state)
{
	(void)state;
	HostArena a;
	Status s = host_arena_create((size_t)1 << 46, NULL, &a);
	assert_true(s && s->code == STATUS_MEMORY && strstr(s->text, "65536.00 GiB") &&
		    strstr(s->text, "free"));
	assert_null(a.base);
	host_arena_destroy(&a);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	static const struct {
		int limit;
		const char *option;
	} kind[] = { { RLIMIT_AS, "ulimit -v" }, { RLIMIT_DATA, "ulimit -d" } };
	for (u32 i = 0; i < COUNT(kind); i++) {
		struct rlimit was, less;
		assert_int_equal(getrlimit(kind[i].limit, &was), 0);
		less = was;
		less.rlim_cur = (rlim_t)64 << 20;
		assert_int_equal(setrlimit(kind[i].limit, &less), 0);
		s = host_arena_create((size_t)80 << 20, NULL, &a);
		assert_int_equal(setrlimit(kind[i].limit, &was), 0);
		assert_true(s && s->code == STATUS_MEMORY && strstr(s->text, kind[i].option));
	}
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arena),
		cmocka_unit_test(test_peak),
		cmocka_unit_test(test_too_large),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
