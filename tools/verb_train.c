/* tools/verb_train.c: `plinth train MODEL --data PREFIX`: from a source to a trained model. Says what it will
 * take before it starts: the numbers of the plan, which are what is then allocated. */
#include "runtime/cpu/memory.h"
#include "runtime/generate.h"
#include "runtime/signals.h"
#include "runtime/training.h"
#include "support/cores.h"
#include "tools/lm.h"
#include "tools/mesh.h"
#include "tools/peak.h"
#include "tools/verbs.h"

#include <math.h>
#include <string.h>

static SourceOptions given;
static RunOptions where;
static const char *data, *out_folder, *weights, *precision, *memory;
static i64 steps = -1, seed = -1, log_every = -1;
static const char *mesh, *schedule;
static TextList shard;
static bool resume, changed, check_numerics, timing, json;

static const Option options[] = {
	SOURCE_OPTIONS(given),
	{ "data", 'd', OPTION_TEXT, &data, "PREFIX", "what the data block reads: token shards PREFIX.train.*, PREFIX.val.*; see docs/language.md" },
	{ "steps", 'n', OPTION_INT, &steps, "N", "as --set train.steps=N" },
	{ "seed", 0, OPTION_INT, &seed, "N", "of first values, data order and dropout; 0 by default" },
	{ "out", 'o', OPTION_FOLDER, &out_folder, "FOLDER", "of the run; runs/MODEL by default" },
	{ "resume", 'r', OPTION_FLAG, &resume, NULL, "go on from the run's latest checkpoint, as if never stopped" },
	{ "changed", 0, OPTION_FLAG, &changed, NULL, "with --resume: other settings (more steps, another learning rate), source or processor than the checkpoint's" },
	{ "weights", 'w', OPTION_TEXT, &weights, "FILE", "first values of the parameters: a checkpoint or published file; several, with commas" },
	{ "precision", 0, OPTION_TEXT, &precision, "TYPE", "f32, bf16: what matrix multiplies and attention take; autocast: and give; fp8: 8 bits in linear layers" },
	{ "memory", 0, OPTION_MEMORY, &memory, "8GiB", "what the step may take: values are computed again where it must" },
	{ "check-numerics", 0, OPTION_FLAG, &check_numerics, NULL, "look for NaN and infinity in every step, and say where" },
	{ "mesh", 0, OPTION_TEXT, &mesh, "data=2,tensor=2", "several devices, by mpirun -n 4 plinth train ... (GPUs also by srun or torchrun); else as the shard block says" },
	{ "shard", 0, OPTION_LIST, &shard, "AXIS=MESH", "a line more of the shard block: parameters=data, B=data, Attention.H=tensor" },
	{ "schedule", 0, OPTION_TEXT, &schedule, "NAME", "of a mesh with pipe: gpipe, 1f1b, or interleaved:2 for 2 chunks a stage" },
	RUN_OPTIONS(where),
	{ "log", 0, OPTION_COUNT, &log_every, "N", "without a terminal: a line each N steps, 10 by default" },
	{ "time", 0, OPTION_FLAG, &timing, NULL, "print where the compiler's time went" },
	{ "json", 'j', OPTION_FLAG, &json, NULL, "each step as a JSON object on standard output" },
};

static const OptionRule rules[] = {
	{ RULE_NEEDS, "changed", "resume", NULL },
};

