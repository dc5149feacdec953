/* runtime/data/unicode.c: see unicode.h. */
#include "runtime/data/unicode.h"
#include "runtime/data/utf8.h"
#include "support/str.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* The versions that Hugging Face's tokenizers have their tables from, found by asking them about every character. */
enum {
	OF_BERT = 8,         /* its punctuation, control characters and accents: the crate unicode_categories */
	OF_FORMS = 9,        /* normal forms and StripAccents: unicode-normalization-alignments */
	OF_EXPRESSIONS = 16, /* Oniguruma and the crate regex */
	OF_RUST = 17,        /* digits and lower case, of Rust's standard library; clusters, of unicode-segmentation */
	OF_LIBRARIES = 14,   /* the least that PCRE2 and utf8proc have, of those in use */
};

/* From `version` on, first to last are of `category`; before their first row they are no characters. Sorted by `first`, then by
 * version; ranges are equal or apart. */
static const struct Since {
	u32 first, last;
	u8 version, category;
} since[] = {
#define SINCE(first, last, version, category) { first, last, version, UTF8PROC_CATEGORY_##category },
#define STAND_IN(category, bytes, code)
#define LOWER(first, last, offset)
#include "runtime/data/unicode_tables.def"
#undef SINCE
#undef STAND_IN
};

static const struct {
	u8 category, bytes;
	u32 code;
} stand_in[] = {
#define SINCE(first, last, version, category)
#define STAND_IN(category, bytes, code) { UTF8PROC_CATEGORY_##category, bytes, code },
#include "runtime/data/unicode_tables.def"
#undef STAND_IN
#undef LOWER
};

static const struct {
	u32 first, last;
	i32 offset;
} lower_case[] = {
#define STAND_IN(category, bytes, code)
#define LOWER(first, last, offset) { first, last, offset },
#include "runtime/data/unicode_tables.def"
#undef SINCE
#undef STAND_IN
#undef LOWER
};

/* The last row of the character; NULL: it is the same in all versions. */
static const struct Since *history(u32 code)
{
	size_t low = 0, high = COUNT(since);
	if (code < since[0].first)
		return NULL;
	while (high - low > 1) {
		size_t mid = (low + high) / 2;
		if (since[mid].first <= code)
			low = mid;
		else
			high = mid;
	}
	return code <= since[low].last ? &since[low] : NULL;
}

static utf8proc_category_t category(u32 code, u32 version)
{
	const struct Since *s = history(code);
	if (!s)
		return utf8proc_category((utf8proc_int32_t)code);
	while (s->version > version) {
		if (s == since || s[-1].first != s->first)
			return UTF8PROC_CATEGORY_CN;
		s--;
	}
	return (utf8proc_category_t)s->category;
}

/* May PCRE2 and utf8proc see it as something else than the tables here? They are as old as OF_LIBRARIES, or newer. */
static bool newer(u32 code)
{
	const struct Since *s = history(code);
	return s && s->version > OF_LIBRARIES;
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
	utf8proc_category_t g = category(c, OF_BERT);
	return g >= UTF8PROC_CATEGORY_PC && g <= UTF8PROC_CATEGORY_PO;
}

bool unicode_numeric(u32 c)
{
	utf8proc_category_t g = category(c, OF_RUST);
	return g >= UTF8PROC_CATEGORY_ND && g <= UTF8PROC_CATEGORY_NO;
}

bool unicode_mark(u32 c)
{
	utf8proc_category_t g = category(c, OF_FORMS);
	return g >= UTF8PROC_CATEGORY_MN && g <= UTF8PROC_CATEGORY_ME;
}

bool unicode_nonspacing(u32 c)
{
	return category(c, OF_BERT) == UTF8PROC_CATEGORY_MN;
}

bool unicode_other(u32 c)
{
	utf8proc_category_t g = category(c, OF_BERT);
	return g >= UTF8PROC_CATEGORY_CC && g <= UTF8PROC_CATEGORY_CO;
}

bool unicode_word(u32 c)
{
	utf8proc_category_t g = category(c, OF_EXPRESSIONS);
	bool letter = g >= UTF8PROC_CATEGORY_LU && g <= UTF8PROC_CATEGORY_LO, other_alphabetic = c >= 0x24b6 && c <= 0x24e9;
	bool mark = g >= UTF8PROC_CATEGORY_MN && g <= UTF8PROC_CATEGORY_ME;
	return letter || mark || g == UTF8PROC_CATEGORY_ND || g == UTF8PROC_CATEGORY_NL || g == UTF8PROC_CATEGORY_PC ||
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
	bool by_table = newer(code);
	out[0] = by_table ? code : (u32)utf8proc_tolower((utf8proc_int32_t)code);
	for (u32 i = 0; by_table && i < COUNT(lower_case); i++)
		if (code >= lower_case[i].first && code <= lower_case[i].last)
			out[0] = (u32)((i32)code + lower_case[i].offset);
	return 1;
}

