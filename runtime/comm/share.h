/* runtime/comm/share.h: collectives among ranks of one host, through memory that all of them map: nothing is packed, sent or
 * copied twice. A collective has begun when every member has come to it; what there is to do is then cut into pieces, and
 * whoever waits for the collective, of whichever rank, takes pieces until none are left. So a rank that is ahead works for one that is still
 * computing, a rank never waits for a thread of another to wake up, and no thread of messages takes a core from one that
 * computes. Each element is summed in order of coordinates, whoever does it: bits are those of comm.c's way.
 *
 * Kernels hide nothing of it, for the threads that compute do it. */
#ifndef PL_COMM_SHARE_H
#define PL_COMM_SHARE_H
#include "codegen/package.h"
#include "runtime/cpu/threads.h"

typedef struct Share Share;

/* Of an axis of the mesh: its members, by coordinates. */
typedef struct ShareAxis {
	u32 n, me;
	u8 **arena;    /* [n] as they are in this process: a collective's slots lie at the same offsets in all of them; NULL: not shared */
	void *meeting; /* share_meeting_bytes(n) that begin as zeros, the same for all members */
} ShareAxis;

typedef struct ShareOptions {
	const ShareAxis *axis; /* [naxis], by number in the package's mesh */
	u32 naxis;
	Threads *pool;         /* of this rank: the caller's own */
	bool spins;            /* this rank's threads have cores for themselves */
	/* Whether all that it waits for still live; `seconds` that it has waited for `step`. */
	Status (*alive)(void *cx, const PackageStep *step, f64 seconds);
	void *cx;
} ShareOptions;

u64 share_meeting_bytes(u32 members);
PL_MUST_USE Status share_open(const ShareOptions *o, Share **out);
void share_close(Share *s); /* NULL is fine */

/* Is that axis of the mesh shared? */
bool share_joins(const Share *s, u32 axis);
/* Is it one of those that go through shared memory? */
bool share_takes(const Share *s, const PackageCollective *c);
/* Does not wait. At most COMM_ROOM (comm.h) are under way. */
void share_begin(Share *s, const PackageStep *step);
/* Until the first of those that were begun, and not ended, is done. */
PL_MUST_USE Status share_end(Share *s);

#endif
