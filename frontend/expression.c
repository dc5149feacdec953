/* frontend/expression.c: what expressions mean: arithmetic at compile time, names, fields, calls; what
 * concerns tensors goes to tensor.c. */
#include "frontend/elaborator.h"
#include "frontend/std.h"

#include <math.h>
#include <string.h>

/* ---- wanted kinds ---- */

bool want_number(Elaborator *e, const Datum *d, Loc loc, const char *what, f64 *out)
{
	if (d->kind == DATUM_NUMBER) {
		*out = d->number.value;
		return true;
	}
	if (d->kind != DATUM_ERROR)
		fail(e, E0401, loc, "%s is a number known at compile time, and this is %s", what, datum_show(e, d));
	return false;
}

bool want_integer(Elaborator *e, const Datum *d, Loc loc, const char *what, i64 *out)
{
	if (d->kind == DATUM_NUMBER && d->number.is_integer) {
		*out = d->number.integer;
		return true;
	}
	if (d->kind != DATUM_ERROR)
		fail(e, E0401, loc, "%s is a whole number known at compile time, and this is %s", what,
		     datum_show(e, d));
	return false;
}

bool want_bool(Elaborator *e, const Datum *d, Loc loc, const char *what, bool *out)
{
	if (d->kind == DATUM_BOOL) {
		*out = d->boolean;
		return true;
	}
	if (d->kind == DATUM_TENSOR)
		fail(e, E0401, loc,
		     "%s must be known at compile time, and this is %s; use where(condition, a, b) to choose by "
		     "element",
		     what, datum_show(e, d));
	else if (d->kind != DATUM_ERROR)
		fail(e, E0401, loc, "%s is true or false, and this is %s", what, datum_show(e, d));
	return false;
}

const char *want_text(Elaborator *e, const Datum *d, Loc loc, const char *what)
{
	if (d->kind == DATUM_TEXT)
		return d->text;
	if (d->kind != DATUM_ERROR)
		fail(e, E0401, loc, "%s is a text in quotes, and this is %s", what, datum_show(e, d));
	return NULL;
}

/* ---- names ---- */

void set_variable(Elaborator *e, const char *name, Datum *value)
{
	map_put(&e->frame->variable, MAP_KEY(name), MAP_KEY(value));
}

u64 pack_loc(Loc l)
{
	return (u64)(l.file & 0xff) << 56 | (u64)(l.line & 0xffffff) << 32 | (u64)l.column << 16 | l.length;
}

Loc unpack_loc(u64 packed)
{
	return (Loc){ .file = (u16)(packed >> 56), .line = packed >> 32 & 0xffffff, .column = (u16)(packed >> 16),
		      .length = (u16)packed };
}

void declare_variable(Elaborator *e, Name name, Datum *value)
{
	set_variable(e, name.text, value);
	map_put(&e->frame->declared, MAP_KEY(name.text), pack_loc(name.loc));
}

static Datum *callable(Elaborator *e, const Decl *d, const char *builtin, Loc loc)
{
	Datum *x = datum_new(e, DATUM_CALLABLE, loc);
	x->callable = NEW(e->arena, Callable);
	x->callable->decl = d;
	x->callable->builtin = builtin;
	return x;
}

/* NULL where no assignment that stands before what is being worked out gives it. */
static Datum *late_value(Elaborator *e, const char *name)
{
	Frame *f = e->frame;
	const u64 *found = map_get(&f->late, MAP_KEY(name));
	Late *last = found ? (Late *)(uintptr_t)*found : NULL;
	while (last && f->late_at && last->at >= f->late_at)
		last = last->before;
	if (!last)
		return NULL;
	if (!last->value) {
		u32 at = f->late_at;
		f->late_at = last->at;
		last->value = expression(e, last->assign->assign.value);
		f->late_at = at;
	}
	map_put(&f->seen, MAP_KEY(name), 1);
	return last->value;
}

