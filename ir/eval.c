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

static EvalCx *begin_node(Evaluator *e, const Node *n)
{
	EvalCx *cx = NEWN(&e->tmp, EvalCx, e->ranks);
	for (u32 r = 0; r < e->ranks; r++)
		cx[r] = node_cx(e, n, r);
	return cx;
}

/* Results are there, operands may be dropped. */
static void end_node(Evaluator *e, const Node *n, const EvalCx *cx)
{
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
}

static void eval_node(Evaluator *e, const Node *n, const Tensor *const *source, u32 at)
{
	ArenaMark mark = arena_mark(&e->tmp);
	EvalCx *cx = begin_node(e, n);
	if (e->mesh && op_info[n->op].traits & T_COLLECTIVE)
		eval_collective(e, cx);
	else
		for (u32 r = 0; r < e->ranks; r++)
			eval_alone(e, &cx[r], source[r] + at);
	end_node(e, n, cx);
	arena_release(&e->tmp, mark);
}

static void eval_begin(Evaluator *e, const Graph *g, const Mesh *mesh, u32 ranks, const Val *want, u32 n, EvalOptions options)
{
	*e = (Evaluator){ .g = g, .mesh = mesh, .ranks = ranks, .options = options, .tmp = ARENA("eval") };
	e->live = NEWN(&e->tmp, Live, (size_t)g->value.n * ranks);
	e->uses = NEWN(&e->tmp, u32, g->value.n);
	e->needed = NEWN(&e->tmp, bool, g->node.n + 1);
	mark_needed(e, want, n);
}

static void eval_end(Evaluator *e, Arena *a, const Val *want, u32 n, Tensor *const *out)
{
	for (u32 r = 0; r < e->ranks; r++)
		for (u32 i = 0; i < n; i++) {
			out[r][i] = live_of(e, want[i], r)->tensor;
			out[r][i].data = COPYN(a, f64, out[r][i].data, out[r][i].n);
		}
	for (u32 r = 0; r < e->ranks; r++)
		for (u32 i = 0; i < n; i++)
			drop(live_of(e, want[i], r));
	arena_free(&e->tmp);
}

