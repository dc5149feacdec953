/* Programs for all sizes in range, with the numbers of each given when they run: what they compute at each size is what a program
 * compiled for that size computes, by kernels that are given the same numbers, so that no work is done beyond the size. */
#include "codegen/elf.h"
#include "runtime/cpu/code.h"
#include "runtime/executor.h"
#include "tools/driver_objects.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "model_plan.h"

typedef struct Case {
	const char *model, *preset, *set;
	const char *entry;
	const char *bounds;
	const char *decode_along;
	i64 capacity;
	const char *size[20]; /* NULL: the end */
} Case;

/* One token, sizes about tiles and vectors, odd ones, the bounds. */
#define TEXTS "B=1,T=1", "B=1,T=2", "B=3,T=1", "B=1,T=5", "B=2,T=6", "B=1,T=7", "B=1,T=8", "B=3,T=16", "B=1,T=17", "B=1,T=31", \
		      "B=2,T=33", "B=3,T=47", "B=1,T=48", "B=2,T=63", "B=3,T=64"
#define IMAGE "../tests/unit/image"
#define PRODUCTS "../tests/unit/products"
#define EDGES "../tests/unit/edges"
static const Case cases[] = {
	{ "gpt2", "test", NULL, "forward", "B<=3,T<=64", NULL, 0, { TEXTS } },
	{ "llama", "test", NULL, "forward", "B<=3,T<=64", NULL, 0, { TEXTS } },
	{ "bert", "test", NULL, "forward", "B<=3,T<=64", NULL, 0, { TEXTS } },
	{ "gemma", "test", NULL, "forward", "B<=3,T<=64", NULL, 0, { "B=1,T=1", "B=2,T=17", "B=3,T=64" } },
	{ "mixtral", "test", NULL, "forward", "B<=3,T<=64", NULL, 0, { "B=1,T=1", "B=2,T=9", "B=3,T=64" } },
	{ "t5", "test", NULL, "forward", "B=2,S<=40,T<=24", NULL, 0, { "S=1,T=1", "S=7,T=24", "S=40,T=3", "S=40,T=24" } },
	{ "gpt2", "test", NULL, "prefill", "B=2,T<=16", "T", 64, { "T=1", "T=2", "T=7", "T=13", "T=16" } },
	{ "gpt2", "test", NULL, "forward", "B<=9,T=32", NULL, 0, { "B=1", "B=2", "B=8", "B=9" } },
	/* rows of images: as long as when the code was made, longer than a vector and not, whole vectors and not */
	{ IMAGE, NULL, NULL, "forward", "B=2,h=6,w<=12", NULL, 0, { "w=1", "w=3", "w=5", "w=7", "w=8", "w=9", "w=11", "w=12" } },
	{ IMAGE, NULL, NULL, "forward", "B=2,h<=7,w<=16", NULL, 0, { "h=1,w=4", "h=3,w=12", "h=5,w=15", "h=7,w=8", "h=7,w=16" } },
	{ IMAGE, NULL, NULL, "forward", "B=2,h=6,w<=6", NULL, 0, { "w=2", "w=3", "w=4", "w=5", "w=6" } },
	/* sums that are divided, in parts of several lengths, and such that are too short to be */
	{ PRODUCTS, NULL, NULL, "forward", "B<=2,T<=3000", NULL, 0,
	  { "B=1,T=1", "B=1,T=500", "B=2,T=511", "B=2,T=512", "B=1,T=1023", "B=1,T=1024", "B=2,T=1300", "B=2,T=3000" } },
	/* rows that are longer than vectors when the code is made, and such that are several at once then too */
	{ EDGES, NULL, NULL, "forward", "B<=3,T<=300", NULL, 0,
	  { "B=1,T=1", "B=1,T=2", "B=3,T=7", "B=1,T=8", "B=2,T=9", "B=3,T=21", "B=1,T=31", "B=1,T=32", "B=2,T=36", "B=1,T=37", "B=1,T=38", "B=3,T=45",
	    "B=1,T=63", "B=2,T=64", "B=1,T=65", "B=2,T=129", "B=1,T=200", "B=3,T=300" } },
	{ EDGES, NULL, NULL, "forward", "B<=40,T<=29", NULL, 0, { "B=1,T=1", "B=40,T=2", "B=5,T=3", "B=7,T=8", "B=1,T=9", "B=33,T=17", "B=40,T=29" } },
};

