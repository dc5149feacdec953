/* passes/graph/positions.h: what is known of a graph's values along one symbol T, that of positions in a text:
 * which dimensions run along it, which values follow from the entry's inputs, and which are shaped by a causal
 * mask, so that the pass `incremental` can prove that a position needs earlier ones alone.
 *
 * A fact about two dimensions q and k of a value that are both T: what the value is wherever index k > index q.
 * Masks are found from comparisons of indices (`iota(T)[none, :] <= iota(T)[:, none]`), and followed through
 * `where`, arithmetic, exp and softmax. */
#ifndef PL_PASSES_POSITIONS_H
#define PL_PASSES_POSITIONS_H
#include "ir/op.h"

/* Bit k of zero[q]: the value is 0 (false) where index k > index q; low: -inf, or so low that its exponential is 0;
 * yes: true. */
typedef struct Later {
	u16 zero[MAX_RANK], low[MAX_RANK], yes[MAX_RANK];
} Later;

/* The value at indices i: constant + sum of slope[d] * i[d]. */
typedef struct Affine {
	f64 constant, slope[MAX_RANK];
} Affine;

/* Rows of tokens sorted by a number of theirs, as a mixture of experts has them (std.nn's group_by). What such rows are
 * computed from is their own token alone, if they only meet those of the same number, in any order. `by`: the value
 * that holds the numbers, before reshapes. */
typedef enum RowsKind {
	ROWS_IN_ORDER,
	ROWS_FLAT,   /* tokens and something behind them in one dimension: may be sorted, compared and gathered from */
	ROWS_SORTED, /* in the order of the numbers */
	ROWS_PLACES, /* where each of these was, or which token it belongs to */
	ROWS_BELOW,  /* which numbers are below 0, 1, 2, ... */
	ROWS_STARTS  /* how many of them: where each number's rows begin */
} RowsKind;
typedef struct Rows {
	RowsKind kind;
	u32 by;
	i64 share; /* of places: so many rows belong to one token */
} Rows;

typedef struct Positions {
	Arena *arena;
	const Graph *g;
	const char *symbol; /* interned */
	Dim size;           /* the symbol as a dimension */
	bool *given, *text; /* [value] follows from an input; from one that has positions */
	Later **later;      /* [value] or NULL */
	Affine **affine;    /* [value] or NULL */
	Rows *rows;         /* [value] */
	bool sorts;         /* some are sorted */
} Positions;

Positions positions_find(Arena *arena, const Graph *g, const char *symbol);

/* Does the dimension count positions: T, B * T? */
bool positions_in(const Positions *p, Dim d);
/* Has the value such a dimension? */
bool positions_has(const Positions *p, Val v);
/* Is `d` of `v`, which is T, seen by a T of the same value with nothing behind it: for some dimension q the value is 0
 * (or, `low`, -inf) where index d > index q? Which, or NONE. */
u32 positions_hidden(const Positions *p, Val v, u32 d, bool low);
/* False where index k of `v` > index q. */
bool positions_masked(const Positions *p, Val v, u32 q, u32 k);

/* Is the node a step of what sorts rows, computes with them so, or brings them home? It stands for each token alone. */
bool positions_rows(const Positions *p, const Node *n);

/* For a reshape: the operand's dimension that result dimension d is, or NONE where it is part of several. Positions
 * may be merged with what lies outside of them ([B, T] to [B*T]), and part from it again; then merged[d] says which
 * of the operand's dimensions has them. False, where positions would be cut or reordered. */
bool positions_reshape(const Positions *p, const Type *from, const Type *to, u32 *same, u32 *merged);

#endif
