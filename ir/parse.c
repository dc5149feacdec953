/* ir/parse.c: the graph IR's text (docs/ir.md) back into a program: a recursive-descent reader of one
 * statement a line, each checked as it is read; a line that is wrong is told and skipped, and what it
 * would have defined is known to be bad, so that one mistake gives one message. Nothing is assumed of
 * the text: it may come from anywhere.
 *
 * Nodes are built without folding, and with their axis classes put in afterwards as they are
 * written: inference could only unify classes, which the text already shows as it was left. */
#include "ir/op.h"
#include "ir/text.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	MOST_OPERANDS = 4096,
	MOST_DIM_TEXT = 400,    /* bytes of one dimension: dim_parse is quadratic */
	MOST_AXIS_DEPTH = 8,    /* products of products */
	MOST_AXIS_LEAVES = 64,
	BAD = 0xffffffffu,      /* the value of a line that was wrong */
};

/* A row of the axis table, its factors still words. */
typedef struct AxisRow {
	Axis axis;
	Str label; /* as written, for messages */
	Loc loc;
	VEC(const char *) factor;
	bool bad;
} AxisRow;

typedef struct Parser {
	const char *p, *end, *line_start;
	u32 line;
	u16 file;
	Ir *ir;
	Program *program;
	Arena tmp;
	Interner words;     /* labels: of this text alone */
	VEC(u16) source;    /* row -> index into Diag.source */
	Map axis_row;       /* label -> row */
	VEC(AxisRow) axis;
	Map buffer;         /* name -> index */
	VEC(const char *) of; /* per buffer, or NULL */
	Places places;
	int stage;          /* of the order in which rows stand */
	/* the entry being read */
	Graph *graph;
	Builder builder;
	Map value;          /* label -> Val.i or BAD */
	VEC(const Axis *) value_axis;
} Parser;

/* ---- characters ---- */

static Loc here(const Parser *p, size_t length)
{
	size_t column = (size_t)(p->p - p->line_start) + 1;
	return (Loc){ p->line, (u16)MIN(column, (size_t)UINT16_MAX),
		      (u16)MIN(length, (size_t)UINT16_MAX), p->file };
}

static Loc since(const Parser *p, const char *from)
{
	size_t column = (size_t)(from - p->line_start) + 1;
	return (Loc){ p->line, (u16)MIN(column, (size_t)UINT16_MAX),
		      (u16)MIN((size_t)(p->p - from), (size_t)UINT16_MAX), p->file };
}

static void skip_space(Parser *p)
{
	while (p->p < p->end && (*p->p == ' ' || *p->p == '\t' || *p->p == '\r'))
		p->p++;
	if (p->p < p->end && *p->p == '#')
		while (p->p < p->end && *p->p != '\n')
			p->p++;
}

static bool at_end_of_line(Parser *p)
{
	skip_space(p);
	return p->p == p->end || *p->p == '\n';
}

static void skip_line(Parser *p)
{
	while (p->p < p->end && *p->p != '\n')
		p->p++;
	if (p->p < p->end) {
		p->p++;
		p->line++;
		p->line_start = p->p;
	}
}

/* Past blank lines; false at the end of the text. */
static bool next_line(Parser *p)
{
	while (at_end_of_line(p)) {
		if (p->p == p->end)
			return false;
		skip_line(p);
	}
	return true;
}

static Str word_ahead(Parser *p)
{
	skip_space(p);
	const char *to = p->p;
	while (to < p->end && text_word_char(*to))
		to++;
	return (Str){ p->p, (size_t)(to - p->p) };
}

/* "expected X, found Y" */
static bool unexpected(Parser *p, const char *wanted)
{
	Str word = word_ahead(p);
	if (at_end_of_line(p))
		return diag_error(p->ir->diag, E0700, here(p, 1), "expected %s, found the end of the line",
				  wanted);
	if (word.n)
		return diag_error(p->ir->diag, E0700, here(p, word.n), "expected %s, found '%.*s'", wanted,
				  (int)MIN(word.n, (size_t)60), word.s);
	u8 c = (u8)*p->p;
	if (c < ' ' || c >= 0x7f)
		return diag_error(p->ir->diag, E0700, here(p, 1), "expected %s, found the byte 0x%02x",
				  wanted, c);
	return diag_error(p->ir->diag, E0700, here(p, 1), "expected %s, found '%c'", wanted, c);
}

static bool accept(Parser *p, char c)
{
	skip_space(p);
	if (p->p == p->end || *p->p != c)
		return false;
	p->p++;
	return true;
}

