/* tools/source.c: see source.h. `use name` looks for name.plinth, a.b for a/b.plinth. */
#include "tools/source.h"
#include "support/io.h"
#include "tools/packaged.h"

#include <jansson.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>

typedef struct Finder {
	const char *folder;
	SourceFile *source;
} Finder;

static bool find(void *cx, Arena *arena, const char *name, const char **path, Str *text)
{
	const Finder *f = cx;
	char *file = (char *)(uintptr_t)arena_printf(arena, "%s.plinth", name);
	for (char *p = file; p + strlen(".plinth") < file + strlen(file); p++)
		if (*p == '.')
			*p = '/';
	/* beside the file that the command names, where the command is run, in each folder of PLINTH_PATH */
	const char *more = getenv("PLINTH_PATH");
	const char *folders = arena_printf(arena, "%s:.%s%s", f->folder, more && *more ? ":" : "", more ? more : "");
	for (const char *at = folders; at; at = strchr(at, ':')) {
		at += *at == ':';
		*path = arena_printf(arena, "%.*s/%s", (int)strcspn(at, ":"), at, file);
		if (!io_exists(*path) || io_read(arena, *path, text))
			continue;
		VEC_PUSH(arena, &f->source->use, (SourceUse){ file, *text });
		return true;
	}
	return false;
}

static void elaborate_text(const char *path, const SourceOptions *options, SourceFile *out)
{
	out->ir = ir_new(&out->arena, &out->diag);
	out->preset = options->preset ? arena_printf(&out->arena, "%s", options->preset) : NULL;
	for (int i = 0; i < options->set.n; i++)
		VEC_PUSH(&out->arena, &out->set, arena_printf(&out->arena, "%s", options->set.v[i]));
	const Ast *ast = parse_source(&out->arena, &out->ir->names, &out->diag, path, out->text);
	if (!ast || out->diag.nerror)
		return;
	char *copy = (char *)(uintptr_t)arena_printf(&out->arena, "%s", path);
	Finder finder = { dirname(copy), out };
	ElaborateOptions o = { .preset = options->preset, .set = options->set.v, .nset = (u32)options->set.n,
			       .find = find, .find_cx = &finder };
	out->model = elaborate(&out->arena, out->ir, ast, &o);
}

static void empty(SourceFile *out)
{
	*out = (SourceFile){ .arena = ARENA("program") };
	out->diag.arena = &out->arena;
}

Status source_uncompiled(const char *path)
{
	return packaged(path) ? FAIL(STATUS_INPUT, "%s is compiled already: this takes the source that it was made of", path) : OK;
}

static Status open_file(const char *path, const SourceOptions *options, SourceFile *out)
{
	empty(out);
	TRY(source_uncompiled(path));
	TRY(io_read(&out->arena, path, &out->text));
	elaborate_text(path, options, out);
	return OK;
}

/* ---- published configs ---- */

/* A value of JSON as the language writes it; NULL where it has no such value, or says null. An object is a value of
 * nothing but of how many entries it has: "id2label", of classes. */
static const char *as_written(Arena *a, const json_t *v)
{
	switch (json_typeof(v)) {
	case JSON_INTEGER: return arena_printf(a, "%lld", (long long)json_integer_value(v));
	case JSON_REAL: {
		const char *text = arena_printf(a, "%.17g", json_real_value(v));
		return strpbrk(text, ".en") ? text : arena_printf(a, "%s.0", text);
	}
	case JSON_TRUE: return "true";
	case JSON_FALSE: return "false";
	case JSON_STRING: {
		const char *text = json_string_value(v);
		return strpbrk(text, "\"\\\n{}") ? NULL : arena_printf(a, "\"%s\"", text);
	}
	case JSON_ARRAY: {
		Buf b = { .arena = a };
		for (size_t i = 0; i < json_array_size(v); i++) {
			const char *one = as_written(a, json_array_get(v, i));
			if (!one)
				return NULL;
			buf_printf(&b, "%s%s", i ? ", " : "[", one);
		}
		return b.n ? arena_printf(a, "%s]", b.text) : "[]";
	}
	case JSON_OBJECT: return arena_printf(a, "%zu", json_object_size(v));
	default: return NULL;
	}
}

