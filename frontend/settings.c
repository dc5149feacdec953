/* frontend/settings.c: blocks that hold settings alone: `generate`, of decoding, and `export`, of the library that a model
 * leaves as. Each key is known, with the kind of its value; what stands in the block, or is set over it from the command
 * line, becomes a setting (generate.tokens, export.store) of which the verb of that name takes what its own options leave open. */
#include "frontend/elaborator.h"

#include <string.h>

typedef struct Key {
	const char *name;
	enum { TEXT, WORD, NUMBER, TRUTH } kind; /* a word may stand without quotes */
} Key;

static const Key generate_key[] = { { "prompt", TEXT },  { "tokens", NUMBER }, { "temperature", NUMBER }, { "top_k", NUMBER },
				    { "top_p", NUMBER }, { "seed", NUMBER },   { "stop", TEXT } };
static const Key export_key[] = { { "name", TEXT },      { "store", WORD },  { "group", NUMBER }, { "capacity", NUMBER }, { "embed", TRUTH },
				  { "precision", WORD }, { "device", WORD }, { "arch", TEXT },    { "target", TEXT },     { "cpu", TEXT } };

/* that are no names of the language; element types are */
static const char *const words[] = { "int8", "int4", "autocast", "cpu", "cuda" };

static const struct SettingsBlock {
	const char *word, *example;
	const Key *key;
	u32 n;
} blocks[] = {
	{ "generate", "prompt = \"Once\", tokens = 100, temperature = 0.8", generate_key, COUNT(generate_key) },
	{ "export", "store = int8, cpu = \"x86-64-v3,x86-64-v4\", embed = true", export_key, COUNT(export_key) },
};

/* The value as the setting has it, NULL (and said) where it is of another kind. */
static Datum *of_kind(Elaborator *e, Datum *v, Loc loc, const Key *key)
{
	f64 number;
	bool truth;
	if (key->kind == WORD && v->kind == DATUM_DTYPE)
		return datum_text(e, dtype_info[v->dtype].name, loc);
	switch (key->kind) {
	case TEXT:
	case WORD: return want_text(e, v, loc, key->name) ? v : NULL;
	case NUMBER: return want_number(e, v, loc, key->name, &number) ? v : NULL;
	case TRUTH: return want_bool(e, v, loc, key->name, &truth) ? v : NULL;
	}
	NEVER("a setting's kind");
}

static const Key *key_of(Elaborator *e, const struct SettingsBlock *b, const Expr *name)
{
	const char *all[COUNT(export_key) + COUNT(generate_key)];
	for (u32 k = 0; k < b->n; k++) {
		all[k] = b->key[k].name;
		if (!strcmp(all[k], name->name))
			return &b->key[k];
	}
	const char *near = nearest_name(name->name, all, b->n);
	fail(e, E0506, name->loc, "there is no setting '%s' of %s%s", name->name, b->word,
	     near ? did_you_mean(e, near) : names_listed(e, "it has", all, b->n));
	return NULL;
}

/* `dynamic B <= 8, T <= 2048` in an export block: settings export.dynamic.B, ..., for sizes that runs are given. False: it is no
 * such line. */
static bool dynamic_sizes(Elaborator *e, const struct SettingsBlock *b, const Stmt *s)
{
	if (strcmp(b->word, "export") || s->kind != STMT_DIRECTIVE || strcmp(s->directive.word.text, "dynamic") || !s->directive.operand.n)
		return false;
	for (u32 i = 0; i < s->directive.operand.n; i++) {
		const Expr *x = s->directive.operand.v[i];
		i64 most;
		if (x->kind != EXPR_BINARY || x->binary.op != BINARY_LE || x->binary.left->kind != EXPR_NAME) {
			fail(e, E0512, x->loc, "a size and its bound are expected: dynamic B <= 8, T <= 2048");
			continue;
		}
		Datum *v = expression(e, x->binary.right);
		if (!want_integer(e, v, x->binary.right->loc, "a bound", &most))
			continue;
		if (most < 1)
			fail(e, E0512, x->binary.right->loc, "a bound is at least 1");
		else
			add_setting(e, arena_printf(e->arena, "export.dynamic.%s", x->binary.left->name), v, s->loc);
	}
	return true;
}

void recipe_settings(Elaborator *e, const Decl *d)
{
	const struct SettingsBlock *b = blocks;
	while (strcmp(b->word, d->word.text) != 0)
		b++;
	frame_push(e, d, "", (Loc){ 0 });
	for (u32 k = 0; k < COUNT(words); k++)
		set_variable(e, intern_z(e->names, words[k]), datum_text(e, intern_z(e->names, words[k]), d->loc));
	for (u32 k = 0; k < b->n; k++) {
		const char *full = arena_printf(e->arena, "%s.%s", b->word, b->key[k].name);
		Datum *given = override_of(e, intern_z(e->names, full));
		Datum *v = given && given->kind != DATUM_ERROR ? of_kind(e, given, given->loc, &b->key[k]) : NULL;
		if (v)
			add_setting(e, full, v, given->loc);
	}
	for (u32 i = 0; i < d->body.n; i++) {
		const Stmt *s = d->body.v[i];
		if (dynamic_sizes(e, b, s))
			continue;
		if (s->kind != STMT_ASSIGN || s->assign.target.n != 1 || s->assign.target.v[0]->kind != EXPR_NAME || s->assign.pattern.n) {
			fail(e, E0512, s->loc, "a block '%s' has settings: %s", b->word, b->example);
			continue;
		}
		const Key *key = key_of(e, b, s->assign.target.v[0]);
		if (!key)
			continue;
		Datum *v = of_kind(e, expression(e, s->assign.value), s->assign.value->loc, key);
		if (!v)
			continue;
		const char *full = arena_printf(e->arena, "%s.%s", b->word, key->name);
		if (!override_of(e, intern_z(e->names, full)))
			add_setting(e, full, v, s->loc);
	}
	frame_pop(e);
}
