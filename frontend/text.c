/* frontend/text.c: what is inside a string: escapes, and holes `{expression}` that elaboration
 * fills. Braces around a list with commas, "{q,v}_proj", are a pattern's alternatives and stay. */
#include "frontend/syntax.h"

#include <string.h>

/* The place of byte i of `span`, which stands at `loc`. */
static Loc inside(Loc loc, size_t i, size_t n)
{
	loc.column = (u16)MIN(loc.column + i, (size_t)UINT16_MAX);
	loc.length = (u16)MIN(n, (size_t)UINT16_MAX);
	return loc;
}

/* The index of the brace that closes the one at `open`, or n; *comma: one stands right inside. */
static size_t closing(const char *s, size_t n, size_t open, bool *comma)
{
	int depth = 0;
	*comma = false;
	for (size_t i = open; i < n; i++) {
		if (s[i] == '\\')
			i++;
		else if (s[i] == '{' || s[i] == '(' || s[i] == '[')
			depth++;
		else if (s[i] == ',' && depth == 1)
			*comma = true;
		else if (s[i] == ')' || s[i] == ']' || s[i] == '}') {
			if (--depth == 0)
				return s[i] == '}' ? i : n;
		}
	}
	return n;
}

typedef struct Reader {
	Parser *p;
	Text *text;
	TextPartList part;
	Buf whole, piece;
} Reader;

static void end_piece(Reader *r)
{
	if (!r->piece.n)
		return;
	const char *text = intern(r->p->names, buf_str(&r->piece));
	VEC_PUSH(r->p->arena, &r->part, (TextPart){ .text = text });
	r->piece.n = 0;
}

static void literal(Reader *r, Str text)
{
	buf_put(&r->whole, text);
	buf_put(&r->piece, text);
}

static void hole(Reader *r, Str content, Loc loc)
{
	Parser *p = r->p;
	end_piece(r);
	buf_printf(&r->whole, "{%.*s}", STR_ARG(content));
	size_t blank = 0;
	while (blank < content.n && (content.s[blank] == ' ' || content.s[blank] == '\t'))
		blank++;
	if (blank == content.n) {
		diag_error(p->diag, E0102, loc, "nothing stands between these braces");
		diag_note(p->diag, (Loc){ 0 }, "a brace that is meant as such is written \\{");
		return;
	}
	Expr *e = parse_hole(p, content, inside(loc, 1, content.n));
	if (!e)
		return;
	VEC_PUSH(p->arena, &r->part, (TextPart){ .hole = e });
	r->text->nhole++;
}

static bool escape(Reader *r, char c)
{
	static const char from[] = "nt\"\\{}", to[] = "\n\t\"\\{}";
	const char *at = c ? strchr(from, c) : NULL;
	if (!at)
		return false;
	literal(r, (Str){ &to[at - from], 1 });
	return true;
}

Text *text_string(Parser *p, Str span, Loc loc)
{
	Text *text = NEW(p->arena, Text);
	Reader r = { .p = p, .text = text, .whole.arena = p->arena, .piece.arena = p->arena };
	text->loc = loc;
	/* The quotes; one that is not closed was told about and lacks the second. */
	const char *s = span.s;
	size_t n = span.n, end = n > 1 && s[n - 1] == s[0] ? n - 1 : n;
	for (size_t i = 1; i < end; i++) {
		if (s[i] == '\\') {
			char c = i + 1 < end ? s[i + 1] : 0;
			if (!escape(&r, c) && c) {
				diag_error(p->diag, E0102, inside(loc, i, 2),
					   "there is no escape \\%c", c);
				diag_note(p->diag, (Loc){ 0 },
					  "these are: \\n \\t \\\" \\\\ \\{ \\}");
			}
			i++;
		} else if (s[i] == '{') {
			bool alternatives;
			size_t close = closing(s, end, i, &alternatives);
			if (close == end) {
				diag_error(p->diag, E0102, inside(loc, i, 1),
					   "this `{` in a string is not closed");
				diag_note(p->diag, (Loc){ 0 },
					  "a brace that is meant as such is written \\{");
				break;
			}
			if (alternatives)
				literal(&r, (Str){ s + i, close + 1 - i });
			else
				hole(&r, (Str){ s + i + 1, close - i - 1 },
				     inside(loc, i, close + 1 - i));
			i = close;
		} else if (s[i] == '}') {
			diag_error(p->diag, E0102, inside(loc, i, 1),
				   "no `{` is open for this `}` in a string");
			diag_note(p->diag, (Loc){ 0 },
				  "a brace that is meant as such is written \\}");
		} else
			literal(&r, (Str){ s + i, 1 });
	}
	end_piece(&r);
	text->text = intern(p->names, buf_str(&r.whole));
	text->part = r.part.v;
	text->npart = r.part.n;
	return text;
}

/* A path of names has one part. */
static Text *bare(Parser *p, const char *path, Loc loc)
{
	Text *text = NEW(p->arena, Text);
	text->loc = loc;
	text->text = path;
	text->bare = true;
	text->npart = 1;
	text->part = NEW(p->arena, TextPart);
	text->part->text = path;
	return text;
}

Text *text_path(Parser *p, Name first)
{
	return bare(p, first.text, first.loc);
}

Text *text_path_more(Parser *p, Text *path, Name next)
{
	return bare(p, intern_printf(p->names, "%s.%s", path->text, next.text),
		    loc_join(path->loc, next.loc));
}
