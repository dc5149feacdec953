/* tools/turns.c: see turns.h. */
#include "tools/turns.h"
#include "support/str.h"

#include <stdlib.h>
#include <string.h>

/* Of the same work on a machine that nobody else uses, two turns of three are rarely further apart. */
static const f64 APART = 0.15;

static int by_seconds(const void *a, const void *b)
{
	const Turn *x = a, *y = b;
	return (x->seconds > y->seconds) - (x->seconds < y->seconds);
}

Settled turns_settle(Turn *turn, u32 n)
{
	assert(n);
	if (n == 1) /* nobody knows */
		return (Settled){ turn->seconds, 1 };
	qsort(turn, n, sizeof *turn, by_seconds);
	const Turn *t = &turn[MAX((n + 2) / 3, 2) - 1];
	f64 apart = t->seconds / t[-1].seconds - 1, others = t->waited / MAX(1 - t->waited, 0.01);
	Settled s = { t->seconds, MAX(apart, others) };
	if (turns_disturbed(s))
		s.seconds = turn[0].seconds;
	return s;
}

bool turns_disturbed(Settled s)
{
	return s.off > APART;
}

const char *turns_disturbed_text(Arena *a, const Disturbed *d, u32 n)
{
	Buf b = { .arena = a };
	for (u32 i = 0, next; i < n; i = next) {
		f64 most = d[i].off, first = d[i].at, last = d[i].at;
		for (next = i + 1; next < n && !strcmp(d[next].name, d[i].name); next++) {
			most = MAX(most, d[next].off);
			first = MIN(first, d[next].at);
			last = MAX(last, d[next].at);
		}
		buf_printf(&b, "%s%s", i ? ", " : "", d[i].name);
		if (last > first)
			buf_printf(&b, " from %.3g to %.3g by up to %.0f%%", first, last, 100 * most);
		else if (last > 0)
			buf_printf(&b, " at %.3g by %.0f%%", last, 100 * most);
		else
			buf_printf(&b, " by %.0f%%", 100 * most);
	}
	return n ? b.text : NULL;
}
