/* tests/emulator/run_launches.c: run_launches FILE...: runs what another machine compiled for this one and wrote
 * (tests/unit/launch.h), and compares. Prints a line for each file and each launch that is wrong. Exit status 1 where one
 * is, 2 where this processor cannot run them. What it lacks beyond AVX-512 F, BW, DQ and VL is trap.h's. Nothing of the
 * compiler is in it. */
#include "../unit/launch.h"
#include "trap.h"
#include "support/cpu_features.h"
#include "support/io.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static void *load(Blob library)
{
	char path[64];
	int file = memfd_create("launches", 0);
	assert(file >= 0);
	if (write(file, library.p, library.n) != (ssize_t)library.n)
		NEVER("no memory for the code");
	snprintf(path, sizeof path, "/proc/self/fd/%d", file);
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!handle)
		fprintf(stderr, "%s\n", dlerror());
	return handle; /* the file stays open, so that the next one has another name */
}

/* How many are wrong. */
static u32 run_file(const char *path)
{
	Arena a = ARENA("file");
	Mapping file;
	Status s = io_map(path, &file);
	if (s) {
		fprintf(stderr, "%s\n", s->text);
		exit(2);
	}
	LaunchReader r = { &a, file.bytes };
	const u32 n = (u32)launch_take_u64(&r);
	volatile u32 wrong = 0;
	u64 bytes = launch_take_u64(&r);
	void *library = load((Blob){ r.left.p, bytes });
	if (!library)
		exit(2);
	r.left = (Blob){ r.left.p + bytes, r.left.n - bytes };
	for (volatile u32 i = 0; i < n; i++) {
		ArenaMark mark = arena_mark(&a);
		Launch l = launch_read(&r);
		KernelFunction *f = (KernelFunction *)(uintptr_t)dlsym(library, l.symbol);
		assert(f);
		const char *volatile why = "it has an instruction that this processor has not";
		if (!sigsetjmp(trap_unknown, 1))
			why = launch_run(&l, f, true, &a);
		if (why)
			printf("WRONG %s %u of %u: %s\n", path, i, n, why);
		wrong += why != NULL;
		arena_release(&a, mark);
	}
	printf("%s: %u launches, %u wrong\n", path, n, wrong);
	fflush(stdout);
	dlclose(library);
	io_unmap(&file);
	arena_free(&a);
	return wrong;
}

int main(int argc, char **argv)
{
	char lacking[64];
	u32 wrong = 0;
	if (cpu_lacks("avx512f,avx512bw,avx512dq,avx512vl", lacking, sizeof lacking)) {
		fprintf(stderr, "this processor has no %s\n", lacking);
		return 2;
	}
	trap_install();
	for (int i = 1; i < argc; i++)
		wrong += run_file(argv[i]);
	static const char *const name[TRAPS] = { "vdpbf16ps", "vcvtps2ph", "kshiftrw", "kshiftlw", "gathers", "scatters" };
	for (u32 i = 0; i < TRAPS; i++)
		printf("by trap: %llu %s\n", (unsigned long long)trap_count[i], name[i]);
	return wrong > 0;
}
