/* runtime/data/loader.c: see loader.h. Which window comes at an index is a function, not a list: a
 * permutation of n things is a Feistel network on the next even power of two, applied again until
 * the result is below n (cycle walking: Black and Rogaway, 2002). So a position is two numbers,
 * restoring it costs nothing, and there is no memory in the size of the corpus. */
#include "runtime/data/loader.h"

#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { BLOCK_WINDOWS = 64, POOL_WINDOWS = 256 * BLOCK_WINDOWS, FEISTEL_ROUNDS = 8 };

/* A batch read ahead, or why there is none. */
typedef struct Slot {
	i32 *tokens, *targets;
	u32 rows;
	bool more;
	LoaderPosition after;
	bool failed;
	Failure failure;
} Slot;

struct Loader {
	const Shards *shards;
	LoaderConfig config;
	u32 local;               /* rows of this rank */
	i32 *window;             /* T + 1 ids */
	LoaderPosition position; /* of the next batch that is given out */
	Failure failure;         /* what loader_next says from the first failure on */
	bool failed;

	/* Read ahead: the thread writes slots from `filled` on, loader_next reads at `taken`; both
	 * count up without end, and slot i is slot[i % ahead]. */
	Slot *slot;
	pthread_t thread;
	bool running;
	pthread_mutex_t lock; /* guards the three below */
	pthread_cond_t changed;
	u64 filled, taken;
	bool stop;
	LoaderPosition reading; /* the thread's own while it runs */
};

