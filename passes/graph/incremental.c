/* passes/graph/incremental.c: the pass `incremental`: decoding derived from the model as it was written for training
 * (incremental{axis=T}). From the entry `forward`, whose inputs and results run along T, come
 *   prefill  input tokens [B, T] as before, at positions past, past + 1, ...; `past` and `last`: i32[]. Its results are
 *            those of the new position number `last` alone ([B, 1, V])
 *   decode   the same for one position: tokens [B, 1] at position `past`
 * over persistent buffers that keep, for up to `capacity` positions (a symbol), what later positions need of earlier
 * ones: keys and values of attention, or whatever else is summed over positions under a causal mask; running sums.
 * What such entries compute for position t equals what `forward` computes there, whatever stands behind it.
 *
 * Each value is wanted in forms, one for each of its dimensions that is T: at the new positions (NEW), at all
 * (ALL: those behind past are masked where they are read), or at the one that results are wanted of (LAST). A first
 * walk from the results backwards finds the forms; a value wanted at ALL that follows from the text becomes a buffer,
 * which the new positions are written into. A second walk builds each node once for each form. An op that is not
 * pointwise along T (OpDef.along) must be shown to see earlier positions only: attention that is causal or masked so,
 * or sums over what a causal mask makes 0 (passes/graph/positions.h); otherwise it is told which op cannot be decoded so.
 *
 * Results without T, such as a count of what experts were chosen, belong to no position, and are left out.
 *
 * What follows from inputs without T (an encoder's states) is computed by prefill and kept for decode.
 * The idea of static analysis of what streams along an axis is that of incremental view maintenance and of lazy
 * streaming inference; keys and values kept between steps are Shazeer's (2019, "Fast transformer decoding"). */
#include "passes/graph/incremental.h"
#include "passes/rewrite.h"

#include <string.h>

/* ---- forms ---- */

/* The form with every dimension of `v` that is T in `each`. */
static Form form_every(const Incremental *x, Val v, u32 each)
{
	Form f = 0;
	const Type *t = val_type(x->g, v);
	for (u32 d = 0; d < t->rank; d++)
		if (positions_in(&x->p, t->dim[d]))
			f |= form_of(d, each);
	return f;
}

/* LAST as NEW. */
static Form form_new(Form f)
{
	Form r = 0;
	for (u32 d = 0; d < MAX_RANK; d++)
		if (form_at(f, d) == ALL)
			r |= form_of(d, ALL);
	return r;
}

static Dim form_dim(const Incremental *x, Dim d, u32 form)
{
	i64 one = 1;
	if (!positions_in(&x->p, d))
		return d;
	if (form == ALL)
		return x->capacity;
	return form == LAST || x->decode ? dim_bind(x->g->ir, d, &x->p.symbol, &one, 1) : d;
}

static dims form_shape(Incremental *x, const Type *t, Form f)
{
	Dim *d = NEWN(x->tmp, Dim, t->rank + 1);
	for (u32 i = 0; i < t->rank; i++)
		d[i] = form_dim(x, t->dim[i], form_at(f, i));
	return (dims){ t->rank, d };
}

/* ---- backwards: who wants what ---- */

/* NONE for each. */
static u32 *no_values(Arena *tmp, u32 n)
{
	u32 *l = NEWN(tmp, u32, n + 1);
	memset(l, 0xff, (n + 1) * sizeof *l);
	return l;
}

static void want(Incremental *x, Forms *list, Form f)
{
	for (u32 i = 0; i < list->n; i++)
		if (list->v[i] == f)
			return;
	VEC_PUSH(x->tmp, list, f);
}

/* Views whose operand may be kept in place of what they give: no more elements. */
static bool kept_before(Op op)
{
	return op == OP_transpose || op == OP_reshape || op == OP_broadcast || op == OP_stop_gradient;
}

