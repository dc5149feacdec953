/* frontend/format.c: the canonical form of a source, for `plinth fmt`. It works on the lexemes, so
 * that no comment can be lost and nothing can change its meaning, and asks the tree only where
 * statements begin and which lines are a table. In the manner of gofmt it keeps the author's lines
 * and decides all the rest:
 *
 *   - spacing within a line follows from each pair of neighbours;
 *   - a block that is not on one line has its `{` at the end of a line and its `}` on its own;
 *     `else` stands beside its `}`; `;` is dropped where a line ends anyway;
 *   - indentation is 2 a block; what is in parentheses lines up behind them, or is indented by 2
 *     when nothing follows them; other continuation lines are indented by 4;
 *   - at most one blank line, none at the edges of a block, one around what takes several lines at
 *     the top of a file;
 *   - types and values of neighbouring `param` and `input` lines, the `=` of neighbouring entries
 *     of recipes and configs, and trailing comments of neighbouring lines line up. */
#include "frontend/syntax.h"
#include "frontend/parse.h"

#include <stdlib.h>
#include <string.h>

typedef enum Mark {
	MARK_NONE,
	MARK_STATEMENT, /* a statement begins here */
	MARK_DECLARE,   /* of these, a param or input */
	MARK_ENTRY,     /* or `key = value` in a recipe or config */
	MARK_DECLARATION
} Mark;

/* A token with what is decided about it. */
typedef struct Piece {
	int kind;
	Str text;
	u32 line, column; /* in the source */
	Mark mark;
	bool breaks; /* begins a line of the output */
	bool blank;  /* a blank line before it */
	bool omit;
	bool space; /* a space before it when it does not begin a line */
	u32 pad;    /* more spaces, for tables */
	u32 partner; /* of a bracket */
	bool record; /* a brace of a record */
} Piece;

/* A line of the output: code, then perhaps a comment behind it. */
typedef struct Line {
	u32 first, end; /* pieces of the code; first == end when there is none */
	u32 comment;    /* the piece behind it, or none: NO_COMMENT */
	bool blank;
	bool behind; /* has no code and goes on a comment that stands behind code */
	Str code;    /* with its indentation */
	u32 width;
} Line;
#define NO_COMMENT UINT32_MAX

typedef struct Format {
	Arena *arena;
	Piece *piece;
	u32 n;
	VEC(Line) line;
} Format;

/* ---- where statements begin -------------------------------------------------------------- */

static void mark(Format *f, Loc loc, Mark what)
{
	u32 low = 0, high = f->n;
	while (low < high) {
		u32 mid = (low + high) / 2;
		const Piece *x = &f->piece[mid];
		if (x->line < loc.line || (x->line == loc.line && x->column < loc.column))
			low = mid + 1;
		else
			high = mid;
	}
	if (low < f->n && f->piece[low].line == loc.line)
		f->piece[low].mark = what;
}

static void mark_block(Format *f, const Block *b, bool recipe)
{
	for (u32 i = 0; i < b->n; i++) {
		const Stmt *s = b->v[i];
		Mark what = MARK_STATEMENT;
		switch (s->kind) {
		case STMT_PARAM: case STMT_INPUT:
			what = MARK_DECLARE;
			break;
		case STMT_ASSIGN:
			if (recipe && !s->assign.pattern.n)
				what = MARK_ENTRY;
			break;
		case STMT_FOR:
			mark_block(f, &s->loop.body, recipe);
			break;
		case STMT_IF:
			for (u32 k = 0; k < s->branch.n; k++)
				mark_block(f, &s->branch.v[k].body, recipe);
			break;
		case STMT_SCOPE:
			mark_block(f, &s->scope.body, recipe);
			break;
		case STMT_DIRECTIVE:
			mark_block(f, &s->directive.body, recipe);
			break;
		default:
			break;
		}
		mark(f, s->loc, what);
	}
}

static void mark_all(Format *f, const Ast *ast)
{
	for (u32 i = 0; i < ast->ndecl; i++) {
		const Decl *d = ast->decl[i];
		mark_block(f, &d->body, d->kind == DECL_RECIPE || d->kind == DECL_CONFIG ||
						d->kind == DECL_PRESET);
		mark(f, d->word.loc, MARK_DECLARATION);
	}
}

/* ---- lines and spaces -------------------------------------------------------------------- */

