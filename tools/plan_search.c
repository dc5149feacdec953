/* tools/plan_search.c: see plan_search.h. */
#include "tools/plan_search.h"
#include "support/clock.h"
#include "tools/cluster_report.h"
#include "tools/plan_bounds.h"
#include "tools/plan_space.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A bound's plan is of one device along data: of several, the pass partition may find another division of some values, and did so that a
 * step took 1.5% less, and, with experts beside divided texts, held 6% less. */
static const f64 SLACK = 0.98, MEMORY_SLACK = 0.93;

/* What a plan is for: bounds are of micro-batches without sums of gradients. */
typedef enum PlanFor { FOR_BOUND, FOR_STEP } PlanFor;

typedef struct Search {
	Arena *arena;
	const ClusterOptions *o;
	const Machine *machine;
	ClusterModel model;
	DriverPrepared prepared;
	const char *precision;
	i64 devices, batch;
	u64 room;
	u32 layers;
	Space of;
	VEC(Choice) choice;     /* that may fit */
	VEC(Choice) uneven;     /* of which some axis does not divide */
	u32 considered, too_large, undivided, divided, above, planned; /* `divided`: bases of bounds that were planned */
	Choice first;           /* that does not divide, if `undivided`: why, it tells where nothing does */
	PlanFor first_for;
	f64 cut;                /* what was not planned takes at least as long; 0: all was */
	u64 smallest;           /* bytes that the smallest one holds, or at least */
	f64 begun, shown;       /* when progress was shown; 0: not yet */
} Search;

/* "data=2,context=4,expert=2,tensor=8" */
static const char *mesh_text(const Search *s, Arena *a, const Choice *c)
{
	const char *texts = s->of.texts.n ? arena_printf(a, ",%.*s=%u", STR_ARG(s->of.texts), c->context) : "";
	const char *experts = s->of.experts.n ? arena_printf(a, ",%.*s=%u", STR_ARG(s->of.experts), c->expert) : "";
	return arena_printf(a, "data=%u%s%s,tensor=%u", c->data, texts, experts, c->tensor);
}

/* The rules of --shard: those that are given, then what devices that have other tokens divide, for each axis of such ("optimizer_state=data"), and
 * what attention does over those of other texts' parts ("attention_heads=context") and devices of the same tokens do ("sequence=tensor"). */
static TextList rules_of(const Search *s, Arena *a, const Choice *c)
{
	const TextList *given = s->o->shard;
	const char **rule = NEWN(a, const char *, given->n + 5);
	int n = 0;
	for (int i = 0; i < given->n; i++)
		rule[n++] = given->v[i];
	if (c->divide && c->data > 1)
		rule[n++] = arena_printf(a, "%s=data", divided_name[c->divide]);
	if (c->divide && c->context > 1)
		rule[n++] = arena_printf(a, "%s=%.*s", divided_name[c->divide], STR_ARG(s->of.texts));
	if (c->divide && c->expert > 1)
		rule[n++] = arena_printf(a, "%s=%.*s", divided_name[c->divide], STR_ARG(s->of.experts));
	if (c->heads)
		rule[n++] = arena_printf(a, "attention_heads=%.*s", STR_ARG(s->of.texts));
	if (c->sequence)
		rule[n++] = "sequence=tensor";
	return (TextList){ .v = rule, .n = n };
}

static Status plan_choice(Search *s, Arena *a, const Choice *which, PlanFor use, ClusterPlanned *p)
{
	TextList shard = rules_of(s, a, which);
	ClusterCase c = { .mesh = mesh_text(s, a, which), .shard = &shard, .data = which->data * which->expert, .micro = which->micro,
			  .accumulate = use == FOR_BOUND || which->micros > 1, .late_sums = use == FOR_BOUND, .no_update = use == FOR_BOUND,
			  .sizes = s->o->sizes, .precision = s->precision,
			  .recompute = RECOMPUTE_NONE, .habits = s->o->habits, .prepared = &s->prepared };
	return cluster_plan(a, &s->model, s->machine, &c, p);
}

