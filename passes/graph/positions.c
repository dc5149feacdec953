/* passes/graph/positions.c: see positions.h. One walk in order; every rule looks at a node's operands alone. */
#include "passes/graph/positions.h"
#include "ir/along.h"

#include <math.h>
#include <string.h>

/* A bias this low takes a score's exponential to 0, as the field's own masks do. */
static const f64 LOW = -1e4;

bool positions_in(const Positions *p, Dim d)
{
	for (u32 i = 0; i < d->n; i++)
		for (u32 k = 0; k < d->term[i].n; k++)
			if (d->term[i].symbol[k] == p->symbol)
				return true;
	return false;
}

bool positions_has(const Positions *p, Val v)
{
	const Type *t = val_type(p->g, v);
	for (u32 d = 0; d < t->rank; d++)
		if (positions_in(p, t->dim[d]))
			return true;
	return false;
}

u32 positions_hidden(const Positions *p, Val v, u32 d, bool low)
{
	const Later *l = p->later[v.i];
	for (u32 q = 0; l && q < val_type(p->g, v)->rank; q++)
		if ((low ? l->low[q] : l->zero[q]) >> d & 1)
			return q;
	return NONE;
}

bool positions_masked(const Positions *p, Val v, u32 q, u32 k)
{
	return p->later[v.i] && p->later[v.i]->zero[q] >> k & 1;
}

/* ---- reshape ---- */

/* T once, as the innermost factor of the dimension: the product of the others is what lies outside of it. */
static bool innermost(const Positions *p, Dim d)
{
	for (u32 i = 0; i < d->n; i++) {
		u32 times = 0;
		for (u32 k = 0; k < d->term[i].n; k++)
			times += d->term[i].symbol[k] == p->symbol;
		if (times != 1 || d->term[i].den != 1)
			return false;
	}
	return true;
}

/* Of dimensions first..last: the one with positions (NONE: there is none) and the product behind it. False where there
 * are several. */
static bool find_positions(const Positions *p, const Type *t, u32 first, u32 last, u32 *at, Dim *behind)
{
	*at = NONE;
	*behind = dim_number(p->g->ir, 1);
	for (u32 d = first; d < last; d++) {
		if (positions_in(p, t->dim[d])) {
			if (*at != NONE || !innermost(p, t->dim[d]))
				return false;
			*at = d;
			*behind = dim_number(p->g->ir, 1);
		} else if (*at != NONE) {
			*behind = dim_mul(p->g->ir, *behind, t->dim[d]);
		}
	}
	return true;
}

/* The only dimension of first..last that is not 1, or NONE. */
static u32 only_dim(const Type *t, u32 first, u32 last)
{
	u32 found = NONE;
	i64 one;
	for (u32 d = first; d < last; d++) {
		if (dim_is_number(t->dim[d], &one) && one == 1)
			continue;
		if (found != NONE)
			return NONE;
		found = d;
	}
	return found;
}

bool positions_reshape(const Positions *p, const Type *from, const Type *to, u32 *same, u32 *merged)
{
	Ir *ir = p->g->ir;
	u32 i = 0, j = 0;
	for (u32 d = 0; d < to->rank; d++)
		same[d] = merged[d] = NONE;
	while (i < from->rank || j < to->rank) {
		/* the least group: dimensions i..a and j..b with one product */
		u32 a = i, b = j;
		bool found = false;
		Dim x = dim_number(ir, 1);
		while (!found && a < from->rank) {
			x = dim_mul(ir, x, from->dim[a++]);
			Dim y = dim_number(ir, 1);
			for (b = j; !found && b < to->rank;) {
				y = dim_mul(ir, y, to->dim[b++]);
				found = x == y;
			}
		}
		if (!found) {
			/* ones are left at either end */
			a = from->rank;
			b = to->rank;
		}
		u32 f = only_dim(from, i, a), t = only_dim(to, j, b), fp, tp;
		Dim after_f, after_t;
		if (!find_positions(p, from, i, a, &fp, &after_f) || !find_positions(p, to, j, b, &tp, &after_t))
			return false;
		if (f != NONE && t != NONE) {
			same[t] = f;
		} else if (fp != NONE || tp != NONE) {
			if (fp == NONE || tp == NONE || after_f != after_t)
				return false;
			merged[tp] = fp;
		}
		i = a;
		j = b;
	}
	return true;
}

