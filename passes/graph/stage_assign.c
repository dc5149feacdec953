/* passes/graph/stage_assign.c: which node is in which virtual stage, what crosses between them, and which stage has which
 * buffers. See stage.h. */
#include "ir/cost.h"
#include "ir/step.h"
#include "passes/graph/stage.h"

#include <math.h>
#include <string.h>

typedef struct Assign {
	StagePlan *x;
	Arena *tmp;
	Map layer;      /* interned prefix of a scope -> its place among the layers */
	u32 nlayer;
	const char *outer[2]; /* the first layer's prefix and the last one's */
	Loc at;         /* of what the first does first; without layers, of what the program does */
	u32 *stage_of;  /* [layer] */
} Assign;

/* ---- what nodes are ---- */

bool stage_cheap(const Node *n)
{
	const OpInfo *info = &op_info[n->op];
	return info->kind == EW || info->traits & T_VIEW || n->op == OP_full || n->op == OP_iota || n->op == OP_cast || n->op == OP_pad ||
	       n->op == OP_concat || n->op == OP_random || n->op == OP_stop_gradient;
}

bool stage_linear(const Node *n)
{
	switch (n->op) {
	case OP_all_reduce:
	case OP_reduce_scatter:
	case OP_all_gather:
	case OP_transpose:
	case OP_reshape:
	case OP_slice:
	case OP_pad: return n->nin == 1;
	default: return false;
	}
}

bool stage_old_gradient(const StagePlan *x, const EntryStages *e, Val v)
{
	const Node *n = val_node(e->g, v);
	if (n->op == OP_read)
		return x->p->buffer.v[program_find_buffer(x->p, ATTR(n, read)->buffer)].kind == BUFFER_GRADIENT;
	bool old = false;
	for (u32 k = 0; e->at[e->g->value.v[v.i].node] == NONE && k < n->nin; k++)
		old |= stage_old_gradient(x, e, n->in[k]);
	return old;
}

/* "h.3" of "h.3.attn.c_attn"; NULL: no layer's. */
static const char *layer_of(Ir *ir, const char *scope)
{
	size_t n = scope_layer(scope);
	return n ? intern(&ir->names, (Str){ scope, n }) : NULL;
}

static u32 layer_index(const Assign *a, const Node *n)
{
	const char *name = layer_of(a->x->p->ir, n->scope);
	const u64 *at = name ? map_get(&a->layer, MAP_KEY(name)) : NULL;
	return at ? (u32)*at : NONE;
}

static u32 own_stage(const Assign *a, const Node *n)
{
	u32 layer = layer_index(a, n);
	return layer == NONE ? NONE : a->stage_of[layer];
}

static EntryKind kind_of(const char *name)
{
	StepPart part = step_name(name).part;
	return part == STEP_INIT ? ENTRY_INIT : part == STEP_UPDATE ? ENTRY_UPDATE : step_is_micro(part) ? ENTRY_TRAIN : ENTRY_CHAIN;
}

static bool is_gradient(const Assign *a, const Result *r)
{
	return r->buffer != NONE && a->x->p->buffer.v[r->buffer].kind == BUFFER_GRADIENT;
}

/* Everything that a result needs; of these, what no other result than gradients needs is the backward half. */
static void find_halves(Assign *a, EntryStages *e)
{
	const Graph *g = e->g;
	bool *forward = NEWN(a->tmp, bool, g->node.n + 1);
	for (u32 i = 0; i < g->result.n; i++) {
		u32 node = g->value.v[g->result.v[i].value.i].node;
		e->needed[node] = true;
		forward[node] |= !is_gradient(a, &g->result.v[i]);
		e->uses[g->result.v[i].value.i]++;
	}
	for (u32 i = g->node.n; i-- > 0;) {
		const Node *n = &g->node.v[i];
		e->needed[i] |= n->op == OP_input;
		for (u32 k = 0; e->needed[i] && k < n->nin; k++) {
			u32 node = g->value.v[n->in[k].i].node;
			e->needed[node] = true;
			forward[node] |= forward[i];
			e->uses[n->in[k].i]++;
		}
		e->backward[i] = e->needed[i] && !forward[i];
	}
}

/* ---- layers ---- */

