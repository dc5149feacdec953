/* frontend/param.c: types as they are written, matched with what is there, so that dimensions get names and sizes;
 * and parameters, which come to be at their paths. */
#include "frontend/elaborator.h"

#include <string.h>

/* ---- types ---- */

DType element_type(Elaborator *e, const TypeExpr *t)
{
	DType d = !strcmp(t->name, "bool") ? DT_b1 : dtype_named(str_of(t->name));
	if (d == DTYPES) {
		const char *here = foreign_name(e, t->name);
		fail(e, E0309, t->loc, "'%s' is no element type%s; there are f32, bf16, f16, f64, i32, i64, bool", t->name, here ? here : "");
	}
	return d;
}

const char *qualified(Elaborator *e, const char *name)
{
	const Decl *d = e->frame ? e->frame->decl : NULL;
	return d && d->name.text ? intern_printf(e->names, "%s.%s", d->name.text, name) : name;
}

/* The class of a dimension that a name stands for: made on first use, so that one name is one class. */
static Axis axis_of_name(Elaborator *e, Datum *d, const char *name, Dim size, Loc loc)
{
	if (!d->axis.id) {
		bool local = map_get(&e->frame->variable, MAP_KEY(name)) != NULL;
		d->axis = axis_new(e->ir, local ? qualified(e, name) : name, size, loc);
	}
	return d->axis;
}

static void put_expression(Elaborator *e, Buf *b, const Expr *x)
{
	switch (x->kind) {
	case EXPR_NUMBER: buf_printf(b, "%lld", (long long)x->number.integer); break;
	case EXPR_NAME: buf_put(b, str_of(x->name)); break;
	case EXPR_BINARY:
		put_expression(e, b, x->binary.left);
		buf_printf(b, " %s ", binary_spelling[x->binary.op]);
		put_expression(e, b, x->binary.right);
		break;
	default: buf_put(b, STR("_"));
	}
}

/* A type's dimensions in names and, where they are known, numbers: "[B, T, D = 8]". */
static const char *wanted_shape(Elaborator *e, const TypeExpr *t)
{
	Buf b = { .arena = e->arena };
	const Frame *f = e->frame;
	buf_char(&b, '[');
	for (u32 i = 0; i < t->dim.n; i++) {
		const Expr *x = t->dim.v[i];
		buf_put(&b, i ? STR(", ") : STR(""));
		if (x->kind == EXPR_ELLIPSIS) {
			for (u32 k = 0; f->has_lead && k < f->nlead; k++)
				buf_printf(&b, "%s%s", k ? ", " : "", dim_show(e, f->lead[k], f->lead_axis[k]));
			if (!f->has_lead || !f->nlead)
				buf_put(&b, STR("..."));
			continue;
		}
		size_t from = b.n;
		put_expression(e, &b, x);
		const Datum *d = x->kind == EXPR_NAME ? lookup(e, x->name) : NULL;
		if (!d || (d->kind != DATUM_DIM && d->kind != DATUM_NUMBER))
			continue;
		const char *size = datum_source(e, d);
		if (!str_equal((Str){ b.text + from, b.n - from }, str_of(size)))
			buf_printf(&b, " = %s", size);
	}
	buf_char(&b, ']');
	return b.text;
}

typedef struct Matching {
	const TypeExpr *type;
	const char *what;
	Val value;
	Loc loc;
} Matching;

/* Says what was found and what was expected, then why they differ; notes say where both come from. */
PL_PRINTF(3, 4)
static bool mismatch(Elaborator *e, const Matching *m, const char *why, ...)
{
	va_list args;
	va_start(args, why);
	const char *text = arena_vprintf(e->arena, why, args);
	va_end(args);
	fail(e, E0308, m->loc, "%s is %s, and %s is expected: %s", m->what, shape_show(e, m->value), wanted_shape(e, m->type), text);
	explain_operands(e, m->loc, &m->value, 1);
	return false;
}

/* A name in an expression that means nothing yet, or NULL; *other becomes a second one. */
static const Expr *open_name(Elaborator *e, const Expr *x, const Expr **other)
{
	if (x->kind == EXPR_NAME)
		return lookup(e, x->name) ? NULL : x;
	if (x->kind != EXPR_BINARY)
		return NULL;
	const Expr *a = open_name(e, x->binary.left, other), *b = open_name(e, x->binary.right, other);
	if (a && b && a->name != b->name)
		*other = b;
	return a ? a : b;
}

