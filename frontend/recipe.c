/* frontend/recipe.c: what a file says about training: inputs, loss, optimizers with their parameter groups,
 * clipping, data, weights, shard rules. The optimizers themselves are written in the language; here they are
 * applied to each parameter, as the entry `update`. */
#include "frontend/elaborator.h"

#include <string.h>

/* Keys of a train block that are settings; every other name is a variable of the recipe. */
static const char *const train_keys[] = { "loss",      "batch",  "optimizer", "clip",   "precision", "memory",
					  "accumulate", "steps", "seed",      "evaluate", "sample",  "checkpoint",
					  "log" };

static void add_setting(Elaborator *e, const char *key, const Datum *d, Loc loc)
{
	for (u32 i = 0; d->kind == DATUM_RECORD && i < d->list.n; i++)
		add_setting(e, arena_printf(e->arena, "%s.%s", key, d->list.v[i].name), d->list.v[i].value, loc);
	if (d->kind == DATUM_RECORD)
		return;
	Setting s = { .key = intern_z(e->names, key), .loc = loc };
	s.text = d->kind == DATUM_TEXT ? d->text : intern_z(e->names, datum_source(e, d));
	if (d->kind == DATUM_NUMBER) {
		s.is_number = true;
		s.number = d->number.value;
	}
	for (u32 i = 0; i < e->model->setting.n; i++)
		if (e->model->setting.v[i].key == s.key) {
			e->model->setting.v[i] = s;
			return;
		}
	VEC_PUSH(e->arena, &e->model->setting, s);
}

const Setting *model_setting(const Model *m, const char *key)
{
	for (u32 i = 0; i < m->setting.n; i++)
		if (!strcmp(m->setting.v[i].key, key))
			return &m->setting.v[i];
	return NULL;
}

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
		set_variable(e, b->name.text, datum_tensor(e, read_buffer(e, buffer), b->name.loc));
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
		fail(e, E0501, s->assign.value->loc, "the new value is %s, and '%s' is not", shape_show(e, v), target->name);
		return;
	}
	set_variable(e, target->name, datum_tensor(e, wide, s->loc));
}

/* ---- parameter groups ---- */

typedef struct OptimizerRule {
	const char *pattern; /* NULL: all */
	Datum *with;         /* a callable, or the text "frozen" */
	Loc loc;
	bool used;
} OptimizerRule;

typedef struct Train {
	VEC(OptimizerRule) rule;
	Datum *loss;
	f64 clip;
	bool has_clip;
} Train;

/* `lr = same` in a group takes what the optimizer without a pattern has. */
static void resolve_same(Elaborator *e, Callable *c, const Callable *from)
{
	for (u32 i = 0; i < c->given.n; i++) {
		Entry *a = &c->given.v[i];
		if (a->value->kind != DATUM_TEXT || strcmp(a->value->text, "same"))
			continue;
		Datum *found = NULL;
		for (u32 k = 0; from && k < from->given.n; k++)
			if (from->given.v[k].name == a->name)
				found = from->given.v[k].value;
		if (found)
			a->value = found;
		else
			fail(e, E0502, a->value->loc, "'same' has nothing to take: the optimizer for all parameters has no '%s'",
			     a->name ? a->name : "?");
	}
}

/* A schedule is a function that waits for the step. */
static Datum *at_step(Elaborator *e, Datum *d, Datum *step)
{
	if (d->kind != DATUM_CALLABLE || d->callable->builtin)
		return d;
	EntryList argument = { 0 };
	VEC_PUSH(e->arena, &argument, (Entry){ NULL, step });
	return apply(e, d->callable, &argument, NULL, d->loc);
}

