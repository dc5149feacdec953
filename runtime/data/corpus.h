/* runtime/data/corpus.h: the documents in text files and JSON Lines. A text file is one document;
 * in JSON Lines (files named .jsonl or .ndjson, or any when a field is named) each line is an
 * object, and one field of it, a string, is a document. Files are mapped, "-" is read from standard
 * input; what gzip compressed is unpacked (unpack.h). */
#ifndef PL_DATA_CORPUS_H
#define PL_DATA_CORPUS_H
#include "support/io.h"

typedef struct CorpusInput {
	const char *path;
	Mapping map;
	Str text; /* the whole file */
	bool records;
	u64 at; /* bytes in the inputs before it */
} CorpusInput;

typedef struct Corpus {
	CorpusInput *input;
	u32 n;
	const char *field;
	u64 bytes;    /* of all inputs */
	bool records; /* one of them is JSON Lines */
} Corpus;

typedef struct Document {
	Str text; /* valid until the next one is asked for; never empty */
	const char *path;
	u64 line;     /* of a record; 0: the document is the whole file */
	u64 at, size; /* the bytes of the inputs, all in a row, that it is from */
} Document;

/* A walk through all documents, in order. */
typedef struct CorpusWalk {
	const Corpus *corpus;
	u32 input;
	size_t at;
	u64 line;
	void *record; /* the current one, parsed */
} CorpusWalk;

/* `field` may be NULL: "text", for inputs whose names say that they are JSON Lines. */
PL_MUST_USE Status corpus_open(Arena *a, const char *const *path, u32 n, const char *field,
			       Corpus *out);
void corpus_close(Corpus *c);
CorpusWalk corpus_walk(const Corpus *c);
PL_MUST_USE Status corpus_next(CorpusWalk *w, Document *out, bool *more);
void corpus_walk_end(CorpusWalk *w);
/* "file" or "file:line", for messages. */
const char *document_place(Arena *a, const Document *d);

#endif
