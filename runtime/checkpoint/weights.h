/* runtime/checkpoint/weights.h: does a file hold what a program expects, and then: load it.
 *
 * Names, dtypes and shapes are compared first, all of them; what does not fit is ONE error in the
 * Diag (E0650 for weights, E0901 for a checkpoint) with a note for each tensor that is missing, not
 * expected, or of another dtype or shape, with both. Then stated hashes are checked, and only then
 * is anything copied: nothing is ever half loaded. */
#ifndef PL_WEIGHTS_H
#define PL_WEIGHTS_H
#include "runtime/checkpoint/safetensors.h"
#include "support/diag.h"

/* What `weights { ignore ..., rename ... }` says. Patterns are those of path_match, over the names in
 * the file; the first rule that matches decides. `replacement` is the program's name for it, in which
 * the k-th '*' or '**' stands for what the k-th one of the pattern matched (each as short as can be);
 * NULL drops the tensor. */
typedef struct WeightRule {
	const char *pattern, *replacement;
} WeightRule;

/* Loads into every one of `want` (an optional one keeps what it has where the file has none of these) from a safetensors
 * file, an index, a folder of a published model, a checkpoint, or a run's folder (its latest checkpoint); or from several
 * of these with commas between, as one: a base model's file and its adapters'. f16 and bf16 in the file widen to f32 and
 * f64, f32 to f64, exactly; otherwise dtypes must be equal. When the tensors do not fit, the returned
 * failure is the headline of the error in `d`: print `d` alone. */
PL_MUST_USE Status weights_load(Arena *a, const char *path, const WeightRule *rule, u32 nrule,
				const NamedBuffer *want, u32 n, Diag *d);

/* The paths of such a list; a path that is there as it stands is one. */
const char *const *weights_paths(Arena *a, const char *list, u32 *n);

/* `name` by the first rule that matches it (itself when none does), or NULL when that drops it. */
const char *weights_rename(Arena *a, const WeightRule *rule, u32 nrule, const char *name);

/* ---- the parts, for checkpoints ---- */

typedef struct FitRequest {
	const char *path; /* for messages */
	const Safetensors *have;
	const WeightRule *rule;
	u32 nrule;
	const NamedBuffer *want;
	u32 n;
	bool widen; /* may the dtype be widened? */
} FitRequest;

/* Pairs `want` with tensors of the file: match[i] belongs to want[i]; NULL: optional, and not there. Notes of what does not fit go
 * to `note`, one a line; returns how many there are. */
u32 weights_fit(Arena *a, const FitRequest *r, const SafeTensor **match, Buf *note);
/* Puts the notes of weights_fit into one error; returns its failure. */
PL_MUST_USE Status weights_misfit(Diag *d, ErrorCode code, const char *path, u32 misfits,
				  const Buf *note);
/* Checks the hash of each matched tensor that states one; of one that is there in parts, where `want` has something of them. */
PL_MUST_USE Status weights_check(Arena *a, const Safetensors *have, const NamedBuffer *want, const SafeTensor *const *match,
				 u32 n);
/* Copies, widening where the dtypes differ. Fails only where a device does. */
PL_MUST_USE Status weights_copy(const NamedBuffer *want, const SafeTensor *const *match, u32 n);

#endif
