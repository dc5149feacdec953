/* frontend/recipe.c: what a train block says: inputs, loss, optimizers with their parameter groups, settings. */
#include "frontend/elaborator.h"

#include <string.h>

/* Keys of a train block that are settings; every other name is a variable of the recipe. */
static const char *const train_keys[] = { "loss",      "batch",  "optimizer", "clip",   "precision", "memory",
					  "accumulate", "steps", "seed",      "evaluate", "sample",  "checkpoint",
					  "log" };

void add_setting(Elaborator *e, const char *key, const Datum *d, Loc loc)
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

/* The setting that a line of a train block says, or NULL. The loss is none: it is computed. */
static const char *setting_key(const Stmt *s)
{
	const Expr *target = s->kind == STMT_ASSIGN && s->assign.target.n == 1 ? s->assign.target.v[0] : NULL;
	bool is = target && target->kind == EXPR_NAME && is_key(target->name) && strcmp(target->name, "loss");
	return is ? target->name : NULL;
}

bool recipe_has_setting(const Elaborator *e, const Stmt *s)
{
	const Decl *d = e->frame->decl;
	return d && d->kind == DECL_RECIPE && !strcmp(d->word.text, "train") && setting_key(s);
}

void recipe_input(Elaborator *e, const Stmt *s)
{
	const TypeExpr *t = s->declare.type;
	Datum *d = datum_error(e);
	Axis axis[MAX_RANK] = { { 0 } };
	if (!t || !t->name || (t->kind != TYPE_TENSOR && dtype_named(str_of(t->name)) == DTYPES)) {
		fail(e, E0504, s->loc, "an input needs an element type and dimensions: input %s: i32[B, T], or f32[..]", s->declare.name.text);
	} else {
		declare_symbols(e, t);
		const Type *type = resolve_type(e, t, axis);
		if (type) {
			e->b.loc = s->loc;
			input_attr a = { .name = intern_z(&e->ir->names, s->declare.name.text), .dtype = type->dtype,
					 .shape = dims_of_type(&e->b, type) };
			Val v = build(&e->b, OP_input, NULL, 0, 0, &a);
			graph_set_axis(e->g, v, axis);
			d = datum_tensor(e, v, s->loc);
		}
	}
	declare_variable(e, s->declare.name, d);
}

/* A statement of a train or eval block but for its settings. */
static void recipe_statement(Elaborator *e, const Stmt *const *s)
{
	switch ((*s)->kind) {
	case STMT_INPUT: recipe_input(e, *s); break;
	case STMT_ASSIGN:
	case STMT_DIM:
	case STMT_FOR:
	case STMT_IF: {
		Block one = { .v = (Stmt **)(uintptr_t)s, .n = 1 };
		statements(e, &one);
		break;
	}
	case STMT_PARAM: fail(e, E0208, (*s)->loc, "a parameter belongs to a module or model, not to a recipe"); break;
	case STMT_EXPR:
		fail(e, E0208, (*s)->loc, "nothing takes this value: a pair is written in parentheses, loss = (sum, count)");
		break;
	default: fail(e, E0208, (*s)->loc, "a recipe has inputs, names with their values, settings, `for` and `if`");
	}
}

static void see(Map *seen, const Frame *f)
{
	for (u32 i = 0; i < f->seen.n; i++)
		map_put(seen, f->seen.entry[i].key, 1);
}

/* What a recipe's statements left: the loss, the recipe's own names, and which names were used. */
typedef struct Recipe {
	const Stmt *loss;
	VEC(const Stmt *) own; /* `x = ...` of a name that is no setting */
	Map seen;
} Recipe;

/* All statements but settings, those of an `if`'s branch too. */
static void recipe_statements(Elaborator *e, const Block *body, Recipe *r)
{
	for (u32 i = 0; i < body->n; i++) {
		const Stmt *s = body->v[i];
		const Expr *target = s->kind == STMT_ASSIGN ? s->assign.target.v[0] : NULL;
		bool name = target && s->assign.target.n == 1 && target->kind == EXPR_NAME;
		u32 unknown;
		const Block *branch = s->kind == STMT_IF ? chosen_branch(e, s, &unknown) : NULL;
		if (branch) {
			recipe_statements(e, branch, r);
		} else if (name && is_key(target->name)) {
			if (!strcmp(target->name, "loss"))
				r->loss = s;
		} else if (!target || !s->assign.pattern.n) {
			recipe_statement(e, (const Stmt *const *)&body->v[i]);
			if (name)
				VEC_PUSH(e->arena, &r->own, s);
		}
	}
}

