/* runtime/data/tokenizer_train.c: learning a tokenizer from a corpus.
 *
 * char: the set of characters, in code point order.
 *
 * bpe: the text is cut into words; equal words are counted once. From the bytes up, the pair of
 * neighbouring symbols that occurs most often becomes a symbol, until there are enough (Sennrich et
 * al., 2016). Counts are kept up to date by looking only at the words that have the pair; a heap
 * with entries that may be out of date gives the most frequent. Ties go to the smaller ids, as in
 * Hugging Face's trainer, so that both learn the same merges. */
#include "runtime/data/split.h"
#include "runtime/data/tokenizer_parts.h"
#include "runtime/data/utf8.h"
#include "support/vec.h"

#include <string.h>

struct Trainer {
	Arena *arena;
	const TokenizerKind *kind;
	bool end;
	/* char */
	u8 *seen; /* a bit per code point */
	/* bpe */
	u32 vocabulary;
	Splitter *splitter;
	Words words; /* value: how often */
};

static const u32 code_points = 0x110000;

Status trainer_char(Arena *a, bool end, Trainer **out)
{
	Trainer *tr = NEW(a, Trainer);
	*tr = (Trainer){ .arena = a, .kind = &tokenizer_kind_char, .end = end };
	tr->seen = NEWN(a, u8, code_points / 8);
	*out = tr;
	return OK;
}

Status trainer_bpe(Arena *a, u32 vocabulary, bool end, Trainer **out)
{
	if (vocabulary < 256u + end || vocabulary > TOKENIZER_VOCAB_MAX)
		return FAIL(STATUS_INPUT, "a byte-pair vocabulary has %u to %u tokens, not %u",
			    256u + end, TOKENIZER_VOCAB_MAX, vocabulary);
	Trainer *tr = NEW(a, Trainer);
	*tr = (Trainer){ .arena = a,
			 .kind = &tokenizer_kind_bpe,
			 .end = end,
			 .vocabulary = vocabulary,
			 .words = { .arena = a } };
	TRY(splitter_make(a, &tr->splitter));
	*out = tr;
	return OK;
}

void trainer_close(Trainer *tr)
{
	if (!tr)
		return;
	splitter_free(tr->splitter);
	tr->splitter = NULL;
}

Status trainer_add(Trainer *tr, Str text)
{
	if (tr->kind == &tokenizer_kind_bpe) {
		Split split = { .splitter = tr->splitter, .text = text };
		for (;;) {
			Str word;
			TRY(split_next(&split, &word));
			if (!word.n)
				return OK;
			words_add(&tr->words, word)->value++;
		}
	}
	u32 code, n;
	for (size_t at = 0; at < text.n; at += n) {
		n = utf8_read((Str){ text.s + at, text.n - at }, &code);
		if (!n)
			return FAIL(STATUS_INPUT,
				    "byte %zu (0x%02x) is not UTF-8, so there are no characters to "
				    "make a "
				    "vocabulary of; a byte or bpe tokenizer takes any bytes",
				    at, (u8)text.s[at]);
		if (!code)
			return FAIL(
				STATUS_INPUT,
				"byte %zu is the character U+0000, which a vocabulary file cannot "
				"hold; a byte or bpe tokenizer takes any bytes",
				at);
		tr->seen[code / 8] |= (u8)(1u << code % 8);
	}
	return OK;
}

static void add_end(Tokenizer *t, u32 id)
{
	t->end = id;
	t->piece[id] = STR(END_OF_TEXT);
	t->special[id] = true;
}

static Status char_finish(Trainer *tr, Tokenizer **out)
{
	u32 n = 0, id = 0;
	for (u32 code = 0; code < code_points; code++)
		n += tr->seen[code / 8] >> code % 8 & 1;
	if (!n)
		return FAIL(STATUS_INPUT, "there is no text to make a vocabulary of");
	Tokenizer *t = tokenizer_new(tr->arena, tr->kind, n + tr->end);
	for (u32 code = 0; code < code_points; code++) {
		if (!(tr->seen[code / 8] >> code % 8 & 1))
			continue;
		char *piece = NEWN(tr->arena, char, 4);
		t->piece[id++] = (Str){ piece, utf8_write(code, piece) };
	}
	if (tr->end)
		add_end(t, id);
	*out = t;
	return tokenizer_ready(t);
}

