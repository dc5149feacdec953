/* runtime/data/dataset.c: the table of kinds, what they share, and windows of token shards; see dataset.h. */
#include "runtime/data/dataset.h"

#include <math.h>
#include <string.h>

static const DatasetKind *const kinds[] = { &dataset_tokens, &dataset_masked, &dataset_images, &dataset_pairs,
					   &dataset_labelled, &dataset_related, &dataset_captions, &dataset_tensors };

const DatasetKind *dataset_kind(const char *name)
{
	for (u32 i = 0; i < COUNT(kinds); i++)
		if (!strcmp(kinds[i]->name, name))
			return kinds[i];
	return NULL;
}

Status dataset_open(Arena *a, const char *kind, const char *path, const DataOption *option, u32 n, Dataset *out)
{
	*out = (Dataset){ .kind = kind ? dataset_kind(kind) : &dataset_tokens, .path = arena_strn(a, str_of(path)) };
	if (!out->kind)
		return FAIL(STATUS_INPUT, "there is no kind of data '%s': tokens, masked, images, pairs, labelled, related, captions, tensors", kind);
	Status s = out->kind->open(a, option, n, out);
	if (s)
		dataset_close(out);
	return s;
}

void dataset_close(Dataset *d)
{
	if (d->kind)
		d->kind->close(d);
	*d = (Dataset){ 0 };
}

Dataset dataset_of_shards(const Shards *s)
{
	return (Dataset){ .kind = &dataset_tokens,
			  .path = s->n ? s->shard[0].path : "the data",
			  .hash = s->hash,
			  .vocabulary = s->vocabulary,
			  .tokenizer = s->tokenizer,
			  .tokenizer_path = s->tokenizer_path,
			  .shards = *s };
}

Status dataset_tokenizer(Arena *a, const Dataset *d, Tokenizer **out)
{
	if (!d->tokenizer_path)
		return FAIL(STATUS_INPUT, "%s: %s have no tokenizer", d->path, d->kind->unit);
	TRY(status_context(tokenizer_load(a, d->tokenizer_path, out), "the tokenizer of %s", d->path));
	if (tokenizer_hash(*out) == d->tokenizer)
		return OK;
	tokenizer_close(*out);
	return FAIL(STATUS_INPUT, "%s is not the tokenizer that made %s; make the shards again with it", d->tokenizer_path, d->path);
}

/* ---- what kinds share ---- */

u32 data_input(DataInputs in, const char *name)
{
	for (u32 i = 0; i < in.n; i++)
		if (!strcmp(in.input[i].name, name))
			return i;
	return in.n;
}

Status data_misfit(const Dataset *d, DataInputs in, u32 i, const char *why)
{
	return FAIL(STATUS_INPUT, "the input '%s' %s; %s(\"%s\") gives %s", in.input[i].name, why, d->kind->name, d->path,
		    d->kind->gives);
}

Status data_bind(const Dataset *d, DataInputs in, const char *const *name, u32 n, u32 *at)
{
	if (in.n > DATA_INPUTS)
		return FAIL(STATUS_INPUT, "%u inputs are too many for a source of data", in.n);
	for (u32 k = 0; k < n; k++)
		at[k] = DATA_INPUTS;
	for (u32 i = 0; i < in.n; i++) {
		u32 k = 0;
		while (k < n && strcmp(name[k], in.input[i].name))
			k++;
		if (k == n)
			return data_misfit(d, in, i, "has no source");
		at[k] = i;
		if (!in.input[i].rank || in.input[i].dim[0] != in.input[0].dim[0])
			return data_misfit(d, in, i, "does not have the rows of a batch as its first dimension");
	}
	return OK;
}

Status data_is_ids(const Dataset *d, DataInputs in, u32 i, u32 *window)
{
	if (i >= in.n)
		return OK;
	const PackageTensor *t = &in.input[i];
	if (t->dtype != PACKAGE_I32 || t->rank != 2)
		return data_misfit(d, in, i, "must be i32[B, T]");
	if (*window && t->dim[1] != *window)
		return data_misfit(d, in, i, "is not as long as the others");
	*window = (u32)t->dim[1];
	return OK;
}

Status data_options(const Dataset *d, const DataOption *option, u32 n, const char *const *known, u32 nknown)
{
	for (u32 i = 0; i < n; i++) {
		u32 k = 0;
		while (k < nknown && strcmp(known[k], option[i].name))
			k++;
		if (k == nknown)
			return FAIL(STATUS_INPUT, "%s(\"%s\") takes no '%s'", d->kind->name, d->path, option[i].name);
	}
	return OK;
}

const DataOption *data_option(const DataOption *option, u32 n, const char *name)
{
	for (u32 i = 0; i < n; i++)
		if (!strcmp(option[i].name, name))
			return &option[i];
	return NULL;
}

