/* ir/print.c: a program as text (docs/ir.md). What is printed depends on the program alone: axis
 * classes and source files are numbered in the order in which the text comes to them, never by
 * their index in the Ir, so that print(parse(print(p))) == print(p). */
#include "ir/op.h"
#include "ir/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- words and numbers ---- */

void text_quote(Buf *to, Str text)
{
	buf_char(to, '"');
	for (size_t i = 0; i < text.n; i++) {
		u8 c = (u8)text.s[i];
		if (c == '"' || c == '\\')
			buf_printf(to, "\\%c", c);
		else if (c == '\n')
			buf_put(to, STR("\\n"));
		else if (c == '\t')
			buf_put(to, STR("\\t"));
		else if (c < ' ' || c == 0x7f)
			buf_printf(to, "\\x%02x", c);
		else
			buf_char(to, (char)c);
	}
	buf_char(to, '"');
}

void text_word(Buf *to, Str text)
{
	bool word = text.n > 0;
	for (size_t i = 0; i < text.n; i++)
		word &= text_word_char(text.s[i]);
	if (word)
		buf_put(to, text);
	else
		text_quote(to, text);
}

void text_float(Buf *to, f64 x)
{
	if (isnan(x)) {
		u64 bits, plain;
		f64 quiet = (f64)NAN;
		memcpy(&bits, &x, sizeof bits);
		memcpy(&plain, &quiet, sizeof plain);
		if (bits == plain)
			buf_put(to, STR("nan"));
		else
			buf_printf(to, "nan(0x%llx)", (unsigned long long)bits);
		return;
	}
	char digits[40];
	for (int precision = 1; precision <= 17; precision++) {
		snprintf(digits, sizeof digits, "%.*g", precision, x);
		if (strtod(digits, NULL) == x)
			break;
	}
	buf_put(to, str_of(digits)); /* inf and -inf too */
}

/* ---- labels of axis classes and source files ---- */

typedef struct Printer {
	const Ir *ir;
	Buf *to;
	Arena *tmp;
	Map axis;       /* root id -> row + 1 */
	VEC(Axis) rows; /* roots in order of first use */
	VEC(const char *) label;
	VEC(const char *) path; /* source files in order of first use */
} Printer;

static void meet_axis(Printer *p, Axis a)
{
	a = axis_find(p->ir, a);
	if (!a.id || map_get(&p->axis, a.id))
		return;
	map_put(&p->axis, a.id, p->rows.n);
	VEC_PUSH(p->tmp, &p->rows, a);
	const AxisClass *c = &p->ir->axis.v[a.id];
	for (u32 i = 0; i < c->nfactor; i++)
		meet_axis(p, c->factor[i]);
}

/* The first class of a name is called by it, the next name~2, name~3; classes without a name are
 * ~1, ~2, ... */
static void make_labels(Printer *p)
{
	Map used = { .arena = p->tmp };
	for (u32 i = 0; i < p->rows.n; i++) {
		const char *name = p->ir->axis.v[p->rows.v[i].id].name;
		u64 *found = map_get(&used, MAP_KEY(name));
		u64 n = found ? *found + 1 : 1;
		map_put(&used, MAP_KEY(name), n);
		Buf b = { .arena = p->tmp };
		if (name)
			text_word(&b, str_of(name));
		if (!name || n > 1)
			buf_printf(&b, "~%llu", (unsigned long long)n);
		VEC_PUSH(p->tmp, &p->label, b.text);
	}
}

static const char *path_of(const Printer *p, Loc loc)
{
	return loc.file < p->ir->diag->nsource ? p->ir->diag->source[loc.file].path : "";
}

static u32 file_row(const Printer *p, Loc loc)
{
	const char *path = path_of(p, loc);
	u32 i = 0;
	while (i < p->path.n && strcmp(p->path.v[i], path) != 0)
		i++;
	return i;
}

static void meet_place(Printer *p, Loc loc)
{
	if (loc.line && file_row(p, loc) == p->path.n)
		VEC_PUSH(p->tmp, &p->path, path_of(p, loc));
}

/* ---- parts ---- */

static void put_type(Printer *p, const Type *t, const Axis *axis)
{
	buf_printf(p->to, "%s[", dtype_info[t->dtype].name);
	for (u32 d = 0; d < t->rank; d++) {
		if (d)
			buf_put(p->to, STR(", "));
		Axis a = axis_find(p->ir, axis[d]);
		u64 *row = a.id ? map_get(&p->axis, a.id) : NULL;
		if (row)
			buf_printf(p->to, "%s: ", p->label.v[*row]);
		dim_print(p->to, t->dim[d]);
	}
	buf_char(p->to, ']');
}

static void put_place(Printer *p, Loc loc)
{
	if (!loc.line)
		return;
	buf_put(p->to, STR(" at "));
	u32 file = file_row(p, loc);
	if (file)
		buf_printf(p->to, "%u:", file);
	buf_printf(p->to, "%u:%u", loc.line, loc.column);
	if (loc.length)
		buf_printf(p->to, "+%u", loc.length);
}

