/* frontend/dump.c: the tree as an S-expression, one statement a line: for tests and for looking.
 * Places, parentheses and the spelling of numbers are left out, so that two sources that mean the
 * same print the same. */
#include "frontend/ast.h"

#include <inttypes.h>

static void dump_expr(const Expr *e, FILE *to);
static void dump_block(const Block *b, int depth, FILE *to);

static void quoted(const char *text, FILE *to)
{
	fputc('"', to);
	for (; *text; text++) {
		if (*text == '\n')
			fputs("\\n", to);
		else if (*text == '"' || *text == '\\')
			fprintf(to, "\\%c", *text);
		else
			fputc(*text, to);
	}
	fputc('"', to);
}

static void dump_text(const Text *t, FILE *to)
{
	if (!t->nhole) {
		quoted(t->text, to);
		return;
	}
	fputs("(text", to);
	for (u32 i = 0; i < t->npart; i++) {
		fputc(' ', to);
		if (t->part[i].hole)
			dump_expr(t->part[i].hole, to);
		else
			quoted(t->part[i].text, to);
	}
	fputc(')', to);
}

static void dump_exprs(const char *head, const ExprList *list, FILE *to)
{
	fprintf(to, "(%s", head);
	for (u32 i = 0; i < list->n; i++) {
		fputc(' ', to);
		dump_expr(list->v[i], to);
	}
	fputc(')', to);
}

static void dump_arguments(const ArgumentList *list, FILE *to)
{
	for (u32 i = 0; i < list->n; i++) {
		fputc(' ', to);
		if (list->v[i].name.text)
			fprintf(to, "%s=", list->v[i].name.text);
		dump_expr(list->v[i].value, to);
	}
}

static void dump_optional(const Expr *e, FILE *to)
{
	if (e)
		dump_expr(e, to);
	else
		fputc('_', to);
}

static void dump_index(const Expr *e, FILE *to)
{
	fputs("(index ", to);
	dump_expr(e->index.base, to);
	for (u32 i = 0; i < e->index.subscript.n; i++) {
		const Subscript *s = &e->index.subscript.v[i];
		fputc(' ', to);
		switch (s->kind) {
		case SUBSCRIPT_INDEX:
			dump_expr(s->index, to);
			break;
		case SUBSCRIPT_SLICE:
			fputs("(slice ", to);
			dump_optional(s->from, to);
			fputc(' ', to);
			dump_optional(s->to, to);
			fputc(' ', to);
			dump_optional(s->step, to);
			fputc(')', to);
			break;
		case SUBSCRIPT_NEW_AXIS:
			fputs("new-axis", to);
			break;
		case SUBSCRIPT_ELLIPSIS:
			fputs("...", to);
			break;
		}
	}
	fputc(')', to);
}

static void dump_expr(const Expr *e, FILE *to)
{
	switch (e->kind) {
	case EXPR_NUMBER:
		if (e->number.is_integer)
			fprintf(to, "%" PRId64, e->number.integer);
		else
			fprintf(to, "%.17g", e->number.value);
		if (e->number.unit)
			fprintf(to, ":%s", e->number.unit);
		return;
	case EXPR_STRING:
		dump_text(e->string, to);
		return;
	case EXPR_BOOL:
		fputs(e->boolean ? "true" : "false", to);
		return;
	case EXPR_NONE:
		fputs("none", to);
		return;
	case EXPR_ELLIPSIS:
		fputs("...", to);
		return;
	case EXPR_NAME:
		fputs(e->name, to);
		return;
	case EXPR_LIST:
		dump_exprs("list", &e->list, to);
		return;
	case EXPR_TUPLE:
		dump_exprs("tuple", &e->list, to);
		return;
	case EXPR_RECORD:
		fputs("(record", to);
		dump_arguments(&e->record, to);
		fputc(')', to);
		return;
	case EXPR_UNARY:
		fprintf(to, "(%s ", unary_spelling[e->unary.op]);
		dump_expr(e->unary.operand, to);
		fputc(')', to);
		return;
	case EXPR_BINARY:
		fprintf(to, "(%s ", binary_spelling[e->binary.op]);
		dump_expr(e->binary.left, to);
		fputc(' ', to);
		dump_expr(e->binary.right, to);
		fputc(')', to);
		return;
	case EXPR_CONDITIONAL:
		fputs("(if ", to);
		dump_expr(e->conditional.condition, to);
		fputc(' ', to);
		dump_expr(e->conditional.then, to);
		fputc(' ', to);
		dump_expr(e->conditional.otherwise, to);
		fputc(')', to);
		return;
	case EXPR_RANGE:
		fputs("(range ", to);
		dump_expr(e->range.from, to);
		fputc(' ', to);
		dump_expr(e->range.to, to);
		fputc(')', to);
		return;
	case EXPR_CALL:
		fputs("(call ", to);
		dump_expr(e->call.callee, to);
		dump_arguments(&e->call.argument, to);
		if (e->call.path) {
			fputs(" :as ", to);
			dump_text(e->call.path, to);
		}
		fputc(')', to);
		return;
	case EXPR_INDEX:
		dump_index(e, to);
		return;
	case EXPR_FIELD:
		fputs("(field ", to);
		dump_expr(e->field.base, to);
		fprintf(to, " %s)", e->field.field.text);
		return;
	}
	NEVER("an expression of no kind");
}