/* Applies `c` to one parameter; its results become results of the entry. */
static void update_parameter(Elaborator *e, const Callable *c, u32 parameter, Val gradient, Datum *step, Map *schedule)
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
		if (!e->has_lr && !strcmp(q->v[i].name.text, "lr") && value->kind != DATUM_ERROR) {
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

static u32 counter(Elaborator *e, const char *name, DType dtype)
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

static void make_update(Elaborator *e, Train *t)
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
	u32 nbuffer = e->program->buffer.n;
	for (u32 i = 0; i < nbuffer; i++) {
		Buffer *p = &e->program->buffer.v[i];
		if (p->kind != BUFFER_PARAMETER || p->frozen || !dtype_is_float(p->type->dtype))
			continue;
		Datum *rule = NULL;
		for (u32 k = 0; k < t->rule.n; k++)
			if (!t->rule.v[k].pattern || path_match(str_of(t->rule.v[k].pattern), str_of(p->name))) {
				rule = t->rule.v[k].with;
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
		update_parameter(e, with.v[i], parameter.v[i], g, step, &schedule);
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

/* The loss as (sum, count); a scalar tensor alone counts as one observation. */
static bool loss_pair(Elaborator *e, Datum *d, Loc loc, Val *sum, Val *count)
{
	if (d->kind == DATUM_ERROR)
		return false;
	if ((d->kind == DATUM_RECORD || d->kind == DATUM_LIST) && d->list.n == 2) {
		*sum = as_tensor(e, d->list.v[0].value, loc, DT_f32);
		*count = as_tensor(e, d->list.v[1].value, loc, DT_f32);
	} else if (d->kind == DATUM_TENSOR) {
		*sum = d->tensor;
		*count = make_full(&e->b, 1, DT_f32, (dims){ 0 });
	} else {
		fail(e, E0503, loc, "the loss is a pair (sum, count), such as cross_entropy gives, or a scalar; this is %s",
		     datum_show(e, d));
		return false;
	}
	if (!sum->i || !count->i)
		return false;
	if (val_type(e->g, *sum)->rank || val_type(e->g, *count)->rank) {
		fail(e, E0503, loc, "the loss must be a scalar, and it is %s: sum it, and say over how many",
		     shape_show(e, val_type(e->g, *sum)->rank ? *sum : *count));
		return false;
	}
	e->b.loc = loc;
	*sum = make_cast(&e->b, *sum, DT_f32);
	*count = make_cast(&e->b, *count, DT_f32);
	return true;
}

static bool is_key(const char *name)
{
	for (u32 i = 0; i < COUNT(train_keys); i++)
		if (!strcmp(train_keys[i], name))
			return true;
	return false;
}

/* Loss entries: inputs, the recipe's own names, then the loss. */
static void make_loss(Elaborator *e, const Decl *d, const char *name, bool training)
{
	entry_begin(e, name);
	e->training = training;
	frame_push(e, d, "", (Loc){ 0 });
	const Stmt *loss = NULL;
	for (u32 i = 0; i < d->body.n; i++) {
		const Stmt *s = d->body.v[i];
		if (s->kind == STMT_INPUT) {
			const TypeExpr *t = s->declare.type;
			Axis axis[MAX_RANK] = { { 0 } };
			Dim dim[MAX_RANK];
			u32 rank = t && t->kind == TYPE_TENSOR ? t->dim.n : 0;
			DType dtype = t && t->name ? (!strcmp(t->name, "bool") ? DT_b1 : dtype_named(str_of(t->name))) : DTYPES;
			if (dtype == DTYPES || rank > MAX_RANK) {
				fail(e, E0504, s->loc, "an input needs an element type and dimensions: input tokens: i32[B, T]");
				continue;
			}
			bool good = true;
			for (u32 k = 0; k < rank && good; k++) {
				const Expr *x = t->dim.v[k];
				if (x->kind == EXPR_NAME && !lookup(e, x->name))
					declare_symbol(e, x->name, x->loc);
				Datum *v = expression(e, x);
				dim[k] = datum_to_dim(e, v, x->loc);
				axis[k] = v->axis;
				good = dim[k] != NULL;
			}
			if (!good)
				continue;
			e->b.loc = s->loc;
			input_attr a = { .name = intern_z(&e->ir->names, s->declare.name.text), .dtype = dtype,
					 .shape = dims_of(&e->b, dim, rank) };
			Val v = build(&e->b, OP_input, NULL, 0, 0, &a);
			graph_set_axis(e->g, v, axis);
			set_variable(e, s->declare.name.text, datum_tensor(e, v, s->loc));
		} else if (s->kind == STMT_ASSIGN && !s->assign.pattern.n) {
			const Expr *target = s->assign.target.v[0];
			if (s->assign.target.n == 1 && target->kind == EXPR_NAME && is_key(target->name)) {
				if (!strcmp(target->name, "loss"))
					loss = s;
				continue;
			}
			Block one = { .v = (Stmt **)(uintptr_t)&d->body.v[i], .n = 1 };
			statements(e, &one);
		}
	}
	if (!loss) {
		fail(e, E0503, d->loc, "a train block says what to minimize: loss = cross_entropy(model(tokens), targets)");
	} else {
		Datum *value = expression(e, loss->assign.value);
		Val sum, count;
		if (loss_pair(e, value, loss->assign.value->loc, &sum, &count)) {
			graph_result(e->g, "loss_sum", NONE, sum);
			graph_result(e->g, "loss_count", NONE, count);
		}
	}
	if (training) {
		u32 micro = counter(e, "micro", DT_i64);
		counter(e, "loss_sum", DT_f32);
		counter(e, "loss_count", DT_f32);
		e->b.loc = (Loc){ 0 };
		Val next = B(&e->b, add, read_buffer(e, micro), make_full(&e->b, 1, DT_i64, (dims){ 0 }));
		graph_result(e->g, "micro", micro, next);
	}
	frame_pop(e);
	e->training = false;
	entry_end(e);
}

static void read_batch(Elaborator *e, const Datum *d, Loc loc)
{
	if (d->kind != DATUM_RECORD) {
		if (d->kind != DATUM_ERROR)
			fail(e, E0505, loc, "batch is a record such as { B = 8, T = 1024, accumulate = 4 }, and this is %s",
			     datum_show(e, d));
		return;
	}
	for (u32 i = 0; i < d->list.n; i++) {
		const Entry *a = &d->list.v[i];
		i64 n;
		if (!want_integer(e, a->value, loc, arena_printf(e->arena, "batch.%s", a->name), &n))
			continue;
		if (n < 1) {
			fail(e, E0505, a->value->loc, "batch.%s must be at least 1, not %lld", a->name, (long long)n);
			continue;
		}
		add_setting(e, arena_printf(e->arena, "train.batch.%s", a->name), a->value, loc);
		if (!strcmp(a->name, "accumulate")) {
			e->model->accumulate = n;
		} else {
			VEC_PUSH(e->arena, &e->model->symbol, intern_z(&e->ir->names, a->name));
			VEC_PUSH(e->arena, &e->model->symbol_value, n);
		}
	}
}

static void read_optimizer(Elaborator *e, Train *t, const Stmt *s)
{
	Datum *d = expression(e, s->assign.value);
	if (d->kind == DATUM_ERROR)
		return;
	bool frozen = d->kind == DATUM_TEXT && !strcmp(d->text, "frozen");
	if (!frozen && (d->kind != DATUM_CALLABLE || !d->callable->decl || d->callable->decl->kind != DECL_OPTIMIZER)) {
		fail(e, E0501, s->assign.value->loc, "an optimizer is expected, such as adamw(lr = 1e-3), or frozen; this is %s",
		     datum_show(e, d));
		return;
	}
	if (!s->assign.pattern.n)
		VEC_PUSH(e->arena, &t->rule, (OptimizerRule){ .with = d, .loc = s->loc });
	for (u32 i = 0; i < s->assign.pattern.n; i++) {
		const Expr *p = s->assign.pattern.v[i];
		const char *text = want_text(e, expression(e, p), p->loc, "a pattern of parameters");
		if (text)
			VEC_PUSH(e->arena, &t->rule, (OptimizerRule){ .pattern = text, .with = d, .loc = p->loc });
	}
}

/* What whoever runs a training asks for, by name; the settings that are read here themselves aside. */
static const char *const run_settings[] = {
	"train.steps",        "train.seed",           "train.memory",        "train.evaluate.every",
	"train.evaluate.batches", "train.checkpoint.every", "train.checkpoint.keep", "train.log.every",
	"train.sample.every", "train.sample.tokens",  "train.sample.prompt", "train.sample.temperature",
	"train.sample.top_k", "train.sample.top_p",   "train.sample.seed"
};

static Datum *override_of(Elaborator *e, const char *key)
{
	u64 *found = map_get(&e->override, MAP_KEY(key));
	if (!found)
		return NULL;
	map_put(&e->override_used, MAP_KEY(key), 1);
	return expression(e, (const Expr *)(uintptr_t)*found);
}

/* Settings given on the command line stand for those of the file: train.batch.B=16, train.clip=0.5. An
 * entry that a record lacks is added to it, but for `batch`, whose entries are sizes of the model. */
static Datum *overridden(Elaborator *e, const char *key, Datum *d)
{
	Datum *whole = override_of(e, intern_printf(e->names, "train.%s", key));
	if (whole)
		return whole;
	if (d->kind != DATUM_RECORD)
		return d;
	const char *prefix = arena_printf(e->arena, "train.%s.", key);
	for (u32 i = 0; i < e->override.n; i++) {
		const char *full = (const char *)(uintptr_t)e->override.entry[i].key;
		if (!str_starts(str_of(full), str_of(prefix)))
			continue;
		const char *name = intern_z(e->names, full + strlen(prefix));
		Entry *entry = NULL;
		for (u32 k = 0; k < d->list.n; k++)
			if (d->list.v[k].name == name)
				entry = &d->list.v[k];
		if (entry)
			entry->value = override_of(e, full);
		else if (strcmp(key, "batch") || !strcmp(name, "accumulate"))
			VEC_PUSH(e->arena, &d->list, (Entry){ name, override_of(e, full) });
	}
	return d;
}

static void read_run_setting(Elaborator *e, const char *key, const Datum *v, Loc loc)
{
	u32 before = e->model->setting.n;
	bool periodic = !strcmp(key, "evaluate") || !strcmp(key, "sample") || !strcmp(key, "checkpoint") || !strcmp(key, "log");
	/* evaluate = 250 is evaluate = { every = 250 } */
	add_setting(e, arena_printf(e->arena, periodic && v->kind != DATUM_RECORD ? "train.%s.every" : "train.%s", key), v, loc);
	for (u32 i = before; i < e->model->setting.n; i++) {
		const char *name = e->model->setting.v[i].key;
		bool known = false;
		for (u32 k = 0; k < COUNT(run_settings); k++)
			known |= !strcmp(run_settings[k], name);
		if (known)
			continue;
		const char *near = nearest(name, run_settings, COUNT(run_settings));
		fail(e, E0506, loc, "there is no setting '%s'%s%s%s", name, near ? "; did you mean '" : "", near ? near : "",
		     near ? "'?" : "");
	}
}

static void read_setting(Elaborator *e, Train *t, const char *key, Datum *v, Loc loc)
{
	if (v->kind == DATUM_ERROR)
		return;
	set_variable(e, key, v); /* what follows may use it: cosine(total = steps) */
	if (!strcmp(key, "batch")) {
		read_batch(e, v, loc);
	} else if (!strcmp(key, "clip")) {
		t->has_clip = want_number(e, v, loc, "clip", &t->clip);
		if (t->has_clip && !(t->clip > 0))
			fail(e, E0505, v->loc, "clip must be above 0, not %g", t->clip);
		add_setting(e, "train.clip", v, loc);
	} else if (!strcmp(key, "precision")) {
		if (v->kind == DATUM_DTYPE && (v->dtype == DT_f32 || v->dtype == DT_bf16 || v->dtype == DT_f16))
			e->model->precision = dtype_info[v->dtype].name;
		else
			fail(e, E0505, v->loc, "precision is f32, bf16 or f16, and this is %s", datum_show(e, v));
	} else if (!strcmp(key, "accumulate")) {
		if (want_integer(e, v, loc, "accumulate", &e->model->accumulate) && e->model->accumulate < 1) {
			fail(e, E0505, v->loc, "accumulate must be at least 1");
			e->model->accumulate = 1;
		}
	} else {
		read_run_setting(e, key, v, loc);
	}
}

/* Settings of the command line that the file does not have. */
static void read_more_settings(Elaborator *e, Train *t, const Decl *d)
{
	for (u32 k = 0; k < COUNT(train_keys); k++) {
		const char *key = train_keys[k];
		bool in_file = !strcmp(key, "loss") || !strcmp(key, "optimizer");
		for (u32 i = 0; i < d->body.n && !in_file; i++) {
			const Stmt *s = d->body.v[i];
			in_file = s->kind == STMT_ASSIGN && s->assign.target.v[0]->kind == EXPR_NAME &&
				  !strcmp(s->assign.target.v[0]->name, key);
		}
		if (in_file)
			continue;
		Datum *none = datum_new(e, DATUM_RECORD, (Loc){ 0 }), *v = overridden(e, key, none);
		if (v != none || v->list.n)
			read_setting(e, t, intern_z(e->names, key), v, (Loc){ 0 });
	}
}

static void read_settings(Elaborator *e, const Decl *d, Train *t)
{
	frame_push(e, d, "", (Loc){ 0 });
	set_variable(e, intern_z(e->names, "same"), datum_text(e, intern_z(e->names, "same"), d->loc));
	set_variable(e, intern_z(e->names, "frozen"), datum_text(e, intern_z(e->names, "frozen"), d->loc));
	for (u32 k = 0; k < 2; k++) { /* precisions are written as words */
		static const char *const word[] = { "mixed", "full" };
		set_variable(e, intern_z(e->names, word[k]), datum_text(e, intern_z(e->names, word[k]), d->loc));
	}
	read_more_settings(e, t, d);
	for (u32 i = 0; i < d->body.n; i++) {
		const Stmt *s = d->body.v[i];
		if (s->kind != STMT_ASSIGN || s->assign.target.n != 1 || s->assign.target.v[0]->kind != EXPR_NAME)
			continue;
		const char *key = s->assign.target.v[0]->name;
		if (!is_key(key)) {
			if (s->assign.pattern.n) {
				const char *near = nearest(key, train_keys, COUNT(train_keys));
				fail(e, E0506, s->loc, "only 'optimizer' can be for some parameters, not '%s'%s%s%s", key,
				     near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
			}
			continue;
		}
		if (!strcmp(key, "loss"))
			continue;
		if (!strcmp(key, "optimizer")) {
			read_optimizer(e, t, s);
			continue;
		}
		read_setting(e, t, key, overridden(e, key, expression(e, s->assign.value)), s->loc);
	}
	const Callable *all = NULL;
	for (u32 i = 0; i < t->rule.n; i++)
		if (!t->rule.v[i].pattern && t->rule.v[i].with->kind == DATUM_CALLABLE)
			all = t->rule.v[i].with->callable;
	for (u32 i = 0; i < t->rule.n; i++)
		if (t->rule.v[i].with->kind == DATUM_CALLABLE)
			resolve_same(e, t->rule.v[i].with->callable, all);
	frame_pop(e);
}

void recipe_train(Elaborator *e, const Decl *d)
{
	Train t = { 0 };
	e->model->has_train = true;
	read_settings(e, d, &t);
	make_loss(e, d, "eval", false);
	u32 errors = e->diag->nerror;
	make_loss(e, d, "micro", true);
	if (e->diag->nerror > errors || e->diag->nerror)
		return;
	if (!t.rule.n) {
		fail(e, E0501, d->loc, "a train block says how parameters change: optimizer = adamw(lr = 1e-3)");
		return;
	}
	make_update(e, &t);
	for (u32 i = 0; i < t.rule.n; i++)
		if (!t.rule.v[i].used)
			diag_warning(e->diag, W0002, t.rule.v[i].loc, "no parameter matches this optimizer's pattern%s%s%s",
				     t.rule.v[i].pattern ? " \"" : "", t.rule.v[i].pattern ? t.rule.v[i].pattern : "",
				     t.rule.v[i].pattern ? "\"" : "");
}

/* ---- blocks that are read, not built ---- */

static const char *dotted(Elaborator *e, const Expr *x)
{
	switch (x->kind) {
	case EXPR_NAME: return x->name;
	case EXPR_STRING: return x->string->text;
	case EXPR_FIELD: {
		const char *base = dotted(e, x->field.base);
		return base ? intern_printf(e->names, "%s.%s", base, x->field.field.text) : NULL;
	}
	case EXPR_CALL: return dotted(e, x->call.callee);
	case EXPR_LIST:
	case EXPR_TUPLE: {
		Buf b = { .arena = e->arena };
		for (u32 i = 0; i < x->list.n; i++) {
			const char *part = dotted(e, x->list.v[i]);
			if (!part)
				return NULL;
			buf_printf(&b, "%s%s", i ? " " : "", part);
		}
		return b.text;
	}
	default: return NULL;
	}
}

void recipe_weights(Elaborator *e, const Decl *d)
{
	for (u32 i = 0; i < d->body.n; i++) {
		const Stmt *s = d->body.v[i];
		const char *word = s->kind == STMT_DIRECTIVE ? s->directive.word.text : "";
		bool ignore = !strcmp(word, "ignore"), rename = !strcmp(word, "rename");
		if (!ignore && !rename) {
			fail(e, E0507, s->loc, "a weights block has lines such as: ignore \"h.*.attn.bias\", rename \"a\" -> \"b\"");
			continue;
		}
		const char *to = rename && s->directive.arrow ? dotted(e, s->directive.arrow) : NULL;
		if (rename && !to) {
			fail(e, E0507, s->loc, "rename says from what to what: rename \"old.**\" -> \"new.**\"");
			continue;
		}
		for (u32 k = 0; k < s->directive.operand.n; k++) {
			const char *pattern = want_text(e, expression(e, s->directive.operand.v[k]), s->loc, "a pattern");
			if (pattern)
				VEC_PUSH(e->arena, &e->model->weight, (WeightsLine){ pattern, to });
		}
	}
}

void recipe_data(Elaborator *e, const Decl *d)
{
	for (u32 i = 0; i < d->body.n; i++) {
		const Stmt *s = d->body.v[i];
		const Expr *x = s->kind == STMT_ASSIGN ? s->assign.value : NULL;
		if (!x || x->kind != EXPR_CALL || x->call.callee->kind != EXPR_NAME || strcmp(x->call.callee->name, "tokens")) {
			fail(e, E0508, s->loc, "a data block names its sources: train, validation = tokens(\"book.train\", \"book.val\")");
			continue;
		}
		if (x->call.argument.n != s->assign.target.n) {
			fail(e, E0508, s->loc, "%u names on the left, and %u sources on the right", s->assign.target.n,
			     x->call.argument.n);
			continue;
		}
		for (u32 k = 0; k < s->assign.target.n; k++) {
			Datum *v = expression(e, x->call.argument.v[k].value);
			const char *name = dotted(e, s->assign.target.v[k]);
			if (name && want_text(e, v, x->call.argument.v[k].value->loc, "a source of tokens"))
				add_setting(e, arena_printf(e->arena, "data.%s", name), v, s->loc);
		}
	}
}

/* Axis names are checked against what the model has; which mesh they go to is the sharding pass's. */
static bool axis_known(const Elaborator *e, const char *name, Buf *candidates)
{
	static const char *const special[] = { "optimizer_state", "parameters", "gradients", "layers" };
	for (u32 i = 0; i < COUNT(special); i++)
		if (!strcmp(special[i], name))
			return true;
	u32 found[64], n = 0;
	bool qualified = strchr(name, '.') != NULL;
	for (u32 i = 1; i < e->ir->axis.n; i++) {
		const AxisClass *c = &e->ir->axis.v[i];
		for (u32 k = 0; k < c->names.n && !c->alias; k++) {
			const char *dot = strrchr(c->names.v[k], '.');
			const char *tail = dot && !qualified ? dot + 1 : c->names.v[k];
			if (strcmp(tail, name))
				continue;
			bool seen = false;
			for (u32 j = 0; j < n; j++)
				seen |= found[j] == i;
			if (!seen && n < COUNT(found)) {
				found[n++] = i;
				buf_printf(candidates, "%s%s", candidates->n ? ", " : "", c->names.v[k]);
			}
			break;
		}
	}
	return n > 0;
}

void recipe_shard(Elaborator *e, const Decl *d)
{
	for (u32 i = 0; i < d->body.n; i++) {
		const Stmt *s = d->body.v[i];
		if (s->kind == STMT_ASSIGN && s->assign.target.n == 1) {
			Datum *v = expression(e, s->assign.value);
			const char *name = dotted(e, s->assign.target.v[0]);
			for (u32 k = 0; name && v->kind == DATUM_RECORD && k < v->list.n; k++)
				add_setting(e, arena_printf(e->arena, "shard.%s.%s", name, v->list.v[k].name), v->list.v[k].value, s->loc);
			if (name && v->kind != DATUM_RECORD && v->kind != DATUM_ERROR)
				add_setting(e, arena_printf(e->arena, "shard.%s", name), v, s->loc);
			continue;
		}
		if (s->kind != STMT_ARROW) {
			fail(e, E0509, s->loc, "a shard block has lines such as: mesh = { data = 4 }, B -> data");
			continue;
		}
		const char *to = dotted(e, s->arrow.to);
		for (u32 k = 0; k < s->arrow.from.n; k++) {
			const char *name = dotted(e, s->arrow.from.v[k]);
			Buf candidates = { .arena = e->arena };
			if (!name || !to) {
				fail(e, E0509, s->loc, "a rule is an axis and where it goes: Attention.H -> tensor");
				continue;
			}
			if (!axis_known(e, name, &candidates)) {
				const char **all = NEWN(e->arena, const char *, e->ir->axis.n);
				u32 n = 0;
				for (u32 j = 1; j < e->ir->axis.n; j++)
					if (e->ir->axis.v[j].name)
						all[n++] = e->ir->axis.v[j].name;
				const char *near = nearest(name, all, n);
				fail(e, E0509, s->arrow.from.v[k]->loc, "the model has no axis '%s'%s%s%s", name,
				     near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
				continue;
			}
			VEC_PUSH(e->arena, &e->model->shard, (ShardRule){ name, to, s->arrow.from.v[k]->loc });
		}
	}
}
