/* tools/mesh.h: a run over several devices: which mesh, by which rules, among which ranks. */
#ifndef PL_TOOLS_MESH_H
#define PL_TOOLS_MESH_H
#include "runtime/comm/comm.h"
#include "ir/shard.h"
#include "tools/lm.h"

typedef struct MeshRun {
	const char *rules; /* arguments of the pass partition; NULL: nothing is divided so */
	u64 bucket;        /* bytes of messages that are put together; 0: as many as is usual */
	DriverPipe pipe;   /* stages 0: there is no pipeline */
	u32 devices;
	Comm *comm;        /* NULL: one device */
	bool first;        /* of its host and stage: it compiles, and others find what it has compiled */
} MeshRun;

/* The axis that *at is at in "data=2,tensor=2", and on to the next; `mesh`, the whole, is for the message. */
PL_MUST_USE Status mesh_axis(const char *mesh, const char **at, Str *name, i64 *size);

/* The mesh of --mesh ("data=2,tensor=2"; NULL: that of the source's shard block) and the rules of the block and of
 * --shard ("parameters=data", ...), as the pass partition takes them; `schedule` is a pipeline's (--schedule), NULL: the block's. No ranks are asked for. */
PL_MUST_USE Status mesh_rules(Lm *lm, const char *mesh, const TextList *more, const char *schedule, MeshRun *out);
/* The same, and the ranks join: there must be one for each device, which is of the kind that `device` says ("cuda"). Then they compare
 * what they are to run. */
PL_MUST_USE Status mesh_open(Lm *lm, const char *mesh, const TextList *more, const char *schedule, const char *device, MeshRun *out);
/* Ranks on one host compile one after the other's first: what one has compiled the others find. `turn` false: before,
 * true: after compiling. */
PL_MUST_USE Status mesh_turn(const MeshRun *m, bool done);
/* The i-th mesh axis that lines of the shard block and of --shard divide `axis` over; empty: there are fewer. */
Str mesh_over(const Lm *lm, const TextList *more, const char *axis, u32 i);
/* Buffers of a kind that rules ask to be divided over a mesh axis, and that stay whole along it: no dimension that others leave
 * free has a position for each device. */
typedef struct MeshWhole {
	BufferKind kind;
	const char *over;
	u32 tensors, of;      /* of so many that are asked for */
	u64 bytes, of_bytes;  /* on a device */
} MeshWhole;
/* `rules` as of a MeshRun, `p` partitioned by them. How many there are. */
u32 mesh_whole(const Program *p, const char *rules, MeshWhole out[3 * MESH_AXES]);
/* After the package is on its device: groups, and the device's coordinates into its buffers. */
PL_MUST_USE Status mesh_start(const MeshRun *m, Executor *x);
void mesh_close(MeshRun *m);

#endif
