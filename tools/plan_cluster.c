/* tools/plan_cluster.c: see plan_cluster.h. What is asked becomes a shape and a case; the case is planned once, and the step
 * put together for each machine. */
#include "tools/plan_cluster.h"
#include "ir/step.h"
#include "passes/plan/alike.h"
#include "tools/cluster_report.h"
#include "tools/mesh.h"
#include "tools/scaling_report.h"
#include "tools/sizes.h"

#include <stdlib.h>
#include <string.h>

/* ---- the model ---- */

static i64 layers_of(const Model *m)
{
	for (u32 i = 0; i < m->config.n; i++)
		if (!strcmp(m->config.v[i].path, "layers"))
			return strtoll(m->config.v[i].text, NULL, 10);
	return 0;
}

/* Opens it with `n` layers; OK and out->stand NULL where those do not tell all. */
static Status open_few(const char *path, const SourceOptions *source, u32 n, const LayerKinds *all, ClusterModel *out)
{
	Arena tmp = ARENA("cluster");
	SourceOptions few = *source;
	const char **set = NEWN(&tmp, const char *, few.set.n + 1);
	for (int i = 0; i < few.set.n; i++)
		set[i] = few.set.v[i];
	set[few.set.n] = arena_printf(&tmp, "layers=%u", n); /* the last one wins */
	few.set = (TextList){ .v = set, .n = few.set.n + 1 };
	Status s = lm_open_source(path, &few, &out->lm);
	if (!s) {
		LayerKinds kinds = layer_kinds(&tmp, out->lm.model->program);
		out->stand = kinds.n == n ? layers_stand(&out->lm.arena, &kinds, all) : NULL;
	}
	out->layers = all->n;
	out->planned = n;
	arena_free(&tmp);
	return s;
}

Status cluster_open(const char *path, const SourceOptions *source, ClusterModel *out)
{
	*out = (ClusterModel){ 0 };
	TRY(lm_open_source(path, source, &out->lm));
	Arena tmp = ARENA("cluster");
	LayerKinds all = layer_kinds(&tmp, out->lm.model->program);
	u32 n = layers_that_tell(&all);
	Status s = OK;
	if (n < all.n && layers_of(out->lm.model) == all.n) { /* else not one row of them, as encoder and decoder are two */
		lm_close(&out->lm);
		s = open_few(path, source, n, &all, out);
		if (s || !out->stand) {
			lm_close(&out->lm);
			*out = (ClusterModel){ 0 };
			s = lm_open_source(path, source, &out->lm);
		}
	}
	arena_free(&tmp);
	return s;
}

/* "1+78+1": for how many layers of the model each planned one stands. */
static const char *standing(Arena *a, const ClusterModel *m)
{
	u32 *times = NEWN(a, u32, m->planned + 1);
	for (u32 i = 0; i < m->layers; i++)
		times[m->stand[i]]++;
	Buf text = { .arena = a };
	for (u32 i = 1; i <= m->planned; i++)
		buf_printf(&text, "%s%u", i > 1 ? "+" : "", times[i]);
	return text.text;
}

/* ---- one division ---- */

static bool read_float(const char *text, DType *out)
{
	*out = dtype_named(str_of(text));
	return *out == DT_f32 || *out == DT_bf16 || *out == DT_f16;
}

/* "bf16", "bf16,f32", "bf16,bf16+f32" */
static bool read_masters(Arena *a, const char *text, DriverOptions *o)
{
	size_t n = strcspn(text, ",");
	o->parameters = arena_strn(a, (Str){ text, n });
	o->gradients = text[n] ? text + n + 1 : o->parameters;
	size_t plus = strcspn(o->gradients, "+");
	if (o->gradients[plus]) {
		o->parts = arena_strn(a, (Str){ o->gradients, plus });
		o->gradients += plus + 1;
	}
	const char *type[] = { o->parameters, o->gradients, o->parts ? o->parts : "f32" };
	DType d;
	for (u32 i = 0; i < COUNT(type); i++)
		if (!read_float(type[i], &d))
			return false;
	return true;
}

static Status read_habits(Arena *a, const ClusterHabits *h, DriverOptions *o)
{
	o->scores = h->attention && !strcmp(h->attention, "scores");
	o->unchunked = h->loss && !strcmp(h->loss, "whole");
	if (h->loss && !o->unchunked && strcmp(h->loss, "chunks"))
		return FAIL(STATUS_INPUT, "--loss is chunks (some tokens' logits at a time), or whole (all at once), not %s", h->loss);
	if (h->attention && !o->scores && strcmp(h->attention, "whole"))
		return FAIL(STATUS_INPUT, "--attention is whole (one kernel), or scores (which go through memory), not %s", h->attention);
	if (h->masters && !read_masters(a, h->masters, o))
		return FAIL(STATUS_INPUT, "--masters is a type of parameters and of gradients (bf16, bf16,f32, bf16,bf16+f32, or f32: as in the source), not %s", h->masters);
	return OK;
}