/* NULL: it does not divide so. */
static ClusterWork *planned(Search *s, Arena *a, const Choice *which, PlanFor use, ClusterPlanned *p)
{
	Diag *d = &s->model.lm.source.diag, before = *d;
	if (!plan_choice(s, a, which, use, p)) {
		s->layers = s->layers ? s->layers : p->work->first->layers;
		return p->work;
	}
	bool axis = false;
	for (const Message *m = before.last ? before.last->next : d->first; m; m = m->next)
		axis |= m->severity == SEV_ERROR && m->code == E0725;
	if (axis && use == FOR_BOUND)
		VEC_PUSH(s->arena, &s->uneven, *which);
	*d = before; /* what does not divide is no mistake here */
	if (d->last)
		d->last->next = NULL;
	if (!s->undivided++) {
		s->first = *which;
		s->first_for = use;
	}
	return NULL;
}

/* What devices that have other tokens may divide. */
static u32 divides_of(const Search *s, const Choice *c)
{
	return choice_apart(c) > 1 ? s->of.divide : 1;
}

/* Adds c with each division of states, gradients and parameters that may fit. */
static void consider_divided(Search *s, const Bounds *b, Choice c)
{
	Arena tmp = ARENA("bound");
	ClusterShape shape = choice_shape(&c, s->layers);
	ClusterWork adding = *b->work;
	adding.more = NULL; /* who divides gradients adds up its part of them alone */
	ClusterStep whole = cluster_shaped(&tmp, s->machine, b->work, &b->walks, &shape);
	ClusterStep part = s->of.divide > DIVIDED_GRADIENTS ? cluster_shaped(&tmp, s->machine, &adding, &b->walks, &shape) : whole;
	ClusterStep products = b->products ? cluster_shaped(&tmp, s->machine, b->products, &b->product_walks, &shape) : whole;
	const ClusterStep *least = part.pipeline < whole.pipeline ? &part : &whole;
	for (c.divide = 0; c.divide < divides_of(s, &c); c.divide++) {
		s->considered++;
		bounds_choice(b, bounds_rows_go(b, &c) ? &products : c.divide >= DIVIDED_GRADIENTS ? least : &whole, &c);
		s->smallest = MIN(s->smallest, c.least);
		if (MEMORY_SLACK * (f64)c.least > (f64)s->room)
			s->too_large++;
		else
			VEC_PUSH(s->arena, &s->choice, c);
	}
	arena_free(&tmp);
}

/* Divisions of so many devices along tensor, expert and context, that divide the sequence or not, and have so many sequences in a micro-batch: what has one
 * plan that bounds all of them. */
typedef VEC(u32) Micros;
typedef struct Base {
	Choice c;
	f64 bound;  /* seconds: not less, before anything is planned */
	u32 order;
	Micros *without; /* those of which none may fit, of bases that differ in that alone */
} Base;

typedef VEC(Choice) Shapes;

/* How devices and micro-batches of the base may be pipelines; true if some have too many micro-batches to be considered. */
static bool find_shapes(const Search *s, Arena *a, Choice c, Shapes *out)
{
	i64 rest = s->devices / c.tensor / c.expert / c.context;
	bool too_many = false;
	for (c.pipe = 1; c.pipe <= rest && (c.pipe == 1 || c.pipe <= s->layers); c.pipe++) {
		c.data = (u32)(rest / c.pipe);
		i64 each = (i64)c.micro * c.data * c.expert, micros = s->batch / each;
		if ((i64)c.pipe * c.data != rest || s->batch % each || (s->of.pipe && s->of.pipe != c.pipe) || (s->of.data && s->of.data != c.data))
			continue;
		too_many |= micros > 1 << 16;
		const u32 chunks[] = { 1, 2, 4 }, held[] = { c.pipe > 1 ? s->of.chunks : 1 };
		for (u32 k = 0; k < (s->of.chunks ? COUNT(held) : COUNT(chunks)) && micros <= 1 << 16; k++) {
			c.micros = (u32)micros;
			c.chunks = s->of.chunks ? held[k] : chunks[k];
			if (c.pipe * c.chunks <= s->layers && (c.chunks == 1 || (c.pipe > 1 && c.micros % c.pipe == 0)))
				VEC_PUSH(a, out, c);
		}
	}
	return too_many;
}

