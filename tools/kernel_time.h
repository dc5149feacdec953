/* tools/kernel_time.h: small programs timed on a device: what peaks (tools/peak.h) and calibration (tools/calibrate.h)
 * are measured with. */
#ifndef PL_KERNEL_TIME_H
#define PL_KERNEL_TIME_H
#include "runtime/executor.h"
#include "tools/driver.h"

/* A program that is compiled, with numbers in its inputs, to be run again and again. */
typedef struct Timed {
	Compiled compiled;
	Executor *executor;
} Timed;
PL_MUST_USE Status timed_open(Arena *a, const Program *p, const DriverOptions *driver, const DeviceOptions *device, Timed *out);
/* Its first entry, once: seconds of all launches together. */
PL_MUST_USE Status timed_run(const Timed *t, f64 *seconds);
void timed_close(Timed *t);

/* Of the program's first entry, all its launches together. */
typedef struct KernelTime {
	f64 seconds; /* the least of the rounds */
	f64 median;
	f64 waited;  /* share of the time in which some thread waited for a core that others had (support/run_queue.h) */
	f64 flops, effort, costly, bytes;
} KernelTime;

/* Compiles the program, gives its inputs numbers with random digits (power depends on how many bits change), runs it
 * at least `rounds` times, and for a tenth of a second, after one that warms up. Rounds in which no thread waited for its core
 * count alone. Where there are hardly any, kernels are looked at one by one, so that any that takes less than others' turns does is seen
 * by itself; of what takes longer what was waited is left out, and told. */
PL_MUST_USE Status kernel_time(const Program *p, const DriverOptions *driver, const DeviceOptions *device, u32 rounds, KernelTime *out);
/* The same of each of its `n` kernels, in the order of the plan: whatever disturbs one disturbs all. */
PL_MUST_USE Status kernel_times(const Program *p, u32 n, const DriverOptions *driver, const DeviceOptions *device, u32 rounds, KernelTime *out);

/* Programs of one entry, in `a`. */
const Program *program_product(Arena *a, i64 m, i64 n, i64 k, DType dtype, bool turned); /* a[m, k] b[k, n]; turned: a[k, m] */
const Program *program_stream(Arena *a, i64 n);                           /* n sums of two f32 */
/* As a step has them: `count` of them, each with operands of its own, so that caches hold what they would in a step. Products are by
 * turns of 4 n rows with n x n weights, and the gradient of such weights. */
const Program *program_products(Arena *a, i64 n, u32 count, DType dtype);
const Program *program_streams(Arena *a, i64 n, u32 count);
const Program *program_small(Arena *a, u32 count); /* sums of exponentials of few numbers, each times another: each has code of its own */
const Program *program_gelu(Arena *a, i64 n);                             /* of n f32, by tanh */
/* Likewise `count`: causal, f32 or narrower, of `heads` heads of so many features over n positions, which lie as one product of all three gives
 * them, position by position; its derivative. */
const Program *program_attention(Arena *a, u32 count, i64 heads, i64 n, i64 features, DType dtype, bool derivative);
const Program *program_update(Arena *a, i64 n, u32 times);                /* of n parameters, by Adam, so many times one behind the other */
/* Images with rows of n - 2, scaled channel by channel and activated, with an edge of zeros: rows of n. */
const Program *program_rows(Arena *a, i64 images, i64 n);
const Program *program_norm(Arena *a, i64 rows, i64 n);                   /* of rows of n f32, each less its mean and by its deviation, with gain and bias */
/* Two convolutions of f32 images of rows of n in and out, 3 x 3 windows, with no edge, to so many channels: the products alone. */
const Program *program_windows(Arena *a, i64 images, i64 in, const i64 out[2], i64 n);
/* n rows of so many f32, added to a table of as many where an index says. */
const Program *program_scatter(Arena *a, i64 n, i64 wide);
/* One device's part: the sum of n f32 over `parts` devices, in place as gradients' are, and `count` products of program_products beside it; n = 0: these alone. */
const Program *program_all_reduce(Arena *a, u32 parts, i64 n, i64 size, u32 count);

#endif
