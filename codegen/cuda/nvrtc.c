/* codegen/cuda/nvrtc.c: see nvrtc.h. Its few prototypes are our own, so that no toolkit is needed to build. */
#include "codegen/cuda/nvrtc.h"
#include "support/library.h"
#include "support/str.h"

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

/* Options besides the architecture's, each with the version that first knows it (12080 is 12.8): an older one refuses it, and with it
 * every program. */
typedef struct Option {
	int since;
	const char *text;
} Option;
static const Option options[] = {
	{ 12000, "--std=c++17" },
	{ 12000, "-default-device" },
	{ 12000, "--fmad=false" },
	{ 12000, "--prec-div=true" },
	{ 12000, "--prec-sqrt=true" },
	{ 12000, "--ftz=false" },
	{ 12000, "--diag-suppress=177" }, /* functions of the preamble that a program does not use */
	{ 12000, "--ptxas-options=-v" },
	{ 12000, "--ptxas-options=--warn-on-spills" },
	/* the driver's own cache is not asked: without a driver that would fail, and ours knows better */
	{ 12090, "--no-cache" },
};
static const char *known[COUNT(options) + 1];

static const char *const names[] = { "libnvrtc.so.13", "libnvrtc.so.12", "/usr/local/cuda/lib64/libnvrtc.so.13",
				     "/usr/local/cuda/lib64/libnvrtc.so.12",
				     "/usr/lib/x86_64-linux-gnu/libnvrtc.so.12", NULL };

static Nvrtc loaded;
static struct NvrtcFunctions functions;
static LibraryOnce once = LIBRARY_ONCE;

static Status load(void)
{
	const char *wanted = getenv("PLINTH_NVRTC");
	Library l;
	Status s = library_open("PLINTH_NVRTC", names, RTLD_LOCAL, &l);
	if (s && wanted && *wanted)
		return FAIL(STATUS_UNSUPPORTED, "cannot load %s, which PLINTH_NVRTC names: %s", wanted, s->text);
	if (s)
		return FAIL(STATUS_UNSUPPORTED,
			    "CUDA code needs NVRTC, and neither libnvrtc.so.13 nor libnvrtc.so.12 was found; install "
			    "the CUDA toolkit (or NVIDIA's package cuda-nvrtc), add its folder to LD_LIBRARY_PATH, or "
			    "name the file in PLINTH_NVRTC");
	struct NvrtcFunctions *f = &functions;
	bool all = library_find(&l, "nvrtcVersion", &f->version) && library_find(&l, "nvrtcGetErrorString", &f->error_string) &&
		   library_find(&l, "nvrtcCreateProgram", &f->create) && library_find(&l, "nvrtcDestroyProgram", &f->destroy) &&
		   library_find(&l, "nvrtcCompileProgram", &f->compile) &&
		   library_find(&l, "nvrtcGetProgramLogSize", &f->log_size) && library_find(&l, "nvrtcGetProgramLog", &f->log) &&
		   library_find(&l, "nvrtcGetPTXSize", &f->ptx_size) && library_find(&l, "nvrtcGetPTX", &f->ptx) &&
		   library_find(&l, "nvrtcGetCUBINSize", &f->cubin_size) && library_find(&l, "nvrtcGetCUBIN", &f->cubin);
	if (!all || f->version(&loaded.major, &loaded.minor) != SUCCESS)
		return FAIL(STATUS_UNSUPPORTED, "%s is no NVRTC of CUDA 12 or later", l.path);
	for (u32 i = 0, n = 0; i < COUNT(options); i++)
		if (loaded.major * 1000 + loaded.minor * 10 >= options[i].since)
			known[n++] = options[i].text;
	loaded.path = l.path;
	loaded.f = f;
	loaded.option = known;
	return OK;
}

Status nvrtc_open(const Nvrtc **out)
{
	*out = &loaded;
	return library_once(&once, load);
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
	const char *option[COUNT(options) + 1] = { target };
	int noption = 1;
	while (nvrtc->option[noption - 1]) {
		option[noption] = nvrtc->option[noption - 1];
		noption++;
	}
	Program *p;
	int e = f->create(&p, text, name, 0, NULL, NULL);
	if (e != SUCCESS)
		return FAIL(STATUS_DEVICE, "NVRTC cannot begin a program: %s", f->error_string(e));
	e = f->compile(p, noption, option);
	size_t size = 0;
	out->log = get(f->log_size, f->log, p, &size);
	if (!out->log)
		out->log = calloc(1, 1);
	if (e == SUCCESS) {
		out->image = ptx ? get(f->ptx_size, f->ptx, p, &out->size) : get(f->cubin_size, f->cubin, p, &out->size);
		out->size -= ptx && out->size;
		if (!ptx)
			out->ptx = get(f->ptx_size, f->ptx, p, &size);
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
	free(out->ptx);
	*out = (NvrtcResult){ 0 };
	return s;
}
