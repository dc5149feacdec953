/* frontend/parse.y: the grammar, LALR(1) without conflicts. Actions only build nodes (build.c).
 *
 * All braces hold the same statements. A statement is *braced* (ends with its own brace and needs
 * nothing after it), *closed* (a comma may end it, as in `B -> data, vocab -> tensor`) or *open* (a
 * comma continues it, as in `state m = zeros, v = zeros`); newlines and semicolons end both. What
 * begins with two words in a row (`param x`, `freeze "**"`) is told apart by the first, in build.c:
 * no word that a recipe uses is known here. */
%require "3.8"
%define api.pure full
%define api.prefix {source_}
%define api.token.prefix {T_}
%define api.value.type union
%define api.location.type {Loc}
%define parse.error custom
%define parse.lac full
%locations
%param { Parser *p }

%code requires {
#include "frontend/syntax.h"
}

%code {
#define YYLLOC_DEFAULT(current, right, n)                                   \
	((current) = (n) ? loc_join(YYRHSLOC(right, 1), YYRHSLOC(right, n)) \
			 : YYRHSLOC(right, 0))
#define PUSH(list, ...) VEC_PUSH(p->arena, &(list), __VA_ARGS__)

int source_lex(SOURCE_STYPE *value, SOURCE_LTYPE *loc, Parser *p);

/* Not from the grammar's errors (those are told by grammar_error): only when the stack is full. */
static void source_error(const Loc *loc, Parser *p, const char *message)
{
	(void)message;
	diag_error(p->diag, E0105, *loc, "this is nested too deeply");
}
}

%token FILE_START EXPR_START
%token <const char *> NAME
%token <Str> STRING
%token <Expr *> NUMBER
%token NEWLINE
/* The braces of a record and what separates its lines are not those of a block (tokens.c tells
 * them apart), so that after an error the one is never taken for the other. */
%token RECORD RECORD_END RECORD_NEWLINE
/* The `;` of a signature: inside parentheses it ends no statement. */
%token STATIC
%token AND OR NOT TRUE FALSE NONE FOR IN IF ELSE RETURN AS
%token ARROW UPDATE RANGE ELLIPSIS POW FLOOR_DIV EQ NE LE GE

%left OR
%left AND
%precedence NOT
%nonassoc EQ NE '<' LE '>' GE
%nonassoc RANGE
%left '+' '-'
%left '*' '/' FLOOR_DIV '%' '@'
%precedence SIGN
%right POW

%type <Expr *> expr operation postfix application instance atom label dotted operand bounded dimension
%type <ExprList> exprs operands dims dim_list
%type <ArgumentList> arguments argument_list results entries
%type <Argument> argument entry
%type <Subscript> subscript
%type <SubscriptList> subscripts
%type <Text *> path as_path string
%type <Name> name
%type <TypeExpr *> type result_type annotation
%type <TypeFieldList> fields
%type <TypeField> field
%type <Parameter> parameter
%type <ParameterList> parameters parameter_list
%type <Signature> signature
%type <Block> block ended
%type <IfArmList> arms
%type <Stmt *> braced closed open
%type <Clause> clause
%type <ClauseList> clauses
%type <BindingList> bindings
%type <Expr *> initial
%type <Decl *> decl_braced decl_open

%%

start: FILE_START decls last_decl
     | EXPR_START expr                  { p->expression = $2; }
     ;

/* ---- declarations -------------------------------------------------------------------------- */

decls: %empty
     | decls separator
     | decls decl_braced                { decl_add(p, $2); }
     | decls decl_open separator        { decl_add(p, $2); }
     | decls error separator            { yyerrok; }
     ;

last_decl: %empty
     | decl_open                        { decl_add(p, $1); }
     | error
     ;

decl_braced: name block                 { $$ = decl_recipe(p, $1, NULL, $2); }
     | name label block                 { $$ = decl_recipe(p, $1, $2, $3); }
     | name name signature block        { $$ = decl_signature(p, $1, $2, $3, $4); }
     ;

decl_open: name label                   { $$ = decl_use(p, $1, $2); }
     ;

label: dotted
     | string                           { $$ = expr_string(p, $1); }
     ;

