/* passes/graph/shard_search.c: see shard_search.h, and shard.h for how it goes about it. */
#include "passes/graph/shard_search.h"
#include "ir/cost.h"

#include <string.h>

/* What the search counts in: a device of today. Only ratios matter; bytes decide, and the count of collectives where
 * these are equal, since small ones are put together into large ones. */
static const f64 LINK = 1e11, MEMORY = 1e12, FLOPS = 1e14, LATENCY = 1e-11;
/* What a message that is waited for takes beside its bytes; messages of parameters and gradients that are less than this share of the work go beside it. */
static const f64 WAY = 5e-5, HIDDEN = 0.25;
enum { ROUNDS = 8, USERS = 64 };

f64 shard_work(const Graph *g, const Node *n)
{
	NodeCost c = node_cost(g, n);
	bool free = is_constant((Op)n->op) || n->op == OP_broadcast;
	return free ? 0 : MAX(c.flops / FLOPS, c.bytes / MEMORY);
}

/* ---- cost ---- */

/* Seconds to bring a value of so many bytes from one placement to another. */
static f64 conversion(Place from, Place to, f64 bytes, u32 n)
{
	f64 share = (f64)(n - 1) / n;
	if (place_equal(from, to) || n == 1)
		return 0;
	if (from.kind == PLACE_WHOLE)
		return to.kind == PLACE_SPLIT ? bytes / n / MEMORY : bytes / MEMORY + LATENCY;
	if (from.kind == PLACE_PARTIAL && to.kind == PLACE_SPLIT)
		return LATENCY + share * bytes / LINK;
	if (from.kind == PLACE_PARTIAL)
		return 2 * (LATENCY + share * bytes / LINK);
	if (to.kind == PLACE_SPLIT && to.dim != from.dim)
		return LATENCY + share * bytes / n / LINK;
	return LATENCY + share * bytes / LINK;
}

bool shard_wanted(const Search *s, const User *u, u32 m, Place *want)
{
	if (u->node == NONE) {
		*want = s->e->result[u->operand].at[m];
		return !s->free_result[u->operand];
	}
	*want = choice_operand(s->e, u->node, u->operand, m);
	return s->e->choice[u->node][m].kind != CHOICE_UNSET;
}

/* Which of a value's conversions comes first: as in next_step of partition.c, cheapest first. */
static u32 step_of(Place from, Place to)
{
	bool splits = to.kind == PLACE_SPLIT;
	return from.kind == PLACE_WHOLE ? 0 : from.kind == PLACE_SPLIT && splits ? 1 : splits ? 2 : from.kind == PLACE_PARTIAL ? 3 : 4;
}

/* Bytes of a value on one device, if it were whole along m, when it is brought to where the user wants it along m: along other axes it
 * is by then as the user wants it, or still as it was made. */
static f64 bytes_then(const Search *s, Val v, const User *u, u32 m, Place from, Place to)
{
	f64 bytes = (f64)type_bytes(val_type(s->g, v));
	const Value *value = &s->g->value.v[v.i];
	u32 step = step_of(from, to);
	for (u32 k = 0; k < s->mesh->n; k++) {
		if (k == m)
			continue;
		Place is = choice_result(s->e, value->node, value->index, k), want;
		u32 other;
		if (shard_wanted(s, u, k, &want) && !place_equal(is, want) && ((other = step_of(is, want)) < step || (other == step && k < m)))
			is = want;
		if (is.kind == PLACE_SPLIT)
			bytes /= s->mesh->axis[k].size;
	}
	return bytes;
}

/* What is wanted of a value along one axis, by the user that has most brought. */
typedef struct Wanted {
	Place place;
	f64 bytes;
} Wanted;

