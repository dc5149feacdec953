/* frontend/einops.c: rearrange, reduce and einsum: patterns of axis names (after Rogozhnikov's einops). A
 * name in a pattern is that pattern's own; what it tells about axes is kept: "B T (H K)" makes the last
 * dimension's class the product of H and K, wherever else that class occurs. */
#include "frontend/elaborator.h"

#include <string.h>

enum { MOST_NAMES = 24 };

typedef struct Letter {
	const char *name; /* interned; NULL for 1 and for the dimensions of ... */
	Dim size;         /* NULL: not known yet */
	Axis axis;
} Letter;

/* One side: groups of letters; `start[i]` is where group i begins in `letter` (indices into Pattern.letter). */
typedef struct Side {
	u32 letter[MOST_NAMES], nletter;
	u32 start[MOST_NAMES + 1], ngroup;
	u32 ellipsis; /* group before which ... stands, or NONE */
} Side;

typedef struct Pattern {
	Elaborator *e;
	Loc loc, text_loc; /* of the call, and of the pattern in it */
	const char *what;
	Letter letter[MOST_NAMES * 2];
	u32 nletter;
	Side left, right;
} Pattern;

static bool complain(Pattern *p, const char *text)
{
	fail(p->e, E0307, p->text_loc, "%s: %s", p->what, text);
	return false;
}

static u32 letter_index(Pattern *p, Str name, bool make)
{
	const char *interned = intern(p->e->names, name);
	for (u32 i = 0; i < p->nletter; i++)
		if (p->letter[i].name == interned)
			return i;
	if (!make || p->nletter == COUNT(p->letter))
		return NONE;
	p->letter[p->nletter] = (Letter){ .name = interned };
	return p->nletter++;
}

static bool read_side(Pattern *p, Str text, Side *side, bool is_left)
{
	const char *s = text.s, *end = s + text.n;
	bool open = false;
	*side = (Side){ .ellipsis = NONE };
	while (s < end) {
		if (*s == ' ') {
			s++;
			continue;
		}
		if (*s == '(' || *s == ')') {
			if (open == (*s == '('))
				return complain(p, open ? "'(' inside '('" : "')' without '('");
			open = *s == '(';
			if (open) {
				if (side->ngroup == MOST_NAMES)
					return complain(p, "too many axes");
				side->start[side->ngroup++] = side->nletter;
			} else {
				side->start[side->ngroup] = side->nletter;
			}
			s++;
			continue;
		}
		if (end - s >= 3 && !memcmp(s, "...", 3)) {
			if (open || side->ellipsis != NONE)
				return complain(p, "'...' can stand once, outside parentheses");
			side->ellipsis = side->ngroup;
			s += 3;
			continue;
		}
		const char *from = s;
		while (s < end && (*s == '_' || (*s >= '0' && *s <= '9') || ((*s | 32) >= 'a' && (*s | 32) <= 'z')))
			s++;
		if (s == from)
			return complain(p, arena_printf(p->e->arena, "'%c' has no meaning in a pattern", *s));
		Str name = { from, (size_t)(s - from) };
		if (side->nletter == MOST_NAMES || side->ngroup == MOST_NAMES)
			return complain(p, "too many axes");
		if (!open)
			side->start[side->ngroup++] = side->nletter;
		if (name.n == 1 && *name.s == '1') { /* an axis of one element: a group without letters */
			side->start[side->ngroup] = side->nletter;
			continue;
		}
		if (*from >= '0' && *from <= '9')
			return complain(p, "only 1 can stand for an axis without a name");
		u32 i = letter_index(p, name, true);
		if (i == NONE)
			return complain(p, "too many axes");
		for (u32 k = 0; k < side->nletter; k++)
			if (side->letter[k] == i)
				return complain(p, arena_printf(p->e->arena, "axis '%.*s' stands twice on one side",
								STR_ARG(name)));
		(void)is_left;
		side->letter[side->nletter++] = i;
		side->start[side->ngroup] = side->nletter;
	}
	if (open)
		return complain(p, "'(' without ')'");
	side->start[side->ngroup] = side->nletter;
	return true;
}