dotted: name                            { $$ = expr_name(p, $1); }
     | dotted '.' name                  { $$ = expr_field(p, $1, $3); }
     ;

signature: '(' parameters ')' result_type { $$ = (Signature){ $2, $4 }; }
     ;

result_type: %empty                     { $$ = NULL; }
     | ARROW type                       { $$ = $2; }
     ;

parameters: parameter_list
     | parameter_list STATIC parameter_list {
		$$ = $1;
		for (u32 i = 0; i < $3.n; i++) {
			$3.v[i].compile_time = true;
			PUSH($$, $3.v[i]);
		}
	}
     ;

parameter_list: %empty                  { $$ = (ParameterList){ 0 }; }
     | parameter                        { $$ = (ParameterList){ 0 }; PUSH($$, $1); }
     | parameter_list ',' parameter     { $$ = $1; PUSH($$, $3); }
     ;

parameter: name annotation initial      { $$ = (Parameter){ $1, $2, $3, false }; }
     ;

annotation: %empty                      { $$ = NULL; }
     | ':' type                         { $$ = $2; }
     ;

initial: %empty                         { $$ = NULL; }
     | '=' expr                         { $$ = $2; }
     ;

/* ---- types --------------------------------------------------------------------------------- */

type: name                              { $$ = type_new(p, TYPE_NAME, $1.text, @$); }
     | name '[' dims ']'                { $$ = type_new(p, TYPE_TENSOR, $1.text, @$);
					  $$->dim = $3; }
     | '[' dims ']'                     { $$ = type_new(p, TYPE_TENSOR, NULL, @$);
					  $$->dim = $2; }
     | '(' fields comma ')'             { $$ = type_new(p, TYPE_TUPLE, NULL, @$);
					  $$->field = $2; }
     ;

dims: %empty                            { $$ = (ExprList){ 0 }; }
     | dim_list comma
     ;

dim_list: dimension                     { $$ = (ExprList){ 0 }; PUSH($$, $1); }
     | dim_list ',' dimension           { $$ = $1; PUSH($$, $3); }
     ;

dimension: expr
     | ELLIPSIS                         { $$ = expr_new(p, EXPR_ELLIPSIS, @1); }
     ;

fields: field                           { $$ = (TypeFieldList){ 0 }; PUSH($$, $1); }
     | fields ',' field                 { $$ = $1; PUSH($$, $3); }
     ;

field: type                             { $$ = (TypeField){ { NULL, @1 }, $1 }; }
     | name ':' type                    { $$ = (TypeField){ $1, $3 }; }
     ;

/* ---- statements ---------------------------------------------------------------------------- */

block: '{' ended '}'                    { $$ = $2; $$.loc = @1; $$.end = @3; }
     | '{' ended open '}'               { $$ = $2; block_add(p, &$$, $3);
					  $$.loc = @1; $$.end = @4; }
     | '{' ended closed '}'             { $$ = $2; block_add(p, &$$, $3);
					  $$.loc = @1; $$.end = @4; }
     | '{' ended error '}'              { $$ = $2; $$.loc = @1; $$.end = @4; yyerrok; }
     ;

ended: %empty                           { $$ = (Block){ 0 }; }
     | ended separator
     | ended braced                     { $$ = $1; block_add(p, &$$, $2); }
     | ended open separator             { $$ = $1; block_add(p, &$$, $2); }
     | ended closed separator           { $$ = $1; block_add(p, &$$, $2); }
     | ended closed ','                 { $$ = $1; block_add(p, &$$, $2); }
     | ended error separator            { yyerrok; }
     ;

separator: NEWLINE | ';' ;

braced: FOR name IN expr block          { $$ = stmt_new(p, STMT_FOR, @1); $$->loop.name = $2;
					  $$->loop.over = $4; $$->loop.body = $5; }
     | arms                             { $$ = stmt_new(p, STMT_IF, @1); $$->branch = $1; }
     | arms ELSE block                  { $$ = stmt_new(p, STMT_IF, @1); $$->branch = $1;
					  PUSH($$->branch, (IfArm){ @2, NULL, $3 }); }
     | name block                       { $$ = stmt_directive(p, $1, (ExprList){ 0 },
						(ClauseList){ 0 }, NULL, &$2, @1); }
     | name operands clauses block      { $$ = stmt_directive(p, $1, $2, $3, NULL, &$4, @1); }
     ;