/* past + T is 12 + T: then past is 12. Gives the name its size where the expression is linear in it. */
static void solve_dim(Elaborator *e, const Expr *x, Dim actual)
{
	const Expr *other = NULL, *open = open_name(e, x, &other);
	if (!open)
		return;
	if (other) {
		Datum *d = fail(e, E0304, x->loc, "the sizes '%s' and '%s' do not follow from one dimension, which is %s", open->name,
				other->name, dim_show(e, actual, (Axis){ 0 }));
		set_variable(e, open->name, d);
		set_variable(e, other->name, d);
		return;
	}
	const char *unknown = intern_z(&e->ir->names, "?");
	Dim s = dim_symbol(e->ir, unknown);
	set_variable(e, open->name, datum_dim(e, s, (Axis){ 0 }, open->loc));
	Datum *d = expression(e, x);
	Dim p = d->kind == DATUM_DIM ? d->dim : NULL, size = NULL;
	const i64 number[2] = { 0, 1 };
	if (p) {
		Dim at0 = dim_bind(e->ir, p, &unknown, &number[0], 1), at1 = dim_bind(e->ir, p, &unknown, &number[1], 1);
		Dim slope = dim_sub(e->ir, at1, at0);
		if (slope->n && dim_add(e->ir, at0, dim_mul(e->ir, slope, s)) == p)
			size = dim_div(e->ir, dim_sub(e->ir, actual, at0), slope);
	}
	Datum *found = size ? datum_dim(e, size, axis_new(e->ir, qualified(e, open->name), size, open->loc), open->loc) : datum_error(e);
	declare_variable(e, (Name){ open->name, open->loc }, found);
	if (!size && d->kind != DATUM_ERROR)
		fail(e, E0304, x->loc, "the size '%s' does not follow from this dimension, which is %s", open->name,
		     dim_show(e, actual, (Axis){ 0 }));
}

static bool match_dim(Elaborator *e, const Matching *m, u32 at, const Expr *x)
{
	Dim actual = val_type(e->g, m->value)->dim[at];
	Axis axis = val_axis(e->g, m->value)[at];
	Loc loc = m->loc;
	if (x->kind == EXPR_NAME && !lookup(e, x->name)) {
		/* not known yet: this is what it means from here on, of the value too if that had no class */
		if (!axis.id) {
			axis = axis_new(e->ir, NULL, actual, loc);
			graph_know_axis(e->g, m->value, at, axis);
		}
		axis_name(e->ir, axis, qualified(e, x->name));
		declare_variable(e, (Name){ x->name, x->loc }, datum_dim(e, actual, axis, x->loc));
		return true;
	}
	if (x->kind == EXPR_BINARY)
		solve_dim(e, x, actual);
	Datum *d = expression(e, x);
	Dim want = datum_to_dim(e, d, x->loc);
	if (!want)
		return false;
	if (want != actual) {
		Buf wanted = { .arena = e->arena };
		put_expression(e, &wanted, x);
		const char *size = dim_show(e, want, (Axis){ 0 });
		bool plain = str_equal(buf_str(&wanted), str_of(size));
		mismatch(e, m, "dimension %u is %s, not %.*s%s%s", at, dim_show(e, actual, axis), STR_ARG(buf_str(&wanted)),
			 plain ? "" : " = ", plain ? "" : size);
		diag_note(e->diag, x->loc, "the size %s is asked for here", size);
		return false;
	}
	if (x->kind == EXPR_NAME) {
		Axis named = axis_of_name(e, d, x->name, want, x->loc);
		axis_unify(e->ir, named, axis);
		if (map_get(&e->frame->variable, MAP_KEY(x->name)))
			axis_name(e->ir, named, qualified(e, x->name));
	}
	return true;
}

