/* runtime/data/texts.c: texts that are told something about: a file of lines, whose columns a tab separates.
 *
 *   labelled   "text TAB label", or "text TAB second text TAB label", where a label is a whole number from 0 on: for
 *              classifiers (Devlin et al., 2018)
 *                tokens, types: i32[B, T], keep: bool[B, T], labels: i32[B]
 *   related    "text TAB text": two that belong together, for embeddings (Reimers and Gurevych, 2019)
 *                tokens, other_tokens: i32[B, T], keep, other_keep: bool[B, T]
 *   captions   PREFIX-captions.txt has a text on each line, of the image of that number in PREFIX-images-idx3-ubyte
 *              (images.c): for models of both (Radford et al., 2021)
 *                tokens: i32[B, T], keep: bool[B, T], images: f32[B, C, H, W], there: bool[B]
 *
 * Texts go through the tokenizer with the special tokens that it puts around them. A row that fills a batch up keeps
 * nothing, has no label (-100), and is not `there`.
 *
 * Option: `tokenizer`, the path of a tokenizer.json (beside PREFIX.train.tsv: PREFIX.tokenizer.json; in the folder of
 * PREFIX-captions.txt: tokenizer.json). */
#include "runtime/data/lines.h"

#include <stdlib.h>
#include <string.h>

enum { SIDES = 2 };

typedef struct TextRow {
	u64 begin[SIDES]; /* of the ids of each side, which end where the next ones begin */
	i32 label;
} TextRow;

typedef struct Texts {
	Arena *arena;
	Tokenizer *t; /* while it is read */
	Tokens ids, types;
	TextRow *row; /* [n + 1] */
	u64 n, room;
	u32 longest, classes, pad;
	Dataset images; /* of captions */
} Texts;

enum { TOKENS, KEEP, TYPES, OTHER_TOKENS, OTHER_KEEP, LABELS, THERE, IMAGES, INPUTS };
static const char *const input_name[INPUTS] = { "tokens", "keep", "types", "other_tokens", "other_keep", "labels", "there", "images" };

typedef struct TextInputs {
	u32 at[INPUTS], window, pad;
	const Texts *texts;
	const void *images;
} TextInputs;

/* ---- reading ---- */

static TextRow *add_row(Texts *x)
{
	if (x->n + 1 >= x->room) {
		TextRow *more = NEWN(x->arena, TextRow, x->room = MAX(2 * x->room, (u64)1024));
		if (x->n)
			memcpy(more, x->row, x->n * sizeof *more);
		x->row = more;
	}
	return &x->row[x->n++];
}

static Status add_side(Texts *x, TextRow *row, u32 side, Str text, const Str *second)
{
	row->begin[side] = x->ids.n;
	TRY(tokenizer_input(x->t, text, second, &x->ids, &x->types));
	x->longest = (u32)MAX(x->longest, x->ids.n - row->begin[side]);
	for (u32 i = side + 1; i < SIDES; i++)
		row->begin[i] = x->ids.n;
	row[1].begin[0] = x->ids.n;
	return x->ids.n > row->begin[side] ? OK : FAIL(STATUS_INPUT, "a text has no tokens");
}

static Status labelled_line(void *cx, const Str *column, u32 n)
{
	enum { CLASSES = 1 << 24 };
	Texts *x = cx;
	TextRow *row = add_row(x);
	char digits[16] = { 0 }, *end = digits;
	Str label = column[n - 1];
	memcpy(digits, label.s, MIN(label.n, sizeof digits - 1));
	unsigned long value = strtoul(digits, &end, 10);
	if (!label.n || digits[0] < '0' || digits[0] > '9' || *end || label.n >= sizeof digits || value >= CLASSES)
		return FAIL(STATUS_INPUT, "a label is a whole number from 0 on, not '%.*s'", STR_ARG(label));
	row->label = (i32)value;
	x->classes = MAX(x->classes, (u32)value + 1);
	return add_side(x, row, 0, column[0], n > 2 ? &column[1] : NULL);
}

static Status related_line(void *cx, const Str *column, u32 n)
{
	(void)n; /* 2 */
	TextRow *row = add_row(cx);
	TRY(add_side(cx, row, 0, column[0], NULL));
	return add_side(cx, row, 1, column[1], NULL);
}

static Status caption_line(void *cx, const Str *column, u32 n)
{
	(void)n; /* 1 */
	return add_side(cx, add_row(cx), 0, column[0], NULL);
}

