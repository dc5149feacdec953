/* frontend/config.c: the config's values: what the file gives, what a preset and the command line put in their place. */
#include "frontend/elaborator.h"

#include <string.h>
#include <strings.h>

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

/* What a block of a config or preset has under this name. */
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

/* `now` in the place of `d`, which the config says; NULL and an error where it is of another kind. */
static Datum *replacement(Elaborator *e, const Datum *d, Datum *now, const char *name, Loc loc, Loc config)
{
	if (d->kind == DATUM_LIST && d->list.n && now->kind != DATUM_LIST && now->kind == d->list.v[0].value->kind) {
		Datum *all = datum_new(e, DATUM_LIST, now->loc); /* one value for all of the list */
		for (u32 i = 0; i < d->list.n; i++)
			VEC_PUSH(e->arena, &all->list, ENTRY(NULL, now, now->loc));
		now = all;
	}
	bool same = now->kind == d->kind || d->kind == DATUM_NONE || now->kind == DATUM_NONE || d->kind == DATUM_ERROR;
	bool whole = d->kind == DATUM_NUMBER && d->number.is_integer;
	if (now->kind == DATUM_ERROR)
		return NULL;
	if (!same || (whole && now->kind == DATUM_NUMBER && !now->number.is_integer)) {
		fail(e, E0408, loc, "'%s' is %s in the config, and here it becomes %s", name, whole ? "a whole number" : kind_name(d),
		     datum_show(e, now));
		diag_note(e->diag, config, "the config says so here");
		return NULL;
	}
	/* width / heads that is not whole, and given in its place: that is whole */
	if (d->kind == DATUM_NUMBER && !whole && !d->number.division && now->kind == DATUM_NUMBER && now->number.is_integer)
		return datum_number(e, now->number.value, now->loc);
	return now;
}

static bool is_entry(const Stmt *s)
{
	return s->kind == STMT_ASSIGN && s->assign.target.n == 1 && s->assign.target.v[0]->kind == EXPR_NAME;
}

static bool is_group(const Stmt *s)
{
	return s->kind == STMT_DIRECTIVE && s->directive.has_body;
}

/* `from "key"`, or several names of it: from ["key", "newer.key"]. */
static void hugging_face_keys(Elaborator *e, const Stmt *s, ConfigValue *out)
{
	for (u32 i = 0; i < s->assign.clause.n; i++) {
		const Clause *c = &s->assign.clause.v[i];
		if (strcmp(c->word.text, "from")) {
			fail(e, E0409, c->word.loc, "after a config value may stand from \"key\", which names the key of a Hugging Face "
						    "config that sets it");
			continue;
		}
		const Datum *d = expression(e, c->value);
		u32 n = d->kind == DATUM_LIST ? d->list.n : 1;
		const char **key = NEWN(e->arena, const char *, n + 1);
		for (u32 k = 0; k < n; k++)
			key[k] = want_text(e, d->kind == DATUM_LIST ? d->list.v[k].value : d, c->value->loc, "the key of a config");
		out->key = key[0];
		out->also = n > 1 ? key + 1 : NULL;
	}
}

static Datum *config_group(Elaborator *e, const Block *body, const Block *preset, const char *prefix, Datum *group);

