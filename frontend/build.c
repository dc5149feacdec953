/* frontend/build.c: makes the nodes of the tree for the grammar's actions, and says what is wrong
 * with what the grammar alone cannot refuse: a target that is not a name, a positional argument
 * after a named one, a statement or declaration whose first word begins none. */
#include "frontend/syntax.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const unary_spelling[UNARY_COUNT] = {
#define UNARY(name, spelling) spelling,
	UNARY_OPS(UNARY)
#undef UNARY
};

const char *const binary_spelling[BINARY_COUNT] = {
#define BINARY(name, spelling) spelling,
	BINARY_OPS(BINARY)
#undef BINARY
};

/* From `first` to the end of `last`; on the first line only. */
Loc loc_join(Loc first, Loc last)
{
	if (first.line == last.line && last.column >= first.column) {
		u32 n = (u32)last.column + last.length - first.column;
		first.length = (u16)MIN(n, UINT16_MAX);
	}
	return first;
}

/* ---- expressions ------------------------------------------------------------------------- */

Expr *expr_new(Parser *p, ExprKind kind, Loc loc)
{
	Expr *e = NEW(p->arena, Expr);
	e->kind = kind;
	e->loc = loc;
	e->depth = 1;
	return e;
}

/* Makes `e` contain `part` (or nothing, for NULL). */
static void contain(Parser *p, Expr *e, const Expr *part)
{
	if (!part || part->depth < e->depth)
		return;
	e->depth = (u16)(part->depth + 1);
	if (e->depth == MAX_DEPTH)
		diag_error(p->diag, E0105, e->loc, "this expression is nested more than %d deep",
			   MAX_DEPTH);
	/* What contains it is not refused again. */
	if (e->depth > MAX_DEPTH)
		e->depth = MAX_DEPTH + 1;
}

Expr *expr_number(Parser *p, Str span, Loc loc)
{
	Expr *e = expr_new(p, EXPR_NUMBER, loc);
	char *digits = NEWN(p->arena, char, span.n + 1), *end;
	size_t n = 0;
	i64 scale = 1;
	for (size_t i = 0; i < span.n; i++)
		if (span.s[i] != '_')
			digits[n++] = span.s[i];
	size_t number = strspn(digits, "0123456789.");
	if (digits[number] == 'e' || digits[number] == 'E')
		number += 1 + strspn(digits + number + 1, "+-0123456789");
	char *unit = digits + number + strspn(digits + number, " \t");
	if (unit_bytes(str_of(unit))) {
		e->number.unit = intern_z(p->names, unit);
		scale = unit_bytes(str_of(unit));
	}
	digits[number] = 0;
	e->number.is_integer = !strpbrk(digits, ".eE");
	if (e->number.is_integer) {
		errno = 0;
		long long v = strtoll(digits, &end, 10);
		if (errno || __builtin_mul_overflow((i64)v, scale, &e->number.integer)) {
			diag_error(p->diag, E0104, loc, "this number is too large: the most is %lld",
				   (long long)INT64_MAX);
			e->number.integer = INT64_MAX;
		}
		e->number.value = (f64)e->number.integer;
		return e;
	}
	e->number.value = strtod(digits, &end) * (f64)scale;
	if (isinf(e->number.value)) {
		diag_error(p->diag, E0104, loc, "this number is too large for 64-bit floating point");
		e->number.value = 0;
	}
	/* 1.5 GiB is whole. */
	if (scale > 1 && e->number.value == floor(e->number.value) && e->number.value < 0x1p62) {
		e->number.is_integer = true;
		e->number.integer = (i64)e->number.value;
	}
	return e;
}

Expr *expr_string(Parser *p, Text *text)
{
	Expr *e = expr_new(p, EXPR_STRING, text->loc);
	e->string = text;
	for (u32 i = 0; i < text->npart; i++)
		contain(p, e, text->part[i].hole);
	return e;
}

Expr *expr_name(Parser *p, Name name)
{
	Expr *e = expr_new(p, EXPR_NAME, name.loc);
	e->name = name.text;
	return e;
}

Expr *expr_bool(Parser *p, bool value, Loc loc)
{
	Expr *e = expr_new(p, EXPR_BOOL, loc);
	e->boolean = value;
	return e;
}

Expr *expr_list(Parser *p, ExprKind kind, ExprList list, Loc loc)
{
	Expr *e = expr_new(p, kind, loc);
	e->list = list;
	for (u32 i = 0; i < list.n; i++)
		contain(p, e, list.v[i]);
	return e;
}

Expr *expr_record(Parser *p, ArgumentList entries, Loc loc)
{
	Expr *e = expr_new(p, EXPR_RECORD, loc);
	e->record = entries;
	for (u32 i = 0; i < entries.n; i++)
		contain(p, e, entries.v[i].value);
	return e;
}