/* Layers in the order in which the forward half comes to them, each with its work, and that of what lies before the
 * next one: so the head is the last layer's, and the embedding the first's. */
static f64 *find_layers(Assign *a, const EntryStages *e)
{
	const Graph *g = e->g;
	bool placed = false;
	for (u32 i = 0; i < g->node.n; i++) {
		const Node *n = &g->node.v[i];
		bool works = e->needed[i] && !e->backward[i] && !stage_cheap(n);
		const char *name = works ? layer_of(g->ir, n->scope) : NULL;
		if (works && n->nin && (!a->at.line || (name && !placed))) {
			a->at = n->loc;
			placed = name != NULL;
		}
		if (!name || map_get(&a->layer, MAP_KEY(name)))
			continue;
		a->outer[a->nlayer > 0] = name;
		map_put(&a->layer, MAP_KEY(name), a->nlayer++);
	}
	f64 *work = NEWN(a->tmp, f64, a->nlayer + 1);
	u32 *last = NEWN(a->tmp, u32, g->node.n + 1); /* layer + 1; 0: before all */
	for (u32 i = 0; i < g->node.n; i++) {
		const Node *n = &g->node.v[i];
		u32 layer = layer_index(a, n);
		last[i] = layer == NONE ? 0 : layer + 1;
		for (u32 k = 0; k < n->nin; k++)
			last[i] = MAX(last[i], last[g->value.v[n->in[k].i].node]);
		if (e->needed[i] && !e->backward[i])
			work[last[i] ? last[i] - 1 : 0] += node_cost(g, n).flops;
	}
	return work;
}

/* Consecutive groups, none empty, with the least sum of squares of their work. */
static void cut_layers(Assign *a, const f64 *work)
{
	u32 n = a->nlayer, parts = a->x->nvirtual;
	f64 *least = NEWN(a->tmp, f64, (size_t)(parts + 1) * (n + 1)), total = 1;
	u32 *from = NEWN(a->tmp, u32, (size_t)(parts + 1) * (n + 1));
	for (u32 i = 0; i < n; i++)
		total += work[i];
	for (u32 k = 0; k <= parts; k++)
		for (u32 i = 0; i <= n; i++) {
			f64 *best = &least[k * (n + 1) + i], sum = 0;
			*best = k == 0 && i == 0 ? 0 : INFINITY;
			for (u32 j = i; k > 0 && j-- > 0;) {
				sum += work[j] / total + 1e-6; /* where nothing weighs anything, their number */
				f64 cost = least[(k - 1) * (n + 1) + j] + sum * sum;
				if (cost < *best * (1 - 1e-12)) {
					*best = cost;
					from[k * (n + 1) + i] = j;
				}
			}
		}
	a->stage_of = NEWN(a->tmp, u32, n + 1);
	for (u32 k = parts, end = n; k > 0; k--) {
		u32 begin = from[k * (n + 1) + end];
		for (u32 i = begin; i < end; i++)
			a->stage_of[i] = k - 1;
		end = begin;
	}
}

/* ---- nodes ---- */

static bool all_free(const EntryStages *e, const Node *n)
{
	for (u32 k = 0; k < n->nin; k++)
		if (e->at[e->g->value.v[n->in[k].i].node] != NONE)
			return false;
	return true;
}

/* Where the entry writes a buffer that it also reads, beside gradients: the read is where the write is. A counter that only some
 * stage's training writes is there too. */
static u32 fixed_at(const Assign *a, const EntryStages *e, const u32 *written, const Node *n)
{
	u32 buffer = n->op == OP_read ? program_find_buffer(a->x->p, ATTR(n, read)->buffer) : NONE;
	if (buffer == NONE || a->x->p->buffer.v[buffer].kind == BUFFER_GRADIENT)
		return NONE;
	bool counter = e->kind == ENTRY_CHAIN && a->x->p->buffer.v[buffer].kind == BUFFER_COUNTER && a->x->holders[buffer];
	return written[buffer] == NONE && counter ? (u32)__builtin_ctzll(a->x->holders[buffer]) : written[buffer];
}

static u32 forward_at(const Assign *a, const EntryStages *e, const Node *n)
{
	u32 own = own_stage(a, n), at = own == NONE ? 0 : own;
	for (u32 k = 0; k < n->nin; k++) {
		u32 of = e->at[e->g->value.v[n->in[k].i].node];
		at = of == NONE ? at : MAX(at, of);
	}
	return at;
}

