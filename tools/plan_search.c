/* tools/plan_search.c: see plan_search.h. */
#include "tools/plan_search.h"
#include "support/clock.h"
#include "tools/cluster_report.h"
#include "tools/mesh.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* What devices that have other tokens divide: each with what comes before it. */
enum { DIVIDES = 4 };
static const char *const divides[DIVIDES] = { "nothing", "optimizer_state", "gradients", "parameters" };
/* A bound's plan is of one device along data: of several, the pass partition may find another division of some values, and did so that a
 * step took 1.5% less, and, with experts beside divided texts, held 6% less. */
static const f64 SLACK = 0.98, MEMORY_SLACK = 0.93;
/* Whether devices that have the same tokens divide these too, where no feature is divided: bits of Search.sequence. */
enum { SEQUENCE_WHOLE = 1, SEQUENCE_DIVIDED = 2 };

typedef struct Choice {
	u32 tensor, expert, context, pipe, data, chunks, micro, micros, divide;
	bool sequence;   /* by a rule of this search */
	Recompute recompute;
	f64 bound;       /* seconds: not less */
	u64 least;       /* bytes: not less */
	bool planned;
	f64 seconds;
	u64 memory;
	f64 mfu;
} Choice;

/* What a plan is for: a bound has no sums of gradients beside its micro-batches. */
typedef enum PlanFor { FOR_BOUND, FOR_STEP } PlanFor;

typedef struct Search {
	Arena *arena;
	const ClusterOptions *o;
	const Machine *machine;
	ClusterModel model;
	DriverPrepared prepared;
	i64 devices, batch;
	u64 room;
	u32 layers;
	/* what the options leave to choose from */
	u32 tensor, expert, context, pipe, data, chunks; /* 0: any */
	Str texts;                      /* the mesh axis of `context`; empty: no rule divides texts */
	Str experts;                    /* that of `expert`: who has other sequences divides something else too; empty: there is none */
	u32 recompute;                  /* bits by Recompute */
	u32 divide;                     /* how many of `divides` */
	u32 sequence;                   /* bits */
	VEC(Choice) choice;     /* that may fit */
	u32 considered, too_large, undivided, divided, above, planned; /* `divided`: bases of bounds that were planned */
	Choice first;           /* that does not divide, if `undivided`: why, it tells where nothing does */
	PlanFor first_for;
	f64 cut;                /* what was not planned takes at least as long; 0: all was */
} Search;

/* "data=2,context=4,expert=2,tensor=8" */
static const char *mesh_text(const Search *s, Arena *a, const Choice *c)
{
	const char *texts = s->texts.n ? arena_printf(a, ",%.*s=%u", STR_ARG(s->texts), c->context) : "";
	const char *experts = s->experts.n ? arena_printf(a, ",%.*s=%u", STR_ARG(s->experts), c->expert) : "";
	return arena_printf(a, "data=%u%s%s,tensor=%u", c->data, texts, experts, c->tensor);
}

/* Devices that have other tokens. */
static u32 apart(const Choice *c)
{
	return c->data * c->context * c->expert;
}

/* The rules of --shard: those that are given, then what devices that have other tokens divide, for each axis of such ("optimizer_state=data"), and
 * what those of the same tokens do ("sequence=tensor"). */
static TextList rules_of(const Search *s, Arena *a, const Choice *c)
{
	const TextList *given = s->o->shard;
	const char **rule = NEWN(a, const char *, given->n + 4);
	int n = 0;
	for (int i = 0; i < given->n; i++)
		rule[n++] = given->v[i];
	if (c->divide && c->data > 1)
		rule[n++] = arena_printf(a, "%s=data", divides[c->divide]);
	if (c->divide && c->context > 1)
		rule[n++] = arena_printf(a, "%s=%.*s", divides[c->divide], STR_ARG(s->texts));
	if (c->divide && c->expert > 1)
		rule[n++] = arena_printf(a, "%s=%.*s", divides[c->divide], STR_ARG(s->experts));
	if (c->sequence)
		rule[n++] = "sequence=tensor";
	return (TextList){ .v = rule, .n = n };
}

