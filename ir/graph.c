/* ir/graph.c: programs and graphs as containers; see graph.h. Nodes are made in build.c. */
#include "ir/graph.h"

#include <string.h>

const char *const buffer_kind_name[BUFFER_KINDS] = {
	[BUFFER_PARAMETER] = "parameter", [BUFFER_STATE] = "state",
	[BUFFER_GRADIENT] = "gradient",   [BUFFER_COUNTER] = "counter",
	[BUFFER_CACHE] = "cache",	  [BUFFER_MESH] = "mesh",
	[BUFFER_STASH] = "stash",
};

const FactInfo fact_info[FACTS] = {
#define FACT(name, text) [FACT_##name] = { #name, text },
#include "ir/facts.def"
#undef FACT
};

Graph *graph_new(Arena *arena, Ir *ir, const char *name)
{
	Graph *g = NEW(arena, Graph);
	g->arena = arena;
	g->ir = ir;
	g->name = intern_z(&ir->names, name);
	g->shared.arena = arena;
	VEC_PUSH(arena, &g->value, (Value){ .node = NONE });
	return g;
}

void graph_result(Graph *g, const char *name, u32 buffer, Val value)
{
	VEC_PUSH(g->arena, &g->result, (Result){ intern_z(&g->ir->names, name), buffer, value });
}

Program *program_new(Arena *arena, Ir *ir, const char *name)
{
	Program *p = NEW(arena, Program);
	p->arena = p->buffer_at.arena = arena;
	p->ir = ir;
	p->name = intern_z(&ir->names, name);
	return p;
}

size_t scope_layer(const char *scope)
{
	for (const char *at = scope; at && *at;) {
		size_t n = strcspn(at, ".");
		if (n && strspn(at, "0123456789") == n)
			return (size_t)(at - scope) + n;
		at += n + (at[n] == '.');
	}
	return 0;
}

u32 program_find_buffer(const Program *p, const char *name)
{
	const u64 *at = map_get(&p->buffer_at, MAP_KEY(name));
	return at ? (u32)*at : NONE;
}

u32 program_buffer(Program *p, Buffer b)
{
	b.name = intern_z(&p->ir->names, b.name);
	b.scope = b.scope ? intern_z(&p->ir->names, b.scope) : intern_z(&p->ir->names, "");
	if (!b.axis)
		b.axis = NEWN(p->arena, Axis, b.type->rank + 1);
	map_put(&p->buffer_at, MAP_KEY(b.name), p->buffer.n);
	VEC_PUSH(p->arena, &p->buffer, b);
	return p->buffer.n - 1;
}

Graph *program_entry(Program *p, const char *name)
{
	Graph *g = graph_new(p->arena, p->ir, name);
	VEC_PUSH(p->arena, &p->entry, g);
	return g;
}

Graph *program_find_entry(const Program *p, Str name)
{
	for (u32 i = 0; i < p->entry.n; i++)
		if (str_equal(str_of(p->entry.v[i]->name), name))
			return p->entry.v[i];
	return NULL;
}

void graph_set_axis(Graph *g, Val v, const Axis *axis)
{
	Value *value = &g->value.v[v.i];
	value->axis = COPYN(g->arena, Axis, axis, value->type->rank);
}

void graph_know_axis(Graph *g, Val v, u32 d, Axis axis)
{
	Value *x = &g->value.v[v.i];
	assert(d < x->type->rank && !x->axis[d].id);
	Axis *known = COPYN(g->arena, Axis, x->axis, x->type->rank);
	known[d] = axis;
	x->axis = known;
}
