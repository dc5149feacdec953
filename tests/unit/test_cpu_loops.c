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

enum { EQUAL_ROWS = 7 };

static Kernel *equal_rows(Suite *s, i64 n, Case **of)
{
	Kernel *k = suite_kernel(s, KERNEL_ROW, "equal rows");
	kb_dim(k, DIM_PARALLEL, EQUAL_ROWS);
	kb_dim(k, DIM_ROW, n);
	KVal x = kb_load(k, ACCESS(kb_slot(k, DT_f32, n), 0, 0, 1), NO);
	KVal less = kb_op(k, S_sub, x, kb_reduce(k, REDUCE_sum, x)), e = kb_op(k, S_exp, less, NO), sum = kb_reduce(k, REDUCE_sum, e);
	u32 each = kb_slot(k, DT_f32, EQUAL_ROWS * n), one = kb_slot(k, DT_f32, EQUAL_ROWS);
	kb_store(k, ACCESS(each, 0, n, 1), kb_op(k, S_mul, e, sum), NO);
	kb_store(k, ACCESS(one, 0, 1, 0), sum, NO);
	*of = suite_add(s, k, 100, 10);
	return k;
}

/* Equal rows, the first of which may be several at once and the last ones alone: all give the same bits, also where code was made for rows
 * of another length, as it is where sizes are known only when it runs; and these are the bits of code that was made for them. */
static void test_equal_rows(void **state)
{
	(void)state;
	enum { P = EQUAL_ROWS };
	static const i64 wide[] = { 1, 5, 8, 16, 27, 31, 32, 40, 63, 64, 100 }, made[] = { 0, 7, 31, 59 }; /* 0: for these rows */
	CpuCompiler *c;
	assert_null(cpu_compiler_create(&(CpuOptions){ 0 }, &c));
	for (u32 i = 0; i < COUNT(wide); i++) {
		Suite s = { 0 };
		i64 n = wide[i];
		u8 *first = NULL;
		for (u32 j = 0; j < COUNT(made); j++) {
			if (made[j] && n == 1) /* what does not change along a row is another kernel's */
				continue;
			Case *of, *other;
			Kernel *code_of = equal_rows(&s, made[j] ? made[j] : n, &other), *k = equal_rows(&s, n, &of);
			const TargetInfo *target = cpu_target(cpu_compiler_machine(c), &s.arena);
			CpuCode code;
			assert_null(cpu_code_units(c, &code_of, 1, &s.arena, &code));
			CpuCodeImage *image = load_units(&s.arena, code.unit, code.nunit, code.symbol, 1);
			KernelFunction *f = (KernelFunction *)(uintptr_t)cpu_code_find(image, code.symbol[0]);
			LaunchNeeds needs = target->needs(target, k);
			needs.thread_scratch *= 4; /* as code asks that is made for short rows */
			Launch l = launch_of(of, i, needs, "", &s.arena);
			u8 *slot[] = { l.slot[0].before, l.slot[1].before, l.slot[2].before };
			const char *wrong = launch_phases(&l, f, (void *const *)slot, &s.arena, 1, false);
			if (wrong)
				fail_msg("%s: rows of %lld by code for %lld", wrong, (long long)n, (long long)code_of->dim[1].extent);
			for (u32 p = 1; p < P; p++) {
				assert_memory_equal(slot[1], slot[1] + 4 * n * p, 4 * (size_t)n);
				assert_memory_equal(slot[2], slot[2] + 4 * p, 4);
			}
			first = first ? first : slot[1];
			assert_memory_equal(first, slot[1], 4 * (size_t)n);
			cpu_code_unload(image);
		}
		arena_free(&s.arena);
	}
	cpu_compiler_destroy(c);
}

static void test_exact_rows(void **state)
{
	(void)state;
	Suite s = { 0 };
	exact_rows_cases(&s);
	suite_run(&s, 50);
}

/* Rows of which a piece is one dear function and the rest another, which share an operand: pieces that end where vectors do and not,
 * of rows or of what is around them, in rows shorter and longer than vectors. Of one function, each row has a number that is read where
 * the piece is. */