/* Plans the base; whether one of its divisions may fit. Of what has too many micro-batches to be considered, fewer that are larger may. */
static bool consider_base(Search *s, Choice base)
{
	Arena a = ARENA("search");
	ClusterPlanned p;
	Shapes shape = { 0 };
	u32 before = s->choice.n;
	base.data = 1;
	ClusterWork *w = planned(s, &a, &base, FOR_BOUND, &p);
	s->divided += w != NULL;
	bool too_many = w && find_shapes(s, &a, base, &shape);
	for (u32 r = 0; w && r < RECOMPUTES; r++) {
		if (!(s->of.recompute >> r & 1))
			continue;
		if (r)
			w = cluster_again(&a, p.work, (Recompute)r);
		const Bounds b = bounds_of(&a, s->machine, &p, w, s->layers, s->of.experts, s->precision, s->o->habits.masters);
		for (u32 i = 0; i < shape.n; i++) {
			shape.v[i].recompute = (Recompute)r;
			consider_divided(s, &b, shape.v[i]);
		}
	}
	arena_free(&a);
	return too_many || s->choice.n > before;
}

/* Divisions of a base, before it is planned. */
static u32 divisions_of(const Search *s, const Base *b)
{
	Arena a = ARENA("shapes");
	Shapes shape = { 0 };
	u32 n = 0, recomputes = 0;
	find_shapes(s, &a, b->c, &shape);
	for (u32 i = 0; i < shape.n; i++)
		n += divides_of(s, &shape.v[i]);
	for (u32 r = 0; r < RECOMPUTES; r++)
		recomputes += s->of.recompute >> r & 1;
	arena_free(&a);
	return n * recomputes;
}

/* What does not divide over some devices does not over a multiple. Where no micro-batch of a size may fit, none of a multiple of it may: it has fewer devices along
 * data to choose from, and as many sequences in flight or more. */
static bool may_fit(const Search *s, const Base *b)
{
	for (u32 i = 0; i < s->uneven.n; i++) {
		const Choice *u = &s->uneven.v[i];
		bool multiple = b->c.tensor % u->tensor == 0 && b->c.expert % u->expert == 0 && b->c.context % u->context == 0;
		if (multiple && b->c.sequence >= u->sequence && b->c.heads >= u->heads)
			return false;
	}
	for (u32 i = 0; i < b->without->n; i++)
		if (b->c.micro % b->without->v[i] == 0)
			return false;
	return true;
}

static void price(Search *s, Arena *a, const ClusterPlanned *p, const ClusterWork *w, const ClusterWalks *walks, Choice *c)
{
	ClusterShape shape = choice_shape(c, s->layers);
	ClusterStep t = cluster_shaped(a, s->machine, w, walks, &shape);
	ClusterReport r = { .arena = a, .lm = &s->model.lm, .machine = s->machine, .planned = p, .step = &t, .precision = s->precision,
			    .tokens = s->o->tokens, .price = s->o->price };
	const ClusterNumbers v = cluster_numbers(&r);
	c->seconds = t.seconds;
	c->memory = t.memory;
	c->mfu = v.mfu;
	c->run_seconds = v.seconds;
	c->dollars = v.dollars;
	s->smallest = MIN(s->smallest, t.memory);
}

