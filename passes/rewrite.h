/* passes/rewrite.h: copy a graph, change what matches: the walk that most passes are. It visits the
 * nodes that some result needs, in order, with their operands already in the new graph; what a pass
 * does not replace is copied with place, scope and axis classes. Inputs stay even where nothing
 * uses them: they are what the entry's caller gives. */
#ifndef PL_REWRITE_H
#define PL_REWRITE_H
#include "ir/op.h"

typedef struct Rewrite {
	const Graph *from;
	Builder b;  /* into the new graph, b.g */
	Val *map;   /* value of `from` -> value of b.g; {0} for what was dropped */
	u32 *uses;  /* of each value of `from`: by nodes that are needed, and by results */
	void *data; /* the pass's own */
} Rewrite;

/* Fills out[n->nout] and returns true, or returns false to have the node copied. Types stay as they
 * are. Nodes that it builds carry the node's place and scope unless it says otherwise. */
typedef bool RewriteNode(Rewrite *rw, const Node *n, const Val *in, Val *out);

/* The new graph lies in `arena`; `tmp` is for the walk. `visit` may be NULL. */
void rewrite_begin(Rewrite *rw, Arena *arena, Arena *tmp, const Graph *from, void *data);
void rewrite_nodes(Rewrite *rw, RewriteNode *visit);
/* Results as they were, through the map. Then more may be added to the graph, which is returned. */
Graph *rewrite_end(Rewrite *rw);

/* The three in turn. With no_fold nodes are kept as they are written. */
Graph *rewrite_graph(Arena *arena, Arena *tmp, const Graph *from, RewriteNode *visit, void *data,
		     bool no_fold);
/* A program with the same name, facts and buffers, and no entries. */
Program *rewrite_shell(Arena *arena, const Program *from);
Program *rewrite_program(Arena *arena, Arena *tmp, const Program *from, RewriteNode *visit,
			 void *data, bool no_fold);

/* ---- for passes that compute a part of what a node does ---- */

/* The class of so many positions of an axis: its names, another size. `known` finds it again. */
Axis axis_part(Ir *ir, Map *known, Axis whole, i64 size);
/* The node's attributes, in `arena`, where result 0 has this type: those that name its shape. */
const void *attributes_shaped(Arena *arena, const Node *n, const Type *result);

#endif
