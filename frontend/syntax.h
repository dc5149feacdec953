/* frontend/syntax.h: what the lexer, the grammar and the tree builders share; nobody else includes
 * this. The way of a word: lex.l cuts the text into lexemes; tokens.c decides which line ends
 * count, keeps track of brackets and gets the parser back on its feet after an error; parse.y
 * says what may follow what; build.c makes nodes; text.c reads strings. */
#ifndef PL_SYNTAX_H
#define PL_SYNTAX_H
#include "frontend/ast.h"
#include "support/vec.h"

/* How deep brackets, and expressions, may nest: enough for any program that people write, and safe
 * for every recursion over the tree. */
#define MAX_BRACKETS 200
#define MAX_DEPTH    1000
/* Longer sources are refused, so that places and sizes fit their types. */
#define MAX_SOURCE   ((size_t)4 << 20)

/* A word of the text. kind is a token kind of parse.h or LEXEME_COMMENT. */
typedef struct Lexeme {
	int kind;
	Str span;
	Loc loc;
	bool first;       /* the first on its line */
	bool declaration; /* the first word of `module Name(` and the like, at column 1 */
} Lexeme;
#define LEXEME_COMMENT TOKEN_COMMENT

typedef struct Bracket {
	char kind; /* ( [ { of a block, or R: the { of a record */
	Loc loc;
} Bracket;

typedef struct Parser {
	Arena *arena;
	Interner *names;
	Diag *diag;
	Ast *ast;

	/* lex.l */
	void *scanner;
	Str text;          /* what is being read */
	size_t begin, at;  /* offsets into text of the lexeme being read, and of the next byte */
	size_t line_start; /* offset of the line's first byte; column = at - line_start + column0 */
	u32 line, column0;
	Loc loc;           /* of the lexeme being read */
	bool line_is_blank; /* nothing but white space before `at` on this line */
	bool declaration;

	/* tokens.c */
	int start;        /* the pseudo token that selects what to parse; 0 once it was given */
	bool record;      /* lexemes go to ast->token */
	Lexeme last;      /* what the parser was given last ... */
	Lexeme before;    /* ... and before that */
	u32 divided;      /* the line of the last `//`, with which comments begin in other languages */
	Lexeme head;      /* the first lexeme of the statement being read */
	Bracket bracket[MAX_BRACKETS];
	u32 nbracket;
	Lexeme held;      /* was read and is to be read again, if has_held */
	bool has_held;
	Lexeme queue[MAX_BRACKETS + 8]; /* to be given before anything is read */
	u32 queue_at, nqueue;
	bool skip;        /* after an error: go to the end of the statement ... */
	u32 skip_depth;   /* ... at which this many brackets are open */
	bool too_deep;    /* reading has stopped at brackets nested too deeply */

	struct Parser *hole; /* reads the holes of strings, once there was one */
	Expr *expression;    /* the result when an expression is parsed by itself */
} Parser;

/* lex.l: the next lexeme; kind 0 at the end. */
int source_scan(void *scanner);
bool scan_open(Parser *p, Str text);
void scan_close(Parser *p);
Lexeme scan_next(Parser *p);

/* tokens.c */
bool token_continues(int kind); /* whether a line that ends with it goes on */
bool token_is_binary(int kind); /* an operator with a left and a right, `-` and `not` among them */
/* After an error at p->last: makes the parser go on at the end of the statement. */
void token_recover(Parser *p);
/* After an error at p->last, which begins a statement: the one before ends here. */
void token_restart(Parser *p);

/* syntax_error.c: tells what is wrong at p->last, where one of `expected` should stand; then
 * recovers. Token kinds that are characters are those characters. */
void grammar_error(Parser *p, const int *expected, int n);
/* Tells that a bracket is not closed, and what mistake inside it may be why. */
void unclosed(Parser *p, const Bracket *b);
/* What to write instead of a word of another language, or NULL. */
const char *foreign_word(const char *word);
/* The nearest of `known` (n of them) to what was written, or NULL if none is near. */
const char *nearest_word(const char *written, const char *const *known, u32 n);
/* Complains about the first place that is not UTF-8, or a control character. */
void check_encoding(Parser *p, Str text);

/* parse.y: one expression that stands inside a string; NULL after an error. */
Expr *parse_hole(Parser *outer, Str span, Loc at);

/* text.c: `span` is the string with its quotes. */
Text *text_string(Parser *p, Str span, Loc loc);
Text *text_path(Parser *p, Name first);               /* a dotted path ... */
Text *text_path_more(Parser *p, Text *path, Name next); /* ... and its next part */

/* build.c: nodes. Each gives a node even when it reports an error, so that parsing goes on. */
Loc loc_join(Loc first, Loc last);
Expr *expr_new(Parser *p, ExprKind kind, Loc loc);
Expr *expr_number(Parser *p, Str span, Loc loc);
Expr *expr_string(Parser *p, Text *text);
Expr *expr_name(Parser *p, Name name);
Expr *expr_bool(Parser *p, bool value, Loc loc);
Expr *expr_list(Parser *p, ExprKind kind, ExprList list, Loc loc);
Expr *expr_record(Parser *p, ArgumentList entries, Loc loc);
Expr *expr_unary(Parser *p, UnaryOp op, Expr *operand, Loc loc);
Expr *expr_binary(Parser *p, BinaryOp op, Expr *left, Loc op_loc, Expr *right);
Expr *expr_conditional(Parser *p, Expr *then, Expr *condition, Expr *otherwise);
Expr *expr_range(Parser *p, Expr *from, Expr *to);
Expr *expr_call(Parser *p, Expr *callee, ArgumentList arguments, Loc loc);
Expr *expr_index(Parser *p, Expr *base, SubscriptList subscripts, Loc loc);
Expr *expr_field(Parser *p, Expr *base, Name field);
Expr *expr_as(Parser *p, Expr *call, Text *path);
Subscript subscript_expr(Expr *index);

TypeExpr *type_new(Parser *p, TypeKind kind, const char *name, Loc loc);

Stmt *stmt_new(Parser *p, StmtKind kind, Loc loc);
Stmt *stmt_assign(Parser *p, StmtKind kind, ExprList target, ExprList pattern, Expr *value,
		  ClauseList clause, Loc loc);
Stmt *stmt_alone(Parser *p, ExprList values, Loc loc);
Stmt *stmt_return(Parser *p, ArgumentList results, Loc loc);
Stmt *stmt_bindings(Parser *p, Name word, BindingList bindings, Loc loc);
Stmt *stmt_declare(Parser *p, Name word, Name name, Text *path, TypeExpr *type, Expr *value,
		   Loc loc);
Stmt *stmt_directive(Parser *p, Name word, ExprList operand, ClauseList clause, Expr *arrow,
		     const Block *body, Loc loc);

/* NULL for a NULL statement or a word that declares nothing, after an error. */
void block_add(Parser *p, Block *block, Stmt *stmt);
void decl_add(Parser *p, Decl *decl);
Decl *decl_signature(Parser *p, Name word, Name name, Signature signature, Block body);
Decl *decl_recipe(Parser *p, Name word, Expr *label, Block body);
Decl *decl_use(Parser *p, Name word, Expr *path);
void argument_add(Parser *p, ArgumentList *list, Argument argument);

#endif