/* source[r], out[r]: device r's. */
static void eval_ranks(Arena *a, const Graph *g, const Mesh *mesh, u32 ranks, const Tensor *const *source, const Val *want,
		       u32 n, Tensor *const *out, EvalOptions options)
{
	Evaluator e;
	eval_begin(&e, g, mesh, ranks, want, n, options);
	u32 at = 0;
	for (u32 i = 0; i < g->node.n; i++) {
		const Node *node = &g->node.v[i];
		if (e.needed[i])
			eval_node(&e, node, source, at);
		at += is_source(node);
	}
	eval_end(&e, a, want, n, out);
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

static Val *entry_wants(Arena *tmp, const Graph *entry)
{
	Val *want = NEWN(tmp, Val, entry->result.n + 1);
	for (u32 i = 0; i < entry->result.n; i++)
		want[i] = entry->result.v[i].value;
	return want;
}

static void keep_buffers(const Graph *entry, Tensor *buffer, const Tensor *result)
{
	for (u32 i = 0; i < entry->result.n; i++)
		if (entry->result.v[i].buffer != NONE)
			buffer[entry->result.v[i].buffer] = result[i];
}

void eval_mesh_entry(Arena *a, const Program *p, const Graph *entry, const Tensor *const *input, Tensor *const *buffer,
		     Tensor *const *result, EvalOptions options)
{
	Arena tmp = ARENA("entry");
	u32 ranks = mesh_devices(&p->mesh);
	const Tensor **source = NEWN(&tmp, const Tensor *, ranks);
	Val *want = entry_wants(&tmp, entry);
	for (u32 r = 0; r < ranks; r++)
		source[r] = entry_sources(&tmp, p, entry, input[r], buffer[r]);
	eval_ranks(a, entry, p->mesh.n ? &p->mesh : NULL, ranks, source, want, entry->result.n, result, options);
	for (u32 r = 0; r < ranks; r++)
		keep_buffers(entry, buffer[r], result[r]);
	arena_free(&tmp);
}

void eval_entry(Arena *a, const Program *p, const Graph *entry, const Tensor *input, Tensor *buffer,
		Tensor *result, EvalOptions options)
{
	assert(mesh_devices(&p->mesh) == 1);
	eval_mesh_entry(a, p, entry, &input, &buffer, &result, options);
}

/* ---- stages of a pipeline ---- */

typedef struct Letter {
	u32 from, to;
	i64 tag;
	Tensor *part; /* [rank] */
	bool received;
} Letter;

struct EvalMail {
	Arena *arena;
	VEC(Letter) letter; /* in the order in which they were sent */
};

EvalMail *eval_mail_new(Arena *a)
{
	EvalMail *m = NEW(a, EvalMail);
	m->arena = a;
	return m;
}

u32 eval_mail_left(const EvalMail *mail)
{
	u32 n = 0;
	for (u32 i = 0; i < mail->letter.n; i++)
		n += !mail->letter.v[i].received;
	return n;
}

typedef struct StageEval {
	Evaluator e;
	Mesh mesh;           /* without the pipeline's axis */
	const char *over;
	const Graph *g;      /* NULL: the stage does nothing */
	const Tensor **source;
	Val *want;
	u32 node, at;        /* next */
} StageEval;

static Tensor copy_tensor(Arena *a, const Tensor *t)
{
	Tensor copy = *t;
	copy.data = COPYN(a, f64, t->data, t->n);
	return copy;
}

static bool between_stages(const StageEval *s, const Node *n)
{
	return op_info[n->op].traits & T_COLLECTIVE && ATTR(n, all_reduce)->over == s->over;
}

static void send_letter(EvalMail *mail, StageEval *s, u32 stage, const Node *n)
{
	Letter m = { .from = stage, .to = (u32)ATTR(n, send)->to, .tag = ATTR(n, send)->tag, .part = NEWN(mail->arena, Tensor, s->e.ranks) };
	for (u32 r = 0; r < s->e.ranks; r++)
		m.part[r] = copy_tensor(mail->arena, &live_of(&s->e, n->in[0], r)->tensor);
	VEC_PUSH(mail->arena, &mail->letter, m);
	end_node(&s->e, n, begin_node(&s->e, n));
}

static bool receive_letter(EvalMail *mail, StageEval *s, u32 stage, const Node *n)
{
	for (u32 i = 0; i < mail->letter.n; i++) {
		Letter *m = &mail->letter.v[i];
		if (m->received || m->to != stage || m->from != ATTR(n, receive)->from || m->tag != ATTR(n, receive)->tag)
			continue;
		EvalCx *cx = begin_node(&s->e, n);
		for (u32 r = 0; r < s->e.ranks; r++)
			memcpy(cx[r].out[0].data, m->part[r].data, (size_t)m->part[r].n * sizeof(f64));
		end_node(&s->e, n, cx);
		m->received = true;
		return true;
	}
	return false;
}

/* Does a stage take part in the sum? */
static bool is_member(const Node *n, u32 stage)
{
	for (u32 i = 0; i < ATTR(n, reduce_among)->members.n; i++)
		if (ATTR(n, reduce_among)->members.v[i] == stage)
			return true;
	return false;
}

/* A sum of several stages, where all of them have come to it. */
static bool sum_stages(StageEval *s, u32 stages, const Node *n)
{
	EvalCx **cx = NEWN(&s[0].e.tmp, EvalCx *, stages), *member = NEWN(&s[0].e.tmp, EvalCx, stages);
	for (u32 k = 0; k < stages; k++) {
		const Node *other = s[k].g && s[k].node < s[k].g->node.n ? &s[k].g->node.v[s[k].node] : NULL;
		if (is_member(n, k) && (!other || other->op != n->op || ATTR(other, reduce_among)->tag != ATTR(n, reduce_among)->tag ||
					!s[k].e.needed[s[k].node]))
			return false;
	}
	u32 ranks = 0;
	for (u32 k = 0; k < stages; k++)
		if (is_member(n, k)) {
			cx[k] = begin_node(&s[k].e, &s[k].g->node.v[s[k].node]);
			ranks = s[k].e.ranks;
		}
	for (u32 r = 0; r < ranks; r++) {
		u32 count = 0;
		for (u32 k = 0; k < stages; k++)
			if (cx[k])
				member[count++] = cx[k][r];
		op_info[n->op].def->eval_group(member, count);
	}
	for (u32 k = 0; k < stages; k++)
		if (cx[k]) {
			end_node(&s[k].e, &s[k].g->node.v[s[k].node], cx[k]);
			s[k].node++;
		}
	return true;
}

/* The stage's nodes, as far as it comes; false where that is not at all. */
static bool advance_stage(EvalMail *mail, StageEval *s, u32 stages, u32 stage)
{
	StageEval *me = &s[stage];
	bool moved = false;
	while (me->g && me->node < me->g->node.n) {
		const Node *n = &me->g->node.v[me->node];
		if (me->e.needed[me->node] && between_stages(me, n)) {
			if (n->op == OP_send)
				send_letter(mail, me, stage, n);
			else if (n->op == OP_receive ? !receive_letter(mail, me, stage, n) : !sum_stages(s, stages, n))
				return moved;
			me->node += n->op == OP_send || n->op == OP_receive;
		} else {
			if (me->e.needed[me->node])
				eval_node(&me->e, n, me->source, me->at);
			me->at += is_source(n);
			me->node++;
		}
		moved = true;
	}
	return moved;
}

static void begin_stage(StageEval *s, Arena *tmp, const Program *p, const Graph *g, const Tensor *const *input, Tensor *const *buffer,
			EvalOptions options)
{
	*s = (StageEval){ .over = p->stage.over, .g = g };
	for (u32 m = 0; m < p->mesh.n; m++)
		if (p->mesh.axis[m].name != p->stage.over)
			s->mesh.axis[s->mesh.n++] = p->mesh.axis[m];
	u32 ranks = mesh_devices(&s->mesh);
	s->source = NEWN(tmp, const Tensor *, ranks);
	for (u32 r = 0; r < ranks; r++)
		s->source[r] = entry_sources(tmp, p, g, input[r], buffer[r]);
	s->want = entry_wants(tmp, g);
	eval_begin(&s->e, g, s->mesh.n ? &s->mesh : NULL, ranks, s->want, g->result.n, options);
}

void eval_stage_entries(Arena *a, EvalMail *mail, u32 stages, const Program *const *program, const Graph *const *entry,
			const Tensor *const *const *input, Tensor *const *const *buffer, Tensor *const *const *result,
			EvalOptions options)
{
	Arena tmp = ARENA("stages");
	StageEval *s = NEWN(&tmp, StageEval, stages);
	for (u32 k = 0; k < stages; k++)
		if (entry[k])
			begin_stage(&s[k], &tmp, program[k], entry[k], input[k], buffer[k], options);
	for (bool moved = true; moved;) {
		moved = false;
		for (u32 k = 0; k < stages; k++)
			moved |= advance_stage(mail, s, stages, k);
	}
	for (u32 k = 0; k < stages; k++) {
		if (!entry[k])
			continue;
		if (s[k].node < entry[k]->node.n)
			NEVER("a stage waits for what nobody sends");
		eval_end(&s[k].e, a, s[k].want, entry[k]->result.n, result[k]);
		for (u32 r = 0; r < s[k].e.ranks; r++)
			keep_buffers(entry[k], buffer[k][r], result[k][r]);
	}
	arena_free(&tmp);
}
