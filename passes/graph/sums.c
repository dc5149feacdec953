/* passes/graph/sums.c: the pass `sums`: sums of gradients over devices begin in the backward half. Reads a program that is
 * partitioned. Where batches are divided, each device adds up a gradient's part over micro-steps, and `update` begins with the sums
 * over devices: all_reduce, or with divided optimizer states reduce_scatter (ZeRO-1). Here they go to the end of a step's last
 * micro-step, each behind its gradient, so that it can be on its way while the backward half goes on (DDP: Li et al. 2020).
 *
 * Where a step is one micro-batch (the program has no `micro`), that is micro_first, and the buffer of a gradient is what comes of
 * the sum. Otherwise the last of several is a copy of `micro`, micro_last; the sum lies where its parts did (Buffer.summed), so
 * what is divided by it stays in `update`. Of a stage of a pipeline it is the backward half of the chunk that adds to the gradient
 * last: micro.backward.0 and its copy micro_last.backward.0. What is sent, and how often, is the same. */
#include "ir/op.h"
#include "ir/shard.h"
#include "ir/step.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

#include <string.h>

/* What follows a gradient's read in update: one sum after the other, over different mesh axes, each behind the padding, if any,
 * of what it divides. */
typedef struct Chain {
	u32 n;
	const Node *node[2 * MESH_AXES];
	u32 read;  /* the node that they begin with */
	u32 entry; /* that they go to */
} Chain;

typedef struct Sums {
	PassCx *cx;
	const Program *from;
	const Graph *update;
	bool several; /* micro-batches of a step */
	Chain *chain; /* [buffer] */
} Sums;

static bool is_sum(const Node *n)
{
	return n->nin == 1 && (n->op == OP_all_reduce || n->op == OP_reduce_scatter);
}

static bool of_chain(const Node *n)
{
	return is_sum(n) || n->op == OP_pad;
}

/* The only user of each value that has one, as node + 1; 0: nobody's, NONE: several or a result. */
static u32 *only_users(Arena *tmp, const Graph *g)
{
	u32 *user = NEWN(tmp, u32, g->value.n + 1);
	for (u32 i = 0; i < g->node.n; i++)
		for (u32 k = 0; k < g->node.v[i].nin; k++) {
			u32 *to = &user[g->node.v[i].in[k].i];
			*to = *to ? NONE : i + 1;
		}
	for (u32 i = 0; i < g->result.n; i++)
		user[g->result.v[i].value.i] = NONE;
	return user;
}

static Val chain_end(const Chain *c)
{
	return c->node[c->n - 1]->out;
}

/* The entry that a step's last micro-batch runs last of those that give the buffer, or NONE. Chunks go backward from the last one on. */
static u32 last_entry(const Sums *s, u32 buffer)
{
	for (u32 i = 0; i < s->from->entry.n; i++) {
		const Graph *g = s->from->entry.v[i];
		if (step_name(g->name).part != (s->several ? STEP_MORE : STEP_FIRST))
			continue;
		for (u32 k = 0; k < g->result.n; k++)
			if (g->result.v[k].buffer == buffer)
				return i;
	}
	return NONE;
}

static void find_chains(Sums *s)
{
	const Graph *g = s->update;
	ArenaMark mark = arena_mark(s->cx->tmp);
	u32 *user = only_users(s->cx->tmp, g), *reads = NEWN(s->cx->tmp, u32, s->from->buffer.n + 1);
	for (u32 i = 0; i < g->node.n; i++) {
		const Node *n = &g->node.v[i];
		u32 b = n->op == OP_read ? program_find_buffer(s->from, ATTR(n, read)->buffer) : NONE;
		if (b == NONE || s->from->buffer.v[b].kind != BUFFER_GRADIENT)
			continue;
		Chain *c = &s->chain[b];
		*c = (Chain){ .read = i, .entry = last_entry(s, b) };
		for (u32 at = user[n->out.i]; !reads[b] && c->entry != NONE && at && at != NONE && of_chain(&g->node.v[at - 1]) && c->n < COUNT(c->node);) {
			c->node[c->n++] = &g->node.v[at - 1];
			at = user[chain_end(c).i];
		}
		while (c->n && !is_sum(c->node[c->n - 1]))
			c->n--;
		while (s->several && c->n && (!is_sum(c->node[c->n - 1]) || val_type(g, chain_end(c)) != s->from->buffer.v[b].type))
			c->n--;
		reads[b]++;
	}
	arena_release(s->cx->tmp, mark);
}

/* ---- buffers ---- */

/* How the whole lies when the chain is through. */
static const char *split_after(const Sums *s, const Buffer *b, const Chain *c)
{
	const Mesh *mesh = &s->from->mesh;
	Place place[MESH_AXES];
	if (!places_read(mesh, b->split, place))
		NEVER("a program's split that cannot be read");
	for (u32 i = 0; i < c->n; i++) {
		const Node *n = c->node[i];
		if (!is_sum(n))
			continue;
		u32 m = mesh_find(mesh, ATTR(n, all_reduce)->over); /* both begin with it */
		assert(place[m].kind == PLACE_PARTIAL);
		place[m] = (Place){ 0 };
		if (n->op != OP_reduce_scatter)
			continue;
		i64 local = ATTR(n, reduce_scatter)->outer.v[0], now;
		place[m] = (Place){ .kind = PLACE_SPLIT, .dim = (u8)ATTR(n, reduce_scatter)->axes.v[0], .outer = local };
		while ((now = place_local_outer(mesh, place, m)) != local)
			place[m].outer = local * (place[m].outer / now);
		if (i && !is_sum(c->node[i - 1])) /* nobody else splits what is padded */
			place[m].whole = type_extent(val_type(s->update, c->node[i - 1]->in[0]), place[m].dim);
	}
	return places_text(s->cx->ir, mesh, place);
}