static const Command command = {
	.name = "train",
	.operands = "MODEL",
	.least = 1,
	.most = 1,
	.about = "Trains the model of a source as its train block says. In the run's folder: a line of\n"
		 "metrics.jsonl for each step, checkpoints (step-000500/, and `latest`), the source,\n"
		 "settings and tokenizer. MODEL may be such a folder: `plinth train runs/x --resume`.\n"
		 "SIGINT, SIGTERM and SIGHUP save and leave (exit status 128 + signal).\n\n"
		 "Settings of the train block, in the source or with --set: train.steps, train.seed,\n"
		 "train.batch.B and so on, train.accumulate, train.clip, train.precision,\n"
		 "train.memory (8 GiB: values are computed again where the step would take more);\n"
		 "train.evaluate.every (250), .batches (50); train.checkpoint.every (500), .keep (2),\n"
		 ".best (false; true: that of the lowest validation loss too, runs/x/best);\n"
		 "train.sample.every (0: never), .prompt, .tokens, .temperature, .top_k, .top_p;\n"
		 "train.log.every (10).",
	.example = "  plinth data tokenize book.txt --validation-last 0.1 -o book\n"
		   "  plinth train models/gpt2.plinth --preset tiny --data book --set vocab=4096\n"
		   "  plinth train runs/gpt2 --resume\n"
		   "  plinth train runs/gpt2 --resume --changed --steps 2000 --set train.clip=0.5",
	.option = options,
	.noption = COUNT(options),
	.rule = rules,
	.nrule = COUNT(rules),
};

typedef struct Job {
	Lm lm;
	const char *folder;
	Dataset train, validation;
	bool has_validation;
	LmRun run;     /* the step and its validation */
	LmRun writer;  /* samples: `forward` for one text, with a copy of the parameters */
	bool samples;
	Tokenizer *tokenizer;
	GenerateConfig sample;
	const char *prompt;
	u64 log_every;
	Progress progress;
	TrainingConfig config;
	MeshRun mesh;
	u64 own_bytes; /* that the program itself had in use before the step's memory: libraries, the compiler, data */
} Job;

/* ---- settings ---- */

/* Options that are settings by another name, so that the run's folder records all of them in one way. */
static SourceOptions with_shortcuts(Arena *a)
{
	SourceOptions o = given;
	o.set.v = NEWN(a, const char *, given.set.n + 5);
	o.set.n = 0;
	if (steps >= 0)
		o.set.v[o.set.n++] = arena_printf(a, "train.steps=%lld", (long long)steps);
	if (seed >= 0)
		o.set.v[o.set.n++] = arena_printf(a, "train.seed=%lld", (long long)seed);
	if (precision)
		o.set.v[o.set.n++] = arena_printf(a, dtype_named(str_of(precision)) < DTYPES ? "train.precision=%s" : "train.precision=\"%s\"",
						       precision);
	if (memory)
		o.set.v[o.set.n++] = arena_printf(a, "train.memory=%s", memory);
	for (int i = 0; i < given.set.n; i++)
		o.set.v[o.set.n++] = given.set.v[i];
	return o;
}

static Status read_settings(Job *j)
{
	TrainingConfig *c = &j->config;
	u64 keep;
	TRY(lm_count(&j->lm, "train.steps", 0, UINT32_MAX, &c->steps));
	if (c->steps == UINT32_MAX)
		return FAIL(STATUS_INPUT, "how many steps? --steps N, or `steps = N` in the train block");
	TRY(lm_count(&j->lm, "train.seed", 0, 0, &c->seed));
	TRY(lm_count(&j->lm, "train.evaluate.every", 0, 250, &c->evaluate_every));
	TRY(lm_count(&j->lm, "train.evaluate.batches", 0, 50, &c->evaluate_batches));
	TRY(lm_count(&j->lm, "train.checkpoint.every", 0, 500, &c->checkpoint_every));
	TRY(lm_count(&j->lm, "train.checkpoint.keep", 0, 2, &keep));
	const char *best = lm_text(&j->lm, "train.checkpoint.best", "false");
	c->best = !strcmp(best, "true");
	if (!c->best && strcmp(best, "false"))
		return FAIL(STATUS_INPUT, "train.checkpoint.best is true or false, not %s", best);
	TRY(lm_count(&j->lm, "train.log.every", 1, 10, &j->log_every));
	TRY(lm_count(&j->lm, "train.sample.every", 0, 0, &c->sample_every));
	u64 k;
	GenerateConfig *g = &j->sample;
	TRY(lm_count(&j->lm, "train.sample.tokens", 1, 100, &g->tokens));
	TRY(lm_count(&j->lm, "train.sample.top_k", 0, 0, &k));
	TRY(lm_count(&j->lm, "train.sample.seed", 0, 0, &g->sampling.seed));
	TRY(lm_real(&j->lm, "train.sample.temperature", 0.8, &g->sampling.temperature));
	TRY(lm_real(&j->lm, "train.sample.top_p", 1, &g->sampling.top_p));
	g->sampling.top_k = (u32)MIN(k, (u64)UINT32_MAX);
	TRY(sampling_check(&g->sampling));
	j->prompt = lm_text(&j->lm, "train.sample.prompt", "\n");
	c->keep = (u32)MIN(keep, (u64)UINT32_MAX);
	c->accumulate = (u32)j->lm.model->accumulate;
	c->check_numerics = check_numerics;
	c->changed = changed;
	c->save_trained = lm_saves_trained(&j->lm);
	if (c->save_trained && (weights || !resume)) /* recorded: checkpoints lack what comes from there */
		j->lm.operand.weights = weights;
	if (resume && weights && !c->save_trained)
		return FAIL(STATUS_INPUT, "--resume and --weights exclude each other: a resumed run has its parameters");
	if (log_every > 0)
		j->log_every = (u64)log_every;
	j->samples = c->sample_every > 0;
	return OK;
}

