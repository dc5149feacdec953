/* runtime/data/pairs.c: texts and what they become, for models of sequence to sequence (Sutskever et al., 2014): a
 * file of lines "text TAB text". Both sides go through one tokenizer, and each is ended by its token for that. A
 * model is given
 *
 *   source    i32[B, S]   the first text, filled up
 *   keep      bool[B, S]  where it is
 *   previous  i32[B, T]   the second one, moved behind a token that begins it: what a decoder sees
 *   targets   i32[B, T]   the second text, and no target behind it
 *
 * Options: `tokenizer`, the path of a tokenizer.json (beside PREFIX.train.tsv: PREFIX.tokenizer.json), and `begin`, the
 * token that begins what the decoder sees: <pad>, as in T5, where there is one, otherwise the one that ends texts. */
#include "runtime/data/lines.h"

#include <string.h>

static const char PAD[] = "<pad>";

typedef struct Pair {
	u64 source, target; /* where their ids begin; they end where the next ones begin */
} Pair;

typedef struct Pairs {
	Tokens ids;
	Pair *pair; /* [n + 1] */
	u64 n, source_ids, target_ids;
	u32 longest_source, longest_target;
	u32 begin, pad;
} Pairs;

enum { SOURCE, KEEP, PREVIOUS, TARGETS, INPUTS };

typedef struct PairInputs {
	u32 at[INPUTS], source, target; /* inputs; S and T */
	u32 pad;
} PairInputs;

u32 pairs_begin(const Tokenizer *t, const char *name)
{
	u32 pad = tokenizer_special(t, PAD);
	return name ? tokenizer_special(t, name) : pad == TOKEN_NONE ? t->end : pad;
}

typedef struct Reading {
	Arena *arena;
	Pairs *pairs;
	Tokenizer *t;
	u64 room; /* pairs that there is room for */
} Reading;

static Status encode(const Reading *r, Str text, u32 *longest, u64 *total)
{
	Pairs *p = r->pairs;
	size_t before = p->ids.n;
	TRY(tokenizer_encode(r->t, text, &p->ids));
	tokens_push(&p->ids, r->t->end);
	u64 n = p->ids.n - before;
	*longest = (u32)MAX(*longest, n);
	*total += n;
	return OK;
}

static Status read_line(void *cx, const Str *column, u32 n)
{
	Reading *r = cx;
	Pairs *p = r->pairs;
	(void)n; /* 2 */
	if (p->n + 1 >= r->room) {
		Pair *more = NEWN(r->arena, Pair, r->room = MAX(2 * r->room, (u64)1024));
		if (p->n)
			memcpy(more, p->pair, p->n * sizeof *more);
		p->pair = more;
	}
	Pair *pair = &p->pair[p->n++];
	pair->source = p->ids.n;
	TRY(encode(r, column[0], &p->longest_source, &p->source_ids));
	pair->target = p->ids.n;
	TRY(encode(r, column[1], &p->longest_target, &p->target_ids));
	pair[1].source = p->ids.n;
	return OK;
}

static Status pairs_open(Arena *a, const DataOption *option, u32 n, Dataset *d)
{
	static const char *const known[] = { "tokenizer", "begin" };
	TRY(data_options(d, option, n, known, COUNT(known)));
	const DataOption *begin = data_option(option, n, "begin");
	Tokenizer *t;
	TRY(lines_tokenizer(a, d, option, n, &t));
	Pairs *p = NEW(a, Pairs);
	p->ids.arena = a;
	d->own = p;
	u32 pad = tokenizer_special(t, PAD);
	p->pad = pad == TOKEN_NONE ? 0 : pad;
	p->begin = pairs_begin(t, begin ? begin->text : NULL);
	Status s = OK;
	Reading r = { .arena = a, .pairs = p, .t = t };
	if (t->end == TOKEN_NONE)
		s = FAIL(STATUS_INPUT, "%s has no token that ends a text", d->tokenizer_path);
	else if (p->begin == TOKEN_NONE)
		s = FAIL(STATUS_INPUT, "%s has no special token '%s'", d->tokenizer_path, begin->text);
	if (!s)
		s = lines_hash(d, &d->hash);
	d->hash = data_mix(d->hash, d->tokenizer + p->begin);
	if (!s)
		s = lines_each(d, 2, 2, "a text, a tab, and what it becomes", read_line, &r);
	if (!s && !p->n)
		s = FAIL(STATUS_INPUT, "%s: there are no pairs in it", d->path);
	tokenizer_close(t);
	return s;
}

