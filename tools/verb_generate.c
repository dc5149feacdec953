/* tools/verb_generate.c: `plinth generate MODEL --prompt TEXT`: what a model writes. Decoding is compiled for the
 * prompts at hand: as many texts as there are prompts, pieces that divide the shortest evenly, and room for what is
 * to be written. */
#include "runtime/generate.h"
#include "tools/export_shrink.h"
#include "tools/packaged.h"
#include "tools/verbs.h"

#include <jansson.h>
#include <string.h>

static SourceOptions source;
static RunOptions where;
static const char *weights, *tokenizer_file, *data, *prompts_file, *inputs, *store, *precision;
static TextList prompt, stop;
enum { NOT_GIVEN = -0x7fffffff - 1 }; /* then the source's generate block says, or the default holds */
static i64 tokens = NOT_GIVEN, top_k = NOT_GIVEN, seed = NOT_GIVEN;
static i64 window, group;
static f64 temperature = NOT_GIVEN, top_p = NOT_GIVEN;
static bool greedy, quiet, stats, whole;
static const char *reads; /* lm_source_size */

static const Option options[] = {
	SOURCE_OPTIONS(source),
	{ "weights", 'w', OPTION_TEXT, &weights, "FILE", "parameters: a checkpoint, a run's folder, safetensors; several, with commas" },
	{ "prompt", 'P', OPTION_LIST, &prompt, "TEXT", "what the text begins with; a new line by default; several: a batch" },
	{ "prompts", 0, OPTION_TEXT, &prompts_file, "FILE", "a prompt on each line" },
	{ "inputs", 'i', OPTION_TEXT, &inputs, "FILE", "what the model takes besides the text, by its names, as safetensors" },
	{ "tokens", 'n', OPTION_SIZE, &tokens, "N", "how many to write, at most: 200 by default" },
	{ "temperature", 0, OPTION_REAL, &temperature, "X", "0.8 by default; below 1 the likely becomes likelier" },
	{ "top-k", 0, OPTION_SIZE, &top_k, "K", "draw from the K likeliest tokens only" },
	{ "top-p", 0, OPTION_REAL, &top_p, "P", "draw from the likeliest that make up this share only" },
	{ "greedy", 0, OPTION_FLAG, &greedy, NULL, "always the likeliest token" },
	{ "seed", 0, OPTION_INT, &seed, "N", "0 by default; the same seed writes the same text; text i of a batch has seed + i" },
	{ "stop", 0, OPTION_LIST, &stop, "TEXT", "end before this text, or at the special token of this name; may be given several times" },
	{ "window", 0, OPTION_SIZE, &window, "N", "positions that the model sees at once, at most: what it was trained with by default" },
	{ "no-cache", 0, OPTION_FLAG, &whole, NULL, "run the whole window again for each token, and keep nothing" },
	{ "precision", 0, OPTION_TEXT, &precision, "TYPE", "what matrix multiplies take: f32, bf16, autocast; else as the file says" },
	{ "store", 0, OPTION_TEXT, &store, "TYPE", "how matrices are kept in memory: f32, bf16, f16, int8, int4; fewer bytes are read for each token" },
	{ "group", 0, OPTION_COUNT, &group, "N", "weights that share a factor, with int8 and int4: 32 by default" },
	{ "tokenizer", 0, OPTION_TEXT, &tokenizer_file, "FILE", "tokenizer.json, *.model or vocab.txt; a run's own, or that beside the weights, by default" },
	{ "data", 'd', OPTION_TEXT, &data, "PREFIX", "token shards, whose tokenizer is used" },
	{ "no-prompt", 0, OPTION_FLAG, &quiet, NULL, "print what is written only, not what it begins with" },
	{ "stats", 0, OPTION_FLAG, &stats, NULL, "tokens per second and milliseconds to the first token, on stderr" },
	RUN_OPTIONS(where),
};

static const OptionRule rules[] = {
	{ RULE_EXCLUDE, "greedy", "temperature top-k top-p", "of the likeliest token nothing is drawn" },
	{ RULE_EXCLUDE, "prompt", "prompts", NULL },
	{ RULE_EXCLUDE, "tokenizer", "data", "both say which tokenizer" },
	{ RULE_NEEDS, "group", "store", "matrices are kept as they are without" },
};

