/* runtime/comm/share_map.h: how ranks of one host come to share memory (share.h): a file in memory has those parts of a rank's arena
 * that collectives touch (runtime/cpu/memory.h), and the others open it by way of /proc. An axis of the mesh is shared
 * where all its members are on one host and can do so; the others say it by messages. */
#ifndef PL_COMM_SHARE_MAP_H
#define PL_COMM_SHARE_MAP_H
#include "runtime/comm/comm.h"
#include "runtime/comm/share.h"
#include "runtime/cpu/memory.h"
#include "support/arena.h"

/* Bytes behind a package's arena in which ranks meet: `room`, at a multiple of 64. */
u64 share_map_room(const PackageMesh *mesh);
/* What of an arena is to be shared. */
HostRange *share_map_parts(Arena *a, const Package *p, u64 room, u32 *n);

typedef struct ShareMap {
	Share *share; /* NULL: nothing is */
	/* private */
	Comm *comm;
	u8 **arena[6]; /* [axis][coordinate] */
	u64 *bytes[6]; /* of those that are other ranks' */
	u64 meeting[6];
	u32 n[6];
	u32 naxis;
} ShareMap;

/* Every rank calls, with an arena whose parts are in a file, or which has none. Sets the package's mesh (comm_mesh). */
PL_MUST_USE Status share_map_open(Comm *c, const Package *p, const HostArena *arena, u64 room, Threads *pool, ShareMap *out);
void share_map_close(ShareMap *m);

#endif
