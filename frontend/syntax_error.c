/* frontend/syntax_error.c: syntax errors in the words people use. What was found, what may stand
 * there (in groups: "a value", "a name", signs as they are), and a note where a habit from another
 * language or a usual slip explains it. */
#include "frontend/syntax.h"
#include "frontend/parse.h"

#include <string.h>

static const struct {
	const char *word, *instead;
} foreign[] = {
	{ "def", "a function is `function name(x) { ... }`, a layer `module Name(x) { ... }`" },
	{ "fn", "a function is `function name(x) { ... }`" },
	{ "func", "a function is `function name(x) { ... }`" },
	{ "class", "a layer is `module Name(x: [B, D]) -> [B, D] { ... }`" },
	{ "struct", "a group of values is `config { name { ... } }`" },
	{ "import", "other files are read with `use std.nn`" },
	{ "include", "other files are read with `use std.nn`" },
	{ "elif", "this is written `else if`" },
	{ "while", "loops are `for i in 0..n { ... }`, over what is known at compile time" },
	{ "let", "names need no word before them: `x = ...`" },
	{ "var", "names need no word before them: `x = ...`" },
	{ "const", "names need no word before them: `x = ...`; sizes go to `config { }`" },
	{ "lambda", "there are only named functions: `function name(x) { ... }`" },
	{ "assert", "shapes are checked by the types of parameters and results" },
	{ "del", "names need not be deleted" },
	{ "pass", "an empty block is `{ }`" },
};

const char *foreign_word(const char *word)
{
	for (size_t i = 0; i < COUNT(foreign); i++)
		if (!strcmp(foreign[i].word, word))
			return foreign[i].instead;
	return NULL;
}

const char *nearest_word(const char *written, const char *const *known, u32 n)
{
	const char *best = NULL;
	Str w = str_of(written);
	u32 least = (u32)MAX(w.n / 3, (size_t)1) + 1;
	for (u32 i = 0; i < n; i++) {
		u32 d = edit_distance(w, str_of(known[i]));
		if (d < least) {
			least = d;
			best = known[i];
		}
	}
	return best;
}

/* The number of bytes of the UTF-8 character at s, or 0 when there is none. */
static size_t utf8_length(const u8 *s, const u8 *end)
{
	size_t n = s[0] < 0x80 ? 1 : s[0] < 0xC2 ? 0 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
	if (!n || s[0] > 0xF4 || (size_t)(end - s) < n)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xC0) != 0x80)
			return 0;
	/* Overlong, surrogates, past the last. */
	if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) ||
	    (s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F))
		return 0;
	return n;
}

void check_encoding(Parser *p, Str text)
{
	const u8 *s = (const u8 *)text.s, *end = s + text.n, *line = s;
	u32 number = 1;
	while (s < end) {
		size_t n = utf8_length(s, end), column = (size_t)(s - line) + 1;
		bool blank = *s == ' ' || (*s >= '\t' && *s <= '\r');
		if (!n || (*s < ' ' && !blank) || *s == 0x7F) {
			diag_error(p->diag, E0100,
				   (Loc){ number, (u16)MIN(column, UINT16_MAX), 1, p->ast->file },
				   n ? "a control character (byte 0x%02x) in the text"
				     : "the text is not UTF-8 here (byte 0x%02x)", *s);
			return;
		}
		if (*s == '\n') {
			number++;
			line = s + 1;
		}
		s += n;
	}
}

/* ---- words for tokens -------------------------------------------------------------------- */

static const char *spelling(int kind)
{
	switch (kind) {
	case T_AND: return "`and`";
	case T_OR: return "`or`";
	case T_NOT: return "`not`";
	case T_TRUE: return "`true`";
	case T_FALSE: return "`false`";
	case T_NONE: return "`none`";
	case T_FOR: return "`for`";
	case T_IN: return "`in`";
	case T_IF: return "`if`";
	case T_ELSE: return "`else`";
	case T_RETURN: return "`return`";
	case T_AS: return "`as`";
	case T_ARROW: return "`->`";
	case T_UPDATE: return "`<-`";
	case T_RANGE: return "`..`";
	case T_ELLIPSIS: return "`...`";
	case T_POW: return "`**`";
	case T_FLOOR_DIV: return "`//`";
	case T_EQ: return "`==`";
	case T_NE: return "`!=`";
	case T_LE: return "`<=`";
	case T_GE: return "`>=`";
	case T_RECORD: return "`{`";
	case T_RECORD_END: return "`}`";
	case T_STATIC: return "`;`";
	case T_NAME: return "a name";
	case T_STRING: return "a string";
	case T_NUMBER: return "a number";
	case T_NEWLINE: case T_RECORD_NEWLINE: return "the end of the line";
	}
	return NULL;
}

