/* passes/graph/stage_update.c: the step's last entry for one stage of a pipeline: its parameters, with what all stages have in
 * common, such as the gradient's norm and the count that the loss is over.
 *
 * A node can be made where all its operands are. Where they are in different stages, stages tell one another: of a sum,
 * each adds up its own terms, and a sum over the pipeline gives all of them the whole. Of other nodes' operands the smallest
 * is told to all, as it was before it was repeated to its shape: a sum to which its first holder alone gives more than zeros.
 * All stages do so in the same order, and keep what they are told among the entry's results, so that no pass drops a message.
 * Gradients of parameters that several stages have are summed over these first. */
#include "ir/op.h"
#include "passes/graph/stage.h"

#include <string.h>

typedef struct Update {
	const StagePlan *x;
	const EntryStages *e;
	const Graph *g;
	u64 all;
	u64 *where;      /* [node] stages that can make it, bits */
	bool *term;      /* [node] a sum that goes on into another one, which is made over all stages */
	bool *sum;       /* [node] such a sum's last */
	bool *tell;      /* [node] told to all stages as soon as it is made */
	Builder b;
	u32 sums;        /* over all stages, so far */
	Val *map;        /* [value] in the new graph */
} Update;

Val stage_sum(Builder *b, const StageRules *r, u64 members, i64 tag, Val mine)
{
	i64 member[STAGES_MOST];
	u32 count = 0;
	for (u32 s = 0; s < r->stages; s++)
		if (members >> s & 1)
			member[count++] = s;
	if (count == 1)
		return mine;
	return build(b, OP_reduce_among, &mine, 1, 1,
		     &(reduce_among_attr){ .over = r->over, .parts = r->stages, .members = ints_of(b, member, count), .tag = tag });
}

static u32 node_of(const Update *u, Val v)
{
	return u->g->value.v[v.i].node;
}

static u64 operands_where(const Update *u, const Node *n)
{
	u64 where = u->all;
	for (u32 k = 0; k < n->nin; k++)
		where &= u->where[node_of(u, n->in[k])];
	return where;
}

static u64 read_where(const Update *u, const Node *n)
{
	u32 b = n->op == OP_read ? program_find_buffer(u->x->p, ATTR(n, read)->buffer) : NONE;
	if (b == NONE)
		return u->all;
	/* counters are scalars that all are told at once */
	return u->x->p->buffer.v[b].kind == BUFFER_COUNTER ? u->all : u->x->holders[b];
}

/* Sums whose terms are in different stages, each from its last addition on down. */
static void find_sums(Update *u)
{
	const Graph *g = u->g;
	u32 *user = NEWN(u->x->cx->tmp, u32, g->value.n + 1); /* the only one; else NONE */
	bool *mixed = NEWN(u->x->cx->tmp, bool, g->node.n + 1); /* has terms of different stages */
	memset(user, 0xff, (g->value.n + 1) * sizeof *user);
	for (u32 i = 0; i < g->node.n; i++)
		for (u32 k = 0; u->e->needed[i] && k < g->node.v[i].nin; k++)
			user[g->node.v[i].in[k].i] = i;
	for (u32 i = 0; i < g->node.n; i++) {
		const Node *n = &g->node.v[i];
		u->where[i] = n->nin ? operands_where(u, n) : read_where(u, n);
		if (!u->e->needed[i] || n->op != OP_add)
			goto known;
		mixed[i] = !u->where[i];
		for (u32 k = 0; k < 2; k++)
			mixed[i] |= u->term[node_of(u, n->in[k])];
		if (!mixed[i])
			continue;
		u32 next = u->e->uses[n->out.i] == 1 ? user[n->out.i] : NONE;
		u->term[i] = next != NONE && g->node.v[next].op == OP_add;
		u->sum[i] = !u->term[i];
	known:
		if (u->tell[i] || u->sum[i] || u->term[i])
			u->where[i] = u->all;
	}
}

/* What a value was before it was repeated, seen otherwise, or a device's block was taken of it. */
static u32 root_of(const Update *u, Val v)
{
	const Node *n = val_node(u->g, v);
	while (op_info[n->op].traits & T_VIEW || n->op == OP_cast || n->op == OP_gather)
		n = val_node(u->g, n->in[0]);
	return (u32)(n - u->g->node.v);
}

/* What has to be told, from the first node on that no stage could make; one by one, since what is told goes far. */
static void find_told(Update *u)
{
	find_sums(u);
	for (u32 i = 0; i < u->g->node.n; i++) {
		const Node *n = &u->g->node.v[i];
		u32 least = NONE;
		if (!u->e->needed[i] || u->where[i])
			continue;
		for (u32 k = 0; k < n->nin; k++) {
			u32 root = root_of(u, n->in[k]);
			if (u->where[root] != u->all &&
			    (least == NONE || type_elements(val_type(u->g, u->g->node.v[root].out)) < type_elements(val_type(u->g, u->g->node.v[least].out))))
				least = root;
		}
		u->tell[least] = true;
		memset(u->term, 0, u->g->node.n * sizeof *u->term);
		memset(u->sum, 0, u->g->node.n * sizeof *u->sum);
		find_sums(u);
		i--;
	}
}

static u32 first_of(u64 stages)
{
	return (u32)__builtin_ctzll(stages);
}