/* --- byte pairs ------------------------------------------------------------------------------- */

typedef struct Pair {
	u32 left, right;
	i64 count;     /* over the whole corpus, now */
	VEC(u32) word; /* those that may have it: a word may be there twice, or no longer have it */
	u32 last;      /* the last word put there, + 1: most repetitions are avoided by it */
	u32 grown;     /* the merge, + 1, in which it was put in `grown` last */
} Pair;

/* A pair and its count when it was put in; out of date when the pair's count is another. */
typedef struct Candidate {
	i64 count;
	u32 left, right, pair;
} Candidate;

typedef struct Learning {
	Arena *arena;
	u32 *symbol;       /* all words' symbols, one after the other */
	u32 *start, *size; /* by word, into symbol */
	const Words *words;
	Map index; /* left << 32 | right -> pair */
	VEC(Pair) pair;
	VEC(Candidate) heap;
	VEC(u32) grown; /* pairs that got more occurrences in the current merge */
	u32 merges;
} Learning;

static bool sooner(Candidate a, Candidate b)
{
	if (a.count != b.count)
		return a.count > b.count;
	if (a.left != b.left)
		return a.left < b.left;
	return a.right < b.right;
}

static void candidate_push(Learning *l, u32 pair)
{
	const Pair *p = &l->pair.v[pair];
	Candidate c = { p->count, p->left, p->right, pair };
	VEC_PUSH(l->arena, &l->heap, c);
	u32 at = l->heap.n - 1;
	for (; at && sooner(c, l->heap.v[(at - 1) / 2]); at = (at - 1) / 2)
		l->heap.v[at] = l->heap.v[(at - 1) / 2];
	l->heap.v[at] = c;
}

static Candidate candidate_pop(Learning *l)
{
	Candidate first = l->heap.v[0], last = l->heap.v[--l->heap.n];
	u32 at = 0, n = l->heap.n;
	for (;;) {
		u32 child = 2 * at + 1;
		if (child >= n)
			break;
		child += child + 1 < n && sooner(l->heap.v[child + 1], l->heap.v[child]);
		if (!sooner(l->heap.v[child], last))
			break;
		l->heap.v[at] = l->heap.v[child];
		at = child;
	}
	l->heap.v[at] = last;
	return first;
}

/* `by` more occurrences of a pair, in `word`. */
static void count_pair(Learning *l, u32 left, u32 right, i64 by, u32 word)
{
	u64 key = (u64)left << 32 | right;
	const u64 *known = map_get(&l->index, key);
	u32 at = known ? (u32)*known : l->pair.n;
	if (!known) {
		map_put(&l->index, key, at);
		VEC_PUSH(l->arena, &l->pair, (Pair){ .left = left, .right = right });
	}
	Pair *p = &l->pair.v[at];
	p->count += by;
	if (by < 0)
		return;
	if (p->last != word + 1) {
		VEC_PUSH(l->arena, &p->word, word);
		p->last = word + 1;
	}
	if (p->grown != l->merges + 1) {
		VEC_PUSH(l->arena, &l->grown, at);
		p->grown = l->merges + 1;
	}
}

/* Joins every `left right` in one word, from the left, and counts what that changes. */
static void join_in(Learning *l, u32 word, u32 left, u32 right, u32 joined)
{
	u32 *s = l->symbol + l->start[word], n = l->size[word], to = 0;
	i64 times = (i64)l->words->word[word].value;
	for (u32 at = 0; at < n; to++) {
		if (at + 1 == n || s[at] != left || s[at + 1] != right) {
			s[to] = s[at++];
			continue;
		}
		if (to) {
			count_pair(l, s[to - 1], left, -times, word);
			count_pair(l, s[to - 1], joined, times, word);
		}
		if (at + 2 < n) {
			count_pair(l, right, s[at + 2], -times, word);
			count_pair(l, joined, s[at + 2], times, word);
		}
		s[to] = joined;
		at += 2;
	}
	l->size[word] = to;
}

