/* runtime/generate.h: text out of causal language models, a token at a time, for several prompts at once.
 *
 * What else a model takes, such as the spectrogram that it writes the words of, is given by name, and stays the same.
 *
 * A model that takes `source` (and `keep`, where it is) besides, as `pairs` gives them (runtime/data/pairs.c), reads
 * the prompt there, once, and writes behind a token that begins the text.
 *
 * With entries `prefill` and `decode` (passes/graph/incremental.c) a token costs what one position costs: what earlier
 * positions leave behind is kept. Prompts are taken in pieces, as far as the shortest goes; of a longer one, the rest
 * is fed token by token beside what is written for the others, so that all stand at one position. With an entry
 * `forward` alone each token runs the whole window again. Both write the same but for rounding.
 *
 * When prompt and text are longer than the window (that of `forward`, or the room of the entries), its last tokens
 * are what the model sees, from then on at the cost of the whole window for each token: positions move with it. */
#ifndef PL_GENERATE_H
#define PL_GENERATE_H
#include "runtime/checkpoint/safetensors.h"
#include "runtime/data/tokenizer.h"
#include "runtime/executor.h"
#include "runtime/sampling.h"

typedef struct GenerateConfig {
	Executor *executor;   /* input i32[B, T], or source and keep [B, S] besides; first result f32[B, T, V] of `forward`, f32[B, 1, V] of the others */
	const Safetensors *input; /* what else the entries take, by name; may be NULL */
	u64 room;             /* positions that are kept: what `capacity` was bound to; without prefill and decode, 0 */
	Tokenizer *tokenizer;
	bool front;           /* prompts stand behind what the tokenizer puts before a text */
	const u32 *end;       /* tokens that end a text; NULL: the tokenizer's */
	u32 nend;
	u32 begin;            /* for a model that takes `source`: the token that begins what is written */
	Sampling sampling;    /* text number i draws with seed + i */
	u64 tokens;           /* to write, at most, of each text */
	const char *const *stop; /* texts that end the writing, and are not written */
	u32 nstop;
	/* Given the bytes of text number `text` as they come; a character may come in pieces. */
	void (*emit)(void *cx, u32 text, Str bytes);
	void *cx;
} GenerateConfig;

typedef enum GenerateEnd { GENERATE_TOKENS, GENERATE_STOP, GENERATE_DOCUMENT, GENERATE_SIGNAL } GenerateEnd;
typedef struct GeneratedText {
	u64 prompt_tokens, tokens;
	GenerateEnd why;
} GeneratedText;

typedef struct Generated {
	u64 prompt_tokens, tokens; /* of all texts */
	f64 seconds, first;        /* altogether, and until the first token was there */
} Generated;

/* Do the entries of the program do for this? Says why not. */
PL_MUST_USE Status generate_check(const Executor *x, u64 room, const Safetensors *input);
/* What a model that takes `source` reads of a prompt: its ids, and the one that ends a text. */
PL_MUST_USE Status generate_source(Tokenizer *t, Str prompt, Tokens *ids);
/* What other models begin with: the prompt's ids, of an empty one what stands between documents. */
PL_MUST_USE Status generate_prompt(Tokenizer *t, Str prompt, bool front, Tokens *ids);
/* As many prompts as the entries' batch has rows. text[nprompt] may be NULL. */
PL_MUST_USE Status generate(const GenerateConfig *config, const Str *prompt, u32 nprompt, GeneratedText *text, Generated *out);

#endif
