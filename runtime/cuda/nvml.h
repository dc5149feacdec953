/* runtime/cuda/nvml.h: a GPU's clocks, power and temperature while it works, beside the times that depend on them.
 * NVIDIA's management library (libnvidia-ml.so.1, part of the driver) is loaded at run time; without it there is
 * nothing to say, and everything else works. */
#ifndef PL_NVML_H
#define PL_NVML_H
#include "support/arena.h"
#include "support/status.h"

typedef struct GpuSample {
	f64 sm_mhz, memory_mhz, watts, celsius; /* 0: the GPU does not tell */
} GpuSample;

/* Why clocks were held back; bits of GpuWatch.reasons. */
enum {
	GPU_HELD_POWER = 0x4 | 0x80,          /* the power limit, in software or hardware */
	GPU_HELD_HEAT = 0x20 | 0x40,          /* temperature */
	GPU_HELD_SLOWDOWN = 0x8               /* an external brake, or both of the above in hardware */
};

typedef struct GpuWatch GpuWatch;

/* The GPU that has this name, the index-th that NVML knows: of several GPUs the driver and NVML may number another way,
 * and then another's clocks are not shown for its own. STATUS_UNSUPPORTED: there is no NVML, or no such GPU. */
PL_MUST_USE Status gpu_watch_open(u32 index, const char *name, GpuWatch **out);
/* NULL is fine. */
void gpu_watch_close(GpuWatch *w);

/* Between the two, a thread takes a sample each few milliseconds, and one at the end. */
void gpu_watch_begin(GpuWatch *w);
void gpu_watch_end(GpuWatch *w);

/* All samples so far. */
u32 gpu_watch_samples(const GpuWatch *w, const GpuSample **out);
/* Reasons for lower clocks that any of them saw. */
u64 gpu_watch_reasons(GpuWatch *w);
/* The highest the SM clock goes, MHz, and the power limit, watts; 0: unknown. */
f64 gpu_watch_most_mhz(const GpuWatch *w);
f64 gpu_watch_limit_watts(const GpuWatch *w);

#endif