Status cluster_plan(Arena *a, ClusterModel *m, const Machine *machine, const ClusterCase *c, ClusterPlanned *out)
{
	Lm *lm = &m->lm;
	*out = (ClusterPlanned){ 0 };
	MeshRun run;
	TRY(mesh_rules(lm, c->mesh, c->shard, NULL, &run));
	const char *given = arena_printf(a, "B=%lld%s%s", (long long)(c->micro * c->data), c->sizes ? "," : "", c->sizes ? c->sizes : "");
	if (c->length)
		given = arena_printf(a, "T=%lld,%s", (long long)c->length, given);
	TRY(sizes_check(a, lm->model, "--sizes", given, false));
	const char *bound;
	TRY(sizes_numbers(a, lm->model, given, &bound));
	static const char *const step[] = { "micro", "update" };
	const char *shard = run.rules && m->layers ? arena_printf(a, "%s,layers=%s", run.rules, standing(a, m)) : run.rules;
	bool cpu = !strcmp(machine->device, "cpu");
	DriverOptions o = { .entry = step, .nentry = COUNT(step), .sizes = bound, .precision = c->precision, .shard = shard, .bucket = 1 /* its timeline is of messages, each by itself */,
			    .device = machine->device, .cpu = cpu ? machine->arch : NULL, .arch = cpu ? NULL : machine->arch,
			    .accumulate = c->accumulate, .no_update = c->no_update, .machine = machine, .unplaced = true,
			    .prepared = c->prepared };
	TRY(read_habits(a, &c->habits, &o));
	/* others' programs wait for these sums */
	o.late_sums = c->late_sums || c->habits.attention || c->habits.loss || c->habits.masters;
	TRY(driver_plan(a, lm->model->program, &o, &out->compiled));
	if (!out->compiled.plan)
		return FAIL(STATUS_INPUT, "%s cannot be divided so", lm->operand.source);
	const Plan *plan = out->compiled.plan;
	out->rules = run.rules;
	out->work = cluster_work(a, plan, c->recompute, run.bucket);
	if (!out->work || !(out->work->update || c->no_update))
		return FAIL(STATUS_INPUT, "%s has no training step", lm->operand.source);
	out->work->in_place = c->habits.masters; /* gradients lie in one buffer, of which each device sums its part */
	DType held = DT_f32;
	if (c->habits.placeholders && !read_float(c->habits.placeholders, &held))
		return FAIL(STATUS_INPUT, "--placeholders is their type: bf16, f16 or f32, not %s", c->habits.placeholders);
	out->work->placeholder = c->habits.placeholders ? dtype_info[held].bytes : 0;
	u32 planned = out->work->first->layers, layers = m->layers ? m->layers : planned;
	if (m->layers && planned != m->planned)
		return FAIL(STATUS_UNSUPPORTED, "%s with %u layers has %u that are named with a number, so that one does not tell the others",
			    lm->operand.source, m->planned, planned);
	out->work->stand = m->stand;
	f64 more = cluster_flops(out->work, layers) / cluster_flops(out->work, planned);
	for (u32 i = 0; i < plan->entry.n; i++) {
		const EntryPlan *e = plan->entry.v[i];
		if (!step_is(e->name, STEP_FIRST))
			continue;
		out->flops = out->compiled.flops[i].model * more;
		out->flops_full = out->compiled.flops[i].model_full * more;
		const Type *input = e->input.n ? e->buffer.v[e->input.v[0]].type : NULL;
		if (input)
			out->tokens = (dtype_is_float(input->dtype) && input->rank ? (f64)type_extent(input, 0) : (f64)type_elements(input)) *
				      (f64)c->data;
	}
	return OK;
}

/* ---- what is asked ---- */

typedef struct Asked {
	ClusterShape shape;
	ClusterCase plan;
	i64 batch; /* sequences */
	i64 devices;
} Asked;

/* "interleaved:4" */
static Status read_schedule(const char *text, ClusterShape *s)
{
	s->schedule = PIPE_1F1B;
	s->chunks = 1;
	if (text && !pipe_kind_read(text, &s->schedule, &s->chunks))
		return FAIL(STATUS_INPUT, "--schedule is gpipe, 1f1b, or interleaved:2 with 2 chunks for each stage, not %s", text);
	if (s->chunks > 1 && s->pipe < 2)
		return FAIL(STATUS_INPUT, "--schedule %s is of a pipeline, which one stage is not: --mesh with pipe=2 or more", text);
	return OK;
}

