/* tools/run_folder.c: see run_folder.h. */
#include "tools/run_folder.h"
#include "runtime/checkpoint/state.h"
#include "runtime/checkpoint/weights.h"
#include "support/io.h"

#include <jansson.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool is_folder(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

const char *run_folder_around(Arena *a, const char *folder)
{
	const char *slash = strrchr(folder, '/'), *name = slash ? slash + 1 : folder;
	if (!io_exists(arena_printf(a, "%s/" CHECKPOINT_STATE, folder)))
		return folder;
	if (!strcmp(name, ".") || !strcmp(name, "..")) /* whose folder stands in no name */
		return arena_printf(a, "%s/..", folder);
	return dirname((char *)(uintptr_t)arena_printf(a, "%s", folder));
}

static const char *text_of(Arena *a, const json_t *root, const char *key)
{
	const char *s = json_string_value(json_object_get(root, key));
	return s ? arena_strn(a, str_of(s)) : NULL;
}

static Status read_settings(Arena *a, ModelOperand *out)
{
	const char *path = arena_printf(a, "%s/" RUN_SETTINGS, out->run);
	bool published = io_exists(arena_printf(a, "%s/config.json", out->run));
	if (!io_exists(path) && published)
		return FAIL(STATUS_INPUT, "%s is a published model's folder: a source computes it, such as models/llama.plinth, with --hf-config %s --weights %s",
			    out->run, out->run, out->run);
	if (!io_exists(path))
		return FAIL(STATUS_INPUT, "%s is a folder, but not that of a run: there is no " RUN_SETTINGS " in it", out->run);
	Str text;
	TRY(io_read(a, path, &text));
	json_error_t e;
	json_t *root = json_loadb(text.s, text.n, 0, &e);
	const json_t *set = json_object_get(root, "set"), *value;
	size_t i;
	if (!json_is_array(set)) {
		json_decref(root);
		return FAIL(STATUS_INPUT, "%s is damaged%s%s", path, root ? "" : ": ", root ? "" : e.text);
	}
	out->options.preset = text_of(a, root, "preset");
	out->data = text_of(a, root, "data");
	out->weights = text_of(a, root, "weights");
	out->options.set.v = NEWN(a, const char *, json_array_size(set) + 1);
	json_array_foreach(set, i, value) {
		const char *s = json_string_value(value);
		if (s)
			out->options.set.v[out->options.set.n++] = arena_strn(a, str_of(s));
	}
	json_decref(root);
	return OK;
}

/* Do two settings, KEY=VALUE, give the same key a value? */
static bool same_value(const char *a, const char *b)
{
	size_t n = strcspn(a, "=");
	return n == strcspn(b, "=") && !strncmp(a, b, n);
}

Status model_operand(Arena *a, const char *operand, const SourceOptions *given, ModelOperand *out)
{
	*out = (ModelOperand){ .source = operand };
	if (is_folder(operand)) {
		size_t n = strlen(operand);
		while (n > 1 && operand[n - 1] == '/')
			n--;
		out->checkpoint = out->run = arena_strn(a, (Str){ operand, n });
		out->run = run_folder_around(a, out->run);
		TRY(read_settings(a, out));
		out->source = arena_printf(a, "%s/" RUN_MODEL, out->run);
	}
	if (given->preset)
		out->options.preset = given->preset;
	SourceOptions more = { .preset = out->options.preset, .config = given->config, .set = given->set };
	TRY(source_config(a, out->source, &more)); /* recorded as the settings that it comes to */
	given = &more;
	/* of two settings of one value, the later one holds: the earlier one is not recorded again */
	int recorded = out->options.set.n, n = 0;
	const char **set = NEWN(a, const char *, recorded + given->set.n + 1);
	for (int i = 0; i < recorded + given->set.n; i++) {
		const char *one = i < recorded ? out->options.set.v[i] : given->set.v[i - recorded];
		bool later = false;
		for (int k = MAX(i + 1, recorded); k < recorded + given->set.n && !later; k++)
			later = same_value(one, given->set.v[k - recorded]);
		if (!later)
			set[n++] = one;
	}
	out->options.set = (TextList){ .v = set, .n = n };
	return OK;
}

static Blob bytes(Str s)
{
	return (Blob){ (const u8 *)s.s, s.n };
}

static Status write_uses(Arena *a, const char *folder, const SourceFile *source)
{
	for (u32 i = 0; i < source->use.n; i++) {
		const SourceUse *u = &source->use.v[i];
		const char *path = arena_printf(a, "%s/%s", folder, u->name);
		char *copy = (char *)(uintptr_t)arena_printf(a, "%s", path);
		TRY(io_make_folder(dirname(copy)));
		TRY(io_write(path, bytes(u->text)));
	}
	return OK;
}

/* As `prefix` is found from anywhere: its folder may be named relative to where this process is. */
static const char *absolute(Arena *a, const char *prefix)
{
	char *one = (char *)(uintptr_t)arena_printf(a, "%s", prefix), *two = (char *)(uintptr_t)arena_printf(a, "%s", prefix);
	char *folder = realpath(dirname(one), NULL);
	const char *path = folder ? arena_printf(a, "%s/%s", folder, basename(two)) : prefix;
	free(folder);
	return path;
}

static const char *absolute_weights(Arena *a, const char *list)
{
	u32 n;
	const char *const *path = weights_paths(a, list, &n);
	Buf all = { .arena = a };
	for (u32 i = 0; i < n; i++)
		buf_printf(&all, "%s%s", i ? "," : "", absolute(a, path[i]));
	return all.text;
}

static Status write_settings(Arena *a, const char *folder, const ModelOperand *model)
{
	json_t *set = json_array();
	for (int i = 0; i < model->options.set.n; i++)
		json_array_append_new(set, json_string(model->options.set.v[i]));
	json_t *root = json_pack("{s:s, s:s, s:s*, s:s*, s:s*, s:o}", "version", PLINTH_VERSION, "source", model->source, "preset",
				 model->options.preset, "data", model->data ? absolute(a, model->data) : NULL, "weights",
				 model->weights ? absolute_weights(a, model->weights) : NULL, "set", set);
	char *text = json_dumps(root, JSON_INDENT(1));
	json_decref(root);
	if (!text)
		return FAIL(STATUS_INPUT, "a setting or a path is not UTF-8: it cannot be recorded in %s/" RUN_SETTINGS, folder);
	Status s = io_write(arena_printf(a, "%s/" RUN_SETTINGS, folder), bytes(str_of(text)));
	free(text);
	return s;
}

static Status write_all(Arena *a, const char *folder, const SourceFile *source, const ModelOperand *model,
			const char *tokenizer)
{
	Str text;
	TRY(io_make_folder(folder));
	TRY(io_write(arena_printf(a, "%s/" RUN_MODEL, folder), bytes(source->text)));
	TRY(write_uses(a, folder, source));
	if (tokenizer) {
		TRY(io_read(a, tokenizer, &text));
		TRY(io_write(arena_printf(a, "%s/" RUN_TOKENIZER, folder), bytes(text)));
	}
	return write_settings(a, folder, model);
}

Status run_folder_write(const char *folder, const SourceFile *source, const ModelOperand *model, const char *tokenizer)
{
	Arena tmp = ARENA("run_folder_write");
	Status s = write_all(&tmp, folder, source, model, tokenizer);
	arena_free(&tmp);
	return s;
}