static bool match_tensor(Elaborator *e, const TypeExpr *t, Datum *value, Loc loc, const char *what)
{
	Val v = as_tensor(e, value, loc, DTYPES);
	if (!v.i)
		return false;
	if (value->kind != DATUM_TENSOR)
		*value = *datum_tensor(e, v, value->loc);
	const Type *have = val_type(e->g, v);
	if (t->name) {
		DType want = element_type(e, t);
		if (want == DTYPES)
			return false;
		if (want != have->dtype) {
			fail(e, E0309, loc, "%s must be %s, and this is %s", what, t->name, datum_show(e, value));
			diag_note(e->diag, t->loc, "its type is declared here");
			return false;
		}
	}
	u32 n = t->dim.n, at = NONE;
	for (u32 i = 0; i < n; i++)
		if (t->dim.v[i]->kind == EXPR_ELLIPSIS)
			at = i;
	const Matching m = { t, what, v, loc };
	u32 least = at == NONE ? n : n - 1;
	if (at == NONE ? have->rank != n : have->rank < least) {
		mismatch(e, &m, "%u dimension%s, not %s%u", have->rank, have->rank == 1 ? "" : "s", at == NONE ? "" : "at least ", least);
		diag_note(e->diag, t->loc, "its type is declared here");
		return false;
	}
	const Axis *axis = val_axis(e->g, v);
	u32 nlead = have->rank - least, d = 0;
	bool good = true;
	for (u32 i = 0; i < n; i++) {
		if (i != at) {
			good &= match_dim(e, &m, d, t->dim.v[i]);
			d++;
			continue;
		}
		Frame *f = e->frame;
		if (!f->has_lead) {
			f->has_lead = true;
			f->nlead = nlead;
			memcpy(f->lead, have->dim + d, nlead * sizeof *f->lead);
			memcpy(f->lead_axis, axis + d, nlead * sizeof *f->lead_axis);
		} else if (f->nlead != nlead || memcmp(f->lead, have->dim + d, nlead * sizeof *f->lead) != 0) {
			mismatch(e, &m, "'...' stands for other dimensions before");
			diag_note(e->diag, t->loc, "its type is declared here");
			good = false;
		} else {
			for (u32 k = 0; k < nlead; k++)
				axis_unify(e->ir, f->lead_axis[k], axis[d + k]);
		}
		d += nlead;
	}
	return good;
}

bool match_type(Elaborator *e, const TypeExpr *t, Datum *value, Loc loc, const char *what)
{
	if (value->kind == DATUM_ERROR)
		return false;
	if (!t)
		return true;
	if (t->kind == TYPE_TENSOR)
		return match_tensor(e, t, value, loc, what);
	if (t->kind == TYPE_TUPLE) {
		if ((value->kind != DATUM_RECORD && value->kind != DATUM_LIST) || value->list.n != t->field.n) {
			Buf names = { .arena = e->arena };
			for (u32 i = 0; i < t->field.n; i++)
				buf_printf(&names, "%s%s", i ? ", " : "", t->field.v[i].name.text ? t->field.v[i].name.text : "_");
			fail(e, E0308, loc, "%s should be %u values (%s), and this is %s", what, t->field.n, names.text, datum_show(e, value));
			diag_note(e->diag, t->loc, "its type is declared here");
			return false;
		}
		bool good = true;
		value->kind = DATUM_RECORD;
		for (u32 i = 0; i < t->field.n; i++) {
			if (!value->list.v[i].name)
				value->list.v[i].name = t->field.v[i].name.text;
			good &= match_type(e, t->field.v[i].type, value->list.v[i].value, loc, what);
		}
		return good;
	}
	const char *n = t->name;
	bool good = (!strcmp(n, "dim") && (value->kind == DATUM_DIM || (value->kind == DATUM_NUMBER && value->number.is_integer))) ||
		    (!strcmp(n, "int") && value->kind == DATUM_NUMBER && value->number.is_integer) ||
		    (!strcmp(n, "float") && value->kind == DATUM_NUMBER) || (!strcmp(n, "bool") && value->kind == DATUM_BOOL) ||
		    (!strcmp(n, "string") && value->kind == DATUM_TEXT) || (!strcmp(n, "list") && value->kind == DATUM_LIST) ||
		    (!strcmp(n, "module") && value->kind == DATUM_CALLABLE) ||
		    (!strcmp(n, "function") && value->kind == DATUM_CALLABLE) ||
		    (!strcmp(n, "config") && value->kind == DATUM_RECORD) ||
		    (!strcmp(n, "dtype") && value->kind == DATUM_DTYPE) || value->kind == DATUM_NONE;
	DType scalar = dtype_named(str_of(n));
	if (!good && scalar != DTYPES) { /* f32 alone: a scalar tensor */
		Val v = as_tensor(e, value, loc, scalar);
		return v.i && val_type(e->g, v)->rank == 0;
	}
	if (good && !strcmp(n, "dim") && value->kind == DATUM_NUMBER && value->number.integer < 0)
		return refuse(e, E0304, loc, "%s is a dimension, and %lld is negative", what, (long long)value->number.integer);
	if (good)
		return true;
	static const char *const known[] = { "dim", "int", "float", "bool", "string", "list", "module", "config", "dtype", "function" };
	bool is_known = false;
	for (u32 i = 0; i < COUNT(known); i++)
		is_known |= !strcmp(known[i], n);
	if (!is_known) {
		const char *near = nearest_name(n, known, COUNT(known));
		const char *here = near ? NULL : foreign_name(e, n);
		fail(e, E0309, t->loc, "'%s' is no type%s", n, here ? here : did_you_mean(e, near));
	} else {
		bool fraction = value->kind == DATUM_NUMBER && (!strcmp(n, "dim") || !strcmp(n, "int"));
		fail(e, E0309, loc, "%s must be %s%s, and this is %s", what, fraction ? "a whole number, of type " : "of type ", n,
		     datum_show(e, value));
		if (fraction)
			note_division(e, value);
		diag_note(e->diag, t->loc, "its type is declared here");
	}
	return false;
}

