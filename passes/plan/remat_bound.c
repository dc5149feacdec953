/* passes/plan/remat_bound.c: a lower bound for the time that a budget costs; see remat.h.
 *
 * Whatever set of values is kept, at each step of the stated order at least this much memory is used: what is there anyway;
 * kept values from their making to their last own use; values computed again from their first to their last own use behind
 * the turn. For non-negative prices of memory at steps, the time added plus the price of what is used beyond the budget is
 * never more than the time added by a set that fits. Its least over all sets is a minimum cut: a node for each value ("it is
 * there behind the turn"), each step and each map ("it runs again"); a value that is there and not computed again is kept
 * and pays the difference; what runs again needs what it reads. So each choice of prices gives a bound, for all budgets at
 * once a line, and the best prices give the same as the linear relaxation would (constraints of pairs are totally
 * unimodular). They are found with the sets that cuts give (Dantzig and Wolfe 1960): prices are those of the cheapest mixture
 * of the sets so far that fits in the budget at some steps (mix.h); a cut by these prices gives another set, or proves that there is
 * none that helps; then the step at which the mixture needs most joins them. */
#include "passes/plan/cut.h"
#include "passes/plan/mix.h"
#include "passes/plan/remat.h"

#include <string.h>

enum { TIMES = 16, ROUNDS = 80 };
#define ROUNDING 1e-9
/* Of the mixture's cost: where steps are added, and where the bound is as good as it gets. */
#define CLOSE 1e-2
#define CLOSED 1e-5
/* Step times for as much memory as there is with everything kept: more than any budget is worth. */
#define PENALTY 1e4

typedef struct Line {
	f64 constant, slope; /* the bound is constant - slope * budget */
} Line;

typedef enum ValueState { STATE_GONE, STATE_KEPT, STATE_REMADE } ValueState; /* behind the turn */

/* What a cut gave: a set of values. */
typedef struct Column {
	f64 cost;       /* seconds */
	const u8 *state; /* [buffer] a ValueState */
	f64 *use;       /* [time] in units of x->scale */
} Column;

struct RematBound {
	Arena *arena;
	const RematProblem *p;
	const RematLife *life;
	u32 turn;
	i64 *base; /* [step] bytes that are used anyway */
	f64 unit;  /* seconds in which the cut counts */
	Cut *cut;
	bool *yes;
	u32 *value, *step, *map; /* their nodes, or NONE */
	u32 *edge;               /* [value] that pays for keeping it, or NONE */
	u32 time[TIMES], ntime;  /* steps with prices */
	f64 price[TIMES];        /* seconds for a byte */
	f64 scale;               /* bytes: what the first set needs at the most */
	VEC(Line) line;
	/* of the last cut */
	bool *drop;
	u8 *state;
	f64 cost, at;            /* the set's seconds; the bound by the last prices, at the budget asked for */
	/* of the last budget */
	VEC(Column) column;
	f64 *share;              /* [column] of the cheapest mixture */
	f64 *mixed;              /* [step] bytes that it uses */
};

static i64 rounded(u64 bytes)
{
	return (i64)ALIGN_UP(bytes, MEMORY_ALIGN);
}

/* ---- what is used anyway ---- */

/* Outputs that may be where an input is that can end at this step count only once. */
static i64 may_take_over(const RematBound *x, u32 s)
{
	const RematStep *step = &x->p->step[s];
	i64 bytes = 0;
	for (u32 i = 0; i < step->npair; i++) {
		u32 out = step->pair[i].out, in = step->pair[i].in;
		const RematLife *l = &x->life[in];
		u32 end = !l->may ? l->last : s <= x->turn ? l->last1 : l->last2;
		if (x->p->bytes[out] != x->p->bytes[in] || end != s || x->p->result[in])
			continue;
		bytes += rounded(x->p->bytes[out]);
		while (i + 1 < step->npair && step->pair[i + 1].out == out)
			i++;
	}
	return bytes;
}

