/* frontend/optimizer.c: optimizers, which are written in the language, applied to each parameter: the entry
 * `update`, with the clipping of gradients and the schedules. */
#include "frontend/elaborator.h"

#include <string.h>

/* ---- the optimizer: `state m = zeros` and `m <- ...` ---- */

static const char *state_name(Elaborator *e, const char *state, u32 parameter)
{
	return intern_printf(&e->ir->names, "%s/%s", state, e->program->buffer.v[parameter].name);
}

void optimizer_state(Elaborator *e, const Stmt *s)
{
	OptimizerFrame *o = e->frame->optimizer;
	for (u32 i = 0; i < s->binding.n; i++) {
		const Binding *b = &s->binding.v[i];
		const Buffer *p = &e->program->buffer.v[o->parameter];
		Buffer made = { .name = state_name(e, b->name.text, o->parameter), .kind = BUFFER_STATE,
				.type = type_with_dtype(e->ir, p->type, DT_f32), .axis = p->axis, .of = o->parameter,
				.loc = s->loc, .scope = p->scope };
		if (program_find_buffer(e->program, made.name) != NONE) {
			fail(e, E0501, b->name.loc, "the optimizer has a state '%s' already", b->name.text);
			continue;
		}
		u32 buffer = program_buffer(e->program, made);
		/* the first value, in init: a number everywhere */
		Datum *d = b->value->kind == EXPR_NAME && !strcmp(b->value->name, "zeros") ? datum_number(e, 0, b->value->loc) :
			   b->value->kind == EXPR_NAME && !strcmp(b->value->name, "ones")  ? datum_number(e, 1, b->value->loc) :
											      expression(e, b->value);
		f64 x;
		if (!want_number(e, d, b->value->loc, "the first value of a state (zeros, ones or a number)", &x))
			x = 0;
		e->init.loc = s->loc;
		e->init.scope = p->scope;
		graph_result(e->init.g, made.name, buffer, make_full(&e->init, x, DT_f32, dims_of_type(&e->init, made.type)));
		VEC_PUSH(e->arena, &o->target, (Variable){ b->name.text, datum_integer(e, buffer, s->loc) });
		declare_variable(e, b->name, datum_tensor(e, read_buffer(e, buffer), b->name.loc));
	}
}

void optimizer_update(Elaborator *e, const Stmt *s)
{
	OptimizerFrame *o = e->frame->optimizer;
	const Expr *target = s->assign.target.v[0];
	Datum *d = expression(e, s->assign.value);
	u32 buffer = NONE;
	for (u32 i = 0; i < o->target.n && target->kind == EXPR_NAME; i++)
		if (o->target.v[i].name == target->name)
			buffer = (u32)o->target.v[i].value->number.integer;
	if (buffer == NONE) {
		fail(e, E0501, target->loc, "'<-' gives a new value to the parameter or a state of it, and this is neither");
		return;
	}
	const Type *t = e->program->buffer.v[buffer].type;
	Val v = as_tensor(e, d, s->assign.value->loc, t->dtype);
	if (!v.i)
		return;
	e->b.loc = s->loc;
	v = make_cast(&e->b, v, t->dtype);
	Val wide = broadcast_to(e, v, dims_of_type(&e->b, t));
	if (!wide.i) {
		fail(e, E0501, s->assign.value->loc, "the new value is %s, and does not repeat to '%s', %s", shape_show(e, v), target->name,
		     type_show(e, t, e->program->buffer.v[buffer].axis));
		return;
	}
	set_variable(e, target->name, datum_tensor(e, wide, s->loc));
}

/* ---- parameter groups ---- */

/* A schedule is a function that waits for the step. */
static Datum *at_step(Elaborator *e, Datum *d, Datum *step)
{
	if (d->kind != DATUM_CALLABLE || d->callable->builtin)
		return d;
	EntryList argument = { 0 };
	VEC_PUSH(e->arena, &argument, ENTRY(NULL, step, d->loc));
	return apply(e, d->callable, &argument, NULL, d->loc);
}

