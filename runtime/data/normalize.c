/* runtime/data/normalize.c: the normalizers of published tokenizers: what Hugging Face's tokenizers do to a text before it
 * is cut into words, to the letter; see pipeline.h. */
#include "runtime/data/pipeline.h"
#include "runtime/data/utf8.h"

/* The character at `at`, and how long it is. */
static u32 read_at(Str text, size_t at, u32 *code)
{
	return utf8_read((Str){ text.s + at, text.n - at }, code);
}

static void put_code(Buf *b, u32 code)
{
	char c[4];
	buf_put(b, (Str){ c, utf8_write(code, c) });
}

static Str made(const Buf *b)
{
	return b->n ? buf_str(b) : STR("");
}

static Str lowered(Arena *a, Str text)
{
	Buf b = { .arena = a };
	u32 code, n;
	for (size_t at = 0; at < text.n; at += n) {
		u32 out[2];
		n = read_at(text, at, &code);
		u32 made_of = unicode_lower(code, out);
		for (u32 i = 0; i < made_of; i++)
			put_code(&b, out[i]);
	}
	return made(&b);
}

/* The characters for which `drops` is false. */
static Str without(Arena *a, Str text, bool (*drops)(u32 code))
{
	Buf b = { .arena = a };
	u32 code, n;
	for (size_t at = 0; at < text.n; at += n) {
		n = read_at(text, at, &code);
		if (!drops(code))
			buf_put(&b, (Str){ text.s + at, n });
	}
	return made(&b);
}

static Str stripped(Str text, bool left, bool right)
{
	u32 code;
	while (left && text.n) {
		u32 n = read_at(text, 0, &code);
		if (!unicode_space(code))
			break;
		text = (Str){ text.s + n, text.n - n };
	}
	while (right && text.n) {
		size_t at = text.n - 1;
		while (at && ((u8)text.s[at] & 0xc0) == 0x80)
			at--;
		read_at(text, at, &code);
		if (!unicode_space(code))
			break;
		text.n = at;
	}
	return text;
}

/* Devlin et al.'s: control characters out, whitespace to spaces, ideographs set apart, accents off, lower case. */
static Str bert(Arena *a, const Normalizer *o, Str text)
{
	Buf b = { .arena = a };
	u32 code, n;
	for (size_t at = 0; at < text.n; at += n) {
		n = read_at(text, at, &code);
		bool control = code != '\t' && code != '\n' && code != '\r' && unicode_other(code);
		if (o->clean && (!code || code == 0xfffd || control))
			continue;
		if (o->clean && unicode_space(code)) {
			buf_char(&b, ' ');
			continue;
		}
		bool apart = o->ideographs && unicode_ideograph(code);
		if (apart)
			buf_char(&b, ' ');
		buf_put(&b, (Str){ text.s + at, n });
		if (apart)
			buf_char(&b, ' ');
	}
	text = made(&b);
	if (o->strip_accents)
		text = without(a, unicode_normalize(a, text, NORMAL_NFD), unicode_nonspacing);
	return o->lowercase ? lowered(a, text) : text;
}

static Status replaced(Arena *a, const Normalizer *o, Str text, Str *out)
{
	Buf b = { .arena = a };
	size_t at = 0, begin, end;
	bool found;
	Str seen = pattern_sees(a, o->pattern, text);
	for (;;) {
		TRY(pattern_find(o->pattern, seen, at, &begin, &end, &found));
		if (!found)
			break;
		buf_put(&b, (Str){ text.s + at, begin - at });
		buf_put(&b, o->text);
		at = end;
	}
	if (!at) {
		*out = text;
		return OK;
	}
	buf_put(&b, (Str){ text.s + at, text.n - at });
	*out = made(&b);
	return OK;
}

/* ---- Google's machine translation rules ---- */

static bool nmt_drops(u32 c)
{
	return (c >= 1 && c <= 8) || c == 0xb || (c >= 0xe && c <= 0x1f) || c == 0x7f || c == 0x8f || c == 0x9f;
}

static bool nmt_space(u32 c)
{
	return c == 9 || c == 0xa || c == 0xc || c == 0xd || c == 0x1680 || (c >= 0x200b && c <= 0x200f) || c == 0x2028 ||
	       c == 0x2029 || c == 0x2581 || c == 0xfeff || c == 0xfffd;
}

