/* passes/plan/plan.c: a program's entries to steps and buffers; see plan.h and ir/plan.h.
 *
 * For each entry: nodes to groups (passes/fuse.h), groups to kernels (passes/lower/lower.h), and then what
 * becomes of its results. An entry means: buffers are read as they were when it began. A result goes
 * straight into its buffer where that can be kept: every other step that reads the old value can run
 * before the one that writes the new (an edge between them says so, unless it would close a circle), and
 * the writing kernel itself reads it only where it may work in place. Otherwise the value is made in a
 * memory of its own and copied at the end. What is added to a value in its place (scatter_add with a third operand) has that
 * value's memory. A result that nothing computes (a view, a constant, a buffer,
 * a value that went elsewhere) is copied by a kernel of its own.
 *
 * Then steps are ordered (order.c), fitted into a budget of memory (fit.c), and memory is laid out (memplan.c). */
#include "passes/plan/planner.h"

#include <string.h>

/* How many steps a search for a circle looks at; where it is cut off, a copy is made. */
enum { REACH = 2000 };

/* What becomes of one result. */
typedef struct Outcome {
	u32 draft; /* who writes it, or NONE: nothing is to be done */
	u32 slot;  /* through which slot */
} Outcome;

/* ---- buffers ---- */

u32 planner_buffer(Planner *x, PlanBuffer b)
{
	b.root = NONE;
	VEC_PUSH(x->plan->arena, &x->entry->buffer, b);
	return x->entry->buffer.n - 1;
}

static u32 value_buffer(Planner *x, MemoryKind kind, const char *name, Val v)
{
	const Node *n = val_node(x->g, v);
	const Type *t = val_type(x->g, v);
	return planner_buffer(x, (PlanBuffer){ .kind = kind, .name = name, .persistent = NONE, .type = t,
					   .bytes = (u64)grouping_elements(x->f, v) * dtype_info[t->dtype].bytes,
					   .loc = n->loc, .scope = n->scope });
}

static u32 transient_buffer(Planner *x, Val v)
{
	const Node *n = val_node(x->g, v);
	assert(n->op != OP_update_slice && "it writes new rows alone: what it updates is a buffer");
	const char *name = intern_printf(&x->g->ir->names, "%s%s%s.%u", n->scope, *n->scope ? "." : "",
					 op_info[n->op].name, v.i);
	return value_buffer(x, MEMORY_TRANSIENT, name, v);
}

static u32 persistent_buffer(Planner *x, u32 buffer)
{
	if (x->persistent[buffer] == NONE) {
		const Buffer *b = &x->plan->program->buffer.v[buffer];
		x->persistent[buffer] =
			planner_buffer(x, (PlanBuffer){ .kind = MEMORY_PERSISTENT, .name = b->name,
						    .persistent = buffer, .type = b->type,
						    .bytes = (u64)type_bytes(b->type), .loc = b->loc,
						    .scope = b->scope ? b->scope : "" });
	}
	return x->persistent[buffer];
}

/* The program's buffer whose old value `v` is, or NONE. */
static u32 read_buffer(const Planner *x, Val v)
{
	const Node *n = val_node(x->g, v);
	return n->op == OP_read ? program_find_buffer(x->plan->program, ATTR(n, read)->buffer) : NONE;
}

static void add_sources(Planner *x)
{
	for (u32 i = 0; i < x->g->node.n; i++) {
		const Node *n = &x->g->node.v[i];
		if (n->op != OP_input)
			continue;
		u32 b = value_buffer(x, MEMORY_INPUT, ATTR(n, input)->name, n->out);
		x->memory[n->out.i] = b;
		VEC_PUSH(x->plan->arena, &x->entry->input, b);
	}
}

/* ---- drafts ---- */

static void edge(Planner *x, u32 from, u32 to)
{
	VEC_PUSH(x->tmp, &x->draft.v[from].after, to);
	VEC_PUSH(x->tmp, &x->draft.v[to].before, from);
}

