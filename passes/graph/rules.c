/* passes/graph/rules.c: what `simplify` does beyond the folds of single ops, as one table. A rule
 * sees a node whose operands are in the new graph, and gives what to build instead, or nothing.
 *
 * The laws that each rule keeps, beside the one that its row states:
 *   - the value is the same: no arithmetic is reordered, rounded otherwise or left out but where
 * its result is repeated; what a dot adds up, it adds up still
 *   - never more work: FLOPs and bytes do not grow, whatever shares the operands. A rule that would
 *     leave the old value beside the new one asks for a single use
 *   - it terminates: each removes a view, or moves one nearer to the results */
#include "passes/graph/rules.h"
#include "ir/dot.h"

#include <string.h>

typedef Val Rule(Rewrite *rw, const Node *n, const Val *in);

static const Node *made_by(const Rewrite *rw, Val v, Op op)
{
	const Node *n = val_node(rw->b.g, v);
	return n->op == op ? n : NULL;
}

static Val build_dot(Rewrite *rw, Val a, Val b, const DotSpec *s)
{
	char text[DOT_SPEC_MAX];
	dot_spec_permute(s, 0, 1, 2, text);
	return BA(&rw->b, dot, (a, b), .spec = intern_z(&rw->b.g->ir->names, text));
}

/* dot(transpose(a), b) reads a with its labels in the other order. */
static Val dot_of_transpose(Rewrite *rw, const Node *n, const Val *in)
{
	DotSpec s;
	Val operand[2] = { in[0], in[1] };
	bool found = false;
	dot_spec_read(ATTR(n, dot)->spec, &s);
	for (u32 side = 0; side < 2; side++) {
		const Node *t = made_by(rw, in[side], OP_transpose);
		if (!t)
			continue;
		u8 was[MAX_RANK];
		memcpy(was, s.index[side], sizeof was);
		for (u32 d = 0; d < s.rank[side]; d++)
			s.index[side][ATTR(t, transpose)->perm.v[d]] = was[d];
		operand[side] = t->in[0];
		found = true;
	}
	return found ? build_dot(rw, operand[0], operand[1], &s) : (Val){ 0 };
}

/* A label that an operand only repeats over, and that the other operand and the result have, need
 * not be in the first: "bik,bkj->bij" of a broadcast over b is "ik,bkj->bij". */
static Val dot_of_broadcast(Rewrite *rw, const Node *n, const Val *in)
{
	DotSpec s;
	dot_spec_read(ATTR(n, dot)->spec, &s);
	for (u32 side = 0; side < 2; side++) {
		const Node *t = made_by(rw, in[side], OP_broadcast);
		if (!t || ATTR(t, broadcast)->dims.n == 0)
			continue;
		const broadcast_attr *a = ATTR(t, broadcast);
		DotSpec to = s;
		Dim dim[MAX_RANK];
		i64 map[MAX_RANK];
		u32 rank = 0, kept = 0;
		for (u32 d = 0, i = 0; d < s.rank[side]; d++) {
			bool own = i < a->dims.n && a->dims.v[i] == d;
			i += own;
			if (!own && dot_part(&s, s.index[side][d]) == DOT_BATCH)
				continue;
			if (own)
				map[kept++] = rank;
			dim[rank] = a->shape.v[d];
			to.index[side][rank++] = s.index[side][d];
		}
		if (rank == s.rank[side])
			continue;
		to.rank[side] = rank;
		Val operand[2] = { in[0], in[1] };
		operand[side] = BA(&rw->b, broadcast, (t->in[0]), .shape = { rank, dim },
				   .dims = { kept, map });
		return build_dot(rw, operand[0], operand[1], &to);
	}
	return (Val){ 0 };
}

