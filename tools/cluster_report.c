/* tools/cluster_report.c: see cluster_report.h. */
#include "tools/cluster_report.h"
#include "passes/graph/bucket.h"
#include "support/io.h"
#include "tools/mesh.h"
#include "tools/prediction.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

ClusterNumbers cluster_numbers(const ClusterReport *r)
{
	const Machine *m = r->machine;
	const ClusterStep *s = r->step;
	const StageStep *busy = &s->stage[s->busiest];
	f64 within = (f64)r->planned->work->within, micros = s->shape.micros;
	ClusterNumbers n = { .devices = within * s->shape.pipe, .tokens = r->planned->tokens * micros,
			     .flops = r->planned->flops * micros * within, .flops_full = r->planned->flops_full * micros * within };
	n.per_device = n.flops / n.devices / s->seconds;
	n.peak = precision_peak(m, r->precision);
	n.mfu = n.per_device / n.peak;
	n.exposed = busy->waiting;
	n.hidden = MAX(busy->messages - busy->waiting, 0);
	n.room = (u64)(m->memory - m->reserved);
	if (r->tokens > 0) {
		n.steps = r->tokens / n.tokens;
		n.seconds = n.steps * s->seconds;
		n.hours = n.seconds / 3600 * n.devices;
		n.dollars = n.hours * (r->price > 0 ? r->price : m->price);
		n.kilowatt_hours = n.hours * m->power / 1000;
	}
	return n;
}

u64 cluster_larger_bucket(const ClusterReport *r, f64 *seconds)
{
	enum { TRIES = 5 };
	ClusterWork w = *r->planned->work;
	u64 room = (u64)(r->machine->memory - r->machine->reserved), was = MAX(w.bucket, BUCKET_BYTES);
	f64 took[TRIES], least = r->step->seconds;
	u32 n = 0;
	for (; n < TRIES && r->step->memory + (was << 2 * (n + 1)) <= room; n++) {
		Arena tmp = ARENA("bucket");
		w.bucket = was << 2 * (n + 1);
		took[n] = cluster_step(&tmp, r->machine, &w, &r->step->shape).seconds;
		least = MIN(least, took[n]);
		arena_free(&tmp);
	}
	if (least > 0.99 * r->step->seconds)
		return 0;
	u32 i = 0;
	while (took[i] > least + 0.1 * (r->step->seconds - least))
		i++;
	*seconds = took[i];
	return was << 2 * (i + 1);
}

static const char *duration(Arena *a, f64 seconds)
{
	if (seconds < 1)
		return arena_printf(a, "%.4g ms", seconds * 1e3);
	if (seconds < 600)
		return arena_printf(a, "%.4g s", seconds);
	return seconds < 48 * 3600 ? arena_printf(a, "%.3g hours", seconds / 3600) : arena_printf(a, "%.3g days", seconds / 86400);
}

/* What rules ask to be divided and stays whole: of the layers that were planned, which tell the others. */
static void print_whole(const ClusterReport *r)
{
	MeshWhole w[3 * MESH_AXES];
	static const char *const name[] = { [BUFFER_PARAMETER] = "parameters", [BUFFER_STATE] = "optimizer states", [BUFFER_GRADIENT] = "gradients" };
	for (u32 i = 0, n = mesh_whole(r->planned->compiled.program, r->planned->rules, w); i < n; i++)
		printf("whole     %.3g%% of the bytes of %s stay whole over %s: tensors that have no dimension to divide\n",
		       100 * (f64)w[i].bytes / (f64)w[i].of_bytes, name[w[i].kind], w[i].over);
}