/* ---- before the start ---- */

static void count_parameters(const Package *p, f64 *elements, u32 *tensors, f64 *frozen)
{
	*elements = *frozen = 0;
	*tensors = 0;
	for (u32 i = 0; i < p->nbuffer; i++) {
		const PackageBuffer *b = &p->buffer[i];
		if (b->kind != PACKAGE_PARAMETER)
			continue;
		f64 n = 1;
		for (u32 d = 0; d < b->tensor.rank; d++)
			n *= (f64)b->tensor.dim[d];
		*elements += n;
		*frozen += b->frozen ? n : 0;
		++*tensors;
	}
}

static u64 all_bytes(const Job *j)
{
	return executor_bytes(j->run.executor) + (j->writer.executor ? executor_bytes(j->writer.executor) : 0);
}

static void step_flops(const Package *p, u32 times, f64 *flops, f64 *full)
{
	const PackageEntry *first = package_entry(p, "micro_first"), *more = package_entry(p, "micro"); /* micro_last has as many */
	*flops = *full = 0;
	for (u32 i = 0; i < p->pipe.ntask; i++) {
		*flops += p->entry[p->pipe.task[i].entry].model_flops;
		*full += p->entry[p->pipe.task[i].entry].model_flops_full;
	}
	if (p->pipe.stages)
		return;
	*flops = first->model_flops + (more ? more->model_flops * (times - 1) : 0);
	*full = first->model_flops_full + (more ? more->model_flops_full * (times - 1) : 0);
}

