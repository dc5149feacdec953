/* driver_device.c: the device and its context, errors and their names, entry points by name. */
#include "driver.h"
#include <dlfcn.h>
#include <pthread.h>

Context context;
_Thread_local Context *current_context;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void driver_lock(void)
{
	pthread_mutex_lock(&lock);
}

void driver_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

CUresult driver_check(void)
{
	if (!context.initialized)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!current_context)
		return CUDA_ERROR_INVALID_CONTEXT;
	return context.failed;
}

CUresult driver_fail(CUresult error, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(context.report, sizeof context.report, format, args);
	va_end(args);
	if (!settings()->quiet)
		fprintf(stderr, "plinth stand-in: %s\n", context.report);
	return error;
}

const char *standinLastReport(void)
{
	return context.report;
}

CUresult standinReport(CUresult error, const char *text)
{
	return driver_fail(error, "%s", text);
}

void standinForget(void)
{
	context.failed = CUDA_SUCCESS;
	context.report[0] = 0;
}

void standinReadSettings(void)
{
	settings_read();
}

CUresult cuInit(u32 flags)
{
	if (flags)
		return CUDA_ERROR_INVALID_VALUE;
	driver_lock();
	context.initialized = true;
	driver_unlock();
	return CUDA_SUCCESS;
}

#define INITIALIZED                                        \
	do {                                               \
		if (!context.initialized)                  \
			return CUDA_ERROR_NOT_INITIALIZED; \
	} while (0)
#define DEVICE_0(device)                                   \
	do {                                               \
		INITIALIZED;                               \
		if ((device) != 0)                         \
			return CUDA_ERROR_INVALID_DEVICE;  \
	} while (0)

CUresult cuDriverGetVersion(int *version)
{
	*version = (int)settings()->driver;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
	DEVICE_0(ordinal);
	*device = 0;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count)
{
	INITIALIZED;
	*count = 1;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int size, CUdevice device)
{
	DEVICE_0(device);
	if (size <= 0)
		return CUDA_ERROR_INVALID_VALUE;
	snprintf(name, (size_t)size, "Plinth stand-in (PTX on the CPU)");
	return CUDA_SUCCESS;
}

/* As an H100 SXM says. */
static const struct {
	int attribute, value;
} attributes[] = {
	{ 1, 1024 },        { 2, 1024 },       { 3, 1024 },     { 4, 64 },        { 5, 0x7fffffff }, { 6, 65535 },
	{ 7, 65535 },       { 8, 49152 },      { 9, 65536 },    { 10, 32 },       { 11, 0x7fffffff }, { 12, 65536 },
	{ 13, 1980000 },    { 14, 512 },       { 16, 132 },     { 18, 0 },        { 19, 1 },         { 20, 0 },
	{ 31, 1 },          { 32, 1 },         { 36, 2619000 }, { 37, 5120 },     { 38, 52428800 },  { 39, 2048 },
	{ 40, 3 },          { 41, 1 },         { 81, 233472 },  { 82, 65536 },    { 83, 0 },         { 89, 0 },
	{ 90, 1 },          { 95, 0 },         { 96, 0 },       { 97, 232448 },   { 106, 32 },       { 108, 32768000 },
	{ 111, 1024 },      { 115, 0 },        { 120, 0 },      { 127, 1 },       { 129, 0 },
};

CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device)
{
	DEVICE_0(device);
	*value = 0;
	if (attribute == 75 || attribute == 76) {
		*value = (int)(attribute == 75 ? settings()->cc / 10 : settings()->cc % 10);
		return CUDA_SUCCESS;
	}
	for (u32 i = 0; i < COUNT(attributes); i++)
		if (attributes[i].attribute == attribute) {
			*value = attributes[i].value;
			return CUDA_SUCCESS;
		}
	return attribute > 0 && attribute < 148 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device)
{
	DEVICE_0(device);
	*bytes = settings()->memory;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device)
{
	DEVICE_0(device);
	memcpy(uuid->bytes, "plinth stand-in ", 16);
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetPCIBusId(char *text, int size, CUdevice device)
{
	DEVICE_0(device);
	snprintf(text, (size_t)size, "0000:00:00.0");
	return CUDA_SUCCESS;
}

CUresult cuDeviceCanAccessPeer(int *can, CUdevice device, CUdevice peer)
{
	DEVICE_0(device);
	DEVICE_0(peer);
	*can = 0;
	return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *out, CUdevice device)
{
	DEVICE_0(device);
	driver_lock();
	context.retained++;
	driver_unlock();
	*out = &context;
	return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
	DEVICE_0(device);
	driver_lock();
	CUresult r = context.retained ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
	if (context.retained)
		context.retained--;
	driver_unlock();
	return r;
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice device)
{
	DEVICE_0(device);
	return CUDA_ERROR_NOT_SUPPORTED;
}

CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice device, u32 flags)
{
	(void)flags;
	DEVICE_0(device);
	return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, u32 *flags, int *active)
{
	DEVICE_0(device);
	*flags = 0;
	*active = context.retained > 0;
	return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext c)
{
	INITIALIZED;
	if (c && (c != &context || !context.retained))
		return CUDA_ERROR_INVALID_CONTEXT;
	current_context = c;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *c)
{
	INITIALIZED;
	*c = current_context;
	return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent_v2(CUcontext c)
{
	return cuCtxSetCurrent(c);
}

CUresult cuCtxPopCurrent_v2(CUcontext *c)
{
	INITIALIZED;
	if (c)
		*c = current_context;
	current_context = NULL;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device)
{
	INITIALIZED;
	*device = 0;
	return current_context ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest)
{
	if (least)
		*least = 0;
	if (greatest)
		*greatest = -5;
	return CUDA_SUCCESS;
}

static const struct {
	CUresult error;
	const char *name, *text;
} errors[] = {
	{ 0, "CUDA_SUCCESS", "no error" },
	{ 1, "CUDA_ERROR_INVALID_VALUE", "invalid argument" },
	{ 2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory" },
	{ 3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error" },
	{ 101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal" },
	{ 200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid" },
	{ 201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context" },
	{ 209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device" },
	{ 218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed" },
	{ 400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle" },
	{ 401, "CUDA_ERROR_ILLEGAL_STATE", "the operation cannot be performed in the present state" },
	{ 500, "CUDA_ERROR_NOT_FOUND", "named symbol not found" },
	{ 600, "CUDA_ERROR_NOT_READY", "device not ready" },
	{ 700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered" },
	{ 701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch" },
	{ 712, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED", "part or all of the requested memory range is already mapped" },
	{ 713, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED", "pointer does not correspond to a registered memory region" },
	{ 715, "CUDA_ERROR_ILLEGAL_INSTRUCTION", "an illegal instruction was encountered" },
	{ 716, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address" },
	{ 719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure" },
	{ 801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported" },
	{ 900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing" },
	{ 901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture" },
	{ 902, "CUDA_ERROR_STREAM_CAPTURE_MERGE", "operation would result in a merge of separate capture sequences" },
	{ 903, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "capture was not ended in the same stream as it began" },
	{ 904, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work" },
	{ 905, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "dependency created on uncaptured work in another stream" },
	{ 907, "CUDA_ERROR_CAPTURED_EVENT", "operation not permitted on an event last recorded in a capturing stream" },
};

CUresult cuGetErrorName(CUresult error, const char **name)
{
	*name = NULL;
	for (u32 i = 0; i < COUNT(errors); i++)
		if (errors[i].error == error)
			*name = errors[i].name;
	return *name ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult error, const char **text)
{
	*text = NULL;
	for (u32 i = 0; i < COUNT(errors); i++)
		if (errors[i].error == error)
			*text = errors[i].text;
	return *text ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* The newest version of a name, in this library alone. */
CUresult cuGetProcAddress_v2(const char *symbol, void **function, int version, u64 flags, int *status)
{
	static const char *const suffixes[] = { "_v3", "_v2", "" };
	(void)version;
	(void)flags;
	*function = NULL;
	Dl_info here;
	void *self = dladdr((void *)(uintptr_t)cuInit, &here) ? dlopen(here.dli_fname, RTLD_NOW | RTLD_NOLOAD) : NULL;
	for (u32 i = 0; self && !*function && i < COUNT(suffixes); i++) {
		char name[128];
		snprintf(name, sizeof name, "%s%s", symbol, suffixes[i]);
		*function = dlsym(self, name);
	}
	if (self)
		dlclose(self);
	if (status)
		*status = *function ? 0 : 1;
	return *function ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

CUresult cuGetProcAddress(const char *symbol, void **function, int version, u64 flags)
{
	return cuGetProcAddress_v2(symbol, function, version, flags, NULL);
}

/* Tables that only NVIDIA's own libraries use. */
CUresult cuGetExportTable(const void **table, const CUuuid *id)
{
	(void)id;
	*table = NULL;
	return CUDA_ERROR_NOT_FOUND;
}
