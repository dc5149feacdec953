/* tools/verb_fmt.c: `plinth fmt FILE...`: rewrites sources in their canonical form. A file appears
 * whole or stays as it was, and one that is canonical already is not touched. */
#include "frontend/ast.h"
#include "support/io.h"
#include "tools/verbs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool check;

static const Option options[] = {
	{ "check", 'c', OPTION_FLAG, &check, NULL, "change nothing; exit 1 if something would change" },
};

static const Command command = {
	.name = "fmt",
	.operands = "FILE...",
	.least = 1,
	.most = -1,
	.about = "Rewrites .plinth files in their canonical form: spacing, indentation, blank\n"
		 "lines, tables of parameters and trailing comments. Lines are kept as they are\n"
		 "divided, and so are all comments. A file with a syntax error is left alone.\n"
		 "`-` reads the standard input and writes the standard output.",
	.example = "  plinth fmt models/*.plinth       rewrite what is not canonical\n"
		   "  plinth fmt --check gpt2.plinth   say whether it is; exit 1 if not\n"
		   "  plinth fmt - < a.plinth          print the canonical form",
	.option = options,
	.noption = COUNT(options),
};

static Status read_stdin(Arena *arena, Str *text)
{
	Buf b = { .arena = arena };
	char piece[1 << 14];
	size_t n;
	while ((n = fread(piece, 1, sizeof piece, stdin)) > 0)
		buf_put(&b, (Str){ piece, n });
	if (ferror(stdin))
		return FAIL(STATUS_IO, "reading the standard input: %s", strerror(errno));
	*text = buf_str(&b);
	return OK;
}

/* The canonical form of `text` in *out (from malloc), or NULL after reporting errors. */
static Status canonical(Arena *arena, const char *path, Str text, char **out, size_t *n)
{
	Interner names = { .arena = arena };
	Diag diag = { .arena = arena };
	*out = NULL;
	Ast *ast = parse_source(arena, &names, &diag, path, text);
	verb_report(&diag, false);
	if (!ast || diag.nerror)
		return OK;
	FILE *to = open_memstream(out, n);
	if (!to)
		return FAIL(STATUS_MEMORY, "formatting %s: %s", path, strerror(errno));
	ast_format(ast, to);
	if (fclose(to))
		return FAIL(STATUS_MEMORY, "formatting %s: %s", path, strerror(errno));
	return OK;
}

static int format_file(const char *path)
{
	Arena arena = ARENA("fmt");
	bool piped = !strcmp(path, "-");
	Str text = { 0 };
	char *out = NULL;
	size_t n = 0;
	int status = 1;
	Status s = piped ? read_stdin(&arena, &text) : io_read(&arena, path, &text);
	if (!s)
		s = canonical(&arena, piped ? "<stdin>" : path, text, &out, &n);
	if (!s && out) {
		bool same = str_equal((Str){ out, n }, text);
		status = check && !same;
		if (check && !same)
			printf("%s\n", piped ? "<stdin>" : path);
		else if (!check && piped)
			fwrite(out, 1, n, stdout);
		else if (!check && !same)
			s = io_write(path, (Blob){ (const u8 *)out, n });
	}
	if (s)
		status = verb_failed("fmt", s);
	free(out);
	arena_free(&arena);
	return status;
}

int verb_fmt(int argc, char **argv)
{
	char **file;
	int n, status;
	if (!options_parse(&command, argc, argv, &file, &n, &status))
		return status;
	for (int i = 0; i < n; i++) {
		int one = format_file(file[i]);
		status = MAX(status, one);
	}
	return status;
}