static bool read_pattern(Pattern *p, const char *text)
{
	const char *arrow = strstr(text, "->");
	if (!arrow)
		return complain(p, "a pattern has an arrow: \"B T (H K) -> B H T K\"");
	return read_side(p, (Str){ text, (size_t)(arrow - text) }, &p->left, true) &&
	       read_side(p, str_of(arrow + 2), &p->right, false);
}

/* Sizes given by name: three = 3. */
static bool given_sizes(Pattern *p, const EntryList *argument)
{
	for (u32 i = 0; i < argument->n; i++) {
		const Entry *a = &argument->v[i];
		if (!a->name)
			continue;
		u32 k = letter_index(p, str_of(a->name), false);
		if (k == NONE)
			return complain(p, arena_printf(p->e->arena, "the pattern has no axis '%s'", a->name));
		p->letter[k].size = datum_to_dim(p->e, a->value, p->loc);
		if (!p->letter[k].size)
			return false;
		p->letter[k].axis = a->value->axis;
	}
	return true;
}

/* What `...` stands for becomes letters without names; both sides get them. */
static bool expand_ellipsis(Pattern *p, Val x)
{
	const Type *t = val_type(p->e->g, x);
	Side *side[2] = { &p->left, &p->right };
	u32 n = p->left.ngroup, first = p->nletter;
	if (p->left.ellipsis == NONE ? t->rank != n : t->rank < n) {
		fail(p->e, E0307, p->text_loc, "%s: the pattern has %u axes on the left, and the tensor is %s", p->what, n,
		     shape_show(p->e, x));
		return false;
	}
	if (p->left.ellipsis == NONE) {
		if (p->right.ellipsis != NONE)
			return complain(p, "'...' on the right needs '...' on the left");
		return true;
	}
	u32 more = t->rank - n;
	for (u32 i = 0; i < more; i++) {
		if (p->nletter == COUNT(p->letter))
			return complain(p, "too many axes");
		p->letter[p->nletter++] = (Letter){ 0 };
	}
	for (u32 k = 0; k < 2; k++) {
		Side *s = side[k];
		if (s->ellipsis == NONE)
			continue;
		if (s->ngroup + more > MOST_NAMES || s->nletter + more > MOST_NAMES)
			return complain(p, "too many axes");
		u32 g = s->ellipsis, l = s->start[g];
		memmove(s->letter + l + more, s->letter + l, (s->nletter - l) * sizeof *s->letter);
		for (u32 i = s->ngroup + 1; i-- > g;)
			s->start[i + more] = s->start[i] + more;
		for (u32 i = 0; i < more; i++) {
			s->start[g + i] = l + i;
			s->letter[l + i] = first + i;
		}
		s->nletter += more;
		s->ngroup += more;
	}
	return true;
}

/* Sizes and classes of all letters from the tensor. */
static bool solve(Pattern *p, Val x)
{
	Elaborator *e = p->e;
	const Type *t = val_type(e->g, x);
	for (u32 g = 0; g < p->left.ngroup; g++) {
		Dim rest = t->dim[g];
		Axis whole = val_axis(e->g, x)[g], factor[MOST_NAMES];
		u32 open = NONE, n = p->left.start[g + 1] - p->left.start[g];
		const u32 *l = p->left.letter + p->left.start[g];
		for (u32 i = 0; i < n; i++) {
			Letter *a = &p->letter[l[i]];
			if (!a->size) {
				if (open != NONE) {
					fail(e, E0307, p->text_loc, "%s: the sizes of '%s' and '%s' are not known: give one of them, "
							       "as in %s = 8",
					     p->what, p->letter[open].name, a->name, p->letter[open].name);
					return false;
				}
				open = l[i];
				continue;
			}
			Dim q = a->size->n ? dim_div(e->ir, rest, a->size) : NULL;
			i64 whole_number, by;
			bool fits = q && !(dim_is_number(rest, &whole_number) && dim_is_number(a->size, &by) &&
					   whole_number % by);
			if (!fits) {
				fail(e, E0307, p->text_loc, "%s: %s = %s does not divide dimension %s of %s", p->what,
				     a->name ? a->name : "1", dim_show(e, a->size, (Axis){ 0 }),
				     dim_show(e, t->dim[g], whole), shape_show(e, x));
				return false;
			}
			rest = q;
		}
		i64 one;
		if (open != NONE) {
			p->letter[open].size = rest;
		} else if (!(dim_is_number(rest, &one) && one == 1)) {
			fail(e, E0307, p->text_loc, "%s: dimension %s of %s is not the product that the pattern says", p->what,
			     dim_show(e, t->dim[g], whole), shape_show(e, x));
			return false;
		}
		for (u32 i = 0; i < n; i++) {
			Letter *a = &p->letter[l[i]];
			if (n == 1 && whole.id) {
				axis_unify(e->ir, whole, a->axis);
				a->axis = whole;
			} else if (!a->axis.id) {
				a->axis = axis_new(e->ir, NULL, a->size, p->loc);
			}
			if (a->name)
				axis_name(e->ir, a->axis, qualified(e, a->name));
			factor[i] = a->axis;
		}
		if (n > 1 && whole.id)
			axis_set_factors(e->ir, whole, factor, n);
	}
	return true;
}

