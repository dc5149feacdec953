/* runtime/data/sentencepiece.c: tokenizers that come in files of their own, as the tokenizer.json that says the same:
 * SentencePiece's models (Kudo and Richardson, 2018), unigram or byte pairs, and BERT's vocab.txt. So there is one
 * reader, and what is saved beside a model opens in Hugging Face's library.
 *
 * A SentencePiece model is a protocol buffer (sentencepiece_model.proto): pieces with scores and kinds, what it was
 * trained with, and its table of characters. Fields are read with their lengths checked; others are passed over. */
#include "runtime/data/pipeline.h"
#include "runtime/data/utf8.h"

#include <jansson.h>
#include <stdlib.h>

#define MARK "\xe2\x96\x81"

/* ---- protocol buffers ---- */

typedef struct Message {
	const u8 *at, *end;
	bool damaged;
} Message;

typedef struct Field {
	u32 number, wire; /* wire: 0 a number, 1 and 5 eight and four bytes, 2 bytes */
	u64 value;
	Str bytes;
} Field;

static u64 varint(Message *m)
{
	u64 x = 0;
	for (u32 shift = 0; shift < 64 && m->at < m->end; shift += 7) {
		u8 byte = *m->at++;
		x |= (u64)(byte & 0x7f) << shift;
		if (byte < 0x80)
			return x;
	}
	m->damaged = true;
	return 0;
}

/* False at the end, or where the message is damaged. */
static bool next_field(Message *m, Field *f)
{
	if (m->at == m->end || m->damaged)
		return false;
	u64 key = varint(m);
	*f = (Field){ .number = (u32)(key >> 3), .wire = key & 7 };
	u64 size = f->wire == 1 ? 8 : f->wire == 5 ? 4 : 0;
	if (f->wire == 0)
		f->value = varint(m);
	else if (f->wire == 2)
		size = varint(m);
	else if (!size)
		m->damaged = true;
	if (size > (u64)(m->end - m->at))
		m->damaged = true;
	if (m->damaged)
		return false;
	f->bytes = (Str){ (const char *)m->at, size };
	m->at += size;
	return true;
}

static Message message_of(Str bytes)
{
	return (Message){ (const u8 *)bytes.s, (const u8 *)bytes.s + bytes.n, false };
}

/* ---- the model ---- */

typedef enum PieceKind { PIECE_NORMAL = 1, PIECE_UNKNOWN, PIECE_CONTROL, PIECE_USER, PIECE_UNUSED, PIECE_BYTE } PieceKind;
enum { MODEL_UNIGRAM = 1, MODEL_BPE = 2 };

typedef struct ModelPiece {
	Str text;
	f32 score;
	u64 kind;
} ModelPiece;

typedef struct Spm {
	VEC(ModelPiece) piece;
	u64 model, unknown;
	bool byte_fallback, dummy_prefix, remove_extra;
	Str charsmap;
} Spm;

static Status damaged(const char *path)
{
	return FAIL(STATUS_INPUT, "%s: not a SentencePiece model, or a damaged one", path);
}

static Status read_piece(Arena *a, const char *path, Str bytes, Spm *s)
{
	ModelPiece p = { .kind = PIECE_NORMAL, .text = STR("") };
	Message m = message_of(bytes);
	Field f;
	while (next_field(&m, &f)) {
		if (f.number == 1 && f.wire == 2)
			p.text = f.bytes;
		else if (f.number == 2 && f.wire == 5)
			memcpy(&p.score, f.bytes.s, 4);
		else if (f.number == 3 && f.wire == 0)
			p.kind = f.value;
	}
	if (m.damaged || !p.text.n || utf8_valid(p.text) < p.text.n || !(p.score > -1e30f && p.score < 1e30f))
		return damaged(path);
	VEC_PUSH(a, &s->piece, p);
	return OK;
}

