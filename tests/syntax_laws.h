/* tests/syntax_laws.h: what must hold for every source whatever: reading it ends, and if it has no
 * error, its canonical form has none either, means the same, has the same comments and is its own
 * canonical form. Used by the units and by the fuzz target. */
#ifndef PL_SYNTAX_LAWS_H
#define PL_SYNTAX_LAWS_H
#include "frontend/ast.h"

#include <stdlib.h>
#include <string.h>

typedef struct Parsed {
	Arena arena;
	Interner names;
	Diag diag;
	Ast *ast;
} Parsed;

/* Not to be copied: the interner and the messages point into it. */
static inline void parsed_open(Parsed *x, Str text)
{
	*x = (Parsed){ .arena = ARENA("syntax") };
	x->names.arena = x->diag.arena = &x->arena;
	x->ast = parse_source(&x->arena, &x->names, &x->diag, "test.plinth", text);
}

static inline void parsed_close(Parsed *x)
{
	arena_free(&x->arena);
}

/* What `print` writes, from malloc. */
static inline char *printed(void (*print)(const Ast *, FILE *), const Ast *ast)
{
	char *text = NULL;
	size_t n;
	FILE *to = open_memstream(&text, &n);
	if (!to)
		abort();
	print(ast, to);
	fclose(to);
	return text;
}

/* The comments of a source in their order, without white ends; from malloc. */
static inline char *comments(const Ast *ast)
{
	char *text = NULL;
	size_t n;
	FILE *to = open_memstream(&text, &n);
	if (!to)
		abort();
	for (u32 i = 0; i < ast->ntoken; i++) {
		Str t = ast->token[i].text;
		while (t.n && (u8)t.s[t.n - 1] <= ' ')
			t.n--;
		if (ast->token[i].kind == TOKEN_COMMENT)
			fprintf(to, "%.*s\n", STR_ARG(t));
	}
	fclose(to);
	return text;
}

/* NULL when the laws hold, else which does not. */
static inline const char *syntax_law_broken(Str text)
{
	Parsed first, second;
	const char *broken = NULL;
	parsed_open(&first, text);
	if (first.diag.nerror || !first.ast) {
		if (!first.diag.nerror)
			broken = "no tree and no error";
		parsed_close(&first);
		return broken;
	}
	char *form = printed(ast_format, first.ast), *dump = printed(ast_dump, first.ast);
	char *said = comments(first.ast);
	parsed_open(&second, str_of(form));
	if (second.diag.nerror || !second.ast)
		broken = "the canonical form has an error";
	else {
		char *form2 = printed(ast_format, second.ast);
		char *dump2 = printed(ast_dump, second.ast), *said2 = comments(second.ast);
		if (strcmp(dump, dump2))
			broken = "the canonical form means something else";
		else if (strcmp(said, said2))
			broken = "the canonical form has other comments";
		else if (strcmp(form, form2))
			broken = "the canonical form has another canonical form";
		free(form2);
		free(dump2);
		free(said2);
	}
	free(form);
	free(dump);
	free(said);
	parsed_close(&first);
	parsed_close(&second);
	return broken;
}

#endif
