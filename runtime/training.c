/* runtime/training.c: see training.h.
 *
 * The loss of a step is known before `update` runs, when the parameters are still those that gave it: so a loss
 * that is not finite is located at once, by running the same micro-steps again (their tokens are kept, and the
 * counters put back) with a look at what each kernel writes. With check_numerics the gradients are looked at
 * before each update too, and what update writes while it runs. */
#include "runtime/training.h"
#include "runtime/data/loader.h"
#include "runtime/numerics.h"
#include "runtime/signals.h"

#include <math.h>
#include <string.h>
#include <time.h>

struct Training {
	Arena *arena;
	TrainingConfig config;
	Executor *x;
	const PackageEntry *init, *update;
	TokenInputs first, more;
	Loader *loader;
	i32 **tokens, **targets; /* of each micro-step */
	u64 step;                /* done */
	bool started;
	MetricsFile metrics;
	bool has_metrics;
	BufferViews parameters, others, counters;
	u8 *counter_memory;      /* what the counters held before the step */
	u64 saved;               /* the newest checkpoint's step */
	bool has_saved;
	f64 model_flops, model_flops_full; /* of a step */
	u64 step_tokens;
};

static f64 seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (f64)t.tv_sec + (f64)t.tv_nsec * 1e-9;
}

/* ---- making ---- */

static Status find_entries(Training *t)
{
	const Package *p = t->x->package;
	t->init = package_entry(p, "init");
	t->update = package_entry(p, "update");
	if (!t->init || !t->update)
		return FAIL(STATUS_INPUT, "the program has no entry '%s': its source needs a train block",
			    t->init ? "update" : "init");
	for (u32 i = 0; i < t->init->ninput; i++)
		if (strcmp(t->init->input[i].name, "seed") || t->init->input[i].dtype != PACKAGE_I64)
			return FAIL(STATUS_INPUT, "the input '%s' of entry 'init' has no source", t->init->input[i].name);
	TRY(token_inputs(t->x, "micro_first", &t->first));
	t->model_flops = t->first.entry->model_flops;
	t->model_flops_full = t->first.entry->model_flops_full;
	t->step_tokens = (u64)t->first.batch * t->first.window * t->config.accumulate;
	if (t->config.accumulate == 1)
		return OK;
	TRY(token_inputs(t->x, "micro", &t->more));
	t->model_flops += t->more.entry->model_flops * (t->config.accumulate - 1);
	t->model_flops_full += t->more.entry->model_flops_full * (t->config.accumulate - 1);
	return OK;
}

static Status open_loader(Training *t)
{
	LoaderConfig config = { .order = LOADER_SHUFFLE, .batch = t->first.batch, .window = t->first.window,
				.seed = t->config.seed, .ahead = 4, .ignore = LOADER_IGNORE };
	return loader_open(t->arena, t->config.train, config, &t->loader);
}

Status training_open(Arena *a, const TrainingConfig *config, Training **out)
{
	Training *t = NEW(a, Training);
	t->arena = a;
	t->config = *config;
	t->x = config->executor;
	if (!config->accumulate)
		t->config.accumulate = 1;
	TRY(find_entries(t));
	if (config->validation) {
		TokenInputs eval;
		TRY(token_inputs(t->x, "eval", &eval));
	}
	TRY(io_make_folder(config->run));
	t->parameters = buffer_views(a, t->x, VIEW_PARAMETERS);
	t->others = buffer_views(a, t->x, VIEW_OTHERS);
	t->counters = buffer_views(a, t->x, 1 << PACKAGE_COUNTER);
	size_t counter_bytes = 0;
	for (u32 i = 0; i < t->counters.n; i++)
		counter_bytes += safe_buffer_bytes(&t->counters.v[i]);
	t->counter_memory = NEWN(a, u8, counter_bytes + 1);
	t->tokens = NEWN(a, i32 *, t->config.accumulate);
	t->targets = NEWN(a, i32 *, t->config.accumulate);
	for (u32 i = 0; i < t->config.accumulate; i++) {
		t->tokens[i] = NEWN(a, i32, (size_t)t->first.batch * t->first.window);
		t->targets[i] = NEWN(a, i32, (size_t)t->first.batch * t->first.window);
	}
	TRY(open_loader(t));
	*out = t;
	return OK;
}

void training_close(Training *t)
{
	if (!t)
		return;
	loader_close(t->loader);
	if (t->has_metrics)
		metrics_close(&t->metrics);
}

u64 training_step(const Training *t)
{
	return t->step;
}

BufferViews training_parameters(const Training *t)
{
	return t->parameters;
}

static Status open_metrics(Training *t, u64 keep)
{
	TRY(metrics_open(arena_printf(t->arena, "%s/" TRAINING_METRICS, t->config.run), keep, &t->metrics));
	t->has_metrics = true;
	return OK;
}

Status training_begin(Training *t)
{
	i64 *seed = executor_input(t->x, t->init, "seed", NULL);
	if (seed)
		*seed = (i64)t->config.seed;
	executor_run(t->x, t->init, NULL, NULL);
	t->started = true;
	return open_metrics(t, 0);
}