arms: IF expr block                     { $$ = (IfArmList){ 0 };
					  PUSH($$, (IfArm){ @1, $2, $3 }); }
     | arms ELSE IF expr block          { $$ = $1; PUSH($$, (IfArm){ @3, $4, $5 }); }
     ;

closed: exprs '=' expr clauses          { $$ = stmt_assign(p, STMT_ASSIGN, $1,
						(ExprList){ 0 }, $3, $4, @$); }
     | exprs FOR operands '=' expr clauses { $$ = stmt_assign(p, STMT_ASSIGN, $1, $3, $5, $6,
						@$); }
     | exprs UPDATE expr                { $$ = stmt_assign(p, STMT_UPDATE, $1,
						(ExprList){ 0 }, $3, (ClauseList){ 0 }, @$); }
     | exprs ARROW expr                 { $$ = stmt_new(p, STMT_ARROW, @$);
					  $$->arrow.from = $1; $$->arrow.to = $3; }
     | name name as_path ':' type initial { $$ = stmt_declare(p, $1, $2, $3, $5, $6, @$); }
     | name operands clauses ARROW expr { $$ = stmt_directive(p, $1, $2, $3, $5, NULL, @$); }
     ;

open: exprs                             { $$ = stmt_alone(p, $1, @$); }
     | RETURN results comma             { $$ = stmt_return(p, $2, @$); }
     | name bindings                    { $$ = stmt_bindings(p, $1, $2, @$); }
     | name operands clauses            { $$ = stmt_directive(p, $1, $2, $3, NULL, NULL, @$); }
     ;

results: argument                       { $$ = (ArgumentList){ 0 }; argument_add(p, &$$, $1); }
     | results ',' argument             { $$ = $1; argument_add(p, &$$, $3); }
     ;

bindings: name '=' expr                 { $$ = (BindingList){ 0 };
					  PUSH($$, (Binding){ $1, $3 }); }
     | bindings ',' name '=' expr       { $$ = $1; PUSH($$, (Binding){ $3, $5 }); }
     ;

as_path: %empty                         { $$ = NULL; }
     | AS path                          { $$ = $2; }
     ;

clauses: %empty                         { $$ = (ClauseList){ 0 }; }
     | clauses clause                   { $$ = $1; PUSH($$, $2); }
     ;

clause: name expr                       { $$ = (Clause){ $1, $2 }; }
     ;

operands: bounded                       { $$ = (ExprList){ 0 }; PUSH($$, $1); }
     | operands ',' bounded             { $$ = $1; PUSH($$, $3); }
     ;

/* `dynamic T <= 2048` */
bounded: operand
     | operand LE operation             { $$ = expr_binary(p, BINARY_LE, $1, @2, $3); }
     ;

/* What may follow a word at once: no sign can start it, for `write -x` and `write (x)` and
 * `write [x]` mean something else. */
operand: name                           { $$ = expr_name(p, $1); }
     | NUMBER
     | string                           { $$ = expr_string(p, $1); }
     | operand '.' name                 { $$ = expr_field(p, $1, $3); }
     | operand '[' subscripts comma ']' { $$ = expr_index(p, $1, $3, @$); }
     | operand '(' arguments ')'        { $$ = expr_call(p, $1, $3, @$); }
     ;

/* ---- expressions --------------------------------------------------------------------------- */

exprs: expr                             { $$ = (ExprList){ 0 }; PUSH($$, $1); }
     | exprs ',' expr                   { $$ = $1; PUSH($$, $3); }
     ;

expr: operation
     | operation IF operation ELSE expr { $$ = expr_conditional(p, $1, $3, $5); }
     ;

