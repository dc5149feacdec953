/* runtime/data/unicode.h: what published tokenizers ask of Unicode: classes of characters, case, normal forms, and where
 * a reader sees one character end. The tables are utf8proc's. Texts are valid UTF-8. */
#ifndef PL_DATA_UNICODE_H
#define PL_DATA_UNICODE_H
#include "support/arena.h"

bool unicode_space(u32 code);        /* White_Space */
bool unicode_punctuation(u32 code);  /* category P, and ASCII's symbols */
bool unicode_numeric(u32 code);      /* category N */
bool unicode_mark(u32 code);         /* category M */
bool unicode_nonspacing(u32 code);   /* category Mn */
bool unicode_other(u32 code);        /* control, format, private use, surrogate */
bool unicode_word(u32 code);         /* of a word: letters, marks, decimal digits, connectors, joiners */
bool unicode_ideograph(u32 code);    /* those that BERT sets apart */

/* In lower case: one character, but for U+0130, which becomes two. Gives how many. */
u32 unicode_lower(u32 code, u32 out[2]);

typedef enum NormalForm { NORMAL_NFC, NORMAL_NFD, NORMAL_NFKC, NORMAL_NFKD } NormalForm;
Str unicode_normalize(Arena *a, Str text, NormalForm form);

/* Bytes of the extended grapheme cluster at the front of `text`, which is not empty. */
size_t unicode_grapheme(Str text);

#endif