static bool want_forms(Incremental *x, u32 node)
{
	const Node *n = &x->g->node.v[node];
	Forms *forms = &x->forms[node];
	for (u32 k = 0; k < n->nout; k++) {
		Val v = { n->out.i + k };
		bool fixed = x->p.given[v.i] && !x->p.text[v.i] && !positions_has(&x->p, v);
		for (u32 i = 0; i < x->demand[v.i].n; i++) {
			Form f = x->demand[v.i].v[i], all = form_every(x, v, ALL);
			if (f && x->p.rows[v.i].kind != ROWS_IN_ORDER)
				return incremental_refuse(x, n, "rows in another order than the text's are needed later");
			if (fixed && x->decode) {
				x->kept->fixed[v.i] = 0; /* a buffer is made for it */
				continue;
			}
			if (all && f == all && x->p.text[v.i] && !kept_before((Op)n->op)) {
				const Type *t = val_type(x->g, v);
				for (u32 d = 0, found = 0; d < t->rank; d++)
					if (positions_in(&x->p, t->dim[d]) && (t->dim[d] != x->p.size || found++))
						return incremental_refuse(x, n, "all of it is needed later, and it has positions more than once");
				x->whole[v.i] = true;
				want(x, forms, 0);
			} else if (incremental_picks(x, n)) {
				want(x, forms, form_new(f)); /* LAST is picked from it */
				want(x, forms, f);
			} else {
				want(x, forms, f);
			}
		}
	}
	for (u32 i = 0; i < forms->n; i++) {
		Form f = forms->v[i], in[64];
		bool picked = false;
		for (u32 k = 0; k < forms->n && f != form_new(f); k++)
			picked |= forms->v[k] == form_new(f);
		if (picked)
			continue;
		if (n->nin > COUNT(in))
			return incremental_refuse(x, n, "it has more than %d operands", (int)COUNT(in));
		if (!incremental_spread(x, n, f, in))
			return false;
		for (u32 k = 0; k < n->nin; k++) {
			want(x, &x->demand[n->in[k].i], in[k]);
			if (in[k] == form_every(x, n->in[k], ALL))
				x->first[n->in[k].i] = node;
		}
	}
	return true;
}

/* What is kept as a piece of something else is not kept by itself. From the last node on: what a piece is of may be a piece too, and is there with it. */
static void find_pieces(Incremental *x)
{
	u32 *there = no_values(x->tmp, x->g->value.n); /* the node that all of a piece is there with */
	for (u32 i = x->g->node.n; i-- > 0;) {
		const Node *n = &x->g->node.v[i];
		if (n->op != OP_concat || !x->whole[n->out.i] || incremental_positions(x, n->out, (u32)ATTR(n, concat)->axis))
			continue;
		u32 from = x->within[n->out.i] == NONE ? i : there[n->out.i];
		for (u32 k = 0; k < n->nin; k++) {
			u32 v = n->in[k].i;
			if (x->whole[v] && x->within[v] == NONE && x->first[v] > from) {
				x->within[v] = n->out.i;
				there[v] = from;
			}
		}
	}
}

/* ---- buffers ---- */

static u32 add_buffer(Incremental *x, const Node *n, DType dtype, dims shape, const Axis *axis)
{
	Program *to = x->to;
	u64 *count = map_get(&x->kept->count, MAP_KEY(n->scope));
	u64 number = count ? *count : 0;
	map_put(&x->kept->count, MAP_KEY(n->scope), number + 1);
	const char *name = intern_printf(&x->g->ir->names, "cache/%s%s%llu", n->scope, *n->scope ? "." : "", (unsigned long long)number);
	Axis *a = NEWN(to->arena, Axis, shape.n + 1);
	for (u32 d = 0; d < shape.n; d++)
		a[d] = axis && axis[d].id && x->g->ir->axis.v[axis_find(x->g->ir, axis[d]).id].size == shape.v[d] ? axis[d] : (Axis){ 0 };
	return program_buffer(to, (Buffer){ .name = name, .kind = BUFFER_CACHE, .of = NONE, .loc = n->loc, .scope = n->scope, .axis = a,
					    .type = type_make(x->g->ir, dtype, shape.n, shape.v) });
}

static Val read_buffer(Incremental *x, u32 buffer)
{
	const Buffer *b = &x->to->buffer.v[buffer];
	Val v = BS(&x->b, read, .buffer = b->name, .dtype = b->type->dtype, .shape = { b->type->rank, b->type->dim });
	graph_set_axis(x->b.g, v, b->axis);
	return v;
}

/* ---- forwards: each node in each form ---- */

static u64 built_key(Val v, Form f)
{
	return (u64)v.i << 2 * MAX_RANK | f;
}

static Val get(const Incremental *x, Val v, Form f)
{
	const u64 *found = map_get(&x->built, built_key(v, f));
	assert(found && "a form that was wanted was built");
	return (Val){ (u32)*found };
}