static bool opens(int kind)
{
	return kind == '(' || kind == '[' || kind == '{';
}

static bool closes(int kind)
{
	return kind == ')' || kind == ']' || kind == '}';
}

/* Whether a value may end with it, so that a sign after it has two operands. */
static bool ends_value(int kind)
{
	return kind == T_NAME || kind == T_NUMBER || kind == T_STRING || kind == T_TRUE ||
	       kind == T_FALSE || kind == T_NONE || kind == T_ELLIPSIS || closes(kind);
}

/* The last piece before i that is no comment, or NULL. */
static Piece *before(Format *f, u32 i)
{
	while (i-- > 0)
		if (f->piece[i].kind != TOKEN_COMMENT && !f->piece[i].omit)
			return &f->piece[i];
	return NULL;
}

/* The next piece from i on that is no comment, or NULL. */
static Piece *after(Format *f, u32 i)
{
	for (; i < f->n; i++)
		if (f->piece[i].kind != TOKEN_COMMENT && !f->piece[i].omit)
			return &f->piece[i];
	return NULL;
}

/* Pairs brackets, tells records from blocks as tokens.c does. Gives in inner[i] the bracket that
 * piece i stands in, or UINT32_MAX. */
static u32 *pair_brackets(Format *f)
{
	u32 *inner = NEWN(f->arena, u32, f->n + 1), depth = 0, *stack;
	stack = NEWN(f->arena, u32, f->n + 1);
	for (u32 i = 0; i < f->n; i++) {
		Piece *x = &f->piece[i];
		if (closes(x->kind) && depth) {
			Piece *open = &f->piece[stack[--depth]];
			open->partner = i;
			x->partner = stack[depth];
			x->record = open->record;
		}
		inner[i] = depth ? stack[depth - 1] : UINT32_MAX;
		if (opens(x->kind)) {
			const Piece *last = before(f, i);
			x->record = x->kind == '{' && last && token_continues(last->kind) &&
				    last->kind != '{' && last->kind != ';' &&
				    x->mark == MARK_NONE;
			x->partner = i;
			stack[depth++] = i;
		}
	}
	return inner;
}

static bool in_block(const Format *f, const u32 *inner, u32 i)
{
	return inner[i] == UINT32_MAX ||
	       (f->piece[inner[i]].kind == '{' && !f->piece[inner[i]].record);
}

static void break_lines(Format *f, const u32 *inner)
{
	for (u32 i = 0; i < f->n; i++) {
		Piece *x = &f->piece[i];
		x->breaks = i == 0 || x->line > f->piece[i - 1].line;
		x->blank = i > 0 && x->line > f->piece[i - 1].line + 1 && in_block(f, inner, i);
	}
	for (u32 i = 0; i < f->n; i++) {
		Piece *x = &f->piece[i];
		if (x->kind == '{' && !x->record && x->line != f->piece[x->partner].line) {
			f->piece[x->partner].breaks = true;
			if (f->piece[i + 1].kind != TOKEN_COMMENT)
				f->piece[i + 1].breaks = true;
		}
		if (x->kind == T_ELSE && x->breaks && i && f->piece[i - 1].kind == '}' &&
		    in_block(f, inner, i))
			x->breaks = x->blank = false;
		if (x->blank && (f->piece[i - 1].kind == '{' || x->kind == '}'))
			x->blank = false;
		/* The comment behind a brace is not the block's first line. */
		if (x->blank && f->piece[i - 1].kind == TOKEN_COMMENT && i > 1 &&
		    !f->piece[i - 1].breaks && f->piece[i - 2].kind == '{')
			x->blank = false;
	}
	for (u32 i = 0; i < f->n; i++) {
		Piece *x = &f->piece[i];
		if (x->kind != ';' || !in_block(f, inner, i))
			continue;
		const Piece *last = before(f, i), *next = after(f, i + 1);
		if (!last || last->kind == '{' || !next || next->kind == '}' ||
		    next->kind == ';' || next->breaks || x->breaks) {
			x->omit = true;
			if (x->breaks && i + 1 < f->n) {
				f->piece[i + 1].breaks = true;
				f->piece[i + 1].blank |= x->blank;
			}
		}
	}
}

