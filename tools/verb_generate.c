/* tools/verb_generate.c: `plinth generate MODEL --prompt TEXT`: what a model writes. */
#include "runtime/generate.h"
#include "runtime/signals.h"
#include "tools/lm.h"
#include "tools/verbs.h"

#include <string.h>

static SourceOptions source;
static RunOptions where;
static const char *weights, *tokenizer_file, *data, *prompt = "\n", *stop;
static i64 tokens = 200, top_k, seed;
static f64 temperature = 0.8, top_p = 1;
static bool greedy, quiet, stats;

static const Option options[] = {
	SOURCE_OPTIONS(source),
	{ "weights", 'w', OPTION_TEXT, &weights, "FILE", "parameters: a checkpoint, a run's folder, safetensors" },
	{ "prompt", 'P', OPTION_TEXT, &prompt, "TEXT", "what the text begins with; a new line by default" },
	{ "tokens", 'n', OPTION_INT, &tokens, "N", "how many to write, at most: 200 by default" },
	{ "temperature", 0, OPTION_REAL, &temperature, "X", "0.8 by default; below 1 the likely becomes likelier" },
	{ "top-k", 0, OPTION_INT, &top_k, "K", "draw from the K likeliest tokens only" },
	{ "top-p", 0, OPTION_REAL, &top_p, "P", "draw from the likeliest that make up this share only" },
	{ "greedy", 0, OPTION_FLAG, &greedy, NULL, "always the likeliest token" },
	{ "seed", 0, OPTION_INT, &seed, "N", "0 by default; the same seed writes the same text" },
	{ "stop", 0, OPTION_TEXT, &stop, "TEXT", "end before this text" },
	{ "tokenizer", 0, OPTION_TEXT, &tokenizer_file, "FILE", "the tokenizer.json; a run's folder has its own" },
	{ "data", 'd', OPTION_TEXT, &data, "PREFIX", "token shards, whose tokenizer is used" },
	{ "no-prompt", 0, OPTION_FLAG, &quiet, NULL, "print what is written only, not what it begins with" },
	{ "stats", 0, OPTION_FLAG, &stats, NULL, "tokens per second, on stderr" },
	RUN_OPTIONS(where),
};

static const Command command = {
	.name = "generate",
	.operands = "MODEL",
	.least = 1,
	.most = 1,
	.about = "Writes text with a model, a token at a time, to standard output. MODEL is a source,\n"
		 "or the folder of a run, which has all that is needed. The text follows from the\n"
		 "model, the prompt, --tokens and the seed, for any number of threads.",
	.example = "  plinth generate runs/bible --prompt \"In the beginning\"\n"
		   "  plinth generate models/gpt2.plinth --weights gpt2.safetensors \\\n"
		   "         --tokenizer gpt2.json --prompt \"Hello\" --top-k 50",
	.option = options,
	.noption = COUNT(options),
};

static Status open_tokenizer(Lm *lm, Tokenizer **out)
{
	if (tokenizer_file)
		return tokenizer_load(&lm->arena, tokenizer_file, out);
	if (data) {
		Shards s;
		TRY(lm_held_out(lm, data, &s));
		Status why = shards_tokenizer(&lm->arena, &s, out);
		shards_close(&s);
		return why;
	}
	if (lm->operand.run)
		return tokenizer_load(&lm->arena, arena_printf(&lm->arena, "%s/" RUN_TOKENIZER, lm->operand.run), out);
	return FAIL(STATUS_INPUT, "which tokenizer? --tokenizer FILE, --data PREFIX, or a run's folder in place of the source");
}

/* No longer than what is written needs: the window is what each token costs. */
static Status window_for(Lm *lm, Tokenizer *t, i64 *out)
{
	enum { STEP = 64 };
	Tokens ids = { .arena = &lm->arena };
	TRY(tokenizer_encode(t, str_of(prompt), &ids));
	i64 most = lm_size(lm, "T"), needed = (i64)ALIGN_UP(ids.n + (size_t)tokens, (size_t)STEP);
	*out = most && most < needed ? most : needed;
	return OK;
}

static void emit(void *cx, Str bytes)
{
	(void)cx;
	fwrite(bytes.s, 1, bytes.n, stdout);
	fflush(stdout);
}

static Status write_text(LmRun *r, Tokenizer *t)
{
	GenerateConfig g = { .executor = r->executor, .tokenizer = t, .tokens = (u64)tokens, .stop = stop, .emit = emit,
			     .sampling = { .temperature = greedy ? 0 : temperature, .top_k = (u32)top_k, .top_p = top_p,
					   .seed = (u64)seed } };
	Generated done;
	TRY(generate_check(r->executor));
	if (!quiet)
		emit(NULL, str_of(prompt));
	TRY(generate(&g, str_of(prompt), &done));
	putchar('\n');
	fflush(stdout);
	if (stats)
		fprintf(stderr, "%llu tokens in %.2f s: %.1f tokens/s\n", (unsigned long long)done.tokens, done.seconds,
			(f64)done.tokens / done.seconds);
	return OK;
}

static Status run(Lm *lm)
{
	const char *from = weights ? weights : lm->operand.run;
	if (!from)
		return FAIL(STATUS_INPUT, "which parameters? --weights FILE, or a run's folder in place of the source");
	Tokenizer *t;
	TRY(open_tokenizer(lm, &t));
	static const char *const entry[] = { "forward" };
	LmCompile how = { .entry = entry, .nentry = 1, .precision = lm->model->precision, .run = &where };
	LmRun r = { 0 };
	i64 window;
	Status s = lm_check_vocabulary(lm, t->vocabulary, "the tokenizer");
	if (!s)
		s = window_for(lm, t, &window);
	if (!s)
		s = lm_sizes(lm, 1, window, &how.sizes);
	if (!s)
		s = lm_compile(lm, &how, &r);
	if (!s)
		s = lm_executor(&r, &where);
	if (!s)
		s = lm_weights(lm, &r, from);
	if (!s)
		s = write_text(&r, t);
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
	if (tokens < 0 || top_k < 0)
		return verb_misused("generate", "--tokens and --top-k are not negative");
	if (stop && !*stop)
		stop = NULL;
	Lm lm;
	Status s = lm_open(operand[0], &source, &lm);
	if (!s)
		s = signals_install();
	if (!s)
		s = run(&lm);
	status = s ? lm_failed("generate", &lm, s) : signals_requested() ? 128 + signals_requested() : 0;
	lm_close(&lm);
	return status;
}