static void fill(Executor *x, const PackageTensor *t, u32 salt)
{
	u8 *bytes = calloc(1, t->bytes + 8);
	u64 n = 1;
	for (u32 d = 0; d < t->rank; d++)
		n *= (u64)t->dim[d];
	for (u64 i = 0; i < n; i++) {
		u32 h = (u32)(i * 2654435761u) ^ salt * 40503u;
		h ^= h >> 15;
		h *= 2246822519u;
		h ^= h >> 13;
		if (t->dtype == PACKAGE_F32)
			((f32 *)(void *)bytes)[i] = ((f32)(h % 2001) / 1000 - 1) / 4 + (t->rank == 1);
		else if (t->dtype == PACKAGE_I32)
			((i32 *)(void *)bytes)[i] = t->rank ? (i32)(h % 29) : 0;
		else if (t->dtype == PACKAGE_B1)
			bytes[i] = h % 3 != 0 || i % 8 == 0;
	}
	assert_null(executor_write(x, t, bytes));
	free(bytes);
}

/* The results of one run, one after the other. */
static f32 *run(const Package *p, const char *name, u64 *n)
{
	Executor *x;
	Status s = executor_create(p, &(DeviceOptions){ .threads = 2 }, &x);
	if (s)
		fail_msg("%s", s->text);
	const PackageEntry *e = package_entry(p, name);
	assert_non_null(e);
	for (u32 i = 0; i < p->nbuffer; i++)
		fill(x, &p->buffer[i].tensor, i + 1);
	for (u32 i = 0; i < e->ninput; i++)
		fill(x, &e->input[i], 1000 + i);
	assert_null(executor_run(x, e, NULL, NULL));
	*n = 0;
	for (u32 i = 0; i < e->nresult; i++)
		*n += e->result[i].bytes / 4;
	f32 *out = calloc(*n + 1, sizeof *out), *to = out;
	for (u32 i = 0; i < e->nresult; i++) {
		assert_int_equal(e->result[i].dtype, PACKAGE_F32);
		assert_null(executor_read(x, &e->result[i], to));
		to += e->result[i].bytes / 4;
	}
	executor_destroy(x);
	return out;
}

static const PackageStep *step_named(const PackageEntry *e, const char *name)
{
	for (u32 i = 0; i < e->nstep; i++)
		if (!strcmp(e->step[i].name, name))
			return &e->step[i];
	return NULL;
}

static u64 same_steps, other_steps, same_bits, other_bits;

static const Kernel *kernel_named(const Plan *p, const char *name)
{
	for (u32 i = 0; i < p->kernel.n; i++)
		if (!strcmp(p->kernel.v[i]->name, name))
			return p->kernel.v[i];
	return NULL;
}

/* Kernels of both that have a name and a shape in common are given the same numbers. */
static void expect_numbers(const PackageEntry *sized, const Plan *all, const PackageEntry *exact, const Plan *one, const char *size)
{
	for (u32 i = 0; i < exact->nstep; i++) {
		const PackageStep *b = &exact->step[i], *a = step_named(sized, b->name);
		const Kernel *k = kernel_named(all, b->name);
		if (!k || kernel_shape_hash(k) != kernel_shape_hash(kernel_named(one, b->name))) {
			other_steps++; /* lowered otherwise, where an extent is 1 or another value is large */
			continue;
		}
		same_steps++;
		assert_int_equal(a->nnumber, b->nnumber);
		for (u32 n = 0; n < a->nnumber; n++)
			if (a->number[n] != b->number[n])
				fail_msg("%s at %s: number %u is %lld, not %lld", a->name, size, n, (long long)a->number[n], (long long)b->number[n]);
	}
}

static void expect_close(const f32 *got, const f32 *want, u64 n, const char *what, const char *size)
{
	f64 largest = 0;
	for (u64 i = 0; i < n; i++)
		largest = fmax(largest, fabs((f64)want[i]));
	assert_true(largest > 0);
	bool bits = true;
	for (u64 i = 0; i < n; i++) {
		bits &= !memcmp(&got[i], &want[i], sizeof *got);
		if (!(fabs((f64)got[i] - (f64)want[i]) <= 2e-5 * largest))
			fail_msg("%s at %s: element %llu is %.9g, not %.9g", what, size, (unsigned long long)i, (f64)got[i], (f64)want[i]);
	}
	*(bits ? &same_bits : &other_bits) += 1;
}