/* ---- checkpoints ---- */

static const char *fingerprint(Arena *a, const Package *p)
{
	return arena_printf(a, "%016llx", (unsigned long long)p->fingerprint);
}

static Status save(Training *t)
{
	if (t->has_saved && t->saved == t->step)
		return OK;
	Arena tmp = ARENA("save");
	Status s = metrics_sync(&t->metrics);
	if (!s) {
		CheckpointSave c = {
			.run = t->config.run,
			.state = { .step = t->step, .seed = t->config.seed, .metrics_bytes = t->metrics.bytes,
				   .program = fingerprint(&tmp, t->x->package),
				   .loader = loader_position_text(&tmp, loader_position(t->loader)) },
			.parameter = t->parameters.v, .nparameter = t->parameters.n,
			.other = t->others.v, .nother = t->others.n,
			.keep = t->config.keep,
		};
		s = checkpoint_save(&c);
	}
	arena_free(&tmp);
	if (s)
		return status_context(s, "saving step %llu", (unsigned long long)t->step);
	t->saved = t->step;
	t->has_saved = true;
	if (t->config.on_save)
		t->config.on_save(t->config.cx, t->step);
	return OK;
}

static Status resume_from(Training *t, const Checkpoint *c, Diag *d)
{
	const char *now = fingerprint(t->arena, t->x->package);
	/* tensors first: where they do not fit, what differs is told best so */
	TRY(checkpoint_load(c, t->parameters.v, t->parameters.n, t->others.v, t->others.n, d));
	if (strcmp(c->state.program, now))
		return FAIL(STATUS_INPUT,
			    "%s was made by another program than this one (%s there, %s here): the source, a setting such as the "
			    "learning rate, or the processor's kind differs, and going on would not give the same numbers. Give "
			    "the settings that it was made with, or start a new run from its parameters with --weights",
			    c->path, c->state.program, now);
	if (c->state.seed != t->config.seed)
		return FAIL(STATUS_INPUT, "%s was made with the seed %llu, not %llu", c->path,
			    (unsigned long long)c->state.seed, (unsigned long long)t->config.seed);
	LoaderPosition at;
	TRY(loader_position_read(c->state.loader, &at));
	Status s = loader_seek(t->loader, at);
	return s ? status_context(s, "resuming from %s", c->path) : OK;
}

Status training_resume(Training *t, const char *path, Diag *d)
{
	Checkpoint c;
	TRY(checkpoint_open(t->arena, path, &c));
	Status s = resume_from(t, &c, d);
	t->step = t->saved = c.state.step;
	u64 keep = c.state.metrics_bytes;
	checkpoint_close(&c);
	TRY(s);
	t->has_saved = t->started = true;
	return open_metrics(t, keep);
}

/* ---- a step ---- */

static void run_micro(Training *t, u32 i, StepHook *hook, void *cx)
{
	const TokenInputs *in = i ? &t->more : &t->first;
	size_t bytes = (size_t)in->batch * in->window * sizeof(i32);
	memcpy(in->tokens, t->tokens[i], bytes);
	if (in->targets)
		memcpy(in->targets, t->targets[i], bytes);
	executor_run(t->x, in->entry, hook, cx);
}

static void keep_counters(Training *t, bool restore)
{
	u8 *at = t->counter_memory;
	for (u32 i = 0; i < t->counters.n; i++) {
		size_t n = safe_buffer_bytes(&t->counters.v[i]);
		if (restore)
			memcpy(t->counters.v[i].data, at, n);
		else
			memcpy(at, t->counters.v[i].data, n);
		at += n;
	}
}

static const char *last_save(Arena *a, const Training *t)
{
	return t->has_saved ? arena_printf(a, "the last checkpoint is that of step %llu", (unsigned long long)t->saved) :
			      "there is no checkpoint yet";
}

/* The micro-steps once more, watched. What they change is counters and gradients alone. */
static const char *value_text(f64 x)
{
	return isnan(x) ? "NaN" : "infinite";
}

static Status located(Training *t, const char *what, f64 value)
{
	Arena tmp = ARENA("located");
	Numerics n = { .executor = t->x };
	keep_counters(t, true);
	if (!numerics_buffers(&n, VIEW_PARAMETERS))
		for (u32 i = 0; i < t->config.accumulate && !n.nan.found; i++)
			run_micro(t, i, numerics_hook, &n);
	const char *where = numerics_text(&tmp, &n);
	Status s = FAIL(STATUS_INPUT, "step %llu: %s is %s; %s. %s. A lower learning rate, or clipping, often helps",
			(unsigned long long)t->step + 1, what, value_text(value),
			*where ? where : "run again, every value is finite: please report this", last_save(&tmp, t));
	arena_free(&tmp);
	return s;
}

static Status check_loss(Training *t, f64 *loss)
{
	*loss = scalar_buffer(t->x, "loss_sum", NAN) / scalar_buffer(t->x, "loss_count", NAN);
	if (!isfinite(*loss))
		return located(t, "the loss", *loss);
	Numerics n = { .executor = t->x };
	if (t->config.check_numerics && numerics_buffers(&n, 1 << PACKAGE_GRADIENT))
		return located(t, "a gradient", n.nan.found ? (f64)NAN : (f64)INFINITY);
	return OK;
}