/* Applies `c` to one parameter; its results become results of the entry. */
static void update_parameter(Elaborator *e, const Callable *c, u32 parameter, Val gradient, Datum *step, Map *schedule,
			     bool told)
{
	const Decl *d = c->decl;
	const Buffer *p = &e->program->buffer.v[parameter];
	const ParameterList *q = &d->signature.param;
	if (q->n < 3 || q->v[0].compile_time || q->v[1].compile_time || q->v[2].compile_time) {
		fail(e, E0501, d->loc, "an optimizer takes the parameter, its gradient and the step: optimizer %s(p, g, step; lr)",
		     d->name.text);
		return;
	}
	OptimizerFrame o = { .parameter = parameter };
	frame_push(e, d, p->scope, (Loc){ 0 });
	e->b.scope = p->name;
	e->frame->optimizer = &o;
	e->b.loc = p->loc;
	Datum *arg[3] = { datum_tensor(e, read_buffer(e, parameter), p->loc), datum_tensor(e, gradient, p->loc), step };
	bool good = true;
	for (u32 i = 0; i < q->n; i++) {
		Datum *value = i < 3 ? arg[i] : NULL;
		for (u32 k = 0; k < c->given.n; k++)
			if (c->given.v[k].name == q->v[i].name.text)
				value = c->given.v[k].value;
		if (!value && q->v[i].value)
			value = expression(e, q->v[i].value);
		if (!value) {
			fail(e, E0206, c->given.n ? c->given.v[0].value->loc : d->loc, "%s needs the argument '%s'",
			     d->name.text, q->v[i].name.text);
			good = false;
			continue;
		}
		if (value->kind == DATUM_CALLABLE) { /* once for all parameters: one schedule, one value */
			u64 *known = map_get(schedule, MAP_KEY(value));
			Datum *now = known ? (Datum *)(uintptr_t)*known : at_step(e, value, step);
			map_put(schedule, MAP_KEY(value), MAP_KEY(now));
			value = now;
		}
		if ((!e->has_lr || told) && !strcmp(q->v[i].name.text, "lr") && value->kind != DATUM_ERROR) {
			e->lr = as_tensor(e, value, d->loc, DT_f64);
			e->has_lr = e->lr.i != 0;
		}
		Datum *copy = NEW(e->arena, Datum);
		*copy = *value;
		good &= copy->kind != DATUM_ERROR && (!q->v[i].type || match_type(e, q->v[i].type, copy, d->loc, q->v[i].name.text));
		set_variable(e, q->v[i].name.text, copy);
	}
	VEC_PUSH(e->arena, &o.target, (Variable){ q->v[0].name.text, datum_integer(e, parameter, p->loc) });
	if (good)
		statements(e, &d->body);
	for (u32 i = 0; i < o.target.n && good; i++) {
		u32 buffer = (u32)o.target.v[i].value->number.integer;
		Datum *now = lookup(e, o.target.v[i].name);
		if (now->kind == DATUM_TENSOR && now->tensor.i != read_buffer(e, buffer).i)
			graph_result(e->g, e->program->buffer.v[buffer].name, buffer, now->tensor);
	}
	frame_pop(e);
}

/* ---- the entries ---- */

u32 counter(Elaborator *e, const char *name, DType dtype)
{
	const char *interned = intern_z(&e->ir->names, name);
	u32 found = program_find_buffer(e->program, interned);
	if (found != NONE)
		return found;
	Buffer b = { .name = interned, .kind = BUFFER_COUNTER, .type = type_scalar(e->ir, dtype), .of = NONE };
	found = program_buffer(e->program, b);
	dims none = { 0 };
	if (strcmp(name, "seed"))
		graph_result(e->init.g, interned, found, make_full(&e->init, 0, dtype, none));
	return found;
}

