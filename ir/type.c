/* ir/type.c: interning of dimensions and types, and the algebra of both. See type.h. */
#include "ir/type.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const DTypeInfo dtype_info[DTYPES] = {
#define DTYPE(name, bytes, kind, largest) [DT_##name] = { #name, bytes, KIND_##kind, largest },
#include "ir/dtype.def"
#undef DTYPE
};

DType dtype_named(Str name)
{
	for (u32 i = 0; i < DTYPES; i++)
		if (str_equal(name, str_of(dtype_info[i].name)))
			return (DType)i;
	return DTYPES;
}

/* To `bits` of significand (with the hidden one) and smallest normal exponent `emin`. */
static f64 round_float(f64 x, int bits, int emin, f64 largest)
{
	if (x == 0 || isnan(x) || isinf(x))
		return x;
	int e;
	frexp(x, &e); /* |x| in [2^(e-1), 2^e) */
	int ulp = MAX(e - 1, emin) - (bits - 1);
	f64 r = ldexp(nearbyint(ldexp(x, -ulp)), ulp);
	return fabs(r) > largest ? copysign(INFINITY, x) : r;
}

/* The largest instead of more than that. */
static f64 saturated(f64 x, f64 largest)
{
	return fabs(x) > largest ? copysign(largest, x) : x;
}

static f64 wrap_integer(f64 x, int bits, bool is_signed)
{
	if (isnan(x))
		return 0;
	x = trunc(x);
	f64 span = ldexp(1, bits), low = is_signed ? -span / 2 : 0;
	if (x >= low && x < low + span)
		return x;
	return isinf(x) ? (x < 0 ? low : low + span - 1) : x - span * floor((x - low) / span);
}

f64 dtype_round(DType d, f64 x)
{
	switch (d) {
	case DT_b1: return x != 0;
	case DT_u8: return wrap_integer(x, 8, false);
	case DT_u32: return wrap_integer(x, 32, false);
	case DT_i8: return wrap_integer(x, 8, true);
	case DT_i32: return wrap_integer(x, 32, true);
	case DT_i64: return isnan(x) ? 0 : trunc(x);
	case DT_f8e4m3: return saturated(round_float(x, 4, -6, dtype_info[d].largest), dtype_info[d].largest);
	case DT_f8e5m2: return saturated(round_float(x, 3, -14, dtype_info[d].largest), dtype_info[d].largest);
	case DT_f16: return round_float(x, 11, -14, dtype_info[d].largest);
	case DT_bf16: return round_float(x, 8, -126, dtype_info[d].largest);
	case DT_f32: return (f64)(f32)x;
	default: return x;
	}
}

Ir *ir_new(Arena *arena, Diag *diag)
{
	Ir *ir = NEW(arena, Ir);
	ir->arena = arena;
	ir->diag = diag;
	ir->names.arena = ir->dims.arena = ir->types.arena = ir->products.arena = arena;
	VEC_PUSH(arena, &ir->axis, (AxisClass){ 0 });
	return ir;
}

/* ---- dimensions ---- */

/* A polynomial being made: terms unsorted, symbols of each sorted. */
typedef struct Poly {
	Arena tmp;
	VEC(Monomial) term;
} Poly;

static i64 gcd(i64 a, i64 b)
{
	a = a < 0 ? -a : a;
	b = b < 0 ? -b : b;
	while (b) {
		i64 r = a % b;
		a = b;
		b = r;
	}
	return a ? a : 1;
}

static int compare_symbols(const Monomial *a, const Monomial *b)
{
	if (a->n != b->n)
		return a->n > b->n ? -1 : 1; /* higher degree first */
	for (u32 i = 0; i < a->n; i++)
		if (a->symbol[i] != b->symbol[i])
			return strcmp(a->symbol[i], b->symbol[i]);
	return 0;
}

static int by_symbols(const void *a, const void *b)
{
	return compare_symbols(a, b);
}

static void checked_mul(i64 *to, i64 by)
{
	if (__builtin_mul_overflow(*to, by, to))
		*to = INT64_MAX; /* absurd sizes stay absurd: reported where sizes are checked */
}

static void poly_push(Poly *p, i64 num, i64 den, u32 n, const char *const *symbol)
{
	if (num == 0)
		return;
	i64 g = gcd(num, den);
	VEC_PUSH(&p->tmp, &p->term, (Monomial){ num / g, den / g, n, symbol });
}