/* Stages that differ from the one before. */
static void print_stages(Arena *a, const ClusterStep *s)
{
	printf("\n%-9s %6s %9s %9s %9s %9s %10s %10s %10s %10s %16s %10s %10s\n", "stages", "layers", "forward", "backward", "update", "waiting",
	       "parameters", "gradients", "optimizer", "other", "kept (in flight)", "at work", "together");
	for (u32 i = 0; i < s->shape.pipe;) {
		const StageStep *x = &s->stage[i];
		u32 end = i + 1;
		while (end < s->shape.pipe && s->stage[end].total == x->total && s->stage[end].layers == x->layers &&
		       s->stage[end].forward == x->forward && s->stage[end].update == x->update)
			end++;
		const char *which = end == i + 1 ? arena_printf(a, "%u", i) : arena_printf(a, "%u to %u", i, end - 1);
		printf("%-9s %6u %9s %9s %9s %9s %10s %10s %10s %10s %16s %10s %10s\n", which, x->layers, duration(a, x->forward),
		       duration(a, x->backward), duration(a, x->update), duration(a, x->waiting), lm_bytes(a, x->bytes.parameters),
		       lm_bytes(a, x->bytes.gradients), lm_bytes(a, x->bytes.optimizer),
		       lm_bytes(a, x->bytes.other), arena_printf(a, "%s (%u)", lm_bytes(a, x->kept), x->held), lm_bytes(a, x->working),
		       lm_bytes(a, x->total));
		i = end;
	}
	printf("forward and backward are of a micro-batch, the other times of a step\n");
}

/* The largest of what a step consists of, in words. */
static const char *limit(Arena *a, const ClusterReport *r, const ClusterNumbers *n)
{
	const StageStep *busy = &r->step->stage[r->step->busiest];
	f64 part[] = { busy->by[LIMIT_ARITHMETIC], busy->by[LIMIT_MEMORY], busy->by[LIMIT_LAUNCH], n->exposed,
		       r->step->pipeline * r->step->bubble + r->step->update - busy->update /* of the stage that updates longest */ };
	static const char *const name[] = { "arithmetic", "memory's bandwidth", "launches", "messages that nothing hides", "the pipeline's bubble" };
	Buf b = { .arena = a };
	for (u32 i = 0; i < COUNT(part); i++)
		buf_printf(&b, "%s%s %.1f%%", i ? ", " : "", name[i], 100 * part[i] / r->step->seconds);
	return b.text;
}

void cluster_print(const ClusterReport *r)
{
	Arena *a = r->arena;
	const ClusterStep *s = r->step;
	ClusterNumbers n = cluster_numbers(r);
	printf("model     %s (%s), %s, %lld sequences of %.0f tokens%s a step: %u micro-batch%s of %lld on each device\n", r->lm->model->name,
	       r->lm->operand.source, r->precision, (long long)r->batch, n.tokens / (f64)r->batch,
	       r->usual_length ? " (as the train block says; --sizes T=.. for others)" : "", s->shape.micros, s->shape.micros == 1 ? "" : "es", (long long)r->micro);
	printf("machine   %s, %.0f device%s: %s%s; recompute %s\n", r->machine->name, n.devices, n.devices > 1 ? "s" : "", r->mesh,
	       s->shape.pipe > 1 ? arena_printf(a, ", %s%s", pipe_kind_name[s->shape.schedule],
						 s->shape.chunks > 1 ? arena_printf(a, " (%u chunks)", s->shape.chunks) : "") : "",
	       recompute_name[s->shape.recompute]);
	bool peta = n.flops >= 1e16;
	printf("step      %s: %s tokens, %.4g %cFLOP (%.4g with attention's full square)\n", duration(a, s->seconds), lm_scaled(a, n.tokens),
	       n.flops / (peta ? 1e15 : 1e12), peta ? 'P' : 'T', n.flops_full / (peta ? 1e15 : 1e12));
	printf("          %s tokens/s, %.4g TFLOPS a device, MFU %.1f%% of %.4g TFLOPS (full square: %.1f%%)\n",
	       lm_scaled(a, n.tokens / s->seconds), n.per_device / 1e12, 100 * n.mfu, n.peak / 1e12, 100 * n.mfu * n.flops_full / n.flops);
	printf("          micro-batches %s, update %s; bubble %.1f%% of the micro-batches' time; messages %s hidden, %s exposed%s\n", duration(a, s->pipeline),
	       duration(a, s->update), 100 * s->bubble, duration(a, n.hidden), duration(a, n.exposed),
	       s->shape.pipe > 1 ? arena_printf(a, ", %s from stage to stage", duration(a, s->sending)) : "");
	f64 faster;
	u64 bucket = cluster_larger_bucket(r, &faster);
	if (bucket)
		printf("          with --shard bucket=%lluMiB, messages of a layer in fewer pieces, %s: %.1f%% less\n", (unsigned long long)(bucket >> 20),
		       duration(a, faster), 100 * (1 - faster / s->seconds));
	printf("limits    %s of the time\n", limit(a, r, &n));
	printf("memory    %llu bytes (%s) on a device of the stage that has most, of %s\n", (unsigned long long)s->memory,
	       lm_bytes(a, s->memory), lm_bytes(a, n.room));
	print_whole(r);
	if (r->tokens > 0) {
		printf("run       %s tokens: %s steps, %s", lm_scaled(a, r->tokens), lm_scaled(a, n.steps), duration(a, n.seconds));
		printf("; %s device hours", lm_scaled(a, n.hours));
		if (n.kilowatt_hours > 0)
			printf("; %.4g %s at %.0f W", n.kilowatt_hours / (n.kilowatt_hours < 1e7 ? 1e3 : 1e6), n.kilowatt_hours < 1e7 ? "MWh" : "GWh", r->machine->power);
		if (n.dollars > 0)
			printf("; $%s at $%g a device and hour", lm_scaled(a, n.dollars), r->price > 0 ? r->price : r->machine->price);
		printf("\n");
	}
	print_stages(a, s);
}

