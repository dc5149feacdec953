/* runtime/cuda/driver.h: NVIDIA's driver, libcuda.so.1, loaded at run time by a list of symbols: no toolkit is
 * needed to build, and a machine without the driver is told so. Prototypes are our own.
 *
 * Where a function has several versions, the newest one with the signature used here is taken, then older ones. */
#ifndef PL_CUDA_DRIVER_H
#define PL_CUDA_DRIVER_H
#include "support/status.h"

typedef u64 CudaAddress;
typedef struct CudaContext CudaContext;
typedef struct CudaModule CudaModule;
typedef struct CudaFunction CudaFunction;
typedef struct CudaStream CudaStream;
typedef struct CudaEvent CudaEvent;
typedef struct CudaGraph CudaGraph;
typedef struct CudaGraphRun CudaGraphRun;

/* CUtensorMap: opaque, passed to kernels by value. */
typedef struct CudaMap {
	_Alignas(64) u8 bytes[128];
} CudaMap;

typedef struct CudaLaunchAttribute {
	u32 id, pad;
	union {
		u8 bytes[64];
		u32 cluster[3];
	} value;
} CudaLaunchAttribute;

typedef struct CudaLaunchConfig {
	u32 grid[3], block[3], shared;
	CudaStream *stream;
	CudaLaunchAttribute *attribute;
	u32 nattribute;
} CudaLaunchConfig;
_Static_assert(sizeof(CudaLaunchAttribute) == 72 && sizeof(CudaLaunchConfig) == 56, "as in cuda.h");

/* CUDA_MEMCPY2D: rows of `width` bytes, `pitch` bytes from one to the next. */
typedef struct CudaCopy2D {
	size_t from_x, from_y;
	u32 from_kind;
	const void *from_host;
	CudaAddress from;
	void *from_array;
	size_t from_pitch;
	size_t to_x, to_y;
	u32 to_kind;
	void *to_host;
	CudaAddress to;
	void *to_array;
	size_t to_pitch;
	size_t width, height;
} CudaCopy2D;
_Static_assert(sizeof(CudaCopy2D) == 128, "as in cuda.h");

/* Values of cuda.h that are used. */
enum {
	CUDA_MEMORY_DEVICE = 2,
	CUDA_NOT_READY = 600,
	CUDA_OUT_OF_MEMORY = 2,
	CUDA_STUB_LIBRARY = 34,
	CUDA_NO_DEVICE = 100,
	CUDA_INVALID_IMAGE = 200,
	CUDA_NO_BINARY = 209,
	CUDA_INVALID_PTX = 218,
	CUDA_UNSUPPORTED_PTX = 222,

	CUDA_ATTRIBUTE_MULTIPROCESSORS = 16,
	CUDA_ATTRIBUTE_MAJOR = 75,
	CUDA_ATTRIBUTE_MINOR = 76,
	CUDA_ATTRIBUTE_SHARED_PER_MULTIPROCESSOR = 81,
	CUDA_ATTRIBUTE_SHARED_PER_BLOCK = 97, /* opt-in */

	CUDA_FUNCTION_SHARED = 8,    /* most dynamic shared memory of a launch */
	CUDA_LAUNCH_CLUSTER = 4,
	CUDA_STREAM_APART = 1,       /* does not wait for the default stream */
	CUDA_EVENT_UNTIMED = 2,
	CUDA_CAPTURE_RELAXED = 2
};

