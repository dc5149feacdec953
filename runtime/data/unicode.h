/* runtime/data/unicode.h: what published tokenizers ask of Unicode: classes of characters, case, normal forms, and where
 * a reader sees one character end. The tables are utf8proc's, and beside them what characters were in the versions of Unicode that
 * Hugging Face's tokenizers stand on, which are several (unicode_tables.def, made by scripts/unicode-tables): ids follow theirs
 * whatever version the libraries of the system have. Texts are valid UTF-8. */
#ifndef PL_DATA_UNICODE_H
#define PL_DATA_UNICODE_H
#include "support/arena.h"

bool unicode_space(u32 code);        /* White_Space */
bool unicode_punctuation(u32 code);  /* category P of Unicode 8, and ASCII's symbols */
bool unicode_numeric(u32 code);      /* category N of Unicode 17 */
bool unicode_mark(u32 code);         /* category M of Unicode 9 */
bool unicode_nonspacing(u32 code);   /* category Mn of Unicode 8 */
bool unicode_other(u32 code);        /* control, format, private use, surrogate of Unicode 8 */
bool unicode_word(u32 code);         /* of a word: letters, marks, decimal digits, connectors, joiners of Unicode 16 */
bool unicode_ideograph(u32 code);    /* those that BERT sets apart */

/* In lower case: one character, but for U+0130, which becomes two. Gives how many. Unicode 17. */
u32 unicode_lower(u32 code, u32 out[2]);

/* Of Unicode 9: later characters stay as they are. */
typedef enum NormalForm { NORMAL_NFC, NORMAL_NFD, NORMAL_NFKC, NORMAL_NFKD } NormalForm;
Str unicode_normalize(Arena *a, Str text, NormalForm form);

/* Bytes of the extended grapheme cluster at the front of `text`, which is not empty. */
size_t unicode_grapheme(Str text);

/* Regular expressions see Unicode 16, whatever version PCRE2 has: in the place of each character whose category may differ
 * there, they are shown one of that category that has as many bytes. Bytes that are not UTF-8 stay. */
bool unicode_newer(Str text); /* is there any such character? */
void unicode_stand_in(char *text, size_t size);

#endif
