/* codegen/cuda/nvrtc.h: NVIDIA's run-time compiler, from CUDA C to PTX and machine code. Loaded when first asked
 * for (libnvrtc.so.13 or .12); it needs no GPU, no driver and no headers. */
#ifndef PL_NVRTC_H
#define PL_NVRTC_H
#include "support/status.h"

typedef struct Nvrtc {
	int major, minor; /* version */
	const char *path; /* where it was found */
	const char *const *option; /* besides the architecture's, those that this version knows, ended by NULL: part of what a result depends on */
	struct NvrtcFunctions *f;
} Nvrtc;

/* The same every time; loaded once. $PLINTH_NVRTC names a file to load instead of the usual ones. */
PL_MUST_USE Status nvrtc_open(const Nvrtc **out);

typedef struct NvrtcResult {
	void *image; /* PTX with its terminating zero not counted, or a cubin; malloc'ed, NULL where it failed */
	size_t size;
	char *log;   /* malloc'ed; "" where there is nothing to say */
	char *ptx;   /* what a cubin was made of; malloc'ed, NULL where the image is PTX */
} NvrtcResult;

/* Compiles `text`; `name` is for messages. PTX where `arch` is "compute_...", a cubin for "sm_...". A failure's text
 * holds the first errors of the log. Safe for several threads at once. */
PL_MUST_USE Status nvrtc_compile(const Nvrtc *n, const char *name, const char *text, const char *arch,
				 NvrtcResult *out);

#endif
