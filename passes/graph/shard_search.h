/* passes/graph/shard_search.h: the search of shard.c: what each node of an entry does along each mesh axis, so that messages and
 * repeated work take the least time; for shard.c alone. */
#ifndef PL_PASSES_SHARD_SEARCH_H
#define PL_PASSES_SHARD_SEARCH_H
#include "passes/graph/shard.h"

typedef struct User {
	u32 node, operand; /* node NONE: result `operand` of the entry */
} User;

/* Choices of a node that names give along one mesh axis, if they fit beside what it does along the others. */
typedef struct NamedDigit {
	u32 tensor;
	u8 label, priority;
	i64 outer;
} NamedDigit;
typedef struct NamedDigits {
	bool known;
	VEC(NamedDigit) of; /* results' first, then operands' */
} NamedDigits;

typedef struct Search {
	PassCx *cx;
	const Program *p;
	const ShardRules *rules;
	const Mesh *mesh;
	Placement *out;
	u8 *mapped;        /* [class * mesh axes]: 0, 1 secondary, 2 primary */
	i64 *prefix;       /* the same: devices of mesh axes that divide the class before this one, from outside or, in stripes, from inside */
	bool *striped;     /* [class]: primary rules divide it in stripes */
	u32 nclass;
	bool *told;        /* [class]: that it does not divide was said */
	bool told_heads;   /* the same of attention's heads */
	bool told_rows;    /* that devices have room for one another's rows was said */
	/* of one entry */
	EntryPlacement *e;
	const Graph *g;
	VEC(User) *user;   /* [value] */
	f64 *work;         /* [node] seconds of it whole */
	f64 *stands;       /* [node] how many of the whole model it stands for (ShardRules.stands) */
	bool stood;        /* has an entry as many layers as those are of? */
	NamedDigits *named; /* [node * mesh axes] */
	Axis (*class)[MAX_RANK]; /* [value] */
	u8 *stale;         /* [node] mesh axes (bits) along which something has changed that its choice depends on */
	bool *free_result; /* [result] of a gradient: as it comes */
	bool forced;       /* names decide */
	bool whole_stays;  /* of a second search: what is whole is not made a part of a sum */
	bool weights_stay; /* of a third: rows may go to divided parameters, whatever names say of rows */
	u8 *strays;        /* [node] mesh axes (bits) along which it does so, or what comes of it */
	bool *weight;      /* [value] made of parameters alone */
	bool *result;      /* [node] what it makes is, or is added to, results of the entry alone */
} Search;

/* The digits that names give dimension `d` over mesh axis m: outer[0..n), priority[..]. */
typedef struct Names {
	u32 n;
	i64 outer[8];
	u8 priority[8];
} Names;

/* Nothing is computed: who reads it has the values. */
static inline bool is_constant(Op op)
{
	return op == OP_full || op == OP_iota;
}

/* shard.c: a product's own name and those of its factors. */
void shard_names(Search *s, Names *out, Axis class, u32 m, i64 before);

/* The label of attention's heads that mesh axis m divides by the rule `attention_heads`, and where; NONE: neither groups nor heads of one do. */
u32 shard_heads(Search *s, u32 node, u32 m, i64 *outer);
/* Seconds of a node that runs whole. */
f64 shard_work(const Graph *g, const Node *n);
/* Is something wanted of the value by this user yet, and where? */
bool shard_wanted(const Search *s, const User *u, u32 m, Place *want);
/* Chooses, of an entry whose sources have their places. */
void shard_search(Search *s);
/* Seconds of what was chosen. */
f64 shard_cost(const Search *s);

#endif
