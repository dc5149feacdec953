/* runtime/data/pipeline.h: how a published tokenizer goes from text to ids, in the steps of Hugging Face's tokenizers:
 * added tokens are taken out of the text; what is between them is normalized, cut into words, and each word becomes ids
 * by the model; a template puts special tokens around. For runtime/data only; the steps are read from a tokenizer.json
 * by pipeline_file.c.
 *
 * A text on its way is a list of parts: stretches of text, or ids that are found already. Each step makes a new list. */
#ifndef PL_DATA_PIPELINE_H
#define PL_DATA_PIPELINE_H
#include "runtime/data/pattern.h"
#include "runtime/data/tokenizer_parts.h"
#include "runtime/data/unicode.h"
#include "support/vec.h"

typedef struct Part {
	Str text;
	u32 id;     /* TOKEN_NONE: the text is still one */
	bool first; /* it begins the input */
} Part;

typedef VEC(Part) Parts;

/* ---- normalizers: normalize.c ---- */

typedef enum NormalizerKind {
	NORMALIZE_FORM,          /* NFC, NFD, NFKC, NFKD */
	NORMALIZE_LOWERCASE,
	NORMALIZE_STRIP,         /* whitespace at the ends */
	NORMALIZE_STRIP_ACCENTS, /* all marks */
	NORMALIZE_BERT,
	NORMALIZE_PREPEND,
	NORMALIZE_REPLACE,
	NORMALIZE_NMT,
	NORMALIZE_PRECOMPILED    /* SentencePiece's table */
} NormalizerKind;

/* SentencePiece's table: a double-array trie (Darts-clone, Yata) from prefixes to places in `texts`. */
typedef struct CharsMap {
	const u32 *trie;
	u32 n;
	Str texts;
} CharsMap;

typedef struct Normalizer {
	NormalizerKind kind;
	NormalForm form;
	bool left, right;                               /* of strip */
	bool clean, ideographs, strip_accents, lowercase; /* of bert */
	Str text;                                       /* to prepend, to put in place */
	Pattern *pattern;                               /* of replace */
	CharsMap map;
} Normalizer;

PL_MUST_USE Status normalizer_apply(Arena *a, const Normalizer *n, Str text, Str *out);
/* Reads what a tokenizer's file has of the table; every place in it is checked when it is followed. */
PL_MUST_USE Status chars_map_read(Arena *a, Str bytes, CharsMap *out);

/* ---- pre-tokenizers: pretokenize.c ---- */

/* What becomes of the matches of a pattern that a text is cut at. */
typedef enum SplitBehaviour { SPLIT_REMOVED, SPLIT_ISOLATED, SPLIT_WITH_PREVIOUS, SPLIT_WITH_NEXT, SPLIT_CONTIGUOUS } SplitBehaviour;

typedef enum PretokenizerKind {
	PRETOKENIZE_BYTE_LEVEL,
	PRETOKENIZE_PATTERN,
	PRETOKENIZE_WORDS,       /* "Whitespace": \w+|[^\w\s]+ */
	PRETOKENIZE_WHITESPACE,  /* "WhitespaceSplit" */
	PRETOKENIZE_BERT,
	PRETOKENIZE_PUNCTUATION,
	PRETOKENIZE_DIGITS,
	PRETOKENIZE_METASPACE
} PretokenizerKind;

typedef enum PrependScheme { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER } PrependScheme;

typedef struct Pretokenizer {
	PretokenizerKind kind;
	SplitBehaviour behaviour;
	Pattern *pattern;
	bool invert;      /* of pattern: the matches are what is kept */
	bool prefix;      /* of byte level: a space before a text that has none */
	bool split;       /* of byte level: by GPT-2's pattern; of metaspace: before each mark */
	bool individual;  /* of digits: each by itself */
	Str mark;         /* of metaspace: what stands for a space */
	PrependScheme scheme;
} Pretokenizer;

/* Appends what becomes of a part's text. `splitter` is GPT-2's pattern. */
PL_MUST_USE Status pretokenizer_apply(Arena *a, const Pretokenizer *p, Splitter *splitter, const Part *part, Parts *out);

/* ---- models: subword.c, and byte pairs: bpe.c ---- */

typedef enum SubwordKind { SUBWORD_BPE, SUBWORD_WORDPIECE, SUBWORD_UNIGRAM, SUBWORD_WORDS } SubwordKind;

/* A node of the trie of a unigram model's pieces: children are a list of siblings. */
typedef struct TrieNode {
	u32 child, next; /* indices; 0: none */
	u32 id;          /* TOKEN_NONE: no piece ends here */
	u8 byte;
} TrieNode;

typedef struct Subword {
	SubwordKind kind;
	bool bytes;                    /* pieces are bytes: a byte-level vocabulary */
	u32 unknown;                   /* id, or TOKEN_NONE */
	bool fuse_unknown, byte_fallback, whole_words; /* whole_words: a word in the vocabulary is that piece ("ignore_merges") */
	Str prefix, suffix;            /* of pieces that go on with a word; of those that end one */
	u32 longest;                   /* characters of a word, for WordPiece */
	u32 fallback[256];             /* ids of <0x00> to <0xFF> */
	f64 *score, unknown_score;     /* by id: unigram */
	VEC(TrieNode) trie;
} Subword;

/* Appends a word's ids. `word` is not empty. */
PL_MUST_USE Status subword_encode(Tokenizer *t, Str word, Tokens *out);
/* The trie of a unigram model, from the pieces that are its own. */
void subword_ready(Tokenizer *t, const Str *piece, const bool *own);

/* ---- the whole ---- */

/* A token that is looked for in the text itself. */
typedef struct AddedToken {
	Str text;
	u32 id;
	bool special, normalized; /* normalized: looked for after the normalizer */
	bool single_word, left, right; /* left, right: with the whitespace there */
} AddedToken;

/* A piece of the template: a special token, or the first (0) or second (1) text. */
typedef struct TemplatePiece {
	u32 id; /* TOKEN_NONE: a text */
	u32 sequence, type;
} TemplatePiece;
typedef VEC(TemplatePiece) Template;

typedef struct Pipeline {
	VEC(AddedToken) added;
	bool begins[2][256]; /* a byte that an added token begins with: special ones too; without them */
	VEC(Normalizer) normalizer;
	VEC(Pretokenizer) pretokenizer;
	Subword model;
	Template single, pair;
	Splitter *splitter;
	Words known;       /* the vocabulary as the model looks it up: piece -> id */
	bool strip_start;  /* decoding drops a space at the front */
	Str source;        /* the tokenizer.json, as it is saved */
	u64 source_hash;
} Pipeline;

PL_MUST_USE Status pipeline_encode(Tokenizer *t, Str text, bool specials, Tokens *out);
void pipeline_close(Pipeline *p);
/* From the text of a tokenizer.json; `path` is for messages. */
PL_MUST_USE Status pipeline_read(Arena *a, const char *path, Str text, Tokenizer **out);
/* A SentencePiece model, or a WordPiece vocab.txt, as the text of the tokenizer.json that says the same. */
PL_MUST_USE Status sentencepiece_json(Arena *a, const char *path, Blob bytes, Str *out);
PL_MUST_USE Status vocabulary_json(Arena *a, const char *path, Str text, Str *out);

#endif
