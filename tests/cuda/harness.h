/* harness.h: for the tests of the stand-in: NVRTC loaded at run time, a context, launches that fail the
 * test where they should not. */
#ifndef CUDA_HARNESS_H
#define CUDA_HARNESS_H
#include "tests/cuda/driver/cuda_abi.h"
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CU(call) assert_int_equal((call), CUDA_SUCCESS)

/* CUDA C++ to PTX for `arch` ("compute_90a"); the test is skipped, and says so, where NVRTC is not
 * installed. The caller frees. */
char *nvrtc_ptx(const char *source, const char *arch);
bool nvrtc_present(void);

/* PLINTH_STANDIN, and a context without a failed launch. */
void standin_set(const char *settings);
/* A group's setup: initializes the driver. */
int standin_setup(void **state);

/* A PTX kernel's text around a body: parameters are three u64: p0, p1, p2. */
char *ptx_kernel(const char *declarations, const char *body);

CUfunction load_function(const char *ptx, const char *name, CUmodule *module);
CUdeviceptr device_copy(const void *bytes, size_t n);
/* Runs a kernel of parameters that are all of 8 bytes, waits, gives the result. */
CUresult run_kernel(CUfunction f, u32 blocks, u32 threads, u32 shared, const u64 *params, u32 nparams);

/* As wide as these bits and a sign make it. */
typedef struct FloatFormat {
	u32 exponent, fraction;
} FloatFormat;
static const FloatFormat format_f32 = { 8, 23 }, format_bf16 = { 8, 7 }, format_f16 = { 5, 10 }, format_e4m3 = { 4, 3 }, format_e5m2 = { 5, 2 };
/* Of an integer that the format holds exactly. */
u32 bits_of_integer(FloatFormat format, i32 v);

static inline u32 test_random(u32 *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}
static inline f32 test_uniform(u32 *state) /* in (-1, 1) */
{
	return (f32)test_random(state) / 8388608.0f - 1.0f;
}
#endif
