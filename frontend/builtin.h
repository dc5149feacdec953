/* frontend/builtin.h: a call of a built-in function, and the readers of its arguments; only builtin*.c include this. */
#ifndef PL_BUILTIN_H
#define PL_BUILTIN_H
#include "frontend/elaborator.h"

enum { MOST_ARGUMENTS = 10 };

/* A call's arguments by parameter; NULL where one was not given. Those marked '!' are there. */
typedef struct Call {
	Elaborator *e;
	Loc loc;
	const char *name;
	const char *parameter[MOST_ARGUMENTS];
	Datum *arg[MOST_ARGUMENTS];
	Loc at[MOST_ARGUMENTS]; /* where each stands; the call where it was not given */
	EntryList rest;         /* positional ones beyond the parameters, of functions that take any number */
} Call;

typedef struct Builtin {
	const char *name, *parameters, *doc;
	Datum *(*call)(Call *c);
	bool of_values; /* may stand where no tensor is computed */
} Builtin;

#define BUILTIN(name, when, parameters, doc) Datum *b_##name(Call *c);
#include "frontend/builtins.def"
#undef BUILTIN

Val tensor_arg(Call *c, u32 i);
Val float_arg(Call *c, u32 i); /* integers are cast to f32 */
/* What was given, or `otherwise`; false after an error. */
bool int_arg(Call *c, u32 i, i64 otherwise, i64 *out);
bool number_arg(Call *c, u32 i, f64 otherwise, f64 *out);
bool bool_arg(Call *c, u32 i, bool otherwise, bool *out);
bool dtype_arg(Call *c, u32 i, DType otherwise, DType *out);
/* Axes in ascending order: one, a list; all where none was given. */
bool axes_arg(Call *c, u32 i, Val v, ints *out);
bool axis_arg(Call *c, u32 i, Val v, i64 otherwise, i64 *out);
/* A list of dimensions, with their axes. */
bool shape_arg(Call *c, u32 i, dims *out, Axis *axis);
Datum *bad(Call *c);
Datum *made(Call *c, Val v);
/* Values v, v + 1, .. of one node: a list, to be taken apart by `a, b = ...`. */
Datum *results(Call *c, Val first, u32 n);

#endif
