/* runtime/data/tokenizer.c: what all tokenizers share, and the byte and character kinds. */
#include "runtime/data/tokenizer.h"
#include "runtime/data/pipeline.h"
#include "runtime/data/split.h"
#include "runtime/data/tokenizer_parts.h"
#include "runtime/data/utf8.h"

#include <string.h>
#include <xxhash.h>

u32 *tokens_room(Tokens *t, size_t n)
{
	if (t->n + n > t->cap) {
		size_t cap = MAX(MAX(t->cap * 2, t->n + n), (size_t)256);
		u32 *v = NEWN(t->arena, u32, cap);
		if (t->n)
			memcpy(v, t->v, t->n * sizeof *v);
		t->v = v;
		t->cap = cap;
	}
	return t->v ? t->v + t->n : NULL; /* none yet, and room for none */
}

void tokens_push(Tokens *t, u32 id)
{
	*tokens_room(t, 1) = id;
	t->n++;
}

Tokenizer *tokenizer_new(Arena *a, const TokenizerKind *kind, u32 vocabulary)
{
	Tokenizer *t = NEW(a, Tokenizer);
	*t = (Tokenizer){ .kind = kind,
			  .arena = a,
			  .vocabulary = vocabulary,
			  .end = TOKEN_NONE,
			  .piece = NEWN(a, Str, vocabulary),
			  .special = NEWN(a, bool, vocabulary),
			  .ids = { .arena = a },
			  .by_code = { .arena = a },
			  .pairs = { .arena = a },
			  .cache = { .arena = a },
			  .cached = { .arena = a } };
	memset(t->of_byte, 0xff, sizeof t->of_byte);
	return t;
}

void tokenizer_close(Tokenizer *t)
{
	if (!t)
		return;
	splitter_free(t->splitter);
	pipeline_close(t->pipeline);
}

/* --- bytes ------------------------------------------------------------------------------------ */

static Status byte_encode(Tokenizer *t, Str text, Tokens *out)
{
	(void)t;
	u32 *to = tokens_room(out, text.n);
	for (size_t i = 0; i < text.n; i++)
		to[i] = (u8)text.s[i];
	out->n += text.n;
	return OK;
}

const TokenizerKind tokenizer_kind_byte = { "byte", byte_encode, true };

Status tokenizer_byte(Arena *a, bool end, Tokenizer **out)
{
	Tokenizer *t = tokenizer_new(a, &tokenizer_kind_byte, 256 + end);
	char *bytes = NEWN(a, char, 256);
	for (u32 i = 0; i < 256; i++) {
		bytes[i] = (char)(u8)i;
		t->piece[i] = (Str){ bytes + i, 1 };
	}
	if (end) {
		t->end = 256;
		t->piece[256] = STR(END_OF_TEXT);
		t->special[256] = true;
	}
	*out = t;
	return tokenizer_ready(t);
}

static Status byte_ready(Tokenizer *t)
{
	for (u32 i = 0; i < 256; i++)
		if (i >= t->vocabulary || t->special[i] || t->piece[i].n != 1 ||
		    (u8)t->piece[i].s[0] != i)
			return FAIL(
				STATUS_INPUT,
				"a byte-level tokenizer must give each byte its own value as id; "
				"id %u is something else",
				i);
	for (u32 i = 256; i < t->vocabulary; i++)
		if (!t->special[i])
			return FAIL(STATUS_INPUT,
				    "a byte-level tokenizer has nothing but bytes and "
				    "special tokens; id %u is neither",
				    i);
	return OK;
}

/* --- characters ------------------------------------------------------------------------------- */

static Status char_encode(Tokenizer *t, Str text, Tokens *out)
{
	u32 *to = tokens_room(out, text.n), code, n = 0;
	size_t made = 0;
	for (size_t at = 0; at < text.n; at += n) {
		n = utf8_read((Str){ text.s + at, text.n - at }, &code);
		if (!n)
			return FAIL(STATUS_INPUT,
				    "byte %zu (0x%02x) is not UTF-8, and a character tokenizer has "
				    "nothing "
				    "for it; a byte or bpe tokenizer does",
				    at, (u8)text.s[at]);
		u32 id = TOKEN_NONE;
		if (code < 256)
			id = t->of_byte[code];
		else {
			const u64 *known = map_get(&t->by_code, code);
			if (known)
				id = (u32)*known;
		}
		if (id == TOKEN_NONE)
			return FAIL(STATUS_INPUT,
				    "the character '%.*s' (U+%04X) at byte %zu is not among the %u "
				    "of the "
				    "tokenizer",
				    (int)n, text.s + at, code, at, t->ids.n);
		to[made++] = id;
	}
	out->n += made;
	return OK;
}

const TokenizerKind tokenizer_kind_char = { "char", char_encode, false };

