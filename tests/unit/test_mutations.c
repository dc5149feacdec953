/* Random mutations of the tokens of every file in models/: delete, duplicate, swap, replace by another token of
 * the file, rename a word. Nothing may crash, and of those mutants that are errors, nine in ten get their first
 * error, or a note of it, on a line that was mutated. The programs of tests/frontend, most of them wrong already, are
 * mutated too: nothing may crash.
 *
 * PLINTH_MUTATIONS=10000 does that many for each file; PLINTH_SEED=1 gives others; PLINTH_ONLY=gpt2 takes one file.
 * PLINTH_SHOW=1 prints those whose place is wrong, and leaves each in mutant.plinth before it is tried. */
#include "find_model.h"
#include "frontend/elaborate.h"
#include "ir/sample.h"
#include "support/io.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { QUICK = 400 };

typedef struct Mutant {
	const char *text;
	u32 line[2];
	const char *what;
} Mutant;

static bool is_word(Str s)
{
	return s.n && (*s.s == '_' || ((*s.s | 32) >= 'a' && (*s.s | 32) <= 'z'));
}

/* A word near this one: a letter more, fewer or another. */
static Str renamed(Arena *a, Random *r, Str s)
{
	char *t = NEWN(a, char, s.n + 2);
	size_t at = (size_t)random_int(r, 0, (i64)s.n - 1);
	memcpy(t, s.s, s.n);
	switch (random_int(r, 0, 2)) {
	case 0:
		memmove(t + at + 1, t + at, s.n - at);
		t[at] = 'q';
		return (Str){ t, s.n + 1 };
	case 1:
		if (s.n > 1 && at > 0) {
			memmove(t + at, t + at + 1, s.n - at - 1);
			return (Str){ t, s.n - 1 };
		} /* fall through */
	default: t[at] = t[at] == 'z' ? 'y' : 'z'; return (Str){ t, s.n };
	}
}

/* The source with what stood at `x` replaced by `by`, and at `y` by `also`. */
static const char *replaced(Arena *a, Str text, Str x, Str by, Str y, Str also)
{
	Buf b = { .arena = a };
	buf_put(&b, (Str){ text.s, (size_t)(x.s - text.s) });
	buf_put(&b, by);
	const char *rest = x.s + x.n;
	if (y.s) {
		buf_put(&b, (Str){ rest, (size_t)(y.s - rest) });
		buf_put(&b, also);
		rest = y.s + y.n;
	}
	buf_put(&b, (Str){ rest, (size_t)(text.s + text.n - rest) });
	return b.text;
}

static Mutant mutate(Arena *a, Random *r, const Ast *ast)
{
	u32 i = (u32)random_int(r, 0, ast->ntoken - 2);
	while (ast->token[i].kind == TOKEN_COMMENT || ast->token[i + 1].kind == TOKEN_COMMENT)
		i = (u32)random_int(r, 0, ast->ntoken - 2);
	Token x = ast->token[i], y = ast->token[i + 1];
	Mutant m = { .line = { x.line, x.line } };
	Str none = { 0 };
	switch (random_int(r, 0, 4)) {
	case 0:
		m.what = "delete";
		m.text = replaced(a, ast->text, x.text, STR(""), none, none);
		break;
	case 1:
		m.what = "duplicate";
		m.text = replaced(a, ast->text, x.text,
				  str_of(arena_printf(a, "%.*s %.*s", STR_ARG(x.text), STR_ARG(x.text))), none, none);
		break;
	case 2:
		m.what = "swap";
		m.line[1] = y.line;
		m.text = replaced(a, ast->text, x.text, y.text, y.text, x.text);
		break;
	case 3: {
		m.what = "replace";
		Token by = ast->token[random_int(r, 0, ast->ntoken - 1)];
		m.text = replaced(a, ast->text, x.text, by.kind == TOKEN_COMMENT ? STR("=") : by.text, none, none);
		break;
	}
	default:
		while (!is_word(x.text)) {
			i = (u32)random_int(r, 0, ast->ntoken - 2);
			x = ast->token[i];
		}
		m.what = "rename";
		m.line[0] = m.line[1] = x.line;
		m.text = replaced(a, ast->text, x.text, renamed(a, r, x.text), none, none);
	}
	return m;
}

/* Messages as a reader sees them: the first error by place, then its notes. */
static const Message *first_error(const Diag *d)
{
	const Message *best = NULL;
	for (const Message *m = d->first; m; m = m->next) {
		if (m->severity != SEV_ERROR)
			continue;
		if (!best || (m->loc.file == best->loc.file ? m->loc.line < best->loc.line ||
				 (m->loc.line == best->loc.line && m->loc.column < best->loc.column) :
				 m->loc.file < best->loc.file))
			best = m;
	}
	return best;
}

static bool on(const Message *m, const Mutant *t)
{
	return m->loc.file == 0 && (m->loc.line == t->line[0] || m->loc.line == t->line[1]);
}

