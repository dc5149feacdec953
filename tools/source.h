/* tools/source.h: a model file as every verb takes it: FILE, --preset, --hf-config, --set. Reads the file and those it
 * uses, elaborates, and keeps all of it together. */
#ifndef PL_SOURCE_H
#define PL_SOURCE_H
#include "frontend/elaborate.h"
#include "support/status.h"
#include "tools/options.h"

typedef struct SourceOptions {
	const char *preset;
	const char *config; /* a published config.json, whose keys the source's config names: width = 768 from "n_embd" */
	TextList set;
} SourceOptions;

/* Rows for a verb's option table; `o` is a SourceOptions. */
#define SOURCE_OPTIONS(o)                                                                              \
	{ "preset", 'p', OPTION_TEXT, &(o).preset, "NAME", "values of this preset of the file" },      \
	{ "hf-config", 0, OPTION_TEXT, &(o).config, "FILE", "a published config.json or its folder, for values such as width from \"n_embd\"" }, \
	{ "set", 's', OPTION_LIST, &(o).set, "KEY=VALUE", "one value of the config or a recipe" }

/* A file that the source uses, from beside it. */
typedef struct SourceUse {
	const char *name; /* relative to the source's folder: "parts/rope.plinth" */
	Str text;
} SourceUse;

typedef struct SourceFile {
	Arena arena;  /* of everything below */
	Diag diag;
	Ir *ir;
	Model *model; /* NULL after errors */
	Str text;     /* of the file itself */
	VEC(SourceUse) use;
	const char *preset; /* what it was read with; NULL: none */
	VEC(const char *) set; /* with what a published config said */
} SourceFile;

/* A failure is the world's; what is wrong with the file is in out->diag. */
PL_MUST_USE Status source_open(const char *path, const SourceOptions *options, SourceFile *out);
/* The same of a text; `path` is for messages, and its folder is where what it uses is. */
PL_MUST_USE Status source_of_text(const char *path, Str text, const SourceOptions *options, SourceFile *out);
/* The options and one setting more, before the others; `value` NULL: none. */
SourceOptions source_with(Arena *arena, const SourceOptions *options, const char *key, const char *value);
struct json_t;
/* The object that a published config.json is, or that of its folder. */
PL_MUST_USE Status source_read_config(Arena *arena, const char *path, struct json_t **out);
/* Its entry of this key, in which a dot leads into an object; NULL where there is none. */
const struct json_t *source_config_entry(Arena *a, const struct json_t *root, const char *key);
/* Puts what the file `options->config` gives before the settings in `options->set`, and forgets the file. */
PL_MUST_USE Status source_config(Arena *arena, const char *path, SourceOptions *options);
void source_close(SourceFile *s);
/* Fails where the path is that of a package, which has no source. */
PL_MUST_USE Status source_uncompiled(const char *path);
/* Fails where one of the names is no entry of the program (a model's, or what became of it), with those that there are. */
PL_MUST_USE Status source_entries(Arena *arena, const Program *p, const char *const *name, u32 n);
/* The sizes that the model's batch gives, as the driver takes them: "B=4,T=64". */
const char *source_sizes(Arena *arena, const Model *m);

#endif
