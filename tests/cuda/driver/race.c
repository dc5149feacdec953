/* race.c: races for shared memory between the warps of a block, and reads of what nobody wrote. Each two
 * bytes remember who wrote them last and who has read them since, each warp what it knows of the others
 * (a vector clock); barriers and mbarriers pass that knowledge on. Two accesses of different warps, one of
 * them a write, neither known to the other, are a race whatever the order they came in. Follows FastTrack
 * (Flanagan and Freund, FastTrack: Efficient and Precise Dynamic Race Detection, 2009). */
#include "race.h"
#include <stdlib.h>

enum { GRANULE = 2, CLOCK_BITS = 27, SHARED_READ = 31 };
#define EPOCH(warp, clock) ((u32)(warp) << CLOCK_BITS | (clock))
#define WARP_OF(epoch)     ((epoch) >> CLOCK_BITS)
#define CLOCK_OF(epoch)    ((epoch) & ((1u << CLOCK_BITS) - 1))

typedef struct Word {
	u32 write, read;    /* epochs; of a word that several warps read, `read` is an index into `readers` */
	u32 pending;        /* asynchronous copies under way */
	u32 block;          /* which block of its worker it speaks of: else it is blank */
	u32 fences;         /* proxy fences of the writer before its write */
	bool many, atomic;
	bool ordinary;      /* written by a store, not by a copy */
} Word;

struct Race {
	Word *word;
	u32 nword;
	u32 block;
	u32 clock[LANES][LANES];
	u32 barrier[BARRIERS][LANES];
	u32 fences[LANES];           /* proxy fences of each warp */
	u32 fence_clock[LANES][LANES]; /* what it knew at its last one */
	u32 (*readers)[LANES];
	u32 nreaders, readers_room;
};

void race_start(Block *b)
{
	Race *r = b->race;
	if (!r) {
		r = b->race = calloc(1, sizeof *r);
		if (r)
			r->word = calloc(b->shared_end / GRANULE + 1, sizeof *r->word);
		if (!r || !r->word)
			NEVER("out of host memory");
		r->nword = b->shared_end / GRANULE + 1;
	}
	r->block++;
	memset(r->clock, 0, sizeof r->clock);
	for (u32 i = 0; i < LANES; i++)
		r->clock[i][i] = 1;
	memset(r->fences, 0, sizeof r->fences);
	memset(r->fence_clock, 0, sizeof r->fence_clock);
	memset(r->barrier, 0, sizeof r->barrier);
	r->nreaders = 0;
}

void race_stop(Block *b)
{
	if (!b->race)
		return;
	free(b->race->word);
	free(b->race->readers);
	free(b->race);
	b->race = NULL;
}

u32 *race_barrier_clock(Block *b, u32 id)
{
	return b->race->barrier[id];
}

void race_release(Warp *w, u32 *clock)
{
	Race *r = w->block->race;
	for (u32 i = 0; i < LANES; i++)
		clock[i] = MAX(clock[i], r->clock[w->index][i]);
	r->clock[w->index][w->index]++;
}

void race_acquire(Warp *w, const u32 *clock)
{
	Race *r = w->block->race;
	for (u32 i = 0; i < LANES; i++)
		r->clock[w->index][i] = MAX(r->clock[w->index][i], clock[i]);
}

static Word *word_at(Race *r, u32 at)
{
	Word *x = &r->word[at];
	if (x->block != r->block)
		*x = (Word){ .block = r->block };
	return x;
}

/* The epoch is of another warp and not known to `w`. */
static bool unknown(const Race *r, const Warp *w, u32 epoch)
{
	return WARP_OF(epoch) != w->index && CLOCK_OF(epoch) > r->clock[w->index][WARP_OF(epoch)];
}

u32 race_epoch(const Warp *w)
{
	return EPOCH(w->index, w->block->race->clock[w->index][w->index]);
}

u32 race_warp(u32 epoch)
{
	return WARP_OF(epoch);
}

bool race_unknown(const Warp *w, u32 epoch)
{
	return unknown(w->block->race, w, epoch);
}

static bool report(Warp *w, const Inst *in, int lane, u32 address, const char *mine, const char *theirs, u32 warp)
{
	fault(w, in, lane, ERROR_LAUNCH_FAILED,
	      "race: it %s shared address %u, which warp %u %s with no barrier between", mine, address, warp, theirs);
	return false;
}

