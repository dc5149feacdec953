/* CUDA C that real NVRTC compiles for several architectures, without spills, local memory or stray double precision. */
#include "cuda_run.h"
#include "loop_cases.h"
#include "support/io.h"

#include <sys/wait.h>

/* Many kernels of one class: one architecture will do, where others of the class go to all. */
#define COMPILES_FOR_ONE(name) \
	static void test_##name(void **state) \
	{ \
		(void)state; \
		const char *const arch = "sm_90a"; \
		Suite s = { 0 }; \
		name##_cases(&s); \
		cuda_suite_compile_for(&s, &arch, 1); \
		arena_free(&s.arena); \
	}
#define COMPILES(name) \
	static void test_##name(void **state) \
	{ \
		(void)state; \
		Suite s = { 0 }; \
		name##_cases(&s); \
		cuda_suite_compile(&s); \
		arena_free(&s.arena); \
	}
COMPILES_FOR_ONE(random_maps)
COMPILES(layouts)
COMPILES_FOR_ONE(functions)
COMPILES(random_draws)
COMPILES(rows)
COMPILES_FOR_ONE(exact_rows)
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

static Kernel *doubled(Suite *s, const char *name, i64 n)
{
	Kernel *k = suite_kernel(s, KERNEL_MAP, name);
	kb_dim(k, DIM_PARALLEL, n);
	KVal x = kb_load(k, ACCESS(kb_slot(k, DT_f32, n), 0, 1), NO);
	kb_store(k, ACCESS(kb_slot(k, DT_f32, n), 0, 1), kb_op(k, S_add, x, x), NO);
	return k;
}

/* Equal kernels are one function, which says whom it serves; what was compiled is found again. */
static void test_code(void **state)
{
	(void)state;
	need_nvrtc();
	Suite s = { 0 };
	Kernel *k[3] = { doubled(&s, "h.0.twice", 640), doubled(&s, "h.1.twice", 640), doubled(&s, "other\\\nname", 6400) };
	CudaArch arch = arch_named("sm_90a");
	char folder[] = "/tmp/plinth-cuda-XXXXXX";
	assert_non_null(mkdtemp(folder));
	Cache *cache;
	assert_null(cache_open(&s.arena, folder, 0, &cache));
	CudaOptions options = { .output = CUDA_CUBIN, .threads = 1, .cache = cache };
	CudaCode first, second, text;
	assert_null(cuda_code(&arch, &options, k, 3, &s.arena, &first));
	assert_int_equal(first.nunit, 1);
	assert_ptr_equal(first.symbol[0], first.symbol[1]);
	assert_string_not_equal(first.symbol[0], first.symbol[2]);
	assert_non_null(strstr(first.unit[0].text, "// h.0.twice; also h.1.twice (2 kernels)\n"));
	assert_non_null(strstr(first.unit[0].text, "// other__name\n"));
	assert_int_equal(first.compiled, 1);
	/* a name is not content */
	k[0]->name = "h.7.twice";
	assert_null(cuda_code(&arch, &options, k, 3, &s.arena, &second));
	assert_int_equal(second.cached, 1);
	assert_int_equal(second.compiled, 0);
	assert_int_equal(second.unit[0].size, first.unit[0].size);
	assert_memory_equal(second.unit[0].image, first.unit[0].image, first.unit[0].size);
	options.verbose = true;
	assert_null(cuda_code(&arch, &options, k, 3, &s.arena, &second));
	assert_int_equal(second.compiled, 1);
	assert_non_null(strstr(second.unit[0].log, "registers"));
	assert_non_null(strstr(second.unit[0].ptx, ".entry"));
	assert_null(cuda_code(&arch, &options, k, 3, &s.arena, &text));
	assert_int_equal(text.cached, 1);
	assert_int_equal(text.unit[0].size, first.unit[0].size);
	assert_memory_equal(text.unit[0].image, first.unit[0].image, first.unit[0].size);
	assert_string_equal(text.unit[0].log, second.unit[0].log);
	assert_string_equal(text.unit[0].ptx, second.unit[0].ptx);
	/* text alone needs no compiler */
	assert_null(cuda_code(&arch, &(CudaOptions){ .output = CUDA_TEXT }, k, 3, &s.arena, &text));
	assert_null(text.unit[0].image);
	assert_null(io_remove_folder(folder));
	Status why = cuda_arch("sm_42", &arch);
	assert_non_null(why);
	assert_int_equal(why->code, STATUS_INPUT);
	assert_non_null(strstr(why->text, "sm_90a"));
	arena_free(&s.arena);
}

/* Which architecture a GPU's code is made for (CUDA C Programming Guide, Binary Compatibility). */
static void test_arch_of(void **state)
{
	(void)state;
	static const struct {
		u32 major, minor;
		const char *name;
	} is[] = { { 8, 0, "sm_80" },  { 8, 6, "sm_86" },  { 8, 7, "sm_86" },	{ 8, 9, "sm_89" },  { 9, 0, "sm_90a" },
		   { 10, 0, "sm_100a" }, { 10, 3, "sm_100" }, { 12, 0, "sm_120" }, { 12, 1, "sm_120" } };
	CudaArch arch;
	for (u32 i = 0; i < COUNT(is); i++) {
		assert_null(cuda_arch_of(is[i].major, is[i].minor, &arch));
		assert_string_equal(arch.name, is[i].name);
	}
	Status none[] = { cuda_arch_of(7, 5, &arch), cuda_arch_of(11, 0, &arch) };
	for (u32 i = 0; i < COUNT(none); i++) {
		assert_non_null(none[i]);
		assert_int_equal(none[i]->code, STATUS_UNSUPPORTED);
		assert_non_null(strstr(none[i]->text, "sm_90a"));
	}
}

/* In a process of its own: a missing NVRTC is a status that says what to do. */
static void test_missing_nvrtc(void **state)
{
	(void)state;
	fflush(NULL);
	pid_t child = fork();
	assert_true(child >= 0);
	if (!child) {
		const Nvrtc *n;
		setenv("PLINTH_NVRTC", "/nowhere/libnvrtc.so", 1);
		Status s = nvrtc_open(&n);
		_exit(s && s->code == STATUS_UNSUPPORTED && strstr(s->text, "/nowhere/libnvrtc.so") ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_missing_nvrtc), /* before it is loaded here */
		cmocka_unit_test(test_arch_of),
		cmocka_unit_test(test_code),
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