static Status read_spm(Arena *a, const char *path, Blob bytes, Spm *s)
{
	*s = (Spm){ .model = MODEL_UNIGRAM, .dummy_prefix = true, .remove_extra = true };
	Message m = { bytes.p, bytes.p + bytes.n, false };
	Field f, g;
	while (next_field(&m, &f)) {
		if (f.number == 1 && f.wire == 2)
			TRY(read_piece(a, path, f.bytes, s));
		Message inner = message_of(f.bytes);
		while (f.wire == 2 && f.number == 2 && next_field(&inner, &g)) {
			s->model = g.number == 3 ? g.value : s->model;
			s->byte_fallback = g.number == 35 ? g.value != 0 : s->byte_fallback;
		}
		while (f.wire == 2 && f.number == 3 && next_field(&inner, &g)) {
			s->charsmap = g.number == 2 && g.wire == 2 ? g.bytes : s->charsmap;
			s->dummy_prefix = g.number == 3 ? g.value != 0 : s->dummy_prefix;
			s->remove_extra = g.number == 4 ? g.value != 0 : s->remove_extra;
		}
		if (inner.damaged)
			return damaged(path);
	}
	if (m.damaged || !s->piece.n || s->piece.n > TOKENIZER_VOCAB_MAX)
		return damaged(path);
	if (s->model != MODEL_UNIGRAM && s->model != MODEL_BPE)
		return FAIL(STATUS_INPUT, "%s: a SentencePiece model of words or characters, which is not supported", path);
	s->unknown = UINT64_MAX;
	for (u32 i = 0; i < s->piece.n; i++)
		if (s->piece.v[i].kind == PIECE_UNKNOWN)
			s->unknown = i;
	return OK;
}

/* ---- byte pairs: the merges that scores mean ---- */

typedef struct ScoredMerge {
	Str left, right;
	u32 left_id, right_id;
	f32 score;
} ScoredMerge;

/* The better score first; as transformers orders merges of one score. */
static int by_score(const void *pa, const void *pb)
{
	const ScoredMerge *a = pa, *b = pb;
	if (a->score != b->score)
		return a->score > b->score ? -1 : 1;
	size_t la = utf8_starts(a->left), lb = utf8_starts(b->left), ra = utf8_starts(a->right), rb = utf8_starts(b->right);
	if (la != lb)
		return la > lb ? -1 : 1;
	if (ra != rb)
		return ra > rb ? -1 : 1;
	if (a->left_id != b->left_id)
		return a->left_id < b->left_id ? -1 : 1;
	return a->right_id < b->right_id ? -1 : a->right_id > b->right_id;
}

static json_t *merges_of(Arena *a, const Spm *s)
{
	Words ids = { .arena = a };
	VEC(ScoredMerge) all = { 0 };
	json_t *list = json_array();
	for (u32 i = 0; i < s->piece.n; i++)
		words_add(&ids, s->piece.v[i].text)->value = i;
	for (u32 i = 0; i < s->piece.n; i++) {
		const ModelPiece *p = &s->piece.v[i];
		for (size_t cut = 1; cut < p->text.n && p->kind == PIECE_NORMAL; cut++) {
			if (((u8)p->text.s[cut] & 0xc0) == 0x80)
				continue;
			Str left = { p->text.s, cut }, right = { p->text.s + cut, p->text.n - cut };
			const Word *l = words_find(&ids, left), *r = words_find(&ids, right);
			if (!l || !r)
				continue;
			ScoredMerge m = { left, right, (u32)l->value, (u32)r->value, p->score };
			VEC_PUSH(a, &all, m);
		}
	}
	if (all.n)
		qsort(all.v, all.n, sizeof *all.v, by_score);
	for (u32 i = 0; i < all.n; i++)
		json_array_append_new(list, json_pack("[s%, s%]", all.v[i].left.s, all.v[i].left.n, all.v[i].right.s,
						      all.v[i].right.n));
	return list;
}

/* ---- as JSON ---- */

static const char *base64(Arena *a, Str bytes)
{
	static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *to = NEWN(a, char, (bytes.n + 2) / 3 * 4 + 1);
	size_t n = 0;
	for (size_t i = 0; i < bytes.n; i += 3) {
		u32 three = (u32)(u8)bytes.s[i] << 16;
		three |= i + 1 < bytes.n ? (u32)(u8)bytes.s[i + 1] << 8 : 0;
		three |= i + 2 < bytes.n ? (u8)bytes.s[i + 2] : 0;
		to[n++] = digit[three >> 18];
		to[n++] = digit[three >> 12 & 63];
		to[n++] = i + 1 < bytes.n ? digit[three >> 6 & 63] : '=';
		to[n++] = i + 2 < bytes.n ? digit[three & 63] : '=';
	}
	return to;
}

static json_t *added_token(u32 id, Str text, bool special)
{
	return json_pack("{s:i, s:s%, s:b, s:b, s:b, s:b, s:b}", "id", (int)id, "content", text.s, text.n, "single_word", 0, "lstrip",
			 0, "rstrip", 0, "normalized", 0, "special", (int)special);
}