static u32 backward_at(const Assign *a, const EntryStages *e, const Node *n)
{
	u32 own = own_stage(a, n), least = NONE, most = NONE;
	for (u32 k = 0; k < n->nin; k++) {
		u32 maker = e->g->value.v[n->in[k].i].node, of = e->at[maker];
		if (of == NONE)
			continue;
		if (e->backward[maker])
			least = MIN(least, of);
		else
			most = most == NONE ? of : MAX(most, of);
	}
	if (least != NONE)
		return MIN(own, least); /* NONE is the largest */
	return own != NONE ? own : most;
}

/* Does the value follow from a parameter? */
static bool of_parameter(const Assign *a, const EntryStages *e, const bool *of, const Node *n)
{
	bool any = false;
	for (u32 k = 0; k < n->nin; k++)
		any |= of[e->g->value.v[n->in[k].i].node];
	if (n->op != OP_read)
		return any;
	return a->x->p->buffer.v[program_find_buffer(a->x->p, ATTR(n, read)->buffer)].kind == BUFFER_PARAMETER;
}

/* Free are sources and what follows from them alone: of parameters, what is cheap, and the gathering of their parts. */
static void place_nodes(Assign *a, EntryStages *e, const u32 *written)
{
	bool *of = NEWN(a->tmp, bool, e->g->node.n + 1);
	for (u32 i = 0; i < e->g->node.n; i++) {
		const Node *n = &e->g->node.v[i];
		u32 fixed = fixed_at(a, e, written, n);
		bool source = n->op == OP_read || n->op == OP_input;
		of[i] = of_parameter(a, e, of, n);
		if (fixed != NONE)
			e->at[i] = fixed;
		else if (source || (all_free(e, n) && (!of[i] || stage_cheap(n) || n->op == OP_all_gather)))
			e->at[i] = NONE;
		else
			e->at[i] = e->backward[i] ? backward_at(a, e, n) : forward_at(a, e, n);
	}
}

/* Twice: where a buffer is written tells where it is read. */
static void assign_entry(Assign *a, EntryStages *e)
{
	const Program *p = a->x->p;
	u32 *written = NEWN(a->tmp, u32, p->buffer.n + 1);
	memset(written, 0xff, (p->buffer.n + 1) * sizeof *written);
	place_nodes(a, e, written);
	for (u32 i = 0; i < e->g->result.n; i++) {
		const Result *r = &e->g->result.v[i];
		u32 at = e->at[e->g->value.v[r->value.i].node];
		if (r->buffer != NONE && !is_gradient(a, r))
			written[r->buffer] = at == NONE ? 0 : at;
	}
	place_nodes(a, e, written);
	for (u32 i = 0; i < e->g->result.n; i++) {
		const Result *r = &e->g->result.v[i];
		u32 at = e->at[e->g->value.v[r->value.i].node];
		if (r->buffer != NONE && !is_gradient(a, r))
			a->x->holders[r->buffer] |= 1ull << (at == NONE ? 0 : at) % a->x->rules.stages;
	}
}

/* ---- gradients that several virtual stages add to ---- */

/* Does the sum go on into its operands? Not where somebody else wants it too. */
static bool goes_on(const EntryStages *e, Val v)
{
	u32 node = e->g->value.v[v.i].node;
	const Node *n = &e->g->node.v[node];
	return e->backward[node] && e->uses[v.i] == 1 && (n->op == OP_add || stage_linear(n));
}

/* The virtual stages that add to it, from least to most; least > most: none. */
static void span(const StagePlan *x, const EntryStages *e, Val v, u32 *least, u32 *most)
{
	u32 node = e->g->value.v[v.i].node;
	if (goes_on(e, v)) {
		for (u32 k = 0; k < e->g->node.v[node].nin; k++)
			span(x, e, e->g->node.v[node].in[k], least, most);
	} else if (e->at[node] != NONE) {
		*least = MIN(*least, e->at[node]);
		*most = *most == NONE ? e->at[node] : MAX(*most, e->at[node]);
	}
}

