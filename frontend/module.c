/* frontend/module.c: applying modules, models and functions: arguments are matched with types, statements
 * run once at compile time, parameters come to be at their paths. */
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
	f->variable.arena = f->used_path.arena = e->arena;
	e->frame = f;
	e->b.scope = intern_z(&e->ir->names, path);
	return f;
}

void frame_pop(Elaborator *e)
{
	e->frame = e->frame->outer;
	e->b.scope = intern_z(&e->ir->names, e->frame ? e->frame->path : "");
}

static const char *join(Elaborator *e, const char *path, const char *more)
{
	return *path && *more ? intern_printf(e->names, "%s.%s", path, more) : *path ? path : intern_z(e->names, more);
}

/* ---- types ---- */

static const char *qualified(const Elaborator *e, const char *name)
{
	const Decl *d = e->frame->decl;
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

static bool match_dim(Elaborator *e, const Expr *x, Dim actual, Axis axis, Loc loc, const char *what, Val v)
{
	if (x->kind == EXPR_NAME && !lookup(e, x->name)) {
		/* not known yet: this is what it means from here on */
		if (!axis.id)
			axis = axis_new(e->ir, NULL, actual, loc);
		axis_name(e->ir, axis, qualified(e, x->name));
		set_variable(e, x->name, datum_dim(e, actual, axis, x->loc));
		return true;
	}
	Datum *d = expression(e, x);
	Dim want = datum_to_dim(e, d, x->loc);
	if (!want)
		return false;
	if (want != actual) {
		fail(e, E0308, loc, "%s is %s, where %s is %s: %s was expected, %s found", what, shape_show(e, v),
		     x->kind == EXPR_NAME ? x->name : "a dimension",
		     dim_show(e, want, (Axis){ 0 }), dim_show(e, want, d->axis), dim_show(e, actual, axis));
		diag_note(e->diag, x->loc, "the size %s is asked for here", dim_show(e, want, (Axis){ 0 }));
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
		DType want = dtype_named(str_of(t->name));
		if (!strcmp(t->name, "bool"))
			want = DT_b1;
		if (want == DTYPES) {
			fail(e, E0309, t->loc, "'%s' is no element type; there are f32, bf16, f16, f64, i32, i64, bool", t->name);
			return false;
		}
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
	u32 least = at == NONE ? n : n - 1;
	if (at == NONE ? have->rank != n : have->rank < least) {
		fail(e, E0308, loc, "%s has %u dimensions, %s, and %s%u are expected", what, have->rank,
		     shape_show(e, v), at == NONE ? "" : "at least ", least);
		diag_note(e->diag, t->loc, "its type is declared here");
		return false;
	}
	const Axis *axis = val_axis(e->g, v);
	u32 nlead = have->rank - least, d = 0;
	bool good = true;
	for (u32 i = 0; i < n; i++) {
		if (i != at) {
			good &= match_dim(e, t->dim.v[i], have->dim[d], axis[d], loc, what, v);
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
			fail(e, E0308, loc, "%s is %s: its leading dimensions are not those that '...' already stands for",
			     what, shape_show(e, v));
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
			fail(e, E0308, loc, "%s must be %u results, and this is %s", what, t->field.n, datum_show(e, value));
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
	if (good)
		return true;
	static const char *const known[] = { "dim", "int", "float", "bool", "string", "list", "module", "config", "dtype", "function" };
	bool is_known = false;
	for (u32 i = 0; i < COUNT(known); i++)
		is_known |= !strcmp(known[i], n);
	if (!is_known) {
		const char *near = nearest(n, known, COUNT(known));
		fail(e, E0309, t->loc, "'%s' is no type%s%s%s", n, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
	} else {
		fail(e, E0309, loc, "%s must be of type %s, and this is %s", what, n, datum_show(e, value));
	}
	return false;
}

void declare_symbol(Elaborator *e, const char *name, Loc loc)
{
	Dim size = dim_symbol(e->ir, name);
	u64 *found = map_get(&e->symbol, MAP_KEY(name));
	Axis a = found ? (Axis){ (u32)*found } : axis_new(e->ir, name, size, loc);
	map_put(&e->symbol, MAP_KEY(name), a.id);
	set_variable(e, name, datum_dim(e, size, a, loc));
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
	DType dtype = DT_f32;
	if (t->name)
		dtype = !strcmp(t->name, "bool") ? DT_b1 : dtype_named(str_of(t->name));
	if (dtype == DTYPES) {
		fail(e, E0309, t->loc, "'%s' is no element type; there are f32, bf16, f16, f64, i32, i64, bool", t->name);
		return NULL;
	}
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
			fail(e, E0603, value->loc, "the initial value is %s, and the parameter %s", shape_show(e, v),
			     arena_printf(e->arena, "'%s'", made->name));
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

static u64 pack_loc(Loc l)
{
	return (u64)l.file << 48 | (u64)l.line << 16 | l.column;
}

/* A path whose hole names one of the parameter's own axes stays open there: "experts.{E}.weight" is one
 * tensor per index in a checkpoint. */
static const char *param_path(Elaborator *e, const Stmt *s)
{
	const Text *t = s->declare.path;
	if (!t)
		return s->declare.name.text;
	Buf b = { .arena = e->arena };
	for (u32 i = 0; i < t->npart; i++) {
		const Expr *hole = t->part[i].hole;
		bool own = false;
		if (!hole) {
			buf_put(&b, str_of(t->part[i].text));
			continue;
		}
		for (u32 d = 0; hole->kind == EXPR_NAME && s->declare.type && d < s->declare.type->dim.n; d++) {
			const Expr *x = s->declare.type->dim.v[d];
			own |= x->kind == EXPR_NAME && x->name == hole->name;
		}
		if (own) {
			buf_printf(&b, "{%s}", hole->name);
		} else {
			Datum *d = expression(e, hole);
			if (d->kind == DATUM_ERROR)
				return NULL;
			buf_put(&b, str_of(d->kind == DATUM_TEXT ? d->text : datum_source(e, d)));
		}
	}
	return b.n ? intern(e->names, buf_str(&b)) : t->text;
}

static bool frozen_by_rule(const Elaborator *e, const char *path)
{
	for (u32 i = 0; i < e->freeze.n; i++)
		if (path_match(str_of(e->freeze.v[i]), str_of(path)))
			return true;
	return false;
}

static void declare_param(Elaborator *e, const Stmt *s)
{
	const char *name = param_path(e, s);
	Axis axis[MAX_RANK] = { { 0 } };
	const Type *t = s->declare.type ? resolve_type(e, s->declare.type, axis) : NULL;
	if (!s->declare.type)
		fail(e, E0602, s->loc, "a parameter needs a type: param %s: [D] = zeros", s->declare.name.text);
	if (!t || !name || !e->g) {
		set_variable(e, s->declare.name.text, datum_error(e));
		return;
	}
	const char *path = join(e, e->frame->path, name);
	u64 *before = map_get(&e->param_made, MAP_KEY(path));
	if (before) {
		fail(e, E0601, s->loc, "there is a parameter '%s' already", path);
		Loc other = { .file = (u16)(*before >> 48), .line = (u32)(*before >> 16), .column = (u16)*before, .length = 1 };
		diag_note(e->diag, other, "it was declared here; give one of the instances another name with 'as'");
		set_variable(e, s->declare.name.text, datum_error(e));
		return;
	}
	map_put(&e->param_made, MAP_KEY(path), pack_loc(s->loc));
	for (u32 d = 0; d < t->rank; d++) {
		i64 n;
		if (!dim_is_number(t->dim[d], &n)) {
			fail(e, E0604, s->declare.type->loc, "the size of parameter '%s' depends on %s, which is not known: "
							     "parameters have sizes of the config",
			     path, dim_show(e, t->dim[d], (Axis){ 0 }));
			set_variable(e, s->declare.name.text, datum_error(e));
			return;
		}
	}
	u32 buffer = program_find_buffer(e->program, intern_z(&e->ir->names, path));
	if (buffer == NONE) {
		Buffer b = { .name = path, .kind = BUFFER_PARAMETER, .type = t, .of = NONE, .loc = s->loc,
			     .scope = e->frame->path, .frozen = frozen_by_rule(e, path) };
		b.axis = COPYN(e->program->arena, Axis, axis, t->rank);
		buffer = program_buffer(e->program, b);
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
			set_variable(e, s->declare.name.text, datum_error(e));
			return;
		}
	}
	set_variable(e, s->declare.name.text, datum_tensor(e, read_buffer(e, buffer), s->loc));
}

/* ---- statements ---- */

static void assign(Elaborator *e, const Stmt *s)
{
	Datum *d = expression(e, s->assign.value);
	u32 n = s->assign.target.n;
	if (d->kind == DATUM_CALLABLE && d->callable->builtin && is_builtin(d->callable->builtin) && n == 1 &&
	    s->assign.value->kind == EXPR_NAME)
		d->loc = s->loc;
	for (u32 i = 0; i < n; i++)
		if (s->assign.target.v[i]->kind != EXPR_NAME) {
			fail(e, E0207, s->assign.target.v[i]->loc, "only a plain name can be assigned to here");
			return;
		}
	if (n == 1) {
		set_variable(e, s->assign.target.v[0]->name, d);
		return;
	}
	/* several names: a list's elements, or a tensor's slices along its first axis */
	if (d->kind == DATUM_TENSOR) {
		Val v = d->tensor;
		const Type *t = val_type(e->g, v);
		i64 extent;
		if (t->rank && dim_is_number(t->dim[0], &extent) && extent == n) {
			Dim one = dim_number(e->ir, 1), size[64];
			for (u32 i = 0; i < n && i < 64; i++)
				size[i] = one;
			e->b.loc = s->assign.value->loc;
			split_attr a = { .axis = 0, .sizes = dims_of(&e->b, size, n) };
			Val part = node(e, s->assign.value->loc, OP_split, &v, 1, 0, &a);
			for (u32 i = 0; i < n && part.i; i++) {
				Val x = BA(&e->b, reshape, ((Val){ part.i + i }), .shape = dims_of(&e->b, t->dim + 1, t->rank - 1u));
				graph_set_axis(e->g, x, val_axis(e->g, v) + 1);
				set_variable(e, s->assign.target.v[i]->name, datum_tensor(e, x, s->loc));
			}
			return;
		}
		fail(e, E0207, s->loc, "%u names on the left, and the tensor %s has not %u slices along its first axis", n,
		     shape_show(e, v), n);
	} else if (d->kind == DATUM_LIST || d->kind == DATUM_RECORD) {
		if (d->list.n == n) {
			for (u32 i = 0; i < n; i++)
				set_variable(e, s->assign.target.v[i]->name, d->list.v[i].value);
			return;
		}
		fail(e, E0207, s->loc, "%u names on the left, and %u values on the right", n, d->list.n);
	} else if (d->kind != DATUM_ERROR) {
		fail(e, E0207, s->loc, "%u names on the left, and on the right is %s", n, datum_show(e, d));
	}
	for (u32 i = 0; i < n; i++)
		set_variable(e, s->assign.target.v[i]->name, datum_error(e));
}

static void run_return(Elaborator *e, const Stmt *s)
{
	Frame *f = e->frame;
	f->returned = true;
	f->returned_at = s->loc;
	f->result.n = 0;
	for (u32 i = 0; i < s->results.n; i++)
		VEC_PUSH(e->arena, &f->result, (Entry){ s->results.v[i].name.text, expression(e, s->results.v[i].value) });
}

static void run_for(Elaborator *e, const Stmt *s)
{
	Datum *over = expression(e, s->loop.over);
	if (over->kind == DATUM_ERROR)
		return;
	if (over->kind != DATUM_LIST) {
		fail(e, E0401, s->loop.over->loc, "'for' runs over a range such as 0..layers or a list, and this is %s",
		     datum_show(e, over));
		return;
	}
	u32 errors = e->diag->nerror;
	for (u32 i = 0; i < over->list.n && !e->frame->returned; i++) {
		set_variable(e, s->loop.name.text, over->list.v[i].value);
		statements(e, &s->loop.body);
		if (e->diag->nerror > errors)
			break; /* the other turns would say the same */
	}
}

static void run_if(Elaborator *e, const Stmt *s)
{
	for (u32 i = 0; i < s->branch.n; i++) {
		bool yes = true;
		const IfArm *arm = &s->branch.v[i];
		if (arm->condition) {
			Datum *c = expression(e, arm->condition);
			if (!want_bool(e, c, arm->condition->loc, "the condition of an 'if'", &yes))
				return;
		}
		if (yes) {
			statements(e, &arm->body);
			return;
		}
	}
}

static void statement(Elaborator *e, const Stmt *s)
{
	switch (s->kind) {
	case STMT_ASSIGN:
		if (s->assign.pattern.n || s->assign.clause.n)
			fail(e, E0208, s->loc, "'for' and 'from' after a key belong to recipes and configs, not here");
		else
			assign(e, s);
		break;
	case STMT_PARAM: declare_param(e, s); break;
	case STMT_DIM:
		for (u32 i = 0; i < s->binding.n; i++) {
			Datum *d = expression(e, s->binding.v[i].value);
			Dim size = datum_to_dim(e, d, s->binding.v[i].value->loc);
			const char *name = s->binding.v[i].name.text;
			if (size) {
				Axis a = axis_new(e->ir, qualified(e, name), size, s->binding.v[i].name.loc);
				set_variable(e, name, datum_dim(e, size, a, s->binding.v[i].name.loc));
			} else {
				set_variable(e, name, datum_error(e));
			}
		}
		break;
	case STMT_FOR: run_for(e, s); break;
	case STMT_IF: run_if(e, s); break;
	case STMT_RETURN: run_return(e, s); break;
	case STMT_EXPR: expression(e, s->expr); break;
	case STMT_SCOPE: {
		const char *name = text_value(e, s->scope.path), *was = e->frame->path;
		if (name) {
			e->frame->path = join(e, was, name);
			e->b.scope = intern_z(&e->ir->names, e->frame->path);
		}
		statements(e, &s->scope.body);
		e->frame->path = was;
		e->b.scope = intern_z(&e->ir->names, was);
		break;
	}
	case STMT_STATE:
	case STMT_UPDATE:
		if (!e->frame->optimizer)
			fail(e, E0208, s->loc, "'state' and '<-' belong to an optimizer");
		else if (s->kind == STMT_STATE)
			optimizer_state(e, s);
		else
			optimizer_update(e, s);
		break;
	case STMT_INPUT: fail(e, E0208, s->loc, "'input' belongs to a train recipe; a module has arguments"); break;
	case STMT_ARROW: fail(e, E0208, s->loc, "'->' belongs to a shard or weights block"); break;
	case STMT_DIRECTIVE:
		fail(e, E0208, s->loc, "'%s' has no meaning here", s->directive.word.text);
		break;
	}
}

void statements(Elaborator *e, const Block *block)
{
	for (u32 i = 0; i < block->n; i++) {
		if (e->frame->returned) {
			diag_warning(e->diag, W0001, block->v[i]->loc, "nothing after 'return' is used");
			return;
		}
		statement(e, block->v[i]);
	}
}

/* ---- application ---- */

static const char *instance_path(Elaborator *e, const Decl *d, const Text *path)
{
	const char *base = e->frame ? e->frame->path : "";
	if (d->kind == DECL_FUNCTION || d->kind == DECL_OPTIMIZER)
		return base;
	if (path) {
		const char *name = text_value(e, path);
		return name ? join(e, base, name) : NULL;
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
	return join(e, base, index ? intern_printf(e->names, "%s_%llu", name, (unsigned long long)index) : name);
}

/* Parameter i of the signature from positional and named arguments; NULL: not given. */
static Datum **sort_arguments(Elaborator *e, const Decl *d, const EntryList *given, const EntryList *more, Loc loc)
{
	const ParameterList *p = &d->signature.param;
	Datum **arg = NEWN(e->arena, Datum *, p->n + 1);
	const EntryList *lists[2] = { given, more };
	u32 at = 0;
	for (u32 l = 0; l < 2; l++)
		for (u32 i = 0; i < lists[l]->n; i++) {
			const Entry *a = &lists[l]->v[i];
			u32 k = 0;
			if (!a->name) {
				while (at < p->n && arg[at])
					at++;
				k = at;
				if (k >= p->n || p->v[k].compile_time) {
					u32 most = 0;
					while (most < p->n && !p->v[most].compile_time)
						most++;
					fail(e, E0206, loc, "%s takes at most %u arguments without a name", d->name.text, most);
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
				const char *near = nearest(a->name, all, p->n);
				fail(e, E0206, loc, "%s has no argument '%s'%s%s%s", d->name.text, a->name,
				     near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
				diag_note(e->diag, d->loc, "it is declared here");
				return NULL;
			}
			if (arg[k]) {
				fail(e, E0206, loc, "%s: '%s' is given twice", d->name.text, p->v[k].name.text);
				return NULL;
			}
			arg[k] = a->value;
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

static bool bind_arguments(Elaborator *e, const Decl *d, Datum **arg, Loc loc)
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
			if (!arg[i]) {
				if (!q->value) {
					fail(e, E0206, loc, "%s needs the argument '%s'", d->name.text, q->name.text);
					diag_note(e->diag, q->name.loc, "it is declared here");
					good = false;
					set_variable(e, q->name.text, datum_error(e));
					continue;
				}
				arg[i] = expression(e, q->value);
			}
			/* a copy: what the module learns about it (its axis) is its own */
			Datum *copy = NEW(e->arena, Datum);
			*copy = *arg[i];
			Loc at = arg[i]->loc.line ? arg[i]->loc : loc;
			if (copy->kind == DATUM_ERROR || (q->type && !match_type(e, q->type, copy, at,
									    arena_printf(e->arena, "argument '%s' of %s", q->name.text, d->name.text)))) {
				good = false;
				*copy = *datum_error(e);
			}
			set_variable(e, q->name.text, copy);
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
	VEC_PUSH(e->arena, &rest, (Entry){ intern_z(e->names, "base"), base });
	for (u32 i = 0; i < argument->n; i++) {
		bool tensor = argument->v[i].value->kind == DATUM_TENSOR;
		if (tensor)
			VEC_PUSH(e->arena, &rest, (Entry){ argument->v[i].name ? argument->v[i].name : intern_z(e->names, "x"), argument->v[i].value });
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
	for (u32 i = 0; i < argument->n; i++)
		if (argument->v[i].value->kind == DATUM_ERROR)
			return argument->v[i].value;
	if (as && d->kind == DECL_FUNCTION)
		fail(e, E0205, as->loc, "'as' names an instance of a module, and %s is a function: it has no parameters",
		     d->name.text);
	Datum **arg = sort_arguments(e, d, &c->given, argument, loc);
	if (!arg)
		return datum_error(e);
	if (d->kind == DECL_FUNCTION || d->kind == DECL_OPTIMIZER)
		for (u32 i = 0; i < d->signature.param.n; i++)
			if (!arg[i] && !d->signature.param.v[i].value && !d->signature.param.v[i].compile_time)
				return partial(e, c, argument, loc);
	if (e->depth >= MOST_DEPTH)
		return fail(e, E0210, loc, "%s is applied inside itself without end", d->name.text);
	const char *path = c->path ? c->path : instance_path(e, d, as);
	if (!path)
		return datum_error(e);
	if (d->kind == DECL_MODULE && c->wrapped != NONE)
		for (u32 i = c->wrapped; i < e->wrap.n; i++)
			if (path_match(str_of(e->wrap.v[i].pattern), str_of(path)))
				return apply_wrapper(e, i, c, argument, path, loc);
	if (d->kind == DECL_MODEL) /* applied again, a model is the same model: its parameters are shared */
		e->param_made = (Map){ .arena = e->arena };
	e->depth++;
	frame_push(e, d, path, loc);
	Datum *r = datum_error(e);
	if (bind_arguments(e, d, arg, loc)) {
		statements(e, &d->body);
		r = result_of(e, d, loc);
	}
	frame_pop(e);
	e->depth--;
	Datum *copy = NEW(e->arena, Datum);
	*copy = *r;
	copy->loc = loc;
	return copy;
}
