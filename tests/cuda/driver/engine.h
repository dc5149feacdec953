/* engine.h: what goes on in a block beside its warps: mbarriers, and bulk copies that complete on them or
 * in groups. */
#ifndef STANDIN_ENGINE_H
#define STANDIN_ENGINE_H
#include "exec.h"

typedef struct Mbarrier {
	u32 address;       /* in shared memory */
	u32 expected;      /* arrivals of a phase */
	u32 pending;
	i64 bytes;         /* expected by expect_tx, not yet delivered */
	u32 phase;         /* counts completed phases */
	u32 clock[LANES];  /* what who waits may know (race.c) */
} Mbarrier;

/* A bulk copy under way: one element row after another, already checked and laid out. */
typedef struct BulkRow {
	u64 global;        /* 0: out of the tensor, zeroes (or NaN) */
	u32 shared, bytes;
} BulkRow;

typedef struct Bulk {
	Warp *warp;
	const Inst *in;
	int lane;
	bool to_shared;
	BulkRow *row;
	u32 nrow, swizzle; /* swizzle: 0, 32, 64 or 128 bytes (tensor_map.h) */
	u32 mbarrier;      /* address; 0: a bulk group of the lane */
	u32 bytes;
	u32 group;
	u8 fill;           /* of what is out of the tensor */
} Bulk;

typedef struct Engine {
	VEC(Mbarrier) mbarriers;
	VEC(Bulk) bulk;
	u32 committed[LANES * LANES]; /* bulk groups of each thread */
	u32 warpgroup_clock[LANES / 4][LANES]; /* what completed products have read (race.c) */
} Engine;

Engine *engine_of(Block *b);
/* NULL after a fault: there is no mbarrier at the address. */
Mbarrier *mbarrier_at(Warp *w, const Inst *in, int lane, u64 address);
/* Bytes have come (negative: are expected); may complete the phase. */
void mbarrier_bytes(Block *b, Mbarrier *x, i64 change);
void mbarrier_arrive(Block *b, Mbarrier *x, u32 count, Warp *by);

/* bulk.c: does one copy under way, the oldest or a random one; false if there is none. */
bool bulk_step(Block *b);
/* async.c: all of these lanes' cp.async copies. */
void copies_complete(Warp *w, u32 mask);
#endif