/* A kernel as a step: who must run before it, and which old values it reads. */
static u32 add_draft(Planner *x, Kernel *k, const Val *value, bool copy)
{
	Draft d = { .kernel = k, .value = value, .to = NONE, .from = NONE, .copy = copy };
	u32 at = x->draft.n;
	VEC_PUSH(x->tmp, &x->draft, d);
	for (u32 s = 0; s < k->slot.n; s++) {
		Val v = value[s];
		if (k->slot.v[s].written) {
			if (copy)
				continue;
			assert(x->maker[v.i] == NONE);
			x->maker[v.i] = at;
			continue;
		}
		const Node *n = val_node(x->g, v);
		u32 buffer = read_buffer(x, v);
		if (buffer != NONE) {
			x->memory[v.i] = persistent_buffer(x, buffer);
			VEC_PUSH(x->tmp, &x->readers[buffer], at);
		} else if (n->op != OP_input) {
			if (x->maker[v.i] == NONE)
				NEVER("a kernel reads a value before anything stores it");
			edge(x, x->maker[v.i], at);
		}
	}
	return at;
}

static u32 written_slot(const Kernel *k)
{
	for (u32 s = 0; s < k->slot.n; s++)
		if (k->slot.v[s].written)
			return s;
	NEVER("a kernel that writes nothing");
}

static u32 add_copy(Planner *x, Val v)
{
	const Val *value;
	Kernel *k = lower_group(x->plan->arena, x->f, NONE, v, &value);
	return add_draft(x, k, value, true);
}

/* What devices are to be told lies in memory: views and constants that it is made of are copied there first. */
static void add_operands(Planner *x, u32 group)
{
	const Node *n = &x->g->node.v[x->f->group.v[group].skeleton];
	for (u32 i = 0; i < n->nin; i++) {
		const Node *maker = val_node(x->g, n->in[i]);
		if (maker->op == OP_input || maker->op == OP_read || x->maker[n->in[i].i] != NONE)
			continue;
		const Val *value;
		Kernel *k = lower_group(x->plan->arena, x->f, group, n->in[i], &value);
		x->f->stored[n->in[i].i] = true;
		add_draft(x, k, value, false);
	}
}

/* What stages of a pipeline say to one another keeps the order of the graph, which is that of the other stages' graphs: each
 * plans alone, and two that wait for one another in different orders would do so for ever. */
static bool between_stages(const Planner *x, const Group *gr)
{
	Op op = gr->class == KERNEL_COLLECTIVE ? (Op)x->g->node.v[gr->skeleton].op : OPS;
	return op == OP_send || op == OP_receive || op == OP_reduce_among;
}

static void add_groups(Planner *x)
{
	u32 last = NONE;
	for (u32 i = 0; i < x->f->norder; i++) {
		const Val *value;
		const Group *gr = &x->f->group.v[x->f->order[i]];
		if (gr->class == KERNEL_COLLECTIVE)
			add_operands(x, x->f->order[i]);
		Kernel *k = lower_group(x->plan->arena, x->f, x->f->order[i], (Val){ 0 }, &value);
		if (x->plan->target && x->plan->target->keep_apart)
			x->plan->target->keep_apart(x->plan->target, k);
		u32 at = add_draft(x, k, value, false);
		Val onto = gr->skeleton == NONE ? (Val){ 0 } : added_onto(&x->g->node.v[gr->skeleton]);
		if (onto.i) {
			assert(x->maker[onto.i] != NONE);
			x->draft.v[at].onto = onto;
			edge(x, x->maker[onto.i], at);
		}
		if (!between_stages(x, gr))
			continue;
		if (last != NONE)
			edge(x, last, at);
		last = at;
	}
}

/* Can `to` be reached from `from`? True also where the search is cut off. */
static bool reaches(Planner *x, u32 from, u32 to)
{
	Indices stack = { 0 };
	u32 seen = 0;
	x->visit++;
	VEC_PUSH(x->tmp, &stack, from);
	while (stack.n) {
		Draft *d = &x->draft.v[stack.v[--stack.n]];
		if (d->visited == x->visit)
			continue;
		d->visited = x->visit;
		if (d == &x->draft.v[to] || ++seen > REACH)
			return true;
		for (u32 i = 0; i < d->after.n; i++)
			VEC_PUSH(x->tmp, &stack, d->after.v[i]);
	}
	return false;
}

/* ---- results ---- */

/* The slot through which the value's maker writes it. */
static u32 made_slot(const Planner *x, Val v)
{
	const Draft *d = &x->draft.v[x->maker[v.i]];
	for (u32 s = 0; s < d->kernel->slot.n; s++)
		if (d->kernel->slot.v[s].written && d->value[s].i == v.i)
			return s;
	NEVER("a value's maker does not store it");
}

