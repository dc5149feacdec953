/* ir/scan.c: see scan.h. */
#include "ir/scan.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_DIM_TEXT = 400 }; /* bytes of one dimension: dim_parse is quadratic */

Loc scan_here(const Scanner *s, size_t length)
{
	size_t column = (size_t)(s->p - s->line_start) + 1;
	return (Loc){ s->line, (u16)MIN(column, (size_t)UINT16_MAX),
		      (u16)MIN(length, (size_t)UINT16_MAX), s->file };
}

Loc scan_since(const Scanner *s, const char *from)
{
	size_t column = (size_t)(from - s->line_start) + 1;
	return (Loc){ s->line, (u16)MIN(column, (size_t)UINT16_MAX),
		      (u16)MIN((size_t)(s->p - from), (size_t)UINT16_MAX), s->file };
}

void scan_space(Scanner *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\r'))
		s->p++;
	if (s->p < s->end && *s->p == '#')
		while (s->p < s->end && *s->p != '\n')
			s->p++;
}

bool scan_at_end(Scanner *s)
{
	scan_space(s);
	return s->p == s->end || *s->p == '\n';
}

void scan_skip_line(Scanner *s)
{
	while (s->p < s->end && *s->p != '\n')
		s->p++;
	if (s->p < s->end) {
		s->p++;
		s->line++;
		s->line_start = s->p;
	}
}

/* Past blank lines; false at the end of the text. */
bool scan_next_line(Scanner *s)
{
	while (scan_at_end(s)) {
		if (s->p == s->end)
			return false;
		scan_skip_line(s);
	}
	return true;
}

Str scan_ahead(Scanner *s)
{
	scan_space(s);
	const char *to = s->p;
	while (to < s->end && text_word_char(*to))
		to++;
	return (Str){ s->p, (size_t)(to - s->p) };
}

/* "expected X, found Y" */
bool scan_unexpected(Scanner *s, const char *wanted)
{
	Str word = scan_ahead(s);
	if (scan_at_end(s))
		return diag_error(s->ir->diag, E0700, scan_here(s, 1),
				  "expected %s, found the end of the line", wanted);
	if (word.n)
		return diag_error(s->ir->diag, E0700, scan_here(s, word.n),
				  "expected %s, found '%.*s'", wanted, (int)MIN(word.n, (size_t)60),
				  word.s);
	u8 c = (u8)*s->p;
	if (c < ' ' || c >= 0x7f)
		return diag_error(s->ir->diag, E0700, scan_here(s, 1),
				  "expected %s, found the byte 0x%02x", wanted, c);
	return diag_error(s->ir->diag, E0700, scan_here(s, 1), "expected %s, found '%c'", wanted,
			  c);
}

bool scan_accept(Scanner *s, char c)
{
	scan_space(s);
	if (s->p == s->end || *s->p != c)
		return false;
	s->p++;
	return true;
}

bool scan_expect(Scanner *s, char c)
{
	if (scan_accept(s, c))
		return true;
	const char wanted[] = { '\'', c, '\'', 0 };
	return scan_unexpected(s, wanted);
}

bool scan_accept_word(Scanner *s, const char *word)
{
	Str w = scan_ahead(s);
	if (!str_equal(w, str_of(word)))
		return false;
	s->p += w.n;
	return true;
}