static void set(Incremental *x, Val v, Form f, Val made)
{
	map_put(&x->built, built_key(v, f), made.i);
}

/* past, or past + last, as a scalar of the type. */
static Val first_position(Incremental *x, u32 form, DType dtype)
{
	Val v = x->past;
	if (form == LAST && !x->decode)
		v = B(&x->b, add, v, x->last);
	return make_cast(&x->b, v, dtype);
}

/* Indices along `axis` of a value of this shape: 0, 1, .. or, where it is not ALL, positions. */
static Val indices(Incremental *x, u32 form, i64 axis, DType dtype, dims shape)
{
	Val v = BS(&x->b, iota, .axis = axis, .dtype = dtype, .shape = shape);
	if (form == ALL)
		return v;
	return B(&x->b, add, v, make_broadcast(&x->b, first_position(x, form, dtype), shape));
}

/* One index of dimension d, which stays with extent 1. */
static Val pick(Incremental *x, Val v, u32 d)
{
	const Type *t = val_type(x->b.g, v);
	Dim one[MAX_RANK];
	for (u32 i = 0; i < t->rank; i++)
		one[i] = i == d ? x->one : t->dim[i];
	Val row = BA(&x->b, gather, (v, x->last), .axis = d);
	return BA(&x->b, reshape, (row), .shape = { t->rank, one });
}

/* Rows of a table: at positions. */
static Val build_slice(Incremental *x, const Node *n, Form f, const Val *in)
{
	const slice_attr *a = ATTR(n, slice);
	const Type *to = val_type(x->g, n->out);
	dims size = form_shape(x, to, f), start = a->start;
	Val v = in[0];
	for (u32 d = 0; d < to->rank; d++) {
		if (!positions_in(&x->p, to->dim[d]) || !incremental_takes_rows(x, n, d))
			continue;
		Val at = indices(x, form_at(f, d), 0, DT_i32, (dims){ 1, &size.v[d] });
		i64 from = 0;
		dim_is_number(a->start.v[d], &from);
		at = B(&x->b, add, at, make_full_like(&x->b, at, (f64)from));
		v = BA(&x->b, gather, (v, at), .axis = d);
		Dim *zero = COPYN(x->tmp, Dim, start.v, start.n);
		zero[d] = dim_number(x->g->ir, 0);
		start.v = zero;
	}
	return BA(&x->b, slice, (v), .start = start, .size = size, .step = a->step);
}

/* Keys at positions up to the query's (and, with a window, the last of those) are seen. */
static Val build_attention(Incremental *x, const Node *n, Form f, const Val *in)
{
	attention_attr a = *ATTR(n, attention);
	u32 r = val_type(x->g, n->out)->rank, nin = n->nin;
	Val operand[5], *mask = &operand[3];
	memcpy(operand, in, nin * sizeof *in);
	if (!a.causal || !incremental_positions(x, n->in[1], r - 2))
		return build(&x->b, OP_attention, operand, nin, 0, &a);
	Builder *b = &x->b;
	Dim seen[2] = { val_type(b->g, in[0])->dim[r - 2], val_type(b->g, in[1])->dim[r - 2] };
	dims pairs = { 2, seen };
	Val query = indices(x, form_at(f, r - 2), 0, DT_i32, pairs), key = indices(x, ALL, 1, DT_i32, pairs);
	Val sees = B(b, le, key, query);
	if (a.window)
		sees = B(b, and, sees, B(b, lt, B(b, sub, query, key), make_full(b, (f64)a.window, DT_i32, pairs)));
	if (a.mask) {
		Dim full[MAX_RANK];
		for (u32 d = 0; d < r; d++)
			full[d] = val_type(b->g, in[0])->dim[d];
		full[r - 1] = seen[1];
		*mask = B(b, and, make_broadcast(b, *mask, (dims){ r, full }), make_broadcast(b, sees, (dims){ r, full }));
	} else {
		memmove(mask + 1, mask, (nin++ - 3) * sizeof *mask);
		*mask = sees;
	}
	a.mask = true;
	a.causal = false;
	a.window = 0;
	return build(b, OP_attention, operand, nin, 0, &a);
}

