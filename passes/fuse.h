/* passes/fuse.h: which nodes of an entry share a kernel, and which values go through memory.
 *
 * Reads a graph whose dimensions are numbers and whose composites are expanded (but for those a target
 * lowers whole); gives a Grouping beside it. The graph itself does not change: fusion is a decision about
 * it, which grouping_print() shows, and which lowering carries out.
 *
 * Every node is one of
 *   source     input, read: in memory already
 *   free       views, full, iota, random, ...: never computed on their own, but at each use, by indexing
 *   pointwise  one value from operands at one place: scalar functions, casts, pad, concat, gather
 *   reduction  over the last axis (ROW) or over others (COLUMN)
 *   skeleton   matrix multiply, attention, scatter, ...: one per group
 *   collective what devices do together: a group of its own, over operands and results in memory as they are
 * Reductions and skeletons are computed once, in their group. A pointwise value is computed in its home
 * group and, where another group wants it, either stored and loaded, or computed again there from what is
 * stored (`stored` says which). */
#ifndef PL_FUSE_H
#define PL_FUSE_H
#include "ir/target.h"

typedef enum NodeClass { NODE_SOURCE, NODE_FREE, NODE_POINTWISE, NODE_REDUCTION, NODE_SKELETON, NODE_COLLECTIVE } NodeClass;
NodeClass node_class(Op op);

typedef struct Group {
	KernelClass class;
	const Type *shape;   /* of the domain: of its pointwise members, or of what its reductions read */
	ints axes;           /* COLUMN: those reduced */
	u32 root;            /* its last node in the graph: groups run in the order of their roots */
	VEC(u32) member;     /* nodes at home here, ascending */
	VEC(Val) stored;     /* members' values that go to memory, in order */
	u32 skeleton;        /* its dot, attention, ... node, or NONE */
	u32 into;            /* merged into that group, or NONE */
	bool closed;         /* somebody else needs what it computes: nothing more may join */
	const char *why;     /* why it ended, in words: shown to people */
	u32 why_node;        /* the node that ended it, or NONE */
} Group;

typedef struct Grouping {
	Arena *arena;
	const Graph *g;
	VEC(Group) group;
	u32 *home;           /* [node] group, or NONE for sources and free nodes */
	bool *stored;        /* [value] */
	ints *layout;        /* [value] of a stored one: its dimensions from outermost to innermost in memory; n = 0:
			      * as its type has them */
	i64 *pitch;          /* [value] elements from one row of the innermost dimension to the next; 0: no gap */
	u32 *order;          /* groups that remain, in order of execution */
	u32 norder;
	bool products_f8;    /* of the target (ir/target.h) */
	u32 *place;          /* [group] its place in `order`, or NONE */
} Grouping;

/* `g` bound and expanded. Everything is allocated in `arena`; `tmp` is scratch. `like`, if not NULL: the same graph bound to other
 * sizes, which decide where the size of a value does. */
Grouping *fuse_graph(Arena *arena, Arena *tmp, const Graph *g, const TargetInfo *target, const Graph *like);
/* Puts sums beside products that read what they sum (TargetInfo.sums_beside): fuse_sums.c. Groups are complete, and `live` says
 * which nodes are. */
void fuse_sums(Grouping *f, Arena *tmp, const bool *live);
/* How stored values lie in memory: f->layout and f->pitch; rows of wide accesses begin at multiples of `row_align` bytes, 0: anywhere.
 * fuse_layout.c. */
void fuse_layout(Grouping *f, Arena *tmp, const bool *live, u32 row_align);
/* The group that the node is at home in, of those that remain, or NONE. */
u32 grouping_home(const Grouping *f, u32 node);
/* The product in whose group the sum is: which of its operands is summed. */
u32 summed_operand(const Graph *g, const Node *dot, const Node *sum);
/* The extent of what is innermost in memory, of a stored value that is no scalar. */
i64 grouping_row(const Grouping *f, Val v);
/* Elements that the value takes up in memory, gaps between rows among them. */
i64 grouping_elements(const Grouping *f, Val v);
/* The value that node `n`, a skeleton, adds to in the place where that is; {0}: none. */
static inline Val added_onto(const Node *n)
{
	return n->op == OP_scatter_add && n->nin == 3 ? n->in[2] : (Val){ 0 };
}
/* Which result of the group's skeleton the value, computed in the group, is made from; NONE: none. */
u32 group_result(const Grouping *f, u32 group, Val v);
void grouping_print(const Grouping *f, FILE *to);

#endif
