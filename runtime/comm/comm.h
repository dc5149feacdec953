/* runtime/comm/comm.h: what the ranks of a run say to one another. A rank is a process that holds one device of the
 * mesh that the package was partitioned for; ranks count along the mesh's last axis first.
 *
 * Bytes are moved by a *transport*, a table of functions (MPI: mpi.c; NCCL, for what hosts with GPUs say:
 * runtime/cuda/transport.c), loaded at run time. What is done with them is
 * here, so that results do not depend on it: sums are taken in order of coordinates, whoever's message came first.
 * An all_reduce is a reduce_scatter and an all_gather: each rank sums a part (Thakur et al. 2005); 2 (n - 1) / n of the
 * bytes leave each rank, which is the least there is.
 *
 * Collectives of a step run on a thread of the rank's, in the order in which they are begun, beside its work; among ranks of one host
 * those that wait for them make them, in memory that they share (share.h).
 *
 * While a rank waits it looks whether the others are alive: a rank that is gone ends the wait with a failure that
 * names it, and what was waited for. */
#ifndef PL_COMM_H
#define PL_COMM_H
#include "codegen/package.h"

/* For one thread at a time, whichever it is. */
typedef struct Transport {
	const char *name;
	/* Joins the run that a launcher has started. */
	Status (*open)(void **state, u32 *rank, u32 *ranks);
	void (*close)(void *state);
	/* Ends the whole run at once, as far as it can. */
	void (*abort)(void *state, int status);
	/* What is said from now on is said on a device's stream, in its order; NULL: no more. May be NULL. */
	void (*order)(void *state, void *stream);
	/* The ranks that give the same color, in order of `key`; every rank calls. NULL where the host says nothing among some of
	 * the ranks, so nothing of a package's collectives; all_to_all, send, receive and test_message are NULL too then. */
	Status (*group)(void *state, u32 color, u32 key, void **group);
	/* Begins; `test` says whether it is done. One at a time. Byte counts and places for each member. */
	Status (*all_to_all)(void *state, void *group, const void *send, const int *send_bytes, const int *send_at, void *receive,
			     const int *receive_bytes, const int *receive_at);
	Status (*all_gather)(void *state, void *group, const void *send, int bytes, void *receive);
	Status (*test)(void *state, bool *done);
	/* Between two members of a group: each begins, and `test_message` says whether it is done. Any number at a time; messages
	 * of one tag from one sender arrive in order. */
	Status (*send)(void *state, void *group, u32 to, u32 tag, const void *bytes, int n, void **message);
	Status (*receive)(void *state, void *group, u32 from, u32 tag, void *bytes, int n, void **message);
	Status (*test_message)(void *state, void **message, bool *done);
} Transport;
extern const Transport transport_mpi, transport_nccl;

typedef struct Comm Comm;
struct Share; /* share.h */
/* How many collectives may be under way. */
enum { COMM_ROOM = 256 };

/* How many ranks a launcher of MPI says that there are, from its environment; 0: none launched this process as a rank. */
u32 comm_launched(void);
PL_MUST_USE Status comm_open(const Transport *by, Comm **out);
void comm_close(Comm *c);
/* Ends the others too: after a failure, so that nobody waits for this rank. */
void comm_abort(Comm *c, int status);
u32 comm_rank(const Comm *c);
u32 comm_ranks(const Comm *c);
/* This rank's place among those on its host, and how many they are. */
u32 comm_local_rank(const Comm *c);
u32 comm_local_ranks(const Comm *c);
/* Is that rank on this one's host? Its process there. */
bool comm_beside(const Comm *c, u32 rank);
i64 comm_process(const Comm *c, u32 rank);

/* Whether no rank before this one is on the same host and has the same role; every rank calls. */
PL_MUST_USE Status comm_first(Comm *c, u32 role, bool *first);

/* Fails where a rank on this host is gone, with its name; `what`, and for how many seconds: that this rank is in. */
PL_MUST_USE Status comm_alive(Comm *c, const char *what, f64 seconds);
/* After s, a failure of something that all ranks do: the name of a rank that has gone, or goes within a second, otherwise s. */
PL_MUST_USE Status comm_failed(Comm *c, Status s, const char *what, f64 seconds);
/* See Transport; `doing` writes what the device began last, for messages. */
void comm_order(Comm *c, void *stream, void (*doing)(void *cx, char *to, size_t size), void *cx);

/* Groups for each axis of the package's mesh, which must have as many devices as there are ranks. Once is enough. */
PL_MUST_USE Status comm_mesh(Comm *c, const PackageMesh *mesh);
/* This rank's coordinate along mesh axis m. */
u32 comm_coordinate(const Comm *c, u32 m);
/* That of any rank. */
u32 comm_coordinate_of(const Comm *c, u32 rank, u32 m);
/* The rank that differs from this one in its coordinate along m alone. */
u32 comm_rank_at(const Comm *c, u32 m, u32 coordinate);

/* Begins a collective of the package, in whose memory its slots are: in memory that its ranks share, where `share` takes it (NULL:
 * none is shared); else it goes on beside what the caller does (queue.h), behind those begun before. Nobody touches what it writes or
 * changes what it reads until it is waited for. */
PL_MUST_USE Status comm_begin(Comm *c, struct Share *share, const PackageStep *step, u8 *memory);
/* Until at most `left` of those that were begun are under way: the first ones are done then. Fails where one has failed. */
PL_MUST_USE Status comm_wait(Comm *c, u32 left);
/* What is under way there will not be waited for any more. */
void comm_forget(Comm *c, const struct Share *share);
/* "all_reduce over data (model.plinth:8)": of a collective, for messages. */
void comm_step_text(const Comm *c, const PackageStep *step, char *to, size_t size);

/* ---- for the run around it; every rank calls, with `what` for messages ---- */

/* Everybody's `bytes`, in order of ranks. */
PL_MUST_USE Status comm_gather(Comm *c, const char *what, const void *mine, u32 bytes, void *all);
PL_MUST_USE Status comm_barrier(Comm *c, const char *what);
PL_MUST_USE Status comm_any(Comm *c, const char *what, bool mine, bool *any);
/* Fails on every rank where some rank failed: with this rank's own failure, or with whose it was. */
PL_MUST_USE Status comm_together(Comm *c, const char *what, Status mine);
/* Do all ranks have the same? Tells which rank differs in which. */
typedef struct CommFact {
	const char *name; /* "the model", "the version of plinth" */
	u64 hash;
} CommFact;
PL_MUST_USE Status comm_agree(Comm *c, const CommFact *fact, u32 n);

/* The extents of the whole: dim[t->rank]. */
void comm_whole_dims(const Comm *c, const PackageTensor *t, i64 *dim);

#endif