static Status plan_choice(Search *s, Arena *a, const Choice *which, PlanFor use, ClusterPlanned *p)
{
	TextList shard = rules_of(s, a, which);
	ClusterCase c = { .mesh = mesh_text(s, a, which), .shard = &shard, .data = which->data * which->expert, .micro = which->micro,
			  .accumulate = use == FOR_BOUND || which->micros > 1, .late_sums = use == FOR_BOUND,
			  .sizes = s->o->sizes, .precision = s->o->precision ? s->o->precision : s->model.lm.model->precision,
			  .recompute = RECOMPUTE_NONE, .habits = s->o->habits, .prepared = &s->prepared };
	return cluster_plan(a, &s->model, s->machine, &c, p);
}

/* NULL: it does not divide so. */
static ClusterWork *planned(Search *s, Arena *a, const Choice *which, PlanFor use, ClusterPlanned *p)
{
	Diag *d = &s->model.lm.source.diag, before = *d;
	if (!plan_choice(s, a, which, use, p))
		return p->work;
	*d = before; /* what does not divide is no mistake here */
	if (d->last)
		d->last->next = NULL;
	if (!s->undivided++) {
		s->first = *which;
		s->first_for = use;
	}
	return NULL;
}

static ClusterShape shape_of(const Search *s, const Choice *c)
{
	return (ClusterShape){ .pipe = c->pipe, .chunks = c->chunks, .schedule = c->chunks > 1 ? PIPE_INTERLEAVED : PIPE_1F1B,
			       .micros = c->micros, .layers = s->layers, .recompute = c->recompute, .copies = c->tensor };
}

/* Bytes of a step that no division of this kind goes below. What follows from parameters alone, such as rounded ones, is not kept from one half to the
 * other where devices divide them; a single micro-batch's gradients are summed at once, and whoever divides states holds its part of the sums. */
static u64 least_memory(const ClusterStep *t, const Choice *c)
{
	u64 most = 0;
	for (u32 i = 0; i < c->pipe; i++) {
		const StageStep *x = &t->stage[i];
		u64 bytes = x->kept + x->bytes.other, d = apart(c);
		bytes -= c->divide >= 3 ? x->same : 0;
		bytes += x->bytes.parameters / (c->divide >= 3 ? d : 1) + x->bytes.gradients / (c->divide + (c->micros == 1) >= 2 ? d : 1) +
			 x->bytes.optimizer / (c->divide >= 1 ? d : 1);
		most = MAX(most, bytes);
	}
	return most;
}

/* Whether each parameter has a dimension that divides over so many. */
static bool all_divide(const Program *p, i64 devices)
{
	for (u32 i = 0; i < p->buffer.n; i++) {
		const Buffer *b = &p->buffer.v[i];
		bool divides_so = b->kind != BUFFER_PARAMETER;
		for (u32 d = 0; d < b->type->rank && !divides_so; d++)
			divides_so = type_extent(b->type, d) % devices == 0;
		if (!divides_so)
			return false;
	}
	return true;
}

/* Seconds of messages that bring so many bytes along data and along whichever of context and expert divide them too. What is along data is whole, or one of
 * the others has it whole and data its parts: which comes first is for each value to say. */
static f64 least_message(const Search *s, Op op, f64 bytes, const Choice *c)
{
	const i64 along_expert = c->tensor, along_context = along_expert * c->expert, along_data = along_context * c->context;
	f64 least = predict_collective(s->machine, op, bytes, c->data, along_data);
	f64 parts = predict_collective(s->machine, op, bytes / ((f64)c->context * c->expert), c->data, along_data);
	if (c->context > 1)
		least = MIN(least, parts + predict_collective(s->machine, op, bytes, c->context, along_context));
	if (c->expert > 1)
		least = MIN(least, parts + predict_collective(s->machine, op, bytes, c->expert, along_expert));
	return least;
}

/* Of parameters, those that the smallest layer has. */
static u64 of_a_layer(const ClusterWork *w)
{
	u64 least = w->first->layers ? w->persistent[1].parameters : 0;
	for (u32 u = 2; u <= w->first->layers; u++)
		least = MIN(least, w->persistent[u].parameters);
	return least;
}

/* Seconds of a step that messages of divided gradients and parameters are on their way, which are one behind the other: those of
 * each micro-batch are summed in parts, as they are stored or in 16 bits, these are gathered for it, and what layers have of them again for its
 * backward half, which an embedding is not needed by; in 16 bits where products have them so. */
