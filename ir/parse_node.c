/* ir/parse_node.c: one line of an entry, `%a, %b = op ... : types`, read into a node: the op's
 * attributes by its table of fields (ir/op.h), each checked against it, so that a new op needs
 * nothing here. */
#include "ir/parse.h"

#include <string.h>

enum { MOST_OPERANDS = 4096 };

/* One statement %a, %b = op ... while it is read. */
typedef struct Line {
	VEC(const char *) label;
	Op op;
	VEC(Val) in;
	bool bad; /* an operand's own line was wrong: say nothing more */
	u8 *attr;
	u64 given; /* bit per attribute field */
	VEC(const Type *) type;
	VEC(const Axis *) axis;
	Loc loc;
	const char *scope;
} Line;

bool parse_operand(Parser *p, Val *out)
{
	const char *from = p->s.p, *label;
	if (!scan_expect(&p->s, '%') || !scan_word(&p->s, &p->words, "a value", &label))
		return false;
	u64 *found = map_get(&p->value, MAP_KEY(label));
	if (!found)
		return diag_error(p->s.ir->diag, E0702, scan_since(&p->s, from),
				  "there is no value %%%s before this line", label);
	out->i = (u32)*found;
	return true;
}

static bool read_list(Parser *p, AttrKind kind, void *at)
{
	if (!scan_expect(&p->s, '['))
		return false;
	VEC(i64) number = { 0 };
	VEC(Dim) dim = { 0 };
	const char *from = p->s.p;
	for (u32 n = 0; !scan_accept(&p->s, ']'); n++) {
		i64 x;
		Dim d;
		if (n && !scan_expect(&p->s, ','))
			return false;
		if (n == MOST_OPERANDS)
			return diag_error(p->s.ir->diag, E0700, scan_since(&p->s, from),
					  "a list has at most %d elements", MOST_OPERANDS);
		if (kind == ATTR_ints) {
			if (!scan_integer(&p->s, INT64_MIN, INT64_MAX, "a whole number", &x))
				return false;
			VEC_PUSH(&p->s.tmp, &number, x);
		} else {
			if (!scan_dim(&p->s, &d))
				return false;
			VEC_PUSH(&p->s.tmp, &dim, d);
		}
	}
	if (kind == ATTR_ints)
		*(ints *)at = (ints){ number.n, number.v };
	else
		*(dims *)at = (dims){ dim.n, dim.v };
	return true;
}

static bool read_value(Parser *p, AttrKind kind, void *at)
{
	switch (kind) {
	case ATTR_i64:
		return scan_integer(&p->s, INT64_MIN, INT64_MAX, "a whole number", at);
	case ATTR_f64:
		return scan_float(&p->s, at);
	case ATTR_bool:
		if (scan_accept_word(&p->s, "true"))
			*(bool *)at = true;
		else if (scan_accept_word(&p->s, "false"))
			*(bool *)at = false;
		else
			return scan_unexpected(&p->s, "true or false");
		return true;
	case ATTR_dtype: {
		Str word = scan_ahead(&p->s);
		DType d = dtype_named(word);
		if (d == DTYPES)
			return scan_unexpected(&p->s, "an element type");
		p->s.p += word.n;
		*(DType *)at = d;
		return true;
	}
	case ATTR_str:
		return scan_name(&p->s, "a text", at);
	case ATTR_ints:
	case ATTR_dims:
		return read_list(p, kind, at);
	}
	NEVER("an attribute of no kind");
}

static bool read_attributes(Parser *p, Line *l, const AttrField *f, u32 count)
{
	bool first = true;
	while (!scan_accept(&p->s, '}')) {
		if (!first && !scan_expect(&p->s, ','))
			return false;
		first = false;
		Str word = scan_ahead(&p->s);
		if (!word.n)
			return scan_unexpected(&p->s, "an attribute");
		u32 i = 0;
		while (i < count && !str_equal(word, str_of(f[i].name)))
			i++;
		Loc loc = scan_here(&p->s, word.n);
		if (i == count)
			return diag_error(p->s.ir->diag, E0705, loc, "%s has no attribute '%.*s'",
					  op_info[l->op].name, (int)MIN(word.n, (size_t)60),
					  word.s);
		if (l->given & (u64)1 << i)
			return diag_error(p->s.ir->diag, E0705, loc, "%s is given twice",
					  f[i].name);
		p->s.p += word.n;
		if (!scan_expect(&p->s, '=') || !read_value(p, f[i].kind, l->attr + f[i].offset))
			return false;
		if (f[i].kind == ATTR_dims && strcmp(f[i].name, "shape") == 0 &&
		    ((dims *)(l->attr + f[i].offset))->n > MAX_RANK)
			return diag_error(p->s.ir->diag, E0705, loc,
					  "a shape has at most %d dimensions", MAX_RANK);
		l->given |= (u64)1 << i;
	}
	return true;
}

