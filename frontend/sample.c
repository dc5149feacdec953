/* frontend/sample.c: `sample`, the block that makes something of what a model gives, again and again: its loop is the runtime's.
 *
 * A sample block is elaborated to three entries, because a loop over a tensor is not unrolled:
 *   sample       up to the loop. Results: `over`, what the loop goes over, and each value that is wanted later, by name
 *   sample_step  one turn. Inputs: the loop's variable, by name, and the values; results: those that the turn changes
 *   sample_end   what follows. Results: what `write` names: png(x) gives the result `png`
 * Whoever runs it calls `sample`, then `sample_step` once for each element of `over` with the values as they are, then
 * `sample_end`. Random draws are keyed by the inputs `seed` and `step`: the number of the turn from 1, and 0 before. A value of an earlier
 * entry becomes an input where it is first used; the block's own inputs are inputs of each entry that uses them. */
#include "frontend/elaborator.h"

#include <string.h>

/* Values of earlier entries, by name. */
typedef struct Outside {
	Map value;              /* name -> Datum, of the entries before */
	Map type, axis;         /* name -> Type, axis classes */
	VEC(const char *) used; /* in this entry */
	const Frame *frame;
} Outside;

Datum *carried_value(Elaborator *e, const char *name)
{
	Outside *o = e->outside;
	const u64 *found = o && o->frame == e->frame ? map_get(&o->type, MAP_KEY(name)) : NULL;
	if (!found)
		return NULL;
	const Type *t = (const Type *)(uintptr_t)*found;
	const Datum *was = (const Datum *)(uintptr_t)*map_get(&o->value, MAP_KEY(name));
	e->b.loc = was->loc;
	input_attr a = { .name = name, .dtype = t->dtype, .shape = dims_of_type(&e->b, t) };
	Val v = build(&e->b, OP_input, NULL, 0, 0, &a);
	graph_set_axis(e->g, v, (const Axis *)(uintptr_t)*map_get(&o->axis, MAP_KEY(name)));
	Datum *d = datum_tensor(e, v, was->loc);
	set_variable(e, name, d);
	VEC_PUSH(e->arena, &o->used, name);
	return d;
}

/* Ends an entry: its tensors are outside from here on. */
static void leave(Elaborator *e, Outside *o)
{
	Map kept = { .arena = e->arena };
	for (u32 i = 0; i < e->frame->variable.n; i++) {
		const MapEntry *x = &e->frame->variable.entry[i];
		Datum *d = (Datum *)(uintptr_t)x->value;
		if (d->kind == DATUM_TENSOR) {
			map_put(&o->value, x->key, x->value);
			map_put(&o->type, x->key, MAP_KEY(val_type(e->g, d->tensor)));
			map_put(&o->axis, x->key, MAP_KEY(val_axis(e->g, d->tensor)));
		} else if (d->kind != DATUM_ERROR || !map_get(&o->type, x->key)) {
			map_put(&kept, x->key, x->value);
		}
	}
	e->frame->variable = kept;
	o->used.n = 0;
}

static void enter(Elaborator *e, const char *name, Outside *o)
{
	entry_begin(e, name);
	e->sampling = true;
	e->outside = o;
	o->frame = e->frame;
	e->b.scope = intern_z(&e->ir->names, "");
}

static bool is_input(const Decl *d, const char *name)
{
	for (u32 i = 0; i < d->body.n; i++)
		if (d->body.v[i]->kind == STMT_INPUT && d->body.v[i]->declare.name.text == name)
			return true;
	return false;
}

/* The results of an entry that later ones want. */
static void give(Elaborator *e, const Decl *d, Graph *g, const Map *value, const char *const *name, u32 n)
{
	for (u32 i = 0; i < n; i++) {
		const u64 *found = map_get(value, MAP_KEY(name[i]));
		bool given = is_input(d, name[i]);
		for (u32 k = 0; k < g->result.n; k++)
			given |= g->result.v[k].name == name[i];
		if (found && !given && !e->diag->nerror)
			graph_result(g, name[i], NONE, ((const Datum *)(uintptr_t)*found)->tensor);
	}
}

static void write_result(Elaborator *e, const Stmt *s)
{
	const Expr *x = s->directive.operand.n == 1 ? s->directive.operand.v[0] : NULL;
	static const char *const format[] = { "png", "safetensors" };
	bool known = false;
	for (u32 i = 0; x && x->kind == EXPR_CALL && x->call.callee->kind == EXPR_NAME && i < COUNT(format); i++)
		known |= !strcmp(format[i], x->call.callee->name);
	if (!known || x->call.argument.n != 1 || x->call.argument.v[0].name.text) {
		fail(e, E0512, s->loc, "what is written has a form: write png(x), write safetensors(x)");
		return;
	}
	Datum *v = expression(e, x->call.argument.v[0].value);
	Val t = as_tensor(e, v, x->call.argument.v[0].value->loc, DTYPES);
	if (t.i)
		graph_result(e->g, x->call.callee->name, NONE, t);
}