Datum *lookup(Elaborator *e, const char *name)
{
	u64 *found = e->frame ? map_get(&e->frame->variable, MAP_KEY(name)) : NULL;
	if (found) {
		map_put(&e->frame->seen, MAP_KEY(name), 1);
		return (Datum *)(uintptr_t)*found;
	}
	Datum *late = e->frame ? late_value(e, name) : NULL;
	if (late)
		return late;
	Datum *carried = e->outside ? carried_value(e, name) : NULL;
	if (carried)
		return carried;
	if ((found = map_get(&e->config, MAP_KEY(name)))) {
		map_put(&e->config_used, MAP_KEY(name), 1);
		return (Datum *)(uintptr_t)*found;
	}
	if ((found = map_get(&e->decl, MAP_KEY(name))))
		map_put(&e->decl_used, MAP_KEY(name), 1);
	if (found)
		return callable(e, (const Decl *)(uintptr_t)*found, NULL, (Loc){ 0 });
	Loc none = { 0 };
	if (!strcmp(name, "training"))
		return datum_bool(e, e->training, none);
	if (!strcmp(name, "pi"))
		return datum_number(e, 3.14159265358979323846, none);
	if (!strcmp(name, "inf"))
		return datum_number(e, (f64)INFINITY, none);
	DType t = dtype_named(str_of(name));
	if (!strcmp(name, "bool"))
		t = DT_b1;
	if (t != DTYPES) {
		Datum *d = datum_new(e, DATUM_DTYPE, none);
		d->dtype = t;
		return d;
	}
	if (is_builtin(name))
		return callable(e, NULL, name, none);
	return NULL;
}

/* The nearest of the names that the source gives. */
static const char *suggest_own(Elaborator *e, const char *name)
{
	VEC(const char *) all = { 0 };
	const Map *maps[] = { e->frame ? &e->frame->variable : &e->config, e->frame ? &e->frame->late : &e->config, &e->config, &e->decl };
	for (u32 m = 0; m < COUNT(maps); m++)
		for (u32 i = 0; i < maps[m]->n; i++)
			VEC_PUSH(e->arena, &all, (const char *)(uintptr_t)maps[m]->entry[i].key);
	return nearest_name(name, all.v, all.n);
}

/* Where a name that can be seen here comes from; line 0 where it has no place. */
static Loc place_of(const Elaborator *e, const char *name)
{
	const u64 *found;
	if (e->frame && (found = map_get(&e->frame->declared, MAP_KEY(name))))
		return unpack_loc(*found);
	if ((found = map_get(&e->config_place, MAP_KEY(name))))
		return unpack_loc(*found);
	if ((found = map_get(&e->decl, MAP_KEY(name))))
		return ((const Decl *)(uintptr_t)*found)->loc;
	return (Loc){ 0 };
}

/* The part of the standard library that declares the name, or NULL. */
static const char *library_of(Elaborator *e, const char *name)
{
	static const char *const word[] = { "module", "function", "optimizer" };
	for (const Embedded *f = std_files; f->name; f++)
		for (u32 i = 0; i < COUNT(word); i++)
			if (strstr(f->text, arena_printf(e->arena, "\n%s %s(", word[i], name)))
				return f->name;
	return NULL;
}

/* Variables that were assigned and not used so far: one of them may have been meant. */
static u32 unused_names(Elaborator *e, const char *but)
{
	u32 told = 0;
	for (u32 i = 0; e->frame && i < e->frame->declared.n && told < 2; i++) {
		const MapEntry *x = &e->frame->declared.entry[i];
		const char *name = (const char *)(uintptr_t)x->key;
		const u64 *found = map_get(&e->frame->variable, x->key);
		const Datum *d = found ? (const Datum *)(uintptr_t)*found : NULL;
		bool size = !d || d->kind == DATUM_DIM || (d->kind == DATUM_NUMBER && d->axis.id);
		if (size || name == but || map_get(&e->frame->seen, x->key))
			continue;
		diag_note(e->diag, unpack_loc(x->value), "'%s' is declared here, and was not used before", name);
		told++;
	}
	return told;
}

