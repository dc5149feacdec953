/* passes/graph/bind.c: the pass `bind`: numbers in place of symbols, late, so that a model is
 * checked once for all sizes. Reads a program with symbolic dimensions; gives one in which every
 * dimension, attribute and axis class has the numbers. Nodes are built again, so that folds that
 * wait for numbers run. */
#include "passes/graph/bind.h"
#include "ir/op.h"
#include "passes/pass.h"

#include <string.h>

typedef struct Bind {
	Ir *ir;
	Arena *tmp;
	const SymbolValues *with;
	Map axis; /* old root -> new class */
	Map told; /* dimensions that a message was given for */
	bool fine;
} Bind;

/* ---- symbols ---- */

typedef struct SymbolList {
	Arena *arena;
	Map seen;
	VEC(const char *) v;
} SymbolList;

static void meet_dim(SymbolList *l, Dim d)
{
	for (u32 i = 0; i < d->n; i++)
		for (u32 k = 0; k < d->term[i].n; k++) {
			const char *s = d->term[i].symbol[k];
			if (map_get(&l->seen, MAP_KEY(s)))
				continue;
			map_put(&l->seen, MAP_KEY(s), 1);
			VEC_PUSH(l->arena, &l->v, s);
		}
}

static void meet_type(SymbolList *l, const Type *t)
{
	for (u32 d = 0; d < t->rank; d++)
		meet_dim(l, t->dim[d]);
}

u32 program_symbols(Arena *arena, const Program *p, const char ***symbol)
{
	SymbolList l = { .arena = arena, .seen.arena = arena };
	for (u32 i = 0; i < p->buffer.n; i++)
		meet_type(&l, p->buffer.v[i].type);
	for (u32 e = 0; e < p->entry.n; e++) {
		const Graph *g = p->entry.v[e];
		for (u32 i = 1; i < g->value.n; i++)
			meet_type(&l, g->value.v[i].type);
		for (u32 i = 0; i < g->node.n; i++) {
			u32 count;
			const AttrField *f = op_info[g->node.v[i].op].fields(&count);
			for (u32 k = 0; k < count; k++) {
				if (f[k].kind != ATTR_dims)
					continue;
				const dims *list =
					(const void *)((const u8 *)g->node.v[i].attr + f[k].offset);
				for (u32 d = 0; d < list->n; d++)
					meet_dim(&l, list->v[d]);
			}
		}
	}
	*symbol = l.v.v;
	return l.v.n;
}

/* ---- one dimension, one type, one class ---- */

static Dim bound(Bind *b, Dim d)
{
	return dim_bind(b->ir, d, b->with->symbol, b->with->value, b->with->n);
}

static bool uses(const Bind *b, Dim d)
{
	for (u32 i = 0; i < d->n; i++)
		for (u32 k = 0; k < d->term[i].n; k++)
			for (u32 s = 0; s < b->with->n; s++)
				if (d->term[i].symbol[k] == b->with->symbol[s])
					return true;
	return false;
}

/* "where T = 63 and B = 2" */
static const char *where(Bind *b, Dim d)
{
	Buf text = { .arena = b->tmp };
	for (u32 s = 0; s < b->with->n; s++) {
		SymbolValues one = { 1, &b->with->symbol[s], &b->with->value[s] };
		Bind alone = { .with = &one };
		if (uses(&alone, d))
			buf_printf(&text, "%s%s = %lld", text.n ? " and " : "where ", one.symbol[0],
				   (long long)one.value[0]);
	}
	return text.text;
}

/* Is what a dimension became a size? A fraction beside symbols that are left may still become
 * whole. */
