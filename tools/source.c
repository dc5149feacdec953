/* tools/source.c: see source.h. `use name` looks for name.plinth, a.b for a/b.plinth. */
#include "tools/source.h"
#include "support/io.h"

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

Status source_open(const char *path, const SourceOptions *options, SourceFile *out)
{
	empty(out);
	TRY(io_read(&out->arena, path, &out->text));
	elaborate_text(path, options, out);
	return OK;
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

const char *source_sizes(Arena *arena, const Model *m)
{
	Buf b = { .arena = arena };
	for (u32 i = 0; i < m->symbol.n; i++)
		buf_printf(&b, "%s%s=%lld", i ? "," : "", m->symbol.v[i], (long long)m->symbol_value.v[i]);
	return b.text ? b.text : "";
}
