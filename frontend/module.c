/* frontend/module.c: applying modules, models and functions: arguments are sorted, matched with types, and the body
 * is run once. */
#include "frontend/elaborator.h"

#include <ctype.h>
#include <string.h>

enum { MOST_DEPTH = 200 };

Frame *frame_push(Elaborator *e, const Decl *decl, const char *path, Loc loc)
{
	Frame *f = NEW(e->arena, Frame);
	f->decl = decl;
	f->outer = e->frame;
	f->applied_at = loc;
	f->path = path;
	f->variable.arena = f->used_path.arena = f->declared.arena = f->seen.arena = f->late.arena = e->arena;
	e->frame = f;
	e->b.scope = intern_z(&e->ir->names, path);
	return f;
}

void frame_pop(Elaborator *e)
{
	e->frame = e->frame->outer;
	e->b.scope = intern_z(&e->ir->names, e->frame ? e->frame->path : "");
}

const char *join_path(Elaborator *e, const char *path, const char *more)
{
	return *path && *more ? intern_printf(e->names, "%s.%s", path, more) : *path ? path : intern_z(e->names, more);
}

static const char *instance_path(Elaborator *e, const Decl *d, const Text *path)
{
	const char *base = e->frame ? e->frame->path : "";
	if (d->kind == DECL_FUNCTION || d->kind == DECL_OPTIMIZER)
		return base;
	if (path) {
		const char *name = text_value(e, path);
		return name ? join_path(e, base, name) : NULL;
	}
	if (d->kind == DECL_MODEL)
		return base;
	char lower[128];
	u32 n = 0;
	for (const char *s = d->name.text; *s && n + 1 < sizeof lower; s++)
		lower[n++] = (char)tolower((unsigned char)*s);
	lower[n] = 0;
	const char *name = intern_z(e->names, lower);
	u64 *count = map_get(&e->frame->used_path, MAP_KEY(name));
	u64 index = count ? *count : 0;
	map_put(&e->frame->used_path, MAP_KEY(name), index + 1);
	return join_path(e, base, index ? intern_printf(e->names, "%s_%llu", name, (unsigned long long)index) : name);
}

/* Parameter i of the signature from positional and named arguments; value NULL: not given. */
static Entry *sort_arguments(Elaborator *e, const Decl *d, const EntryList *given, const EntryList *more, Loc loc)
{
	const ParameterList *p = &d->signature.param;
	Entry *arg = NEWN(e->arena, Entry, p->n + 1);
	const EntryList *lists[2] = { given, more };
	u32 at = 0;
	for (u32 l = 0; l < 2; l++)
		for (u32 i = 0; i < lists[l]->n; i++) {
			const Entry *a = &lists[l]->v[i];
			u32 k = 0;
			if (!a->name) {
				while (at < p->n && arg[at].value)
					at++;
				k = at;
				if (k >= p->n || p->v[k].compile_time) {
					u32 most = 0;
					while (most < p->n && !p->v[most].compile_time)
						most++;
					fail(e, E0206, a->loc.line ? a->loc : loc, "%s takes at most %u argument%s without a name", d->name.text,
					     most, most == 1 ? "" : "s");
					diag_note(e->diag, d->loc, "it is declared here");
					return NULL;
				}
			} else {
				while (k < p->n && p->v[k].name.text != a->name)
					k++;
			}
			if (k == p->n) {
				const char **all = NEWN(e->arena, const char *, p->n + 1);
				for (u32 j = 0; j < p->n; j++)
					all[j] = p->v[j].name.text;
				unknown_argument(e, d->name.text, a, all, p->n);
				diag_note(e->diag, d->loc, "it is declared here");
				return NULL;
			}
			if (arg[k].value) {
				fail(e, E0206, a->name ? a->name_loc : a->loc, "%s: '%s' is given twice", d->name.text, p->v[k].name.text);
				return NULL;
			}
			arg[k] = *a;
		}
	return arg;
}

