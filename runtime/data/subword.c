/* runtime/data/subword.c: from a word to ids, by the models of published tokenizers: WordPiece (Wu et al., 2016), unigram
 * language models (Kudo, 2018), whole words, and byte pairs over characters (bpe.c joins). Ties and unknown characters are
 * treated as Hugging Face's tokenizers do; see pipeline.h. */
#include "runtime/data/pipeline.h"
#include "runtime/data/utf8.h"

static u32 find(const Tokenizer *t, Str piece)
{
	const Word *w = words_find(&t->pipeline->known, piece);
	return w ? (u32)w->value : TOKEN_NONE;
}

/* `left right` as one text, in `b`. */
static Str joined(Buf *b, Str left, Str right)
{
	b->n = 0;
	buf_put(b, left);
	buf_put(b, right);
	return buf_str(b);
}

/* The bytes of a text as tokens, where there is one for each; false, and nothing is appended, otherwise. */
static bool by_bytes(const Subword *m, Str text, Tokens *out)
{
	if (!m->byte_fallback)
		return false;
	for (size_t i = 0; i < text.n; i++)
		if (m->fallback[(u8)text.s[i]] == TOKEN_NONE)
			return false;
	for (size_t i = 0; i < text.n; i++)
		tokens_push(out, m->fallback[(u8)text.s[i]]);
	return true;
}

static Status no_unknown(Str word)
{
	return FAIL(STATUS_INPUT, "'%.*s' is not in the tokenizer's vocabulary, and it has no token for what it does not know",
		    (int)MIN(word.n, (size_t)60), word.s);
}

/* ---- whole words, WordPiece ---- */

static Status word_encode(Tokenizer *t, Str word, Tokens *out)
{
	u32 id = find(t, word);
	id = id == TOKEN_NONE ? t->pipeline->model.unknown : id;
	if (id == TOKEN_NONE)
		return no_unknown(word);
	tokens_push(out, id);
	return OK;
}

/* The longest piece that the rest of the word begins with, again and again. */
static Status wordpiece_encode(Tokenizer *t, Str word, Tokens *out)
{
	const Subword *m = &t->pipeline->model;
	size_t before = out->n;
	Arena tmp = ARENA("wordpiece");
	Buf b = { .arena = &tmp };
	bool good = utf8_starts(word) <= m->longest;
	for (size_t begin = 0, end; good && begin < word.n; begin = end) {
		u32 id = TOKEN_NONE;
		for (end = word.n; end > begin; end--) {
			if (end < word.n && ((u8)word.s[end] & 0xc0) == 0x80)
				continue;
			Str part = { word.s + begin, end - begin };
			id = find(t, begin ? joined(&b, m->prefix, part) : part);
			if (id != TOKEN_NONE)
				break;
		}
		good = id != TOKEN_NONE;
		if (good)
			tokens_push(out, id);
	}
	arena_free(&tmp);
	if (good)
		return OK;
	out->n = before;
	if (m->unknown == TOKEN_NONE)
		return no_unknown(word);
	tokens_push(out, m->unknown);
	return OK;
}

/* ---- byte pairs ---- */

/* The symbol of a character, or of a byte, of a word: with what is added to those that end the word or go on with it. */
static u32 symbol_of(const Tokenizer *t, Buf *b, Str one, bool first, bool last)
{
	const Subword *m = &t->pipeline->model;
	if (!(last && m->suffix.n) && !(!first && m->prefix.n))
		return find(t, one);
	b->n = 0;
	if (!first)
		buf_put(b, m->prefix);
	buf_put(b, one);
	if (last)
		buf_put(b, m->suffix);
	return find(t, buf_str(b));
}

static void bpe_symbols_of(const Tokenizer *t, Str word, Tokens *symbols)
{
	const Subword *m = &t->pipeline->model;
	Arena tmp = ARENA("symbols");
	Buf b = { .arena = &tmp };
	bool unknown = false; /* the last symbol stands for what is not known */
	u32 code, n;
	for (size_t at = 0; at < word.n; at += n) {
		n = m->bytes ? 1 : utf8_read((Str){ word.s + at, word.n - at }, &code);
		Str one = { word.s + at, n };
		u32 id = symbol_of(t, &b, one, !at, at + n == word.n);
		if (id != TOKEN_NONE) {
			tokens_push(symbols, id);
			unknown = false;
		} else if (by_bytes(m, one, symbols)) {
			unknown = false;
		} else if (m->unknown != TOKEN_NONE) {
			if (!unknown || !m->fuse_unknown)
				tokens_push(symbols, m->unknown);
			unknown = true;
		} /* without a token for it, what is not known is left out, as Hugging Face's tokenizers do */
	}
	arena_free(&tmp);
}

