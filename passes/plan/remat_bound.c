/* passes/plan/remat_bound.c: a lower bound for the time that a budget costs; see remat.h.
 *
 * Whatever set of values is kept, at each step of the stated order at least this much memory is used: what is there anyway;
 * kept values from their making to their last own use; values computed again from their first to their last own use behind
 * the turn. For non-negative prices of memory at steps, the time added plus the price of what is used beyond the budget is
 * never more than the time added by a set that fits. Its least over all sets is a minimum cut: a node for each value ("it is
 * there behind the turn"), each step and each map ("it runs again"); a value that is there and not computed again is kept
 * and pays the difference; what runs again needs what it reads. So each choice of prices gives a bound, for all budgets at
 * once a line, and the best prices give the same as the linear relaxation would (constraints of pairs are totally
 * unimodular). Prices are raised one step at a time, by the tangents of the bound, which is concave in each. */
#include "passes/plan/cut.h"
#include "passes/plan/remat.h"

#include <string.h>

enum { TIMES = 8, ROUNDS = 3, TANGENTS = 24, STEPS = 48 };
#define ROUNDING 1e-9

typedef struct Line {
	f64 constant, slope; /* the bound is constant - slope * budget */
} Line;

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
	VEC(Line) line;
	/* of the last cut */
	bool *drop;
	i64 *used;               /* [step] */
	f64 at;                  /* the bound by the last prices, at the budget asked for */
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
	x->used = NEWN(arena, i64, p->nstep + 2);
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

static void use(RematBound *x, u32 b, u32 first, u32 last)
{
	if (first > last)
		return;
	x->used[first] += rounded(x->p->bytes[b]);
	x->used[last + 1] -= rounded(x->p->bytes[b]);
}

/* The bound by the prices; x->drop, x->used: the set that gives it. */
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
	memset(x->used, 0, (p->nstep + 2) * sizeof *x->used);
	for (u32 b = 0; b < p->nbuffer; b++) {
		if (x->value[b] == NONE)
			continue;
		const RematLife *l = &x->life[b];
		bool there = x->yes[x->value[b]], again = x->yes[maker_node(x, b)];
		x->drop[b] = !there || again;
		if (there && !again)
			use(x, b, l->last1 + 1, kept_until(x, b));
		else if (there && l->first2 != NONE)
			use(x, b, l->first2, l->last2);
	}
	for (u32 s = 1; s < p->nstep; s++)
		x->used[s] += x->used[s - 1];
	for (u32 s = 0; s < p->nstep; s++)
		x->used[s] += x->base[s];
}

/* ---- the best prices ---- */

typedef struct Tangent {
	f64 price, at, slope;
} Tangent;

static Tangent tangent(RematBound *x, u32 k, f64 price, u64 budget, void (*found)(void *cx, const bool *drop), void *cx)
{
	x->price[k] = price;
	evaluate(x, budget);
	found(cx, x->drop);
	return (Tangent){ price, x->at, (f64)x->used[x->time[k]] - (f64)budget };
}

/* Raises one price until the bound no longer rises with it: the top of a concave function, where its tangents cross. */
static void raise_price(RematBound *x, u32 k, u64 budget, void (*found)(void *cx, const bool *drop), void *cx)
{
	Tangent low = tangent(x, k, 0, budget, found, cx), high = { 0 };
	if (low.slope <= 0)
		return;
	f64 price = x->unit / (f64)(budget + 1) / 64;
	for (u32 i = 0; i < TANGENTS; i++, price *= 4) {
		high = tangent(x, k, price, budget, found, cx);
		if (high.slope <= 0)
			break;
		low = high;
	}
	f64 best = low.price, top = low.at;
	for (u32 i = 0; i < TANGENTS && high.slope <= 0; i++) {
		if (high.at > top) {
			best = high.price;
			top = high.at;
		}
		f64 cross = low.slope - high.slope;
		if (!(cross > 0))
			break;
		f64 at = (high.at - low.at + low.slope * low.price - high.slope * high.price) / cross;
		f64 most = low.at + low.slope * (at - low.price);
		if (!(at > low.price && at < high.price) || most - top <= 1e-6 * x->unit * 1e-3)
			break;
		Tangent t = tangent(x, k, at, budget, found, cx);
		if (t.at > top) {
			best = t.price;
			top = t.at;
		}
		*(t.slope > 0 ? &low : &high) = t;
	}
	x->price[k] = best;
	evaluate(x, budget);
}

/* The step at which the set of the last cut needs most. */
static u32 worst_step(const RematBound *x)
{
	u32 worst = 0;
	for (u32 s = 1; s < x->p->nstep; s++)
		if (x->used[s] > x->used[worst])
			worst = s;
	return worst;
}

/* All prices at once, along the slopes of the bound, which is concave in them together: where no single price helps, several
 * may. Steps are as long as would reach a little above the best so far, were the bound as steep all the way (Polyak 1969);
 * the little gets less as long as that fails. */
static void raise_together(RematBound *x, u64 budget, void (*found)(void *cx, const bool *drop), void *cx)
{
	f64 best = x->at, above = 0.05 * best + 1e-4 * x->unit;
	for (u32 i = 0; i < STEPS; i++) {
		u32 worst = worst_step(x);
		f64 squares = 0, slope[TIMES];
		bool known = x->ntime == TIMES;
		for (u32 k = 0; k < x->ntime; k++)
			known |= x->time[k] == worst;
		if (!known) {
			x->time[x->ntime] = worst;
			x->price[x->ntime++] = 0;
		}
		for (u32 k = 0; k < x->ntime; k++) {
			slope[k] = (f64)x->used[x->time[k]] - (f64)budget;
			if (x->price[k] <= 0 && slope[k] < 0)
				slope[k] = 0;
			squares += slope[k] * slope[k];
		}
		if (!(squares > 0))
			return;
		f64 length = (best + above - x->at) / squares;
		for (u32 k = 0; k < x->ntime; k++)
			x->price[k] = MAX(0, x->price[k] + length * slope[k]);
		evaluate(x, budget);
		found(cx, x->drop);
		if (x->at > best)
			best = x->at;
		else if (i % 4 == 3)
			above /= 2;
	}
}

void remat_bound_raise(RematBound *x, u64 budget, void (*found)(void *cx, const bool *drop), void *cx)
{
	if (!x->p->nstep)
		return;
	x->ntime = 0;
	evaluate(x, budget);
	for (u32 i = 0; i < TIMES; i++) {
		u32 worst = worst_step(x), k = 0;
		if (x->used[worst] <= (i64)budget)
			break;
		while (k < x->ntime && x->time[k] != worst)
			k++;
		if (k < x->ntime && i >= ROUNDS)
			break;
		if (k == x->ntime) {
			x->time[x->ntime] = worst;
			x->price[x->ntime++] = 0;
		}
		raise_price(x, k, budget, found, cx);
	}
	if (x->ntime > 1)
		raise_together(x, budget, found, cx);
}

f64 remat_bound_at(const RematBound *x, u64 budget)
{
	f64 best = 0;
	for (u32 i = 0; i < x->line.n; i++)
		best = MAX(best, x->line.v[i].constant - x->line.v[i].slope * (f64)budget);
	return MAX(best - ROUNDING * x->unit, 0); /* what sums of reals may be off by */
}
