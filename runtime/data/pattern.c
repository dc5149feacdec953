/* runtime/data/pattern.c: see pattern.h. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "runtime/data/pattern.h"
#include "runtime/data/unicode.h"
#include "support/str.h"

#include <pcre2.h>
#include <string.h>

struct Pattern {
	Str literal; /* no expression: this text */
	pcre2_code *code;
	pcre2_match_data *match;
};

enum { PATTERN_MOST = 64 << 10 }; /* bytes of an expression: those of tokenizers have hundreds */

static Status says(const char *what, Str text, int why)
{
	PCRE2_UCHAR reason[256];
	pcre2_get_error_message(why, reason, sizeof reason);
	return FAIL(STATUS_INPUT, "%s '%.*s': %s (PCRE2)", what, (int)MIN(text.n, (size_t)200), text.s, (const char *)reason);
}

/* The expression with classes as Oniguruma and Unicode have them. */
static Str spelled_out(Arena *a, Str text)
{
	Buf b = { .arena = a };
	bool in_class = false;
	for (size_t i = 0; i < text.n; i++) {
		char c = text.s[i];
		if (c != '\\' || i + 1 == text.n) {
			in_class = c == '[' ? true : c == ']' ? false : in_class;
			buf_char(&b, c);
			continue;
		}
		char kind = text.s[++i];
		const char *class = kind == 's' ? PATTERN_SPACE : kind == 'w' ? "\\p{L}\\p{M}\\p{Nd}\\p{Pc}" : kind == 'd' ? "\\p{Nd}" : NULL;
		if (class)
			buf_printf(&b, in_class ? "%s" : "[%s]", class);
		else if (kind == 'S' && !in_class)
			buf_put(&b, STR("[^" PATTERN_SPACE "]"));
		else
			buf_printf(&b, "\\%c", kind);
	}
	return b.n ? buf_str(&b) : STR("");
}

Status pattern_make(Arena *a, Str text, bool literal, Pattern **out)
{
	Pattern *p = NEW(a, Pattern);
	*out = p;
	if (literal) {
		if (!text.n)
			return FAIL(STATUS_INPUT, "an empty text cannot be looked for");
		p->literal = (Str){ arena_strn(a, text), text.n };
		return OK;
	}
	if (text.n > PATTERN_MOST)
		return FAIL(STATUS_INPUT, "a regular expression of %zu bytes is too long", text.n);
	int why;
	size_t where;
	Str spelled = spelled_out(a, text);
	p->code = pcre2_compile((PCRE2_SPTR)spelled.s, spelled.n, PCRE2_UTF | PCRE2_UCP, &why, &where, NULL);
	if (!p->code)
		return says("cannot compile the regular expression", text, why);
	/* where memory may not be both written and run, PCRE2 interprets: slower, the same matches */
	pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE);
	p->match = pcre2_match_data_create_from_pattern(p->code, NULL);
	if (p->match)
		return OK;
	pattern_free(p);
	return FAIL(STATUS_MEMORY, "no memory to match a regular expression");
}

void pattern_free(Pattern *p)
{
	if (!p)
		return;
	pcre2_match_data_free(p->match);
	pcre2_code_free(p->code);
	*p = (Pattern){ .literal = p->literal };
}

Str pattern_sees(Arena *a, const Pattern *p, Str text)
{
	if (p->literal.n || !unicode_newer(text))
		return text;
	char *copy = COPYN(a, char, text.s, text.n);
	unicode_stand_in(copy, text.n);
	return (Str){ copy, text.n };
}

Status pattern_find(const Pattern *p, Str text, size_t from, size_t *begin, size_t *end, bool *found)
{
	*found = false;
	if (p->literal.n) {
		const char *at = from < text.n ? memmem(text.s + from, text.n - from, p->literal.s, p->literal.n) : NULL;
		*found = at != NULL;
		*begin = at ? (size_t)(at - text.s) : 0;
		*end = *begin + p->literal.n;
		return OK;
	}
	while (from <= text.n) {
		int got = pcre2_match(p->code, (PCRE2_SPTR)text.s, text.n, from, PCRE2_NO_UTF_CHECK, p->match, NULL);
		if (got == PCRE2_ERROR_NOMATCH)
			return OK;
		if (got < 0)
			return says("cannot look for the regular expression of the tokenizer in", text, got);
		const size_t *span = pcre2_get_ovector_pointer(p->match);
		*begin = span[0];
		*end = span[1];
		*found = *end > *begin;
		if (*found)
			return OK;
		/* an empty match, or one set back by \K: on behind it, at the next character */
		from = MAX(from, span[1]) + 1;
		while (from < text.n && ((u8)text.s[from] & 0xc0) == 0x80)
			from++;
	}
	return OK;
}
