/* frontend/builtin.c: the functions of the language that are not written in it: the rows of builtins.def, and every op
 * of ir/ops.def that has no row there, which can be called by its own name, with its attributes by name: adding an
 * op to the table adds it to the language. */
#include "frontend/builtin.h"
#include "frontend/functions.h"

#include <math.h>
#include <string.h>

enum { TENSOR, VALUE };

static const Builtin builtins[] = {
#define BUILTIN(name, when, parameters, doc) { #name, parameters, doc, b_##name, (when) == VALUE },
#include "frontend/builtins.def"
#undef BUILTIN
};

/* Other names that people know for an op. */
static const struct {
	const char *name;
	Op op;
} synonyms[] = {
	{ "grouped_matmul", OP_grouped_dot }, { "logistic", OP_sigmoid },
};

/* Ops that people do not call by name. */
static bool callable_op(Op op)
{
	switch (op) {
	case OP_input:
	case OP_read:
	case OP_extent:
	case OP_random:
	case OP_slice:
	case OP_random_normal:
	case OP_dot:
	case OP_grouped_dot_weights: /* a gradient */
	case OP_and:                 /* reserved words */
	case OP_or:
	case OP_not:
	case OP_global_norm: return false;
	default: /* nor what partitioning makes, nor gradients */
		return !(op_info[op].traits & T_COLLECTIVE) && !str_ends(str_of(op_info[op].name), STR("_grad"));
	}
}

static Op op_of(const char *name)
{
	for (u32 i = 0; i < COUNT(synonyms); i++)
		if (!strcmp(synonyms[i].name, name))
			return synonyms[i].op;
	Op op = op_named(str_of(name));
	return op != OPS && callable_op(op) ? op : OPS;
}

static const Builtin *builtin_of(const char *name)
{
	for (u32 i = 0; i < COUNT(builtins); i++)
		if (!strcmp(builtins[i].name, name))
			return &builtins[i];
	return NULL;
}

bool is_builtin(const char *name)
{
	return builtin_of(name) || op_of(name) != OPS;
}

const char *nearest_builtin(const char *name)
{
	const char *all[COUNT(builtins) + OPS];
	u32 n = 0;
	for (u32 i = 0; i < COUNT(builtins); i++)
		all[n++] = builtins[i].name;
	for (u32 i = 0; i < OPS; i++)
		if (callable_op((Op)i))
			all[n++] = op_info[i].name;
	return nearest_name(name, all, n);
}

/* An op of the table: tensors in order, attributes by name. */
static bool set_attribute(Elaborator *e, const AttrField *f, u8 *to, Datum *d, Val first, Loc loc, const char *name)
{
	i64 n;
	switch (f->kind) {
	case ATTR_i64:
		if (!strcmp(f->name, "axis") && first.i)
			return axis_by(e, first, d, loc, (i64 *)to);
		if (!want_integer(e, d, loc, name, &n))
			return false;
		*(i64 *)to = n;
		return true;
	case ATTR_f64: return want_number(e, d, loc, name, (f64 *)to);
	case ATTR_bool: return want_bool(e, d, loc, name, (bool *)to);
	case ATTR_str: return (*(str *)to = want_text(e, d, loc, name)) != NULL;
	case ATTR_dtype:
		if (d->kind != DATUM_DTYPE)
			return refuse(e, E0401, loc, "%s is an element type such as f32, and this is %s", name, datum_show(e, d));
		*(DType *)to = d->dtype;
		return true;
	case ATTR_ints:
	case ATTR_dims: {
		Dim dim[MAX_RANK];
		i64 v[MAX_RANK];
		u32 count = d->kind == DATUM_LIST ? d->list.n : 1;
		if (count > MAX_RANK)
			return refuse(e, E0406, loc, "%s has at most %d elements", name, MAX_RANK);
		for (u32 i = 0; i < count; i++) {
			const Datum *x = d->kind == DATUM_LIST ? d->list.v[i].value : d;
			if (f->kind == ATTR_dims ? !(dim[i] = datum_to_dim(e, x, loc)) :
						   !want_integer(e, x, loc, name, &v[i]))
				return false;
		}
		if (f->kind == ATTR_dims)
			*(dims *)to = dims_of(&e->b, dim, count);
		else
			*(ints *)to = ints_of(&e->b, v, count);
		return true;
	}
	}
	return false;
}

