/* passes/graph/incremental_forms.c: what the pass `incremental` (incremental.c) knows of each op: in which forms its operands
 * are wanted for its result in one, and whether it can be computed position by position at all. Most ops are pointwise along T
 * (OpDef.along); each of the others has a function here. */
#include "passes/graph/incremental.h"

#include <string.h>

bool incremental_positions(const Incremental *x, Val v, u32 d)
{
	return positions_in(&x->p, val_type(x->g, v)->dim[d]);
}

bool PL_PRINTF(3, 4) incremental_refuse(Incremental *x, const Node *n, const char *format, ...)
{
	va_list a;
	va_start(a, format);
	const char *why = arena_vprintf(x->tmp, format, a);
	va_end(a);
	diag_error(x->diag, E0720, n->loc, "'%s'%s%s cannot be computed position by position along %s: %s", op_info[n->op].name,
		   *n->scope ? " in " : "", n->scope, x->p.symbol, why);
	return false;
}

/* ---- what operands are wanted for a result in form `f` ---- */

static bool spread_reshape(Incremental *x, const Node *n, Form f, Form *in)
{
	const Type *from = val_type(x->g, n->in[0]), *to = val_type(x->g, n->out);
	u32 same[MAX_RANK], merged[MAX_RANK];
	if (!positions_reshape(&x->p, from, to, same, merged))
		return incremental_refuse(x, n, "it cuts or reorders positions");
	for (u32 d = 0; d < to->rank; d++) {
		if (!incremental_positions(x, n->out, d))
			continue;
		u32 k = same[d] != NONE ? same[d] : merged[d];
		if (k == NONE || (same[d] == NONE && form_at(f, d) == ALL))
			return incremental_refuse(x, n, "it merges positions with other dimensions before all of them are needed");
		in[0] |= form_of(k, form_at(f, d));
	}
	return true;
}

/* Positions of a table: the first T of its rows. */
bool incremental_takes_rows(const Incremental *x, const Node *n, u32 d)
{
	i64 start;
	return !incremental_positions(x, n->in[0], d) && val_type(x->g, n->out)->dim[d] == x->p.size &&
	       ATTR(n, slice)->step.v[d] == 1 && dim_is_number(ATTR(n, slice)->start.v[d], &start);
}

static bool spread_slice(Incremental *x, const Node *n, Form f, Form *in)
{
	const Type *from = val_type(x->g, n->in[0]), *to = val_type(x->g, n->out);
	for (u32 d = 0; d < to->rank; d++) {
		if (!positions_in(&x->p, from->dim[d]) && !positions_in(&x->p, to->dim[d]))
			continue;
		bool whole = from->dim[d] == to->dim[d] && ATTR(n, slice)->step.v[d] == 1;
		if (!whole && !incremental_takes_rows(x, n, d))
			return incremental_refuse(x, n, "it takes a part of the positions");
		in[0] |= whole ? form_of(d, form_at(f, d)) : 0;
	}
	return true;
}

static bool spread_gather(Incremental *x, const Node *n, Form f, Form *in)
{
	u32 axis = (u32)ATTR(n, gather)->axis, width = val_type(x->g, n->in[1])->rank;
	const Type *a = val_type(x->g, n->in[0]);
	for (u32 d = 0; d < a->rank; d++)
		if (d != axis)
			in[0] |= form_of(d, form_at(f, d < axis ? d : d + width - 1));
	for (u32 d = 0; d < width; d++)
		in[1] |= form_of(d, form_at(f, axis + d));
	if (!incremental_positions(x, n->in[0], axis))
		return true;
	/* index = position - lag */
	const Affine *i = x->p.affine[n->in[1].i];
	u32 along = NONE;
	bool fine = i && i->constant <= 0 && a->dim[axis] == x->p.size;
	for (u32 d = 0; fine && d < width; d++) {
		if (i->slope[d] == 0)
			continue;
		fine = i->slope[d] == 1 && along == NONE && val_type(x->g, n->in[1])->dim[d] == x->p.size;
		along = d;
	}
	if (!fine || along == NONE)
		return incremental_refuse(x, n, "which positions it takes is not known to be the position itself or earlier ones");
	in[0] |= form_of(axis, ALL);
	return true;
}

/* Operand `in` is summed (or, `low`, a maximum is taken) over its dimension d, which is T. */
static bool hidden(Incremental *x, const Node *n, u32 in, u32 d, bool low)
{
	if (val_type(x->g, n->in[in])->dim[d] == x->p.size && positions_hidden(&x->p, n->in[in], d, low) != NONE)
		return true;
	return incremental_refuse(x, n, "it takes all positions together, and no causal mask hides those that come later");
}

