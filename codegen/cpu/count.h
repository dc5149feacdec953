/* codegen/cpu/count.h: numbers that both sides of a kernel class compute by one formula: `needs` for the
 * extents at hand, and code for the extents it is given when it runs; where extents are known only then, that is `needs` too. */
#ifndef PL_CPU_COUNT_H
#define PL_CPU_COUNT_H
#include "codegen/cpu/body.h"

typedef struct Count {
	i64 n;
	LLVMValueRef v; /* NULL where no code is being made: m is NULL in what follows */
} Count;

static inline Count count_of(CpuModule *m, i64 n)
{
	return (Count){ n, m ? cpu_i64(m, n) : NULL };
}

/* The extent of dimensions [first, last) together. b: NULL where no code is being made. */
static inline Count count_extent(Body *b, const Kernel *k, u32 first, u32 last)
{
	Count c = { 1, b ? body_product(b, first, last) : NULL };
	for (u32 d = first; d < last; d++)
		c.n *= k->dim[d].extent;
	return c;
}

static inline Count count_add(CpuModule *m, Count a, Count b)
{
	return (Count){ a.n + b.n, m ? cpu_add(m, a.v, b.v) : NULL };
}

static inline Count count_mul(CpuModule *m, Count a, Count b)
{
	return (Count){ a.n * b.n, m ? cpu_mul(m, a.v, b.v) : NULL };
}

static inline Count count_sub(CpuModule *m, Count a, Count b)
{
	return (Count){ a.n - b.n, m ? cpu_sub(m, a.v, b.v) : NULL };
}

static inline Count count_rem(CpuModule *m, Count a, Count b)
{
	return (Count){ a.n % b.n, m ? cpu_rem(m, a.v, b.v) : NULL };
}

static inline Count count_div(CpuModule *m, Count a, Count b)
{
	return (Count){ a.n / b.n, m ? cpu_div(m, a.v, b.v) : NULL };
}

static inline Count count_min(CpuModule *m, Count a, Count b)
{
	return (Count){ MIN(a.n, b.n), m ? cpu_min(m, a.v, b.v) : NULL };
}

static inline Count count_max(CpuModule *m, Count a, Count b)
{
	return (Count){ MAX(a.n, b.n), m ? cpu_max(m, a.v, b.v) : NULL };
}

/* a < b ? x : y */
static inline Count count_if_less(CpuModule *m, Count a, Count b, Count x, Count y)
{
	return (Count){ a.n < b.n ? x.n : y.n,
			m ? LLVMBuildSelect(m->builder, cpu_less(m, a.v, b.v), x.v, y.v, "") : NULL };
}

/* Rounded up; up to a multiple. */
static inline Count count_div_up(CpuModule *m, Count a, Count b)
{
	return count_div(m, count_add(m, a, count_sub(m, b, count_of(m, 1))), b);
}

static inline Count count_round(CpuModule *m, Count a, i64 to)
{
	return count_mul(m, count_div_up(m, a, count_of(m, to)), count_of(m, to));
}

/* LaunchNeeds (ir/target.h); where no code is being made, phases.n of them. What is left out is none. */
typedef struct CountNeeds {
	Count workspace, scratch; /* bytes */
	Count phases, tasks;      /* tasks: of the phase that was asked for */
} CountNeeds;

#endif