/* ---- facts ---- */

typedef struct Learn {
	Positions *p;
	const Node *n;
	Val out;
} Learn;

static Later *set_later(Learn *l)
{
	Later **at = &l->p->later[l->out.i];
	if (!*at)
		*at = NEW(l->p->arena, Later);
	return *at;
}

static Affine *set_affine(Learn *l)
{
	Affine **at = &l->p->affine[l->out.i];
	if (!*at)
		*at = NEW(l->p->arena, Affine);
	return *at;
}

static const Later *later_of(const Learn *l, u32 in)
{
	static const Later nothing;
	const Later *x = l->p->later[l->n->in[in].i];
	return x ? x : &nothing;
}

static const Affine *affine_of(const Learn *l, u32 in)
{
	return l->p->affine[l->n->in[in].i];
}

/* One number everywhere? */
static bool constant_of(const Learn *l, u32 in, f64 *value)
{
	const Affine *a = affine_of(l, in);
	for (u32 d = 0; a && d < MAX_RANK; d++)
		if (a->slope[d] != 0)
			return false;
	if (a)
		*value = a->constant;
	return a != NULL;
}

/* Facts of operand `in` where its dimension d is the result's to[d] (NONE: gone). */
static void carry(Learn *l, u32 in, const u32 *to)
{
	const Later *x = l->p->later[l->n->in[in].i];
	const Affine *a = affine_of(l, in);
	u32 rank = val_type(l->p->g, l->n->in[in])->rank;
	for (u32 q = 0; x && q < rank; q++)
		for (u32 k = 0; k < rank; k++) {
			if (to[q] == NONE || to[k] == NONE)
				continue;
			u16 bit = (u16)(1u << to[k]);
			Later *y = set_later(l);
			y->zero[to[q]] |= x->zero[q] >> k & 1 ? bit : 0;
			y->low[to[q]] |= x->low[q] >> k & 1 ? bit : 0;
			y->yes[to[q]] |= x->yes[q] >> k & 1 ? bit : 0;
		}
	if (!a)
		return;
	for (u32 d = 0; d < rank; d++)
		if (a->slope[d] != 0 && to[d] == NONE)
			return;
	Affine *b = set_affine(l);
	b->constant = a->constant;
	for (u32 d = 0; d < rank; d++)
		if (to[d] != NONE)
			b->slope[to[d]] = a->slope[d];
}

static void carry_all(Learn *l)
{
	static const u32 identity[MAX_RANK] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 };
	carry(l, 0, identity);
}

static void learn_view(Learn *l)
{
	const Node *n = l->n;
	const Type *from = val_type(l->p->g, n->in[0]), *t = val_type(l->p->g, l->out);
	u32 to[MAX_RANK], same[MAX_RANK], merged[MAX_RANK];
	memset(to, 0xff, sizeof to);
	switch (n->op) {
	case OP_broadcast:
		for (u32 d = 0; d < from->rank; d++)
			to[d] = (u32)ATTR(n, broadcast)->dims.v[d];
		break;
	case OP_transpose:
		for (u32 d = 0; d < from->rank; d++)
			to[ATTR(n, transpose)->perm.v[d]] = d;
		break;
	case OP_reshape:
		if (!positions_reshape(l->p, from, t, same, merged))
			return;
		for (u32 d = 0; d < t->rank; d++)
			if (same[d] != NONE)
				to[same[d]] = d;
		break;
	case OP_slice:
		for (u32 d = 0; d < from->rank; d++)
			if (from->dim[d] == t->dim[d] && ATTR(n, slice)->step.v[d] == 1)
				to[d] = d;
		break;
	default:
		for (u32 d = 0; d < from->rank; d++)
			if (from->dim[d] == t->dim[d] && d != (u32)ATTR(n, split)->axis)
				to[d] = d;
		break;
	}
	carry(l, 0, to);
}

/* `a * x + b * y` for affine x, y. */
static void learn_sum(Learn *l, f64 a, f64 b)
{
	const Affine *x = affine_of(l, 0), *y = l->n->nin > 1 ? affine_of(l, 1) : NULL;
	if (!x || (l->n->nin > 1 && !y))
		return;
	Affine z = { .constant = a * x->constant + (y ? b * y->constant : 0) };
	for (u32 d = 0; d < MAX_RANK; d++)
		z.slope[d] = a * x->slope[d] + (y ? b * y->slope[d] : 0);
	if (!isnan(z.constant))
		*set_affine(l) = z;
}