static f64 least_messages(const Search *s, const ClusterWork *w, const ClusterStep *t, const Choice *c)
{
	const char *precision = s->o->precision ? s->o->precision : s->model.lm.model->precision;
	f64 share = strcmp(precision, "f32") ? 0.5 : 1, summed = s->o->habits.masters ? 0.5 : 1, most = 0;
	for (u32 i = 0; i < c->pipe && c->divide >= 2; i++) {
		const StageStep *x = &t->stage[i];
		f64 each = least_message(s, OP_reduce_scatter, summed * (f64)x->bytes.gradients, c);
		if (c->divide >= 3)
			each += least_message(s, OP_all_gather, share * (f64)x->bytes.parameters, c) +
				least_message(s, OP_all_gather, share * x->layers * (f64)of_a_layer(w), c);
		most = MAX(most, each * c->micros);
	}
	return most;
}

/* Seconds at most that whoever divides parameters spares of a step, as it rounds only its part of them: read in 32 bits and written in 16, at
 * half the memory's bandwidth. */
static f64 rounding(const Search *s, const ClusterStep *t, const Choice *c)
{
	f64 most = 0;
	for (u32 i = 0; i < c->pipe && c->divide >= 3; i++)
		most = MAX(most, (f64)t->stage[i].bytes.parameters);
	return c->micros * 2 * 1.5 * most / s->machine->bandwidth;
}

/* Adds c with each division of states, gradients and parameters that may fit. `even`: all that data can divide, it divides. */
static void consider_divided(Search *s, const ClusterWork *w, Choice c, bool even)
{
	Arena tmp = ARENA("bound");
	ClusterShape shape = shape_of(s, &c);
	ClusterWork adding = *w;
	adding.more = NULL; /* who divides gradients adds up its part of them alone */
	ClusterStep whole = cluster_step(&tmp, s->machine, w, &shape), part = cluster_step(&tmp, s->machine, &adding, &shape);
	for (c.divide = 0; c.divide < (apart(&c) > 1 ? s->divide : 1u); c.divide++) {
		const ClusterStep *t = c.divide >= 2 ? &part : &whole;
		s->considered++;
		c.bound = MAX(t->pipeline - rounding(s, t, &c), even ? least_messages(s, w, t, &c) : 0);
		c.least = least_memory(t, &c);
		if (MEMORY_SLACK * (f64)c.least > (f64)s->room)
			s->too_large++;
		else
			VEC_PUSH(s->arena, &s->choice, c);
	}
	arena_free(&tmp);
}

/* Whether one of them may fit. */
static bool consider(Search *s, const ClusterWork *w, Choice c, bool even)
{
	u32 before = s->choice.n;
	const u32 chunks[] = { 1, 2, 4 }, held[] = { c.pipe > 1 ? s->chunks : 1 };
	for (u32 k = 0; k < (s->chunks ? COUNT(held) : COUNT(chunks)); k++) {
		c.chunks = s->chunks ? held[k] : chunks[k];
		if (c.pipe * c.chunks <= s->layers && (c.chunks == 1 || (c.pipe > 1 && c.micros % c.pipe == 0)))
			consider_divided(s, w, c, even);
	}
	return s->choice.n > before;
}

/* All that have so many devices along tensor, expert and context, divide the sequence or not, and have so many sequences in a micro-batch; whether one of them may fit. */
static bool consider_all(Search *s, Choice base)
{
	bool fits = false;
	Arena a = ARENA("search");
	ClusterPlanned p;
	base.data = 1;
	ClusterWork *w = planned(s, &a, &base, FOR_BOUND, &p);
	i64 rest = s->devices / base.tensor / base.expert / base.context;
	s->divided += w != NULL;
	if (w && !s->layers)
		s->layers = w->first->layers;
	for (u32 r = 0; w && r < RECOMPUTES; r++) {
		if (!(s->recompute >> r & 1))
			continue;
		if (r)
			w = cluster_work(&a, p.compiled.plan, (Recompute)r, p.work->bucket);
		for (u32 pipe = 1; pipe <= rest && (pipe == 1 || pipe <= s->layers); pipe++) {
			u32 data = (u32)(rest / pipe);
			i64 each = (i64)base.micro * data * base.expert;
			if ((i64)pipe * data != rest || s->batch % each)
				continue;
			if ((s->pipe && s->pipe != pipe) || (s->data && s->data != data))
				continue;
			i64 micros = s->batch / each;
			Choice c = base;
			c.pipe = pipe;
			c.data = data;
			c.micros = (u32)micros;
			c.recompute = (Recompute)r;
			if (micros > 1 << 16)
				fits = true; /* as far as can be told: so many are not considered, fewer that are larger may be */
			else
				fits |= consider(s, w, c, all_divide(p.compiled.program, data));
		}
	}
	arena_free(&a);
	return fits;
}

