/* runtime/cpu/code.c: see code.h. The shared library lies in the package; it is given to dlopen as a file in
 * memory, which has no name and is gone with the process. */
#include "runtime/cpu/code.h"
#include "support/cpu_features.h"
#include "support/io.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct CpuCodeImage {
	void *library;
	int file; /* open as long as the library: its number is the name by which dlopen would find it again */
};

static Status write_all(int file, Blob bytes)
{
	for (size_t at = 0; at < bytes.n;) {
		ssize_t n = write(file, bytes.p + at, bytes.n - at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return FAIL(STATUS_MEMORY, "compiled code cannot be kept in memory: %s", strerror(errno));
		at += (size_t)n;
	}
	return OK;
}

static Status open_library(const char *path, Blob code, CpuCodeImage *out)
{
	out->file = memfd_create("plinth", MFD_CLOEXEC);
	if (out->file < 0)
		return FAIL(STATUS_UNSUPPORTED, "cannot make a file in memory to load compiled code from: %s", strerror(errno));
	char name[64];
	snprintf(name, sizeof name, "/proc/self/fd/%d", out->file);
	TRY(write_all(out->file, code));
	out->library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
	if (out->library)
		return OK;
	const char *why = dlerror();
	return FAIL(STATUS_DEVICE, "the code of %s cannot be loaded: %s%s", path, why,
		    access("/proc/self/fd", F_OK) ? "; /proc must be mounted for that" : "");
}

Status cpu_code_open(const char *path, Blob code, CpuCodeImage **out)
{
	CpuCodeImage *image = calloc(1, sizeof *image);
	if (!image)
		return FAIL(STATUS_MEMORY, "no memory to load compiled code");
	image->file = -1;
	/* a program that only copies nothing has no code */
	Status s = code.n ? open_library(path, code, image) : OK;
	if (s)
		cpu_code_unload(image);
	else
		*out = image;
	return s;
}

void *cpu_code_find(const CpuCodeImage *image, const char *symbol)
{
	return image->library ? dlsym(image->library, symbol) : NULL;
}

static Status find_functions(const char *path, PackageVariant *v, const CpuCodeImage *image)
{
	Package *p = &v->package;
	for (u32 e = 0; e < p->nentry; e++)
		for (u32 s = 0; s < p->entry[e].nstep; s++) {
			PackageStep *step = &p->entry[e].step[s];
			if (step->collective)
				continue;
			const char *symbol = p->symbol[step->code], *needs = p->naxis ? p->symbol[step->needs_code] : NULL;
			step->function = (KernelFunction *)(uintptr_t)cpu_code_find(image, symbol);
			step->needs = needs ? (NeedsFunction *)(uintptr_t)cpu_code_find(image, needs) : NULL;
			if (!step->function || (needs && !step->needs))
				return FAIL(STATUS_INPUT, "%s is damaged: its code has no %s", path, step->function ? needs : symbol);
		}
	return OK;
}

Status cpu_code_load(const char *path, PackageVariant *v, CpuCodeImage **out)
{
	char lacking[64];
	if (strcmp(v->machine, cpu_machine_name()) != 0)
		return FAIL(STATUS_UNSUPPORTED, "%s is for another machine: %s, and this is %s", path, v->machine, cpu_machine_name());
	if (cpu_lacks(v->features, lacking, sizeof lacking))
		return FAIL(STATUS_UNSUPPORTED, "%s is for another machine: its code for %s needs %s, which this processor has not; compile it "
			    "with another --cpu", path, v->cpu, lacking);
	CpuCodeImage *image;
	TRY(cpu_code_open(path, v->code, &image));
	Status s = find_functions(path, v, image);
	if (s)
		cpu_code_unload(image);
	else
		*out = image;
	return s;
}

void cpu_code_unload(CpuCodeImage *image)
{
	if (!image)
		return;
	if (image->library)
		dlclose(image->library);
	if (image->file >= 0)
		close(image->file);
	free(image);
}