static u64 dim_hash(const Monomial *t, u32 n)
{
	u64 h = HASH_SEED;
	for (u32 i = 0; i < n; i++) {
		h = hash_bytes(h, &t[i].num, sizeof t[i].num);
		h = hash_bytes(h, &t[i].den, sizeof t[i].den);
		for (u32 k = 0; k < t[i].n; k++)
			h = hash_bytes(h, &t[i].symbol[k], sizeof t[i].symbol[k]);
	}
	return h;
}

static bool same_terms(const DimExpr *d, const Monomial *t, u32 n)
{
	if (d->n != n)
		return false;
	for (u32 i = 0; i < n; i++)
		if (d->term[i].num != t[i].num || d->term[i].den != t[i].den ||
		    compare_symbols(&d->term[i], &t[i]) != 0)
			return false;
	return true;
}

/* Sorts, adds up equal terms, interns, and frees the Poly. */
static Dim poly_done(Ir *ir, Poly *p)
{
	u32 n = p->term.n, m = 0;
	Monomial *t = p->term.v;
	if (n)
		qsort(t, n, sizeof *t, by_symbols);
	for (u32 i = 0; i < n; i++) {
		if (m && compare_symbols(&t[m - 1], &t[i]) == 0) {
			Monomial *a = &t[m - 1];
			i64 x = a->num, y = t[i].num, den = a->den;
			checked_mul(&x, t[i].den);
			checked_mul(&y, a->den);
			checked_mul(&den, t[i].den);
			if (__builtin_add_overflow(x, y, &x))
				x = INT64_MAX;
			if (x == 0) {
				m--;
				continue;
			}
			i64 g = gcd(x, den);
			a->num = x / g;
			a->den = den / g;
		} else {
			t[m++] = t[i];
		}
	}
	u64 h = dim_hash(t, m);
	u64 *head = map_get(&ir->dims, h);
	for (u32 i = head ? (u32)*head : 0; i; i = ir->dim_next.v[i - 1]) {
		if (same_terms(ir->dim.v[i - 1], t, m)) {
			Dim found = ir->dim.v[i - 1];
			arena_free(&p->tmp);
			return found;
		}
	}
	DimExpr *d = NEW(ir->arena, DimExpr);
	Monomial *term = COPYN(ir->arena, Monomial, t, m);
	for (u32 i = 0; i < m; i++)
		term[i].symbol = COPYN(ir->arena, const char *, t[i].symbol, t[i].n);
	*d = (DimExpr){ m, term, ir->dim.n };
	VEC_PUSH(ir->arena, &ir->dim, d);
	VEC_PUSH(ir->arena, &ir->dim_next, head ? (u32)*head : 0);
	map_put(&ir->dims, h, ir->dim.n);
	arena_free(&p->tmp);
	return d;
}

static Poly poly_new(void)
{
	return (Poly){ .tmp = ARENA("dim") };
}

Dim dim_number(Ir *ir, i64 n)
{
	Poly p = poly_new();
	poly_push(&p, n, 1, 0, NULL);
	return poly_done(ir, &p);
}

Dim dim_symbol(Ir *ir, const char *name)
{
	Poly p = poly_new();
	const char *interned = intern_z(&ir->names, name);
	poly_push(&p, 1, 1, 1, &interned);
	return poly_done(ir, &p);
}

static Dim add_scaled(Ir *ir, Dim a, Dim b, i64 scale)
{
	Poly p = poly_new();
	for (u32 i = 0; i < a->n; i++)
		poly_push(&p, a->term[i].num, a->term[i].den, a->term[i].n, a->term[i].symbol);
	for (u32 i = 0; i < b->n; i++)
		poly_push(&p, b->term[i].num * scale, b->term[i].den, b->term[i].n, b->term[i].symbol);
	return poly_done(ir, &p);
}

Dim dim_add(Ir *ir, Dim a, Dim b)
{
	return add_scaled(ir, a, b, 1);
}

Dim dim_sub(Ir *ir, Dim a, Dim b)
{
	return add_scaled(ir, a, b, -1);
}

static void push_product(Poly *p, const Monomial *x, const Monomial *y)
{
	i64 num = x->num, den = x->den;
	checked_mul(&num, y->num);
	checked_mul(&den, y->den);
	const char **symbol = NEWN(&p->tmp, const char *, x->n + y->n + 1);
	u32 i = 0, k = 0, n = 0;
	while (i < x->n || k < y->n) {
		bool left = k == y->n || (i < x->n && strcmp(x->symbol[i], y->symbol[k]) <= 0);
		symbol[n++] = left ? x->symbol[i++] : y->symbol[k++];
	}
	poly_push(p, num, den, n, symbol);
}

