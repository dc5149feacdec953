/* tools/export_part.c: parts of a model as functions of their own: see export.h.
 *
 * A module is cut out of the entry `forward`: the nodes that carry its path. What they read of others becomes an input,
 * what others read of them a result; parameters stay what they are. A kernel is one step of the plan, whose slots are
 * inputs and results, parameters too. */
#include "tools/export.h"

#include <ctype.h>
#include <string.h>

const char *export_identifier(Arena *a, const char *name)
{
	char *s = (char *)(uintptr_t)arena_printf(a, "%s%s", isdigit((unsigned char)*name) ? "_" : "", name);
	for (char *c = s; *c; c++)
		if (!isalnum((unsigned char)*c))
			*c = '_';
	return s;
}

/* ---- modules ---- */

typedef struct Cut {
	Arena *arena;
	const Graph *g;
	const char *path;
	bool *inside, *needed; /* [node] */
	Builder b;
	Val *map;              /* [value] */
	u32 ninput, nresult;
} Cut;

static bool is_within(const char *scope, const char *path)
{
	size_t n = strlen(path);
	return !strncmp(scope, path, n) && (!scope[n] || scope[n] == '.');
}

static void find_nodes(Cut *c)
{
	const Graph *g = c->g;
	for (u32 i = 0; i < g->result.n; i++)
		c->needed[g->value.v[g->result.v[i].value.i].node] = true;
	for (u32 i = g->node.n; i-- > 0;) {
		const Node *n = &g->node.v[i];
		c->inside[i] = is_within(n->scope, c->path) && n->nin;
		for (u32 k = 0; k < n->nin && c->needed[i]; k++)
			c->needed[g->value.v[n->in[k].i].node] = true;
	}
}

static void keep_axes(Cut *c, Val from, Val to)
{
	const Type *t = val_type(c->g, from);
	graph_set_axis(c->b.g, to, COPYN(c->arena, Axis, val_axis(c->g, from), t->rank));
}

/* A value that the part reads and does not make: a parameter or a constant is there again, the rest is given. */
static Val outside(Cut *c, Val v)
{
	const Node *n = val_node(c->g, v);
	if (c->map[v.i].i)
		return c->map[v.i];
	c->b.loc = n->loc;
	c->b.scope = n->scope;
	if (!n->nin && n->op != OP_input) {
		Val copy = build_copy(&c->b, c->g, n, NULL);
		for (u32 k = 0; k < n->nout; k++)
			c->map[n->out.i + k] = (Val){ copy.i + k };
		return c->map[v.i];
	}
	const Type *t = val_type(c->g, v);
	const char *name = n->op == OP_input ? ATTR(n, input)->name : c->ninput ? arena_printf(c->arena, "x%u", c->ninput) : "x";
	c->ninput++;
	Val in = BS(&c->b, input, .name = intern_z(&c->g->ir->names, name), .dtype = t->dtype, .shape = dims_of_type(&c->b, t));
	keep_axes(c, v, in);
	return c->map[v.i] = in;
}

static void copy_part(Cut *c)
{
	for (u32 i = 0; i < c->g->node.n; i++) {
		const Node *n = &c->g->node.v[i];
		if (!c->inside[i] || !c->needed[i])
			continue;
		Val *in = NEWN(c->arena, Val, n->nin + 1);
		for (u32 k = 0; k < n->nin; k++)
			in[k] = outside(c, n->in[k]);
		c->b.loc = n->loc;
		c->b.scope = n->scope;
		Val out = build_copy(&c->b, c->g, n, in);
		for (u32 k = 0; k < n->nout; k++)
			c->map[n->out.i + k] = (Val){ out.i + k };
	}
}

static void add_results(Cut *c)
{
	const Graph *g = c->g;
	bool *read = NEWN(c->arena, bool, g->value.n + 1);
	for (u32 i = 0; i < g->result.n; i++)
		read[g->result.v[i].value.i] = true;
	for (u32 i = 0; i < g->node.n; i++)
		for (u32 k = 0; k < g->node.v[i].nin; k++)
			if (!c->inside[i] && c->needed[i])
				read[g->node.v[i].in[k].i] = true;
	for (u32 v = 1; v < g->value.n; v++) {
		u32 node = g->value.v[v].node;
		if (!read[v] || !c->inside[node] || !c->needed[node])
			continue;
		const char *name = c->nresult ? arena_printf(c->arena, "y%u", c->nresult) : "y";
		graph_result(c->b.g, intern_z(&g->ir->names, name), NONE, c->map[v]);
		c->nresult++;
	}
}

