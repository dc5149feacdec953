/* schedule.c: a grid over host threads, a block's warps within one. Any order of warps between barriers
 * and any order of blocks is one that a GPU may take: PLINTH_STANDIN chooses. Reads a Launch, writes its
 * error. */
#include "engine.h"
#include "race.h"
#include <pthread.h>
#include <stdlib.h>

u64 block_random(Block *b)
{
	/* splitmix64 */
	u64 z = b->random += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

Action fault(Warp *w, const Inst *in, int lane, int error, const char *format, ...)
{
	Block *b = w->block;
	Launch *launch = b->launch;
	int free_to_report = 0;
	if (!atomic_compare_exchange_strong(&launch->failed, &free_to_report, 1))
		return FAULT;
	char what[600];
	va_list args;
	va_start(args, format);
	vsnprintf(what, sizeof what, format, args);
	va_end(args);
	u32 thread = w->index * LANES + (lane < 0 ? 0 : (u32)lane);
	u32 x = thread % launch->threads[0], y = thread / launch->threads[0] % launch->threads[1];
	u32 z = thread / launch->threads[0] / launch->threads[1];
	launch->error = error;
	snprintf(launch->message, sizeof launch->message,
		 "kernel %s, block (%u,%u,%u), %s (%u,%u,%u)%s: PTX line %u: %s: %s", w->kernel->name, b->ctaid[0],
		 b->ctaid[1], b->ctaid[2], lane < 0 ? "warp of thread" : "thread", x, y, z,
		 lane < 0 ? " as a whole" : "", in->statement ? in->statement->line : 0,
		 in->statement ? in->statement->text : "", what);
	return FAULT;
}

/* The value of a special register for a thread. */
static u32 special(const Block *b, const Warp *w, Special which, u32 lane)
{
	const Launch *x = b->launch;
	u32 thread = w->index * LANES + lane;
	u32 nwarp = b->nwarp;
	switch (which) {
	case SPECIAL_TID_X: return thread % x->threads[0];
	case SPECIAL_TID_Y: return thread / x->threads[0] % x->threads[1];
	case SPECIAL_TID_Z: return thread / x->threads[0] / x->threads[1];
	case SPECIAL_NTID_X: case SPECIAL_NTID_Y: case SPECIAL_NTID_Z: return x->threads[which - SPECIAL_NTID_X];
	case SPECIAL_CTAID_X: case SPECIAL_CTAID_Y: case SPECIAL_CTAID_Z: return b->ctaid[which - SPECIAL_CTAID_X];
	case SPECIAL_NCTAID_X: case SPECIAL_NCTAID_Y: case SPECIAL_NCTAID_Z: return x->grid[which - SPECIAL_NCTAID_X];
	case SPECIAL_LANEID: return lane;
	case SPECIAL_WARPID: return w->index;
	case SPECIAL_NWARPID: return nwarp;
	case SPECIAL_SMID: return b->linear % 132;
	case SPECIAL_NSMID: return 132;
	case SPECIAL_LANEMASK_EQ: return 1u << lane;
	case SPECIAL_LANEMASK_LE: return ALL_LANES >> (31 - lane);
	case SPECIAL_LANEMASK_LT: return (1u << lane) - 1;
	case SPECIAL_LANEMASK_GE: return ALL_LANES << lane;
	case SPECIAL_LANEMASK_GT: return ~(ALL_LANES >> (31 - lane));
	/* Every block is a cluster of one. */
	case SPECIAL_CLUSTERID_X: case SPECIAL_CLUSTERID_Y: case SPECIAL_CLUSTERID_Z:
		return b->ctaid[which - SPECIAL_CLUSTERID_X];
	case SPECIAL_NCLUSTERID_X: case SPECIAL_NCLUSTERID_Y: case SPECIAL_NCLUSTERID_Z:
		return x->grid[which - SPECIAL_NCLUSTERID_X];
	case SPECIAL_CLUSTER_NCTAID_X: case SPECIAL_CLUSTER_NCTAID_Y: case SPECIAL_CLUSTER_NCTAID_Z:
	case SPECIAL_CLUSTER_NCTARANK: return 1;
	case SPECIAL_DYNAMIC_SMEM_SIZE: return x->dynamic;
	case SPECIAL_TOTAL_SMEM_SIZE: return b->shared_end;
	default: return 0;
	}
}

/* A worker's block: memory that is used for one block after another. */
typedef struct Worker {
	Launch *launch;
	Block block;
	u8 *registers, *local;
	u64 *order;
	pthread_t thread;
} Worker;

static void *aligned(size_t bytes)
{
	void *p = NULL;
	if (posix_memalign(&p, 64, bytes ? ALIGN_UP(bytes, 64) : 64))
		NEVER("out of host memory");
	return p;
}

static void worker_open(Worker *k)
{
	Launch *x = k->launch;
	const Kernel *kernel = x->kernel;
	Block *b = &k->block;
	u32 threads = x->threads[0] * x->threads[1] * x->threads[2];
	size_t registers = ALIGN_UP(kernel->register_bytes, 64), local = (size_t)kernel->local_bytes * LANES;
	b->launch = x;
	b->nwarp = (threads + LANES - 1) / LANES;
	b->warp = calloc(b->nwarp, sizeof *b->warp);
	b->shared_end = x->dynamic ? kernel->dynamic_at + x->dynamic : SHARED_RESERVED + kernel->shared_bytes;
	b->shared = aligned(b->shared_end + 64);
	k->registers = aligned(registers * b->nwarp);
	k->local = aligned(local * b->nwarp);
	memset(k->registers, 0xff, registers * b->nwarp);
	for (u32 i = 0; i < b->nwarp; i++) {
		Warp *w = &b->warp[i];
		w->r = k->registers + registers * i;
		w->local = k->local + local * i;
		w->block = b;
		w->kernel = kernel;
		w->index = i;
		for (u32 c = 0; c < kernel->constants.n; c++) {
			Constant v = kernel->constants.v[c];
			for (u32 l = 0; l < LANES; l++) {
				if (v.wide)
					r64(w, v.offset)[l] = v.bits;
				else
					r32(w, v.offset)[l] = (u32)v.bits;
			}
		}
	}
}

static void worker_close(Worker *k)
{
	race_stop(&k->block);
	free(k->block.warp);
	free(k->block.shared);
	free(k->registers);
	free(k->local);
	arena_free(&k->block.arena);
}

static void block_open(Worker *k, u64 linear)
{
	Block *b = &k->block;
	Launch *x = k->launch;
	u32 threads = x->threads[0] * x->threads[1] * x->threads[2];
	b->linear = (u32)linear;
	b->ctaid[0] = (u32)(linear % x->grid[0]);
	b->ctaid[1] = (u32)(linear / x->grid[0] % x->grid[1]);
	b->ctaid[2] = (u32)(linear / x->grid[0] / x->grid[1]);
	b->done = 0;
	b->progress = 0;
	b->random = settings()->seed ^ linear * 0x2545f4914f6cdd1du;
	memset(b->barrier, 0, sizeof b->barrier);
	if (settings()->poison) {
		memset(b->shared, 0xff, b->shared_end);
		memset(k->local, 0xff, (size_t)x->kernel->local_bytes * LANES * b->nwarp);
	}
	for (u32 i = 0; i < b->nwarp; i++) {
		Warp *w = &b->warp[i];
		u32 here = MIN(threads - i * LANES, LANES);
		w->live = here == LANES ? ALL_LANES : (1u << here) - 1;
		w->nfragment = 1;
		w->current = 0;
		w->fragment[0] = (Fragment){ .mask = w->live };
		w->spin = 0;
		memset(w->group, 0, sizeof w->group);
		memset(&w->copies, 0, sizeof w->copies);
		memset(&w->products, 0, sizeof w->products);
		w->products_committed = w->products_issued = 0;
		for (u32 s = 0; s < x->kernel->specials.n; s++) {
			SpecialUse use = x->kernel->specials.v[s];
			for (u32 l = 0; l < LANES; l++)
				r32(w, use.offset)[l] = special(b, w, use.which, l);
		}
	}
	if (settings()->race || settings()->uninitialized)
		race_start(b);
}

static bool has_ready(const Warp *w)
{
	for (u32 i = 0; i < w->nfragment; i++)
		if (w->fragment[i].state == READY)
			return true;
	return false;
}

/* Nothing can run and not all have finished: says who waits where. */
static void report_deadlock(Block *b)
{
	static const char *const states[] = { [READY] = "runs on and on", [AT_SYNC] = "waits for other lanes of its warp",
					      [AT_BARRIER] = "waits at a barrier",
					      [AT_MBARRIER] = "waits for an mbarrier",
					      [AT_WARPGROUP] = "waits for the other warps of its warpgroup" };
	char text[500];
	size_t n = 0;
	Warp *first = NULL;
	Fragment *at = NULL;
	for (u32 i = 0; i < b->nwarp; i++)
		for (u32 k = 0; k < b->warp[i].nfragment && n < sizeof text - 120; k++) {
			Fragment *f = &b->warp[i].fragment[k];
			if (!first) {
				first = &b->warp[i];
				at = f;
			}
			const Statement *s = b->warp[i].kernel->code[f->pc].statement;
			n += (size_t)snprintf(text + n, sizeof text - n, "; warp %u, lanes %08x: %s at line %u", i,
					      f->mask, states[f->state], s ? s->line : 0);
		}
	if (first)
		fault(first, &first->kernel->code[at->pc], -1, ERROR_LAUNCH_FAILED,
		      "deadlock: nothing in the block can go on%.*s", (int)n, text);
}

/* Rounds in which warps only ran long or asked in vain, and nothing came of it. */
enum { FUTILE_ROUNDS = 2000 };

/* Lets each warp that can run do so once; false after a fault. */
static bool block_round(Block *b, bool *ran)
{
	Schedule order = settings()->schedule;
	u32 turn = order == SCHEDULE_RANDOM ? (u32)(block_random(b) % b->nwarp) : 0;
	*ran = false;
	for (u32 i = 0; i < b->nwarp; i++) {
		u32 at = order == SCHEDULE_DESCENDING ? b->nwarp - 1 - i : (i + turn) % b->nwarp;
		Warp *w = &b->warp[at];
		u32 budget = order == SCHEDULE_RANDOM ? 1 + (u32)(block_random(b) % 200) : 0xffffffffu;
		if (!w->nfragment || !has_ready(w))
			continue;
		*ran = true;
		if (!warp_run(w, budget))
			return false;
	}
	return true;
}

static void block_run(Block *b)
{
	u32 futile = 0;
	while (b->done < b->nwarp && !atomic_load_explicit(&b->launch->failed, memory_order_relaxed)) {
		u64 before = b->progress;
		bool ran;
		b->spun = false;
		if (!block_round(b, &ran))
			return;
		bool idle = !ran || (b->spun && b->progress == before);
		/* Bulk copies come when nothing else gets on, or at any time. */
		bool now = idle || (settings()->schedule == SCHEDULE_RANDOM && block_random(b) % 4 == 0);
		bool copied = now && bulk_step(b);
		futile = idle && !copied ? futile + 1 : 0;
		if (b->done < b->nwarp && ((!ran && !copied) || futile == FUTILE_ROUNDS)) {
			report_deadlock(b);
			return;
		}
	}
}

static void *work(void *argument)
{
	Worker *k = argument;
	Launch *x = k->launch;
	worker_open(k);
	for (;;) {
		u64 i = atomic_fetch_add(&x->next, 1);
		if (i >= x->nblock || atomic_load_explicit(&x->failed, memory_order_relaxed))
			break;
		if (k->order)
			i = k->order[i];
		else if (settings()->schedule == SCHEDULE_DESCENDING)
			i = x->nblock - 1 - i;
		block_open(k, i);
		block_run(&k->block);
		k->block.engine = NULL;
		arena_free(&k->block.arena);
	}
	worker_close(k);
	return NULL;
}

void launch_run(Launch *x)
{
	u64 *order = NULL;
	x->number = settings()->race ? race_launch_number() : 0;
	u32 n = (u32)MIN((u64)settings()->threads, x->nblock);
	if (settings()->schedule == SCHEDULE_RANDOM) {
		Block dice = { .random = settings()->seed };
		order = malloc(x->nblock * sizeof *order);
		for (u64 i = 0; i < x->nblock; i++) {
			u64 j = block_random(&dice) % (i + 1);
			order[i] = order[j];
			order[j] = i;
		}
	}
	Worker *workers = calloc(n, sizeof *workers);
	for (u32 i = 0; i < n; i++) {
		workers[i].launch = x;
		workers[i].order = order;
		if (i && pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			n = i; /* the ones that there are will do */
	}
	work(&workers[0]);
	for (u32 i = 1; i < n; i++)
		pthread_join(workers[i].thread, NULL);
	free(workers);
	free(order);
}