static void print_plan(FILE *to, Job *j, u64 from)
{
	Arena *a = &j->lm.arena;
	const Package *p = j->run.package;
	f64 n, frozen;
	u32 tensors;
	count_parameters(p, &n, &tensors, &frozen);
	fprintf(to, "model     %s (%s%s%s): %s parameters in %u tensors", p->name, j->lm.operand.source,
		j->lm.operand.options.preset ? ", preset " : "",
		j->lm.operand.options.preset ? j->lm.operand.options.preset : "", lm_scaled(a, n), tensors);
	if (frozen > 0)
		fprintf(to, ", %s of them frozen", lm_scaled(a, frozen));
	fputc('\n', to);
	fprintf(to, "data      %s", j->train.kind->describe(&j->train, a));
	if (j->has_validation)
		fprintf(to, ", held out %s", j->validation.kind->describe(&j->validation, a));
	const PackageTensor *t = &(p->pipe.stages ? &p->entry[p->pipe.task[0].entry] : package_entry(p, "micro_first"))->input[0];
	u32 times = j->config.accumulate;
	f64 flops, full;
	step_flops(p, times, &flops, &full);
	const char *unit = j->train.kind->unit;
	if (j->train.shards.n) {
		u64 tokens = (u64)t->dim[0] * (u64)t->dim[1] * times;
		fprintf(to, "\nstep      %lld texts of %lld tokens%s: %llu tokens, %sFLOP", (long long)t->dim[0], (long long)t->dim[1],
			times > 1 ? arena_printf(a, ", %u times", times) : "", (unsigned long long)tokens, lm_scaled(a, flops));
	} else {
		fprintf(to, "\nstep      %lld %s%s, %sFLOP", (long long)t->dim[0], unit,
			times > 1 ? arena_printf(a, ", %u times", times) : "", lm_scaled(a, flops));
	}
	if (p->mesh.n)
		fputs(" on each rank", to);
	if (full > flops)
		fprintf(to, " (%sFLOP with attention's full square)", lm_scaled(a, full));
	fprintf(to, ", %s\nmemory    %llu bytes (%s): parameters, optimizer, gradients %s, the step's values %s",
		j->lm.model->precision ? j->lm.model->precision : "f32", (unsigned long long)all_bytes(j), lm_bytes(a, all_bytes(j)),
		lm_bytes(a, p->persistent_bytes), lm_bytes(a, p->arena_bytes - p->persistent_bytes));
	DeviceBytes held = j->run.executor->device->bytes(j->run.executor->state);
	fprintf(to, ", workspace beside %s", lm_bytes(a, held.workspace));
	if (j->writer.executor)
		fprintf(to, ", samples %s", lm_bytes(a, executor_bytes(j->writer.executor)));
	fprintf(to, "; the program itself %s", lm_bytes(a, j->own_bytes));
	const Executor *x = j->run.executor;
	const char *when = arena_printf(a, "in %.2f s", j->run.compiled.times.total + j->writer.compiled.times.total);
	fprintf(to, "\ncompiled  %s for %s; %s", j->lm.file ? "ahead of time" : when, j->run.compiled.machine,
		x->device->describe(x->state, a));
	if (j->config.peak > 0)
		fprintf(to, ", measured peak %.3f TFLOPS", j->config.peak * 1e-12);
	if (j->config.datasheet > 0)
		fprintf(to, ", datasheet %.0f TFLOPS", j->config.datasheet * 1e-12);
	fprintf(to, "\nrun       %s: %llu steps", j->folder, (unsigned long long)j->config.steps);
	if (from)
		fprintf(to, ", going on after step %llu", (unsigned long long)from);
	fputc('\n', to);
	fflush(to);
}

static void print_times(FILE *to, const Compiled *c)
{
	fprintf(to, "compiler  passes %.3f s, plan %.3f s, code %.3f s\n", c->times.passes, c->times.plan, c->times.code);
	for (u32 i = 0; i < c->times.pass.n; i++)
		fprintf(to, "          %-40s %8.3f s\n", c->times.pass.v[i].pass, c->times.pass.v[i].seconds);
}

/* ---- during the run ---- */

static void on_step(void *cx, const StepMetrics *m)
{
	Job *j = cx;
	if (json) {
		Arena tmp = ARENA("on_step");
		puts(metrics_json(&tmp, m));
		fflush(stdout);
		arena_free(&tmp);
	}
	progress_show(&j->progress, m);
}

static void emit(void *cx, u32 text, Str bytes)
{
	(void)text;
	fwrite(bytes.s, 1, bytes.n, ((Job *)cx)->progress.to);
}

/* Of the run, to the one that writes. */
static Status copy_parameters(Job *j, Arena *tmp)
{
	const Package *p = j->run.package;
	for (u32 i = 0; i < p->nbuffer; i++) {
		const PackageTensor *from = &p->buffer[i].tensor;
		const PackageBuffer *to = executor_buffer(j->writer.executor, from->name);
		if (p->buffer[i].kind != PACKAGE_PARAMETER || !to)
			continue;
		ArenaMark mark = arena_mark(tmp);
		void *copy = executor_memory(j->run.executor, from);
		if (!copy) {
			copy = NEWN(tmp, u8, from->bytes + 1);
			TRY(executor_read(j->run.executor, from, copy));
		}
		TRY(executor_write(j->writer.executor, &to->tensor, copy));
		arena_release(tmp, mark);
	}
	return OK;
}

