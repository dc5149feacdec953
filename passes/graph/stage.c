/* passes/graph/stage.c: the pass `stage`: one stage's program. Reads a program that is differentiated, bound, expanded and,
 * where the mesh has other axes, partitioned over these. In place of `micro_first` and `micro` come, for each chunk c,
 *
 *   micro.forward.c    the chunk's layers of one micro-batch; what the backward half needs goes to buffers of the kind stash,
 *                      which have as many slots as the schedule holds micro-batches
 *   micro.backward.c   their backward half, which adds to the gradients of this stage's parameters
 *
 * and the same of micro_first, which a step's first micro-batch runs. Values go from stage to stage by `send` and `receive`:
 * what is sent to the forward half of a later stage at the end of the forward half, gradients to earlier ones at the end of the
 * backward half. Entries that only go forward, such as `eval`, stay one: its chunks follow one another, and scalars that it
 * gives are told to all stages. `init` gives values to the stage's own buffers; for `update` see stage_update.c. Buffers of
 * other stages stay in the table, for checkpoints. */
#include "passes/graph/stage.h"
#include "ir/shard.h"
#include "ir/step.h"
#include "passes/rewrite.h"

#include <stdlib.h>
#include <string.h>

/* ---- arguments ---- */

static bool read_number(PassCx *cx, const PassArg *a, Str text, u32 least, u32 most, u32 *out)
{
	char digits[16] = "", *end = digits;
	if (text.n && text.n < sizeof digits)
		memcpy(digits, text.s, text.n);
	unsigned long n = strtoul(digits, &end, 10);
	if (!*digits || *end || n < least || n > most)
		return diag_error(cx->diag, E0714, a->loc, "%.*s is a number from %u to %u, not %.*s", STR_ARG(a->name), least, most,
				  STR_ARG(text));
	*out = (u32)n;
	return true;
}

static bool read_over(PassCx *cx, const PassArg *a, StageRules *r)
{
	const char *colon = memchr(a->value.s, ':', a->value.n);
	if (!colon)
		return diag_error(cx->diag, E0714, a->loc, "over is a mesh axis and its size: over=pipe:4");
	size_t n = (size_t)(colon - a->value.s);
	r->over = intern(&cx->ir->names, (Str){ a->value.s, n });
	return read_number(cx, a, (Str){ colon + 1, a->value.n - n - 1 }, 2, STAGES_MOST, &r->stages);
}

static bool read_schedule(PassCx *cx, const PassArg *a, StageRules *r)
{
	for (u32 k = 0; k < PIPE_KINDS; k++)
		if (str_equal(a->value, str_of(pipe_kind_name[k]))) {
			r->kind = (PipeKind)k;
			return true;
		}
	return diag_error(cx->diag, E0714, a->loc, "a schedule is gpipe, 1f1b or interleaved, not %.*s", STR_ARG(a->value));
}

static bool read_rules(PassCx *cx, StageRules *r)
{
	*r = (StageRules){ .kind = PIPE_1F1B, .chunks = 1, .micros = 1 };
	bool error = false;
	PassArg a;
	for (size_t at = 0; pass_argument(cx, &at, &a, &error);) {
		if (str_equal(a.name, STR("over")))
			error |= !read_over(cx, &a, r);
		else if (str_equal(a.name, STR("schedule")))
			error |= !read_schedule(cx, &a, r);
		else if (str_equal(a.name, STR("axis")))
			error |= !read_number(cx, &a, a.value, 0, MESH_AXES - 1, &r->axis);
		else if (str_equal(a.name, STR("at")))
			error |= !read_number(cx, &a, a.value, 0, STAGES_MOST - 1, &r->at);
		else if (str_equal(a.name, STR("interleave")))
			error |= !read_number(cx, &a, a.value, 1, 1024, &r->chunks);
		else if (str_equal(a.name, STR("micro")))
			error |= !read_number(cx, &a, a.value, 1, 1 << 20, &r->micros);
		else
			error |= !pass_argument_unknown(cx, &a);
	}
	if (!error && (!r->over || r->at >= r->stages))
		error |= !diag_error(cx->diag, E0714, cx->args_loc, "which stage of how many: over=pipe:4, at=0");
	if (!error && (r->chunks > 1) != (r->kind == PIPE_INTERLEAVED))
		error |= !diag_error(cx->diag, E0714, cx->args_loc, "more than one chunk (interleave) is what schedule=interleaved has");
	return !error;
}

