/* codegen/cpu/pieces.h: rows that are put together of pieces (a concatenation's, a rotary embedding's halves): which piece an element is
 * of is a comparison of its place with a constant. A row is walked piece by piece, and what is asked there is known: nothing of other
 * pieces is read or worked out, and nothing is masked. Only pieces that are as long as a vector are walked so; of a pad's edges more
 * vectors would be made than there are. */
#ifndef PL_CPU_PIECES_H
#define PL_CPU_PIECES_H
#include "codegen/cpu/body.h"

enum { MOST_PIECES = 4 };

typedef struct Pieces {
	u32 n;                    /* 1: the row is whole */
	u32 index;                /* the instruction that is compared: the element's place in the row, from some number on */
	f64 first[MOST_PIECES];   /* what that is where piece i begins, but for the first piece */
} Pieces;

/* Of rows along dimension `row`, in vectors of `lanes`. */
Pieces pieces_of(const Kernel *k, u32 row, i64 lanes);
/* Which of the comparisons that there are they are cut at: code is made for these. */
u64 pieces_variant(const Pieces *p);
/* Where piece i ends, of columns [from, to): no sooner than `from`, and no later than `to`. */
LLVMValueRef pieces_end(Body *b, const Pieces *p, u32 i, LLVMValueRef from, LLVMValueRef to);
/* What comparisons are in piece i, until body_release(). */
void pieces_enter(Body *b, const Pieces *p, u32 i);

#endif