Expr *expr_unary(Parser *p, UnaryOp op, Expr *operand, Loc loc)
{
	Expr *e = expr_new(p, EXPR_UNARY, loc);
	e->unary.op = op;
	e->unary.operand = operand;
	contain(p, e, operand);
	return e;
}

Expr *expr_binary(Parser *p, BinaryOp op, Expr *left, Loc op_loc, Expr *right)
{
	Expr *e = expr_new(p, EXPR_BINARY, loc_join(left->loc, right->loc));
	e->binary.op = op;
	e->binary.op_loc = op_loc;
	e->binary.left = left;
	e->binary.right = right;
	contain(p, e, left);
	contain(p, e, right);
	return e;
}

Expr *expr_conditional(Parser *p, Expr *then, Expr *condition, Expr *otherwise)
{
	Expr *e = expr_new(p, EXPR_CONDITIONAL, loc_join(then->loc, otherwise->loc));
	e->conditional.condition = condition;
	e->conditional.then = then;
	e->conditional.otherwise = otherwise;
	contain(p, e, then);
	contain(p, e, condition);
	contain(p, e, otherwise);
	return e;
}

Expr *expr_range(Parser *p, Expr *from, Expr *to)
{
	Expr *e = expr_new(p, EXPR_RANGE, loc_join(from->loc, to->loc));
	e->range.from = from;
	e->range.to = to;
	contain(p, e, from);
	contain(p, e, to);
	return e;
}

Expr *expr_call(Parser *p, Expr *callee, ArgumentList arguments, Loc loc)
{
	Expr *e = expr_new(p, EXPR_CALL, loc);
	e->call.callee = callee;
	e->call.argument = arguments;
	contain(p, e, callee);
	for (u32 i = 0; i < arguments.n; i++)
		contain(p, e, arguments.v[i].value);
	return e;
}

Expr *expr_as(Parser *p, Expr *call, Text *path)
{
	call->call.path = path;
	call->loc = loc_join(call->loc, path->loc);
	for (u32 i = 0; i < path->npart; i++)
		contain(p, call, path->part[i].hole);
	return call;
}

Expr *expr_index(Parser *p, Expr *base, SubscriptList subscripts, Loc loc)
{
	Expr *e = expr_new(p, EXPR_INDEX, loc);
	e->index.base = base;
	e->index.subscript = subscripts;
	contain(p, e, base);
	for (u32 i = 0; i < subscripts.n; i++) {
		contain(p, e, subscripts.v[i].index);
		contain(p, e, subscripts.v[i].from);
		contain(p, e, subscripts.v[i].to);
		contain(p, e, subscripts.v[i].step);
	}
	return e;
}

Expr *expr_field(Parser *p, Expr *base, Name field)
{
	Expr *e = expr_new(p, EXPR_FIELD, loc_join(base->loc, field.loc));
	e->field.base = base;
	e->field.field = field;
	contain(p, e, base);
	return e;
}

Subscript subscript_expr(Expr *index)
{
	if (index->kind == EXPR_NONE && !index->parenthesized)
		return (Subscript){ .kind = SUBSCRIPT_NEW_AXIS, .loc = index->loc };
	return (Subscript){ .kind = SUBSCRIPT_INDEX, .loc = index->loc, .index = index };
}

void argument_add(Parser *p, ArgumentList *list, Argument argument)
{
	if (!argument.name.text && list->n && list->v[list->n - 1].name.text) {
		diag_error(p->diag, E0115, argument.value->loc,
			   "a value without a name after one with a name");
		return;
	}
	VEC_PUSH(p->arena, list, argument);
}

TypeExpr *type_new(Parser *p, TypeKind kind, const char *name, Loc loc)
{
	TypeExpr *t = NEW(p->arena, TypeExpr);
	t->kind = kind;
	t->name = name;
	t->loc = loc;
	return t;
}

/* ---- statements -------------------------------------------------------------------------- */

Stmt *stmt_new(Parser *p, StmtKind kind, Loc loc)
{
	Stmt *s = NEW(p->arena, Stmt);
	s->kind = kind;
	s->loc = loc;
	return s;
}

void block_add(Parser *p, Block *block, Stmt *stmt)
{
	if (stmt)
		VEC_PUSH(p->arena, block, stmt);
}

static bool is_dotted(const Expr *e)
{
	while (e->kind == EXPR_FIELD && !e->parenthesized)
		e = e->field.base;
	return e->kind == EXPR_NAME && !e->parenthesized;
}