static Datum *unknown(Elaborator *e, const char *name, Loc loc)
{
	const char *own = suggest_own(e, name), *here = own ? NULL : foreign_name(e, name), *library = library_of(e, name);
	const char *near = own ? own : here || library ? NULL : nearest_builtin(name);
	Datum *d = fail(e, E0201, loc, "unknown name '%s'%s", name,
			library ? arena_printf(e->arena, ": it is in the standard library: use std.%s", library) :
			here    ? here :
				  did_you_mean(e, near));
	if (e->frame && e->frame->nlate && !near && !library && !here)
		diag_note(e->diag, (Loc){ 0 }, "a setting sees the names that the block gives before it, outside of an `if` without settings; inputs are not there yet");
	Loc place = near ? place_of(e, near) : (Loc){ 0 };
	if (place.line)
		diag_note(e->diag, place, "'%s' is declared here", near);
	u32 told = library || here || own ? 0 : unused_names(e, near);
	if (!near && !told && !library && !here) /* nor anything else that is near: a module that nobody uses */
		for (u32 i = 0; i < e->decl.n; i++) {
			const Decl *decl = (const Decl *)(uintptr_t)e->decl.entry[i].value;
			if (decl->loc.file == loc.file && decl->kind != DECL_MODEL && !map_get(&e->decl_used, e->decl.entry[i].key)) {
				diag_note(e->diag, decl->loc, "'%s' is declared here, and was not used before", decl->name.text);
				break;
			}
		}
	/* one report for each name and frame: it is an error from here on */
	if (e->frame)
		set_variable(e, name, d);
	return d;
}

const char *text_value(Elaborator *e, const Text *t)
{
	if (!t->nhole)
		return t->text;
	Buf b = { .arena = e->arena };
	bool good = true;
	for (u32 i = 0; i < t->npart; i++) {
		if (t->part[i].text) {
			buf_put(&b, str_of(t->part[i].text));
			continue;
		}
		const Expr *hole = t->part[i].hole;
		Datum *d = expression(e, hole);
		if (d->kind == DATUM_NUMBER || d->kind == DATUM_TEXT)
			buf_put(&b, str_of(d->kind == DATUM_TEXT ? d->text : datum_source(e, d)));
		else {
			good = false;
			if (d->kind != DATUM_ERROR)
				fail(e, E0401, hole->loc, "a number or text can stand in a string, and this is %s",
				     datum_show(e, d));
		}
	}
	return good ? intern(e->names, buf_str(&b)) : NULL;
}

/* ---- arithmetic at compile time ---- */

static bool is_dimlike(const Datum *d)
{
	return d->kind == DATUM_DIM || (d->kind == DATUM_NUMBER && d->number.is_integer);
}

static Datum *dim_binary(Elaborator *e, BinaryOp op, Datum *a, Datum *b, Loc loc)
{
	/* offsets such as `past - 1` may pass through negative numbers: only types insist */
	Dim x = a->kind == DATUM_DIM ? a->dim : dim_number(e->ir, a->number.integer);
	Dim y = b->kind == DATUM_DIM ? b->dim : dim_number(e->ir, b->number.integer);
	Axis none = { 0 };
	switch (op) {
	case BINARY_ADD: return datum_dim(e, dim_add(e->ir, x, y), none, loc);
	case BINARY_SUB: return datum_dim(e, dim_sub(e->ir, x, y), none, loc);
	case BINARY_MUL: return datum_dim(e, dim_mul(e->ir, x, y), none, loc);
	case BINARY_DIV:
	case BINARY_FLOOR_DIV: {
		Dim q = y->n ? dim_div(e->ir, x, y) : NULL;
		if (!q)
			return fail(e, E0305, loc, "%s does not divide %s for every size", dim_show(e, y, b->axis),
				    dim_show(e, x, a->axis));
		return datum_dim(e, q, none, loc);
	}
	case BINARY_EQ:
	case BINARY_NE:
		if (x == y)
			return datum_bool(e, op == BINARY_EQ, loc);
		break;
	default: break;
	}
	return fail(e, E0402, loc,
		    "'%s' of %s and %s is not known at compile time: a size without a number takes part",
		    binary_spelling[op], dim_show(e, x, a->axis), dim_show(e, y, b->axis));
}

static i64 floor_div(i64 a, i64 b)
{
	i64 q = a / b;
	return q - (a % b != 0 && (a < 0) != (b < 0));
}

