/* frontend/ast.h: the syntax tree of a .plinth file, what the parser gives and elaboration reads.
 *
 * Categories are tagged unions: Decl (top level), Stmt (inside braces), Expr, TypeExpr. Every node
 * has a Loc (its first line; `length` underlines it there). Names and texts are interned: compare
 * with ==. Lists are arrays with a count. All nodes live in the arena given to parse_source.
 *
 * Few words are reserved: and or not true false none for in if else return as. All others (module,
 * param, dim, state, data, ...) are recognized by where they stand, so an axis may be called
 * `data`. All braces hold the same statements; which of them make sense in a module, a recipe or a
 * config is for whoever reads the tree to say. */
#ifndef PL_AST_H
#define PL_AST_H
#include "support/diag.h"

typedef struct Expr Expr;
typedef struct Stmt Stmt;
typedef struct Decl Decl;
typedef struct TypeExpr TypeExpr;

/* A word of the source and where it stands. */
typedef struct Name {
	const char *text; /* interned */
	Loc loc;
} Name;

/* ---- strings and paths ------------------------------------------------------------------- */

/* A piece of a string: literal text, or a hole `{expression}`. */
typedef struct TextPart {
	const char *text; /* interned; NULL for a hole */
	Expr *hole;       /* NULL for text */
} TextPart;

typedef struct TextPartList {
	TextPart *v;
	u32 n, cap;
} TextPartList;

/* A string, or the path after `as`. Braces whose content has a comma outside brackets are no hole
 * but alternatives of a pattern, as in "**.{q,v}_proj": they stay in the text. Neither are \{ \}.
 * `text` is the whole with escapes decoded and holes verbatim, "h.{i}": what a pattern matches
 * with, and all there is when `nhole` is 0. */
typedef struct Text {
	Loc loc;
	const char *text; /* interned */
	TextPart *part;
	u32 npart, nhole;
	bool bare; /* a dotted path without quotes: `as wte.weight` */
} Text;

/* ---- expressions ------------------------------------------------------------------------- */

#define UNARY_OPS(_)        \
	_(NEGATE, "-")      \
	_(PLUS, "+")        \
	_(NOT, "not")

#define BINARY_OPS(_)       \
	_(ADD, "+")         \
	_(SUB, "-")         \
	_(MUL, "*")         \
	_(DIV, "/")         \
	_(FLOOR_DIV, "//")  \
	_(MOD, "%")         \
	_(POW, "**")        \
	_(MATMUL, "@")      \
	_(EQ, "==")         \
	_(NE, "!=")         \
	_(LT, "<")          \
	_(LE, "<=")         \
	_(GT, ">")          \
	_(GE, ">=")         \
	_(AND, "and")       \
	_(OR, "or")

/* What is said where words follow `//`. */
#define COMMENTS_BEGIN_OTHERWISE "a comment begins with `#`; `//` divides, and rounds down"

typedef enum UnaryOp {
#define UNARY(name, spelling) UNARY_##name,
	UNARY_OPS(UNARY)
#undef UNARY
	UNARY_COUNT
} UnaryOp;

typedef enum BinaryOp {
#define BINARY(name, spelling) BINARY_##name,
	BINARY_OPS(BINARY)
#undef BINARY
	BINARY_COUNT
} BinaryOp;

extern const char *const unary_spelling[UNARY_COUNT];
extern const char *const binary_spelling[BINARY_COUNT];

typedef enum ExprKind {
	EXPR_NUMBER,      /* 1_000, 6e-4, 8 GiB: `number` */
	EXPR_STRING,      /* "h.{i}": `string` */
	EXPR_BOOL,        /* true, false: `boolean` */
	EXPR_NONE,        /* none */
	EXPR_ELLIPSIS,    /* ... as a dimension of a TypeExpr; nowhere else */
	EXPR_NAME,        /* `name`; also words such as 1f1b */
	EXPR_LIST,        /* [a, b]: `list` */
	EXPR_TUPLE,       /* (a, b) with two elements or more, or one and a comma: `list` */
	EXPR_RECORD,      /* { B = 8, T = 1024 }: `record`; every argument has a name */
	EXPR_UNARY,       /* `unary` */
	EXPR_BINARY,      /* `binary`; comparisons do not chain */
	EXPR_CONDITIONAL, /* a if c else b: `conditional` */
	EXPR_RANGE,       /* a..b, b excluded: `range` */
	EXPR_CALL,        /* f(x, k = v) as path: `call` */
	EXPR_INDEX,       /* x[...]: `index` */
	EXPR_FIELD        /* base.field: `field` */
} ExprKind;

typedef struct ExprList {
	Expr **v;
	u32 n, cap;
} ExprList;