/* All that is wanted of a value, each conversion once. */
static f64 value_cost(const Search *s, Val v, u32 m)
{
	const Value *value = &s->g->value.v[v.i];
	if (is_constant((Op)s->g->node.v[value->node].op) || s->e->choice[value->node][m].kind == CHOICE_UNSET)
		return 0;
	Place from = choice_result(s->e, value->node, value->index, m), split = from;
	Wanted wanted[8];
	bool anywhere = from.kind != PLACE_PARTIAL && one_number(s->g, &s->g->node.v[value->node]);
	f64 cost = 0;
	u32 nwanted = 0, n = MIN(s->user[v.i].n, (u32)USERS), parts = s->mesh->axis[m].size, k;
	for (u32 i = 0; i < n; i++) {
		Place want;
		if (!shard_wanted(s, &s->user[v.i].v[i], m, &want) || place_equal(from, want) ||
		    (anywhere && want.kind != PLACE_PARTIAL))
			continue;
		for (k = 0; k < nwanted && !place_equal(wanted[k].place, want);)
			k++;
		if (k == COUNT(wanted))
			continue;
		f64 bytes = bytes_then(s, v, &s->user[v.i].v[i], m, from, want);
		wanted[k] = (Wanted){ want, k < nwanted ? MAX(wanted[k].bytes, bytes) : bytes };
		nwanted = MAX(nwanted, k + 1);
		if (want.kind == PLACE_SPLIT && from.kind == PLACE_PARTIAL)
			split = want;
	}
	/* a sum that is wanted both ways is gathered from its parts */
	for (k = 0; k < nwanted; k++)
		cost += conversion(wanted[k].place.kind == PLACE_WHOLE ? split : from, wanted[k].place, wanted[k].bytes, parts);
	return cost;
}

static f64 work_cost(const Search *s, u32 node)
{
	f64 work = s->work[node];
	for (u32 k = 0; k < s->mesh->n; k++)
		if (s->e->choice[node][k].kind == CHOICE_LABEL)
			work /= s->mesh->axis[k].size;
	return work;
}

/* Along all axes. */
static f64 brought_cost(const Search *s, Val v)
{
	f64 cost = 0;
	for (u32 m = 0; m < s->mesh->n; m++)
		cost += value_cost(s, v, m);
	return cost;
}

/* All that the node's choice bears upon: along one axis it says how large a value is when it is brought along the others. */
static f64 node_total(const Search *s, u32 node)
{
	const Node *n = &s->g->node.v[node];
	f64 cost = work_cost(s, node);
	for (u32 k = 0; k < n->nin; k++) {
		bool before = false;
		for (u32 j = 0; j < k; j++)
			before |= n->in[j].i == n->in[k].i;
		if (!before)
			cost += brought_cost(s, n->in[k]);
	}
	for (u32 k = 0; k < n->nout; k++)
		cost += brought_cost(s, (Val){ n->out.i + k });
	return cost;
}

/* ---- candidates ---- */

/* Behind those of names, 1 and 2: what passes sums on, which names leave; and what a rule says of an op, which goes before names. */
enum { SUMMED = 3, RULED = 4 };

typedef struct Candidates {
	u32 n;
	Choice v[24];
	u8 priority[24];
	bool strays[24]; /* names say otherwise */
} Candidates;

/* May the node be divided at this label, with what it does along other mesh axes? */
static bool label_fits(const Search *s, u32 node, u32 m, u32 label, i64 outer)
{
	const ShardLabel *l = &s->e->rule[node].label.v[label];
	Place digit[MESH_AXES] = { 0 };
	i64 covered = 1;
	for (u32 k = 0; k < s->mesh->n; k++) {
		const Choice *c = &s->e->choice[node][k];
		if (k == m)
			digit[k] = (Place){ .kind = PLACE_SPLIT, .outer = outer };
		else if (c->kind == CHOICE_LABEL && c->which == label)
			digit[k] = (Place){ .kind = PLACE_SPLIT, .outer = c->outer };
	}
	if (!(l->pads && l->fix == SHARD_AS_IS ? places_fit_padded : places_fit)(s->mesh, digit, 0, l->extent))
		return false;
	u32 digits = 0;
	for (u32 k = 0; k < s->mesh->n; k++)
		digits += digit[k].kind == PLACE_SPLIT;
	if (l->fix == SHARD_RING)
		return digits == 1 && (!l->stripes || outer * s->mesh->axis[m].size == l->extent);
	if (l->fix != SHARD_LOOKUP && l->fix != SHARD_GROUPS)
		return true;
	/* a device's rows (or groups) are consecutive: digits begin at 1 and leave no gap */
	for (u32 rounds = 0; rounds < s->mesh->n; rounds++)
		for (u32 k = 0; k < s->mesh->n; k++)
			if (digit[k].kind == PLACE_SPLIT && digit[k].outer == covered) {
				covered *= s->mesh->axis[k].size;
				digit[k].kind = PLACE_WHOLE;
			}
	for (u32 k = 0; k < s->mesh->n; k++)
		if (digit[k].kind == PLACE_SPLIT)
			return false;
	return true;
}

