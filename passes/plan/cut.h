/* passes/plan/cut.h: minimum cuts of a network: the cheapest way to say yes (the source's side) or no to each node
 * where some pairs cost something: an edge's capacity is paid where `from` says yes and `to` says no. */
#ifndef PL_PASSES_CUT_H
#define PL_PASSES_CUT_H
#include "support/vec.h"

enum { CUT_YES, CUT_NO, CUT_NODES }; /* the source, the sink, and how many nodes there are before others */

typedef struct CutEdge {
	u32 to;
	f64 capacity, left; /* left: the residual */
} CutEdge;

typedef struct Cut {
	Arena *arena;
	u32 nnode;
	VEC(CutEdge) edge;  /* 2 i and 2 i + 1: an edge and its reverse */
	u32 *start, *list;  /* edges by node, once cut_solve() ran */
	u32 *level, *at, *path;
} Cut;

/* Capacity of what must not be. */
#define CUT_NEVER 1e30

Cut *cut_new(Arena *arena, u32 nnode);
/* The edge's number. All edges are added before the first cut_solve(). */
u32 cut_edge(Cut *c, u32 from, u32 to, f64 capacity);
void cut_capacity(Cut *c, u32 edge, f64 capacity);
/* The cost of the cheapest cut; yes[node], of those the one with the fewest yeses. */
f64 cut_solve(Cut *c, bool *yes);

#endif
