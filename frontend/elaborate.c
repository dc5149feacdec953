/* frontend/elaborate.c: a file as a whole: what it uses, its config with presets and settings, its
 * declarations, the entries that come of it. See elaborate.h. */
#include "frontend/elaborator.h"
#include "frontend/std.h"

#include <string.h>

/* ---- entries ---- */

static void entry_of(Elaborator *e, Graph *g)
{
	e->g = g;
	e->b = builder_new(g);
	e->param_graph = (Map){ .arena = e->arena };
	e->param_made = (Map){ .arena = e->arena };
	e->draws = (Map){ .arena = e->arena };
	e->seed = e->count = (Val){ 0 };
}

void entry_begin(Elaborator *e, const char *name)
{
	entry_of(e, program_entry(e->program, name));
}

void entry_end(Elaborator *e)
{
	builder_done(&e->b);
	e->g = NULL;
}

static u32 seed_buffer(Elaborator *e, const char *name)
{
	const char *interned = intern_z(&e->ir->names, name);
	u32 found = program_find_buffer(e->program, interned);
	if (found != NONE)
		return found;
	Buffer b = { .name = interned, .kind = BUFFER_COUNTER, .type = type_scalar(e->ir, DT_i64), .of = NONE };
	found = program_buffer(e->program, b);
	if (!strcmp(name, "micro"))
		graph_result(e->init.g, interned, found, make_full(&e->init, 0, DT_i64, (dims){ 0 }));
	return found;
}

void random_state(Elaborator *e, Val *seed, Val *count)
{
	if (e->init_type) {
		input_attr a = { .name = intern_z(&e->ir->names, "seed"), .dtype = DT_i64 };
		*seed = build(&e->b, OP_input, NULL, 0, 0, &a);
		*count = make_full(&e->b, 0, DT_i64, (dims){ 0 });
		return;
	}
	if (!e->seed.i) {
		e->seed = read_buffer(e, seed_buffer(e, "seed"));
		e->count = read_buffer(e, seed_buffer(e, "micro"));
	}
	*seed = e->seed;
	*count = e->count;
}

/* ---- files ---- */

static void add_file(Elaborator *e, const Ast *ast);

static void use_file(Elaborator *e, const Decl *d)
{
	const char *name = d->name.text;
	if (map_get(&e->used, MAP_KEY(name)))
		return;
	map_put(&e->used, MAP_KEY(name), 1);
	const char *path = NULL;
	Str text = { 0 };
	bool found = false;
	if (str_starts(str_of(name), STR("std."))) {
		const char *all[64];
		u32 n = 0;
		for (const StdFile *f = std_files; f->name && n < COUNT(all); f++) {
			all[n++] = f->name;
			if (strcmp(f->name, name + 4))
				continue;
			found = true;
			text = (Str){ f->text, f->n };
			path = arena_printf(e->arena, "std/%s.plinth", f->name);
		}
		if (!found) {
			const char *near = nearest(name + 4, all, n);
			fail(e, E0211, d->loc, "the standard library has no part '%s'%s%s%s", name, near ? "; did you mean 'std." : "",
			     near ? near : "", near ? "'?" : "");
			return;
		}
	} else if (e->options->find) {
		found = e->options->find(e->options->find_cx, e->arena, name, &path, &text);
	}
	if (!found) {
		fail(e, E0211, d->loc, "there is no '%s' to use: neither in the standard library nor as a file beside this one",
		     name);
		return;
	}
	const Ast *ast = parse_source(e->arena, e->names, e->diag, path, text);
	if (ast)
		add_file(e, ast);
}

static void declare(Elaborator *e, const Decl *d)
{
	u64 *before = map_get(&e->decl, MAP_KEY(d->name.text));
	if (before) {
		const Decl *other = (const Decl *)(uintptr_t)*before;
		if (other->loc.file == d->loc.file) {
			fail(e, E0202, d->loc, "'%s' is declared twice", d->name.text);
			diag_note(e->diag, other->loc, "it was declared here");
			return;
		}
		/* a file's own declaration stands before what it uses */
		if (e->file.n && other->loc.file == e->file.v[0]->file)
			return;
	}
	map_put(&e->decl, MAP_KEY(d->name.text), MAP_KEY(d));
}

static void add_file(Elaborator *e, const Ast *ast)
{
	VEC_PUSH(e->arena, &e->file, ast);
	for (u32 i = 0; i < ast->ndecl; i++) {
		const Decl *d = ast->decl[i];
		if (d->kind == DECL_MODULE || d->kind == DECL_FUNCTION || d->kind == DECL_OPTIMIZER || d->kind == DECL_MODEL)
			declare(e, d);
	}
	for (u32 i = 0; i < ast->ndecl; i++)
		if (ast->decl[i]->kind == DECL_USE)
			use_file(e, ast->decl[i]);
}