/* transpose(dot(a, b)) writes the dot's result in the other order. */
static Val transpose_of_dot(Rewrite *rw, const Node *n, const Val *in)
{
	const Node *dot = made_by(rw, in[0], OP_dot);
	if (!dot || rw->uses[n->in[0].i] != 1)
		return (Val){ 0 };
	DotSpec s;
	dot_spec_read(ATTR(dot, dot)->spec, &s);
	u8 was[MAX_RANK];
	memcpy(was, s.index[2], sizeof was);
	for (u32 d = 0; d < s.rank[2]; d++)
		s.index[2][d] = was[ATTR(n, transpose)->perm.v[d]];
	rw->b.loc = dot->loc;
	rw->b.scope = dot->scope;
	return build_dot(rw, dot->in[0], dot->in[1], &s);
}

/* The one broadcast that all operands are (constants fit any), or NULL. */
static const Node *common_broadcast(const Rewrite *rw, const Node *n, const Val *in)
{
	const Node *common = NULL;
	for (u32 i = 0; i < n->nin; i++) {
		const Node *t = made_by(rw, in[i], OP_broadcast);
		if (!t) {
			if (made_by(rw, in[i], OP_full))
				continue;
			return NULL;
		}
		const ints *mine = &ATTR(t, broadcast)->dims;
		const ints *first = common ? &ATTR(common, broadcast)->dims : mine;
		if (mine->n != first->n ||
		    (mine->n && memcmp(mine->v, first->v, mine->n * sizeof *mine->v) != 0))
			return NULL;
		common = t;
	}
	return common;
}

/* f(broadcast(a), broadcast(b)) is broadcast(f(a, b)): computed once per element of a. */
static Val scalar_of_broadcast(Rewrite *rw, const Node *n, const Val *in)
{
	const Node *common = common_broadcast(rw, n, in);
	if (!common)
		return (Val){ 0 };
	/* by value: building moves the array of nodes */
	const broadcast_attr *a = ATTR(common, broadcast);
	const Type *small = val_type(rw->b.g, common->in[0]);
	Val operand[3];
	assert(n->nin <= COUNT(operand));
	for (u32 i = 0; i < n->nin; i++) {
		const Node *t = val_node(rw->b.g, in[i]);
		operand[i] = t->op == OP_broadcast ? t->in[0]
						   : make_full(&rw->b, ATTR(t, full)->value,
							       val_type(rw->b.g, in[i])->dtype,
							       (dims){ small->rank, small->dim });
	}
	Val once = build(&rw->b, (Op)n->op, operand, n->nin, 0, n->attr);
	return BA(&rw->b, broadcast, (once), .shape = a->shape, .dims = a->dims);
}

/* ---- the table ---- */

/* Which nodes a rule looks at: an op, or every elementwise op and cast. */
enum { ANY_SCALAR = OPS };

static const struct {
	u32 op;
	Rule *rule;
} rules[RULES] = {
	{ OP_dot, dot_of_transpose },
	{ OP_dot, dot_of_broadcast },
	{ OP_transpose, transpose_of_dot },
	{ ANY_SCALAR, scalar_of_broadcast },
};

const RuleInfo rule_info[RULES] = {
	{ "dot_of_transpose", "an operand's transposition is the order of its labels" },
	{ "dot_of_broadcast",
	  "a repeated batch label of one operand is a label of the other alone" },
	{ "transpose_of_dot",
	  "a result's transposition is the order of its labels, where nothing else reads the dot" },
	{ "scalar_of_broadcast", "a scalar function of repeated values is the repeated function" },
};

bool apply_rules(Rewrite *rw, const Node *n, const Val *in, Val *out)
{
	bool scalar = op_info[n->op].kind == EW || n->op == OP_cast;
	for (u32 i = 0; i < RULES; i++) {
		if (rules[i].op != n->op && !(rules[i].op == ANY_SCALAR && scalar))
			continue;
		out[0] = rules[i].rule(rw, n, in);
		if (!out[0].i)
			continue;
		if (rw->data)
			((u64 *)rw->data)[i]++;
		return true;
	}
	return false;
}
