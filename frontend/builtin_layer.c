/* frontend/builtin_layer.c: built-in functions that draw at random, and those that layers are made of. See builtin.h. */
#include "frontend/builtin.h"

#include <math.h>
#include <string.h>

/* ---- random draws ---- */

/* A key for a random draw: the path, and which draw of it this is. */
static const char *draw_key(Elaborator *e)
{
	if (e->init_type)
		return e->init_key;
	const char *path = e->frame ? e->frame->path : "";
	const char *key = intern_printf(e->names, "random:%s", path);
	u64 *n = map_get(&e->draws, MAP_KEY(key));
	u64 count = n ? *n : 0;
	map_put(&e->draws, MAP_KEY(key), count + 1);
	return intern_printf(e->names, "%s#%llu", path, (unsigned long long)count);
}

static Datum *random_tensor(Call *c, Op op, f64 scale, f64 offset)
{
	Elaborator *e = c->e;
	dims shape;
	Axis axis[MAX_RANK] = { { 0 } };
	if (e->init_type && !c->arg[2])
		shape = dims_of_type(&e->b, e->init_type);
	else if (!shape_arg(c, 2, &shape, axis))
		return bad(c);
	Val in[2];
	random_state(e, &in[0], &in[1]);
	random_attr a = { .key = draw_key(e), .shape = shape }; /* random_normal shares this form */
	Val v = node(e, c->loc, op, in, 2, 0, &a);
	if (!v.i)
		return bad(c);
	if (shape.n)
		graph_set_axis(e->g, v, axis);
	Datum *d = datum_tensor(e, v, c->loc);
	if (scale != 1)
		d = tensor_binary(e, BINARY_MUL, d, datum_number(e, scale, c->loc), c->loc);
	if (offset != 0)
		d = tensor_binary(e, BINARY_ADD, d, datum_number(e, offset, c->loc), c->loc);
	return d;
}

Datum *b_normal(Call *c)
{
	f64 std, mean;
	if (!number_arg(c, 0, 1, &std) || !number_arg(c, 1, 0, &mean))
		return bad(c);
	return random_tensor(c, OP_random_normal, std, mean);
}

Datum *b_uniform(Call *c)
{
	f64 low, high;
	if (!number_arg(c, 0, 0, &low) || !number_arg(c, 1, 1, &high))
		return bad(c);
	return random_tensor(c, OP_random, high - low, low);
}

Datum *b_dropout(Call *c)
{
	Elaborator *e = c->e;
	Val v = float_arg(c, 0);
	dropout_attr a = { 0 };
	if (!v.i || !number_arg(c, 1, 0, &a.rate))
		return bad(c);
	if (a.rate < 0 || a.rate >= 1)
		return fail(e, E0406, c->at[1], "dropout: the rate must be at least 0 and below 1, not %g", a.rate);
	if (a.rate == 0 || !e->training)
		return made(c, v);
	Val in[3] = { v };
	random_state(e, &in[1], &in[2]);
	a.key = draw_key(e);
	return made(c, node(e, c->loc, OP_dropout, in, 3, 0, &a));
}
/* ---- layers ---- */

Datum *b_gelu(Call *c)
{
	Val v = float_arg(c, 0);
	gelu_attr a = { 0 };
	if (!v.i)
		return bad(c);
	if (c->arg[1] && c->arg[1]->kind == DATUM_BOOL) {
		a.approximate = c->arg[1]->boolean;
	} else if (c->arg[1]) {
		const char *how = want_text(c->e, c->arg[1], c->at[1], "gelu's approximate");
		if (!how)
			return bad(c);
		if (strcmp(how, "tanh") && strcmp(how, "none"))
			return fail(c->e, E0406, c->at[1], "gelu: approximate is \"tanh\" or \"none\", not \"%s\"", how);
		a.approximate = !strcmp(how, "tanh");
	}
	return made(c, node(c->e, c->loc, OP_gelu, &v, 1, 0, &a));
}

Datum *b_layer_norm(Call *c)
{
	Val in[3] = { float_arg(c, 0), float_arg(c, 1), float_arg(c, 2) };
	layer_norm_attr a = { 0 };
	if (!number_arg(c, 3, 1e-5, &a.eps))
		return bad(c);
	return made(c, node(c->e, c->loc, OP_layer_norm, in, 3, 0, &a));
}

Datum *b_rms_norm(Call *c)
{
	Val in[2] = { float_arg(c, 0), float_arg(c, 1) };
	rms_norm_attr a = { 0 };
	if (!number_arg(c, 2, 1e-5, &a.eps))
		return bad(c);
	return made(c, node(c->e, c->loc, OP_rms_norm, in, 2, 0, &a));
}

