/* runtime/data/tokenize.c: see tokenize.h. Two walks through the corpus: one to learn a tokenizer
 * where that is asked for (byte pairs from the training text only; characters from all of it, since
 * none may be missing), one to write the shards. */
#include "runtime/data/tokenize.h"
#include "runtime/data/utf8.h"

#include <string.h>
#include <xxhash.h>

enum { TRAIN, VALIDATION, PARTS, CHUNK = 1 << 20 /* bytes encoded at once */ };

typedef struct Work {
	Arena *arena;
	const TokenizeConfig *config;
	Corpus corpus;
	bool ends;
	u64 boundary; /* VALIDATION_LAST: the byte of the inputs at which validation begins */
	Tokenizer *tokenizer;
	ShardWriter *writer[PARTS];
	u64 documents[PARTS];
	Tokens ids;
} Work;

static void report(const Work *w, const char *stage, u64 done)
{
	if (w->config->progress)
		w->config->progress(w->config->context, stage, done, w->corpus.bytes);
}

/* How many bytes of a document's text are for training; the rest is for validation. */
static size_t for_training(const Work *w, const Document *d)
{
	switch (w->config->split) {
	case VALIDATION_NONE:
		return d->text.n;
	case VALIDATION_DOCUMENTS:
		/* the hash as a fraction of 1, in 53 bits */
		return (f64)(XXH3_64bits(d->text.s, d->text.n) >> 11) * 0x1p-53 <
				       w->config->validation
			       ? 0
			       : d->text.n;
	case VALIDATION_LAST:
		break;
	}
	if (d->at >= w->boundary)
		return 0;
	if (d->line || d->at + d->size <= w->boundary)
		return d->text.n;
	/* at a line's start, if there is one soon; else at a character's */
	size_t at = w->boundary - d->at, near = MIN(d->text.n - at, d->text.n / 100);
	const char *line = memchr(d->text.s + at - 1, '\n', near + 1);
	if (line)
		return (size_t)(line + 1 - d->text.s);
	while (at < d->text.n && ((u8)d->text.s[at] & 0xc0) == 0x80)
		at++;
	return at;
}

/* Says in which document it went wrong. */
static Status in_document(Work *w, const Document *d, Status s)
{
	return s ? status_context(s, "%s", document_place(w->arena, d)) : OK;
}

static Status learn(Work *w, Trainer *tr, bool all)
{
	CorpusWalk walk = corpus_walk(&w->corpus);
	for (;;) {
		Document d;
		bool more;
		Status s = corpus_next(&walk, &d, &more);
		if (!s && more) {
			Str text = { d.text.s, all ? d.text.n : for_training(w, &d) };
			s = in_document(w, &d, trainer_add(tr, text));
			report(w, "learning", d.at + d.size);
		}
		if (s || !more) {
			corpus_walk_end(&walk);
			return s;
		}
	}
}

static Status train_tokenizer(Work *w, bool letters)
{
	Trainer *tr;
	TRY(letters ? trainer_char(w->arena, w->ends, &tr)
		    : trainer_bpe(w->arena, w->config->vocabulary, w->ends, &tr));
	Status s = learn(w, tr, letters);
	if (!s)
		return trainer_finish(tr, &w->tokenizer);
	trainer_close(tr);
	return s;
}

static Status make_tokenizer(Work *w)
{
	const TokenizeConfig *c = w->config;
	if (!strcmp(c->tokenizer, "byte"))
		return tokenizer_byte(w->arena, w->ends, &w->tokenizer);
	if (!strcmp(c->tokenizer, "char") || !strcmp(c->tokenizer, "bpe"))
		return train_tokenizer(w, c->tokenizer[0] == 'c');
	if (!strcmp(c->tokenizer, "gpt2")) {
		if (!c->vocabulary_file || !c->merges_file)
			return FAIL(STATUS_INPUT,
				    "the gpt2 tokenizer needs its two files: the vocabulary "
				    "(encoder.json or vocab.json) and the merges (vocab.bpe or "
				    "merges.txt)");
		TRY(tokenizer_gpt2(w->arena, c->vocabulary_file, c->merges_file, &w->tokenizer));
	} else if (str_ends(str_of(c->tokenizer), STR(".json")) || str_ends(str_of(c->tokenizer), STR(".model")) ||
		   str_ends(str_of(c->tokenizer), STR(".txt")))
		TRY(tokenizer_load(w->arena, c->tokenizer, &w->tokenizer));
	else
		return FAIL(STATUS_INPUT,
			    "there is no tokenizer '%s'; there are byte, char, bpe, gpt2, and "
			    "files whose names end in .json, .model (SentencePiece) or .txt (WordPiece)",
			    c->tokenizer);
	if (w->ends && w->tokenizer->end == TOKEN_NONE)
		return FAIL(STATUS_INPUT,
			    "the tokenizer has no token that ends a document (" END_OF_TEXT
			    " or the like) to put between documents");
	return OK;
}

