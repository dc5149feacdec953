/* The arena of a run: aligned, zeroed, all of it usable; and a clear answer when it does not fit.
 */
#include "runtime/cpu/memory.h"
#include "support/io.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
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

/* Parts in a file: another process writes where this one reads, and the rest is this one's alone. */
static void test_shared(void **state)
{
	(void)state;
	const HostRange part[] = { { 5, 100 }, { ((u64)7 << 20) + 4096, 9000 }, { 50, 0 } };
	HostArena a;
	assert_null(host_arena_create_shared(((size_t)11 << 20) + 3, part, COUNT(part), NULL, &a));
	for (size_t at = 0; at < a.size; at++)
		assert_int_equal(a.base[at], 0);
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)getpid(), a.file);
	pid_t other = fork();
	if (!other) {
		int file = open(path, O_RDWR);
		u8 *p = mmap(NULL, a.size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
		if (file < 0 || p == MAP_FAILED)
			_exit(1);
		memset(p + part[0].offset, 1, part[0].bytes);
		memset(p + part[1].offset, 2, part[1].bytes);
		memset(a.base + ((size_t)3 << 20), 3, 4096); /* a copy of its own, since fork */
		p[((size_t)3 << 20) + 8192] = 3; /* of the file, which is not mapped there */
		_exit(0);
	}
	int ended = 1;
	assert_int_equal(waitpid(other, &ended, 0), other);
	assert_int_equal(ended, 0);
	for (size_t at = 0; at < a.size; at++)
		for (u32 i = 0; i <= 2; i++) {
			bool in = i < 2 && at >= part[i].offset && at < part[i].offset + part[i].bytes;
			if (in || i == 2) {
				assert_int_equal(a.base[at], in ? i + 1 : 0);
				break;
			}
		}
	host_arena_destroy(&a);
	assert_null(host_arena_create(4096, NULL, &a));
	assert_int_equal(a.file, -1);
	host_arena_destroy(&a);
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

/* ---- control groups, as files ---- */

static Arena arena;
static const char *root;

static void file(const char *path, const char *text)
{
	const char *whole = arena_printf(&arena, "%s%s", root, path), *slash = strrchr(whole, '/');
	assert_null(io_make_folder(arena_printf(&arena, "%.*s", (int)(slash - whole), whole)));
	assert_null(io_write(whole, (Blob){ (const u8 *)text, strlen(text) }));
}

/* The least of what is left of a group's own limit and of those around it, as batch systems set them. */
static void test_groups(void **state)
{
	(void)state;
	char folder[] = "/tmp/plinth-groups-XXXXXX";
	assert_non_null(mkdtemp(folder));
	root = folder;
	assert_true(host_memory_granted(root) == UINT64_MAX);
	file("/proc/self/cgroup", "0::/job_7/step_0\n");
	file("/sys/fs/cgroup/job_7/memory.max", "1000000\n");
	file("/sys/fs/cgroup/job_7/memory.current", "300000\n");
	file("/sys/fs/cgroup/job_7/memory.stat", "anon 1\ninactive_file 100000\n");
	assert_int_equal(host_memory_granted(root), 800000);
	file("/sys/fs/cgroup/job_7/step_0/memory.max", "max\n");
	file("/sys/fs/cgroup/job_7/step_0/memory.current", "250000\n");
	assert_int_equal(host_memory_granted(root), 800000);
	file("/sys/fs/cgroup/job_7/step_0/memory.max", "500000\n");
	assert_int_equal(host_memory_granted(root), 250000);
	file("/sys/fs/cgroup/job_7/step_0/memory.max", "200000\n");
	assert_int_equal(host_memory_granted(root), 0);
	/* the first version; the group of another controller does not count, and the outermost is all that a container sees */
	file("/proc/self/cgroup", "4:cpuset:/job_7\n3:memory:/docker/12\n");
	assert_true(host_memory_granted(root) == UINT64_MAX);
	file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "700000\n");
	file("/sys/fs/cgroup/memory/memory.usage_in_bytes", "600000\n");
	file("/sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 50000\n");
	assert_int_equal(host_memory_granted(root), 150000);
	file("/sys/fs/cgroup/memory/docker/12/memory.limit_in_bytes", "90000\n");
	file("/sys/fs/cgroup/memory/docker/12/memory.usage_in_bytes", "80000\n");
	assert_int_equal(host_memory_granted(root), 10000);
	assert_null(io_remove_folder(root));
	arena_free(&arena);
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
		cmocka_unit_test(test_arena), cmocka_unit_test(test_shared),
		cmocka_unit_test(test_peak), cmocka_unit_test(test_groups),
		cmocka_unit_test(test_too_large),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