operation: instance
     | '-' operation %prec SIGN         { $$ = expr_unary(p, UNARY_NEGATE, $2, @$); }
     | '+' operation %prec SIGN         { $$ = expr_unary(p, UNARY_PLUS, $2, @$); }
     | NOT operation                    { $$ = expr_unary(p, UNARY_NOT, $2, @$); }
     | operation OR operation           { $$ = expr_binary(p, BINARY_OR, $1, @2, $3); }
     | operation AND operation          { $$ = expr_binary(p, BINARY_AND, $1, @2, $3); }
     | operation EQ operation           { $$ = expr_binary(p, BINARY_EQ, $1, @2, $3); }
     | operation NE operation           { $$ = expr_binary(p, BINARY_NE, $1, @2, $3); }
     | operation '<' operation          { $$ = expr_binary(p, BINARY_LT, $1, @2, $3); }
     | operation LE operation           { $$ = expr_binary(p, BINARY_LE, $1, @2, $3); }
     | operation '>' operation          { $$ = expr_binary(p, BINARY_GT, $1, @2, $3); }
     | operation GE operation           { $$ = expr_binary(p, BINARY_GE, $1, @2, $3); }
     | operation RANGE operation        { $$ = expr_range(p, $1, $3); }
     | operation '+' operation          { $$ = expr_binary(p, BINARY_ADD, $1, @2, $3); }
     | operation '-' operation          { $$ = expr_binary(p, BINARY_SUB, $1, @2, $3); }
     | operation '*' operation          { $$ = expr_binary(p, BINARY_MUL, $1, @2, $3); }
     | operation '/' operation          { $$ = expr_binary(p, BINARY_DIV, $1, @2, $3); }
     | operation FLOOR_DIV operation    { $$ = expr_binary(p, BINARY_FLOOR_DIV, $1, @2, $3); }
     | operation '%' operation          { $$ = expr_binary(p, BINARY_MOD, $1, @2, $3); }
     | operation '@' operation          { $$ = expr_binary(p, BINARY_MATMUL, $1, @2, $3); }
     | operation POW operation          { $$ = expr_binary(p, BINARY_POW, $1, @2, $3); }
     ;

instance: postfix
     | application AS path              { $$ = expr_as(p, $1, $3); }
     ;

application: postfix '(' arguments ')'  { $$ = expr_call(p, $1, $3, @$); }
     ;

postfix: atom
     | application
     | postfix '.' name                 { $$ = expr_field(p, $1, $3); }
     | postfix '[' subscripts comma ']' { $$ = expr_index(p, $1, $3, @$); }
     ;

atom: name                              { $$ = expr_name(p, $1); }
     | NUMBER
     | string                           { $$ = expr_string(p, $1); }
     | TRUE                             { $$ = expr_bool(p, true, @1); }
     | FALSE                            { $$ = expr_bool(p, false, @1); }
     | NONE                             { $$ = expr_new(p, EXPR_NONE, @1); }
     | '[' ']'                          { $$ = expr_list(p, EXPR_LIST, (ExprList){ 0 }, @$); }
     | '[' exprs comma ']'              { $$ = expr_list(p, EXPR_LIST, $2, @$); }
     | '(' expr ')'                     { $$ = $2; $$->parenthesized = true; $$->loc = @$; }
     | '(' exprs ',' ')'                { $$ = expr_list(p, EXPR_TUPLE, $2, @$); }
     | '(' exprs ',' expr ')'           { PUSH($2, $4);
					  $$ = expr_list(p, EXPR_TUPLE, $2, @$); }
     | RECORD entries RECORD_END        { $$ = expr_record(p, $2, @$); }
     | RECORD entries entry RECORD_END  { argument_add(p, &$2, $3);
					  $$ = expr_record(p, $2, @$); }
     ;

entries: %empty                         { $$ = (ArgumentList){ 0 }; }
     | entries RECORD_NEWLINE
     | entries entry ','                { $$ = $1; argument_add(p, &$$, $2); }
     | entries entry RECORD_NEWLINE     { $$ = $1; argument_add(p, &$$, $2); }
     ;

entry: name '=' expr                    { $$ = (Argument){ $1, $3 }; }
     ;

arguments: %empty                       { $$ = (ArgumentList){ 0 }; }
     | argument_list comma
     ;

argument_list: argument                 { $$ = (ArgumentList){ 0 }; argument_add(p, &$$, $1); }
     | argument_list ',' argument       { $$ = $1; argument_add(p, &$$, $3); }
     ;