static Datum *config_value(Elaborator *e, const Stmt *s, const Block *preset, const char *prefix)
{
	if (is_group(s)) {
		const Stmt *p = preset ? config_entry(preset, s->directive.word.text) : NULL;
		Datum *group = datum_new(e, DATUM_RECORD, s->loc);
		frame_push(e, NULL, "", (Loc){ 0 }); /* entries of a group see those before them by name */
		config_group(e, &s->directive.body, p && is_group(p) ? &p->directive.body : NULL,
			     arena_printf(e->arena, "%s%s.", prefix, s->directive.word.text), group);
		frame_pop(e);
		return group;
	}
	const char *name = s->assign.target.v[0]->name;
	Datum *d = expression(e, s->assign.value);
	if (d->kind == DATUM_TENSOR || d->kind == DATUM_CALLABLE || d->kind == DATUM_DIM)
		d = fail(e, E0409, s->assign.value->loc, "a config value is a number, text, truth value, element type, list or none, "
							 "and this is %s", datum_show(e, d));
	const Stmt *p = preset ? config_entry(preset, name) : NULL;
	const char *key = intern_printf(e->names, "%s%s", prefix, name);
	u64 *set = map_get(&e->override, MAP_KEY(key));
	if (set)
		map_put(&e->override_used, MAP_KEY(key), 1);
	const Expr *other = set ? (const Expr *)(uintptr_t)*set : p && is_entry(p) ? p->assign.value : NULL;
	if (other) {
		Datum *now = replacement(e, d, expression(e, other), name, other->loc, s->loc);
		d = now ? now : d;
	}
	Datum *own = NEW(e->arena, Datum); /* its axis is its own, whatever it was computed from */
	*own = *d;
	own->axis = (Axis){ 0 };
	ConfigValue value = { .path = key, .text = intern_z(e->names, datum_source(e, own)), .loc = s->loc };
	hugging_face_keys(e, s, &value);
	VEC_PUSH(e->arena, &e->model->config, value);
	return own;
}

static Datum *config_group(Elaborator *e, const Block *body, const Block *preset, const char *prefix, Datum *group)
{
	for (u32 i = 0; i < body->n; i++) {
		const Stmt *s = body->v[i];
		if (!is_entry(s) && !is_group(s)) {
			fail(e, E0409, s->loc, "a config has entries, name = value, and groups, name { ... }");
			continue;
		}
		const char *name = is_entry(s) ? s->assign.target.v[0]->name : s->directive.word.text;
		Loc loc = is_entry(s) ? s->assign.target.v[0]->loc : s->loc;
		const Entry *before = NULL;
		for (u32 k = 0; k < group->list.n; k++)
			if (group->list.v[k].name == name)
				before = &group->list.v[k];
		if (before && before->name_loc.file == loc.file) {
			fail(e, E0202, loc, "'%s' is in the config twice", name);
			diag_note(e->diag, before->name_loc, "it was given here");
		}
		if (before) /* a file's own value stands for that of a file it uses */
			continue;
		Datum *d = config_value(e, s, preset, prefix);
		VEC_PUSH(e->arena, &group->list, ENTRY(name, d, loc));
		if (*prefix) {
			set_variable(e, name, d);
		} else {
			map_put(&e->config, MAP_KEY(name), MAP_KEY(d));
			map_put(&e->config_place, MAP_KEY(name), pack_loc(loc));
		}
	}
	return group;
}

/* Every preset, chosen or not, gives values that the config has, of their kinds. */
static void check_preset(Elaborator *e, const Block *preset, const Datum *group)
{
	for (u32 i = 0; i < preset->n; i++) {
		const Stmt *s = preset->v[i];
		if (!is_entry(s) && !is_group(s)) {
			fail(e, E0409, s->loc, "a preset has entries, name = value, and groups, name { ... }");
			continue;
		}
		const char *name = is_entry(s) ? s->assign.target.v[0]->name : s->directive.word.text;
		const Entry *found = NULL;
		const char **all = NEWN(e->arena, const char *, group->list.n + 1);
		for (u32 k = 0; k < group->list.n; k++) {
			all[k] = group->list.v[k].name;
			if (all[k] == name)
				found = &group->list.v[k];
		}
		if (!found) {
			const char *near = nearest_name(name, all, group->list.n);
			fail(e, E0410, is_entry(s) ? s->assign.target.v[0]->loc : s->loc, "the config has no '%s'%s", name,
			     did_you_mean(e, near));
			for (u32 k = 0; near && k < group->list.n; k++)
				if (all[k] == near)
					diag_note(e->diag, group->list.v[k].name_loc, "'%s' is declared here", near);
		} else if (is_group(s) != (found->value->kind == DATUM_RECORD) && found->value->kind != DATUM_ERROR) {
			fail(e, E0408, s->loc, "'%s' is %s in the config", name, is_group(s) ? "one value" : "a group");
			diag_note(e->diag, found->name_loc, "the config says so here");
		} else if (is_group(s)) {
			frame_push(e, NULL, "", (Loc){ 0 });
			for (u32 k = 0; k < found->value->list.n; k++)
				set_variable(e, found->value->list.v[k].name, found->value->list.v[k].value);
			check_preset(e, &s->directive.body, found->value);
			frame_pop(e);
		} else {
			replacement(e, found->value, expression(e, s->assign.value), name, s->assign.value->loc, found->name_loc);
		}
	}
}

