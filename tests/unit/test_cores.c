/* How many cores there is work for (support/cores.h): control groups as files, of both versions. */
#include "support/cores.h"
#include "support/io.h"

#include <sched.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static Arena arena;
static const char *root;

/* Begins with nothing. */
static void system_begin(void)
{
	assert_null(io_remove_folder(root));
}

static void file(const char *path, const char *text)
{
	const char *whole = arena_printf(&arena, "%s%s", root, path), *slash = strrchr(whole, '/');
	assert_null(io_make_folder(arena_printf(&arena, "%.*s", (int)(slash - whole), whole)));
	assert_null(io_write(whole, (Blob){ (const u8 *)text, strlen(text) }));
}

static void granted(f64 wanted)
{
	f64 is = cores_granted(root);
	assert_true(is > wanted - 1e-9 && is < wanted + 1e-9);
}

static void second_version(void **state)
{
	(void)state;
	system_begin();
	granted(0); /* nothing is there */
	file("/proc/self/cgroup", "0::/\n");
	granted(0);
	file("/sys/fs/cgroup/cpu.max", "max 100000\n");
	granted(0);
	file("/sys/fs/cgroup/cpu.max", "250000 100000\n");
	granted(2.5);
	/* groups within groups: the least of all */
	file("/proc/self/cgroup", "0::/kubepods/pod1/box\n");
	granted(2.5);
	file("/sys/fs/cgroup/kubepods/pod1/cpu.max", "50000 100000\n");
	file("/sys/fs/cgroup/kubepods/pod1/box/cpu.max", "max 100000\n");
	granted(0.5);
	file("/sys/fs/cgroup/kubepods/pod1/box/cpu.max", "20000 100000\n");
	granted(0.2);
	/* a group beside this one is nobody's business */
	file("/proc/self/cgroup", "0::/kubepods/pod2\n");
	granted(2.5);
	file("/sys/fs/cgroup/cpu.max", "garbage\n");
	granted(0);
}

static void first_version(void **state)
{
	(void)state;
	system_begin();
	file("/proc/self/cgroup", "12:memory:/box\n4:cpuset:/box\n3:cpu,cpuacct:/docker/1234\n0::/\n");
	granted(0);
	file("/sys/fs/cgroup/cpu,cpuacct/docker/1234/cpu.cfs_quota_us", "-1\n");
	file("/sys/fs/cgroup/cpu,cpuacct/docker/1234/cpu.cfs_period_us", "100000\n");
	granted(0);
	file("/sys/fs/cgroup/cpu,cpuacct/docker/1234/cpu.cfs_quota_us", "400000\n");
	granted(4);
	/* a container that sees its own group as the root, and is told the host's path */
	system_begin();
	file("/proc/self/cgroup", "3:cpuacct,cpu:/docker/1234\n");
	file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "150000\n");
	granted(0); /* of what period? */
	file("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "50000\n");
	granted(3);
	/* the group of another controller does not count */
	file("/proc/self/cgroup", "3:cpuset:/\n2:cpuacct:/\n");
	granted(0);
}

static void whoever_may_run_on_less_uses_less(void **state)
{
	(void)state;
	u32 core[4096], n = cores_list(core, COUNT(core)), usable = cores_usable();
	cpu_set_t was, one;
	assert_true(n >= 1 && usable >= 1 && usable <= n);
	assert_true(cores_of_rank(1) == MIN(usable, cores_of_host()));
	assert_int_equal(cores_of_rank(100000), 1);
	assert_int_equal(sched_getaffinity(0, sizeof was, &was), 0);
	CPU_ZERO(&one);
	CPU_SET(core[n - 1], &one);
	assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
	u32 left = cores_list(core, COUNT(core));
	assert_int_equal(sched_setaffinity(0, sizeof was, &was), 0);
	assert_int_equal(left, 1);
}

int main(void)
{
	arena = ARENA("test");
	char folder[] = "/tmp/plinth-cores-XXXXXX";
	if (!mkdtemp(folder))
		return 1;
	root = folder;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(second_version),
		cmocka_unit_test(first_version),
		cmocka_unit_test(whoever_may_run_on_less_uses_less),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	Status s = io_remove_folder(folder);
	arena_free(&arena);
	return failed || s;
}