/* What stands where operands would: `@buffer` of read, the name of input. */
static bool read_subject(Parser *p, Line *l, const AttrField *f, u32 count)
{
	for (u32 i = 0; i < count; i++) {
		if (f[i].kind != ATTR_str || op_info[l->op].nin != 0)
			continue;
		bool buffer = strcmp(f[i].name, "buffer") == 0;
		if (!buffer && strcmp(f[i].name, "name") != 0)
			continue;
		if (buffer && !scan_expect(&p->s, '@'))
			return false;
		l->given |= (u64)1 << i;
		return scan_name(&p->s, buffer ? "the name of a buffer" : "a name",
				 (const char **)(l->attr + f[i].offset));
	}
	return true;
}

/* What the printer leaves out: see is_implied there. */
static bool complete(Parser *p, Line *l, const AttrField *f, u32 count, Loc loc)
{
	const Type *t = l->type.v[0];
	for (u32 i = 0; i < count; i++) {
		void *at = l->attr + f[i].offset;
		if (l->given & (u64)1 << i || f[i].kind == ATTR_bool || f[i].kind == ATTR_str)
			continue;
		if (f[i].kind == ATTR_dtype && strcmp(f[i].name, "dtype") == 0)
			*(DType *)at = t->dtype;
		else if (f[i].kind == ATTR_dims && strcmp(f[i].name, "shape") == 0)
			*(dims *)at = (dims){ t->rank, t->dim };
		else
			return diag_error(p->s.ir->diag, E0705, loc, "%s needs the attribute '%s'",
					  op_info[l->op].name, f[i].name);
	}
	return true;
}

static bool read_op(Parser *p, Line *l)
{
	Str word = scan_ahead(&p->s);
	if (!word.n)
		return scan_unexpected(&p->s, "an op");
	l->op = op_named(word);
	if (l->op == OPS) {
		const char *near = NULL;
		u32 least = 3;
		for (u32 i = 0; i < OPS; i++) {
			u32 e = edit_distance(word, str_of(op_info[i].name));
			if (e < least) {
				least = e;
				near = op_info[i].name;
			}
		}
		Loc loc = scan_here(&p->s, word.n);
		int n = (int)MIN(word.n, (size_t)60);
		if (near)
			return diag_error(p->s.ir->diag, E0701, loc,
					  "there is no op '%.*s'; did you mean '%s'?", n, word.s,
					  near);
		return diag_error(p->s.ir->diag, E0701, loc, "there is no op '%.*s'", n, word.s);
	}
	p->s.p += word.n;
	return true;
}

static bool append(Parser *p, Line *l, Loc loc)
{
	Diag *d = p->s.ir->diag;
	Graph *g = p->graph;
	u32 want = op_info[l->op].nout;
	if (want != VARN && want != l->label.n)
		return diag_error(d, E0707, loc, "%s has %u result%s, not %u", op_info[l->op].name,
				  want, want == 1 ? "" : "s", l->label.n);
	Buf why = { .arena = &p->s.tmp };
	p->builder.loc = l->loc;
	p->builder.scope = l->scope;
	u32 nodes = g->node.n;
	Val v = build_checked(&p->builder, l->op, l->in.v, l->in.n, l->label.n, l->attr, &why);
	if (!v.i) {
		diag_error(d, E0706, loc, "%.*s", STR_ARG(buf_str(&why)));
		for (u32 i = 0; i < l->in.n && i < 4; i++) {
			Buf t = { .arena = &p->s.tmp };
			type_print(&t, val_type(g, l->in.v[i]));
			diag_note(d, (Loc){ 0 }, "operand %u is %.*s", i + 1, STR_ARG(buf_str(&t)));
		}
		return false;
	}
	const Node *n = val_node(g, v);
	bool fresh = g->node.n > nodes;
	if (fresh) {
		VEC_PUSH(&p->s.tmp, &p->places.entry.v[p->places.entry.n - 1].node, loc);
		for (u32 i = 0; i < n->nout; i++)
			VEC_PUSH(&p->s.tmp, &p->value_axis, i < l->axis.n ? l->axis.v[i] : NULL);
		/* until the entry is read: see the top of this file */
		static const Axis nowhere[MAX_RANK];
		for (u32 i = 0; i < n->nout; i++)
			g->value.v[v.i + i].axis = nowhere;
	}
	if (n->nout != l->label.n)
		return diag_error(d, E0707, loc, "this %s has %u results, not %u",
				  op_info[l->op].name, n->nout, l->label.n);
	for (u32 i = 0; i < n->nout; i++) {
		const Type *is = val_type(g, (Val){ v.i + i });
		if (is == l->type.v[i])
			continue;
		Buf a = { .arena = &p->s.tmp }, b = { .arena = &p->s.tmp };
		type_print(&a, is);
		type_print(&b, l->type.v[i]);
		return diag_error(d, E0708, loc, "%%%s is %.*s, but is said to be %.*s",
				  l->label.v[i], STR_ARG(buf_str(&a)), STR_ARG(buf_str(&b)));
	}
	for (u32 i = 0; i < n->nout; i++)
		map_put(&p->value, MAP_KEY(l->label.v[i]), v.i + i);
	return true;
}