Status cluster_recompute(const char *text, Recompute *out)
{
	u32 k = 0;
	while (text && k < RECOMPUTES && strcmp(recompute_name[k], text))
		k++;
	if (k == RECOMPUTES)
		return FAIL(STATUS_INPUT, "--recompute is none, needed (what a layer's backward half reads) or whole (the layer), not %s", text);
	*out = (Recompute)k;
	return OK;
}

static bool divides(const Lm *lm, const TextList *more, const char *axis, Str mesh)
{
	Str over;
	for (u32 i = 0; (over = mesh_over(lm, more, axis, i)).n; i++)
		if (str_equal(over, mesh))
			return true;
	return false;
}

/* Takes the axis pipe out of the mesh, and finds how many devices the batch is divided over, and how many have the same tokens of it. */
static Status read_mesh(Arena *a, const Lm *lm, const char *mesh, const TextList *more, Asked *out)
{
	Buf rest = { .arena = a };
	bool said = mesh_over(lm, more, "B", 0).n != 0;
	out->shape.pipe = out->shape.copies = 1;
	out->plan.data = out->devices = 1;
	Str name;
	i64 size;
	bool piped = false;
	for (const char *at = mesh; *at;) {
		TRY(mesh_axis(mesh, &at, &name, &size));
		if (out->devices * size > 1 << 24)
			return FAIL(STATUS_INPUT, "a mesh has at most %d devices", 1 << 24);
		out->devices *= size;
		if (str_equal(name, STR("pipe"))) {
			if (piped)
				return FAIL(STATUS_INPUT, "the mesh has the axis pipe twice");
			piped = true;
			out->shape.pipe = (u32)size;
			continue;
		}
		buf_printf(&rest, "%s%.*s=%lld", rest.n ? "," : "", STR_ARG(name), (long long)size);
		if (said ? divides(lm, more, "B", name) : str_equal(name, STR("data")))
			out->plan.data *= size;
		else if (!divides(lm, more, "T", name))
			out->shape.copies *= (u32)size;
	}
	out->plan.mesh = rest.n ? rest.text : "data=1";
	return OK;
}

enum { MOST_SEQUENCES = 1 << 30 };

static Status wrong_batch(i64 batch, i64 micro, i64 data)
{
	i64 each = micro * data, below = batch / each * each;
	Arena tmp = ARENA("batch");
	const char *smaller = below ? arena_printf(&tmp, "%lld or ", (long long)below) : "";
	Status s = FAIL(STATUS_INPUT, "a batch of %lld sequences is no multiple of %lld, micro-batches of %lld on each of %lld devices: %s%lld would be", (long long)batch,
			(long long)each, (long long)micro, (long long)data, smaller, (long long)(below + each));
	arena_free(&tmp);
	return s;
}

static Status read_batch(const ClusterOptions *o, const Lm *lm, Asked *out)
{
	i64 accumulate = MAX(lm->model->accumulate, 1), B = lm_size(lm, "B");
	const char *sized = o->sizes ? strstr(o->sizes, "B=") : NULL;
	if (sized && (o->micro || o->batch))
		return FAIL(STATUS_INPUT, "--sizes B= is all devices' micro-batch; --micro and --batch say it by device and by step");
	if (sized)
		B = strtoll(sized + 2, NULL, 10);
	if (!o->micro && !o->batch && (sized || B >= out->plan.data)) { /* as the file says */
		if (B % out->plan.data)
			return FAIL(STATUS_INPUT, "a batch of %lld does not divide over %lld devices: --micro and --batch say it by device "
						  "and by step", (long long)B, (long long)out->plan.data);
		out->plan.micro = B / out->plan.data;
		out->shape.micros = (u32)accumulate;
	} else {
		out->plan.micro = o->micro ? o->micro : 1;
		if (out->plan.micro > MOST_SEQUENCES || o->batch > MOST_SEQUENCES)
			return FAIL(STATUS_INPUT, "--micro and --batch are at most %d sequences", MOST_SEQUENCES);
		i64 each = out->plan.micro * out->plan.data, micros = o->batch ? o->batch / each : (i64)out->shape.pipe;
		if (micros < 1 || (o->batch && o->batch % each))
			return wrong_batch(o->batch, out->plan.micro, out->plan.data);
		if (micros > 1 << 20)
			return FAIL(STATUS_INPUT, "a step of %lld micro-batches: a larger --micro, or a smaller --batch", (long long)micros);
		out->shape.micros = (u32)micros;
	}
	out->batch = out->plan.micro * out->plan.data * out->shape.micros;
	out->plan.accumulate = out->shape.micros > 1;
	return OK;
}

