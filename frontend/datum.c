/* frontend/datum.c: what an expression may mean, and how it is shown to people. */
#include "frontend/elaborator.h"

#include <math.h>
#include <string.h>

Datum *datum_new(Elaborator *e, DatumKind kind, Loc loc)
{
	Datum *d = NEW(e->arena, Datum);
	d->kind = kind;
	d->loc = loc;
	return d;
}

Datum *datum_error(Elaborator *e)
{
	return datum_new(e, DATUM_ERROR, (Loc){ 0 });
}

Datum *datum_integer(Elaborator *e, i64 n, Loc loc)
{
	Datum *d = datum_new(e, DATUM_NUMBER, loc);
	d->number.integer = n;
	d->number.value = (f64)n;
	d->number.is_integer = true;
	return d;
}

Datum *datum_number(Elaborator *e, f64 x, Loc loc)
{
	Datum *d = datum_new(e, DATUM_NUMBER, loc);
	d->number.value = x;
	return d;
}

Datum *datum_bool(Elaborator *e, bool b, Loc loc)
{
	Datum *d = datum_new(e, DATUM_BOOL, loc);
	d->boolean = b;
	return d;
}

Datum *datum_text(Elaborator *e, const char *interned, Loc loc)
{
	Datum *d = datum_new(e, DATUM_TEXT, loc);
	d->text = interned;
	return d;
}

Datum *datum_tensor(Elaborator *e, Val v, Loc loc)
{
	if (!v.i)
		return datum_error(e);
	Datum *d = datum_new(e, DATUM_TENSOR, loc);
	d->tensor = v;
	return d;
}

Datum *datum_dim(Elaborator *e, Dim dim, Axis axis, Loc loc)
{
	i64 n;
	Datum *d;
	if (dim_is_number(dim, &n)) {
		d = datum_integer(e, n, loc);
	} else {
		d = datum_new(e, DATUM_DIM, loc);
		d->dim = dim;
	}
	d->axis = axis;
	return d;
}

Datum *fail(Elaborator *e, ErrorCode code, Loc loc, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	const char *text = arena_vprintf(e->arena, format, args);
	va_end(args);
	u32 before = e->diag->nerror;
	diag_error(e->diag, code, loc, "%s", text);
	/* who applied the module that the error is in: up to three levels */
	u32 shown = 0;
	Loc last = loc;
	if (e->diag->nerror > before)
		for (Frame *f = e->frame; f && f->applied_at.line && shown < 3; last = f->applied_at, f = f->outer) {
			if (f->applied_at.file == last.file && f->applied_at.line == last.line && f->applied_at.column == last.column)
				continue;
			diag_note(e->diag, f->applied_at, "in this application of %s",
				  f->decl && f->decl->name.text ? f->decl->name.text : "it");
			shown++;
		}
	return datum_error(e);
}

static const struct {
	const char *name, *here;
	bool note;
} foreign[] = {
#define FOREIGN(name, here) { #name, here, false },
#define NOTE(name, text) { #name, text, true },
#include "frontend/foreign.def"
#undef NOTE
#undef FOREIGN
};

const char *foreign_name(Elaborator *e, const char *name)
{
	for (u32 i = 0; i < COUNT(foreign); i++)
		if (!strcmp(foreign[i].name, name))
			return arena_printf(e->arena, foreign[i].note ? "; %s" : "; here that is %s", foreign[i].here);
	return NULL;
}

const char *did_you_mean(Elaborator *e, const char *near)
{
	return near ? arena_printf(e->arena, "; did you mean '%s'?", near) : "";
}

const char *names_listed(Elaborator *e, const char *what, const char *const *all, u32 n)
{
	Buf b = { .arena = e->arena };
	for (u32 i = 0; i < n; i++)
		buf_printf(&b, "%s%s%s", i ? ", " : "; ", i ? "" : arena_printf(e->arena, "%s ", what), all[i]);
	return n ? b.text : "";
}