static void check_dim(Bind *b, Dim d, bool extent, Loc loc)
{
	if (!uses(b, d) || map_get(&b->told, MAP_KEY(d)))
		return;
	Dim now = bound(b, d);
	const Monomial *t = now->n == 1 && now->term[0].n == 0 ? &now->term[0] : NULL;
	const char *wrong = NULL;
	if (t && t->den != 1)
		wrong = "is not whole";
	else if (t && extent && t->num < 0)
		wrong = "is negative";
	else if (t && (t->num == INT64_MAX || t->num == -INT64_MAX))
		wrong = "is too large";
	if (!wrong)
		return;
	Buf was = { .arena = b->tmp }, is = { .arena = b->tmp };
	dim_print(&was, d);
	dim_print(&is, now);
	map_put(&b->told, MAP_KEY(d), 1);
	b->fine = diag_error(b->ir->diag, E0710, loc, "the dimension %.*s is %.*s %s, which %s",
			     STR_ARG(buf_str(&was)), STR_ARG(buf_str(&is)), where(b, d), wrong);
}

static const Type *bound_type(Bind *b, const Type *t)
{
	Dim dim[MAX_RANK];
	for (u32 d = 0; d < t->rank; d++)
		dim[d] = bound(b, t->dim[d]);
	return type_make(b->ir, t->dtype, t->rank, dim);
}

/* Counts of elements are exact as f64 too, which is what costs are. */
static void check_elements(Bind *b, const Type *t, Loc loc)
{
	const Type *now = bound_type(b, t);
	f64 elements = 1;
	i64 extent;
	for (u32 d = 0; d < now->rank; d++)
		elements *= dim_is_number(now->dim[d], &extent) ? (f64)extent : 1;
	if (elements <= 0x1p53 || !b->fine)
		return;
	Buf is = { .arena = b->tmp };
	type_print(&is, now);
	b->fine = diag_error(b->ir->diag, E0710, loc, "the tensor %.*s has %.3g elements, and the most is 2^53: a size or a value of the config is too large",
			     STR_ARG(buf_str(&is)), elements);
}

/* A parameter of no elements is a value of the config that is 0: kernels over it would read what is not there. */
static void check_empty(Bind *b, const Buffer *of)
{
	const Type *now = bound_type(b, of->type);
	i64 extent;
	for (u32 d = 0; d < now->rank && b->fine && of->kind == BUFFER_PARAMETER; d++) {
		if (!dim_is_number(now->dim[d], &extent) || extent)
			continue;
		Buf is = { .arena = b->tmp };
		type_print(&is, now);
		b->fine = diag_error(b->ir->diag, E0710, of->loc, "the parameter %s: %.*s has no elements: a value of the config is 0", of->name,
				     STR_ARG(buf_str(&is)));
	}
}

/* An index that counts, table[iota(T)], beyond the table's end: positions that a model has none for. At other indices nothing is known,
 * and gather clamps. */
static void check_positions(Bind *b, const Graph *g, const Node *n)
{
	const Node *index = val_node(g, n->in[1]);
	if (index->op != OP_iota || !b->fine)
		return;
	const Dim of = val_type(g, n->in[0])->dim[ATTR(n, gather)->axis], count = val_type(g, n->in[1])->dim[ATTR(index, iota)->axis];
	i64 rows, asked;
	if (!(uses(b, of) || uses(b, count)) || !dim_is_number(bound(b, of), &rows) || !dim_is_number(bound(b, count), &asked) || asked <= rows)
		return;
	b->fine = diag_error(b->ir->diag, E0710, n->loc, "what is indexed has %lld positions, and the index counts to %lld %s: a size is too large, "
							 "or a value of the config too small",
			     (long long)rows, (long long)asked, where(b, uses(b, count) ? count : of));
}

