/* tools/run_inputs.h: what `plinth run` gives an entry: texts, which a tokenizer makes ids of, and tensors from files. */
#ifndef PL_RUN_INPUTS_H
#define PL_RUN_INPUTS_H
#include "runtime/data/tokenizer.h"
#include "tools/lm.h"

/* An input of the entry before anything is compiled. */
typedef struct EntryInput {
	const char *name;
	PackageDtype dtype;
	u32 rank;
	const Type *type;      /* NULL: of a package whose sizes are numbers */
	const i64 *dim;
} EntryInput;

/* A tensor that was given for an input, or texts. */
typedef struct GivenInput {
	const EntryInput *input;
	SafeDtype dtype;
	u32 rank;
	const i64 *dim;
	const u8 *data;        /* NULL: texts */
	Tokens *ids, *types;   /* [rows] */
	u32 longest;
} GivenInput;

typedef struct RunInputs {
	Arena *arena;
	Lm *lm;
	EntryInput *input;
	u32 ninput;
	VEC(GivenInput) given;
	const GivenInput *texts; /* the input that texts without a name are for, or NULL */
	u32 rows;                /* texts of each input */
	u32 pad;                 /* id that fills up */
	const char *sizes;       /* "B=1,T=7": as the driver takes them */
} RunInputs;

/* Reads the command line's inputs and says how large the entry must be for them. `tokenizer` is opened where there are
 * texts alone. */
PL_MUST_USE Status run_inputs(Lm *lm, const char *entry, const TextList *inputs, const char *lines, const char *tokenizer,
			      const char *weights, RunInputs *out);
/* Writes them. */
PL_MUST_USE Status run_inputs_write(const RunInputs *in, Executor *x, const PackageEntry *entry);

#endif