Stmt *stmt_assign(Parser *p, StmtKind kind, ExprList target, ExprList pattern, Expr *value,
		  ClauseList clause, Loc loc)
{
	for (u32 i = 0; i < target.n; i++) {
		if (is_dotted(target.v[i]))
			continue;
		diag_error(p->diag, E0114, target.v[i]->loc, "only a name can be given a value");
		if (target.v[i]->kind == EXPR_INDEX)
			diag_note(p->diag, (Loc){ 0 }, "tensors do not change: make a new one with "
						       "`where`, `concat` or `scatter_add`");
		return NULL;
	}
	if (target.n > 1 && (kind == STMT_UPDATE || pattern.n)) {
		diag_error(p->diag, E0114, target.v[1]->loc, "one name at a time here");
		return NULL;
	}
	for (u32 i = 0; i < pattern.n; i++)
		if (pattern.v[i]->kind != EXPR_STRING) {
			diag_error(p->diag, E0114, pattern.v[i]->loc,
				   "a pattern is a string, as in \"*.bias\"");
			return NULL;
		}
	Stmt *s = stmt_new(p, kind, loc);
	s->assign.target = target;
	s->assign.pattern = pattern;
	s->assign.value = value;
	s->assign.clause = clause;
	return s;
}

Stmt *stmt_alone(Parser *p, ExprList values, Loc loc)
{
	if (values.n > 1) {
		diag_error(p->diag, E0113, values.v[1]->loc,
			   "several values that nothing is done with; is an `=` missing?");
		return NULL;
	}
	Stmt *s = stmt_new(p, STMT_EXPR, loc);
	s->expr = values.v[0];
	return s;
}

Stmt *stmt_return(Parser *p, ArgumentList results, Loc loc)
{
	Stmt *s = stmt_new(p, STMT_RETURN, loc);
	s->results = results;
	return s;
}

/* "there is no statement `x`", with what it may have been meant to be. */
static void unknown_word(Parser *p, const char *what, Name word, const char *const *known, u32 n)
{
	diag_error(p->diag, E0113, word.loc, "`%s` begins no %s", word.text, what);
	const char *instead = foreign_word(word.text);
	const char *near = nearest_word(word.text, known, n);
	if (instead)
		diag_note(p->diag, (Loc){ 0 }, "%s", instead);
	else if (near)
		diag_note(p->diag, (Loc){ 0 }, "did you mean `%s`?", near);
}

Stmt *stmt_bindings(Parser *p, Name word, BindingList bindings, Loc loc)
{
	static const char *const known[] = { "dim", "state", "param" };
	StmtKind kind;
	if (!strcmp(word.text, "dim"))
		kind = STMT_DIM;
	else if (!strcmp(word.text, "state"))
		kind = STMT_STATE;
	else if (!strcmp(word.text, "param") || !strcmp(word.text, "input")) {
		diag_error(p->diag, E0116, bindings.v[0].name.loc,
			   "`%s` needs its type: `%s %s: [...]`", word.text, word.text,
			   bindings.v[0].name.text);
		return NULL;
	} else {
		unknown_word(p, "statement of the form `word name = value`", word, known,
			     COUNT(known));
		return NULL;
	}
	Stmt *s = stmt_new(p, kind, loc);
	s->binding = bindings;
	return s;
}

Stmt *stmt_declare(Parser *p, Name word, Name name, Text *path, TypeExpr *type, Expr *value,
		   Loc loc)
{
	static const char *const known[] = { "param", "input" };
	StmtKind kind;
	if (!strcmp(word.text, "param"))
		kind = STMT_PARAM;
	else if (!strcmp(word.text, "input"))
		kind = STMT_INPUT;
	else {
		unknown_word(p, "statement of the form `word name: type`", word, known,
			     COUNT(known));
		return NULL;
	}
	if (kind == STMT_INPUT && path) {
		diag_error(p->diag, E0117, path->loc, "an input has no path: leave out the `as`");
		return NULL;
	}
	Stmt *s = stmt_new(p, kind, loc);
	s->declare.name = name;
	s->declare.path = path;
	s->declare.type = type;
	s->declare.value = value;
	return s;
}

Stmt *stmt_directive(Parser *p, Name word, ExprList operand, ClauseList clause, Expr *arrow,
		     const Block *body, Loc loc)
{
	if (!strcmp(word.text, "scope") && body) {
		bool one = operand.n == 1 && operand.v[0]->kind == EXPR_STRING && !clause.n;
		if (!one) {
			diag_error(p->diag, E0116, loc,
				   "`scope` takes one string: `scope \"block.{i}\" { ... }`");
			return NULL;
		}
		Stmt *s = stmt_new(p, STMT_SCOPE, loc);
		s->scope.path = operand.v[0]->string;
		s->scope.body = *body;
		return s;
	}
	static const struct {
		const char *word, *form;
	} shape[] = {
		{ "param", "param name: [D] = zeros" }, { "input", "input name: i32[B, T]" },
		{ "dim", "dim F = 4 * D" },             { "state", "state m = zeros" },
		{ "scope", "scope \"block.{i}\" { ... }" },
	};
	for (size_t i = 0; i < COUNT(shape); i++)
		if (!strcmp(word.text, shape[i].word)) {
			diag_error(p->diag, E0116, loc, "`%s` is written `%s`", word.text,
				   shape[i].form);
			return NULL;
		}
	static const char *const top[] = { "module", "model", "function", "optimizer", "use" };
	for (size_t i = 0; i < COUNT(top); i++)
		if (!strcmp(word.text, top[i])) {
			diag_error(p->diag, E0113, word.loc,
				   "`%s` declares at the top of a file, not inside braces",
				   word.text);
			return NULL;
		}
	if (foreign_word(word.text)) {
		unknown_word(p, "statement", word, NULL, 0);
		return NULL;
	}
	Stmt *s = stmt_new(p, STMT_DIRECTIVE, loc);
	s->directive.word = word;
	s->directive.operand = operand;
	s->directive.clause = clause;
	s->directive.arrow = arrow;
	s->directive.has_body = body != NULL;
	if (body)
		s->directive.body = *body;
	return s;
}