static const char *found_words(Parser *p, Lexeme x)
{
	switch (x.kind) {
	case 0:
		return p->record ? "end of the file" : "end of the braces";
	case T_NAME:
		return arena_printf(p->arena, "name `%.*s`", STR_ARG(x.span));
	case T_NUMBER:
		return arena_printf(p->arena, "number `%.*s`", STR_ARG(x.span));
	case T_STRING:
		return "string";
	case T_NEWLINE: case T_RECORD_NEWLINE:
		return "end of the line";
	}
	if (spelling(x.kind))
		return spelling(x.kind);
	return arena_printf(p->arena, "`%c`", x.kind);
}

/* ---- what may stand there ---------------------------------------------------------------- */

static bool among(const int *kind, int n, int wanted)
{
	for (int i = 0; i < n; i++)
		if (kind[i] == wanted)
			return true;
	return false;
}

/* ", expected `,` or `)`"; nothing when it would be a long list. */
static const char *expected_words(Parser *p, const int *expected, int n)
{
	enum { MOST = 5 };
	const char *word[MOST + 1];
	int nword = 0;
	bool value = among(expected, n, '[') && among(expected, n, T_NONE);
	bool operation = among(expected, n, '*');
	bool line_end = among(expected, n, T_NEWLINE) || among(expected, n, T_RECORD_NEWLINE);
	if (value)
		word[nword++] = "a value";
	for (int i = 0; i < n && nword <= MOST; i++) {
		int k = expected[i];
		bool starts_value = k == T_NAME || k == T_NUMBER || k == T_STRING || k == T_TRUE ||
				    k == T_FALSE || k == T_NONE || k == '(' || k == '[' ||
				    k == '-' || k == '+' || k == T_NOT || k == T_RECORD;
		bool goes_on = token_is_binary(k) || k == '.' || k == '(' || k == '[' ||
			       k == T_IF || k == T_AS || k == T_NAME;
		if ((value && starts_value) || (operation && goes_on) || k <= 0 || k == T_SOURCE_error)
			continue;
		if (k == T_NEWLINE || k == T_RECORD_NEWLINE || (line_end && k == ';'))
			continue;
		word[nword++] = spelling(k) ? spelling(k) : arena_printf(p->arena, "`%c`", k);
	}
	if (line_end && nword <= MOST)
		word[nword++] = "the end of the line";
	if (!nword || nword > MOST)
		return "";
	Buf b = { .arena = p->arena };
	for (int i = 0; i < nword; i++)
		buf_printf(&b, "%s%s", i == 0 ? ", expected " : i == nword - 1 ? " or " : ", ",
			   word[i]);
	return b.text;
}

/* ---- why it may have happened ------------------------------------------------------------ */

static const char *head_word(Parser *p)
{
	return p->head.kind == T_NAME ? intern(p->names, p->head.span) : "";
}

static bool is_comparison(int kind)
{
	return kind == T_EQ || kind == T_NE || kind == '<' || kind == T_LE || kind == '>' ||
	       kind == T_GE;
}

