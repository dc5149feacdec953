/* passes/plan/mix.c: see mix.h. The simplex method on a full tableau (Dantzig 1951). Rows: shares sum to 1; each resource, with a slack.
 * Columns: points; slacks; what the mixture goes beyond all limits together, by which there is a solution to begin with. */
#include "passes/plan/mix.h"

#include <math.h>
#include <string.h>

#define TINY 1e-11
enum { PIVOTS = 400, CAREFUL = 200 };

typedef struct Tableau {
	u32 nrow, ncol; /* the right side is column ncol, the costs are row nrow */
	f64 *at;
	u32 *basic;     /* [row] its column */
} Tableau;

static f64 *row_of(const Tableau *t, u32 row)
{
	return t->at + (size_t)row * (t->ncol + 1);
}

static void pivot(Tableau *t, u32 row, u32 col)
{
	f64 *from = row_of(t, row), by = from[col];
	for (u32 c = 0; c <= t->ncol; c++)
		from[c] /= by;
	for (u32 r = 0; r <= t->nrow; r++) {
		f64 *to = row_of(t, r), factor = to[col];
		if (r == row || factor == 0)
			continue;
		for (u32 c = 0; c <= t->ncol; c++)
			to[c] -= factor * from[c];
		to[col] = 0;
	}
	t->basic[row] = col;
}

/* The column that lowers the cost most by its unit; late, the first that does, with which no circle is possible (Bland 1977). */
static u32 entering(const Tableau *t, bool careful)
{
	const f64 *cost = row_of(t, t->nrow);
	u32 best = UINT32_MAX;
	for (u32 c = 0; c < t->ncol && !(careful && best != UINT32_MAX); c++)
		if (cost[c] < -TINY && (best == UINT32_MAX || cost[c] < cost[best]))
			best = c;
	return best;
}

static u32 leaving(const Tableau *t, u32 col)
{
	u32 best = UINT32_MAX;
	f64 least = 0;
	for (u32 r = 0; r < t->nrow; r++) {
		const f64 *row = row_of(t, r);
		if (row[col] <= TINY)
			continue;
		f64 most = MAX(row[t->ncol], 0) / row[col];
		if (best != UINT32_MAX && (most > least || (most == least && t->basic[r] > t->basic[best])))
			continue;
		best = r;
		least = most;
	}
	return best;
}

f64 mix_least(Arena *tmp, const MixPoint *point, u32 n, const f64 *limit, u32 nlimit, f64 penalty, f64 *share, f64 *price)
{
	Tableau t = { .nrow = nlimit + 1, .ncol = n + nlimit + 1 };
	u32 beyond = t.ncol - 1, worst = 0;
	t.at = NEWN(tmp, f64, (size_t)(t.nrow + 1) * (t.ncol + 1));
	t.basic = NEWN(tmp, u32, t.nrow);
	for (u32 i = 0; i < n; i++) {
		row_of(&t, 0)[i] = 1;
		row_of(&t, t.nrow)[i] = point[i].cost;
		for (u32 k = 0; k < nlimit; k++)
			row_of(&t, k + 1)[i] = point[i].use[k];
	}
	row_of(&t, 0)[t.ncol] = 1;
	row_of(&t, t.nrow)[beyond] = penalty;
	for (u32 k = 0; k < nlimit; k++) {
		f64 *row = row_of(&t, k + 1);
		row[n + k] = 1;
		row[beyond] = -1;
		row[t.ncol] = limit[k];
		t.basic[k + 1] = n + k;
	}
	/* to begin with, the first point alone, and what it goes beyond */
	pivot(&t, 0, 0);
	for (u32 k = 1; k <= nlimit; k++)
		if (row_of(&t, k)[t.ncol] < 0 && (!worst || row_of(&t, k)[t.ncol] < row_of(&t, worst)[t.ncol]))
			worst = k;
	if (worst)
		pivot(&t, worst, beyond);
	for (u32 i = 0; i < PIVOTS; i++) {
		u32 col = entering(&t, i >= CAREFUL), row = col == UINT32_MAX ? UINT32_MAX : leaving(&t, col);
		if (row == UINT32_MAX)
			break;
		pivot(&t, row, col);
	}
	memset(share, 0, n * sizeof *share);
	for (u32 r = 0; r < t.nrow; r++)
		if (t.basic[r] < n)
			share[t.basic[r]] = MAX(row_of(&t, r)[t.ncol], 0);
	for (u32 k = 0; k < nlimit; k++)
		price[k] = MAX(row_of(&t, t.nrow)[n + k], 0);
	return -row_of(&t, t.nrow)[t.ncol];
}
