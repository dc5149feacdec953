/* ir/target.h: what passes may ask of a target: a table that the target fills. Nothing here says how. */
#ifndef PL_TARGET_H
#define PL_TARGET_H
#include "ir/kernel.h"

/* What a launch needs besides its slots, and how it divides: a kernel runs in phases, one after the
 * other, each a number of independent tasks. */
enum { KERNEL_PHASES = 64 };
typedef struct LaunchNeeds {
	u64 workspace;      /* bytes shared by all threads of the launch, from the plan's arena */
	u64 thread_scratch; /* bytes of each thread */
	u32 nphase;
	i64 tasks[KERNEL_PHASES];
} LaunchNeeds;

typedef struct TargetInfo {
	const char *name; /* "cpu", "cuda", "null" */
	/* Can it run this kernel? NULL, or why not in one sentence. */
	const char *(*refuses)(const struct TargetInfo *t, const Kernel *k);
	LaunchNeeds (*needs)(const struct TargetInfo *t, const Kernel *k);
	/* Takes back what a kernel allows and the target has reasons against: a result in an operand's place. May be NULL. */
	void (*keep_apart)(const struct TargetInfo *t, Kernel *k);
	/* Composite ops with the trait T_WHOLE that it has kernels of their own for; the others are expanded. */
	bool whole[OPS];
	/* Attention of at most so many queries to each head of keys is written out in products and a softmax: they stream
	 * keys and values as they lie. 0: it is always lowered whole, where it is at all. */
	i64 few_queries;
	/* Matrix multiply and attention read operands best as they stand in memory (bulk copies, libraries): fusion
	 * stores what they take, in the type they take it in. Elsewhere operands are worked out while packing. */
	bool stores_operands;
	/* It multiplies floats of 8 bits as they are (products_in_f8, product_sizes_f8 in ir/dot.h), where what is summed over runs fastest in
	 * both operands. Elsewhere they are multiplied as bf16 or f16. */
	bool products_f8;
	/* A product whose sums are stored as they are can give one of its operands, summed over K, as a second result (by a
	 * library): fusion puts such a sum, the gradient of a bias, beside the product of the weight's gradient. */
	bool sums_beside;
	/* Bytes at a multiple of which long rows of what fusion stores begin, for wide accesses; 0: rows are dense. */
	u32 row_align;
	/* Bytes of the last-level cache, 0: unknown; kernels whose outputs can be stored past it (KSlot.streamed). */
	u64 last_cache;
	bool streams[KERNEL_CLASSES];
	/* Peak FLOPs a second by operand dtype and memory bandwidth in bytes a second, for costs; 0 is
	 * unknown. */
	f64 flops[DTYPES], bandwidth;
	const void *self; /* the target's own */
} TargetInfo;

#endif