/* The words as bytes, by their rank: ids in GPT-2's order. */
static void spell_out(Learning *l, const ByteCodes *codes)
{
	const Words *words = l->words;
	size_t total = 0;
	for (u32 w = 0; w < words->n; w++)
		total += words->word[w].text.n;
	l->symbol = NEWN(l->arena, u32, total + 1);
	l->start = NEWN(l->arena, u32, words->n + 1);
	l->size = NEWN(l->arena, u32, words->n + 1);
	u32 at = 0;
	for (u32 w = 0; w < words->n; w++) {
		Str text = words->word[w].text;
		l->start[w] = at;
		l->size[w] = (u32)text.n;
		for (size_t i = 0; i < text.n; i++)
			l->symbol[at++] = codes->rank[(u8)text.s[i]];
		for (size_t i = 0; i + 1 < text.n; i++)
			count_pair(l, l->symbol[l->start[w] + i], l->symbol[l->start[w] + i + 1],
				   (i64)words->word[w].value, w);
	}
}

/* The id of the symbol that two symbols make. The same bytes may come about in two ways (ab c, a
 * bc) and are one symbol. */
static u32 join_pieces(Words *pieces, u32 left, u32 right)
{
	Str a = pieces->word[left].text, b = pieces->word[right].text;
	char *both = NEWN(pieces->arena, char, a.n + b.n);
	memcpy(both, a.s, a.n);
	memcpy(both + a.n, b.s, b.n);
	return (u32)(words_add(pieces, (Str){ both, a.n + b.n }) - pieces->word);
}

/* Fills `pieces` with the symbols, by id, and `made` from pairs to what they make, by rank. */
static void learn(Learning *l, u32 symbols, Words *pieces, Map *made)
{
	ByteCodes codes;
	byte_codes(&codes);
	for (u32 code = 0; code < BYTE_CODES; code++) {
		char byte = (char)codes.byte[code];
		if (codes.byte[code] >= 0)
			words_add(pieces, (Str){ &byte, 1 });
	}
	spell_out(l, &codes);
	for (u32 i = 0; i < l->pair.n; i++)
		candidate_push(l, i);
	while (pieces->n < symbols && l->heap.n) {
		Candidate c = candidate_pop(l);
		Pair p = l->pair.v[c.pair];
		if (c.count != p.count) { /* out of date: again with what it is now */
			if (p.count > 0 && p.count < c.count)
				candidate_push(l, c.pair);
			continue;
		}
		if (p.count < 2)
			break;
		u32 joined = join_pieces(pieces, p.left, p.right);
		map_put(made, (u64)p.left << 32 | p.right, joined);
		l->merges++;
		l->grown.n = 0;
		for (u32 i = 0; i < p.word.n; i++)
			join_in(l, p.word.v[i], p.left, p.right, joined);
		l->pair.v[c.pair].count = 0;
		for (u32 i = 0; i < l->grown.n; i++)
			candidate_push(l, l->grown.v[i]);
	}
}

static Status bpe_finish(Trainer *tr, Tokenizer **out)
{
	Arena work = ARENA("byte-pair training");
	Learning l = { .arena = &work, .words = &tr->words, .index = { .arena = &work } };
	Words pieces = { .arena = tr->arena };
	Map made = { .arena = &work };
	learn(&l, tr->vocabulary - tr->end, &pieces, &made);
	Tokenizer *t = tokenizer_new(tr->arena, tr->kind, pieces.n + tr->end);
	for (u32 id = 0; id < pieces.n; id++)
		t->piece[id] = pieces.word[id].text;
	t->merge = NEWN(tr->arena, Merge, made.n);
	t->nmerge = made.n;
	for (u32 rank = 0; rank < made.n; rank++) {
		u64 pair = made.entry[rank].key;
		t->merge[rank] =
			(Merge){ (u32)(pair >> 32), (u32)pair, (u32)made.entry[rank].value };
	}
	if (tr->end)
		add_end(t, pieces.n);
	arena_free(&work);
	*out = t;
	return tokenizer_ready(t);
}

Status trainer_finish(Trainer *tr, Tokenizer **out)
{
	Status s = tr->kind == &tokenizer_kind_char ? char_finish(tr, out) : bpe_finish(tr, out);
	trainer_close(tr);
	return s;
}