static Status run_update(Training *t, StepMetrics *m)
{
	Arena tmp = ARENA("update");
	Numerics n = { .executor = t->x };
	bool check = t->config.check_numerics;
	executor_run(t->x, t->update, check ? numerics_hook : NULL, &n);
	m->gradient_norm = scalar_result(t->x, t->update, "grad_norm", METRIC_UNKNOWN);
	m->learning_rate = scalar_result(t->x, t->update, "lr", METRIC_UNKNOWN);
	Status s = OK;
	if (check && (n.nan.found || numerics_buffers(&n, VIEW_PARAMETERS)))
		s = FAIL(STATUS_INPUT, "step %llu: the update is not finite; %s. %s", (unsigned long long)t->step + 1,
			 numerics_text(&tmp, &n), last_save(&tmp, t));
	else if (m->gradient_norm != METRIC_UNKNOWN && !isfinite(m->gradient_norm))
		s = FAIL(STATUS_INPUT,
			 "step %llu: the gradient's norm is %s, though the loss is %g; the parameters are spoiled, and nothing was "
			 "saved. %s; with --resume --check-numerics, the same step is made again and the place found",
			 (unsigned long long)t->step + 1, value_text(m->gradient_norm), m->train_loss, last_save(&tmp, t));
	arena_free(&tmp);
	return s;
}

static Status one_step(Training *t, StepMetrics *m)
{
	keep_counters(t, false);
	for (u32 i = 0; i < t->config.accumulate; i++) {
		u32 rows;
		bool more;
		TRY(loader_next(t->loader, t->tokens[i], t->targets[i], &rows, &more));
		run_micro(t, i, NULL, NULL);
	}
	TRY(check_loss(t, &m->train_loss));
	TRY(run_update(t, m));
	t->step++;
	return OK;
}

/* ---- the loop ---- */

static bool due(u64 every, u64 step)
{
	return every && step % every == 0;
}

static Status validate(Training *t, u64 most, Evaluation *e)
{
	Status s = evaluate(t->x, t->config.validation, most, e);
	return s ? status_context(s, "validation after step %llu", (unsigned long long)t->step) : OK;
}

static void rates(const Training *t, StepMetrics *m, f64 spent, f64 begin, u64 made)
{
	m->step = t->step;
	m->total = t->config.steps;
	m->tokens = t->step * t->step_tokens;
	m->memory_bytes = executor_bytes(t->x) + t->config.other_bytes;
	m->resident_bytes = host_memory_peak();
	m->step_ms = spent * 1e3;
	m->tokens_per_second = (f64)t->step_tokens / spent;
	if (t->model_flops > 0) {
		m->tflops = t->model_flops / spent * 1e-12;
		m->tflops_full = t->model_flops_full / spent * 1e-12;
		if (t->config.peak > 0)
			m->peak_share = t->model_flops / spent / t->config.peak;
	}
	m->eta_seconds = (seconds() - begin) / (f64)made * (f64)(t->config.steps - t->step);
}

static Status record(Training *t, const StepMetrics *m)
{
	Arena tmp = ARENA("record");
	Status s = metrics_put(&t->metrics, metrics_json(&tmp, m));
	arena_free(&tmp);
	if (!s && t->config.on_step)
		t->config.on_step(t->config.cx, m);
	return s;
}

static Status run(Training *t, TrainingEnd *end)
{
	const TrainingConfig *c = &t->config;
	f64 begin = seconds(), in_steps = 0;
	u64 made = 0;
	while (t->step < c->steps && !signals_requested()) {
		StepMetrics m = metrics_none();
		f64 from = seconds();
		TRY(one_step(t, &m));
		f64 spent = seconds() - from;
		in_steps += spent;
		made++;
		bool last = t->step == c->steps;
		Evaluation e = { 0 };
		if (c->validation && (last || due(c->evaluate_every, t->step))) {
			TRY(validate(t, last ? 0 : c->evaluate_batches, &e));
			m.validation_loss = e.loss;
		}
		rates(t, &m, spent, begin, made);
		TRY(record(t, &m));
		end->last = m;
		if (c->on_sample && due(c->sample_every, t->step))
			TRY(c->on_sample(c->cx, t->step));
		if (due(c->checkpoint_every, t->step))
			TRY(save(t));
		if (last && c->validation) {
			end->validation = e;
			end->has_validation = e.whole;
		}
	}
	if (made)
		end->tflops = t->model_flops * (f64)made / in_steps * 1e-12;
	if (made || !t->has_saved)
		TRY(save(t));
	end->seconds = seconds() - begin;
	return OK;
}

Status training_run(Training *t, TrainingEnd *end)
{
	assert(t->started && "training_begin or training_resume comes first");
	*end = (TrainingEnd){ .step = t->step, .last = metrics_none() };
	Status s = run(t, end);
	end->step = t->step;
	end->signal = t->step < t->config.steps ? signals_requested() : 0;
	end->resident_bytes = host_memory_peak();
	return s;
}