/* "B=3" for "B<=3". */
static const char *exact_sizes(Arena *a, const Case *c, const char *size)
{
	Buf b = { .arena = a };
	buf_put(&b, str_of(size));
	for (const char *at = c->bounds; *at;) {
		size_t n = strcspn(at, ",");
		if (!memchr(at, '<', n))
			buf_printf(&b, ",%.*s", (int)n, at);
		at += n + (at[n] == ',');
	}
	return b.text;
}

static void read_size(const Package *p, const char *text, i64 *size)
{
	for (u32 a = 0; a < p->naxis; a++) {
		const char *at = strstr(text, p->axis[a].name);
		assert_non_null(at);
		size[a] = strtoll(strchr(at, '=') + 1, NULL, 10);
	}
}

static void one_case(const Case *c)
{
	Arena a = ARENA("sizes");
	Model *m = model_read(&a, c->model, c->preset, c->set);
	DriverOptions o = { .entry = &c->entry, .nentry = 1, .sizes = c->bounds, .decode_along = c->decode_along, .capacity = c->capacity };
	Compiled sized;
	Status s = driver_plan(&a, m->program, &o, &sized);
	diag_print(m->program->ir->diag, stderr, false);
	if (s)
		fail_msg("%s: %s", c->model, s->text);
	assert_non_null(sized.plan);
	DriverObjects objects;
	assert_null(driver_objects(&a, &o, NULL, "", &sized, &objects));
	ElfOptions link = { .export = sized.package->symbol, .nexport = sized.package->nsymbol, .needed = cpu_needed, .nneeded = CPU_NEEDED };
	const CpuMachine *machine = sized.target->self;
	/* through the bytes of a file, as those who run it have it */
	Package decoded;
	assert_null(package_decode(&a, package_encode(&a, sized.package), &decoded));
	PackageVariant v = { .machine = machine->target, .cpu = "", .features = "", .sizes = c->bounds, .package = decoded };
	assert_null(elf_link(&a, objects.object, objects.code.nunit, &link, &v.code));
	CpuCodeImage *image;
	assert_null(cpu_code_load("sizes", &v, &image));
	for (u32 i = 0; i < COUNT(c->size) && c->size[i]; i++) {
		i64 size[PACKAGE_AXES];
		read_size(&v.package, c->size[i], size);
		assert_null(package_refuses_sizes(&v.package, size));
		Package *at = package_at(&a, &v.package, size);
		DriverOptions exact = o;
		exact.sizes = exact_sizes(&a, c, c->size[i]);
		Compiled whole;
		assert_null(driver_compile(&a, m->program, &exact, &whole));
		assert_non_null(whole.package);
		expect_numbers(package_entry(at, c->entry), sized.plan, package_entry(whole.package, c->entry), whole.plan, c->size[i]);
		u64 n, want_n;
		f32 *got = run(at, c->entry, &n), *want = run(whole.package, c->entry, &want_n);
		assert_int_equal(n, want_n);
		expect_close(got, want, n, c->model, c->size[i]);
		free(got);
		free(want);
		driver_close(&whole);
	}
	i64 size[PACKAGE_AXES] = { 1, 1, 1, 1 };
	size[0] = v.package.axis[0].most + 1;
	assert_non_null(package_refuses_sizes(&v.package, size));
	size[0] = 0;
	assert_non_null(package_refuses_sizes(&v.package, size));
	cpu_code_unload(image);
	driver_objects_close(&objects);
	arena_free(&a);
}

static void test_models(void **state)
{
	(void)state;
	for (u32 i = 0; i < COUNT(cases); i++)
		one_case(&cases[i]);
	printf("kernels with the numbers of the exact size: %llu, lowered otherwise: %llu; results with the same bits: %llu, by rounding: %llu\n",
	       (unsigned long long)same_steps, (unsigned long long)other_steps, (unsigned long long)same_bits, (unsigned long long)other_bits);
	assert_true(same_steps > other_steps);
}

static void test_refusals(void **state)
{
	(void)state;
	Arena a = ARENA("refusals");
	Model *m = model_read(&a, "gpt2", "test", NULL);
	static const char *const forward[] = { "forward" };
	DriverOptions o = { .entry = forward, .nentry = 1, .sizes = "B=1,T<=0" };
	Compiled c;
	assert_non_null(driver_plan(&a, m->program, &o, &c));
	o.sizes = "B=1,T<=100000000";
	assert_non_null(driver_plan(&a, m->program, &o, &c));
	arena_free(&a);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_models), cmocka_unit_test(test_refusals) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