/* May slot `slot` of draft `at` be the memory of `buffer`, whose old value others may read? Then they run
 * before it. */
static bool write_through(Planner *x, u32 at, u32 slot, u32 buffer)
{
	const Kernel *k = x->draft.v[at].kernel;
	Val onto = x->draft.v[at].onto;
	if (onto.i && !write_through(x, x->maker[onto.i], made_slot(x, onto), buffer))
		return false;
	const Indices *readers = &x->readers[buffer];
	for (u32 s = 0; s < k->slot.n; s++)
		if (k->slot.v[s].read &&
		    read_buffer(x, x->draft.v[at].value[s]) == buffer &&
		    (s >= 64 || !(k->slot.v[slot].may_alias >> s & 1)))
			return false;
	for (u32 i = 0; i < readers->n; i++)
		if (readers->v[i] != at && reaches(x, at, readers->v[i]))
			return false;
	for (u32 i = 0; i < readers->n; i++)
		if (readers->v[i] != at)
			edge(x, readers->v[i], at);
	return true;
}

static Outcome find_writer(Planner *x, const Result *r, bool *claimed)
{
	u32 at = x->maker[r->value.i];
	if (r->buffer != NONE && read_buffer(x, r->value) == r->buffer)
		return (Outcome){ .draft = NONE };
	if (at == NONE || claimed[r->value.i]) {
		at = add_copy(x, r->value);
		return (Outcome){ at, written_slot(x->draft.v[at].kernel) };
	}
	claimed[r->value.i] = true;
	return (Outcome){ at, made_slot(x, r->value) };
}

static bool is_copy(const Planner *x, u32 draft)
{
	return x->draft.v[draft].copy;
}

static void send_to(Planner *x, const Outcome *o, Val v, u32 buffer)
{
	if (is_copy(x, o->draft))
		x->draft.v[o->draft].to = buffer;
	else
		x->memory[v.i] = buffer;
}

/* Is the value read by draft `reader` alone, and nobody's result? */
static bool read_once(const Planner *x, Val v, u32 reader)
{
	const Draft *maker = &x->draft.v[x->maker[v.i]];
	for (u32 i = 0; i < x->g->result.n; i++)
		if (x->g->result.v[i].value.i == v.i)
			return false;
	for (u32 i = 0; i < maker->after.n; i++) {
		const Draft *d = &x->draft.v[maker->after.v[i]];
		for (u32 s = 0; s < d->kernel->slot.n; s++)
			if (d->value[s].i == v.i && maker->after.v[i] != reader)
				return false;
	}
	return true;
}

/* Slot `slot` of draft `at` is written into `buffer`. Where it is computed in the place of a value that is there for it alone,
 * that one is made in the buffer already, and so on back: what is added up in parts is so from the first part on. */
static void begin_there(Planner *x, u32 at, u32 slot, u32 buffer)
{
	const Type *type = x->plan->program->buffer.v[buffer].type;
	for (bool found = true; found;) {
		const Draft *d = &x->draft.v[at];
		const KSlot *out = &d->kernel->slot.v[slot];
		found = false;
		if (d->onto.i) {
			x->memory[d->onto.i] = persistent_buffer(x, buffer);
			slot = made_slot(x, d->onto);
			at = x->maker[d->onto.i];
			found = true;
			continue;
		}
		for (u32 s = 0; s < d->kernel->slot.n && s < 64 && !found; s++) {
			Val v = d->value[s];
			if (!(out->may_alias >> s & 1) || x->maker[v.i] == NONE || x->memory[v.i] != NONE)
				continue;
			if (val_type(x->g, v) != type || x->f->layout[v.i].n || x->f->pitch[v.i] || !read_once(x, v, at))
				continue;
			if (!write_through(x, x->maker[v.i], made_slot(x, v), buffer))
				continue;
			x->memory[v.i] = persistent_buffer(x, buffer);
			at = x->maker[v.i];
			slot = made_slot(x, v);
			found = true;
		}
	}
}