static bool wants_space(const Piece *last, const Piece *x, bool unary_before, bool in_index)
{
	switch (x->kind) {
	case ',': case ';': case ')': case ']': case T_RANGE: case T_POW:
		return false;
	case ':':
		return last->kind == ','; /* x[:, ::2] */
	case '.':
		return last->kind == T_NUMBER; /* `3.x` would be another lexeme */
	case '(': case '[':
		if (last->kind == T_NAME && str_equal(last->text, STR("from"))) /* eps = 1e-5 from ["eps", "norm.eps"] */
			return true;
		if (last->kind == T_NAME || last->kind == T_STRING || last->kind == ')' ||
		    last->kind == ']' || last->kind == T_NUMBER)
			return false;
		break;
	}
	switch (last->kind) {
	case '(': case '[': case '.': case T_RANGE: case T_POW:
		return false;
	case ':':
		return !in_index;
	}
	return !unary_before;
}

static void space_pieces(Format *f, const u32 *inner)
{
	const Piece *last = NULL;
	bool unary = false;
	for (u32 i = 0; i < f->n; i++) {
		Piece *x = &f->piece[i];
		if (x->kind == TOKEN_COMMENT || x->omit)
			continue;
		bool in_index = inner[i] != UINT32_MAX && f->piece[inner[i]].kind == '[';
		x->space = last && wants_space(last, x, unary, in_index);
		bool begins = x->mark != MARK_NONE || !last || !ends_value(last->kind);
		unary = (x->kind == '-' || x->kind == '+') && begins;
		last = x;
	}
}

/* The text of a piece: numbers have one space before their unit, comments no white end. */
static Str piece_text(Format *f, const Piece *x)
{
	Str t = x->text;
	if (x->kind == TOKEN_COMMENT)
		while (t.n && (u8)t.s[t.n - 1] <= ' ')
			t.n--;
	if (x->kind != T_NUMBER || t.s[t.n - 1] != 'B')
		return t;
	size_t unit = t.n;
	while (unit && strchr("kKMGTPiB", t.s[unit - 1]))
		unit--;
	size_t digits = unit;
	while (digits && (t.s[digits - 1] == ' ' || t.s[digits - 1] == '\t'))
		digits--;
	return str_of(arena_printf(f->arena, "%.*s %.*s", (int)digits, t.s, (int)(t.n - unit),
				   t.s + unit));
}

/* Columns that a text takes: bytes inside a UTF-8 character take none. */
static u32 columns(Str t)
{
	u32 n = 0;
	for (size_t i = 0; i < t.n; i++)
		n += ((u8)t.s[i] & 0xC0) != 0x80;
	return n;
}

static void make_lines(Format *f)
{
	for (u32 i = 0; i < f->n; i++) {
		const Piece *x = &f->piece[i];
		if (x->omit)
			continue;
		Line *last = f->line.n ? &f->line.v[f->line.n - 1] : NULL;
		if (x->kind == TOKEN_COMMENT && last && !x->breaks) {
			last->comment = i;
			continue;
		}
		/* What follows a comment begins a line whatever was decided. */
		if (!last || x->breaks || last->comment != NO_COMMENT) {
			bool comment = x->kind == TOKEN_COMMENT;
			VEC_PUSH(f->arena, &f->line,
				 (Line){ .first = i, .end = comment ? i : i + 1,
					 .comment = comment ? i : NO_COMMENT, .blank = x->blank });
			continue;
		}
		last->end = i + 1;
	}
	for (u32 k = 1; k < f->line.n; k++) {
		Line *l = &f->line.v[k], *up = l - 1;
		l->behind = l->first == l->end && !l->blank && up->comment != NO_COMMENT &&
			    (up->behind || up->first != up->end) &&
			    f->piece[l->comment].column == f->piece[up->comment].column;
	}
}

/* ---- blank lines between declarations ---------------------------------------------------- */

