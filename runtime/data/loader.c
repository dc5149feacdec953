/* runtime/data/loader.c: see loader.h. Which row comes at an index is a function, not a list: a
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

enum { BLOCK_ROWS = 64, POOL_ROWS = 256 * BLOCK_ROWS, FEISTEL_ROUNDS = 8 };

/* A batch read ahead, or why there is none. */
typedef struct Slot {
	u8 *input[DATA_INPUTS];
	u32 rows;
	bool more;
	LoaderPosition after;
	bool failed;
	Failure failure;
} Slot;

struct Loader {
	const Dataset *data;
	const void *bound;
	u64 units; /* of a row */
	LoaderConfig config;
	u32 local;               /* rows of this rank */
	u64 row[DATA_INPUTS];    /* bytes of a row of each input */
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
			right = left ^ (data_mix(key, data_mix(0, right << 8 | round)) & mask);
			left = was;
		}
		i = left << half | right;
	} while (i >= n);
	return i;
}

/* A number for one use of the seed; uses do not meet. */
static u64 draw(const Loader *l, u64 use, u64 epoch, u64 index)
{
	return data_mix(data_mix(data_mix(0, l->config.seed + use), epoch), index);
}

static DataWalk walk_of(const Loader *l, u64 epoch)
{
	return l->config.order == LOADER_SEQUENTIAL ? (DataWalk){ .once = true } :
						      (DataWalk){ .shift = epoch ? draw(l, 1, epoch, 0) : 0 };
}

u64 loader_rows(const Loader *l, u64 epoch)
{
	return l->data->kind->rows(l->data, l->bound, walk_of(l, epoch));
}

/* The row that comes at `index` of an epoch of n. */
static u64 row_at(const Loader *l, u64 epoch, u64 index, u64 n)
{
	if (l->config.order == LOADER_SEQUENTIAL)
		return index;
	u64 pool = index / POOL_ROWS, first = pool * POOL_ROWS;
	u64 place = first + permute(draw(l, 3, epoch, pool), MIN(POOL_ROWS, n - first), index - first);
	/* the last block, if it is not a whole one, stays the last */
	u64 block = place / BLOCK_ROWS, whole = n / BLOCK_ROWS;
	if (block < whole)
		block = permute(draw(l, 4, epoch, 0), whole, block);
	return block * BLOCK_ROWS + place % BLOCK_ROWS;
}

/* Row `to` of a batch; nothing of it is real past the end of a sequential walk. */
static Status read_row(const Loader *l, u64 epoch, u64 index, u64 n, u32 to, u8 *const *batch, bool *real)
{
	u8 *part[DATA_INPUTS];
	for (u32 i = 0; i < l->config.input.n; i++)
		part[i] = batch[i] + to * l->row[i];
	*real = index < n;
	if (!*real) {
		l->data->kind->pad(l->bound, part);
		return OK;
	}
	DataPlace at = { .walk = walk_of(l, epoch), .row = row_at(l, epoch, index, n), .random = draw(l, 5, epoch, index) };
	return l->data->kind->read(l->data, l->bound, &at, part);
}

/* This rank's rows of the batch at *at, which goes on to the next. */
static Status read_batch(const Loader *l, LoaderPosition *at, u8 *const *batch, u32 *rows, bool *more)
{
	u32 B = l->config.batch, from = l->config.rank * l->local;
	u64 n = loader_rows(l, at->epoch);
	bool once = l->config.order == LOADER_SEQUENTIAL;
	*rows = 0;
	*more = !once || at->index < n;
	if (!*more)
		return OK;
	LoaderPosition next = *at;
	for (u32 row = 0; row < B; row++) {
		if (!once && next.index == n) {
			next.epoch++;
			next.index = 0;
			n = loader_rows(l, next.epoch);
		}
		if (row >= from && row < from + l->local) {
			bool real;
			TRY(read_row(l, next.epoch, next.index, n, row - from, batch, &real));
			*rows += real;
		}
		next.index++;
	}
	if (once)
		next.index = MIN(next.index, n);
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
		Status why = read_batch(l, &l->reading, s->input, &s->rows, &s->more);
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

static Status take(Loader *l, u8 *const *batch, u32 *rows, bool *more)
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
	for (u32 i = 0; i < l->config.input.n; i++)
		memcpy(batch[i], s->input[i], l->local * l->row[i]);
	l->position = s->after;
	pthread_mutex_lock(&l->lock);
	l->taken++;
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
	return OK;
}