static void test_pieces(void **state)
{
	(void)state;
	Suite s = { 0 };
	static const i64 wide[] = { 1, 5, 8, 9, 14, 16, 33, 100 };
	for (u32 i = 0; i < COUNT(wide); i++)
		for (u32 which = 0; which < 3; which++) {
			i64 n = wide[i], from = which == 2 ? 2 : n / 3, to = which == 2 ? 5 : n - n / 4;
			Kernel *k = suite_kernel(&s, which == 1 ? KERNEL_ROW : KERNEL_MAP, "pieces");
			kb_dim(k, DIM_PARALLEL, 7);
			kb_dim(k, which == 1 ? DIM_ROW : DIM_PARALLEL, n);
			KVal at = kb_index(k, DT_i32, which == 2 ? ACCESS(0, 0, 1) : ACCESS(0, 0, 0, 1));
			KVal inside = kb_op(k, S_and, kb_op(k, S_le, kb_const(k, DT_i32, (f64)from), at),
					    kb_op(k, S_lt, at, kb_const(k, DT_i32, (f64)to)));
			KVal x = kb_load(k, ACCESS(kb_slot(k, DT_f32, 7 * n), 0, n, 1), inside);
			x = kb_op(k, S_mul, x, kb_load(k, ACCESS(kb_slot(k, DT_f32, 7), 0, 1, 0), inside));
			KVal y = kb_load(k, ACCESS(kb_slot(k, DT_f32, 7 * n), 0, n, 1), NO), shared = kb_op(k, S_exp, y, NO);
			KVal first = kb_op(k, S_mul, kb_op(k, S_sigmoid, x, NO), kb_op(k, S_erf, kb_op(k, S_add, x, shared), NO));
			KVal other = kb_op(k, S_cos, kb_op(k, S_mul, shared, kb_op(k, S_tanh, y, NO)), NO);
			KVal either = kb_op3(k, S_where, inside, first, other);
			if (which == 1)
				either = kb_op(k, S_sub, either, kb_reduce(k, REDUCE_max, either));
			kb_store(k, ACCESS(kb_slot(k, DT_f32, 7 * n), 0, n, 1), kb_op(k, S_add, either, shared), NO);
			suite_add(&s, k, 12, 4);
		}
	suite_run(&s, 9);
}

/* Rows of n elements, of which those before `first` and those from `last` on are of other tensors than those between. Elements are counted
 * in a type that may be too narrow for it: then it begins again. */
static Kernel *three_pieces(Suite *s, i64 n, i64 first, i64 last, DType count, Case **of)
{
	enum { P = 5 };
	Kernel *k = suite_kernel(s, KERNEL_MAP, "three pieces");
	kb_dim(k, DIM_PARALLEL, P);
	kb_dim(k, DIM_PARALLEL, n);
	KVal at = kb_index(k, count, ACCESS(0, 3, 0, 1)), a = kb_const(k, count, (f64)first + 3), b = kb_const(k, count, (f64)last + 3);
	KVal is[] = { kb_op(k, S_lt, at, a), kb_op(k, S_and, kb_op(k, S_le, a, at), kb_op(k, S_lt, at, b)), kb_op(k, S_le, b, at) };
	KVal x = NO;
	for (u32 i = 0; i < COUNT(is); i++) {
		KVal y = kb_load(k, ACCESS(kb_slot(k, DT_f32, P * n), 0, n, 1), is[i]);
		y = kb_op(k, S_add, y, kb_const(k, DT_f32, 1 + i));
		x = i ? kb_op3(k, S_where, is[i], y, x) : y;
	}
	kb_store(k, ACCESS(kb_slot(k, DT_f32, P * n), 0, n, 1), x, NO);
	*of = suite_add(s, k, 0, 0);
	return k;
}

/* Rows that are put together of pieces, whole vectors and not, longer and shorter than these; also by code that was made for longer rows,
 * as it is where sizes are known only when it runs: they may end in any piece. */