/* The sum up to `past` is kept; `last` says which of the new positions are the text's. */
static Val build_running_sum(Incremental *x, const Node *n, Form f, const Val *in)
{
	Builder *b = &x->b;
	const cumsum_attr *a = ATTR(n, cumsum);
	u32 axis = (u32)a->axis;
	if (form_at(f, axis) == ALL)
		return build(b, OP_cumsum, in, 1, 0, a);
	const Type *t = val_type(b->g, in[0]);
	Dim left[MAX_RANK];
	Axis left_axis[MAX_RANK];
	i64 map[MAX_RANK];
	u32 rank = 0;
	for (u32 d = 0; d < t->rank; d++)
		if (d != axis) {
			left[rank] = t->dim[d];
			left_axis[rank] = val_axis(x->g, n->out)[d];
			map[rank++] = d;
		}
	u32 *buffer = &x->kept->sum[n->out.i];
	if (*buffer == NONE)
		*buffer = add_buffer(x, n, t->dtype, (dims){ rank, left }, left_axis);
	Val before = read_buffer(x, *buffer), v = in[0];
	dims shape = { t->rank, t->dim };
	if (!x->decode) {
		Val at = BS(b, iota, .axis = axis, .dtype = DT_i32, .shape = shape);
		v = B(b, where, B(b, le, at, make_broadcast(b, x->last, shape)), v, make_full_like(b, v, 0));
	}
	i64 axes[] = { axis };
	Val after = B(b, add, before, BA(b, sum, (v), .axes = { 1, axes }));
	graph_result(b->g, x->to->buffer.v[*buffer].name, *buffer, after);
	Val sums = build(b, OP_cumsum, in, 1, 0, a);
	return B(b, add, sums, BA(b, broadcast, (before), .shape = shape, .dims = { rank, map }));
}

static Val build_node(Incremental *x, const Node *n, Form f, const Val *in)
{
	Builder *b = &x->b;
	dims shape = form_shape(x, val_type(x->g, n->out), f);
	switch (n->op) {
	case OP_input: {
		Val v = BS(b, input, .name = ATTR(n, input)->name, .dtype = ATTR(n, input)->dtype, .shape = shape);
		Axis axis[MAX_RANK];
		for (u32 d = 0; d < shape.n; d++)
			axis[d] = shape.v[d] == val_type(x->g, n->out)->dim[d] ? val_axis(x->g, n->out)[d] : (Axis){ 0 };
		graph_set_axis(b->g, v, axis);
		return v;
	}
	case OP_full: return make_full(b, ATTR(n, full)->value, ATTR(n, full)->dtype, shape);
	case OP_iota: {
		u32 axis = (u32)ATTR(n, iota)->axis;
		return indices(x, incremental_positions(x, n->out, axis) ? form_at(f, axis) : ALL, axis, ATTR(n, iota)->dtype, shape);
	}
	case OP_broadcast: return BA(b, broadcast, (in[0]), .shape = shape, .dims = ATTR(n, broadcast)->dims);
	case OP_reshape: return BA(b, reshape, (in[0]), .shape = shape);
	case OP_slice: return build_slice(x, n, f, in);
	case OP_attention: return build_attention(x, n, f, in);
	case OP_scatter_add: {
		Dim size = form_dim(x, ATTR(n, scatter_add)->size.v[0], NEW);
		return build(b, OP_scatter_add, in, n->nin, 0, &(scatter_add_attr){ .axis = ATTR(n, scatter_add)->axis, .size = { 1, &size } });
	}
	case OP_cumsum: return incremental_running_sum(x, n) ? build_running_sum(x, n, f, in) : build(b, OP_cumsum, in, 1, 0, n->attr);
	default: return build(b, (Op)n->op, in, n->nin, n->nout, n->attr);
	}
}

static void build_form(Incremental *x, const Node *n, const Forms *forms, Form f)
{
	bool picked = false;
	for (u32 k = 0; k < forms->n && f != form_new(f); k++)
		picked |= forms->v[k] == form_new(f);
	for (u32 k = 0; k < n->nout && picked; k++) {
		Val v = { n->out.i + k }, made = get(x, v, form_new(f));
		for (u32 d = 0; d < val_type(x->g, v)->rank; d++)
			if (form_at(f, d) == LAST && form_at(form_new(f), d) == NEW)
				made = pick(x, made, d);
		set(x, v, f, made);
	}
	if (picked)
		return;
	Form *want = NEWN(x->tmp, Form, n->nin + 1);
	Val *in = NEWN(x->tmp, Val, n->nin + 1);
	if (!incremental_spread(x, n, f, want))
		NEVER("a form that was spread once");
	for (u32 k = 0; k < n->nin; k++)
		in[k] = get(x, n->in[k], want[k]);
	Val v = build_node(x, n, f, in);
	for (u32 k = 0; k < n->nout; k++)
		set(x, (Val){ n->out.i + k }, f, (Val){ v.i + k });
}

