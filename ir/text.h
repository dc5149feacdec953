/* ir/text.h: what the printer, the parser and the verifier of the graph IR share: how words are
 * written, and where in a text each part of a program stood. The form is described in docs/ir.md.
 */
#ifndef PL_TEXT_H
#define PL_TEXT_H
#include "ir/graph.h"

/* A word is written bare; every other text in quotes. */
static inline bool text_word_char(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       c == '_' || c == '.' || c == '/' || c == '-';
}

/* "a \"b\"\n\x01": quotes, backslashes and bytes below a space are escaped, the rest is as it is.
 */
void text_quote(Buf *to, Str text);
/* The text bare if it is a word, else in quotes. */
void text_word(Buf *to, Str text);
/* The fewest digits that read back as the same number; inf, -inf, nan, nan(0x bits). */
void text_float(Buf *to, f64 x);

/* Where the parts of a parsed program stand in its text, for messages of the verifier: per buffer,
 * and per entry for itself, its nodes and its results. */
typedef struct EntryPlaces {
	Loc entry;
	VEC(Loc) node;
	VEC(Loc) result;
} EntryPlaces;
typedef struct Places {
	Loc program;
	VEC(Loc) buffer;
	VEC(EntryPlaces) entry;
} Places;

/* program_verify with messages placed in the text; places may be NULL: those of the nodes. */
bool program_verify_placed(const Program *p, Diag *d, const Places *places);

#endif
