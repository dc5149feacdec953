/* ptx.h: PTX as the parser gives it: a module with its variables and functions, a function with its
 * registers, labels and instructions, an instruction as an opcode, modifiers and operands.
 * Names are resolved (to registers, variables, labels); what an instruction means is decided by
 * decode.c. Follows NVIDIA's "PTX ISA", version 9.0. */
#ifndef STANDIN_PTX_H
#define STANDIN_PTX_H
#include "support/arena.h"
#include "support/str.h"
#include "support/vec.h"

typedef enum Space {
	SPACE_GENERIC,
	SPACE_GLOBAL,
	SPACE_CONST,
	SPACE_SHARED,
	SPACE_LOCAL,
	SPACE_PARAM
} Space;

/* Fundamental types, and the packed ones that only instructions name. */
typedef enum Type {
	TYPE_NONE,
	TYPE_PRED,
	TYPE_B8, TYPE_B16, TYPE_B32, TYPE_B64, TYPE_B128,
	TYPE_U8, TYPE_U16, TYPE_U32, TYPE_U64,
	TYPE_S8, TYPE_S16, TYPE_S32, TYPE_S64,
	TYPE_F16, TYPE_BF16, TYPE_F32, TYPE_F64,
	TYPE_F16X2, TYPE_BF16X2, TYPE_TF32, TYPE_U16X2, TYPE_S16X2,
	TYPE_E4M3, TYPE_E5M2, TYPE_E4M3X2, TYPE_E5M2X2
} Type;

u32 type_bytes(Type t);               /* 0 for a predicate */
Type type_of_name(const char *name);  /* "f32"; TYPE_NONE if it is no type's name */
bool type_is_signed(Type t);          /* s8 to s64 */
bool type_is_integer(Type t);         /* b, u, s */

/* A word that an initializer's bytes get the address of a variable in. */
typedef struct Relocation {
	u32 offset;
	struct Variable *to;
	i64 add;
} Relocation;

typedef struct Variable {
	const char *name;
	Space space;
	u32 align;
	u64 size;       /* bytes; 0 for extern shared */
	u8 *init;       /* NULL: zeroes */
	VEC(Relocation) relocations;
	u64 address;    /* global, const: in device memory; shared: offset; param, local: offset in the frame */
	bool is_extern;
	bool is_entry_param;
	bool in_use;    /* named by an instruction */
} Variable;

typedef enum OperandKind {
	OPERAND_REGISTER, /* index; negated: !p */
	OPERAND_NUMBER,   /* bits; is_float: of an f64, or of an f32 if is_single */
	OPERAND_VARIABLE, /* variable + offset */
	OPERAND_SPECIAL,  /* index: a Special */
	OPERAND_LABEL,    /* index */
	OPERAND_FUNCTION, /* name */
	OPERAND_SINK,     /* _ */
	OPERAND_VECTOR,   /* item[count] */
	OPERAND_ADDRESS   /* item[0] is the base, offset the displacement, item[1..] coordinates */
} OperandKind;

typedef struct Operand Operand;
struct Operand {
	OperandKind kind;
	bool negated, is_float, is_single;
	u32 index;
	u64 bits;
	i64 offset;
	Variable *variable;
	const char *name;
	Operand *item;
	u32 count;
	Operand *pair; /* the q of p|q */
};

typedef struct Statement {
	const char *opcode;      /* "ld", interned */
	const char **modifier;   /* "global", "v4", "f32", interned */
	u32 nmodifier;
	Operand *operand;
	u32 noperand;
	i32 guard;               /* a predicate register, or -1 */
	bool guard_negated;
	u32 line;
	const char *text;        /* as written, blanks made one */
} Statement;

typedef struct Label {
	const char *name;
	u32 scope;
	u32 at; /* index of the statement that follows */
} Label;

/* What a branch names, until all labels are known; then `label`. */
typedef struct LabelUse {
	const char *name;
	u32 scope;
	u32 label;
} LabelUse;