static void count_base(RematBound *x)
{
	const RematProblem *p = x->p;
	for (u32 b = 0; b < p->nbuffer; b++) {
		const RematLife *l = &x->life[b];
		u32 last = l->may ? l->last1 : l->last;
		if (!p->bytes[b] || l->first == NONE)
			continue;
		x->base[l->first] += rounded(p->bytes[b]);
		x->base[last + 1] -= rounded(p->bytes[b]);
	}
	for (u32 s = 1; s < p->nstep; s++)
		x->base[s] += x->base[s - 1];
	for (u32 s = 0; s < p->nstep; s++)
		x->base[s] += rounded(p->step[s].workspace) - may_take_over(x, s);
}

/* ---- the network ---- */

/* What computes the value again, or NONE: nothing can. */
static u32 maker_node(const RematBound *x, u32 b)
{
	const RematLife *l = &x->life[b];
	return l->map != NONE ? x->map[l->map] : x->step[l->made];
}

static void add_reads(RematBound *x, u32 node, const RematStep *s)
{
	for (u32 i = 0; i < s->nread; i++)
		if (x->value[s->reads[i]] != NONE)
			cut_edge(x->cut, node, x->value[s->reads[i]], CUT_NEVER);
}

static void make_network(RematBound *x)
{
	const RematProblem *p = x->p;
	u32 n = CUT_NODES;
	for (u32 b = 0; b < p->nbuffer; b++)
		x->value[b] = x->life[b].may ? n++ : NONE;
	for (u32 s = 0; s < p->nstep; s++)
		x->step[s] = s <= x->turn && p->step[s].again ? n++ : NONE;
	for (u32 m = 0; m < p->nmap; m++)
		x->map[m] = n++;
	x->cut = cut_new(x->arena, n);
	x->yes = NEWN(x->arena, bool, n);
	for (u32 s = 0; s < p->nstep; s++) {
		if (x->step[s] == NONE)
			continue;
		cut_edge(x->cut, x->step[s], CUT_NO, p->step[s].seconds / x->unit);
		add_reads(x, x->step[s], &p->step[s]);
	}
	for (u32 m = 0; m < p->nmap; m++) {
		u32 host = x->step[p->map[m].host];
		cut_edge(x->cut, x->map[m], host == NONE ? CUT_NO : host, p->map[m].step.seconds / x->unit);
		add_reads(x, x->map[m], &p->map[m].step);
	}
	for (u32 b = 0; b < p->nbuffer; b++) {
		if (x->value[b] == NONE)
			continue;
		if (x->life[b].first2 != NONE)
			cut_edge(x->cut, CUT_YES, x->value[b], CUT_NEVER);
		x->edge[b] = cut_edge(x->cut, x->value[b], maker_node(x, b), 0);
	}
}

RematBound *remat_bound_new(Arena *arena, const Remat *r)
{
	const RematProblem *p = remat_problem(r);
	u32 n = p->nbuffer + 1;
	RematBound *x = NEW(arena, RematBound);
	*x = (RematBound){ .arena = arena, .p = p, .life = remat_lives(r), .turn = remat_turn(r) };
	x->base = NEWN(arena, i64, p->nstep + 2);
	x->mixed = NEWN(arena, f64, p->nstep + 2);
	x->share = NEWN(arena, f64, ROUNDS + 2);
	x->state = NEWN(arena, u8, n);
	x->value = NEWN(arena, u32, n);
	x->edge = NEWN(arena, u32, n);
	x->step = NEWN(arena, u32, p->nstep + 1);
	x->map = NEWN(arena, u32, p->nmap + 1);
	x->drop = NEWN(arena, bool, n);
	for (u32 s = 0; s < p->nstep; s++)
		x->unit += p->step[s].seconds;
	x->unit = x->unit > 0 ? x->unit : 1;
	count_base(x);
	make_network(x);
	return x;
}

/* ---- one choice of prices ---- */

static f64 paid_between(const RematBound *x, u32 first, u32 last)
{
	f64 sum = 0;
	for (u32 k = 0; k < x->ntime; k++)
		if (first <= x->time[k] && x->time[k] <= last)
			sum += x->price[k];
	return sum;
}

/* From the end of a value's uses up to the turn to its last use: what keeping it adds to x->base. */
static u32 kept_until(const RematBound *x, u32 b)
{
	const RematLife *l = &x->life[b];
	return l->last2 == NONE ? x->turn : l->last2;
}

