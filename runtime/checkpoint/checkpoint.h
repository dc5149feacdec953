/* runtime/checkpoint/checkpoint.h: what a training run needs to go on as if it had never stopped.
 *
 *     run/step-000500/model.safetensors       parameters under their published names
 *     run/step-000500/optimizer.safetensors   everything else that persists: "m/<path>", counters
 *     run/step-000500/state.json              step, seed, loader, program, tuning; hash of the above
 *     run/latest                              "step-000500": the one to resume from
 *     run/best                                a link to the one of the lowest validation loss, where a run keeps it
 *
 * Of a run over several ranks each has files of its own, model-00001-of-00004.safetensors, ..., and an index is beside
 * them. A rank writes what it holds; what several hold, one of them. Tensors that are divided lie in parts (part.h), which
 * say what they are parts of: a run over any other ranks, or of one device, reads them.
 *
 * A save writes a folder under a temporary name (".tmp." is in it), syncs it, renames it, and then
 * replaces `latest`, so that at every moment `latest` names a whole checkpoint or there is none. The
 * hash of each tensor is in its file's metadata; state.json holds the hash of each file's header and
 * of itself, and so stands for every byte. */
#ifndef PL_CHECKPOINT_H
#define PL_CHECKPOINT_H
#include "runtime/checkpoint/state.h"
#include "support/diag.h"

typedef struct CheckpointSave {
	const char *run; /* the run's folder; made if missing */
	CheckpointState state;
	const NamedBuffer *parameter, *other;
	u32 nparameter, nother;
	u32 keep; /* how many of the newest to keep, at least 1, and the best; 0 keeps all */
} CheckpointSave;

/* Saves state.step; a checkpoint of the same step is replaced in one exchange. When it fails, the
 * checkpoints that were there are there still, and `latest` names the one it named before (or the
 * new one, whole, when only what comes after its renaming failed). */
PL_MUST_USE Status checkpoint_save(const CheckpointSave *s);

/* The same of a run over several ranks, all of which call: with the same `run`, `keep` and state (of which rank 0's is
 * written), and with the buffers that each is to write, as files have them. The folder must be one that all see. */
struct Comm;
PL_MUST_USE Status checkpoint_save_parts(const CheckpointSave *s, struct Comm *c);

/* From here on the run's best checkpoint is that of `step`, which is there; the one that was is kept until the next save. */
PL_MUST_USE Status checkpoint_set_best(const char *run, u64 step);
/* The state of the best one; *found is false where none is marked, or it is gone. */
PL_MUST_USE Status checkpoint_best(Arena *a, const char *run, CheckpointState *out, bool *found);

/* One that is open: `state` and all files, their sizes and headers checked against state.json. */
typedef struct Checkpoint {
	const char *path;
	CheckpointState state;
	Safetensors model, optimizer;
} Checkpoint;

/* Opens a checkpoint's folder, or the latest of a run's folder. On failure nothing is open. */
PL_MUST_USE Status checkpoint_open(Arena *a, const char *path, Checkpoint *out);
void checkpoint_close(Checkpoint *c);

/* Restores every buffer, or none: names, dtypes and shapes must be exactly those of the checkpoint
 * (E0901 in `d`, as in weights.h), and every hash must hold. */
PL_MUST_USE Status checkpoint_load(const Checkpoint *c, const NamedBuffer *parameter, u32 nparameter,
				   const NamedBuffer *other, u32 nother, Diag *d);

/* Is `path` a folder with a `latest` in it? */
bool checkpoint_is_run(const char *path);
/* The checkpoint's folder that a path of either kind means. */
PL_MUST_USE Status checkpoint_resolve(Arena *a, const char *path, const char **out);

/* The same for whoever reads it then. A run that goes on removes old checkpoints, and replaces one of the same step:
 * what a reader finds wrong with one that is gone says nothing, and it finds the checkpoint again. */
typedef struct CheckpointPlace {
	const char *path;
	u64 number; /* of the folder, which another one of that name does not have */
} CheckpointPlace;
PL_MUST_USE Status checkpoint_find(Arena *a, const char *path, CheckpointPlace *out);
bool checkpoint_is_gone(const CheckpointPlace *p);

#endif
