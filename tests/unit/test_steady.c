/* Nothing is allocated while steps run: all memory is had when an executor is made. The C library's ways to memory are counted
 * here, by functions of the same names in front of them, in all threads, over training steps of a model within a budget. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "model_plan.h"
#include "runtime/executor.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
/* a sanitizer has functions of these names itself */
int main(void)
{
	return 0;
}
#else

static atomic_bool counting;
static atomic_int count;

static void note(void)
{
	if (counting)
		count++;
}

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

void *malloc(size_t n)
{
	note();
	return __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
	note();
	return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
	note();
	return __libc_realloc(p, n);
}

void *aligned_alloc(size_t align, size_t n)
{
	note();
	return __libc_memalign(align, n);
}

int posix_memalign(void **to, size_t align, size_t n)
{
	*to = aligned_alloc(align, n);
	return *to ? 0 : ENOMEM;
}

void *mmap(void *at, size_t n, int protection, int flags, int file, off_t offset)
{
	note();
	return (void *)syscall(SYS_mmap, at, n, protection, flags, file, offset);
}

/* Bytes of address space, as the kernel counts them. */
static long address_space(void)
{
	char text[128];
	long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof text, f));
	assert_int_equal(sscanf(text, "%ld", &pages), 1);
	assert_int_equal(fclose(f), 0);
	return pages;
}

static void run(Executor *x, const char *name)
{
	const PackageEntry *e = package_entry(x->package, name);
	assert_non_null(e);
	for (u32 i = 0; i < e->ninput; i++)
		memset(executor_memory(x, &e->input[i]), 0, e->input[i].bytes);
	assert_null(executor_run(x, e, NULL, NULL));
	assert_null(executor_synchronize(x));
}

static void steps_allocate_nothing(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	Model *model = model_read(&a, "gpt2", "test", "drop=0.1");
	DriverOptions o = { .sizes = "B=2,T=64", .precision = "bf16", .threads = 2, .accumulate = true, .curve = 1 };
	Compiled c = { 0 };
	assert_null(driver_plan(&a, model->program, &o, &c));
	u64 half = 0;
	for (u32 i = 0; i < c.plan->entry.n; i++) {
		const PlanRemat *r = c.plan->entry.v[i]->remat;
		half = r ? MAX(half, (r->least + r->most) / 2) : half;
	}
	o.memory = c.plan->persistent_bytes + half + 2 * ALIGN_UP(c.plan->thread_scratch, 4096);
	o.curve = 0;
	Status s = driver_compile(&a, model->program, &o, &c);
	if (s)
		fail_msg("%s", s->text);
	bool again = false;
	for (u32 i = 0; i < c.plan->entry.n; i++)
		for (u32 k = 0; k < c.plan->entry.v[i]->step.n; k++)
			again |= c.plan->entry.v[i]->step.v[k].again;
	assert_true(again);
	Executor *x;
	assert_null(executor_create(c.package, &(DeviceOptions){ .threads = 2 }, &x));
	/* that it counts at all */
	counting = true;
	void *volatile something = malloc(1);
	free(something);
	counting = false;
	assert_int_equal(count, 1);
	count = 0;
	run(x, "init");
	long before = address_space();
	counting = true;
	for (u32 i = 0; i < 3; i++) {
		run(x, "micro_first");
		run(x, "micro");
		run(x, "update");
	}
	counting = false;
	assert_int_equal(count, 0);
	assert_int_equal(address_space(), before);
	executor_destroy(x);
	driver_close(&c);
	arena_free(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(steps_allocate_nothing) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
