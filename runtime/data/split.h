/* runtime/data/split.h: cuts text into the words that byte-pair encoding works within, by GPT-2's
 * pattern: contractions, letters, numbers, other marks (each with at most one space before), and
 * runs of whitespace. The words, in order, are the text: nothing is dropped. Bytes that are not
 * UTF-8 are words of their own (a run of them is one word), and the text around them is cut as if
 * they were its ends; the pattern has nothing to say about them. */
#ifndef PL_DATA_SPLIT_H
#define PL_DATA_SPLIT_H
#include "support/status.h"

typedef struct Splitter Splitter;

PL_MUST_USE Status splitter_make(Arena *a, Splitter **out);
void splitter_free(Splitter *s); /* the compiled pattern is not in the arena; NULL is fine */

/* One walk over a text: set splitter and text, the rest to zero. A splitter is on one walk at a time. */
typedef struct Split {
	Splitter *splitter;
	Str text;
	size_t at;    /* where the next word starts */
	const char *seen; /* the text as the pattern is to see it */
	size_t valid; /* the text is known to be UTF-8 from `at` up to here */
} Split;

/* The next word; empty at the end. */
PL_MUST_USE Status split_next(Split *s, Str *word);

#endif
