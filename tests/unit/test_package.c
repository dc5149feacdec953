/* Packages: what `plinth compile` writes is opened, loaded and run by the runtime alone: this program uses nothing of
 * the frontend, the passes or LLVM, and looks that the library is not even loaded. Then files that are cut short,
 * altered, of another version or another machine: each is said to be that. */
#include "runtime/cpu/code.h"
#include "runtime/executor.h"
#include "support/cpu_features.h"
#include "support/io.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef struct Fixture {
	char folder[32], path[64];
	Arena arena;
	Str bytes;
} Fixture;

static int open_fixture(void **state)
{
	Fixture *x = calloc(1, sizeof *x);
	x->arena = ARENA("fixture");
	strcpy(x->folder, "package-XXXXXX");
	assert_non_null(mkdtemp(x->folder));
	snprintf(x->path, sizeof x->path, "%s/m.plx", x->folder);
	char command[1024];
	snprintf(command, sizeof command,
		 "printf 'model m(x: [B, 5]) -> [B, 3] {\\n  param w: [5, 3] = normal(std = 0.5)\\n  return gelu(x @ w)\\n}\\n' >%s/m.plinth && "
		 "./plinth compile %s/m.plinth --sizes B=2 -o %s >/dev/null",
		 x->folder, x->folder, x->path);
	if (system(command) != 0)
		fail_msg("%s", command);
	assert_null(io_read(&x->arena, x->path, &x->bytes));
	*state = x;
	return 0;
}

static int close_fixture(void **state)
{
	Fixture *x = *state;
	assert_null(io_remove_folder(x->folder));
	arena_free(&x->arena);
	free(x);
	return 0;
}

static bool loaded(const char *library)
{
	FILE *f = fopen("/proc/self/maps", "r");
	assert_non_null(f);
	char line[600];
	bool found = false;
	while (fgets(line, sizeof line, f))
		found |= strstr(line, library) != NULL;
	fclose(f);
	return found;
}

static void test_runs(void **state)
{
	Fixture *x = *state;
	PackageFile f;
	assert_null(package_file_open(&x->arena, x->path, (Blob){ (const u8 *)x->bytes.s, x->bytes.n }, &f));
	assert_string_equal(f.model, "m");
	assert_int_equal(f.ntext, 1);
	assert_int_equal(f.logits, 3);
	assert_non_null(strstr((const char *)f.text[0].text.p, "gelu(x @ w)"));
	assert_int_equal(f.nvariant, 1);
	PackageVariant *v = &f.variant[0];
	CpuCodeImage *code;
	Status s = cpu_code_load(x->path, v, &code);
	if (s)
		fail_msg("%s", s->text);
	Executor *e;
	assert_null(executor_create(&v->package, &(DeviceOptions){ .threads = 2 }, &e));
	const PackageEntry *init = package_entry(&v->package, "init"), *forward = package_entry(&v->package, "forward");
	assert_non_null(init);
	assert_non_null(forward);
	i64 seed = 7;
	f32 w[15], in[10], out[6];
	assert_null(executor_write(e, executor_input(init, "seed"), &seed));
	assert_null(executor_run(e, init, NULL, NULL));
	assert_null(executor_read(e, &executor_buffer(e, "w")->tensor, w));
	for (u32 i = 0; i < 10; i++)
		in[i] = (f32)i / 4 - 1;
	assert_null(executor_write(e, &forward->input[0], in));
	assert_null(executor_run(e, forward, NULL, NULL));
	assert_null(executor_read(e, &forward->result[0], out));
	for (u32 r = 0; r < 2; r++)
		for (u32 c = 0; c < 3; c++) {
			f64 sum = 0;
			for (u32 k = 0; k < 5; k++)
				sum += (f64)in[r * 5 + k] * (f64)w[k * 3 + c];
			f64 expected = 0.5 * sum * (1 + erf(sum / sqrt(2)));
			assert_true(sum != 0 && fabs(expected - (f64)out[r * 3 + c]) < 1e-6);
		}
	/* every kernel says where it comes from */
	for (u32 i = 0; i < forward->nstep; i++) {
		assert_non_null(strstr(forward->step[i].file, "m.plinth"));
		assert_int_equal(forward->step[i].line, 3);
		assert_true(*forward->step[i].class && *forward->step[i].shape);
	}
	executor_destroy(e);
	cpu_code_unload(code);
	assert_true(loaded("libc.so"));
	assert_false(loaded("LLVM"));
	assert_false(loaded("nvrtc"));
}