static void place_persistent(Planner *x, const Result *r, const Outcome *o)
{
	u32 to = persistent_buffer(x, r->buffer);
	if (write_through(x, o->draft, o->slot, r->buffer)) {
		send_to(x, o, r->value, to);
		begin_there(x, o->draft, o->slot, r->buffer);
		return;
	}
	u32 between = transient_buffer(x, r->value);
	send_to(x, o, r->value, between);
	/* it lies in memory now: the second kernel copies just that */
	bool was = x->f->stored[r->value.i];
	x->f->stored[r->value.i] = true;
	const Val *value;
	Kernel *k = lower_group(x->plan->arena, x->f, NONE, r->value, &value);
	x->f->stored[r->value.i] = was;
	Draft d = { .kernel = k, .value = value, .to = to, .from = between };
	u32 at = x->draft.n;
	VEC_PUSH(x->tmp, &x->draft, d);
	edge(x, o->draft, at);
	for (u32 i = 0; i < x->readers[r->buffer].n; i++)
		edge(x, x->readers[r->buffer].v[i], at);
}

static void add_results(Planner *x)
{
	const Graph *g = x->g;
	bool *claimed = NEWN(x->tmp, bool, g->value.n + 1);
	Outcome *outcome = NEWN(x->tmp, Outcome, g->result.n + 1);
	/* buffers have the first claim: a caller can be given a copy */
	for (u32 named = 0; named < 2; named++)
		for (u32 i = 0; i < g->result.n; i++)
			if ((g->result.v[i].buffer == NONE) == named)
				outcome[i] = find_writer(x, &g->result.v[i], claimed);
	for (u32 i = 0; i < g->result.n; i++) {
		const Result *r = &g->result.v[i];
		if (r->buffer == NONE) {
			u32 to = value_buffer(x, MEMORY_RESULT, r->name, r->value);
			VEC_PUSH(x->plan->arena, &x->entry->result, to);
			send_to(x, &outcome[i], r->value, to);
		} else if (outcome[i].draft != NONE) {
			place_persistent(x, r, &outcome[i]);
		}
	}
	for (u32 i = g->value.n; i-- > 1;)
		if (x->maker[i] != NONE && x->memory[i] != NONE && x->draft.v[x->maker[i]].onto.i)
			x->memory[x->draft.v[x->maker[i]].onto.i] = x->memory[i];
	for (u32 i = 1; i < g->value.n; i++) {
		if (x->maker[i] == NONE || x->memory[i] != NONE)
			continue;
		Val onto = x->draft.v[x->maker[i]].onto;
		x->memory[i] = onto.i ? x->memory[onto.i] : transient_buffer(x, (Val){ i });
	}
}

/* ---- steps ---- */

u32 planner_slot(const Planner *x, const Draft *d, u32 s)
{
	bool written = d->kernel->slot.v[s].written;
	if (written && d->to != NONE)
		return d->to;
	if (!written && d->from != NONE)
		return d->from;
	assert(x->memory[d->value[s].i] != NONE);
	return x->memory[d->value[s].i];
}

/* Which kernels run, with which names, and what the target says to them. */
bool planner_needs(Planner *x, Draft *d)
{
	Kernel *k = d->kernel;
	u64 *seen = map_get(&x->names, MAP_KEY(k->name));
	u64 count = seen ? *seen + 1 : 1;
	map_put(&x->names, MAP_KEY(k->name), count);
	if (count > 1)
		k->name = intern_printf(&x->g->ir->names, "%s.%llu", k->name, (unsigned long long)count);
#ifndef NDEBUG
	if (!kernel_verify(k, x->diag))
		return false;
#endif
	const TargetInfo *t = x->plan->target;
	if (k->class == KERNEL_COLLECTIVE)
		return true; /* the runtime's, not the target's */
	const char *why = t && t->refuses ? t->refuses(t, k) : NULL;
	if (why)
		return diag_error(x->diag, E0719, k->loc, "kernel %s (%s) cannot run on %s: %s", k->name,
				  kernel_class_name[k->class], t->name, why);
	if (t && t->needs)
		d->needs = t->needs(t, k);
	x->plan->thread_scratch = MAX(x->plan->thread_scratch, d->needs.thread_scratch);
	return true;
}