static bool read_results(Parser *p, Line *l)
{
	do {
		const char *from = p->s.p, *label;
		if (!scan_expect(&p->s, '%') || !scan_word(&p->s, &p->words, "a value", &label))
			return false;
		if (map_get(&p->value, MAP_KEY(label)))
			return diag_error(p->s.ir->diag, E0703, scan_since(&p->s, from),
					  "there already is a value %%%s", label);
		/* known from here on, also when the rest is wrong */
		map_put(&p->value, MAP_KEY(label), BAD);
		VEC_PUSH(&p->s.tmp, &l->label, label);
		if (l->label.n > MOST_OPERANDS)
			return diag_error(p->s.ir->diag, E0700, scan_since(&p->s, from),
					  "a node has at most %d results", MOST_OPERANDS);
		scan_space(&p->s);
	} while (scan_accept(&p->s, ','));
	return true;
}

static bool read_operands(Parser *p, Line *l)
{
	scan_space(&p->s);
	if (p->s.p == p->s.end || *p->s.p != '%')
		return true;
	const char *from = p->s.p;
	do {
		Val v;
		scan_space(&p->s);
		if (!parse_operand(p, &v))
			return false;
		l->bad |= v.i == BAD;
		VEC_PUSH(&p->s.tmp, &l->in, v);
		if (l->in.n > MOST_OPERANDS)
			return diag_error(p->s.ir->diag, E0700, scan_since(&p->s, from),
					  "a node has at most %d operands", MOST_OPERANDS);
	} while (scan_accept(&p->s, ','));
	return true;
}

static bool read_types(Parser *p, Line *l)
{
	if (!scan_expect(&p->s, ':'))
		return false;
	do {
		const Type *type;
		Axis axis[MAX_RANK];
		if (!parse_type(p, &type, axis))
			return false;
		VEC_PUSH(&p->s.tmp, &l->type, type);
		VEC_PUSH(&p->s.tmp, &l->axis, COPYN(p->program->arena, Axis, axis, type->rank));
		if (l->type.n > MOST_OPERANDS)
			break;
	} while (scan_accept(&p->s, ','));
	if (l->type.n == l->label.n)
		return true;
	return diag_error(p->s.ir->diag, E0707, scan_here(&p->s, 1), "%u value%s and %u type%s",
			  l->label.n, l->label.n == 1 ? "" : "s", l->type.n,
			  l->type.n == 1 ? "" : "s");
}

bool parse_node(Parser *p)
{
	Line l = { 0 };
	if (!read_results(p, &l) || !scan_expect(&p->s, '='))
		return false;
	scan_space(&p->s);
	const char *from = p->s.p;
	if (!read_op(p, &l))
		return false;
	Loc loc = scan_since(&p->s, from);
	u32 count;
	const AttrField *f = op_info[l.op].fields(&count);
	assert(count <= 64);
	l.attr = arena_push(&p->s.tmp, 1, op_info[l.op].attr_size, 16);
	if (!read_subject(p, &l, f, count) || !read_operands(p, &l))
		return false;
	if (scan_accept(&p->s, '{') && !read_attributes(p, &l, f, count))
		return false;
	if (!read_types(p, &l) || !parse_place(p, &l.loc, &l.scope) || !scan_end_line(&p->s))
		return false;
	if (!complete(p, &l, f, count, loc))
		return false;
	return l.bad || append(p, &l, loc);
}
