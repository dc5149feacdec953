/* MAP, ROW, COLUMN and SCATTER kernels on the CPU against kernel_eval: see loop_cases.h. */
#include "loop_cases.h"

static void test_random_maps(void **state)
{
	(void)state;
	Suite s = { 0 };
	random_maps_cases(&s);
	suite_run(&s, 100);
}

static void test_layouts(void **state)
{
	(void)state;
	Suite s = { 0 };
	layouts_cases(&s);
	suite_run(&s, 200);
}

static void test_functions(void **state)
{
	(void)state;
	Suite s = { 0 };
	functions_cases(&s);
	suite_run(&s, 7);
}

static void test_rows(void **state)
{
	(void)state;
	Suite s = { 0 };
	rows_cases(&s);
	suite_run(&s, 3);
}

static void test_long_rows(void **state)
{
	(void)state;
	Suite s = { 0 };
	long_rows_cases(&s);
	suite_run(&s, 31);
}

static void test_exact_rows(void **state)
{
	(void)state;
	Suite s = { 0 };
	exact_rows_cases(&s);
	suite_run(&s, 50);
}

static void test_columns(void **state)
{
	(void)state;
	Suite s = { 0 };
	columns_cases(&s);
	suite_run(&s, 400);
}

static void test_scatters(void **state)
{
	(void)state;
	Suite s = { 0 };
	scatters_cases(&s);
	suite_run(&s, 77);
}

static void test_random_draws(void **state)
{
	(void)state;
	Suite s = { 0 };
	random_draws_cases(&s);
	suite_run(&s, 1);
}

/* Kernels of one shape share code; another stride class does not. */
static void test_sharing(void **state)
{
	(void)state;
	Suite s = { 0 };
	Kernel *k[3];
	for (u32 i = 0; i < 3; i++) {
		k[i] = suite_kernel(&s, KERNEL_MAP, "shared");
		kb_dim(k[i], DIM_PARALLEL, 3 + i);
		kb_dim(k[i], DIM_PARALLEL, 20);
		KVal x = kb_load(k[i], ACCESS(kb_slot(k[i], DT_f32, 2000), 0, 40 + i, i == 2 ? 2 : 1), NO);
		kb_store(k[i], ACCESS(kb_slot(k[i], DT_f32, 2000), 0, 20, 1), x, NO);
		suite_add(&s, k[i], 0, 0);
	}
	CpuCompiler *c;
	assert_null(cpu_compiler_create(&(CpuOptions){ 0 }, &c));
	CpuCode code;
	assert_null(cpu_code_units(c, k, 3, &s.arena, &code));
	assert_int_equal(code.nunit, 2);
	assert_ptr_equal(code.symbol[0], code.symbol[1]);
	assert_string_not_equal(code.symbol[0], code.symbol[2]);
	cpu_compiler_destroy(c);
	suite_run(&s, 5);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_maps), cmocka_unit_test(test_functions), cmocka_unit_test(test_layouts),
		cmocka_unit_test(test_rows),        cmocka_unit_test(test_exact_rows), cmocka_unit_test(test_long_rows),
		cmocka_unit_test(test_columns),     cmocka_unit_test(test_scatters),
		cmocka_unit_test(test_random_draws), cmocka_unit_test(test_sharing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