/* As print_whole: shares of a kind's bytes. */
static json_t *whole_json(const ClusterReport *r)
{
	MeshWhole w[3 * MESH_AXES];
	json_t *whole = json_array();
	for (u32 i = 0, n = mesh_whole(r->planned->compiled.program, r->planned->rules, w); i < n; i++)
		json_array_append_new(whole, json_pack("{s:s, s:s, s:f}", "kind", buffer_kind_name[w[i].kind], "over", w[i].over, "share",
						       (f64)w[i].bytes / (f64)w[i].of_bytes));
	return whole;
}

static json_t *stage_json(const StageStep *x)
{
	return json_pack("{s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:I}", "first_layer", (int)x->first, "layers",
			 (int)x->layers, "forward_seconds", x->forward, "backward_seconds", x->backward, "update_seconds", x->update,
			 "waiting_seconds", x->waiting, "message_seconds", x->messages, "parameter_bytes",
			 (json_int_t)x->bytes.parameters, "gradient_bytes", (json_int_t)x->bytes.gradients, "optimizer_bytes",
			 (json_int_t)x->bytes.optimizer, "other_bytes", (json_int_t)x->bytes.other, "kept_bytes", (json_int_t)x->kept,
			 "working_bytes", (json_int_t)x->working, "in_flight", (int)x->held, "bytes", (json_int_t)x->total);
}