static void test_walked_pieces(void **state)
{
	(void)state;
	Suite s = { 0 };
	static const i64 size[][3] = { { 24, 8, 16 }, { 40, 16, 27 }, { 100, 33, 60 }, { 30, 2, 20 }, { 30, 10, 29 }, { 33, 16, 16 }, { 64, 32, 70 } };
	Case *of;
	for (u32 i = 0; i < COUNT(size); i++)
		three_pieces(&s, size[i][0], size[i][1], size[i][2], DT_i32, &of);
	three_pieces(&s, 400, 100, 200, DT_u8, &of);
	three_pieces(&s, 300, 40, 90, DT_i8, &of);
	suite_run(&s, 5);
	CpuCompiler *c;
	assert_null(cpu_compiler_create(&(CpuOptions){ 0 }, &c));
	for (i64 n = 2; n < 70; n += 3) {
		Suite t = { 0 };
		Kernel *code_of = three_pieces(&t, 60, 16, 37, DT_i32, &of), *k = three_pieces(&t, n, 16, 37, DT_i32, &of);
		const TargetInfo *target = cpu_target(cpu_compiler_machine(c), &t.arena);
		CpuCode code;
		assert_null(cpu_code_units(c, &code_of, 1, &t.arena, &code));
		CpuCodeImage *image = load_units(&t.arena, code.unit, code.nunit, code.symbol, 1);
		Launch l = launch_of(of, (u32)n, target->needs(target, k), "", &t.arena);
		const char *wrong = launch_run(&l, (KernelFunction *)(uintptr_t)cpu_code_find(image, code.symbol[0]), false, &t.arena);
		if (wrong)
			fail_msg("%s: rows of %lld", wrong, (long long)n);
		cpu_code_unload(image);
		arena_free(&t.arena);
	}
	cpu_compiler_destroy(c);
}

/* In place, and with rows that vectors do not divide, every element is written once. */
static void test_in_place(void **state)
{
	(void)state;
	Suite s = { 0 };
	for (i64 n = 1; n < 40; n += 2) {
		Kernel *k = suite_kernel(&s, KERNEL_MAP, "in place");
		kb_dim(k, DIM_PARALLEL, 5);
		kb_dim(k, DIM_PARALLEL, n);
		Access at = ACCESS(kb_slot(k, DT_f32, 5 * (n + 1)), 0, n + 1, 1);
		kb_store(k, at, kb_op(k, S_add, kb_load(k, at, NO), kb_const(k, DT_f32, 1)), NO);
		suite_add(&s, k, 0, 1);
	}
	suite_run(&s, 3);
}

/* Outputs that are stored past the caches: rows that are whole vectors and not, that lie at multiples of their size and not, in
 * several types, two of one kernel, beside a reduction, and a column that is no row's. */
static void test_streamed(void **state)
{
	(void)state;
	Suite s = { 0 };
	static const i64 shape[][3] = { { 1, 40000, 40000 }, { 1, 4099, 4099 }, { 50, 64, 64 }, { 50, 65, 65 }, { 33, 100, 104 }, { 7, 3, 3 } };
	static const DType type[] = { DT_f32, DT_f64, DT_bf16, DT_u8 };
	for (u32 i = 0; i < COUNT(shape); i++)
		for (u32 t = 0; t < COUNT(type); t++)
			for (i64 from = 0; from < 2; from++) {
				Kernel *k = suite_kernel(&s, t % 2 ? KERNEL_MAP : KERNEL_ROW, "streamed");
				kb_dim(k, DIM_PARALLEL, shape[i][0]);
				kb_dim(k, t % 2 ? DIM_PARALLEL : DIM_ROW, shape[i][1]);
				i64 n = shape[i][0] * shape[i][2] + 1;
				KVal x = kb_load(k, ACCESS(kb_slot(k, type[t], n), 0, shape[i][2], 1), NO);
				KVal y = kb_op(k, S_add, x, t % 2 ? x : kb_cast(k, type[t], kb_reduce(k, REDUCE_max, x)));
				for (u32 out = 0; out < 2; out++) {
					u32 slot = kb_slot(k, type[t], n);
					kb_store(k, ACCESS(slot, from, shape[i][2], 1), out ? x : y, NO);
					k->slot.v[slot].streamed = true;
				}
				suite_add(&s, k, 0, 1);
			}
	suite_run(&s, 17);
}