/* All micro-batches that divide the batch. Where none of a size may fit, none of a multiple of it may: it has fewer devices along data to
 * choose from, and as many sequences in flight or more. */
static void consider_micros(Search *s, Choice base)
{
	VEC(u32) without = { 0 };
	i64 least = s->o->micro ? s->o->micro : 1, most = s->o->micro ? s->o->micro : s->batch;
	for (i64 micro = least; micro <= most; micro++) {
		bool may = s->batch % micro == 0;
		for (u32 i = 0; may && i < without.n; i++)
			may = micro % without.v[i] != 0;
		base.micro = (u32)micro;
		if (may && !consider_all(s, base))
			VEC_PUSH(s->arena, &without, (u32)micro);
	}
}

static void price(Search *s, Arena *a, const ClusterPlanned *p, const ClusterWork *w, Choice *c)
{
	ClusterShape shape = shape_of(s, c);
	ClusterStep t = cluster_step(a, s->machine, w, &shape);
	ClusterReport r = { .arena = a, .lm = &s->model.lm, .machine = s->machine, .planned = p, .step = &t, .precision =
			    s->o->precision ? s->o->precision : s->model.lm.model->precision };
	c->seconds = t.seconds;
	c->memory = t.memory;
	c->mfu = cluster_numbers(&r).mfu;
}

static bool same_plan(const Choice *a, const Choice *b)
{
	return a->data == b->data && a->expert == b->expert && a->context == b->context && a->tensor == b->tensor && a->micro == b->micro && a->divide == b->divide &&
	       a->sequence == b->sequence;
}

/* Plans choice `at`, and with it all that have the same plan: they differ in chunks and in what is computed again. */
static void plan_choices(Search *s, u32 at)
{
	Arena a = ARENA("search");
	ClusterPlanned p;
	const Choice *first = &s->choice.v[at];
	ClusterWork *w[RECOMPUTES] = { NULL };
	bool divides_so = planned(s, &a, first, FOR_STEP, &p) != NULL;
	for (u32 i = at; i < s->choice.n; i++) {
		Choice *c = &s->choice.v[i];
		if (!same_plan(c, first))
			continue;
		s->planned++;
		c->planned = true;
		c->seconds = -1;
		if (!divides_so)
			continue;
		if (!w[c->recompute])
			w[c->recompute] = c->recompute ? cluster_work(&a, p.compiled.plan, c->recompute, p.work->bucket) : p.work;
		price(s, &a, &p, w[c->recompute], c);
	}
	arena_free(&a);
}

/* What divides as little as it can, of what takes as long. */
static int by_divided(const Choice *x, const Choice *y)
{
	return (int)x->divide - (int)y->divide ?: x->sequence - y->sequence;
}

static int by_bound(const void *a, const void *b)
{
	const Choice *x = a, *y = b;
	return (x->bound > y->bound) - (x->bound < y->bound) ?: by_divided(x, y);
}

static int by_seconds(const void *a, const void *b)
{
	const Choice *x = a, *y = b;
	return (x->seconds > y->seconds) - (x->seconds < y->seconds) ?: by_divided(x, y);
}

/* From and to which sizes of an axis: those that are held, else as many as there are devices, or 1 where there is no such axis. */
typedef struct Sizes {
	u32 least, most;
} Sizes;

static Sizes sizes_of(u32 held, bool any, i64 devices)
{
	return (Sizes){ held ? held : 1, held ? held : any ? (u32)devices : 1 };
}

/* All that have so many devices along tensor, of the `rest` that there are for each. */
static void consider_tensor(Search *s, u32 tensor, i64 rest)
{
	Sizes experts = sizes_of(s->expert, s->experts.n, rest), texts = sizes_of(s->context, s->texts.n, rest);
	for (u32 expert = experts.least; expert <= experts.most; expert++)
		for (u32 context = texts.least; context <= texts.most; context++)
			for (u32 divided = SEQUENCE_WHOLE; divided <= SEQUENCE_DIVIDED; divided <<= 1)
				if (rest % ((i64)expert * context) == 0 && (tensor > 1 ? s->sequence & divided : divided == SEQUENCE_WHOLE))
					consider_micros(s, (Choice){ .tensor = tensor, .expert = expert, .context = context,
								     .sequence = divided == SEQUENCE_DIVIDED });
}