void cluster_json(const ClusterReport *r)
{
	const ClusterStep *s = r->step;
	ClusterNumbers v = cluster_numbers(r);
	json_t *stages = json_array();
	for (u32 k = 0; k < s->shape.pipe; k++)
		json_array_append_new(stages, stage_json(&s->stage[k]));
	json_t *root = json_pack("{s:s, s:s, s:s, s:s, s:f, s:I, s:I, s:i}", "model", r->lm->model->name, "machine", r->machine->name,
				 "mesh", r->mesh, "precision", r->precision, "devices", v.devices, "batch", (json_int_t)r->batch,
				 "micro_batch", (json_int_t)r->micro, "micro_batches", (int)s->shape.micros);
	json_t *time = json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "step_seconds", s->seconds, "pipeline_seconds", s->pipeline,
				 "update_seconds", s->update, "bubble", s->bubble, "exposed_seconds", v.exposed, "hidden_seconds", v.hidden,
				 "tokens", v.tokens);
	json_t *rate = json_pack("{s:f, s:f, s:f, s:f, s:f, s:I, s:b, s:o}", "tokens_per_second", v.tokens / s->seconds, "model_flops",
				 v.flops, "model_flops_full_square", v.flops_full, "tflops_per_device", v.per_device / 1e12, "mfu", v.mfu,
				 "memory_bytes", (json_int_t)s->memory, "fits", (int)(s->memory <= v.room), "stages", stages);
	json_object_update(root, time);
	json_object_update(root, rate);
	json_decref(time);
	json_decref(rate);
	json_object_set_new(root, "whole", whole_json(r));
	f64 faster;
	u64 bucket = cluster_larger_bucket(r, &faster);
	if (bucket)
		json_object_set_new(root, "larger_bucket", json_pack("{s:I, s:f}", "bytes", (json_int_t)bucket, "step_seconds", faster));
	if (r->tokens > 0)
		json_object_set_new(root, "run", json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "tokens", r->tokens, "steps", v.steps, "seconds",
							   v.seconds, "device_hours", v.hours, "dollars", v.dollars, "kilowatt_hours", v.kilowatt_hours));
	json_dumpf(root, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(12));
	putchar('\n');
	json_decref(root);
}

/* Do the rules divide such a thing? "parameters", "sequence" */
static bool divides(const ClusterReport *r, const char *what)
{
	const char *at = r->planned->rules ? strstr(r->planned->rules, what) : NULL;
	return at && at[strlen(what)] == '=' && (at == r->planned->rules || at[-1] == ',');
}

static bool has_axis(const ClusterReport *r, const char *name)
{
	const char *at = r->planned->rules ? strstr(r->planned->rules, arena_printf(r->arena, "mesh=%s:", name)) : NULL;
	return at != NULL;
}

/* What is not done yet of what makes a device hold less, of that first which is most of it. */
static const char *advice(const ClusterReport *r, const StageStep *x)
{
	Buf belongs = { .arena = r->arena }, kept = { .arena = r->arena };
	u32 n = RULE_OF_PARAMETERS + 1, k = n;
	while (k && !divides(r, rule_of_name[k - 1]))
		k--;
	for (u32 i = k; i < n && has_axis(r, "data"); i++)
		buf_printf(&belongs, "--shard %s=data%s", rule_of_name[i], i + 1 < n ? " or " : ", ");
	if (r->step->shape.recompute < RECOMPUTE_WHOLE)
		buf_printf(&kept, "--recompute %s, ", recompute_name[r->step->shape.recompute + 1]);
	if (r->micro > 1)
		buf_printf(&kept, "a --micro below %lld, ", (long long)r->micro);
	if (has_axis(r, "tensor") && !divides(r, "sequence"))
		buf_printf(&kept, "--shard sequence=tensor, ");
	bool values = x->kept + x->working > x->total / 2;
	Buf *first = values ? &kept : &belongs, *then = values ? &belongs : &kept;
	return arena_printf(r->arena, "%.*s%.*smore devices along tensor or pipe, or --mesh auto, which looks for what fits", STR_ARG(buf_str(first)),
			    STR_ARG(buf_str(then)));
}

Status cluster_fits(const ClusterReport *r)
{
	ClusterNumbers n = cluster_numbers(r);
	if (r->step->memory <= n.room)
		return OK;
	const StageStep *x = r->step->stage;
	for (u32 i = 0; i < r->step->shape.pipe; i++)
		if (r->step->stage[i].total == r->step->memory)
			x = &r->step->stage[i];
	u64 belongs = x->bytes.parameters + x->bytes.gradients + x->bytes.optimizer;
	return FAIL(STATUS_CONTRACT, "a device holds %s, and %s leaves %s: %s are parameters, gradients and optimizer states, %s the values of %u micro-batch%s; %s",
		    lm_bytes(r->arena, r->step->memory), r->machine->name, lm_bytes(r->arena, n.room), lm_bytes(r->arena, belongs),
		    lm_bytes(r->arena, x->total - belongs), x->held, x->held == 1 ? "" : "es", advice(r, x));
}