static Status open_texts(Arena *a, const DataOption *option, u32 n, Dataset *d, Dataset *file, u32 least, u32 most, const char *what,
			 LineRow *line)
{
	static const char *const known[] = { "tokenizer" }, *const pads[] = { "[PAD]", "<pad>" };
	TRY(data_options(d, option, n, known, COUNT(known)));
	Texts *x = d->own;
	TRY(lines_tokenizer(a, d, option, n, &x->t));
	for (u32 i = COUNT(pads); i-- > 0;)
		if (tokenizer_special(x->t, pads[i]) != TOKEN_NONE)
			x->pad = tokenizer_special(x->t, pads[i]);
	u64 hash = 0;
	Status s = lines_hash(file, &hash);
	if (!s)
		s = lines_each(file, least, most, what, line, x);
	if (!s && !x->n)
		s = FAIL(STATUS_INPUT, "%s: there are no texts in it", file->path);
	d->hash = data_mix(hash, d->tokenizer);
	tokenizer_close(x->t);
	x->t = NULL;
	return s;
}

static void texts_new(Arena *a, Dataset *d)
{
	Texts *x = NEW(a, Texts);
	*x = (Texts){ .arena = a, .ids = { .arena = a }, .types = { .arena = a } };
	d->own = x;
}

static Status labelled_open(Arena *a, const DataOption *option, u32 n, Dataset *d)
{
	texts_new(a, d);
	return open_texts(a, option, n, d, d, 2, 3, "a text, or two, and a label, with tabs between", labelled_line);
}

static Status related_open(Arena *a, const DataOption *option, u32 n, Dataset *d)
{
	texts_new(a, d);
	return open_texts(a, option, n, d, d, 2, 2, "a text, a tab, and one that belongs to it", related_line);
}

static Status captions_open(Arena *a, const DataOption *option, u32 n, Dataset *d)
{
	texts_new(a, d);
	Texts *x = d->own;
	const char *slash = strrchr(d->path, '/');
	DataOption usual = { "tokenizer", arena_printf(a, "%.*stokenizer.json", (int)(slash ? slash + 1 - d->path : 0), d->path), 0 };
	Dataset file = *d;
	file.path = arena_printf(a, "%s-captions.txt", d->path);
	TRY(open_texts(a, n ? option : &usual, n ? n : 1, d, &file, 1, 1, "a text without a tab", caption_line));
	TRY(dataset_open(a, dataset_images.name, d->path, NULL, 0, &x->images));
	u64 images = dataset_images.rows(&x->images, NULL, (DataWalk){ .once = true });
	if (images != x->n)
		return FAIL(STATUS_INPUT, "%s has %llu texts, and there are %llu images", file.path, (unsigned long long)x->n,
			    (unsigned long long)images);
	d->hash = data_mix(d->hash, x->images.hash);
	return OK;
}

static void texts_close(Dataset *d)
{
	Texts *x = d->own;
	if (x)
		dataset_close(&x->images);
}

static const char *captions_find(Arena *a, const char *prefix, bool training)
{
	const char *part = arena_printf(a, "%s/%s", prefix, training ? "train" : "t10k");
	if (io_exists(arena_printf(a, "%s-captions.txt", part)))
		return part;
	return io_exists(arena_printf(a, "%s-captions.txt", prefix)) ? prefix : NULL;
}

/* ---- rows ---- */

static Status check_keep(const Dataset *d, DataInputs in, const TextInputs *b, u32 which)
{
	u32 i = b->at[which];
	if (i >= in.n || (in.input[i].dtype == PACKAGE_B1 && in.input[i].rank == 2 && in.input[i].dim[1] == b->window))
		return OK;
	return data_misfit(d, in, i, "must be bool[B, T]");
}

static Status texts_bind(Arena *a, const Dataset *d, DataInputs in, const void **bound, u64 *units)
{
	const Texts *x = d->own;
	TextInputs *b = NEW(a, TextInputs);
	bool has[INPUTS] = { [TOKENS] = true, [KEEP] = true };
	const char *name[INPUTS];
	has[TYPES] = has[LABELS] = d->kind == &dataset_labelled;
	has[OTHER_TOKENS] = has[OTHER_KEEP] = d->kind == &dataset_related;
	has[THERE] = has[IMAGES] = d->kind == &dataset_captions;
	for (u32 k = 0; k < INPUTS; k++)
		name[k] = has[k] ? input_name[k] : "";
	TRY(data_bind(d, in, name, INPUTS, b->at));
	TRY(data_is_ids(d, in, b->at[TOKENS], &b->window));
	TRY(data_is_ids(d, in, b->at[TYPES], &b->window));
	TRY(data_is_ids(d, in, b->at[OTHER_TOKENS], &b->window));
	TRY(check_keep(d, in, b, KEEP));
	TRY(check_keep(d, in, b, OTHER_KEEP));
	if (b->at[TOKENS] == DATA_INPUTS)
		return FAIL(STATUS_INPUT, "the entry has no input 'tokens'");
	if (b->at[LABELS] < in.n && (in.input[b->at[LABELS]].dtype != PACKAGE_I32 || in.input[b->at[LABELS]].rank != 1))
		return data_misfit(d, in, b->at[LABELS], "must be i32[B]");
	if (b->at[THERE] < in.n && (in.input[b->at[THERE]].dtype != PACKAGE_B1 || in.input[b->at[THERE]].rank != 1))
		return data_misfit(d, in, b->at[THERE], "must be bool[B]");
	if (x->longest > b->window)
		return FAIL(STATUS_INPUT, "%s: the longest text has %u tokens, and there is room for %u: batch = { T = %u }", d->path, x->longest,
			    b->window, x->longest);
	if (b->at[IMAGES] < in.n) {
		u64 one;
		DataInputs image = { &in.input[b->at[IMAGES]], 1 };
		TRY(dataset_images.bind(a, &x->images, image, &b->images, &one));
	}
	b->texts = x;
	b->pad = x->pad;
	*bound = b;
	*units = 1;
	return OK;
}