/* ---- config ---- */

/* `--set key=value`: the value as an expression. */
static void read_sets(Elaborator *e)
{
	e->override.arena = e->override_used.arena = e->arena;
	for (u32 i = 0; i < e->options->nset; i++) {
		const char *set = e->options->set[i], *eq = strchr(set, '=');
		if (!eq) {
			fail(e, E0407, (Loc){ 0 }, "--set %s: a setting is key=value, such as layers=24", set);
			continue;
		}
		const char *key = intern(e->names, (Str){ set, (size_t)(eq - set) });
		Str text = str_of(arena_printf(e->arena, "config { value = %s }\n", eq + 1));
		const Ast *ast = parse_source(e->arena, e->names, e->diag, arena_printf(e->arena, "--set %s", key), text);
		const Stmt *s = ast && ast->ndecl == 1 && ast->decl[0]->body.n == 1 ? ast->decl[0]->body.v[0] : NULL;
		if (s && s->kind == STMT_ASSIGN)
			map_put(&e->override, MAP_KEY(key), MAP_KEY(s->assign.value));
		else if (!e->diag->nerror)
			fail(e, E0407, (Loc){ 0 }, "--set %s: '%s' is no value", set, eq + 1);
	}
}

static const Stmt *config_entry(const Block *b, const char *name)
{
	for (u32 i = 0; i < b->n; i++) {
		const Stmt *s = b->v[i];
		if (s->kind == STMT_ASSIGN && s->assign.target.n == 1 && s->assign.target.v[0]->kind == EXPR_NAME &&
		    s->assign.target.v[0]->name == name)
			return s;
		if (s->kind == STMT_DIRECTIVE && s->directive.has_body && s->directive.word.text == name)
			return s;
	}
	return NULL;
}

static const char *kind_name(const Datum *d)
{
	static const char *const name[] = { [DATUM_NUMBER] = "a number", [DATUM_BOOL] = "true or false", [DATUM_TEXT] = "a text",
					    [DATUM_LIST] = "a list", [DATUM_RECORD] = "a group", [DATUM_DTYPE] = "an element type",
					    [DATUM_NONE] = "none" };
	return d->kind < COUNT(name) && name[d->kind] ? name[d->kind] : "something else";
}

static Datum *config_group(Elaborator *e, const Block *body, const Block *preset, const char *prefix);

static Datum *config_value(Elaborator *e, const Stmt *s, const Block *preset, const char *prefix)
{
	if (s->kind == STMT_DIRECTIVE) {
		const Stmt *p = preset ? config_entry(preset, s->directive.word.text) : NULL;
		return config_group(e, &s->directive.body, p && p->kind == STMT_DIRECTIVE ? &p->directive.body : NULL,
				    arena_printf(e->arena, "%s%s.", prefix, s->directive.word.text));
	}
	const char *name = s->assign.target.v[0]->name;
	Datum *d = expression(e, s->assign.value);
	const Stmt *p = preset ? config_entry(preset, name) : NULL;
	const char *key = intern_printf(e->names, "%s%s", prefix, name);
	u64 *set = map_get(&e->override, MAP_KEY(key));
	if (set)
		map_put(&e->override_used, MAP_KEY(key), 1);
	const Expr *other = set ? (const Expr *)(uintptr_t)*set : p && p->kind == STMT_ASSIGN ? p->assign.value : NULL;
	if (other) {
		Datum *now = expression(e, other);
		bool fits = now->kind == d->kind || d->kind == DATUM_NONE || now->kind == DATUM_NONE || now->kind == DATUM_ERROR ||
			    d->kind == DATUM_ERROR;
		if (fits && d->kind == DATUM_NUMBER && now->kind == DATUM_NUMBER && d->number.is_integer &&
		    !now->number.is_integer)
			fits = false;
		if (!fits) {
			fail(e, E0408, other->loc, "'%s' is %s in the config, and here it becomes %s", name,
			     d->kind == DATUM_NUMBER && d->number.is_integer ? "a whole number" : kind_name(d), datum_show(e, now));
			diag_note(e->diag, s->loc, "the config says so here");
		} else {
			d = now;
		}
	}
	Datum *own = NEW(e->arena, Datum); /* its axis is its own, whatever it was computed from */
	*own = *d;
	own->axis = (Axis){ 0 };
	return own;
}