static void add_candidate(Candidates *c, Choice choice, u8 priority)
{
	for (u32 i = 0; i < c->n; i++)
		if (c->v[i].kind == choice.kind && c->v[i].which == choice.which && c->v[i].outer == choice.outer) {
			c->priority[i] = MAX(c->priority[i], priority);
			return;
		}
	if (c->n == COUNT(c->v))
		return;
	c->priority[c->n] = priority;
	c->v[c->n++] = choice;
}

/* Does a digit in dimension `dim` of the tensor fall into the label? Then *outer is where. */
static bool falls_into(const ShardLabel *l, u32 tensor, u32 dim, i64 *outer)
{
	ShardPoint at = l->at[tensor];
	if (at.dim != (i8)dim || *outer % at.outer || *outer / at.outer >= MAX(l->extent, 1))
		return false;
	*outer /= at.outer;
	return true;
}

/* The labels that a digit in dimension `dim` of the tensor falls into. */
static void add_digit(const Search *s, Candidates *c, u32 node, u32 tensor, u32 dim, i64 outer, u32 m, u8 priority)
{
	const ShardRule *r = &s->e->rule[node];
	for (u32 l = 0; l < r->label.n && l < UINT8_MAX; l++) {
		i64 in_label = outer;
		if (falls_into(&r->label.v[l], tensor, dim, &in_label) && label_fits(s, node, m, l, in_label))
			add_candidate(c, (Choice){ CHOICE_LABEL, (u8)l, in_label }, priority);
	}
}

static void note_named(Search *s, NamedDigits *to, u32 node, u32 tensor, Val v, u32 m)
{
	const ShardRule *r = &s->e->rule[node];
	for (u32 d = 0; d < val_type(s->g, v)->rank; d++) {
		Names names = { 0 };
		shard_names(s, &names, s->class[v.i][d], m, 1);
		for (u32 i = 0; i < names.n; i++)
			for (u32 l = 0; l < r->label.n && l < UINT8_MAX; l++) {
				i64 outer = names.outer[i];
				if (falls_into(&r->label.v[l], tensor, d, &outer))
					VEC_PUSH(s->cx->tmp, &to->of, ((NamedDigit){ tensor, (u8)l, names.priority[i], outer }));
			}
	}
}

/* They are the same in every sweep. */
static const NamedDigits *named_digits(Search *s, u32 node, u32 m)
{
	NamedDigits *to = &s->named[node * s->mesh->n + m];
	const Node *n = &s->g->node.v[node];
	if (to->known)
		return to;
	to->known = true;
	for (u32 k = 0; k < n->nout; k++)
		note_named(s, to, node, n->nin + k, (Val){ n->out.i + k }, m);
	for (u32 k = 0; k < n->nin; k++)
		note_named(s, to, node, k, n->in[k], m);
	return to;
}

/* Those of one tensor, from *at on. */
static void add_named(const Search *s, Candidates *c, const NamedDigits *named, u32 *at, u32 node, u32 tensor, u32 m)
{
	for (; *at < named->of.n && named->of.v[*at].tensor == tensor; ++*at) {
		const NamedDigit *d = &named->of.v[*at];
		if (label_fits(s, node, m, d->label, d->outer))
			add_candidate(c, (Choice){ CHOICE_LABEL, d->label, d->outer }, d->priority);
	}
}

