/* frontend/tokens.c: from lexemes to what the grammar sees. Decides which line ends end a
 * statement, tells the braces of records from those of blocks, checks that brackets match, and
 * after an error leads the parser to the end of the statement that has it: one mistake, one
 * message, and the next statement is parsed as if nothing had happened. */
#include "frontend/syntax.h"
#include "frontend/parse.h"

int source_lex(SOURCE_STYPE *value, SOURCE_LTYPE *loc, Parser *p);

bool token_is_binary(int kind)
{
	switch (kind) {
	case '+': case '-': case '*': case '/': case '%': case '@': case '<': case '>':
	case T_POW: case T_FLOOR_DIV: case T_EQ: case T_NE: case T_LE: case T_GE:
	case T_AND: case T_OR: case T_NOT: case T_RANGE:
		return true;
	}
	return false;
}

bool token_continues(int kind)
{
	switch (kind) {
	case ',': case '=': case ':': case '.': case T_ARROW: case T_UPDATE: case T_IN: case T_AS:
	case '(': case '[': case '{': case T_RECORD: case ';': case T_STATIC:
		return true;
	}
	return token_is_binary(kind);
}

/* The next lexeme that is not a comment, brackets not yet looked at. */
static Lexeme take(Parser *p)
{
	if (p->has_held) {
		p->has_held = false;
		return p->held;
	}
	for (;;) {
		Lexeme x = scan_next(p);
		if (p->record && x.kind && x.kind != T_NEWLINE) {
			if (p->ast->ntoken == p->ast->token_cap)
				p->ast->token = vec_grow(p->arena, p->ast->token, p->ast->ntoken,
							 &p->ast->token_cap, sizeof(Token));
			p->ast->token[p->ast->ntoken++] = (Token){ x.kind, x.loc.line, x.span };
		}
		if (x.kind != LEXEME_COMMENT)
			return x;
	}
}

static void hold(Parser *p, Lexeme x)
{
	p->held = x;
	p->has_held = true;
}

static void enqueue(Parser *p, int kind, Loc loc)
{
	if (p->queue_at == p->nqueue)
		p->queue_at = p->nqueue = 0;
	assert(p->nqueue < COUNT(p->queue));
	p->queue[p->nqueue++] = (Lexeme){ .kind = kind, .loc = loc };
}

static Lexeme silent_error(Loc loc)
{
	return (Lexeme){ .kind = T_SOURCE_error, .loc = loc };
}

static char top(const Parser *p)
{
	return p->nbracket ? p->bracket[p->nbracket - 1].kind : 0;
}

/* How many brackets are open up to and with the innermost block's. */
static u32 block_depth(const Parser *p)
{
	u32 n = p->nbracket;
	while (n && p->bracket[n - 1].kind != '{')
		n--;
	return n;
}

/* Forgets the parentheses of the statement being read, not its records. */
static void drop_parentheses(Parser *p)
{
	u32 from = block_depth(p), to = from;
	for (; from < p->nbracket; from++)
		if (p->bracket[from].kind == 'R')
			p->bracket[to++] = p->bracket[from];
	p->nbracket = to;
}

static void skip_from_here(Parser *p)
{
	drop_parentheses(p);
	p->skip = true;
	p->skip_depth = block_depth(p);
}

/* What the next line that is not blank begins with. */
static int next_line_kind(Parser *p)
{
	Lexeme x = take(p);
	while (x.kind == T_NEWLINE)
		x = take(p);
	hold(p, x);
	return x.kind;
}

void token_recover(Parser *p)
{
	switch (p->last.kind) {
	case 0: case T_NEWLINE: case ';': case '}':
		/* The grammar goes on with these as they are. */
		drop_parentheses(p);
		/* A block on the next line belongs to what went wrong. */
		if (p->last.kind == T_NEWLINE && next_line_kind(p) == '{') {
			p->skip = true;
			p->skip_depth = block_depth(p);
		}
		return;
	case '{': case '(': case '[': case T_RECORD: {
		/* The bracket belongs to what is skipped. */
		Bracket opened = p->bracket[--p->nbracket];
		u32 depth;
		drop_parentheses(p);
		depth = block_depth(p);
		if (opened.kind == '{' || opened.kind == 'R')
			p->bracket[p->nbracket++] = opened;
		p->skip = true;
		p->skip_depth = depth;
		return;
	}
	default:
		skip_from_here(p);
	}
}

void token_restart(Parser *p)
{
	Lexeme x = p->last;
	if (x.kind == '{' || x.kind == '(' || x.kind == '[' || x.kind == T_RECORD)
		p->nbracket--;
	if (x.kind == T_RECORD)
		x.kind = '{';
	/* Records are abandoned with the statement that they are in. */
	p->nbracket = block_depth(p);
	enqueue(p, T_NEWLINE, x.loc);
	hold(p, x);
}

/* Stops reading: what is open stays open, and nobody wants to hear of it. */
static Lexeme stop_too_deep(Parser *p, Loc loc)
{
	if (!p->too_deep)
		diag_error(p->diag, E0105, loc, "brackets are nested more than %d deep",
			   MAX_BRACKETS);
	p->too_deep = true;
	return (Lexeme){ .kind = 0, .loc = loc };
}

static Lexeme opening(Parser *p, Lexeme x)
{
	if (p->nbracket == MAX_BRACKETS)
		return stop_too_deep(p, x.loc);
	char kind = (char)x.kind;
	/* A block's brace follows a name, a value or `else`; where a value is due it is a record. */
	if (kind == '{' && token_continues(p->last.kind) && p->last.kind != '{' &&
	    p->last.kind != ';' && !(p->last.kind == ',' && block_depth(p) == p->nbracket)) {
		kind = 'R';
		x.kind = T_RECORD;
	}
	p->bracket[p->nbracket++] = (Bracket){ kind, x.loc };
	return x;
}

