/* codegen/package.h: what the compiler hands to the runtime: plain data, no compiler types. It is all
 * that both sides share besides support/. In memory it is made from a Plan and compiled code; an
 * ahead-of-time package is the same data in a file.
 *
 * A kernel's code is one function for all its launches that have the same shape; extents, strides and
 * offsets come in `number` (ir/kernel.h, kernel_numbers). */
#ifndef PL_PACKAGE_H
#define PL_PACKAGE_H
#include "support/status.h"

/* Runs tasks [begin, end) of `phase`. slot[i]: the address of slot i. workspace: of the launch, 64-byte
 * aligned, shared by its threads; scratch: of the calling thread, 64-byte aligned. Tasks of a phase are
 * independent; phases run one after the other. */
typedef void KernelFunction(void *const *slot, const i64 *number, void *workspace, void *scratch,
			    i64 phase, i64 begin, i64 end);

typedef enum PackageDtype { /* ORDER as DType of ir/type.h */
	PACKAGE_B1,
	PACKAGE_U8,
	PACKAGE_U32,
	PACKAGE_I8,
	PACKAGE_I32,
	PACKAGE_I64,
	PACKAGE_F16,
	PACKAGE_BF16,
	PACKAGE_F32,
	PACKAGE_F64
} PackageDtype;

typedef struct PackageTensor {
	const char *name;
	u8 dtype;        /* PackageDtype */
	u8 rank;
	i64 dim[10];
	u64 offset, bytes; /* in the arena */
} PackageTensor;

typedef enum PackageBufferKind { /* ORDER as BufferKind of ir/graph.h */
	PACKAGE_PARAMETER,
	PACKAGE_STATE,
	PACKAGE_GRADIENT,
	PACKAGE_COUNTER,
	PACKAGE_CACHE
} PackageBufferKind;

typedef struct PackageBuffer {
	PackageTensor tensor;
	PackageBufferKind kind;
	bool frozen;
} PackageBuffer;

/* What a slot of a launch is, for checks and reports; code does not look at it. */
typedef struct PackageSlot {
	u64 elements;
	u8 dtype;         /* PackageDtype */
	bool read, written;
	const char *name; /* "h.3.attn.c_attn.weight", "%17" */
	const char *file; /* the source that the value comes from; "" and 0 where there is none */
	u32 line;
} PackageSlot;

typedef struct PackageStep {
	KernelFunction *function;
	const u64 *slot;      /* [nslot] offsets in the arena */
	const PackageSlot *slot_info; /* [nslot] */
	u32 nslot;
	const i64 *number;
	u64 workspace;        /* offset in the arena */
	const i64 *tasks;     /* [nphase] */
	u32 nphase;
	const char *name;     /* of the kernel: layer and op */
	const char *file;     /* the model's source */
	u32 line;
	f64 flops, bytes;     /* for reports */
} PackageStep;

typedef struct PackageEntry {
	const char *name;
	PackageTensor *input, *result;
	u32 ninput, nresult;
	PackageStep *step;
	u32 nstep;
	f64 model_flops, model_flops_full; /* causal attention as what is visible; as the full square */
	f64 hardware_flops;                /* with recomputation */
} PackageEntry;

typedef struct Package {
	const char *name;
	PackageBuffer *buffer;
	u32 nbuffer;
	PackageEntry *entry;
	u32 nentry;
	u64 arena_bytes, persistent_bytes, thread_scratch;
	u64 fingerprint;  /* of program and target: resumes compare it */
} Package;

const PackageEntry *package_entry(const Package *p, const char *name); /* or NULL */

#endif
