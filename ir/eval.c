/* ir/eval.c: see eval.h. Each value has a memory of its own while it is needed. */
#include "ir/eval.h"
#include "ir/expand.h"
#include "ir/shard.h"

#include <string.h>

/* A value while it is needed: its data is in `memory`. */
typedef struct Live {
	Arena memory;
	Tensor tensor;
	u32 uses; /* left */
} Live;

typedef struct Evaluator {
	const Graph *g;
	const Mesh *mesh;
	u32 ranks;
	EvalOptions options;
	Arena tmp;
	Live *live;   /* [value * ranks + rank] */
	u32 *uses;    /* of each value */
	bool *needed; /* by node */
} Evaluator;

static Live *live_of(Evaluator *e, Val v, u32 rank)
{
	return &e->live[(size_t)v.i * e->ranks + rank];
}

Tensor tensor_new(Arena *a, const Type *t)
{
	Tensor x = { .dtype = t->dtype, .rank = t->rank, .n = type_elements(t) };
	for (u32 d = 0; d < t->rank; d++)
		x.dim[d] = type_extent(t, d);
	x.data = NEWN(a, f64, x.n);
	return x;
}

static bool is_source(const Node *n)
{
	return n->op == OP_input || n->op == OP_read;
}

u32 graph_sources(const Graph *g, const Node **node)
{
	u32 n = 0;
	for (u32 i = 0; i < g->node.n; i++)
		if (is_source(&g->node.v[i])) {
			if (node)
				node[n] = &g->node.v[i];
			n++;
		}
	return n;
}

/* Which nodes the wanted values need, and how often each value is used by those. */
static void mark_needed(Evaluator *e, const Val *want, u32 n)
{
	const Graph *g = e->g;
	for (u32 i = 0; i < n; i++) {
		e->needed[g->value.v[want[i].i].node] = true;
		e->uses[want[i].i]++;
	}
	for (u32 i = g->node.n; i-- > 0;) {
		const Node *node = &g->node.v[i];
		for (u32 k = 0; e->needed[i] && k < node->nin; k++) {
			e->needed[g->value.v[node->in[k].i].node] = true;
			e->uses[node->in[k].i]++;
		}
	}
}

static void round_result(Tensor *t, EvalOptions options)
{
	if (!options.round && dtype_is_float(t->dtype))
		return;
	for (i64 i = 0; i < t->n; i++)
		t->data[i] = dtype_round(t->dtype, t->data[i]);
}

static void drop(Live *l)
{
	arena_free(&l->memory);
	l->tensor.data = NULL;
}

static void eval_expansion(const Graph *g, const Node *n, const Tensor *const *in, Tensor *out,
			   EvalOptions options)
{
	Arena tmp = ARENA("expansion");
	Graph *inside = expansion_of(&tmp, g, n);
	Tensor *source = NEWN(&tmp, Tensor, n->nin), *result = NEWN(&tmp, Tensor, n->nout);
	for (u32 i = 0; i < n->nin; i++)
		source[i] = *in[i];
	eval_graph(&tmp, inside, source, result, options);
	for (u32 i = 0; i < n->nout; i++)
		if (out[i].n)
			memcpy(out[i].data, result[i].data, (size_t)out[i].n * sizeof(f64));
	arena_free(&tmp);
}

/* One device's operands and results of a node, results zeroed. */
static EvalCx node_cx(Evaluator *e, const Node *n, u32 rank)
{
	const Tensor **in = NEWN(&e->tmp, const Tensor *, n->nin);
	Tensor *out = NEWN(&e->tmp, Tensor, n->nout);
	for (u32 i = 0; i < n->nin; i++)
		in[i] = &live_of(e, n->in[i], rank)->tensor;
	for (u32 i = 0; i < n->nout; i++) {
		Live *l = live_of(e, (Val){ n->out.i + i }, rank);
		l->memory = ARENA("value");
		out[i] = tensor_new(&l->memory, val_type(e->g, (Val){ n->out.i + i }));
	}
	return (EvalCx){ .arena = &e->tmp, .g = e->g, .node = n, .in = in, .out = out };
}

static void eval_alone(Evaluator *e, EvalCx *cx, const Tensor *source)
{
	const Node *n = cx->node;
	const OpDef *def = op_info[n->op].def;
	if (is_source(n)) {
		assert(source->n == cx->out->n && (source->data || !source->n));
		if (source->n)
			memcpy(cx->out->data, source->data, (size_t)source->n * sizeof(f64));
	} else if (def->eval) {
		def->eval(cx);
	} else {
		if (!def->expand)
			NEVER("an op with neither eval nor expand");
		eval_expansion(e->g, n, cx->in, cx->out, e->options);
	}
}

/* Every group of devices along the node's mesh axis. */
static void eval_collective(Evaluator *e, EvalCx *cx)
{
	const Node *n = cx->node;
	u32 m = mesh_find(e->mesh, ATTR(n, all_reduce)->over); /* collectives begin with `over` */
	if (m == NONE)
		NEVER("a collective is over an axis that the mesh has not");
	u32 parts = e->mesh->axis[m].size, *group = NEWN(&e->tmp, u32, parts);
	EvalCx *member = NEWN(&e->tmp, EvalCx, parts);
	for (u32 rank = 0; rank < e->ranks; rank++) {
		if (mesh_coordinate(e->mesh, rank, m))
			continue;
		mesh_group(e->mesh, rank, m, group);
		for (u32 c = 0; c < parts; c++)
			member[c] = cx[group[c]];
		op_info[n->op].def->eval_group(member, parts);
	}
}