/* ---- one graph in the making ---- */

typedef struct Making {
	StagePlan *x;
	const EntryStages *e;
	const Graph *g;
	Program *to;
	u32 virtual;
	bool backward;   /* which half */
	bool *stash;     /* [value] kept between the halves */
	u32 *buffer;     /* [value] the stash's, in `to` */
	Builder b;
	Val *map;        /* [value] in the new graph */
	Val token;       /* what receives come after */
	VEC(Val) sent;
} Making;

static Val get(Making *m, Val v);

static void at_place_of(Making *m, const Node *n)
{
	m->b.loc = n->loc;
	m->b.scope = n->scope;
}

static Val copy_node(Making *m, Val v)
{
	const Node *n = val_node(m->g, v);
	Val *in = NEWN(m->x->cx->tmp, Val, n->nin + 1);
	for (u32 k = 0; k < n->nin; k++)
		in[k] = get(m, n->in[k]);
	at_place_of(m, n);
	Val out = build_copy(&m->b, m->g, n, in);
	for (u32 k = 0; k < n->nout; k++)
		m->map[n->out.i + k] = (Val){ out.i + k };
	return m->map[v.i];
}

static Val receive(Making *m, u32 tag)
{
	const StageRules *r = &m->x->rules;
	const Crossing *c = &m->e->crossing.v[tag];
	const Type *t = val_type(m->g, c->value);
	at_place_of(m, val_node(m->g, c->value));
	if (!m->token.i)
		m->token = make_full(&m->b, 0, DT_u8, (dims){ 0 });
	return build(&m->b, OP_receive, &m->token, 1, 1,
		     &(receive_attr){ .over = r->over, .parts = r->stages, .from = c->from % r->stages, .tag = tag, .dtype = t->dtype,
				      .shape = dims_of_type(&m->b, t) });
}

/* The message that brings the value here in this half, or NONE. */
static u32 find_message(const Making *m, Val v, bool backward)
{
	for (u32 i = 0; i < m->e->crossing.n; i++) {
		const Crossing *c = &m->e->crossing.v[i];
		if (c->value.i == v.i && c->to == m->virtual && c->backward == backward)
			return i;
	}
	return NONE;
}

static Val read_stash(Making *m, Val v)
{
	const Buffer *b = &m->to->buffer.v[m->buffer[v.i]];
	at_place_of(m, val_node(m->g, v));
	return BS(&m->b, read, .buffer = b->name, .dtype = b->type->dtype, .shape = dims_of_type(&m->b, b->type));
}

static Val get(Making *m, Val v)
{
	u32 node = m->g->value.v[v.i].node, at = m->e->at[node], tag;
	if (m->map[v.i].i)
		return m->map[v.i];
	if (at == NONE)
		return copy_node(m, v);
	if (m->backward && m->stash[v.i])
		return m->map[v.i] = read_stash(m, v);
	if ((tag = find_message(m, v, m->backward)) != NONE)
		return m->map[v.i] = receive(m, tag);
	/* of the forward half, once more */
	assert(m->backward && !m->e->backward[node] && at == m->virtual && stage_cheap(&m->g->node.v[node]));
	return copy_node(m, v);
}

static void result(Making *m, const char *name, u32 buffer, Val v)
{
	graph_result(m->b.g, name, buffer, v);
}

/* Nodes of this virtual stage and half. */
static void build_nodes(Making *m)
{
	for (u32 i = 0; i < m->g->node.n; i++) {
		const Node *n = &m->g->node.v[i];
		ArenaMark mark = arena_mark(&m->b.tmp);
		bool here = m->e->needed[i] && !m->e->inside[i] && m->e->at[i] == m->virtual && m->e->backward[i] == m->backward;
		if (n->op == OP_input || (here && !m->map[n->out.i].i))
			copy_node(m, n->out);
		arena_release(&m->b.tmp, mark);
	}
}