/* A setting that is misspelt is a name of the recipe's own, which nothing uses. */
static void unused_names_told(Elaborator *e, const Recipe *r)
{
	for (u32 i = 0; i < r->own.n && !e->diag->nerror; i++) { /* what is wrong may be what would have used it */
		const Expr *target = r->own.v[i]->assign.target.v[0];
		const char *near = nearest_name(target->name, train_keys, COUNT(train_keys));
		if (!map_get(&r->seen, MAP_KEY(target->name)))
			diag_warning(e->diag, W0010, target->loc, "nothing uses '%s', and no setting is called so%s", target->name,
				     did_you_mean(e, near));
	}
}

/* Loss entries: inputs, the recipe's own names, then the loss. */
static void make_loss(Elaborator *e, const Decl *d, const char *name, bool training, Recipe *r)
{
	entry_begin(e, name);
	e->training = training;
	frame_push(e, d, "", (Loc){ 0 });
	r->loss = NULL;
	r->own.n = 0;
	recipe_statements(e, &d->body, r);
	if (!r->loss) {
		fail(e, E0503, d->loc, "a block '%s' says what the loss is: loss = cross_entropy(model(tokens), targets)", d->word.text);
	} else {
		Datum *value = expression(e, r->loss->assign.value);
		Val sum, count;
		if (loss_pair(e, value, r->loss->assign.value->loc, &sum, &count)) {
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
	see(&r->seen, e->frame);
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
		if (!want_integer(e, a->value, a->loc.line ? a->loc : loc, arena_printf(e->arena, "batch.%s", a->name), &n))
			continue;
		if (n < 1) {
			fail(e, E0505, a->loc, "batch.%s must be at least 1, not %lld", a->name, (long long)n);
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

/* `lr = same` in a group takes what the optimizer without a pattern has. */
static void resolve_same(Elaborator *e, Callable *c, const OptimizerRule *all)
{
	const Callable *from = all ? all->with->callable : NULL;
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
		else if (all || !e->diag->nerror) {
			fail(e, E0502, a->loc, "'same' has nothing to take: the optimizer for all parameters has no '%s'",
			     a->name ? a->name : "?");
			if (all)
				diag_note(e->diag, all->loc, "that optimizer is declared here");
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
		VEC_PUSH(e->arena, &t->rule, (OptimizerRule){ .with = d, .loc = s->loc, .from = s });
	for (u32 i = 0; i < s->assign.pattern.n; i++) {
		const Expr *p = s->assign.pattern.v[i];
		const char *text = want_text(e, expression(e, p), p->loc, "a pattern of parameters");
		if (text)
			VEC_PUSH(e->arena, &t->rule, (OptimizerRule){ .pattern = text, .with = d, .loc = p->loc, .from = s });
	}
}

/* What whoever runs a training asks for, by name; the settings that are read here themselves aside. */
static const char *const run_settings[] = {
	"train.steps",        "train.seed",           "train.memory",        "train.evaluate.every",
	"train.evaluate.batches", "train.checkpoint.every", "train.checkpoint.keep", "train.checkpoint.best", "train.log.every",
	"train.sample.every", "train.sample.tokens",  "train.sample.prompt", "train.sample.temperature",
	"train.sample.top_k", "train.sample.top_p",   "train.sample.seed"
};

Datum *override_of(Elaborator *e, const char *key)
{
	u64 *found = map_get(&e->override, MAP_KEY(key));
	if (!found)
		return NULL;
	map_put(&e->override_used, MAP_KEY(key), 1);
	return expression(e, (const Expr *)(uintptr_t)*found);
}

static bool is_periodic(const char *key)
{
	return !strcmp(key, "evaluate") || !strcmp(key, "sample") || !strcmp(key, "checkpoint") || !strcmp(key, "log");
}

/* Settings given on the command line stand for those of the file: train.batch.B=16, train.clip=0.5. An
 * entry that a record lacks is added to it, but for `batch`, whose entries are sizes of the model. */
static Datum *overridden(Elaborator *e, const char *key, Datum *d)
{
	Datum *whole = override_of(e, intern_printf(e->names, "train.%s", key));
	if (whole)
		return whole;
	if (is_periodic(key) && d->kind == DATUM_NUMBER) { /* evaluate = 250 is evaluate = { every = 250 } */
		Datum *every = datum_new(e, DATUM_RECORD, d->loc);
		VEC_PUSH(e->arena, &every->list, ENTRY(intern_z(e->names, "every"), d, d->loc));
		d = every;
	}
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
			VEC_PUSH(e->arena, &d->list, ENTRY(name, override_of(e, full), d->loc));
	}
	return d;
}

static void read_run_setting(Elaborator *e, const char *key, const Datum *v, Loc loc)
{
	u32 before = e->model->setting.n;
	add_setting(e, arena_printf(e->arena, is_periodic(key) && v->kind != DATUM_RECORD ? "train.%s.every" : "train.%s", key), v, loc);
	for (u32 i = before; i < e->model->setting.n; i++) {
		const char *name = e->model->setting.v[i].key;
		bool known = false;
		for (u32 k = 0; k < COUNT(run_settings); k++)
			known |= !strcmp(run_settings[k], name);
		if (known)
			continue;
		const char *near = nearest_name(name, run_settings, COUNT(run_settings));
		fail(e, E0506, loc, "there is no setting '%s'%s", name, did_you_mean(e, near));
	}
}

static void read_setting(Elaborator *e, Train *t, const char *key, Datum *v, Loc loc)
{
	if (v->kind == DATUM_ERROR)
		return;
	declare_variable(e, (Name){ key, loc }, v); /* what follows may use it: cosine(total = steps) */
	map_put(&e->frame->seen, MAP_KEY(key), 1);  /* and whoever runs the training does */
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
		else if (v->kind == DATUM_TEXT && (!strcmp(v->text, "autocast") || !strcmp(v->text, "fp8")))
			e->model->precision = *v->text == 'a' ? "autocast" : "fp8";
		else
			fail(e, E0505, loc, "precision is f32, bf16, f16, \"autocast\" or \"fp8\", and this is %s", datum_show(e, v));
	} else if (!strcmp(key, "accumulate")) {
		if (want_integer(e, v, loc, "accumulate", &e->model->accumulate) && e->model->accumulate < 1) {
			fail(e, E0505, v->loc, "accumulate must be at least 1");
			e->model->accumulate = 1;
		}
	} else {
		read_run_setting(e, key, v, loc);
	}
}

/* Settings of the command line that no line of the file gave: before others those that it nowhere has, which others may
 * use; behind them those of a branch that is not taken. */
static void read_more_settings(Elaborator *e, Train *t, const Map *in_file)
{
	for (u32 k = 0; k < COUNT(train_keys); k++) {
		const char *key = train_keys[k];
		const u64 name = MAP_KEY(intern_z(e->names, key));
		if (!strcmp(key, "loss") || !strcmp(key, "optimizer") || map_get(&t->read, name) || map_get(in_file, name))
			continue;
		Datum *none = datum_new(e, DATUM_RECORD, (Loc){ 0 }), *v = overridden(e, key, none);
		if (v != none || v->list.n)
			read_setting(e, t, intern_z(e->names, key), v, (Loc){ 0 });
		map_put(&t->read, name, 1);
	}
}

/* Each setting that the file has, taken or not. */
static void settings_of_file(const Block *body, Map *out)
{
	for (u32 i = 0; i < body->n; i++) {
		const Stmt *s = body->v[i];
		for (u32 k = 0; s->kind == STMT_IF && k < s->branch.n; k++)
			settings_of_file(&s->branch.v[k].body, out);
		if (setting_key(s))
			map_put(out, MAP_KEY(setting_key(s)), 1);
	}
}

static bool any_setting(const Stmt *s)
{
	bool any = setting_key(s) != NULL;
	for (u32 k = 0; s->kind == STMT_IF && k < s->branch.n; k++)
		for (u32 i = 0; i < s->branch.v[k].body.n; i++)
			any |= any_setting(s->branch.v[k].body.v[i]);
	return any;
}

static void add_late(Elaborator *e, const char *name, const Stmt *s)
{
	const u64 *before = map_get(&e->frame->late, MAP_KEY(name));
	Late *l = NEW(e->arena, Late);
	*l = (Late){ .assign = s, .at = ++e->frame->nlate, .before = before ? (Late *)(uintptr_t)*before : NULL };
	map_put(&e->frame->late, MAP_KEY(name), MAP_KEY(l));
}

/* An `if` around settings is decided by the config, the settings before it, and names that no input goes into. */
static void settings_of_block(Elaborator *e, Train *t, const Block *body)
{
	for (u32 i = 0; i < body->n; i++) {
		const Stmt *s = body->v[i];
		u32 unknown;
		const Block *branch = s->kind == STMT_IF && any_setting(s) ? chosen_branch(e, s, &unknown) : NULL;
		if (branch)
			settings_of_block(e, t, branch);
		if (s->kind != STMT_ASSIGN || s->assign.target.n != 1 || s->assign.target.v[0]->kind != EXPR_NAME)
			continue;
		const char *key = s->assign.target.v[0]->name;
		if (!is_key(key)) {
			if (s->assign.pattern.n) {
				const char *near = nearest_name(key, train_keys, COUNT(train_keys));
				fail(e, E0506, s->loc, "only 'optimizer' can be for some parameters, not '%s'%s", key,
				     did_you_mean(e, near));
			} else {
				add_late(e, key, s);
			}
			continue;
		}
		map_put(&t->read, MAP_KEY(key), 1);
		if (!strcmp(key, "optimizer")) {
			read_optimizer(e, t, s);
			continue;
		}
		if (s->assign.pattern.n)
			fail(e, E0506, s->loc, "only 'optimizer' can be for some parameters, not '%s'", key);
		if (strcmp(key, "loss"))
			read_setting(e, t, key, overridden(e, key, expression(e, s->assign.value)), s->assign.value->loc);
	}
}

static void read_settings(Elaborator *e, const Decl *d, Train *t, Map *seen)
{
	frame_push(e, d, "", (Loc){ 0 });
	static const char *const word[] = { "same", "frozen", "mixed", "full" }; /* precisions are written as words */
	for (u32 k = 0; k < COUNT(word); k++)
		set_variable(e, intern_z(e->names, word[k]), datum_text(e, intern_z(e->names, word[k]), d->loc));
	Map in_file = { .arena = e->arena }, none = { 0 };
	settings_of_file(&d->body, &in_file);
	read_more_settings(e, t, &in_file);
	settings_of_block(e, t, &d->body);
	read_more_settings(e, t, &none);
	const OptimizerRule *all = NULL;
	for (u32 i = 0; i < t->rule.n; i++)
		if (!t->rule.v[i].pattern && t->rule.v[i].with->kind == DATUM_CALLABLE)
			all = &t->rule.v[i];
	for (u32 i = 0; i < t->rule.n; i++)
		if (t->rule.v[i].with->kind == DATUM_CALLABLE)
			resolve_same(e, t->rule.v[i].with->callable, all);
	see(seen, e->frame);
	frame_pop(e);
}

void recipe_train(Elaborator *e, const Decl *d)
{
	Train t = { .read.arena = e->arena };
	Recipe r = { .seen.arena = e->arena };
	e->model->has_train = true;
	read_settings(e, d, &t, &r.seen);
	if (!e->own_eval)
		make_loss(e, d, "eval", false, &r);
	make_loss(e, d, "micro", true, &r);
	unused_names_told(e, &r);
	if (e->diag->nerror) {
		e->incomplete = true;
		return;
	}
	if (!t.rule.n) {
		fail(e, E0501, d->loc, "a train block says how parameters change: optimizer = adamw(lr = 1e-3)");
		return;
	}
	make_update(e, &t);
	for (u32 i = 0; i < t.rule.n; i++) { /* patterns for biases may stand in a model that has none */
		bool used = false;
		for (u32 k = 0; k < t.rule.n; k++)
			used |= t.rule.v[k].from == t.rule.v[i].from && t.rule.v[k].used;
		if (!used)
			diag_warning(e->diag, W0002, t.rule.v[i].loc, "no parameter matches this optimizer's pattern%s%s%s",
				     t.rule.v[i].pattern ? " \"" : "", t.rule.v[i].pattern ? t.rule.v[i].pattern : "",
				     t.rule.v[i].pattern ? "\"" : "");
	}
}

/* `eval { }` says what evaluation is in place of the training's loss; `eval name { }` is an entry of its own,
 * eval.name. */
void recipe_eval(Elaborator *e, const Decl *d)
{
	const char *name = d->label && d->label->kind == EXPR_NAME ? d->label->name : NULL;
	Recipe r = { .seen.arena = e->arena };
	make_loss(e, d, name ? arena_printf(e->arena, "eval.%s", name) : "eval", false, &r);
	unused_names_told(e, &r);
	frame_push(e, d, "", (Loc){ 0 });
	for (u32 i = 0; i < d->body.n; i++) {
		const Stmt *s = d->body.v[i];
		const Expr *target = s->kind == STMT_ASSIGN && s->assign.target.n == 1 ? s->assign.target.v[0] : NULL;
		if (!target || target->kind != EXPR_NAME || !is_key(target->name) || !strcmp(target->name, "loss"))
			continue;
		if (strcmp(target->name, "batch"))
			fail(e, E0506, s->loc, "'%s' belongs to the train block; an eval block has inputs, a loss and a batch", target->name);
		else if (!e->model->symbol.n)
			read_batch(e, expression(e, s->assign.value), s->assign.value->loc);
	}
	frame_pop(e);
}