Status export_modules(Arena *arena, const Program *in, const char *const *path, u32 n, const Program **out)
{
	const Graph *forward = program_find_entry(in, STR("forward"));
	Program *p = program_new(arena, in->ir, in->name);
	p->facts = in->facts;
	for (u32 i = 0; i < in->buffer.n; i++)
		program_buffer(p, in->buffer.v[i]);
	for (u32 i = 0; i < n; i++) {
		const char *name = intern_z(&in->ir->names, export_identifier(arena, path[i]));
		Graph *g = graph_new(arena, in->ir, name);
		Cut c = { .arena = arena, .g = forward, .path = path[i], .b = builder_new(g) };
		c.inside = NEWN(arena, bool, forward ? forward->node.n + 1 : 1);
		c.needed = NEWN(arena, bool, forward ? forward->node.n + 1 : 1);
		c.map = NEWN(arena, Val, forward ? forward->value.n + 1 : 1);
		if (forward) {
			find_nodes(&c);
			copy_part(&c);
			add_results(&c);
		}
		builder_done(&c.b);
		if (!c.nresult)
			return FAIL(STATUS_INPUT, "--module %s: the model has no module of that path; `plinth show` lists them: h.0, h.0.attn",
				    path[i]);
		VEC_PUSH(arena, &p->entry, g);
	}
	*out = p;
	return OK;
}

/* ---- kernels ---- */

static bool wanted(const char *const *pattern, u32 n, const char *name)
{
	for (u32 i = 0; i < n; i++)
		if (path_match(str_of(pattern[i]), str_of(name)))
			return true;
	return false;
}

const Plan *export_kernels(Arena *arena, const Plan *in, const char *const *pattern, u32 n)
{
	Plan *p = COPYN(arena, Plan, in, 1);
	p->kernel.v = NULL;
	p->kernel.n = p->kernel.cap = 0;
	p->entry.v = NULL;
	p->entry.n = p->entry.cap = 0;
	for (u32 i = 0; i < in->entry.n; i++) {
		EntryPlan *e = COPYN(arena, EntryPlan, in->entry.v[i], 1);
		e->step.v = NULL;
		e->step.n = e->step.cap = 0;
		for (u32 s = 0; s < in->entry.v[i]->step.n; s++) {
			Step step = in->entry.v[i]->step.v[s];
			Kernel *k = in->kernel.v[step.kernel];
			if (!wanted(pattern, n, k->name))
				continue;
			step.kernel = p->kernel.n;
			VEC_PUSH(arena, &p->kernel, k);
			VEC_PUSH(arena, &e->step, step);
		}
		VEC_PUSH(arena, &p->entry, e);
	}
	return p;
}

/* A slot's name; of two that are called the same, the second gets its number. */
static PackageTensor tensor_of_slot(Arena *a, const PackageStep *s, u32 i)
{
	const PackageSlot *slot = &s->slot_info[i];
	const char *name = slot->name;
	for (u32 k = 0; k < i; k++)
		if (!strcmp(s->slot_info[k].name, slot->name))
			name = arena_printf(a, "%s_%u", slot->name, i);
	PackageTensor t = { .name = name, .dtype = slot->dtype, .rank = 1, .dim = { (i64)slot->elements },
			    .bytes = slot->elements * (u64)dtype_info[slot->dtype].bytes };
	return t;
}

void export_kernel_entries(Arena *a, const Plan *plan, Package *p)
{
	u32 n = 0;
	u64 workspace = 0, most = 0;
	for (u32 i = 0; i < p->nentry; i++)
		n += p->entry[i].nstep;
	PackageEntry *entry = NEWN(a, PackageEntry, n + 1);
	n = 0;
	for (u32 i = 0; i < p->nentry; i++)
		for (u32 k = 0; k < p->entry[i].nstep; k++) {
			PackageStep *s = COPYN(a, PackageStep, &p->entry[i].step[k], 1);
			PackageSlot *info = COPYN(a, PackageSlot, s->slot_info, s->nslot + 1);
			PackageEntry *e = &entry[n++];
			*e = (PackageEntry){ .name = export_identifier(a, s->name), .step = s, .nstep = 1, .model_flops = s->flops,
					     .model_flops_full = s->flops, .hardware_flops = s->flops };
			e->input = NEWN(a, PackageTensor, s->nslot + 1);
			e->result = NEWN(a, PackageTensor, s->nslot + 1);
			for (u32 j = 0; j < s->nslot; j++) {
				PackageTensor t = tensor_of_slot(a, s, j);
				bool written = info[j].written;
				info[j].place = written ? PACKAGE_RESULT : PACKAGE_INPUT;
				info[j].which = written ? e->nresult : e->ninput;
				if (written)
					e->result[e->nresult++] = t;
				else
					e->input[e->ninput++] = t;
				most = MAX(most, t.bytes);
			}
			s->slot = NEWN(a, u64, s->nslot + 1);
			s->slot_info = info;
			const EntryPlan *from = plan->entry.v[i];
			if (s->has_workspace)
				workspace = MAX(workspace, from->buffer.v[from->step.v[k].workspace].bytes);
			s->workspace = 0;
		}
	p->entry = entry;
	p->nentry = n;
	p->nbuffer = 0;
	p->persistent_bytes = 0;
	p->arena_bytes = MAX(workspace, most);
}