typedef struct Function {
	const char *name;
	bool is_entry, is_declaration;
	VEC(Variable *) params;
	Variable *result;             /* of a .func, or NULL */
	VEC(Type) registers;
	VEC(Variable *) variables;    /* of the body, any space */
	VEC(Statement) statements;
	VEC(Label) labels;
	VEC(LabelUse) uses;           /* operand.index of OPERAND_LABEL */
	u32 param_bytes;              /* entry: of the parameter buffer */
	u32 frame_bytes;              /* locals and call parameters */
	u32 max_threads[3], required_threads[3]; /* 0: not said */
	u32 min_blocks;
} Function;

typedef struct Module {
	Arena arena;
	Interner names;
	VEC(Variable *) variables;    /* of the module, any space */
	VEC(Function *) functions;
	u32 target;                   /* 90 of sm_90a */
	bool one_target;              /* the a: for that one alone */
	char error[400];              /* "" if all is well */
} Module;

typedef enum Special {
	SPECIAL_TID_X, SPECIAL_TID_Y, SPECIAL_TID_Z,
	SPECIAL_NTID_X, SPECIAL_NTID_Y, SPECIAL_NTID_Z,
	SPECIAL_CTAID_X, SPECIAL_CTAID_Y, SPECIAL_CTAID_Z,
	SPECIAL_NCTAID_X, SPECIAL_NCTAID_Y, SPECIAL_NCTAID_Z,
	SPECIAL_LANEID, SPECIAL_WARPID, SPECIAL_NWARPID, SPECIAL_SMID, SPECIAL_NSMID, SPECIAL_GRIDID,
	SPECIAL_LANEMASK_EQ, SPECIAL_LANEMASK_LE, SPECIAL_LANEMASK_LT, SPECIAL_LANEMASK_GE, SPECIAL_LANEMASK_GT,
	SPECIAL_CLUSTERID_X, SPECIAL_CLUSTERID_Y, SPECIAL_CLUSTERID_Z,
	SPECIAL_NCLUSTERID_X, SPECIAL_NCLUSTERID_Y, SPECIAL_NCLUSTERID_Z,
	SPECIAL_CLUSTER_CTAID_X, SPECIAL_CLUSTER_CTAID_Y, SPECIAL_CLUSTER_CTAID_Z,
	SPECIAL_CLUSTER_NCTAID_X, SPECIAL_CLUSTER_NCTAID_Y, SPECIAL_CLUSTER_NCTAID_Z,
	SPECIAL_CLUSTER_CTARANK, SPECIAL_CLUSTER_NCTARANK,
	SPECIAL_DYNAMIC_SMEM_SIZE, SPECIAL_TOTAL_SMEM_SIZE,
	SPECIAL_CLOCK, SPECIAL_CLOCK_HI, SPECIAL_CLOCK64, SPECIAL_GLOBALTIMER, SPECIAL_GLOBALTIMER_LO, /* change as it runs */
	SPECIAL_COUNT
} Special;

/* Parses a whole PTX text into `m` (zeroed). False, with m->error set, where it cannot. */
bool ptx_parse(Module *m, Str text);

/* The lexer. A token is a piece of the text. */
typedef enum TokenKind {
	TOKEN_END,
	TOKEN_WORD,      /* ld %r1 $L__BB0_1 WAIT */
	TOKEN_DOT,       /* .global .v4 .shared::cta; text without the dot */
	TOKEN_NUMBER,
	TOKEN_STRING,
	TOKEN_PUNCTUATION
} TokenKind;

typedef struct Token {
	TokenKind kind;
	Str text;
	u32 line;
	u64 bits;        /* of a number */
	bool is_float, is_single;
} Token;

typedef struct Lexer {
	const char *at, *end;
	u32 line;
} Lexer;

Token ptx_next(Lexer *lexer);
#endif