Datum *unknown_argument(Elaborator *e, const char *callee, const Entry *given, const char *const *all, u32 n)
{
	for (u32 k = 0; k < COUNT(foreign); k++) { /* another name of something that this one takes */
		const char *here = foreign[k].here;
		bool fits = foreign[k].note;
		if (strcmp(foreign[k].name, given->name))
			continue;
		for (u32 i = 0; i < n; i++)
			fits |= str_starts(str_of(here), str_of(all[i])) && strchr(" ,", here[strlen(all[i])]);
		if (fits)
			return fail(e, E0206, given->name_loc, "%s has no argument '%s'%s", callee, given->name,
				    foreign_name(e, given->name));
	}
	const char *near = nearest_name(given->name, all, n);
	return fail(e, E0206, given->name_loc, "%s has no argument '%s'%s", callee, given->name,
		    near ? did_you_mean(e, near) : names_listed(e, "it takes", all, n));
}

/* The last part of a qualified name: "Attention.H" is H to a reader of the source. */
static const char *short_name(const char *name)
{
	const char *dot = strrchr(name, '.');
	return dot ? dot + 1 : name;
}

static void put_axis(Buf *b, const Ir *ir, Axis a)
{
	Axis leaf[16];
	u32 n = axis_leaves(ir, a, leaf, COUNT(leaf));
	const char *whole = a.id ? ir->axis.v[axis_find(ir, a).id].name : NULL;
	if (whole) {
		buf_put(b, str_of(short_name(whole)));
		return;
	}
	if (n > 1)
		buf_char(b, '(');
	for (u32 i = 0; i < n; i++) {
		const char *name = ir->axis.v[leaf[i].id].name;
		buf_printf(b, "%s%s", i ? " " : "", name ? short_name(name) : "_");
	}
	if (n > 1)
		buf_char(b, ')');
}

static bool axis_has_name(const Ir *ir, Axis a)
{
	if (!a.id)
		return false;
	Axis leaf[16];
	u32 n = axis_leaves(ir, a, leaf, COUNT(leaf));
	if (ir->axis.v[axis_find(ir, a).id].name)
		return true;
	for (u32 i = 0; i < n; i++)
		if (ir->axis.v[leaf[i].id].name)
			return true;
	return false;
}

static void put_dim(Buf *b, const Ir *ir, Dim d, Axis a)
{
	Buf size = { .arena = b->arena }, name = { .arena = b->arena };
	dim_print(&size, d);
	if (axis_has_name(ir, a))
		put_axis(&name, ir, a);
	if (name.n && !str_equal(buf_str(&name), buf_str(&size)))
		buf_printf(b, "%.*s = ", STR_ARG(buf_str(&name)));
	buf_put(b, buf_str(&size));
}

const char *dim_show(Elaborator *e, Dim d, Axis a)
{
	Buf b = { .arena = e->arena };
	put_dim(&b, e->ir, d, a);
	return b.text ? b.text : "";
}

const char *type_show(Elaborator *e, const Type *t, const Axis *axis)
{
	Buf b = { .arena = e->arena };
	buf_char(&b, '[');
	for (u32 d = 0; d < t->rank; d++) {
		if (d)
			buf_put(&b, STR(", "));
		put_dim(&b, e->ir, t->dim[d], axis[d]);
	}
	buf_char(&b, ']');
	return b.text;
}

const char *shape_show(Elaborator *e, Val v)
{
	return type_show(e, val_type(e->g, v), val_axis(e->g, v));
}

/* A whole one keeps its point: what reads it, as transformers a config.json, may tell floats from integers. */
static void put_float(Buf *b, f64 x)
{
	char text[32];
	snprintf(text, sizeof text, "%.9g", x);
	buf_printf(b, "%s%s", text, strspn(text, "-0123456789") == strlen(text) ? ".0" : "");
}