/* Those that fit come first in s->choice, fastest first; how many. */
static u32 search(Search *s, bool all)
{
	u32 limit = (u32)MIN(s->devices, MAX(s->machine->domain, 1) * 2);
	Sizes tensors = sizes_of(s->tensor, true, limit);
	for (u32 tensor = tensors.least; tensor <= tensors.most; tensor++)
		if (s->devices % tensor == 0)
			consider_tensor(s, tensor, s->devices / tensor);
	if (!s->choice.n)
		return 0;
	qsort(s->choice.v, s->choice.n, sizeof *s->choice.v, by_bound);
	Choice *fits = NEWN(s->arena, Choice, s->choice.n);
	u32 n = 0;
	for (u32 i = 0; i < s->choice.n; i++) {
		Choice *c = &s->choice.v[i];
		if (!all && !c->planned && n >= SEARCH_TOLD && SLACK * c->bound >= fits[SEARCH_TOLD - 1].seconds) {
			s->cut = s->cut > 0 ? s->cut : SLACK * c->bound;
			s->above++;
			continue;
		}
		if (!c->planned)
			plan_choices(s, i);
		if (c->seconds >= 0 && c->memory > s->room)
			s->too_large++;
		else if (c->seconds >= 0) {
			fits[n++] = *c;
			qsort(fits, n, sizeof *fits, by_seconds);
		}
	}
	s->choice.v = fits;
	s->choice.n = n;
	return n;
}

static const char *choice_text(const Search *s, Arena *a, const Choice *c)
{
	Buf b = { .arena = a };
	buf_printf(&b, "--mesh %s,pipe=%u --micro %u --recompute %s", mesh_text(s, a, c), c->pipe, c->micro, recompute_name[c->recompute]);
	if (c->chunks > 1)
		buf_printf(&b, " --schedule interleaved:%u", c->chunks);
	const TextList shard = rules_of(s, a, c);
	for (int i = 0; i < shard.n; i++)
		buf_printf(&b, " --shard %s", shard.v[i]);
	return b.text;
}

/* What another tensor, pipe, ... would have cost at best: as planned, or by the bound of what was not. */
static void print_reasons(const Search *s, u32 n)
{
	static const char *const what[] = { "tensor", "expert", "context", "pipe", "micro-batch", "recompute", "divided", "sequence", "chunks" };
	const Choice *best = &s->choice.v[0];
	for (u32 k = 0; k < COUNT(what); k++) {
		if ((!strcmp(what[k], "context") && !s->texts.n) || (!strcmp(what[k], "expert") && !s->experts.n))
			continue;
		for (u32 i = 1; i <= n; i++) {
			if (i == n || (s->cut > 0 && s->choice.v[i].seconds > s->cut)) {
				if (s->cut > 0)
					printf("another %-12s takes at least %.1f%% more (by its bound)\n", what[k], 100 * (s->cut / best->seconds - 1));
				break;
			}
			const Choice *c = &s->choice.v[i];
			u32 is[] = { c->tensor, c->expert, c->context, c->pipe, c->micro, c->recompute, c->divide, c->sequence, c->chunks };
			u32 was[] = { best->tensor, best->expert, best->context, best->pipe, best->micro, best->recompute, best->divide, best->sequence, best->chunks };
			if (is[k] == was[k])
				continue;
			printf("another %-12s takes %.1f%% more (%s)\n", what[k], 100 * (c->seconds / best->seconds - 1),
			       choice_text(s, s->arena, c));
			break;
		}
	}
}

static void print_found(const Search *s, u32 n, bool all, f64 took)
{
	printf("%u divisions of %lld devices considered: %u do not fit, by a bound or as planned; %u take longer than the last one here by a "
	       "bound; %u were planned, in %.1f s\n", s->considered, (long long)s->devices, s->too_large, s->above, s->planned, took);
	printf("the bounds: time without messages over the batch's devices and without the update, or of those messages alone that divided gradients and "
	       "parameters are; bytes of parameters and states divided as "
	       "they can be, and of what micro-batches in flight keep\n\n");
	printf("%10s %7s %11s  %s\n", "step", "MFU", "memory", "as");
	for (u32 i = 0; i < (all ? n : MIN(n, (u32)SEARCH_TOLD)); i++) {
		const Choice *c = &s->choice.v[i];
		printf("%8.4g s %6.1f%% %11s  %s\n", c->seconds, 100 * c->mfu, lm_bytes(s->arena, c->memory), choice_text(s, s->arena, c));
	}
	printf("\n");
	print_reasons(s, n);
}