static void put_scope(Printer *p, const char *scope)
{
	if (!scope[0])
		return;
	buf_put(p->to, STR(" in "));
	text_word(p->to, str_of(scope));
}

static void put_value(Buf *to, AttrKind kind, const void *at)
{
	switch (kind) {
	case ATTR_i64:
		buf_printf(to, "%lld", (long long)*(const i64 *)at);
		break;
	case ATTR_f64:
		text_float(to, *(const f64 *)at);
		break;
	case ATTR_bool:
		buf_put(to, *(const bool *)at ? STR("true") : STR("false"));
		break;
	case ATTR_dtype:
		buf_put(to, str_of(dtype_info[*(const DType *)at].name));
		break;
	case ATTR_str:
		text_quote(to, str_of(*(const str *)at));
		break;
	case ATTR_ints: {
		const ints *l = at;
		buf_char(to, '[');
		for (u32 i = 0; i < l->n; i++)
			buf_printf(to, "%s%lld", i ? ", " : "", (long long)l->v[i]);
		buf_char(to, ']');
		break;
	}
	case ATTR_dims: {
		const dims *l = at;
		buf_char(to, '[');
		for (u32 i = 0; i < l->n; i++) {
			if (i)
				buf_put(to, STR(", "));
			dim_print(to, l->v[i]);
		}
		buf_char(to, ']');
		break;
	}
	}
}

/* What the reader supplies by itself: false, no text, and `dtype` and `shape` as the result has. */
static bool is_implied(const AttrField *f, const void *at, const Type *result)
{
	if (f->kind == ATTR_bool)
		return !*(const bool *)at;
	if (f->kind == ATTR_str)
		return !*(const str *)at;
	if (f->kind == ATTR_dtype && strcmp(f->name, "dtype") == 0)
		return *(const DType *)at == result->dtype;
	if (f->kind == ATTR_dims && strcmp(f->name, "shape") == 0) {
		const dims *l = at;
		return l->n == result->rank &&
		       (l->n == 0 || memcmp(l->v, result->dim, l->n * sizeof *l->v) == 0);
	}
	return false;
}

static void put_attributes(Printer *p, const Graph *g, const Node *n)
{
	u32 count, shown = 0;
	const AttrField *f = op_info[n->op].fields(&count);
	for (u32 i = 0; i < count; i++) {
		const void *at = (const u8 *)n->attr + f[i].offset;
		if (is_implied(&f[i], at, val_type(g, n->out)))
			continue;
		if (n->nin == 0 && f[i].kind == ATTR_str && strcmp(f[i].name, "buffer") == 0) {
			buf_put(p->to, STR(" @"));
			text_word(p->to, str_of(*(const str *)at));
			continue;
		}
		if (n->nin == 0 && f[i].kind == ATTR_str && strcmp(f[i].name, "name") == 0) {
			buf_char(p->to, ' ');
			text_word(p->to, str_of(*(const str *)at));
			continue;
		}
		buf_printf(p->to, "%s%s = ", shown++ ? ", " : " {", f[i].name);
		put_value(p->to, f[i].kind, at);
	}
	if (shown)
		buf_char(p->to, '}');
}

static void put_node(Printer *p, const Graph *g, const Node *n)
{
	for (u32 i = 0; i < n->nout; i++)
		buf_printf(p->to, "%s%%%u", i ? ", " : "  ", n->out.i + i);
	buf_printf(p->to, " = %s", op_info[n->op].name);
	for (u32 i = 0; i < n->nin; i++)
		buf_printf(p->to, "%s%%%u", i ? ", " : " ", n->in[i].i);
	put_attributes(p, g, n);
	for (u32 i = 0; i < n->nout; i++) {
		const Value *v = &g->value.v[n->out.i + i];
		buf_put(p->to, i ? STR(", ") : STR(" : "));
		put_type(p, v->type, v->axis);
	}
	put_place(p, n->loc);
	put_scope(p, n->scope);
	buf_char(p->to, '\n');
}

static void put_entry(Printer *p, const Graph *g)
{
	buf_put(p->to, STR("entry "));
	text_word(p->to, str_of(g->name));
	buf_put(p->to, STR(" {\n"));
	for (u32 i = 0; i < g->node.n; i++)
		put_node(p, g, &g->node.v[i]);
	for (u32 i = 0; i < g->result.n; i++) {
		const Result *r = &g->result.v[i];
		buf_put(p->to, r->buffer == NONE ? STR("  result ") : STR("  write @"));
		text_word(p->to, str_of(r->name));
		buf_printf(p->to, " = %%%u\n", r->value.i);
	}
	buf_put(p->to, STR("}\n"));
}

static void put_axis(Printer *p, u32 row)
{
	const AxisClass *c = &p->ir->axis.v[p->rows.v[row].id];
	buf_printf(p->to, "axis %s = ", p->label.v[row]);
	dim_print(p->to, c->size);
	for (u32 i = 0; i < c->nfactor; i++) {
		u32 factor = (u32)*map_get(&p->axis, axis_find(p->ir, c->factor[i]).id);
		buf_printf(p->to, "%s%s", i ? " " : " of (", p->label.v[factor]);
	}
	if (c->nfactor)
		buf_char(p->to, ')');
	for (u32 i = 0, n = 0; i < c->names.n; i++) {
		if (c->names.v[i] == c->name)
			continue;
		buf_put(p->to, n++ ? STR(", ") : STR(" also "));
		text_word(p->to, str_of(c->names.v[i]));
	}
	put_place(p, c->loc);
	buf_char(p->to, '\n');
}