static Status on_sample(void *cx, u64 step)
{
	Job *j = cx;
	Arena tmp = ARENA("on_sample");
	FILE *to = j->progress.to;
	progress_break(&j->progress);
	TRY(copy_parameters(j, &tmp));
	fprintf(to, "--- a sample after step %llu ---\n%s", (unsigned long long)step, j->prompt);
	Generated done;
	Status s = generate(&j->sample, &(Str){ j->prompt, strlen(j->prompt) }, 1, NULL, &done);
	fputs("\n---\n", to);
	fflush(to);
	arena_free(&tmp);
	return s;
}

static void print_rate(Job *j, const TrainingEnd *e)
{
	FILE *to = j->progress.to;
	Arena *a = &j->lm.arena;
	fprintf(to, "%.1f s, %.3f TFLOPS per device", e->seconds, e->tflops);
	if (j->config.datasheet > 0)
		fprintf(to, ", MFU %.1f%%", 100 * e->tflops * 1e12 / j->config.datasheet);
	if (j->config.peak > 0)
		fprintf(to, " (%.1f%% of measured peak)", 100 * e->tflops * 1e12 / j->config.peak);
	fprintf(to, "; memory %s planned, %s of the program itself, %s the most in use by the process\n",
		lm_bytes(a, all_bytes(j)), lm_bytes(a, j->own_bytes), lm_bytes(a, e->resident_bytes));
}

static void print_end(Job *j, const TrainingEnd *e)
{
	FILE *to = j->progress.to;
	if (e->signal)
		fprintf(to, "%s after step %llu: saved in %s; --resume goes on\n", signals_name(e->signal), (unsigned long long)e->step,
			j->folder);
	else if (!e->last.step)
		fprintf(to, "all %llu steps are done already\n", (unsigned long long)e->step);
	if (e->last.step)
		print_rate(j, e);
	if (e->best_step)
		fprintf(to, "best      validation loss %.5f after step %llu: %s/best\n", e->best_loss, (unsigned long long)e->best_step, j->folder);
	if (!e->has_validation)
		return;
	if (j->validation.kind == &dataset_tokens)
		fprintf(to, "held out: loss %.5f per token, %.4f bits per character, %.4f bits per byte", e->validation.loss,
			bits_per_character(&e->validation, &j->validation.shards), bits_per_byte(&e->validation, &j->validation.shards));
	else
		fprintf(to, "held out: loss %.5f", e->validation.loss);
	for (u32 i = 0; i < e->last.nnamed; i++)
		fprintf(to, ", %s %.4f", e->last.named[i].name, e->last.named[i].value);
	fputc('\n', to);
}

/* Each rank's TFLOPS, and what they are together. */
static Status print_ranks(Job *j, const TrainingEnd *e)
{
	FILE *to = j->progress.to;
	u32 n = comm_ranks(j->mesh.comm);
	f64 *all = NEWN(&j->lm.arena, f64, n), sum = 0, least = INFINITY;
	TRY(comm_gather(j->mesh.comm, "the end of the run", &e->tflops, sizeof *all, all));
	if (comm_rank(j->mesh.comm) || !e->last.step)
		return OK;
	fputs("ranks     TFLOPS", to);
	for (u32 r = 0; r < n; r++) {
		fprintf(to, "%s%.3g", r ? ", " : " ", all[r]);
		sum += all[r];
		least = fmin(least, all[r]);
	}
	fprintf(to, ": mean %.3g, least %.3g, together %.3g\n", sum / n, least, sum);
	return OK;
}

/* ---- the run ---- */

static Status compile(Job *j)
{
	Lm *lm = &j->lm;
	const char *entry[3 + LM_EVALS] = { "init", "micro", "update" };
	LmCompile how = { .entry = entry, .nentry = 3, .precision = lm->model->precision, .accumulate = lm->model->accumulate > 1,
			  .run = &where };
	if (j->has_validation)
		how.nentry += lm_evals(lm, entry + 3);
	TRY(lm_sizes(lm, 0, 0, &how.sizes));
	where.shard = j->mesh.rules;
	where.bucket = j->mesh.bucket;
	where.pipe = j->mesh.pipe.stages ? &j->mesh.pipe : NULL;
	TRY(mesh_turn(&j->mesh, false));
	TRY(lm_compile(lm, &how, &j->run));
	TRY(mesh_turn(&j->mesh, true));
	where.shard = NULL;
	where.pipe = NULL;
	if (!j->samples)
		return OK;
	const char *forward[] = { "forward" };
	LmCompile one = { .entry = forward, .nentry = 1, .precision = lm->model->precision, .run = &where };
	TRY(lm_sizes(lm, 1, 0, &one.sizes));
	return lm_compile(lm, &one, &j->writer);
}