/* All positions of a value: the buffer, with the new ones in it. */
static void build_whole(Incremental *x, const Node *n, Val v)
{
	const Type *t = val_type(x->g, v);
	Form all = form_every(x, v, ALL);
	u32 *buffer = &x->kept->all[v.i], axis = 0;
	while (!positions_in(&x->p, t->dim[axis]))
		axis++;
	if (*buffer == NONE)
		*buffer = add_buffer(x, n, t->dtype, form_shape(x, t, all), val_axis(x->g, v));
	Val whole = BA(&x->b, update_slice, (read_buffer(x, *buffer), get(x, v, 0), x->past), .axis = axis);
	graph_result(x->b.g, x->to->buffer.v[*buffer].name, *buffer, whole);
	set(x, v, all, whole);
}

/* Of a whole that is several values one after another, those that are wanted at ALL too, and theirs. */
static void build_pieces(Incremental *x, Val of)
{
	const Node *n = val_node(x->g, of);
	if (n->op != OP_concat)
		return;
	Val whole = get(x, of, form_every(x, of, ALL));
	u32 axis = (u32)ATTR(n, concat)->axis;
	const Type *t = val_type(x->b.g, whole);
	Dim *start = NEWN(x->tmp, Dim, t->rank), *size = COPYN(x->tmp, Dim, t->dim, t->rank);
	i64 *step = NEWN(x->tmp, i64, t->rank);
	for (u32 d = 0; d < t->rank; d++) {
		start[d] = dim_number(x->g->ir, 0);
		step[d] = 1;
	}
	for (u32 k = 0; k < n->nin; k++) {
		Val piece = n->in[k];
		size[axis] = val_type(x->g, piece)->dim[axis];
		if (x->within[piece.i] == of.i) {
			set(x, piece, form_every(x, piece, ALL),
			    BA(&x->b, slice, (whole), .start = { t->rank, start }, .size = { t->rank, size }, .step = { t->rank, step }));
			build_pieces(x, piece);
		}
		start[axis] = dim_add(x->g->ir, start[axis], size[axis]);
	}
}

static void build_all(Incremental *x, u32 node)
{
	const Node *n = &x->g->node.v[node];
	const Forms *forms = &x->forms[node];
	x->b.loc = n->loc;
	x->b.scope = n->scope;
	for (u32 last = 0; last < 2; last++)
		for (u32 i = 0; i < forms->n; i++)
			if ((forms->v[i] != form_new(forms->v[i])) == last)
				build_form(x, n, forms, forms->v[i]);
	for (u32 k = 0; k < n->nout; k++) {
		Val v = { n->out.i + k };
		u32 *fixed = &x->kept->fixed[v.i];
		if (x->whole[v.i] && x->within[v.i] == NONE) {
			build_whole(x, n, v);
			build_pieces(x, v);
		}
		if (*fixed == NONE)
			continue;
		if (x->decode) {
			const Type *t = val_type(x->g, v);
			*fixed = add_buffer(x, n, t->dtype, (dims){ t->rank, t->dim }, val_axis(x->g, v));
			set(x, v, 0, read_buffer(x, *fixed));
		} else {
			graph_result(x->b.g, x->to->buffer.v[*fixed].name, *fixed, get(x, v, 0));
		}
	}
}

static Val scalar_input(Incremental *x, const char *name)
{
	return BS(&x->b, input, .name = intern_z(&x->g->ir->names, name), .dtype = DT_i32);
}