static Val zeros(Update *u, const Type *t)
{
	return make_full(&u->b, 0, t->dtype, (dims){ t->rank, t->dim });
}

/* All stages do so in the same order. */
static Val sum_over_stages(Update *u, Val mine)
{
	Val v = stage_sum(&u->b, &u->x->rules, u->all, u->x->p->buffer.n + u->sums, mine);
	graph_result(u->b.g, intern_printf(&u->g->ir->names, "told.%u", u->sums++), NONE, v);
	return v;
}

/* The value in every stage; those of `from` can make it. */
static Val told(Update *u, Val v, u64 from)
{
	bool mine = first_of(from) == u->x->rules.at;
	return from == u->all ? u->map[v.i] : sum_over_stages(u, mine ? u->map[v.i] : zeros(u, val_type(u->g, v)));
}

/* This stage's terms of the sum. */
static Val own_terms(Update *u, Val v)
{
	u32 node = node_of(u, v);
	const Node *n = &u->g->node.v[node];
	if (!u->term[node] && !u->sum[node])
		return first_of(u->where[node]) == u->x->rules.at ? u->map[v.i] : (Val){ 0 };
	Val a = own_terms(u, n->in[0]), b = own_terms(u, n->in[1]);
	return a.i && b.i ? B(&u->b, add, a, b) : a.i ? a : b;
}

static Val build_read(Update *u, const Node *n)
{
	const StagePlan *x = u->x;
	u32 b = program_find_buffer(x->p, ATTR(n, read)->buffer), at = x->rules.at;
	const Buffer *buffer = &x->p->buffer.v[b];
	bool here = x->holders[b] >> at & 1;
	if (buffer->kind == BUFFER_COUNTER && x->holders[b] != u->all)
		return sum_over_stages(u, here && first_of(x->holders[b]) == at ? build_copy(&u->b, u->g, n, NULL) : zeros(u, buffer->type));
	if (!here)
		return (Val){ 0 };
	bool adds = x->adds[b] >> at & 1;
	if (buffer->kind != BUFFER_GRADIENT)
		return build_copy(&u->b, u->g, n, NULL);
	Val mine = adds ? build_copy(&u->b, u->g, n, NULL) : zeros(u, buffer->type);
	return stage_sum(&u->b, &x->rules, x->holders[b], b, mine);
}

static void build_node(Update *u, u32 i)
{
	const Node *n = &u->g->node.v[i];
	Val *in = NEWN(u->x->cx->tmp, Val, n->nin + 1), out = { 0 };
	u64 where = n->nin ? operands_where(u, n) : read_where(u, n);
	u->b.loc = n->loc;
	u->b.scope = n->scope;
	if (u->term[i])
		return;
	if (u->sum[i]) {
		Val mine = own_terms(u, n->out);
		out = sum_over_stages(u, mine.i ? mine : zeros(u, val_type(u->g, n->out)));
	} else if (n->op == OP_read) {
		out = build_read(u, n);
	} else if (where >> u->x->rules.at & 1) {
		for (u32 k = 0; k < n->nin; k++)
			in[k] = u->map[n->in[k].i];
		out = build_copy(&u->b, u->g, n, in);
	}
	for (u32 k = 0; out.i && k < n->nout; k++)
		u->map[n->out.i + k] = (Val){ out.i + k };
	for (u32 k = 0; u->tell[i] && k < n->nout; k++)
		u->map[n->out.i + k] = told(u, (Val){ n->out.i + k }, where);
}

Graph *stage_update(const StagePlan *x, const EntryStages *e)
{
	Arena *tmp = x->cx->tmp;
	const Graph *g = e->g;
	Update u = { .x = x, .e = e, .g = g, .where = NEWN(tmp, u64, g->node.n + 1), .term = NEWN(tmp, bool, g->node.n + 1),
		     .sum = NEWN(tmp, bool, g->node.n + 1), .tell = NEWN(tmp, bool, g->node.n + 1), .map = NEWN(tmp, Val, g->value.n),
		     .all = x->rules.stages == STAGES_MOST ? UINT64_MAX : (1ull << x->rules.stages) - 1 };
	find_told(&u);
	u.b = builder_new(graph_new(x->cx->out, g->ir, g->name));
	for (u32 i = 0; i < g->node.n; i++)
		if (e->needed[i])
			build_node(&u, i);
	for (u32 i = 0; i < g->result.n; i++) {
		const Result *r = &g->result.v[i];
		u.b.loc = val_node(g, r->value)->loc;
		u.b.scope = val_node(g, r->value)->scope;
		u64 where = u.where[node_of(&u, r->value)];
		/* a buffer's new value is made where the buffer is; numbers for whoever runs the step are everybody's */
		if (r->buffer == NONE || (x->holders[r->buffer] & ~where)) {
			Val v = told(&u, r->value, where);
			if (r->buffer == NONE || x->holders[r->buffer] >> x->rules.at & 1)
				graph_result(u.b.g, r->name, r->buffer, v);
		} else if (x->holders[r->buffer] >> x->rules.at & 1) {
			graph_result(u.b.g, r->name, r->buffer, u.map[r->value.i]);
		}
	}
	builder_done(&u.b);
	return u.b.g;
}