static void sample_statement(Elaborator *e, const Stmt *s)
{
	Block one = { .v = (Stmt **)(uintptr_t)&s, .n = 1 };
	if (s->kind == STMT_INPUT)
		recipe_input(e, s);
	else if (s->kind == STMT_DIRECTIVE && !strcmp(s->directive.word.text, "write"))
		write_result(e, s);
	else if (s->kind == STMT_RETURN || s->kind == STMT_PARAM)
		fail(e, E0208, s->loc, "a sample block gives what it writes, write png(x), and has no parameters of its own");
	else
		statements(e, &one);
}

/* One turn: the loop's variable is an element of what is gone over. */
static void turn(Elaborator *e, const Decl *d, const Stmt *s, const Type *over, Outside *o)
{
	e->b.loc = s->loop.name.loc;
	Dim rest[MAX_RANK];
	for (u32 k = 1; k < over->rank; k++)
		rest[k - 1] = over->dim[k];
	input_attr a = { .name = s->loop.name.text, .dtype = over->dtype, .shape = dims_of(&e->b, rest, over->rank - 1u) };
	Val v = build(&e->b, OP_input, NULL, 0, 0, &a);
	declare_variable(e, s->loop.name, datum_tensor(e, v, s->loop.name.loc));
	statements(e, &s->loop.body);
	/* what the turn changes goes to the next: a tensor of the same type */
	for (u32 i = 0; i < o->type.n; i++) {
		const char *name = (const char *)(uintptr_t)o->type.entry[i].key;
		const u64 *now = map_get(&e->frame->variable, MAP_KEY(name));
		const Datum *x = now ? (const Datum *)(uintptr_t)*now : NULL;
		if (!x || x->kind == DATUM_ERROR || is_input(d, name))
			continue;
		const Type *was = (const Type *)(uintptr_t)o->type.entry[i].value;
		if (x->kind != DATUM_TENSOR || val_type(e->g, x->tensor) != was) {
			const Datum *first = (const Datum *)(uintptr_t)*map_get(&o->value, MAP_KEY(name));
			fail(e, E0512, s->loc, "'%s' is another type after a turn of the loop than before: %s", name, datum_show(e, x));
			diag_note(e->diag, first->loc, "it is made here");
		} else if (val_node(e->g, x->tensor)->op != OP_input) {
			graph_result(e->g, name, NONE, x->tensor);
		}
	}
}

void recipe_sample(Elaborator *e, const Decl *d)
{
	Outside o = { .value = { .arena = e->arena }, .type = { .arena = e->arena }, .axis = { .arena = e->arena } };
	const Stmt *loop = NULL;
	const Type *over = NULL;
	const char *const *wanted = NULL;
	u32 nwanted = 0;
	frame_push(e, d, "", (Loc){ 0 });
	for (u32 i = 0; i < e->symbol.n; i++) { /* sizes of the model */
		const char *name = (const char *)(uintptr_t)e->symbol.entry[i].key;
		set_variable(e, name, datum_dim(e, dim_symbol(e->ir, name), (Axis){ (u32)e->symbol.entry[i].value }, d->loc));
	}
	enter(e, "sample", &o);
	Graph *before = e->g, *step = NULL;
	Map values = { .arena = e->arena };
	for (u32 i = 0; i < d->body.n; i++) {
		const Stmt *s = d->body.v[i];
		Datum *x = s->kind == STMT_FOR ? expression(e, s->loop.over) : NULL;
		if (!x || x->kind != DATUM_TENSOR) {
			sample_statement(e, s);
			continue;
		}
		over = val_type(e->g, x->tensor);
		if (loop || !over->rank) {
			fail(e, E0512, s->loop.over->loc, over->rank ? "a sample block has one loop over a tensor" :
								      "a loop goes over the first axis of a tensor, and this is a scalar");
			continue;
		}
		loop = s;
		graph_result(e->g, "over", NONE, x->tensor);
		leave(e, &o);
		for (u32 k = 0; k < o.value.n; k++)
			map_put(&values, o.value.entry[k].key, o.value.entry[k].value);
		entry_end(e);
		enter(e, "sample_step", &o);
		step = e->g;
		turn(e, d, s, over, &o);
		wanted = COPYN(e->arena, const char *, o.used.v, o.used.n);
		nwanted = o.used.n;
		leave(e, &o);
		entry_end(e);
		enter(e, "sample_end", &o);
	}
	if (loop) {
		give(e, d, before, &values, wanted, nwanted);
		give(e, d, before, &values, o.used.v, o.used.n);
		/* what only the end wants passes the turns by */
		for (u32 i = 0; i < o.used.n && !e->diag->nerror; i++)
			if (!map_get(&values, MAP_KEY(o.used.v[i])) && !is_input(d, o.used.v[i])) {
				const Datum *x = (const Datum *)(uintptr_t)*map_get(&o.value, MAP_KEY(o.used.v[i]));
				bool given = false;
				for (u32 k = 0; k < step->result.n; k++)
					given |= step->result.v[k].name == o.used.v[i];
				if (!given)
					graph_result(step, o.used.v[i], NONE, x->tensor);
			}
	}
	if (!e->diag->nerror && !e->g->result.n)
		fail(e, E0512, d->loc, "a sample block says what it gives: write png(x)");
	e->outside = NULL;
	e->sampling = false;
	entry_end(e);
	frame_pop(e);
}
