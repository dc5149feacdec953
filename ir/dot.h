/* ir/dot.h: what the spec of a dot says: which dimensions of its operands and result are one label,
 * and each label's part in it. Read by everyone who lowers, splits or differentiates a dot. */
#ifndef PL_DOT_H
#define PL_DOT_H
#include "ir/op.h"

typedef struct DotSpec {
	u32 nlabel;
	char label[2 * MAX_RANK];
	u32 rank[3];              /* of a, b and the result */
	u8 index[3][MAX_RANK];    /* the label of each of their dimensions */
	/* Where a label stands in a, b and the result: the dimension, or -1. */
	i8 at[2 * MAX_RANK][3];
} DotSpec;

/* By who has it: BATCH a, b and result; LEFT a and result; RIGHT b and result; INNER a and b. */
typedef enum DotPart { DOT_BATCH, DOT_LEFT, DOT_RIGHT, DOT_INNER } DotPart;

/* What products of two types of operands are taken in. Of the floats of 8 bits every value is one of f16 and of bf16, as
 * which they are read beside those, and as bf16 with one another; narrow floats multiply exactly in f32. */
DType product_dtype(DType a, DType b);
/* What tensor cores multiply of 8 bits: all pairs of types but two of f8e5m2 (as cuBLASLt has them), of matrices (m, k) and (k, n) whose
 * extents are multiples of 16. */
bool products_in_f8(DType a, DType b);
bool product_sizes_f8(i64 m, i64 n, i64 k);
/* NULL, or what is wrong with the spec. */
const char *dot_spec_read(const char *spec, DotSpec *out);
DotPart dot_part(const DotSpec *s, u32 label);
/* The product of the extents of an operand's dimensions with this part; of type t, operand `side` (0 a, 1 b). Symbols count as 1. */
i64 dot_part_extent(const Type *t, const DotSpec *s, u32 side, DotPart part);
/* The spec with these operands' labels (0 a, 1 b, 2 the result) in new places, e.g. (2, 1, 0) is the
 * spec of a's gradient. `text` has room for DOT_SPEC_MAX. */
enum { DOT_SPEC_MAX = 3 * MAX_RANK + 4 };
void dot_spec_permute(const DotSpec *s, u32 a, u32 b, u32 result, char *text);

#endif
