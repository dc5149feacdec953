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
	if (e->sampling && !e->seed.i) {
		input_attr a = { .name = intern_z(&e->ir->names, "seed"), .dtype = DT_i64 };
		e->seed = build(&e->b, OP_input, NULL, 0, 0, &a);
		a.name = intern_z(&e->ir->names, "step");
		e->count = build(&e->b, OP_input, NULL, 0, 0, &a);
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
		for (const Embedded *f = std_files; f->name && n < COUNT(all); f++) {
			all[n++] = f->name;
			if (strcmp(f->name, name + 4))
				continue;
			found = true;
			text = (Str){ f->text, f->n };
			path = arena_printf(e->arena, "std/%s.plinth", f->name);
		}
		if (!found) {
			const char *near = nearest_name(name + 4, all, n);
			e->file_missing = true;
			fail(e, E0211, d->loc, "the standard library has no part '%s'%s%s%s", name, near ? "; did you mean 'std." : "",
			     near ? near : "", near ? "'?" : "");
			return;
		}
	} else if (e->options->find) {
		found = e->options->find(e->options->find_cx, e->arena, name, &path, &text);
	}
	if (!found) {
		e->file_missing = true;
		fail(e, E0211, d->loc, "there is no '%s' to use: neither in the standard library nor as a file beside this one",
		     name);
		return;
	}
	u32 errors = e->diag->nerror;
	const Ast *ast = parse_source(e->arena, e->names, e->diag, path, text);
	e->file_missing |= e->diag->nerror > errors;
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
		return; /* a file stands before those that it uses, and they come after it */
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

/* A recipe of a file stands for those of the same name in files that it uses, which come after it. */
static bool overruled(const Elaborator *e, u32 file, const Decl *d)
{
	if (d->kind != DECL_RECIPE || !strcmp(d->word.text, "adapt"))
		return false;
	for (u32 f = 0; f < file; f++)
		for (u32 i = 0; i < e->file.v[f]->ndecl; i++) {
			const Decl *other = e->file.v[f]->decl[i];
			if (other->kind == DECL_RECIPE && other->word.text == d->word.text)
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
		DType dtype = p->type->name ? element_type(e, p->type) : DT_f32;
		if (dtype == DTYPES) {
			good = false;
			continue;
		}
		declare_symbols(e, p->type);
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
		VEC_PUSH(e->arena, &argument, ENTRY(p->name.text, datum_tensor(e, v, p->name.loc), p->name.loc));
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

/* A file about a machine needs no model. */
static bool has_machine(const Ast *file)
{
	for (u32 i = 0; i < file->ndecl; i++)
		if (file->decl[i]->kind == DECL_RECIPE && !strcmp(file->decl[i]->word.text, "machine"))
			return true;
	return false;
}

Model *elaborate(Arena *arena, Ir *ir, const Ast *ast, const ElaborateOptions *options)
{
	Elaborator *e = NEW(arena, Elaborator);
	*e = (Elaborator){ .arena = arena, .ir = ir, .diag = ir->diag, .names = &ir->names, .options = options };
	e->symbol.arena = e->decl.arena = e->used.arena = e->config.arena = e->config_used.arena = arena;
	e->config_place.arena = e->decl_used.arena = arena;
	e->model = NEW(arena, Model);
	e->model->accumulate = 1;
	e->model->precision = "f32";
	e->model->name = "";
	add_file(e, ast);
	if (e->file_missing) /* what a file that is used would have said is missing: the rest follows from that */
		return NULL;
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
	u32 errors = e->diag->nerror;
	if (model)
		make_forward(e, model);
	else if (e->file.v[0]->ndecl && !e->diag->nerror && !has_machine(e->file.v[0]))
		diag_warning(e->diag, W0003, (Loc){ 0 }, "the file declares no model: its modules are read, and not applied");
	e->incomplete = e->diag->nerror > errors;
	static const struct {
		const char *word;
		void (*read)(Elaborator *e, const Decl *d);
	} recipes[] = { { "train", recipe_train },   { "eval", recipe_eval },   { "sample", recipe_sample },
			{ "weights", recipe_weights }, { "data", recipe_data }, { "shard", recipe_shard },
			{ "generate", recipe_settings }, { "export", recipe_settings }, { "published", recipe_published }, { "machine", recipe_machine } };
	enum { BUILDS = 3 }; /* the first ones speak of the model: one whose model has errors waits */
	for (u32 i = 0; i < e->file.v[0]->ndecl; i++)
		e->own_eval |= e->file.v[0]->decl[i]->kind == DECL_RECIPE && !strcmp(e->file.v[0]->decl[i]->word.text, "eval") &&
			       !e->file.v[0]->decl[i]->label;
	for (u32 f = 0; f < e->file.n; f++)
		for (u32 i = 0; i < e->file.v[f]->ndecl; i++) {
			const Decl *d = e->file.v[f]->decl[i];
			bool known = d->kind != DECL_RECIPE || overruled(e, f, d);
			known |= d->kind == DECL_RECIPE && !strcmp(d->word.text, "adapt");
			for (u32 k = 0; !known && k < COUNT(recipes); k++)
				if (!strcmp(recipes[k].word, d->word.text)) {
					known = true;
					if (d->label && strcmp(d->word.text, "eval"))
						fail(e, E0511, d->label->loc, "a block '%s' has no name; adapt and eval have", d->word.text);
					if (k >= BUILDS || !e->diag->nerror || !model)
						recipes[k].read(e, d);
				}
			if (!known) {
				const char *const all[] = { "train", "weights", "data", "shard", "adapt", "sample", "generate", "eval", "export", "published", "machine" };
				const char *near = nearest_name(d->word.text, all, COUNT(all));
				fail(e, E0511, d->word.loc, "there is no block '%s'%s", d->word.text, did_you_mean(e, near));
			}
		}
	seed_result(e);
	unused_sets(e);
	if (!e->diag->nerror)
		unused_rules(e);
	frame_pop(e);
	builder_done(&e->init);
	return e->diag->nerror ? NULL : e->model;
}
