/* MAP, ROW, COLUMN and SCATTER kernels as PTX, by a GPU or the stand-in, against kernel_eval: see loop_cases.h. */
#include "cuda_run.h"
#include "loop_cases.h"

#define RUNS(name, seed) \
	static void test_##name(void **state) \
	{ \
		(void)state; \
		Suite s = { 0 }; \
		name##_cases(&s); \
		cuda_suite_run(&s, seed); \
	}
RUNS(random_maps, 100)
RUNS(layouts, 200)
RUNS(functions, 7)
RUNS(random_draws, 1)
RUNS(rows, 3)
RUNS(exact_rows, 50)
RUNS(long_rows, 31)
RUNS(columns, 400)
RUNS(scatters, 77)
RUNS(scans, 12)
RUNS(sorts, 13)

int main(int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_maps), cmocka_unit_test(test_layouts),
		cmocka_unit_test(test_functions), cmocka_unit_test(test_random_draws),
		cmocka_unit_test(test_rows),        cmocka_unit_test(test_exact_rows),
		cmocka_unit_test(test_long_rows),
		cmocka_unit_test(test_columns),
		cmocka_unit_test(test_scatters),
		cmocka_unit_test(test_scans),
		cmocka_unit_test(test_sorts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