/* ---------------------------------------------------------------------------------------------- */

static Status check(const LoaderConfig *c)
{
	if (!c->batch || !c->input.n)
		return FAIL(STATUS_INPUT, "a batch has at least one row of at least one input");
	if (c->rank >= c->ranks || c->batch % c->ranks)
		return FAIL(STATUS_INPUT, "a batch of %u rows cannot be divided among %u ranks",
			    c->batch, c->ranks);
	return OK;
}

/* What decides the order and what rows hold, but for the data: positions of others are refused. */
static u64 order_hash(const Loader *l)
{
	u64 h = XXH3_64bits(l->data->kind->name, strlen(l->data->kind->name));
	u64 order[] = { (u64)l->config.order, l->config.seed, BLOCK_ROWS, POOL_ROWS };
	h = XXH3_64bits_withSeed(order, sizeof order, h);
	for (u32 i = 0; i < l->config.input.n; i++) {
		const PackageTensor *t = &l->config.input.input[i];
		h = XXH3_64bits_withSeed(t->name, strlen(t->name), h);
		for (u32 k = 1; k < t->rank; k++)
			h = XXH3_64bits_withSeed(&t->dim[k], sizeof t->dim[k], h);
	}
	return h;
}

Status loader_open(Arena *a, const Dataset *data, LoaderConfig config, Loader **out)
{
	if (!config.ranks)
		config.ranks = 1;
	TRY(check(&config));
	Loader *l = NEW(a, Loader);
	*l = (Loader){ .data = data, .config = config, .local = config.batch / config.ranks };
	TRY(data->kind->bind(a, data, config.input, &l->bound, &l->units));
	for (u32 i = 0; i < config.input.n; i++)
		l->row[i] = config.input.input[i].bytes / (u64)config.input.input[i].dim[0];
	l->position = (LoaderPosition){ .data = data->hash, .order = order_hash(l) };
	if (!loader_rows(l, 0))
		return FAIL(STATUS_INPUT, "%s: %s are too few for one row of a batch", data->path, data->kind->describe(data, a));
	l->slot = NEWN(a, Slot, config.ahead + 1);
	for (u32 k = 0; k < config.ahead; k++)
		for (u32 i = 0; i < config.input.n; i++)
			l->slot[k].input[i] = arena_push(a, 1, l->local * l->row[i] + 1, 16);
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

Status loader_next(Loader *l, u8 *const *batch, u32 *rows, bool *more)
{
	if (l->failed)
		return &l->failure;
	Status s = l->running ? take(l, batch, rows, more) : read_batch(l, &l->position, batch, rows, more);
	if (s) {
		l->failure = *s;
		l->failed = true;
		return &l->failure;
	}
	return OK;
}

u64 loader_units(const Loader *l)
{
	return l->units;
}

LoaderPosition loader_position(const Loader *l)
{
	return l->position;
}

Status loader_seek(Loader *l, LoaderPosition to)
{
	if (to.data != l->position.data)
		return FAIL(STATUS_INPUT, "the position is one in other data than %s",
			    l->data->path);
	if (to.order != l->position.order)
		return FAIL(STATUS_INPUT,
			    "the position is one with another seed, other inputs or another order than "
			    "those of this run");
	if (to.index > loader_rows(l, to.epoch))
		return FAIL(STATUS_INPUT, "the position is past the end: row %llu of %llu",
			    (unsigned long long)to.index,
			    (unsigned long long)loader_rows(l, to.epoch));
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