/* A closing bracket that does not close the innermost one. */
static Lexeme mismatched(Parser *p, Lexeme x)
{
	char open = x.kind == ')' ? '(' : x.kind == ']' ? '[' : '{';
	Bracket inner = p->nbracket ? p->bracket[p->nbracket - 1] : (Bracket){ 0 };
	if (x.kind == '}') {
		diag_error(p->diag, E0111, inner.loc, "this `%c` is not closed", inner.kind);
		diag_note(p->diag, x.loc, "the block ends here");
		drop_parentheses(p);
		if (top(p) == 'R') {
			p->nbracket--;
			skip_from_here(p);
		} else {
			p->nbracket--;
			enqueue(p, '}', x.loc);
		}
		return silent_error(x.loc);
	}
	if (inner.kind == '(' || inner.kind == '[') {
		diag_error(p->diag, E0112, x.loc, "`%c` does not close `%c`", x.kind, inner.kind);
		diag_note(p->diag, inner.loc, "which was opened here");
	} else
		diag_error(p->diag, E0112, x.loc, "no `%c` is open for this `%c`", open, x.kind);
	skip_from_here(p);
	return silent_error(x.loc);
}

/* `module Name(` at the start of a line while brackets are open: closes them all. */
static Lexeme close_all(Parser *p, Lexeme x)
{
	Bracket inner = p->bracket[p->nbracket - 1];
	unclosed(p, &inner);
	diag_note(p->diag, x.loc, "before the next declaration");
	enqueue(p, T_NEWLINE, x.loc);
	for (; p->nbracket; p->nbracket--)
		if (top(p) == '{')
			enqueue(p, '}', x.loc);
	p->skip = false;
	x.declaration = false;
	hold(p, x);
	return silent_error(x.loc);
}

/* The lexeme as the grammar is to see it. */
static Lexeme bracketed(Parser *p, Lexeme x)
{
	if (p->too_deep)
		return stop_too_deep(p, x.loc);
	if (x.declaration && p->nbracket)
		return close_all(p, x);
	switch (x.kind) {
	case '(': case '[': case '{':
		return opening(p, x);
	case ')': case ']':
		if (top(p) != (x.kind == ')' ? '(' : '['))
			return mismatched(p, x);
		p->nbracket--;
		return x;
	case '}':
		if (!p->nbracket || (block_depth(p) == 0 && top(p) != 'R')) {
			diag_error(p->diag, E0112, x.loc, "no `{` is open for this `}`");
			skip_from_here(p);
			return silent_error(x.loc);
		}
		if (top(p) == '(' || top(p) == '[')
			return mismatched(p, x);
		if (top(p) == 'R')
			x.kind = T_RECORD_END;
		p->nbracket--;
		return x;
	case ';':
		if (top(p) == 'R')
			x.kind = T_RECORD_NEWLINE;
		else if (top(p) == '(' || top(p) == '[')
			x.kind = T_STATIC;
		return x;
	}
	return x;
}

/* Reads on to where the statement with the error ends. */
static Lexeme skipped(Parser *p)
{
	p->skip = false;
	for (;;) {
		Lexeme x = take(p);
		bool outside = p->nbracket <= p->skip_depth;
		if (!x.kind || (x.declaration && p->nbracket))
			return bracketed(p, x);
		switch (x.kind) {
		case '{':
			if (p->nbracket == MAX_BRACKETS)
				return stop_too_deep(p, x.loc);
			p->bracket[p->nbracket++] = (Bracket){ '{', x.loc };
			break;
		case '}':
			if (outside && p->nbracket)
				return bracketed(p, x);
			if (p->nbracket)
				p->nbracket--;
			break;
		case ';':
			if (outside)
				return x;
			break;
		case T_NEWLINE:
			if (outside && next_line_kind(p) != T_ELSE)
				return x;
			break;
		}
	}
}

static Lexeme next(Parser *p)
{
	if (p->queue_at < p->nqueue)
		return p->queue[p->queue_at++];
	if (p->skip)
		return skipped(p);
	for (;;) {
		Lexeme x = take(p);
		if (x.kind != T_NEWLINE)
			return bracketed(p, x);
		if (top(p) == '(' || top(p) == '[' || token_continues(p->last.kind) ||
		    p->last.kind == T_NEWLINE || p->last.kind == T_RECORD_NEWLINE ||
		    next_line_kind(p) == T_ELSE)
			continue;
		if (top(p) == 'R')
			x.kind = T_RECORD_NEWLINE;
		return x;
	}
}

static bool ends_statement(int kind)
{
	return !kind || kind == T_NEWLINE || kind == ';' || kind == '{' || kind == '}';
}

int source_lex(SOURCE_STYPE *value, SOURCE_LTYPE *loc, Parser *p)
{
	if (p->start) {
		int kind = p->start;
		p->start = 0;
		*loc = (Loc){ p->line, (u16)p->column0, 1, p->ast->file };
		return kind;
	}
	Lexeme x = next(p);
	if (x.kind != T_SOURCE_error) {
		if (ends_statement(p->last.kind))
			p->head = x;
		p->before = p->last;
		p->last = x;
		if (x.kind == T_FLOOR_DIV)
			p->divided = x.loc.line;
	}
	*loc = x.loc;
	if (x.kind == T_NAME)
		value->T_NAME = intern(p->names, x.span);
	else if (x.kind == T_STRING)
		value->T_STRING = x.span;
	else if (x.kind == T_NUMBER)
		value->T_NUMBER = expr_number(p, x.span, x.loc);
	return x.kind;
}
