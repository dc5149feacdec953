/* runtime/training.c: see training.h.
 *
 * The loss of a step is known before `update` runs, when the parameters are still those that gave it: so a loss
 * that is not finite is located at once, by running the same micro-steps again (their batches are kept, and the
 * counters put back) with a look at what each kernel writes. With check_numerics the gradients are looked at
 * before each update too, and what update writes while it runs.
 *
 * That is what a device does that is waited for. On one that runs behind the host's back (Device.deferred) the
 * numbers of a step are looked at when the next one is under way, so that it never waits for the host; what is not
 * finite is then found one step late, with the parameters spoiled, and nothing saved: a step's numbers are always
 * looked at before anything is saved, evaluated or sampled. With check_numerics each step is waited for there too. */
#include "runtime/training.h"
#include "runtime/comm/comm.h"
#include "runtime/cpu/memory.h"
#include "runtime/data/loader.h"
#include "runtime/numerics.h"
#include "runtime/signals.h"
#include "support/clock.h"

#include <math.h>
#include <string.h>

/* A step that was given to the device, and whose numbers are not looked at yet. */
typedef struct Pending {
	u64 step;
	f64 begun;
	f64 sum, count; /* of the loss, where they are known at once: in a pipeline */
	Fetch loss_sum, loss_count, norm, rate;
} Pending;

enum { PENDING = 2 };

struct Training {
	Arena *arena;
	TrainingConfig config;
	Executor *x;
	const PackageEntry *init, *update;
	BatchInputs first, more, last; /* of several micro-steps; last.entry NULL: one as those before it */
	BatchInputs *half;       /* [entry] of a pipeline's tasks */
	Loader *loader;
	const PackageTensor *loss_sum, *loss_count, *norm, *rate;
	u8 ***batch;             /* the inputs of each micro-step */
	bool careful;            /* each step is waited for, and looked at before its update */
	Pending pending[PENDING];
	u32 npending;
	f64 settled;             /* when the last step's numbers were there */
	u64 step;                /* given to the device */
	bool started;
	MetricsFile metrics;
	bool has_metrics;
	StepMetrics resumed;     /* of the step that it goes on after, as the file has it */
	bool owes;               /* its validation, which a signal ended: whoever resumes makes it */
	BufferViews parameters, others, counters;
	BufferViews written[2];  /* parameters and others that this rank saves */
	u8 *counter_memory;      /* what the counters held before the step */
	u64 saved;               /* the newest checkpoint's step */
	bool has_saved;
	u64 validated; /* the last step with a whole validation, where there is one, and what it gave */
	bool has_validated;
	f64 validation_loss;
	u64 best_step; /* 0: none */
	f64 best_loss;
	f64 model_flops, model_flops_full; /* of a step */
	u64 step_units;          /* of the data: tokens, images */
};

/* ---- making ---- */

/* Rank 0 writes the run's folder. */
static bool writes(const Training *t)
{
	return comm_rank(t->x->comm) == 0;
}

/* A stage's tasks stand for the micro-steps. */
static Status find_tasks(Training *t)
{
	const Package *p = t->x->package;
	t->half = NEWN(t->arena, BatchInputs, p->nentry);
	for (u32 i = 0; i < p->pipe.ntask; i++) {
		const PackageTask *task = &p->pipe.task[i];
		const PackageEntry *e = &p->entry[task->entry];
		assert(task->micro < t->config.accumulate);
		TRY(batch_inputs(t->x, e->name, &t->half[task->entry]));
		t->model_flops += e->model_flops;
		t->model_flops_full += e->model_flops_full;
	}
	t->first = t->half[p->pipe.task[0].entry];
	return OK;
}

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
	if (p->pipe.stages)
		TRY(find_tasks(t));
	else
		TRY(batch_inputs(t->x, "micro_first", &t->first));
	const PackageBuffer *sum = executor_buffer(t->x, "loss_sum"), *count = executor_buffer(t->x, "loss_count");
	if (!sum || !count)
		return FAIL(STATUS_INPUT, "the program has no buffers 'loss_sum' and 'loss_count': it is of another kind");
	t->loss_sum = &sum->tensor;
	t->loss_count = &count->tensor;
	t->norm = executor_result(t->update, "grad_norm");
	t->rate = executor_result(t->update, "lr");
	if (p->pipe.stages)
		return OK;
	t->model_flops = t->first.entry->model_flops;
	t->model_flops_full = t->first.entry->model_flops_full;
	if (t->config.accumulate == 1)
		return OK;
	TRY(batch_inputs(t->x, "micro", &t->more));
	if (package_entry(p, "micro_last"))
		TRY(batch_inputs(t->x, "micro_last", &t->last));
	t->model_flops += t->more.entry->model_flops * (t->config.accumulate - 1);
	t->model_flops_full += t->more.entry->model_flops_full * (t->config.accumulate - 1);
	return OK;
}

