/* runtime/cuda/nvml.c: see nvml.h. The prototypes are those of NVML 12 and 13, which the driver keeps stable. */
#include "runtime/cuda/nvml.h"
#include "support/library.h"
#include "support/vec.h"

#include <string.h>
#include <time.h>

typedef struct NvmlDevice *NvmlHandle;
enum { NVML_SUCCESS = 0, NVML_CLOCK_SM = 1, NVML_CLOCK_MEMORY = 2, NVML_TEMPERATURE_GPU = 0 };

enum { EVERY_MS = 10, MOST_SAMPLES = 1 << 16 };

struct GpuWatch {
	Library library;
	NvmlHandle device;
	int (*shutdown)(void);
	int (*clock)(NvmlHandle, int kind, unsigned *mhz);
	int (*most_clock)(NvmlHandle, int kind, unsigned *mhz);
	int (*power)(NvmlHandle, unsigned *milliwatts);
	int (*limit)(NvmlHandle, unsigned *milliwatts);
	int (*temperature)(NvmlHandle, int sensor, unsigned *celsius);
	int (*reasons)(NvmlHandle, unsigned long long *bits);
	Arena memory;
	VEC(GpuSample) sample;
	u64 held;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool watching;
};

static Status find_device(GpuWatch *w, u32 index, const char *name)
{
	int (*init)(void), (*by_index)(unsigned, NvmlHandle *), (*name_of)(NvmlHandle, char *, unsigned);
	if (!library_find(&w->library, "nvmlInit_v2", &init) || !library_find(&w->library, "nvmlDeviceGetHandleByIndex_v2", &by_index) ||
	    !library_find(&w->library, "nvmlDeviceGetName", &name_of) || !library_find(&w->library, "nvmlShutdown", &w->shutdown))
		return FAIL(STATUS_UNSUPPORTED, "libnvidia-ml.so.1 lacks functions that it should have");
	int code = init();
	if (code != NVML_SUCCESS) {
		w->shutdown = NULL;
		return FAIL(STATUS_UNSUPPORTED, "NVML does not start (error %d)", code);
	}
	char found[256] = "";
	if (by_index(index, &w->device) != NVML_SUCCESS || name_of(w->device, found, sizeof found) != NVML_SUCCESS)
		return FAIL(STATUS_UNSUPPORTED, "NVML knows no GPU %u", index);
	if (strcmp(found, name))
		return FAIL(STATUS_UNSUPPORTED, "NVML's GPU %u is '%s', not '%s'", index, found, name);
	return OK;
}

Status gpu_watch_open(u32 index, const char *name, GpuWatch **out)
{
	static const char *const file[] = { "libnvidia-ml.so.1", NULL };
	Library library;
	TRY(status_context(library_open("PLINTH_LIBNVML", file, RTLD_LOCAL, &library), "NVML cannot be loaded"));
	Arena memory = ARENA("gpu_watch");
	GpuWatch *w = NEW(&memory, GpuWatch);
	w->library = library;
	w->memory = memory;
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&w->wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	Status s = find_device(w, index, name);
	if (s) {
		gpu_watch_close(w);
		return s;
	}
	/* each of these may be missing, and then says nothing */
	library_find(&w->library, "nvmlDeviceGetClockInfo", &w->clock);
	library_find(&w->library, "nvmlDeviceGetMaxClockInfo", &w->most_clock);
	library_find(&w->library, "nvmlDeviceGetPowerUsage", &w->power);
	library_find(&w->library, "nvmlDeviceGetEnforcedPowerLimit", &w->limit);
	library_find(&w->library, "nvmlDeviceGetTemperature", &w->temperature);
	if (!library_find(&w->library, "nvmlDeviceGetCurrentClocksEventReasons", &w->reasons))
		library_find(&w->library, "nvmlDeviceGetCurrentClocksThrottleReasons", &w->reasons); /* its name in older drivers */
	*out = w;
	return OK;
}

void gpu_watch_close(GpuWatch *w)
{
	if (!w)
		return;
	gpu_watch_end(w);
	if (w->shutdown)
		w->shutdown();
	pthread_cond_destroy(&w->wake);
	pthread_mutex_destroy(&w->lock);
	Arena memory = w->memory;
	arena_free(&memory);
}

/* ---- samples ---- */

static void take(GpuWatch *w)
{
	GpuSample s = { 0 };
	unsigned x;
	unsigned long long bits;
	if (w->clock && w->clock(w->device, NVML_CLOCK_SM, &x) == NVML_SUCCESS)
		s.sm_mhz = x;
	if (w->clock && w->clock(w->device, NVML_CLOCK_MEMORY, &x) == NVML_SUCCESS)
		s.memory_mhz = x;
	if (w->power && w->power(w->device, &x) == NVML_SUCCESS)
		s.watts = x * 1e-3;
	if (w->temperature && w->temperature(w->device, NVML_TEMPERATURE_GPU, &x) == NVML_SUCCESS)
		s.celsius = x;
	if (w->reasons && w->reasons(w->device, &bits) == NVML_SUCCESS)
		w->held |= bits;
	if (w->sample.n < MOST_SAMPLES)
		VEC_PUSH(&w->memory, &w->sample, s);
}

static void *watch(void *argument)
{
	GpuWatch *w = argument;
	pthread_mutex_lock(&w->lock);
	do {
		struct timespec until;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += EVERY_MS * 1000000L;
		until.tv_sec += until.tv_nsec / 1000000000L;
		until.tv_nsec %= 1000000000L;
		/* the first sample comes after a while, when the clocks have risen */
		if (w->watching)
			pthread_cond_timedwait(&w->wake, &w->lock, &until);
		take(w);
	} while (w->watching);
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

void gpu_watch_begin(GpuWatch *w)
{
	if (!w || w->watching)
		return;
	w->watching = true;
	if (pthread_create(&w->thread, NULL, watch, w) != 0)
		w->watching = false;
}

void gpu_watch_end(GpuWatch *w)
{
	if (!w || !w->watching)
		return;
	pthread_mutex_lock(&w->lock);
	w->watching = false;
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
}

u32 gpu_watch_samples(const GpuWatch *w, const GpuSample **out)
{
	*out = w->sample.v;
	return w->sample.n;
}

u64 gpu_watch_reasons(GpuWatch *w)
{
	pthread_mutex_lock(&w->lock);
	u64 held = w->held;
	pthread_mutex_unlock(&w->lock);
	return held;
}

f64 gpu_watch_most_mhz(const GpuWatch *w)
{
	unsigned x;
	return w->most_clock && w->most_clock(w->device, NVML_CLOCK_SM, &x) == NVML_SUCCESS ? x : 0;
}

f64 gpu_watch_limit_watts(const GpuWatch *w)
{
	unsigned x;
	return w->limit && w->limit(w->device, &x) == NVML_SUCCESS ? x * 1e-3 : 0;
}
