/* ir/cost.h: what a graph needs, counted from its nodes; sizes must be bound. FLOPs as the field
 * counts them: one per arithmetic operation, 2 m n k for a matrix multiply. */
#ifndef PL_COST_H
#define PL_COST_H
#include "ir/op.h"

typedef struct NodeCost {
	f64 flops;
	f64 matmul_flops; /* the part of flops that contractions do */
	f64 bytes;        /* operands and results through memory once */
} NodeCost;

/* A composite without a cost of its own needs the FLOPs of its expansion, and reads and writes its own
 * operands and results. One that has a cost does the same share of it in contractions as its
 * expansion does. */
NodeCost node_cost(const Graph *g, const Node *n);

/* Of each node in `arena`; zeroes for nodes that no result needs. */
NodeCost *node_costs(Arena *arena, const Graph *g);

/* All that the graph's results need, each node once. */
NodeCost graph_cost(const Graph *g);

/* How many pairs (query, key) one head of attention computes: all, or those a causal (windowed) mask shows. */
f64 attention_pairs(bool causal, i64 window, i64 queries, i64 keys);

#endif