static Datum *number_binary(Elaborator *e, BinaryOp op, const Datum *a, const Datum *b, Loc loc)
{
	bool whole = a->number.is_integer && b->number.is_integer;
	i64 x = a->number.integer, y = b->number.integer, z = 0;
	f64 u = a->number.value, v = b->number.value;
	bool overflow = false;
	switch (op) {
	case BINARY_EQ: return datum_bool(e, u == v, loc);
	case BINARY_NE: return datum_bool(e, u != v, loc);
	case BINARY_LT: return datum_bool(e, u < v, loc);
	case BINARY_LE: return datum_bool(e, u <= v, loc);
	case BINARY_GT: return datum_bool(e, u > v, loc);
	case BINARY_GE: return datum_bool(e, u >= v, loc);
	case BINARY_DIV:
	case BINARY_FLOOR_DIV:
	case BINARY_MOD:
		if (v == 0)
			return fail(e, E0403, loc, "division by zero");
		if (op == BINARY_DIV && whole && x % y) {
			Datum *d = datum_number(e, u / v, loc);
			Division division = { x, y, loc };
			d->number.division = COPYN(e->arena, Division, &division, 1);
			return d;
		}
		if (op == BINARY_DIV && !whole)
			return datum_number(e, u / v, loc);
		if (!whole)
			return datum_number(e, op == BINARY_MOD ? u - v * floor(u / v) : floor(u / v), loc);
		return datum_integer(e, op == BINARY_MOD ? x - y * floor_div(x, y) : floor_div(x, y), loc);
	case BINARY_ADD: overflow = whole && __builtin_add_overflow(x, y, &z); break;
	case BINARY_SUB: overflow = whole && __builtin_sub_overflow(x, y, &z); break;
	case BINARY_MUL: overflow = whole && __builtin_mul_overflow(x, y, &z); break;
	case BINARY_POW:
		whole = whole && y >= 0;
		z = 1;
		for (i64 i = 0; whole && i < y && !overflow; i++) {
			overflow = __builtin_mul_overflow(z, x, &z);
			if (z == 0 || z == 1)
				break;
		}
		if (whole && x == -1)
			z = y % 2 ? -1 : 1;
		break;
	default:
		return fail(e, E0402, loc, "'%s' takes %s, not %s and %s", binary_spelling[op],
			    op == BINARY_MATMUL ? "tensors" : "truth values and boolean tensors",
			    datum_show(e, a), datum_show(e, b));
	}
	if (overflow)
		return fail(e, E0403, loc, "the result of '%s' is larger than 64 bits hold", binary_spelling[op]);
	if (whole)
		return datum_integer(e, z, loc);
	Datum *d = datum_number(e, op == BINARY_ADD ? u + v : op == BINARY_SUB ? u - v : op == BINARY_MUL ? u * v : pow(u, v), loc);
	d->number.division = a->number.division ? a->number.division : b->number.division;
	return d;
}

static Datum *concat_lists(Elaborator *e, const Datum *a, const Datum *b, Loc loc)
{
	Datum *d = datum_new(e, DATUM_LIST, loc);
	for (u32 i = 0; i < a->list.n; i++)
		VEC_PUSH(e->arena, &d->list, a->list.v[i]);
	for (u32 i = 0; i < b->list.n; i++)
		VEC_PUSH(e->arena, &d->list, b->list.v[i]);
	return d;
}

static Datum *logic(Elaborator *e, const Expr *x, Datum *a)
{
	/* both sides are looked at, so that both sides' errors are reported */
	Datum *b = expression(e, x->binary.right);
	if (a->kind == DATUM_TENSOR || b->kind == DATUM_TENSOR)
		return tensor_binary(e, x->binary.op, a, b, x->binary.op_loc);
	bool p, q;
	if (!want_bool(e, a, x->binary.left->loc, "an operand of 'and' or 'or'", &p) ||
	    !want_bool(e, b, x->binary.right->loc, "an operand of 'and' or 'or'", &q))
		return datum_error(e);
	return datum_bool(e, x->binary.op == BINARY_AND ? p && q : p || q, x->loc);
}