/* ---- declarations ------------------------------------------------------------------------ */

static Decl *decl_new(Parser *p, DeclKind kind, Name word, Loc loc)
{
	Decl *d = NEW(p->arena, Decl);
	d->kind = kind;
	d->word = word;
	d->loc = loc;
	return d;
}

void decl_add(Parser *p, Decl *decl)
{
	Ast *ast = p->ast;
	if (!decl)
		return;
	if (ast->ndecl == ast->cap)
		ast->decl = vec_grow(p->arena, ast->decl, ast->ndecl, &ast->cap, sizeof *ast->decl);
	ast->decl[ast->ndecl++] = decl;
}

Decl *decl_signature(Parser *p, Name word, Name name, Signature signature, Block body)
{
	static const char *const known[] = { "module", "function", "optimizer", "model" };
	static const DeclKind kind[] = { DECL_MODULE, DECL_FUNCTION, DECL_OPTIMIZER, DECL_MODEL };
	for (u32 i = 0; i < COUNT(known); i++)
		if (!strcmp(word.text, known[i])) {
			Decl *d = decl_new(p, kind[i], word, name.loc);
			d->name = name;
			d->signature = signature;
			d->body = body;
			return d;
		}
	unknown_word(p, "declaration", word, known, COUNT(known));
	return NULL;
}

Decl *decl_recipe(Parser *p, Name word, Expr *label, Block body)
{
	static const char *const signatures[] = { "module", "function", "optimizer", "model" };
	for (u32 i = 0; i < COUNT(signatures); i++)
		if (!strcmp(word.text, signatures[i])) {
			diag_error(p->diag, E0116, word.loc,
				   "`%s` needs a name and parameters: `%s name(x: [B, D]) { ... }`",
				   word.text, word.text);
			return NULL;
		}
	if (foreign_word(word.text)) {
		unknown_word(p, "declaration", word, NULL, 0);
		return NULL;
	}
	bool config = !strcmp(word.text, "config"), preset = !strcmp(word.text, "preset");
	if (config && label) {
		diag_error(p->diag, E0116, label->loc,
			   "a file has one config: a group goes inside it, `config { name { } }`");
		return NULL;
	}
	if (preset && !(label && label->kind == EXPR_NAME)) {
		diag_error(p->diag, E0116, label ? label->loc : word.loc,
			   "a preset has a name: `preset medium { ... }`");
		return NULL;
	}
	Decl *d = decl_new(p, config ? DECL_CONFIG : preset ? DECL_PRESET : DECL_RECIPE, word,
			   label ? label->loc : word.loc);
	d->body = body;
	if (preset)
		d->name = (Name){ label->name, label->loc };
	else
		d->label = label;
	return d;
}

/* The text of a dotted name: std.nn. */
static const char *dotted_text(Parser *p, const Expr *e)
{
	if (e->kind == EXPR_NAME)
		return e->name;
	return intern_printf(p->names, "%s.%s", dotted_text(p, e->field.base),
			     e->field.field.text);
}

Decl *decl_use(Parser *p, Name word, Expr *path)
{
	static const char *const known[] = { "use", "preset", "config" };
	if (strcmp(word.text, "use")) {
		unknown_word(p, "declaration", word, known, COUNT(known));
		return NULL;
	}
	if (path->kind == EXPR_STRING) {
		if (path->string->nhole) {
			diag_error(p->diag, E0116, path->loc, "the file of a `use` is a plain text");
			return NULL;
		}
		Decl *d = decl_new(p, DECL_USE, word, path->loc);
		d->name = (Name){ path->string->text, path->loc };
		return d;
	}
	if (path->depth > MAX_DEPTH)
		return NULL;
	Decl *d = decl_new(p, DECL_USE, word, path->loc);
	d->name = (Name){ dotted_text(p, path), path->loc };
	return d;
}
