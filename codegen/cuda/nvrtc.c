/* codegen/cuda/nvrtc.c: see nvrtc.h. Its few prototypes are our own, so that no toolkit is needed to build. */
#include "codegen/cuda/nvrtc.h"
#include "support/str.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct Program Program; /* _nvrtcProgram */
enum { SUCCESS = 0, ERROR_COMPILATION = 6 };

struct NvrtcFunctions {
	int (*version)(int *major, int *minor);
	const char *(*error_string)(int);
	int (*create)(Program **, const char *text, const char *name, int headers, const char *const *header,
		      const char *const *include);
	int (*destroy)(Program **);
	int (*compile)(Program *, int n, const char *const *option);
	int (*log_size)(Program *, size_t *);
	int (*log)(Program *, char *);
	int (*ptx_size)(Program *, size_t *);
	int (*ptx)(Program *, char *);
	int (*cubin_size)(Program *, size_t *);
	int (*cubin)(Program *, char *);
};

/* The driver's own cache is not asked: without a driver that would fail, and ours knows better. */
const char *const nvrtc_options[] = {
	"--std=c++17", "-default-device", "--no-cache", "--fmad=false", "--prec-div=true", "--prec-sqrt=true", "--ftz=false",
	"--diag-suppress=177", /* functions of the preamble that a program does not use */
	"--ptxas-options=-v", "--ptxas-options=--warn-on-spills", NULL
};
enum { OPTIONS = COUNT(nvrtc_options) - 1 };

static const char *const names[] = { "libnvrtc.so.13", "libnvrtc.so.12", "/usr/local/cuda/lib64/libnvrtc.so.13",
				     "/usr/local/cuda/lib64/libnvrtc.so.12",
				     "/usr/lib/x86_64-linux-gnu/libnvrtc.so.12" };

static Nvrtc loaded;
static struct NvrtcFunctions functions;
static Failure failure; /* why it could not be loaded; text "" if it could */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fail_with(Status s)
{
	failure = *s;
}

static bool find(void *library, const char *name, void *to)
{
	void *p = dlsym(library, name);
	memcpy(to, &p, sizeof p);
	return p != NULL;
}

static void load(void)
{
	const char *wanted = getenv("PLINTH_NVRTC");
	void *library = NULL;
	if (wanted && *wanted) {
		library = dlopen(wanted, RTLD_NOW | RTLD_LOCAL);
		if (!library) {
			fail_with(FAIL(STATUS_UNSUPPORTED, "cannot load %s, which PLINTH_NVRTC names: %s", wanted,
				       dlerror()));
			return;
		}
		loaded.path = wanted;
	}
	for (u32 i = 0; i < COUNT(names) && !library; i++) {
		library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
		loaded.path = names[i];
	}
	if (!library) {
		fail_with(FAIL(STATUS_UNSUPPORTED,
			       "CUDA code needs NVRTC, and neither libnvrtc.so.13 nor libnvrtc.so.12 was found; install "
			       "the CUDA toolkit (or NVIDIA's package cuda-nvrtc), add its folder to LD_LIBRARY_PATH, or "
			       "name the file in PLINTH_NVRTC"));
		return;
	}
	struct NvrtcFunctions *f = &functions;
	bool all = find(library, "nvrtcVersion", &f->version) && find(library, "nvrtcGetErrorString", &f->error_string) &&
		   find(library, "nvrtcCreateProgram", &f->create) &&
		   find(library, "nvrtcDestroyProgram", &f->destroy) &&
		   find(library, "nvrtcCompileProgram", &f->compile) &&
		   find(library, "nvrtcGetProgramLogSize", &f->log_size) &&
		   find(library, "nvrtcGetProgramLog", &f->log) && find(library, "nvrtcGetPTXSize", &f->ptx_size) &&
		   find(library, "nvrtcGetPTX", &f->ptx) && find(library, "nvrtcGetCUBINSize", &f->cubin_size) &&
		   find(library, "nvrtcGetCUBIN", &f->cubin);
	if (!all || f->version(&loaded.major, &loaded.minor) != SUCCESS) {
		fail_with(FAIL(STATUS_UNSUPPORTED, "%s is no NVRTC of CUDA 12 or later", loaded.path));
		dlclose(library);
		return;
	}
	loaded.f = f;
}

Status nvrtc_open(const Nvrtc **out)
{
	pthread_once(&once, load);
	if (!loaded.f)
		return FAIL(failure.code, "%s", failure.text);
	*out = &loaded;
	return OK;
}

/* ---- compiling ---- */

static void *get(int (*size_of)(Program *, size_t *), int (*bytes_of)(Program *, char *), Program *p, size_t *size)
{
	if (size_of(p, size) != SUCCESS || !*size)
		return NULL;
	char *bytes = calloc(1, *size + 1);
	if (!bytes)
		NEVER("no memory for what NVRTC made");
	if (bytes_of(p, bytes) == SUCCESS)
		return bytes;
	free(bytes);
	return NULL;
}

/* The lines of the log that speak of errors, as many as fit. */
static void first_errors(const char *log, char *to, size_t size)
{
	size_t n = 0;
	for (const char *line = log; *line && n + 1 < size;) {
		const char *end = strchr(line, '\n');
		size_t length = end ? (size_t)(end - line) : strlen(line);
		Str text = { line, length };
		for (size_t i = 0; i + 5 <= length; i++)
			if (!strncmp(text.s + i, "error", 5) && n + length + 2 < size) {
				n += (size_t)snprintf(to + n, size - n, "%.*s\n", (int)length, line);
				break;
			}
		line = end ? end + 1 : line + length;
	}
	to[n] = 0;
}

Status nvrtc_compile(const Nvrtc *nvrtc, const char *name, const char *text, const char *arch, NvrtcResult *out)
{
	const struct NvrtcFunctions *f = nvrtc->f;
	*out = (NvrtcResult){ 0 };
	char target[64];
	snprintf(target, sizeof target, "--gpu-architecture=%s", arch);
	bool ptx = str_starts(str_of(arch), STR("compute_"));
	const char *option[OPTIONS + 1] = { target };
	memcpy(option + 1, nvrtc_options, sizeof *option * OPTIONS);
	Program *p;
	int e = f->create(&p, text, name, 0, NULL, NULL);
	if (e != SUCCESS)
		return FAIL(STATUS_DEVICE, "NVRTC cannot begin a program: %s", f->error_string(e));
	e = f->compile(p, OPTIONS + 1, option);
	size_t size = 0;
	out->log = get(f->log_size, f->log, p, &size);
	if (!out->log)
		out->log = calloc(1, 1);
	if (e == SUCCESS) {
		out->image = ptx ? get(f->ptx_size, f->ptx, p, &out->size) : get(f->cubin_size, f->cubin, p, &out->size);
		out->size -= ptx && out->size;
	}
	f->destroy(&p);
	if (out->image)
		return OK;
	char errors[800];
	first_errors(out->log ? out->log : "", errors, sizeof errors);
	if (!*errors) /* a message of another form: the first of it */
		snprintf(errors, sizeof errors, "%s", out->log ? out->log : "");
	Status s = FAIL(STATUS_DEVICE, "NVRTC %d.%d cannot compile %s for %s: %s\n%s", nvrtc->major, nvrtc->minor, name, arch,
			f->error_string(e), errors);
	free(out->log);
	*out = (NvrtcResult){ 0 };
	return s;
}