bool scan_end_line(Scanner *s)
{
	return scan_at_end(s) || scan_unexpected(s, "the end of the line");
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 32;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* After the opening quote. */
bool scan_quoted(Scanner *s, Str *out)
{
	const char *from = s->p - 1;
	Buf b = { .arena = &s->tmp };
	for (;;) {
		if (s->p == s->end || *s->p == '\n')
			return diag_error(s->ir->diag, E0700, scan_since(s, from),
					  "this text has no closing quote");
		char c = *s->p++;
		if (c == '"')
			break;
		if (c == '\\' && s->p < s->end) {
			char e = *s->p++;
			int high, low;
			if (e == 'n')
				c = '\n';
			else if (e == 't')
				c = '\t';
			else if (e == '"' || e == '\\')
				c = e;
			else if (e == 'x' && s->end - s->p >= 2 && (high = hex(s->p[0])) >= 0 &&
				 (low = hex(s->p[1])) >= 0) {
				c = (char)(high * 16 + low);
				s->p += 2;
			} else {
				return diag_error(s->ir->diag, E0700, scan_since(s, s->p - 2),
						  "an escape is one of \\n \\t \\\" \\\\ \\x and "
						  "two hex digits");
			}
		}
		if (c == 0)
			return diag_error(s->ir->diag, E0700, scan_since(s, from),
					  "a text cannot hold a zero byte");
		buf_char(&b, c);
	}
	*out = buf_str(&b);
	return true;
}

/* A bare word or a quoted text, interned in `in`. */
bool scan_word(Scanner *s, Interner *in, const char *wanted, const char **out)
{
	Str w = scan_ahead(s);
	if (w.n)
		s->p += w.n;
	else if (scan_accept(s, '"')) {
		if (!scan_quoted(s, &w))
			return false;
	} else
		return scan_unexpected(s, wanted);
	*out = intern(in, w);
	return true;
}

bool scan_name(Scanner *s, const char *wanted, const char **out)
{
	return scan_word(s, &s->ir->names, wanted, out);
}

bool scan_integer(Scanner *s, i64 least, i64 most, const char *wanted, i64 *out)
{
	scan_space(s);
	const char *from = s->p;
	bool minus = s->p < s->end && *s->p == '-';
	s->p += minus;
	i64 n = 0;
	bool fits = true;
	const char *digits = s->p;
	for (; s->p < s->end && *s->p >= '0' && *s->p <= '9'; s->p++)
		/* negative numbers reach one further, so digits are taken away from 0 */
		fits = fits && !__builtin_mul_overflow(n, 10, &n) &&
		       !__builtin_sub_overflow(n, *s->p - '0', &n);
	if (s->p == digits) {
		s->p = from;
		return scan_unexpected(s, wanted);
	}
	if (fits && !minus)
		fits = !__builtin_sub_overflow(0, n, &n);
	if (!fits || n < least || n > most)
		return diag_error(s->ir->diag, E0700, scan_since(s, from),
				  "%s is from %lld to %lld", wanted, (long long)least,
				  (long long)most);
	*out = n;
	return true;
}

bool scan_float(Scanner *s, f64 *out)
{
	scan_space(s);
	const char *from = s->p;
	char text[64];
	size_t n = 0;
	while (s->p < s->end && n < sizeof text - 1 &&
	       (text_word_char(*s->p) || *s->p == '+' || *s->p == '(' || *s->p == ')'))
		text[n++] = *s->p++;
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
		s->p = from;
		return scan_unexpected(s, "a number");
	}
	if (strcmp(text, "nan") == 0) {
		*out = (f64)NAN;
		return true;
	}
	char *rest = text;
	f64 x = strtod(text, &rest);
	if (n == 0 || rest != text + n || isnan(x)) {
		s->p = from;
		return scan_unexpected(s, "a number");
	}
	*out = x;
	return true;
}

/* An expression over symbols: as far as words and operators alternate. */
bool scan_dim(Scanner *s, Dim *out)
{
	scan_space(s);
	const char *from = s->p, *to = s->p, *q = s->p;
	bool operand = true;
	while (q < s->end) {
		if (*q == ' ') {
			q++;
		} else if (operand && *q == '-') {
			q++;
		} else if (operand && (text_word_char(*q) && *q != '/')) {
			while (q < s->end && text_word_char(*q) && *q != '/' && *q != '-')
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
		return scan_unexpected(s, "a dimension");
	s->p = to;
	Dim d = to - from <= MOST_DIM_TEXT ? dim_parse(s->ir, (Str){ from, (size_t)(to - from) })
					   : NULL;
	if (!d)
		return diag_error(
			s->ir->diag, E0700, scan_since(s, from),
			"this is no dimension: a sum of products of symbols and whole numbers, "
			"such as 4*D + T/2");
	*out = d;
	return true;
}
