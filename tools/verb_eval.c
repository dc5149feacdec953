/* tools/verb_eval.c: `plinth eval MODEL --weights CKPT --data PREFIX`: how well a model predicts text that it was
 * not trained on. */
#include "runtime/evaluate.h"
#include "runtime/signals.h"
#include "tools/lm.h"
#include "tools/verbs.h"

#include <jansson.h>
#include <math.h>

static SourceOptions source;
static RunOptions where;
static const char *weights, *data;
static i64 batch, batches;
static bool json;

static const Option options[] = {
	SOURCE_OPTIONS(source),
	{ "weights", 'w', OPTION_TEXT, &weights, "FILE", "parameters: a checkpoint, a run's folder, safetensors" },
	{ "data", 'd', OPTION_TEXT, &data, "PREFIX", "token shards PREFIX.val.000.tok ..., or PREFIX.000.tok ..." },
	{ "batch", 'b', OPTION_INT, &batch, "B", "texts at a time, in place of the train block's" },
	{ "batches", 0, OPTION_INT, &batches, "N", "the first N batches only" },
	RUN_OPTIONS(where),
	{ "json", 'j', OPTION_FLAG, &json, NULL, "one JSON object" },
};

static const Command command = {
	.name = "eval",
	.operands = "MODEL",
	.least = 1,
	.most = 1,
	.about = "Prints a model's loss on held-out text: the mean over all tokens but the first, in\n"
		 "nats; its exponential (perplexity); and the bits that a byte and a character of\n"
		 "the text cost, which compare across tokenizers. MODEL is a source, or the folder\n"
		 "of a run, whose latest checkpoint, settings and data are then meant. The entry\n"
		 "`eval` is what is run: what `plinth train` prints as validation.",
	.example = "  plinth eval runs/bible\n"
		   "  plinth eval models/gpt2.plinth --weights gpt2.safetensors --data book",
	.option = options,
	.noption = COUNT(options),
};

static void print(const Evaluation *e, const Shards *s, const char *from)
{
	f64 byte = bits_per_byte(e, s), character = bits_per_character(e, s);
	if (json) {
		json_t *root = json_pack("{s:s, s:f, s:f, s:f, s:f, s:I, s:b, s:f}", "weights", from, "loss", e->loss, "perplexity",
					 exp(e->loss), "bits_per_byte", byte, "bits_per_character", character, "targets",
					 (json_int_t)e->targets, "whole", (int)e->whole, "seconds", e->seconds);
		if (root) /* a loss that is not a number has no JSON */
			json_dumpf(root, stdout, JSON_COMPACT);
		else
			printf("{\"weights\":\"%s\",\"loss\":\"NaN\"}", from);
		putchar('\n');
		json_decref(root);
		return;
	}
	printf("loss        %.5f nats per token (%.0f tokens%s)\n"
	       "perplexity  %.4f\n"
	       "bits        %.4f per byte, %.4f per character\n",
	       e->loss, e->targets, e->whole ? "" : ", not the whole set", exp(e->loss), byte, character);
}

static Status run(Lm *lm)
{
	const char *from = weights ? weights : lm->operand.run;
	if (!from)
		return FAIL(STATUS_INPUT, "which parameters? --weights FILE, or a run's folder in place of the source");
	Shards shards;
	TRY(lm_held_out(lm, data, &shards));
	TRY(lm_check_vocabulary(lm, shards.vocabulary, "the data's tokenizer"));
	static const char *const entry[] = { "eval" };
	LmCompile how = { .entry = entry, .nentry = 1, .precision = lm->model->precision, .run = &where };
	TRY(lm_sizes(lm, batch, 0, &how.sizes));
	LmRun r;
	Status s = lm_compile(lm, &how, &r);
	if (!s)
		s = lm_executor(&r, &where);
	if (!s)
		s = lm_weights(lm, &r, from);
	Evaluation e;
	if (!s)
		s = evaluate(r.executor, &shards, (u64)batches, &e);
	if (!s)
		print(&e, &shards, from);
	lm_run_close(&r);
	shards_close(&shards);
	return s;
}

int verb_eval(int argc, char **argv)
{
	char **operand;
	int n, status;
	if (!options_parse(&command, argc, argv, &operand, &n, &status))
		return status;
	if (batch < 0 || batches < 0)
		return verb_misused("eval", "--batch and --batches are at least 1");
	Lm lm;
	Status s = lm_open(operand[0], &source, &lm);
	if (!s)
		s = signals_install();
	if (!s)
		s = run(&lm);
	status = s ? lm_failed("eval", &lm, s) : signals_requested() ? 128 + signals_requested() : 0;
	lm_close(&lm);
	return status;
}