void declare_symbol(Elaborator *e, const char *name, Loc loc)
{
	Dim size = dim_symbol(e->ir, name);
	u64 *found = map_get(&e->symbol, MAP_KEY(name));
	Axis a = found ? (Axis){ (u32)*found } : axis_new(e->ir, name, size, loc);
	map_put(&e->symbol, MAP_KEY(name), a.id);
	declare_variable(e, (Name){ name, loc }, datum_dim(e, size, a, loc));
}

static void declare_names(Elaborator *e, const Expr *x)
{
	if (x->kind == EXPR_NAME && !lookup(e, x->name))
		declare_symbol(e, x->name, x->loc);
	if (x->kind == EXPR_BINARY) {
		declare_names(e, x->binary.left);
		declare_names(e, x->binary.right);
	}
}

void declare_symbols(Elaborator *e, const TypeExpr *t)
{
	for (u32 i = 0; i < t->dim.n; i++)
		declare_names(e, t->dim.v[i]);
}

const Type *resolve_type(Elaborator *e, const TypeExpr *t, Axis *axis)
{
	if (t->kind != TYPE_TENSOR) {
		DType scalar = t->kind == TYPE_NAME ? dtype_named(str_of(t->name)) : DTYPES;
		if (scalar != DTYPES)
			return type_scalar(e->ir, scalar);
		fail(e, E0309, t->loc, "a tensor type such as [B, T, D] is expected here");
		return NULL;
	}
	DType dtype = t->name ? element_type(e, t) : DT_f32;
	if (dtype == DTYPES)
		return NULL;
	Dim dim[MAX_RANK];
	u32 rank = 0;
	for (u32 i = 0; i < t->dim.n; i++) {
		const Expr *x = t->dim.v[i];
		if (x->kind == EXPR_ELLIPSIS) {
			for (u32 k = 0; k < e->frame->nlead && rank < MAX_RANK; k++, rank++) {
				dim[rank] = e->frame->lead[k];
				axis[rank] = e->frame->lead_axis[k];
			}
			continue;
		}
		if (rank == MAX_RANK) {
			fail(e, E0308, t->loc, "a tensor has at most %d dimensions", MAX_RANK);
			return NULL;
		}
		Datum *d = expression(e, x);
		dim[rank] = datum_to_dim(e, d, x->loc);
		if (!dim[rank])
			return NULL;
		axis[rank] = x->kind == EXPR_NAME ? axis_of_name(e, d, x->name, dim[rank], x->loc) :
		             d->axis.id ? d->axis : axis_new(e->ir, NULL, dim[rank], x->loc);
		rank++;
	}
	return type_make(e->ir, dtype, rank, dim);
}

/* ---- parameters ---- */

