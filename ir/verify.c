/* ir/verify.c: what a program must be (graph.h), checked from nothing but its arrays; every
 * violation is told with entry, node and place. Reads only: types are inferred again over a copy of
 * the values without axis classes, so that inference unifies nothing. */
#include "ir/op.h"
#include "ir/text.h"

#include <string.h>

typedef struct Verifier {
	const Program *p;
	Diag *d;
	const Places *places;
	Arena tmp;
	u32 entry; /* the one being looked at */
	const Graph *g;
	bool fine;
} Verifier;

static const char *type_text(Verifier *v, const Type *t)
{
	Buf b = { .arena = &v->tmp };
	type_print(&b, t);
	return b.text;
}

/* Each gives the place of a part: in the text it was read from, or in the user's source. */
static Loc buffer_place(const Verifier *v, u32 i)
{
	return v->places ? v->places->buffer.v[i] : v->p->buffer.v[i].loc;
}

static Loc node_place(const Verifier *v, u32 i)
{
	return v->places ? v->places->entry.v[v->entry].node.v[i] : v->g->node.v[i].loc;
}

static Loc result_place(const Verifier *v, u32 i)
{
	return v->places ? v->places->entry.v[v->entry].result.v[i] : (Loc){ 0 };
}

static Loc entry_place(const Verifier *v)
{
	return v->places ? v->places->entry.v[v->entry].entry : (Loc){ 0 };
}

PL_PRINTF(4, 5)
static void fail(Verifier *v, ErrorCode code, Loc loc, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	diag_error(v->d, code, loc, "%s", arena_vprintf(&v->tmp, format, args));
	va_end(args);
	v->fine = false;
}

/* What is wrong, told where something is: texts are made for nothing else. */
typedef struct What {
	const char *buffer;
	u32 value, node; /* of v->g; or 0 */
	bool op;         /* with the value's op */
} What;

static const char *what_text(Verifier *v, What w)
{
	if (w.buffer)
		return arena_printf(&v->tmp, "buffer @%s", w.buffer);
	if (!w.value)
		return arena_printf(&v->tmp, "%s: node %u", v->g->name, w.node);
	const char *op = w.op ? op_info[val_node(v->g, (Val){ w.value })->op].name : "";
	return arena_printf(&v->tmp, "%s: %%%u%s%s", v->g->name, w.value, w.op ? " = " : "", op);
}

/* The classes of a value or buffer against its type. */
static void check_axes(Verifier *v, const Type *t, const Axis *axis, Loc loc, What what)
{
	const Ir *ir = v->p->ir;
	for (u32 d = 0; d < t->rank; d++) {
		if (axis[d].id >= ir->axis.n) {
			fail(v, E0711, loc, "%s: dimension %u has a class that does not exist",
			     what_text(v, what), d);
			continue;
		}
		Axis a = axis_find(ir, axis[d]);
		if (!a.id || ir->axis.v[a.id].size == t->dim[d])
			continue;
		Buf name = { .arena = &v->tmp }, size = { .arena = &v->tmp },
		    is = { .arena = &v->tmp };
		axis_print(&name, ir, a);
		dim_print(&size, ir->axis.v[a.id].size);
		dim_print(&is, t->dim[d]);
		fail(v, E0704, loc, "%s: dimension %u is %.*s, but its axis %.*s has size %.*s",
		     what_text(v, what), d, STR_ARG(buf_str(&is)), STR_ARG(buf_str(&name)),
		     STR_ARG(buf_str(&size)));
	}
}

static bool has_symbol(Dim d)
{
	i64 n;
	return !dim_is_number(d, &n);
}

/* For the fact BOUND: the first dimension that is no number, or NULL. */
static Dim free_dim_of_type(const Type *t)
{
	for (u32 d = 0; d < t->rank; d++)
		if (has_symbol(t->dim[d]))
			return t->dim[d];
	return NULL;
}

static Dim free_dim_of_attr(const Node *n)
{
	u32 count;
	const AttrField *f = op_info[n->op].fields(&count);
	for (u32 i = 0; i < count; i++) {
		if (f[i].kind != ATTR_dims)
			continue;
		const dims *l = (const void *)((const u8 *)n->attr + f[i].offset);
		for (u32 k = 0; k < l->n; k++)
			if (has_symbol(l->v[k]))
				return l->v[k];
	}
	return NULL;
}

static void not_bound(Verifier *v, Loc loc, What what, Dim d)
{
	Buf b = { .arena = &v->tmp };
	dim_print(&b, d);
	fail(v, E0712, loc, "%s: the dimension %.*s is no number, and the program claims BOUND",
	     what_text(v, what), STR_ARG(buf_str(&b)));
}

