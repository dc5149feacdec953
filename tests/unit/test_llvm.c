/* Compiling and loading: code runs, control flow means what it says, the cache hits, misses and
 * heals, compiling in parallel gives the same objects, every CPU that may be named makes the code
 * its row promises. */
#include "codegen/cpu/vector.h"
#include "kernel_code.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static Arena arena = ARENA("test");

static CpuCompiler *compiler(CpuOptions o)
{
	CpuCompiler *c;
	Status s = cpu_compiler_create(&o, &c);
	if (s)
		fail_msg("%s", s->text);
	return c;
}

/* f(n, x): sum of x[i] * x[i] over i < n, but of only x[i] where it is negative; counts those. */
static void emit_sum(CpuModule *m, const void *argument)
{
	const char *name = argument;
	CpuParameter p[] = {
		{ .type = m->i64, .name = "n" },
		{ .type = m->pointer, .name = "x", .noalias = true, .readonly = true, .align = 4 },
		{ .type = m->pointer, .name = "count", .noalias = true }
	};
	cpu_function_begin(m, name, m->f32, COUNT(p), p, false);
	Simd one = { m, 1 };
	LLVMValueRef x = cpu_parameter(m, 1);
	CpuLoop l;
	cpu_loop_begin(m, &l, cpu_i64(m, 0), cpu_parameter(m, 0), cpu_i64(m, 1), 2,
		       (LLVMValueRef[]){ cpu_f32(m, 0), cpu_i64(m, 0) });
	LLVMValueRef e = simd_load(&one, DT_f32, cpu_at(m, m->f32, x, l.index), 0);
	CpuIf negative;
	cpu_if_begin(m, &negative, simd_lt(&one, DT_f32, e, cpu_f32(m, 0)), 10);
	LLVMValueRef count = cpu_add(m, l.carried[1], cpu_i64(m, 1));
	cpu_if_else(m, &negative);
	LLVMValueRef square = simd_mul(&one, e, e);
	cpu_if_end(m, &negative, 2, (LLVMValueRef[]){ e, count },
		   (LLVMValueRef[]){ square, l.carried[1] });
	l.unroll = 4;
	cpu_loop_end(m, &l,
		     (LLVMValueRef[]){ simd_add(&one, l.carried[0], negative.value[0]),
				       negative.value[1] });
	simd_store(&one, DT_i64, l.carried[1], cpu_parameter(m, 2), 0);
	cpu_function_end(m, l.carried[0]);
}

static void test_control_flow(void **state)
{
	(void)state;
	CpuCompiler *c = compiler((CpuOptions){ 0 });
	CpuUnit unit = { "sum", .emit = emit_sum, .argument = "sum" };
	CpuCodeImage *p = load_unit(c, &arena, &unit, "sum");
	f32 (*sum)(i64, const f32 *, i64 *) =
		(f32(*)(i64, const f32 *, i64 *))(uintptr_t)cpu_code_find(p, "sum");
	assert_non_null(sum);
	f32 x[] = { 1, -2, 3, 0.5f, -0.25f, 4, 2 };
	i64 count = -1;
	assert_true(sum(7, x, &count) == 1 - 2 + 9 + 0.25f - 0.25f + 16 + 4);
	assert_int_equal(count, 2);
	assert_true(sum(0, x, &count) == 0);
	assert_int_equal(count, 0);
	assert_null(cpu_code_find(p, "product"));
	cpu_code_unload(p);
	CpuTimes t = cpu_compiler_times(c);
	assert_true(t.generate > 0 && t.emit > 0 && t.misses == 1 && t.hits == 0);
	cpu_compiler_destroy(c);
}

/* g(x) = pow(x, 3) + helper(x), helper local: host calls and calls in the module. */
static void emit_calls(CpuModule *m, const void *argument)
{
	(void)argument;
	CpuParameter p = { .type = m->f64 };
	LLVMValueRef helper = cpu_function_begin(m, "helper", m->f64, 1, &p, true);
	LLVMValueRef buffer = cpu_stack(m, m->f64, 4, 16);
	Simd one = { m, 1 };
	simd_store(&one, DT_f64, cpu_parameter(m, 0), cpu_at(m, m->f64, buffer, cpu_i64(m, 3)), 0);
	LLVMValueRef entry[] = { cpu_f64(m, 10), cpu_f64(m, 20) };
	LLVMValueRef table = cpu_table(m, m->f64, entry, 2);
	LLVMValueRef second = simd_load(&one, DT_f64, cpu_at(m, m->f64, table, cpu_i64(m, 1)), 0);
	LLVMValueRef kept = simd_load(&one, DT_f64, cpu_at_byte(m, buffer, cpu_i64(m, 24)), 0);
	cpu_function_end(m, simd_add(&one, kept, second));
	cpu_function_begin(m, "g", m->f64, 1, &p, false);
	LLVMValueRef x = cpu_parameter(m, 0);
	LLVMValueRef cube =
		cpu_call_host(m, "pow", m->f64, 2, (LLVMValueRef[]){ x, cpu_f64(m, 3) });
	cpu_function_end(m, simd_add(&one, cube, cpu_call(m, helper, 1, &x)));
}