/* A letter of the right side that the left has not; one of its own if there is none. */
static u32 extra_letter(const Pattern *p)
{
	for (u32 k = 0; k < p->right.nletter; k++) {
		bool found = false;
		for (u32 i = 0; i < p->left.nletter; i++)
			found |= p->left.letter[i] == p->right.letter[k];
		if (!found)
			return p->right.letter[k];
	}
	return p->right.letter[0];
}

/* The tensor with one dimension per letter of the left side. */
static Val take_apart(Pattern *p, Val x)
{
	Dim d[MAX_RANK];
	Axis axis[MAX_RANK];
	u32 n = p->left.nletter;
	if (n > MAX_RANK) {
		complain(p, "too many axes at once");
		return (Val){ 0 };
	}
	for (u32 i = 0; i < n; i++) {
		d[i] = p->letter[p->left.letter[i]].size;
		axis[i] = p->letter[p->left.letter[i]].axis;
	}
	p->e->b.loc = p->loc;
	reshape_attr a = { .shape = dims_of(&p->e->b, d, n) };
	Val v = node(p->e, p->loc, OP_reshape, &x, 1, 0, &a);
	if (v.i && v.i != x.i)
		graph_set_axis(p->e->g, v, axis);
	return v;
}

/* One dimension per letter, in the right side's order, put together as its groups say. */
static Val put_together(Pattern *p, Val x)
{
	Elaborator *e = p->e;
	Dim d[MAX_RANK];
	Axis axis[MAX_RANK] = { { 0 } };
	if (p->right.ngroup > MAX_RANK) {
		complain(p, "too many axes at once");
		return (Val){ 0 };
	}
	for (u32 g = 0; g < p->right.ngroup; g++) {
		Axis factor[MOST_NAMES];
		u32 n = 0;
		d[g] = dim_number(e->ir, 1);
		for (u32 i = p->right.start[g]; i < p->right.start[g + 1]; i++) {
			const Letter *l = &p->letter[p->right.letter[i]];
			d[g] = dim_mul(e->ir, d[g], l->size);
			factor[n++] = l->axis;
		}
		if (n == 1) {
			axis[g] = factor[0];
		} else if (n > 1) {
			axis[g] = axis_new(e->ir, NULL, d[g], p->loc);
			axis_set_factors(e->ir, axis[g], factor, n);
		}
	}
	e->b.loc = p->loc;
	reshape_attr a = { .shape = dims_of(&e->b, d, p->right.ngroup) };
	Val v = node(e, p->loc, OP_reshape, &x, 1, 0, &a);
	if (v.i && v.i != x.i)
		graph_set_axis(e->g, v, axis);
	return v;
}

static Val permuted(Pattern *p, Val x, const u32 *from, u32 nfrom)
{
	i64 perm[MAX_RANK];
	bool same = true;
	for (u32 i = 0; i < p->right.nletter; i++) {
		perm[i] = -1;
		for (u32 k = 0; k < nfrom; k++)
			if (from[k] == p->right.letter[i])
				perm[i] = k;
		same &= perm[i] == i;
	}
	p->e->b.loc = p->loc;
	if (same)
		return x;
	transpose_attr a = { .perm = ints_of(&p->e->b, perm, p->right.nletter) };
	return node(p->e, p->loc, OP_transpose, &x, 1, 0, &a);
}