/* The digit of mesh axis m in attention's heads lies behind those that names give the other axes. */
static i64 behind_names(Search *s, u32 node, u32 label, u32 m)
{
	const ShardLabel *l = &s->e->rule[node].label.v[label];
	i8 dim = l->at[0].dim;
	Val q = s->g->node.v[node].in[0];
	i64 behind = 1, heads = 1;
	for (u32 k = 0; k < s->mesh->n; k++) {
		Names names = { 0 };
		if (k < m && s->rules->heads >> k & 1)
			heads *= s->mesh->axis[k].size;
		else if (k != m)
			shard_names(s, &names, s->class[q.i][dim], k, 1);
		for (u32 i = 0; i < names.n; i++)
			if (falls_into(l, 0, (u32)dim, &names.outer[i]))
				behind = MAX(behind, names.outer[i] * s->mesh->axis[k].size);
	}
	return behind * heads;
}

u32 shard_heads(Search *s, u32 node, u32 m, i64 *outer)
{
	const ShardRule *r = &s->e->rule[node];
	for (u32 l = 0; l < r->label.n; l++) {
		if (!r->label.v[l].heads)
			continue;
		*outer = behind_names(s, node, l, m);
		if (r->label.v[l].extent % (*outer * s->mesh->axis[m].size) == 0)
			return l;
	}
	return NONE;
}

/* Attention divides groups of heads that share keys, or else heads of such, if a rule says so. */
static void add_heads(Search *s, Candidates *c, u32 node, u32 m)
{
	i64 outer;
	u32 label = s->rules->heads >> m & 1 ? shard_heads(s, node, m, &outer) : NONE;
	if (label != NONE && label_fits(s, node, m, label, outer))
		add_candidate(c, (Choice){ CHOICE_LABEL, (u8)label, outer }, RULED);
}

/* Are the operands that are not to be partial whole already? */
static bool others_whole(const Search *s, u32 node, u64 partial, u32 m)
{
	const Node *n = &s->g->node.v[node];
	for (u32 k = 0; k < n->nin; k++) {
		const Value *v = &s->g->value.v[n->in[k].i];
		if (!(partial >> k & 1) && choice_result(s->e, v->node, v->index, m).kind != PLACE_WHOLE)
			return false;
	}
	return true;
}

/* Is each of the operands that are to be partial so already, or made of less? */
static bool none_whole(const Search *s, u32 node, u64 partial, u32 m)
{
	const Node *n = &s->g->node.v[node];
	for (u32 k = 0; k < n->nin; k++) {
		const Value *v = &s->g->value.v[n->in[k].i];
		Op maker = (Op)s->g->node.v[v->node].op;
		if (partial >> k & 1 && !is_constant(maker) && maker != OP_broadcast &&
		    choice_result(s->e, v->node, v->index, m).kind == PLACE_WHOLE)
			return false;
	}
	return true;
}

/* As the operand comes, and as its other users want it. */
static void add_operand(const Search *s, Candidates *c, u32 node, u32 operand, u32 m)
{
	Val in = s->g->node.v[node].in[operand];
	for (u32 i = 0; i < MIN(s->user[in.i].n, (u32)USERS); i++) {
		const User *u = &s->user[in.i].v[i];
		Place want;
		if (u->node != node && shard_wanted(s, u, m, &want) && want.kind == PLACE_SPLIT)
			add_digit(s, c, node, operand, want.dim, want.outer, m, 0);
	}
	const Value *v = &s->g->value.v[s->g->node.v[node].in[operand].i];
	const ShardRule *r = &s->e->rule[node];
	Place p = choice_result(s->e, v->node, v->index, m);
	if (p.kind == PLACE_SPLIT)
		add_digit(s, c, node, operand, p.dim, p.outer, m, 0);
	for (u32 i = 0; p.kind == PLACE_PARTIAL && p.reduce == SHARD_SUM && i < r->linear.n; i++)
		if (r->linear.v[i] >> operand & 1 && others_whole(s, node, r->linear.v[i], m) &&
		    (!s->whole_stays || none_whole(s, node, r->linear.v[i], m)))
			add_candidate(c, (Choice){ CHOICE_LINEAR, (u8)i, 0 }, SUMMED);
}