static bool same_plan(const Choice *a, const Choice *b)
{
	return a->data == b->data && a->expert == b->expert && a->context == b->context && a->tensor == b->tensor && a->micro == b->micro && a->divide == b->divide &&
	       a->sequence == b->sequence && a->heads == b->heads;
}

/* Plans choice `at`, and with it all that have the same plan: they differ in chunks and in what is computed again. */
static void plan_choices(Search *s, u32 at)
{
	Arena a = ARENA("search");
	ClusterPlanned p;
	const Choice first = s->choice.v[at];
	ClusterWork *w[RECOMPUTES] = { NULL };
	ClusterWalks walks[RECOMPUTES];
	bool divides_so = planned(s, &a, &first, FOR_STEP, &p) != NULL;
	for (u32 i = 0; i < s->choice.n; i++) {
		Choice *c = &s->choice.v[i];
		if (!same_plan(c, &first))
			continue;
		s->planned++;
		c->planned = true;
		c->seconds = -1;
		if (!divides_so)
			continue;
		if (!w[c->recompute]) {
			w[c->recompute] = c->recompute ? cluster_again(&a, p.work, c->recompute) : p.work;
			walks[c->recompute] = cluster_walks(&a, s->machine, w[c->recompute]);
		}
		price(s, &a, &p, w[c->recompute], &walks[c->recompute], c);
	}
	arena_free(&a);
}