/* Operand and pattern of a call; sizes by name go into the pattern. */
static bool take_call(Pattern *p, const EntryList *argument, u32 want, Val *x)
{
	Elaborator *e = p->e;
	if (argument->n < want || argument->v[0].name || argument->v[1].name) {
		fail(e, E0206, p->loc, "%s takes a tensor and a pattern: %s(x, \"a b -> b a\")", p->what, p->what);
		return false;
	}
	p->text_loc = argument->v[1].loc;
	*x = as_tensor(e, argument->v[0].value, argument->v[0].loc, DTYPES);
	const char *text = x->i ? want_text(e, argument->v[1].value, p->text_loc, "the pattern") : NULL;
	return text && read_pattern(p, text) && given_sizes(p, argument) && expand_ellipsis(p, *x) && solve(p, *x);
}

Datum *call_rearrange(Elaborator *e, const EntryList *argument, Loc loc)
{
	Pattern p = { .e = e, .loc = loc, .what = "rearrange" };
	Val x;
	if (!take_call(&p, argument, 2, &x))
		return datum_error(e);
	for (u32 i = 0; i < p.left.nletter; i++) {
		bool found = false;
		for (u32 k = 0; k < p.right.nletter; k++)
			found |= p.right.letter[k] == p.left.letter[i];
		if (!found)
			return fail(e, E0307, p.text_loc, "rearrange: axis '%s' is lost on the right; to sum over it, use reduce",
				    p.letter[p.left.letter[i]].name);
	}
	if (p.right.nletter != p.left.nletter)
		for (u32 k = 0; k < p.right.nletter; k++)
			if (!p.letter[p.right.letter[k]].size || p.right.nletter > p.left.nletter) {
				bool found = false;
				for (u32 i = 0; i < p.left.nletter; i++)
					found |= p.right.letter[k] == p.left.letter[i];
				if (!found)
					return fail(e, E0307, p.text_loc, "rearrange: axis '%s' is not on the left",
						    p.letter[p.right.letter[k]].name);
			}
	x = take_apart(&p, x);
	if (x.i)
		x = permuted(&p, x, p.left.letter, p.left.nletter);
	if (x.i)
		x = put_together(&p, x);
	return datum_tensor(e, x, loc);
}

/* reduce(x, "b (h two) -> b h", "mean", two = 2) */
Datum *call_reduce(Elaborator *e, const EntryList *argument, Loc loc)
{
	Pattern p = { .e = e, .loc = loc, .what = "reduce" };
	Val x;
	if (argument->n < 3 || argument->v[2].name)
		return fail(e, E0206, loc, "reduce takes a tensor, a pattern and one of \"sum\", \"mean\", \"max\", \"min\"");
	if (!take_call(&p, argument, 3, &x))
		return datum_error(e);
	const char *how = want_text(e, argument->v[2].value, argument->v[2].loc, "the reduction");
	if (!how)
		return datum_error(e);
	Op op = !strcmp(how, "sum") ? OP_sum : !strcmp(how, "mean") ? OP_mean : !strcmp(how, "max") ? OP_reduce_max :
		!strcmp(how, "min") ? OP_reduce_min : OPS;
	if (op == OPS)
		return fail(e, E0406, argument->v[2].loc, "reduce: \"%s\" is none of \"sum\", \"mean\", \"max\", \"min\"", how);
	x = take_apart(&p, x);
	i64 axes[MAX_RANK];
	u32 left[MAX_RANK], n = 0, kept = 0;
	for (u32 i = 0; i < p.left.nletter; i++) {
		bool found = false;
		for (u32 k = 0; k < p.right.nletter; k++)
			found |= p.right.letter[k] == p.left.letter[i];
		if (found)
			left[kept++] = p.left.letter[i];
		else
			axes[n++] = i;
	}
	if (kept != p.right.nletter)
		return fail(e, E0307, p.text_loc, "reduce: axis '%s' on the right is not on the left", p.letter[extra_letter(&p)].name);
	sum_attr a = { .axes = ints_of(&e->b, axes, n) };
	if (x.i && n)
		x = node(e, loc, op, &x, 1, 0, &a);
	if (x.i)
		x = permuted(&p, x, left, kept);
	if (x.i)
		x = put_together(&p, x);
	return datum_tensor(e, x, loc);
}

