/* passes/rewrite.c: see rewrite.h. */
#include "passes/rewrite.h"

#include <string.h>

/* Which nodes some result needs, and how often each value is used by those. */
static bool *needed_nodes(Arena *tmp, const Graph *g, u32 *uses)
{
	bool *needed = NEWN(tmp, bool, g->node.n + 1);
	for (u32 i = 0; i < g->result.n; i++) {
		needed[g->value.v[g->result.v[i].value.i].node] = true;
		uses[g->result.v[i].value.i]++;
	}
	for (u32 i = g->node.n; i-- > 0;) {
		const Node *n = &g->node.v[i];
		if (!needed[i] && n->op != OP_input)
			continue;
		needed[i] = true;
		for (u32 k = 0; k < n->nin; k++) {
			needed[g->value.v[n->in[k].i].node] = true;
			uses[n->in[k].i]++;
		}
	}
	return needed;
}

void rewrite_begin(Rewrite *rw, Arena *arena, Arena *tmp, const Graph *from, void *data)
{
	*rw = (Rewrite){ .from = from, .data = data };
	rw->b = builder_new(graph_new(arena, from->ir, from->name));
	rw->map = NEWN(tmp, Val, from->value.n);
	rw->uses = NEWN(tmp, u32, from->value.n);
}

/* The classes of the node are those of its replacement, where it knew them. Only of values made
 * just now: an older one has classes of its own. */
static void inherit_axes(Rewrite *rw, const Node *n, const Val *out, u32 was)
{
	for (u32 i = 0; i < n->nout; i++) {
		if (out[i].i < was)
			continue;
		const Value *to = &rw->b.g->value.v[out[i].i],
			    *from = &rw->from->value.v[n->out.i + i];
		Axis axis[MAX_RANK];
		for (u32 d = 0; d < to->type->rank; d++)
			axis[d] = from->axis[d].id ? from->axis[d] : to->axis[d];
		graph_set_axis(rw->b.g, out[i], axis);
	}
}

void rewrite_nodes(Rewrite *rw, RewriteNode *visit)
{
	Arena tmp = ARENA("rewrite");
	const bool *needed = needed_nodes(&tmp, rw->from, rw->uses);
	for (u32 i = 0; i < rw->from->node.n; i++) {
		if (!needed[i])
			continue;
		const Node *n = &rw->from->node.v[i];
		ArenaMark mark = arena_mark(&tmp);
		Val *in = NEWN(&tmp, Val, n->nin), *out = NEWN(&tmp, Val, n->nout);
		for (u32 k = 0; k < n->nin; k++)
			in[k] = rw->map[n->in[k].i];
		rw->b.loc = n->loc;
		rw->b.scope = n->scope;
		u32 was = rw->b.g->value.n;
		if (visit && visit(rw, n, in, out)) {
			inherit_axes(rw, n, out, was);
		} else {
			Val v = build_copy(&rw->b, rw->from, n, in);
			for (u32 k = 0; k < n->nout; k++)
				out[k] = (Val){ v.i + k };
		}
		for (u32 k = 0; k < n->nout; k++) {
			assert(val_type(rw->b.g, out[k]) ==
			       val_type(rw->from, (Val){ n->out.i + k }));
			rw->map[n->out.i + k] = out[k];
		}
		arena_release(&tmp, mark);
	}
	arena_free(&tmp);
}

Graph *rewrite_end(Rewrite *rw)
{
	const Graph *from = rw->from;
	for (u32 i = 0; i < from->result.n; i++) {
		const Result *r = &from->result.v[i];
		graph_result(rw->b.g, r->name, r->buffer, rw->map[r->value.i]);
	}
	builder_done(&rw->b);
	return rw->b.g;
}

Graph *rewrite_graph(Arena *arena, Arena *tmp, const Graph *from, RewriteNode *visit, void *data,
		     bool no_fold)
{
	Rewrite rw;
	ArenaMark mark = arena_mark(tmp);
	rewrite_begin(&rw, arena, tmp, from, data);
	rw.b.no_fold = no_fold;
	rewrite_nodes(&rw, visit);
	Graph *g = rewrite_end(&rw);
	arena_release(tmp, mark);
	return g;
}

Program *rewrite_shell(Arena *arena, const Program *from)
{
	Program *to = program_new(arena, from->ir, from->name);
	to->facts = from->facts;
	to->mesh = from->mesh;
	to->stage = from->stage;
	for (u32 i = 0; i < from->buffer.n; i++) {
		Buffer b = from->buffer.v[i];
		b.axis = COPYN(arena, Axis, b.axis, b.type->rank);
		program_buffer(to, b);
	}
	return to;
}

Program *rewrite_program(Arena *arena, Arena *tmp, const Program *from, RewriteNode *visit,
			 void *data, bool no_fold)
{
	Program *to = rewrite_shell(arena, from);
	for (u32 i = 0; i < from->entry.n; i++)
		VEC_PUSH(arena, &to->entry,
			 rewrite_graph(arena, tmp, from->entry.v[i], visit, data, no_fold));
	return to;
}

Axis axis_part(Ir *ir, Map *known, Axis whole, i64 size)
{
	i64 n;
	whole = axis_find(ir, whole);
	if (!whole.id || (dim_is_number(ir->axis.v[whole.id].size, &n) && n == size))
		return whole;
	u64 key = hash_bytes(hash_bytes(HASH_SEED, &whole.id, sizeof whole.id), &size, sizeof size);
	u64 *found = map_get(known, key);
	if (found)
		return (Axis){ (u32)*found };
	const AxisClass c = ir->axis.v[whole.id];
	Axis a = axis_new(ir, c.name, dim_number(ir, size), c.loc);
	for (u32 i = 0; i < c.names.n; i++)
		axis_name(ir, a, c.names.v[i]);
	map_put(known, key, a.id);
	return a;
}

const void *attributes_shaped(Arena *arena, const Node *n, const Type *result)
{
	u32 count;
	const AttrField *f = op_info[n->op].fields(&count);
	u8 *copy = arena_copy(arena, n->attr, 1, op_info[n->op].attr_size, 16);
	dims shape = { result->rank, result->dim };
	for (u32 i = 0; i < count; i++)
		if (f[i].kind == ATTR_dims && !strcmp(f[i].name, "shape"))
			*(dims *)(copy + f[i].offset) = shape;
	if (n->op == OP_slice)
		((slice_attr *)copy)->size = shape;
	return copy;
}
