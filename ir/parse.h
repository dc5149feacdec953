/* ir/parse.h: what the two halves of the reader of IR text share: the program being read, with what
 * its words stand for (parse.c: rows of a program, types; parse_node.c: one node). Each function
 * reads what it is named for and is true, or tells what is wrong with the text there and is false.
 */
#ifndef PL_IR_PARSE_H
#define PL_IR_PARSE_H
#include "ir/op.h"
#include "ir/scan.h"

enum { BAD = 0xffffffffu }; /* the value of a line that was wrong */

/* A row of the axis table, its factors still words. */
typedef struct AxisRow {
	Axis axis;
	Str label; /* as written, for messages */
	Loc loc;
	VEC(const char *) factor;
	bool bad;
} AxisRow;

typedef struct Parser {
	Scanner s;
	Program *program;
	Interner words;  /* labels: of this text alone */
	VEC(u16) source; /* row -> index into Diag.source */
	Map axis_row;    /* label -> row */
	VEC(AxisRow) axis;
	Map buffer;           /* name -> index */
	VEC(const char *) of; /* per buffer, or NULL */
	Places places;
	int stage; /* of the order in which rows stand */
	/* the entry being read */
	Graph *graph;
	Builder builder;
	Map value; /* label -> Val.i or BAD */
	VEC(const Axis *) value_axis;
} Parser;

/* at [FILE:]LINE:COLUMN[+LENGTH], in SCOPE: both may be missing. */
bool parse_place(Parser *p, Loc *loc, const char **scope);
/* f32[B: B, 4*D]; axis has room for MAX_RANK. */
bool parse_type(Parser *p, const Type **type, Axis *axis);
/* %LABEL of a line before this one; *out may be BAD. */
bool parse_operand(Parser *p, Val *out);
/* %a, %b = op subject operands {attributes} : types, and where it stands: appends the node to
 * p->graph. */
bool parse_node(Parser *p);

#endif
