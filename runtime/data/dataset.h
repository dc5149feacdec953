/* runtime/data/dataset.h: what training and evaluation read: rows, each of which gives a part of every input of an
 * entry. The kinds are a table, and the names are those of a file's data block:
 *
 *   tokens   windows of token shards: tokens, and targets, which are the same ids one later
 *   masked   the same windows with tokens masked (Devlin et al., 2018): tokens, targets; types and keep if asked for
 *   images   idx files (LeCun's, which MNIST and Fashion-MNIST come in): images, labels
 *   pairs    lines of a text, a tab, and what it becomes: source, keep, previous, targets
 *   labelled, related, captions   texts with a label, another text, an image (texts.c)
 *   tensors  tensors of a safetensors file, by the inputs' names (tensors.c)
 *
 * Which inputs an entry has decides what is read: `bind` checks them against what the kind gives. What a row holds
 * follows from the data, the row's number and its draws alone, so that a position in an epoch (loader.h) is all that
 * a checkpoint keeps. */
#ifndef PL_DATA_DATASET_H
#define PL_DATA_DATASET_H
#include "codegen/package.h"
#include "runtime/data/shard.h"

/* The target where there is none: what cross_entropy leaves out. */
#define DATA_IGNORE (-100)
enum { DATA_INPUTS = 8 }; /* of an entry, at most */

/* The inputs that batches are for: their first dimension is the rows of a batch. */
typedef struct DataInputs {
	const PackageTensor *input;
	u32 n;
} DataInputs;

/* How an epoch is walked. */
typedef struct DataWalk {
	bool once;  /* front to back, nothing left out: for evaluation */
	u64 shift;  /* a number of the epoch's own, 0 in the first: a kind may cut its rows differently by it */
} DataWalk;

typedef struct DataPlace {
	DataWalk walk;
	u64 row;    /* below `rows` */
	u64 random; /* a number for the draws of this row in this epoch */
} DataPlace;

typedef struct Dataset Dataset;

/* A setting of a source: masked("book", rate = 0.15). */
typedef struct DataOption {
	const char *name, *text;
	f64 number; /* NAN where it is none */
} DataOption;

typedef struct DatasetKind {
	const char *name;
	const char *unit;        /* what is counted: "tokens" */
	const char *gives;       /* its inputs, as a model file declares them */
	bool text;               /* its targets are ids of a tokenizer, below `vocabulary` */
	/* Opens `path`; fills hash and whatever is the kind's own. */
	Status (*open)(Arena *a, const DataOption *option, u32 n, Dataset *d);
	void (*close)(Dataset *d);
	/* Where sources are that --data names: of training, and for evaluation. NULL where there is none. */
	const char *(*find)(Arena *a, const char *prefix, bool training);
	/* What reading for these inputs takes, in *bound; `units` counts a row in `unit`. */
	Status (*bind)(Arena *a, const Dataset *d, DataInputs in, const void **bound, u64 *units);
	u64 (*rows)(const Dataset *d, const void *bound, DataWalk walk);
	/* Writes one row of each input to to[i]. Called by one thread for one binding, by others for others. */
	Status (*read)(const Dataset *d, const void *bound, const DataPlace *at, u8 *const *to);
	/* A row past the end: it must not count in a loss. */
	void (*pad)(const void *bound, u8 *const *to);
	/* "60000 images of 1 x 28 x 28 in 10 classes" */
	const char *(*describe)(const Dataset *d, Arena *a);
} DatasetKind;

struct Dataset {
	const DatasetKind *kind;
	const char *path;      /* as it was given, for messages */
	u64 hash;              /* names what is in it */
	u32 vocabulary;        /* ids are below it; 0: not a matter of ids */
	u64 tokenizer;         /* tokenizer_hash, 0: none */
	const char *tokenizer_path;
	Shards shards;         /* of tokens and masked */
	void *own;             /* of the kind */
};

/* `kind` NULL is tokens. */
PL_MUST_USE Status dataset_open(Arena *a, const char *kind, const char *path, const DataOption *option, u32 n,
				Dataset *out);
void dataset_close(Dataset *d); /* of zeros is fine */
/* NULL where there is none of the name. */
const DatasetKind *dataset_kind(const char *name);
/* The tokenizer that made its ids; it must be that very one. */
PL_MUST_USE Status dataset_tokenizer(Arena *a, const Dataset *d, Tokenizer **out);
/* The token that begins what a decoder sees, as `pairs` has it: the special token of this name, or, `name` NULL, what the
 * kind takes without `begin`. TOKEN_NONE where the tokenizer has none. */
u32 pairs_begin(const Tokenizer *t, const char *name);
/* Token shards that are open already; the dataset closes nothing of them. */
Dataset dataset_of_shards(const Shards *s);

/* ---- for kinds ---- */

extern const DatasetKind dataset_tokens, dataset_masked, dataset_images, dataset_pairs, dataset_labelled, dataset_related, dataset_captions,
	dataset_tensors;

/* Which of the inputs is called `name`; `in.n` where none is. */
u32 data_input(DataInputs in, const char *name);
/* What is wrong with input i: "the input 'x' is i32[8, 4], and images gives images: f32[B, C, H, W], ...". */
PL_MUST_USE Status data_misfit(const Dataset *d, DataInputs in, u32 i, const char *why);
/* Fails unless all inputs are among `name`, which is in the order of the kind: at[k] is then the input of name[k], or
 * DATA_INPUTS. */
PL_MUST_USE Status data_bind(const Dataset *d, DataInputs in, const char *const *name, u32 n, u32 *at);
/* i32[rows, T] with the same T in all of several inputs: *window is 0 before the first. */
PL_MUST_USE Status data_is_ids(const Dataset *d, DataInputs in, u32 i, u32 *window);
/* Fails where an option is not among `known`. */
PL_MUST_USE Status data_options(const Dataset *d, const DataOption *option, u32 n, const char *const *known, u32 nknown);
const DataOption *data_option(const DataOption *option, u32 n, const char *name); /* or NULL */
/* close, find and describe of the kinds that read token shards. */
void data_close_shards(Dataset *d);
const char *data_find_shards(Arena *a, const char *prefix, bool training);
const char *data_describe_shards(const Dataset *d, Arena *a);
/* A well-mixed number of two: for draws. */
u64 data_mix(u64 a, u64 b);
/* Below n, even to one part in 2^64 / n. */
u64 data_below(u64 random, u64 n);

#endif
