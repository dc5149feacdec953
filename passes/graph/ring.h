/* passes/graph/ring.h: attention whose positions are divided over devices (context parallelism), as a ring (Liu et al. 2023).
 *
 * Each device has some of the queries, and keys and values at the same positions. Keys and values go round: in turn i a
 * device has those of the device i places before it, attends to them with its queries, and passes them on, so that no
 * device ever holds more than two parts. What turns give is put together by their log-sum-exps. Backwards, the gradients
 * of keys and values go round with them, and one turn more brings them home.
 *
 * Causal attention is divided in stripes: device d of n has positions d, n + d, 2 n + d, ... (Brandon et al. 2023). Of n
 * consecutive parts the last one's queries would see all keys and the first one's few, and as all wait for one another, each turn
 * would take what the last one's does. Of stripes every device sees half of every other's: query j sees keys up to j, the
 * last one left out where the keys are of a device behind this one. */
#ifndef PL_PASSES_RING_H
#define PL_PASSES_RING_H
#include "ir/op.h"

typedef struct Ring {
	Builder *b;
	const char *over; /* mesh axis */
	i64 parts;
	Val at;           /* this device's coordinate, i64[] */
	i64 runs;         /* how many runs of consecutive positions a device has */
} Ring;

/* `n`: attention or attention_grad of the whole; in: local operands, of which a mask has all keys' positions. out[n->nout]. */
void ring_attention(const Ring *r, const Node *n, const Val *in, Val *out);

#endif
