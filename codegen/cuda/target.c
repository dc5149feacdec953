/* codegen/cuda/target.c: see target.h. The architectures and their limits (CUDA C Programming Guide, technical
 * specifications), the table of kernel classes, and what passes ask. */
#include "codegen/cuda/library.h"
#include "codegen/cuda/target.h"

#include <string.h>

const CudaKernelClass *const cuda_kernel_class[KERNEL_CLASSES] = {
	[KERNEL_MAP] = &cuda_map,
	[KERNEL_ROW] = &cuda_row,
	[KERNEL_COLUMN] = &cuda_column,
	[KERNEL_SCATTER] = &cuda_scatter,
	[KERNEL_SCAN] = &cuda_scan,
	[KERNEL_SORT] = &cuda_sort,
	[KERNEL_DOT] = &cuda_dot,
	[KERNEL_GROUPED] = &cuda_grouped,
	[KERNEL_GROUPED_WEIGHTS] = &cuda_grouped_weights,
	[KERNEL_ATTENTION] = &cuda_attention,
	[KERNEL_ATTENTION_GRAD] = &cuda_attention_grad,
};

enum { KiB = 1024 };
static const CudaArch archs[] = {
	/* name, major, minor, specific, multiprocessors of a usual card, shared memory of a block and of a multiprocessor; as tables say; sizes are numbers */
	{ "sm_80", 8, 0, false, 108, 163 * KiB, 164 * KiB, NULL, false },
	{ "sm_86", 8, 6, false, 84, 99 * KiB, 100 * KiB, NULL, false },
	{ "sm_89", 8, 9, false, 142, 99 * KiB, 100 * KiB, NULL, false },
	{ "sm_90", 9, 0, false, 132, 227 * KiB, 228 * KiB, NULL, false },
	{ "sm_90a", 9, 0, true, 132, 227 * KiB, 228 * KiB, NULL, false },
	{ "sm_100", 10, 0, false, 148, 227 * KiB, 228 * KiB, NULL, false },
	{ "sm_100a", 10, 0, true, 148, 227 * KiB, 228 * KiB, NULL, false },
	{ "sm_120", 12, 0, false, 170, 99 * KiB, 100 * KiB, NULL, false },
};

static const char *known_names(Arena *a)
{
	Buf known = { .arena = a };
	for (u32 i = 0; i < COUNT(archs); i++)
		buf_printf(&known, "%s%s", i ? ", " : "", archs[i].name);
	return known.text;
}

Status cuda_arch(const char *name, CudaArch *out)
{
	for (u32 i = 0; i < COUNT(archs); i++)
		if (!strcmp(archs[i].name, name)) {
			*out = archs[i];
			return OK;
		}
	Arena tmp = ARENA("names");
	Status s = FAIL(STATUS_INPUT, "no GPU architecture is called '%s'; Plinth makes code for %s", name, known_names(&tmp));
	arena_free(&tmp);
	return s;
}

Status cuda_arch_of(u32 major, u32 minor, CudaArch *out)
{
	const CudaArch *best = NULL;
	for (u32 i = 0; i < COUNT(archs); i++) {
		const CudaArch *a = &archs[i];
		bool runs = a->major == major && (a->specific ? a->minor == minor : a->minor <= minor);
		if (runs && (!best || a->minor > best->minor || (a->minor == best->minor && a->specific)))
			best = a;
	}
	if (best) {
		*out = *best;
		return OK;
	}
	Arena tmp = ARENA("names");
	Status s = FAIL(STATUS_UNSUPPORTED, "Plinth has no code for GPUs of compute capability %u.%u; it makes code for %s", major, minor,
			known_names(&tmp));
	arena_free(&tmp);
	return s;
}

const CudaKernelClass *cuda_class(const CudaArch *arch, const Kernel *k)
{
	return (arch->sized ? cuda_sized_class : cuda_kernel_class)[k->class];
}

const char *cuda_refusal(const CudaArch *arch, const Kernel *k)
{
	const CudaKernelClass *class = cuda_class(arch, k);
	if (k->class == KERNEL_COLLECTIVE && !arch->sized)
		return NULL; /* the runtime's */
	if (!class)
		return "the CUDA target has no code for kernels of this class";
	return class->refuses ? class->refuses(arch, k) : NULL;
}

static const char *target_refuses(const TargetInfo *t, const Kernel *k)
{
	return cuda_refusal(t->self, k);
}

static LaunchNeeds target_needs(const TargetInfo *t, const Kernel *k)
{
	assert(!target_refuses(t, k));
	CudaNeeds n = cuda_class(t->self, k)->needs(t->self, k);
	assert(n.nphase <= CUDA_PHASES && n.nmap <= CUDA_TENSOR_MAPS);
	LaunchNeeds needs = { .workspace = ALIGN_UP(n.workspace, 256), .nphase = n.nphase };
	for (u32 i = 0; i < n.nphase; i++)
		needs.tasks[i] = (i64)n.launch[i].grid[0] * n.launch[i].grid[1] * n.launch[i].grid[2];
	return needs;
}

static void target_keep_apart(const TargetInfo *t, Kernel *k)
{
	if (!((const CudaArch *)t->self)->sized)
		cuda_library_keep_apart(k);
}

const TargetInfo *cuda_target(const CudaArch *arch, Arena *arena)
{
	TargetInfo *t = NEW(arena, TargetInfo);
	*t = (TargetInfo){ .name = "cuda",
			   .refuses = target_refuses,
			   .needs = target_needs,
			   .keep_apart = target_keep_apart,
			   .stores_operands = !arch->sized,
			   .products_f8 = !arch->sized && arch->major * 10 + arch->minor >= 89,
			   .sums_beside = !arch->sized,
			   .row_align = arch->sized ? 0 : 16,
			   .self = COPYN(arena, CudaArch, arch, 1) };
	t->whole[OP_attention] = cuda_kernel_class[KERNEL_ATTENTION] != NULL;
	t->whole[OP_attention_grad] = cuda_kernel_class[KERNEL_ATTENTION_GRAD] != NULL;
	return t;
}