static Datum *config_group(Elaborator *e, const Block *body, const Block *preset, const char *prefix)
{
	Datum *group = datum_new(e, DATUM_RECORD, body->loc);
	for (u32 i = 0; i < body->n; i++) {
		const Stmt *s = body->v[i];
		bool entry = s->kind == STMT_ASSIGN && s->assign.target.n == 1 && s->assign.target.v[0]->kind == EXPR_NAME;
		bool nested = s->kind == STMT_DIRECTIVE && s->directive.has_body;
		if (!entry && !nested) {
			fail(e, E0409, s->loc, "a config has entries, name = value, and groups, name { ... }");
			continue;
		}
		const char *name = entry ? s->assign.target.v[0]->name : s->directive.word.text;
		for (u32 k = 0; k < group->list.n; k++)
			if (group->list.v[k].name == name)
				fail(e, E0202, s->loc, "'%s' is in the config twice", name);
		Datum *d = config_value(e, s, preset, prefix);
		VEC_PUSH(e->arena, &group->list, (Entry){ name, d });
		if (!*prefix)
			map_put(&e->config, MAP_KEY(name), MAP_KEY(d));
	}
	if (preset)
		for (u32 i = 0; i < preset->n; i++) {
			const Stmt *s = preset->v[i];
			const char *name = s->kind == STMT_ASSIGN && s->assign.target.v[0]->kind == EXPR_NAME ?
						   s->assign.target.v[0]->name :
					   s->kind == STMT_DIRECTIVE ? s->directive.word.text : NULL;
			if (name && config_entry(body, name))
				continue;
			const char **all = NEWN(e->arena, const char *, group->list.n + 1);
			for (u32 k = 0; k < group->list.n; k++)
				all[k] = group->list.v[k].name;
			const char *near = name ? nearest(name, all, group->list.n) : NULL;
			fail(e, E0410, s->loc, "the config has no '%s'%s%s%s", name ? name : "?", near ? "; did you mean '" : "",
			     near ? near : "", near ? "'?" : "");
		}
	return group;
}

static void read_config(Elaborator *e)
{
	const Decl *preset = NULL;
	VEC(const char *) names = { 0 };
	for (u32 f = 0; f < e->file.n; f++)
		for (u32 i = 0; i < e->file.v[f]->ndecl; i++) {
			const Decl *d = e->file.v[f]->decl[i];
			if (d->kind != DECL_PRESET)
				continue;
			VEC_PUSH(e->arena, &names, d->name.text);
			if (e->options->preset && !strcmp(d->name.text, e->options->preset))
				preset = d;
		}
	if (e->options->preset && !preset) {
		const char *near = nearest(e->options->preset, names.v, names.n);
		Buf all = { .arena = e->arena };
		for (u32 i = 0; i < names.n; i++)
			buf_printf(&all, "%s%s", i ? ", " : "", names.v[i]);
		fail(e, E0411, (Loc){ 0 }, "there is no preset '%s'%s%s%s; there are: %s", e->options->preset,
		     near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "", all.n ? all.text : "none");
	}
	for (u32 f = 0; f < e->file.n; f++)
		for (u32 i = 0; i < e->file.v[f]->ndecl; i++) {
			const Decl *d = e->file.v[f]->decl[i];
			if (d->kind == DECL_CONFIG)
				config_group(e, &d->body, preset ? &preset->body : NULL, "");
		}
}

static void unused_sets(Elaborator *e)
{
	for (u32 i = 0; i < e->override.n; i++) {
		const char *key = (const char *)(uintptr_t)e->override.entry[i].key;
		if (map_get(&e->override_used, MAP_KEY(key)))
			continue;
		const char **all = NEWN(e->arena, const char *, e->config.n + e->model->setting.n + 1);
		u32 n = 0;
		for (u32 k = 0; k < e->config.n; k++)
			all[n++] = (const char *)(uintptr_t)e->config.entry[k].key;
		for (u32 k = 0; k < e->model->setting.n; k++)
			all[n++] = e->model->setting.v[k].key;
		const char *near = nearest(key, all, n);
		fail(e, E0410, (Loc){ 0 }, "--set %s: the file has no such value%s%s%s", key, near ? "; did you mean '" : "",
		     near ? near : "", near ? "'?" : "");
	}
}

/* ---- adapt ---- */