static Status allocate(Job *j)
{
	j->own_bytes = host_memory_peak();
	where.comm = j->mesh.comm;
	if (where.comm && !where.threads)
		where.threads = cores_of_rank(comm_local_ranks(where.comm));
	TRY(lm_executor(&j->run, &where));
	TRY(mesh_start(&j->mesh, j->run.executor));
	where.comm = NULL;
	j->config.executor = j->run.executor;
	Executor *x = j->run.executor;
	bool narrow = j->lm.model->precision && strcmp(j->lm.model->precision, "f32") != 0;
	DeviceInfo info;
	DeviceOptions o;
	TRY(run_options(&where, &o));
	TRY(x->device->info(o.index, &info));
	DriverOptions d = { .device = where.device, .cpu = where.cpu, .arch = where.arch, .threads = (u32)where.threads };
	PackageDtype products = narrow ? PACKAGE_BF16 : PACKAGE_F32;
	bool f8 = narrow && !strcmp(j->lm.model->precision, "fp8");
	/* with a package nothing is compiled, a product to measure by neither */
	j->config.peak = f8 ? x->device->peak(x->state, PACKAGE_F8E4M3) : 0;
	if (!(j->config.peak > 0))
		j->config.peak = j->lm.file ? x->device->peak(x->state, products) : peak_of(x, &d, &o, products);
	j->config.datasheet = peak_published(&info, j->lm.model->precision);
	if (!j->samples)
		return OK;
	TRY(lm_executor(&j->writer, &where));
	TRY(generate_check(j->writer.executor, 0, NULL));
	if (lm_source_size(&j->lm))
		TRY(lm_begin(&j->lm, j->tokenizer, &j->sample.begin));
	j->config.other_bytes = executor_bytes(j->writer.executor);
	j->sample.executor = j->writer.executor;
	j->sample.tokenizer = j->tokenizer;
	j->sample.emit = emit;
	j->sample.cx = j;
	return OK;
}

static Status start(Job *j, Training *t, u64 *from)
{
	bool saved = checkpoint_is_run(j->folder);
	*from = 0;
	if (resume && saved) {
		if (j->config.save_trained) {
			TRY(training_initialize(t));
			if (j->lm.operand.weights)
				TRY(lm_first_weights(&j->lm, &j->run, j->lm.operand.weights));
		}
		TRY(training_resume(t, j->folder, &j->lm.source.diag));
		*from = training_step(t);
		return OK;
	}
	if (resume)
		fprintf(stderr, "plinth train: %s has no checkpoint yet: the run starts from the beginning\n", j->folder);
	TRY(training_begin(t));
	if (weights)
		return lm_first_weights(&j->lm, &j->run, weights);
	if (j->config.save_trained)
		fprintf(stderr, "plinth train: without --weights, frozen parameters keep the first values that the seed gives\n");
	return OK;
}

static Status train(Job *j, TrainingEnd *end)
{
	Lm *lm = &j->lm;
	Training *t = NULL;
	u64 from = 0;
	Status s = training_open(&lm->arena, &j->config, &t);
	if (!s)
		s = start(j, t, &from);
	/* not before: a resume that is refused leaves the folder as it was */
	s = comm_together(j->mesh.comm, "the start of the run", s);
	if (!s && comm_rank(j->mesh.comm) == 0)
		s = run_folder_write(j->folder, &lm->source, &lm->operand, j->train.tokenizer_path);
	if (!s) {
		if (comm_rank(j->mesh.comm) == 0) {
			lm_warnings(lm);
			print_plan(stderr, j, from);
		}
		if (timing)
			print_times(stderr, &j->run.compiled);
		s = training_run(t, end);
		progress_break(&j->progress);
	}
	if (!s && comm_rank(j->mesh.comm) == 0)
		print_end(j, end);
	if (!s && j->mesh.comm)
		s = print_ranks(j, end);
	training_close(t);
	return s;
}

