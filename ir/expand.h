/* ir/expand.h: one composite op written out in simpler ones: what the pass `expand`, the evaluator
 * and the cost model share. */
#ifndef PL_EXPAND_H
#define PL_EXPAND_H
#include "ir/op.h"

static inline bool node_expands(const Node *n)
{
	return op_info[n->op].def->expand != NULL;
}

/* Appends to b->g what node `n` of `from` means, with operands `in` (values of b->g); out[n->nout]
 * are its results, of the same types. Place, scope and axis classes are the node's. The expansion
 * may hold composites in turn. `from` may be b->g. */
void expand_node(Builder *b, const Graph *from, const Node *n, const Val *in, Val *out);

/* A graph in `arena` of one node's expansion: its inputs are the operands, its results the results. */
Graph *expansion_of(Arena *arena, const Graph *from, const Node *n);

#endif
