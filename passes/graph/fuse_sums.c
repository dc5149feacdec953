/* passes/graph/fuse_sums.c: sums beside products; see fuse.h.
 *
 * The gradient of a weight, x^T dy, and that of the bias beside it, the sum of dy over the same rows, read one matrix: a product
 * may give both (cuBLASLt's BGRADA and BGRADB). Here a group that is one such sum is merged into the group of a product
 * that takes the very value it sums, along the very dimensions that the product sums over.
 *
 * What a library gives is the sum as it is, in the type of the product's result: a product with anything behind it, or a sum
 * that is added to what is there already (accumulation), stay as they are. And a sum of what is not rounded, beside a product that
 * takes it rounded, is another sum.
 *
 * Both run when the later of the two did; so whatever reads what the earlier one gives must come after that. */
#include "passes/fuse.h"

#include <string.h>

/* What the sum takes, before it is widened. */
static Val summed(const Graph *g, const Node *sum)
{
	Val v = sum->in[0];
	const Node *n = val_node(g, v);
	bool widened = n->op == OP_cast && dtype_info[val_type(g, v)->dtype].bytes > dtype_info[val_type(g, n->in[0])->dtype].bytes;
	return widened ? n->in[0] : v;
}

u32 summed_operand(const Graph *g, const Node *dot, const Node *sum)
{
	return summed(g, sum).i == dot->in[0].i ? 0 : 1;
}

/* Does the product sum its operand `which` over just these axes, none of the others being in both operands? */
static bool sums_over(const Node *dot, u32 which, ints axes)
{
	const char *spec = ATTR(dot, dot)->spec, *comma = strchr(spec, ','), *arrow = strchr(spec, '-');
	Str label[2] = { { spec, (size_t)(comma - spec) }, { comma + 1, (size_t)(arrow - comma - 1) } };
	Str mine = label[which], other = label[1 - which];
	u32 found = 0;
	for (u32 i = 0; i < mine.n; i++) {
		bool shared = memchr(other.s, mine.s[i], other.n) != NULL, gone = !strchr(arrow + 2, mine.s[i]), listed = false;
		for (u32 k = 0; k < axes.n; k++)
			listed |= axes.v[k] == i;
		if (shared != gone || gone != listed)
			return false;
		found += gone;
	}
	return found == axes.n;
}

/* A group of one node, of which the value is all that is stored. */
static const Node *alone(const Grouping *f, const Group *gr)
{
	if (gr->into != NONE || gr->member.n != 1 || gr->stored.n != 1)
		return NULL;
	return &f->g->node.v[gr->member.v[0]];
}

typedef struct Uses {
	u32 *first;         /* [value] the first node that takes it, outside the group that makes it; NONE: none */
	u32 *dots, *next;   /* [value] the last group of a product alone that takes it, and [group * 2 + operand] the one before; NONE */
} Uses;

static Uses find_uses(const Grouping *f, Arena *tmp, const bool *live)
{
	const Graph *g = f->g;
	Uses u = { NEWN(tmp, u32, g->value.n + 1), NEWN(tmp, u32, g->value.n + 1), NEWN(tmp, u32, 2 * f->group.n + 1) };
	memset(u.first, 0xff, (g->value.n + 1) * sizeof *u.first);
	memset(u.dots, 0xff, (g->value.n + 1) * sizeof *u.dots);
	for (u32 i = g->node.n; i-- > 0;)
		for (u32 k = 0; live[i] && k < g->node.v[i].nin; k++)
			u.first[g->node.v[i].in[k].i] = i;
	for (u32 i = 0; i < f->group.n; i++) {
		const Node *n = alone(f, &f->group.v[i]);
		for (u32 k = 0; n && n->op == OP_dot && k < 2; k++) {
			u.next[2 * i + k] = u.dots[n->in[k].i];
			u.dots[n->in[k].i] = 2 * i + k;
		}
	}
	return u;
}

/* May both run when the later one did? */
static bool may_wait(const Uses *u, const Group *a, const Group *b)
{
	const Group *early = a->root < b->root ? a : b, *late = early == a ? b : a;
	u32 first = u->first[early->stored.v[0].i];
	return first == NONE || first > late->root;
}

static void merge(Grouping *f, u32 sum, u32 dot)
{
	Group *from = &f->group.v[sum], *to = &f->group.v[dot];
	u32 member[] = { MIN(from->root, to->root), MAX(from->root, to->root) };
	memcpy(to->member.v, member, sizeof *member);
	VEC_PUSH(f->arena, &to->member, member[1]);
	VEC_PUSH(f->arena, &to->stored, from->stored.v[0]);
	to->root = member[1];
	from->into = dot;
}

void fuse_sums(Grouping *f, Arena *tmp, const bool *live)
{
	const Graph *g = f->g;
	Uses u = find_uses(f, tmp, live);
	for (u32 i = 0; i < f->group.n; i++) {
		const Group *gr = &f->group.v[i];
		const Node *sum = gr->class == KERNEL_COLUMN ? alone(f, gr) : NULL;
		if (!sum || sum->op != OP_sum)
			continue;
		for (u32 at = u.dots[summed(g, sum).i]; at != NONE; at = u.next[at]) {
			const Group *to = &f->group.v[at / 2];
			const Node *dot = alone(f, to); /* not where another sum is there already */
			if (!dot || dot->in[0].i == dot->in[1].i || val_type(g, dot->out)->dtype != val_type(g, sum->out)->dtype)
				continue;
			if (!sums_over(dot, at % 2, ATTR(sum, sum)->axes) || !may_wait(&u, gr, to))
				continue;
			merge(f, i, at / 2);
			break;
		}
	}
}