/* Is the value, tensor of a node, made divided along m as this label divided at `outer` wants it? */
static bool lies_so(const Search *s, Val v, u32 m, const ShardLabel *l, u32 tensor, i64 outer)
{
	const Value *value = &s->g->value.v[v.i];
	Place p = choice_result(s->e, value->node, value->index, m);
	return p.kind == PLACE_SPLIT && falls_into(l, tensor, p.dim, &p.outer) && p.outer == outer;
}

/* May the node do so though names say otherwise? A product whose parameter lies so; what takes such a product's result as it lies; and what only views or
 * rounds for it. */
static bool may_stray(const Search *s, u32 node, u32 m, const Choice *c)
{
	const Node *n = &s->g->node.v[node];
	if (c->kind != CHOICE_LABEL)
		return false;
	const ShardLabel *l = &s->e->rule[node].label.v[c->which];
	bool product = n->op == OP_dot || n->op == OP_grouped_dot;
	for (u32 k = 0; k < n->nin; k++) {
		bool follows = s->strays[s->g->value.v[n->in[k].i].node] >> m & 1;
		if ((follows || (product && s->weight[n->in[k].i])) && lies_so(s, n->in[k], m, l, k, c->outer))
			return true;
	}
	if (!(op_info[n->op].traits & T_VIEW) && n->op != OP_cast)
		return false;
	for (u32 k = 0; k < n->nout; k++)
		for (u32 i = 0; i < MIN(s->user[n->out.i + k].n, (u32)USERS); i++) {
			const User *u = &s->user[n->out.i + k].v[i];
			Place want;
			if (u->node != NONE && s->strays[u->node] >> m & 1 && shard_wanted(s, u, m, &want) && want.kind == PLACE_SPLIT &&
			    falls_into(l, n->nin + k, want.dim, &want.outer) && want.outer == c->outer)
				return true;
		}
	return false;
}

static void candidates(Search *s, u32 node, u32 m, Candidates *c)
{
	const Node *n = &s->g->node.v[node];
	*c = (Candidates){ .n = 1 };
	c->v[0] = (Choice){ .kind = CHOICE_WHOLE };
	c->priority[0] = 0;
	const NamedDigits *named = named_digits(s, node, m);
	u32 at = 0;
	for (u32 k = 0; k < n->nout; k++)
		add_named(s, c, named, &at, node, n->nin + k, m);
	for (u32 k = 0; k < n->nin; k++) {
		add_named(s, c, named, &at, node, k, m);
		add_operand(s, c, node, k, m);
	}
	for (u32 k = 0; k < n->nout; k++)
		for (u32 i = 0; i < MIN(s->user[n->out.i + k].n, (u32)USERS); i++) {
			Place want;
			if (shard_wanted(s, &s->user[n->out.i + k].v[i], m, &want) && want.kind == PLACE_SPLIT)
				add_digit(s, c, node, n->nin + k, want.dim, want.outer, m, 0);
		}
	add_heads(s, c, node, m);
	if (!s->forced)
		return;
	/* names decide: those of the highest priority there is, and what passes sums on; beside attention that divides heads, what only views or
	 * rounds may also lie as its operand does or a user wants it, and then fewer bytes go round */
	bool passes = s->rules->heads >> m & 1 && (op_info[n->op].traits & T_VIEW || n->op == OP_cast);
	u8 most = 0;
	for (u32 i = 0; i < c->n; i++)
		most = MAX(most, c->priority[i] == SUMMED ? (u8)0 : c->priority[i]);
	u32 kept = 0;
	for (u32 i = 0; i < c->n; i++) {
		bool by_name = c->priority[i] >= most || (passes && c->v[i].kind == CHOICE_LABEL);
		if (!by_name && !(s->weights_stay && s->rules->parameters >> m & 1 && may_stray(s, node, m, &c->v[i])))
			continue;
		c->v[kept] = c->v[i];
		c->strays[kept] = !by_name;
		c->priority[kept++] = c->priority[i];
	}
	c->n = kept;
}

