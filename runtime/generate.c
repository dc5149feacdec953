/* runtime/generate.c: see generate.h. */
#include "runtime/generate.h"
#include "runtime/signals.h"
#include "runtime/views.h"

#include <string.h>
#include <time.h>

static f64 seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (f64)t.tv_sec + (f64)t.tv_nsec * 1e-9;
}

typedef struct Model {
	TokenInputs in;
	const PackageTensor *logits;
	u32 vocabulary;
} Model;

static Status find_model(const Executor *x, Model *m)
{
	TRY(token_inputs(x, "forward", &m->in));
	if (m->in.targets || m->in.batch != 1)
		return FAIL(STATUS_INPUT, "the entry 'forward' must take tokens alone, of one text: i32[1, T]");
	const PackageEntry *e = m->in.entry;
	const PackageTensor *t = e->nresult ? &e->result[0] : NULL;
	if (!t || t->dtype != PACKAGE_F32 || t->rank != 3 || t->dim[0] != 1 || t->dim[1] != m->in.window)
		return FAIL(STATUS_INPUT, "the model's first result must be its logits, f32[B, T, vocabulary]");
	m->logits = t;
	m->vocabulary = (u32)t->dim[2];
	return OK;
}

Status generate_check(const Executor *x)
{
	Model m;
	return find_model(x, &m);
}

/* What was written: the bytes before `emitted` have been handed on. */
typedef struct Writer {
	const GenerateConfig *config;
	Buf text;
	size_t emitted;
} Writer;

static void emit(Writer *w, size_t to)
{
	if (to > w->emitted)
		w->config->emit(w->config->cx, (Str){ w->text.text + w->emitted, to - w->emitted });
	w->emitted = MAX(w->emitted, to);
}

/* True: the text to stop at has come. As much is held back as may be the beginning of it. */
static bool write_piece(Writer *w, Str piece)
{
	buf_put(&w->text, piece);
	size_t stop = w->config->stop ? strlen(w->config->stop) : 0;
	if (!stop) {
		emit(w, w->text.n);
		return false;
	}
	if (w->text.n < stop)
		return false;
	const char *at = memmem(w->text.text + w->emitted, w->text.n - w->emitted, w->config->stop, stop);
	emit(w, at ? (size_t)(at - w->text.text) : w->text.n - (stop - 1));
	return at != NULL;
}

/* Runs the model over the last of the ids, and reads the logits of the very last. */
static Status logits_of_last(const GenerateConfig *c, const Model *m, const Tokens *ids, i32 *tokens, f32 *logits)
{
	size_t n = MIN(ids->n, (size_t)m->in.window);
	memset(tokens, 0, (size_t)m->in.window * sizeof(i32));
	for (size_t i = 0; i < n; i++)
		tokens[i] = (i32)ids->v[ids->n - n + i];
	TRY(token_run(c->executor, &m->in, tokens, NULL, NULL, NULL));
	u64 row = m->vocabulary * sizeof(f32);
	return executor_read_at(c->executor, m->logits->offset + (n - 1) * row, logits, row);
}

static Status run(Arena *a, const GenerateConfig *c, Str prompt, Generated *out)
{
	Model m;
	TRY(find_model(c->executor, &m));
	TRY(sampling_check(&c->sampling));
	Tokens ids = { .arena = a };
	TRY(tokenizer_encode(c->tokenizer, prompt, &ids));
	if (!ids.n && c->tokenizer->end != TOKEN_NONE)
		tokens_push(&ids, c->tokenizer->end); /* as at a document's beginning */
	if (!ids.n)
		return FAIL(STATUS_INPUT, "the prompt is empty, and this tokenizer has no token that begins a text");
	for (size_t i = 0; i < ids.n; i++)
		if (ids.v[i] >= m.vocabulary)
			return FAIL(STATUS_INPUT, "the tokenizer's tokens go beyond the model's %u logits: it is another model's",
				    m.vocabulary);
	out->prompt_tokens = ids.n;
	/* a model may have more logits than there are tokens, for round sizes */
	u32 n = MIN(m.vocabulary, c->tokenizer->vocabulary);
	SamplingRoom room = sampling_room(a, n);
	i32 *tokens = NEWN(a, i32, m.in.window);
	f32 *logits = NEWN(a, f32, m.vocabulary);
	Writer w = { .config = c, .text = { .arena = a } };
	for (out->why = GENERATE_TOKENS; out->tokens < c->tokens; out->tokens++) {
		if (signals_requested()) {
			out->why = GENERATE_SIGNAL;
			break;
		}
		TRY(logits_of_last(c, &m, &ids, tokens, logits));
		u32 id = sampling_pick(&c->sampling, logits, n, out->tokens, &room);
		if (id == n)
			return FAIL(STATUS_INPUT, "the model's logits are not numbers: its parameters are spoiled");
		if (id == c->tokenizer->end) {
			out->why = GENERATE_DOCUMENT;
			break;
		}
		tokens_push(&ids, id);
		if (write_piece(&w, tokenizer_piece(c->tokenizer, id))) {
			out->why = GENERATE_STOP;
			break;
		}
	}
	if (out->why != GENERATE_STOP)
		emit(&w, w.text.n);
	return OK;
}

Status generate(const GenerateConfig *config, Str prompt, Generated *out)
{
	*out = (Generated){ 0 };
	Arena tmp = ARENA("generate");
	f64 begin = seconds();
	Status s = run(&tmp, config, prompt, out);
	out->seconds = seconds() - begin;
	arena_free(&tmp);
	return s;
}
