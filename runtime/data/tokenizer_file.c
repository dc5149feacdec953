/* runtime/data/tokenizer_file.c: tokenizers in files: Hugging Face's tokenizer.json, written and
 * read, and GPT-2's pair of files (a JSON object of tokens and ids, and a line per merge), read.
 *
 * What is written (their `tokenizers` library reads all three and gives the same ids):
 *   bpe    model BPE, ByteLevel pre-tokenizer and decoder
 *   byte   the same with no merges and no pattern
 *   char   model BPE with no merges, no pre-tokenizer; decoder Fuse
 * A tokenizer.json that asks for anything else is a published one (pipeline.h); SentencePiece's models and
 * WordPiece's vocabularies are made into one first. */
#include "runtime/data/pipeline.h"
#include "runtime/data/utf8.h"
#include "support/io.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* --- writing ---------------------------------------------------------------------------------- */

static json_t *added_tokens(const Tokenizer *t)
{
	json_t *list = json_array();
	for (u32 id = 0; id < t->vocabulary; id++)
		if (t->special[id])
			json_array_append_new(
				list, json_pack("{s:i, s:s%, s:b, s:b, s:b, s:b, s:b}", "id",
						(int)id, "content", t->piece[id].s, t->piece[id].n,
						"single_word", 0, "lstrip", 0, "rstrip", 0,
						"normalized", 0, "special", 1));
	return list;
}

/* A piece as vocabulary files have it: bytes as visible characters, or the character itself. */
static Str written(const Tokenizer *t, u32 id, const ByteCodes *codes, Buf *b)
{
	Str piece = t->piece[id];
	if (t->special[id] || t->kind == &tokenizer_kind_char)
		return piece;
	b->n = 0;
	for (size_t i = 0; i < piece.n; i++) {
		char c[4];
		buf_put(b, (Str){ c, utf8_write(codes->code[(u8)piece.s[i]], c) });
	}
	return buf_str(b);
}

static json_t *model(const Tokenizer *t)
{
	Arena a = ARENA("tokenizer.json");
	Buf left = { .arena = &a }, right = { .arena = &a }, line = { .arena = &a };
	ByteCodes codes;
	byte_codes(&codes);
	json_t *vocabulary = json_object(), *merges = json_array();
	for (u32 id = 0; id < t->vocabulary; id++) {
		Str key = written(t, id, &codes, &left);
		json_object_setn_new(vocabulary, key.s, key.n, json_integer(id));
	}
	for (u32 i = 0; i < t->nmerge; i++) {
		Str l = written(t, t->merge[i].left, &codes, &left);
		Str r = written(t, t->merge[i].right, &codes, &right);
		line.n = 0;
		buf_put(&line, l);
		buf_char(&line, ' ');
		buf_put(&line, r);
		json_array_append_new(merges, json_stringn(line.text, line.n));
	}
	arena_free(&a);
	return json_pack("{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE",
			 "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
			 "fuse_unk", 0, "byte_fallback", 0, "ignore_merges", 0, "vocab", vocabulary,
			 "merges", merges);
}

static json_t *byte_level(bool pattern)
{
	return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
			 "trim_offsets", 1, "use_regex", (int)pattern);
}

Status tokenizer_save(const Tokenizer *t, const char *path)
{
	if (t->pipeline)
		return io_write(path, (Blob){ (const u8 *)t->pipeline->source.s, t->pipeline->source.n });
	bool letters = t->kind == &tokenizer_kind_char, pattern = t->kind == &tokenizer_kind_bpe;
	json_t *root = json_pack(
		"{s:s, s:n, s:n, s:o, s:n, s:o, s:n, s:o, s:o}", "version", "1.0", "truncation",
		"padding", "added_tokens", added_tokens(t), "normalizer", "pre_tokenizer",
		letters ? json_null() : byte_level(pattern), "post_processor", "decoder",
		letters ? json_pack("{s:s}", "type", "Fuse") : byte_level(pattern), "model",
		model(t));
	char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
	json_decref(root);
	if (!text)
		return FAIL(STATUS_MEMORY, "no memory to write the tokenizer %s", path);
	Status s = io_write(path, (Blob){ (const u8 *)text, strlen(text) });
	free(text);
	return s;
}