void make_update(Elaborator *e, Train *t)
{
	u32 step_buffer = counter(e, "step", DT_i64), sum = counter(e, "loss_sum", DT_f32), count = counter(e, "loss_count", DT_f32);
	entry_begin(e, "update");
	e->training = true;
	Builder *b = &e->b;
	Val next = B(b, add, read_buffer(e, step_buffer), make_full(b, 1, DT_i64, (dims){ 0 }));
	Datum *step = datum_tensor(e, make_cast(b, next, DT_f64), (Loc){ 0 });
	Val total = read_buffer(e, count);
	VEC(u32) parameter = { 0 };
	VEC(Val) gradient = { 0 };
	VEC(const Callable *) with = { 0 };
	u32 general = NONE; /* the first parameter whose optimizer has no pattern: its learning rate is told */
	u32 nbuffer = e->program->buffer.n;
	for (u32 i = 0; i < nbuffer; i++) {
		Buffer *p = &e->program->buffer.v[i];
		if (p->kind != BUFFER_PARAMETER || p->frozen || !dtype_is_float(p->type->dtype))
			continue;
		Datum *rule = NULL;
		bool pattern = false;
		for (u32 k = 0; k < t->rule.n; k++)
			if (!t->rule.v[k].pattern || path_match(str_of(t->rule.v[k].pattern), str_of(p->name))) {
				rule = t->rule.v[k].with;
				pattern = t->rule.v[k].pattern != NULL;
				t->rule.v[k].used = true;
			}
		if (!rule || rule->kind == DATUM_TEXT) {
			p->frozen = true; /* in no group, or frozen by one */
			continue;
		}
		Buffer g = { .name = intern_printf(&e->ir->names, "grad/%s", p->name), .kind = BUFFER_GRADIENT,
			     .type = type_with_dtype(e->ir, p->type, DT_f32), .axis = p->axis, .of = i, .loc = p->loc,
			     .scope = p->scope };
		u32 at = program_buffer(e->program, g);
		VEC_PUSH(e->arena, &parameter, i);
		VEC_PUSH(e->arena, &gradient, read_buffer(e, at));
		VEC_PUSH(e->arena, &with, rule->callable);
		if (!pattern && general == NONE)
			general = with.n - 1;
	}
	/* sums of gradients over the count are the mean's gradient; a step without targets changes nothing */
	Val one = make_full(b, 1, DT_f32, (dims){ 0 });
	Val scale = B(b, recip, B(b, max, total, one));
	if (gradient.n) {
		Val norm = build(b, OP_global_norm, gradient.v, gradient.n, 0, &(none_attr){ 0 });
		norm = B(b, mul, norm, scale);
		graph_result(e->g, "grad_norm", NONE, norm);
		if (t->has_clip) { /* as torch.nn.utils.clip_grad_norm_ */
			Val limit = make_full(b, t->clip, DT_f32, (dims){ 0 }), small = make_full(b, 1e-6, DT_f32, (dims){ 0 });
			scale = B(b, mul, scale, B(b, min, one, B(b, div, limit, B(b, add, norm, small))));
		}
	}
	Map schedule = { .arena = e->arena };
	for (u32 i = 0; i < parameter.n; i++) {
		e->b.loc = e->program->buffer.v[parameter.v[i]].loc;
		e->b.scope = e->program->buffer.v[parameter.v[i]].name;
		Val g = gradient.v[i];
		g = B(b, mul, g, make_broadcast(b, scale, dims_of_type(b, val_type(e->g, g))));
		u32 errors = e->diag->nerror;
		update_parameter(e, with.v[i], parameter.v[i], g, step, &schedule, i == general);
		if (e->diag->nerror > errors)
			break; /* the same for every parameter */
	}
	e->b.loc = (Loc){ 0 };
	e->b.scope = intern_z(&e->ir->names, "");
	graph_result(e->g, "step", step_buffer, next);
	graph_result(e->g, "loss", NONE, B(b, mul, read_buffer(e, sum), B(b, recip, B(b, max, total, one))));
	if (e->has_lr)
		graph_result(e->g, "lr", NONE, make_cast(b, e->lr, DT_f32));
	e->training = false;
	entry_end(e);
}
