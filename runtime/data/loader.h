/* runtime/data/loader.h: batches out of token shards. A window is T + 1 consecutive ids: T tokens,
 * and T targets, which are the same ids one later. Windows do not overlap but for that last id.
 *
 * In which order:
 *   LOADER_SHUFFLE     every window once per epoch, in an order that seed and epoch give. Blocks of
 *                      64 neighbouring windows are permuted over the whole epoch, and the windows
 *                      within pools of 256 such blocks: a small corpus is shuffled evenly, a large
 *                      one is read a pool at a time. Each epoch's windows begin at another offset
 *                      (below T), so that the cuts fall differently.
 *   LOADER_SEQUENTIAL  from front to back, once: for validation. The last batch is filled up with
 *                      targets of `ignore`, so that every id but the first is a target exactly
 * once. LOADER_RANDOM      windows that begin anywhere, independent of each other.
 *
 * Batches follow from the configuration and the position alone: not from ranks, threads or timing.
 * In the endless orders a batch goes over into the next epoch where one ends. Global row i of a
 * batch of B is given to rank i / (B / ranks). One thread reads ahead into a ring of batches. */
#ifndef PL_DATA_LOADER_H
#define PL_DATA_LOADER_H
#include "runtime/data/shard.h"

typedef enum LoaderOrder { LOADER_SHUFFLE, LOADER_SEQUENTIAL, LOADER_RANDOM } LoaderOrder;

typedef struct LoaderConfig {
	LoaderOrder order;
	u32 batch;  /* B: rows of all ranks together; a multiple of ranks */
	u32 window; /* T */
	u64 seed;
	u32 rank, ranks; /* ranks of 0 is 1 */
	u32 ahead;       /* batches to read ahead; 0: none, and no thread */
	i32 ignore; /* the target where there is none; LOADER_IGNORE unless the loss has another */
} LoaderConfig;
#define LOADER_IGNORE (-100)

/* Where the next batch begins; the same for all ranks. Saved with a checkpoint, all four numbers.
 */
typedef struct LoaderPosition {
	u64 epoch, index; /* windows taken in this epoch */
	u64 data, order; /* hashes of the shards, and of the configuration that decides the order */
} LoaderPosition;

typedef struct Loader Loader;

/* The shards must stay open until loader_close. */
PL_MUST_USE Status loader_open(Arena *a, const Shards *shards, LoaderConfig config, Loader **out);
/* Stops the thread. NULL is fine. */
void loader_close(Loader *l);
/* This rank's rows of the next batch: tokens and targets are [B / ranks, T]. *rows is how many of
 * them have targets: B / ranks but at the end of LOADER_SEQUENTIAL; *more is false, and nothing
 * else is written, when that is over. After a failure, each call gives the failure again. */
PL_MUST_USE Status loader_next(Loader *l, i32 *tokens, i32 *targets, u32 *rows, bool *more);
/* Of the batch that loader_next gives next, whatever has been read ahead. */
LoaderPosition loader_position(const Loader *l);
/* Goes on from a position of a loader over the same shards with the same order, window and seed;
 * batch and ranks may differ. Another's is refused. */
PL_MUST_USE Status loader_seek(Loader *l, LoaderPosition to);
/* The position as JSON text, for a checkpoint, and back. */
const char *loader_position_text(Arena *a, LoaderPosition p);
PL_MUST_USE Status loader_position_read(const char *text, LoaderPosition *out);
/* Windows in an epoch: with LOADER_SEQUENTIAL those in all, the last one maybe short. */
u64 loader_windows(const Loader *l, u64 epoch);

#endif