Datum *b_group_norm(Call *c)
{
	Val in[3] = { float_arg(c, 0), float_arg(c, 1), float_arg(c, 2) };
	group_norm_attr a = { 0 };
	if (!int_arg(c, 3, 1, &a.groups) || !number_arg(c, 4, 1e-5, &a.eps))
		return bad(c);
	return made(c, node(c->e, c->loc, OP_group_norm, in, 3, 0, &a));
}

Datum *b_rope(Call *c)
{
	Elaborator *e = c->e;
	Val in[2] = { float_arg(c, 0) };
	rope_attr a = { 0 };
	if (!in[0].i || !number_arg(c, 2, 10000, &a.base) || !bool_arg(c, 3, false, &a.interleaved))
		return bad(c);
	const Type *t = val_type(e->g, in[0]);
	if (t->rank < 2)
		return fail(e, E0306, c->at[0], "rope turns [.., T, K], and this is %s", shape_show(e, in[0]));
	if (c->arg[1]) {
		in[1] = tensor_arg(c, 1);
	} else {
		iota_attr count = { .axis = 0, .dtype = DT_i32, .shape = dims_of(&e->b, &t->dim[t->rank - 2], 1) };
		in[1] = node(e, c->loc, OP_iota, NULL, 0, 0, &count);
	}
	return made(c, node(e, c->loc, OP_rope, in, 2, 0, &a));
}

Datum *b_upsample2d(Call *c)
{
	Val v = float_arg(c, 0);
	upsample2d_attr a = { 0 };
	if (!v.i || !int_arg(c, 1, 2, &a.factor))
		return bad(c);
	if (a.factor < 1)
		return fail(c->e, E0406, c->at[1], "upsample2d: the factor must be at least 1, not %lld", (long long)a.factor);
	return made(c, node(c->e, c->loc, OP_upsample2d, &v, 1, 0, &a));
}

Datum *b_attention(Call *c)
{
	Elaborator *e = c->e;
	Val in[5];
	u32 n = 3;
	attention_attr a = { 0 };
	f64 scale;
	for (u32 i = 0; i < 3; i++)
		if (!(in[i] = float_arg(c, i)).i)
			return bad(c);
	const Type *q = val_type(e->g, in[0]);
	i64 width;
	if (q->rank && dim_is_number(q->dim[q->rank - 1], &width) && width > 0)
		scale = 1 / sqrt((f64)width);
	else
		scale = 1;
	if (c->arg[7] && c->arg[7]->kind == DATUM_NONE)
		c->arg[7] = NULL;
	if (!bool_arg(c, 3, false, &a.causal) || !int_arg(c, 6, 0, &a.window) || !number_arg(c, 7, scale, &a.scale) ||
	    !number_arg(c, 8, 0, &a.softcap))
		return bad(c);
	const Type *k = val_type(e->g, in[1]);
	for (u32 i = 4; i < 6; i++) {
		if (!c->arg[i] || c->arg[i]->kind == DATUM_NONE)
			continue;
		Val v = as_tensor(e, c->arg[i], c->at[i], DTYPES);
		if (!v.i)
			return bad(c);
		if (i == 4 && val_type(e->g, v)->dtype != DT_b1)
			return fail(e, E0301, c->at[i], "attention: the mask is boolean (true is seen), and this is %s",
				    datum_show(e, c->arg[i]));
		/* repeated to [.., H, T, S] */
		if (q->rank >= 3 && k->rank == q->rank) {
			Dim full[MAX_RANK];
			for (u32 d = 0; d + 1 < q->rank; d++)
				full[d] = q->dim[d];
			full[q->rank - 1] = k->dim[k->rank - 2];
			e->b.loc = c->loc;
			Val wide = broadcast_to(e, v, dims_of(&e->b, full, q->rank));
			if (!wide.i) {
				Datum *d = fail(e, E0302, c->at[i], "attention: the %s %s does not fit queries %s and keys %s",
						i == 4 ? "mask" : "bias", shape_show(e, v), shape_show(e, in[0]),
						shape_show(e, in[1]));
				explain_operands(e, c->loc, (Val[]){ v, in[0], in[1] }, 3);
				return d;
			}
			v = wide;
		}
		in[n++] = i == 5 ? make_cast(&e->b, v, DT_f32) : v;
		*(i == 4 ? &a.mask : &a.bias) = true;
	}
	if (k->rank == q->rank && q->rank >= 3 && val_type(e->g, in[2])->rank == q->rank) {
		const Axis *aq = val_axis(e->g, in[0]), *ak = val_axis(e->g, in[1]), *av = val_axis(e->g, in[2]);
		u32 r = q->rank;
		for (u32 d = 0; d + 3 < r; d++) {
			axis_unify(e->ir, aq[d], ak[d]);
			axis_unify(e->ir, aq[d], av[d]);
		}
		axis_unify(e->ir, aq[r - 1], ak[r - 1]);
		axis_unify(e->ir, ak[r - 3], av[r - 3]);
		axis_unify(e->ir, ak[r - 2], av[r - 2]);
	}
	return made(c, node(e, c->loc, OP_attention, in, n, 0, &a));
}