/* --- reading ---------------------------------------------------------------------------------- */

/* While reading: everything that is dropped at the end. */
typedef struct Reading {
	const char *path; /* for messages */
	Arena arena;
	json_t *root;
} Reading;

static Status parse_text(Reading *r, Str text, json_t **out)
{
	json_error_t e;
	*out = json_loadb(text.s ? text.s : "", text.n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL,
			  &e);
	if (!*out)
		return FAIL(STATUS_INPUT, "%s:%d:%d: not a JSON file: %s", r->path, e.line, e.column,
			    e.text);
	if (!json_is_object(*out))
		return FAIL(STATUS_INPUT, "%s: not a JSON object", r->path);
	return OK;
}

static Status parse(Reading *r, const char *path, json_t **out)
{
	Str text;
	r->path = path;
	TRY(io_read(&r->arena, path, &text));
	return parse_text(r, text, out);
}

bool bytes_of_piece(Arena *a, const ByteCodes *codes, Str piece, Str *out)
{
	char *to = NEWN(a, char, piece.n + 1);
	u32 code, n;
	size_t made = 0;
	for (size_t at = 0; at < piece.n; at += n) {
		n = utf8_read((Str){ piece.s + at, piece.n - at }, &code);
		if (!n || code >= BYTE_CODES || codes->byte[code] < 0)
			return false;
		to[made++] = (char)codes->byte[code];
	}
	*out = (Str){ to, made };
	return true;
}

/* The bytes of a token, which must be written so. */
static Status unwritten(const Reading *r, Arena *a, const ByteCodes *codes, Str key, Str *out)
{
	if (bytes_of_piece(a, codes, key, out))
		return OK;
	return FAIL(STATUS_INPUT,
		    "%s: the token '%.*s' is not written in GPT-2's characters for bytes, so this is not a byte-level vocabulary",
		    r->path, STR_ARG(key));
}

/* Sets the piece of `id`, which nothing else may have. */
static Status set_piece(const Reading *r, Tokenizer *t, json_int_t id, Str piece, bool special)
{
	if (id < 0 || id >= t->vocabulary)
		return FAIL(STATUS_INPUT, "%s: token id %lld, but there are %u tokens", r->path,
			    (long long)id, t->vocabulary);
	if (t->piece[id].s)
		return FAIL(STATUS_INPUT, "%s: token id %lld is given twice", r->path,
			    (long long)id);
	t->piece[id] = (Str){ arena_strn(t->arena, piece), piece.n };
	t->special[id] = special;
	return OK;
}

/* The pieces of a vocabulary object; those already set as special are skipped. */
static Status read_vocabulary(Reading *r, Tokenizer *t, json_t *vocabulary)
{
	ByteCodes codes;
	byte_codes(&codes);
	const char *key;
	size_t length;
	json_t *value;
	json_object_keylen_foreach(vocabulary, key, length, value)
	{
		Str piece = { key, length };
		if (!json_is_integer(value))
			return FAIL(STATUS_INPUT, "%s: the token '%.*s' has no number as its id",
				    r->path, STR_ARG(piece));
		json_int_t id = json_integer_value(value);
		if (id >= 0 && id < t->vocabulary && t->special[id] &&
		    str_equal(t->piece[id], piece))
			continue;
		if (t->kind != &tokenizer_kind_char)
			TRY(unwritten(r, &r->arena, &codes, piece, &piece));
		TRY(set_piece(r, t, id, piece, false));
	}
	for (u32 id = 0; id < t->vocabulary; id++)
		if (!t->piece[id].s)
			return FAIL(STATUS_INPUT,
				    "%s: no token has the id %u, but there are %u tokens", r->path,
				    id, t->vocabulary);
	return OK;
}

