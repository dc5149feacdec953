/* tools/prediction.c: see prediction.h. */
#include "tools/prediction.h"
#include "ir/op.h"
#include "ir/step.h"

#include <stdlib.h>
#include <string.h>

static int by_seconds(const void *a, const void *b)
{
	const PredictedGroup *x = a, *y = b;
	return (x->seconds < y->seconds) - (x->seconds > y->seconds) ?: strcmp(x->name, y->name);
}

static PredictedGroup *group_of(Prediction *p, const char *entry, const char *pattern, const char *class)
{
	for (u32 i = 0; i < p->ngroup; i++) {
		PredictedGroup *g = &p->group[i];
		if (!strcmp(g->entry, entry) && !strcmp(g->name, pattern) && !strcmp(g->class, class))
			return g;
	}
	PredictedGroup *g = &p->group[p->ngroup++];
	*g = (PredictedGroup){ .entry = entry, .name = pattern, .class = class };
	return g;
}

static void add_entry(Arena *a, Prediction *p, const Plan *plan, const EntryPlan *e, u32 times)
{
	const char *entry = str_starts(str_of(e->name), STR("micro")) ? "micro" : e->name;
	for (u32 i = 0; i < e->step.n; i++) {
		const Kernel *k = plan->kernel.v[e->step.v[i].kernel];
		LaunchTime t = predict_kernel(p->machine, k);
		PredictedGroup *g = group_of(p, entry, layer_pattern(a, k->name), kernel_class_name[k->class]);
		if (!g->calls) {
			g->line = k->loc.line;
			g->file = k->loc.line && k->loc.file < plan->ir->diag->nsource ? plan->ir->diag->source[k->loc.file].path : "";
		}
		g->calls += times;
		g->flops += k->flops * times;
		g->bytes += (k->bytes_read + k->bytes_written) * times;
		g->seconds += t.seconds * times;
		g->by[t.by] += t.seconds * times;
		p->seconds += t.seconds * times;
		p->by[t.by] += t.seconds * times;
	}
}

static void add_memory(Prediction *p, const Plan *plan)
{
	for (u32 i = 0; i < plan->program->buffer.n; i++) {
		const Buffer *b = &plan->program->buffer.v[i];
		u64 bytes = (u64)type_bytes(b->type);
		*(b->kind == BUFFER_PARAMETER ? &p->parameters : b->kind == BUFFER_GRADIENT ? &p->gradients :
		  b->kind == BUFFER_STATE     ? &p->optimizer :
						&p->other) += bytes;
	}
	p->arena = plan->arena_bytes;
	p->transient = plan->arena_bytes - plan->persistent_bytes;
	p->other += plan->persistent_bytes - (p->parameters + p->gradients + p->optimizer + p->other);
}

f64 precision_peak(const Machine *m, const char *precision)
{
	if (!strcmp(precision, "fp8") && machine_products_f8(m))
		return machine_peak(m, DT_f8e4m3);
	return machine_peak(m, !strcmp(precision, "f16") ? DT_f16 : strcmp(precision, "f32") ? DT_bf16 : DT_f32);
}

Prediction predict_step(Arena *a, const Machine *m, const Compiled *c, i64 accumulate, const char *precision, bool forward)
{
	Prediction p = { .machine = m };
	const Plan *plan = c->plan;
	u32 n = 0;
	for (u32 i = 0; i < plan->entry.n; i++)
		n += plan->entry.v[i]->step.n;
	p.group = NEWN(a, PredictedGroup, n + 1);
	for (u32 i = 0; i < plan->entry.n; i++) {
		const EntryPlan *e = plan->entry.v[i];
		StepPart part = step_name(e->name).part;
		bool micro = step_is_micro(part), step = micro || part == STEP_UPDATE;
		u32 times = forward ? !strcmp(e->name, "forward") : step ? (u32)driver_times(plan->program, e->name, accumulate) : 0;
		if (!times)
			continue;
		add_entry(a, &p, plan, e, times);
		p.flops += c->flops[i].model * times;
		p.flops_full += c->flops[i].model_full * times;
		const Type *input = (micro || forward) && e->input.n ? e->buffer.v[e->input.v[0]].type : NULL;
		if (input)
			p.tokens += (dtype_is_float(input->dtype) && input->rank ? (f64)type_extent(input, 0) : (f64)type_elements(input)) * times;
	}
	add_memory(&p, plan);
	p.peak = precision_peak(m, precision);
	p.fits = (f64)p.arena <= m->memory - m->reserved;
	qsort(p.group, p.ngroup, sizeof *p.group, by_seconds);
	return p;
}

RunCost predict_run(const Prediction *p, f64 tokens, f64 price)
{
	RunCost r = { .steps = tokens / p->tokens };
	r.seconds = r.steps * p->seconds;
	r.dollars = r.seconds / 3600 * (price > 0 ? price : p->machine->price);
	r.kilowatt_hours = r.seconds / 3600 * p->machine->power / 1000;
	return r;
}
