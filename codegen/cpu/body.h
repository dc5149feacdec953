/* codegen/cpu/body.h: a kernel's instructions as LLVM code, at a place of its domain that the loops
 * around set up. All CPU skeletons emit bodies through this.
 *
 * The loops set `coord[d]` for each dimension they run over; one dimension may be in vector lanes
 * (`vector_dim`; its coord is that of lane 0), with `mask` for lanes that are off (NULL: all on).
 * body_scalar() and body_vector() emit what an instruction needs, each once, where the builder stands. A value that does
 * not depend on the vector dimension is a scalar, and is spread when lanes ask for it.
 *
 * Values stay known until body_release() forgets those since a mark: what was emitted inside a loop must
 * be forgotten after it; what was emitted before it is at hand inside. So emitting a value early, at an
 * outer loop, is hoisting it: body_hoist() does that for all that is ready there. */
#ifndef PL_CPU_BODY_H
#define PL_CPU_BODY_H
#include "codegen/cpu/vector.h"
#include "ir/kernel.h"

typedef struct Body {
	CpuModule *m;
	const Kernel *k;
	Arena *arena;
	Simd lanes, one;
	/* the function's parameters */
	LLVMValueRef slots, numbers, workspace, scratch, phase, begin, end;
	LLVMValueRef *slot;      /* address of each slot */
	LLVMValueRef *number;    /* every number, loaded at entry */
	LLVMValueRef extent[KERNEL_DIMS];
	LLVMValueRef coord[KERNEL_DIMS];
	u32 vector_dim;          /* or NONE */
	u32 inner_dim;           /* which the innermost loop goes along, where that is another; or NONE */
	bool stream;             /* whole vectors of streamed slots are at multiples of their size: body_store passes the caches */
	LLVMValueRef mask;       /* or NULL */
	bool from_zero;          /* every index (K_index) is known to be 0 where its coordinates are */
	KVal taken;              /* a condition that holds in some lane that is on, or 0 */
	/* what is known: scalar and vector form of each instruction */
	LLVMValueRef *scalar, *vector;
	VEC(u32) known;          /* in order; bit 31 says the vector form */
} Body;

/* Begins function `name` with the signature KernelFunction, loads slots and numbers. */
void body_begin(Body *b, CpuModule *m, const Kernel *k, Arena *arena, const char *name);
/* A kernel whose phases are of `n` kinds in turn: `emit` makes the code of each, in a function of its own, which can be read
 * by itself; `name` calls that of phase % n. */
void body_phases(CpuModule *m, const Kernel *k, Arena *arena, const char *name, u32 n,
		 void (*emit)(Body *b, u32 kind, const void *argument), const void *argument);
/* Begins function `name` with the signature NeedsFunction, loads numbers: extents alone are there. `need` is in b->workspace. */
void body_begin_needs(Body *b, CpuModule *m, const Kernel *k, Arena *arena, const char *name);
void body_end(Body *b);

/* A value computed by the skeleton: a reduction, an accumulator. `vector`: in lanes. */
void body_set(Body *b, KVal v, LLVMValueRef value, bool vector);
LLVMValueRef body_scalar(Body *b, KVal v); /* must not depend on the vector dimension */
LLVMValueRef body_vector(Body *b, KVal v);
/* Emits the store instruction `inst`: in lanes where its place depends on the vector dimension. */
void body_store(Body *b, u32 inst);

/* Does it draw random numbers for elements that lie together along the vector dimension? Then one block of Philox serves four. */
bool body_draws_together(const Body *b, u32 inst);
/* What such an instruction draws for four vectors, from the coordinates at hand on; body_set makes each known at its place. */
void body_draw4(Body *b, u32 inst, LLVMValueRef out[4]);

/* Can the store be of whole vectors past the caches, where these are aligned? */
bool body_streams(const Body *b, u32 inst);

u32 body_mark(const Body *b);
void body_release(Body *b, u32 mark);
/* Emits every instruction that depends on the dimensions in `dims` alone, needs no reduction that is
 * not set yet, and is in `wanted` ([inst], NULL: all). */
void body_hoist(Body *b, u32 dims, const bool *wanted);

/* Does the instruction change from lane to lane? */
bool body_in_lanes(const Body *b, KVal v);
/* Address of an access at the current coordinates (lane 0), without dynamic parts that are in lanes. */
LLVMValueRef body_address(Body *b, const Access *a);
/* Its stride along dimension d, in elements. */
LLVMValueRef body_stride(const Body *b, const Access *a, u32 d);

/* How far all that a value needs (or, without one, stores) goes on as along the last of dimensions [first, last) alone, beginning
 * where it is 0: its extent, times those of the dimensions before it that are stepped through as if they were one with it. */
LLVMValueRef body_run(Body *b, KVal of, u32 first, u32 last);

/* Coordinates of dimensions [first, last) from their flattened index, last dimension fastest. */
void body_unflatten(Body *b, u32 first, u32 last, LLVMValueRef flat);
/* The same of dimensions `dims`, as bits. */
void body_unflatten_of(Body *b, u32 dims, LLVMValueRef flat);
/* From those of one flattened index to those of another, `by` further on, whose own coordinates are by[first] to by[last - 1], without a
 * division. Past the end the first dimension goes on. */
void body_advance(Body *b, u32 first, u32 last, const LLVMValueRef *by);
void body_advance_of(Body *b, u32 dims, const LLVMValueRef *by);
/* Coordinates of 1. */
void body_unit(const Body *b, u32 first, u32 last, LLVMValueRef *by);
/* The product of extents of dimensions [first, last). */
LLVMValueRef body_product(Body *b, u32 first, u32 last);

#endif