/* Appends the merge "left right", written in GPT-2's characters; `where` is for messages. */
static Status add_merge(const Reading *r, Tokenizer *t, const Words *ids, const ByteCodes *codes,
			Str left, Str right, u32 where)
{
	ArenaMark mark = arena_mark(ids->arena);
	Str l, m;
	TRY(unwritten(r, ids->arena, codes, left, &l));
	TRY(unwritten(r, ids->arena, codes, right, &m));
	char *both = NEWN(ids->arena, char, l.n + m.n);
	memcpy(both, l.s, l.n);
	memcpy(both + l.n, m.s, m.n);
	const Word *w[] = { words_find(ids, l), words_find(ids, m),
			    words_find(ids, (Str){ both, l.n + m.n }) };
	if (!w[0] || !w[1] || !w[2])
		return FAIL(STATUS_INPUT, "%s: merge %u, '%.*s %.*s': %s is not in the vocabulary",
			    r->path, where, STR_ARG(left), STR_ARG(right),
			    !w[0]   ? "the first"
			    : !w[1] ? "the second"
				    : "what they make");
	t->merge[t->nmerge++] = (Merge){ (u32)w[0]->value, (u32)w[1]->value, (u32)w[2]->value };
	arena_release(ids->arena, mark);
	return OK;
}

/* From piece to id, for the merges; tokenizer_ready makes the lasting one. */
static void index_pieces(Words *ids, const Tokenizer *t)
{
	for (u32 id = 0; id < t->vocabulary; id++)
		if (!t->special[id])
			words_add(ids, t->piece[id])->value = id;
}

static bool split_merge(Str line, Str *left, Str *right)
{
	const char *gap = line.n ? memchr(line.s, ' ', line.n) : NULL;
	if (!gap || gap == line.s || gap + 1 == line.s + line.n)
		return false;
	*left = (Str){ line.s, (size_t)(gap - line.s) };
	*right = (Str){ gap + 1, line.n - left->n - 1 };
	return !memchr(right->s, ' ', right->n);
}

static Status read_merges(Reading *r, Tokenizer *t, json_t *merges)
{
	ByteCodes codes;
	byte_codes(&codes);
	Words ids = { .arena = &r->arena };
	index_pieces(&ids, t);
	t->merge = NEWN(t->arena, Merge, json_array_size(merges));
	size_t i;
	json_t *value;
	json_array_foreach(merges, i, value)
	{
		Str left, right;
		bool good = false;
		if (json_is_string(value))
			good = split_merge(
				(Str){ json_string_value(value), json_string_length(value) }, &left,
				&right);
		else if (json_array_size(value) == 2 && json_is_string(json_array_get(value, 0)) &&
			 json_is_string(json_array_get(value, 1))) {
			left = str_of(json_string_value(json_array_get(value, 0)));
			right = str_of(json_string_value(json_array_get(value, 1)));
			good = left.n && right.n;
		}
		if (!good)
			return FAIL(STATUS_INPUT, "%s: merge %zu is not two tokens", r->path,
				    i + 1);
		TRY(add_merge(r, t, &ids, &codes, left, right, (u32)i + 1));
	}
	return OK;
}

static Status read_merge_lines(Reading *r, Tokenizer *t, const char *path)
{
	ByteCodes codes;
	byte_codes(&codes);
	Words ids = { .arena = &r->arena };
	index_pieces(&ids, t);
	Str text;
	r->path = path;
	TRY(io_read(&r->arena, path, &text));
	size_t lines = 1;
	for (size_t i = 0; i < text.n; i++)
		lines += text.s[i] == '\n';
	t->merge = NEWN(t->arena, Merge, lines);
	u32 number = 0;
	for (size_t at = 0; at < text.n;) {
		const char *end = memchr(text.s + at, '\n', text.n - at);
		Str line = { text.s + at, end ? (size_t)(end - text.s) - at : text.n - at }, left,
		    right;
		at += line.n + 1;
		number++;
		if (line.n && line.s[line.n - 1] == '\r')
			line.n--;
		if (!line.n || (number == 1 && str_starts(line, STR("#version"))))
			continue;
		if (!split_merge(line, &left, &right))
			return FAIL(STATUS_INPUT,
				    "%s:%u: not a merge: two tokens with a space between", path,
				    number);
		Status s = add_merge(r, t, &ids, &codes, left, right, t->nmerge + 1);
		if (s)
			return s;
	}
	return OK;
}