static const Command command = {
	.name = "generate",
	.operands = "MODEL",
	.least = 1,
	.most = 1,
	.about = "Writes text with a model, a token at a time, to standard output. MODEL is a source,\n"
		 "a package (compile --capacity N), or the folder of a run, which has all that is needed. The text follows from the\n"
		 "model, the prompt, --tokens and the seed, for any number of threads. What is not\n"
		 "given here is taken from the source's block `generate { tokens = 100 }`, if it has one.\n"
		 "A model that takes `source` (T5) reads the prompt there, and writes what it becomes.\n"
		 "What else a model takes, such as Whisper's spectrogram, --inputs gives.\n"
		 "Keys and values, or whatever else later positions need of earlier ones, are kept: how is\n"
		 "derived from the model, which must be causal. Of several prompts, each text is printed\n"
		 "when all are done, with a line of dashes between two. Special tokens that a prompt names are\n"
		 "read as such; with published weights it stands behind what the tokenizer puts before a text\n"
		 "(<s>), and what ends one is as generation_config.json beside the weights says, if it is there.",
	.example = "  plinth generate runs/bible --prompt \"In the beginning\"\n"
		   "  plinth generate models/gpt2.plinth --weights gpt2.safetensors \\\n"
		   "         --tokenizer gpt2.json --prompt \"Hello\" --top-k 50",
	.option = options,
	.noption = COUNT(options),
	.rule = rules,
	.nrule = COUNT(rules),
};

static Status open_tokenizer(Lm *lm, Tokenizer **out)
{
	if (data) {
		Dataset d;
		TRY(lm_held_out(lm, data, &d));
		Status why = dataset_tokenizer(&lm->arena, &d, out);
		dataset_close(&d);
		return why;
	}
	TRY(lm_tokenizer(lm, tokenizer_file, weights, out));
	return *out ? OK : FAIL(STATUS_INPUT, "which tokenizer? --tokenizer FILE, or --data PREFIX; there is none beside the weights");
}

/* Are the parameters other than a run's, whose data had nothing put before a text? */
static bool published(Lm *lm)
{
	static const char *const name[] = { RUN_SETTINGS };
	return !lm->operand.run && !lm_beside(lm, weights, name, COUNT(name));
}

/* How long what is seen becomes, and the pieces in which prompts are taken. */
typedef struct Sizes {
	i64 window, piece, source;
} Sizes;

static i64 divided_up(i64 a, i64 b)
{
	return (a + b - 1) / b;
}

/* The same for a model that reads the prompts as its source, and writes behind one token. */
static Status sizes_of_source(Lm *lm, Tokenizer *t, Sizes *out)
{
	for (int i = 0; i < prompt.n; i++) {
		Tokens ids = { .arena = &lm->arena };
		TRY(generate_source(t, str_of(prompt.v[i]), &ids));
		out->source = MAX(out->source, (i64)ids.n);
	}
	out->window = window && window < 1 + tokens ? window : 1 + tokens;
	out->piece = 1;
	return OK;
}

static Status sizes_for(Lm *lm, Tokenizer *t, Sizes *out)
{
	enum { STEP = 64, PIECE = 128 };
	if (reads)
		return sizes_of_source(lm, t, out);
	i64 longest = 1, shortest = INT64_MAX, most = window ? window : lm_size(lm, "T"), piece = PIECE;
	for (int i = 0; i < prompt.n; i++) {
		Tokens ids = { .arena = &lm->arena };
		TRY(generate_prompt(t, str_of(prompt.v[i]), published(lm), &ids));
		longest = MAX(longest, (i64)ids.n);
		shortest = MIN(shortest, MAX((i64)ids.n, 1));
	}
	if (lm->file) { /* what it was compiled for */
		piece = packaged_most(lm, "T");
		out->window = whole ? lm_size(lm, "T") : packaged_capacity(lm);
		if (!out->window)
			return FAIL(STATUS_INPUT, "%s has no entries to decode with: plinth compile --capacity N makes them", lm->operand.source);
		if (!piece && !whole && out->window % MAX(lm_size(lm, "T"), 1))
			return FAIL(STATUS_INPUT, "%s takes %lld tokens at once, and keeps %lld, which is no multiple of that", lm->operand.source,
				    (long long)lm_size(lm, "T"), (long long)out->window);
		shortest = MIN(shortest, out->window);
		out->piece = piece ? divided_up(shortest, divided_up(shortest, MIN(piece, (i64)PIECE))) : lm_size(lm, "T");
		return OK;
	}
	/* no more than what is written needs: without buffers, the window is what each token costs */
	i64 needed = (i64)ALIGN_UP((u64)(longest + tokens), (u64)STEP);
	out->window = most && most < needed ? most : needed;
	shortest = longest + tokens > out->window ? out->window : shortest;
	out->piece = divided_up(shortest, divided_up(shortest, piece));
	return OK;
}

/* ---- what is written ---- */