static void check_buffers(Verifier *v)
{
	const Program *p = v->p;
	Map names = { .arena = &v->tmp };
	for (u32 i = 0; i < p->buffer.n; i++) {
		const Buffer *b = &p->buffer.v[i];
		Loc loc = buffer_place(v, i);
		const What what = { .buffer = b->name };
		if (map_get(&names, MAP_KEY(b->name)))
			fail(v, E0703, loc, "there already is a buffer @%s", b->name);
		map_put(&names, MAP_KEY(b->name), i);
		check_axes(v, b->type, b->axis, loc, what);
		if (b->of != NONE &&
		    (b->of >= p->buffer.n || p->buffer.v[b->of].kind != BUFFER_PARAMETER))
			fail(v, E0711, loc, "%s belongs to a buffer that is no parameter", what_text(v, what));
		else if (b->of != NONE && b->kind == BUFFER_PARAMETER)
			fail(v, E0711, loc, "%s is a parameter, and belongs to another", what_text(v, what));
		if (b->frozen && b->kind != BUFFER_PARAMETER)
			fail(v, E0711, loc, "%s is frozen, which only a parameter can be", what_text(v, what));
		Dim d = p->facts & F_BOUND ? free_dim_of_type(b->type) : NULL;
		if (d)
			not_bound(v, loc, what, d);
	}
}

/* Operands come before, results are numbered in order and point back. */
static bool check_shape_of_node(Verifier *v, u32 index, u32 *next)
{
	const Graph *g = v->g;
	const Node *n = &g->node.v[index];
	Loc loc = node_place(v, index);
	const What where = { .node = index };
	if (n->op >= OPS) {
		fail(v, E0711, loc, "%s has the op code %u, which is none", what_text(v, where), n->op);
		return false;
	}
	bool fine = true;
	const OpInfo *info = &op_info[n->op];
	if ((info->nin != VARN && n->nin != info->nin) ||
	    (info->nout != VARN && n->nout != info->nout)) {
		fail(v, E0711, loc, "%s: %s with %u operands and %u results", what_text(v, where), info->name,
		     n->nin, n->nout);
		fine = false;
	}
	if (n->nout == 0 || n->out.i != *next || n->nout > g->value.n - *next) {
		fail(v, E0711, loc, "%s: its results are not numbered in order", what_text(v, where));
		return false;
	}
	for (u32 i = 0; i < n->nout; i++)
		if (g->value.v[n->out.i + i].node != index || g->value.v[n->out.i + i].index != i) {
			fail(v, E0711, loc, "%s: its result %u does not know it", what_text(v, where), i);
			fine = false;
		}
	for (u32 i = 0; i < n->nin; i++)
		if (n->in[i].i == 0 || n->in[i].i >= n->out.i) {
			fail(v, E0711, loc, "%s: operand %u is %%%u, which does not come before it",
			     what_text(v, where), i, n->in[i].i);
			fine = false;
		}
	if (!n->scope) {
		fail(v, E0711, loc, "%s has no scope", what_text(v, where));
		fine = false;
	}
	*next += n->nout;
	return fine;
}

/* `bare` has the values without classes. */
static void check_types(Verifier *v, u32 index, const Graph *bare)
{
	const Graph *g = v->g;
	const Node *n = &g->node.v[index];
	Loc loc = node_place(v, index);
	ArenaMark mark = arena_mark(&v->tmp);
	Buf why = { .arena = &v->tmp };
	InferCx cx = { .ir = g->ir,
		       .g = bare,
		       .op = (Op)n->op,
		       .nin = n->nin,
		       .nout = n->nout,
		       .in = n->in,
		       .attr = n->attr,
		       .why = &why };
	cx.out = NEWN(&v->tmp, const Type *, n->nout);
	cx.axis = arena_push(&v->tmp, sizeof *cx.axis, n->nout, _Alignof(Axis));
	const char *name = op_info[n->op].name;
	if (!op_info[n->op].def->infer(&cx)) {
		fail(v, E0706, loc, "%s: %%%u: %.*s", g->name, n->out.i, STR_ARG(buf_str(&why)));
	} else {
		for (u32 i = 0; i < n->nout; i++) {
			const Type *is = g->value.v[n->out.i + i].type;
			if (is != cx.out[i])
				fail(v, E0708, loc, "%s: %%%u = %s is %s, but has the type %s",
				     g->name, n->out.i + i, name, type_text(v, cx.out[i]),
				     type_text(v, is));
		}
	}
	arena_release(&v->tmp, mark);
}

static void check_buffer_read(Verifier *v, const Node *n, Loc loc)
{
	const read_attr *a = n->attr;
	u32 i = a->buffer ? program_find_buffer(v->p, a->buffer) : NONE;
	if (i == NONE)
		fail(v, E0702, loc, "%s: there is no buffer @%s", v->g->name,
		     a->buffer ? a->buffer : "");
	else if (v->p->buffer.v[i].type != val_type(v->g, n->out))
		fail(v, E0709, loc, "%s: @%s is %s, but is read as %s", v->g->name, a->buffer,
		     type_text(v, v->p->buffer.v[i].type), type_text(v, val_type(v->g, n->out)));
	else if (buffer_away(v->p, &v->p->buffer.v[i]))
		fail(v, E0711, loc, "%s: @%s, which is read, is another stage's", v->g->name, a->buffer);
}

