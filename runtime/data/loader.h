/* runtime/data/loader.h: batches out of a dataset, for the inputs of an entry.
 *
 * In which order:
 *   LOADER_SHUFFLE     every row once per epoch, in an order that seed and epoch give. Blocks of 64
 *                      neighbouring rows are permuted over the whole epoch, and the rows within
 *                      pools of 256 such blocks: a small corpus is shuffled evenly, a large one is
 *                      read a pool at a time.
 *   LOADER_SEQUENTIAL  from front to back, once: for validation. The last batch is filled up with
 *                      rows that do not count in a loss.
 *
 * Batches follow from the configuration and the position alone: not from ranks, threads or timing.
 * In the endless order a batch goes over into the next epoch where one ends. Global row i of a
 * batch of B is given to rank i / (B / ranks). One thread reads ahead into a ring of batches. */
#ifndef PL_DATA_LOADER_H
#define PL_DATA_LOADER_H
#include "runtime/data/dataset.h"

typedef enum LoaderOrder { LOADER_SHUFFLE, LOADER_SEQUENTIAL } LoaderOrder;

typedef struct LoaderConfig {
	LoaderOrder order;
	DataInputs input; /* their first dimension is this rank's rows */
	u32 batch;        /* B: rows of all ranks together; a multiple of ranks */
	u64 seed;
	u32 rank, ranks;  /* ranks of 0 is 1 */
	u32 ahead;        /* batches to read ahead; 0: none, and no thread */
} LoaderConfig;

/* Where the next batch begins; the same for all ranks. Saved with a checkpoint, all four numbers.
 */
typedef struct LoaderPosition {
	u64 epoch, index; /* rows taken in this epoch */
	u64 data, order; /* hashes of the data, and of the configuration that decides the order */
} LoaderPosition;

typedef struct Loader Loader;

/* The dataset and the inputs must stay until loader_close. */
PL_MUST_USE Status loader_open(Arena *a, const Dataset *data, LoaderConfig config, Loader **out);
/* Stops the thread. NULL is fine. */
void loader_close(Loader *l);
/* This rank's rows of the next batch: batch[i] has room for input i. *rows is how many of them are
 * real: B / ranks but at the end of LOADER_SEQUENTIAL; *more is false, and nothing else is written,
 * when that is over. After a failure, each call gives the failure again. */
PL_MUST_USE Status loader_next(Loader *l, u8 *const *batch, u32 *rows, bool *more);
/* Of the batch that loader_next gives next, whatever has been read ahead. */
LoaderPosition loader_position(const Loader *l);
/* Goes on from a position of a loader over the same data with the same order, inputs and seed;
 * batch and ranks may differ. Another's is refused. */
PL_MUST_USE Status loader_seek(Loader *l, LoaderPosition to);
/* The position as JSON text, for a checkpoint, and back. */
const char *loader_position_text(Arena *a, LoaderPosition p);
PL_MUST_USE Status loader_position_read(const char *text, LoaderPosition *out);
/* Rows in an epoch: with LOADER_SEQUENTIAL those in all. */
u64 loader_rows(const Loader *l, u64 epoch);
/* What one row counts in the dataset's unit: T tokens, one image. */
u64 loader_units(const Loader *l);

#endif