static void put_buffer(Printer *p, const Program *program, const Buffer *b)
{
	buf_put(p->to, STR("buffer @"));
	text_word(p->to, str_of(b->name));
	buf_put(p->to, STR(" : "));
	put_type(p, b->type, b->axis);
	buf_printf(p->to, " %s", buffer_kind_name[b->kind]);
	if (b->frozen)
		buf_put(p->to, STR(" frozen"));
	if (b->of != NONE) {
		buf_put(p->to, STR(" of @"));
		text_word(p->to, str_of(program->buffer.v[b->of].name));
	}
	if (b->split) {
		buf_put(p->to, STR(" split "));
		text_quote(p->to, str_of(b->split));
	}
	if (b->summed)
		buf_put(p->to, STR(" summed"));
	if (b->slots)
		buf_printf(p->to, " slots %u", b->slots);
	if (b->stages)
		buf_printf(p->to, " stages %llu", (unsigned long long)b->stages);
	put_place(p, b->loc);
	put_scope(p, b->scope);
	buf_char(p->to, '\n');
}

/* ---- whole texts ---- */

static void meet_entry_axes(Printer *p, const Graph *g)
{
	for (u32 i = 1; i < g->value.n; i++)
		for (u32 d = 0; d < g->value.v[i].type->rank; d++)
			meet_axis(p, g->value.v[i].axis[d]);
}

static void meet_entry_places(Printer *p, const Graph *g)
{
	for (u32 i = 0; i < g->node.n; i++)
		meet_place(p, g->node.v[i].loc);
}

static void put_program(Printer *p, const Program *program)
{
	for (u32 i = 0; i < program->buffer.n; i++)
		for (u32 d = 0; d < program->buffer.v[i].type->rank; d++)
			meet_axis(p, program->buffer.v[i].axis[d]);
	for (u32 i = 0; i < program->entry.n; i++)
		meet_entry_axes(p, program->entry.v[i]);
	make_labels(p);
	for (u32 i = 0; i < p->rows.n; i++)
		meet_place(p, p->ir->axis.v[p->rows.v[i].id].loc);
	for (u32 i = 0; i < program->buffer.n; i++)
		meet_place(p, program->buffer.v[i].loc);
	for (u32 i = 0; i < program->entry.n; i++)
		meet_entry_places(p, program->entry.v[i]);

	buf_put(p->to, STR("program "));
	text_word(p->to, str_of(program->name));
	buf_char(p->to, '\n');
	if (program->facts) {
		buf_put(p->to, STR("facts"));
		for (u32 i = 0; i < FACTS; i++)
			if (program->facts & 1u << i)
				buf_printf(p->to, " %s", fact_info[i].name);
		buf_char(p->to, '\n');
	}
	for (u32 i = 0; i < program->mesh.n; i++) {
		buf_put(p->to, i ? STR(", ") : STR("mesh "));
		text_word(p->to, str_of(program->mesh.axis[i].name));
		buf_printf(p->to, " = %u", program->mesh.axis[i].size);
	}
	if (program->stage.over) {
		buf_put(p->to, STR(" stage "));
		text_word(p->to, str_of(program->stage.over));
		buf_printf(p->to, " = %u, %u", program->stage.at, program->stage.chunks);
	}
	if (program->mesh.n)
		buf_char(p->to, '\n');
	for (u32 i = 0; i < p->path.n; i++) {
		buf_printf(p->to, "source %u ", i);
		text_quote(p->to, str_of(p->path.v[i]));
		buf_char(p->to, '\n');
	}
	for (u32 i = 0; i < p->rows.n; i++)
		put_axis(p, i);
	for (u32 i = 0; i < program->buffer.n; i++)
		put_buffer(p, program, &program->buffer.v[i]);
	for (u32 i = 0; i < program->entry.n; i++)
		put_entry(p, program->entry.v[i]);
}

void program_print(const Program *program, FILE *to)
{
	Arena tmp = ARENA("print");
	Buf text = { .arena = &tmp };
	Printer p = { .ir = program->ir, .to = &text, .tmp = &tmp, .axis.arena = &tmp };
	put_program(&p, program);
	fwrite(text.text, 1, text.n, to);
	arena_free(&tmp);
}

void graph_print(const Graph *g, FILE *to)
{
	Arena tmp = ARENA("print");
	Buf text = { .arena = &tmp };
	Printer p = { .ir = g->ir, .to = &text, .tmp = &tmp, .axis.arena = &tmp };
	meet_entry_axes(&p, g);
	make_labels(&p);
	meet_entry_places(&p, g);
	put_entry(&p, g);
	fwrite(text.text, 1, text.n, to);
	arena_free(&tmp);
}