static Status gpt2_into(Reading *r, Arena *a, const char *vocabulary, const char *merges,
			Tokenizer **out)
{
	TRY(parse(r, vocabulary, &r->root));
	size_t n = json_object_size(r->root);
	if (n > TOKENIZER_VOCAB_MAX)
		return FAIL(STATUS_INPUT, "%s: %zu tokens are too many", vocabulary, n);
	Tokenizer *t = tokenizer_new(a, &tokenizer_kind_bpe, (u32)n);
	json_t *end = json_object_get(r->root, END_OF_TEXT);
	if (json_is_integer(end)) {
		TRY(set_piece(r, t, json_integer_value(end), STR(END_OF_TEXT), true));
		t->end = (u32)json_integer_value(end);
	}
	TRY(read_vocabulary(r, t, r->root));
	TRY(read_merge_lines(r, t, merges));
	*out = t;
	return status_context(tokenizer_ready(t), "%s", vocabulary);
}

static void done(Reading *r)
{
	json_decref(r->root);
	arena_free(&r->arena);
}

Status tokenizer_gpt2(Arena *a, const char *vocabulary, const char *merges, Tokenizer **out)
{
	Reading r = { .arena = ARENA("vocabulary") };
	Status s = gpt2_into(&r, a, vocabulary, merges, out);
	done(&r);
	return s;
}

static bool text_is(json_t *object, const char *key, const char *text)
{
	const char *have = json_string_value(json_object_get(object, key));
	return have && !strcmp(have, text);
}

/* Missing, null, false or empty: not asked for. */
static bool unset(json_t *object, const char *key)
{
	json_t *v = json_object_get(object, key);
	return !v || json_is_null(v) || json_is_false(v) ||
	       (json_is_number(v) && !json_number_value(v)) ||
	       (json_is_string(v) && !json_string_length(v));
}

static bool dense(const json_t *vocabulary, const json_t *added)
{
	size_t i, n = json_object_size(vocabulary);
	json_t *v;
	const char *key;
	json_array_foreach(added, i, v)
	{
		const char *text = json_string_value(json_object_get(v, "content"));
		n += text && !json_object_get(vocabulary, text);
		if (!json_is_true(json_object_get(v, "special")) || !json_is_integer(json_object_get(v, "id")) ||
		    (u64)json_integer_value(json_object_get(v, "id")) >= json_object_size(vocabulary) + json_array_size(added))
			return false;
	}
	json_object_foreach((json_t *)(uintptr_t)vocabulary, key, v)
		if (!json_is_integer(v) || (u64)json_integer_value(v) >= n)
			return false;
	return true;
}

/* A tokenizer.json of one of the kinds that are made here, or NULL: it is read as a published one, which can be
 * anything. */
