/* codegen/cuda/kernels.h: CUDA C for each class of kernel: what it needs to run and how it is written. One
 * file per family; each keeps both sides together, because the division of work is in both: `needs` in
 * numbers, `emit` in code.
 *
 * Unlike on the CPU, a kernel's numbers (extents, strides, offsets) are constants of its text: ptxas makes much
 * of them, and layers of equal shape have equal numbers. Kernels whose text is equal but for the function's
 * name are compiled once. (Programs for all sizes in range are the exception: sized.c.) What differs between them comes in as
 * parameters:
 *
 *   NAME(T0 *s0, ..., Tn *sn, unsigned char *workspace, u64 key0, ..., TensorMap map0, ..., Numbers numbers)
 *
 * one pointer for each slot, in order; the launch's workspace, if `needs` asks for one (256-byte aligned);
 * the key of each K_random in order of instructions; a tensor map for each that `needs` lists; with CudaArch.sized the numbers.
 * A kernel is one function for each phase; phases run one after the other, in the order of the stream. */
#ifndef PL_CUDA_KERNELS_H
#define PL_CUDA_KERNELS_H
#include "ir/kernel.h"
#include "support/str.h"

/* What code is made for. */
typedef struct CudaArch {
	const char *name;      /* "sm_90a", as NVRTC's --gpu-architecture takes it */
	u32 major, minor;
	bool specific;         /* the 'a' of sm_90a: wgmma, setmaxnreg */
	u32 multiprocessors;   /* of the device; 132 where none is at hand. Bits never depend on it */
	u32 shared_per_block;  /* the most dynamic shared memory of a block, bytes (227 KiB on sm_90) */
	u32 shared_per_multiprocessor;
	/* How attention divides its work (attention_common.h), for benchmarks that look for the best; NULL: as its tables say */
	const struct CudaAttentionTile *attention;
	bool sized;            /* numbers are known only when code runs: sized.c */
} CudaArch;

/* A tensor in memory that a kernel reads by the bulk copy engine (cuTensorMapEncodeTiled): element type bf16,
 * f16 or f32; dimension 0 is the contiguous one. */
typedef struct CudaTensorMap {
	u32 slot;         /* NONE: the workspace */
	u64 offset;       /* elements from the slot's start; the address must be a multiple of 16 bytes */
	u8 dtype;         /* DType */
	u8 rank;          /* 1 to 5 */
	u64 extent[5];
	u64 stride[5];    /* elements; stride[0] is 1 */
	u32 box[5];
	u32 swizzle;      /* bytes: 0, 32, 64 or 128 */
} CudaTensorMap;

typedef struct CudaLaunch {
	u32 grid[3], block[3];
	u32 shared; /* dynamic shared memory, bytes */
	u32 cluster; /* blocks of a cluster along x; 0 and 1: none */
} CudaLaunch;

enum { CUDA_PHASES = 8, CUDA_TENSOR_MAPS = 4 };
typedef struct CudaNeeds {
	u64 workspace;
	u32 nphase;
	CudaLaunch launch[CUDA_PHASES];
	u32 sums; /* DOT: phases at the end that compute a sum beside the product, and nothing else */
	u32 nmap;
	CudaTensorMap map[CUDA_TENSOR_MAPS];
} CudaNeeds;

/* A piece of the preamble (codegen/cuda/preamble/): bits, later ones need the earlier ones. */
enum {
	PREAMBLE_BASE = 1 << 0,    /* types, conversions, scalar functions, Philox, reductions of warps and blocks */
	PREAMBLE_TENSOR = 1 << 1,  /* cp.async, ldmatrix, mma.sync: sm_80 and up */
	PREAMBLE_HOPPER = 1 << 2,  /* mbarrier, bulk copies, wgmma: sm_90a */
	PREAMBLE_ORDER = 1 << 3,   /* sorting */
	PREAMBLE_ATTENTION = 1 << 4,            /* what all kernels of attention share */
	PREAMBLE_ATTENTION_PLAIN = 1 << 5,      /* attention by ordinary arithmetic */
	PREAMBLE_ATTENTION_TENSOR = 1 << 6,     /* on tensor cores */
	PREAMBLE_ATTENTION_TENSOR_GRAD = 1 << 7, /* its gradient there */
	PREAMBLE_SIZED = 1 << 8                 /* kernels for all sizes in range; after attention by ordinary arithmetic */
};

/* Text under way. `out` collects functions, which may begin with helpers of their own as `static __device__`
 * functions whose names begin with the kernel's. */
typedef struct CudaText {
	Arena *arena;
	Buf out;
	const CudaArch *arch;
	u32 preamble; /* PREAMBLE_ bits that the functions need; BASE always */
	/* Of a kernel that is written as several: the phases of those before, and whether a workspace is a parameter that
	 * this one does not ask for. */
	u32 phases;
	bool workspace;
} CudaText;

typedef struct CudaKernelClass {
	/* NULL, or why it cannot run this one, in a sentence. Optional. */
	const char *(*refuses)(const CudaArch *arch, const Kernel *k);
	CudaNeeds (*needs)(const CudaArch *arch, const Kernel *k);
	/* Appends the functions NAME_p0, NAME_p1, ..., one for each phase. The text depends on the kernel's shape and
	 * numbers, not on its name, slots' names or places in the source (those come as a comment from the caller). */
	void (*emit)(CudaText *t, const Kernel *k, const char *name);
} CudaKernelClass;

/* By KernelClass; NULL is a class without code. The second: for CudaArch.sized. */
extern const CudaKernelClass *const cuda_kernel_class[KERNEL_CLASSES], *const cuda_sized_class[KERNEL_CLASSES];
/* The one of the two that is for this kernel. */
const CudaKernelClass *cuda_class(const CudaArch *arch, const Kernel *k);
/* NULL, or why this kernel cannot run. */
const char *cuda_refusal(const CudaArch *arch, const Kernel *k);

extern const CudaKernelClass cuda_map, cuda_row, cuda_column, cuda_scatter, cuda_scan, cuda_sort, cuda_dot,
	cuda_attention, cuda_attention_grad, cuda_grouped, cuda_grouped_weights;

#endif
