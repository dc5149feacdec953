/* runtime/data/tokenizer_parts.h: what the files that make tokenizers share; for runtime/data only.
 */
#ifndef PL_DATA_TOKENIZER_PARTS_H
#define PL_DATA_TOKENIZER_PARTS_H
#include "runtime/data/tokenizer.h"

extern const TokenizerKind tokenizer_kind_byte, tokenizer_kind_char, tokenizer_kind_bpe, tokenizer_kind_pipeline;

/* A tokenizer of `vocabulary` ids whose pieces are still to be set: by the caller, who then sets
 * the merges of a bpe, ... */
Tokenizer *tokenizer_new(Arena *a, const TokenizerKind *kind, u32 vocabulary);
/* ... and has everything derived from them checked and built. */
PL_MUST_USE Status tokenizer_ready(Tokenizer *t);

/* GPT-2's way of writing bytes as visible characters in vocabulary files: printable Latin-1 stands
 * for itself, the other 68 bytes are U+0100 and up, in order. */
enum { BYTE_CODES = 256 + 68 };
typedef struct ByteCodes {
	u16 code[256];        /* by byte */
	i16 byte[BYTE_CODES]; /* by character; -1 where it stands for none */
	u8 rank[256];         /* by byte: its place among those characters, its id in GPT-2 */
} ByteCodes;
void byte_codes(ByteCodes *out);
/* The bytes of a token as vocabulary files have it; false where a character of it stands for none. */
bool bytes_of_piece(Arena *a, const ByteCodes *codes, Str piece, Str *out);
/* The special token that ends a document, or TOKEN_NONE. */
u32 end_of_documents(const Tokenizer *t);

/* Merges within one word, from its bytes: appends its ids. */
void bpe_word(Tokenizer *t, Str word, Tokens *out);
/* The same from symbols. */
void bpe_merge(Tokenizer *t, const u32 *symbol, u32 n, Tokens *out);
/* The map from pairs to ranks. */
PL_MUST_USE Status bpe_pairs(Tokenizer *t);
PL_MUST_USE Status bpe_ready(Tokenizer *t);
/* What `encode` gives for a word, kept for the next time that it comes. */
PL_MUST_USE Status cached_encode(Tokenizer *t, Str word, Status (*encode)(Tokenizer *t, Str word, Tokens *out), Tokens *out);

#endif
