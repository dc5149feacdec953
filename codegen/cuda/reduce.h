/* codegen/cuda/reduce.h: reductions in CUDA C, and which values are needed in which sweep over a row. */
#ifndef PL_CUDA_REDUCE_H
#define PL_CUDA_REDUCE_H
#include "codegen/cuda/body.h"

/* Of a K_reduce instruction: its function in the preamble ("Sum<float>"), its neutral value as a literal, and a total as a
 * value of its dtype (integers of a byte wrap). */
const char *cuda_reduce_function(Arena *a, const KInst *in);
const char *cuda_reduce_template(const KInst *in); /* "Sum" */
const char *cuda_reduce_identity(Arena *a, const KInst *in);
const char *cuda_reduce_total(Arena *a, const KInst *in, const char *total);
/* The K_reduce instructions of sweep `sweep` (1 is the first), written to `reduce`; how many. 0: of all sweeps. */
u32 cuda_reduce_list(const Kernel *k, u32 sweep, u32 *reduce);
/* How many sweeps of reductions the kernel has. */
u32 cuda_reduce_sweeps(const Kernel *k);

/* Writes `name = combine(name, element)` for each element of the vector that is not guarded off. */
void cuda_accumulate(CudaBody *b, u32 inst, const char *name);

/* A sum of exponentials, taken while its maximum is found (Milakov and Gimelshein, Online normalizer calculation for softmax,
 * 2018): `sum` adds exp(x - h), where h is the reduction `max` of x, or 0 where that is -infinity (`safe`). */
typedef struct Running {
	u32 max, sum; /* 0: none */
	KVal x, h;
	bool safe;
} Running;
/* The one whose maximum is reduction `max`. */
Running cuda_running(const Kernel *k, u32 max);
/* Writes what the elements of the vector change in a<max> and a<sum>; what a thread's a<sum> becomes when the maximum of all,
 * r<max>, is known. */
void cuda_accumulate_running(CudaBody *b, const Running *r);
void cuda_finish_running(CudaBody *b, const Running *r);

/* Writes the loads of sweep `sweep`: what its stores along `dims` (bits) and the reductions that end it need. Written together,
 * they are under way together, and done before a store that may share their memory. */
void cuda_load_ahead(CudaBody *b, u32 sweep, u32 dims);

/* Bytes of a value in a register. */
u32 cuda_value_bytes(DType d);

#endif
