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

/* Accesses of global memory of a function's PTX that are of one element. */
static u32 narrow_accesses(const char *ptx)
{
	u32 n = 0;
	for (const char *line = ptx; line; line = strchr(line + 1, '\n')) {
		const char *end = strchr(line + 1, '\n');
		size_t length = end ? (size_t)(end - line) : strlen(line);
		const char *at = memmem(line, length, "ld.global", 9);
		at = at ? at : memmem(line, length, "st.global", 9);
		n += at && !memmem(line, length, ".v4", 3) && !memmem(line, length, ".v2.u64", 7) &&
		     !memmem(line, length, ".v2.f64", 7);
	}
	return n;
}

/* What is bound by memory moves 16 bytes at a time. */
static void test_wide_accesses(void **state)
{
	(void)state;
	need_nvrtc();
	Suite s = { 0 };
	u32 allowed[8] = { 0 };
	i64 rows = 4096, n = 768;
	for (u32 i = 0; i < 3; i++) { /* elementwise: bf16, f32, f64 */
		DType d = i == 0 ? DT_bf16 : i == 1 ? DT_f32 : DT_f64;
		Kernel *k = suite_kernel(&s, KERNEL_MAP, "elementwise");
		kb_dim(k, DIM_PARALLEL, rows);
		kb_dim(k, DIM_PARALLEL, n);
		KVal x = kb_load(k, ACCESS(kb_slot(k, d, rows * n), 0, n, 1), NO);
		KVal y = kb_load(k, ACCESS(kb_slot(k, d, n), 0, 0, 1), NO);
		kb_store(k, ACCESS(kb_slot(k, d, rows * n), 0, n, 1), kb_op(k, S_add, x, y), NO);
		suite_add(&s, k, 0, 0);
	}
	allowed[3] = 2; /* mean and deviation of each row */
	add_layer_norm(&s, DT_f32, rows, n);
	allowed[4] = 2;
	add_layer_norm(&s, DT_bf16, rows, n);
	Kernel *k = suite_kernel(&s, KERNEL_COLUMN, "gradient of a bias");
	kb_dim(k, DIM_REDUCE, rows);
	kb_dim(k, DIM_VECTOR, n);
	KVal x = kb_cast(k, DT_f32, kb_load(k, ACCESS(kb_slot(k, DT_bf16, rows * n), 0, n, 1), NO));
	kb_store(k, ACCESS(kb_slot(k, DT_f32, n), 0, 0, 1), kb_reduce(k, REDUCE_sum, x), NO);
	suite_add(&s, k, 0, 0);
	allowed[5] = 32; /* partial sums, of 1/256 of the traffic */
	CudaArch arch = arch_named("sm_90a");
	CudaCode code = compile_suite(&s, &arch, CUDA_PTX);
	for (u32 i = 0; i < s.cases.n; i++) {
		Str ptx = ptx_of(code.unit[code.unit_of[i]].image, code.symbol[i]);
		const char *text = arena_strn(&s.arena, ptx);
		if (!strstr(text, ".v4") && !strstr(text, ".v2.f64"))
			fail_msg("%s has no wide accesses:\n%s", s.cases.v[i].k->name, text);
		if (narrow_accesses(text) > allowed[i])
			fail_msg("%s (case %u) has %u narrow accesses:\n%s", s.cases.v[i].k->name, i, narrow_accesses(text), text);
	}
	arena_free(&s.arena);
}

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
		cmocka_unit_test(test_wide_accesses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
