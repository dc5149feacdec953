/* frontend/config.c: the config's values: what the file gives, what a preset and the command line put in their place. */
#include "frontend/elaborator.h"

#include <string.h>

/* `--set key=value`: the value as an expression. */
void read_sets(Elaborator *e)
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
		VEC_PUSH(e->arena, &group->list, ENTRY(name, d, s->loc));
		if (!*prefix) {
			map_put(&e->config, MAP_KEY(name), MAP_KEY(d));
			map_put(&e->config_place, MAP_KEY(name), pack_loc(entry ? s->assign.target.v[0]->loc : s->loc));
		}
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

void read_config(Elaborator *e)
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

void unused_sets(Elaborator *e)
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