static Datum *call_op(Elaborator *e, Op op, const char *name, const EntryList *argument, Loc loc)
{
	const OpInfo *info = &op_info[op];
	u32 nfield, n = 0, npositional = 0;
	const AttrField *f = info->fields(&nfield);
	for (u32 i = 0; i < argument->n; i++)
		npositional += !argument->v[i].name;
	if (info->kind == EW) {
		Datum *in[3];
		for (u32 i = 0; i < argument->n; i++) {
			if (argument->v[i].name || n == 3)
				return fail(e, E0206, loc, "%s takes %u operands and nothing by name", name, info->nin);
			in[n++] = argument->v[i].value;
		}
		if (n != info->nin)
			return fail(e, E0206, loc, "%s takes %u operand%s, not %u", name, info->nin,
				    info->nin == 1 ? "" : "s", n);
		bool tensor = false;
		for (u32 i = 0; i < n; i++) {
			if (in[i]->kind == DATUM_ERROR)
				return in[i];
			tensor |= in[i]->kind != DATUM_NUMBER;
		}
		if (tensor)
			return tensor_elementwise(e, op, in, n, loc);
		f64 x[3] = { 0 };
		for (u32 i = 0; i < n; i++)
			x[i] = in[i]->number.value;
		f64 y = scalar_info[op].value(x[0], x[1], x[2]);
		bool whole = op == OP_floor || op == OP_ceil || op == OP_round ||
			     (op == OP_abs && in[0]->number.is_integer);
		return whole && fabs(y) < 9e15 ? datum_integer(e, (i64)y, loc) : datum_number(e, y, loc);
	}
	Val in[16];
	u32 want = info->nin == VARN ? COUNT(in) : info->nin;
	u8 *attr = arena_push(e->arena, 1, info->attr_size, 16);
	if (npositional > want || (info->nin != VARN && npositional < want))
		return fail(e, E0206, loc, "%s takes %u operand%s, not %u: %s", name, want, want == 1 ? "" : "s",
			    npositional, info->doc);
	if (!e->g)
		return fail(e, E0405, loc, "%s computes a tensor, and only values known at compile time can stand here", name);
	for (u32 i = 0; i < argument->n; i++) {
		if (argument->v[i].name)
			continue;
		in[n] = as_tensor(e, argument->v[i].value, argument->v[i].loc, DTYPES);
		if (!in[n++].i)
			return datum_error(e);
	}
	u32 given = 0;
	for (u32 i = 0; i < argument->n; i++) {
		const char *key = argument->v[i].name;
		u32 k = 0;
		if (!key)
			continue;
		while (k < nfield && strcmp(f[k].name, key))
			k++;
		if (k == nfield) {
			const char *all[16];
			for (u32 j = 0; j < nfield && j < 16; j++)
				all[j] = f[j].name;
			return unknown_argument(e, name, &argument->v[i], all, MIN(nfield, 16u));
		}
		if (argument->v[i].value->kind == DATUM_ERROR)
			return argument->v[i].value;
		if (!set_attribute(e, &f[k], attr + f[k].offset, argument->v[i].value, n ? in[0] : (Val){ 0 }, argument->v[i].loc,
				   arena_printf(e->arena, "%s's %s", name, key)))
			return datum_error(e);
		given |= 1u << k;
	}
	for (u32 k = 0; k < nfield; k++)
		if (f[k].kind != ATTR_bool && !(given >> k & 1))
			return fail(e, E0206, loc, "%s needs the argument '%s': %s", name, f[k].name, info->doc);
	Val v = node(e, loc, op, in, n, 0, attr);
	if (!v.i)
		return datum_error(e);
	u32 nout = val_node(e->g, v)->nout;
	if (nout == 1)
		return datum_tensor(e, v, loc);
	Datum *d = datum_new(e, DATUM_LIST, loc);
	for (u32 i = 0; i < nout; i++)
		VEC_PUSH(e->arena, &d->list, ENTRY(NULL, datum_tensor(e, (Val){ v.i + i }, loc), loc));
	return d;
}

/* Sorts arguments to the parameters named in `b->parameters`. */
static bool bind(Call *c, const Builtin *b, const EntryList *argument)
{
	Elaborator *e = c->e;
	if (!strcmp(b->parameters, "*")) {
		c->rest = *argument;
		return true;
	}
	const char **name = c->parameter;
	u32 n = 0, positional = NONE;
	bool more = false, required[MOST_ARGUMENTS] = { false };
	for (const char *p = b->parameters; *p;) {
		const char *end = strchr(p, ' ');
		size_t len = end ? (size_t)(end - p) : strlen(p);
		if (len == 1 && *p == '|') {
			positional = n;
		} else if (len == 3 && !memcmp(p, "...", 3)) {
			more = true;
		} else {
			required[n] = p[len - 1] == '!';
			name[n] = intern(e->names, (Str){ p, len - required[n] });
			n++;
		}
		p += len + (end != NULL);
	}
	if (positional == NONE)
		positional = n;
	for (u32 k = 0; k < MOST_ARGUMENTS; k++)
		c->at[k] = c->loc;
	u32 at = 0;
	for (u32 i = 0; i < argument->n; i++) {
		const Entry *a = &argument->v[i];
		u32 k = 0;
		if (!a->name) {
			if (at < positional) {
				c->at[at] = a->loc;
				c->arg[at++] = a->value;
			} else if (more) {
				VEC_PUSH(e->arena, &c->rest, *a);
			} else {
				return refuse(e, E0206, a->loc, "%s takes at most %u argument%s without a name", b->name,
					      positional, positional == 1 ? "" : "s");
			}
			continue;
		}
		while (k < n && name[k] != a->name)
			k++;
		if (k == n) {
			return unknown_argument(e, b->name, a, name, n)->kind != DATUM_ERROR;
		}
		if (c->arg[k])
			return refuse(e, E0206, a->name_loc, "%s: '%s' is given twice", b->name, a->name);
		c->arg[k] = a->value;
		c->at[k] = a->loc;
	}
	for (u32 k = 0; k < n; k++)
		if (required[k] && !c->arg[k])
			return refuse(e, E0206, c->loc, "%s needs the argument '%s'", b->name, name[k]);
	return true;
}