Datum *b_cross_entropy(Call *c)
{
	Elaborator *e = c->e;
	Val in[2] = { float_arg(c, 0), tensor_arg(c, 1) };
	cross_entropy_attr a = { 0 };
	if (!in[0].i || !in[1].i || !int_arg(c, 2, -100, &a.ignore))
		return bad(c);
	Val v = node(e, c->loc, OP_cross_entropy, in, 2, 0, &a);
	if (!v.i)
		return bad(c);
	Datum *d = datum_new(e, DATUM_RECORD, c->loc);
	VEC_PUSH(e->arena, &d->list, ENTRY(intern_z(e->names, "sum"), datum_tensor(e, v, c->loc), c->loc));
	VEC_PUSH(e->arena, &d->list,
		 ENTRY(intern_z(e->names, "count"), datum_tensor(e, (Val){ v.i + 1 }, c->loc), c->loc));
	return d;
}

Datum *b_where(Call *c)
{
	if (c->arg[0]->kind == DATUM_BOOL)
		return c->arg[c->arg[0]->boolean ? 1 : 2];
	return tensor_elementwise(c->e, OP_where, (Datum *[]){ c->arg[0], c->arg[1], c->arg[2] }, 3, c->loc);
}

Datum *b_scatter_add(Call *c)
{
	Elaborator *e = c->e;
	Val in[2] = { tensor_arg(c, 0), tensor_arg(c, 1) };
	if (!in[0].i || !in[1].i)
		return bad(c);
	Dim n = datum_to_dim(e, c->arg[2], c->at[2]);
	scatter_add_attr a = { 0 };
	if (!n || !int_arg(c, 3, 0, &a.axis))
		return bad(c);
	a.size = dims_of(&e->b, &n, 1);
	return made(c, node(e, c->loc, OP_scatter_add, in, 2, 0, &a));
}

/* Numbers or a pair: stride = 2 is [2, 2]. */
static bool pair_arg(Call *c, u32 i, i64 otherwise, i64 least, ints *out)
{
	i64 v[2] = { otherwise, otherwise };
	const char *what = arena_printf(c->e->arena, "%s's %s", c->name, c->parameter[i]);
	if (c->arg[i] && c->arg[i]->kind == DATUM_LIST) {
		if (c->arg[i]->list.n != 2)
			return refuse(c->e, E0406, c->at[i], "%s is one number, or [height, width], not a list of %u", what,
				      c->arg[i]->list.n);
		for (u32 k = 0; k < 2; k++)
			if (!want_integer(c->e, c->arg[i]->list.v[k].value, c->at[i], what, &v[k]))
				return false;
	} else if (c->arg[i]) {
		if (!want_integer(c->e, c->arg[i], c->at[i], what, &v[0]))
			return false;
		v[1] = v[0];
	}
	if (v[0] < least || v[1] < least)
		return refuse(c->e, E0406, c->at[i], "%s must be at least %lld", what, (long long)least);
	*out = ints_of(&c->e->b, v, 2);
	return true;
}

Datum *b_conv2d(Call *c)
{
	Val in[2] = { float_arg(c, 0), float_arg(c, 1) };
	conv2d_attr a = { 0 };
	if (!in[0].i || !in[1].i || !pair_arg(c, 2, 1, 1, &a.stride) || !pair_arg(c, 3, 0, 0, &a.padding) ||
	    !pair_arg(c, 4, 1, 1, &a.dilation) || !int_arg(c, 5, 1, &a.groups))
		return bad(c);
	return made(c, node(c->e, c->loc, OP_conv2d, in, 2, 0, &a));
}

static Datum *pool(Call *c, Op op)
{
	Val v = float_arg(c, 0);
	max_pool2d_attr a = { 0 };
	if (!v.i || !pair_arg(c, 1, 2, 1, &a.size) || !pair_arg(c, 3, 0, 0, &a.padding))
		return bad(c);
	if (!c->arg[2])
		a.stride = a.size;
	else if (!pair_arg(c, 2, 1, 1, &a.stride))
		return bad(c);
	return made(c, node(c->e, c->loc, op, &v, 1, 0, &a));
}

Datum *b_max_pool2d(Call *c)
{
	return pool(c, OP_max_pool2d);
}
Datum *b_avg_pool2d(Call *c)
{
	return pool(c, OP_avg_pool2d);
}

Datum *b_rearrange(Call *c)
{
	return call_rearrange(c->e, &c->rest, c->loc);
}
Datum *b_reduce(Call *c)
{
	return call_reduce(c->e, &c->rest, c->loc);
}
Datum *b_einsum(Call *c)
{
	return call_einsum(c->e, &c->rest, c->loc);
}
