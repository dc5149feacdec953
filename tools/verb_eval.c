/* tools/verb_eval.c: `plinth eval MODEL --weights CKPT --data PREFIX`: how well a model predicts text that it was
 * not trained on. */
#include "runtime/evaluate.h"
#include "tools/lm.h"
#include "tools/verbs.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

static SourceOptions source;
static RunOptions where;
static const char *weights, *data;
static i64 batch, batches;
static bool json;

static const Option options[] = {
	SOURCE_OPTIONS(source),
	{ "weights", 'w', OPTION_TEXT, &weights, "FILE", "parameters: a checkpoint, a run's folder, safetensors; several, with commas" },
	{ "data", 'd', OPTION_TEXT, &data, "PREFIX", "what the data block reads: token shards PREFIX.val.*, or PREFIX.*" },
	{ "batch", 'b', OPTION_COUNT, &batch, "B", "texts at a time, in place of the train block's" },
	{ "batches", 0, OPTION_COUNT, &batches, "N", "the first N batches only" },
	RUN_OPTIONS(where),
	{ "json", 'j', OPTION_FLAG, &json, NULL, "one JSON object" },
};

static const Command command = {
	.name = "eval",
	.operands = "MODEL",
	.least = 1,
	.most = 1,
	.about = "Prints a model's loss on held-out data, and what each `eval NAME { }` of the source\n"
		 "gives there. Of a text: the mean over all tokens but the first, in nats; its\n"
		 "exponential (perplexity); and the bits that a byte and a character of the text\n"
		 "cost, which compare across tokenizers. MODEL is a source, or the folder of a run,\n"
		 "whose latest checkpoint, settings and data are then meant. The entries run are\n"
		 "those that `plinth train` runs for its validation.",
	.example = "  plinth eval runs/bible\n"
		   "  plinth eval models/gpt2.plinth --weights gpt2.safetensors --data book",
	.option = options,
	.noption = COUNT(options),
};

/* What was evaluated: entries of the program, and what each gave. */
typedef struct Evaluated {
	const char *entry[LM_EVALS];
	Evaluation e[LM_EVALS];
	u32 n;
} Evaluated;

static void print_json(const Evaluated *r, const Dataset *d, const char *from)
{
	const Evaluation *e = &r->e[0];
	json_t *root = json_pack("{s:s, s:f}", "weights", from, "loss", e->loss);
	if (!root) { /* a loss that is not a number has no JSON */
		printf("{\"weights\":\"%s\",\"loss\":\"NaN\"}\n", from);
		return;
	}
	if (d->kind->text)
		json_object_set_new(root, "perplexity", json_real(exp(e->loss)));
	if (d->kind == &dataset_tokens) {
		json_object_set_new(root, "bits_per_byte", json_real(bits_per_byte(e, &d->shards)));
		json_object_set_new(root, "bits_per_character", json_real(bits_per_character(e, &d->shards)));
	}
	for (u32 i = 1; i < r->n; i++)
		json_object_set_new(root, r->entry[i] + strlen(EVALUATE_NAMED), json_real(r->e[i].loss));
	json_object_set_new(root, "targets", json_integer((json_int_t)e->targets));
	json_object_set_new(root, "whole", json_boolean(e->whole));
	json_object_set_new(root, "seconds", json_real(e->seconds));
	json_dumpf(root, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(root);
}

static void print(const Evaluated *r, const Dataset *d)
{
	const Evaluation *e = &r->e[0];
	const char *part = e->whole ? "" : ", not the whole set";
	if (d->kind->text)
		printf("loss        %.5f nats per token (%.0f tokens%s)\nperplexity  %.4f\n", e->loss, e->targets, part, exp(e->loss));
	else
		printf("loss        %.5f (over %.0f%s)\n", e->loss, e->targets, part);
	if (d->kind == &dataset_tokens)
		printf("bits        %.4f per byte, %.4f per character\n", bits_per_byte(e, &d->shards),
		       bits_per_character(e, &d->shards));
	for (u32 i = 1; i < r->n; i++)
		printf("%-10s  %.5f\n", r->entry[i] + strlen(EVALUATE_NAMED), r->e[i].loss);
}

static Status evaluate_all(Lm *lm, const Dataset *d, const char *from)
{
	Evaluated e = { 0 };
	e.n = lm_evals(lm, e.entry);
	LmCompile how = { .entry = e.entry, .nentry = e.n, .precision = lm->model->precision, .run = &where };
	TRY(lm_sizes(lm, batch, 0, &how.sizes));
	LmRun r;
	Status s = lm_compile(lm, &how, &r);
	if (!s)
		s = lm_executor(&r, &where);
	if (!s)
		s = lm_parameters(lm, &r, from);
	for (u32 i = 0; i < e.n && !s; i++)
		s = evaluate(r.executor, e.entry[i], d, (u64)batches, &e.e[i]);
	if (!s && json)
		print_json(&e, d, from);
	else if (!s)
		print(&e, d);
	lm_run_close(&r);
	return s;
}

static Status run(Lm *lm)
{
	const char *from;
	TRY(lm_parameters_from(lm, weights, &from));
	Dataset d = { 0 };
	TRY(lm_held_out(lm, data, &d));
	Status s = lm_check_data(lm, &d);
	if (!s)
		s = evaluate_all(lm, &d, from);
	dataset_close(&d);
	return s;
}

int verb_eval(int argc, char **argv)
{
	char **operand;
	int n, status;
	if (!options_parse(&command, argc, argv, &operand, &n, &status))
		return status;
	Lm lm;
	return lm_run("eval", &lm, lm_open(operand[0], &source, &lm), run);
}