static void put_source(Elaborator *e, Buf *b, const Datum *d)
{
	switch (d->kind) {
	case DATUM_NUMBER:
		if (d->number.is_integer)
			buf_printf(b, "%lld", (long long)d->number.integer);
		else
			put_float(b, d->number.value);
		break;
	case DATUM_BOOL: buf_put(b, d->boolean ? STR("true") : STR("false")); break;
	case DATUM_TEXT: buf_printf(b, "\"%s\"", d->text); break;
	case DATUM_DIM: dim_print(b, d->dim); break;
	case DATUM_DTYPE: buf_put(b, str_of(dtype_info[d->dtype].name)); break;
	case DATUM_NONE: buf_put(b, STR("none")); break;
	case DATUM_LIST:
	case DATUM_RECORD:
		buf_char(b, d->kind == DATUM_LIST ? '[' : '{');
		for (u32 i = 0; i < d->list.n; i++) {
			if (i)
				buf_put(b, STR(", "));
			if (d->list.v[i].name)
				buf_printf(b, "%s = ", d->list.v[i].name);
			put_source(e, b, d->list.v[i].value);
		}
		buf_char(b, d->kind == DATUM_LIST ? ']' : '}');
		break;
	case DATUM_TENSOR:
		buf_printf(b, "%s%s", dtype_info[val_type(e->g, d->tensor)->dtype].name,
			   shape_show(e, d->tensor));
		break;
	case DATUM_CALLABLE:
		buf_put(b, str_of(d->callable->decl ? d->callable->decl->name.text : d->callable->builtin));
		break;
	case DATUM_ERROR: buf_put(b, STR("?")); break;
	}
}

const char *datum_source(Elaborator *e, const Datum *d)
{
	Buf b = { .arena = e->arena };
	put_source(e, &b, d);
	return b.text ? b.text : "";
}

const char *datum_show(Elaborator *e, const Datum *d)
{
	static const char *const kind[] = {
		[DATUM_ERROR] = "an error", [DATUM_NONE] = "none",      [DATUM_NUMBER] = "the number ",
		[DATUM_BOOL] = "",          [DATUM_TEXT] = "the text ", [DATUM_DIM] = "the dimension ",
		[DATUM_LIST] = "a list",    [DATUM_RECORD] = "a record", [DATUM_TENSOR] = "a tensor ",
		[DATUM_DTYPE] = "the type ", [DATUM_CALLABLE] = "the module or function ",
	};
	switch (d->kind) {
	case DATUM_NONE:
	case DATUM_ERROR: return kind[d->kind];
	case DATUM_LIST:
	case DATUM_RECORD: return arena_printf(e->arena, "%s of %u", kind[d->kind], d->list.n);
	case DATUM_NUMBER:
		if (!d->number.is_integer && fabs(d->number.value) < 1e9 && d->number.value == floor(d->number.value))
			return arena_printf(e->arena, "the number %.1f", d->number.value); /* not taken for a whole number */
		/* fallthrough */
	default: return arena_printf(e->arena, "%s%s", kind[d->kind], datum_source(e, d));
	}
}

void note_division(Elaborator *e, const Datum *d)
{
	const Division *v = d->kind == DATUM_NUMBER ? d->number.division : NULL;
	if (v)
		diag_note(e->diag, v->loc, "%lld / %lld is not whole: %lld does not divide %lld", (long long)v->of, (long long)v->by,
			  (long long)v->by, (long long)v->of);
}

Dim datum_to_dim(Elaborator *e, const Datum *d, Loc loc)
{
	if (d->kind == DATUM_DIM)
		return d->dim;
	if (d->kind == DATUM_NUMBER && d->number.is_integer) {
		if (d->number.integer < 0) {
			fail(e, E0304, loc, "a dimension cannot be negative: %lld", (long long)d->number.integer);
			return NULL;
		}
		return dim_number(e->ir, d->number.integer);
	}
	if (d->kind == DATUM_NUMBER) {
		fail(e, E0304, loc, "a dimension must be a whole number, and %s is not", datum_source(e, d));
		note_division(e, d);
	} else if (d->kind != DATUM_ERROR)
		fail(e, E0304, loc, "a dimension is expected here, and this is %s", datum_show(e, d));
	return NULL;
}
