/* cuda_abi.h: the part of the CUDA driver's binary interface that the stand-in offers: types of the same
 * size and prototypes of the same names as in CUDA 13's libcuda.so.1, declared anew so that nothing of
 * the toolkit is needed to build. */
#ifndef STANDIN_CUDA_ABI_H
#define STANDIN_CUDA_ABI_H
#include "support/base.h"

typedef int CUresult;
typedef int CUdevice;
typedef u64 CUdeviceptr;
typedef struct Context *CUcontext;
typedef struct LoadedModule *CUmodule;
typedef struct LoadedFunction *CUfunction;
typedef struct Stream *CUstream;
typedef struct Event *CUevent;
typedef struct Graph *CUgraph;
typedef struct GraphExec *CUgraphExec;
typedef struct GraphNode *CUgraphNode;

enum {
	CUDA_SUCCESS = 0,
	CUDA_ERROR_INVALID_VALUE = 1,
	CUDA_ERROR_OUT_OF_MEMORY = 2,
	CUDA_ERROR_NOT_INITIALIZED = 3,
	CUDA_ERROR_INVALID_DEVICE = 101,
	CUDA_ERROR_INVALID_IMAGE = 200,
	CUDA_ERROR_INVALID_CONTEXT = 201,
	CUDA_ERROR_NO_BINARY_FOR_GPU = 209,
	CUDA_ERROR_INVALID_PTX = 218,
	CUDA_ERROR_INVALID_HANDLE = 400,
	CUDA_ERROR_ILLEGAL_STATE = 401,
	CUDA_ERROR_NOT_FOUND = 500,
	CUDA_ERROR_NOT_READY = 600,
	CUDA_ERROR_ILLEGAL_ADDRESS = 700,
	CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES = 701,
	CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED = 712,
	CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED = 713,
	CUDA_ERROR_ILLEGAL_INSTRUCTION = 715,
	CUDA_ERROR_MISALIGNED_ADDRESS = 716,
	CUDA_ERROR_LAUNCH_FAILED = 719,
	CUDA_ERROR_NOT_SUPPORTED = 801,
	CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900,
	CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901,
	CUDA_ERROR_STREAM_CAPTURE_MERGE = 902,
	CUDA_ERROR_STREAM_CAPTURE_UNMATCHED = 903,
	CUDA_ERROR_STREAM_CAPTURE_UNJOINED = 904,
	CUDA_ERROR_STREAM_CAPTURE_ISOLATION = 905,
	CUDA_ERROR_CAPTURED_EVENT = 907
};

typedef struct CUlaunchAttribute {
	int id;
	u8 pad[4];
	union {
		u8 bytes[64];
		u32 dimensions[3];
		int flag;
	} value;
} CUlaunchAttribute;

typedef struct CUlaunchConfig {
	u32 grid[3], block[3];
	u32 shared_bytes;
	CUstream stream;
	CUlaunchAttribute *attributes;
	u32 nattributes;
} CUlaunchConfig;

typedef struct CUtensorMap {
	_Alignas(64) u64 opaque[16];
} CUtensorMap;

typedef struct CUmemcpy2D {
	size_t from_x, from_y;
	u32 from_kind;
	const void *from_host;
	CUdeviceptr from;
	void *from_array;
	size_t from_pitch;
	size_t to_x, to_y;
	u32 to_kind;
	void *to_host;
	CUdeviceptr to;
	void *to_array;
	size_t to_pitch;
	size_t width, height;
} CUmemcpy2D;

typedef struct CUuuid {
	u8 bytes[16];
} CUuuid;

typedef void (*CUhostFn)(void *data);
#define CU_LAUNCH_PARAM_END            ((void *)0)
#define CU_LAUNCH_PARAM_BUFFER_POINTER ((void *)1)
#define CU_LAUNCH_PARAM_BUFFER_SIZE    ((void *)2)

#define API __attribute__((visibility("default")))

API CUresult cuInit(u32 flags);
API CUresult cuDriverGetVersion(int *version);
API CUresult cuDeviceGet(CUdevice *device, int ordinal);
API CUresult cuDeviceGetCount(int *count);
API CUresult cuDeviceGetName(char *name, int size, CUdevice device);
API CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device);
API CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device);
API CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device);
API CUresult cuDeviceGetPCIBusId(char *text, int size, CUdevice device);
API CUresult cuDeviceCanAccessPeer(int *can, CUdevice device, CUdevice peer);
API CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device);
API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device);
API CUresult cuDevicePrimaryCtxReset_v2(CUdevice device);
API CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice device, u32 flags);
API CUresult cuDevicePrimaryCtxGetState(CUdevice device, u32 *flags, int *active);
API CUresult cuCtxSetCurrent(CUcontext context);
API CUresult cuCtxGetCurrent(CUcontext *context);
API CUresult cuCtxPushCurrent_v2(CUcontext context);
API CUresult cuCtxPopCurrent_v2(CUcontext *context);
API CUresult cuCtxGetDevice(CUdevice *device);
API CUresult cuCtxSynchronize(void);
API CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest);
API CUresult cuGetErrorName(CUresult error, const char **name);
API CUresult cuGetErrorString(CUresult error, const char **text);
API CUresult cuGetProcAddress_v2(const char *symbol, void **function, int version, u64 flags, int *status);
API CUresult cuGetProcAddress(const char *symbol, void **function, int version, u64 flags);
API CUresult cuGetExportTable(const void **table, const CUuuid *id);

API CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t bytes);
API CUresult cuMemFree_v2(CUdeviceptr pointer);
API CUresult cuMemAllocAsync(CUdeviceptr *pointer, size_t bytes, CUstream stream);
API CUresult cuMemFreeAsync(CUdeviceptr pointer, CUstream stream);
API CUresult cuMemGetInfo_v2(size_t *available, size_t *total);
API CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *size, CUdeviceptr pointer);
API CUresult cuMemAllocHost_v2(void **pointer, size_t bytes);
API CUresult cuMemHostAlloc(void **pointer, size_t bytes, u32 flags);
API CUresult cuMemFreeHost(void *pointer);
API CUresult cuMemHostRegister_v2(void *pointer, size_t bytes, u32 flags);
API CUresult cuMemHostUnregister(void *pointer);
API CUresult cuPointerGetAttribute(void *data, int attribute, CUdeviceptr pointer);
API CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes);
API CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes);
API CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes);
API CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes);
API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream);
API CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream);
API CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream);
API CUresult cuMemcpy2DAsync_v2(const CUmemcpy2D *copy, CUstream stream);
API CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream);
API CUresult cuMemsetD8_v2(CUdeviceptr to, u8 value, size_t count);
API CUresult cuMemsetD16_v2(CUdeviceptr to, u16 value, size_t count);
API CUresult cuMemsetD32_v2(CUdeviceptr to, u32 value, size_t count);
API CUresult cuMemsetD8Async(CUdeviceptr to, u8 value, size_t count, CUstream stream);
API CUresult cuMemsetD16Async(CUdeviceptr to, u16 value, size_t count, CUstream stream);
API CUresult cuMemsetD32Async(CUdeviceptr to, u32 value, size_t count, CUstream stream);

API CUresult cuModuleLoadData(CUmodule *module, const void *image);
API CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, u32 noptions, int *options, void **values);
API CUresult cuModuleUnload(CUmodule module);
API CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name);
API CUresult cuModuleGetFunctionCount(u32 *count, CUmodule module);
API CUresult cuModuleGetGlobal_v2(CUdeviceptr *pointer, size_t *bytes, CUmodule module, const char *name);
API CUresult cuModuleGetLoadingMode(int *mode);
API CUresult cuFuncGetAttribute(int *value, int attribute, CUfunction function);
API CUresult cuFuncSetAttribute(CUfunction function, int attribute, int value);
API CUresult cuFuncSetCacheConfig(CUfunction function, int config);
API CUresult cuFuncGetParamInfo(CUfunction function, size_t index, size_t *offset, size_t *size);
API CUresult cuFuncGetName(const char **name, CUfunction function);
API CUresult cuFuncLoad(CUfunction function);
API CUresult cuLaunchKernel(CUfunction function, u32 gx, u32 gy, u32 gz, u32 bx, u32 by, u32 bz, u32 shared_bytes,
			    CUstream stream, void **params, void **extra);
API CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **params, void **extra);
API CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void *data);
API CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function, int threads, size_t shared);
API CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, CUfunction function, int threads,
								  size_t shared, u32 flags);

API CUresult cuStreamCreate(CUstream *stream, u32 flags);
API CUresult cuStreamCreateWithPriority(CUstream *stream, u32 flags, int priority);
API CUresult cuStreamDestroy_v2(CUstream stream);
API CUresult cuStreamSynchronize(CUstream stream);
API CUresult cuStreamQuery(CUstream stream);
API CUresult cuStreamWaitEvent(CUstream stream, CUevent event, u32 flags);
API CUresult cuStreamBeginCapture_v2(CUstream stream, int mode);
API CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph);
API CUresult cuStreamIsCapturing(CUstream stream, int *status);
API CUresult cuThreadExchangeStreamCaptureMode(int *mode);
API CUresult cuEventCreate(CUevent *event, u32 flags);
API CUresult cuEventDestroy_v2(CUevent event);
API CUresult cuEventRecord(CUevent event, CUstream stream);
API CUresult cuEventRecordWithFlags(CUevent event, CUstream stream, u32 flags);
API CUresult cuEventQuery(CUevent event);
API CUresult cuEventSynchronize(CUevent event);
API CUresult cuEventElapsedTime(float *milliseconds, CUevent from, CUevent to);
API CUresult cuEventElapsedTime_v2(float *milliseconds, CUevent from, CUevent to);
API CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, u64 flags);
API CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream);
API CUresult cuGraphUpload(CUgraphExec exec, CUstream stream);
API CUresult cuGraphDestroy(CUgraph graph);
API CUresult cuGraphExecDestroy(CUgraphExec exec);
API CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *nodes, size_t *count);

API CUresult cuTensorMapEncodeTiled(CUtensorMap *map, int type, u32 rank, void *base, const u64 *size, const u64 *stride,
				    const u32 *box, const u32 *step, int interleave, int swizzle, int promotion, int fill);

/* Not of CUDA: what the stand-in's own tests and its cuBLASLt ask. */
/* What the last failed launch or load reported; "" if none has. */
API const char *standinLastReport(void);
/* Says what went wrong in enqueued work; gives the error. */
API CUresult standinReport(CUresult error, const char *text);
/* Forgets a failed launch: the context can be used again. */
API void standinForget(void);
/* Reads PLINTH_STANDIN anew. */
API void standinReadSettings(void);
/* Enqueues host work that may touch device memory, through standinHostPointer; `release` frees data. */
API CUresult standinEnqueue(CUstream stream, CUresult (*function)(void *data), void *data, void (*release)(void *data));
/* The same for what another process may wait for, and that waits for nobody. */
API CUresult standinEnqueuePost(CUstream stream, CUresult (*function)(void *data), void *data, void (*release)(void *data));
/* For work that is about to wait for another process: a GPU's streams would go on meanwhile. Does what others may wait for. */
API void standinPost(void);
/* Where `bytes` bytes of device memory can be touched by such work; NULL if they are not allocated. */
API void *standinHostPointer(CUdeviceptr pointer, size_t bytes);
#endif
