/* race.h: who may have touched what in shared memory (race.c), and in that of the device (race_global.c). */
#ifndef STANDIN_RACE_H
#define STANDIN_RACE_H
#include "exec.h"

typedef struct Race Race;

/* A vector clock that the barrier passes on. */
u32 *race_barrier_clock(Block *b, u32 id);
/* `w` arrives: what it has done so far is known to all who acquire the clock. */
void race_release(Warp *w, u32 *clock);
void race_acquire(Warp *w, const u32 *clock);
/* Copies under way into these bytes: one more (+1) or one less (-1). */
void race_pending(Block *b, u32 address, u32 bytes, int change);
/* A fence between ordinary accesses and those of bulk copies and wgmma (fence.proxy.async). */
void race_proxy_fence(Warp *w);
/* A bulk copy or wgmma of `w` reads: what was written by ordinary stores must lie behind such a fence. */
bool race_proxy_read(Warp *w, const Inst *in, int lane, u32 address, u32 bytes);
/* Device memory, within a launch (race_global.c). */
u32 race_launch_number(void);
bool race_global(Warp *w, const Inst *in, int lane, u64 address, u32 bytes, int kind);
/* Now, for a warp; the warp of an epoch; is what another warp of the block did then not known to `w`? */
u32 race_epoch(const Warp *w);
u32 race_warp(u32 epoch);
bool race_unknown(const Warp *w, u32 epoch);
/* A copy of `w` has been done: a write of it now. */
void race_written(Warp *w, u32 address, u32 bytes);
#endif