/* Without a run-time argument, a function waits for it: cosine(peak = 1e-3) is a function of the step. */
static Datum *partial(Elaborator *e, const Callable *c, const EntryList *more, Loc loc)
{
	Datum *d = datum_new(e, DATUM_CALLABLE, loc);
	d->callable = NEW(e->arena, Callable);
	*d->callable = *c;
	d->callable->given = (EntryList){ 0 };
	for (u32 i = 0; i < c->given.n; i++)
		VEC_PUSH(e->arena, &d->callable->given, c->given.v[i]);
	for (u32 i = 0; i < more->n; i++)
		VEC_PUSH(e->arena, &d->callable->given, more->v[i]);
	return d;
}

static bool bind_arguments(Elaborator *e, const Decl *d, Entry *arg, Loc loc)
{
	const ParameterList *p = &d->signature.param;
	bool good = true;
	/* tensors first: they say what B, T, D are, which other arguments' types may ask for */
	for (u32 pass = 0; pass < 2; pass++)
		for (u32 i = 0; i < p->n; i++) {
			const Parameter *q = &p->v[i];
			bool tensor = q->type && q->type->kind == TYPE_TENSOR;
			if (tensor != (pass == 0))
				continue;
			if (!arg[i].value) {
				if (!q->value) {
					fail(e, E0206, loc, "%s needs the argument '%s'", d->name.text, q->name.text);
					diag_note(e->diag, q->name.loc, "it is declared here");
					good = false;
					declare_variable(e, q->name, datum_error(e));
					continue;
				}
				arg[i] = ENTRY(NULL, expression(e, q->value), q->value->loc);
			}
			/* a copy: what the module learns about it (its axis) is its own */
			Datum *copy = NEW(e->arena, Datum);
			*copy = *arg[i].value;
			Loc at = arg[i].loc.line ? arg[i].loc : loc;
			if (copy->kind == DATUM_ERROR || (q->type && !match_type(e, q->type, copy, at,
									    arena_printf(e->arena, "argument '%s' of %s", q->name.text, d->name.text)))) {
				good = false;
				*copy = *datum_error(e);
			}
			declare_variable(e, q->name, copy);
		}
	return good;
}

static Datum *result_of(Elaborator *e, const Decl *d, Loc loc)
{
	Frame *f = e->frame;
	Datum *r;
	if (!f->returned) {
		if (d->kind == DECL_OPTIMIZER)
			return datum_new(e, DATUM_NONE, loc);
		if (e->diag->nerror)
			return datum_error(e);
		r = fail(e, E0209, d->loc, "%s has no 'return'", d->name.text);
		return r;
	}
	if (f->result.n == 1 && !f->result.v[0].name) {
		r = NEW(e->arena, Datum);
		*r = *f->result.v[0].value;
	} else {
		r = datum_new(e, DATUM_RECORD, loc);
		bool named = true;
		for (u32 i = 0; i < f->result.n; i++) {
			if (f->result.v[i].value->kind == DATUM_ERROR)
				return datum_error(e);
			named &= f->result.v[i].name != NULL;
			VEC_PUSH(e->arena, &r->list, f->result.v[i]);
		}
		if (!named)
			r->kind = DATUM_LIST;
	}
	if (d->signature.result && !match_type(e, d->signature.result, r, f->returned_at, "the result"))
		return datum_error(e);
	return r;
}

/* Can the expression of a dimension be evaluated here without an error? */
static bool known_size(Elaborator *e, const Expr *x)
{
	switch (x->kind) {
	case EXPR_NUMBER: return x->number.is_integer;
	case EXPR_ELLIPSIS: return e->frame->has_lead;
	case EXPR_NAME: {
		const Datum *d = lookup(e, x->name);
		return d && (d->kind == DATUM_DIM || (d->kind == DATUM_NUMBER && d->number.is_integer && d->number.integer >= 0));
	}
	case EXPR_BINARY:
		return (x->binary.op == BINARY_ADD || x->binary.op == BINARY_MUL) && known_size(e, x->binary.left) &&
		       known_size(e, x->binary.right);
	default: return false;
	}
}

/* After an error in a module, a value of the type that its signature promises, so that what is wrong with its users is
 * found too; an error again where the sizes are not known. Nothing is made of the program after an error. */