argument: expr                          { $$ = (Argument){ { NULL, @1 }, $1 }; }
     | name '=' expr                    { $$ = (Argument){ $1, $3 }; }
     ;

subscripts: subscript                   { $$ = (SubscriptList){ 0 }; PUSH($$, $1); }
     | subscripts ',' subscript         { $$ = $1; PUSH($$, $3); }
     ;

subscript: expr                         { $$ = subscript_expr($1); }
     | ELLIPSIS                         { $$ = (Subscript){ .kind = SUBSCRIPT_ELLIPSIS,
							    .loc = @1 }; }
     | bound ':' bound                  { $$ = (Subscript){ .kind = SUBSCRIPT_SLICE, .loc = @$,
							    .from = $1, .to = $3 }; }
     | bound ':' bound ':' bound        { $$ = (Subscript){ .kind = SUBSCRIPT_SLICE, .loc = @$,
							    .from = $1, .to = $3, .step = $5 }; }
     ;

%type <Expr *> bound;
bound: %empty                           { $$ = NULL; }
     | expr
     ;

path: name                              { $$ = text_path(p, $1); }
     | path_dotted
     | string
     ;

%type <Text *> path_dotted;
path_dotted: name '.' name              { $$ = text_path_more(p, text_path(p, $1), $3); }
     | path_dotted '.' name             { $$ = text_path_more(p, $1, $3); }
     ;

string: STRING                          { $$ = text_string(p, $1, @1); }
     ;

name: NAME                              { $$ = (Name){ $1, @1 }; }
     ;

comma: %empty | ',' ;

%%

static int yyreport_syntax_error(const yypcontext_t *context, Parser *p)
{
	enum { MOST = 100 }; /* there are fewer tokens */
	yysymbol_kind_t symbol[MOST];
	int expected[MOST];
	int n = yypcontext_expected_tokens(context, symbol, MOST);
	for (int i = 0; i < n; i++) {
		expected[i] = -1;
		for (int kind = 0; kind <= YYMAXUTOK && expected[i] < 0; kind++)
			if (YYTRANSLATE(kind) == symbol[i])
				expected[i] = kind;
	}
	grammar_error(p, expected, MAX(n, 0));
	return 0;
}

/* A hole of a string: the same grammar, another start. */
Expr *parse_hole(Parser *outer, Str span, Loc at)
{
	/* One parser for all holes of a source: it is large, and holes do not nest. */
	if (!outer->hole)
		outer->hole = NEW(outer->arena, Parser);
	Parser *p = outer->hole;
	*p = (Parser){ .arena = outer->arena, .names = outer->names, .diag = outer->diag,
		       .ast = outer->ast };
	p->line = at.line;
	p->column0 = at.column;
	p->start = T_EXPR_START;
	scan_open(p, span);
	source_parse(p);
	scan_close(p);
	return p->expression;
}

Ast *parse_source(Arena *arena, Interner *names, Diag *diag, const char *path, Str text)
{
	Ast *ast = NEW(arena, Ast);
	ast->file = diag_source(diag, path, text);
	ast->text = text;
	Loc top = { 1, 1, 1, ast->file };
	u32 errors = diag->nerror;
	if (text.n > MAX_SOURCE) {
		diag_error(diag, E0107, top, "the file has %zu bytes; the most is %zu", text.n,
			   MAX_SOURCE);
		return NULL;
	}
	if (text.n && memchr(text.s, 0, text.n)) { /* one message, in place of one for each of its bytes */
		for (const char *c = text.s; *c; c++) {
			top.line += *c == '\n';
			top.column = *c == '\n' ? 1 : (u16)MIN(top.column + 1, UINT16_MAX);
		}
		diag_error(diag, E0100, top, "the file is no text, there is a byte 0 in it: a model is a .plinth file; weights are given by --weights");
		return NULL;
	}
	Parser *p = NEW(arena, Parser);
	p->arena = arena;
	p->names = names;
	p->diag = diag;
	p->ast = ast;
	p->line = 1;
	p->column0 = 1;
	p->start = T_FILE_START;
	p->record = true;
	check_encoding(p, text);
	scan_open(p, text);
	source_parse(p);
	scan_close(p);
	return ast->ndecl || diag->nerror == errors ? ast : NULL;
}