static void separate_declarations(Format *f)
{
	bool before_is_long = false;
	u32 previous = UINT32_MAX;
	for (u32 k = 0; k < f->line.n; k++) {
		Line *l = &f->line.v[k];
		if (l->first == l->end || f->piece[l->first].mark != MARK_DECLARATION)
			continue;
		/* Long: more lines with code before the next declaration. */
		u32 end = k + 1;
		while (end < f->line.n && (f->line.v[end].first == f->line.v[end].end ||
					   f->piece[f->line.v[end].first].mark != MARK_DECLARATION))
			end++;
		bool is_long = false;
		for (u32 j = k + 1; j < end; j++)
			is_long |= f->line.v[j].first != f->line.v[j].end;
		u32 at = k;
		while (at > 0 && !f->line.v[at].blank &&
		       f->line.v[at - 1].first == f->line.v[at - 1].end &&
		       !f->line.v[at - 1].behind)
			at--;
		if (previous != UINT32_MAX && (is_long || before_is_long))
			f->line.v[at].blank = true;
		before_is_long = is_long;
		previous = k;
	}
}

/* ---- tables ------------------------------------------------------------------------------ */

/* The piece of line l that is `kind`, outside brackets that the line opens; or none: 0. */
static u32 find_outside(const Format *f, const Line *l, int kind, u32 from)
{
	int depth = 0;
	for (u32 i = from; i < l->end; i++) {
		int k = f->piece[i].kind;
		if (depth == 0 && k == kind)
			return i;
		depth += opens(k) ? 1 : closes(k) ? -1 : 0;
		if (depth < 0)
			return 0;
	}
	return 0;
}

/* Columns from the start of the line's code to piece `to`. */
static u32 width_to(Format *f, const Line *l, u32 to)
{
	u32 n = 0;
	for (u32 i = l->first; i < to; i++) {
		const Piece *x = &f->piece[i];
		if (!x->omit)
			n += (i > l->first && x->space) + x->pad + columns(piece_text(f, x));
	}
	return n;
}

static u32 statements_on(const Format *f, const Line *l)
{
	u32 n = 0;
	for (u32 i = l->first; i < l->end; i++)
		n += f->piece[i].mark != MARK_NONE;
	return n;
}

/* Lines up, in the lines [from, to) that begin with a statement, the piece that `cell` gives. */
static void line_up(Format *f, const u32 *row, u32 n, u32 (*cell)(const Format *, const Line *))
{
	u32 most = 0;
	for (u32 k = 0; k < n; k++) {
		const Line *l = &f->line.v[row[k]];
		u32 at = cell(f, l);
		if (at)
			most = MAX(most, width_to(f, l, at));
	}
	for (u32 k = 0; k < n; k++) {
		const Line *l = &f->line.v[row[k]];
		u32 at = cell(f, l);
		if (at)
			f->piece[at].pad = most - width_to(f, l, at);
	}
}

static u32 cell_type(const Format *f, const Line *l)
{
	u32 colon = find_outside(f, l, ':', l->first);
	return colon && colon + 1 < l->end ? colon + 1 : 0;
}

static u32 cell_value(const Format *f, const Line *l)
{
	return find_outside(f, l, '=', l->first);
}

static void align_tables(Format *f)
{
	u32 *row = NEWN(f->arena, u32, f->line.n + 1), n = 0;
	Mark kind = MARK_NONE;
	for (u32 k = 0; k <= f->line.n; k++) {
		const Line *l = k < f->line.n ? &f->line.v[k] : NULL;
		Mark m = MARK_NONE;
		if (l && l->first != l->end) {
			m = f->piece[l->first].mark;
			/* The rest of a statement that began above belongs to its row. */
			if (m == MARK_NONE && n && !l->blank && !closes(f->piece[l->first].kind) &&
			    statements_on(f, l) == 0)
				continue;
			if ((m != MARK_DECLARE && m != MARK_ENTRY) || statements_on(f, l) != 1)
				m = MARK_NONE;
		}
		if (n && (m != kind || (l && l->blank))) {
			if (kind == MARK_DECLARE)
				line_up(f, row, n, cell_type);
			line_up(f, row, n, cell_value);
			n = 0;
		}
		kind = m;
		if (m != MARK_NONE)
			row[n++] = k;
	}
}

/* ---- indentation ------------------------------------------------------------------------- */

typedef struct Open {
	u32 base;  /* the indentation of what closes it */
	u32 inner; /* of the lines inside */
	bool block;
} Open;

typedef struct Layout {
	Format *f;
	Open *open; /* a stack */
	u32 depth;
	u32 statement; /* indentation of the statement being printed */
} Layout;

