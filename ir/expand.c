/* ir/expand.c: see expand.h. */
#include "ir/expand.h"

/* What the expansion does not know about a result's dimensions, the composite did. */
static void inherit_axes(Graph *g, Val v, const Value *from)
{
	Value *to = &g->value.v[v.i];
	Axis axis[MAX_RANK];
	for (u32 d = 0; d < to->type->rank; d++)
		axis[d] = to->axis[d].id ? to->axis[d] : from->axis[d];
	graph_set_axis(g, v, axis);
}

void expand_node(Builder *b, const Graph *from, const Node *n, const Val *in, Val *out)
{
	/* by value: both live in arrays that grow as nodes are built, when from is b->g */
	Node node = *n;
	Val first = node.out;
	Loc loc = b->loc;
	const char *scope = b->scope;
	u32 was = b->g->value.n;
	node.in = in;
	node.out = (Val){ 0 };
	b->loc = node.loc;
	b->scope = node.scope;
	op_info[node.op].def->expand(b, &node, out);
	b->loc = loc;
	b->scope = scope;
	for (u32 i = 0; i < node.nout; i++) {
		const Value *value = &from->value.v[first.i + i];
		assert(val_type(b->g, out[i]) == value->type);
		if (out[i].i >= was)
			inherit_axes(b->g, out[i], value);
	}
}

Graph *expansion_of(Arena *arena, const Graph *from, const Node *n)
{
	Graph *g = graph_new(arena, from->ir, op_info[n->op].name);
	Builder b = builder_new(g);
	Val *in = NEWN(arena, Val, n->nin), *out = NEWN(arena, Val, n->nout);
	for (u32 i = 0; i < n->nin; i++) {
		const Type *t = val_type(from, n->in[i]);
		in[i] = BS(&b, input, .name = intern_printf(&from->ir->names, "in%u", i),
			   .dtype = t->dtype, .shape = { t->rank, t->dim });
		graph_set_axis(g, in[i], val_axis(from, n->in[i]));
	}
	expand_node(&b, from, n, in, out);
	for (u32 i = 0; i < n->nout; i++)
		graph_result(g, "out", NONE, out[i]);
	builder_done(&b);
	return g;
}
