/* passes/graph/fuse_layout.c: how values that are stored lie in memory; see fuse.h.
 *
 * A value has the order of its type, unless all who read it read it transposed alike; and no gaps between rows, unless these are
 * long and would begin where a wide access may not. What others than kernels read and write (results of the entry, collectives' operands
 * and results, what is added to in place) lies as its type has it. */
#include "passes/fuse.h"

#include <string.h>

/* A value whose every use is one transposition is stored in that order: what reads it then finds contiguous what it
 * runs over. Values that the entry gives away keep the order of their type. */
static void choose_orders(Grouping *f, Arena *tmp, const bool *live)
{
	const Graph *g = f->g;
	f->layout = NEWN(f->arena, ints, g->value.n + 1);
	bool *fixed = NEWN(tmp, bool, g->value.n + 1);
	for (u32 i = 0; i < g->result.n; i++)
		fixed[g->result.v[i].value.i] = true;
	for (u32 i = 0; i < g->node.n; i++) {
		const Node *n = &g->node.v[i];
		for (u32 k = 0; node_class((Op)n->op) == NODE_COLLECTIVE && k < n->nout; k++)
			fixed[n->out.i + k] = true;
		if (added_onto(n).i)
			fixed[n->out.i] = true;
		for (u32 k = 0; live[i] && k < n->nin; k++) {
			Val v = n->in[k];
			if (!f->stored[v.i] || fixed[v.i])
				continue;
			/* uses in the group that makes the value take it from registers */
			if (grouping_home(f, i) != NONE && grouping_home(f, i) == grouping_home(f, g->value.v[v.i].node))
				continue;
			const ints *was = &f->layout[v.i];
			const ints perm = n->op == OP_transpose ? ATTR(n, transpose)->perm : (ints){ 0 };
			fixed[v.i] = !perm.n || (was->n && memcmp(was->v, perm.v, perm.n * sizeof *perm.v) != 0);
			f->layout[v.i] = fixed[v.i] ? (ints){ 0 } : perm;
		}
	}
}

i64 grouping_row(const Grouping *f, Val v)
{
	const Type *t = val_type(f->g, v);
	const ints layout = f->layout[v.i];
	return type_extent(t, layout.n ? (u32)layout.v[layout.n - 1] : t->rank - 1u);
}

/* Rows begin where wide accesses may: a long row whose length is odd is followed by a gap. */
static void choose_pitches(Grouping *f, Arena *tmp, u32 row_align)
{
	enum { LONG = 64 };
	const Graph *g = f->g;
	f->pitch = NEWN(f->arena, i64, g->value.n + 1);
	bool *given = NEWN(tmp, bool, g->value.n + 1);
	for (u32 i = 0; i < g->result.n; i++)
		given[g->result.v[i].value.i] = true;
	for (u32 i = 0; i < g->node.n; i++) {
		const Node *n = &g->node.v[i];
		for (u32 k = 0; node_class((Op)n->op) == NODE_COLLECTIVE && k < n->nin + n->nout; k++)
			given[k < n->nin ? n->in[k].i : n->out.i + k - n->nin] = true;
		if (added_onto(n).i) /* in one place */
			given[added_onto(n).i] = given[n->out.i] = true;
	}
	for (u32 v = 0; row_align && v < g->value.n; v++) {
		const Type *t = val_type(g, (Val){ v });
		if (!f->stored[v] || given[v] || !t->rank)
			continue;
		i64 row = grouping_row(f, (Val){ v });
		i64 align = MAX(1, (i64)row_align / dtype_info[t->dtype].bytes);
		if (row >= LONG && row % align)
			f->pitch[v] = ALIGN_UP(row, align);
	}
}

i64 grouping_elements(const Grouping *f, Val v)
{
	i64 n = type_elements(val_type(f->g, v));
	return f->pitch[v.i] ? n / grouping_row(f, v) * f->pitch[v.i] : n;
}

void fuse_layout(Grouping *f, Arena *tmp, const bool *live, u32 row_align)
{
	choose_orders(f, tmp, live);
	choose_pitches(f, tmp, row_align);
}
