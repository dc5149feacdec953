/* runtime/checkpoint/state.h: state.json of a checkpoint: what of a run is not a tensor, and the
 * hashes that tie the folder together. Its own hash, over the rest of it, is its last entry. */
#ifndef PL_CHECKPOINT_STATE_H
#define PL_CHECKPOINT_STATE_H
#include "runtime/checkpoint/safetensors.h"

#define CHECKPOINT_STATE "state.json"

typedef struct CheckpointState {
	u64 step, seed;
	u64 metrics_bytes;   /* length of the metrics file: where a resume goes on in it */
	const char *program; /* fingerprint of the compiled program */
	const char *loader;  /* the data loader's position: any JSON text, opaque here */
	const char *version; /* of the Plinth that wrote it; a save fills it in itself */
	const TextPair *tuning; /* choices that change bits, which a resume must repeat */
	u32 ntuning;
} CheckpointState;

/* One of the checkpoint's two safetensors files, as recorded. */
typedef struct CheckpointFile {
	const char *name;
	u64 bytes;
	const char *header_hash;
} CheckpointFile;

enum { CHECKPOINT_MODEL, CHECKPOINT_OPTIMIZER, CHECKPOINT_FILES };
extern const char *const checkpoint_file_name[CHECKPOINT_FILES];

typedef struct CheckpointRecord {
	CheckpointState state;
	CheckpointFile file[CHECKPOINT_FILES];
} CheckpointRecord;

/* Writes `path`, from a state and what safetensors_write made. */
PL_MUST_USE Status state_write(const char *path, const CheckpointState *state,
			       const SafeWritten written[CHECKPOINT_FILES]);
/* Reads and checks the state.json in `folder`. */
PL_MUST_USE Status state_read(Arena *a, const char *folder, CheckpointRecord *out);
/* Does the open file have the size and header that were recorded? */
PL_MUST_USE Status state_check_file(const CheckpointFile *recorded, const Safetensors *s);

#endif