/* Is the buffer's old value among the terms? */
static bool has_old(const StagePlan *x, const EntryStages *e, Val v)
{
	const Node *n = val_node(e->g, v);
	bool old = stage_old_gradient(x, e, v);
	for (u32 k = 0; goes_on(e, v) && k < n->nin; k++)
		old |= has_old(x, e, n->in[k]);
	return old;
}

/* A sum of several virtual stages' terms, and what in it has the old value, to which each of them adds. */
static void open_up(Assign *a, EntryStages *e, Val v, bool several, u32 buffer)
{
	u32 node = e->g->value.v[v.i].node, least = NONE, most = NONE;
	span(a->x, e, v, &least, &most);
	if ((least != most || (several && has_old(a->x, e, v))) && goes_on(e, v)) {
		e->inside[node] = true;
		for (u32 k = 0; k < e->g->node.v[node].nin; k++)
			open_up(a, e, e->g->node.v[node].in[k], true, buffer);
	} else if (e->at[node] != NONE) {
		a->x->adds[buffer] |= 1ull << e->at[node] % a->x->rules.stages;
	}
}

/* ---- crossings ---- */

static void cross(Assign *a, EntryStages *e, Map *known, Crossing c)
{
	const StageRules *r = &a->x->rules;
	/* within one graph a value is at hand */
	if (c.from == c.to || (e->kind == ENTRY_CHAIN && c.from % r->stages == c.to % r->stages))
		return;
	u32 to = e->kind == ENTRY_CHAIN ? c.to % r->stages : c.to; /* one message for all chunks of a graph, for the first of them */
	u64 key = ((u64)c.value.i * a->x->nvirtual + to) * 2 + c.backward;
	const u64 *at = map_get(known, key);
	if (at) {
		e->crossing.v[*at].to = MIN(e->crossing.v[*at].to, c.to);
		return;
	}
	map_put(known, key, e->crossing.n);
	VEC_PUSH(a->x->cx->out, &e->crossing, c);
}

static void find_crossings(Assign *a, EntryStages *e)
{
	Map known = { .arena = a->tmp };
	for (u32 i = 0; i < e->g->node.n; i++) {
		const Node *n = &e->g->node.v[i];
		u32 to = e->at[i];
		for (u32 k = 0; e->needed[i] && !e->inside[i] && to != NONE && k < n->nin; k++) {
			u32 maker = e->g->value.v[n->in[k].i].node, from = e->at[maker];
			if (from != NONE)
				cross(a, e, &known, (Crossing){ n->in[k], from, to, e->backward[maker] || (e->backward[i] && from > to) });
		}
	}
}

/* ---- buffers ---- */

/* Which stages read each buffer of what lasts a step. */
static void find_readers(Assign *a, const EntryStages *e)
{
	const StagePlan *x = a->x;
	u64 *wants = NEWN(a->tmp, u64, e->g->node.n + 1);
	for (u32 i = e->g->node.n; i-- > 0;) {
		const Node *n = &e->g->node.v[i];
		if (!e->needed[i] || e->inside[i])
			continue;
		if (e->at[i] != NONE)
			wants[i] |= 1ull << e->at[i] % x->rules.stages;
		for (u32 k = 0; k < n->nin; k++) {
			u32 maker = e->g->value.v[n->in[k].i].node;
			if (e->at[maker] == NONE)
				wants[maker] |= wants[i];
		}
		if (n->op == OP_read) {
			u32 b = program_find_buffer(x->p, ATTR(n, read)->buffer);
			if (x->p->buffer.v[b].kind == BUFFER_PARAMETER)
				x->holders[b] |= wants[i];
		}
	}
}

static void find_holders(Assign *a)
{
	StagePlan *x = a->x;
	u64 all = x->rules.stages == STAGES_MOST ? UINT64_MAX : (1ull << x->rules.stages) - 1;
	for (u32 i = 0; i < x->p->buffer.n; i++) {
		const Buffer *b = &x->p->buffer.v[i];
		if (b->kind == BUFFER_GRADIENT && b->of != NONE)
			x->holders[b->of] |= x->adds[i];
	}
	for (u32 i = 0; i < x->p->buffer.n; i++) {
		const Buffer *b = &x->p->buffer.v[i];
		if (b->kind == BUFFER_PARAMETER)
			x->holders[i] = x->holders[i] ? x->holders[i] : 1;
		else if (b->of == NONE)
			x->holders[i] = x->holders[i] ? x->holders[i] : all;
	}
	for (u32 i = 0; i < x->p->buffer.n; i++)
		if (x->p->buffer.v[i].of != NONE)
			x->holders[i] = x->holders[x->p->buffer.v[i].of];
}