/* ---- the search ---- */

/* The node does otherwise: whoever counts with that is to choose anew. Its users see how large its results are; makers of its operands
 * and others that read them see what it wants of these. */
static void tell_neighbours(Search *s, u32 node)
{
	const Node *n = &s->g->node.v[node];
	s->stale[node] = UINT8_MAX;
	for (u32 k = 0; k < n->nout; k++)
		for (u32 i = 0; i < s->user[n->out.i + k].n; i++)
			if (s->user[n->out.i + k].v[i].node != NONE)
				s->stale[s->user[n->out.i + k].v[i].node] = UINT8_MAX;
	for (u32 k = 0; k < n->nin; k++) {
		s->stale[s->g->value.v[n->in[k].i].node] = UINT8_MAX;
		for (u32 i = 0; i < s->user[n->in[k].i].n; i++)
			if (s->user[n->in[k].i].v[i].node != NONE)
				s->stale[s->user[n->in[k].i].v[i].node] = UINT8_MAX;
	}
}

/* Takes the cheapest choice; of equal ones the present, else the last that passes sums on. */
static bool improve(Search *s, u32 node, u32 m)
{
	Choice *at = &s->e->choice[node][m], was = *at, best = was;
	if (was.kind == CHOICE_GIVEN || !(s->stale[node] >> m & 1)) /* it would find what it found */
		return false;
	s->stale[node] &= (u8)~(1u << m);
	Candidates c;
	candidates(s, node, m, &c);
	f64 least = -1;
	bool here = false;
	u32 taken = 0;
	if (c.n == 1) /* whatever it costs */
		best = c.v[0];
	for (u32 i = 0; i < c.n && c.n > 1; i++) {
		*at = c.v[i];
		f64 cost = node_total(s, node);
		bool same = c.v[i].kind == was.kind && c.v[i].which == was.which && c.v[i].outer == was.outer;
		bool better = least < 0 || cost < least * (1 - 1e-9) - 1e-15;
		bool tie = !better && cost <= least * (1 + 1e-9) + 1e-15;
		if (better || (tie && (same || (!here && c.v[i].kind == CHOICE_LINEAR)))) {
			least = better ? cost : MIN(cost, least);
			best = c.v[i];
			taken = i;
			here = same;
		}
	}
	*at = best;
	s->strays[node] = (u8)((s->strays[node] & ~(1u << m)) | (u32)c.strays[taken] << m);
	bool changed = best.kind != was.kind || best.which != was.which || best.outer != was.outer;
	if (changed)
		tell_neighbours(s, node);
	return changed;
}

static void descend(Search *s)
{
	u32 n = s->g->node.n;
	memset(s->stale, UINT8_MAX, n);
	for (u32 m = 0; m < s->mesh->n; m++)
		for (u32 i = 0; i < n; i++)
			improve(s, i, m);
	for (u32 round = 0; round < ROUNDS; round++) {
		bool changed = false;
		for (u32 m = 0; m < s->mesh->n; m++) {
			for (u32 i = n; i-- > 0;)
				changed |= improve(s, i, m);
			for (u32 i = 0; i < n; i++)
				changed |= improve(s, i, m);
		}
		if (!changed)
			break;
	}
}

f64 shard_cost(const Search *s)
{
	f64 cost = 0;
	for (u32 i = 0; i < s->g->node.n; i++) {
		f64 one = work_cost(s, i);
		for (u32 k = 0; k < s->g->node.v[i].nout; k++)
			one += brought_cost(s, (Val){ s->g->node.v[i].out.i + k });
		cost += s->stands[i] * one;
	}
	return cost;
}

/* Chooses anew, of all that are not given. */
static void forget(Search *s)
{
	memset(s->strays, 0, s->g->node.n);
	for (u32 i = 0; i < s->g->node.n; i++)
		for (u32 m = 0; m < s->mesh->n; m++)
			if (s->e->choice[i][m].kind != CHOICE_GIVEN)
				s->e->choice[i][m] = (Choice){ 0 };
}