static bool ascii(Str text)
{
	for (size_t i = 0; i < text.n; i++)
		if ((u8)text.s[i] >= 0x80)
			return false;
	return true;
}

static void put_normal(Buf *b, Str text, int option)
{
	utf8proc_uint8_t *out = NULL;
	if (!text.n)
		return;
	utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text.s, (utf8proc_ssize_t)text.n, &out,
					  UTF8PROC_STABLE | (utf8proc_option_t)option);
	assert(n >= 0 && "the text is UTF-8, and the host has memory");
	buf_put(b, (Str){ (const char *)out, (size_t)n });
	free(out);
}

Str unicode_normalize(Arena *a, Str text, NormalForm form)
{
	static const int option[] = { [NORMAL_NFC] = UTF8PROC_COMPOSE,
				      [NORMAL_NFD] = UTF8PROC_DECOMPOSE,
				      [NORMAL_NFKC] = UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
				      [NORMAL_NFKD] = UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT };
	if (ascii(text))
		return text;
	/* what is no character yet is never moved, joined or taken apart, and nothing is across it: the text is in pieces */
	Buf b = { .arena = a };
	size_t begin = 0;
	u32 code, n;
	for (size_t at = 0; at < text.n; at += n) {
		n = utf8_read((Str){ text.s + at, text.n - at }, &code);
		if (!history(code) || category(code, OF_FORMS) != UTF8PROC_CATEGORY_CN)
			continue;
		put_normal(&b, (Str){ text.s + begin, at - begin }, option[form]);
		buf_put(&b, (Str){ text.s + at, n });
		begin = at + n;
	}
	put_normal(&b, (Str){ text.s + begin, text.n - begin }, option[form]);
	return b.n ? buf_str(&b) : STR("");
}

/* A character that has been known long, which clusters form around in the same way. */
static u32 known_cluster(u32 code)
{
	if (code == 0x11f02 || code == 0x113d1) /* Prepend, by what they are and not by their category */
		return 0x600;
	if (!newer(code))
		return code;
	utf8proc_category_t g = category(code, OF_RUST);
	return g == UTF8PROC_CATEGORY_MN || g == UTF8PROC_CATEGORY_ME ? 0x300 : g == UTF8PROC_CATEGORY_MC ? 0x903 : code;
}

size_t unicode_grapheme(Str text)
{
	u32 before, code;
	utf8proc_int32_t state = 0;
	size_t at = utf8_read(text, &before);
	while (at < text.n) {
		u32 n = utf8_read((Str){ text.s + at, text.n - at }, &code);
		utf8proc_int32_t left = (utf8proc_int32_t)known_cluster(before), right = (utf8proc_int32_t)known_cluster(code);
		if (utf8proc_grapheme_break_stateful(left, right, &state))
			break;
		before = code;
		at += n;
	}
	return at;
}

bool unicode_newer(Str text)
{
	u32 code, n;
	for (size_t at = 0; at < text.n; at += MAX(n, 1u)) {
		n = 1; /* most texts are ASCII, all of them are looked at */
		if ((u8)text.s[at] < 0x80)
			continue;
		n = utf8_read((Str){ text.s + at, text.n - at }, &code);
		if (n > 1 && newer(code))
			return true;
	}
	return false;
}

void unicode_stand_in(char *text, size_t size)
{
	u32 code, n;
	for (size_t at = 0; at < size; at += MAX(n, 1u)) {
		n = utf8_read((Str){ text + at, size - at }, &code);
		if (n < 2 || !newer(code))
			continue;
		u32 known = 0;
		utf8proc_category_t g = category(code, OF_EXPRESSIONS);
		for (u32 i = 0; i < COUNT(stand_in); i++)
			if (stand_in[i].category == g && stand_in[i].bytes == n)
				known = stand_in[i].code;
		if (g == UTF8PROC_CATEGORY_LO && code >= 0x20000) /* ideographs, of which expressions ask by \p{Han} */
			known = 0x20000;
		assert(known && "the table has one for every category and length that is newer");
		utf8_write(known, text + at);
	}
}