static void learn_product(Learn *l, bool divide)
{
	f64 c;
	if (constant_of(l, 1, &c) && isfinite(c) && (!divide || c != 0)) {
		const Affine *x = affine_of(l, 0);
		Affine z = { 0 };
		f64 f = divide ? 1 / c : c;
		if (x && isfinite(x->constant)) {
			z.constant = f * x->constant;
			for (u32 d = 0; d < MAX_RANK; d++)
				z.slope[d] = f * x->slope[d];
			*set_affine(l) = z;
		}
	} else if (!divide && constant_of(l, 0, &c) && isfinite(c) && affine_of(l, 1)) {
		const Affine *x = affine_of(l, 1);
		Affine z = { .constant = c * x->constant };
		for (u32 d = 0; d < MAX_RANK; d++)
			z.slope[d] = c * x->slope[d];
		*set_affine(l) = z;
	}
}

/* A comparison of x and y where x - y is slope * (k - q) + c. */
static void learn_comparison(Learn *l)
{
	const Affine *x = affine_of(l, 0), *y = affine_of(l, 1);
	const Type *t = val_type(l->p->g, l->out);
	if (!x || !y)
		return;
	u32 up = NONE, down = NONE;
	f64 c = x->constant - y->constant, slope = 0;
	for (u32 d = 0; d < t->rank; d++) {
		f64 s = x->slope[d] - y->slope[d];
		if (s == 0)
			continue;
		if (t->dim[d] != l->p->size || (s > 0 ? up : down) != NONE)
			return;
		*(s > 0 ? &up : &down) = d;
		if (slope != 0 && fabs(s) != slope)
			return;
		slope = fabs(s);
	}
	if (up == NONE || down == NONE || !isfinite(c))
		return;
	c /= slope;
	u16 up_bit = (u16)(1u << up), down_bit = (u16)(1u << down);
	bool less = l->n->op == OP_lt, equal = l->n->op == OP_eq;
	/* x - y = up - down + c. True at most where up <= down - c (or <): false where up > down */
	if (c >= 0 || (less && c >= -1))
		set_later(l)->zero[down] |= up_bit;
	/* where down > up, up - down <= -1: true if -1 + c <= 0 (or < 0) */
	if (!equal && (less ? c < 1 : c <= 1))
		set_later(l)->yes[up] |= down_bit;
	if (equal && c <= 0)
		set_later(l)->zero[up] |= down_bit;
}

static void learn_logic(Learn *l)
{
	const Later *x = later_of(l, 0), *y = l->n->nin > 1 ? later_of(l, 1) : NULL;
	u32 rank = val_type(l->p->g, l->out)->rank;
	for (u32 q = 0; q < rank; q++) {
		u16 zero, yes;
		if (l->n->op == OP_not) {
			zero = x->yes[q];
			yes = x->zero[q];
		} else {
			bool both = l->n->op == OP_and;
			zero = both ? x->zero[q] | y->zero[q] : x->zero[q] & y->zero[q];
			yes = both ? x->yes[q] & y->yes[q] : x->yes[q] | y->yes[q];
		}
		if (zero)
			set_later(l)->zero[q] = zero;
		if (yes)
			set_later(l)->yes[q] = yes;
	}
}

static void learn_where(Learn *l)
{
	const Later *m = later_of(l, 0), *x = later_of(l, 1), *y = later_of(l, 2);
	u32 rank = val_type(l->p->g, l->out)->rank;
	f64 c;
	bool x_const = constant_of(l, 1, &c);
	u16 x_zero = x_const && c == 0 ? 0xffff : 0, x_low = x_const && c <= LOW ? 0xffff : 0;
	bool y_const = constant_of(l, 2, &c);
	u16 y_zero = y_const && c == 0 ? 0xffff : 0, y_low = y_const && c <= LOW ? 0xffff : 0;
	for (u32 q = 0; q < rank; q++) {
		u16 xz = x->zero[q] | x_zero, yz = y->zero[q] | y_zero, xl = x->low[q] | x_low, yl = y->low[q] | y_low;
		u16 zero = (m->zero[q] & yz) | (m->yes[q] & xz) | (xz & yz & (x->zero[q] | y->zero[q]));
		u16 low = (m->zero[q] & yl) | (m->yes[q] & xl) | (xl & yl & (x->low[q] | y->low[q]));
		if (zero)
			set_later(l)->zero[q] = zero;
		if (low)
			set_later(l)->low[q] = low;
	}
}