static void test_calls(void **state)
{
	(void)state;
	CpuCompiler *c = compiler((CpuOptions){ 0 });
	CpuUnit unit = { "calls", .emit = emit_calls };
	CpuCodeImage *p = load_unit(c, &arena, &unit, "g"), *again = load_unit(c, &arena, &unit, "g");
	f64 (*g)(f64) = (f64(*)(f64))(uintptr_t)cpu_code_find(p, "g");
	assert_true(g(2) == 8 + 2 + 20);
	/* programs are apart, though their names are the same */
	assert_true(cpu_code_find(again, "g") != (void *)(uintptr_t)g);
	cpu_code_unload(again);
	assert_true(g(-1) == -1 - 1 + 20);
	cpu_code_unload(p);
	cpu_compiler_destroy(c);
}

/* ---- the cache ---- */

static void emit_constant(CpuModule *m, const void *argument)
{
	const i64 *x = argument;
	cpu_function_begin(m, "constant", m->i64, 0, NULL, false);
	cpu_function_end(m, cpu_i64(m, *x));
}

static char folder[] = "/tmp/plinth-test-cache-XXXXXX";

/* Calls `each` with the path of every entry; gives their number. */
static u32 entries(void (*each)(const char *path))
{
	DIR *d = opendir(folder);
	u32 n = 0;
	for (struct dirent *e; (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		n++;
		if (each)
			each(arena_printf(&arena, "%s/%s", folder, e->d_name));
	}
	closedir(d);
	return n;
}

static void flip_last_byte(const char *path)
{
	FILE *f = fopen(path, "r+b");
	fseek(f, -1, SEEK_END);
	int c = fgetc(f);
	fseek(f, -1, SEEK_END);
	fputc(c ^ 1, f);
	fclose(f);
}

static void cut_short(const char *path)
{
	assert_int_equal(truncate(path, 20), 0);
}

static void delete (const char *path)
{
	unlink(path);
}

static bool compile_constant(CpuOptions o, i64 x)
{
	CpuCompiler *c = compiler(o);
	CpuUnit unit = { "constant", .emit = emit_constant, .argument = &x };
	CpuCodeImage *p = load_unit(c, &arena, &unit, "constant");
	assert_int_equal(((i64(*)(void))(uintptr_t)cpu_code_find(p, "constant"))(), x);
	cpu_code_unload(p);
	assert_int_equal(cpu_compiler_times(c).hits, unit.cached);
	cpu_compiler_destroy(c);
	return unit.cached;
}

static void test_cache(void **state)
{
	(void)state;
	Cache *cache;
	assert_non_null(mkdtemp(folder));
	assert_null(cache_open(&arena, folder, 0, &cache));
	CpuOptions o = { .cache = cache }, off = { 0 },
		   passes = { .cache = cache, .passes = "adce" };
	assert_false(compile_constant(o, 7));
	assert_true(compile_constant(o, 7));
	assert_false(compile_constant(off, 7));
	assert_false(compile_constant(o, 8));
	assert_false(compile_constant(passes, 7));
	assert_int_equal(entries(NULL), 3);
	/* damage is not noticed by the user, and mended */
	entries(flip_last_byte);
	assert_false(compile_constant(o, 7));
	assert_true(compile_constant(o, 7));
	entries(cut_short);
	assert_false(compile_constant(o, 7));
	assert_true(compile_constant(o, 7));
	assert_int_equal(entries(NULL), 3);
	entries(delete);

	/* the bound: the oldest go */
	static u8 bytes[1000];
	assert_null(cache_open(&arena, folder, 10500, &cache));
	for (u64 i = 0; i < 20; i++) {
		cache_put(cache, (CacheKey){ i, i }, (Blob){ bytes, sizeof bytes });
		usleep(11000); /* a step of the file system's clock */
	}
	cache_trim(cache);
	u32 left = entries(NULL);
	assert_true(left >= 8 && left <= 10);
	Blob found;
	assert_false(cache_get(cache, (CacheKey){ 0, 0 }, &found));
	assert_true(cache_get(cache, (CacheKey){ 19, 19 }, &found));
	assert_int_equal(found.n, sizeof bytes);
	free((void *)(uintptr_t)found.p);
	entries(delete);
	rmdir(folder);
}

/* ---- several at once ---- */

static void test_parallel(void **state)
{
	(void)state;
	enum { N = 24 };
	CpuUnit unit[2][N];
	for (u32 t = 0; t < 2; t++) {
		CpuCompiler *c = compiler((CpuOptions){ .threads = t ? 4 : 1 });
		for (u32 i = 0; i < N; i++)
			unit[t][i] = (CpuUnit){ "sum", .emit = emit_sum,
						.argument = arena_printf(&arena, "sum%u", i) };
		cpu_compile(c, &arena, unit[t], N);
		cpu_compiler_destroy(c);
	}
	const char *symbol[N];
	for (u32 i = 0; i < N; i++) {
		symbol[i] = unit[1][i].argument;
		assert_int_equal(unit[1][i].object.n, unit[0][i].object.n);
		assert_memory_equal(unit[1][i].object.p, unit[0][i].object.p, unit[0][i].object.n);
	}
	CpuCodeImage *p = load_units(&arena, unit[1], N, symbol, N);
	for (u32 i = 0; i < N; i++)
		assert_non_null(cpu_code_find(p, symbol[i]));
	cpu_code_unload(p);
}

/* ---- machines, and what is printed ---- */

static const char *text(CpuCompiler *c, const CpuUnit *unit, CpuText what)
{
	char *s;
	size_t n;
	FILE *f = open_memstream(&s, &n);
	cpu_print(c, unit, what, f);
	fclose(f);
	const char *kept = arena_strn(&arena, (Str){ s, n });
	free(s);
	return kept;
}

static void emit_fma(CpuModule *m, const void *argument)
{
	(void)argument;
	CpuParameter p = { .type = m->pointer };
	cpu_function_begin(m, "f", m->none, 1, &p, false);
	Simd s = { m, m->machine->lanes };
	LLVMValueRef x = simd_load(&s, DT_f32, cpu_parameter(m, 0), 0);
	x = simd_multiply_add(&s, x, x, x);
	/* must not become an fma */
	x = simd_add(&s, simd_mul(&s, x, x), x);
	simd_store(&s, DT_f32, x, cpu_parameter(m, 0), 0);
	cpu_function_end(m, NULL);
}

static u32 count(const char *in, const char *what)
{
	u32 n = 0;
	for (const char *p = in; (p = strstr(p, what)); p++)
		n++;
	return n;
}

#if defined(__x86_64__)
static void test_machines(void **state)
{
	(void)state;
	static const struct {
		const char *cpu;
		u32 lanes;
	} row[] = {
		{ "x86-64", 4 },      { "westmere", 4 },         { "haswell", 8 },
		{ "znver3", 8 },      { "x86-64-v3", 8 },        { "skylake-avx512", 16 },
		{ "znver4", 16 },     { "sapphirerapids", 16 },  { "alderlake", 8 },
		{ "cooperlake", 16 }, { "znver4,-avx512vl", 8 },
		{ "x86-64-v3,+avx512f", 8 }, { "haswell,+avx512vnni", 8 },
		{ "x86-64-v3,+avx512f,+avx512bw,+avx512dq,+avx512vl", 16 },
	};
	CpuUnit unit = { "fma", .emit = emit_fma };
	for (u32 i = 0; i < COUNT(row); i++) {
		CpuCompiler *c = compiler((CpuOptions){ .cpu = row[i].cpu });
		const CpuMachine *m = cpu_compiler_machine(c);
		assert_int_equal(m->lanes, row[i].lanes);
		const char *code = text(c, &unit, CPU_ASSEMBLY);
		assert_int_equal(strstr(code, "zmm") != NULL, m->lanes == 16);
		assert_int_equal(strstr(code, "ymm") != NULL, m->lanes == 8);
		assert_int_equal(count(code, "vfmadd"), m->has_fma);
		assert_int_equal(strstr(code, "call") != NULL, false);
		cpu_compiler_destroy(c);
	}
	CpuMachine m;
	Status s = cpu_machine("pentium", &m);
	assert_true(s && s->code == STATUS_INPUT && strstr(s->text, "haswell"));
	s = cpu_machine("haswell,avx512f", &m);
	assert_true(s && s->code == STATUS_INPUT);
}
#endif

static void test_print(void **state)
{
	(void)state;
	CpuCompiler *c = compiler((CpuOptions){ 0 });
	CpuUnit unit = { "sum", .emit = emit_sum, .argument = "sum" };
	const char *ir = text(c, &unit, CPU_IR), *optimized = text(c, &unit, CPU_IR_OPTIMIZED);
	assert_true(strstr(
		ir, "define float @sum(i64 noundef %n, ptr noalias noundef readonly align 4 %x"));
	assert_true(strstr(ir, "llvm.loop.unroll.count"));
	/* unrolled by four, in order: four additions to the sum */
	assert_true(count(optimized, "fadd float") >= 4);
	assert_null(strstr(optimized, "fadd fast"));
	assert_true(strstr(text(c, &unit, CPU_ASSEMBLY), "sum:"));
	cpu_compiler_destroy(c);
	CpuMachine host;
	assert_null(cpu_machine(NULL, &host));
	assert_true(host.runs_here && host.cores >= 1 && host.line >= 16 && host.lanes >= 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_control_flow),
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_cache),
		cmocka_unit_test(test_parallel),
#if defined(__x86_64__)
		cmocka_unit_test(test_machines),
#endif
		cmocka_unit_test(test_print),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	arena_free(&arena);
	return failed;
}