static Program *make_buffers(const Sums *s)
{
	Program *to = rewrite_shell(s->cx->out, s->from);
	for (u32 i = 0; i < to->buffer.n; i++) {
		Buffer *b = &to->buffer.v[i];
		const Chain *c = &s->chain[i];
		b->summed = s->several && c->n;
		if (s->several || !c->n)
			continue;
		b->split = split_after(s, b, c);
		b->type = val_type(s->update, chain_end(c));
		b->axis = COPYN(s->cx->out, Axis, val_axis(s->update, chain_end(c)), b->type->rank);
	}
	return to;
}

/* ---- entries ---- */

typedef struct Copy {
	const Graph *from;
	Builder b;
	Val *map;
} Copy;

static Copy begin_copy(const Sums *s, const Graph *from, const char *name)
{
	Copy x = { .from = from, .b = builder_new(graph_new(s->cx->out, s->cx->ir, intern_z(&s->cx->ir->names, name))),
		   .map = NEWN(s->cx->tmp, Val, from->value.n) };
	x.b.no_fold = true;
	return x;
}

static Val copy_node(Copy *x, const Graph *from, const Node *n, const Val *in)
{
	x->b.loc = n->loc;
	x->b.scope = n->scope;
	return build_copy(&x->b, from, n, in);
}

static void copy_same(Copy *x, const Node *n)
{
	Val in[64], *more = n->nin > COUNT(in) ? NEWN(&x->b.tmp, Val, n->nin) : in;
	for (u32 k = 0; k < n->nin; k++)
		more[k] = x->map[n->in[k].i];
	Val out = copy_node(x, x->from, n, more);
	for (u32 k = 0; k < n->nout; k++)
		x->map[n->out.i + k] = (Val){ out.i + k };
}

static bool has_sums(const Sums *s, u32 entry)
{
	bool any = false;
	for (u32 b = 0; b < s->from->buffer.n; b++)
		any |= s->chain[b].n && s->chain[b].entry == entry;
	return any;
}

/* A gradient's sums stand behind what makes it. */
static Graph *with_sums(const Sums *s, u32 entry)
{
	const Graph *from = s->from->entry.v[entry];
	const char *name = s->several ? step_named(s->cx->tmp, STEP_LAST, step_name(from->name).half) : from->name;
	Copy x = begin_copy(s, from, name);
	Val *sum = NEWN(s->cx->tmp, Val, from->result.n + 1);
	for (u32 i = 0; i < from->node.n; i++) {
		copy_same(&x, &from->node.v[i]);
		for (u32 r = 0; r < from->result.n; r++) {
			const Result *of = &from->result.v[r];
			if (of->buffer == NONE || from->value.v[of->value.i].node != i)
				continue;
			const Chain *c = &s->chain[of->buffer];
			sum[r] = x.map[of->value.i];
			for (u32 k = 0; k < c->n && c->entry == entry; k++)
				sum[r] = copy_node(&x, s->update, c->node[k], &sum[r]);
		}
	}
	for (u32 r = 0; r < from->result.n; r++) {
		const Result *of = &from->result.v[r];
		graph_result(x.b.g, of->name, of->buffer, sum[r].i ? sum[r] : x.map[of->value.i]);
	}
	builder_done(&x.b);
	return x.b.g;
}

static Graph *without_sums(const Sums *s)
{
	const Graph *from = s->update;
	Copy x = begin_copy(s, from, from->name);
	u8 *gone = NEWN(s->cx->tmp, u8, from->node.n + 1);
	for (u32 b = 0; b < s->from->buffer.n; b++)
		for (u32 k = 0; k < s->chain[b].n; k++)
			gone[s->chain[b].node[k] - from->node.v] = true;
	for (u32 i = 0; i < from->node.n; i++) {
		const Node *n = &from->node.v[i];
		u32 b = n->op == OP_read ? program_find_buffer(s->from, ATTR(n, read)->buffer) : NONE;
		const Chain *c = b == NONE ? NULL : &s->chain[b];
		if (gone[i])
			continue;
		if (!c || !c->n || c->read != i) {
			copy_same(&x, n);
			continue;
		}
		const Type *t = val_type(from, chain_end(c));
		x.b.loc = n->loc;
		x.b.scope = n->scope;
		Val v = BS(&x.b, read, .buffer = ATTR(n, read)->buffer, .dtype = t->dtype, .shape = { t->rank, t->dim });
		graph_set_axis(x.b.g, v, val_axis(from, chain_end(c)));
		x.map[chain_end(c).i] = v;
	}
	for (u32 r = 0; r < from->result.n; r++)
		graph_result(x.b.g, from->result.v[r].name, from->result.v[r].buffer, x.map[from->result.v[r].value.i]);
	builder_done(&x.b);
	return x.b.g;
}

Program *pass_sums(PassCx *cx, const Program *in)
{
	Sums s = { .cx = cx, .from = in, .update = program_find_entry(in, STR("update")), .chain = NEWN(cx->tmp, Chain, in->buffer.n + 1) };
	for (u32 i = 0; i < in->entry.n; i++)
		s.several |= step_name(in->entry.v[i]->name).part == STEP_MORE;
	if (s.update)
		find_chains(&s);
	Program *to = make_buffers(&s);
	for (u32 i = 0; i < in->entry.n; i++) {
		const Graph *g = in->entry.v[i];
		bool last = has_sums(&s, i);
		if (s.several || !last)
			VEC_PUSH(cx->out, &to->entry, g == s.update ? without_sums(&s) : rewrite_graph(cx->out, cx->tmp, g, NULL, NULL, true));
		if (last)
			VEC_PUSH(cx->out, &to->entry, with_sums(&s, i));
	}
	return to;
}