/* SplitMix64's finalizer (Steele, Lea, Flood, 2014): every bit depends on every bit. */
static u64 mix(u64 x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

/* Where `i` of n goes in the permutation that `key` names. */
static u64 permute(u64 key, u64 n, u64 i)
{
	u32 half = 1;
	while (half < 32 && (u64)1 << 2 * half < n)
		half++;
	u64 mask = ((u64)1 << half) - 1;
	do {
		u64 left = i >> half, right = i & mask;
		for (u32 round = 0; round < FEISTEL_ROUNDS; round++) {
			u64 was = right;
			right = left ^ (mix(key ^ mix(right << 8 | round)) & mask);
			left = was;
		}
		i = left << half | right;
	} while (i >= n);
	return i;
}

/* A number for one use of the seed; uses do not meet. */
static u64 draw(const Loader *l, u64 use, u64 epoch, u64 index)
{
	return mix(mix(mix(l->config.seed + use) ^ epoch) ^ index);
}

/* Below n, even to one part in 2^64 / n. */
static u64 below(u64 random, u64 n)
{
	return (u64)((unsigned __int128)random * n >> 64);
}

/* Ids before the first window of an epoch. */
static u64 offset_of(const Loader *l, u64 epoch)
{
	u64 targets = l->shards->count - 1, T = l->config.window;
	if (l->config.order != LOADER_SHUFFLE || !epoch)
		return 0;
	/* at least one window stays */
	return below(draw(l, 1, epoch, 0), MIN(T, targets - T + 1));
}

u64 loader_windows(const Loader *l, u64 epoch)
{
	u64 targets = l->shards->count - 1, T = l->config.window;
	if (l->config.order == LOADER_SEQUENTIAL)
		return (targets + T - 1) / T;
	if (l->config.order == LOADER_RANDOM)
		return UINT64_MAX;
	return (targets - offset_of(l, epoch)) / T;
}

/* The id at which the window number `index` of an epoch begins. */
static u64 start_of(const Loader *l, u64 epoch, u64 index)
{
	u64 T = l->config.window;
	if (l->config.order == LOADER_SEQUENTIAL)
		return index * T;
	if (l->config.order == LOADER_RANDOM)
		return below(draw(l, 2, epoch, index), l->shards->count - T);
	u64 n = loader_windows(l, epoch), pool = index / POOL_WINDOWS, first = pool * POOL_WINDOWS;
	u64 place = first +
		    permute(draw(l, 3, epoch, pool), MIN(POOL_WINDOWS, n - first), index - first);
	/* the last block, if it is not a whole one, stays the last */
	u64 block = place / BLOCK_WINDOWS, whole = n / BLOCK_WINDOWS;
	if (block < whole)
		block = permute(draw(l, 4, epoch, 0), whole, block);
	return offset_of(l, epoch) + (block * BLOCK_WINDOWS + place % BLOCK_WINDOWS) * T;
}

/* One row; nothing of it is real past the end of a sequential walk. */
static Status read_row(Loader *l, u64 epoch, u64 index, i32 *tokens, i32 *targets, bool *real)
{
	u32 T = l->config.window;
	u64 n = 0, start = 0;
	*real = index < loader_windows(l, epoch);
	if (*real) {
		start = start_of(l, epoch, index);
		n = MIN((u64)T, l->shards->count - 1 - start);
		TRY(shards_read(l->shards, start, n + 1, l->window));
	}
	memcpy(tokens, l->window, n * sizeof *tokens);
	memcpy(targets, l->window + 1, n * sizeof *targets);
	for (u64 i = n; i < T; i++) {
		tokens[i] = 0;
		targets[i] = l->config.ignore;
	}
	return OK;
}

/* This rank's rows of the batch at *at, which goes on to the next. */
static Status read_batch(Loader *l, LoaderPosition *at, i32 *tokens, i32 *targets, u32 *rows,
			 bool *more)
{
	u32 B = l->config.batch, from = l->config.rank * l->local;
	u64 windows = loader_windows(l, at->epoch);
	bool once = l->config.order == LOADER_SEQUENTIAL;
	*rows = 0;
	*more = !once || at->index < windows;
	if (!*more)
		return OK;
	LoaderPosition next = *at;
	for (u32 row = 0; row < B; row++) {
		if (!once && next.index == windows) {
			next.epoch++;
			next.index = 0;
			windows = loader_windows(l, next.epoch);
		}
		if (row >= from && row < from + l->local) {
			size_t to = (size_t)(row - from) * l->config.window;
			bool real;
			TRY(read_row(l, next.epoch, next.index, tokens + to, targets + to, &real));
			*rows += real;
		}
		next.index++;
	}
	if (once)
		next.index = MIN(next.index, windows);
	*at = next;
	return OK;
}

/* --- reading ahead ---------------------------------------------------------------------------- */

static void *read_ahead(void *loader)
{
	Loader *l = loader;
	for (bool go = true; go;) {
		pthread_mutex_lock(&l->lock);
		while (!l->stop && l->filled - l->taken == l->config.ahead)
			pthread_cond_wait(&l->changed, &l->lock);
		bool stop = l->stop;
		u64 filled = l->filled;
		pthread_mutex_unlock(&l->lock);
		if (stop)
			break;
		/* Between taken and filled + 1 the slot is this thread's alone. */
		Slot *s = &l->slot[filled % l->config.ahead];
		Status why = read_batch(l, &l->reading, s->tokens, s->targets, &s->rows, &s->more);
		s->failed = why != OK;
		if (why)
			s->failure = *why;
		s->after = l->reading;
		go = !why && s->more;
		pthread_mutex_lock(&l->lock);
		l->filled++;
		pthread_cond_broadcast(&l->changed);
		pthread_mutex_unlock(&l->lock);
	}
	return NULL;
}

static Status start(Loader *l)
{
	if (!l->config.ahead)
		return OK;
	l->filled = l->taken = 0;
	l->stop = false;
	l->reading = l->position;
	int why = pthread_create(&l->thread, NULL, read_ahead, l);
	if (why)
		return FAIL(STATUS_MEMORY, "cannot start the thread that reads ahead: %s",
			    strerror(why));
	l->running = true;
	return OK;
}

static void stop(Loader *l)
{
	if (!l->running)
		return;
	pthread_mutex_lock(&l->lock);
	l->stop = true;
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
	pthread_join(l->thread, NULL);
	l->running = false;
}

static Status take(Loader *l, i32 *tokens, i32 *targets, u32 *rows, bool *more)
{
	pthread_mutex_lock(&l->lock);
	while (l->filled == l->taken)
		pthread_cond_wait(&l->changed, &l->lock);
	pthread_mutex_unlock(&l->lock);
	const Slot *s = &l->slot[l->taken % l->config.ahead];
	*more = s->more;
	*rows = s->rows;
	if (s->failed)
		return &s->failure;
	if (!s->more)
		return OK; /* the slot stays, and says so again */
	size_t size = (size_t)l->local * l->config.window * sizeof *tokens;
	memcpy(tokens, s->tokens, size);
	memcpy(targets, s->targets, size);
	l->position = s->after;
	pthread_mutex_lock(&l->lock);
	l->taken++;
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
	return OK;
}

/* ---------------------------------------------------------------------------------------------- */

static Status check(const Shards *shards, const LoaderConfig *c)
{
	u64 least = c->order == LOADER_SEQUENTIAL ? 2 : (u64)c->window + 1;
	const char *path = shards->n ? shards->shard[0].path : "the data";
	if (!c->batch || !c->window)
		return FAIL(STATUS_INPUT, "a batch has at least one row of at least one token");
	if (c->rank >= c->ranks || c->batch % c->ranks)
		return FAIL(STATUS_INPUT, "a batch of %u rows cannot be divided among %u ranks",
			    c->batch, c->ranks);
	if (shards->count < least)
		return FAIL(STATUS_INPUT,
			    "%s: %llu tokens are too few for a window of %u and its targets", path,
			    (unsigned long long)shards->count, c->window);
	return OK;
}

Status loader_open(Arena *a, const Shards *shards, LoaderConfig config, Loader **out)
{
	if (!config.ranks)
		config.ranks = 1;
	TRY(check(shards, &config));
	Loader *l = NEW(a, Loader);
	u64 order[] = { (u64)config.order, config.window, config.seed, BLOCK_WINDOWS,
			POOL_WINDOWS };
	*l = (Loader){ .shards = shards,
		       .config = config,
		       .local = config.batch / config.ranks,
		       .window = NEWN(a, i32, (size_t)config.window + 1),
		       .position = { .data = shards->hash,
				     .order = XXH3_64bits(order, sizeof order) } };
	size_t size = (size_t)l->local * config.window;
	l->slot = NEWN(a, Slot, config.ahead);
	for (u32 i = 0; i < config.ahead; i++) {
		l->slot[i].tokens = NEWN(a, i32, size);
		l->slot[i].targets = NEWN(a, i32, size);
	}
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->changed, NULL);
	*out = l;
	Status s = start(l);
	if (s)
		loader_close(l);
	return s;
}