static Status open_loader(Training *t)
{
	LoaderConfig config = { .order = LOADER_SHUFFLE, .input = t->first.input, .batch = t->first.rows * t->first.ranks,
				.rank = t->first.rank, .ranks = t->first.ranks, .seed = t->config.seed, .ahead = 4 };
	TRY(loader_open(t->arena, t->config.train, config, &t->loader));
	t->step_units = (u64)t->first.rows * t->first.ranks * loader_units(t->loader) * t->config.accumulate;
	return OK;
}

Status training_open(Arena *a, const TrainingConfig *config, Training **out)
{
	Training *t = NEW(a, Training);
	t->arena = a;
	t->config = *config;
	t->x = config->executor;
	t->careful = !t->x->device->deferred || config->check_numerics || t->x->package->pipe.stages;
	if (!config->accumulate)
		t->config.accumulate = 1;
	TRY(find_entries(t));
	if (config->validation) {
		BatchInputs eval;
		TRY(batch_inputs(t->x, "eval", &eval));
	}
	if (writes(t))
		TRY(io_make_folder(config->run));
	u32 saved = config->save_trained ? VIEW_TRAINED : VIEW_PARAMETERS;
	t->parameters = buffer_views(a, t->x, saved);
	t->others = buffer_views(a, t->x, VIEW_OTHERS);
	t->written[0] = t->x->comm ? saved_views(a, t->x, saved) : t->parameters;
	t->written[1] = t->x->comm ? saved_views(a, t->x, VIEW_OTHERS) : t->others;
	t->counters = buffer_views(a, t->x, 1 << PACKAGE_COUNTER);
	size_t counter_bytes = 0;
	for (u32 i = 0; i < t->counters.n; i++)
		counter_bytes += safe_buffer_bytes(&t->counters.v[i]);
	t->counter_memory = NEWN(a, u8, counter_bytes + 1);
	t->batch = NEWN(a, u8 **, t->config.accumulate);
	for (u32 i = 0; i < t->config.accumulate; i++)
		t->batch[i] = batch_room(a, &t->first);
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

static Status open_metrics(Training *t, u64 keep)
{
	if (!writes(t))
		return OK;
	const char *path = arena_printf(t->arena, "%s/" TRAINING_METRICS, t->config.run);
	/* what a checkpoint keeps may end in front of its own step's line: that has no validation then, or has it from an
	 * earlier resume */
	Str line = { 0 };
	TRY(metrics_line(t->arena, path, keep, &line));
	bool own = line.n && metrics_read(line, t->config.train->kind->unit, &t->resumed) && t->resumed.step == t->step;
	TRY(metrics_open(path, own ? keep + line.n + 1 : keep, &t->metrics));
	t->has_metrics = true;
	t->owes = own && t->config.validation && t->resumed.validation_loss == METRIC_UNKNOWN;
	t->metrics.last = keep;
	return OK;
}

Status training_initialize(Training *t)
{
	const PackageTensor *seed = executor_input(t->init, "seed");
	i64 value = (i64)t->config.seed;
	if (seed)
		TRY(executor_write(t->x, seed, &value));
	return executor_run(t->x, t->init, NULL, NULL);
}

Status training_begin(Training *t)
{
	TRY(training_initialize(t));
	t->started = true;
	return open_metrics(t, 0);
}

/* ---- checkpoints ---- */

static const char *fingerprint(Arena *a, const Package *p)
{
	return arena_printf(a, "%016llx", (unsigned long long)p->fingerprint);
}

/* "data=2,tensor=2"; "" for one device. */
static const char *mesh_text(Arena *a, const PackageMesh *mesh)
{
	Buf b = { .arena = a };
	for (u32 m = 0; m < mesh->n; m++)
		buf_printf(&b, "%s%s=%u", m ? "," : "", mesh->axis[m].name, mesh->axis[m].size);
	return mesh->n ? b.text : "";
}

static const char mesh_key[] = "mesh";

/* Of a pipeline nothing: each stage has choices of its own. */
static u32 tuning(Training *t, Arena *a, const TextPair **out)
{
	const DeviceChoice *c = NULL;
	u32 n = t->x->package->pipe.stages ? 0 : t->x->device->choices(t->x->state, a, &c);
	TextPair *pair = NEWN(a, TextPair, n + 1);
	for (u32 i = 0; i < n; i++)
		pair[i] = (TextPair){ c[i].what, c[i].chosen };
	pair[n] = (TextPair){ mesh_key, mesh_text(a, &t->x->package->mesh) };
	*out = pair;
	return n + (t->x->package->mesh.n > 0);
}

/* On another mesh other products are taken, and numbers differ by rounding anyway: nothing is repeated. */
static Status retune(Training *t, const CheckpointState *state)
{
	const char *mesh = "";
	DeviceChoice *c = NEWN(t->arena, DeviceChoice, state->ntuning + 1);
	u32 n = 0;
	for (u32 i = 0; i < state->ntuning; i++) {
		if (!strcmp(state->tuning[i].key, mesh_key))
			mesh = state->tuning[i].value;
		else
			c[n++] = (DeviceChoice){ state->tuning[i].key, state->tuning[i].value };
	}
	return strcmp(mesh, mesh_text(t->arena, &t->x->package->mesh)) ? OK : t->x->device->choose(t->x->state, c, n);
}

static Status save(Training *t)
{
	assert(!t->npending);
	if (t->has_saved && t->saved == t->step)
		return OK;
	Arena tmp = ARENA("save");
	CheckpointSave c = {
		.run = t->config.run,
		.state = { .step = t->step, .seed = t->config.seed, .validated = t->has_validated && t->validated == t->step,
			   .validation_loss = t->validation_loss, .metrics_bytes = t->owes ? t->metrics.last : t->metrics.bytes,
			   .program = fingerprint(&tmp, t->x->package),
			   .loader = loader_position_text(&tmp, loader_position(t->loader)) },
		.parameter = t->written[0].v, .nparameter = t->written[0].n,
		.other = t->written[1].v, .nother = t->written[1].n,
		.keep = t->config.keep,
	};
	c.state.ntuning = tuning(t, &tmp, &c.state.tuning);
	Status s = comm_together(t->x->comm, "saving a checkpoint", writes(t) ? metrics_sync(&t->metrics) : OK);
	if (!s)
		s = t->x->comm ? checkpoint_save_parts(&c, t->x->comm) : checkpoint_save(&c);
	arena_free(&tmp);
	if (!s && writes(t) && metrics_is_removed(&t->metrics))
		s = FAIL(STATUS_IO, "%s was removed while the run went on: the checkpoint is saved, and the run ends, as its folder is not "
			 "whole any more", t->metrics.path);
	s = comm_together(t->x->comm, "saving a checkpoint", s);
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
	bool other = strcmp(c->state.program, now) != 0;
	if (other && !t->config.changed)
		return FAIL(STATUS_INPUT,
			    "%s was made by another program than this one (%s there, %s here): the source, a setting such as the "
			    "learning rate, or the processor's kind differs, and going on would not give the same numbers. Give "
			    "the settings that it was made with; or say --changed beside --resume, which goes on from its parameters and "
			    "optimizer states with what is there now; or start a new run from its parameters with --weights",
			    c->path, c->state.program, now);
	if (c->state.seed != t->config.seed)
		return FAIL(STATUS_INPUT, "%s was made with the seed %llu, not %llu", c->path,
			    (unsigned long long)c->state.seed, (unsigned long long)t->config.seed);
	if (!other) /* another program's choices are of other kernels */
		TRY(status_context(retune(t, &c->state), "resuming from %s", c->path));
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
	CheckpointState best;
	bool found = false;
	if (t->config.best)
		TRY(checkpoint_best(t->arena, t->config.run, &best, &found));
	if (found && best.validated) {
		t->best_step = best.step;
		t->best_loss = best.validation_loss;
	}
	t->has_saved = t->started = true;
	return open_metrics(t, keep);
}

/* ---- a step ---- */

/* How many turns the micro-steps of a step take, and one of them. */
static u32 turns(const Training *t)
{
	const PackagePipe *pipe = &t->x->package->pipe;
	return pipe->stages ? pipe->ntask : t->config.accumulate;
}

static Status run_turn(Training *t, u32 i, StepHook *hook, void *cx)
{
	const PackagePipe *pipe = &t->x->package->pipe;
	if (pipe->stages)
		return batch_run(t->x, &t->half[pipe->task[i].entry], t->batch[pipe->task[i].micro], hook, cx);
	bool last = t->last.entry && i + 1 == t->config.accumulate;
	return batch_run(t->x, !i ? &t->first : last ? &t->last : &t->more, t->batch[i], hook, cx);
}

static Status keep_counters(Training *t, bool restore)
{
	u8 *at = t->counter_memory;
	for (u32 i = 0; i < t->counters.n; i++) {
		size_t n = safe_buffer_bytes(&t->counters.v[i]);
		TRY(restore ? safe_buffer_write(&t->counters.v[i], 0, at, n) : safe_buffer_read(&t->counters.v[i], 0, at, n));
		at += n;
	}
	return OK;
}

static const char *last_save(Arena *a, const Training *t)
{
	return t->has_saved ? arena_printf(a, "the last checkpoint is that of step %llu", (unsigned long long)t->saved) :
			      "there is no checkpoint yet";
}

static const char *value_text(f64 x)
{
	return isnan(x) ? "NaN" : "infinite";
}

/* The micro-steps once more, watched. What they change is counters and gradients alone. */
static Status located(Training *t, const char *what, f64 value)
{
	Numerics n = { .executor = t->x };
	TRY(keep_counters(t, true));
	if (!numerics_buffers(&n, VIEW_PARAMETERS))
		for (u32 i = 0; i < turns(t) && !n.nan.found && !n.failed; i++)
			TRY(run_turn(t, i, numerics_hook, &n));
	TRY(n.failed);
	Arena tmp = ARENA("located");
	const char *where = numerics_text(&tmp, &n);
	Status s = FAIL(STATUS_INPUT, "step %llu: %s is %s; %s. %s. A lower learning rate, or clipping, often helps",
			(unsigned long long)t->step + 1, what, value_text(value),
			*where ? where : "run again, every value is finite: please report this", last_save(&tmp, t));
	arena_free(&tmp);
	return s;
}

/* A counter of the loss. Of a pipeline, one stage has it: everybody is told. */
static Status read_loss(Training *t, const char *name, f64 *out)
{
	const PackagePipe *pipe = &t->x->package->pipe;
	const PackageBuffer *b = executor_buffer(t->x, name);
	*out = NAN;
	if (!b->away)
		TRY(executor_scalar(t->x, &b->tensor, NAN, out));
	if (!pipe->stages)
		return OK;
	Arena tmp = ARENA("loss");
	f64 *all = NEWN(&tmp, f64, comm_ranks(t->x->comm));
	Status s = comm_gather(t->x->comm, "telling the loss", out, sizeof *out, all);
	*out = all[comm_rank_at(t->x->comm, pipe->mesh, (u32)__builtin_ctzll(b->stages))];
	arena_free(&tmp);
	return s;
}

static Status check_loss(Training *t, Pending *p)
{
	f64 sum, count;
	TRY(read_loss(t, "loss_sum", &sum));
	TRY(read_loss(t, "loss_count", &count));
	p->sum = sum;
	p->count = count;
	if (!isfinite(sum / count))
		return located(t, "the loss", sum / count);
	Numerics n = { .executor = t->x };
	if (t->config.check_numerics && numerics_buffers(&n, 1 << PACKAGE_GRADIENT))
		return located(t, "a gradient", n.nan.found ? (f64)NAN : (f64)INFINITY);
	return n.failed;
}

static Status run_update(Training *t)
{
	if (!t->config.check_numerics)
		return executor_run(t->x, t->update, NULL, NULL);
	Numerics n = { .executor = t->x };
	TRY(executor_run(t->x, t->update, numerics_hook, &n));
	bool bad = n.nan.found || numerics_buffers(&n, VIEW_PARAMETERS);
	TRY(n.failed);
	if (!bad)
		return OK;
	Arena tmp = ARENA("update");
	Status s = FAIL(STATUS_INPUT, "step %llu: the update is not finite; %s. %s", (unsigned long long)t->step + 1,
			numerics_text(&tmp, &n), last_save(&tmp, t));
	arena_free(&tmp);
	return s;
}

/* Gives a step to the device. */
static Status begin_step(Training *t)
{
	assert(t->npending < PENDING);
	Pending *p = &t->pending[t->npending];
	bool staged = t->x->package->pipe.stages;
	*p = (Pending){ .step = t->step + 1, .begun = clock_seconds() };
	if (t->careful)
		TRY(keep_counters(t, false));
	for (u32 i = 0; i < t->config.accumulate; i++) {
		u32 rows;
		bool more;
		TRY(loader_next(t->loader, t->batch[i], &rows, &more));
		if (!staged)
			TRY(run_turn(t, i, NULL, NULL));
	}
	for (u32 i = 0; i < turns(t) && staged; i++)
		TRY(run_turn(t, i, NULL, NULL));
	if (t->careful)
		TRY(check_loss(t, p));
	TRY(executor_fetch(t->x, staged ? NULL : t->loss_sum, &p->loss_sum));
	TRY(executor_fetch(t->x, staged ? NULL : t->loss_count, &p->loss_count));
	TRY(run_update(t));
	TRY(executor_fetch(t->x, t->norm, &p->norm));
	TRY(executor_fetch(t->x, t->rate, &p->rate));
	t->npending++;
	t->step++;
	return OK;
}

/* Waits for the oldest step's numbers. */
static Status end_step(Training *t, StepMetrics *m, f64 *spent)
{
	f64 sum, count;
	Pending p = t->pending[0];
	t->pending[0] = t->pending[1];
	t->npending--;
	TRY(executor_fetched(t->x, p.loss_sum, p.sum, &sum));
	TRY(executor_fetched(t->x, p.loss_count, p.count, &count));
	TRY(executor_fetched(t->x, p.norm, METRIC_UNKNOWN, &m->gradient_norm));
	TRY(executor_fetched(t->x, p.rate, METRIC_UNKNOWN, &m->learning_rate));
	m->step = p.step;
	m->train_loss = sum / count;
	f64 now = clock_seconds();
	*spent = now - MAX(p.begun, t->settled);
	t->settled = now;
	bool loss = isfinite(m->train_loss);
	if (loss && (m->gradient_norm == METRIC_UNKNOWN || isfinite(m->gradient_norm)))
		return OK;
	Arena tmp = ARENA("end_step");
	Status s = FAIL(STATUS_INPUT,
			"step %llu: the %s is %s%s; the parameters are spoiled, and nothing was saved. %s; with --resume "
			"--check-numerics, the same step is made again and the place found",
			(unsigned long long)p.step, loss ? "gradient's norm" : "loss",
			value_text(loss ? m->gradient_norm : m->train_loss),
			loss ? arena_printf(&tmp, ", though the loss is %g", m->train_loss) : "", last_save(&tmp, t));
	arena_free(&tmp);
	return s;
}

/* ---- the loop ---- */

static bool due(u64 every, u64 step)
{
	return every && step % every == 0;
}

/* The loss, and what the source's other eval blocks say. */
static Status validate(Training *t, u64 most, Evaluation *e, StepMetrics *m)
{
	Status s = evaluate(t->x, "eval", t->config.validation, most, e);
	m->validation_loss = e->loss;
	for (u32 i = 0; i < t->x->package->nentry && !s && !e->stopped && m->nnamed < METRICS_NAMED; i++) {
		const char *name = t->x->package->entry[i].name;
		if (!str_starts(str_of(name), STR(EVALUATE_NAMED)))
			continue;
		Evaluation one;
		s = evaluate(t->x, name, t->config.validation, most, &one);
		m->named[m->nnamed++] = (NamedMetric){ name + strlen(EVALUATE_NAMED), one.loss };
		e->stopped = one.stopped;
	}
	t->owes = e->stopped;
	if (t->owes) { /* means of less than was to be are no numbers of this run */
		m->validation_loss = METRIC_UNKNOWN;
		m->nnamed = 0;
	}
	return s ? status_context(s, "validation after step %llu", (unsigned long long)t->step) : OK;
}

static void rates(const Training *t, StepMetrics *m, f64 spent, f64 begin, u64 made)
{
	m->total = t->config.steps;
	m->unit = t->config.train->kind->unit;
	m->units = m->step * t->step_units;
	m->memory_bytes = executor_bytes(t->x) + t->config.other_bytes;
	m->resident_bytes = host_memory_peak();
	m->step_ms = spent * 1e3;
	m->units_per_second = (f64)t->step_units / spent;
	if (t->model_flops > 0) {
		m->tflops = t->model_flops / spent * 1e-12;
		m->tflops_full = t->model_flops_full / spent * 1e-12;
		if (t->config.peak > 0)
			m->peak_share = t->model_flops / spent / t->config.peak;
		if (t->config.datasheet > 0)
			m->mfu = t->model_flops / spent / t->config.datasheet;
	}
	m->eta_seconds = (clock_seconds() - begin) / (f64)made * (f64)(t->config.steps - m->step);
}

static Status record(Training *t, const StepMetrics *m)
{
	Arena tmp = ARENA("record");
	Status s = writes(t) ? metrics_put(&t->metrics, metrics_json(&tmp, m)) : OK;
	arena_free(&tmp);
	if (!s && t->config.on_step && writes(t))
		t->config.on_step(t->config.cx, m);
	return s;
}

typedef struct Loop {
	f64 begin, in_steps;
	u64 made;
} Loop;

/* Ends the oldest step; with a validation, where `e` is given. */
static Status settle(Training *t, Loop *l, u64 batches, Evaluation *e, TrainingEnd *end)
{
	StepMetrics m = metrics_none();
	f64 spent;
	TRY(end_step(t, &m, &spent));
	l->in_steps += spent;
	l->made++;
	if (e)
		TRY(validate(t, batches, e, &m));
	rates(t, &m, spent, l->begin, l->made);
	end->last = m;
	return record(t, &m);
}

/* The checkpoint of the lowest validation loss is made at once: the step's parameters are there now. */
static Status keep_best(Training *t, const StepMetrics *m)
{
	if (!t->config.best || t->owes || !isfinite(m->validation_loss))
		return OK;
	t->has_validated = true;
	t->validated = t->step;
	t->validation_loss = m->validation_loss;
	if (t->best_step && m->validation_loss >= t->best_loss)
		return OK;
	t->best_step = t->step;
	t->best_loss = m->validation_loss;
	t->has_saved = false; /* one of this step may be there, which does not say the loss */
	TRY(save(t));
	return comm_together(t->x->comm, "marking the best checkpoint", writes(t) ? checkpoint_set_best(t->config.run, t->step) : OK);
}

/* After a step: what is due then. */
static Status look(Training *t, Loop *l, TrainingEnd *end)
{
	const TrainingConfig *c = &t->config;
	bool last = t->step == c->steps, validation = c->validation && (last || due(c->evaluate_every, t->step));
	bool sample = c->on_sample && due(c->sample_every, t->step), checkpoint = due(c->checkpoint_every, t->step);
	bool wait = t->careful || last || validation || sample || checkpoint;
	while (t->npending > (wait ? 1 : PENDING - 1))
		TRY(settle(t, l, 0, NULL, end));
	if (!wait)
		return OK;
	Evaluation e = { 0 };
	TRY(settle(t, l, last ? 0 : c->evaluate_batches, validation ? &e : NULL, end));
	if (validation)
		TRY(keep_best(t, &end->last));
	if (sample)
		TRY(c->on_sample(c->cx, t->step));
	if (checkpoint)
		TRY(save(t));
	if (last && c->validation) {
		end->validation = e;
		end->has_validation = e.whole && !e.stopped;
	}
	return OK;
}

/* The validation that a signal ended when this step was made, in the line that has the step's other numbers. */
static Status make_up(Training *t, TrainingEnd *end)
{
	const TrainingConfig *c = &t->config;
	bool owes, last = t->step == c->steps;
	Evaluation e;
	Arena tmp = ARENA("make_up");
	TRY(comm_any(t->x->comm, "the beginning of a run", t->owes, &owes));
	if (!owes)
		return OK;
	StepMetrics m = writes(t) ? t->resumed : metrics_none();
	Status s = validate(t, last ? 0 : c->evaluate_batches, &e, &m);
	m.total = c->steps;
	if (!s && writes(t) && !t->owes) {
		s = metrics_put_again(&t->metrics, metrics_json(&tmp, &m));
		if (!s && c->on_step)
			c->on_step(c->cx, &m);
	}
	if (!s)
		s = keep_best(t, &m);
	if (!s && last) {
		end->validation = e;
		end->has_validation = e.whole && !e.stopped;
		memcpy(end->last.named, m.named, sizeof m.named);
		end->last.nnamed = m.nnamed;
	}
	arena_free(&tmp);
	return s;
}

static Status run(Training *t, TrainingEnd *end)
{
	Loop l = { .begin = clock_seconds() };
	TRY(make_up(t, end));
	while (t->step < t->config.steps) {
		bool stop;
		TRY(comm_any(t->x->comm, "the beginning of a step", signals_requested() != 0, &stop));
		if (stop)
			break;
		TRY(begin_step(t));
		TRY(look(t, &l, end));
	}
	while (t->npending)
		TRY(settle(t, &l, 0, NULL, end));
	if (l.made)
		end->tflops = t->model_flops * (f64)l.made / l.in_steps * 1e-12;
	if (l.made || !t->has_saved)
		TRY(save(t));
	end->seconds = clock_seconds() - l.begin;
	return OK;
}

Status training_run(Training *t, TrainingEnd *end)
{
	assert(t->started && "training_begin or training_resume comes first");
	*end = (TrainingEnd){ .step = t->step, .last = metrics_none() };
	Status s = run(t, end);
	end->step = t->step;
	end->best_step = t->best_step;
	end->best_loss = t->best_loss;
	end->signal = t->step < t->config.steps || t->owes ? signals_requested() : 0;
	end->resident_bytes = host_memory_peak();
	return s;
}
