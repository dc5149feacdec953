/* runtime/generate.c: see generate.h. */
#include "runtime/generate.h"
#include "runtime/signals.h"
#include "runtime/views.h"
#include "support/clock.h"

#include <string.h>

/* ---- the model's entries ---- */

/* An entry that takes tokens, and what it says of where they stand. */
typedef struct Part {
	const PackageEntry *entry;
	const PackageTensor *tokens, *past, *last, *logits;
	const PackageTensor *source, *keep; /* or NULL */
	const PackageTensor *other[8]; /* what a file gives, */
	const void *given[8];	       /* and its elements */
	u32 nother, batch, window;
} Part;

typedef struct Model {
	Part whole, prefill, decode; /* the first, or the others */
	u32 batch, vocabulary;
	u64 window;                  /* positions at once */
	u64 kept;                    /* positions that the buffers hold, from 0 on */
	u32 room;                    /* of `source`; 0: the model takes none */
	bool reads;                  /* something besides the text, which prefill alone takes */
	i32 *source;                 /* [B, S] */
	u8 *keep;                    /* [B, S] */
	i32 *tokens;                 /* [B, T] */
	f32 *logits;                 /* [B, V] of the position asked for last */
} Model;

static Status no_input(const char *entry, const char *input)
{
	return FAIL(STATUS_INPUT, "the entry '%s' must take tokens, i32[B, T], alone or with `source` and `keep`, and nothing gives it '%s': "
				  "--inputs FILE does, a safetensors file that has it", entry, input);
}

static Status find_part(const Executor *x, const char *name, bool incremental, const Safetensors *input, Part *out)
{
	const PackageEntry *e = package_entry(x->package, name);
	if (!e)
		return FAIL(STATUS_INPUT, "the program has no entry '%s': its source has no model", name);
	*out = (Part){ .entry = e };
	for (u32 i = 0; i < e->ninput; i++) {
		const PackageTensor *t = &e->input[i];
		if (incremental && !strcmp(t->name, "past"))
			out->past = t;
		else if (incremental && !strcmp(t->name, "last"))
			out->last = t;
		else if (!strcmp(t->name, "source") && t->dtype == PACKAGE_I32 && t->rank == 2)
			out->source = t;
		else if (!strcmp(t->name, "keep") && t->dtype == PACKAGE_B1 && t->rank == 2)
			out->keep = t;
		else if (!out->tokens && t->dtype == PACKAGE_I32 && t->rank == 2)
			out->tokens = t;
		else if (input && out->nother < COUNT(out->other))
			out->other[out->nother++] = t;
		else
			return no_input(name, t->name);
	}
	Arena tmp = ARENA("inputs");
	Status s = OK;
	for (u32 i = 0; i < out->nother && !s; i++)
		s = input_given(&tmp, input, out->other[i], "the model", &out->given[i]);
	arena_free(&tmp);
	TRY(s);
	if (!out->tokens)
		return FAIL(STATUS_INPUT, "the entry '%s' must take tokens, i32[B, T]", name);
	out->batch = (u32)out->tokens->dim[0];
	out->window = (u32)out->tokens->dim[1];
	const PackageTensor *t = e->nresult ? &e->result[0] : NULL;
	i64 rows = incremental ? 1 : out->window;
	if (!t || t->dtype != PACKAGE_F32 || t->rank != 3 || t->dim[0] != out->batch || t->dim[1] != rows)
		return FAIL(STATUS_INPUT, "the model's first result must be its logits, f32[B, T, vocabulary]");
	out->logits = t;
	return OK;
}

static Status find_model(const Executor *x, u64 room, const Safetensors *input, Model *m)
{
	*m = (Model){ .window = room };
	const Part *first = room ? &m->prefill : &m->whole;
	if (!room) {
		TRY(find_part(x, "forward", false, input, &m->whole));
		m->window = m->whole.window;
	} else {
		TRY(find_part(x, "prefill", true, input, &m->prefill));
		TRY(find_part(x, "decode", true, input, &m->decode));
	}
	const Part *p = room ? &m->decode : &m->whole;
	if (!first->source && first->keep)
		return no_input(first->entry->name, first->keep->name);
	m->reads = first->source || first->nother;
	m->room = first->source ? (u32)first->source->dim[1] : 0;
	m->batch = p->batch;
	m->vocabulary = (u32)p->logits->dim[2];
	return OK;
}

Status generate_check(const Executor *x, u64 room, const Safetensors *input)
{
	Model m;
	return find_model(x, room, input, &m);
}

/* ---- logits ---- */