static json_t *added_of(const Spm *s)
{
	json_t *added = json_array();
	for (u32 i = 0; i < s->piece.n; i++) {
		const ModelPiece *p = &s->piece.v[i];
		if (p->kind == PIECE_UNKNOWN || p->kind == PIECE_CONTROL || p->kind == PIECE_USER)
			json_array_append_new(added, added_token(i, p->text, p->kind != PIECE_USER));
	}
	return added;
}

static json_t *replace(const char *kind, const char *from, const char *to)
{
	return json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", kind, from, "content", to);
}

static json_t *steps(const char *list)
{
	return json_pack("{s:s, s:[]}", "type", "Sequence", list);
}

static json_t *normalizer_of(Arena *a, const Spm *s)
{
	json_t *all = steps("normalizers"), *list = json_object_get(all, "normalizers");
	if (s->charsmap.n)
		json_array_append_new(list, json_pack("{s:s, s:s}", "type", "Precompiled", "precompiled_charsmap", base64(a, s->charsmap)));
	if (s->remove_extra) {
		json_array_append_new(list, json_pack("{s:s, s:b, s:b}", "type", "Strip", "strip_left", s->model == MODEL_BPE, "strip_right", 1));
		json_array_append_new(list, replace("Regex", " {2,}", s->model == MODEL_BPE ? " " : MARK));
	}
	if (s->model == MODEL_BPE) {
		if (s->dummy_prefix)
			json_array_append_new(list, json_pack("{s:s, s:s}", "type", "Prepend", "prepend", MARK));
		json_array_append_new(list, replace("String", " ", MARK));
	}
	return all;
}

static json_t *model_of(Arena *a, const Spm *s)
{
	bool known = s->unknown != UINT64_MAX;
	if (s->model == MODEL_UNIGRAM) {
		json_t *list = json_array();
		for (u32 i = 0; i < s->piece.n; i++)
			json_array_append_new(list, json_pack("[s%, f]", s->piece.v[i].text.s, s->piece.v[i].text.n, (f64)s->piece.v[i].score));
		return json_pack("{s:s, s:o, s:o, s:b}", "type", "Unigram", "unk_id",
				 known ? json_integer((json_int_t)s->unknown) : json_null(), "vocab", list, "byte_fallback",
				 (int)s->byte_fallback);
	}
	json_t *vocabulary = json_object();
	for (u32 i = 0; i < s->piece.n; i++)
		json_object_setn_new(vocabulary, s->piece.v[i].text.s, s->piece.v[i].text.n, json_integer(i));
	const ModelPiece *unknown = known ? &s->piece.v[s->unknown] : NULL;
	return json_pack("{s:s, s:n, s:o, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout", "unk_token",
			 unknown ? json_stringn(unknown->text.s, unknown->text.n) : json_null(), "continuing_subword_prefix",
			 "end_of_word_suffix", "fuse_unk", 1, "byte_fallback", (int)s->byte_fallback, "ignore_merges", 0, "vocab",
			 vocabulary, "merges", merges_of(a, s));
}

static json_t *decoder_of(const Spm *s)
{
	if (s->model == MODEL_UNIGRAM)
		return json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace", "replacement", MARK, "prepend_scheme",
				 s->dummy_prefix ? "always" : "never", "split", 1);
	json_t *all = steps("decoders"), *list = json_object_get(all, "decoders");
	json_array_append_new(list, replace("String", MARK, " "));
	json_array_append_new(list, json_pack("{s:s}", "type", "ByteFallback"));
	json_array_append_new(list, json_pack("{s:s}", "type", "Fuse"));
	if (s->dummy_prefix)
		json_array_append_new(list, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content", " ", "start", 1, "stop", 0));
	return all;
}

/* Written out; takes `root`. */
static Status written(Arena *a, const char *path, json_t *root, Str *out)
{
	char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
	json_decref(root);
	if (!text)
		return FAIL(STATUS_INPUT, "%s: it has a piece that is not UTF-8", path);
	*out = (Str){ arena_strn(a, str_of(text)), strlen(text) };
	free(text);
	return OK;
}

Status sentencepiece_json(Arena *a, const char *path, Blob bytes, Str *out)
{
	Spm s;
	TRY(read_spm(a, path, bytes, &s));
	json_t *before = s.model == MODEL_BPE ? json_null() :
						json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace", "replacement", MARK,
							  "prepend_scheme", s.dummy_prefix ? "always" : "never", "split", 1);
	json_t *root = json_pack("{s:s, s:n, s:n, s:o, s:o, s:o, s:n, s:o, s:o}", "version", "1.0", "truncation", "padding",
				 "added_tokens", added_of(&s), "normalizer", normalizer_of(a, &s), "pre_tokenizer", before,
				 "post_processor", "decoder", decoder_of(&s), "model", model_of(a, &s));
	return written(a, path, root, out);
}