static bool placed(const Message *e, const Mutant *t)
{
	if (on(e, t))
		return true;
	for (const Message *n = e->next; n && n->severity == SEV_NOTE; n = n->next)
		if (on(n, t))
			return true;
	return false;
}

typedef struct Tally {
	u32 mutants, errors, placed;
} Tally;

static void one(const Mutant *m, const char *path, bool show, Tally *t)
{
	Arena arena = ARENA("mutant");
	Diag diag = { .arena = &arena };
	Ir *ir = ir_new(&arena, &diag);
	if (show)
		assert_null(io_write("mutant.plinth", (Blob){ (const u8 *)m->text, strlen(m->text) }));
	const Ast *ast = parse_source(&arena, &ir->names, &diag, path, str_of(m->text));
	ElaborateOptions o = { .find = find_model };
	if (ast && !diag.nerror) {
		Model *made = elaborate(&arena, ir, ast, &o);
		assert_true(made || diag.nerror);
		if (made)
			assert_true(program_verify(made->program, &diag));
	}
	t->mutants++;
	const Message *e = first_error(&diag);
	if (e) {
		t->errors++;
		if (placed(e, m)) {
			t->placed++;
		} else if (show) {
			const char *s = m->text;
			for (u32 line = 1; line < m->line[0]; line++)
				s = strchr(s, '\n') + 1;
			fprintf(stderr, "---- %s on line %u: %.*s\n", m->what, m->line[0], (int)strcspn(s, "\n"), s);
			diag_print(&diag, stderr, false);
		}
	}
	arena_free(&arena);
}

/* `total` NULL: of a program that may be wrong, and where its errors are does not matter. */
static void mutants_of(const char *path, u32 count, bool show, Tally *total)
{
	Arena arena = ARENA("model"), tmp = ARENA("text");
	Diag diag = { .arena = &arena };
	Interner names = { .arena = &arena };
	Str text;
	assert_null(io_read(&arena, path, &text));
	/* two layers are as good as thirty, and quicker */
	char *layers = strstr((char *)(uintptr_t)text.s, "\n  layers = ");
	if (layers) {
		layers += strlen("\n  layers = ");
		*layers++ = '2';
		while (*layers >= '0' && *layers <= '9')
			*layers++ = ' ';
	}
	const Ast *ast = parse_source(&arena, &names, &diag, path, text);
	assert_true(!total || (ast && !diag.nerror && ast->ntoken > 10));
	if (!ast || ast->ntoken < 10) {
		arena_free(&arena);
		return;
	}
	Random r = random_new(&arena, hash_bytes(HASH_SEED, path, strlen(path)));
	const char *from = getenv("PLINTH_SEED");
	for (u64 i = from ? strtoull(from, NULL, 10) : 0; i > 0; i--)
		random_bits(&r);
	Tally t = { 0 };
	for (u32 i = 0; i < count; i++) {
		Mutant m = mutate(&tmp, &r, ast);
		one(&m, path, show, &t);
		arena_free(&tmp);
	}
	if (!total) {
		arena_free(&arena);
		return;
	}
	f64 share = t.errors ? 100.0 * t.placed / t.errors : 100;
	print_message("%s: %u mutants, %u errors, %.1f%% of them placed\n", strrchr(path, '/') + 1, t.mutants, t.errors, share);
	total->mutants += t.mutants;
	total->errors += t.errors;
	total->placed += t.placed;
	if (share < 90)
		fail_msg("%s: only %.1f%% of errors are on the mutated line", path, share);
	arena_free(&arena);
}

/* Every program of a folder; how many. */
static u32 folder(const char *name, u32 count, Tally *total)
{
	const char *only = getenv("PLINTH_ONLY");
	struct dirent **entry;
	u32 taken = 0;
	int n = scandir(name, &entry, NULL, alphasort);
	assert_true(n > 0);
	for (int i = 0; i < n; i++) {
		if (str_ends(str_of(entry[i]->d_name), STR(".plinth")) && (!only || strstr(entry[i]->d_name, only))) {
			char path[1024];
			snprintf(path, sizeof path, "%s/%s", name, entry[i]->d_name);
			mutants_of(path, count, getenv("PLINTH_SHOW") != NULL, total);
			taken++;
		}
		free(entry[i]);
	}
	free(entry);
	return taken;
}

static void mutations(void **state)
{
	(void)state;
	const char *many = getenv("PLINTH_MUTATIONS");
	u32 count = many ? (u32)strtoul(many, NULL, 10) : QUICK;
	Tally total = { 0 };
	folder(SOURCE_DIR "/models", count, &total);
	assert_true(total.errors > total.mutants / 3);
}

static void wrong_programs_made_worse(void **state)
{
	(void)state;
	const char *many = getenv("PLINTH_MUTATIONS");
	u32 count = many ? (u32)strtoul(many, NULL, 10) / 50 : 15;
	assert_true(folder(SOURCE_DIR "/tests/frontend/errors", count, NULL) > 100 || getenv("PLINTH_ONLY"));
	folder(SOURCE_DIR "/tests/frontend/cases", count, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(mutations), cmocka_unit_test(wrong_programs_made_worse) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