static Status open_data(Job *j)
{
	TRY(lm_data(&j->lm, data, &j->train, &j->validation));
	j->has_validation = j->validation.kind != NULL;
	TRY(lm_check_data(&j->lm, &j->train));
	if (j->samples)
		TRY(dataset_tokenizer(&j->lm.arena, &j->train, &j->tokenizer));
	j->config.train = &j->train;
	j->config.validation = j->has_validation ? &j->validation : NULL;
	if (j->config.best && !j->has_validation)
		return FAIL(STATUS_INPUT, "train.checkpoint.best: the checkpoint of the lowest validation loss is kept, and there is no validation data");
	return OK;
}

static Status find_folder(Job *j)
{
	j->folder = out_folder ? out_folder : j->lm.operand.run;
	if (!j->folder) {
		j->folder = arena_printf(&j->lm.arena, "runs/%s", *j->lm.model->name ? j->lm.model->name : "model");
		TRY(io_folder_writable(j->folder));
	}
	j->config.run = j->folder;
	if (j->lm.operand.run && strcmp(j->lm.operand.checkpoint, j->lm.operand.run))
		return FAIL(STATUS_INPUT, "%s is a checkpoint: plinth train %s --resume goes on with the run from its latest one; --weights %s begins another",
			    j->lm.operand.checkpoint, j->lm.operand.run, j->lm.operand.checkpoint);
	if (!resume && checkpoint_is_run(j->folder))
		return FAIL(STATUS_INPUT, "%s holds a run already: --resume goes on with it, --out FOLDER makes another", j->folder);
	return OK;
}

static Status run(Job *j, TrainingEnd *end)
{
	if (!j->lm.model->has_train)
		return FAIL(STATUS_INPUT, "%s has no train block, which says what to minimize and how", j->lm.operand.source);
	TRY(read_settings(j));
	TRY(mesh_open(&j->lm, mesh, &shard, schedule, where.device ? where.device : driver_default_device(), &j->mesh));
	if (j->mesh.comm && j->samples)
		return FAIL(STATUS_UNSUPPORTED, "train.sample.every is not there yet for runs of several ranks");
	TRY(comm_together(j->mesh.comm, "looking for the run's folder", find_folder(j)));
	TRY(open_data(j));
	j->progress = progress_to(stderr, j->log_every);
	j->config.on_step = on_step;
	j->config.on_sample = on_sample;
	j->config.cx = j;
	Status s = compile(j);
	if (!s)
		s = allocate(j);
	if (!s)
		s = train(j, end);
	lm_run_close(&j->writer);
	lm_run_close(&j->run);
	tokenizer_close(j->tokenizer);
	return s;
}

int verb_train(int argc, char **argv)
{
	char **operand;
	int n, status;
	if (!options_parse(&command, argc, argv, &operand, &n, &status))
		return status;
	Arena a = ARENA("train");
	Job j = { 0 };
	SourceOptions all = with_shortcuts(&a);
	TrainingEnd end = { 0 };
	Status s = lm_open(operand[0], &all, &j.lm);
	if (!s)
		s = signals_install();
	if (!s)
		s = signals_outlive_readers();
	if (!s)
		s = run(&j, &end);
	if (s && j.mesh.comm) { /* nobody shall wait for this rank; what follows is left to the system */
		status = lm_failed("train", &j.lm, s);
		fflush(NULL);
		comm_abort(j.mesh.comm, status);
	}
	mesh_close(&j.mesh);
	status = s ? lm_failed("train", &j.lm, s) : end.signal ? 128 + end.signal : 0;
	dataset_close(&j.train);
	dataset_close(&j.validation);
	lm_close(&j.lm);
	arena_free(&a);
	return status;
}
