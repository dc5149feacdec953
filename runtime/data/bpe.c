/* runtime/data/bpe.c: byte-pair encoding with given merges. A word starts as its bytes; the pair
 * of neighbours with the lowest rank (the leftmost of equals) is joined until no pair has a rank.
 * A heap of pairs over a linked list makes that n log n in the word's length, for the words of a
 * thousand characters that some scripts and files have; most words come out of the cache. */
#include "runtime/data/split.h"
#include "runtime/data/tokenizer_parts.h"

#include <string.h>

enum {
	CACHED_WORDS = 1 << 20, /* words kept: more are looked up the long way */
	CACHED_LENGTH = 64      /* bytes; longer words seldom come again */
};

/* Printable Latin-1 without the soft hyphen. */
static bool stands_for_itself(u32 c)
{
	return (c >= '!' && c <= '~') || (c >= 0xa1 && c <= 0xac) || (c >= 0xae && c <= 0xff);
}

void byte_codes(ByteCodes *out)
{
	u32 code = 256, rank = 0;
	memset(out->byte, 0xff, sizeof out->byte);
	for (u32 b = 0; b < 256; b++)
		out->code[b] = (u16)(stands_for_itself(b) ? b : code++);
	for (u32 b = 0; b < 256; b++)
		out->byte[out->code[b]] = (i16)b;
	for (u32 c = 0; c < BYTE_CODES; c++)
		if (out->byte[c] >= 0)
			out->rank[out->byte[c]] = (u8)rank++;
}

static u64 pair_key(u32 left, u32 right)
{
	return (u64)left << 32 | right;
}

Status bpe_ready(Tokenizer *t)
{
	for (u32 b = 0; b < 256; b++) {
		char byte = (char)(u8)b;
		const Word *w = words_find(&t->ids, (Str){ &byte, 1 });
		if (!w)
			return FAIL(STATUS_INPUT,
				    "the vocabulary has no token for the byte 0x%02x, so it "
				    "is not a byte-level one",
				    b);
		t->of_byte[b] = (u32)w->value;
	}
	TRY(bpe_pairs(t));
	return splitter_make(t->arena, &t->splitter);
}

Status bpe_pairs(Tokenizer *t)
{
	for (u32 rank = 0; rank < t->nmerge; rank++) {
		u64 key = pair_key(t->merge[rank].left, t->merge[rank].right);
		if (map_get(&t->pairs, key))
			return FAIL(STATUS_INPUT, "merges %u and %u are the same pair",
				    (u32)*map_get(&t->pairs, key) + 1, rank + 1);
		map_put(&t->pairs, key, rank);
	}
	return OK;
}

/* A doubly linked list of the word's symbols, and the heap of pairs that have a rank: each is
 * rank << 32 | position of the left symbol, so that the least is the next to join. */
typedef struct Joining {
	u32 *id, *before, *after; /* TOKEN_NONE: joined into the one before; no neighbour */
	u64 *heap;
	u32 nheap;
} Joining;

static void heap_push(Joining *j, u64 entry)
{
	u32 at = j->nheap++;
	for (; at && entry < j->heap[(at - 1) / 2]; at = (at - 1) / 2)
		j->heap[at] = j->heap[(at - 1) / 2];
	j->heap[at] = entry;
}

static u64 heap_pop(Joining *j)
{
	u64 least = j->heap[0], last = j->heap[--j->nheap];
	u32 at = 0;
	for (;;) {
		u32 child = 2 * at + 1;
		if (child >= j->nheap)
			break;
		child += child + 1 < j->nheap && j->heap[child + 1] < j->heap[child];
		if (last <= j->heap[child])
			break;
		j->heap[at] = j->heap[child];
		at = child;
	}
	j->heap[at] = last;
	return least;
}

/* The rank of the pair that starts at `left`, or TOKEN_NONE. */
static u32 rank_at(const Tokenizer *t, const Joining *j, u32 left)
{
	if (left == TOKEN_NONE || j->id[left] == TOKEN_NONE || j->after[left] == TOKEN_NONE)
		return TOKEN_NONE;
	const u64 *rank = map_get(&t->pairs, pair_key(j->id[left], j->id[j->after[left]]));
	return rank ? (u32)*rank : TOKEN_NONE;
}