/* What is made of parameters alone. */
static void find_weights(Search *s)
{
	s->weight = NEWN(s->cx->tmp, bool, s->g->value.n + 1);
	for (u32 i = 0; i < s->g->node.n; i++) {
		const Node *n = &s->g->node.v[i];
		bool weight = n->op == OP_read ? s->p->buffer.v[program_find_buffer(s->p, ATTR(n, read)->buffer)].kind == BUFFER_PARAMETER : n->nin > 0;
		for (u32 k = 0; k < n->nin; k++)
			weight &= s->weight[n->in[k].i];
		for (u32 k = 0; k < n->nout; k++)
			s->weight[n->out.i + k] = weight;
	}
}

/* Which nodes make gradients: what they make is a result of the entry and nothing else, at once or added to others. */
static void find_results(Search *s)
{
	s->result = NEWN(s->cx->tmp, bool, s->g->node.n + 1);
	for (u32 i = s->g->node.n; i-- > 0;) {
		const Node *n = &s->g->node.v[i];
		s->result[i] = n->nout > 0;
		for (u32 k = 0; k < n->nout; k++)
			for (u32 u = 0; u < s->user[n->out.i + k].n; u++) {
				u32 user = s->user[n->out.i + k].v[u].node;
				s->result[i] &= user == NONE || (s->result[user] && op_info[s->g->node.v[user].op].kind == EW);
			}
	}
}

/* Of messages, those that are waited for, or the others: parameters are brought before they are needed, and gradients are summed behind whoever made them. */
static f64 messages_cost(const Search *s, bool waited)
{
	f64 cost = 0;
	for (u32 v = 1; v < s->g->value.n; v++) {
		const Value *value = &s->g->value.v[v];
		bool waits = !s->weight[v] && !s->result[value->node];
		for (u32 m = 0; m < s->mesh->n && waits == waited; m++) {
			f64 one = value_cost(s, (Val){ v }, m);
			bool sent = one > 0 && choice_result(s->e, value->node, value->index, m).kind != PLACE_WHOLE;
			cost += sent ? s->stands[value->node] * (one + (waited ? WAY : 0)) : 0;
		}
	}
	return cost;
}

/* The cheaper of both ways to go about what is whole; its cost. */
static f64 search_both(Search *s)
{
	u32 n = s->g->node.n;
	size_t bytes = n * sizeof *s->e->choice;
	Choice(*first)[MESH_AXES] = arena_push(s->cx->tmp, sizeof *first, n + 1, _Alignof(Choice));
	descend(s);
	f64 cost = shard_cost(s);
	memcpy(first, s->e->choice, bytes);
	forget(s);
	s->whole_stays = true;
	descend(s);
	s->whole_stays = false;
	f64 second = shard_cost(s);
	if (second <= cost * (1 - 1e-9))
		return second;
	memcpy(s->e->choice, first, bytes);
	return cost;
}

void shard_search(Search *s)
{
	u32 n = s->g->node.n;
	size_t bytes = n * sizeof *s->e->choice;
	s->strays = NEWN(s->cx->tmp, u8, n + 1);
	find_weights(s);
	find_results(s);
	f64 cost = search_both(s), work = 0;
	for (u32 i = 0; i < n; i++)
		work += s->stands[i] * work_cost(s, i);
	if (!s->forced || !s->rules->parameters || messages_cost(s, false) < HIDDEN * work)
		return;
	cost += messages_cost(s, true);
	Choice(*named)[MESH_AXES] = arena_push(s->cx->tmp, sizeof *named, n + 1, _Alignof(Choice));
	memcpy(named, s->e->choice, bytes);
	forget(s);
	s->weights_stay = true;
	f64 stay = search_both(s);
	s->weights_stay = false;
	if (stay + messages_cost(s, true) > cost * (1 - 1e-9))
		memcpy(s->e->choice, named, bytes);
}