/* Operations of one operand that keep 0, or take what is low to 0. */
static void learn_function(Learn *l)
{
	const Later *x = later_of(l, 0);
	u32 rank = val_type(l->p->g, l->out)->rank;
	for (u32 q = 0; q < rank; q++) {
		u16 zero = 0, low = 0;
		switch (l->n->op) {
		case OP_exp:
		case OP_sigmoid: zero = x->low[q]; break;
		case OP_relu: zero = x->zero[q] | x->low[q]; break;
		case OP_neg:
		case OP_abs:
		case OP_sqrt:
		case OP_tanh:
		case OP_square: zero = x->zero[q]; break;
		default: /* copies */
			zero = x->zero[q];
			low = x->low[q];
			break;
		}
		if (zero)
			set_later(l)->zero[q] = zero;
		if (low)
			set_later(l)->low[q] = low;
	}
}

static void learn_arithmetic(Learn *l)
{
	const Later *x = later_of(l, 0), *y = later_of(l, 1);
	u32 rank = val_type(l->p->g, l->out)->rank;
	f64 c;
	bool positive_y = constant_of(l, 1, &c) && c > 0, positive_x = constant_of(l, 0, &c) && c > 0;
	for (u32 q = 0; q < rank; q++) {
		u16 zero = 0, low = 0;
		switch (l->n->op) {
		case OP_add:
			zero = x->zero[q] & y->zero[q];
			low = x->low[q] | y->low[q];
			break;
		case OP_sub:
			zero = x->zero[q] & y->zero[q];
			low = x->low[q] & (u16)~y->low[q];
			break;
		case OP_mul:
			zero = x->zero[q] | y->zero[q];
			low = (positive_y ? x->low[q] : 0) | (positive_x ? y->low[q] : 0);
			break;
		case OP_div:
			zero = x->zero[q];
			low = positive_y ? x->low[q] : 0;
			break;
		default: /* min */
			zero = x->zero[q] & y->zero[q];
			low = x->low[q] | y->low[q];
			break;
		}
		if (zero)
			set_later(l)->zero[q] = zero;
		if (low)
			set_later(l)->low[q] = low;
	}
}

static void learn_softmax(Learn *l, i64 axis, bool log)
{
	const Later *x = later_of(l, 0);
	u16 bit = (u16)(1u << axis);
	for (u32 q = 0; q < val_type(l->p->g, l->out)->rank; q++)
		if (x->low[q] & bit)
			*(log ? &set_later(l)->low[q] : &set_later(l)->zero[q]) |= bit;
}

/* Sums keep what is 0 whatever they sum over. */
static void learn_reduction(Learn *l, ints axes)
{
	u32 to[MAX_RANK], at = 0;
	const Type *from = val_type(l->p->g, l->n->in[0]);
	for (u32 d = 0; d < from->rank; d++) {
		bool gone = false;
		for (u32 i = 0; i < axes.n; i++)
			gone |= axes.v[i] == d;
		to[d] = gone ? NONE : at++;
	}
	const Later *x = l->p->later[l->n->in[0].i];
	for (u32 q = 0; x && q < from->rank; q++)
		for (u32 k = 0; k < from->rank; k++)
			if (to[q] != NONE && to[k] != NONE && x->zero[q] >> k & 1)
				set_later(l)->zero[to[q]] |= (u16)(1u << to[k]);
}

static void learn_dot(Learn *l)
{
	const char *spec = ATTR(l->n, dot)->spec, *out = strchr(spec, '>') + 1, *label = spec;
	for (u32 in = 0; in < 2; in++, label = strchr(spec, ',') + 1) {
		const Later *x = l->p->later[l->n->in[in].i];
		u32 rank = val_type(l->p->g, l->n->in[in])->rank;
		for (u32 q = 0; x && q < rank; q++)
			for (u32 k = 0; k < rank; k++) {
				const char *to_q = strchr(out, label[q]), *to_k = strchr(out, label[k]);
				if (to_q && to_k && x->zero[q] >> k & 1)
					set_later(l)->zero[to_q - out] |= (u16)(1u << (to_k - out));
			}
	}
}

static bool holds_indices(DType d)
{
	return d == DT_i32 || d == DT_i64 || d == DT_f32 || d == DT_f64;
}