/* ---- vocab.txt ---- */

static json_t *template_piece(bool special, const char *id, int type)
{
	return json_pack("{s:{s:s, s:i}}", special ? "SpecialToken" : "Sequence", "id", id, "type_id", type);
}

static json_t *bert_template(u32 first, u32 last)
{
	json_t *single = json_array(), *pair = json_array();
	static const struct {
		bool special;
		const char *id;
		int type;
	} row[] = { { true, "[CLS]", 0 }, { false, "A", 0 }, { true, "[SEP]", 0 }, { false, "B", 1 }, { true, "[SEP]", 1 } };
	for (u32 i = 0; i < COUNT(row); i++) {
		if (i < 3)
			json_array_append_new(single, template_piece(row[i].special, row[i].id, row[i].type));
		json_array_append_new(pair, template_piece(row[i].special, row[i].id, row[i].type));
	}
	return json_pack("{s:s, s:o, s:o, s:{s:{s:s, s:[i], s:[s]}, s:{s:s, s:[i], s:[s]}}}", "type", "TemplateProcessing", "single",
			 single, "pair", pair, "special_tokens", "[CLS]", "id", "[CLS]", "ids", (int)first, "tokens", "[CLS]", "[SEP]",
			 "id", "[SEP]", "ids", (int)last, "tokens", "[SEP]");
}

Status vocabulary_json(Arena *a, const char *path, Str text, Str *out)
{
	static const char *const special[] = { "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]" };
	json_t *vocabulary = json_object(), *added = json_array();
	u32 id = 0, first = TOKEN_NONE, last = TOKEN_NONE;
	bool capitals = false;
	Status s = utf8_valid(text) < text.n ? FAIL(STATUS_INPUT, "%s: not UTF-8", path) : OK;
	for (size_t at = 0; at < text.n && !s; id++) {
		const char *end = memchr(text.s + at, '\n', text.n - at);
		Str line = { text.s + at, end ? (size_t)(end - text.s) - at : text.n - at };
		at += line.n + 1;
		if (line.n && line.s[line.n - 1] == '\r')
			line.n--;
		if (!line.n || id == TOKENIZER_VOCAB_MAX || json_object_getn(vocabulary, line.s, line.n))
			s = FAIL(STATUS_INPUT, "%s:%u: not a vocabulary of a piece a line: %s", path, id + 1,
				 line.n ? "a piece is there twice, or there are too many" : "the line is empty");
		json_object_setn_new(vocabulary, line.s, line.n, json_integer(id));
		bool named = false;
		for (u32 i = 0; i < COUNT(special); i++)
			named |= str_equal(line, str_of(special[i]));
		if (named)
			json_array_append_new(added, added_token(id, line, true));
		first = str_equal(line, STR("[CLS]")) ? id : first;
		last = str_equal(line, STR("[SEP]")) ? id : last;
		for (size_t i = 0; i < line.n && !named && line.s[0] != '['; i++)
			capitals |= line.s[i] >= 'A' && line.s[i] <= 'Z';
	}
	if (!s && (first == TOKEN_NONE || last == TOKEN_NONE || !json_object_get(vocabulary, "[UNK]")))
		s = FAIL(STATUS_INPUT, "%s: not a WordPiece vocabulary: it has no [UNK], [CLS] and [SEP]", path);
	if (s) {
		json_decref(vocabulary);
		json_decref(added);
		return s;
	}
	json_t *root = json_pack(
		"{s:s, s:n, s:n, s:o, s:{s:s, s:b, s:b, s:n, s:b}, s:{s:s}, s:o, s:{s:s, s:s, s:b}, s:{s:s, s:s, s:s, s:i, s:o}}", "version",
		"1.0", "truncation", "padding", "added_tokens", added, "normalizer", "type", "BertNormalizer", "clean_text", 1,
		"handle_chinese_chars", 1, "strip_accents", "lowercase", (int)!capitals, "pre_tokenizer", "type", "BertPreTokenizer",
		"post_processor", bert_template(first, last), "decoder", "type", "WordPiece", "prefix", "##", "cleanup", 1, "model", "type",
		"WordPiece", "unk_token", "[UNK]", "continuing_subword_prefix", "##", "max_input_chars_per_word", 100, "vocab", vocabulary);
	return written(a, path, root, out);
}
