/* runtime/checkpoint/verify.h: is every byte what it was when it was saved? Goes on after what is
 * wrong, so that one run lists all of it. */
#ifndef PL_VERIFY_H
#define PL_VERIFY_H
#include "runtime/checkpoint/safetensors.h"
#include "support/vec.h"

typedef struct VerifyProblem {
	const char *file, *tensor; /* tensor is NULL for what is wrong with a file */
	u64 begin, end;            /* the range in the file, in bytes; both 0 where there is none */
	const char *text;
} VerifyProblem;

typedef struct VerifyReport {
	const char *path; /* the folder or file that was looked at */
	bool is_checkpoint;
	u64 step;           /* of a checkpoint */
	u32 nfile, ntensor; /* looked at; state.json counts as a file */
	u32 nhashed;        /* tensors that state a hash */
	u64 bytes, elements;
	u32 count[SAFE_DTYPE_COUNT]; /* tensors by dtype */
	VEC(VerifyProblem) problem;
} VerifyReport;

/* A checkpoint's folder, a run's folder (its latest), a safetensors file or index, or a folder of a
 * published model. Without hashes only the structure is checked. A failure means that there was
 * nothing to look at; what is damaged is in the report. */
PL_MUST_USE Status verify(Arena *a, const char *path, VerifyReport *out);

#endif