static Datum *binary(Elaborator *e, const Expr *x)
{
	BinaryOp op = x->binary.op;
	Loc loc = x->binary.op_loc;
	Datum *a = expression(e, x->binary.left);
	if (op == BINARY_AND || op == BINARY_OR)
		return logic(e, x, a);
	u32 errors = e->diag->nerror;
	Datum *b = expression(e, x->binary.right);
	if (op == BINARY_FLOOR_DIV && x->binary.right->kind == EXPR_NAME && e->diag->nerror > errors)
		diag_note(e->diag, loc, COMMENTS_BEGIN_OTHERWISE);
	if (a->kind == DATUM_ERROR || b->kind == DATUM_ERROR)
		return datum_error(e);
	if ((op == BINARY_EQ || op == BINARY_NE) && (a->kind == DATUM_NONE || b->kind == DATUM_NONE))
		return datum_bool(e, (a->kind == b->kind) == (op == BINARY_EQ), x->loc); /* was an argument given? */
	if (a->kind == DATUM_TENSOR || b->kind == DATUM_TENSOR)
		return op == BINARY_MATMUL ? tensor_matmul(e, a, b, loc) : tensor_binary(e, op, a, b, loc);
	if (a->kind == DATUM_NUMBER && b->kind == DATUM_NUMBER)
		return number_binary(e, op, a, b, x->loc);
	if (is_dimlike(a) && is_dimlike(b))
		return dim_binary(e, op, a, b, x->loc);
	if ((a->kind == DATUM_DIM || b->kind == DATUM_DIM) && (a->kind == DATUM_NUMBER || b->kind == DATUM_NUMBER) &&
	    e->g)
		return tensor_binary(e, op, a, b, loc); /* a size in float arithmetic: known when it is bound */
	if (a->kind == DATUM_LIST && b->kind == DATUM_LIST && op == BINARY_ADD)
		return concat_lists(e, a, b, x->loc);
	if ((op == BINARY_EQ || op == BINARY_NE) && a->kind == b->kind) {
		if (a->kind == DATUM_TEXT)
			return datum_bool(e, (a->text == b->text) == (op == BINARY_EQ), x->loc);
		if (a->kind == DATUM_BOOL)
			return datum_bool(e, (a->boolean == b->boolean) == (op == BINARY_EQ), x->loc);
		if (a->kind == DATUM_DTYPE)
			return datum_bool(e, (a->dtype == b->dtype) == (op == BINARY_EQ), x->loc);
	}
	return fail(e, E0402, loc, "'%s' cannot be applied to %s and %s", binary_spelling[op], datum_show(e, a),
		    datum_show(e, b));
}

static Datum *unary(Elaborator *e, const Expr *x)
{
	Datum *a = expression(e, x->unary.operand);
	switch (a->kind) {
	case DATUM_ERROR: return a;
	case DATUM_TENSOR:
		if (x->unary.op == UNARY_PLUS)
			return a;
		return tensor_elementwise(e, x->unary.op == UNARY_NOT ? OP_not : OP_neg, &a, 1, x->loc);
	case DATUM_NUMBER:
		if (x->unary.op == UNARY_NOT)
			break;
		if (x->unary.op == UNARY_PLUS)
			return a;
		return a->number.is_integer ? datum_integer(e, -a->number.integer, x->loc) :
					      datum_number(e, -a->number.value, x->loc);
	case DATUM_DIM:
		if (x->unary.op != UNARY_NEGATE)
			break;
		return datum_dim(e, dim_sub(e->ir, dim_number(e->ir, 0), a->dim), (Axis){ 0 }, x->loc);
	case DATUM_BOOL:
		if (x->unary.op != UNARY_NOT)
			break;
		return datum_bool(e, !a->boolean, x->loc);
	default: break;
	}
	return fail(e, E0402, x->loc, "'%s' cannot be applied to %s", unary_spelling[x->unary.op], datum_show(e, a));
}

/* ---- compound ---- */

static Datum *list(Elaborator *e, const Expr *x)
{
	Datum *d = datum_new(e, DATUM_LIST, x->loc);
	for (u32 i = 0; i < x->list.n; i++)
		VEC_PUSH(e->arena, &d->list, ENTRY(NULL, expression(e, x->list.v[i]), x->list.v[i]->loc));
	return d;
}

Entry argument_of(Elaborator *e, const Argument *a)
{
	Entry entry = ENTRY(a->name.text, expression(e, a->value), a->value->loc);
	if (a->name.text)
		entry.name_loc = a->name.loc;
	return entry;
}

static Datum *record(Elaborator *e, const Expr *x)
{
	Datum *d = datum_new(e, DATUM_RECORD, x->loc);
	for (u32 i = 0; i < x->record.n; i++)
		VEC_PUSH(e->arena, &d->list, argument_of(e, &x->record.v[i]));
	return d;
}