/* An argument of a call or an entry of a record. */
typedef struct Argument {
	Name name; /* text NULL when positional; positional ones come first */
	Expr *value;
} Argument;

typedef struct ArgumentList {
	Argument *v;
	u32 n, cap;
} ArgumentList;

typedef enum SubscriptKind {
	SUBSCRIPT_INDEX,    /* `index`: an integer, or a tensor to gather by */
	SUBSCRIPT_SLICE,    /* from:to:step, each NULL when left out */
	SUBSCRIPT_NEW_AXIS, /* none */
	SUBSCRIPT_ELLIPSIS  /* ... */
} SubscriptKind;

typedef struct Subscript {
	SubscriptKind kind;
	Loc loc;
	Expr *index;
	Expr *from, *to, *step;
} Subscript;

typedef struct SubscriptList {
	Subscript *v;
	u32 n, cap;
} SubscriptList;

struct Expr {
	ExprKind kind;
	Loc loc;
	u16 depth;          /* of the tree below, at least 1; bounded, so recursion over it is safe */
	bool parenthesized; /* written in ( ) */
	union {
		struct {
			bool is_integer;  /* no point, no exponent; and a unit that leaves it whole */
			i64 integer;      /* when is_integer */
			f64 value;        /* always; scaled by the unit: 8 GiB is 8589934592 */
			const char *unit; /* interned, or NULL */
		} number;
		Text *string;
		bool boolean;
		const char *name; /* interned */
		ExprList list;
		ArgumentList record;
		struct {
			UnaryOp op;
			Expr *operand;
		} unary;
		struct {
			BinaryOp op;
			Loc op_loc; /* the operator's own place */
			Expr *left, *right;
		} binary;
		struct {
			Expr *condition, *then, *otherwise;
		} conditional;
		struct {
			Expr *from, *to;
		} range;
		struct {
			Expr *callee; /* EXPR_NAME or EXPR_FIELD where it can mean something */
			ArgumentList argument;
			Text *path; /* after `as`, or NULL */
		} call;
		struct {
			Expr *base;
			SubscriptList subscript;
		} index;
		struct {
			Expr *base;
			Name field;
		} field;
	};
};

/* ---- types ------------------------------------------------------------------------------- */

typedef enum TypeKind {
	TYPE_NAME,   /* dim, int, float, bool, string, list, module, config, f32, ...: `name` */
	TYPE_TENSOR, /* i32[B, T] or [..., D]: `name` is the dtype or NULL, `dim` the dimensions */
	TYPE_TUPLE   /* (hidden: [B, T, D], pooled: [B, D]) or ([B], [B]), of results: `field` */
} TypeKind;

typedef struct TypeField {
	Name name; /* text NULL when it has none */
	TypeExpr *type;
} TypeField;

typedef struct TypeFieldList {
	TypeField *v;
	u32 n, cap;
} TypeFieldList;

struct TypeExpr {
	TypeKind kind;
	Loc loc;
	const char *name; /* interned, or NULL */
	ExprList dim;     /* each an expression over symbols, or EXPR_ELLIPSIS */
	TypeFieldList field;
};

/* ---- statements -------------------------------------------------------------------------- */

typedef struct Block {
	Stmt **v;
	u32 n, cap;
	Loc loc, end; /* of the opening and of the closing brace */
} Block;

/* One arm of an if: the last may be an else. */
typedef struct IfArm {
	Loc loc;
	Expr *condition; /* NULL: else */
	Block body;
} IfArm;

typedef struct IfArmList {
	IfArm *v;
	u32 n, cap;
} IfArmList;

/* `m = zeros` of a state. */
typedef struct Binding {
	Name name;
	Expr *value;
} Binding;

typedef struct BindingList {
	Binding *v;
	u32 n, cap;
} BindingList;

/* `with Lora(rank = 16)` of a directive, `from "n_embd"` of an assignment. */
typedef struct Clause {
	Name word;
	Expr *value;
} Clause;

typedef struct ClauseList {
	Clause *v;
	u32 n, cap;
} ClauseList;

typedef enum StmtKind {
	STMT_ASSIGN,   /* q, k, v = f(x);  width = 768 from "n_embd";  optimizer for "p", "q" = f() */
	STMT_UPDATE,   /* m <- expr: a state or parameter takes a new value; `assign` */
	STMT_PARAM,    /* param wte as wte.weight: [vocab, width] = normal(): `declare` */
	STMT_INPUT,    /* input tokens: i32[B, T]: `declare`, without path */
	STMT_DIM,      /* dim F = 4 * D: `binding`, one or more */
	STMT_STATE,    /* state m = zeros, v = zeros: `binding`, one or more */
	STMT_FOR,      /* for i in 0..layers { }, for c in channels { }: `loop` */
	STMT_IF,       /* if a { } else if b { } else { }: `branch` */
	STMT_SCOPE,    /* scope "encoder.{i}" { }: `scope` */
	STMT_RETURN,   /* return x, or several results, or named: `results` */
	STMT_EXPR,     /* an expression alone: `expr` */
	STMT_ARROW,    /* B -> data;  B, T -> (pod, data);  layers -> pipe(): `arrow` */
	STMT_DIRECTIVE /* write png(x);  freeze "**";  wrap "p" with Lora();  rename "a" -> "b";
			* text { width = 512 };  task arithmetic { }: `directive` */
} StmtKind;

