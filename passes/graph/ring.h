/* passes/graph/ring.h: attention whose positions are divided over devices (context parallelism), as a ring (Liu et al. 2023).
 *
 * Each device has a block of queries and the block of keys and values at the same positions. Blocks of keys and values go
 * round: in turn i a device has those of the device i places before it, attends to them with its queries, and passes them on,
 * so that no device ever holds more than two. What turns give is put together by their log-sum-exps. Backwards, the
 * gradients of keys and values go round with them, and one turn more brings them home. */
#ifndef PL_PASSES_RING_H
#define PL_PASSES_RING_H
#include "ir/op.h"

typedef struct Ring {
	Builder *b;
	const char *over; /* mesh axis */
	i64 parts;
	Val at;           /* this device's coordinate, i64[] */
} Ring;

/* `n`: attention or attention_grad of the whole; in: local operands, of which a mask has all keys' positions. out[n->nout]. */
void ring_attention(const Ring *r, const Node *n, const Val *in, Val *out);

#endif
