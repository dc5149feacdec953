/* runtime/data/unicode.c: see unicode.h. */
#include "runtime/data/unicode.h"
#include "runtime/data/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static utf8proc_category_t category(u32 code)
{
	return utf8proc_category((utf8proc_int32_t)code);
}

bool unicode_space(u32 c)
{
	return c == ' ' || (c >= '\t' && c <= '\r') || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
	       c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool unicode_punctuation(u32 c)
{
	if (c < 0x80)
		return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
	utf8proc_category_t g = category(c);
	return g >= UTF8PROC_CATEGORY_PC && g <= UTF8PROC_CATEGORY_PO;
}

bool unicode_numeric(u32 c)
{
	utf8proc_category_t g = category(c);
	return g >= UTF8PROC_CATEGORY_ND && g <= UTF8PROC_CATEGORY_NO;
}

bool unicode_mark(u32 c)
{
	utf8proc_category_t g = category(c);
	return g >= UTF8PROC_CATEGORY_MN && g <= UTF8PROC_CATEGORY_ME;
}

bool unicode_nonspacing(u32 c)
{
	return category(c) == UTF8PROC_CATEGORY_MN;
}

bool unicode_other(u32 c)
{
	utf8proc_category_t g = category(c);
	return g >= UTF8PROC_CATEGORY_CC && g <= UTF8PROC_CATEGORY_CO;
}

bool unicode_word(u32 c)
{
	utf8proc_category_t g = category(c);
	bool letter = g >= UTF8PROC_CATEGORY_LU && g <= UTF8PROC_CATEGORY_LO, other_alphabetic = c >= 0x24b6 && c <= 0x24e9;
	return letter || unicode_mark(c) || g == UTF8PROC_CATEGORY_ND || g == UTF8PROC_CATEGORY_NL || g == UTF8PROC_CATEGORY_PC ||
	       other_alphabetic || (c >= 0x1f130 && c <= 0x1f149) || (c >= 0x1f150 && c <= 0x1f169) ||
	       (c >= 0x1f170 && c <= 0x1f189) || c == 0x200c || c == 0x200d;
}

bool unicode_ideograph(u32 c)
{
	return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x20000 && c <= 0x2a6df) ||
	       (c >= 0x2a700 && c <= 0x2b73f) || (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) ||
	       (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

u32 unicode_lower(u32 code, u32 out[2])
{
	if (code == 0x130) {
		out[0] = 'i';
		out[1] = 0x307;
		return 2;
	}
	out[0] = (u32)utf8proc_tolower((utf8proc_int32_t)code);
	return 1;
}

static bool ascii(Str text)
{
	for (size_t i = 0; i < text.n; i++)
		if ((u8)text.s[i] >= 0x80)
			return false;
	return true;
}

Str unicode_normalize(Arena *a, Str text, NormalForm form)
{
	static const int option[] = { [NORMAL_NFC] = UTF8PROC_COMPOSE,
				      [NORMAL_NFD] = UTF8PROC_DECOMPOSE,
				      [NORMAL_NFKC] = UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
				      [NORMAL_NFKD] = UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT };
	if (ascii(text))
		return text;
	utf8proc_uint8_t *out = NULL;
	utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text.s, (utf8proc_ssize_t)text.n, &out,
					  UTF8PROC_STABLE | (utf8proc_option_t)option[form]);
	assert(n >= 0 && "the text is UTF-8, and the host has memory");
	Str made = { COPYN(a, char, out, (size_t)n + 1), (size_t)n };
	free(out);
	return made;
}

size_t unicode_grapheme(Str text)
{
	u32 before, code;
	utf8proc_int32_t state = 0;
	size_t at = utf8_read(text, &before);
	while (at < text.n) {
		u32 n = utf8_read((Str){ text.s + at, text.n - at }, &code);
		if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)before, (utf8proc_int32_t)code, &state))
			break;
		before = code;
		at += n;
	}
	return at;
}