static void recipe_adapt(Elaborator *e, const Decl *d)
{
	frame_push(e, d, "", (Loc){ 0 });
	for (u32 i = 0; i < d->body.n; i++) {
		const Stmt *s = d->body.v[i];
		const char *word = s->kind == STMT_DIRECTIVE ? s->directive.word.text : "";
		if (s->kind == STMT_ASSIGN)
			continue; /* save = trainable: for whoever writes checkpoints */
		if (!strcmp(word, "freeze")) {
			for (u32 k = 0; k < s->directive.operand.n; k++) {
				const char *p = want_text(e, expression(e, s->directive.operand.v[k]), s->loc, "a pattern");
				if (p)
					VEC_PUSH(e->arena, &e->freeze, p);
			}
			continue;
		}
		if (strcmp(word, "wrap") || s->directive.clause.n != 1 || strcmp(s->directive.clause.v[0].word.text, "with")) {
			fail(e, E0510, s->loc, "an adapt block has lines such as: freeze \"**\", wrap \"**.q_proj\" with Lora(rank = 8)");
			continue;
		}
		/* with Lora(rank = 8): a module that waits for its base and its input */
		const Expr *x = s->directive.clause.v[0].value;
		const Expr *callee = x->kind == EXPR_CALL ? x->call.callee : x;
		Datum *with = expression(e, callee);
		if (with->kind == DATUM_ERROR)
			continue;
		if (with->kind != DATUM_CALLABLE || !with->callable->decl || with->callable->decl->kind != DECL_MODULE) {
			fail(e, E0510, x->loc, "a module is expected after 'with', and this is %s", datum_show(e, with));
			continue;
		}
		for (u32 k = 0; x->kind == EXPR_CALL && k < x->call.argument.n; k++)
			VEC_PUSH(e->arena, &with->callable->given,
				 (Entry){ x->call.argument.v[k].name.text, expression(e, x->call.argument.v[k].value) });
		for (u32 k = 0; k < s->directive.operand.n; k++) {
			const char *p = want_text(e, expression(e, s->directive.operand.v[k]), s->loc, "a pattern");
			if (p)
				VEC_PUSH(e->arena, &e->wrap, (Wrap){ p, with, s->loc });
		}
	}
	frame_pop(e);
}

/* A recipe of the file itself stands for those of the same name in files that it uses. */
static bool overruled(const Elaborator *e, u32 file, const Decl *d)
{
	if (file == 0 || d->kind != DECL_RECIPE || !strcmp(d->word.text, "adapt"))
		return false;
	for (u32 i = 0; i < e->file.v[0]->ndecl; i++) {
		const Decl *own = e->file.v[0]->decl[i];
		if (own->kind == DECL_RECIPE && own->word.text == d->word.text)
			return true;
	}
	return false;
}

/* ---- the model ---- */

static const Decl *main_model(const Elaborator *e)
{
	for (u32 f = 0; f < e->file.n; f++)
		for (u32 i = 0; i < e->file.v[f]->ndecl; i++)
			if (e->file.v[f]->decl[i]->kind == DECL_MODEL)
				return e->file.v[f]->decl[i];
	return NULL;
}

/* Inputs of the entry forward from the model's signature; unknown dimensions become symbols. */
static void make_forward(Elaborator *e, const Decl *d)
{
	entry_begin(e, "forward");
	frame_push(e, NULL, "", (Loc){ 0 });
	EntryList argument = { 0 };
	bool good = true;
	for (u32 i = 0; i < d->signature.param.n; i++) {
		const Parameter *p = &d->signature.param.v[i];
		if (p->value)
			continue;
		if (!p->type || p->type->kind != TYPE_TENSOR) {
			fail(e, E0504, p->name.loc, "a model's argument is a tensor with dimensions, or has a default value");
			good = false;
			continue;
		}
		DType dtype = p->type->name ? (!strcmp(p->type->name, "bool") ? DT_b1 : dtype_named(str_of(p->type->name))) : DT_f32;
		if (dtype == DTYPES) {
			fail(e, E0309, p->type->loc, "'%s' is no element type", p->type->name);
			good = false;
			continue;
		}
		for (u32 k = 0; k < p->type->dim.n; k++) {
			const Expr *x = p->type->dim.v[k];
			if (x->kind == EXPR_NAME && !lookup(e, x->name))
				declare_symbol(e, x->name, x->loc);
		}
		Axis axis[MAX_RANK] = { { 0 } };
		const Type *t = resolve_type(e, p->type, axis);
		if (!t) {
			good = false;
			continue;
		}
		e->b.loc = p->name.loc;
		input_attr a = { .name = intern_z(&e->ir->names, p->name.text), .dtype = dtype, .shape = dims_of_type(&e->b, t) };
		Val v = build(&e->b, OP_input, NULL, 0, 0, &a);
		graph_set_axis(e->g, v, axis);
		VEC_PUSH(e->arena, &argument, (Entry){ p->name.text, datum_tensor(e, v, p->name.loc) });
	}
	Callable c = { .decl = d };
	Datum *r = good ? apply(e, &c, &argument, NULL, (Loc){ 0 }) : datum_error(e);
	if (r->kind == DATUM_TENSOR) {
		graph_result(e->g, "output", NONE, r->tensor);
	} else if (r->kind == DATUM_RECORD || r->kind == DATUM_LIST) {
		for (u32 i = 0; i < r->list.n; i++)
			if (r->list.v[i].value->kind == DATUM_TENSOR)
				graph_result(e->g, r->list.v[i].name ? r->list.v[i].name : arena_printf(e->arena, "output%u", i),
					     NONE, r->list.v[i].value->tensor);
	} else if (r->kind != DATUM_ERROR) {
		fail(e, E0309, d->loc, "a model gives tensors, and this gives %s", datum_show(e, r));
	}
	frame_pop(e);
	entry_end(e);
}

