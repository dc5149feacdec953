/* What launchers say of ranks: the variables of torchrun and Slurm; Slurm's lists of hosts; what is wrong with them. */
#include "runtime/comm/launch.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void hosts(void **state)
{
	(void)state;
	static const char *const list[][2] = {
		{ "node01", "node01" },		     { "node[01-04,07],gpu3", "node01" }, { "a,b", "a" },
		{ "rack[2,4]n[10-12].site", "rack2n10.site" }, { "n[7]", "n7" },
	};
	char host[32];
	for (u32 i = 0; i < COUNT(list); i++) {
		assert_true(launch_first_host(list[i][0], host, sizeof host));
		assert_string_equal(host, list[i][1]);
	}
	assert_false(launch_first_host("", host, sizeof host));
	assert_false(launch_first_host("node[01", host, sizeof host));
	assert_false(launch_first_host("a-host-whose-name-does-not-fit-into-32-bytes", host, sizeof host));
}

static const char *const variable[] = {
	"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_USE_AGENT_STORE",
	"SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_JOB_NODELIST", "SLURM_JOB_ID",
};

/* Values in the order of `variable`; NULL: not set. */
static Status launched(const char *const *value, Launch *l)
{
	for (u32 i = 0; i < COUNT(variable); i++)
		if (value[i])
			setenv(variable[i], value[i], 1);
		else
			unsetenv(variable[i]);
	return launch_read(l);
}

static void expect(const char *const *value, const char *by, u32 rank, u32 ranks, u32 local, const char *meeting)
{
	Launch l;
	Status s = launched(value, &l);
	if (s)
		fail_msg("%s", s->text);
	assert_string_equal(l.by, by);
	assert_int_equal(l.rank, rank);
	assert_int_equal(l.ranks, ranks);
	assert_int_equal(l.local_rank, local);
	assert_string_equal(l.meeting, meeting);
}

static void launchers(void **state)
{
	(void)state;
	Launch l;
	assert_null(launched((const char *[COUNT(variable)]){ 0 }, &l));
	assert_null(l.by);
	expect((const char *[COUNT(variable)]){ "3", "8", "1", "10.0.0.1", "29500" }, "torchrun", 3, 8, 1, "10.0.0.1:29500");
	expect((const char *[COUNT(variable)]){ "3", "8", "1", "fe80::1", "29500", "True" }, "torchrun", 3, 8, 1, "[fe80::1]:29501");
	expect((const char *[COUNT(variable)]){ [6] = "5", "16", "1", "gpu[11-14]", "70123" }, "Slurm", 5, 16, 1, "gpu11:20123");
	expect((const char *[COUNT(variable)]){ [4] = "4000", [6] = "5", "16", "1", "gpu7", "70123" }, "Slurm", 5, 16, 1, "gpu7:4000");
	/* torchrun within a job of Slurm */
	expect((const char *[COUNT(variable)]){ "0", "2", "0", "gpu7", "29500", NULL, "5", "16", "1", "gpu7", "1" }, "torchrun", 0, 2, 0, "gpu7:29500");
}

static void refuse(const char *const *value, const char *what)
{
	Launch l;
	Status s = launched(value, &l);
	assert_non_null(s);
	if (!strstr(s->text, what))
		fail_msg("'%s' does not say: %s", s->text, what);
}

static void wrong(void **state)
{
	(void)state;
	refuse((const char *[COUNT(variable)]){ "8", "8", "0", "a", "1" }, "rank 8 of 8 ranks");
	refuse((const char *[COUNT(variable)]){ "x", "8", "0", "a", "1" }, "RANK is x");
	refuse((const char *[COUNT(variable)]){ "0", "8", "0", "a" }, "MASTER_PORT is not set");
	refuse((const char *[COUNT(variable)]){ "0", "8", "0", NULL, "1" }, "MASTER_ADDR is not set");
	refuse((const char *[COUNT(variable)]){ [6] = "0", "8", "0" }, "SLURM_JOB_NODELIST is not set");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hosts), cmocka_unit_test(launchers), cmocka_unit_test(wrong),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