static bool spread_dot(Incremental *x, const Node *n, Form f, Form *in)
{
	const char *spec = ATTR(n, dot)->spec, *out = strchr(spec, '>') + 1;
	const char *label[2] = { spec, strchr(spec, ',') + 1 };
	for (u32 i = 0; i < 2; i++)
		for (u32 d = 0; d < val_type(x->g, n->in[i])->rank; d++) {
			if (!incremental_positions(x, n->in[i], d))
				continue;
			const char *to = strchr(out, label[i][d]);
			if (to) {
				in[i] |= form_of(d, form_at(f, (u32)(to - out)));
				continue;
			}
			u32 other = (u32)((const char *)memchr(label[!i], label[i][d], val_type(x->g, n->in[!i])->rank) - label[!i]);
			bool by_other = positions_hidden(&x->p, n->in[!i], other, false) != NONE;
			if (!by_other && !hidden(x, n, i, d, false))
				return false;
			in[i] |= form_of(d, ALL);
		}
	return true;
}

static bool spread_reduction(Incremental *x, const Node *n, ints axes, bool low, Form f, Form *in)
{
	u32 at = 0;
	for (u32 d = 0; d < val_type(x->g, n->in[0])->rank; d++) {
		bool gone = false;
		for (u32 i = 0; i < axes.n; i++)
			gone |= axes.v[i] == d;
		if (!gone)
			in[0] |= form_of(d, form_at(f, at++));
		else if (incremental_positions(x, n->in[0], d) && !hidden(x, n, 0, d, low))
			return false;
		else if (incremental_positions(x, n->in[0], d))
			in[0] |= form_of(d, ALL);
	}
	return true;
}

static bool spread_softmax(Incremental *x, const Node *n, i64 axis, Form f, Form *in)
{
	in[0] = f;
	if (!incremental_positions(x, n->in[0], (u32)axis))
		return true;
	if (form_at(f, (u32)axis) != ALL)
		return incremental_refuse(x, n, "what it gives to a position is needed at other positions than those that it is seen from");
	return hidden(x, n, 0, (u32)axis, true);
}

/* An operand that repeats to [.., H, T, S]: mask or bias of attention. */
static Form repeated_form(const Incremental *x, Val v, u32 rank, Form full)
{
	Form f = 0;
	u32 own = val_type(x->g, v)->rank;
	for (u32 d = 0; d < own; d++)
		if (incremental_positions(x, v, d))
			f |= form_of(d, form_at(full, rank - own + d));
	return f;
}

static bool spread_attention(Incremental *x, const Node *n, Form f, Form *in)
{
	const attention_attr *a = ATTR(n, attention);
	const Type *q = val_type(x->g, n->in[0]);
	u32 r = q->rank, at = 3;
	bool keys = incremental_positions(x, n->in[1], r - 2), queries = incremental_positions(x, n->in[0], r - 2);
	for (u32 i = 0; i < 3; i++)
		for (u32 d = 0; d < r; d++)
			if (incremental_positions(x, n->in[i], d) && d + 2 != r) {
				if (d + 3 >= r)
					return incremental_refuse(x, n, "positions are among its heads or features");
				in[i] |= form_of(d, form_at(f, d));
			}
	Form full = f & ~form_of(r - 1, 3);
	in[0] |= form_of(r - 2, queries ? form_at(f, r - 2) : 0);
	bool seen = !keys;
	if (keys) {
		in[1] |= form_of(r - 2, ALL);
		in[2] |= form_of(r - 2, ALL);
		full |= form_of(r - 1, ALL);
		seen = queries && q->dim[r - 2] == x->p.size && val_type(x->g, n->in[1])->dim[r - 2] == x->p.size && a->causal;
	}
	for (u32 i = 0; i < 2u; i++) {
		if (!(i ? a->bias : a->mask))
			continue;
		Val m = n->in[at];
		u32 own = val_type(x->g, m)->rank;
		in[at++] = repeated_form(x, m, r, full);
		seen |= own > 1 && positions_hidden(&x->p, m, own - 1, i) == own - 2;
	}
	return seen || incremental_refuse(x, n, "every position sees all others: it is not causal, and no causal mask is given");
}

