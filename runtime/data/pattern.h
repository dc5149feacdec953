/* runtime/data/pattern.h: regular expressions of published tokenizers, which are written for Oniguruma, by PCRE2. The
 * classes that the two engines see differently (\s, \S, \w, \d) are spelled out before they are compiled. */
#ifndef PL_DATA_PATTERN_H
#define PL_DATA_PATTERN_H
#include "support/status.h"

/* Unicode's White_Space, for a class: PCRE2's \s has U+180E besides, which Unicode took out. */
#define PATTERN_SPACE                                                                              \
	"\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}"   \
	"\\x{3000}"

typedef struct Pattern Pattern;

/* `literal`: the text itself is what is looked for. */
PL_MUST_USE Status pattern_make(Arena *a, Str text, bool literal, Pattern **out);
void pattern_free(Pattern *p); /* what is not in the arena; NULL is fine */
/* The text as the expression is to see it (unicode_stand_in), of the same size; the text itself where that is the same. */
Str pattern_sees(Arena *a, const Pattern *p, Str text);
/* The next match in valid UTF-8 at or after `from`, that is not empty; *found is false when there is none. */
PL_MUST_USE Status pattern_find(const Pattern *p, Str text, size_t from, size_t *begin, size_t *end, bool *found);

#endif