/* One text goes out as it comes; several when all are done. */
typedef struct Output {
	Buf *text; /* of each prompt, or NULL */
} Output;

static void emit(void *cx, u32 text, Str bytes)
{
	Output *o = cx;
	if (o->text) {
		buf_put(&o->text[text], bytes);
		return;
	}
	fwrite(bytes.s, 1, bytes.n, stdout);
	fflush(stdout);
}

static void print_texts(const Output *o)
{
	for (int i = 0; i < prompt.n && o->text; i++)
		printf("%s%s%.*s\n", i ? "-----\n" : "", quiet ? "" : prompt.v[i], STR_ARG(buf_str(&o->text[i])));
}

static void print_stats(const Generated *done)
{
	f64 rest = done->seconds - done->first;
	u64 later = done->tokens > (u64)prompt.n ? done->tokens - (u64)prompt.n : 0;
	fprintf(stderr, "%llu tokens in %.2f s: %.1f tokens/s; %llu tokens of prompts, first token after %.1f ms, then %.2f ms a token\n",
		(unsigned long long)done->tokens, done->seconds, (f64)done->tokens / done->seconds,
		(unsigned long long)done->prompt_tokens, done->first * 1e3, later ? rest * 1e3 * (f64)prompt.n / (f64)later : 0);
}

static Sampling sampling(void)
{
	return (Sampling){ .temperature = greedy ? 0 : temperature, .top_k = (u32)top_k, .top_p = top_p, .seed = (u64)seed };
}

/* What ends a text: what the generation_config.json of published weights says, else the tokenizer's end of a document; and
 * special tokens that --stop names. */
static Status end_tokens(Lm *lm, const Tokenizer *t, Tokens *out)
{
	static const char *const name[] = { "generation_config.json" };
	const char *path = lm_beside(lm, weights, name, COUNT(name));
	json_error_t e;
	json_t *root = path ? json_load_file(path, 0, &e) : NULL;
	if (path && !json_is_object(root)) {
		Status s = FAIL(STATUS_INPUT, "%s: %s", path, root ? "it is not an object" : e.text);
		json_decref(root);
		return s;
	}
	const json_t *end = json_object_get(root, "eos_token_id");
	bool several = json_is_array(end), fits = true;
	for (size_t i = 0; end && !json_is_null(end) && i < (several ? json_array_size(end) : 1); i++) {
		const json_t *one = several ? json_array_get(end, i) : end;
		json_int_t id = json_integer_value(one);
		fits &= json_is_integer(one) && id >= 0 && id < TOKEN_NONE;
		tokens_push(out, (u32)id);
	}
	json_decref(root);
	if (!fits)
		return FAIL(STATUS_INPUT, "%s: eos_token_id is neither a token's number nor a list of them", path);
	if (!out->n && t->end != TOKEN_NONE)
		tokens_push(out, t->end);
	for (int i = 0; i < stop.n; i++)
		if (tokenizer_special(t, stop.v[i]) != TOKEN_NONE)
			tokens_push(out, tokenizer_special(t, stop.v[i]));
	return OK;
}

static Status write_text(Lm *lm, LmRun *r, Tokenizer *t, i64 room)
{
	bool later = prompt.n > 1;
	Output o = { later ? NEWN(&lm->arena, Buf, prompt.n) : NULL };
	Str *p = NEWN(&lm->arena, Str, prompt.n);
	for (int i = 0; i < prompt.n; i++) {
		p[i] = str_of(prompt.v[i]);
		if (later)
			o.text[i].arena = &lm->arena;
	}
	Tokens end = { .arena = &lm->arena };
	TRY(end_tokens(lm, t, &end));
	Safetensors given = { 0 };
	if (inputs)
		TRY(safetensors_open(&lm->arena, inputs, &given));
	GenerateConfig g = { .executor = r->executor, .room = (u64)room, .tokenizer = t, .tokens = (u64)tokens, .stop = stop.v,
			     .nstop = (u32)stop.n, .front = published(lm), .end = end.v, .nend = (u32)end.n, .emit = emit, .cx = &o,
			     .sampling = sampling(), .input = inputs ? &given : NULL };
	Generated done;
	TRY(generate_check(r->executor, g.room, g.input));
	if (reads)
		TRY(lm_begin(lm, t, &g.begin));
	if (!quiet && !later)
		emit(&o, 0, p[0]);
	TRY(generate(&g, p, (u32)prompt.n, NULL, &done));
	if (!later)
		putchar('\n');
	print_texts(&o);
	fflush(stdout);
	if (stats)
		print_stats(&done);
	return OK;
}

