/* ir/scan.h: the characters of IR text: what ir/parse.c reads statements from. Every read is
 * bounded by the end of the text; what cannot be read is told with its place, and gives false. */
#ifndef PL_SCAN_H
#define PL_SCAN_H
#include "ir/text.h"

typedef struct Scanner {
	const char *p, *end, *line_start;
	u32 line;
	u16 file; /* Diag's index of the text */
	Ir *ir;
	Arena tmp; /* of the whole reading */
} Scanner;

/* ---- places and lines ---- */

Loc scan_here(const Scanner *s, size_t length);
Loc scan_since(const Scanner *s, const char *from); /* from there to here, on one line */
void scan_space(Scanner *s);                        /* and comments */
bool scan_at_end(Scanner *s);                       /* of the line */
bool scan_end_line(Scanner *s);                     /* the same, told where it is not so */
void scan_skip_line(Scanner *s);
bool scan_next_line(Scanner *s); /* past blank lines; false at the end of the text */

/* ---- words ---- */

Str scan_ahead(Scanner *s); /* the word that stands here, still unread; n = 0 for none */
/* "expected X, found Y"; false. */
bool scan_unexpected(Scanner *s, const char *wanted);
bool scan_accept(Scanner *s, char c);
bool scan_expect(Scanner *s, char c);
bool scan_accept_word(Scanner *s, const char *word);
/* The text of a quotation, after its opening quote. */
bool scan_quoted(Scanner *s, Str *out);
/* A bare word or a quoted text, interned in `in`, or among the Ir's names. */
bool scan_word(Scanner *s, Interner *in, const char *wanted, const char **out);
bool scan_name(Scanner *s, const char *wanted, const char **out);

/* ---- numbers and dimensions ---- */

bool scan_integer(Scanner *s, i64 least, i64 most, const char *wanted, i64 *out);
bool scan_float(Scanner *s, f64 *out);
/* An expression over symbols: as far as words and operators alternate. */
bool scan_dim(Scanner *s, Dim *out);

#endif