static void print_json(const Search *s, u32 n, bool all)
{
	json_t *plans = json_array();
	for (u32 i = 0; i < (all ? n : MIN(n, (u32)SEARCH_TOLD)); i++) {
		const Choice *c = &s->choice.v[i];
		json_array_append_new(plans, json_pack("{s:f, s:f, s:I, s:f, s:I, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:s, s:b}", "step_seconds", c->seconds, "mfu", c->mfu,
						       "memory_bytes", (json_int_t)c->memory, "least_seconds", c->bound, "least_bytes", (json_int_t)c->least, "data", (int)c->data, "context", (int)c->context, "expert", (int)c->expert,
						       "tensor", (int)c->tensor, "pipe", (int)c->pipe, "micro", (int)c->micro, "chunks", (int)c->chunks, "recompute",
						       recompute_name[c->recompute], "divided", divides[c->divide], "sequence", c->sequence));
	}
	json_t *root = json_pack("{s:I, s:i, s:i, s:i, s:i, s:o}", "devices", (json_int_t)s->devices, "considered", (int)s->considered, "too_large",
				 (int)s->too_large, "above_bound", (int)s->above, "planned", (int)s->planned, "plans", plans);
	json_dumpf(root, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(12));
	putchar('\n');
	json_decref(root);
}

/* ---- what the options hold ---- */

/* "auto,tensor=8,pipe=1" */
static Status read_axes(Search *s)
{
	Str name;
	i64 size;
	for (const char *at = s->o->mesh + strlen("auto") + (s->o->mesh[strlen("auto")] == ','); *at;) {
		TRY(mesh_axis(s->o->mesh, &at, &name, &size));
		u32 *to = str_equal(name, STR("data"))	 ? &s->data :
			  str_equal(name, STR("tensor")) ? &s->tensor :
			  str_equal(name, STR("pipe"))	 ? &s->pipe :
			  str_equal(name, s->texts)	 ? &s->context :
			  str_equal(name, s->experts)	 ? &s->expert :
							   NULL;
		if (!to)
			return FAIL(STATUS_INPUT, "--mesh auto divides over data, tensor and pipe, over the axis that texts go to (--shard T=context) and that "
						  "of experts (B -> (data, expert), Experts.E -> expert), not over %.*s", STR_ARG(name));
		*to = (u32)size;
	}
	return OK;
}

/* Whether a line of the shard block, or of --shard, divides something but batches over the mesh axis. */
static bool divides_more(const Search *s, Str mesh)
{
	const Lm *lm = &s->model.lm;
	for (u32 k = 0; k < lm->model->shard.n; k++) {
		const char *axis = lm->model->shard.v[k].axis;
		Str over;
		for (u32 i = 0; strcmp(axis, "B") && (over = mesh_over(lm, s->o->shard, axis, i)).n; i++)
			if (str_equal(over, mesh))
				return true;
	}
	return false;
}

/* The mesh axis that experts go to: one whose devices have other sequences, and divide something else too. */
static Str experts_axis(const Search *s)
{
	Str over;
	for (u32 i = 0; (over = mesh_over(&s->model.lm, s->o->shard, "B", i)).n; i++)
		if (!str_equal(over, STR("data")) && divides_more(s, over))
			return over;
	return (Str){ 0 };
}

/* "none,whole" */
static Status read_recompute(Search *s)
{
	Recompute one;
	for (const char *at = s->o->recompute; at && *at;) {
		size_t n = strcspn(at, ",");
		TRY(cluster_recompute(arena_strn(s->arena, (Str){ at, n }), &one));
		s->recompute |= 1u << one;
		at += n + (at[n] == ',');
	}
	/* what computes whole layers again takes longer than what computes what is needed, and holds as much */
	s->recompute = s->recompute ? s->recompute : 1u << RECOMPUTE_NONE | 1u << RECOMPUTE_NEEDED;
	return OK;
}