static Str nmt(Arena *a, Str text)
{
	Buf b = { .arena = a };
	u32 code, n;
	for (size_t at = 0; at < text.n; at += n) {
		n = read_at(text, at, &code);
		if (nmt_space(code))
			buf_char(&b, ' ');
		else if (!nmt_drops(code))
			buf_put(&b, (Str){ text.s + at, n });
	}
	return made(&b);
}

/* ---- SentencePiece's table ---- */

Status chars_map_read(Arena *a, Str bytes, CharsMap *out)
{
	*out = (CharsMap){ 0 };
	if (!bytes.n)
		return OK;
	u32 size = 0;
	if (bytes.n >= 4)
		memcpy(&size, bytes.s, 4);
	if (bytes.n < 4 || size % 4 || size < 4 || size > bytes.n - 4)
		return FAIL(STATUS_INPUT, "the table of characters says that its trie has %u bytes, and %zu follow", size,
			    bytes.n < 4 ? 0 : bytes.n - 4);
	*out = (CharsMap){ .trie = COPYN(a, u32, bytes.s + 4, size / 4), .n = size / 4 };
	out->texts = (Str){ arena_strn(a, (Str){ bytes.s + 4 + size, bytes.n - 4 - size }), bytes.n - 4 - size };
	return OK;
}

static u32 trie_offset(u32 unit)
{
	return unit >> 10 << ((unit & 1u << 9) >> 6);
}

/* What the shortest prefix of `text` that the table has becomes; false: it has none. */
static bool looked_up(const CharsMap *m, Str text, Str *out)
{
	if (!m->n)
		return false;
	u32 node = trie_offset(m->trie[0]);
	for (size_t i = 0; i < text.n && text.s[i]; i++) {
		u8 byte = (u8)text.s[i];
		node ^= byte;
		if (node >= m->n)
			return false;
		u32 unit = m->trie[node];
		if ((unit & (1u << 31 | 0xff)) != byte)
			return false;
		node ^= trie_offset(unit);
		if (node >= m->n)
			return false;
		if (unit >> 8 & 1) {
			u32 at = m->trie[node] & 0x7fffffffu;
			if (at >= m->texts.n)
				return false;
			const char *from = m->texts.s + at, *end = memchr(from, 0, m->texts.n - at);
			*out = (Str){ from, end ? (size_t)(end - from) : m->texts.n - at };
			return utf8_valid(*out) == out->n;
		}
	}
	return false;
}

/* A grapheme of less than six bytes that the table has is replaced whole; otherwise its characters one by one. This is
 * what Hugging Face's tokenizers do. */
static Str precompiled(Arena *a, const CharsMap *m, Str text)
{
	enum { WHOLE = 6 };
	Buf b = { .arena = a };
	for (size_t at = 0; at < text.n;) {
		Str grapheme = { text.s + at, unicode_grapheme((Str){ text.s + at, text.n - at }) }, now;
		at += grapheme.n;
		if (grapheme.n < WHOLE && looked_up(m, grapheme, &now)) {
			buf_put(&b, now);
			continue;
		}
		u32 code, n;
		for (size_t i = 0; i < grapheme.n; i += n) {
			n = read_at(grapheme, i, &code);
			Str one = { grapheme.s + i, n };
			buf_put(&b, looked_up(m, one, &now) ? now : one);
		}
	}
	return made(&b);
}

/* ---------------------------------------------------------------------------------------------- */

Status normalizer_apply(Arena *a, const Normalizer *o, Str text, Str *out)
{
	switch (o->kind) {
	case NORMALIZE_FORM: *out = unicode_normalize(a, text, o->form); return OK;
	case NORMALIZE_LOWERCASE: *out = lowered(a, text); return OK;
	case NORMALIZE_STRIP: *out = stripped(text, o->left, o->right); return OK;
	case NORMALIZE_STRIP_ACCENTS: *out = without(a, text, unicode_mark); return OK;
	case NORMALIZE_BERT: *out = bert(a, o, text); return OK;
	case NORMALIZE_REPLACE: return replaced(a, o, text, out);
	case NORMALIZE_NMT: *out = nmt(a, text); return OK;
	case NORMALIZE_PRECOMPILED: *out = precompiled(a, &o->map, text); return OK;
	case NORMALIZE_PREPEND: {
		Buf b = { .arena = a };
		if (text.n)
			buf_put(&b, o->text);
		buf_put(&b, text);
		*out = made(&b);
		return OK;
	}
	}
	NEVER("a normalizer of another kind");
}