Datum *call_builtin(Elaborator *e, const char *name, const EntryList *argument, const Expr *call)
{
	const Builtin *b = builtin_of(name);
	Loc loc = call->loc;
	Call c = { .e = e, .loc = loc, .name = name };
	if (b && !bind(&c, b, argument))
		return datum_error(e);
	for (u32 i = 0; i < argument->n; i++)
		if (argument->v[i].value->kind == DATUM_ERROR)
			return argument->v[i].value;
	if (!b)
		return call_op(e, op_of(name), name, argument, loc);
	if (!e->g && !b->of_values)
		return fail(e, E0405, loc, "%s computes a tensor, and only values known at compile time can stand here", name);
	return b->call(&c);
}

/* ---- for people ---- */

/* "x, axis, keep" from "x! axis keep". */
static void print_parameters(const Builtin *b, FILE *to)
{
	if (!strcmp(b->parameters, "*"))
		return;
	for (const char *p = b->parameters; *p; p++)
		fputs(*p == ' ' && p[1] != '|' && p[-1] != '|' ? ", " : (char[]){ *p, 0 }, to);
}

static void print_cell(const char *text, FILE *to)
{
	for (; *text; text++)
		fprintf(to, *text == '|' ? "\\|" : "%c", *text); /* a bar would end a cell */
}

static bool is_op_function(Op op)
{
	return callable_op(op) && !builtin_of(op_info[op].name);
}

static void print_operands(const OpInfo *op, FILE *to)
{
	u32 n;
	const AttrField *f = op->fields(&n);
	for (u32 i = 0; i < op->nin && op->nin != VARN; i++)
		fprintf(to, "%s%c", i ? ", " : "", 'a' + (int)i);
	fputs(op->nin == VARN ? "a, b, .." : "", to);
	for (u32 i = 0; i < n; i++)
		fprintf(to, "%s%s", i || op->nin ? ", " : "", f[i].name);
}

void functions_print(bool markdown, FILE *to)
{
	fputs(markdown ? "| function | arguments | what it gives |\n| --- | --- | --- |\n" : "", to);
	for (u32 i = 0; i < COUNT(builtins); i++) {
		fprintf(to, markdown ? "| `%s` | " : "%s(", builtins[i].name);
		if (markdown && strchr(builtins[i].parameters, '|')) {
			for (const char *p = builtins[i].parameters; *p; p++)
				fprintf(to, *p == '|' ? "\\|" : "%c", *p);
		} else {
			print_parameters(&builtins[i], to);
		}
		fputs(markdown ? " | " : "): ", to);
		if (markdown)
			print_cell(builtins[i].doc, to);
		else
			fputs(builtins[i].doc, to);
		fputs(markdown ? " |\n" : "\n", to);
	}
	fputs(markdown ? "\n| function | arguments | what it gives |\n| --- | --- | --- |\n" : "", to);
	for (u32 i = 0; i < OPS; i++) {
		if (!is_op_function((Op)i))
			continue;
		fprintf(to, markdown ? "| `%s` | " : "%s(", op_info[i].name);
		print_operands(&op_info[i], to);
		fputs(markdown ? " | " : "): ", to);
		if (markdown)
			print_cell(op_info[i].doc, to);
		else
			fputs(op_info[i].doc, to);
		fputs(markdown ? " |\n" : "\n", to);
	}
}

bool function_print(const char *name, FILE *to)
{
	const Builtin *b = builtin_of(name);
	Op op = op_of(name);
	if (!b && op == OPS)
		return false;
	fprintf(to, "%s(", name);
	if (b)
		print_parameters(b, to);
	else
		print_operands(&op_info[op], to);
	fprintf(to, "): %s\n", b ? b->doc : op_info[op].doc);
	return true;
}