static const char *hint(Parser *p, const int *expected, int n)
{
	Lexeme x = p->last, before = p->before;
	if (p->divided && p->divided == x.loc.line)
		return COMMENTS_BEGIN_OTHERWISE;
	const char *instead = foreign_word(head_word(p));
	if (instead)
		return arena_printf(p->arena, "`%s` is of another language: %s", head_word(p),
				    instead);
	if (x.kind == T_NAME && foreign_word(intern(p->names, x.span)))
		return foreign_word(intern(p->names, x.span));
	if (x.first && token_is_binary(x.kind) && x.kind != T_NOT)
		return "a line does not go on with an operator at its start: put it at the end of "
		       "the line before, or the whole in parentheses";
	if (is_comparison(x.kind) && !among(expected, n, x.kind) && among(expected, n, T_AND))
		return "comparisons do not chain: write `a < b and b < c`";
	if (x.kind == ':' && among(expected, n, '{'))
		return "a block is written in braces: `{ ... }`";
	if (x.kind == T_NEWLINE && (among(expected, n, '{') || before.kind == ')'))
		return "the `{` stands on the same line";
	if (x.kind == '=' && (p->head.kind == T_IF || among(expected, n, T_EQ)))
		return "a comparison is `==`";
	if (x.kind == T_UPDATE)
		return "`<-` gives a state or parameter its new value; a comparison with a "
		       "negative number needs a space: `< -1`";
	if (x.kind == T_AS)
		return "`as` names a module application, right after its `)`, or a `param`";
	if (x.kind == T_ELSE)
		return "`else` follows the `}` of an `if`, or the condition of `a if c else b`";
	if (x.kind == '=' && !strcmp(head_word(p), "param"))
		return "a parameter is written `param name: [D] = zeros`";
	if (x.kind == '=' && !p->nbracket && p->head.loc.line == x.loc.line)
		return "values at the top of a file stand in `config { }`";
	if (x.kind == ';' || x.kind == T_STATIC)
		return "`;` separates statements, and in a signature what is known at compile time";
	if (among(expected, n, T_NAME) && !among(expected, n, T_NONE) &&
	    (x.kind == T_IN || x.kind == T_AS || x.kind == T_NONE || x.kind == T_TRUE ||
	     x.kind == T_FALSE || x.kind == T_NOT || x.kind == T_AND || x.kind == T_OR ||
	     x.kind == T_FOR || x.kind == T_IF || x.kind == T_RETURN))
		return "this word is reserved and cannot be a name";
	if (x.kind == T_ARROW && among(expected, n, '{'))
		return "a result's type follows the `)` of the parameters";
	return NULL;
}

/* The innermost parenthesis that is open, if the line of p->last looks like another statement. */
static const Bracket *left_open(const Parser *p)
{
	for (u32 i = p->nbracket; i > 0; i--) {
		const Bracket *b = &p->bracket[i - 1];
		if (b->kind == '{')
			return NULL;
		if (b->kind == 'R' || (b->loc.line == p->last.loc.line &&
				       b->loc.column == p->last.loc.column))
			continue;
		bool elsewhere = p->last.first && b->loc.line < p->last.loc.line;
		return elsewhere && p->last.loc.column <= p->head.loc.column ? b : NULL;
	}
	return NULL;
}

void unclosed(Parser *p, const Bracket *b)
{
	const Message *inside = p->diag->first;
	while (inside && (inside->severity != SEV_ERROR || inside->loc.file != b->loc.file ||
			  inside->loc.line < b->loc.line ||
			  (inside->loc.line == b->loc.line && inside->loc.column < b->loc.column)))
		inside = inside->next;
	diag_error(p->diag, E0111, b->loc, "this `%c` is not closed", b->kind == 'R' ? '{' : b->kind);
	if (inside)
		diag_note(p->diag, inside->loc, "this mistake may be why");
}

void grammar_error(Parser *p, const int *expected, int n)
{
	Lexeme x = p->last;
	const Message *told = p->diag->last;
	if (p->too_deep)
		return;
	if (told && told->severity == SEV_ERROR && told->code == E0100 && told->loc.file == x.loc.file && told->loc.line == x.loc.line) {
		token_recover(p); /* what a character without meaning left behind */
		return;
	}
	if (!x.kind && p->nbracket) {
		const Bracket *b = &p->bracket[p->nbracket - 1];
		unclosed(p, b);
		return;
	}
	const Bracket *open = left_open(p);
	if (open) {
		unclosed(p, open);
		diag_note(p->diag, x.loc, "before this line, which begins another statement");
		token_restart(p);
		return;
	}
	if (p->before.kind == T_NAME && among(expected, n, T_NONE)) {
		/* A word after a value was taken for a clause, which needs its own value. */
		diag_error(p->diag, E0110, p->before.loc, "unexpected %s",
			   found_words(p, p->before));
		diag_note(p->diag, (Loc){ 0 },
			  "%s", p->divided == p->before.loc.line ? COMMENTS_BEGIN_OTHERWISE :
			  "after a value may stand an operator, or a clause such as `from \"key\"`; "
			  "units are kB, MB, ... and KiB, MiB, ...");
		token_recover(p);
		return;
	}
	diag_error(p->diag, E0110, x.loc, "unexpected %s%s", found_words(p, x),
		   expected_words(p, expected, n));
	const char *why = hint(p, expected, n);
	if (why)
		diag_note(p->diag, (Loc){ 0 }, "%s", why);
	token_recover(p);
}