/* field, newest symbol, older symbol or NULL, arguments */
#define CUDA_DRIVER_FUNCTIONS(F)                                                                                      \
	F(init, "cuInit", NULL, (unsigned flags))                                                                     \
	F(version, "cuDriverGetVersion", NULL, (int *out))                                                            \
	F(device_count, "cuDeviceGetCount", NULL, (int *out))                                                         \
	F(device_get, "cuDeviceGet", NULL, (int *out, int index))                                                     \
	F(device_name, "cuDeviceGetName", NULL, (char *out, int size, int device))                                    \
	F(device_memory, "cuDeviceTotalMem_v2", NULL, (size_t *out, int device))                                      \
	F(device_attribute, "cuDeviceGetAttribute", NULL, (int *out, int attribute, int device))                      \
	F(context_retain, "cuDevicePrimaryCtxRetain", NULL, (CudaContext **out, int device))                          \
	F(context_release, "cuDevicePrimaryCtxRelease_v2", "cuDevicePrimaryCtxRelease", (int device))                 \
	F(context_set, "cuCtxSetCurrent", NULL, (CudaContext *c))                                                     \
	F(memory_info, "cuMemGetInfo_v2", NULL, (size_t *free, size_t *total))                                        \
	F(allocate, "cuMemAlloc_v2", NULL, (CudaAddress *out, size_t bytes))                                          \
	F(release, "cuMemFree_v2", NULL, (CudaAddress p))                                                             \
	F(allocate_host, "cuMemAllocHost_v2", NULL, (void **out, size_t bytes))                                       \
	F(release_host, "cuMemFreeHost", NULL, (void *p))                                                             \
	F(to_device, "cuMemcpyHtoDAsync_v2", NULL, (CudaAddress to, const void *from, size_t bytes, CudaStream *s))   \
	F(to_host, "cuMemcpyDtoHAsync_v2", NULL, (void *to, CudaAddress from, size_t bytes, CudaStream *s))           \
	F(on_device, "cuMemcpyDtoDAsync_v2", NULL, (CudaAddress to, CudaAddress from, size_t bytes, CudaStream *s))   \
	F(copy_rows, "cuMemcpy2DAsync_v2", NULL, (const CudaCopy2D *copy, CudaStream *s))                             \
	F(fill, "cuMemsetD8Async", NULL, (CudaAddress to, unsigned char value, size_t bytes, CudaStream *s))          \
	F(module_load, "cuModuleLoadData", NULL, (CudaModule **out, const void *image))                               \
	F(module_unload, "cuModuleUnload", NULL, (CudaModule *m))                                                     \
	F(module_function, "cuModuleGetFunction", NULL, (CudaFunction **out, CudaModule *m, const char *name))        \
	F(function_set, "cuFuncSetAttribute", NULL, (CudaFunction *f, int attribute, int value))                      \
	F(launch, "cuLaunchKernelEx", NULL, (const CudaLaunchConfig *c, CudaFunction *f, void **parameter, void **extra)) \
	F(map_encode, "cuTensorMapEncodeTiled", NULL, /* NULL before 12.0 */                                         \
	  (CudaMap *out, int dtype, u32 rank, void *address, const u64 *extent, const u64 *stride_bytes,             \
	   const u32 *box, const u32 *element_stride, int interleave, int swizzle, int l2, int fill))                 \
	F(stream_create, "cuStreamCreate", NULL, (CudaStream **out, unsigned flags))                                  \
	F(stream_destroy, "cuStreamDestroy_v2", NULL, (CudaStream *s))                                                \
	F(stream_synchronize, "cuStreamSynchronize", NULL, (CudaStream *s))                                           \
	F(stream_query, "cuStreamQuery", NULL, (CudaStream *s))                                                       \
	F(stream_wait, "cuStreamWaitEvent", NULL, (CudaStream *s, CudaEvent *e, unsigned flags))                      \
	F(event_create, "cuEventCreate", NULL, (CudaEvent **out, unsigned flags))                                     \
	F(event_destroy, "cuEventDestroy_v2", NULL, (CudaEvent *e))                                                   \
	F(event_record, "cuEventRecord", NULL, (CudaEvent *e, CudaStream *s))                                         \
	F(event_synchronize, "cuEventSynchronize", NULL, (CudaEvent *e))                                              \
	F(event_query, "cuEventQuery", NULL, (CudaEvent *e))                                                          \
	F(event_elapsed, "cuEventElapsedTime_v2", "cuEventElapsedTime", (f32 *milliseconds, CudaEvent *from, CudaEvent *to)) \
	F(capture_begin, "cuStreamBeginCapture_v2", NULL, (CudaStream *s, int mode))                                  \
	F(capture_end, "cuStreamEndCapture", NULL, (CudaStream *s, CudaGraph **out))                                  \
	F(graph_instantiate, "cuGraphInstantiateWithFlags", NULL, (CudaGraphRun **out, CudaGraph *g, unsigned long long flags)) \
	F(graph_destroy, "cuGraphDestroy", NULL, (CudaGraph *g))                                                      \
	F(graph_launch, "cuGraphLaunch", NULL, (CudaGraphRun *r, CudaStream *s))                                      \
	F(graph_release, "cuGraphExecDestroy", NULL, (CudaGraphRun *r))                                               \
	F(error_name, "cuGetErrorName", NULL, (int code, const char **out))                                           \
	F(error_text, "cuGetErrorString", NULL, (int code, const char **out))

typedef struct CudaDriver {
	int number;       /* 12080 is 12.8 */
	const char *path; /* what was loaded */
#define F(field, newest, older, arguments) int(*field) arguments;
	CUDA_DRIVER_FUNCTIONS(F)
#undef F
} CudaDriver;

/* Loads and initializes it, once in a process: libcuda.so.1, or the file that PLINTH_LIBCUDA names. */
PL_MUST_USE Status cuda_driver(const CudaDriver **out);

/* What `code` means, after "cannot <what>". */
PL_MUST_USE Status cuda_failed(const CudaDriver *d, int code, const char *what);

/* TRY for driver calls: CU(d, "load the kernels of x", d->module_load(...)). */
#define CU(d, what, call)                                  \
	do {                                               \
		int code_ = (call);                        \
		if (code_)                                 \
			return cuda_failed((d), code_, (what)); \
	} while (0)

#endif
