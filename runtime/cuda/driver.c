/* runtime/cuda/driver.c: see driver.h. */
#include "runtime/cuda/driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

static CudaDriver driver;
static const Failure *why;
static Failure kept;
static pthread_once_t once = PTHREAD_ONCE_INIT;

Status cuda_failed(const CudaDriver *d, int code, const char *what)
{
	const char *name = "", *text = "";
	if (d->error_name(code, &name) || !name)
		name = "unknown";
	if (d->error_text(code, &text) || !text)
		text = "";
	const char *advice = "";
	StatusCode kind = STATUS_DEVICE;
	switch (code) {
	case CUDA_OUT_OF_MEMORY:
		kind = STATUS_MEMORY;
		advice = "; what else uses this GPU is shown by nvidia-smi";
		break;
	case CUDA_STUB_LIBRARY:
		kind = STATUS_UNSUPPORTED;
		advice = "; that is the toolkit's stub: the real one comes with NVIDIA's driver";
		break;
	case CUDA_NO_DEVICE:
		kind = STATUS_UNSUPPORTED;
		advice = "; see nvidia-smi, and CUDA_VISIBLE_DEVICES";
		break;
	case CUDA_NO_BINARY:
	case CUDA_INVALID_PTX:
	case CUDA_UNSUPPORTED_PTX:
		advice = "; the driver takes no code of this kind: compile for the device's own architecture (no --arch), or renew "
			 "the driver";
		break;
	default: break;
	}
	return FAIL(kind, "CUDA: cannot %s: %s (%d)%s%s%s", what, name, code, *text ? ", " : "", text, advice);
}

static Status load(void)
{
	const char *given = getenv("PLINTH_LIBCUDA");
	driver.path = given && *given ? given : "libcuda.so.1";
	void *library = dlopen(driver.path, RTLD_NOW | RTLD_LOCAL);
	if (!library)
		return FAIL(STATUS_UNSUPPORTED,
			    "there is no CUDA driver here (%s): --device cuda needs an NVIDIA GPU and its driver; --device cpu does "
			    "without",
			    dlerror());
	const char *missing = NULL;
#define F(field, newest, older, arguments)                                    \
	*(void **)&driver.field = dlsym(library, newest);                     \
	if (!driver.field && older)                                           \
		*(void **)&driver.field = dlsym(library, older ? older : ""); \
	if (!driver.field && !missing && (void *)&driver.field != (void *)&driver.map_encode) \
		missing = newest;
	CUDA_DRIVER_FUNCTIONS(F)
#undef F
	if (missing)
		return FAIL(STATUS_UNSUPPORTED, "the CUDA driver (%s) is too old: it has no %s; renew it (11.8 is the least)", driver.path,
			    missing);
	CU(&driver, "start the driver", driver.init(0));
	CU(&driver, "ask the driver for its version", driver.version(&driver.number));
	return OK;
}

static void load_once(void)
{
	why = load();
	if (why) {
		kept = *why;
		why = &kept;
	}
}

Status cuda_driver(const CudaDriver **out)
{
	pthread_once(&once, load_once);
	*out = &driver;
	return why;
}