/* einsum("b h t k, b h s k -> b h t s", q, k): names separated by spaces, or single letters without. More than
 * two operands are multiplied from the left. */
typedef struct Labels {
	const char *name[MAX_RANK];
	u32 n;
} Labels;

static bool read_labels(Elaborator *e, Str s, Labels *out, Loc loc)
{
	bool spaced = memchr(s.s, ' ', s.n) != NULL;
	while (s.n && *s.s == ' ')
		s = (Str){ s.s + 1, s.n - 1 };
	while (s.n && s.s[s.n - 1] == ' ')
		s.n--;
	spaced = spaced && memchr(s.s, ' ', s.n);
	out->n = 0;
	/* "bhtk" is four letters; "head" beside spaces elsewhere is one name: decided by the caller's text */
	for (size_t i = 0; i < s.n;) {
		if (s.s[i] == ' ') {
			i++;
			continue;
		}
		size_t from = i++;
		while (spaced && i < s.n && s.s[i] != ' ')
			i++;
		if (out->n == MAX_RANK)
			return refuse(e, E0307, loc, "einsum: too many axes");
		out->name[out->n++] = intern(e->names, (Str){ s.s + from, i - from });
	}
	return true;
}

static u32 label_at(const Labels *l, const char *name)
{
	for (u32 i = 0; i < l->n; i++)
		if (l->name[i] == name)
			return i;
	return NONE;
}

/* Sums over labels that nobody else has. */
static Val sum_alone(Elaborator *e, Val v, Labels *mine, const Labels *other, const Labels *out, Loc loc)
{
	i64 axes[MAX_RANK];
	u32 n = 0;
	Labels kept = { 0 };
	for (u32 i = 0; i < mine->n; i++)
		if (label_at(other, mine->name[i]) == NONE && label_at(out, mine->name[i]) == NONE)
			axes[n++] = i;
		else
			kept.name[kept.n++] = mine->name[i];
	*mine = kept;
	if (!n)
		return v;
	sum_attr a = { .axes = ints_of(&e->b, axes, n) };
	return node(e, loc, OP_sum, &v, 1, 0, &a);
}

static Val einsum_pair(Elaborator *e, Val a, Labels *la, Val b, Labels *lb, const Labels *out, Loc loc)
{
	a = sum_alone(e, a, la, lb, out, loc);
	b = b.i ? sum_alone(e, b, lb, la, out, loc) : b;
	if (!a.i || !b.i)
		return (Val){ 0 };
	const char *letters[MAX_RANK * 2];
	u32 n = 0;
	char spec[4 * MAX_RANK + 8], *s = spec;
	const Labels *side[3] = { la, lb, out };
	for (u32 k = 0; k < 3; k++) {
		for (u32 i = 0; i < side[k]->n; i++) {
			u32 c = 0;
			while (c < n && letters[c] != side[k]->name[i])
				c++;
			if (c == n)
				letters[n++] = side[k]->name[i];
			*s++ = (char)('a' + c);
		}
		if (k == 0)
			*s++ = ',';
		if (k == 1) {
			*s++ = '-';
			*s++ = '>';
		}
	}
	*s = 0;
	for (u32 i = 0; i < la->n; i++) {
		u32 k = label_at(lb, la->name[i]);
		Dim x = val_type(e->g, a)->dim[i], y = k == NONE ? x : val_type(e->g, b)->dim[k];
		if (x != y) {
			fail(e, E0302, loc, "einsum: axis '%s' is %s in %s and %s in %s", la->name[i],
			     dim_show(e, x, (Axis){ 0 }), shape_show(e, a), dim_show(e, y, (Axis){ 0 }),
			     shape_show(e, b));
			return (Val){ 0 };
		}
		if (k != NONE)
			axis_unify(e->ir, val_axis(e->g, a)[i], val_axis(e->g, b)[k]);
	}
	e->b.loc = loc;
	DType ta = val_type(e->g, a)->dtype, tb = val_type(e->g, b)->dtype;
	if (!dtype_is_float(ta))
		a = make_cast(&e->b, a, dtype_is_float(tb) ? tb : DT_f32);
	if (!dtype_is_float(tb))
		b = make_cast(&e->b, b, val_type(e->g, a)->dtype);
	dot_attr attr = { .spec = intern_z(&e->ir->names, spec) };
	Val in[2] = { a, b };
	return node(e, loc, OP_dot, in, 2, 0, &attr);
}