/* Pointwise along T, as the ops' own rows say: dimension d of an operand is that of the result. */
static bool spread_pointwise(Incremental *x, const Node *n, Form f, Form *in)
{
	const Type *to = val_type(x->g, n->out);
	bool found[MAX_RANK] = { false };
	for (u32 i = 0; i < n->nin; i++)
		for (u32 d = 0; d < val_type(x->g, n->in[i])->rank; d++) {
			if (!incremental_positions(x, n->in[i], d))
				continue;
			if (d >= to->rank || to->dim[d] != val_type(x->g, n->in[i])->dim[d] ||
			    node_along(x->g, n, i, d) != ALONG_POINTWISE)
				return incremental_refuse(x, n, "what it gives to a position follows from later positions too");
			in[i] |= form_of(d, form_at(f, d));
			found[d] = true;
		}
	for (u32 d = 0; d < to->rank; d++)
		if (positions_in(&x->p, to->dim[d]) && !found[d])
			return incremental_refuse(x, n, "it makes positions of its own");
	return true;
}

bool incremental_running_sum(const Incremental *x, const Node *n)
{
	return n->op == OP_cumsum && incremental_positions(x, n->out, (u32)ATTR(n, cumsum)->axis);
}

bool incremental_picks(const Incremental *x, const Node *n)
{
	return n->op == OP_input || incremental_running_sum(x, n) || (x->p.sorts && n->op == OP_reshape);
}

bool incremental_spread(Incremental *x, const Node *n, Form f, Form *in)
{
	const Type *t = val_type(x->g, n->out);
	memset(in, 0, n->nin * sizeof *in);
	if (positions_rows(&x->p, n))
		return true;
	for (u32 i = 0; i < n->nin; i++)
		if (x->p.rows[n->in[i].i].kind != ROWS_IN_ORDER)
			return incremental_refuse(x, n, "it mixes rows that were sorted with others");
	switch (n->op) {
	case OP_input:
		for (u32 d = 0; d < t->rank; d++)
			if (positions_in(&x->p, t->dim[d]) && t->dim[d] != x->p.size)
				return incremental_refuse(x, n, "an input has positions mixed with other dimensions");
		return true;
	case OP_read:
		return !positions_has(&x->p, n->out) ||
		       incremental_refuse(x, n, "the shape of buffer %s depends on %s", ATTR(n, read)->buffer, x->p.symbol);
	case OP_iota:
		return t->dim[ATTR(n, iota)->axis] == x->p.size || !incremental_positions(x, n->out, (u32)ATTR(n, iota)->axis) ||
		       incremental_refuse(x, n, "it counts something else than positions");
	case OP_full: return true;
	case OP_extent:
		return !positions_in(&x->p, ATTR(n, extent)->size.v[0]) || incremental_refuse(x, n, "it is the number of positions, which grows");
	case OP_broadcast:
		for (u32 d = 0; d < val_type(x->g, n->in[0])->rank; d++)
			in[0] |= form_of(d, form_at(f, (u32)ATTR(n, broadcast)->dims.v[d]));
		return true;
	case OP_transpose:
		for (u32 d = 0; d < t->rank; d++)
			in[0] |= form_of((u32)ATTR(n, transpose)->perm.v[d], form_at(f, d));
		return true;
	case OP_reshape: return spread_reshape(x, n, f, in);
	case OP_slice: return spread_slice(x, n, f, in);
	case OP_gather: return spread_gather(x, n, f, in);
	case OP_dot: return spread_dot(x, n, f, in);
	case OP_sum: return spread_reduction(x, n, ATTR(n, sum)->axes, false, f, in);
	case OP_reduce_max: return spread_reduction(x, n, ATTR(n, reduce_max)->axes, true, f, in);
	case OP_logsumexp: {
		i64 axis = ATTR(n, logsumexp)->axis;
		return spread_reduction(x, n, (ints){ 1, &axis }, true, f, in);
	}
	case OP_softmax: return spread_softmax(x, n, ATTR(n, softmax)->axis, f, in);
	case OP_log_softmax: return spread_softmax(x, n, ATTR(n, log_softmax)->axis, f, in);
	case OP_attention: return spread_attention(x, n, f, in);
	case OP_rope:
		in[0] = f;
		if (incremental_positions(x, n->in[1], 0))
			in[1] = form_of(0, form_at(f, t->rank - 2u));
		return !incremental_positions(x, n->out, t->rank - 1u) || incremental_refuse(x, n, "positions are among its features");
	case OP_cumsum:
		if (!incremental_running_sum(x, n))
			return spread_pointwise(x, n, f, in);
		in[0] = f;
		return !ATTR(n, cumsum)->reverse || incremental_refuse(x, n, "it sums from the end");
	default: return spread_pointwise(x, n, f, in);
	}
}
