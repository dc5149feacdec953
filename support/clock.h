/* support/clock.h: seconds of a clock that only goes forward, from an arbitrary beginning. */
#ifndef PL_CLOCK_H
#define PL_CLOCK_H
#include "support/base.h"
#include <time.h>

static inline f64 clock_seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (f64)t.tv_sec + 1e-9 * (f64)t.tv_nsec;
}

#endif