static const TokenizerKind *own_kind(json_t *root)
{
	json_t *before = json_object_get(root, "pre_tokenizer"), *after = json_object_get(root, "post_processor"),
	       *model = json_object_get(root, "model");
	static const char *const asks[] = { "dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback",
					    "ignore_merges", "unk_token" };
	bool own = text_is(model, "type", "BPE") && unset(root, "normalizer") &&
		   (!after || json_is_null(after) || text_is(after, "type", "ByteLevel")) &&
		   json_is_object(json_object_get(model, "vocab")) &&
		   dense(json_object_get(model, "vocab"), json_object_get(root, "added_tokens"));
	for (size_t i = 0; i < COUNT(asks); i++)
		own &= unset(model, asks[i]);
	bool merges = json_array_size(json_object_get(model, "merges")) > 0;
	if (own && (!before || json_is_null(before)) && !merges)
		return &tokenizer_kind_char;
	if (!own || !text_is(before, "type", "ByteLevel") || !unset(before, "add_prefix_space"))
		return NULL;
	bool pattern = !json_is_false(json_object_get(before, "use_regex"));
	return pattern ? &tokenizer_kind_bpe : merges ? NULL : &tokenizer_kind_byte;
}

u32 end_of_documents(const Tokenizer *t)
{
	static const char *const ends[] = { END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>" };
	for (size_t e = 0; e < COUNT(ends); e++)
		for (u32 id = 0; id < t->vocabulary; id++)
			if (t->special[id] && str_equal(t->piece[id], str_of(ends[e])))
				return id;
	return TOKEN_NONE;
}

/* Special tokens, and which of them ends a document. */
static Status read_added(const Reading *r, Tokenizer *t, json_t *added)
{
	size_t i;
	json_t *token;
	json_array_foreach(added, i, token)
	{
		json_t *content = json_object_get(token, "content"),
		       *id = json_object_get(token, "id");
		if (!json_is_string(content) || !json_is_integer(id))
			return FAIL(STATUS_INPUT, "%s: added token %zu has no content or no id",
				    r->path, i);
		Str text = { json_string_value(content), json_string_length(content) };
		TRY(set_piece(r, t, json_integer_value(id), text, true));
	}
	t->end = end_of_documents(t);
	return OK;
}

static Status load_own(Reading *r, Arena *a, const char *path, const TokenizerKind *kind, Tokenizer **out)
{
	json_t *model = json_object_get(r->root, "model");
	json_t *vocabulary = json_object_get(model, "vocab");
	json_t *added = json_object_get(r->root, "added_tokens");
	/* added tokens may be in the vocabulary too, or only after it */
	size_t n = json_object_size(vocabulary), i;
	json_t *token;
	json_array_foreach(added, i, token)
	{
		const char *text = json_string_value(json_object_get(token, "content"));
		n += text && !json_object_get(vocabulary, text);
	}
	if (n > TOKENIZER_VOCAB_MAX)
		return FAIL(STATUS_INPUT, "%s: %zu tokens are too many", path, n);
	Tokenizer *t = tokenizer_new(a, kind, (u32)n);
	TRY(read_added(r, t, added));
	TRY(read_vocabulary(r, t, vocabulary));
	TRY(read_merges(r, t, json_object_get(model, "merges")));
	*out = t;
	return status_context(tokenizer_ready(t), "%s", path);
}

Status tokenizer_parse(Arena *a, const char *path, Str text, Tokenizer **out)
{
	Reading r = { .arena = ARENA("tokenizer.json"), .path = path };
	bool model = str_ends(str_of(path), STR(".model")), lines = str_ends(str_of(path), STR(".txt"));
	Status s = OK;
	if (model)
		s = sentencepiece_json(&r.arena, path, (Blob){ (const u8 *)text.s, text.n }, &text);
	else if (lines)
		s = vocabulary_json(&r.arena, path, text, &text);
	if (!s)
		s = parse_text(&r, text, &r.root);
	const TokenizerKind *kind = s ? NULL : own_kind(r.root);
	if (!s)
		s = kind ? load_own(&r, a, path, kind, out) : pipeline_read(a, path, text, out);
	done(&r);
	return s;
}

Status tokenizer_load(Arena *a, const char *path, Tokenizer **out)
{
	Arena tmp = ARENA("tokenizer's file");
	Str text;
	Status s = io_read(&tmp, path, &text);
	if (!s)
		s = tokenizer_parse(a, path, text.s ? text : STR(""), out);
	arena_free(&tmp);
	return s;
}
