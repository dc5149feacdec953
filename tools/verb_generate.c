/* tools/verb_generate.c: `plinth generate MODEL --prompt TEXT`: what a model writes. */
#include "runtime/generate.h"
#include "runtime/signals.h"
#include "tools/lm.h"
#include "tools/verbs.h"

#include <string.h>

static SourceOptions source;
static RunOptions where;
static const char *weights, *tokenizer_file, *data, *prompt, *stop;
enum { NOT_GIVEN = -0x7fffffff - 1 }; /* then the source's generate block says, or the default holds */
static i64 tokens = NOT_GIVEN, top_k = NOT_GIVEN, seed = NOT_GIVEN;
static f64 temperature = NOT_GIVEN, top_p = NOT_GIVEN;
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
		 "model, the prompt, --tokens and the seed, for any number of threads. What is not\n"
		 "given here is taken from the source's block `generate { tokens = 100 }`, if it has one.",
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
		Dataset d;
		TRY(lm_held_out(lm, data, &d));
		Status why = dataset_tokenizer(&lm->arena, &d, out);
		dataset_close(&d);
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

static Status count_setting(const Lm *lm, const char *key, u64 otherwise, i64 *value)
{
	u64 n = 0;
	if (*value != NOT_GIVEN)
		return OK;
	TRY(lm_count(lm, key, 0, otherwise, &n));
	*value = (i64)n;
	return OK;
}

/* What the command line does not give. */
static Status settings(const Lm *lm)
{
	TRY(count_setting(lm, "generate.tokens", 200, &tokens));
	TRY(count_setting(lm, "generate.top_k", 0, &top_k));
	TRY(count_setting(lm, "generate.seed", 0, &seed));
	if (temperature == NOT_GIVEN)
		TRY(lm_real(lm, "generate.temperature", 0.8, &temperature));
	if (top_p == NOT_GIVEN)
		TRY(lm_real(lm, "generate.top_p", 1, &top_p));
	if (!prompt)
		prompt = lm_text(lm, "generate.prompt", "\n");
	if (!stop)
		stop = lm_text(lm, "generate.stop", NULL);
	if (stop && !*stop)
		stop = NULL;
	return OK;
}

static Status run(Lm *lm)
{
	TRY(settings(lm));
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
	if ((tokens < 0 && tokens != NOT_GIVEN) || (top_k < 0 && top_k != NOT_GIVEN))
		return verb_misused("generate", "--tokens and --top-k are not negative");
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
