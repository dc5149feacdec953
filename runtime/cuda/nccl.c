/* runtime/cuda/nccl.c: see nccl.h. */
#include "runtime/cuda/nccl.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

static Nccl nccl;
static const Failure *why;
static Failure kept;
static pthread_once_t once = PTHREAD_ONCE_INIT;

Status nccl_failed(const Nccl *n, int code, const char *what)
{
	return FAIL(STATUS_DEVICE, "NCCL: cannot %s: %s (%d); NCCL_DEBUG=INFO tells more", what, n->error_text(code), code);
}

static Status load(void)
{
	static const char *const name[] = { "libnccl.so.2", "/usr/local/cuda/lib64/libnccl.so.2" };
	const char *given = getenv("PLINTH_LIBNCCL"), *missing = NULL;
	void *library = NULL;
	for (u32 i = 0; i < COUNT(name) && !library; i++) {
		nccl.path = given && *given ? given : name[i];
		library = dlopen(nccl.path, RTLD_NOW | RTLD_LOCAL);
	}
	if (!library)
		return FAIL(STATUS_UNSUPPORTED, "several GPUs speak by NCCL, and it cannot be loaded (%s): libnccl2 of NVIDIA's repository, "
						"or `pip install nvidia-nccl-cu13` with PLINTH_LIBNCCL naming its libnccl.so.2", dlerror());
#define F(field, name, arguments)                                \
	*(void **)&nccl.field = dlsym(library, name);            \
	missing = nccl.field || missing ? missing : name;
	NCCL_FUNCTIONS(F)
#undef F
	*(void **)&nccl.error_text = dlsym(library, "ncclGetErrorString");
	if (missing || !nccl.error_text)
		return FAIL(STATUS_UNSUPPORTED, "%s is too old: it has no %s; renew it (2.9 is the least)", nccl.path,
			    missing ? missing : "ncclGetErrorString");
	NC(&nccl, "ask for its version", nccl.version(&nccl.number));
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

Status nccl_library(const Nccl **out)
{
	pthread_once(&once, load_once);
	*out = &nccl;
	return why;
}

int nccl_dtype(PackageDtype dtype)
{
	static const i8 value[] = { [PACKAGE_B1] = -1, [PACKAGE_U8] = 1,  [PACKAGE_U32] = 3, [PACKAGE_I8] = 0,	[PACKAGE_I32] = 2,
				    [PACKAGE_I64] = 4, [PACKAGE_F16] = 6, [PACKAGE_BF16] = 9, [PACKAGE_F32] = 7, [PACKAGE_F64] = 8 };
	assert(value[dtype] >= 0);
	return value[dtype];
}

int nccl_reduce(PackageReduce how)
{
	static const u8 value[] = { [PACKAGE_SUM] = 0, [PACKAGE_MAX] = 2, [PACKAGE_MIN] = 3 };
	return value[how];
}