static void send_all(Making *m)
{
	const StageRules *r = &m->x->rules;
	for (u32 tag = 0; tag < m->e->crossing.n; tag++) {
		const Crossing *c = &m->e->crossing.v[tag];
		if (c->from != m->virtual || c->backward != m->backward)
			continue;
		Val v = get(m, c->value);
		at_place_of(m, val_node(m->g, c->value));
		Val token = build(&m->b, OP_send, &v, 1, 1,
				  &(send_attr){ .over = r->over, .parts = r->stages, .to = c->to % r->stages, .tag = tag });
		result(m, intern_printf(&m->g->ir->names, "sent.%u", tag), NONE, token);
		VEC_PUSH(m->x->cx->tmp, &m->sent, token);
	}
}

static Val sum_of(Making *m, Val a, Val b)
{
	return a.i && b.i ? B(&m->b, add, a, b) : a.i ? a : b;
}

/* What this virtual stage adds to a gradient; {0}: nothing. *old: what the buffer has, to be added to that. */
static Val own_part(Making *m, Val v, Val *old)
{
	u32 node = m->g->value.v[v.i].node;
	const Node *n = &m->g->node.v[node];
	*old = (Val){ 0 };
	if (!m->e->inside[node]) {
		if (stage_old_gradient(m->x, m->e, v))
			*old = get(m, v);
		return m->e->at[node] == m->virtual ? get(m, v) : (Val){ 0 };
	}
	Val old_too = { 0 }, a = own_part(m, n->in[0], old), b = n->op == OP_add ? own_part(m, n->in[1], &old_too) : (Val){ 0 };
	at_place_of(m, n);
	*old = sum_of(m, *old, old_too);
	if (n->op == OP_add)
		return sum_of(m, a, b);
	if (a.i) { /* both at once */
		a = sum_of(m, *old, a);
		*old = (Val){ 0 };
		a = build_copy(&m->b, m->g, n, &a);
	} else if (old->i) {
		*old = build_copy(&m->b, m->g, n, old);
	}
	return a;
}

/* Does a later chunk of this stage, which comes first backwards, add to the gradient too? */
static bool added_before(const Making *m, Val v)
{
	u32 node = m->g->value.v[v.i].node, stages = m->x->rules.stages;
	const Node *n = &m->g->node.v[node];
	if (!m->e->inside[node])
		return m->e->at[node] != NONE && m->e->at[node] > m->virtual && m->e->at[node] % stages == m->virtual % stages;
	return added_before(m, n->in[0]) || (n->op == OP_add && added_before(m, n->in[1]));
}

static Val read_buffer(Making *m, u32 buffer)
{
	const Buffer *b = &m->to->buffer.v[buffer];
	return BS(&m->b, read, .buffer = b->name, .dtype = b->type->dtype, .shape = dims_of_type(&m->b, b->type));
}

static void write_gradient(Making *m, const Result *r)
{
	u32 node = m->g->value.v[r->value.i].node, at = m->e->at[node];
	u64 holders = m->x->holders[r->buffer];
	if (!m->e->inside[node]) {
		/* of a parameter that nothing uses: a constant */
		u32 first = (u32)__builtin_ctzll(holders);
		if (at == m->virtual || (at == NONE && m->virtual == first && m->x->rules.at == first))
			result(m, r->name, r->buffer, get(m, r->value));
		return;
	}
	if (!(m->x->adds[r->buffer] >> m->x->rules.at & 1))
		return;
	Val old, v = own_part(m, r->value, &old);
	if (!v.i)
		return;
	if (step_is(m->g->name, STEP_FIRST) && added_before(m, r->value))
		old = read_buffer(m, r->buffer);
	result(m, r->name, r->buffer, sum_of(m, old, v));
}

static void write_results(Making *m)
{
	const Program *p = m->x->p;
	for (u32 i = 0; i < m->g->result.n; i++) {
		const Result *r = &m->g->result.v[i];
		u32 node = m->g->value.v[r->value.i].node;
		bool gradient = r->buffer != NONE && p->buffer.v[r->buffer].kind == BUFFER_GRADIENT;
		at_place_of(m, &m->g->node.v[node]);
		if (gradient && m->backward)
			write_gradient(m, r);
		else if (!gradient && !m->backward && (m->e->at[node] == NONE ? 0 : m->e->at[node]) == m->virtual)
			result(m, r->name, r->buffer, get(m, r->value));
	}
}