static void seed_result(Elaborator *e)
{
	const char *name = intern_z(&e->ir->names, "seed");
	u32 seed = program_find_buffer(e->program, name);
	if (seed == NONE)
		return;
	input_attr a = { .name = name, .dtype = DT_i64 };
	graph_result(e->init.g, "seed", seed, build(&e->init, OP_input, NULL, 0, 0, &a));
}

Model *elaborate(Arena *arena, Ir *ir, const Ast *ast, const ElaborateOptions *options)
{
	Elaborator *e = NEW(arena, Elaborator);
	*e = (Elaborator){ .arena = arena, .ir = ir, .diag = ir->diag, .names = &ir->names, .options = options };
	e->symbol.arena = e->decl.arena = e->used.arena = e->config.arena = e->config_used.arena = arena;
	e->model = NEW(arena, Model);
	e->model->accumulate = 1;
	e->model->precision = "f32";
	e->model->name = "";
	add_file(e, ast);
	const Decl *model = main_model(e);
	e->model->name = model ? model->name.text : "";
	e->program = e->model->program = program_new(arena, ir, *e->model->name ? e->model->name : "program");
	e->init = builder_new(program_entry(e->program, "init"));
	frame_push(e, NULL, intern_z(&ir->names, ""), (Loc){ 0 });
	read_sets(e);
	read_config(e);
	for (u32 f = 0; f < e->file.n; f++)
		for (u32 i = 0; i < e->file.v[f]->ndecl; i++) {
			const Decl *d = e->file.v[f]->decl[i];
			if (d->kind == DECL_RECIPE && !strcmp(d->word.text, "adapt"))
				recipe_adapt(e, d);
		}
	if (model)
		make_forward(e, model);
	else if (e->file.v[0]->ndecl && !e->diag->nerror)
		diag_warning(e->diag, W0003, (Loc){ 0 }, "the file declares no model: its modules are read, and not applied");
	static const struct {
		const char *word;
		void (*read)(Elaborator *e, const Decl *d);
	} recipes[] = { { "train", recipe_train }, { "weights", recipe_weights }, { "data", recipe_data }, { "shard", recipe_shard } };
	static const char *const others[] = { "adapt", "sample", "generate", "eval", "export" };
	for (u32 f = 0; f < e->file.n; f++)
		for (u32 i = 0; i < e->file.v[f]->ndecl; i++) {
			const Decl *d = e->file.v[f]->decl[i];
			bool known = d->kind != DECL_RECIPE || overruled(e, f, d);
			for (u32 k = 0; !known && k < COUNT(others); k++)
				known = !strcmp(others[k], d->word.text);
			for (u32 k = 0; !known && k < COUNT(recipes); k++)
				if (!strcmp(recipes[k].word, d->word.text)) {
					known = true;
					/* recipes speak of the model: one whose model has errors waits */
					if (k > 0 || !e->diag->nerror || !model)
						recipes[k].read(e, d);
				}
			if (!known) {
				const char *const all[] = { "train", "weights", "data", "shard", "adapt", "sample", "generate", "eval", "export" };
				const char *near = nearest(d->word.text, all, COUNT(all));
				fail(e, E0511, d->word.loc, "there is no block '%s'%s%s%s", d->word.text, near ? "; did you mean '" : "",
				     near ? near : "", near ? "'?" : "");
			}
		}
	seed_result(e);
	unused_sets(e);
	frame_pop(e);
	builder_done(&e->init);
	return e->diag->nerror ? NULL : e->model;
}