/* SplitMix64's finalizer (Steele, Lea, Flood, 2014): every bit depends on every bit. */
u64 data_mix(u64 a, u64 b)
{
	u64 x = (a ^ b) + 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

u64 data_below(u64 random, u64 n)
{
	return (u64)((unsigned __int128)random * n >> 64);
}

/* ---- tokens ---- */

typedef struct Windows {
	u32 window;                   /* T */
	u32 tokens, targets;          /* which inputs */
} Windows;

static Status tokens_open(Arena *a, const DataOption *option, u32 n, Dataset *d)
{
	TRY(data_options(d, option, n, NULL, 0));
	TRY(shards_open(a, d->path, &d->shards));
	Dataset of = dataset_of_shards(&d->shards);
	of.path = d->path;
	*d = of;
	return OK;
}

void data_close_shards(Dataset *d)
{
	shards_close(&d->shards);
}

const char *data_find_shards(Arena *a, const char *prefix, bool training)
{
	const char *part = arena_printf(a, "%s.%s", prefix, training ? "train" : "val");
	return shards_exist(part) ? part : training && shards_exist(prefix) ? prefix : NULL;
}

static Status tokens_bind(Arena *a, const Dataset *d, DataInputs in, const void **bound, u64 *units)
{
	static const char *const name[] = { "tokens", "targets" };
	u32 at[COUNT(name)];
	Windows *w = NEW(a, Windows);
	TRY(data_bind(d, in, name, COUNT(name), at));
	TRY(data_is_ids(d, in, at[0], &w->window));
	TRY(data_is_ids(d, in, at[1], &w->window));
	if (!w->window)
		return FAIL(STATUS_INPUT, "the entry has no input 'tokens'");
	w->tokens = at[0];
	w->targets = at[1];
	/* a window of one and its target at least; whole windows where they are shuffled: see tokens_rows */
	if (d->shards.count < 2)
		return FAIL(STATUS_INPUT, "%s: %llu tokens are too few for a window and its targets", d->path,
			    (unsigned long long)d->shards.count);
	*bound = w;
	*units = w->window;
	return OK;
}

/* Ids before the first window: each epoch's windows begin at another offset below T, so that the cuts fall
 * differently; at least one window stays. */
static u64 tokens_offset(const Dataset *d, u32 window, DataWalk walk)
{
	u64 targets = d->shards.count - 1;
	return walk.once || !walk.shift || targets < window ? 0 : data_below(walk.shift, MIN((u64)window, targets - window + 1));
}

static u64 tokens_rows(const Dataset *d, const void *bound, DataWalk walk)
{
	const Windows *w = bound;
	u64 targets = d->shards.count - 1, T = w->window;
	return walk.once ? (targets + T - 1) / T : (targets - MIN(tokens_offset(d, w->window, walk), targets)) / T;
}

static Status tokens_read(const Dataset *d, const void *bound, const DataPlace *at, u8 *const *to)
{
	const Windows *w = bound;
	u64 T = w->window, start = tokens_offset(d, w->window, at->walk) + at->row * T;
	u64 n = MIN(T, d->shards.count - 1 - start);
	i32 *tokens = w->tokens < DATA_INPUTS ? (i32 *)(void *)to[w->tokens] : NULL;
	i32 *targets = w->targets < DATA_INPUTS ? (i32 *)(void *)to[w->targets] : NULL;
	if (tokens) {
		TRY(shards_read(&d->shards, start, n, tokens));
		memset(tokens + n, 0, (T - n) * sizeof *tokens);
	}
	if (!targets)
		return OK;
	TRY(shards_read(&d->shards, start + 1, n, targets));
	for (u64 i = n; i < T; i++)
		targets[i] = DATA_IGNORE;
	return OK;
}

static void tokens_pad(const void *bound, u8 *const *to)
{
	const Windows *w = bound;
	for (u32 i = 0; i < w->window; i++) {
		if (w->tokens < DATA_INPUTS)
			((i32 *)(void *)to[w->tokens])[i] = 0;
		if (w->targets < DATA_INPUTS)
			((i32 *)(void *)to[w->targets])[i] = DATA_IGNORE;
	}
}

const char *data_describe_shards(const Dataset *d, Arena *a)
{
	const Shards *s = &d->shards;
	return arena_printf(a, "%llu tokens (%.2f characters each)", (unsigned long long)s->count,
			    s->count ? (f64)s->text_characters / (f64)s->count : 0.0);
}

const DatasetKind dataset_tokens = { .name = "tokens",
				     .unit = "tokens",
				     .gives = "tokens: i32[B, T] and targets: i32[B, T]",
				     .text = true,
				     .open = tokens_open,
				     .close = data_close_shards,
				     .find = data_find_shards,
				     .bind = tokens_bind,
				     .rows = tokens_rows,
				     .read = tokens_read,
				     .pad = tokens_pad,
				     .describe = data_describe_shards };
