/* runtime/checkpoint/state.h: state.json of a checkpoint: what of a run is not a tensor, and the
 * hashes that tie the folder together. Its own hash, over the rest of it, is its last entry. */
#ifndef PL_CHECKPOINT_STATE_H
#define PL_CHECKPOINT_STATE_H
#include "runtime/checkpoint/safetensors.h"

#define CHECKPOINT_STATE "state.json"

typedef struct CheckpointState {
	u64 step, seed;
	u64 metrics_bytes;   /* length of the metrics file: where a resume goes on in it */
	bool validated;
	f64 validation_loss; /* after this step, where there was a validation */
	const char *program; /* fingerprint of the compiled program */
	const char *loader;  /* the data loader's position: any JSON text, opaque here */
	const char *version; /* of the Plinth that wrote it; a save fills it in itself */
	const TextPair *tuning; /* choices that change bits, which a resume must repeat */
	u32 ntuning;
} CheckpointState;

/* A file of the checkpoint, as recorded. */
typedef struct CheckpointFile {
	const char *name;
	u64 bytes;
	const char *header_hash; /* of a safetensors file; of an index, which has no header, the hash of all of it */
} CheckpointFile;

enum { CHECKPOINT_MODEL, CHECKPOINT_OPTIMIZER, CHECKPOINT_FILES };
/* "model", "optimizer" */
extern const char *const checkpoint_file_name[CHECKPOINT_FILES];
/* "model.safetensors"; of several ranks, "model-00001-of-00004.safetensors" */
const char *checkpoint_part_name(Arena *a, u32 which, u32 rank, u32 ranks);
/* "model.safetensors.index.json" */
const char *checkpoint_index_name(Arena *a, u32 which);
bool checkpoint_is_index(const char *name);
/* Which of the two a file belongs to; CHECKPOINT_FILES: neither. */
u32 checkpoint_file_kind(const char *name);

typedef struct CheckpointRecord {
	CheckpointState state;
	CheckpointFile *file;
	u32 nfile;
} CheckpointRecord;

/* Writes `path`. */
PL_MUST_USE Status state_write(const char *path, const CheckpointState *state, const CheckpointFile *file, u32 nfile);
/* Reads and checks the state.json in `folder`. */
PL_MUST_USE Status state_read(Arena *a, const char *folder, CheckpointRecord *out);
/* Opens the recorded files of one kind, and checks them. */
PL_MUST_USE Status state_open(Arena *a, const char *folder, const CheckpointRecord *r, u32 which, Safetensors *out);
/* Does the open file have the size and header that were recorded? */
PL_MUST_USE Status state_check_file(const CheckpointFile *recorded, const SafeFile *f);
/* Does the index? */
PL_MUST_USE Status state_check_index(Arena *a, const char *folder, const CheckpointFile *recorded);

#endif
