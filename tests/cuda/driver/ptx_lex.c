/* ptx_lex.c: text to tokens. Reads characters, skips blanks and comments; a modifier (".shared::cta")
 * is one token, so an opcode is a word and the dots that follow it. */
#include "ptx.h"
#include <ctype.h>
#include <stdlib.h>

static void skip_blanks(Lexer *x)
{
	while (x->at < x->end) {
		char c = *x->at;
		if (c == '\n')
			x->line++;
		if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
			x->at++;
		} else if (c == '/' && x->at + 1 < x->end && x->at[1] == '/') {
			while (x->at < x->end && *x->at != '\n')
				x->at++;
		} else if (c == '/' && x->at + 1 < x->end && x->at[1] == '*') {
			x->at += 2;
			while (x->at + 1 < x->end && !(x->at[0] == '*' && x->at[1] == '/')) {
				if (*x->at == '\n')
					x->line++;
				x->at++;
			}
			x->at = x->at + 2 <= x->end ? x->at + 2 : x->end;
		} else {
			return;
		}
	}
}

static bool word_char(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '$';
}

/* 12, 0x1F, 0b101, 017, 12U, 0f3F800000, 0d3FF0000000000000, 1.5, 1e9. */
static Token number(Lexer *x)
{
	Token t = { .kind = TOKEN_NUMBER, .line = x->line, .text = { x->at, 0 } };
	const char *p = x->at;
	char buffer[80];
	if (p[0] == '0' && p + 1 < x->end && (p[1] == 'f' || p[1] == 'F' || p[1] == 'd' || p[1] == 'D')) {
		t.is_float = true;
		t.is_single = p[1] == 'f' || p[1] == 'F';
		p += 2;
		for (u32 n = t.is_single ? 8 : 16; n && p < x->end && isxdigit((unsigned char)*p); n--, p++)
			t.bits = t.bits << 4 | (u64)(isdigit((unsigned char)*p) ? *p - '0' : (*p | 32) - 'a' + 10);
	} else {
		size_t n = 0;
		bool hex = p[0] == '0' && p + 1 < x->end && (p[1] == 'x' || p[1] == 'X');
		bool binary = p[0] == '0' && p + 1 < x->end && (p[1] == 'b' || p[1] == 'B');
		while (p < x->end && n + 1 < sizeof buffer) {
			bool sign = !hex && n && (*p == '+' || *p == '-') && (buffer[n - 1] | 32) == 'e';
			if (!word_char(*p) && !sign && !(*p == '.' && p + 1 < x->end && isdigit((unsigned char)p[1])))
				break;
			if (!hex && (*p == '.' || (*p | 32) == 'e'))
				t.is_float = true;
			buffer[n++] = *p++;
		}
		buffer[n] = 0;
		if (t.is_float) {
			f64 v = strtod(buffer, NULL);
			memcpy(&t.bits, &v, 8);
		} else {
			t.bits = strtoull(binary ? buffer + 2 : buffer, NULL, binary ? 2 : 0);
		}
	}
	t.text.n = (size_t)(p - x->at);
	x->at = p;
	return t;
}

Token ptx_next(Lexer *x)
{
	skip_blanks(x);
	Token t = { .kind = TOKEN_END, .line = x->line, .text = { x->at, 0 } };
	if (x->at >= x->end)
		return t;
	const char *p = x->at;
	char c = *p;
	if (isdigit((unsigned char)c))
		return number(x);
	if (isalpha((unsigned char)c) || c == '_' || c == '$' || c == '%') {
		t.kind = TOKEN_WORD;
		for (p++; p < x->end && word_char(*p);)
			p++;
		t.text.n = (size_t)(p - x->at);
	} else if (c == '.' && p + 1 < x->end && word_char(p[1])) {
		t.kind = TOKEN_DOT;
		for (p++; p < x->end;) {
			if (word_char(*p))
				p++;
			else if (p + 2 < x->end && p[0] == ':' && p[1] == ':' && word_char(p[2]))
				p += 2;
			else
				break;
		}
		t.text = (Str){ x->at + 1, (size_t)(p - x->at - 1) };
	} else if (c == '"') {
		t.kind = TOKEN_STRING;
		for (p++; p < x->end && *p != '"';)
			p++;
		t.text = (Str){ x->at + 1, (size_t)(p - x->at - 1) };
		p = p < x->end ? p + 1 : p;
	} else {
		t.kind = TOKEN_PUNCTUATION;
		t.text.n = 1;
		p++;
	}
	x->at = p;
	return t;
}
