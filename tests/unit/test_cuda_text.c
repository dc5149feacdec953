/* CUDA C that real NVRTC compiles for several architectures, without spills, local memory or stray double precision. */
#include "cuda_run.h"
#include "loop_cases.h"

#define COMPILES(name) \
	static void test_##name(void **state) \
	{ \
		(void)state; \
		Suite s = { 0 }; \
		name##_cases(&s); \
		cuda_suite_compile(&s); \
		arena_free(&s.arena); \
	}
COMPILES(random_maps)
COMPILES(layouts)
COMPILES(functions)
COMPILES(random_draws)
COMPILES(rows)
COMPILES(exact_rows)
COMPILES(long_rows)
COMPILES(columns)
COMPILES(scatters)
COMPILES(scans)
COMPILES(sorts)

int main(int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_maps),
		cmocka_unit_test(test_layouts),
		cmocka_unit_test(test_functions),
		cmocka_unit_test(test_random_draws),
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_exact_rows),
		cmocka_unit_test(test_long_rows),
		cmocka_unit_test(test_columns),
		cmocka_unit_test(test_scatters),
		cmocka_unit_test(test_scans),
		cmocka_unit_test(test_sorts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