/* "gradients,sequence": what may be divided at most, over data (else nothing) and over tensor (else what features are of alone). */
static Status read_divided(Search *s)
{
	const char *at = s->o->divided;
	s->divide = at ? 1 : DIVIDES;
	s->sequence = at ? SEQUENCE_WHOLE : SEQUENCE_WHOLE | SEQUENCE_DIVIDED;
	for (size_t n; at && *at; at += n + (at[n] == ',')) {
		n = strcspn(at, ",");
		u32 i = 0;
		while (i < DIVIDES && !str_equal((Str){ at, n }, str_of(divides[i])))
			i++;
		if (i < DIVIDES)
			s->divide = MAX(s->divide, i + 1);
		else if (str_equal((Str){ at, n }, STR("sequence")))
			s->sequence |= SEQUENCE_DIVIDED;
		else
			return FAIL(STATUS_INPUT, "--divided is nothing, optimizer_state, gradients (these too) or parameters (too), and sequence "
						  "(optimizer_state,sequence), not %s", s->o->divided);
	}
	const Setting *always = model_setting(s->model.lm.model, "shard.sequence");
	if ((always && !strcmp(always->text, "true")) || mesh_over(&s->model.lm, s->o->shard, "sequence", 0).n)
		s->sequence = SEQUENCE_WHOLE; /* by this search: a rule that is given divides it */
	return OK;
}

/* Axes that divide texts, or batches beside data, are not those that this search has something else on. */
static Status check_own(Str axis, const char *what)
{
	static const char *const taken[] = { "data", "tensor", "pipe" };
	for (u32 i = 0; i < COUNT(taken); i++)
		if (str_equal(axis, str_of(taken[i])))
			return FAIL(STATUS_INPUT, "--mesh auto divides %s over an axis of their own, not over %s", what, taken[i]);
	return OK;
}

static Status read_held(Search *s)
{
	const ClusterOptions *o = s->o;
	s->texts = mesh_over(&s->model.lm, o->shard, "T", 0);
	s->experts = experts_axis(s);
	TRY(check_own(s->texts, "texts (--shard T=context)"));
	TRY(check_own(s->experts, "experts (B -> (data, expert), Experts.E -> expert)"));
	TRY(read_axes(s));
	TRY(read_recompute(s));
	PipeKind kind = PIPE_1F1B;
	s->chunks = o->schedule ? 1 : 0;
	if (o->schedule && (!pipe_kind_read(o->schedule, &kind, &s->chunks) || kind == PIPE_GPIPE))
		return FAIL(STATUS_INPUT, "--schedule is 1f1b, or interleaved:2 with 2 chunks for each stage, with --mesh auto, not %s", o->schedule);
	return read_divided(s);
}

/* Why there is nothing to tell of. */
static Status nothing_found(Search *s)
{
	Arena a = ARENA("search");
	ClusterPlanned p;
	Status why = OK;
	if (s->undivided && !s->too_large && (s->considered || !s->divided))
		why = plan_choice(s, &a, &s->first, s->first_for, &p);
	arena_free(&a);
	if (why)
		return why;
	return FAIL(STATUS_CONTRACT, "none of %u divisions fits into %s%s", s->considered, lm_bytes(s->arena, s->room),
		    s->considered ? "" : ": --batch must be a multiple of the devices along data, and sizes must divide over tensor");
}

int plan_search(const ClusterOptions *o, const Machine *machine, i64 devices, bool all)
{
	f64 begun = clock_seconds();
	Arena a = ARENA("search");
	Search s = { .arena = &a, .o = o, .machine = machine, .devices = devices, .batch = o->batch,
		     .room = (u64)(machine->memory - machine->reserved) };
	Status status = cluster_open(o->path, o->source, &s.model);
	if (!status && !s.model.lm.model->has_train)
		status = FAIL(STATUS_INPUT, "%s has no train block, which says what a step is", o->path);
	if (!status)
		status = read_held(&s);
	s.layers = s.model.layers;
	if (!status) {
		u32 n = search(&s, all);
		f64 took = clock_seconds() - begun;
		if (!n)
			status = nothing_found(&s);
		else if (o->json)
			print_json(&s, n, all);
		else
			print_found(&s, n, all, took);
	}
	int code = status ? lm_failed("plan", &s.model.lm, status) : 0;
	driver_prepared_free(&s.prepared);
	lm_close(&s.model.lm);
	arena_free(&a);
	return code;
}
