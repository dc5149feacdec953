/* runtime/data/masked.c: batches for masked language models (Devlin et al., 2018; without pairs of sentences, as in
 * RoBERTa, Liu et al., 2019): windows of token shards in which a share of the tokens is chosen; of those, 8 in 10
 * become the mask, 1 in 10 another token, and the rest stay. Targets are the chosen tokens, elsewhere there is none.
 *
 * A tokenizer with tokens that begin and end a text ([CLS] and [SEP], <s> and </s>) has them around each window. The
 * mask is its [MASK] or <mask>; where it has none, the id behind its last one, so that a model needs one more.
 * At least one token of a window is chosen, if it has any that is not special.
 * Each epoch draws anew, from the row's number (dataset.h); an evaluation always draws the same. */
#include "runtime/data/dataset.h"

#include <math.h>
#include <string.h>

typedef struct Masking {
	f64 rate;
	u32 mask, first, last, pad; /* ids; first and last TOKEN_NONE where there are none */
	const bool *special;        /* by id: never chosen */
	u32 vocabulary;             /* of the tokenizer */
} Masking;

enum { TOKENS, TARGETS, TYPES, KEEP, INPUTS };

typedef struct MaskedInputs {
	u32 window, at[INPUTS];
} MaskedInputs;

/* The first of these that is a special token. */
static u32 special_of(const Tokenizer *t, const char *const *name, u32 n, u32 otherwise)
{
	for (u32 k = 0; k < n; k++) {
		u32 id = tokenizer_special(t, name[k]);
		if (id != TOKEN_NONE)
			return id;
	}
	return otherwise;
}

static Status masked_open(Arena *a, const DataOption *option, u32 n, Dataset *d)
{
	static const char *const known[] = { "rate" };
	static const char *const masks[] = { "[MASK]", "<mask>" }, *const firsts[] = { "[CLS]", "<s>" },
				 *const lasts[] = { "[SEP]", "</s>" }, *const pads[] = { "[PAD]", "<pad>" };
	TRY(data_options(d, option, n, known, COUNT(known)));
	const DataOption *rate = data_option(option, n, "rate");
	if (rate && !(rate->number > 0 && rate->number <= 1))
		return FAIL(STATUS_INPUT, "rate is the share of tokens to mask, above 0 and at most 1, not %s", rate->text);
	TRY(shards_open(a, d->path, &d->shards));
	Tokenizer *t;
	TRY(shards_tokenizer(a, &d->shards, &t));
	Masking *m = NEW(a, Masking);
	*m = (Masking){ .rate = rate ? rate->number : 0.15,
			.mask = special_of(t, masks, COUNT(masks), t->vocabulary),
			.first = special_of(t, firsts, COUNT(firsts), TOKEN_NONE),
			.last = special_of(t, lasts, COUNT(lasts), TOKEN_NONE),
			.pad = special_of(t, pads, COUNT(pads), 0),
			.special = COPYN(a, bool, t->special, t->vocabulary),
			.vocabulary = t->vocabulary };
	if ((m->first == TOKEN_NONE) != (m->last == TOKEN_NONE))
		m->first = m->last = TOKEN_NONE;
	d->own = m;
	d->vocabulary = MAX(t->vocabulary, m->mask + 1);
	d->tokenizer = d->shards.tokenizer;
	d->tokenizer_path = d->shards.tokenizer_path;
	u64 rate_bits;
	memcpy(&rate_bits, &m->rate, sizeof rate_bits);
	d->hash = data_mix(d->shards.hash, rate_bits);
	tokenizer_close(t);
	return OK;
}

static Status masked_bind(Arena *a, const Dataset *d, DataInputs in, const void **bound, u64 *units)
{
	static const char *const name[INPUTS] = { "tokens", "targets", "types", "keep" };
	MaskedInputs *m = NEW(a, MaskedInputs);
	TRY(data_bind(d, in, name, INPUTS, m->at));
	for (u32 k = 0; k < KEEP; k++)
		TRY(data_is_ids(d, in, m->at[k], &m->window));
	if (m->at[TOKENS] == DATA_INPUTS)
		return FAIL(STATUS_INPUT, "the entry has no input 'tokens'");
	const PackageTensor *keep = m->at[KEEP] < in.n ? &in.input[m->at[KEEP]] : NULL;
	if (keep && (keep->dtype != PACKAGE_B1 || keep->rank != 2 || keep->dim[1] != m->window))
		return data_misfit(d, in, m->at[KEEP], "must be bool[B, T]");
	const Masking *own = d->own;
	if (own->first != TOKEN_NONE && m->window < 3)
		return FAIL(STATUS_INPUT, "a window of %u tokens has no room beside the two that begin and end it", m->window);
	*bound = m;
	*units = m->window;
	return OK;
}

