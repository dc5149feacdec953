/* passes/graph/incremental.h: what the two files of the pass `incremental` share (incremental.c says what it does): the state
 * of one walk, and forms, in which positions a value is wanted at. */
#ifndef PL_PASSES_GRAPH_INCREMENTAL_H
#define PL_PASSES_GRAPH_INCREMENTAL_H
#include "ir/along.h"
#include "passes/graph/positions.h"
#include "passes/pass.h"

typedef u32 Form; /* two bits for each dimension; 0 where it is not T */
enum { NEW, ALL, LAST };
typedef VEC(Form) Forms;

/* What both entries share: which values are kept, and where. */
typedef struct Kept {
	u32 *all;     /* [value] the buffer with all its positions, or NONE */
	u32 *fixed;   /* [value] the buffer of what follows from inputs without T */
	u32 *sum;     /* [value] the buffer of a running sum */
	Map count;    /* scope -> buffers made there */
} Kept;

typedef struct Incremental {
	Arena *tmp;
	Diag *diag;
	Positions p;
	const Graph *g;
	Program *to;
	Builder b;
	bool decode;   /* one new position; else T of them */
	Dim capacity, one;
	Kept *kept;
	Forms *demand; /* [value] */
	Forms *forms;  /* [node] as it is built */
	bool *whole;   /* [value] wanted at ALL, from its buffer */
	u32 *first;    /* [value] the first node that wants it at ALL */
	u32 *within;   /* [value] the one wanted at ALL too that has it as a piece, or NONE */
	Map built;     /* value and form -> value of b.g */
	Val past, last;
} Incremental;

static inline u32 form_at(Form f, u32 d)
{
	return f >> 2 * d & 3;
}

static inline Form form_of(u32 d, u32 form)
{
	return (Form)form << 2 * d;
}

/* Whether dimension `d` of `v` is T. */
bool incremental_positions(const Incremental *x, Val v, u32 d);
/* Says why node `n` cannot be computed position by position; false. */
bool PL_PRINTF(3, 4) incremental_refuse(Incremental *x, const Node *n, const char *format, ...);
/* Whether `n`, a slice along dimension `d`, takes rows that stand at positions. */
bool incremental_takes_rows(const Incremental *x, const Node *n, u32 d);
/* A sum over all positions up to each: what came before is kept as its running value. */
bool incremental_running_sum(const Incremental *x, const Node *n);
/* Whether `n` at LAST is only to be had by picking from what it is at NEW. */
bool incremental_picks(const Incremental *x, const Node *n);
/* The forms in which `n` wants its operands for a result in form `f`, to in[n->nin]; false, and told, where an op that is not
 * pointwise along T is not shown to see earlier positions only. */
bool incremental_spread(Incremental *x, const Node *n, Form f, Form *in);

#endif