Dim dim_mul(Ir *ir, Dim a, Dim b)
{
	Poly p = poly_new();
	for (u32 i = 0; i < a->n; i++)
		for (u32 k = 0; k < b->n; k++)
			push_product(&p, &a->term[i], &b->term[k]);
	return poly_done(ir, &p);
}

/* x / y where y's symbols are among x's. */
static bool divide_monomial(Poly *p, const Monomial *x, const Monomial *y, Monomial *out)
{
	const char **symbol = NEWN(&p->tmp, const char *, x->n + 1);
	u32 k = 0, n = 0;
	for (u32 i = 0; i < x->n; i++) {
		if (k < y->n && x->symbol[i] == y->symbol[k])
			k++;
		else
			symbol[n++] = x->symbol[i];
	}
	if (k < y->n)
		return false;
	i64 num = x->num, den = x->den;
	checked_mul(&num, y->den);
	checked_mul(&den, y->num);
	if (den < 0) {
		num = -num;
		den = -den;
	}
	i64 g = gcd(num, den);
	*out = (Monomial){ num / g, den / g, n, symbol };
	return true;
}

Dim dim_div(Ir *ir, Dim a, Dim b)
{
	if (b->n == 0)
		return NULL;
	/* Polynomial long division by b's leading term; exact or nothing. The remainder's leading term
	 * falls in the order each round, so that this ends. */
	Poly quotient = poly_new();
	Dim rest = a;
	for (u32 round = 0; rest->n && round < 64; round++) {
		Monomial q;
		if (!divide_monomial(&quotient, &rest->term[0], &b->term[0], &q)) {
			arena_free(&quotient.tmp);
			return NULL;
		}
		VEC_PUSH(&quotient.tmp, &quotient.term, q);
		Poly minus = poly_new();
		for (u32 i = 0; i < rest->n; i++)
			poly_push(&minus, rest->term[i].num, rest->term[i].den, rest->term[i].n,
				  rest->term[i].symbol);
		Monomial negative = { -q.num, q.den, q.n, q.symbol };
		for (u32 i = 0; i < b->n; i++)
			push_product(&minus, &negative, &b->term[i]);
		rest = poly_done(ir, &minus);
	}
	if (rest->n) {
		arena_free(&quotient.tmp);
		return NULL;
	}
	return poly_done(ir, &quotient);
}

bool dim_is_number(Dim d, i64 *n)
{
	if (d->n == 0) {
		*n = 0;
		return true;
	}
	if (d->n != 1 || d->term[0].n != 0 || d->term[0].den != 1)
		return false;
	*n = d->term[0].num;
	return true;
}

Dim dim_bind(Ir *ir, Dim d, const char *const *symbol, const i64 *value, u32 n)
{
	Poly p = poly_new();
	for (u32 i = 0; i < d->n; i++) {
		const Monomial *t = &d->term[i];
		i64 num = t->num;
		const char **left = NEWN(&p.tmp, const char *, t->n + 1);
		u32 nleft = 0;
		for (u32 k = 0; k < t->n; k++) {
			u32 s = 0;
			while (s < n && symbol[s] != t->symbol[k])
				s++;
			if (s < n)
				checked_mul(&num, value[s]);
			else
				left[nleft++] = t->symbol[k];
		}
		poly_push(&p, num, t->den, nleft, left);
	}
	return poly_done(ir, &p);
}

void dim_print(Buf *to, Dim d)
{
	if (d->n == 0)
		buf_put(to, STR("0"));
	for (u32 i = 0; i < d->n; i++) {
		const Monomial *t = &d->term[i];
		i64 num = t->num;
		if (i && num > 0)
			buf_put(to, STR(" + "));
		else if (num < 0)
			buf_put(to, i ? STR(" - ") : STR("-"));
		num = num < 0 ? -num : num;
		if (num != 1 || t->n == 0) {
			buf_printf(to, "%lld", (long long)num);
			if (t->n)
				buf_char(to, '*');
		}
		for (u32 k = 0; k < t->n; k++) {
			if (k)
				buf_char(to, '*');
			buf_put(to, str_of(t->symbol[k]));
		}
		if (t->den != 1)
			buf_printf(to, "/%lld", (long long)t->den);
	}
}