static u32 content(const Dataset *d, const MaskedInputs *m)
{
	return ((const Masking *)d->own)->first == TOKEN_NONE ? m->window : m->window - 2;
}

static u64 masked_rows(const Dataset *d, const void *bound, DataWalk walk)
{
	u64 n = d->shards.count, C = content(d, bound);
	return walk.once ? (n + C - 1) / C : (n - (n < C ? n : data_below(walk.shift, MIN(C, n - C + 1)))) / C;
}

static void masked_pad(const void *bound, u8 *const *to)
{
	const MaskedInputs *m = bound;
	for (u32 k = 0; k < KEEP; k++)
		for (u32 i = 0; m->at[k] < DATA_INPUTS && i < m->window; i++)
			((i32 *)(void *)to[m->at[k]])[i] = k == TARGETS ? DATA_IGNORE : 0;
	if (m->at[KEEP] < DATA_INPUTS)
		memset(to[m->at[KEEP]], 0, m->window);
}

static f64 share(u64 random)
{
	return (f64)(random >> 11) * 0x1p-53;
}

static Status masked_read(const Dataset *d, const void *bound, const DataPlace *at, u8 *const *to)
{
	const MaskedInputs *m = bound;
	const Masking *own = d->own;
	u64 C = content(d, m), count = d->shards.count;
	u64 start = (at->walk.once || count < C ? 0 : data_below(at->walk.shift, MIN(C, count - C + 1))) + at->row * C;
	u32 n = (u32)MIN(C, count - start), begin = own->first == TOKEN_NONE ? 0 : 1;
	masked_pad(bound, to);
	i32 *tokens = (i32 *)(void *)to[m->at[TOKENS]], *ids = tokens + begin;
	i32 *targets = m->at[TARGETS] < DATA_INPUTS ? (i32 *)(void *)to[m->at[TARGETS]] + begin : NULL;
	TRY(shards_read(&d->shards, start, n, ids));
	u32 usual = 0; /* of these at least one is chosen, so that no batch is without a target */
	for (u32 i = 0; i < n; i++)
		usual += !own->special[ids[i]];
	u32 one = (u32)data_below(data_mix(at->random, ~(u64)0), MAX(usual, 1u));
	bool any = false;
	for (u32 i = 0; i < n && !any; i++)
		any = !own->special[ids[i]] && share(data_mix(at->random, 3 * i)) < own->rate;
	for (u32 i = 0, k = 0; i < n; i++) {
		i32 was = ids[i];
		if (own->special[was])
			continue;
		if (any ? share(data_mix(at->random, 3 * i)) >= own->rate : k++ != one)
			continue;
		f64 how = share(data_mix(at->random, 3 * i + 1));
		if (how < 0.8)
			ids[i] = (i32)own->mask;
		else if (how < 0.9)
			ids[i] = (i32)data_below(data_mix(at->random, 3 * i + 2), own->vocabulary);
		if (targets)
			targets[i] = was;
	}
	if (begin) {
		tokens[0] = (i32)own->first;
		ids[n] = (i32)own->last;
	}
	u32 used = n + 2 * begin;
	for (u32 i = used; i < m->window; i++)
		tokens[i] = (i32)own->pad;
	if (m->at[KEEP] < DATA_INPUTS)
		memset(to[m->at[KEEP]], 1, used);
	return OK;
}

const DatasetKind dataset_masked = { .name = "masked",
				     .unit = "tokens",
				     .gives = "tokens, targets, types: i32[B, T], and keep: bool[B, T]",
				     .text = true,
				     .open = masked_open,
				     .close = data_close_shards,
				     .find = data_find_shards,
				     .bind = masked_bind,
				     .rows = masked_rows,
				     .read = masked_read,
				     .pad = masked_pad,
				     .describe = data_describe_shards };