static u32 indentation(Layout *y, const Line *l)
{
	Format *f = y->f;
	const Piece *x = &f->piece[l->first];
	u32 closing = 0;
	while (l->first + closing < l->end && closes(f->piece[l->first + closing].kind))
		closing++;
	closing = MIN(closing, y->depth);
	if (closing) {
		const Open *o = &y->open[y->depth - closing];
		if (o->block)
			y->statement = o->base;
		return o->base;
	}
	const Open *o = y->depth ? &y->open[y->depth - 1] : NULL;
	if (o && !o->block)
		return o->inner;
	u32 indent = o ? o->inner : 0;
	if (x->kind == TOKEN_COMMENT)
		return indent;
	if (x->mark == MARK_NONE && x->kind != T_ELSE && l->first > 0)
		return indent + 4;
	y->statement = indent;
	return indent;
}

static void lay_out(Layout *y, Line *l)
{
	Format *f = y->f;
	Buf b = { .arena = f->arena };
	u32 indent = indentation(y, l), column = indent;
	buf_printf(&b, "%*s", (int)indent, "");
	for (u32 i = l->first; i < l->end; i++) {
		const Piece *x = &f->piece[i];
		if (x->omit)
			continue;
		u32 spaces = (i > l->first && x->space) + x->pad;
		Str text = piece_text(f, x);
		buf_printf(&b, "%*s", (int)spaces, "");
		buf_put(&b, text);
		column += spaces + columns(text);
		if (closes(x->kind) && y->depth)
			y->depth--;
		if (!opens(x->kind))
			continue;
		Open *o = &y->open[y->depth++];
		if (x->kind == '{' && !x->record)
			*o = (Open){ y->statement, y->statement + 2, true };
		else if (i + 1 == l->end)
			*o = (Open){ indent, indent + 2, false };
		else
			*o = (Open){ indent, column + (x->record ? 1 : 0), false };
	}
	l->code = buf_str(&b);
	l->width = column;
}

/* ---- printing ---------------------------------------------------------------------------- */

/* Comments behind the lines [from, to) stand in one column. */
static void print_lines(Format *f, u32 from, u32 to, FILE *out)
{
	u32 column = 0;
	for (u32 k = from; k < to; k++)
		if (!f->line.v[k].behind)
			column = MAX(column, f->line.v[k].width + 2);
	for (u32 k = from; k < to; k++) {
		const Line *l = &f->line.v[k];
		if (l->blank && k)
			fputc('\n', out);
		bool own = l->first == l->end && !l->behind;
		u32 width = l->behind ? 0 : l->width;
		if (!l->behind)
			fwrite(l->code.s, 1, l->code.n, out);
		if (l->comment != NO_COMMENT) {
			Str text = piece_text(f, &f->piece[l->comment]);
			fprintf(out, "%*s%.*s", own ? 0 : (int)(column - width), "", STR_ARG(text));
		}
		fputc('\n', out);
	}
}

static bool has_comment_behind(const Line *l)
{
	return l->comment != NO_COMMENT && (l->behind || l->first != l->end);
}

void ast_format(const Ast *ast, FILE *to)
{
	Arena arena = ARENA("format");
	Format format = { .arena = &arena, .n = ast->ntoken }, *f = &format;
	f->piece = NEWN(&arena, Piece, f->n + 1);
	const char *line = ast->text.s;
	for (u32 i = 0; i < f->n; i++) {
		const Token *t = &ast->token[i];
		const char *end;
		while ((end = memchr(line, '\n', (size_t)(t->text.s - line))))
			line = end + 1;
		f->piece[i] = (Piece){ .kind = t->kind, .text = t->text, .line = t->line,
				       .column = (u32)(t->text.s - line) + 1 };
	}
	mark_all(f, ast);
	u32 *inner = pair_brackets(f);
	break_lines(f, inner);
	space_pieces(f, inner);
	make_lines(f);
	separate_declarations(f);
	align_tables(f);
	Layout layout = { .f = f, .open = NEWN(&arena, Open, f->n + 1) };
	for (u32 k = 0; k < f->line.n; k++)
		lay_out(&layout, &f->line.v[k]);
	for (u32 k = 0, end; k < f->line.n; k = end) {
		end = k + 1;
		while (has_comment_behind(&f->line.v[k]) && end < f->line.n &&
		       !f->line.v[end].blank && has_comment_behind(&f->line.v[end]))
			end++;
		print_lines(f, k, end, to);
	}
	arena_free(&arena);
}