static Axis bound_axis(Bind *b, Axis a)
{
	a = axis_find(b->ir, a);
	if (!a.id)
		return a;
	u64 *found = map_get(&b->axis, a.id);
	if (found)
		return (Axis){ (u32)*found };
	/* by value: the table grows */
	AxisClass c = b->ir->axis.v[a.id];
	Axis *factor = NEWN(b->tmp, Axis, c.nfactor);
	bool same = !uses(b, c.size);
	for (u32 i = 0; i < c.nfactor; i++) {
		factor[i] = bound_axis(b, c.factor[i]);
		same &= factor[i].id == axis_find(b->ir, c.factor[i]).id;
	}
	Axis to = a;
	if (!same) {
		to = axis_new(b->ir, c.name, bound(b, c.size), c.loc);
		for (u32 i = 0; i < c.names.n; i++)
			axis_name(b->ir, to, c.names.v[i]);
		if (c.nfactor)
			axis_set_factors(b->ir, to, factor, c.nfactor);
	}
	map_put(&b->axis, a.id, to.id);
	return to;
}

/* ---- nodes ---- */

static const dims *attr_dims(const Node *n, const AttrField *f)
{
	return (const void *)((const u8 *)n->attr + f->offset);
}

static void check_graph(Bind *b, const Graph *g)
{
	for (u32 i = 0; i < g->node.n; i++) {
		const Node *n = &g->node.v[i];
		u32 count;
		const AttrField *f = op_info[n->op].fields(&count);
		for (u32 k = 0; k < n->nout; k++) {
			const Type *t = val_type(g, (Val){ n->out.i + k });
			for (u32 d = 0; d < t->rank; d++)
				check_dim(b, t->dim[d], true, n->loc);
			check_elements(b, t, n->loc);
		}
		if (n->op == OP_gather)
			check_positions(b, g, n);
		for (u32 k = 0; k < count; k++)
			for (u32 d = 0; f[k].kind == ATTR_dims && d < attr_dims(n, &f[k])->n; d++)
				check_dim(b, attr_dims(n, &f[k])->v[d], false, n->loc);
	}
}

static const void *bound_attr(Bind *b, const Node *n)
{
	u32 count;
	const AttrField *f = op_info[n->op].fields(&count);
	u8 *attr = arena_copy(b->tmp, n->attr, 1, op_info[n->op].attr_size, 16);
	for (u32 i = 0; i < count; i++) {
		if (f[i].kind != ATTR_dims)
			continue;
		dims *l = (void *)(attr + f[i].offset);
		Dim *v = NEWN(b->tmp, Dim, l->n);
		for (u32 k = 0; k < l->n; k++)
			v[k] = bound(b, l->v[k]);
		l->v = v;
	}
	return attr;
}

/* The classes of the old value, where it knew them. */
static void carry_axes(Bind *b, Graph *to, Val v, const Value *from)
{
	Axis axis[MAX_RANK];
	for (u32 d = 0; d < from->type->rank; d++) {
		Axis known = bound_axis(b, from->axis[d]);
		axis[d] = known.id ? known : val_axis(to, v)[d];
	}
	graph_set_axis(to, v, axis);
}

static void bind_graph(Bind *b, Program *to, const Graph *from)
{
	Builder build = builder_new(program_entry(to, from->name));
	Val *map = NEWN(b->tmp, Val, from->value.n);
	for (u32 i = 0; i < from->node.n && b->fine; i++) {
		const Node *n = &from->node.v[i];
		Val *in = NEWN(b->tmp, Val, n->nin);
		for (u32 k = 0; k < n->nin; k++)
			in[k] = map[n->in[k].i];
		build.loc = n->loc;
		build.scope = n->scope;
		u32 was = build.g->value.n;
		Buf why = { .arena = b->tmp };
		Val v = build_checked(&build, (Op)n->op, in, n->nin, n->nout, bound_attr(b, n),
				      &why);
		if (!v.i) {
			b->fine = diag_error(b->ir->diag, E0706, n->loc,
					     "%s: with the numbers bound: %.*s", from->name,
					     STR_ARG(buf_str(&why)));
			break;
		}
		for (u32 k = 0; k < n->nout; k++) {
			map[n->out.i + k] = (Val){ v.i + k };
			if (v.i >= was)
				carry_axes(b, build.g, (Val){ v.i + k },
					   &from->value.v[n->out.i + k]);
		}
	}
	for (u32 i = 0; i < from->result.n && b->fine; i++)
		graph_result(build.g, from->result.v[i].name, from->result.v[i].buffer,
			     map[from->result.v[i].value.i]);
	builder_done(&build);
}

