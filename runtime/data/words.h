/* runtime/data/words.h: a table from byte strings to a number each: the counts of a corpus's words,
 * the encodings already seen, the ids of a vocabulary. Open addressing by XXH3; words are kept in
 * insertion order, so that nothing depends on where they hash. */
#ifndef PL_DATA_WORDS_H
#define PL_DATA_WORDS_H
#include "support/base.h"
#include "support/arena.h"

typedef struct Word {
	u64 hash;
	Str text; /* the table's own copy */
	u64 value;
} Word;

typedef struct Words {
	Arena *arena;
	Word *word; /* in insertion order */
	u32 n, cap;
	u32 *slot; /* index + 1 into word; 0 is free */
	u32 nslot; /* a power of two */
} Words;

/* NULL when it is not there. The pointer is valid until the next words_add. */
Word *words_find(const Words *w, Str text);
/* The entry, new (with value 0) or not. */
Word *words_add(Words *w, Str text);

#endif