static bool derive(Incremental *x, const char *name)
{
	const Graph *g = x->g;
	x->demand = NEWN(x->tmp, Forms, g->value.n + 1);
	x->forms = NEWN(x->tmp, Forms, g->node.n + 1);
	x->whole = NEWN(x->tmp, bool, g->value.n + 1);
	x->first = no_values(x->tmp, g->value.n);
	x->within = no_values(x->tmp, g->value.n);
	x->built = (Map){ .arena = x->tmp };
	for (u32 i = 0; i < g->result.n; i++) {
		Val v = g->result.v[i].value;
		if (!positions_has(&x->p, v))
			continue;
		if (x->p.rows[v.i].kind != ROWS_IN_ORDER)
			return incremental_refuse(x, val_node(g, v), "it gives rows in another order than the text's");
		want(x, &x->demand[v.i], form_every(x, v, x->decode ? NEW : LAST));
	}
	for (u32 v = 1; v < g->value.n && !x->decode; v++)
		if (x->kept->fixed[v] != NONE)
			want(x, &x->demand[v], 0);
	for (u32 i = g->node.n; i-- > 0;)
		if (!want_forms(x, i))
			return false;
	find_pieces(x);
	x->b = builder_new(program_entry(x->to, name));
	x->b.scope = intern_z(&g->ir->names, "");
	x->past = scalar_input(x, "past");
	if (!x->decode)
		x->last = scalar_input(x, "last");
	for (u32 i = 0; i < g->node.n; i++)
		build_all(x, i);
	for (u32 i = 0; i < g->result.n; i++) {
		Val v = g->result.v[i].value;
		if (positions_has(&x->p, v))
			graph_result(x->b.g, g->result.v[i].name, NONE, get(x, v, form_every(x, v, x->decode ? NEW : LAST)));
	}
	builder_done(&x->b);
	return true;
}

/* ---- the pass ---- */

static bool check_forward(PassCx *cx, const Program *in, const Graph *g, Str axis)
{
	const char *name = g ? g->name : "forward";
	if (!g)
		return diag_error(cx->diag, E0714, cx->args_loc, "the program has no entry 'forward' to derive decoding from");
	if (program_find_entry(in, STR("prefill")) || program_find_entry(in, STR("decode")))
		return diag_error(cx->diag, E0714, cx->args_loc, "the program has entries 'prefill' or 'decode' already");
	bool found = false;
	const char *symbol = intern(&cx->ir->names, axis);
	Positions p = { .symbol = symbol, .g = g };
	for (u32 i = 0; i < g->node.n; i++) {
		const Node *n = &g->node.v[i];
		if (n->op != OP_input)
			continue;
		found |= positions_has(&p, n->out);
		const char *is = ATTR(n, input)->name;
		if (!strcmp(is, "past") || !strcmp(is, "last"))
			return diag_error(cx->diag, E0720, n->loc, "an input is called '%s', as decoding's own is", is);
	}
	for (u32 i = 0; i < g->result.n; i++)
		if (g->result.v[i].buffer != NONE)
			return diag_error(cx->diag, E0720, val_node(g, g->result.v[i].value)->loc, "%s writes a buffer", name);
	return found || diag_error(cx->diag, E0714, cx->args_loc, "no input of '%s' has a dimension %.*s", name, STR_ARG(axis));
}

Program *pass_incremental(PassCx *cx, const Program *in)
{
	Str axis = STR("T");
	bool error = false;
	PassArg a;
	for (size_t at = 0; pass_argument(cx, &at, &a, &error);) {
		if (str_equal(a.name, STR("axis")))
			axis = a.value;
		else
			error = !pass_argument_unknown(cx, &a);
	}
	const Graph *g = program_find_entry(in, STR("forward"));
	if (error || !check_forward(cx, in, g, axis))
		return NULL;
	Program *to = rewrite_shell(cx->out, in);
	for (u32 i = 0; i < in->entry.n; i++)
		VEC_PUSH(cx->out, &to->entry, rewrite_graph(cx->out, cx->tmp, in->entry.v[i], NULL, NULL, true));
	Kept kept = { no_values(cx->tmp, g->value.n), no_values(cx->tmp, g->value.n), no_values(cx->tmp, g->value.n),
		      { .arena = cx->tmp } };
	Incremental x = { .tmp = cx->tmp, .diag = cx->diag, .g = g, .to = to, .kept = &kept, .decode = true,
			  .p = positions_find(cx->tmp, g, intern(&cx->ir->names, axis)),
			  .capacity = dim_symbol(cx->ir, intern_z(&cx->ir->names, "capacity")), .one = dim_number(cx->ir, 1) };
	/* what is kept of inputs without T is known when decode has been derived */
	if (!derive(&x, intern_z(&cx->ir->names, "decode")))
		return NULL;
	x.decode = false;
	return derive(&x, intern_z(&cx->ir->names, "prefill")) ? to : NULL;
}