static void order_drafts(Planner *x, const u32 *const *slot, const u32 **out)
{
	u32 n = x->draft.n, nbuffer = x->entry->buffer.n;
	OrderStep *step = NEWN(x->tmp, OrderStep, n + 1);
	u64 *bytes = NEWN(x->tmp, u64, nbuffer + 1);
	bool *at_start = NEWN(x->tmp, bool, nbuffer + 1), *to_end = NEWN(x->tmp, bool, nbuffer + 1);
	for (u32 i = 0; i < nbuffer; i++) {
		const PlanBuffer *b = &x->entry->buffer.v[i];
		bytes[i] = b->kind == MEMORY_PERSISTENT ? 0 : b->bytes;
		at_start[i] = b->kind == MEMORY_INPUT || b->kind == MEMORY_PERSISTENT;
		to_end[i] = b->kind == MEMORY_RESULT || b->kind == MEMORY_PERSISTENT;
	}
	for (u32 i = 0; i < n; i++) {
		const Draft *d = &x->draft.v[i];
		u32 *reads = NEWN(x->tmp, u32, d->kernel->slot.n), *writes = NEWN(x->tmp, u32, d->kernel->slot.n);
		OrderStep s = { d->before.v, d->before.n, reads, writes, 0, 0, d->needs.workspace };
		for (u32 k = 0; k < d->kernel->slot.n; k++) {
			if (d->kernel->slot.v[k].written)
				writes[s.nwrite++] = slot[i][k];
			else
				reads[s.nread++] = slot[i][k];
		}
		step[i] = s;
	}
	OrderProblem p = { step, n, nbuffer, bytes, at_start, to_end };
	*out = order_steps(x->tmp, x->tmp, &p);
}

/* Groups come in a topological order, but what reads an old value may stand behind what writes the new:
 * each draft after all that it waits for, depth first, and else as they come. */
static void sort_drafts(Planner *x)
{
	u32 n = x->draft.n, *order = NEWN(x->tmp, u32, n + 1), *place = NEWN(x->tmp, u32, n + 1), done = 0;
	bool *taken = NEWN(x->tmp, bool, n + 1);
	for (u32 i = 0; i < n; i++) {
		Indices want = { 0 };
		VEC_PUSH(x->tmp, &want, i);
		while (want.n) {
			u32 d = want.v[want.n - 1];
			bool ready = true;
			if (taken[d]) {
				want.n--;
				continue;
			}
			for (u32 k = 0; k < x->draft.v[d].before.n; k++)
				if (!taken[x->draft.v[d].before.v[k]]) {
					VEC_PUSH(x->tmp, &want, x->draft.v[d].before.v[k]);
					ready = false;
				}
			if (!ready)
				continue;
			taken[d] = true;
			place[d] = done;
			order[done++] = d;
			want.n--;
		}
	}
	assert(done == n);
	VEC(Draft) sorted = { 0 };
	for (u32 i = 0; i < n; i++) {
		Draft d = x->draft.v[order[i]];
		for (u32 k = 0; k < d.before.n; k++)
			d.before.v[k] = place[d.before.v[k]];
		VEC_PUSH(x->tmp, &sorted, d);
	}
	if (n > 0)
		memcpy(x->draft.v, sorted.v, n * sizeof *sorted.v);
}

void plan_steps(Planner *x, const Schedule *s)
{
	EntryPlan *e = x->entry;
	u32 *kernel = NEWN(x->tmp, u32, x->draft.n + 1); /* of each draft, once it has run: one more than its index */
	for (u32 i = 0; i < s->launch.n; i++) {
		const Launch *l = &s->launch.v[i];
		const Draft *d = &x->draft.v[l->draft];
		if (!kernel[l->draft]) {
			VEC_PUSH(x->plan->arena, &x->plan->kernel, d->kernel);
			kernel[l->draft] = x->plan->kernel.n;
		}
		Step step = { .kernel = kernel[l->draft] - 1, .slot = l->slot, .workspace = NONE, .again = l->again };
		if (d->needs.workspace)
			step.workspace = planner_buffer(x, (PlanBuffer){ .kind = MEMORY_WORKSPACE,
									 .name = d->kernel->name, .persistent = NONE,
									 .bytes = d->needs.workspace, .first = i,
									 .last = i, .loc = d->kernel->loc,
									 .scope = d->kernel->scope });
		VEC_PUSH(x->plan->arena, &e->step, step);
	}
	u32 end = e->step.n ? e->step.n - 1 : 0;
	for (u32 i = 0; i < e->buffer.n; i++) {
		PlanBuffer *b = &e->buffer.v[i];
		if (b->kind == MEMORY_WORKSPACE)
			continue;
		bool early = b->kind == MEMORY_INPUT || b->kind == MEMORY_PERSISTENT;
		b->first = early ? 0 : end;
		b->last = b->kind == MEMORY_RESULT || b->kind == MEMORY_PERSISTENT ? end : 0;
	}
	for (u32 i = 0; i < e->step.n; i++) {
		const Kernel *k = x->plan->kernel.v[e->step.v[i].kernel];
		for (u32 s = 0; s < k->slot.n; s++) {
			PlanBuffer *b = &e->buffer.v[e->step.v[i].slot[s]];
			b->first = MIN(b->first, i);
			b->last = MAX(b->last, i);
		}
	}
}

