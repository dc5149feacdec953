/* runtime/sample.c: see sample.h. */
#include "runtime/sample.h"
#include "runtime/signals.h"
#include "runtime/views.h"
#include "support/vec.h"

#include <string.h>

typedef struct Sampler {
	Arena *arena;
	const SampleConfig *config;
	VEC(SampleValue) value;
} Sampler;

static SampleValue *find(Sampler *s, const char *name)
{
	for (u32 i = 0; i < s->value.n; i++)
		if (!strcmp(s->value.v[i].name, name))
			return &s->value.v[i];
	return NULL;
}

/* Runs an entry, and keeps its results. The loop's variable, in a turn, is `element`. */
static Status run_entry(Sampler *s, const PackageEntry *e, i64 turn, const char *variable, const void *element)
{
	Executor *x = s->config->executor;
	i64 seed = (i64)s->config->seed;
	for (u32 i = 0; i < e->ninput; i++) {
		const PackageTensor *t = &e->input[i];
		const SampleValue *v = find(s, t->name);
		const void *from = v ? v->data : NULL;
		if (!strcmp(t->name, "seed"))
			from = &seed;
		else if (!strcmp(t->name, "step"))
			from = &turn;
		else if (variable && !strcmp(t->name, variable))
			from = element;
		if (!from)
			TRY(input_given(s->arena, s->config->input, t, "the sampler", &from));
		TRY(executor_write(x, t, from));
	}
	TRY(executor_run(x, e, NULL, NULL));
	for (u32 i = 0; i < e->nresult; i++) {
		const PackageTensor *t = &e->result[i];
		SampleValue *v = find(s, t->name);
		if (!v) {
			VEC_PUSH(s->arena, &s->value, ((SampleValue){ t->name, t, NEWN(s->arena, u8, t->bytes + 1) }));
			v = &s->value.v[s->value.n - 1];
		}
		TRY(executor_read(x, t, v->data));
	}
	return OK;
}

/* The loop's variable is the one input of a turn that neither draws, values nor files give; NULL: the turns do not ask. */
static Status loop_variable(Sampler *s, const PackageEntry *e, const PackageTensor *over, const char **out)
{
	const PackageTensor *open[2] = { 0 };
	u32 n = 0;
	for (u32 i = 0; i < e->ninput; i++) {
		const PackageTensor *t = &e->input[i];
		bool known = !strcmp(t->name, "seed") || !strcmp(t->name, "step") || find(s, t->name) ||
			     (s->config->input && safetensors_find(s->config->input, t->name));
		bool element = t->dtype == over->dtype && t->rank + 1u == over->rank;
		if (!known && n < COUNT(open))
			open[element ? 0 : 1] = t, n++;
	}
	*out = n == 1 && open[0] ? open[0]->name : NULL;
	const PackageTensor *missing = open[1] ? open[1] : n > 1 ? open[0] : NULL;
	const void *none;
	return missing ? input_given(s->arena, s->config->input, missing, "the sampler", &none) : OK;
}

Status sample_run(Arena *a, const SampleConfig *c, SampleValue **out, u32 *n)
{
	Sampler s = { .arena = a, .config = c };
	const Package *p = c->executor->package;
	const PackageEntry *first = package_entry(p, "sample"), *step = package_entry(p, "sample_step"),
			   *end = package_entry(p, "sample_end");
	const PackageEntry *last = end ? end : first;
	assert(first);
	TRY(run_entry(&s, first, 0, NULL, NULL));
	const SampleValue *over = step ? find(&s, "over") : NULL;
	u64 turns = over ? (u64)over->type->dim[0] : 0;
	const char *variable = NULL;
	if (turns)
		TRY(loop_variable(&s, step, over->type, &variable));
	for (u64 turn = 0; turn < turns && !signals_requested(); turn++) {
		const u8 *element = (const u8 *)over->data + over->type->bytes / turns * turn;
		TRY(run_entry(&s, step, (i64)turn + 1, variable, element));
		if (c->on_turn)
			c->on_turn(turn + 1, turns);
	}
	if (end)
		TRY(run_entry(&s, end, (i64)turns + 1, NULL, NULL));
	*n = 0;
	*out = NEWN(a, SampleValue, last->nresult + 1);
	for (u32 i = 0; i < last->nresult; i++)
		if (!strcmp(last->result[i].name, "png") || !strcmp(last->result[i].name, "safetensors"))
			(*out)[(*n)++] = *find(&s, last->result[i].name);
	return OK;
}
