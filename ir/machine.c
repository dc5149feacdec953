/* ir/machine.c: see machine.h. */
#include "ir/machine.h"

#include <math.h>

f64 machine_peak(const Machine *m, DType compute)
{
	return m->peak[compute] > 0 ? m->peak[compute] : m->peak[DT_f32];
}

bool machine_products_f8(const Machine *m)
{
	return m->peak[DT_f8e4m3] > 0;
}

f64 curve_share(const Curve *c, f64 at)
{
	if (!c->n)
		return 1;
	const CurvePoint *p = c->point;
	if (at <= p[0].at)
		return p[0].share;
	for (u32 i = 1; i < c->n; i++)
		if (at <= p[i].at) {
			f64 part = log(at / p[i - 1].at) / log(p[i].at / p[i - 1].at);
			return p[i - 1].share + part * (p[i].share - p[i - 1].share);
		}
	return p[c->n - 1].share;
}
