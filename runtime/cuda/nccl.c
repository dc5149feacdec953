/* runtime/cuda/nccl.c: see nccl.h. */
#include "runtime/cuda/nccl.h"
#include "support/library.h"

static Nccl nccl;
static LibraryOnce once = LIBRARY_ONCE;

Status nccl_failed(const Nccl *n, int code, const char *what)
{
	return FAIL(STATUS_DEVICE, "NCCL: cannot %s: %s (%d); NCCL_DEBUG=INFO tells more", what, n->error_text(code), code);
}

static Status load(void)
{
	static const char *const name[] = { "libnccl.so.2", "/usr/local/cuda/lib64/libnccl.so.2", NULL };
	Library l;
	const char *missing = NULL;
	Status s = library_open("PLINTH_LIBNCCL", name, RTLD_LOCAL, &l);
	if (s)
		return FAIL(STATUS_UNSUPPORTED, "several GPUs speak by NCCL, and it cannot be loaded (%s): libnccl2 of NVIDIA's repository, "
						"or `pip install nvidia-nccl-cu13` with PLINTH_LIBNCCL naming its libnccl.so.2", s->text);
	nccl.path = l.path;
	if (!library_find(&l, "ncclGetErrorString", &nccl.error_text))
		missing = "ncclGetErrorString";
#define F(field, name, arguments)                       \
	if (!library_find(&l, name, &nccl.field))       \
		missing = name;
	NCCL_FUNCTIONS(F)
#undef F
	if (missing)
		return FAIL(STATUS_UNSUPPORTED, "%s is too old: it has no %s; renew it (2.9 is the least)", nccl.path, missing);
	NC(&nccl, "ask for its version", nccl.version(&nccl.number));
	return OK;
}

Status nccl_library(const Nccl **out)
{
	*out = &nccl;
	return library_once(&once, load);
}

int nccl_dtype(PackageDtype dtype)
{
	static const i8 value[] = { [PACKAGE_B1] = -1, [PACKAGE_U8] = 1,  [PACKAGE_U32] = 3, [PACKAGE_I8] = 0,	[PACKAGE_I32] = 2,
				    [PACKAGE_I64] = 4, [PACKAGE_F8E4M3] = 10, [PACKAGE_F8E5M2] = 11, [PACKAGE_F16] = 6, [PACKAGE_BF16] = 9, [PACKAGE_F32] = 7, [PACKAGE_F64] = 8 };
	assert(value[dtype] >= 0);
	return value[dtype];
}

int nccl_reduce(PackageReduce how)
{
	static const u8 value[] = { [PACKAGE_SUM] = 0, [PACKAGE_MAX] = 2, [PACKAGE_MIN] = 3 };
	return value[how];
}
