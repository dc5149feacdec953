/* runtime/comm/state.h: what a Comm is, for the two files that make it: comm.c, where ranks meet, wait and agree, and collectives.c,
 * which moves a package's tensors between them. */
#ifndef PL_COMM_STATE_H
#define PL_COMM_STATE_H
#include "runtime/comm/comm.h"
#include "runtime/comm/queue.h"

/* Who a rank is: for messages, and to see whether it lives. */
typedef struct Peer {
	char host[64];
	i64 process;
} Peer;

typedef struct Bytes {
	u8 *p;
	u64 size;
} Bytes;

/* Under way: the bytes are kept until they have left. */
typedef struct Sent {
	void *message;
	u8 *p;
} Sent;

/* What collectives.c packs, and what of it has not left. */
typedef struct Messages {
	Bytes send, receive, slots; /* slots: addresses */
	int *count[4];              /* [ranks] bytes and places, sent and received */
	u64 *bytes[2];              /* [ranks] to send and to receive */
	Sent *sent;
	u32 nsent, room;
} Messages;

/* A collective under way. */
typedef struct Flow {
	struct Share *share; /* where it is; NULL: in the queue */
	const PackageStep *step;
} Flow;

struct Comm {
	const Transport *transport;
	void *state;
	u32 rank, ranks, local_rank, local_ranks;
	Peer *peer; /* [ranks] */
	PackageMesh mesh;
	void *group[6];
	u32 at[6];  /* this rank's coordinates */
	Messages messages;
	char what[300]; /* that is waited for */
	void (*doing)(void *cx, char *to, size_t size); /* of the device that runs steps; or NULL */
	void *doing_cx;
	Queue *queue; /* of collectives under way; NULL: there were none yet */
	Flow flow[COMM_ROOM]; /* what is under way */
	u32 begun, done, queued; /* all so far, and how many of those under way are in the queue */
};

/* comm.c: until the message, or where that is NULL the collective, that was begun is done. */
PL_MUST_USE Status comm_wait_message(Comm *c, void **message);
/* A failure of the transport, in the words of this rank. */
PL_MUST_USE Status comm_said_failed(Comm *c, Status s, f64 seconds);

/* collectives.c: fails for want of memory; may be closed then too. */
PL_MUST_USE Status messages_open(Messages *m, u32 ranks);
void messages_close(Messages *m);
/* Runs a collective to its end, `cx` is the Comm: a SpeakFunction. */
Status collective_run(void *cx, const PackageStep *step, u8 *memory);

#endif