/* "rope_scaling.factor" is an entry of an object. */
const json_t *source_config_entry(Arena *a, const json_t *root, const char *key)
{
	const char *dot = strchr(key, '.');
	if (!dot)
		return json_object_get(root, key);
	return source_config_entry(a, json_object_get(root, arena_printf(a, "%.*s", (int)(dot - key), key)), dot + 1);
}

static const char *written_at(Arena *a, const json_t *root, const char *key)
{
	const json_t *given = source_config_entry(a, root, key);
	return given ? as_written(a, given) : NULL;
}

Status source_read_config(Arena *arena, const char *path, json_t **out)
{
	Str text;
	json_error_t e;
	const char *inside = arena_printf(arena, "%s/config.json", path); /* of a folder as published models are */
	path = io_exists(inside) ? inside : path;
	TRY(io_read(arena, path, &text));
	*out = json_loadb(text.s, text.n, 0, &e);
	if (*out && json_is_object(*out))
		return OK;
	const char *why = *out ? "it is not an object" : e.text;
	json_decref(*out);
	*out = NULL;
	return FAIL(STATUS_INPUT, "%s is no config: %s", path, why);
}

Status source_config(Arena *arena, const char *path, SourceOptions *options)
{
	SourceFile f;
	json_t *root = NULL;
	const char *config = options->config;
	if (!config)
		return OK;
	options->config = NULL;
	/* which keys there are does not depend on the values */
	SourceOptions plain = { .preset = options->preset };
	TRY(open_file(path, &plain, &f));
	Status s = source_read_config(arena, config, &root);
	u32 most = f.model ? f.model->config.n : 0, n = 0;
	const char **set = NEWN(arena, const char *, most + (u32)options->set.n + 1);
	for (u32 i = 0; i < most && !s; i++) {
		const ConfigValue *v = &f.model->config.v[i];
		const char *text = v->key ? written_at(arena, root, v->key) : NULL;
		for (u32 k = 0; !text && v->also && v->also[k]; k++)
			text = written_at(arena, root, v->also[k]);
		if (text)
			set[n++] = arena_printf(arena, "%s=%s", v->path, text);
	}
	if (!s && f.model && !n)
		s = FAIL(STATUS_INPUT, "%s has none of the keys that %s names: its config says which, width = 768 from \"n_embd\"", config, path);
	for (int i = 0; i < options->set.n; i++)
		set[n++] = options->set.v[i];
	options->set.v = set;
	options->set.n = (int)n;
	json_decref(root);
	source_close(&f);
	return s;
}

Status source_open(const char *path, const SourceOptions *options, SourceFile *out)
{
	SourceOptions own = *options;
	Arena arena = ARENA("config"); /* of the settings' texts, until they are read */
	empty(out);
	Status s = source_config(&arena, path, &own);
	if (!s)
		s = open_file(path, &own, out);
	arena_free(&arena);
	return s;
}

Status source_of_text(const char *path, Str text, const SourceOptions *options, SourceFile *out)
{
	empty(out);
	out->text = text;
	elaborate_text(path, options, out);
	return OK;
}

void source_close(SourceFile *s)
{
	arena_free(&s->arena);
}

Status source_entries(Arena *arena, const Program *p, const char *const *name, u32 n)
{
	for (u32 i = 0; i < n; i++) {
		if (program_find_entry(p, str_of(name[i])))
			continue;
		Buf known = { .arena = arena };
		for (u32 k = 0; k < p->entry.n; k++)
			buf_printf(&known, "%s%s", k ? ", " : "", p->entry.v[k]->name);
		return FAIL(STATUS_INPUT, "--entry %s: the program has %s", name[i], known.n ? known.text : "none");
	}
	return OK;
}

const char *source_sizes(Arena *arena, const Model *m)
{
	Buf b = { .arena = arena };
	for (u32 i = 0; i < m->symbol.n; i++)
		buf_printf(&b, "%s%s=%lld", i ? "," : "", m->symbol.v[i], (long long)m->symbol_value.v[i]);
	return b.text ? b.text : "";
}

SourceOptions source_with(Arena *arena, const SourceOptions *options, const char *key, const char *value)
{
	SourceOptions o = *options;
	if (!value)
		return o;
	o.set.v = NEWN(arena, const char *, options->set.n + 1);
	o.set.v[0] = arena_printf(arena, "%s=%s", key, value);
	for (int i = 0; i < options->set.n; i++)
		o.set.v[i + 1] = options->set.v[i];
	o.set.n++;
	return o;
}