/* ---- all of it ---- */

static void begin_entry(Assign *a, EntryStages *e, const Graph *g)
{
	Arena *out = a->x->cx->out;
	*e = (EntryStages){ .g = g, .kind = kind_of(g->name), .needed = NEWN(out, bool, g->node.n + 1), .uses = NEWN(out, u32, g->value.n + 1),
			    .backward = NEWN(out, bool, g->node.n + 1), .at = NEWN(out, u32, g->node.n + 1),
			    .inside = NEWN(out, bool, g->node.n + 1) };
	find_halves(a, e);
	if (e->kind != ENTRY_TRAIN)
		memset(e->backward, 0, g->node.n * sizeof *e->backward);
}

static bool find_stages(Assign *a)
{
	StagePlan *x = a->x;
	const EntryStages *first = NULL;
	for (u32 i = 0; i < x->p->entry.n; i++)
		if ((x->entry[i].kind == ENTRY_TRAIN && (!first || first->kind != ENTRY_TRAIN)) || (x->entry[i].kind == ENTRY_CHAIN && !first))
			first = &x->entry[i];
	if (!first)
		return diag_error(x->cx->diag, E0727, (Loc){ 0 }, "the program has no entry that runs layers");
	f64 *work = find_layers(a, first);
	if (a->nlayer >= x->nvirtual) {
		cut_layers(a, work);
		return true;
	}
	diag_error(x->cx->diag, E0727, a->at, "%s = %u%s need at least %u layers, and %s has %u", x->rules.over, x->rules.stages,
		   x->rules.chunks > 1 ? arena_printf(a->tmp, " stages of %u chunks", x->rules.chunks) : " stages", x->nvirtual, x->p->name, a->nlayer);
	u32 most = a->nlayer / x->rules.chunks;
	if (a->nlayer)
		diag_note(x->cx->diag, (Loc){ 0 }, "a layer's path has a number: they are %s%s%s; %s = %u at most%s", a->outer[0], a->nlayer > 1 ? " to " : "",
			  a->nlayer > 1 ? a->outer[1] : "", x->rules.over, MAX(most, 1), x->rules.chunks > 1 ? ", or fewer chunks" : "");
	else
		diag_note(x->cx->diag, (Loc){ 0 }, "a layer's path has a number, that of a loop: Block(x) as \"h.{i}\"; a mesh without %s divides other axes", x->rules.over);
	return false;
}

bool stage_assign(PassCx *cx, const Program *p, const StageRules *rules, StagePlan *out)
{
	*out = (StagePlan){ .cx = cx, .p = p, .rules = *rules, .nvirtual = rules->stages * rules->chunks,
			    .entry = NEWN(cx->out, EntryStages, p->entry.n + 1), .holders = NEWN(cx->out, u64, p->buffer.n + 1),
			    .adds = NEWN(cx->out, u64, p->buffer.n + 1) };
	Assign a = { .x = out, .tmp = cx->tmp, .layer.arena = cx->tmp };
	for (u32 i = 0; i < p->entry.n; i++)
		begin_entry(&a, &out->entry[i], p->entry.v[i]);
	if (!find_stages(&a))
		return false;
	/* training says which stage has which counter */
	for (EntryKind kind = ENTRY_TRAIN; kind <= ENTRY_CHAIN; kind++)
		for (u32 i = 0; i < p->entry.n; i++) {
			EntryStages *e = &out->entry[i];
			if (e->kind != kind)
				continue;
			assign_entry(&a, e);
			for (u32 k = 0; k < e->g->result.n; k++)
				if (is_gradient(&a, &e->g->result.v[k]))
					open_up(&a, e, e->g->result.v[k].value, false, e->g->result.v[k].buffer);
			find_crossings(&a, e);
			find_readers(&a, e);
		}
	find_holders(&a);
	return true;
}