/* ---- the two halves ---- */

/* The buffer for a value that is kept: the k-th of its chunk, shared by micro_first and micro where these agree. */
static u32 stash_buffer(Making *m, u32 chunk, u32 k, Val v, u32 slots)
{
	Ir *ir = m->g->ir;
	const Type *t = val_type(m->g, v);
	const Node *maker = val_node(m->g, v);
	for (u32 other = 0;; other++) {
		const char *name = other ? intern_printf(&ir->names, "stash.%u.%u.%u", chunk, k, other) : intern_printf(&ir->names, "stash.%u.%u", chunk, k);
		u32 at = program_find_buffer(m->to, name);
		if (at != NONE && m->to->buffer.v[at].type == t)
			return at;
		if (at == NONE)
			return program_buffer(m->to, (Buffer){ .name = name, .kind = BUFFER_STASH, .type = t, .slots = slots, .of = NONE,
							       .axis = NEWN(m->x->cx->out, Axis, t->rank + 1), .loc = maker->loc,
							       .scope = maker->scope });
	}
}

static Graph *make_half(StagePlan *x, const EntryStages *e, Program *to, u32 chunk, bool backward, u32 slots)
{
	const Graph *g = e->g;
	Making m = { .x = x, .e = e, .g = g, .to = to, .virtual = chunk * x->rules.stages + x->rules.at, .backward = backward,
		     .stash = NEWN(x->cx->tmp, bool, g->value.n), .buffer = NEWN(x->cx->tmp, u32, g->value.n),
		     .map = NEWN(x->cx->tmp, Val, g->value.n) };
	stage_stash(x, e, m.virtual, m.stash);
	for (u32 v = 1, k = 0; v < g->value.n; v++)
		if (m.stash[v])
			m.buffer[v] = stash_buffer(&m, chunk, k++, (Val){ v }, slots);
	m.b = builder_new(graph_new(x->cx->out, g->ir, intern_printf(&g->ir->names, "%s.%s.%u", g->name, backward ? "backward" : "forward", chunk)));
	build_nodes(&m);
	write_results(&m);
	for (u32 v = 1; v < g->value.n && !backward; v++)
		if (m.stash[v])
			result(&m, to->buffer.v[m.buffer[v]].name, m.buffer[v], get(&m, (Val){ v }));
	send_all(&m);
	builder_done(&m.b);
	return m.b.g;
}

/* ---- entries that only go forward ---- */

/* The next chunk's receives come after what was sent so far: it waits for others that wait for that. */
static void wait_for_sends(Making *m)
{
	for (u32 i = 0; i < m->sent.n; i++)
		m->token = i ? B(&m->b, max, m->token, m->sent.v[i]) : m->sent.v[i];
}

/* A scalar is everybody's to know; anything else stays with the stage that makes it. */
static void give_results(Making *m)
{
	const StageRules *r = &m->x->rules;
	for (u32 i = 0; i < m->g->result.n; i++) {
		const Result *of = &m->g->result.v[i];
		u32 at = m->e->at[m->g->value.v[of->value.i].node];
		const Type *t = val_type(m->g, of->value);
		bool mine = at == NONE || at % r->stages == r->at;
		at_place_of(m, val_node(m->g, of->value));
		if (of->buffer == NONE && at != NONE && t->rank == 0 && t->dtype != DT_b1) {
			Val v = mine ? get(m, of->value) : make_full(&m->b, 0, t->dtype, (dims){ 0 });
			u64 all = r->stages == STAGES_MOST ? UINT64_MAX : (1ull << r->stages) - 1;
			result(m, of->name, NONE, stage_sum(&m->b, r, all, i, v));
		} else if (mine) {
			result(m, of->name, of->buffer, get(m, of->value));
		}
	}
}

static Graph *make_chain(StagePlan *x, const EntryStages *e, Program *to)
{
	Making m = { .x = x, .e = e, .g = e->g, .to = to, .map = NEWN(x->cx->tmp, Val, e->g->value.n) };
	m.b = builder_new(graph_new(x->cx->out, e->g->ir, e->g->name));
	for (u32 chunk = 0; chunk < x->rules.chunks; chunk++) {
		m.virtual = chunk * x->rules.stages + x->rules.at;
		wait_for_sends(&m);
		build_nodes(&m);
		send_all(&m);
	}
	give_results(&m);
	builder_done(&m.b);
	return m.b.g;
}

