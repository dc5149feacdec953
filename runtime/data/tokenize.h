/* runtime/data/tokenize.h: a corpus into token shards: OUTPUT.train.000.tok ..., OUTPUT.val.000.tok
 * ..., and OUTPUT.tokenizer.json. What `plinth data tokenize` does. */
#ifndef PL_DATA_TOKENIZE_H
#define PL_DATA_TOKENIZE_H
#include "runtime/data/corpus.h"
#include "runtime/data/shard.h"

typedef enum ValidationSplit {
	VALIDATION_NONE,
	VALIDATION_DOCUMENTS, /* documents, by a hash of their text: equal ones fall on one side */
	VALIDATION_LAST /* the last part of the inputs' bytes; text is cut at a line's start */
} ValidationSplit;

typedef enum DocumentEnds {
	ENDS_AUTO, /* when there are several documents: JSON Lines, or more than one file */
	ENDS_TOKEN,
	ENDS_NONE
} DocumentEnds;

typedef struct TokenizeConfig {
	const char *const *input;
	u32 ninput;
	const char *field; /* as corpus_open */
	const char
		*tokenizer; /* "byte", "char", "bpe" (trained here), "gpt2", or a tokenizer.json */
	u32 vocabulary;     /* bpe: how many tokens */
	const char *vocabulary_file, *merges_file; /* gpt2 */
	ValidationSplit split;
	f64 validation; /* the share for validation, between 0 and 1 */
	DocumentEnds ends;
	const char *output;
	u64 ids_per_shard; /* 0: SHARD_IDS */
	/* May be NULL. Told now and then how many bytes of the inputs a stage has done. */
	void (*progress)(void *context, const char *stage, u64 done, u64 total);
	void *context;
} TokenizeConfig;

typedef struct TokenizePart {
	const char *prefix;
	u64 tokens, bytes, characters, documents;
	u32 shards;
} TokenizePart;

typedef struct TokenizeReport {
	const char *kind, *tokenizer_path;
	u32 vocabulary;
	bool ends;            /* documents end with a token */
	TokenizePart part[2]; /* training, validation */
	u32 parts;
} TokenizeReport;

PL_MUST_USE Status tokenize(Arena *a, const TokenizeConfig *config, TokenizeReport *out);

#endif