static Status count_setting(const Lm *lm, const char *key, u64 otherwise, i64 *value)
{
	u64 n = 0;
	if (*value != NOT_GIVEN)
		return OK;
	TRY(lm_count(lm, key, 0, otherwise, &n));
	*value = (i64)n;
	return OK;
}

static void add_text(Lm *lm, TextList *list, const char *text)
{
	const char **v = NEWN(&lm->arena, const char *, list->n + 1);
	for (int i = 0; i < list->n; i++)
		v[i] = list->v[i];
	v[list->n] = text;
	*list = (TextList){ v, list->n + 1 };
}

static Status read_prompts(Lm *lm)
{
	Str text;
	TRY(io_read(&lm->arena, prompts_file, &text));
	while (text.n) {
		const char *end = memchr(text.s, '\n', text.n);
		size_t n = end ? (size_t)(end - text.s) : text.n;
		if (memchr(text.s, 0, n))
			return FAIL(STATUS_INPUT, "%s: a prompt has a byte 0", prompts_file);
		if (n)
			add_text(lm, &prompt, arena_printf(&lm->arena, "%.*s", (int)n, text.s));
		text = (Str){ text.s + MIN(n + 1, text.n), text.n - MIN(n + 1, text.n) };
	}
	return prompt.n ? OK : FAIL(STATUS_INPUT, "%s has no prompt: one stands on each line", prompts_file);
}

/* What the command line does not give. */
static Status settings(Lm *lm)
{
	TRY(count_setting(lm, "generate.tokens", 200, &tokens));
	TRY(count_setting(lm, "generate.top_k", 0, &top_k));
	TRY(count_setting(lm, "generate.seed", 0, &seed));
	if (temperature == NOT_GIVEN)
		TRY(lm_real(lm, "generate.temperature", 0.8, &temperature));
	if (top_p == NOT_GIVEN)
		TRY(lm_real(lm, "generate.top_p", 1, &top_p));
	Sampling chosen = sampling();
	TRY(sampling_check(&chosen));
	if (prompts_file)
		TRY(read_prompts(lm));
	if (!prompt.n && lm_source_size(lm) && !lm_text(lm, "generate.prompt", NULL))
		return FAIL(STATUS_INPUT, "the model writes what a text becomes: --prompt TEXT, or --prompts FILE");
	if (!prompt.n)
		add_text(lm, &prompt, lm_text(lm, "generate.prompt", "\n"));
	if (!stop.n && lm_text(lm, "generate.stop", NULL))
		add_text(lm, &stop, lm_text(lm, "generate.stop", NULL));
	int kept = 0;
	for (int i = 0; i < stop.n; i++)
		if (*stop.v[i])
			stop.v[kept++] = stop.v[i];
	stop.n = kept;
	return OK;
}

static Status run(Lm *lm)
{
	TRY(settings(lm));
	const char *from;
	TRY(lm_parameters_from(lm, weights, &from));
	reads = lm_source_size(lm);
	quiet |= reads != NULL; /* what is written does not begin with what was read */
	Tokenizer *t;
	TRY(open_tokenizer(lm, &t));
	static const char *const forward[] = { "forward" }, *const parts[] = { "prefill", "decode" };
	LmCompile how = { .entry = whole ? forward : parts, .nentry = whole ? 1 : 2, .precision = precision ? precision : lm->model->precision,
			  .run = &where, .decode_along = whole ? NULL : "T" };
	LmRun r = { 0 };
	Sizes sizes = { 0 };
	Shrink shrink;
	TRY(shrink_for(lm, store, group, &shrink, &how));
	Status s = lm_check_vocabulary(lm, t->vocabulary, "the tokenizer");
	if (!s)
		s = sizes_for(lm, t, &sizes);
	how.capacity = sizes.window;
	if (!s)
		s = lm_sizes_with(lm, prompt.n, whole ? sizes.window : sizes.piece, reads, sizes.source, &how.sizes);
	if (!s)
		s = lm_compile(lm, &how, &r);
	if (!s)
		s = lm_executor(&r, &where);
	if (!s)
		s = shrink.kind ? shrink_into(lm, &shrink, from, &r) : lm_parameters(lm, &r, from);
	if (!s)
		s = write_text(lm, &r, t, whole ? 0 : sizes.window);
	lm_run_close(&r);
	tokenizer_close(t);
	return s;
}

int verb_generate(int argc, char **argv)
{
	char **operand;
	int n, status;
	if (!options_parse(&command, argc, argv, &operand, &n, &status))
		return status;
	Lm lm;
	return lm_run("generate", &lm, lm_open(operand[0], &source, &lm), run);
}