static Status char_ready(Tokenizer *t)
{
	for (u32 id = 0; id < t->vocabulary; id++) {
		u32 code;
		if (t->special[id])
			continue;
		if (!t->piece[id].n || utf8_read(t->piece[id], &code) != t->piece[id].n)
			return FAIL(STATUS_INPUT,
				    "id %u of the character tokenizer is '%.*s', which "
				    "is not one character",
				    id, STR_ARG(t->piece[id]));
		if (code < 256) /* of_byte is by code point here */
			t->of_byte[code] = id;
		else
			map_put(&t->by_code, code, id);
	}
	return OK;
}

/* --- all -------------------------------------------------------------------------------------- */

Status tokenizer_ready(Tokenizer *t)
{
	for (u32 id = 0; id < t->vocabulary; id++) {
		if (t->special[id])
			continue;
		if (!t->piece[id].n)
			return FAIL(STATUS_INPUT, "token id %u stands for nothing", id);
		Word *w = words_add(&t->ids, t->piece[id]);
		if (t->ids.n && w != &t->ids.word[t->ids.n - 1])
			return FAIL(STATUS_INPUT, "token ids %u and %u are the same bytes",
				    (u32)w->value, id);
		w->value = id;
	}
	if (t->kind == &tokenizer_kind_byte)
		return byte_ready(t);
	if (t->kind == &tokenizer_kind_char)
		return char_ready(t);
	return bpe_ready(t);
}

Status tokenizer_encode(Tokenizer *t, Str text, Tokens *out)
{
	return t->kind->encode(t, text, out);
}

static bool visible(char c)
{
	return c > ' ' && c < 0x7f;
}

static bool space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Are the words of a published tokenizer cut at spaces, whatever is around them? */
static bool cuts_at_spaces(const Tokenizer *t)
{
	const Pipeline *p = t->pipeline;
	for (u32 i = 0; p && i < p->normalizer.n; i++)
		if (p->normalizer.v[i].kind == NORMALIZE_PREPEND)
			return false;
	for (u32 i = 0; p && i < p->pretokenizer.n; i++) {
		const Pretokenizer *one = &p->pretokenizer.v[i];
		bool metaspace = one->kind == PRETOKENIZE_METASPACE || one->kind == PRETOKENIZE_BYTE_LEVEL;
		if (metaspace ? one->split : one->kind != PRETOKENIZE_PATTERN && one->kind != PRETOKENIZE_DIGITS &&
						     one->kind != PRETOKENIZE_PUNCTUATION)
			return true;
	}
	return !p;
}

size_t tokenizer_cut(const Tokenizer *t, Str text, size_t most)
{
	if (text.n <= most || !cuts_at_spaces(t))
		return text.n;
	bool only_space = t->pipeline != NULL;
	for (size_t at = most; at > 0; at--)
		if (visible(text.s[at - 1]) && (only_space ? text.s[at] == ' ' : space(text.s[at])))
			return at;
	for (size_t at = most + 1; at < text.n; at++)
		if (visible(text.s[at - 1]) && (only_space ? text.s[at] == ' ' : space(text.s[at])))
			return at;
	return text.n;
}

Str tokenizer_piece(const Tokenizer *t, u32 id)
{
	assert(id < t->vocabulary);
	return t->special[id] ? (Str){ "", 0 } : t->piece[id];
}

Str tokenizer_first_piece(const Tokenizer *t, u32 id)
{
	Str piece = tokenizer_piece(t, id);
	bool drop = t->pipeline && t->pipeline->strip_start && str_starts(piece, STR(" "));
	return (Str){ piece.s + drop, piece.n - drop };
}

u32 tokenizer_special(const Tokenizer *t, const char *name)
{
	for (u32 id = 0; id < t->vocabulary; id++)
		if (t->special[id] && str_equal(t->piece[id], str_of(name)))
			return id;
	return TOKEN_NONE;
}

Status tokenizer_decode(const Tokenizer *t, const u32 *id, size_t n, Buf *out)
{
	size_t begin = out->n;
	for (size_t i = 0; i < n; i++) {
		if (id[i] >= t->vocabulary)
			return FAIL(STATUS_INPUT,
				    "token %zu is %u, and the tokenizer has ids below %u", i, id[i],
				    t->vocabulary);
		buf_put(out, out->n == begin ? tokenizer_first_piece(t, id[i]) : tokenizer_piece(t, id[i]));
	}
	return OK;
}

u64 tokenizer_hash(const Tokenizer *t)
{
	u64 h = XXH3_64bits(t->kind->name, strlen(t->kind->name));
	for (u32 id = 0; id < t->vocabulary; id++) {
		u64 part[] = { h, t->piece[id].n, t->special[id] };
		h = XXH3_64bits(part, sizeof part);
		h = XXH3_64bits_withSeed(t->piece[id].s, t->piece[id].n, h);
	}
	h = XXH3_64bits_withSeed(t->merge, t->nmerge * sizeof *t->merge, h);
	return t->pipeline ? h ^ t->pipeline->source_hash : h;
}