/* The steps at which a value adds to x->base; false: at none. */
static bool used_at(const RematBound *x, u32 b, ValueState state, u32 *first, u32 *last)
{
	const RematLife *l = &x->life[b];
	*first = state == STATE_KEPT ? l->last1 + 1 : l->first2;
	*last = state == STATE_KEPT ? kept_until(x, b) : l->last2;
	return state != STATE_GONE && *first != NONE && *first <= *last;
}

static f64 seconds_of(const RematBound *x)
{
	const RematProblem *p = x->p;
	f64 seconds = 0;
	for (u32 s = 0; s <= x->turn && s < p->nstep; s++)
		if (x->step[s] != NONE && x->yes[x->step[s]])
			seconds += p->step[s].seconds;
	for (u32 m = 0; m < p->nmap; m++) {
		u32 host = x->step[p->map[m].host];
		if (x->yes[x->map[m]] && (host == NONE || !x->yes[host]))
			seconds += p->map[m].step.seconds;
	}
	return seconds;
}

/* The bound by the prices, and the set that gives it. */
static void evaluate(RematBound *x, u64 budget)
{
	const RematProblem *p = x->p;
	f64 fixed = 0, slope = 0;
	for (u32 b = 0; b < p->nbuffer; b++) {
		if (x->value[b] == NONE)
			continue;
		const RematLife *l = &x->life[b];
		f64 bytes = (f64)rounded(p->bytes[b]), keep = paid_between(x, l->last1 + 1, kept_until(x, b));
		f64 again = l->first2 == NONE ? 0 : paid_between(x, l->first2, l->last2);
		fixed += again * bytes;
		cut_capacity(x->cut, x->edge[b], MAX(keep - again, 0) * bytes / x->unit);
	}
	for (u32 k = 0; k < x->ntime; k++) {
		fixed += x->price[k] * (f64)x->base[x->time[k]];
		slope += x->price[k];
	}
	f64 constant = cut_solve(x->cut, x->yes) * x->unit + fixed;
	VEC_PUSH(x->arena, &x->line, (Line){ constant, slope });
	x->at = constant - slope * (f64)budget;
	x->cost = seconds_of(x);
	for (u32 b = 0; b < p->nbuffer; b++) {
		if (x->value[b] == NONE)
			continue;
		bool there = x->yes[x->value[b]], again = x->yes[maker_node(x, b)];
		x->state[b] = !there ? STATE_GONE : again ? STATE_REMADE : STATE_KEPT;
		x->drop[b] = x->state[b] != STATE_KEPT;
	}
}

/* ---- mixtures ---- */

static void count_use(const RematBound *x, Column *c, u32 k)
{
	u32 first, last, t = x->time[k];
	i64 bytes = x->base[t];
	for (u32 b = 0; b < x->p->nbuffer; b++)
		if (used_at(x, b, c->state[b], &first, &last) && first <= t && t <= last)
			bytes += rounded(x->p->bytes[b]);
	c->use[k] = (f64)bytes / x->scale;
}

static void add_column(RematBound *x)
{
	Column c = { x->cost, COPYN(x->arena, u8, x->state, x->p->nbuffer + 1), NEWN(x->arena, f64, TIMES) };
	for (u32 k = 0; k < x->ntime; k++)
		count_use(x, &c, k);
	VEC_PUSH(x->arena, &x->column, c);
}

/* What the mixture uses at each step; the step of the most. */
static u32 mix_uses(RematBound *x)
{
	u32 first, last, worst = 0, n = x->p->nstep;
	memset(x->mixed, 0, (n + 2) * sizeof *x->mixed);
	for (u32 i = 0; i < x->column.n; i++)
		for (u32 b = 0; b < x->p->nbuffer && x->share[i] > 0; b++)
			if (used_at(x, b, x->column.v[i].state[b], &first, &last)) {
				f64 bytes = x->share[i] * (f64)rounded(x->p->bytes[b]);
				x->mixed[first] += bytes;
				x->mixed[last + 1] -= bytes;
			}
	for (u32 s = 1; s < n; s++)
		x->mixed[s] += x->mixed[s - 1];
	for (u32 s = 0; s < n; s++) {
		x->mixed[s] += (f64)x->base[s];
		worst = x->mixed[s] > x->mixed[worst] ? s : worst;
	}
	return worst;
}