/* They are there, as whole vectors, and what follows the kernel waits for them; without the mark there are none. */
static void test_streaming_code(void **state)
{
	(void)state;
	for (u32 streamed = 0; streamed < 2; streamed++) {
		Suite s = { 0 };
		Kernel *k = suite_kernel(&s, KERNEL_MAP, "copy");
		kb_dim(k, DIM_PARALLEL, 5000);
		KVal x = kb_load(k, ACCESS(kb_slot(k, DT_f32, 5000), 0, 1), NO);
		u32 out = kb_slot(k, DT_f32, 5000);
		kb_store(k, ACCESS(out, 0, 1), x, NO);
		k->slot.v[out].streamed = streamed;
		CpuCompiler *c;
		CpuOptions o = { .cpu = "haswell", .threads = 1 };
		CpuCode code;
		assert_null(cpu_compiler_create(&o, &c));
		assert_null(cpu_code_units(c, &k, 1, &s.arena, &code));
		char *text = NULL;
		size_t n = 0;
		FILE *to = open_memstream(&text, &n);
		cpu_print(c, &code.unit[0], CPU_ASSEMBLY, to);
		fclose(to);
		const char *store = strstr(text, "vmovntps\t%ymm");
		assert_int_equal(store != NULL, streamed);
		assert_int_equal(strstr(text, "mfence") != NULL, streamed);
		assert_true(!store || strstr(store, "mfence"));
		free(text);
		cpu_compiler_destroy(c);
		arena_free(&s.arena);
	}
}

static void test_columns(void **state)
{
	(void)state;
	Suite s = { 0 };
	columns_cases(&s);
	suite_run(&s, 400);
}

/* Rows longer than the pieces in which tasks have them, in several blocks and one, within outer places. */
static void test_long_columns(void **state)
{
	(void)state;
	Suite s = { 0 };
	static const i64 shape[][3] = { { 1, 70, 2100 }, { 2, 5, 4500 }, { 3, 64, 2048 }, { 2, 129, 1030 } };
	for (u32 i = 0; i < COUNT(shape); i++) {
		i64 P = shape[i][0], R = shape[i][1], N = shape[i][2];
		Kernel *k = suite_kernel(&s, KERNEL_COLUMN, "long columns");
		kb_dim(k, DIM_PARALLEL, P);
		kb_dim(k, DIM_REDUCE, R);
		kb_dim(k, DIM_VECTOR, N);
		KVal x = kb_load(k, ACCESS(kb_slot(k, DT_f32, P * R * N), 0, R * N, N, 1), NO);
		KVal y = kb_load(k, ACCESS(kb_slot(k, DT_f32, P * R), 0, R, 1, 0), NO);
		kb_store(k, ACCESS(kb_slot(k, DT_f32, P * N), 0, N, 0, 1), kb_reduce(k, REDUCE_sum, kb_op(k, S_mul, x, y)), NO);
		kb_store(k, ACCESS(kb_slot(k, DT_f32, P * N), 0, N, 0, 1), kb_reduce(k, REDUCE_min, x), NO);
		suite_add(&s, k, (f64)R / 8, 4);
	}
	suite_run(&s, 41);
}

/* What sums take beside their operand and result. Of few rows, at however many places, nothing that all threads share: it might be larger
 * than the operand. Of more than a block of 64 rows, one for each block, in whole vectors of 16 at most. */
