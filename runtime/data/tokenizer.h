/* runtime/data/tokenizer.h: text to token ids and back. Every tokenizer has a byte string (a piece)
 * per id, and decoding is their concatenation; the kinds differ in how they find the ids:
 *
 *   byte   one id per byte; any bytes whatever
 *   char   one id per Unicode character of the corpus it was trained on; valid UTF-8 only
 *   bpe    byte-level byte-pair encoding as in GPT-2 (Radford et al., 2019, after Sennrich et al.,
 *          2016): trained on a corpus, or read from a vocabulary and a list of merges; any bytes
 *   published  any other tokenizer.json: normalizers, pre-tokenizers, WordPiece, unigram, byte pairs
 *          (pipeline.h); valid UTF-8 only
 *
 * Decoding what was encoded by one of the first three gives the same bytes back, always; a published
 * one may have normalized the text. Text is only ever ordinary text: "<|endoftext|>" in it is
 * thirteen characters, not the end of a document; that id is put between documents by whoever has
 * documents (tokenizer_input and tokenizer_prompt are for those who mean special tokens). A tokenizer is saved as a Hugging
 * Face tokenizer.json, which their library reads and encodes alike. It lives in the arena it was made
 * in, and encoding fills caches, so that one is used by one thread at a time. */
#ifndef PL_DATA_TOKENIZER_H
#define PL_DATA_TOKENIZER_H
#include "runtime/data/words.h"
#include "support/map.h"
#include "support/status.h"
#include "support/str.h"

#define TOKEN_NONE          UINT32_MAX
#define TOKENIZER_VOCAB_MAX (1u << 24)
/* The end of a document, in the tokenizers made here and in GPT-2's. */
#define END_OF_TEXT "<|endoftext|>"

/* Ids, appended to. */
typedef struct Tokens {
	Arena *arena;
	u32 *v;
	size_t n, cap;
} Tokens;

typedef struct Tokenizer Tokenizer;
typedef struct Splitter Splitter; /* runtime/data/split.h */

typedef struct TokenizerKind {
	const char *name;
	/* Appends the ids of `text`; fails only where the kind cannot say it (char). */
	Status (*encode)(Tokenizer *t, Str text, Tokens *out);
	bool any_bytes; /* encodes every byte string */
} TokenizerKind;

typedef struct Merge {
	u32 left, right, joined;
} Merge;

struct Tokenizer {
	const TokenizerKind *kind;
	Arena *arena;
	Str *piece; /* by id */
	u32 vocabulary;
	u32 end;       /* the id that ends a document, or TOKEN_NONE */
	bool *special; /* by id: added tokens, which no text gives; their piece is their name */
	Words ids;     /* piece -> id, without special ones */
	/* char */
	Map by_code; /* code point -> id */
	/* bpe */
	Splitter *splitter;
	Merge *merge; /* by rank */
	u32 nmerge;
	Map pairs; /* left << 32 | right -> rank */
	u32 of_byte[256];
	Words cache; /* a word -> where its ids are in `cached`, << 32 | how many */
	Tokens cached;
	struct Pipeline *pipeline; /* of a published one; otherwise NULL */
	void *work; /* the merge loop's arrays, grown as needed */
	size_t work_size;
};

/* The byte tokenizer; `end` adds id 256, which ends a document. */
PL_MUST_USE Status tokenizer_byte(Arena *a, bool end, Tokenizer **out);
/* GPT-2's files: encoder.json (or vocab.json) and vocab.bpe (or merges.txt). */
PL_MUST_USE Status tokenizer_gpt2(Arena *a, const char *vocabulary, const char *merges,
				  Tokenizer **out);
/* A tokenizer.json, of any kind; a SentencePiece model (*.model); a WordPiece vocabulary (*.txt, a piece a line: text is
 * put in lower case if the vocabulary has no capital letters). */
PL_MUST_USE Status tokenizer_load(Arena *a, const char *path, Tokenizer **out);
/* The same from the file's text; `path` says what it is. */
PL_MUST_USE Status tokenizer_parse(Arena *a, const char *path, Str text, Tokenizer **out);
PL_MUST_USE Status tokenizer_save(const Tokenizer *t, const char *path);
/* Gives back what is not in the arena (the compiled pattern). NULL is fine. */
void tokenizer_close(Tokenizer *t);

/* Learning a tokenizer from a corpus: begin, add each document, finish. The order of documents does
 * not matter to `char`; to `bpe` neither, since ties go by id. */
typedef struct Trainer Trainer;
PL_MUST_USE Status trainer_char(Arena *a, bool end, Trainer **out);
/* `vocabulary` counts the 256 bytes and the end of a document; fewer come out when no pair occurs
 * twice any more. */
PL_MUST_USE Status trainer_bpe(Arena *a, u32 vocabulary, bool end, Trainer **out);
PL_MUST_USE Status trainer_add(Trainer *tr, Str text);
/* Ends the trainer, as trainer_close does for one that is given up. */
PL_MUST_USE Status trainer_finish(Trainer *tr, Tokenizer **out);
void trainer_close(Trainer *tr);

/* Appends the ids of `text`. Encoding a text in parts gives the same ids as the whole where the
 * parts end at places that tokenizer_cut gives. */
PL_MUST_USE Status tokenizer_encode(Tokenizer *t, Str text, Tokens *out);
/* What a model is given for a text, or for two of them (`second` NULL: one): with the special tokens that the tokenizer
 * puts around them, and with those that the text itself names, as Hugging Face's tokenizers do. `types` may be NULL:
 * which of the two each id is of, as the tokenizer says. */
PL_MUST_USE Status tokenizer_input(Tokenizer *t, Str text, const Str *second, Tokens *ids, Tokens *types);
/* What is to be gone on with: `text` with the special tokens that it names. `front`: behind those that the tokenizer puts
 * before one, unless the text begins with them itself. */
PL_MUST_USE Status tokenizer_prompt(Tokenizer *t, Str text, bool front, Tokens *ids);
/* Where to end the first part of `text`: the largest good place at most at `most` bytes, or the
 * first after it, or the end. A good place is between a visible ASCII character and an ASCII
 * whitespace (a space, for a published tokenizer): what these join is never cut. A tokenizer that may
 * join anything has no good places. */
size_t tokenizer_cut(const Tokenizer *t, Str text, size_t most);
/* The bytes of `id`, nothing for special ids; id < t->vocabulary. */
Str tokenizer_piece(const Tokenizer *t, u32 id);
/* The same at the front of a text, where a published tokenizer may leave a space out. */
Str tokenizer_first_piece(const Tokenizer *t, u32 id);
/* The special token of this name, or TOKEN_NONE. */
u32 tokenizer_special(const Tokenizer *t, const char *name);
/* Appends the bytes of ids; an id that is not in the vocabulary is an error. */
PL_MUST_USE Status tokenizer_decode(const Tokenizer *t, const u32 *id, size_t n, Buf *out);
/* The same for the same pieces, merges and special ids, however they were written down. */
u64 tokenizer_hash(const Tokenizer *t);

void tokens_push(Tokens *t, u32 id);
u32 *tokens_room(Tokens *t, size_t n); /* room for n more; the caller adds to t->n */

#endif