static Datum *range(Elaborator *e, const Expr *x)
{
	enum { MOST = 100000 };
	i64 from, to;
	Datum *a = expression(e, x->range.from), *b = expression(e, x->range.to);
	if (!want_integer(e, a, x->range.from->loc, "the start of a range", &from) ||
	    !want_integer(e, b, x->range.to->loc, "the end of a range", &to))
		return datum_error(e);
	if (to - from > MOST)
		return fail(e, E0403, x->loc, "a range of %lld elements is too long (at most %d)",
			    (long long)(to - from), MOST);
	Datum *d = datum_new(e, DATUM_LIST, x->loc);
	for (i64 i = from; i < to; i++)
		VEC_PUSH(e->arena, &d->list, ENTRY(NULL, datum_integer(e, i, x->loc), x->loc));
	return d;
}

/* base.weight in a wrapper: a parameter of the wrapped instance, which is made when that is applied. */
static Datum *parameter_of(Elaborator *e, const Callable *c, const Expr *x)
{
	const char *path = join_path(e, c->path, x->field.field.text);
	u32 buffer = program_find_buffer(e->program, path);
	if (buffer != NONE && e->g)
		return datum_tensor(e, read_buffer(e, buffer), x->loc);
	VEC(const char *) all = { 0 };
	const char *prefix = arena_printf(e->arena, "%s.", path), *own = arena_printf(e->arena, "%s.", c->path);
	for (u32 i = 0; i < e->program->buffer.n; i++) {
		const char *name = e->program->buffer.v[i].name;
		if (str_starts(str_of(name), str_of(prefix))) { /* base.inner.weight */
			Datum *d = callable(e, c->decl, NULL, x->loc);
			d->callable->path = path;
			return d;
		}
		if (str_starts(str_of(name), str_of(own)))
			VEC_PUSH(e->arena, &all, name + strlen(own));
	}
	const char *near = nearest_name(x->field.field.text, all.v, all.n);
	return fail(e, E0203, x->field.field.loc, "%s has no parameter '%s'%s%s", c->decl->name.text, x->field.field.text,
		    did_you_mean(e, near),
		    all.n ? "" : ": its parameters come to be when it is applied, so apply it first");
}

static Datum *field(Elaborator *e, const Expr *x)
{
	Datum *base = expression(e, x->field.base);
	const char *name = x->field.field.text;
	if (base->kind == DATUM_ERROR)
		return base;
	if (base->kind == DATUM_CALLABLE && base->callable->path)
		return parameter_of(e, base->callable, x);
	if (base->kind == DATUM_TENSOR) {
		const char *here = foreign_name(e, name);
		if (!here && is_builtin(name))
			here = arena_printf(e->arena, "; here that is %s(x)", name);
		return fail(e, E0203, x->field.field.loc, "a tensor has no methods and no fields, so no '%s'%s", name, here ? here : "");
	}
	if (base->kind != DATUM_RECORD)
		return fail(e, E0203, x->field.field.loc, "%s has no fields, so no '%s'", datum_show(e, base), name);
	VEC(const char *) all = { 0 };
	for (u32 i = 0; i < base->list.n; i++) {
		if (base->list.v[i].name == name)
			return base->list.v[i].value;
		if (base->list.v[i].name)
			VEC_PUSH(e->arena, &all, base->list.v[i].name);
	}
	const char *near = nearest_name(name, all.v, all.n);
	return fail(e, E0203, x->field.field.loc, "there is no field '%s'%s", name,
		    near ? did_you_mean(e, near) : names_listed(e, "there are", all.v, all.n));
}

/* Lists and texts by number; tensors in tensor.c. */
static Datum *indexed(Elaborator *e, const Expr *x)
{
	Datum *base = expression(e, x->index.base);
	if (base->kind == DATUM_ERROR)
		return base;
	if (base->kind == DATUM_TENSOR)
		return tensor_index(e, base, &x->index.subscript, x->loc);
	if (base->kind != DATUM_LIST)
		return fail(e, E0402, x->loc, "%s cannot be indexed", datum_show(e, base));
	const SubscriptList *s = &x->index.subscript;
	if (s->n != 1 || (s->v[0].kind != SUBSCRIPT_INDEX && s->v[0].kind != SUBSCRIPT_SLICE))
		return fail(e, E0402, x->loc, "a list takes one index or one slice");
	i64 n = base->list.n, from = 0, to = n;
	if (s->v[0].kind == SUBSCRIPT_INDEX) {
		Datum *at = expression(e, s->v[0].index);
		if (!want_integer(e, at, s->v[0].loc, "the index of a list", &from))
			return datum_error(e);
		if (from < -n || from >= n)
			return fail(e, E0404, s->v[0].loc, "index %lld is outside a list of %lld", (long long)from,
				    (long long)n);
		return base->list.v[from < 0 ? from + n : from].value;
	}
	if (s->v[0].from && !want_integer(e, expression(e, s->v[0].from), s->v[0].loc, "a slice's start", &from))
		return datum_error(e);
	if (s->v[0].to && !want_integer(e, expression(e, s->v[0].to), s->v[0].loc, "a slice's end", &to))
		return datum_error(e);
	from = MAX(0, MIN(n, from < 0 ? from + n : from));
	to = MAX(0, MIN(n, to < 0 ? to + n : to));
	Datum *d = datum_new(e, DATUM_LIST, x->loc);
	for (i64 i = from; i < to; i++)
		VEC_PUSH(e->arena, &d->list, base->list.v[i]);
	return d;
}