Datum *call_einsum(Elaborator *e, const EntryList *argument, Loc loc)
{
	if (argument->n < 2)
		return fail(e, E0206, loc, "einsum takes a pattern and tensors: einsum(\"i k, k j -> i j\", a, b)");
	const char *text = want_text(e, argument->v[0].value, loc, "einsum's pattern");
	if (!text)
		return datum_error(e);
	const char *arrow = strstr(text, "->");
	if (!arrow)
		return fail(e, E0307, loc, "einsum: a pattern has an arrow: \"i k, k j -> i j\"");
	Labels side[8], out;
	Val v[8] = { { 0 } };
	u32 n = 0;
	if (!read_labels(e, str_of(arrow + 2), &out, loc))
		return datum_error(e);
	for (const char *s = text; s <= arrow && n < COUNT(side);) {
		const char *end = memchr(s, ',', (size_t)(arrow - s));
		if (!end)
			end = arrow;
		if (!read_labels(e, (Str){ s, (size_t)(end - s) }, &side[n++], loc))
			return datum_error(e);
		s = end + 1;
	}
	if (n != argument->n - 1)
		return fail(e, E0307, loc, "einsum: the pattern has %u operands, and %u are given", n, argument->n - 1);
	for (u32 i = 0; i < n; i++) {
		v[i] = as_tensor(e, argument->v[i + 1].value, loc, DTYPES);
		if (!v[i].i)
			return datum_error(e);
		if (val_type(e->g, v[i])->rank != side[i].n)
			return fail(e, E0307, loc, "einsum: operand %u has %u axes in the pattern and is %s", i + 1, side[i].n,
				    shape_show(e, v[i]));
		for (u32 k = 0; k < side[i].n; k++)
			if (label_at(&side[i], side[i].name[k]) != k)
				return fail(e, E0307, loc, "einsum: axis '%s' stands twice in operand %u", side[i].name[k],
					    i + 1);
	}
	for (u32 k = 0; k < out.n; k++) {
		bool found = false;
		for (u32 i = 0; i < n; i++)
			found |= label_at(&side[i], out.name[k]) != NONE;
		if (!found)
			return fail(e, E0307, loc, "einsum: axis '%s' of the result is in no operand", out.name[k]);
	}
	Val x = v[0];
	Labels lx = side[0];
	for (u32 i = 1; i < n && x.i; i++) {
		/* what later operands or the result still want */
		Labels keep = { 0 };
		const Labels *have[2] = { &lx, &side[i] };
		for (u32 h = 0; h < 2; h++)
			for (u32 k = 0; k < have[h]->n; k++) {
				const char *name = have[h]->name[k];
				bool later = label_at(&out, name) != NONE;
				for (u32 j = i + 1; j < n; j++)
					later |= label_at(&side[j], name) != NONE;
				if (later && label_at(&keep, name) == NONE && keep.n < MAX_RANK)
					keep.name[keep.n++] = name;
			}
		const Labels *to = i + 1 == n ? &out : &keep;
		x = einsum_pair(e, x, &lx, v[i], &side[i], to, loc);
		lx = *to;
	}
	if (n == 1 && x.i) {
		Labels none = { 0 };
		x = sum_alone(e, x, &lx, &none, &out, loc);
		i64 perm[MAX_RANK];
		bool same = true;
		for (u32 i = 0; i < out.n; i++) {
			perm[i] = label_at(&lx, out.name[i]);
			same &= perm[i] == i;
		}
		transpose_attr a = { .perm = ints_of(&e->b, perm, out.n) };
		if (x.i && !same)
			x = node(e, loc, OP_transpose, &x, 1, 0, &a);
	}
	return datum_tensor(e, x, loc);
}