/* What divides as little as it can, of what takes as long. */
static int by_divided(const Choice *x, const Choice *y)
{
	return (int)x->divide - (int)y->divide ?: x->sequence - y->sequence ?: x->heads - y->heads;
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

typedef VEC(Base) Bases;

/* All micro-batches that divide the batch. */
static void add_micros(Search *s, Choice c, Bases *out)
{
	i64 least = s->o->micro ? s->o->micro : 1, most = s->o->micro ? s->o->micro : s->batch;
	Micros *without = NEW(s->arena, Micros);
	for (i64 micro = least; micro <= most; micro++) {
		c.micro = (u32)micro;
		if (s->batch % micro == 0)
			VEC_PUSH(s->arena, out, ((Base){ .c = c, .order = out->n, .without = without }));
	}
}

/* Each way that rules of the search have of dividing what lies along tensor and context. */
static void add_ways(Search *s, Choice c, Bases *out)
{
	u32 sequence = c.tensor > 1 ? s->of.sequence : SEQUENCE_WHOLE, attention = c.context > 1 ? s->of.attention : ATTENTION_RING;
	for (u32 divided = SEQUENCE_WHOLE; divided <= SEQUENCE_DIVIDED; divided <<= 1)
		for (u32 by = ATTENTION_RING; by <= ATTENTION_HEADS; by <<= 1)
			if (sequence & divided && attention & by) {
				c.sequence = divided == SEQUENCE_DIVIDED;
				c.heads = by == ATTENTION_HEADS;
				add_micros(s, c, out);
			}
}

/* All that have so many devices along tensor, of the `rest` that there are for each. */
static void add_tensor(Search *s, u32 tensor, i64 rest, Bases *out)
{
	Sizes experts = sizes_of(s->of.expert, s->of.experts.n, rest), texts = sizes_of(s->of.context, s->of.texts.n, rest);
	for (u32 expert = experts.least; expert <= experts.most; expert++)
		for (u32 context = texts.least; context <= texts.most; context++)
			if (rest % ((i64)expert * context) == 0)
				add_ways(s, (Choice){ .tensor = tensor, .expert = expert, .context = context }, out);
}

/* Products of one sequence: what a second one adds to a micro-batch on one device. Nothing, where that cannot be planned. */
static Products products(Search *s)
{
	Products of[2] = { 0 };
	for (u32 i = 0; i < 2; i++) {
		Arena a = ARENA("products");
		ClusterPlanned p;
		const Choice c = { .tensor = 1, .expert = 1, .context = 1, .data = 1, .micro = i + 1 };
		ClusterWork *w = planned(s, &a, &c, FOR_BOUND, &p);
		if (w)
			of[i] = products_of(s->machine, w->first);
		arena_free(&a);
		if (!w)
			return (Products){ 0 };
	}
	return (Products){ of[1].before - of[0].before, of[1].layer - of[0].layer, of[1].behind - of[0].behind };
}

static int by_products(const void *a, const void *b)
{
	const Base *x = a, *y = b;
	return (x->bound > y->bound) - (x->bound < y->bound) ?: (x->order > y->order) - (x->order < y->order);
}

/* In order of their bounds. Where all are planned they need none. */
static Bases find_bases(Search *s, bool all)
{
	Bases out = { 0 };
	u32 limit = (u32)MIN(s->devices, MAX(s->machine->domain, 1) * 2);
	Sizes tensors = sizes_of(s->of.tensor, true, limit);
	for (u32 tensor = tensors.least; tensor <= tensors.most; tensor++)
		if (s->devices % tensor == 0)
			add_tensor(s, tensor, s->devices / tensor, &out);
	if (all || !out.n)
		return out;
	const Products one = products(s);
	for (u32 i = 0; i < out.n; i++) {
		Arena a = ARENA("shapes");
		Shapes shape = { 0 };
		Base *b = &out.v[i];
		b->bound = find_shapes(s, &a, b->c, &shape) ? 0 : 1e300;
		for (u32 k = 0; k < shape.n; k++)
			b->bound = MIN(b->bound, products_seconds(&one, &shape.v[k], s->layers));
		arena_free(&a);
	}
	qsort(out.v, out.n, sizeof *out.v, by_products);
	return out;
}

/* The division that is not planned whose bound is the least, or NONE. */
static u32 next_choice(const Search *s)
{
	u32 next = NONE;
	for (u32 i = 0; i < s->choice.n; i++)
		if (!s->choice.v[i].planned && (next == NONE || by_bound(&s->choice.v[i], &s->choice.v[next]) < 0))
			next = i;
	return next;
}

/* On a terminal, a line that is written again while a search goes on that takes more than a second. */
static void show_progress(Search *s, u32 bases, u32 of)
{
	f64 now = clock_seconds(), best = 1e300;
	if (!isatty(STDERR_FILENO) || now < (s->shown > 0 ? s->shown + 0.2 : s->begun + 1))
		return;
	s->shown = now;
	for (u32 i = 0; i < s->choice.n; i++)
		if (s->choice.v[i].planned && s->choice.v[i].seconds >= 0 && s->choice.v[i].memory <= s->room)
			best = MIN(best, s->choice.v[i].seconds);
	fprintf(stderr, "\rbounds of %u of %u kinds of division, %u divisions planned", bases, of, s->planned);
	if (best < 1e300)
		fprintf(stderr, ", the fastest takes %.4g s  ", best);
}

static void end_progress(const Search *s)
{
	if (s->shown > 0)
		fprintf(stderr, "\r%*s\r", 100, "");
}

/* The time that a division must stay below to be told: that of the last one so far, or none. */
static f64 to_beat(const Search *s)
{
	f64 told[SEARCH_TOLD];
	u32 n = 0;
	for (u32 i = 0; i < s->choice.n; i++) {
		f64 seconds = s->choice.v[i].seconds;
		if (!s->choice.v[i].planned || seconds < 0 || s->choice.v[i].memory > s->room || (n == SEARCH_TOLD && seconds >= told[n - 1]))
			continue;
		u32 at = n < SEARCH_TOLD ? n++ : n - 1;
		for (; at > 0 && told[at - 1] > seconds; at--)
			told[at] = told[at - 1];
		told[at] = seconds;
	}
	return n == SEARCH_TOLD ? told[n - 1] : 1e300;
}

/* Plans bases and divisions, whichever may be the fastest, until none that is left may be told. Those that fit come first in s->choice, fastest first; how many. */
static u32 search(Search *s, bool all)
{
	Bases base = find_bases(s, all);
	u32 at = 0;
	for (f64 beat = 1e300;;) {
		while (at < base.n && !may_fit(s, &base.v[at]))
			at++;
		u32 next = next_choice(s);
		bool plan_base = at < base.n && (next == NONE || base.v[at].bound <= s->choice.v[next].bound);
		f64 bound = SLACK * (plan_base ? base.v[at].bound : next == NONE ? 0 : s->choice.v[next].bound);
		if (!plan_base && next == NONE)
			break;
		if (!all && bound >= beat) {
			s->cut = bound;
			break;
		}
		if (plan_base) {
			const Base *b = &base.v[at++];
			if (!consider_base(s, b->c))
				VEC_PUSH(s->arena, b->without, b->c.micro);
		} else {
			plan_choices(s, next);
			beat = to_beat(s);
		}
		show_progress(s, at, base.n);
	}
	end_progress(s);
	for (; at < base.n; at++) {
		u32 n = may_fit(s, &base.v[at]) ? divisions_of(s, &base.v[at]) : 0;
		s->considered += n;
		s->above += n;
	}
	if (!s->choice.n)
		return 0;
	qsort(s->choice.v, s->choice.n, sizeof *s->choice.v, by_bound);
	u32 n = 0;
	for (u32 i = 0; i < s->choice.n; i++) {
		const Choice c = s->choice.v[i];
		s->above += !c.planned;
		s->too_large += c.planned && c.seconds >= 0 && c.memory > s->room;
		if (c.planned && c.seconds >= 0 && c.memory <= s->room)
			s->choice.v[n++] = c;
	}
	qsort(s->choice.v, n, sizeof *s->choice.v, by_seconds);
	return s->choice.n = n;
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
	static const char *const what[] = { "tensor", "expert", "context", "pipe", "micro-batch", "recompute", "divided", "sequence", "attention", "chunks" };
	const Choice *best = &s->choice.v[0];
	for (u32 k = 0; k < COUNT(what); k++) {
		if (((!strcmp(what[k], "context") || !strcmp(what[k], "attention")) && !s->of.texts.n) || (!strcmp(what[k], "expert") && !s->of.experts.n))
			continue;
		for (u32 i = 1; i <= n; i++) {
			if (i == n || (s->cut > 0 && s->choice.v[i].seconds > s->cut)) {
				if (s->cut > 0)
					printf("another %-12s takes at least %.1f%% more (by its bound)\n", what[k], 100 * (s->cut / best->seconds - 1));
				break;
			}
			const Choice *c = &s->choice.v[i];
			u32 is[] = { c->tensor, c->expert, c->context, c->pipe, c->micro, c->recompute, c->divide, c->sequence, c->heads, c->chunks };
			u32 was[] = { best->tensor, best->expert, best->context, best->pipe, best->micro, best->recompute, best->divide, best->sequence, best->heads, best->chunks };
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
	printf("the bounds: time of products at the machine's best; time of micro-batches, and what messages over the batch's devices add at least where nothing can hide "
	       "them; bytes of parameters and states divided as "
	       "they can be, and of what micro-batches in flight keep\n\n");
	const bool run = s->o->tokens > 0, money = run && s->choice.v[0].dollars > 0;
	printf("%10s %7s %11s%s%s  %s\n", "step", "MFU", "memory", run ? "      days" : "", money ? "   dollars" : "", "as");
	for (u32 i = 0; i < (all ? n : MIN(n, (u32)SEARCH_TOLD)); i++) {
		const Choice *c = &s->choice.v[i];
		const char *days = run ? arena_printf(s->arena, " %9.3g", c->run_seconds / 86400) : "";
		const char *dollars = money ? arena_printf(s->arena, " %9s", lm_scaled(s->arena, c->dollars)) : "";
		printf("%8.4g s %6.1f%% %11s%s%s  %s\n", c->seconds, 100 * c->mfu, lm_bytes(s->arena, c->memory), days, dollars,
		       choice_text(s, s->arena, c));
	}
	printf("\n");
	print_reasons(s, n);
}

static void print_json(const Search *s, u32 n, bool all)
{
	json_t *plans = json_array();
	for (u32 i = 0; i < (all ? n : MIN(n, (u32)SEARCH_TOLD)); i++) {
		const Choice *c = &s->choice.v[i];
		json_t *plan = json_pack("{s:f, s:f, s:I, s:f, s:I, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:s, s:b, s:b}", "step_seconds", c->seconds, "mfu", c->mfu,
						       "memory_bytes", (json_int_t)c->memory, "least_seconds", c->bound, "least_bytes", (json_int_t)c->least, "data", (int)c->data, "context", (int)c->context, "expert", (int)c->expert,
						       "tensor", (int)c->tensor, "pipe", (int)c->pipe, "micro", (int)c->micro, "chunks", (int)c->chunks, "recompute",
						       recompute_name[c->recompute], "divided", divided_name[c->divide], "sequence", c->sequence, "attention_heads", c->heads);
		if (s->o->tokens > 0) {
			json_object_set_new(plan, "run_seconds", json_real(c->run_seconds));
			json_object_set_new(plan, "dollars", json_real(c->dollars));
		}
		json_array_append_new(plans, plan);
	}
	json_t *root = json_pack("{s:I, s:i, s:i, s:i, s:i, s:o}", "devices", (json_int_t)s->devices, "considered", (int)s->considered, "too_large",
				 (int)s->too_large, "above_bound", (int)s->above, "planned", (int)s->planned, "plans", plans);
	json_dumpf(root, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(12));
	putchar('\n');
	json_decref(root);
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
	if (!s->considered)
		return FAIL(STATUS_CONTRACT, "no division of %lld devices: --batch %lld is no multiple of what %sdevices along data come to, or sizes do not divide "
					     "over tensor", (long long)s->devices, (long long)s->batch, s->o->micro ? "--micro times " : "");
	return FAIL(STATUS_CONTRACT, "none of %u divisions fits into %s: a device of the smallest holds %s at least; more --devices, or whole layers computed again "
				     "(--recompute none,needed,whole)", s->considered, lm_bytes(s->arena, s->room), lm_bytes(s->arena, s->smallest));
}

int plan_search(const ClusterOptions *o, const Machine *machine, i64 devices, bool all)
{
	Arena a = ARENA("search");
	Search s = { .begun = clock_seconds(), .arena = &a, .o = o, .machine = machine, .devices = devices, .batch = o->batch,
		     .room = (u64)(machine->memory - machine->reserved), .smallest = UINT64_MAX };
	Status status = cluster_open(o->path, o->source, &s.model);
	if (!status)
		status = cluster_links(machine, devices);
	if (!status && !s.model.lm.model->has_train)
		status = FAIL(STATUS_INPUT, "%s has no train block, which says what a step is", o->path);
	if (!status)
		status = space_read(&a, &s.model.lm, o, &s.of);
	s.layers = s.model.layers;
	s.precision = o->precision || !s.model.lm.model ? o->precision : s.model.lm.model->precision;
	if (!status) {
		u32 n = search(&s, all);
		f64 took = clock_seconds() - s.begun;
		if (!n)
			status = nothing_found(&s);
		else if (o->json)
			print_json(&s, n, all);
		else
			print_found(&s, n, all, took);
	}
	int code = 0;
	if (status)
		code = lm_failed("plan", &s.model.lm, status);
	else
		lm_warnings(&s.model.lm);
	driver_prepared_free(&s.prepared);
	lm_close(&s.model.lm);
	arena_free(&a);
	return code;
}