/* Writes `text`, which is `d`'s or a part of it; `end`: the document ends with it. */
static Status write_text(Work *w, u32 part, const Document *d, Str text, bool end)
{
	if (!text.n)
		return OK;
	for (size_t at = 0; at < text.n;) {
		Str rest = { text.s + at, text.n - at };
		rest.n = tokenizer_cut(w->tokenizer, rest, CHUNK);
		w->ids.n = 0;
		size_t from = (size_t)(rest.s - d->text.s);
		Status s = tokenizer_encode(w->tokenizer, rest, &w->ids);
		if (s && from)
			s = status_context(s, "from byte %zu on", from);
		TRY(in_document(w, d, s));
		TRY(shard_writer_add(w->writer[part], w->ids.v, w->ids.n));
		at += rest.n;
		if (!d->line)
			report(w, "writing", d->at + from + rest.n);
	}
	if (end && w->ends)
		TRY(shard_writer_add(w->writer[part], &w->tokenizer->end, 1));
	shard_writer_document(w->writer[part]);
	w->documents[part]++;
	return OK;
}

static Status write_all(Work *w)
{
	CorpusWalk walk = corpus_walk(&w->corpus);
	for (;;) {
		Document d;
		bool more;
		Status s = corpus_next(&walk, &d, &more);
		if (!s && more) {
			size_t cut = for_training(w, &d);
			s = write_text(w, TRAIN, &d, (Str){ d.text.s, cut }, cut == d.text.n);
			if (!s)
				s = write_text(w, VALIDATION, &d,
					       (Str){ d.text.s + cut, d.text.n - cut }, true);
			report(w, "writing", d.at + d.size);
		}
		if (s || !more) {
			corpus_walk_end(&walk);
			return s;
		}
	}
}

static Status check_parts(const Work *w, u32 parts)
{
	if (!w->documents[TRAIN] && !w->documents[VALIDATION])
		return FAIL(STATUS_INPUT, "there is no text in the input");
	if (w->documents[TRAIN] && (parts == 1 || w->documents[VALIDATION]))
		return OK;
	return FAIL(
		STATUS_INPUT,
		"of %llu document%s, all fall on one side: nothing is left for %s; %s",
		(unsigned long long)(w->documents[TRAIN] + w->documents[VALIDATION]),
		w->documents[TRAIN] + w->documents[VALIDATION] == 1 ? "" : "s",
		w->documents[TRAIN] ? "validation" : "training",
		w->config->split == VALIDATION_DOCUMENTS
			? "with few documents, take the last part of the text (--validation-last)"
			: "choose another share");
}

/* Opens the writers, writes, closes: `parts` of them. */
static Status write_shards(Work *w, u32 parts, const char *tokenizer_file, TokenizeReport *out)
{
	static const char *const suffix[PARTS] = { "train", "val" };
	for (u32 i = 0; i < parts; i++) {
		out->part[i].prefix = arena_printf(w->arena, "%s.%s", w->config->output, suffix[i]);
		TRY(shard_writer_open(w->arena, out->part[i].prefix, w->tokenizer, tokenizer_file,
				      w->config->ids_per_shard, &w->writer[i]));
	}
	TRY(write_all(w));
	TRY(check_parts(w, parts));
	TRY(tokenizer_save(w->tokenizer, out->tokenizer_path));
	for (u32 i = 0; i < parts; i++)
		TRY(shard_writer_finish(w->writer[i]));
	return OK;
}

static Status fill_report(Work *w, TokenizeReport *out)
{
	for (u32 i = 0; i < out->parts; i++) {
		Shards s;
		TRY(shards_open(w->arena, out->part[i].prefix, &s));
		TokenizePart *p = &out->part[i];
		p->tokens = s.count;
		p->bytes = s.text_bytes;
		p->characters = s.text_characters;
		p->documents = s.documents;
		p->shards = s.n;
		shards_close(&s);
	}
	return OK;
}

static Status run(Work *w, TokenizeReport *out)
{
	const TokenizeConfig *c = w->config;
	const char *slash = strrchr(c->output, '/');
	const char *name = slash ? slash + 1 : c->output;
	if (!*name)
		return FAIL(STATUS_INPUT, "the output '%s' is a folder; give the shards a name",
			    c->output);
	if (c->split != VALIDATION_NONE && !(c->validation > 0 && c->validation < 1))
		return FAIL(STATUS_INPUT, "the share for validation is %g, not between 0 and 1",
			    c->validation);
	TRY(corpus_open(w->arena, c->input, c->ninput, c->field, &w->corpus));
	w->ends = c->ends == ENDS_TOKEN ||
		  (c->ends == ENDS_AUTO && (w->corpus.records || w->corpus.n > 1));
	u64 held = (u64)((f64)w->corpus.bytes * c->validation);
	w->boundary = w->corpus.bytes - held;
	TRY(make_tokenizer(w));
	if (slash && slash != c->output)
		TRY(io_make_folder(
			arena_strn(w->arena, (Str){ c->output, (size_t)(slash - c->output) })));
	out->kind = w->tokenizer->kind->name;
	out->vocabulary = w->tokenizer->vocabulary;
	out->ends = w->ends;
	out->parts = c->split == VALIDATION_NONE ? 1 : PARTS;
	out->tokenizer_path = arena_printf(w->arena, "%s.tokenizer.json", c->output);
	TRY(write_shards(w, out->parts, arena_printf(w->arena, "%s.tokenizer.json", name), out));
	return fill_report(w, out);
}

Status tokenize(Arena *a, const TokenizeConfig *config, TokenizeReport *out)
{
	Work w = { .arena = a, .config = config, .ids = { .arena = a } };
	*out = (TokenizeReport){ 0 };
	Status s = run(&w, out);
	for (u32 i = 0; i < PARTS; i++)
		shard_writer_abandon(w.writer[i]); /* one that is finished has nothing left */
	tokenizer_close(w.tokenizer);
	corpus_close(&w.corpus);
	return s;
}
