/* ir/type.h: element types, dimensions, tensor types, and the identity of axes.
 *
 * A dimension is a polynomial with rational coefficients over symbols (`T`, `4 * D`, `past + T`,
 * `T / 2`, `B * T`), interned: equal dimensions are equal pointers. A model is checked once with
 * symbols; the pass `bind` puts numbers in their place.
 *
 * A tensor type is an element type and dimensions, interned likewise.
 *
 * An axis class is the identity of a dimension: what einops letters, shard rules, messages and
 * reports name. A class is a leaf, an alias of another (after unification), or an ordered product of
 * others, such as the (three H K) of a fused projection. Values hold one class per dimension and see
 * what is learnt about it later, because the table of classes is shared (union-find).
 *
 * Everything here lives in an `Ir`, the context of one compilation; it only grows. */
#ifndef PL_TYPE_H
#define PL_TYPE_H
#include "support/diag.h"
#include "support/map.h"
#include "support/vec.h"

typedef enum DType {
#define DTYPE(name, bytes, kind, largest) DT_##name,
#include "ir/dtype.def"
#undef DTYPE
	DTYPES
} DType;

typedef enum DTypeKind { KIND_B, KIND_U, KIND_I, KIND_F } DTypeKind;

typedef struct DTypeInfo {
	const char *name;
	u8 bytes;
	DTypeKind kind;
	f64 largest;
} DTypeInfo;
extern const DTypeInfo dtype_info[DTYPES];

static inline bool dtype_is_float(DType d)
{
	return dtype_info[d].kind == KIND_F;
}

/* The floats of 8 bits, whose casts saturate; those of 8 and 16, which are computed with in f32 and rounded. */
static inline bool dtype_is_f8(DType d)
{
	return d == DT_f8e4m3 || d == DT_f8e5m2;
}

static inline bool dtype_is_narrow_float(DType d)
{
	return dtype_is_float(d) && dtype_info[d].bytes < 4;
}
/* The dtype with this name, or DTYPES. */
DType dtype_named(Str name);
/* `x` rounded to what `d` can hold: to nearest even for floats, truncated toward zero and wrapped
 * for integers, nonzero to 1 for b1. */
f64 dtype_round(DType d, f64 x);

/* ---- dimensions ---- */

/* num / den * symbol[0] * symbol[1] * ...; symbols are interned names in strcmp order, so that the
 * order never depends on an address. num != 0, den > 0, reduced. */
typedef struct Monomial {
	i64 num, den;
	u32 n;
	const char *const *symbol;
} Monomial;

typedef struct DimExpr {
	u32 n;                /* terms, in a canonical order; none is the number 0 */
	const Monomial *term;
	u32 id;               /* counts up in order of making: a stable key */
} DimExpr;
typedef const DimExpr *Dim;

/* ---- tensor types ---- */

enum { MAX_RANK = 10 };

typedef struct Type {
	DType dtype;
	u8 rank;
	Dim dim[MAX_RANK];
	u32 id;
} Type;

/* ---- axis classes ---- */

typedef struct Axis {
	u32 id;
} Axis; /* index into Ir.axis; 0 is "no class" */

typedef struct AxisClass {
	const char *name;     /* the first name given, qualified ("Attention.H"); NULL if none yet */
	VEC(const char *) names; /* every name, qualified by module; no duplicates */
	Dim size;             /* of the whole class */
	u32 alias;            /* not 0: this class is that one */
	const Axis *factor;   /* not NULL: the product of these, in order (outermost first) */
	u32 nfactor;
	Loc loc;              /* where it was introduced */
} AxisClass;

typedef struct Ir {
	Arena *arena;
	Interner names;
	Diag *diag;
	Map dims, types;              /* hash -> first of a chain; see type.c */
	VEC(Dim) dim;
	VEC(const Type *) type;
	VEC(u32) dim_next, type_next; /* chains of equal hashes */
	VEC(AxisClass) axis;          /* [0] is unused */
	Map products;                 /* hash of a class's factors -> the class; see axis_product */
} Ir;

/* An empty context in `arena`; messages go to `diag`. */
Ir *ir_new(Arena *arena, Diag *diag);

Dim dim_number(Ir *ir, i64 n);
Dim dim_symbol(Ir *ir, const char *name);
Dim dim_add(Ir *ir, Dim a, Dim b);
Dim dim_sub(Ir *ir, Dim a, Dim b);
Dim dim_mul(Ir *ir, Dim a, Dim b);
/* a / b where b divides a as a polynomial (b a monomial, or b a constant multiple of a factor found
 * by trial division), else NULL. `T / 2` is a dimension; that 2 divides T is checked when bound. */
Dim dim_div(Ir *ir, Dim a, Dim b);
bool dim_is_number(Dim d, i64 *n); /* true for whole numbers */
/* With numbers for some symbols: value[i] for interned name symbol[i]. */
Dim dim_bind(Ir *ir, Dim d, const char *const *symbol, const i64 *value, u32 n);
/* "4*D + T", "B*T", "T/2". Parsed back by dim_parse. */
void dim_print(Buf *to, Dim d);
/* Of the text between brackets of a type; NULL where it cannot be read. */
Dim dim_parse(Ir *ir, Str text);

const Type *type_make(Ir *ir, DType dtype, u32 rank, const Dim *dim);
const Type *type_scalar(Ir *ir, DType dtype);
const Type *type_with_dtype(Ir *ir, const Type *t, DType dtype);
Dim type_count(Ir *ir, const Type *t); /* elements */
/* The number of elements or extent of dimension d where all is bound; asserts that it is. */
i64 type_elements(const Type *t);
i64 type_extent(const Type *t, u32 d);
i64 type_bytes(const Type *t);
/* "f32[B, T, 768]" */
void type_print(Buf *to, const Type *t);

Axis axis_new(Ir *ir, const char *name, Dim size, Loc loc);
Axis axis_find(const Ir *ir, Axis a); /* follows aliases */
/* One more qualified name for the class. */
void axis_name(Ir *ir, Axis a, const char *name);
/* `a` is the product of these classes; where `a` already is a product, the factors are unified
 * pairwise where sizes allow. False (nothing changed) where sizes cannot agree. */
bool axis_set_factors(Ir *ir, Axis a, const Axis *factor, u32 n);
/* The class that is the product of these, in order: one made before where there is one. A single
 * class gives itself; 0 where any of them is 0. */
Axis axis_product(Ir *ir, const Axis *factor, u32 n);
/* Makes both one class, names and factors merged. Either may be 0 (nothing happens). False (nothing
 * changed) where their sizes differ. */
bool axis_unify(Ir *ir, Axis a, Axis b);
/* What is known of classes at one time. Passes learn (a reshape says what a class is the product of), and decide by what they know: who is to
 * decide as if nothing had been learnt since gives it back. Classes made since are gone then, and with them graphs that name them. */
typedef struct AxisState {
	AxisClass *class; /* [n] */
	u32 n;
	Map products;
} AxisState;
AxisState axis_state(const Ir *ir, Arena *arena);
void axis_restore(Ir *ir, const AxisState *state);
/* The leaves of a class in order, at most `most`; the number written. A leaf gives itself. */
u32 axis_leaves(const Ir *ir, Axis a, Axis *leaf, u32 most);
/* "B", "(H K)", or "_" for no class and classes without a name. */
void axis_print(Buf *to, const Ir *ir, Axis a);

#endif
