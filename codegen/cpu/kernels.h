/* codegen/cpu/kernels.h: the CPU's code for each class of kernel: what it needs to run and how it is
 * emitted. One file per family; each keeps both sides together, because the formulas for tasks and
 * scratch are in both: `needs` in numbers, `emit` in code. */
#ifndef PL_CPU_KERNELS_H
#define PL_CPU_KERNELS_H
#include "codegen/cpu/count.h"
#include "ir/target.h"

struct Tile;
enum { CPU_TILES = 3 };

typedef struct CpuKernelClass {
	/* What the launch needs, and the tasks of phase `phase`; by the extents of `k`, and where `b` is not NULL in code,
	 * by those that it is given. */
	CountNeeds (*needs)(Body *b, const CpuMachine *machine, const Kernel *k, Count phase);
	/* Emits function `name` (KernelFunction) into `m`. */
	void (*emit)(CpuModule *m, const Kernel *k, Arena *arena, const char *name);
	/* NULL, or why it cannot run this one. Optional. */
	const char *(*refuses)(const CpuMachine *machine, const Kernel *k);
	/* What of the kernel's numbers its code is made for: kernels of one shape share code where this
	 * is equal too. Optional: nothing. */
	u64 (*variant)(const CpuMachine *machine, const Kernel *k);
	/* The register tiles that its code calls (panel.h), which kernels share, at most CPU_TILES: how many. Optional: none. */
	u32 (*tiles)(const CpuMachine *machine, const Kernel *k, struct Tile *tile);
} CpuKernelClass;

/* By KernelClass; NULL is a class without code. */
extern const CpuKernelClass *const cpu_kernel_class[KERNEL_CLASSES];

extern const CpuKernelClass cpu_map, cpu_row, cpu_column, cpu_scatter, cpu_scan, cpu_sort, cpu_dot,
	cpu_attention, cpu_attention_grad, cpu_grouped, cpu_grouped_weights;

/* Elements of work that make a task of a loop kernel: some ten microseconds. */
enum { TASK_ELEMENTS = 8192 };
/* How many of `all` rows of n elements each make a task, by what an element takes; of several tasks as many for each thread. */
Count loop_task_rows(CpuModule *m, const CpuMachine *machine, const Kernel *k, Count all, Count n);

/* Reductions in code. */
LLVMValueRef reduce_identity(const Simd *s, Reduce r, DType d);
LLVMValueRef reduce_combine(const Simd *s, Reduce r, DType d, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef reduce_lanes(const Simd *s, Reduce r, DType d, LLVMValueRef x);
/* Elements that do not count are replaced by the identity. */
LLVMValueRef reduce_masked(const Simd *s, Reduce r, DType d, LLVMValueRef x, LLVMValueRef mask);

#endif