static void pairs_close(Dataset *d)
{
	(void)d; /* all of it is in the arena */
}

static Status pairs_bind(Arena *a, const Dataset *d, DataInputs in, const void **bound, u64 *units)
{
	static const char *const name[INPUTS] = { "source", "keep", "previous", "targets" };
	const Pairs *p = d->own;
	PairInputs *b = NEW(a, PairInputs);
	TRY(data_bind(d, in, name, INPUTS, b->at));
	TRY(data_is_ids(d, in, b->at[SOURCE], &b->source));
	TRY(data_is_ids(d, in, b->at[PREVIOUS], &b->target));
	TRY(data_is_ids(d, in, b->at[TARGETS], &b->target));
	if (!b->source)
		return FAIL(STATUS_INPUT, "the entry has no input 'source'");
	const PackageTensor *keep = b->at[KEEP] < in.n ? &in.input[b->at[KEEP]] : NULL;
	if (keep && (keep->dtype != PACKAGE_B1 || keep->rank != 2 || keep->dim[1] != b->source))
		return data_misfit(d, in, b->at[KEEP], "must be bool[B, S]");
	if (p->longest_source > b->source || (b->target && p->longest_target > b->target))
		return FAIL(STATUS_INPUT,
			    "%s: the longest text has %u tokens and the longest that one becomes %u, and there is room for %u and %u: "
			    "batch = { S = %u, T = %u }",
			    d->path, p->longest_source, p->longest_target, b->source, b->target, p->longest_source,
			    p->longest_target);
	b->pad = p->pad;
	*bound = b;
	*units = 1;
	return OK;
}

static u64 pairs_rows(const Dataset *d, const void *bound, DataWalk walk)
{
	(void)bound, (void)walk;
	return ((const Pairs *)d->own)->n;
}

static i32 *ids_of(const PairInputs *b, u8 *const *to, u32 which)
{
	return b->at[which] < DATA_INPUTS ? (i32 *)(void *)to[b->at[which]] : NULL;
}

static void fill(i32 *to, const u32 *from, u32 n, u32 room, i32 rest)
{
	for (u32 i = 0; to && i < room; i++)
		to[i] = i < n ? (i32)from[i] : rest;
}

static void write_row(const PairInputs *b, const u32 *source, u32 ns, const u32 *target, u32 nt, u32 begin, u8 *const *to)
{
	i32 *previous = ids_of(b, to, PREVIOUS);
	fill(ids_of(b, to, SOURCE), source, ns, b->source, (i32)b->pad);
	fill(ids_of(b, to, TARGETS), target, nt, b->target, DATA_IGNORE);
	for (u32 i = 0; b->at[KEEP] < DATA_INPUTS && i < b->source; i++)
		to[b->at[KEEP]][i] = i < ns;
	for (u32 i = 0; previous && i < b->target; i++)
		previous[i] = (i32)(!i ? begin : i < nt ? target[i - 1] : b->pad);
}

static Status pairs_read(const Dataset *d, const void *bound, const DataPlace *at, u8 *const *to)
{
	const Pairs *p = d->own;
	const Pair *x = &p->pair[at->row];
	write_row(bound, p->ids.v + x->source, (u32)(x->target - x->source), p->ids.v + x->target, (u32)(x[1].source - x->target),
		  p->begin, to);
	return OK;
}

static void pairs_pad(const void *bound, u8 *const *to)
{
	write_row(bound, NULL, 0, NULL, 0, ((const PairInputs *)bound)->pad, to);
}

static const char *pairs_describe(const Dataset *d, Arena *a)
{
	const Pairs *p = d->own;
	return arena_printf(a, "%llu pairs of %.1f and %.1f tokens, at most %u and %u", (unsigned long long)p->n,
			    (f64)p->source_ids / (f64)p->n, (f64)p->target_ids / (f64)p->n, p->longest_source, p->longest_target);
}

const DatasetKind dataset_pairs = { .name = "pairs",
				    .unit = "pairs",
				    .gives = "source: i32[B, S], keep: bool[B, S], previous: i32[B, T], targets: i32[B, T]",
				    .text = true,
				    .open = pairs_open,
				    .close = pairs_close,
				    .find = lines_find,
				    .bind = pairs_bind,
				    .rows = pairs_rows,
				    .read = pairs_read,
				    .pad = pairs_pad,
				    .describe = pairs_describe };