Program *bind_program(Arena *out, Arena *tmp, const Program *in, const SymbolValues *binding)
{
	Bind b = { .ir = in->ir,
		   .tmp = tmp,
		   .with = binding,
		   .axis.arena = tmp,
		   .told.arena = tmp,
		   .fine = true };
	for (u32 i = 0; i < in->buffer.n; i++) {
		for (u32 d = 0; d < in->buffer.v[i].type->rank; d++)
			check_dim(&b, in->buffer.v[i].type->dim[d], true, in->buffer.v[i].loc);
		check_elements(&b, in->buffer.v[i].type, in->buffer.v[i].loc);
		check_empty(&b, &in->buffer.v[i]);
	}
	for (u32 i = 0; i < in->entry.n; i++)
		check_graph(&b, in->entry.v[i]);
	if (!b.fine)
		return NULL;
	Program *to = program_new(out, in->ir, in->name);
	to->mesh = in->mesh;
	to->facts = in->facts;
	for (u32 i = 0; i < in->buffer.n; i++) {
		Buffer buffer = in->buffer.v[i];
		Axis *axis = NEWN(out, Axis, buffer.type->rank + 1);
		for (u32 d = 0; d < buffer.type->rank; d++)
			axis[d] = bound_axis(&b, buffer.axis[d]);
		buffer.axis = axis;
		buffer.type = bound_type(&b, buffer.type);
		program_buffer(to, buffer);
	}
	for (u32 i = 0; i < in->entry.n && b.fine; i++)
		bind_graph(&b, to, in->entry.v[i]);
	return b.fine ? to : NULL;
}

/* ---- the pass ---- */

static bool read_number(Str text, i64 *out)
{
	i64 n = 0;
	for (size_t i = 0; i < text.n; i++)
		if (text.s[i] < '0' || text.s[i] > '9' || __builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, text.s[i] - '0', &n))
			return false;
	*out = n;
	return text.n > 0;
}

static bool is_symbol(PassCx *cx, const char *const *symbol, u32 n, const PassArg *a)
{
	Buf all = { .arena = cx->tmp };
	for (u32 i = 0; i < n; i++) {
		if (str_equal(str_of(symbol[i]), a->name))
			return true;
		buf_printf(&all, "%s%s", i ? ", " : "", symbol[i]);
	}
	if (n == 0)
		return diag_error(cx->diag, E0714, a->loc,
				  "the program has no symbols: every dimension is a number");
	return diag_error(cx->diag, E0714, a->loc, "the program has no symbol '%.*s': it has %s",
			  STR_ARG(a->name), all.text);
}

Program *pass_bind(PassCx *cx, const Program *in)
{
	const char **symbol;
	u32 n = program_symbols(cx->tmp, in, &symbol);
	VEC(const char *) names = { 0 };
	VEC(i64) values = { 0 };
	bool error = false;
	PassArg a;
	for (size_t at = 0; pass_argument(cx, &at, &a, &error);) {
		i64 value;
		if (!is_symbol(cx, symbol, n, &a)) {
			error = true;
		} else if (!read_number(a.value, &value)) {
			error = true;
			diag_error(cx->diag, E0714, a.loc, "'%.*s' is no whole number",
				   STR_ARG(a.value));
		} else {
			VEC_PUSH(cx->tmp, &names, intern(&cx->ir->names, a.name));
			VEC_PUSH(cx->tmp, &values, value);
		}
	}
	if (error)
		return NULL;
	Program *to = bind_program(cx->out, cx->tmp, in, &(SymbolValues){ names.n, names.v, values.v });
	if (to && program_symbols(cx->tmp, to, &symbol) > 0)
		cx->withheld |= F_BOUND;
	return to;
}