/* term (('+' | '-') term)*, term: factor (('*' | '/') factor)*, factor: number | name */
Dim dim_parse(Ir *ir, Str text)
{
	const char *p = text.s, *end = p + text.n;
	Dim sum = dim_number(ir, 0);
	bool minus = false;
	for (;;) {
		Dim term = NULL;
		bool divide = false;
		for (;;) {
			while (p < end && *p == ' ')
				p++;
			if (!term && p < end && *p == '-') {
				minus = !minus;
				p++;
				continue;
			}
			const char *from = p;
			Dim factor;
			if (p < end && *p >= '0' && *p <= '9') {
				i64 n = 0;
				for (; p < end && *p >= '0' && *p <= '9'; p++)
					if (__builtin_mul_overflow(n, 10, &n) ||
					    __builtin_add_overflow(n, *p - '0', &n))
						return NULL;
				factor = dim_number(ir, n);
			} else {
				while (p < end && (*p == '_' || *p == '.' || (*p >= '0' && *p <= '9') ||
						   ((*p | 32) >= 'a' && (*p | 32) <= 'z')))
					p++;
				if (p == from)
					return NULL;
				factor = dim_symbol(ir, intern(&ir->names, (Str){ from, (size_t)(p - from) }));
			}
			term = !term ? factor : divide ? dim_div(ir, term, factor) : dim_mul(ir, term, factor);
			if (!term)
				return NULL;
			while (p < end && *p == ' ')
				p++;
			if (p == end || (*p != '*' && *p != '/'))
				break;
			divide = *p++ == '/';
		}
		sum = minus ? dim_sub(ir, sum, term) : dim_add(ir, sum, term);
		if (p == end)
			return sum;
		if (*p != '+' && *p != '-')
			return NULL;
		minus = *p++ == '-';
	}
}

/* ---- types ---- */

const Type *type_make(Ir *ir, DType dtype, u32 rank, const Dim *dim)
{
	assert(rank <= MAX_RANK);
	u64 h = hash_bytes(HASH_SEED, &dtype, sizeof dtype);
	h = hash_bytes(h, dim, rank * sizeof *dim);
	u64 *head = map_get(&ir->types, h);
	for (u32 i = head ? (u32)*head : 0; i; i = ir->type_next.v[i - 1]) {
		const Type *t = ir->type.v[i - 1];
		if (t->dtype == dtype && t->rank == rank &&
		    (rank == 0 || memcmp(t->dim, dim, rank * sizeof *dim) == 0))
			return t;
	}
	Type *t = NEW(ir->arena, Type);
	t->dtype = dtype;
	t->rank = (u8)rank;
	t->id = ir->type.n;
	if (rank)
		memcpy(t->dim, dim, rank * sizeof *dim);
	VEC_PUSH(ir->arena, &ir->type, t);
	VEC_PUSH(ir->arena, &ir->type_next, head ? (u32)*head : 0);
	map_put(&ir->types, h, ir->type.n);
	return t;
}

const Type *type_scalar(Ir *ir, DType dtype)
{
	return type_make(ir, dtype, 0, NULL);
}

const Type *type_with_dtype(Ir *ir, const Type *t, DType dtype)
{
	return type_make(ir, dtype, t->rank, t->dim);
}

Dim type_count(Ir *ir, const Type *t)
{
	Dim n = dim_number(ir, 1);
	for (u32 d = 0; d < t->rank; d++)
		n = dim_mul(ir, n, t->dim[d]);
	return n;
}

i64 type_extent(const Type *t, u32 d)
{
	i64 n;
	assert(d < t->rank);
	if (!dim_is_number(t->dim[d], &n))
		NEVER("an extent was asked for before sizes were bound");
	return n;
}

i64 type_elements(const Type *t)
{
	i64 n = 1;
	for (u32 d = 0; d < t->rank; d++)
		checked_mul(&n, type_extent(t, d));
	return n;
}

i64 type_bytes(const Type *t)
{
	i64 n = type_elements(t);
	checked_mul(&n, dtype_info[t->dtype].bytes);
	return n;
}

void type_print(Buf *to, const Type *t)
{
	buf_printf(to, "%s[", dtype_info[t->dtype].name);
	for (u32 d = 0; d < t->rank; d++) {
		if (d)
			buf_put(to, STR(", "));
		dim_print(to, t->dim[d]);
	}
	buf_char(to, ']');
}
