/* ir/eval.c: see eval.h. Each value has a memory of its own while it is needed. */
#include "ir/eval.h"
#include "ir/expand.h"

#include <string.h>

/* A value while it is needed: its data is in `memory`. */
typedef struct Live {
	Arena memory;
	Tensor tensor;
	u32 uses; /* left */
} Live;

typedef struct Evaluator {
	const Graph *g;
	EvalOptions options;
	Arena tmp;
	Live *live;   /* by value */
	bool *needed; /* by node */
} Evaluator;

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
		e->live[want[i].i].uses++;
	}
	for (u32 i = g->node.n; i-- > 0;) {
		const Node *node = &g->node.v[i];
		for (u32 k = 0; e->needed[i] && k < node->nin; k++) {
			e->needed[g->value.v[node->in[k].i].node] = true;
			e->live[node->in[k].i].uses++;
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

static void eval_node(Evaluator *e, const Node *n, const Tensor *source)
{
	const OpDef *def = op_info[n->op].def;
	ArenaMark mark = arena_mark(&e->tmp);
	const Tensor **in = NEWN(&e->tmp, const Tensor *, n->nin);
	Tensor *out = NEWN(&e->tmp, Tensor, n->nout);
	for (u32 i = 0; i < n->nin; i++)
		in[i] = &e->live[n->in[i].i].tensor;
	for (u32 i = 0; i < n->nout; i++) {
		Live *l = &e->live[n->out.i + i];
		l->memory = ARENA("value");
		out[i] = tensor_new(&l->memory, val_type(e->g, (Val){ n->out.i + i }));
	}
	if (is_source(n)) {
		assert(source->n == out->n && (source->data || !source->n));
		if (out->n)
			memcpy(out->data, source->data, (size_t)out->n * sizeof(f64));
	} else if (def->eval) {
		def->eval(&(EvalCx){ .arena = &e->tmp, .g = e->g, .node = n, .in = in, .out = out });
	} else {
		if (!def->expand)
			NEVER("an op with neither eval nor expand");
		eval_expansion(e->g, n, in, out, e->options);
	}
	for (u32 i = 0; i < n->nout; i++) {
		Live *l = &e->live[n->out.i + i];
		l->tensor = out[i];
		round_result(&l->tensor, e->options);
		if (!l->uses)
			drop(l);
	}
	for (u32 i = 0; i < n->nin; i++)
		if (--e->live[n->in[i].i].uses == 0)
			drop(&e->live[n->in[i].i]);
	arena_release(&e->tmp, mark);
}

void eval_values(Arena *a, const Graph *g, const Tensor *source, const Val *want, u32 n, Tensor *out,
		 EvalOptions options)
{
	Evaluator e = { .g = g, .options = options, .tmp = ARENA("eval") };
	e.live = NEWN(&e.tmp, Live, g->value.n);
	e.needed = NEWN(&e.tmp, bool, g->node.n + 1);
	mark_needed(&e, want, n);
	for (u32 i = 0; i < g->node.n; i++) {
		const Node *node = &g->node.v[i];
		if (e.needed[i])
			eval_node(&e, node, source);
		source += is_source(node);
	}
	for (u32 i = 0; i < n; i++) {
		out[i] = e.live[want[i].i].tensor;
		out[i].data = COPYN(a, f64, out[i].data, out[i].n);
	}
	for (u32 i = 0; i < n; i++)
		drop(&e.live[want[i].i]);
	arena_free(&e.tmp);
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

void eval_entry(Arena *a, const Program *p, const Graph *entry, const Tensor *input, Tensor *buffer,
		Tensor *result, EvalOptions options)
{
	Arena tmp = ARENA("entry");
	u32 n = graph_sources(entry, NULL);
	const Node **node = NEWN(&tmp, const Node *, n);
	Tensor *source = NEWN(&tmp, Tensor, n);
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
	eval_graph(a, entry, source, result, options);
	for (u32 i = 0; i < entry->result.n; i++)
		if (entry->result.v[i].buffer != NONE)
			buffer[entry->result.v[i].buffer] = result[i];
	arena_free(&tmp);
}