static bool expect(Parser *p, char c)
{
	if (accept(p, c))
		return true;
	const char wanted[] = { '\'', c, '\'', 0 };
	return unexpected(p, wanted);
}

static bool accept_word(Parser *p, const char *word)
{
	Str w = word_ahead(p);
	if (!str_equal(w, str_of(word)))
		return false;
	p->p += w.n;
	return true;
}

static bool end_line(Parser *p)
{
	return at_end_of_line(p) || unexpected(p, "the end of the line");
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 32;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* After the opening quote. */
static bool read_quoted(Parser *p, Str *out)
{
	const char *from = p->p - 1;
	Buf b = { .arena = &p->tmp };
	for (;;) {
		if (p->p == p->end || *p->p == '\n')
			return diag_error(p->ir->diag, E0700, since(p, from), "this text has no closing quote");
		char c = *p->p++;
		if (c == '"')
			break;
		if (c == '\\' && p->p < p->end) {
			char e = *p->p++;
			int high, low;
			if (e == 'n')
				c = '\n';
			else if (e == 't')
				c = '\t';
			else if (e == '"' || e == '\\')
				c = e;
			else if (e == 'x' && p->end - p->p >= 2 && (high = hex(p->p[0])) >= 0 &&
				 (low = hex(p->p[1])) >= 0) {
				c = (char)(high * 16 + low);
				p->p += 2;
			} else {
				return diag_error(p->ir->diag, E0700, since(p, p->p - 2),
						  "an escape is one of \\n \\t \\\" \\\\ \\x and two hex digits");
			}
		}
		if (c == 0)
			return diag_error(p->ir->diag, E0700, since(p, from), "a text cannot hold a zero byte");
		buf_char(&b, c);
	}
	*out = buf_str(&b);
	return true;
}

/* A bare word or a quoted text, interned in `in`. */
static bool read_word(Parser *p, Interner *in, const char *wanted, const char **out)
{
	Str w = word_ahead(p);
	if (w.n)
		p->p += w.n;
	else if (accept(p, '"')) {
		if (!read_quoted(p, &w))
			return false;
	} else
		return unexpected(p, wanted);
	*out = intern(in, w);
	return true;
}

static bool read_name(Parser *p, const char *wanted, const char **out)
{
	return read_word(p, &p->ir->names, wanted, out);
}

static bool read_integer(Parser *p, i64 least, i64 most, const char *wanted, i64 *out)
{
	skip_space(p);
	const char *from = p->p;
	bool minus = p->p < p->end && *p->p == '-';
	p->p += minus;
	i64 n = 0;
	bool fits = true;
	const char *digits = p->p;
	for (; p->p < p->end && *p->p >= '0' && *p->p <= '9'; p->p++)
		/* negative numbers reach one further, so digits are taken away from 0 */
		fits = fits && !__builtin_mul_overflow(n, 10, &n) &&
		       !__builtin_sub_overflow(n, *p->p - '0', &n);
	if (p->p == digits) {
		p->p = from;
		return unexpected(p, wanted);
	}
	if (fits && !minus)
		fits = !__builtin_sub_overflow(0, n, &n);
	if (!fits || n < least || n > most)
		return diag_error(p->ir->diag, E0700, since(p, from), "%s is from %lld to %lld", wanted,
				  (long long)least, (long long)most);
	*out = n;
	return true;
}

static bool read_float(Parser *p, f64 *out)
{
	skip_space(p);
	const char *from = p->p;
	char text[64];
	size_t n = 0;
	while (p->p < p->end && n < sizeof text - 1 &&
	       (text_word_char(*p->p) || *p->p == '+' || *p->p == '(' || *p->p == ')'))
		text[n++] = *p->p++;
	text[n] = 0;
	if (strncmp(text, "nan(0x", 6) == 0) {
		char *rest;
		errno = 0;
		u64 bits = strtoull(text + 6, &rest, 16);
		f64 x;
		memcpy(&x, &bits, sizeof x);
		if (!errno && rest > text + 6 && strcmp(rest, ")") == 0 && isnan(x)) {
			*out = x;
			return true;
		}
		p->p = from;
		return unexpected(p, "a number");
	}
	if (strcmp(text, "nan") == 0) {
		*out = (f64)NAN;
		return true;
	}
	char *rest = text;
	f64 x = strtod(text, &rest);
	if (n == 0 || rest != text + n || isnan(x)) {
		p->p = from;
		return unexpected(p, "a number");
	}
	*out = x;
	return true;
}

/* An expression over symbols: as far as words and operators alternate. */
static bool read_dim(Parser *p, Dim *out)
{
	skip_space(p);
	const char *from = p->p, *to = p->p, *q = p->p;
	bool operand = true;
	while (q < p->end) {
		if (*q == ' ') {
			q++;
		} else if (operand && *q == '-') {
			q++;
		} else if (operand && (text_word_char(*q) && *q != '/')) {
			while (q < p->end && text_word_char(*q) && *q != '/' && *q != '-')
				q++;
			to = q;
			operand = false;
		} else if (!operand && (*q == '*' || *q == '/' || *q == '+' || *q == '-')) {
			q++;
			operand = true;
		} else {
			break;
		}
	}
	if (to == from)
		return unexpected(p, "a dimension");
	p->p = to;
	Dim d = to - from <= MOST_DIM_TEXT ? dim_parse(p->ir, (Str){ from, (size_t)(to - from) }) : NULL;
	if (!d)
		return diag_error(p->ir->diag, E0700, since(p, from),
				  "this is no dimension: a sum of products of symbols and whole numbers, "
				  "such as 4*D + T/2");
	*out = d;
	return true;
}

/* at [FILE:]LINE:COLUMN[+LENGTH], in SCOPE: both may be missing. */
static bool read_place(Parser *p, Loc *loc, const char **scope)
{
	*loc = (Loc){ 0 };
	if (scope)
		*scope = intern_z(&p->ir->names, "");
	skip_space(p);
	const char *from = p->p;
	if (accept_word(p, "at")) {
		i64 n[3], count = 0, length = 0;
		do
			if (!read_integer(p, 0, UINT32_MAX, "a line", &n[count++]))
				return false;
		while (count < 3 && accept(p, ':'));
		if (accept(p, '+') && !read_integer(p, 0, UINT16_MAX, "a length", &length))
			return false;
		if (count < 2 || n[count - 2] == 0 || n[count - 1] > UINT16_MAX)
			return diag_error(p->ir->diag, E0700, since(p, from),
					  "a place is written at LINE:COLUMN or at FILE:LINE:COLUMN");
		i64 row = count == 3 ? n[0] : 0;
		if (row >= p->source.n)
			return diag_error(p->ir->diag, E0702, since(p, from), "there is no source %lld",
					  (long long)row);
		*loc = (Loc){ (u32)n[count - 2], (u16)n[count - 1], (u16)length, p->source.v[row] };
	}
	if (scope && accept_word(p, "in"))
		return read_name(p, "a scope", scope);
	return true;
}

/* ---- axis classes and types ---- */

/* NAME, NAME~2 or ~2: out is the label as one word. The name alone goes to *name (or NULL). */
static bool read_label(Parser *p, const char **label, const char **name)
{
	*name = NULL;
	skip_space(p);
	if (p->p == p->end || *p->p != '~')
		if (!read_word(p, &p->words, "the name of an axis", name))
			return false;
	*label = *name;
	if (p->p < p->end && *p->p == '~') {
		p->p++;
		i64 n;
		if (!read_integer(p, 1, UINT32_MAX, "the number of an axis", &n))
			return false;
		*label = !*name || n > 1 ? intern_printf(&p->words, "%s~%lld", *name ? *name : "", (long long)n) :
					   *name;
	}
	return true;
}

static bool axis_statement(Parser *p)
{
	skip_space(p);
	const char *from = p->p, *label, *name;
	AxisRow row = { 0 };
	if (!read_label(p, &label, &name))
		return false;
	row.label = (Str){ from, (size_t)(p->p - from) };
	row.loc = since(p, from);
	if (map_get(&p->axis_row, MAP_KEY(label)))
		return diag_error(p->ir->diag, E0703, row.loc, "there already is an axis %.*s",
				  STR_ARG(row.label));
	/* known from here on, also when the rest is wrong */
	row.bad = true;
	map_put(&p->axis_row, MAP_KEY(label), p->axis.n);
	VEC_PUSH(&p->tmp, &p->axis, row);
	Dim size;
	if (!expect(p, '=') || !read_dim(p, &size))
		return false;
	if (accept_word(p, "of")) {
		const char *factor, *unused;
		if (!expect(p, '('))
			return false;
		while (!accept(p, ')')) {
			if (!read_label(p, &factor, &unused))
				return false;
			VEC_PUSH(&p->tmp, &row.factor, factor);
		}
	}
	VEC(const char *) names = { 0 };
	if (accept_word(p, "also")) {
		const char *other;
		do {
			if (!read_name(p, "another name", &other))
				return false;
			VEC_PUSH(&p->tmp, &names, other);
		} while (accept(p, ','));
	}
	Loc loc;
	if (!read_place(p, &loc, NULL) || !end_line(p))
		return false;
	row.axis = axis_new(p->ir, name, size, loc);
	for (u32 i = 0; i < names.n; i++)
		axis_name(p->ir, row.axis, names.v[i]);
	row.bad = false;
	p->axis.v[p->axis.n - 1] = row;
	return true;
}

/* How many leaves a row has, or more than MOST_AXIS_LEAVES where it is too deep or too wide; a row
 * that contains itself is too deep. */
static u32 count_leaves(Parser *p, u32 row, u32 depth)
{
	const AxisRow *r = &p->axis.v[row];
	if (depth > MOST_AXIS_DEPTH)
		return MOST_AXIS_LEAVES + 1;
	u32 n = r->factor.n == 0;
	for (u32 i = 0; i < r->factor.n && n <= MOST_AXIS_LEAVES; i++) {
		u64 *factor = map_get(&p->axis_row, MAP_KEY(r->factor.v[i]));
		n += factor ? count_leaves(p, (u32)*factor, depth + 1) : 1;
	}
	return n;
}

/* Once all rows are read: rows may name later ones. */
static void set_factors(Parser *p)
{
	Diag *d = p->ir->diag;
	for (u32 i = 0; i < p->axis.n; i++) {
		AxisRow *r = &p->axis.v[i];
		if (r->bad || r->factor.n == 0)
			continue;
		if (count_leaves(p, i, 0) > MOST_AXIS_LEAVES) {
			diag_error(d, E0704, r->loc,
				   "the axis %.*s contains itself, or is a product of more than %d",
				   STR_ARG(r->label), MOST_AXIS_LEAVES);
			continue;
		}
		Axis *factor = NEWN(&p->tmp, Axis, r->factor.n);
		bool known = true;
		for (u32 k = 0; k < r->factor.n; k++) {
			u64 *row = map_get(&p->axis_row, MAP_KEY(r->factor.v[k]));
			if (!row)
				diag_error(d, E0702, r->loc, "there is no axis %s", r->factor.v[k]);
			known = known && row && !p->axis.v[*row].bad;
			if (known)
				factor[k] = p->axis.v[*row].axis;
		}
		if (known && r->factor.n == 1)
			diag_error(d, E0704, r->loc, "a product of axes has two or more");
		else if (known && !axis_set_factors(p->ir, r->axis, factor, r->factor.n))
			diag_error(d, E0704, r->loc,
				   "the sizes of the factors of %.*s do not multiply to its own",
				   STR_ARG(r->label));
	}
}

/* f32[B: B, 4*D]; axis has room for MAX_RANK. */
static bool read_type(Parser *p, const Type **type, Axis *axis)
{
	Str word = word_ahead(p);
	DType dtype = dtype_named(word);
	if (dtype == DTYPES)
		return unexpected(p, "an element type");
	p->p += word.n;
	if (!expect(p, '['))
		return false;
	u32 rank = 0;
	Dim dim[MAX_RANK];
	const char *from = p->p;
	while (!accept(p, ']')) {
		if (rank && !expect(p, ','))
			return false;
		if (rank == MAX_RANK)
			return diag_error(p->ir->diag, E0700, since(p, from),
					  "a type has at most %d dimensions", MAX_RANK);
		skip_space(p);
		/* a label is told from a dimension by the colon after it */
		const char *start = p->p, *q = start;
		bool quoted = false;
		for (; q < p->end && *q != '\n' && (quoted || (*q != ':' && *q != ',' && *q != ']')); q++)
			if (*q == '"')
				quoted = !quoted;
			else if (quoted && *q == '\\' && q + 1 < p->end)
				q++;
		axis[rank] = (Axis){ 0 };
		if (q < p->end && *q == ':') {
			const char *label, *name;
			if (!read_label(p, &label, &name))
				return false;
			u64 *row = map_get(&p->axis_row, MAP_KEY(label));
			if (!row)
				return diag_error(p->ir->diag, E0702, since(p, start), "there is no axis %s",
						  label);
			axis[rank] = p->axis.v[*row].axis;
			if (!expect(p, ':'))
				return false;
		}
		if (!read_dim(p, &dim[rank]))
			return false;
		rank++;
	}
	*type = type_make(p->ir, dtype, rank, dim);
	return true;
}

/* ---- the table of buffers ---- */

static bool buffer_statement(Parser *p)
{
	Buffer b = { .of = NONE };
	Axis axis[MAX_RANK];
	const char *of = NULL;
	skip_space(p);
	Loc loc = here(p, 1);
	if (!expect(p, '@') || !read_name(p, "the name of a buffer", &b.name))
		return false;
	loc.length = (u16)MIN(strlen(b.name) + 1, (size_t)UINT16_MAX);
	if (!expect(p, ':') || !read_type(p, &b.type, axis))
		return false;
	Str kind = word_ahead(p);
	while (b.kind < BUFFER_KINDS && !str_equal(kind, str_of(buffer_kind_name[b.kind])))
		b.kind++;
	if (b.kind == BUFFER_KINDS)
		return unexpected(p, "what the buffer is: parameter, state, gradient, counter or cache");
	p->p += kind.n;
	b.frozen = accept_word(p, "frozen");
	if (accept_word(p, "of"))
		if (!expect(p, '@') || !read_name(p, "the name of a buffer", &of))
			return false;
	if (!read_place(p, &b.loc, &b.scope) || !end_line(p))
		return false;
	b.axis = COPYN(p->program->arena, Axis, axis, b.type->rank);
	u32 index = program_buffer(p->program, b);
	if (!map_get(&p->buffer, MAP_KEY(b.name)))
		map_put(&p->buffer, MAP_KEY(b.name), index);
	VEC_PUSH(&p->tmp, &p->of, of);
	VEC_PUSH(&p->tmp, &p->places.buffer, loc);
	return true;
}

static void set_owners(Parser *p)
{
	for (u32 i = 0; i < p->of.n; i++) {
		if (!p->of.v[i])
			continue;
		u64 *index = map_get(&p->buffer, MAP_KEY(p->of.v[i]));
		if (index)
			p->program->buffer.v[i].of = (u32)*index;
		else
			diag_error(p->ir->diag, E0702, p->places.buffer.v[i], "there is no buffer @%s",
				   p->of.v[i]);
	}
}

/* ---- nodes ---- */

/* One statement %a, %b = op ... while it is read. */
typedef struct Line {
	VEC(const char *) label;
	Op op;
	VEC(Val) in;
	bool bad;           /* an operand's own line was wrong: say nothing more */
	u8 *attr;
	u64 given;          /* bit per attribute field */
	VEC(const Type *) type;
	VEC(const Axis *) axis;
	Loc loc;
	const char *scope;
} Line;

static bool read_operand(Parser *p, Val *out)
{
	const char *from = p->p, *label;
	if (!expect(p, '%') || !read_word(p, &p->words, "a value", &label))
		return false;
	u64 *found = map_get(&p->value, MAP_KEY(label));
	if (!found)
		return diag_error(p->ir->diag, E0702, since(p, from), "there is no value %%%s before this line",
				  label);
	out->i = (u32)*found;
	return true;
}

static bool read_list(Parser *p, AttrKind kind, void *at)
{
	if (!expect(p, '['))
		return false;
	VEC(i64) number = { 0 };
	VEC(Dim) dim = { 0 };
	const char *from = p->p;
	for (u32 n = 0; !accept(p, ']'); n++) {
		i64 x;
		Dim d;
		if (n && !expect(p, ','))
			return false;
		if (n == MOST_OPERANDS)
			return diag_error(p->ir->diag, E0700, since(p, from), "a list has at most %d elements",
					  MOST_OPERANDS);
		if (kind == ATTR_ints) {
			if (!read_integer(p, INT64_MIN, INT64_MAX, "a whole number", &x))
				return false;
			VEC_PUSH(&p->tmp, &number, x);
		} else {
			if (!read_dim(p, &d))
				return false;
			VEC_PUSH(&p->tmp, &dim, d);
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
	case ATTR_i64: return read_integer(p, INT64_MIN, INT64_MAX, "a whole number", at);
	case ATTR_f64: return read_float(p, at);
	case ATTR_bool:
		if (accept_word(p, "true"))
			*(bool *)at = true;
		else if (accept_word(p, "false"))
			*(bool *)at = false;
		else
			return unexpected(p, "true or false");
		return true;
	case ATTR_dtype: {
		Str word = word_ahead(p);
		DType d = dtype_named(word);
		if (d == DTYPES)
			return unexpected(p, "an element type");
		p->p += word.n;
		*(DType *)at = d;
		return true;
	}
	case ATTR_str: return read_name(p, "a text", at);
	case ATTR_ints:
	case ATTR_dims: return read_list(p, kind, at);
	}
	NEVER("an attribute of no kind");
}

static bool read_attributes(Parser *p, Line *l, const AttrField *f, u32 count)
{
	bool first = true;
	while (!accept(p, '}')) {
		if (!first && !expect(p, ','))
			return false;
		first = false;
		Str word = word_ahead(p);
		if (!word.n)
			return unexpected(p, "an attribute");
		u32 i = 0;
		while (i < count && !str_equal(word, str_of(f[i].name)))
			i++;
		Loc loc = here(p, word.n);
		if (i == count)
			return diag_error(p->ir->diag, E0705, loc, "%s has no attribute '%.*s'",
					  op_info[l->op].name, (int)MIN(word.n, (size_t)60), word.s);
		if (l->given & (u64)1 << i)
			return diag_error(p->ir->diag, E0705, loc, "%s is given twice", f[i].name);
		p->p += word.n;
		if (!expect(p, '=') || !read_value(p, f[i].kind, l->attr + f[i].offset))
			return false;
		if (f[i].kind == ATTR_dims && strcmp(f[i].name, "shape") == 0 &&
		    ((dims *)(l->attr + f[i].offset))->n > MAX_RANK)
			return diag_error(p->ir->diag, E0705, loc, "a shape has at most %d dimensions",
					  MAX_RANK);
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
		if (buffer && !expect(p, '@'))
			return false;
		l->given |= (u64)1 << i;
		return read_name(p, buffer ? "the name of a buffer" : "a name",
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
			return diag_error(p->ir->diag, E0705, loc, "%s needs the attribute '%s'",
					  op_info[l->op].name, f[i].name);
	}
	return true;
}

static bool read_op(Parser *p, Line *l)
{
	Str word = word_ahead(p);
	if (!word.n)
		return unexpected(p, "an op");
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
		Loc loc = here(p, word.n);
		int n = (int)MIN(word.n, (size_t)60);
		if (near)
			return diag_error(p->ir->diag, E0701, loc, "there is no op '%.*s'; did you mean '%s'?",
					  n, word.s, near);
		return diag_error(p->ir->diag, E0701, loc, "there is no op '%.*s'", n, word.s);
	}
	p->p += word.n;
	return true;
}

static bool append(Parser *p, Line *l, Loc loc)
{
	Diag *d = p->ir->diag;
	Graph *g = p->graph;
	u32 want = op_info[l->op].nout;
	if (want != VARN && want != l->label.n)
		return diag_error(d, E0707, loc, "%s has %u result%s, not %u", op_info[l->op].name, want,
				  want == 1 ? "" : "s", l->label.n);
	Buf why = { .arena = &p->tmp };
	p->builder.loc = l->loc;
	p->builder.scope = l->scope;
	u32 nodes = g->node.n;
	Val v = build_checked(&p->builder, l->op, l->in.v, l->in.n, l->label.n, l->attr, &why);
	if (!v.i) {
		diag_error(d, E0706, loc, "%.*s", STR_ARG(buf_str(&why)));
		for (u32 i = 0; i < l->in.n && i < 4; i++) {
			Buf t = { .arena = &p->tmp };
			type_print(&t, val_type(g, l->in.v[i]));
			diag_note(d, (Loc){ 0 }, "operand %u is %.*s", i + 1, STR_ARG(buf_str(&t)));
		}
		return false;
	}
	const Node *n = val_node(g, v);
	bool fresh = g->node.n > nodes;
	if (fresh) {
		VEC_PUSH(&p->tmp, &p->places.entry.v[p->places.entry.n - 1].node, loc);
		for (u32 i = 0; i < n->nout; i++)
			VEC_PUSH(&p->tmp, &p->value_axis, i < l->axis.n ? l->axis.v[i] : NULL);
		/* until the entry is read: see the top of this file */
		static const Axis nowhere[MAX_RANK];
		for (u32 i = 0; i < n->nout; i++)
			g->value.v[v.i + i].axis = nowhere;
	}
	if (n->nout != l->label.n)
		return diag_error(d, E0707, loc, "this %s has %u results, not %u", op_info[l->op].name, n->nout,
				  l->label.n);
	for (u32 i = 0; i < n->nout; i++) {
		const Type *is = val_type(g, (Val){ v.i + i });
		if (is == l->type.v[i])
			continue;
		Buf a = { .arena = &p->tmp }, b = { .arena = &p->tmp };
		type_print(&a, is);
		type_print(&b, l->type.v[i]);
		return diag_error(d, E0708, loc, "%%%s is %.*s, but is said to be %.*s", l->label.v[i],
				  STR_ARG(buf_str(&a)), STR_ARG(buf_str(&b)));
	}
	for (u32 i = 0; i < n->nout; i++)
		map_put(&p->value, MAP_KEY(l->label.v[i]), v.i + i);
	return true;
}

static bool read_results(Parser *p, Line *l)
{
	do {
		const char *from = p->p, *label;
		if (!expect(p, '%') || !read_word(p, &p->words, "a value", &label))
			return false;
		if (map_get(&p->value, MAP_KEY(label)))
			return diag_error(p->ir->diag, E0703, since(p, from), "there already is a value %%%s",
					  label);
		/* known from here on, also when the rest is wrong */
		map_put(&p->value, MAP_KEY(label), BAD);
		VEC_PUSH(&p->tmp, &l->label, label);
		if (l->label.n > MOST_OPERANDS)
			return diag_error(p->ir->diag, E0700, since(p, from), "a node has at most %d results",
					  MOST_OPERANDS);
		skip_space(p);
	} while (accept(p, ','));
	return true;
}

static bool read_operands(Parser *p, Line *l)
{
	skip_space(p);
	if (p->p == p->end || *p->p != '%')
		return true;
	const char *from = p->p;
	do {
		Val v;
		skip_space(p);
		if (!read_operand(p, &v))
			return false;
		l->bad |= v.i == BAD;
		VEC_PUSH(&p->tmp, &l->in, v);
		if (l->in.n > MOST_OPERANDS)
			return diag_error(p->ir->diag, E0700, since(p, from), "a node has at most %d operands",
					  MOST_OPERANDS);
	} while (accept(p, ','));
	return true;
}

static bool read_types(Parser *p, Line *l)
{
	if (!expect(p, ':'))
		return false;
	do {
		const Type *type;
		Axis axis[MAX_RANK];
		if (!read_type(p, &type, axis))
			return false;
		VEC_PUSH(&p->tmp, &l->type, type);
		VEC_PUSH(&p->tmp, &l->axis, COPYN(p->program->arena, Axis, axis, type->rank));
		if (l->type.n > MOST_OPERANDS)
			break;
	} while (accept(p, ','));
	if (l->type.n == l->label.n)
		return true;
	return diag_error(p->ir->diag, E0707, here(p, 1), "%u value%s and %u type%s", l->label.n,
			  l->label.n == 1 ? "" : "s", l->type.n, l->type.n == 1 ? "" : "s");
}

static bool node_statement(Parser *p)
{
	Line l = { 0 };
	if (!read_results(p, &l) || !expect(p, '='))
		return false;
	skip_space(p);
	const char *from = p->p;
	if (!read_op(p, &l))
		return false;
	Loc loc = since(p, from);
	u32 count;
	const AttrField *f = op_info[l.op].fields(&count);
	assert(count <= 64);
	l.attr = arena_push(&p->tmp, 1, op_info[l.op].attr_size, 16);
	if (!read_subject(p, &l, f, count) || !read_operands(p, &l))
		return false;
	if (accept(p, '{') && !read_attributes(p, &l, f, count))
		return false;
	if (!read_types(p, &l) || !read_place(p, &l.loc, &l.scope) || !end_line(p))
		return false;
	if (!complete(p, &l, f, count, loc))
		return false;
	return l.bad || append(p, &l, loc);
}

static bool result_statement(Parser *p, bool write)
{
	skip_space(p);
	const char *from = p->p, *name;
	if (write && !expect(p, '@'))
		return false;
	if (!read_name(p, write ? "the name of a buffer" : "the name of a result", &name))
		return false;
	Loc loc = since(p, from);
	Val v;
	if (!expect(p, '='))
		return false;
	skip_space(p);
	if (!read_operand(p, &v) || !end_line(p))
		return false;
	u32 buffer = NONE;
	if (write) {
		u64 *found = map_get(&p->buffer, MAP_KEY(name));
		if (!found)
			return diag_error(p->ir->diag, E0702, loc, "there is no buffer @%s", name);
		buffer = (u32)*found;
	}
	if (v.i == BAD)
		return true;
	graph_result(p->graph, name, buffer, v);
	VEC_PUSH(&p->tmp, &p->places.entry.v[p->places.entry.n - 1].result, loc);
	return true;
}

/* After `entry`: the name and the lines up to the closing brace. */
static bool entry_statement(Parser *p)
{
	const char *name;
	skip_space(p);
	const char *from = p->p;
	if (!read_name(p, "the name of an entry", &name))
		return false;
	EntryPlaces places = { .entry = since(p, from) };
	if (!expect(p, '{') || !end_line(p))
		return false;
	VEC_PUSH(&p->tmp, &p->places.entry, places);
	p->graph = program_entry(p->program, name);
	p->builder = builder_new(p->graph);
	p->builder.no_fold = true;
	p->value = (Map){ .arena = &p->tmp };
	p->value_axis.n = 0;
	VEC_PUSH(&p->tmp, &p->value_axis, NULL); /* value 0 is none */
	bool closed = false;
	for (skip_line(p); next_line(p); skip_line(p)) {
		if (accept(p, '}')) {
			closed = end_line(p);
			break;
		}
		if (*p->p == '%')
			node_statement(p);
		else if (accept_word(p, "result"))
			result_statement(p, false);
		else if (accept_word(p, "write"))
			result_statement(p, true);
		else
			unexpected(p, "a value, 'result', 'write' or '}'");
	}
	builder_done(&p->builder);
	for (u32 i = 1; i < p->graph->value.n; i++)
		if (p->value_axis.v[i])
			p->graph->value.v[i].axis = p->value_axis.v[i];
	if (!closed && p->p == p->end)
		return diag_error(p->ir->diag, E0700, places.entry, "the entry %s is not closed by a '}'",
				  name);
	return closed;
}

/* ---- the whole ---- */

static bool source_statement(Parser *p)
{
	i64 n;
	skip_space(p);
	const char *from = p->p;
	if (!read_integer(p, 0, UINT16_MAX, "the number of a source", &n))
		return false;
	if (n != p->source.n)
		return diag_error(p->ir->diag, E0700, since(p, from), "sources count up from 0: this one is %u",
				  p->source.n);
	Str path;
	if (!expect(p, '"') || !read_quoted(p, &path) || !end_line(p))
		return false;
	Diag *d = p->ir->diag;
	u16 at = 0;
	while (at < d->nsource && !str_equal(str_of(d->source[at].path), path))
		at++;
	if (at == d->nsource) {
		if (d->nsource == UINT16_MAX)
			return diag_error(d, E0700, since(p, from), "too many sources");
		at = diag_source(d, intern(&p->ir->names, path), (Str){ 0 });
	}
	VEC_PUSH(&p->tmp, &p->source, at);
	return true;
}

static bool facts_statement(Parser *p)
{
	while (!at_end_of_line(p)) {
		Str word = word_ahead(p);
		u32 i = 0;
		while (i < FACTS && !str_equal(word, str_of(fact_info[i].name)))
			i++;
		if (i == FACTS)
			return unexpected(p, "a fact");
		p->program->facts |= 1u << i;
		p->p += word.n;
	}
	return true;
}

/* The order of rows, and what happens when the last of a kind was read. */
static bool enter_stage(Parser *p, int stage, const char *what, Loc loc)
{
	if (stage < p->stage)
		return diag_error(p->ir->diag, E0700, loc,
				  "%s stands too late: the order is program, facts, source, axis, buffer, "
				  "entry", what);
	if (p->stage <= 3 && stage > 3)
		set_factors(p);
	if (p->stage <= 4 && stage > 4)
		set_owners(p);
	p->stage = stage;
	return true;
}

static bool statement(Parser *p)
{
	static const struct {
		const char *word;
		bool (*read)(Parser *p);
	} rows[] = {
		{ "facts", facts_statement },   { "source", source_statement }, { "axis", axis_statement },
		{ "buffer", buffer_statement }, { "entry", entry_statement },
	};
	for (u32 i = 0; i < COUNT(rows); i++) {
		const char *from = p->p;
		if (accept_word(p, rows[i].word))
			return enter_stage(p, (int)i + 1, rows[i].word, since(p, from)) && rows[i].read(p);
	}
	return unexpected(p, "'facts', 'source', 'axis', 'buffer' or 'entry'");
}

Program *program_parse(Arena *arena, Ir *ir, Str text, u16 file)
{
	Parser p = { .p = text.s, .end = text.s + text.n, .line_start = text.s, .line = 1, .file = file,
		     .ir = ir, .tmp = ARENA("parse") };
	p.words.arena = p.axis_row.arena = p.buffer.arena = &p.tmp;
	u32 errors = ir->diag->nerror;
	p.program = program_new(arena, ir, "");
	next_line(&p);
	const char *from = p.p;
	if (!accept_word(&p, "program"))
		unexpected(&p, "'program'");
	else if (read_name(&p, "the name of the program", &p.program->name))
		end_line(&p);
	p.places.program = since(&p, from);
	for (skip_line(&p); next_line(&p); skip_line(&p))
		statement(&p);
	enter_stage(&p, 6, "", (Loc){ 0 });
	if (ir->diag->nerror == errors)
		program_verify_placed(p.program, ir->diag, &p.places);
	arena_free(&p.tmp);
	return ir->diag->nerror == errors ? p.program : NULL;
}