static Status bpe_encode_word(Tokenizer *t, Str word, Tokens *out)
{
	if (t->pipeline->model.whole_words) {
		u32 id = find(t, word);
		if (id != TOKEN_NONE) {
			tokens_push(out, id);
			return OK;
		}
	}
	Arena tmp = ARENA("word");
	Tokens symbols = { .arena = &tmp };
	bpe_symbols_of(t, word, &symbols);
	if (symbols.n)
		bpe_merge(t, symbols.v, (u32)symbols.n, out);
	arena_free(&tmp);
	return OK;
}

/* ---- unigram ---- */

void subword_ready(Tokenizer *t, const Str *piece, const bool *own)
{
	Subword *m = &t->pipeline->model;
	VEC_PUSH(t->arena, &m->trie, (TrieNode){ .id = TOKEN_NONE });
	for (u32 id = 0; id < t->vocabulary; id++) {
		u32 at = 0;
		if (!piece[id].n || !own[id] || t->special[id])
			continue;
		for (size_t i = 0; i < piece[id].n; i++) {
			u8 byte = (u8)piece[id].s[i];
			u32 child = m->trie.v[at].child;
			while (child && m->trie.v[child].byte != byte)
				child = m->trie.v[child].next;
			if (!child) {
				child = m->trie.n;
				VEC_PUSH(t->arena, &m->trie, (TrieNode){ .id = TOKEN_NONE, .byte = byte, .next = m->trie.v[at].child });
				m->trie.v[at].child = child;
			}
			at = child;
		}
		m->trie.v[at].id = id;
	}
}

/* The best way to a place in the word: the piece that ends there. */
typedef struct Best {
	f64 score;
	u32 id;            /* TOKEN_NONE: it is not known */
	size_t begin, end; /* begin SIZE_MAX: no way yet */
} Best;

static void offer(Best *best, f64 score, u32 id, size_t begin, size_t end)
{
	if (best[end].begin == SIZE_MAX || score > best[end].score)
		best[end] = (Best){ score, id, begin, end };
}

static void best_paths(const Subword *m, Str word, Best *best)
{
	best[0] = (Best){ .begin = 0 };
	for (size_t i = 1; i <= word.n; i++)
		best[i].begin = SIZE_MAX;
	u32 code, n;
	for (size_t at = 0; at < word.n; at += n) {
		n = utf8_read((Str){ word.s + at, word.n - at }, &code);
		bool single = false;
		u32 node = 0;
		for (size_t end = at; end < word.n;) {
			u8 byte = (u8)word.s[end++];
			node = m->trie.v[node].child;
			while (node && m->trie.v[node].byte != byte)
				node = m->trie.v[node].next;
			if (!node)
				break;
			u32 id = m->trie.v[node].id;
			if (id == TOKEN_NONE)
				continue;
			offer(best, m->score[id] + best[at].score, id, at, end);
			single |= end == at + n;
		}
		if (!single)
			offer(best, m->unknown_score + best[at].score, TOKEN_NONE, at, at + n);
	}
}

static Status unigram_piece(const Subword *m, Str text, u32 id, Tokens *out)
{
	if (id != TOKEN_NONE) {
		tokens_push(out, id);
		return OK;
	}
	if (by_bytes(m, text, out))
		return OK;
	if (m->unknown == TOKEN_NONE)
		return no_unknown(text);
	tokens_push(out, m->unknown);
	return OK;
}

static Status unigram_encode(Tokenizer *t, Str word, Tokens *out)
{
	const Subword *m = &t->pipeline->model;
	Arena tmp = ARENA("unigram");
	Best *best = NEWN(&tmp, Best, word.n + 1);
	best_paths(m, word, best);
	/* backwards, then turned round; neighbours that are not known are one */
	VEC(Best) path = { 0 };
	for (size_t end = word.n; end; end = best[end].begin) {
		Best *after = path.n ? &path.v[path.n - 1] : NULL;
		if (m->fuse_unknown && after && best[end].id == TOKEN_NONE && after->id == TOKEN_NONE)
			after->begin = best[end].begin;
		else
			VEC_PUSH(&tmp, &path, best[end]);
	}
	Status s = OK;
	for (u32 i = path.n; i-- > 0 && !s;)
		s = unigram_piece(m, (Str){ word.s + path.v[i].begin, path.v[i].end - path.v[i].begin }, path.v[i].id, out);
	arena_free(&tmp);
	return s;
}

Status subword_encode(Tokenizer *t, Str word, Tokens *out)
{
	switch (t->pipeline->model.kind) {
	case SUBWORD_BPE: return bpe_encode_word(t, word, out);
	case SUBWORD_WORDPIECE: return wordpiece_encode(t, word, out);
	case SUBWORD_UNIGRAM: return unigram_encode(t, word, out);
	case SUBWORD_WORDS: return word_encode(t, word, out);
	}
	NEVER("a model of another kind");
}
