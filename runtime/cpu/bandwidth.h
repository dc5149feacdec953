/* runtime/cpu/bandwidth.h: how many bytes a second this machine's memory moves, measured by moving some, in the three
 * ways that kernels do: the yardstick for what is bound by memory, as the measured peak (peak.h) is for arithmetic. */
#ifndef PL_BANDWIDTH_H
#define PL_BANDWIDTH_H
#include "runtime/cpu/memory.h"
#include "runtime/device.h"

typedef struct Bandwidth {
	Threads *pool;
	HostArena memory; /* two halves */
	size_t bytes;     /* of a half */
} Bandwidth;

/* Takes two halves of `bytes` each; 0: together twice the last cache, which a walk from end to end then never finds
 * anything in. */
PL_MUST_USE Status bandwidth_open(Threads *pool, size_t bytes, Bandwidth *out);
void bandwidth_close(Bandwidth *b);

/* Bytes read and written a second, the best of a few tries of some milliseconds; 0: this processor has no such way. */
f64 bandwidth_measure(const Bandwidth *b, DeviceMove way);

#endif