static void test_columns_memory(void **state)
{
	(void)state;
	Suite s = { 0 };
	static const i64 shape[][3] = { { 3000, 2, 3 }, { 500, 7, 40 }, { 1, 2, 100000 }, { 2, 64, 3000 }, { 300, 65, 3 }, { 1, 1000, 200 } };
	CpuCompiler *c;
	assert_null(cpu_compiler_create(&(CpuOptions){ 0 }, &c));
	for (u32 i = 0; i < COUNT(shape); i++) {
		i64 P = shape[i][0], R = shape[i][1], N = shape[i][2];
		Kernel *k = suite_kernel(&s, KERNEL_COLUMN, "memory of columns");
		kb_dim(k, DIM_PARALLEL, P);
		kb_dim(k, DIM_REDUCE, R);
		kb_dim(k, DIM_VECTOR, N);
		KVal x = kb_load(k, ACCESS(kb_slot(k, DT_f32, P * R * N), 0, R * N, N, 1), NO);
		KVal y = kb_load(k, ACCESS(kb_slot(k, DT_i32, P * R * N), 0, R * N, N, 1), NO);
		KVal gain = kb_load(k, ACCESS(kb_slot(k, DT_f32, N), 0, 0, 0, 1), NO);
		kb_store(k, ACCESS(kb_slot(k, DT_f32, P * N), 0, N, 0, 1), kb_op(k, S_mul, kb_reduce(k, REDUCE_sum, x), gain), NO);
		kb_store(k, ACCESS(kb_slot(k, DT_i32, P * N), 0, N, 0, 1), kb_reduce(k, REDUCE_sum, y), NO);
		suite_add(&s, k, 2 + (f64)R / 8, 4);
		const TargetInfo *t = cpu_target(cpu_compiler_machine(c), &s.arena);
		LaunchNeeds n = t->needs(t, k);
		u64 blocks = (u64)(R + 63) / 64, columns = (u64)(N + 15) / 16 * 16;
		assert_true(n.workspace <= (R > 64 ? (u64)P * blocks * columns * 8 + 4096 : 0));
		assert_true(n.thread_scratch <= (R > 64 ? 0 : 2048 * 8 + 4096));
	}
	cpu_compiler_destroy(c);
	suite_run(&s, 47);
}

/* More sums in one kernel than values that a loop carries. */
static void test_many_columns(void **state)
{
	(void)state;
	enum { SUMS = 100, R = 130, N = 37 };
	Suite s = { 0 };
	Kernel *k = suite_kernel(&s, KERNEL_COLUMN, "many columns");
	kb_dim(k, DIM_REDUCE, R);
	kb_dim(k, DIM_VECTOR, N);
	KVal x = kb_load(k, ACCESS(kb_slot(k, DT_f32, R * N), 0, N, 1), NO);
	u32 out = kb_slot(k, DT_f32, SUMS * N);
	for (u32 i = 0; i < SUMS; i++)
		kb_store(k, ACCESS(out, i * N, 0, 1), kb_reduce(k, REDUCE_max, kb_op(k, S_mul, x, kb_const(k, DT_f32, (f64)i - SUMS / 2))), NO);
	suite_add(&s, k, 0, 1);
	suite_run(&s, 43);
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
	/* nor does one whose result may be in an operand's place */
	k[1]->slot.v[1].may_alias = 1;
	assert_null(cpu_code_units(c, k, 2, &s.arena, &code));
	assert_string_not_equal(code.symbol[0], code.symbol[1]);
	cpu_compiler_destroy(c);
	suite_run(&s, 5);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_maps),  cmocka_unit_test(test_functions),      cmocka_unit_test(test_layouts),
		cmocka_unit_test(test_rows),         cmocka_unit_test(test_exact_rows),     cmocka_unit_test(test_long_rows),
		cmocka_unit_test(test_pieces), cmocka_unit_test(test_walked_pieces),       cmocka_unit_test(test_in_place),       cmocka_unit_test(test_streamed),
		cmocka_unit_test(test_streaming_code), cmocka_unit_test(test_columns),      cmocka_unit_test(test_long_columns),
		cmocka_unit_test(test_columns_memory), cmocka_unit_test(test_many_columns), cmocka_unit_test(test_scatters),       cmocka_unit_test(test_random_draws),
		cmocka_unit_test(test_sharing),      cmocka_unit_test(test_equal_rows),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