/* Runs an entry over positions [from, from + count) of the texts, which stand at places past, past + 1, ... */
static Status run_part(const GenerateConfig *c, Model *m, const Part *p, const Tokens *ids, u64 from, u32 count, u64 past)
{
	memset(m->tokens, 0, (size_t)p->batch * p->window * sizeof(i32));
	for (u32 b = 0; b < p->batch; b++)
		for (u32 i = 0; i < count; i++)
			m->tokens[b * p->window + i] = (i32)ids[b].v[from + i];
	i32 at = (i32)past, last = (i32)count - 1;
	TRY(executor_write(c->executor, p->tokens, m->tokens));
	if (p->source)
		TRY(executor_write(c->executor, p->source, m->source));
	if (p->keep)
		TRY(executor_write(c->executor, p->keep, m->keep));
	for (u32 i = 0; i < p->nother; i++)
		TRY(executor_write(c->executor, p->other[i], p->given[i]));
	if (p->past)
		TRY(executor_write(c->executor, p->past, &at));
	if (p->last)
		TRY(executor_write(c->executor, p->last, &last));
	return executor_run(c->executor, p->entry, NULL, NULL);
}

/* Those of the last of positions [0, n) of all texts. */
static Status logits_at(const GenerateConfig *c, Model *m, const Tokens *ids, u64 n)
{
	u64 row = m->vocabulary * sizeof(f32), from = n > m->window ? n - m->window : 0;
	if (m->whole.entry) {
		u32 count = (u32)(n - from);
		TRY(run_part(c, m, &m->whole, ids, from, count, 0));
		for (u32 b = 0; b < m->batch; b++)
			TRY(executor_read_at(c->executor, m->whole.logits->offset + ((u64)b * m->whole.window + count - 1) * row,
					     m->logits + (u64)b * m->vocabulary, row));
		return OK;
	}
	if (from)
		m->kept = 0; /* other positions than those that were kept */
	const Part *p = NULL;
	while (from + m->kept < n) {
		u64 left = n - from - m->kept;
		/* what is kept of what is read is made by prefill alone */
		p = left == 1 && (m->kept || !m->reads) ? &m->decode : &m->prefill;
		u32 count = (u32)MIN(left, p->window);
		TRY(run_part(c, m, p, ids, from + m->kept, count, m->kept));
		m->kept += count;
	}
	assert(p);
	if (from)
		m->kept = 0;
	return executor_read(c->executor, p->logits, m->logits);
}

/* ---- writing ---- */

/* One text: the bytes before `emitted` have been handed on. */
typedef struct Writer {
	const GenerateConfig *config;
	u32 index;
	Buf text;
	size_t emitted, checked; /* stops have been looked for up to there */
	GeneratedText *out;
	bool done;
} Writer;

static void emit(Writer *w, size_t to)
{
	if (to > w->emitted)
		w->config->emit(w->config->cx, w->index, (Str){ w->text.text + w->emitted, to - w->emitted });
	w->emitted = MAX(w->emitted, to);
}

/* True: a text to stop at has come. As much is held back as may be the beginning of one. */
static bool write_piece(Writer *w, Str piece)
{
	const GenerateConfig *c = w->config;
	size_t longest = 1, first = SIZE_MAX;
	buf_put(&w->text, piece);
	for (u32 i = 0; i < c->nstop; i++) {
		size_t n = strlen(c->stop[i]), from = w->checked > n ? w->checked - n : 0;
		const char *at = w->text.n >= n ? memmem(w->text.text + from, w->text.n - from, c->stop[i], n) : NULL;
		longest = MAX(longest, n);
		if (at)
			first = MIN(first, (size_t)(at - w->text.text));
	}
	w->checked = w->text.n;
	emit(w, MIN(first, w->text.n - MIN(w->text.n, longest - 1)));
	return first != SIZE_MAX;
}

static bool ends(const GenerateConfig *c, u32 id)
{
	for (u32 i = 0; i < c->nend; i++)
		if (c->end[i] == id)
			return true;
	return !c->end && id == c->tokenizer->end;
}

/* The next token of a text that all its tokens have been seen of. */
static Status write_token(Writer *w, const Model *m, Tokens *ids, u32 n, SamplingRoom *room)
{
	const GenerateConfig *c = w->config;
	Sampling s = c->sampling;
	s.seed += w->index;
	u32 id = sampling_pick(&s, m->logits + (u64)w->index * m->vocabulary, n, w->out->tokens, room);
	if (id == n)
		return FAIL(STATUS_INPUT, "the model's logits are not numbers: its parameters are spoiled");
	if (ends(c, id)) {
		w->out->why = GENERATE_DOCUMENT;
		w->done = true;
		return OK;
	}
	tokens_push(ids, id);
	w->out->tokens++;
	if (write_piece(w, m->room && !w->text.n ? tokenizer_first_piece(c->tokenizer, id) : tokenizer_piece(c->tokenizer, id))) {
		w->out->why = GENERATE_STOP;
		w->done = true;
	}
	w->done |= w->out->tokens == c->tokens;
	return OK;
}

static Status check_ids(const Model *m, const Tokens *ids)
{
	for (size_t i = 0; i < ids->n; i++)
		if (ids->v[i] >= m->vocabulary)
			return FAIL(STATUS_INPUT, "the tokenizer's tokens go beyond the model's %u logits: it is another model's",
				    m->vocabulary);
	return OK;
}