static Datum *promised(Elaborator *e, const TypeExpr *t, Loc loc)
{
	Axis axis[MAX_RANK] = { { 0 } };
	if (t->kind == TYPE_TUPLE) {
		Datum *r = datum_new(e, DATUM_RECORD, loc);
		for (u32 i = 0; i < t->field.n; i++)
			VEC_PUSH(e->arena, &r->list, ENTRY(t->field.v[i].name.text, promised(e, t->field.v[i].type, loc), loc));
		return r;
	}
	for (u32 i = 0; i < t->dim.n; i++)
		if (!known_size(e, t->dim.v[i]))
			return datum_error(e);
	const Type *type = t->kind == TYPE_TENSOR ? resolve_type(e, t, axis) : NULL;
	if (!type)
		return datum_error(e);
	e->b.loc = loc;
	Val v = make_full(&e->b, 0, type->dtype, dims_of_type(&e->b, type));
	if (v.i && type->rank)
		graph_set_axis(e->g, v, axis);
	return datum_tensor(e, v, loc);
}

static Datum *apply_wrapper(Elaborator *e, u32 rule, const Callable *c, const EntryList *argument, const char *path, Loc loc)
{
	const Callable *with = e->wrap.v[rule].with->callable;
	Datum *base = datum_new(e, DATUM_CALLABLE, loc);
	base->callable = NEW(e->arena, Callable);
	base->callable->decl = c->decl;
	base->callable->path = path;
	base->callable->wrapped = rule + 1;
	/* compile-time arguments of the wrapped module stay with it; tensors go through the wrapper */
	EntryList rest = { 0 };
	VEC_PUSH(e->arena, &rest, ENTRY(intern_z(e->names, "base"), base, loc));
	for (u32 i = 0; i < argument->n; i++) {
		bool tensor = argument->v[i].value->kind == DATUM_TENSOR;
		if (tensor)
			VEC_PUSH(e->arena, &rest, argument->v[i]);
		else
			VEC_PUSH(e->arena, &base->callable->given, argument->v[i]);
	}
	Callable wrapper = *with;
	wrapper.path = path;
	wrapper.wrapped = NONE;
	return apply(e, &wrapper, &rest, NULL, loc);
}

Datum *apply(Elaborator *e, Callable *c, const EntryList *argument, const Text *as, Loc loc)
{
	const Decl *d = c->decl;
	if (as && d->kind == DECL_FUNCTION)
		fail(e, E0205, as->loc, "'as' names an instance of a module, and %s is a function: it has no parameters",
		     d->name.text);
	Entry *arg = sort_arguments(e, d, &c->given, argument, loc);
	if (!arg)
		return datum_error(e);
	for (u32 i = 0; i < d->signature.param.n; i++)
		if (arg[i].value && arg[i].value->kind == DATUM_ERROR)
			return arg[i].value;
	if (d->kind == DECL_FUNCTION || d->kind == DECL_OPTIMIZER)
		for (u32 i = 0; i < d->signature.param.n; i++)
			if (!arg[i].value && !d->signature.param.v[i].value && !d->signature.param.v[i].compile_time)
				return partial(e, c, argument, loc);
	if (e->depth >= MOST_DEPTH)
		return fail(e, E0210, loc, "%s is applied inside itself without end", d->name.text);
	const char *path = c->path ? c->path : instance_path(e, d, as);
	if (!path)
		return datum_error(e);
	if (d->kind == DECL_MODULE && c->wrapped != NONE)
		for (u32 i = c->wrapped; i < e->wrap.n; i++)
			if (path_match(str_of(e->wrap.v[i].pattern), str_of(path))) {
				e->wrap.v[i].used = true;
				return apply_wrapper(e, i, c, argument, path, loc);
			}
	if (d->kind == DECL_MODEL) /* applied again, a model is the same model: its parameters are shared */
		e->param_made = (Map){ .arena = e->arena };
	e->depth++;
	frame_push(e, d, path, loc);
	e->frame->added = c->wrapped == NONE || (e->frame->outer->added && !c->wrapped);
	Datum *r = datum_error(e);
	if (bind_arguments(e, d, arg, loc)) {
		statements(e, &d->body);
		r = result_of(e, d, loc);
	}
	if (r->kind == DATUM_ERROR && d->signature.result && e->g && !e->init_type)
		r = promised(e, d->signature.result, loc);
	frame_pop(e);
	e->depth--;
	Datum *copy = NEW(e->arena, Datum);
	*copy = *r;
	copy->loc = loc;
	return copy;
}