/* ---- sorted rows ---- */

/* Do places count what has `tokens` of them? */
static bool places_in(const Positions *p, Val places, Dim tokens)
{
	Rows at = p->rows[places.i];
	return at.kind == ROWS_PLACES && positions_in(p, tokens) &&
	       dim_mul(p->g->ir, dim_number(p->g->ir, at.share), tokens) == val_type(p->g, places)->dim[0];
}

static bool scattered_back(const Positions *p, const Node *n)
{
	if (n->op != OP_scatter_add || n->nin != 2 || ATTR(n, scatter_add)->axis != 0)
		return false;
	Rows y = p->rows[n->in[0].i], at = p->rows[n->in[1].i];
	return y.kind == ROWS_SORTED && y.by == at.by && places_in(p, n->in[1], ATTR(n, scatter_add)->size.v[0]);
}

bool positions_rows(const Positions *p, const Node *n)
{
	return p->rows[n->out.i].kind != ROWS_IN_ORDER || scattered_back(p, n);
}

/* The value that `v` is a reshaped, repeated or cast form of. */
static u32 base_of(const Graph *g, Val v)
{
	for (;;) {
		const Node *n = val_node(g, v);
		if (n->op != OP_reshape && n->op != OP_broadcast && n->op != OP_cast)
			return v.i;
		v = n->in[0];
	}
}

/* 0, 1, 2, ... along a dimension that is no positions'. */
static bool counts_groups(const Learn *l, u32 in)
{
	const Affine *a = affine_of(l, in);
	const Type *t = val_type(l->p->g, l->n->in[in]);
	u32 along = 0;
	for (u32 d = 0; a && d < t->rank; d++)
		if (a->slope[d] != 0) {
			if (a->slope[d] != 1 || positions_in(l->p, t->dim[d]))
				return false;
			along++;
		}
	return a && along == 1 && a->constant == 0;
}

static Rows rows_of(const Learn *l)
{
	const Node *n = l->n;
	const Positions *p = l->p;
	const Graph *g = p->g;
	const Type *t = val_type(g, l->out);
	Rows none = { 0 }, a = n->nin ? p->rows[n->in[0].i] : none, b = n->nin > 1 ? p->rows[n->in[1].i] : none;
	u32 same[MAX_RANK], merged[MAX_RANK];
	f64 c;
	switch (n->op) {
	case OP_sort:
		if (t->rank != 1 || !positions_in(p, t->dim[0]) || ATTR(n, sort)->descending || a.kind > ROWS_FLAT)
			return none;
		return (Rows){ l->out.i == n->out.i ? ROWS_SORTED : ROWS_PLACES, base_of(g, n->in[0]), 1 };
	case OP_reshape:
		if (a.kind == ROWS_IN_ORDER && t->rank == 1 && positions_in(p, t->dim[0]) &&
		    !positions_reshape(p, val_type(g, n->in[0]), t, same, merged) && positions_in(p, val_type(g, n->in[0])->dim[0]))
			return (Rows){ .kind = ROWS_FLAT };
		return a;
	case OP_broadcast:
	case OP_cast:
	case OP_stop_gradient: return a;
	case OP_floordiv:
		if (a.kind != ROWS_PLACES || t->rank != 1 || !constant_of(l, 1, &c) || !(c >= 1 && c < 1e6 && c == floor(c)))
			return none;
		return (Rows){ ROWS_PLACES, a.by, a.share * (i64)c };
	case OP_lt:
		return p->sorts && positions_has(p, n->in[0]) && a.kind <= ROWS_FLAT && counts_groups(l, 1) ?
			       (Rows){ .kind = ROWS_BELOW, .by = base_of(g, n->in[0]) } :
			       none;
	case OP_sum: {
		const ints axes = ATTR(n, sum)->axes;
		bool rows = a.kind == ROWS_BELOW && axes.n == 1 && positions_in(p, val_type(g, n->in[0])->dim[axes.v[0]]);
		return rows ? (Rows){ .kind = ROWS_STARTS, .by = a.by } : none;
	}
	case OP_gather: {
		bool rows = ATTR(n, gather)->axis == 0 && a.kind <= ROWS_FLAT && places_in(p, n->in[1], val_type(g, n->in[0])->dim[0]);
		return rows ? (Rows){ .kind = ROWS_SORTED, .by = b.by } : none;
	}
	case OP_grouped_dot: {
		Rows starts = p->rows[n->in[2].i];
		return a.kind == ROWS_SORTED && starts.kind == ROWS_STARTS && starts.by == a.by ? a : none;
	}
	default: break;
	}
	/* element by element: all that has rows has them in one order */
	Rows all = none;
	bool pointwise = n->nout == 1;
	for (u32 i = 0; i < n->nin && pointwise; i++) {
		Rows x = p->rows[n->in[i].i];
		if (!positions_has(p, n->in[i]))
			continue;
		pointwise = x.kind == ROWS_SORTED && (!all.kind || all.by == x.by) && val_type(g, n->in[i])->rank == t->rank;
		const Type *own = val_type(g, n->in[i]);
		for (u32 d = 0; d < t->rank && pointwise; d++)
			pointwise = (!positions_in(p, t->dim[d]) && !positions_in(p, own->dim[d])) ||
				    (own->dim[d] == t->dim[d] && node_along(g, n, i, d) == ALONG_POINTWISE);
		all = x;
	}
	return pointwise ? all : none;
}