Val read_buffer(Elaborator *e, u32 buffer)
{
	const Buffer *b = &e->program->buffer.v[buffer];
	u64 *found = map_get(&e->param_graph, buffer);
	if (found)
		return (Val){ (u32)*found };
	read_attr a = { .buffer = b->name, .dtype = b->type->dtype, .shape = dims_of_type(&e->b, b->type) };
	Loc loc = e->b.loc;
	const char *scope = e->b.scope;
	e->b.loc = b->loc;
	e->b.scope = b->scope;
	Val v = build(&e->b, OP_read, NULL, 0, 0, &a);
	e->b.loc = loc;
	e->b.scope = scope;
	graph_set_axis(e->g, v, b->axis);
	map_put(&e->param_graph, buffer, v.i);
	return v;
}

/* The first value of a parameter, in the entry init. */
static void initial_value(Elaborator *e, u32 buffer, const Expr *value)
{
	Graph *g = e->g;
	Builder b = e->b;
	const Buffer *made = &e->program->buffer.v[buffer];
	Val seed = e->seed, count = e->count;
	e->g = e->init.g;
	e->b = e->init;
	e->b.scope = intern_z(&e->ir->names, made->scope);
	e->seed = e->count = (Val){ 0 };
	e->init_type = made->type;
	e->init_key = made->name;
	e->init_frame = e->frame;
	Datum *d = expression(e, value);
	if (d->kind == DATUM_CALLABLE && d->callable->builtin && !d->callable->given.n) {
		EntryList none = { 0 }; /* zeros, alone */
		d = call_builtin(e, d->callable->builtin, &none, value);
	}
	Val v = as_tensor(e, d, value->loc, made->type->dtype);
	if (v.i) {
		e->b.loc = value->loc;
		v = make_cast(&e->b, v, made->type->dtype);
		Val wide = broadcast_to(e, v, dims_of_type(&e->b, made->type));
		if (!wide.i)
			fail(e, E0603, value->loc, "the first value is %s, and does not repeat to parameter '%s', %s", shape_show(e, v),
			     made->name, type_show(e, made->type, made->axis));
		else
			graph_result(e->g, made->name, buffer, wide);
	}
	e->init_type = NULL;
	e->init = e->b;
	e->g = g;
	e->b = b;
	e->seed = seed;
	e->count = count;
}

/* Which of the parameter's dimensions the hole of its path names, or NONE. */
static u32 own_axis(const Stmt *s, const Expr *hole)
{
	for (u32 d = 0; hole->kind == EXPR_NAME && s->declare.type && d < s->declare.type->dim.n; d++) {
		const Expr *x = s->declare.type->dim.v[d];
		if (x->kind == EXPR_NAME && x->name == hole->name)
			return d;
	}
	return NONE;
}

/* A path whose hole names one of the parameter's own axes stays open there: "experts.{E}.weight" is one
 * tensor per index in a checkpoint. Such axes are the first ones, so that each tensor is one piece of memory. */
static const char *param_path(Elaborator *e, const Stmt *s)
{
	const Text *t = s->declare.path;
	if (!t)
		return s->declare.name.text;
	Buf b = { .arena = e->arena };
	u32 stacked = 0;
	for (u32 i = 0; i < t->npart; i++) {
		const Expr *hole = t->part[i].hole;
		if (!hole) {
			buf_put(&b, str_of(t->part[i].text));
			continue;
		}
		u32 axis = own_axis(s, hole);
		if (axis == stacked) {
			buf_printf(&b, "{%s}", hole->name);
			stacked++;
		} else if (axis != NONE) {
			fail(e, E0602, s->declare.type->loc, "'{%s}' in its path makes one tensor of a file for each index of %s, which must be "
							     "dimension %u of the parameter, not %u", hole->name, hole->name, stacked, axis);
			return NULL;
		} else {
			Datum *d = expression(e, hole);
			if (d->kind == DATUM_ERROR)
				return NULL;
			buf_put(&b, str_of(d->kind == DATUM_TEXT ? d->text : datum_source(e, d)));
		}
	}
	return b.n ? intern(e->names, buf_str(&b)) : t->text;
}

static bool frozen_by_rule(Elaborator *e, const char *path)
{
	bool frozen = false;
	for (u32 i = 0; i < e->freeze.n; i++)
		if (path_match(str_of(e->freeze.v[i].pattern), str_of(path)))
			frozen = e->freeze.v[i].used = true;
	return frozen;
}