static void remember_read(Race *r, Warp *w, Word *x)
{
	u32 now = EPOCH(w->index, r->clock[w->index][w->index]);
	if (x->many) {
		r->readers[x->read][w->index] = CLOCK_OF(now);
	} else if (WARP_OF(x->read) == w->index || !unknown(r, w, x->read)) {
		x->read = now;
	} else {
		if (r->nreaders == r->readers_room) {
			r->readers_room = r->readers_room ? 2 * r->readers_room : 1024;
			r->readers = realloc(r->readers, r->readers_room * sizeof *r->readers);
			if (!r->readers)
				NEVER("out of host memory");
		}
		u32 *list = r->readers[r->nreaders];
		memset(list, 0, sizeof *r->readers);
		list[WARP_OF(x->read)] = CLOCK_OF(x->read);
		list[w->index] = CLOCK_OF(now);
		x->read = r->nreaders++;
		x->many = true;
	}
}

/* A warp whose read `w` does not know of, or -1. */
static int unknown_reader(const Race *r, const Warp *w, const Word *x)
{
	if (!x->many)
		return unknown(r, w, x->read) ? (int)WARP_OF(x->read) : -1;
	for (u32 i = 0; i < LANES; i++)
		if (i != w->index && r->readers[x->read][i] > r->clock[w->index][i])
			return (int)i;
	return -1;
}

bool race_access(Warp *w, const Inst *in, int lane, u32 address, u32 bytes, int kind)
{
	Race *r = w->block->race;
	const Settings *s = settings();
	for (u32 at = address / GRANULE; at <= (address + bytes - 1) / GRANULE && at < r->nword; at++) {
		Word *x = word_at(r, at);
		bool fresh = !x->write;
		if (kind == ACCESS_READ && fresh && s->uninitialized && !x->pending) {
			fault(w, in, lane, ERROR_LAUNCH_FAILED, "shared address %u is read and was never written", at * GRANULE);
			return false;
		}
		if (s->race) {
			if (x->pending && kind != ACCESS_ASYNC) {
				fault(w, in, lane, ERROR_LAUNCH_FAILED,
				      "shared address %u is used while an asynchronous copy into it is under way", at * GRANULE);
				return false;
			}
			if (!fresh && unknown(r, w, x->write) && !(kind == ACCESS_ATOMIC && x->atomic))
				return report(w, in, lane, at * GRANULE, kind == ACCESS_READ ? "reads" : "writes", "wrote",
					      WARP_OF(x->write));
			int reader = kind == ACCESS_READ ? -1 : unknown_reader(r, w, x);
			if (reader >= 0)
				return report(w, in, lane, at * GRANULE, "writes", "reads", (u32)reader);
		}
		if (kind == ACCESS_READ) {
			remember_read(r, w, x);
		} else {
			x->write = EPOCH(w->index, r->clock[w->index][w->index]);
			x->read = 0;
			x->many = false;
			x->atomic = kind == ACCESS_ATOMIC;
			x->ordinary = kind != ACCESS_ASYNC;
			x->fences = r->fences[w->index];
		}
	}
	return true;
}

void race_proxy_fence(Warp *w)
{
	Race *r = w->block->race;
	r->fences[w->index]++;
	memcpy(r->fence_clock[w->index], r->clock[w->index], sizeof r->clock[0]);
}

bool race_proxy_read(Warp *w, const Inst *in, int lane, u32 address, u32 bytes)
{
	Race *r = w->block->race;
	if (!race_access(w, in, lane, address, bytes, ACCESS_READ))
		return false;
	for (u32 at = address / GRANULE; settings()->race && at <= (address + bytes - 1) / GRANULE && at < r->nword; at++) {
		const Word *x = word_at(r, at);
		u32 writer = WARP_OF(x->write);
		/* The writer has fenced since, or the reader has, after it knew of the write. */
		if (!x->write || !x->ordinary || r->fences[writer] > x->fences ||
		    (writer != w->index && CLOCK_OF(x->write) <= r->fence_clock[w->index][writer]))
			continue;
		fault(w, in, lane, ERROR_LAUNCH_FAILED,
		      "shared address %u was written by stores of warp %u, and no fence.proxy.async lies between", at * GRANULE, writer);
		return false;
	}
	return true;
}

void race_pending(Block *b, u32 address, u32 bytes, int change)
{
	for (u32 at = address / GRANULE; at <= (address + bytes - 1) / GRANULE && at < b->race->nword; at++)
		word_at(b->race, at)->pending += (u32)change;
}

void race_written(Warp *w, u32 address, u32 bytes)
{
	Race *r = w->block->race;
	for (u32 at = address / GRANULE; at <= (address + bytes - 1) / GRANULE && at < r->nword; at++)
		word_at(r, at)->write = EPOCH(w->index, r->clock[w->index][w->index]);
}