static void learn(Learn *l)
{
	const Node *n = l->n;
	const Graph *g = l->p->g;
	switch (n->op) {
	case OP_iota: set_affine(l)->slope[ATTR(n, iota)->axis] = 1; break;
	case OP_full: set_affine(l)->constant = ATTR(n, full)->value; break;
	case OP_broadcast:
	case OP_transpose:
	case OP_reshape:
	case OP_slice:
	case OP_split: learn_view(l); break;
	case OP_stop_gradient: carry_all(l); break;
	case OP_cast:
		carry_all(l);
		if (!holds_indices(val_type(g, l->out)->dtype) || !holds_indices(val_type(g, n->in[0])->dtype))
			l->p->affine[l->out.i] = NULL;
		break;
	case OP_add: learn_sum(l, 1, 1), learn_arithmetic(l); break;
	case OP_sub: learn_sum(l, 1, -1), learn_arithmetic(l); break;
	case OP_neg: learn_sum(l, -1, 0), learn_function(l); break;
	case OP_mul: learn_product(l, false), learn_arithmetic(l); break;
	case OP_div: learn_product(l, true), learn_arithmetic(l); break;
	case OP_min: learn_arithmetic(l); break;
	case OP_lt:
	case OP_le:
	case OP_eq: learn_comparison(l); break;
	case OP_not:
	case OP_and:
	case OP_or: learn_logic(l); break;
	case OP_where: learn_where(l); break;
	case OP_exp:
	case OP_sigmoid:
	case OP_relu:
	case OP_abs:
	case OP_sqrt:
	case OP_tanh:
	case OP_square: learn_function(l); break;
	case OP_softmax: learn_softmax(l, ATTR(n, softmax)->axis, false); break;
	case OP_log_softmax: learn_softmax(l, ATTR(n, log_softmax)->axis, true); break;
	case OP_sum: learn_reduction(l, ATTR(n, sum)->axes); break;
	case OP_dot: learn_dot(l); break;
	default: break;
	}
}

Positions positions_find(Arena *arena, const Graph *g, const char *symbol)
{
	Positions p = { .arena = arena, .g = g, .symbol = symbol, .size = dim_symbol(g->ir, symbol),
			
			.given = NEWN(arena, bool, g->value.n + 1), .text = NEWN(arena, bool, g->value.n + 1),
			.later = NEWN(arena, Later *, g->value.n + 1),
			.affine = NEWN(arena, Affine *, g->value.n + 1), .rows = NEWN(arena, Rows, g->value.n + 1) };
	for (u32 i = 0; i < g->node.n; i++) {
		const Node *n = &g->node.v[i];
		bool given = n->op == OP_input, text = given && positions_has(&p, n->out);
		for (u32 k = 0; k < n->nin; k++) {
			given |= p.given[n->in[k].i];
			text |= p.text[n->in[k].i];
		}
		for (u32 k = 0; k < n->nout; k++) {
			p.given[n->out.i + k] = given;
			p.text[n->out.i + k] = text;
			Learn l = { &p, n, { n->out.i + k } };
			learn(&l);
			p.rows[n->out.i + k] = rows_of(&l);
			p.sorts |= p.rows[n->out.i + k].kind == ROWS_SORTED;
		}
	}
	return p;
}