static void dump_type(const TypeExpr *t, FILE *to)
{
	switch (t->kind) {
	case TYPE_NAME:
		fputs(t->name, to);
		return;
	case TYPE_TENSOR:
		dump_exprs(t->name ? t->name : "tensor", &t->dim, to);
		return;
	case TYPE_TUPLE:
		fputs("(results", to);
		for (u32 i = 0; i < t->field.n; i++) {
			fputc(' ', to);
			if (t->field.v[i].name.text)
				fprintf(to, "%s:", t->field.v[i].name.text);
			dump_type(t->field.v[i].type, to);
		}
		fputc(')', to);
		return;
	}
	NEVER("a type of no kind");
}

static void dump_value(const char *mark, const Expr *value, FILE *to)
{
	if (!value)
		return;
	fprintf(to, " %s ", mark);
	dump_expr(value, to);
}

static void dump_clauses(const ClauseList *list, FILE *to)
{
	for (u32 i = 0; i < list->n; i++) {
		fprintf(to, " :%s ", list->v[i].word.text);
		dump_expr(list->v[i].value, to);
	}
}

static void dump_assign(const Stmt *s, FILE *to)
{
	dump_exprs(s->kind == STMT_UPDATE ? "update" : "assign", &s->assign.target, to);
	if (s->assign.pattern.n) {
		fputs(" :for ", to);
		dump_exprs("patterns", &s->assign.pattern, to);
	}
	dump_value("=", s->assign.value, to);
	dump_clauses(&s->assign.clause, to);
}

static void dump_declare(const Stmt *s, FILE *to)
{
	fprintf(to, "%s %s", s->kind == STMT_PARAM ? "param" : "input", s->declare.name.text);
	if (s->declare.path) {
		fputs(" :as ", to);
		dump_text(s->declare.path, to);
	}
	fputc(' ', to);
	dump_type(s->declare.type, to);
	dump_value("=", s->declare.value, to);
}

static void dump_stmt(const Stmt *s, int depth, FILE *to)
{
	fprintf(to, "\n%*s(", 2 * depth, "");
	switch (s->kind) {
	case STMT_ASSIGN: case STMT_UPDATE:
		dump_assign(s, to);
		break;
	case STMT_PARAM: case STMT_INPUT:
		dump_declare(s, to);
		break;
	case STMT_DIM: case STMT_STATE:
		fputs(s->kind == STMT_DIM ? "dim" : "state", to);
		for (u32 i = 0; i < s->binding.n; i++) {
			fprintf(to, " %s=", s->binding.v[i].name.text);
			dump_expr(s->binding.v[i].value, to);
		}
		break;
	case STMT_FOR:
		fprintf(to, "for %s ", s->loop.name.text);
		dump_expr(s->loop.over, to);
		dump_block(&s->loop.body, depth, to);
		break;
	case STMT_IF:
		fputs("if", to);
		for (u32 i = 0; i < s->branch.n; i++) {
			fputs(" (", to);
			if (s->branch.v[i].condition)
				dump_expr(s->branch.v[i].condition, to);
			else
				fputs("else", to);
			dump_block(&s->branch.v[i].body, depth, to);
			fputc(')', to);
		}
		break;
	case STMT_SCOPE:
		fputs("scope ", to);
		dump_text(s->scope.path, to);
		dump_block(&s->scope.body, depth, to);
		break;
	case STMT_RETURN:
		fputs("return", to);
		dump_arguments(&s->results, to);
		break;
	case STMT_EXPR:
		dump_expr(s->expr, to);
		break;
	case STMT_ARROW:
		dump_exprs("arrow", &s->arrow.from, to);
		dump_value("->", s->arrow.to, to);
		break;
	case STMT_DIRECTIVE:
		fprintf(to, "directive %s ", s->directive.word.text);
		dump_exprs("on", &s->directive.operand, to);
		dump_clauses(&s->directive.clause, to);
		dump_value("->", s->directive.arrow, to);
		if (s->directive.has_body)
			dump_block(&s->directive.body, depth, to);
		break;
	}
	fputc(')', to);
}

static void dump_block(const Block *b, int depth, FILE *to)
{
	for (u32 i = 0; i < b->n; i++)
		dump_stmt(b->v[i], depth + 1, to);
}

static void dump_signature(const Signature *s, FILE *to)
{
	fputs(" (", to);
	for (u32 i = 0; i < s->param.n; i++) {
		const Parameter *x = &s->param.v[i];
		fprintf(to, "%s(%s%s", i ? " " : "", x->compile_time ? "static " : "", x->name.text);
		if (x->type) {
			fputs(": ", to);
			dump_type(x->type, to);
		}
		dump_value("=", x->value, to);
		fputc(')', to);
	}
	fputc(')', to);
	if (s->result) {
		fputs(" -> ", to);
		dump_type(s->result, to);
	}
}

void ast_dump(const Ast *ast, FILE *to)
{
	static const char *const kind[] = {
		[DECL_USE] = "use",           [DECL_CONFIG] = "config",
		[DECL_PRESET] = "preset",     [DECL_MODULE] = "module",
		[DECL_FUNCTION] = "function", [DECL_OPTIMIZER] = "optimizer",
		[DECL_MODEL] = "model",       [DECL_RECIPE] = "recipe",
	};
	for (u32 i = 0; i < ast->ndecl; i++) {
		const Decl *d = ast->decl[i];
		fprintf(to, "(%s", kind[d->kind]);
		if (d->kind == DECL_RECIPE)
			fprintf(to, " %s", d->word.text);
		if (d->name.text)
			fprintf(to, " %s", d->name.text);
		if (d->kind == DECL_MODULE || d->kind == DECL_FUNCTION ||
		    d->kind == DECL_OPTIMIZER || d->kind == DECL_MODEL)
			dump_signature(&d->signature, to);
		dump_value(":label", d->label, to);
		dump_block(&d->body, 0, to);
		fputs(")\n", to);
	}
}