static void offer(const Tokenizer *t, Joining *j, u32 left)
{
	u32 rank = rank_at(t, j, left);
	if (rank != TOKEN_NONE)
		heap_push(j, (u64)rank << 32 | left);
}

/* Room for a word of n bytes: three lists, and a heap that gets n - 1 entries at first and at most
 * two for each of n - 1 joins. */
static Joining joining(Tokenizer *t, size_t n)
{
	size_t size = n * 3 * sizeof(u64) + n * 3 * sizeof(u32);
	if (size > t->work_size) {
		t->work_size = MAX(size, t->work_size * 2);
		t->work = arena_push(t->arena, 1, t->work_size, 16);
	}
	u64 *heap = t->work;
	u32 *id = (u32 *)(heap + 3 * n);
	return (Joining){ .heap = heap, .id = id, .before = id + n, .after = id + 2 * n };
}

void bpe_merge(Tokenizer *t, const u32 *symbol, u32 n, Tokens *out)
{
	Joining j = joining(t, n);
	for (u32 i = 0; i < n; i++) {
		j.id[i] = symbol[i];
		j.before[i] = i ? i - 1 : TOKEN_NONE;
		j.after[i] = i + 1 < n ? i + 1 : TOKEN_NONE;
	}
	for (u32 i = 0; i + 1 < n; i++)
		offer(t, &j, i);
	while (j.nheap) {
		u64 top = heap_pop(&j);
		u32 left = (u32)top, rank = (u32)(top >> 32);
		if (rank_at(t, &j, left) != rank)
			continue; /* one of the two has been joined to something since */
		u32 right = j.after[left];
		j.id[left] = t->merge[rank].joined;
		j.id[right] = TOKEN_NONE;
		j.after[left] = j.after[right];
		if (j.after[left] != TOKEN_NONE)
			j.before[j.after[left]] = left;
		offer(t, &j, j.before[left]);
		offer(t, &j, left);
	}
	u32 *to = tokens_room(out, n);
	for (u32 i = 0; i != TOKEN_NONE; i = j.after[i]) {
		*to++ = j.id[i];
		out->n++;
	}
}

void bpe_word(Tokenizer *t, Str word, Tokens *out)
{
	u32 n = (u32)word.n, few[CACHED_LENGTH];
	Arena tmp = ARENA("word");
	u32 *symbol = n <= CACHED_LENGTH ? few : NEWN(&tmp, u32, n);
	for (u32 i = 0; i < n; i++)
		symbol[i] = t->of_byte[(u8)word.s[i]];
	bpe_merge(t, symbol, n, out);
	arena_free(&tmp);
}

static Status word_encode(Tokenizer *t, Str word, Tokens *out)
{
	bpe_word(t, word, out);
	return OK;
}

Status cached_encode(Tokenizer *t, Str word, Status (*encode)(Tokenizer *t, Str word, Tokens *out), Tokens *out)
{
	if (word.n > UINT32_MAX / 4)
		return FAIL(STATUS_INPUT, "a word of %zu bytes is too long", word.n);
	const Word *known = words_find(&t->cache, word);
	if (known) {
		u32 n = (u32)known->value;
		if (n) /* a word of no tokens has no place among them */
			memcpy(tokens_room(out, n), t->cached.v + (known->value >> 32), n * sizeof *t->cached.v);
		out->n += n;
		return OK;
	}
	size_t first = out->n;
	TRY(encode(t, word, out));
	if (word.n <= CACHED_LENGTH && t->cache.n < CACHED_WORDS) {
		size_t n = out->n - first;
		if (n)
			memcpy(tokens_room(&t->cached, n), out->v + first, n * sizeof *out->v);
		words_add(&t->cache, word)->value = (u64)t->cached.n << 32 | n;
		t->cached.n += n;
	}
	return OK;
}

static Status bpe_encode(Tokenizer *t, Str text, Tokens *out)
{
	Split split = { .splitter = t->splitter, .text = text };
	for (;;) {
		Str word;
		TRY(split_next(&split, &word));
		if (!word.n)
			return OK;
		if (word.n == 1)
			tokens_push(out, t->of_byte[(u8)word.s[0]]);
		else
			TRY(cached_encode(t, word, word_encode, out));
	}
}

const TokenizerKind tokenizer_kind_bpe = { "bpe", bpe_encode, true };