Status generate_source(Tokenizer *t, Str prompt, Tokens *ids)
{
	TRY(tokenizer_input(t, prompt, NULL, ids, NULL));
	if (t->end != TOKEN_NONE && (!ids->n || ids->v[ids->n - 1] != t->end))
		tokens_push(ids, t->end);
	return ids->n ? OK : FAIL(STATUS_INPUT, "the prompt is empty, and this tokenizer has no token that ends a text");
}

Status generate_prompt(Tokenizer *t, Str prompt, bool front, Tokens *ids)
{
	TRY(tokenizer_prompt(t, prompt, front, ids));
	if (!ids->n && t->end != TOKEN_NONE)
		tokens_push(ids, t->end); /* as at a document's beginning */
	return ids->n ? OK : FAIL(STATUS_INPUT, "the prompt is empty, and this tokenizer has no token that begins a text");
}

/* Row `row` of source and keep; `ids`: the text to be written. */
static Status encode_source(const GenerateConfig *c, Model *m, u32 row, Str prompt, GeneratedText *text, Tokens *ids)
{
	Tokens source = { .arena = ids->arena };
	TRY(generate_source(c->tokenizer, prompt, &source));
	TRY(check_ids(m, &source));
	if (source.n > m->room)
		return FAIL(STATUS_INPUT, "the prompt has %zu tokens, and the entries are for %u", source.n, m->room);
	for (u32 i = 0; i < source.n; i++) {
		m->source[(u64)row * m->room + i] = (i32)source.v[i];
		m->keep[(u64)row * m->room + i] = 1;
	}
	text->prompt_tokens = source.n;
	tokens_push(ids, c->begin);
	return check_ids(m, ids);
}

static Status encode(const GenerateConfig *c, Model *m, u32 row, Str prompt, GeneratedText *text, Tokens *ids)
{
	if (m->room)
		return encode_source(c, m, row, prompt, text, ids);
	TRY(generate_prompt(c->tokenizer, prompt, c->front, ids));
	text->prompt_tokens = ids->n;
	return check_ids(m, ids);
}

static Status run(Arena *a, const GenerateConfig *c, const Str *prompt, u32 nprompt, GeneratedText *text, f64 begun, Generated *out)
{
	Model m;
	TRY(find_model(c->executor, c->room, c->input, &m));
	TRY(sampling_check(&c->sampling));
	if (nprompt != m.batch)
		return FAIL(STATUS_INPUT, "the entries are for %u texts at once, not %u", m.batch, nprompt);
	Tokens *ids = NEWN(a, Tokens, nprompt);
	Writer *w = NEWN(a, Writer, nprompt);
	u64 at = UINT64_MAX, sources = (u64)m.batch * m.room;
	m.source = NEWN(a, i32, sources + 1);
	m.keep = NEWN(a, u8, sources + 1);
	for (u32 i = 0; i < nprompt; i++) {
		ids[i].arena = a;
		text[i] = (GeneratedText){ .why = GENERATE_TOKENS };
		TRY(encode(c, &m, i, prompt[i], &text[i], &ids[i]));
		out->prompt_tokens += text[i].prompt_tokens;
		w[i] = (Writer){ .config = c, .index = i, .text = { .arena = a }, .out = &text[i], .done = !c->tokens };
		at = MIN(at, ids[i].n);
	}
	/* a model may have more logits than there are tokens, for round sizes */
	u32 n = MIN(m.vocabulary, c->tokenizer->vocabulary);
	SamplingRoom room = sampling_room(a, n);
	m.tokens = NEWN(a, i32, (u64)m.batch * MAX(m.whole.window, MAX(m.prefill.window, m.decode.window)));
	m.logits = NEWN(a, f32, (u64)m.batch * m.vocabulary);
	for (;; at++) {
		bool more = false;
		for (u32 i = 0; i < nprompt; i++)
			more |= !w[i].done;
		if (!more)
			break;
		if (signals_requested()) {
			for (u32 i = 0; i < nprompt; i++)
				text[i].why = w[i].done ? text[i].why : GENERATE_SIGNAL;
			break;
		}
		TRY(logits_at(c, &m, ids, at));
		for (u32 i = 0; i < nprompt; i++) {
			if (!w[i].done && ids[i].n == at)
				TRY(write_token(&w[i], &m, &ids[i], n, &room));
			if (ids[i].n == at)
				tokens_push(&ids[i], 0); /* done: it goes along, unread */
			if (!out->first && text[i].tokens)
				out->first = clock_seconds() - begun;
		}
	}
	for (u32 i = 0; i < nprompt; i++) {
		if (text[i].why != GENERATE_STOP)
			emit(&w[i], w[i].text.n);
		out->tokens += text[i].tokens;
	}
	return OK;
}

Status generate(const GenerateConfig *config, const Str *prompt, u32 nprompt, GeneratedText *text, Generated *out)
{
	*out = (Generated){ 0 };
	Arena tmp = ARENA("generate");
	f64 begin = clock_seconds();
	Status s = run(&tmp, config, prompt, nprompt, text ? text : NEWN(&tmp, GeneratedText, nprompt + 1), begin, out);
	out->seconds = clock_seconds() - begin;
	arena_free(&tmp);
	return s;
}
