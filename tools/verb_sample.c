/* tools/verb_sample.c: `plinth sample MODEL --weights FILE -o out.png`: runs a source's sample block. */
#include "runtime/png.h"
#include "runtime/sample.h"
#include "runtime/signals.h"
#include "runtime/views.h"
#include "tools/lm.h"
#include "tools/verbs.h"

#include <string.h>
#include <unistd.h>

static SourceOptions source;
static RunOptions where;
static const char *weights, *inputs, *output;
static i64 batch, seed;

static const Option options[] = {
	SOURCE_OPTIONS(source),
	{ "weights", 'w', OPTION_TEXT, &weights, "FILE", "parameters: a checkpoint, a run's folder, safetensors; several, with commas" },
	{ "inputs", 'i', OPTION_TEXT, &inputs, "FILE", "the block's inputs by their names, as safetensors" },
	{ "output", 'o', OPTION_FILE, &output, "FILE", "what is written; sample.png or sample.safetensors by default" },
	{ "batch", 'b', OPTION_COUNT, &batch, "B", "how many at a time, in place of the train block's" },
	{ "seed", 0, OPTION_INT, &seed, "N", "of the random draws; 0 by default" },
	RUN_OPTIONS(where),
};

static const Command command = {
	.name = "sample",
	.operands = "MODEL",
	.least = 1,
	.most = 1,
	.about = "Runs the sample block of a source, whose loop is turned here, and writes what it\n"
		 "says: `write png(x)` pictures f32[B, C, H, W] from 0 to 1, side by side;\n"
		 "`write safetensors(x)` the tensor x. MODEL is a source, or the folder of a run.\n"
		 "The same seed gives the same bytes, for any number of threads.",
	.example = "  plinth sample runs/unet --batch 16 -o pictures.png\n"
		   "  plinth sample models/unet.plinth --weights unet.safetensors --inputs context.safetensors",
	.option = options,
	.noption = COUNT(options),
};

static void show_turn(u64 turn, u64 of)
{
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r%llu/%llu%s", (unsigned long long)turn, (unsigned long long)of, turn == of ? "\n" : "");
}

static Status write_value(const SampleValue *v)
{
	const PackageTensor *t = v->type;
	const char *path = output ? output : strcmp(v->name, "png") ? "sample.safetensors" : "sample.png";
	if (!strcmp(v->name, "safetensors")) {
		NamedBuffer b = { .name = "sample", .dtype = safe_dtype_of(t->dtype), .rank = t->rank, .dim = t->dim, .data = v->data };
		return safetensors_write(path, &b, 1, NULL, 0, NULL);
	}
	if (t->dtype != PACKAGE_F32 || t->rank != 4)
		return FAIL(STATUS_INPUT, "png takes f32[B, C, H, W], and what the sample block gives it has %u dimensions", t->rank);
	return png_write_pictures(path, v->data, (u32)t->dim[0], (u32)t->dim[1], (u32)t->dim[2], (u32)t->dim[3]);
}

static Status run_sampler(Lm *lm, LmRun *r, const Safetensors *given)
{
	SampleConfig c = { .executor = r->executor, .seed = (u64)seed, .input = given, .on_turn = show_turn };
	SampleValue *v;
	u32 n;
	TRY(sample_run(&lm->arena, &c, &v, &n));
	for (u32 i = 0; i < n && !signals_requested(); i++)
		TRY(write_value(&v[i]));
	return OK;
}

static Status run(Lm *lm)
{
	static const char *const entry[] = { "sample", "sample_step", "sample_end" };
	const char *from;
	if (lm->model->program && !program_find_entry(lm->model->program, str_of(entry[0])))
		return FAIL(STATUS_INPUT, "%s has no sample block", lm->operand.source);
	TRY(lm_parameters_from(lm, weights, &from));
	LmCompile how = { .entry = entry, .nentry = COUNT(entry), .precision = lm->model->precision, .run = &where };
	TRY(lm_sizes(lm, batch, 0, &how.sizes));
	Safetensors given = { 0 };
	if (inputs)
		TRY(safetensors_open(&lm->arena, inputs, &given));
	LmRun r = { 0 };
	Status s = lm_compile(lm, &how, &r);
	if (!s)
		s = lm_executor(&r, &where);
	if (!s)
		s = lm_parameters(lm, &r, from);
	if (!s)
		s = run_sampler(lm, &r, inputs ? &given : NULL);
	lm_run_close(&r);
	safetensors_close(&given);
	return s;
}

int verb_sample(int argc, char **argv)
{
	char **operand;
	int n, status;
	if (!options_parse(&command, argc, argv, &operand, &n, &status))
		return status;
	Lm lm;
	return lm_run("sample", &lm, lm_open_source(operand[0], &source, &lm), run);
}