struct Stmt {
	StmtKind kind;
	Loc loc;
	union {
		struct {
			ExprList target;  /* each EXPR_NAME or a dotted EXPR_FIELD; of an update one */
			ExprList pattern; /* after `for`, strings: restricts a recipe key; else empty */
			Expr *value;
			ClauseList clause;
		} assign;
		struct {
			Name name;
			Text *path; /* after `as`, or NULL; may have a hole that names a stacked axis */
			TypeExpr *type;
			Expr *value; /* initial value, or NULL */
		} declare;
		BindingList binding;
		struct {
			Name name;
			Expr *over; /* EXPR_RANGE, a list, or in a sampler a call */
			Block body;
		} loop;
		IfArmList branch;
		struct {
			Text *path;
			Block body;
		} scope;
		ArgumentList results; /* `return x, y` or `return hidden = x, pooled = y` */
		Expr *expr;
		struct {
			ExprList from; /* names, dotted names or strings, as the recipe has it */
			Expr *to;
		} arrow;
		struct {
			Name word;         /* write, freeze, wrap, ... */
			ExprList operand;  /* may be empty when there is a body */
			ClauseList clause; /* in order */
			Expr *arrow;       /* after `->`, or NULL */
			bool has_body;
			Block body;
		} directive;
	};
};

/* ---- declarations ------------------------------------------------------------------------ */

typedef struct Parameter {
	Name name;
	TypeExpr *type;    /* NULL when it has none */
	Expr *value;       /* default, or NULL */
	bool compile_time; /* stands after the `;` */
} Parameter;

typedef struct ParameterList {
	Parameter *v;
	u32 n, cap;
} ParameterList;

typedef struct Signature {
	ParameterList param;
	TypeExpr *result; /* after `->`, or NULL */
} Signature;

typedef enum DeclKind {
	DECL_USE,       /* use std.nn: `name` is the dotted path */
	DECL_CONFIG,    /* config { }: entries are STMT_ASSIGN, groups STMT_DIRECTIVE with a body */
	DECL_PRESET,    /* preset medium { }: as config */
	DECL_MODULE,    /* module Name(signature) -> type { } */
	DECL_FUNCTION,  /* function name(signature) { } */
	DECL_OPTIMIZER, /* optimizer name(p, g, step; lr) { } */
	DECL_MODEL,     /* model name(signature) -> type { } */
	DECL_RECIPE     /* train { }, adapt llama { }: `word`, perhaps `label` */
} DeclKind;

struct Decl {
	DeclKind kind;
	Loc loc;             /* the name where there is one, else the first word */
	Name word;           /* the first word: module, train, ... */
	Name name;           /* of what it declares or uses; text NULL for config and recipes */
	Signature signature; /* of module, function, optimizer, model */
	Expr *label;         /* of a recipe: `llama` in `adapt llama { }`, or NULL */
	Block body;          /* all but use */
};

/* ---- a file ------------------------------------------------------------------------------ */

/* A word of the source as the lexer saw it, comments among them; line ends are not tokens. What
 * the formatter reads. */
typedef struct Token {
	i32 kind; /* of the parser's token kinds, or TOKEN_COMMENT */
	u32 line; /* from 1 */
	Str text; /* in the source */
} Token;
#define TOKEN_COMMENT (-1)

typedef struct Ast {
	Decl **decl;
	u32 ndecl, cap;
	u16 file; /* Diag.source of it */
	Str text;
	Token *token;
	u32 ntoken, token_cap;
} Ast;

/* Parses `text`, which must outlive the tree, and registers it with `diag` under `path`. Reports
 * every syntax error it can, recovering at the ends of statements and declarations. Gives the tree
 * of what parsed, or NULL when nothing did; the tree is whole only if no error was added. */
Ast *parse_source(Arena *arena, Interner *names, Diag *diag, const char *path, Str text);

/* The canonical source of a tree that parsed without an error: same lines, same comments, one
 * spacing. Formatting what this prints gives the same text, and its tree is the same. */
void ast_format(const Ast *ast, FILE *to);

/* The tree as an S-expression without places: equal trees print equal text. */
void ast_dump(const Ast *ast, FILE *to);

#endif