static Datum *call(Elaborator *e, const Expr *x)
{
	Datum *callee = expression(e, x->call.callee);
	EntryList argument = { 0 };
	for (u32 i = 0; i < x->call.argument.n; i++)
		VEC_PUSH(e->arena, &argument, argument_of(e, &x->call.argument.v[i]));
	if (callee->kind == DATUM_ERROR)
		return callee;
	if (callee->kind == DATUM_DTYPE && argument.n == 1 && !argument.v[0].name) {
		/* f32(x) is a cast */
		VEC_PUSH(e->arena, &argument, ENTRY(NULL, callee, x->loc));
		return call_builtin(e, intern_z(e->names, "cast"), &argument, x);
	}
	if (callee->kind != DATUM_CALLABLE)
		return fail(e, E0204, x->call.callee->loc, "%s cannot be applied: only modules and functions can", datum_show(e, callee));
	if (callee->callable->builtin) {
		if (x->call.path)
			fail(e, E0205, x->call.path->loc,
			     "'as' names an instance of a module, and %s is a function: it has no parameters",
			     callee->callable->builtin);
		return call_builtin(e, callee->callable->builtin, &argument, x);
	}
	return apply(e, callee->callable, &argument, x->call.path, x->loc);
}

static Datum *conditional(Elaborator *e, const Expr *x)
{
	Datum *c = expression(e, x->conditional.condition);
	bool yes;
	if (!want_bool(e, c, x->conditional.condition->loc, "the condition of an 'if'", &yes))
		return datum_error(e);
	return expression(e, yes ? x->conditional.then : x->conditional.otherwise);
}

static bool has_tensor(const Datum *d)
{
	if (d->kind != DATUM_LIST && d->kind != DATUM_RECORD)
		return d->kind == DATUM_TENSOR;
	for (u32 i = 0; i < d->list.n; i++)
		if (has_tensor(d->list.v[i].value))
			return true;
	return false;
}

Datum *expression(Elaborator *e, const Expr *x)
{
	Datum *d;
	switch (x->kind) {
	case EXPR_NUMBER:
		return x->number.is_integer ? datum_integer(e, x->number.integer, x->loc) :
					      datum_number(e, x->number.value, x->loc);
	case EXPR_STRING: {
		const char *text = text_value(e, x->string);
		return text ? datum_text(e, text, x->loc) : datum_error(e);
	}
	case EXPR_BOOL: return datum_bool(e, x->boolean, x->loc);
	case EXPR_NONE: return datum_new(e, DATUM_NONE, x->loc);
	case EXPR_NAME:
		d = lookup(e, x->name);
		if (d && e->init_type && e->frame == e->init_frame && has_tensor(d))
			return fail(e, E0405, x->loc, "the first value of a parameter is made before the model runs, and '%s' is a tensor",
				    x->name);
		return d ? d : unknown(e, x->name, x->loc);
	case EXPR_LIST:
	case EXPR_TUPLE: return list(e, x);
	case EXPR_RECORD: return record(e, x);
	case EXPR_UNARY: return unary(e, x);
	case EXPR_BINARY: return binary(e, x);
	case EXPR_CONDITIONAL: return conditional(e, x);
	case EXPR_RANGE: return range(e, x);
	case EXPR_CALL: return call(e, x);
	case EXPR_INDEX: return indexed(e, x);
	case EXPR_FIELD: return field(e, x);
	case EXPR_ELLIPSIS: return fail(e, E0402, x->loc, "'...' stands for dimensions, in a type or an index");
	}
	NEVER("an expression of no kind");
}
