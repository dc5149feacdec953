/* runtime/generate.h: text out of a causal language model, a token at a time. Each token runs the entry
 * `forward` over the whole window, of which the logits of the last token are used: enough for samples and small
 * models; keeping keys and values between tokens is another entry's business. */
#ifndef PL_GENERATE_H
#define PL_GENERATE_H
#include "runtime/data/tokenizer.h"
#include "runtime/executor.h"
#include "runtime/sampling.h"

typedef struct GenerateConfig {
	Executor *executor;   /* with entry `forward`: input i32[1, T], first result f32[1, T, V] */
	Tokenizer *tokenizer;
	Sampling sampling;
	u64 tokens;           /* to write, at most */
	const char *stop;     /* NULL, or a text that ends the writing, and is not written */
	/* Given the bytes as they come; a character may come in pieces. */
	void (*emit)(void *cx, Str bytes);
	void *cx;
} GenerateConfig;

typedef enum GenerateEnd { GENERATE_TOKENS, GENERATE_STOP, GENERATE_DOCUMENT, GENERATE_SIGNAL } GenerateEnd;

typedef struct Generated {
	u64 prompt_tokens, tokens;
	f64 seconds;
	GenerateEnd why;
} Generated;

/* Does the entry `forward` of the program do for this? Says why not. */
PL_MUST_USE Status generate_check(const Executor *x);
/* When prompt and text are longer than the window, its last T tokens are what the model sees. */
PL_MUST_USE Status generate(const GenerateConfig *config, Str prompt, Generated *out);

#endif