static void eval_node(Evaluator *e, const Node *n, const Tensor *const *source, u32 at)
{
	ArenaMark mark = arena_mark(&e->tmp);
	EvalCx *cx = NEWN(&e->tmp, EvalCx, e->ranks);
	for (u32 r = 0; r < e->ranks; r++)
		cx[r] = node_cx(e, n, r);
	if (e->mesh && op_info[n->op].traits & T_COLLECTIVE)
		eval_collective(e, cx);
	else
		for (u32 r = 0; r < e->ranks; r++)
			eval_alone(e, &cx[r], source[r] + at);
	for (u32 r = 0; r < e->ranks; r++) {
		for (u32 i = 0; i < n->nout; i++) {
			Live *l = live_of(e, (Val){ n->out.i + i }, r);
			l->tensor = cx[r].out[i];
			l->uses = e->uses[n->out.i + i];
			round_result(&l->tensor, e->options);
			if (!l->uses)
				drop(l);
		}
		for (u32 i = 0; i < n->nin; i++) {
			Live *l = live_of(e, n->in[i], r);
			if (--l->uses == 0)
				drop(l);
		}
	}
	arena_release(&e->tmp, mark);
}

/* source[r], out[r]: device r's. */
static void eval_ranks(Arena *a, const Graph *g, const Mesh *mesh, u32 ranks, const Tensor *const *source, const Val *want,
		       u32 n, Tensor *const *out, EvalOptions options)
{
	Evaluator e = { .g = g, .mesh = mesh, .ranks = ranks, .options = options, .tmp = ARENA("eval") };
	e.live = NEWN(&e.tmp, Live, (size_t)g->value.n * ranks);
	e.uses = NEWN(&e.tmp, u32, g->value.n);
	e.needed = NEWN(&e.tmp, bool, g->node.n + 1);
	mark_needed(&e, want, n);
	u32 at = 0;
	for (u32 i = 0; i < g->node.n; i++) {
		const Node *node = &g->node.v[i];
		if (e.needed[i])
			eval_node(&e, node, source, at);
		at += is_source(node);
	}
	for (u32 r = 0; r < ranks; r++)
		for (u32 i = 0; i < n; i++) {
			out[r][i] = live_of(&e, want[i], r)->tensor;
			out[r][i].data = COPYN(a, f64, out[r][i].data, out[r][i].n);
		}
	for (u32 r = 0; r < ranks; r++)
		for (u32 i = 0; i < n; i++)
			drop(live_of(&e, want[i], r));
	arena_free(&e.tmp);
}

void eval_values(Arena *a, const Graph *g, const Tensor *source, const Val *want, u32 n, Tensor *out,
		 EvalOptions options)
{
	eval_ranks(a, g, NULL, 1, &source, want, n, &out, options);
}

void eval_graph(Arena *a, const Graph *g, const Tensor *source, Tensor *result, EvalOptions options)
{
	Arena tmp = ARENA("results");
	Val *want = NEWN(&tmp, Val, g->result.n);
	for (u32 i = 0; i < g->result.n; i++)
		want[i] = g->result.v[i].value;
	eval_values(a, g, source, want, g->result.n, result, options);
	arena_free(&tmp);
}

/* A device's values for the nodes that take theirs from outside. */
static Tensor *entry_sources(Arena *tmp, const Program *p, const Graph *entry, const Tensor *input, const Tensor *buffer)
{
	u32 n = graph_sources(entry, NULL);
	const Node **node = NEWN(tmp, const Node *, n);
	Tensor *source = NEWN(tmp, Tensor, n);
	graph_sources(entry, node);
	for (u32 i = 0; i < n; i++) {
		if (node[i]->op == OP_input) {
			source[i] = *input++;
			continue;
		}
		u32 at = program_find_buffer(p, ATTR(node[i], read)->buffer);
		if (at == NONE)
			NEVER("an entry reads a buffer that its program has not");
		source[i] = buffer[at];
	}
	return source;
}

void eval_mesh_entry(Arena *a, const Program *p, const Graph *entry, const Tensor *const *input, Tensor *const *buffer,
		     Tensor *const *result, EvalOptions options)
{
	Arena tmp = ARENA("entry");
	u32 ranks = mesh_devices(&p->mesh);
	const Tensor **source = NEWN(&tmp, const Tensor *, ranks);
	Val *want = NEWN(&tmp, Val, entry->result.n);
	for (u32 i = 0; i < entry->result.n; i++)
		want[i] = entry->result.v[i].value;
	for (u32 r = 0; r < ranks; r++)
		source[r] = entry_sources(&tmp, p, entry, input[r], buffer[r]);
	eval_ranks(a, entry, p->mesh.n ? &p->mesh : NULL, ranks, source, want, entry->result.n, result, options);
	for (u32 r = 0; r < ranks; r++)
		for (u32 i = 0; i < entry->result.n; i++)
			if (entry->result.v[i].buffer != NONE)
				buffer[r][entry->result.v[i].buffer] = result[r][i];
	arena_free(&tmp);
}

void eval_entry(Arena *a, const Program *p, const Graph *entry, const Tensor *input, Tensor *buffer,
		Tensor *result, EvalOptions options)
{
	assert(mesh_devices(&p->mesh) == 1);
	eval_mesh_entry(a, p, entry, &input, &buffer, &result, options);
}
