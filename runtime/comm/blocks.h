/* runtime/comm/blocks.h: how the tensors of a collective lie in memory, which bytes are whose; and which collectives of an entry
 * are under way as its steps are run. For transports that move bytes through the host's memory (comm.c) and for those that leave
 * that to a device (runtime/cuda/collective.c). */
#ifndef PL_COMM_BLOCKS_H
#define PL_COMM_BLOCKS_H
#include "codegen/package.h"

extern const u8 package_dtype_bytes[]; /* [PackageDtype] */

/* A tensor as rows of [blocks, bytes]: block c of each row is device c's. */
typedef struct Rows {
	u64 n, bytes; /* bytes of one block of a row */
} Rows;

/* The axis is a whole one (`whole`), or a part's. */
Rows block_rows(const PackageCollectiveTensor *t, u32 axis, i64 outer, bool whole, u32 parts);
/* Of the operand. */
u64 said_elements(const PackageCollectiveTensor *t);
u64 said_bytes(const PackageCollectiveTensor *t);

/* Of an all_to_all: what is sent, and what one part of what comes is in the result. */
static inline Rows rows_sent(const PackageCollectiveTensor *t, u32 parts)
{
	return block_rows(t, t->to, t->to_outer, true, parts);
}
Rows rows_received(const PackageCollectiveTensor *t, u32 parts);

/* Of a permute: whom member `me` of n sends to, or receives from (`back`). */
static inline u32 ring_member(u32 me, i64 shift, u32 n, bool back)
{
	return (u32)((((i64)me + (back ? -shift : shift)) % n + n) % n);
}

#define NO_STEP UINT32_MAX
/* Collectives of an entry that are under way. All zeros: none. */
typedef struct UnderWay {
	u32 first, n; /* none before step `first` is; how many */
} UnderWay;

/* Step i is a collective, and begins. */
static inline void under_way_begin(UnderWay *w, u32 i)
{
	w->first = w->n++ ? w->first : i;
}
/* Step i, or with nstep the entry's end, comes next: the last collective that it must find done, which those before it are then
 * too; NO_STEP where that is none. */
u32 under_way_end(UnderWay *w, const PackageEntry *e, u32 i);

#endif
