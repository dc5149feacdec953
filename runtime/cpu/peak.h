/* runtime/cpu/peak.h: how many floating-point operations a second this machine's cores do at most, measured:
 * the yardstick beside which a training step's rate is printed as "of measured peak". */
#ifndef PL_PEAK_H
#define PL_PEAK_H
#include "runtime/cpu/threads.h"

typedef enum PeakKind {
	PEAK_F32, /* fused multiply-add in f32 */
	PEAK_BF16 /* products of bf16 added up in f32, where the cores can; otherwise as f32 */
} PeakKind;

/* In operations per second (an FMA is two), of all threads of the pool together; the best of a few short
 * runs, some 20 ms in all, so that one of them is undisturbed. 0 where this file knows no fast instruction for the machine. */
f64 peak_measure(Threads *pool, PeakKind kind);
/* The same over some 100 ms, disturbances and all: what could be kept up. */
f64 peak_sustained(Threads *pool, PeakKind kind);

#endif
