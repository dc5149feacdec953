/* runtime/data/tokenizer_parts.h: what the files that make tokenizers share; for runtime/data only.
 */
#ifndef PL_DATA_TOKENIZER_PARTS_H
#define PL_DATA_TOKENIZER_PARTS_H
#include "runtime/data/tokenizer.h"

extern const TokenizerKind tokenizer_kind_byte, tokenizer_kind_char, tokenizer_kind_bpe;

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

/* Merges within one word: appends its ids. */
void bpe_word(Tokenizer *t, Str word, Tokens *out);
PL_MUST_USE Status bpe_ready(Tokenizer *t);

#endif