static Graph *make_init(StagePlan *x, const Graph *g)
{
	Graph own = *g;
	own.result.v = NULL;
	own.result.n = own.result.cap = 0;
	for (u32 i = 0; i < g->result.n; i++)
		if (g->result.v[i].buffer == NONE || x->holders[g->result.v[i].buffer] >> x->rules.at & 1)
			VEC_PUSH(x->cx->tmp, &own.result, g->result.v[i]);
	return rewrite_graph(x->cx->out, x->cx->tmp, &own, NULL, NULL, false);
}

/* ---- the program ---- */

/* What is scattered onto something is a sum as others are: its terms may be of different stages. */
static bool as_sum(Rewrite *rw, const Node *n, const Val *in, Val *out)
{
	if (n->op != OP_scatter_add || n->nin != 3)
		return false;
	out[0] = B(&rw->b, add, in[2], build(&rw->b, OP_scatter_add, in, 2, 1, n->attr));
	return true;
}

static Program *shell(StagePlan *x)
{
	const StageRules *r = &x->rules;
	Program *to = rewrite_shell(x->cx->out, x->p);
	for (u32 i = 0; i < to->buffer.n; i++) {
		u64 has = to->buffer.v[i].kind == BUFFER_GRADIENT ? x->adds[i] : x->holders[i];
		to->buffer.v[i].stages = has ? has : 1;
	}
	u32 n = to->mesh.n++;
	for (; n > r->axis; n--)
		to->mesh.axis[n] = to->mesh.axis[n - 1];
	to->mesh.axis[n] = (MeshAxis){ r->over, r->stages };
	to->stage = (Stage){ r->over, r->at, r->chunks };
	return to;
}

static void trace(const StagePlan *x)
{
	for (u32 i = 0; x->cx->trace && i < x->p->entry.n; i++) {
		const EntryStages *e = &x->entry[i];
		for (u32 k = 0; k < e->crossing.n; k++) {
			const Crossing *c = &e->crossing.v[k];
			fprintf(x->cx->trace, "%s: %%%u (%s) from %u to %u, %s\n", e->g->name, c->value.i,
				op_info[val_node(e->g, c->value)->op].name, c->from, c->to, c->backward ? "backward" : "forward");
		}
	}
}

Program *pass_stage(PassCx *cx, const Program *in)
{
	StageRules rules;
	StagePlan plan;
	if (!read_rules(cx, &rules))
		return NULL;
	if (in->stage.over || in->mesh.n == MESH_AXES || rules.axis > in->mesh.n) {
		diag_error(cx->diag, E0714, cx->args_loc, "the program's mesh has no place for another axis there");
		return NULL;
	}
	in = rewrite_program(cx->out, cx->tmp, in, as_sum, NULL, false);
	if (!stage_assign(cx, in, &rules, &plan))
		return NULL;
	trace(&plan);
	Program *to = shell(&plan);
	PipeSchedule s = pipe_schedule(cx->tmp, rules.kind, rules.stages, rules.chunks, rules.micros);
	for (u32 i = 0; i < in->entry.n; i++) {
		const EntryStages *e = &plan.entry[i];
		if (e->kind == ENTRY_INIT)
			VEC_PUSH(cx->out, &to->entry, make_init(&plan, e->g));
		else if (e->kind == ENTRY_UPDATE)
			VEC_PUSH(cx->out, &to->entry, stage_update(&plan, e));
		else if (e->kind == ENTRY_CHAIN)
			VEC_PUSH(cx->out, &to->entry, make_chain(&plan, e, to));
		for (u32 chunk = 0; e->kind == ENTRY_TRAIN && chunk < rules.chunks; chunk++)
			for (u32 backward = 0; backward < 2; backward++)
				VEC_PUSH(cx->out, &to->entry,
					 make_half(&plan, e, to, chunk, backward, pipe_held(&s, rules.at, chunk)));
	}
	return to;
}