/* Sizes but for B, which the batch says. */
static const char *without_batch(Arena *a, const char *sizes)
{
	Buf b = { .arena = a };
	for (const char *at = sizes; at && *at;) {
		size_t n = strcspn(at, ",");
		if (strncmp(at, "B=", 2))
			buf_printf(&b, "%s%.*s", b.n ? "," : "", (int)n, at);
		at += n + (at[n] == ',');
	}
	return b.n ? b.text : NULL;
}

static Status read_asked(const ClusterOptions *o, ClusterModel *m, Asked *out)
{
	Arena *a = &m->lm.arena;
	*out = (Asked){ 0 };
	if (!m->lm.model->has_train)
		return FAIL(STATUS_INPUT, "%s has no train block, which says what a step is", o->path);
	TRY(sizes_check(a, m->lm.model, "--sizes", o->sizes, false));
	TRY(read_mesh(a, &m->lm, o->mesh, o->shard, out));
	TRY(read_schedule(o->schedule, &out->shape));
	TRY(cluster_recompute(o->recompute ? o->recompute : "none", &out->shape.recompute));
	TRY(read_batch(o, &m->lm, out));
	out->plan.shard = o->shard;
	out->plan.sizes = without_batch(a, o->sizes);
	out->plan.recompute = out->shape.recompute;
	out->plan.habits = o->habits;
	out->plan.precision = o->precision ? o->precision : m->lm.model->precision;
	out->shape.layers = m->layers;
	return OK;
}

Status cluster_links(const Machine *m, i64 devices)
{
	if (devices <= m->domain || m->network.bandwidth > 0)
		return OK;
	return FAIL(STATUS_INPUT, "%s joins %lld device%s, and the mesh has %lld: what is beyond is a line of the machine, network = { bandwidth = 50e9, "
				  "latency = 5e-6 }", m->name, (long long)m->domain, m->domain > 1 ? "s" : "", (long long)devices);
}

Status cluster_prepare(const ClusterOptions *o, const Machine *machine, ClusterRun *out)
{
	*out = (ClusterRun){ 0 };
	TRY(cluster_open(o->path, o->source, &out->model));
	Asked asked;
	TRY(read_asked(o, &out->model, &asked));
	TRY(cluster_links(machine, asked.devices));
	out->shape = asked.shape;
	out->batch = asked.batch;
	out->micro = asked.plan.micro;
	out->precision = asked.plan.precision;
	TRY(cluster_plan(&out->model.lm.arena, &out->model, machine, &asked.plan, &out->planned));
	u32 stages = asked.shape.pipe * asked.shape.chunks, layers = out->model.layers ? out->model.layers : out->planned.work->first->layers;
	if (stages > 1 && stages > layers)
		return FAIL(STATUS_INPUT, "%u layers do not go into %u stages", layers, stages);
	return OK;
}

/* The model was planned with few layers: it is opened again with all of them. */
static Status print_scaling(const ClusterOptions *o, Arena *a, const ClusterPlanned *p)
{
	Lm whole;
	Status s = lm_open_source(o->path, o->source, &whole);
	if (!s)
		scaling_print(a, scaling_parameters(whole.model), p->flops * (f64)p->work->within / p->tokens, o->tokens, o->flops);
	lm_close(&whole);
	return s;
}

static bool says_length(const char *sizes)
{
	return sizes && (!strncmp(sizes, "T=", 2) || strstr(sizes, ",T="));
}

int plan_cluster(const ClusterOptions *o, const Machine *machine)
{
	ClusterRun run;
	Status s = cluster_prepare(o, machine, &run);
	Arena *a = &run.model.lm.arena;
	if (!s) {
		ClusterStep step = cluster_step(a, machine, run.planned.work, &run.shape);
		ClusterReport r = { .arena = a, .lm = &run.model.lm, .planned = &run.planned, .batch = run.batch, .micro = run.micro,
				    .mesh = o->mesh, .precision = run.precision, .usual_length = !says_length(o->sizes) && lm_size(&run.model.lm, "T"), .tokens = o->tokens, .price = o->price, .machine = machine,
				    .step = &step };
		if (o->json)
			cluster_json(&r);
		else
			cluster_print(&r);
		s = o->trace ? cluster_trace(&r, o->trace) : OK;
		if (!s && o->scaling)
			s = print_scaling(o, a, &run.planned);
		if (!s)
			s = cluster_fits(&r);
	}
	int status = 0;
	if (s)
		status = lm_failed("plan", &run.model.lm, s);
	else
		lm_warnings(&run.model.lm);
	lm_close(&run.model.lm);
	return status;
}
