/* codegen/cuda/target.h: NVIDIA GPUs as a target: what passes may ask of it (ir/target.h), and a plan's kernels
 * as CUDA C, PTX and machine code. Nothing here needs a GPU or a driver; NVRTC, which compiles, is loaded at run
 * time (nvrtc.h). */
#ifndef PL_CUDA_TARGET_H
#define PL_CUDA_TARGET_H
#include "codegen/cuda/kernels.h"
#include "codegen/package.h"
#include "ir/plan.h"
#include "support/cache.h"

/* By name: "sm_80", "sm_90", "sm_90a", "sm_100", "sm_100a", ...: those of a table in target.c; STATUS_INPUT names them. */
PL_MUST_USE Status cuda_arch(const char *name, CudaArch *out);
/* The newest of them that a GPU of this compute capability runs: machine code runs on later minor versions too (10.0 on 10.3), but
 * for that of names with an 'a', which is for one alone. STATUS_UNSUPPORTED: there is none. */
PL_MUST_USE Status cuda_arch_of(u32 major, u32 minor, CudaArch *out);

/* The table for this architecture, in `arena`; the arch is copied. */
const TargetInfo *cuda_target(const CudaArch *arch, Arena *arena);

typedef enum CudaOutput { CUDA_TEXT, CUDA_PTX, CUDA_CUBIN } CudaOutput;

/* A program for NVRTC: several functions, compiled together. */
typedef struct CudaUnit {
	const char *name;   /* of its first function */
	const char *text;   /* CUDA C, whole: preamble and functions, each with a comment that says which layers and
			     * source lines it serves */
	void *image;        /* PTX or cubin, NULL for CUDA_TEXT */
	size_t size;
	const char *log;    /* what NVRTC and ptxas said: registers, spills, warnings; "" if from the cache and not wanted */
	const char *ptx;    /* where logs are wanted: what a cubin was made of */
} CudaUnit;

typedef struct CudaCode {
	CudaUnit *unit;
	u32 nunit;
	/* of each kernel given: */
	u32 *unit_of;         /* which unit */
	const char **symbol;  /* function's name without _pPHASE; equal kernels share it */
	u64 text_bytes;
	f64 seconds_emit, seconds_compile;
	u32 compiled, cached; /* units */
} CudaCode;

typedef struct CudaOptions {
	CudaOutput output;
	u32 threads;    /* that compile; 0: one per core */
	Cache *cache;   /* or NULL; by text, options, arch and NVRTC's version */
	bool verbose;   /* logs are wanted, and PTX beside cubins */
} CudaOptions;

/* Code for n kernels. Kernels whose text is equal but for the name share a function. */
PL_MUST_USE Status cuda_code(const CudaArch *arch, const CudaOptions *options, Kernel *const *kernel, u32 n,
			     Arena *arena, CudaCode *out);

/* Completes the steps of a package that package_link() made of the plan: images, grids, keys, tensor maps, and
 * matrix products that a library can do. */
void cuda_link(Arena *arena, const Plan *plan, const CudaArch *arch, const CudaCode *code, Package *package);

#endif
