/* tests/emulator/run_package.c: run_package FILE.plx STEPS: trains as the package says for some steps, on inputs that are
 * the same everywhere, with the best of the package's code that this processor runs, and prints numbers: what each
 * entry gives, then the size of each parameter. Two machines' numbers differ by rounding only. Nothing of the compiler
 * is in it; on a processor with AVX-512 what it lacks of AVX512_BF16 is trap.h's. */
#include "runtime/cpu/code.h"
#include "runtime/executor.h"
#include "support/cpu_features.h"
#include "support/float8.h"
#include "support/io.h"
#include "trap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static u64 drawn = 1;

static u32 draw(u32 below)
{
	drawn = drawn * 6364136223846793005u + 1442695040888963407u;
	return (u32)(drawn >> 33) % below;
}

static void check(Status s)
{
	if (!s)
		return;
	fprintf(stderr, "%s\n", s->text);
	exit(2);
}

/* The last variant whose code runs here, with the trap or without. */
static PackageVariant *choose(PackageFile *f)
{
	char lacking[64];
	for (u32 i = f->nvariant; i-- > 0;) {
		PackageVariant *v = &f->variant[i];
		char *features = strdup(v->features), *bf16 = strstr(features, ",avx512bf16");
		if (bf16) {
			memmove(bf16, bf16 + strlen(",avx512bf16"), strlen(bf16 + strlen(",avx512bf16")) + 1);
			v->features = features;
		}
		if (!cpu_lacks(v->features, lacking, sizeof lacking))
			return v;
	}
	fprintf(stderr, "no code for this processor\n");
	exit(2);
}

static f64 element(const PackageTensor *t, const void *p, u64 i)
{
	switch (t->dtype) {
	case PACKAGE_F32: return (f64)((const f32 *)p)[i];
	case PACKAGE_BF16: return (f64)f32_from_bf16(((const u16 *)p)[i]);
	case PACKAGE_F8E4M3: return (f64)f32_from_f8e4m3(((const u8 *)p)[i]);
	case PACKAGE_F8E5M2: return (f64)f32_from_f8e5m2(((const u8 *)p)[i]);
	case PACKAGE_F16: return (f64)f32_from_f16(((const u16 *)p)[i]);
	case PACKAGE_F64: return ((const f64 *)p)[i];
	case PACKAGE_I64: return (f64)((const i64 *)p)[i];
	case PACKAGE_I32: return ((const i32 *)p)[i];
	default: return 0;
	}
}

static u64 elements(const PackageTensor *t)
{
	u64 n = 1;
	for (u32 d = 0; d < t->rank; d++)
		n *= (u64)t->dim[d];
	return n;
}

/* Ids below the number of logits, and numbers within one of 0. */
static void fill(Executor *x, const PackageTensor *t, i64 vocabulary)
{
	u64 n = elements(t);
	void *p = calloc(n + 1, 8);
	for (u64 i = 0; i < n; i++) {
		u32 id = draw((u32)MAX(vocabulary, 2));
		if (t->dtype == PACKAGE_F32)
			((f32 *)p)[i] = (f32)draw(2001) / 1000 - 1;
		else if (t->dtype == PACKAGE_I64)
			((i64 *)p)[i] = id;
		else if (t->dtype == PACKAGE_I32)
			((i32 *)p)[i] = (i32)id;
	}
	check(executor_write(x, t, p));
	free(p);
}

/* The root of the mean of squares. */
static f64 size(Executor *x, const PackageTensor *t)
{
	u64 n = elements(t);
	void *p = calloc(n + 1, 8);
	check(executor_read(x, t, p));
	f64 sum = 0;
	for (u64 i = 0; i < n; i++)
		sum += element(t, p, i) * element(t, p, i);
	free(p);
	return sqrt(sum / (f64)MAX(n, 1));
}

static void run(Executor *x, const PackageEntry *e, i64 vocabulary)
{
	for (u32 i = 0; i < e->ninput; i++)
		fill(x, &e->input[i], vocabulary);
	check(executor_run(x, e, NULL, NULL));
	for (u32 i = 0; i < e->nresult; i++)
		printf("%s.%s %.9g\n", e->name, e->result[i].name, size(x, &e->result[i]));
}

int main(int argc, char **argv)
{
	Arena a = ARENA("package");
	Mapping file;
	PackageFile f;
	CpuCodeImage *code;
	Executor *x;
	if (argc != 3) {
		fprintf(stderr, "usage: run_package FILE.plx STEPS\n");
		return 2;
	}
	check(io_map(argv[1], &file));
	check(package_file_open(&a, argv[1], file.bytes, &f));
	PackageVariant *v = choose(&f);
	trap_install();
	if (sigsetjmp(trap_unknown, 1)) {
		printf("an instruction that this processor has not\n");
		return 1;
	}
	check(cpu_code_load(argv[1], v, &code));
	check(executor_create(&v->package, &(DeviceOptions){ .threads = 1 }, &x));
	fprintf(stderr, "%s: code for %s\n", argv[1], v->cpu);
	const char *const order[] = { "init", "forward", "micro_first", "micro", "update" };
	for (i64 step = 0; step < strtoll(argv[2], NULL, 10); step++)
		for (u32 i = step > 0; i < COUNT(order); i++)
			if (package_entry(&v->package, order[i]))
				run(x, package_entry(&v->package, order[i]), f.logits);
	for (u32 i = 0; i < v->package.nbuffer; i++)
		printf("%s %.9g\n", v->package.buffer[i].tensor.name, size(x, &v->package.buffer[i].tensor));
	executor_destroy(x);
	cpu_code_unload(code);
	io_unmap(&file);
	arena_free(&a);
	return 0;
}