/* ---- what is wrong with a file ---- */

static void refused(Fixture *x, Blob bytes, const char *word)
{
	ArenaMark mark = arena_mark(&x->arena);
	PackageFile f;
	u8 *copy = arena_copy(&x->arena, bytes.p, 1, bytes.n, 16); /* exactly as long, for the address sanitizer */
	Status s = package_file_open(&x->arena, x->path, (Blob){ copy, bytes.n }, &f);
	assert_non_null(s);
	if (!strstr(s->text, word))
		fail_msg("'%s' does not say '%s'", s->text, word);
	arena_release(&x->arena, mark);
}

static void test_damaged(void **state)
{
	Fixture *x = *state;
	u8 *p = (u8 *)(uintptr_t)x->bytes.s;
	size_t n = x->bytes.n;
	for (size_t cut = 0; cut < n; cut += cut < 80 ? 1 : 97)
		refused(x, (Blob){ p, cut }, cut < 8 ? "no package" : "cut short");
	refused(x, (Blob){ p, n - 1 }, "cut short");
	u8 *longer = arena_copy(&x->arena, p, 1, n + 1, 16); /* the terminating zero that io_read adds */
	refused(x, (Blob){ longer, n + 1 }, "altered");
	for (size_t i = 24; i < n; i += 101) {
		p[i] ^= 0x10;
		refused(x, (Blob){ p, n }, "altered");
		p[i] ^= 0x10;
	}
	p[8]++;
	refused(x, (Blob){ p, n }, "another version");
	p[8]--;
	p[0] = 'P';
	refused(x, (Blob){ p, n }, "no package");
	p[0] = 0x89;
}

/* With a hash that is right, as from someone who means harm: nothing is read outside the bytes, and what is accepted
 * can be written and read again. */
static void test_hostile(void **state)
{
	Fixture *x = *state;
	Blob body = { (const u8 *)x->bytes.s + 64, x->bytes.n - 64 };
	u64 random = 1;
	u32 accepted = 0;
	for (u32 round = 0; round < 3000; round++) {
		Arena a = ARENA("hostile");
		u8 *copy = malloc(body.n);
		memcpy(copy, body.p, body.n);
		for (u32 k = 0; k <= round % 3; k++) {
			random = random * 6364136223846793005u + 1442695040888963407u;
			/* the code is most of it, and is not looked at */
			copy[(random >> 33) % MIN(body.n, (size_t)4000)] ^= (u8)(1 << (random >> 30 & 7));
		}
		size_t n = round % 7 ? body.n : (random >> 40) % body.n;
		PackageFile f;
		if (!package_decode_file(&a, (Blob){ copy, n }, &f)) {
			Blob again = package_encode_file(&a, &f);
			PackageFile g;
			assert_null(package_decode_file(&a, again, &g));
			accepted++;
		}
		free(copy);
		arena_free(&a);
	}
	assert_true(accepted > 0 && accepted < 3000);
}

static void test_other_machine(void **state)
{
	Fixture *x = *state;
	PackageFile f;
	CpuCodeImage *code;
	assert_null(package_file_open(&x->arena, x->path, (Blob){ (const u8 *)x->bytes.s, x->bytes.n }, &f));
	PackageVariant v = f.variant[0];
	v.machine = "riscv64-linux-gnu";
	Status s = cpu_code_load(x->path, &v, &code);
	assert_non_null(s);
	assert_non_null(strstr(s->text, "for another machine: riscv64-linux-gnu, and this is"));
	v.machine = cpu_machine_name();
	v.features = "";
	v.cpu = "x86-64-v9";
	v.features = "avx2048";
	s = cpu_code_load(x->path, &v, &code);
	assert_non_null(s);
	assert_non_null(strstr(s->text, "x86-64-v9 needs avx2048, which this processor has not"));
	/* code that is none */
	v.features = "";
	v.code = (Blob){ (const u8 *)"no code", 7 };
	s = cpu_code_load(x->path, &v, &code);
	assert_non_null(s);
	assert_non_null(strstr(s->text, "cannot be loaded"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_other_machine),
	};
	return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