static void check_facts_of_node(Verifier *v, const Node *n, Loc loc)
{
	const OpInfo *info = &op_info[n->op];
	const What what = { .value = n->out.i, .op = true };
	if (v->p->facts & F_BOUND) {
		Dim d = free_dim_of_attr(n);
		for (u32 i = 0; i < n->nout && !d; i++)
			d = free_dim_of_type(v->g->value.v[n->out.i + i].type);
		if (d)
			not_bound(v, loc, what, d);
	}
	if (v->p->facts & F_EXPANDED && info->kind == COMP && !(info->traits & T_WHOLE))
		fail(v, E0712, loc, "%s is a composite op, and the program claims EXPANDED", what_text(v, what));
}

static void check_nodes(Verifier *v)
{
	const Graph *g = v->g;
	Graph bare = *g;
	static const Axis nowhere[MAX_RANK];
	bare.value.v = COPYN(&v->tmp, Value, g->value.v, g->value.n);
	for (u32 i = 0; i < g->value.n; i++)
		bare.value.v[i].axis = nowhere;
	Map inputs = { .arena = &v->tmp };
	u32 next = 1;
	for (u32 i = 0; i < g->node.n; i++) {
		const Node *n = &g->node.v[i];
		if (!check_shape_of_node(v, i, &next)) {
			next = n->out.i + n->nout;
			if (next == 0 || next > g->value.n)
				return;
			continue;
		}
		Loc loc = node_place(v, i);
		check_types(v, i, &bare);
		for (u32 k = 0; k < n->nout; k++) {
			const Value *value = &g->value.v[n->out.i + k];
			check_axes(v, value->type, value->axis, loc,
				   (What){ .value = n->out.i + k });
		}
		if (n->op == OP_input) {
			const char *name = ATTR(n, input)->name;
			if (!name)
				fail(v, E0711, loc, "%s: an input without a name", g->name);
			else if (map_get(&inputs, MAP_KEY(name)))
				fail(v, E0703, loc, "%s: there already is an input %s", g->name,
				     name);
			map_put(&inputs, MAP_KEY(name), i);
		}
		if (n->op == OP_read)
			check_buffer_read(v, n, loc);
		check_facts_of_node(v, n, loc);
	}
	if (next != g->value.n)
		fail(v, E0711, entry_place(v), "%s: %u values belong to no node", g->name,
		     g->value.n - next);
}

static void check_results(Verifier *v)
{
	const Graph *g = v->g;
	Map names = { .arena = &v->tmp }, written = { .arena = &v->tmp };
	for (u32 i = 0; i < g->result.n; i++) {
		const Result *r = &g->result.v[i];
		Loc loc = result_place(v, i);
		if (r->value.i == 0 || r->value.i >= g->value.n) {
			fail(v, E0711, loc, "%s: the result %s is %%%u, which does not exist",
			     g->name, r->name, r->value.i);
			continue;
		}
		if (r->buffer == NONE) {
			if (map_get(&names, MAP_KEY(r->name)))
				fail(v, E0703, loc, "%s: there already is a result %s", g->name,
				     r->name);
			map_put(&names, MAP_KEY(r->name), i);
			continue;
		}
		if (r->buffer >= v->p->buffer.n || v->p->buffer.v[r->buffer].name != r->name) {
			fail(v, E0711, loc, "%s: %s is written to another buffer", g->name,
			     r->name);
			continue;
		}
		if (map_get(&written, r->buffer))
			fail(v, E0703, loc, "%s: @%s is written twice", g->name, r->name);
		map_put(&written, r->buffer, i);
		if (buffer_away(v->p, &v->p->buffer.v[r->buffer]))
			fail(v, E0711, loc, "%s: @%s, which is written, is another stage's", g->name, r->name);
		const Type *want = v->p->buffer.v[r->buffer].type, *is = val_type(g, r->value);
		if (want != is)
			fail(v, E0709, loc, "%s: @%s is %s, but %s is written to it", g->name,
			     r->name, type_text(v, want), type_text(v, is));
	}
}

bool program_verify_placed(const Program *p, Diag *d, const Places *places)
{
	Verifier v = { .p = p, .d = d, .places = places, .tmp = ARENA("verify"), .fine = true };
	Map names = { .arena = &v.tmp };
	if (p->facts >> FACTS)
		fail(&v, E0711, places ? places->program : (Loc){ 0 },
		     "the program claims unknown facts");
	check_buffers(&v);
	for (v.entry = 0; v.entry < p->entry.n; v.entry++) {
		v.g = p->entry.v[v.entry];
		if (map_get(&names, MAP_KEY(v.g->name)))
			fail(&v, E0703, entry_place(&v), "there already is an entry %s", v.g->name);
		map_put(&names, MAP_KEY(v.g->name), v.entry);
		check_nodes(&v);
		check_results(&v);
	}
	arena_free(&v.tmp);
	return v.fine;
}

bool program_verify(const Program *p, Diag *d)
{
	return program_verify_placed(p, d, NULL);
}
