/* tools/fit_machine.c: see fit_machine.h. */
#include "tools/fit_machine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBERS = 64, ROUNDS = 12 };

/* A number that is fitted: its logarithm. */
typedef struct Number {
	f64 *at;
	f64 prior, spread; /* logarithms: where it began, and how far from there it is likely */
	f64 least, most;   /* values */
} Number;

typedef struct Fit {
	Arena *arena;
	Machine *m;
	const MeasuredRun *run;
	u32 nrun;
	Number number[NUMBERS];
	u32 n;
} Fit;

static void add(Fit *f, f64 *at, f64 spread, f64 least, f64 most)
{
	if (f->n < NUMBERS && *at > 0)
		f->number[f->n++] = (Number){ at, log(*at), spread, least, most };
}

static void add_curve(Fit *f, Curve *c, f64 most)
{
	CurvePoint *point = COPYN(f->arena, CurvePoint, c->point, c->n);
	c->point = point;
	for (u32 i = 0; i < c->n; i++)
		add(f, &point[i].share, 0.4, 1e-3, most);
}

static f64 seconds(const Machine *m, const MeasuredRun *r)
{
	Arena tmp = ARENA("fit");
	ClusterStep s = cluster_step(&tmp, m, r->run.planned.work, &r->run.shape);
	arena_free(&tmp);
	return s.seconds;
}

static void residuals(const Fit *f, f64 *out)
{
	for (u32 i = 0; i < f->nrun; i++) {
		const MeasuredRun *r = &f->run[i];
		out[i] = r->error || !(r->seconds > 0) ? 0 : log(seconds(f->m, r) / r->seconds);
	}
}

/* Absolute residuals and the prior. */
static f64 total(const Fit *f, const f64 *r)
{
	f64 sum = 0;
	for (u32 i = 0; i < f->nrun; i++)
		sum += fabs(r[i]);
	for (u32 k = 0; k < f->n; k++) {
		f64 off = (log(*f->number[k].at) - f->number[k].prior) / f->number[k].spread;
		sum += 0.02 * off * off;
	}
	return sum;
}

/* a [n][n] x = b, a symmetric and positive: by Cholesky; x in b. */
static void solve(f64 *a, f64 *b, u32 n)
{
	for (u32 i = 0; i < n; i++)
		for (u32 j = 0; j <= i; j++) {
			f64 s = a[i * n + j];
			for (u32 k = 0; k < j; k++)
				s -= a[i * n + k] * a[j * n + k];
			a[i * n + j] = i == j ? sqrt(MAX(s, 1e-12)) : s / a[j * n + j];
		}
	for (u32 i = 0; i < n; i++) {
		for (u32 k = 0; k < i; k++)
			b[i] -= a[i * n + k] * b[k];
		b[i] /= a[i * n + i];
	}
	for (u32 i = n; i-- > 0;) {
		for (u32 k = i + 1; k < n; k++)
			b[i] -= a[k * n + i] * b[k];
		b[i] /= a[i * n + i];
	}
}

static void set(const Number *x, f64 logarithm)
{
	*x->at = MIN(MAX(exp(logarithm), x->least), x->most);
}

/* One step; false: none makes it better. */
static bool improve(Fit *f, f64 *r, f64 *damping)
{
	enum { TRIES = 5 };
	u32 n = f->n, rows = f->nrun;
	f64 *slope = NEWN(f->arena, f64, (size_t)n * rows), *moved = NEWN(f->arena, f64, rows), was[NUMBERS], before = total(f, r);
	for (u32 k = 0; k < n; k++) {
		was[k] = log(*f->number[k].at);
		f64 step = exp(was[k] + 0.02) > f->number[k].most ? -0.02 : 0.02;
		*f->number[k].at = exp(was[k] + step);
		residuals(f, moved);
		*f->number[k].at = exp(was[k]);
		for (u32 i = 0; i < rows; i++)
			slope[(size_t)k * rows + i] = (moved[i] - r[i]) / step;
	}
	for (u32 tries = 0; tries < TRIES; tries++) {
		f64 a[NUMBERS * NUMBERS] = { 0 }, b[NUMBERS] = { 0 };
		for (u32 i = 0; i < rows; i++) {
			f64 weight = 1 / MAX(fabs(r[i]), 0.02);
			for (u32 k = 0; k < n; k++) {
				f64 s = slope[(size_t)k * rows + i];
				b[k] -= weight * s * r[i];
				for (u32 l = 0; l <= k; l++)
					a[k * n + l] += weight * s * slope[(size_t)l * rows + i];
			}
		}
		for (u32 k = 0; k < n; k++) {
			f64 prior = 0.04 / (f->number[k].spread * f->number[k].spread);
			a[k * n + k] += prior + *damping;
			b[k] -= prior * (was[k] - f->number[k].prior);
		}
		solve(a, b, n);
		for (u32 k = 0; k < n; k++)
			set(&f->number[k], was[k] + MIN(MAX(b[k], -0.7), 0.7));
		residuals(f, moved);
		if (total(f, moved) < before) {
			memcpy(r, moved, rows * sizeof *r);
			*damping = MAX(*damping / 4, 1e-3);
			return total(f, r) < before * (1 - 1e-4);
		}
		*damping *= 8;
	}
	for (u32 k = 0; k < n; k++)
		*f->number[k].at = exp(was[k]);
	return false;
}

void fit_machine(Arena *a, Machine *m, const MeasuredRun *run, u32 n)
{
	Fit f = { .arena = a, .m = m, .run = run, .nrun = n };
	/* the curve below is of all types alike; what products of 8 bits reach of what their maker says, beside those of 16, is told by this */
	add(&f, &m->peak[DT_f8e4m3], 0.4, 1e8, m->peak[DT_f8e4m3]);
	add_curve(&f, &m->matmul, 1);
	add_curve(&f, &m->attention, 1);
	add_curve(&f, &m->attention_grad, 1);
	add_curve(&f, &m->stream, 1);
	add(&f, &m->unaligned, 1, 1e-2, 1);
	add(&f, &m->launch, 1, 1e-7, 1e-3);
	add(&f, &m->link.bandwidth, 0.4, 1e8, m->link.bandwidth);
	add(&f, &m->link.latency, 1, 1e-7, 1e-3);
	add(&f, &m->network.bandwidth, 0.4, 1e8, m->network.bandwidth);
	add(&f, &m->network.latency, 1, 1e-7, 1e-3);
	add(&f, &m->network.apart, 0.7, 0.05, 1);
	f64 *r = NEWN(a, f64, n + 1), damping = 1;
	residuals(&f, r);
	for (u32 i = 0; i < ROUNDS && improve(&f, r, &damping); i++)
		;
}