static u64 texts_rows(const Dataset *d, const void *bound, DataWalk walk)
{
	(void)bound, (void)walk;
	return ((const Texts *)d->own)->n;
}

/* The ids from `begin` to `end`, and what goes with them. */
static void write_side(const TextInputs *b, u64 begin, u64 end, u32 tokens, u32 keep, u8 *const *to)
{
	i32 *id = b->at[tokens] < DATA_INPUTS ? (i32 *)(void *)to[b->at[tokens]] : NULL;
	i32 *type = tokens == TOKENS && b->at[TYPES] < DATA_INPUTS ? (i32 *)(void *)to[b->at[TYPES]] : NULL;
	for (u32 i = 0; i < b->window; i++) {
		bool real = i < end - begin;
		if (id)
			id[i] = (i32)(real ? b->texts->ids.v[begin + i] : b->pad);
		if (type)
			type[i] = real ? (i32)b->texts->types.v[begin + i] : 0;
		if (b->at[keep] < DATA_INPUTS)
			to[b->at[keep]][i] = real;
	}
}

/* `row` NULL: one that fills a batch up. */
static void write_row(const TextInputs *b, const TextRow *row, u8 *const *to)
{
	write_side(b, row ? row->begin[0] : 0, row ? row->begin[1] : 0, TOKENS, KEEP, to);
	write_side(b, row ? row->begin[1] : 0, row ? row[1].begin[0] : 0, OTHER_TOKENS, OTHER_KEEP, to);
	if (b->at[LABELS] < DATA_INPUTS)
		*(i32 *)(void *)to[b->at[LABELS]] = row ? row->label : DATA_IGNORE;
	if (b->at[THERE] < DATA_INPUTS)
		*to[b->at[THERE]] = row != NULL;
}

static Status texts_read(const Dataset *d, const void *bound, const DataPlace *at, u8 *const *to)
{
	const Texts *x = d->own;
	const TextInputs *b = bound;
	write_row(b, &x->row[at->row], to);
	return b->images ? dataset_images.read(&x->images, b->images, at, &to[b->at[IMAGES]]) : OK;
}

static void texts_pad(const void *bound, u8 *const *to)
{
	const TextInputs *b = bound;
	write_row(b, NULL, to);
	if (b->images)
		dataset_images.pad(b->images, &to[b->at[IMAGES]]);
}

static const char *texts_describe(const Dataset *d, Arena *a)
{
	const Texts *x = d->own;
	const char *classes = x->classes ? arena_printf(a, " in %u classes", x->classes) : "";
	const char *images = x->images.kind ? arena_printf(a, " of %s", dataset_images.describe(&x->images, a)) : "";
	return arena_printf(a, "%llu %s%s%s, at most %u tokens", (unsigned long long)x->n, d->kind->unit, classes, images, x->longest);
}

#define TEXTS_KIND(kind, what, given, find_, open_)                                                                             \
	const DatasetKind dataset_##kind = { .name = #kind, .unit = what, .gives = given, .open = open_,             \
					     .close = texts_close, .find = find_, .bind = texts_bind, .rows = texts_rows,         \
					     .read = texts_read, .pad = texts_pad, .describe = texts_describe };

TEXTS_KIND(labelled, "texts", "tokens, types: i32[B, T], keep: bool[B, T], labels: i32[B]", lines_find, labelled_open)
TEXTS_KIND(related, "pairs", "tokens, other_tokens: i32[B, T], keep, other_keep: bool[B, T]", lines_find, related_open)
TEXTS_KIND(captions, "texts", "tokens: i32[B, T], keep: bool[B, T], images: f32[B, C, H, W], there: bool[B]", captions_find,
	   captions_open)
