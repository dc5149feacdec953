/* runtime/cuda/driver.c: see driver.h. */
#include "runtime/cuda/driver.h"
#include "support/library.h"

static CudaDriver driver;
static LibraryOnce once = LIBRARY_ONCE;

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
	case CUDA_INVALID_IMAGE:
	case CUDA_NO_BINARY:
	case CUDA_INVALID_PTX:
	case CUDA_UNSUPPORTED_PTX:
		advice = "; the driver takes no code of this kind: compile for the device's own architecture (no --arch), or renew "
			 "the driver (`plinth doctor` says whether NVRTC is newer)";
		break;
	default: break;
	}
	return FAIL(kind, "CUDA: cannot %s: %s (%d)%s%s%s", what, name, code, *text ? ", " : "", text, advice);
}

static Status load(void)
{
	static const char *const name[] = { "libcuda.so.1", NULL };
	Library l;
	const char *missing = NULL;
	Status s = library_open("PLINTH_LIBCUDA", name, RTLD_LOCAL, &l);
	if (s)
		return FAIL(STATUS_UNSUPPORTED,
			    "there is no CUDA driver here (%s): --device cuda needs an NVIDIA GPU and its driver; --device cpu does "
			    "without",
			    s->text);
	driver.path = l.path;
#define F(field, newest, older, arguments)                                                               \
	if (!library_find(&l, newest, &driver.field) && !(older && library_find(&l, older ? older : "", &driver.field)) && \
	    (void *)&driver.field != (void *)&driver.map_encode)                                         \
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

Status cuda_driver(const CudaDriver **out)
{
	*out = &driver;
	return library_once(&once, load);
}
