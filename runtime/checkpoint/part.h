/* runtime/checkpoint/part.h: a part of a tensor: some indices of each of its dimensions, and every element whose indices
 * are all among them, in the order of the whole.
 *
 * That is what one device of a mesh holds, and what its file of a checkpoint has: so a part is stored as it lies in
 * memory, and a reader takes from each file what belongs to its own part, however both were divided. In files its name
 * says which part it is: "h.0.attn.c_attn.weight[0:32/32,0:8+32:40+64:72/96]" are all 32 rows and three times 8 of the
 * 96 columns. (Chunks with offsets, as PyTorch's distributed checkpoints have them, would be three tensors here.) */
#ifndef PL_PART_H
#define PL_PART_H
#include "runtime/checkpoint/safetensors.h"

enum { PART_RANK = 10 };

/* Indices [from, from + n) of the whole. */
typedef struct PartRun {
	i64 from, n;
} PartRun;

typedef struct PartAxis {
	i64 whole;          /* the extent of the whole tensor */
	const PartRun *run; /* ascending, apart from one another */
	u32 nrun;
} PartAxis;

typedef struct TensorPart {
	u32 rank;
	PartAxis axis[PART_RANK];
	bool none; /* no element at all: what another device has */
} TensorPart;

/* How many indices of dimension d it has. */
i64 part_extent(const TensorPart *p, u32 d);
bool part_is_whole(const TensorPart *p);
/* All of a tensor; the runs are made in `a`. */
TensorPart part_whole(Arena *a, u32 rank, const i64 *dim);
/* Has some element in common with the other part, of the same whole? */
bool part_meets(const TensorPart *x, const TensorPart *y);

/* The name in files; `name` itself where the part is all of it. */
const char *part_name(Arena *a, const char *name, const TensorPart *p);
/* And back: false where it is not the name of a part. */
bool part_of_name(Arena *a, const char *in_file, const char **name, TensorPart *out);

/* Elements that two parts of the same whole have in common: `n` of them, side by side in both, from element `to` of the
 * one and `from` of the other on. */
typedef Status PartPiece(void *cx, u64 to, u64 from, u64 n);
PL_MUST_USE Status part_common(const TensorPart *to, const TensorPart *from, PartPiece *piece, void *cx);

/* The tensors of files, those that lie in parts as one each (SafeTensor.part). What is wrong with parts, such as one
 * that is missing, goes to `note` as lines; the number of tensors that this concerns is added to *misfits. */
const SafeTensor *part_tensors(Arena *a, const Safetensors *have, u32 *n, Buf *note, u32 *misfits);

#endif
