/* race_global.c: races for device memory within one launch: blocks run at any time and in any order, so that what one writes no other may
 * touch (atomics may meet), and warps of a block may where a barrier lies between (race.c knows). Each byte remembers its last writer and two
 * readers of which neither comes after the other, of different blocks if there are such: a later write must be held against these; a launch begins
 * anew. */
#include "race.h"
#include <stdlib.h>

enum { PAGE_BITS = 16, PAGE = 1 << PAGE_BITS, PAGES = 1 << 20 };

typedef struct Who {
	u32 block;  /* one more than its number; 0: nobody */
	u32 epoch;  /* warp and its clock, as race.c has them */
} Who;

typedef struct Byte {
	u32 launch;
	bool atomic; /* what was written last */
	Who writer, reader[2];
} Byte;

typedef struct Page {
	u64 number;
	atomic_flag lock;
	Byte byte[PAGE];
} Page;

static Page *_Atomic page[PAGES];

u32 race_launch_number(void)
{
	static atomic_uint n;
	return atomic_fetch_add(&n, 1) + 1;
}

static Page *page_of(u64 address)
{
	u64 number = address >> PAGE_BITS;
	Page *_Atomic *at = &page[number % PAGES], *there = NULL;
	Page *p = atomic_load(at);
	if (!p) {
		p = calloc(1, sizeof *p);
		if (!p)
			NEVER("out of host memory");
		p->number = number;
		if (!atomic_compare_exchange_strong(at, &there, p)) {
			free(p);
			p = there;
		}
	}
	return p->number == number ? p : NULL; /* memory of more than 64 GiB: some of it is not looked at */
}

/* Whom of another warp an access meets. */
static bool meets(const Warp *w, const Who *other)
{
	if (!other->block)
		return false;
	return other->block != w->block->linear + 1 || race_unknown(w, other->epoch);
}

static void remember(const Warp *w, Byte *x, Who me, int kind)
{
	if (kind != ACCESS_READ) {
		x->writer = me;
		x->atomic = kind == ACCESS_ATOMIC;
		x->reader[0] = x->reader[1] = (Who){ 0 };
		return;
	}
	/* in the place of one that it comes after, whom a later write then comes after too; or of a second one of a block */
	for (u32 i = 0; i < 2; i++)
		if (!meets(w, &x->reader[i])) {
			x->reader[i] = me;
			return;
		}
	if (x->reader[0].block == x->reader[1].block)
		x->reader[1] = me;
}

bool race_global(Warp *w, const Inst *in, int lane, u64 address, u32 bytes, int kind)
{
	static const char *const did[] = { [ACCESS_READ] = "reads", [ACCESS_WRITE] = "writes", [ACCESS_ATOMIC] = "changes" };
	Who me = { w->block->linear + 1, race_epoch(w) };
	for (u64 a = address; a < address + bytes; a++) {
		Page *p = page_of(a);
		if (!p)
			continue;
		while (atomic_flag_test_and_set_explicit(&p->lock, memory_order_acquire))
			;
		Byte *x = &p->byte[a & (PAGE - 1)];
		if (x->launch != w->block->launch->number)
			*x = (Byte){ .launch = w->block->launch->number };
		const char *theirs = NULL;
		Who other = x->writer;
		if (meets(w, &x->writer) && !(kind == ACCESS_ATOMIC && x->atomic))
			theirs = "wrote";
		for (u32 i = 0; i < 2 && kind != ACCESS_READ && !theirs; i++)
			if (meets(w, &x->reader[i])) {
				theirs = "read";
				other = x->reader[i];
			}
		if (!theirs)
			remember(w, x, me, kind);
		atomic_flag_clear_explicit(&p->lock, memory_order_release);
		if (!theirs)
			continue;
		fault(w, in, lane, ERROR_LAUNCH_FAILED, "race: it %s device address 0x%llx, which block %u, warp %u %s in the same launch%s",
		      did[kind], (unsigned long long)a, other.block - 1, race_warp(other.epoch), theirs,
		      other.block == me.block ? " with no barrier between" : "");
		return false;
	}
	return true;
}