void read_config(Elaborator *e)
{
	const Decl *preset = NULL;
	VEC(const Decl *) presets = { 0 };
	for (u32 f = 0; f < e->file.n; f++)
		for (u32 i = 0; i < e->file.v[f]->ndecl; i++) {
			const Decl *d = e->file.v[f]->decl[i];
			if (d->kind != DECL_PRESET)
				continue;
			for (u32 k = 0; k < presets.n; k++)
				if (presets.v[k]->name.text == d->name.text && presets.v[k]->loc.file == d->loc.file) {
					fail(e, E0202, d->loc, "there are two presets '%s'", d->name.text);
					diag_note(e->diag, presets.v[k]->loc, "it was declared here");
				}
			VEC_PUSH(e->arena, &presets, d);
			if (!preset && e->options->preset && !strcmp(d->name.text, e->options->preset))
				preset = d;
		}
	/* "405b" is llama31_405b where no other ends so */
	Buf several = { .arena = e->arena };
	const Decl *only = NULL;
	for (u32 i = 0; i < presets.n && e->options->preset && !preset; i++) {
		Str name = str_of(presets.v[i]->name.text), end = str_of(arena_printf(e->arena, "_%s", e->options->preset));
		if (name.n <= end.n || strncasecmp(name.s + name.n - end.n, end.s, end.n))
			continue;
		only = several.n ? NULL : presets.v[i];
		buf_printf(&several, "%s%.*s", several.n ? ", " : "", STR_ARG(name));
	}
	preset = preset ? preset : only;
	if (several.n && !preset) {
		fail(e, E0411, (Loc){ 0 }, "there are several presets whose names end with '%s': %s", e->options->preset, several.text);
	} else if (e->options->preset && !preset) {
		const char **names = NEWN(e->arena, const char *, presets.n + 1);
		Buf all = { .arena = e->arena };
		for (u32 i = 0; i < presets.n; i++) {
			names[i] = presets.v[i]->name.text;
			buf_printf(&all, "%s%s", i ? ", " : "", names[i]);
		}
		const char *near = nearest_name(e->options->preset, names, presets.n);
		fail(e, E0411, (Loc){ 0 }, "there is no preset '%s'%s%s", e->options->preset, did_you_mean(e, near),
		     arena_printf(e->arena, "%s the file has %s", near ? "" : ";", all.n ? all.text : "none"));
	}
	Datum *config = datum_new(e, DATUM_RECORD, (Loc){ 0 });
	for (u32 f = 0; f < e->file.n; f++)
		for (u32 i = 0; i < e->file.v[f]->ndecl; i++) {
			const Decl *d = e->file.v[f]->decl[i];
			if (d->kind == DECL_CONFIG)
				config_group(e, &d->body, preset ? &preset->body : NULL, "", config);
		}
	for (u32 i = 0; i < presets.n; i++)
		check_preset(e, &presets.v[i]->body, config);
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
		const char *near = nearest_name(key, all, n);
		fail(e, E0410, (Loc){ 0 }, "--set %s: the file has no such value%s", key, did_you_mean(e, near));
	}
}
