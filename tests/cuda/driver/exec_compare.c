/* exec_compare.c: comparisons into predicates, and what selects by one. */
#include "decode.h"
#include <math.h>

typedef enum Comparison {
	EQ, NE, LT, LE, GT, GE, LO, LS, HI, HS, EQU, NEU, LTU, LEU, GTU, GEU, NUM, NAN_, COMPARISONS
} Comparison;

static const char *const comparison_names[COMPARISONS] = { "eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi",
							   "hs", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan" };

/* Bits of all lanes; those of lanes that do not take part mean nothing. */
typedef u32 (*Compare)(Warp *w, const Inst *in, Comparison c);

#define BITS(expression)                                         \
	for (int l = 0; l < LANES; l++) {                        \
		T x = LOAD(a[l]), y = LOAD(b[l]);                \
		bits |= (u32)(expression) << l;                  \
	}                                                        \
	break
#define COMPARE_INTEGER(name, type, S)                                                             \
	static u32 name(Warp *w, const Inst *in, Comparison c)                                     \
	{                                                                                          \
		typedef type T;                                                                    \
		const S *a = (const S *)(w->r + in->reg[1]), *b = (const S *)(w->r + in->reg[2]);  \
		u32 bits = 0;                                                                      \
		switch (c) {                                                                       \
		case EQ: BITS(x == y);                                                             \
		case NE: BITS(x != y);                                                             \
		case LT: case LO: BITS(x < y);                                                     \
		case LE: case LS: BITS(x <= y);                                                    \
		case GT: case HI: BITS(x > y);                                                     \
		default: BITS(x >= y);                                                             \
		}                                                                                  \
		return bits;                                                                       \
	}
#define COMPARE_FLOAT(name, type, S)                                                               \
	static u32 name(Warp *w, const Inst *in, Comparison c)                                     \
	{                                                                                          \
		typedef type T;                                                                    \
		const S *a = (const S *)(w->r + in->reg[1]), *b = (const S *)(w->r + in->reg[2]);  \
		u32 bits = 0;                                                                      \
		switch (c) {                                                                       \
		case EQ: BITS(x == y);                                                             \
		case NE: BITS(x < y || x > y);                                                     \
		case LT: BITS(x < y);                                                              \
		case LE: BITS(x <= y);                                                             \
		case GT: BITS(x > y);                                                              \
		case GE: BITS(x >= y);                                                             \
		case EQU: BITS(!(x < y || x > y));                                                 \
		case NEU: BITS(x != y);                                                            \
		case LTU: BITS(!(x >= y));                                                         \
		case LEU: BITS(!(x > y));                                                          \
		case GTU: BITS(!(x <= y));                                                         \
		case GEU: BITS(!(x < y));                                                          \
		case NUM: BITS(!isnan(x) && !isnan(y));                                            \
		default: BITS(isnan(x) || isnan(y));                                               \
		}                                                                                  \
		return bits;                                                                       \
	}
#define LOAD(v) (T)(v)
COMPARE_INTEGER(compare_u16, u16, u32)
COMPARE_INTEGER(compare_s16, i16, u32)
COMPARE_INTEGER(compare_u32, u32, u32)
COMPARE_INTEGER(compare_s32, i32, u32)
COMPARE_INTEGER(compare_u64, u64, u64)
COMPARE_INTEGER(compare_s64, i64, u64)
COMPARE_FLOAT(compare_f32, f32, f32)
COMPARE_FLOAT(compare_f64, f64, f64)
#undef LOAD
#define LOAD(v) f32_of_f16((u16)(v))
COMPARE_FLOAT(compare_f16, f32, u32)
#undef LOAD
#define LOAD(v) f32_of_bf16((u16)(v))
COMPARE_FLOAT(compare_bf16, f32, u32)

static Compare compare_of(Type t)
{
	switch (t) {
	case TYPE_U16: case TYPE_B16: return compare_u16;
	case TYPE_S16: return compare_s16;
	case TYPE_U32: case TYPE_B32: return compare_u32;
	case TYPE_S32: return compare_s32;
	case TYPE_U64: case TYPE_B64: return compare_u64;
	case TYPE_S64: return compare_s64;
	case TYPE_F32: return compare_f32;
	case TYPE_F64: return compare_f64;
	case TYPE_F16: return compare_f16;
	case TYPE_BF16: return compare_bf16;
	default: return NULL;
	}
}

static const Compare compares[] = {
	compare_u16, compare_s16, compare_u32, compare_s32, compare_u64, compare_s64, compare_f32, compare_f64,
	compare_f16, compare_bf16
};

enum { NO_BOOLEAN, BOOLEAN_AND, BOOLEAN_OR, BOOLEAN_XOR };

static u32 combine(u32 bits, u32 other, u32 how)
{
	return how == BOOLEAN_AND ? bits & other : how == BOOLEAN_OR ? bits | other : how == BOOLEAN_XOR ? bits ^ other : bits;
}

/* variant: the comparison; size: the Compare; count: the boolean; reg[5]: q. */
static Action setp(Warp *w, const Inst *in, u32 mask)
{
	u32 bits = compares[in->size](w, in, (Comparison)in->variant);
	u32 other = in->count ? predicate(w, in->reg[3]) ^ (in->flags & 8 ? ALL_LANES : 0) : 0;
	set_predicate(w, in->reg[0], mask, combine(bits, other, in->count));
	if (in->space)
		set_predicate(w, in->reg[5], mask, combine(~bits, other, in->count));
	return GO;
}

/* Half types flush nothing here: .ftz only concerns f32. */
static Action setp_flushed(Warp *w, const Inst *in, u32 mask)
{
	Inst plain = *in;
	for (u32 k = 1; k <= 2; k++) {
		const f32 *from = rf32(w, in->reg[k]);
		f32 *to = rf32(w, in->list[k]);
		EACH_LANE(mask, to[l] = fpclassify(from[l]) == FP_SUBNORMAL ? copysignf(0, from[l]) : from[l];);
		plain.reg[k] = in->list[k];
	}
	return in->inner(w, &plain, mask);
}

static void comparison(Decoder *d, Inst *in)
{
	static const char *const booleans[] = { "and", "or", "xor" };
	u32 c = take_one_of(d, comparison_names, COMPARISONS);
	u32 boolean = take_one_of(d, booleans, COUNT(booleans));
	if (c == COMPARISONS)
		decode_fail(d, "which comparison?");
	in->variant = (u8)c;
	in->count = boolean < COUNT(booleans) ? (u8)(BOOLEAN_AND + boolean) : NO_BOOLEAN;
	expect_operands(d, in->count ? 4 : 3, in->count ? 4 : 3);
	if (in->count)
		source_predicate(d, in, 3);
}

/* False: not a type of one number. */
static bool comparison_type(Decoder *d, Inst *in, Type t)
{
	Compare f = compare_of(t);
	if (!f)
		return false;
	while (compares[in->size] != f)
		in->size++;
	source(d, in, 1, t);
	source(d, in, 2, t);
	return true;
}

static void flush(Decoder *d, Inst *in, bool ftz, Type t)
{
	if (ftz && t == TYPE_F32) {
		in->inner = in->run;
		in->run = setp_flushed;
		in->list = scratch_slots(d);
	}
}

static void decode_setp(Decoder *d, Inst *in)
{
	bool ftz = take(d, "ftz");
	comparison(d, in);
	Type t = take_type(d);
	if (!comparison_type(d, in, t))
		return;
	destination(d, in, 0, TYPE_PRED);
	const Operand *q = operand_at(d, 0)->pair;
	if (q) {
		bool wide;
		in->reg[5] = slot_of(d, q, TYPE_PRED, true, &wide);
		in->space = 1;
	}
	in->run = setp;
	flush(d, in, ftz, t);
}

static Action set(Warp *w, const Inst *in, u32 mask)
{
	u32 bits = compares[in->size](w, in, (Comparison)in->variant);
	u32 other = in->count ? predicate(w, in->reg[3]) ^ (in->flags & 8 ? ALL_LANES : 0) : 0;
	u32 yes = in->type == TYPE_F32 ? bits_of_f32(1) : in->type == TYPE_F16 ? 0x3c00 : in->type == TYPE_BF16 ? 0x3f80 : ~0u;
	u32 *d = r32(w, in->reg[0]);
	bits = combine(bits, other, in->count);
	EACH_LANE(mask, d[l] = bits >> l & 1 ? yes : 0;);
	return GO;
}

static void decode_set(Decoder *d, Inst *in)
{
	bool ftz = take(d, "ftz");
	comparison(d, in);
	Type result = take_type(d), t = take_type(d);
	in->type = (u8)result;
	if (!comparison_type(d, in, t))
		return;
	destination(d, in, 0, result);
	in->run = set;
	flush(d, in, ftz, t);
}

static Action selp_32(Warp *w, const Inst *in, u32 mask)
{
	u32 p = predicate(w, in->reg[3]) ^ (in->flags & 8 ? ALL_LANES : 0);
	u32 *d = r32(w, in->reg[0]);
	const u32 *a = r32(w, in->reg[1]), *b = r32(w, in->reg[2]);
	EACH_LANE(mask, d[l] = p >> l & 1 ? a[l] : b[l];);
	return GO;
}

static Action selp_64(Warp *w, const Inst *in, u32 mask)
{
	u32 p = predicate(w, in->reg[3]) ^ (in->flags & 8 ? ALL_LANES : 0);
	u64 *d = r64(w, in->reg[0]);
	const u64 *a = r64(w, in->reg[1]), *b = r64(w, in->reg[2]);
	EACH_LANE(mask, d[l] = p >> l & 1 ? a[l] : b[l];);
	return GO;
}

static void decode_selp(Decoder *d, Inst *in)
{
	Type t = take_type(d);
	expect_operands(d, 4, 4);
	destination(d, in, 0, t);
	source(d, in, 1, t);
	source(d, in, 2, t);
	source_predicate(d, in, 3);
	in->run = type_bytes(t) == 8 ? selp_64 : selp_32;
}

static Action slct(Warp *w, const Inst *in, u32 mask)
{
	const u32 *c = r32(w, in->reg[3]);
	for (u32 m = mask; m; m &= m - 1) {
		int l = __builtin_ctz(m);
		bool first = in->from == TYPE_F32 ? f32_of_bits(c[l]) >= 0 : (i32)c[l] >= 0;
		u64 v = operand_of(w, in, first ? 1 : 2, l);
		if (in->wide & 1)
			r64(w, in->reg[0])[l] = v;
		else
			r32(w, in->reg[0])[l] = (u32)v;
	}
	return GO;
}

static void decode_slct(Decoder *d, Inst *in)
{
	take(d, "ftz");
	Type t = take_type(d), c = take_type(d);
	expect_operands(d, 4, 4);
	in->from = (u8)c;
	destination(d, in, 0, t);
	source(d, in, 1, t);
	source(d, in, 2, t);
	source(d, in, 3, c);
	in->run = slct;
}

const Family family_compare[] = {
	{ "setp", decode_setp }, { "set", decode_set }, { "selp", decode_selp }, { "slct", decode_slct }, { NULL, NULL },
};