void loader_close(Loader *l)
{
	if (!l)
		return;
	stop(l);
	pthread_mutex_destroy(&l->lock);
	pthread_cond_destroy(&l->changed);
}

Status loader_next(Loader *l, i32 *tokens, i32 *targets, u32 *rows, bool *more)
{
	if (l->failed)
		return &l->failure;
	Status s = l->running ? take(l, tokens, targets, rows, more)
			      : read_batch(l, &l->position, tokens, targets, rows, more);
	if (s) {
		l->failure = *s;
		l->failed = true;
		return &l->failure;
	}
	return OK;
}

LoaderPosition loader_position(const Loader *l)
{
	return l->position;
}

Status loader_seek(Loader *l, LoaderPosition to)
{
	if (to.data != l->position.data)
		return FAIL(STATUS_INPUT, "the position is one in other data than %s",
			    l->shards->shard[0].path);
	if (to.order != l->position.order)
		return FAIL(STATUS_INPUT,
			    "the position is one with another seed, window or order than "
			    "those of this run");
	if (to.index > loader_windows(l, to.epoch))
		return FAIL(STATUS_INPUT, "the position is past the end: window %llu of %llu",
			    (unsigned long long)to.index,
			    (unsigned long long)loader_windows(l, to.epoch));
	stop(l);
	l->position = to;
	l->failed = false;
	return start(l);
}

/* Hashes are text, since not every reader of JSON has 64-bit integers. */
const char *loader_position_text(Arena *a, LoaderPosition p)
{
	return arena_printf(a,
			    "{\"epoch\": %" PRIu64 ", \"index\": %" PRIu64
			    ", \"data\": \"%016" PRIx64 "\", \"order\": \"%016" PRIx64 "\"}",
			    p.epoch, p.index, p.data, p.order);
}

Status loader_position_read(const char *text, LoaderPosition *out)
{
	json_error_t e;
	json_int_t epoch = -1, index = -1;
	const char *data = "", *order = "";
	json_t *root = json_loads(text, 0, &e);
	int bad = !root || json_unpack(root, "{s:I, s:I, s:s, s:s}", "epoch", &epoch, "index",
				       &index, "data", &data, "order", &order);
	char *end[2];
	*out = (LoaderPosition){ .epoch = (u64)epoch,
				 .index = (u64)index,
				 .data = strtoull(data, &end[0], 16),
				 .order = strtoull(order, &end[1], 16) };
	bad |= epoch < 0 || index < 0 || strlen(data) != 16 || *end[0] || strlen(order) != 16 ||
	       *end[1];
	json_decref(root);
	return bad ? FAIL(STATUS_INPUT, "'%.200s' is not the position of a data loader", text) : OK;
}