static bool finish_entry(Planner *x, const PlanLimits *limits)
{
	bool fine = true;
	sort_drafts(x);
	u32 n = x->draft.n;
	const u32 **slot = NEWN(x->tmp, const u32 *, n + 1), *order;
	for (u32 i = 0; i < n; i++) {
		Draft *d = &x->draft.v[i];
		u32 *s = NEWN(x->plan->arena, u32, d->kernel->slot.n + 1);
		for (u32 k = 0; k < d->kernel->slot.n; k++)
			s[k] = planner_slot(x, d, k);
		slot[i] = s;
		fine &= planner_needs(x, d);
	}
	if (!fine)
		return false;
	order_drafts(x, slot, &order);
	Schedule s = { 0 };
	for (u32 i = 0; i < n; i++)
		VEC_PUSH(x->tmp, &s.launch, (Launch){ order[i], slot[order[i]], false });
	u64 held = x->plan->persistent_bytes;
	/* a budget below what is there anyway is one of a byte, which nothing fits in */
	plan_fit(x, &s, !limits->memory ? 0 : limits->memory > held ? limits->memory - held : 1, limits);
	return true;
}

static u32 *none_list(Arena *tmp, u32 n)
{
	u32 *l = NEWN(tmp, u32, n + 1);
	memset(l, 0xff, (n + 1) * sizeof *l);
	return l;
}

static bool plan_graph(Plan *p, Arena *tmp, const Graph *g, const PlanLimits *limits, Diag *diag)
{
	EntryPlan *e = NEW(p->arena, EntryPlan);
	e->name = g->name;
	VEC_PUSH(p->arena, &p->entry, e);
	Planner x = { .tmp = tmp,
		      .plan = p,
		      .entry = e,
		      .g = g,
		      .f = fuse_graph(tmp, tmp, g, p->target, limits->like ? program_find_entry(limits->like, str_of(g->name)) : NULL),
		      .memory = none_list(tmp, g->value.n),
		      .maker = none_list(tmp, g->value.n),
		      .persistent = none_list(tmp, p->program->buffer.n),
		      .readers = NEWN(tmp, Indices, p->program->buffer.n + 1),
		      .names = { .arena = tmp },
		      .diag = diag };
	add_sources(&x);
	add_groups(&x);
	add_results(&x);
	return finish_entry(&x, limits);
}

Plan *plan_within(Arena *arena, Arena *tmp, const Program *bound, const TargetInfo *target, const PlanLimits *limits,
		  Diag *diag)
{
	Plan *p = NEW(arena, Plan);
	*p = (Plan){ .arena = arena, .ir = bound->ir, .program = bound, .target = target, .unplaced = limits->unplaced };
	bool fine = true;
	plan_persistent(p);
	for (u32 i = 0; i < bound->entry.n; i++) {
		ArenaMark mark = arena_mark(tmp);
		fine &= plan_graph(p, tmp, bound->entry.v[i], limits, diag);
		arena_release(tmp, mark);
	}
	if (!fine)
		return NULL;
	plan_sum(p);
#ifndef NDEBUG
	if (!p->unplaced && !plan_verify(p, diag))
		return NULL;
#endif
	return p;
}

Plan *plan_program(Arena *arena, Arena *tmp, const Program *bound, const TargetInfo *target, Diag *diag)
{
	return plan_within(arena, tmp, bound, target, &(PlanLimits){ 0 }, diag);
}