/* The cheapest mixture's cost, in seconds; its prices and shares. */
static f64 mix(RematBound *x, u64 budget)
{
	Arena tmp = ARENA("mix");
	MixPoint *point = NEWN(&tmp, MixPoint, x->column.n);
	f64 limit[TIMES];
	for (u32 i = 0; i < x->column.n; i++)
		point[i] = (MixPoint){ x->column.v[i].cost / x->unit, x->column.v[i].use };
	for (u32 k = 0; k < x->ntime; k++)
		limit[k] = (f64)budget / x->scale;
	f64 cost = mix_least(&tmp, point, x->column.n, limit, x->ntime, PENALTY, x->share, x->price);
	for (u32 k = 0; k < x->ntime; k++)
		x->price[k] *= x->unit / x->scale;
	arena_free(&tmp);
	return cost * x->unit;
}

/* Has the step where the mixture needs most, if that is more than there is, a price too? */
static bool add_time(RematBound *x, u64 budget)
{
	u32 worst = mix_uses(x);
	bool known = x->ntime == TIMES || x->mixed[worst] <= (f64)budget * (1 + 1e-9);
	for (u32 k = 0; k < x->ntime; k++)
		known |= x->time[k] == worst;
	if (known)
		return false;
	u32 k = x->ntime++;
	x->time[k] = worst;
	for (u32 i = 0; i < x->column.n; i++)
		count_use(x, &x->column.v[i], k);
	return true;
}

/* The best prices, at all steps that need one. */
static void find_prices(RematBound *x, u64 budget, void (*found)(void *cx, const bool *drop), void *cx)
{
	f64 best = 0;
	while (x->column.n < ROUNDS) {
		f64 least = mix(x, budget);
		if (least - best <= CLOSE * least && add_time(x, budget)) {
			best = 0;
			continue;
		}
		evaluate(x, budget);
		found(cx, x->drop);
		best = MAX(best, x->at);
		if (least - best <= CLOSED * least && !add_time(x, budget))
			return;
		add_column(x);
	}
}

void remat_bound_raise(RematBound *x, u64 budget, void (*found)(void *cx, const bool *drop), void *cx)
{
	if (!x->p->nstep)
		return;
	x->ntime = x->column.n = 0;
	evaluate(x, budget);
	found(cx, x->drop);
	add_column(x);
	x->share[0] = 1;
	x->scale = MAX(x->mixed[mix_uses(x)], 1);
	find_prices(x, budget, found, cx);
}

/* Which line is highest at the budget, or NONE. */
static u32 line_at(const RematBound *x, u64 budget, f64 *bound)
{
	u32 line = NONE;
	*bound = 0;
	for (u32 i = 0; i < x->line.n; i++) {
		f64 at = x->line.v[i].constant - x->line.v[i].slope * (f64)budget;
		line = at > *bound ? i : line;
		*bound = MAX(at, *bound);
	}
	return line;
}

f64 remat_bound_at(const RematBound *x, u64 budget)
{
	f64 best;
	line_at(x, budget, &best);
	return MAX(best - ROUNDING * x->unit, 0); /* what sums of reals may be off by */
}

f64 remat_bound_price(const RematBound *x, u64 budget)
{
	f64 best;
	u32 line = line_at(x, budget, &best);
	return line == NONE ? 0 : x->line.v[line].slope;
}

u64 remat_bound_least(const RematBound *x)
{
	f64 all = 0, least = 0;
	for (u32 s = 0; s <= x->turn && s < x->p->nstep; s++)
		all += x->step[s] == NONE ? 0 : x->p->step[s].seconds;
	for (u32 m = 0; m < x->p->nmap; m++)
		all += x->p->map[m].step.seconds;
	for (u32 i = 0; i < x->line.n; i++)
		if (x->line.v[i].slope > 0)
			least = MAX(least, (x->line.v[i].constant - all) / x->line.v[i].slope);
	return (u64)(least * (1 - ROUNDING * PENALTY / 10)); /* prices are as high as PENALTY says */
}