/* Where a parameter was declared. */
typedef struct Made {
	const Frame *frame;
	Loc loc;
} Made;

/* A parameter that was made before is made again. What has to be named otherwise is what was applied twice by
 * whoever applied both, which may be far from the parameter. */
static void twice(Elaborator *e, const char *path, const Made *first, Loc loc)
{
	const Frame *before = first->frame, *now = NULL, *was = NULL, *common = e->frame;
	for (; common && common != before; now = common, common = common->outer) {
		for (was = before; was && was->outer != common;)
			was = was->outer;
		if (was)
			break;
	}
	Loc place = now && now->applied_at.line ? now->applied_at : loc, made = was ? was->applied_at : first->loc;
	diag_error(e->diag, E0601, place, "there is a parameter '%s' already", path);
	if (made.file == place.file && made.line == place.line && made.column == place.column)
		diag_note(e->diag, (Loc){ 0 }, "in a loop, the name has the index in it: as \"%s.{i}\"", now ? now->path : path);
	else
		diag_note(e->diag, made, "it was made here; give one of them another name with 'as'");
}

void declare_param(Elaborator *e, const Stmt *s)
{
	const Decl *d = e->frame->decl;
	if (e->init_type || !e->g || (d && (d->kind == DECL_FUNCTION || d->kind == DECL_OPTIMIZER))) {
		fail(e, E0208, s->loc, e->init_type ? "a first value cannot have parameters of its own" :
				       e->g	    ? "a function has no parameters of its own: make it a module" :
						      "a parameter belongs to a module or model");
		declare_variable(e, s->declare.name, datum_error(e));
		return;
	}
	const char *name = param_path(e, s);
	Axis axis[MAX_RANK] = { { 0 } };
	const Type *t = s->declare.type ? resolve_type(e, s->declare.type, axis) : NULL;
	if (!s->declare.type)
		fail(e, E0602, s->loc, "a parameter needs a type: param %s: [D] = zeros", s->declare.name.text);
	if (!t || !name) {
		declare_variable(e, s->declare.name, datum_error(e));
		return;
	}
	const char *path = join_path(e, e->frame->path, name);
	const u64 *before = map_get(&e->param_made, MAP_KEY(path));
	if (before) {
		twice(e, path, (const Made *)(uintptr_t)*before, s->loc);
		declare_variable(e, s->declare.name, datum_error(e));
		return;
	}
	Made *made = NEW(e->arena, Made);
	*made = (Made){ e->frame, s->loc };
	map_put(&e->param_made, MAP_KEY(path), MAP_KEY(made));
	for (u32 d = 0; d < t->rank; d++) {
		i64 n;
		if (!dim_is_number(t->dim[d], &n)) {
			fail(e, E0604, s->declare.type->loc, "the size of parameter '%s' depends on %s, which is not known: "
							     "parameters have sizes of the config",
			     path, dim_show(e, t->dim[d], (Axis){ 0 }));
			declare_variable(e, s->declare.name, datum_error(e));
			return;
		}
	}
	u32 buffer = program_find_buffer(e->program, intern_z(&e->ir->names, path));
	if (buffer == NONE) {
		Buffer b = { .name = path, .kind = BUFFER_PARAMETER, .type = t, .of = NONE, .loc = s->loc,
			     .scope = e->frame->path, .frozen = !e->frame->added && frozen_by_rule(e, path) };
		b.axis = COPYN(e->program->arena, Axis, axis, t->rank);
		buffer = program_buffer(e->program, b);
		if (e->frame->added)
			VEC_PUSH(e->arena, &e->model->added, path);
		if (!s->declare.value)
			fail(e, E0602, s->loc, "parameter '%s' needs a first value, such as zeros or normal(std = 0.02)", path);
		else
			initial_value(e, buffer, s->declare.value);
	} else {
		const Buffer *b = &e->program->buffer.v[buffer];
		for (u32 d = 0; d < t->rank && b->type == t; d++)
			axis_unify(e->ir, b->axis[d], axis[d]);
		if (b->type != t) {
			fail(e, E0601, s->loc, "parameter '%s' has another type here than elsewhere", path);
			declare_variable(e, s->declare.name, datum_error(e));
			return;
		}
	}
	declare_variable(e, s->declare.name, datum_tensor(e, read_buffer(e, buffer), s->loc));
}
