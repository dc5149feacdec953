/* runtime/data/lines.h: what sources of texts share: files of lines whose columns a tab separates, and the tokenizer
 * that is beside them. */
#ifndef PL_DATA_LINES_H
#define PL_DATA_LINES_H
#include "runtime/data/dataset.h"

/* PREFIX.train.tsv and PREFIX.val.tsv; PREFIX itself for training. */
const char *lines_find(Arena *a, const char *prefix, bool training);
/* The one that option `tokenizer` names, or PREFIX.tokenizer.json beside PREFIX.train.tsv; fills what the dataset knows
 * of it. */
PL_MUST_USE Status lines_tokenizer(Arena *a, Dataset *d, const DataOption *option, u32 n, Tokenizer **out);

/* Names what is in the file. */
PL_MUST_USE Status lines_hash(const Dataset *d, u64 *out);

enum { LINES_COLUMNS = 4 };
/* Calls `row` for each line of d->path that is not empty, with its columns: `least` to `most` (at most LINES_COLUMNS)
 * of them. `what` says what a line is. What fails is told with the line's place. */
typedef Status LineRow(void *cx, const Str *column, u32 n);
PL_MUST_USE Status lines_each(const Dataset *d, u32 least, u32 most, const char *what, LineRow *row, void *cx);

#endif
