/* support/diag.h: what is wrong in the user's model, IR text or data file. Messages are collected
 * with place, notes and a stable code, and printed at the end by the command; nothing here exits.
 * The codes and their explanations are the rows of support/errors.def (`plinth explain E0203`). */
#ifndef PL_DIAG_H
#define PL_DIAG_H
#include "support/str.h"

/* A place in a source text: on every AST node, graph node and kernel. Lines and columns count from
 * 1, columns in bytes; line 0 is "nowhere" (made by the compiler). `length` underlines the text. */
typedef struct Loc {
	u32 line;
	u16 column, length;
	u16 file; /* index into Diag.source */
} Loc;

typedef enum ErrorCode {
#define ERROR(code, title, text) code,
#include "support/errors.def"
#undef ERROR
	ERROR_CODES
} ErrorCode;

typedef struct ErrorInfo {
	const char *code, *title, *text;
} ErrorInfo;
extern const ErrorInfo error_info[ERROR_CODES];

typedef enum Severity { SEV_NOTE, SEV_WARNING, SEV_ERROR } Severity;

typedef struct Source {
	const char *path;
	Str text;
} Source;

typedef struct Message Message;
struct Message {
	Message *next;
	Severity severity;
	ErrorCode code; /* of errors and warnings; notes follow what they belong to */
	Loc loc;
	const char *text;
};

typedef struct Diag {
	Arena *arena;
	Source *source;
	u16 nsource, source_cap;
	Message *first, *last;
	u32 nerror, nwarning;
	u32 limit;    /* errors kept; 0 is 100. Those past it are counted, not kept */
	bool dropped; /* the last message was dropped, and so are its notes */
} Diag;

/* Registers a text so that messages can show its lines; it must outlive the Diag. */
u16 diag_source(Diag *d, const char *path, Str text);

/* Each returns false, so that `return diag_error(...)` reads well. A second error with the same
 * code at the same place is dropped. */
bool diag_error(Diag *d, ErrorCode code, Loc loc, const char *format, ...) PL_PRINTF(4, 5);
bool diag_warning(Diag *d, ErrorCode code, Loc loc, const char *format, ...) PL_PRINTF(4, 5);
/* Belongs to the message before it; a loc of line 0 gives a note without a place. Dropped when the
 * message before it was dropped. */
bool diag_note(Diag *d, Loc loc, const char *format, ...) PL_PRINTF(3, 4);

/* "model.plinth:12"; nothing for a place of line 0. */
void diag_print_place(const Diag *d, Loc loc, FILE *to);

/* file:line:column: error[E0203]: text, the line, a caret; notes after. Sorted by place. */
void diag_print(const Diag *d, FILE *to, bool colour);
/* The same as one JSON object a line: severity, code, file, line, column, length, text. */
void diag_print_json(const Diag *d, FILE *to);

#endif
