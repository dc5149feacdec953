/* codegen/cpu/sort.c: SORT kernels: a row at a time, each by one task. The row's values are kept in
 * scratch, and with each an unsigned key that has their order (NaN above all, the two zeros equal, all
 * turned over where descending). Pairs of key and index are sorted: by insertion where there are few, else
 * by radix, least digit first (Knuth 1973, vol. 3, 5.2.5), leaving out digits that all keys share. Both are
 * stable. Results are read through the sorted indices. */
#include "codegen/cpu/kernels.h"

typedef LLVMValueRef V;

enum { FEW = 32, DIGITS = 256 };

typedef struct Sort {
	Body *b;
	DType from, value, key; /* of the operand; as kept; of keys: u32 or i64 taken as unsigned */
	u32 key_bits;
	V n;
	/* in scratch */
	V values, key_a, key_b, index_a, index_b, count;
} Sort;

static bool is_wide(DType d)
{
	return d == DT_f64 || d == DT_i64;
}

static DType kept_type(DType d)
{
	return dtype_is_narrow_float(d) ? DT_f32 : d;
}

/* ---- scratch: values, keys twice, indices twice, the count of each digit ---- */

/* Elements of a row, to whole cache lines. */
static Count padded_row(Body *b, const Kernel *k)
{
	return count_round(b ? b->m : NULL, count_extent(b, k, k->ndim - 1, k->ndim), 64);
}

static Count scratch_bytes(Body *b, const Kernel *k)
{
	CpuModule *m = b ? b->m : NULL;
	DType d = (DType)k->inst.v[k->operand[0].i].dtype;
	i64 key = is_wide(d) ? 8 : 4, value = dtype_info[kept_type(d)].bytes;
	return count_add(m, count_mul(m, padded_row(b, k), count_of(m, value + 2 * key + 8)), count_of(m, DIGITS * 8));
}

static V take(Sort *s, V *at, V n, u32 bytes)
{
	CpuModule *m = s->b->m;
	V here = cpu_at_byte(m, s->b->scratch, *at);
	*at = cpu_add(m, *at, cpu_mul(m, n, cpu_i64(m, bytes)));
	return here;
}

static void lay_scratch(Sort *s)
{
	CpuModule *m = s->b->m;
	V n = padded_row(s->b, s->b->k).v, at = cpu_i64(m, 0);
	s->count = take(s, &at, cpu_i64(m, DIGITS), 8);
	s->key_a = take(s, &at, n, s->key_bits / 8);
	s->key_b = take(s, &at, n, s->key_bits / 8);
	s->index_a = take(s, &at, n, 4);
	s->index_b = take(s, &at, n, 4);
	s->values = take(s, &at, n, dtype_info[s->value].bytes);
}

static LLVMTypeRef key_type(const Sort *s)
{
	return s->key_bits == 64 ? s->b->m->i64 : s->b->m->i32;
}

static V key_at(const Sort *s, V base, V i)
{
	return cpu_at(s->b->m, key_type(s), base, i);
}

static V index_at(const Sort *s, V base, V i)
{
	return cpu_at(s->b->m, s->b->m->i32, base, i);
}

static V load_key(const Sort *s, V base, V i)
{
	return LLVMBuildLoad2(s->b->m->builder, key_type(s), key_at(s, base, i), "");
}

static V load_index(const Sort *s, V base, V i)
{
	return LLVMBuildLoad2(s->b->m->builder, s->b->m->i32, index_at(s, base, i), "");
}

/* ---- keys ---- */

static V constant_key(const Sort *s, u64 bits)
{
	const Simd *l = &s->b->lanes;
	return s->key_bits == 64 ? simd_i64(l, (i64)bits) : simd_i32(l, (i64)(bits & 0xffffffff));
}

static V key_of(const Sort *s, V x)
{
	const Simd *l = &s->b->lanes;
	LLVMBuilderRef B = s->b->m->builder;
	u64 sign = (u64)1 << (s->key_bits - 1);
	V k;
	if (dtype_is_float(s->value)) {
		V zero = simd_constant(l, s->value, 0);
		x = simd_select(l, simd_eq(l, x, zero), zero, x); /* -0 is 0 */
		V bits = simd_bits(l, s->key_bits == 64 ? DT_i64 : DT_i32, x);
		V negative = LLVMBuildAShr(B, bits, constant_key(s, s->key_bits - 1), "");
		V turn = simd_or(l, negative, constant_key(s, sign));
		k = simd_select(l, simd_ne(l, x, x), constant_key(s, ~(u64)0), simd_xor(l, bits, turn));
	} else {
		bool is_signed = dtype_info[s->value].kind == KIND_I;
		k = simd_convert(l, s->value, s->key_bits == 64 ? DT_i64 : is_signed ? DT_i32 : DT_u32, x);
		if (is_signed)
			k = simd_xor(l, k, constant_key(s, sign));
	}
	return s->b->k->descending ? simd_xor(l, k, constant_key(s, ~(u64)0)) : k;
}

/* Values, keys and indices of the row. */
static void emit_keys(const Sort *s)
{
	Body *b = s->b;
	CpuModule *m = b->m;
	u32 row = b->k->ndim - 1;
	CpuLoop l = { 0 };
	b->vector_dim = row;
	cpu_loop_begin(m, &l, cpu_i64(m, 0), s->n, cpu_i64(m, b->lanes.lanes), 0, NULL);
	u32 mark = body_mark(b);
	b->coord[row] = l.index;
	b->mask = simd_mask(&b->lanes, cpu_sub(m, s->n, l.index)); /* scratch is padded: whole vectors there */
	V x = simd_convert(&b->lanes, s->from, s->value, body_vector(b, b->k->operand[0]));
	simd_store(&b->lanes, s->value, x,
		   cpu_at(m, simd_memory_type(&b->one, s->value), s->values, l.index), 0);
	simd_store(&b->lanes, s->key, key_of(s, x), key_at(s, s->key_a, l.index), 0);
	V i = simd_splat(&b->lanes, LLVMBuildTrunc(m->builder, l.index, m->i32, ""));
	simd_store(&b->lanes, DT_i32, simd_add(&b->lanes, i, simd_iota(&b->lanes, DT_i32)),
		   index_at(s, s->index_a, l.index), 0);
	b->mask = NULL;
	body_release(b, mark);
	l.unroll = 1;
	cpu_loop_end(m, &l, NULL);
	b->vector_dim = NONE;
}

/* ---- few: insertion ---- */

/* Element i moves down past those with greater keys. */
static void emit_insertion(const Sort *s)
{
	CpuModule *m = s->b->m;
	LLVMBuilderRef B = m->builder;
	V zero = cpu_i64(m, 0), one = cpu_i64(m, 1);
	CpuLoop l = { 0 }, down = { 0 };
	cpu_loop_begin(m, &l, one, s->n, one, 0, NULL);
	V key = load_key(s, s->key_a, l.index), index = load_index(s, s->index_a, l.index);
	/* j counts how far down; `place` stays once a key is not greater */
	V start = l.index;
	cpu_loop_begin(m, &down, zero, l.index, one, 1, &start);
	V place = down.carried[0], below = cpu_sub(m, cpu_sub(m, l.index, one), down.index);
	V other = load_key(s, s->key_a, below);
	V moves = LLVMBuildAnd(B, cpu_equal(m, place, cpu_add(m, below, one)),
			       LLVMBuildICmp(B, LLVMIntUGT, other, key, ""), "");
	CpuIf move = { 0 };
	cpu_if_begin(m, &move, moves, 50);
	LLVMBuildStore(B, other, key_at(s, s->key_a, place));
	LLVMBuildStore(B, load_index(s, s->index_a, below), index_at(s, s->index_a, place));
	cpu_if_end(m, &move, 1, &below, &place);
	V next = move.value[0];
	down.unroll = 1;
	cpu_loop_end(m, &down, &next);
	LLVMBuildStore(B, key, key_at(s, s->key_a, down.carried[0]));
	LLVMBuildStore(B, index, index_at(s, s->index_a, down.carried[0]));
	l.unroll = 1;
	cpu_loop_end(m, &l, NULL);
}

/* ---- many: radix ---- */

static V digit_at(const Sort *s, V key, V shift)
{
	CpuModule *m = s->b->m;
	V wide = s->key_bits == 64 ? key : LLVMBuildZExt(m->builder, key, m->i64, "");
	return LLVMBuildAnd(m->builder, LLVMBuildLShr(m->builder, wide, shift, ""), cpu_i64(m, DIGITS - 1), "");
}

static V counter(const Sort *s, V digit)
{
	return cpu_at(s->b->m, s->b->m->i64, s->count, digit);
}

/* The counter of a digit, which then is one more. */
static V count_up(const Sort *s, V digit)
{
	CpuModule *m = s->b->m;
	V at = counter(s, digit), was = LLVMBuildLoad2(m->builder, m->i64, at, "");
	LLVMBuildStore(m->builder, cpu_add(m, was, cpu_i64(m, 1)), at);
	return was;
}

static void emit_count(const Sort *s, V keys, V shift)
{
	CpuModule *m = s->b->m;
	V zero = cpu_i64(m, 0), one = cpu_i64(m, 1);
	CpuLoop clear = { 0 }, l = { 0 };
	cpu_loop_begin(m, &clear, zero, cpu_i64(m, DIGITS), one, 0, NULL);
	LLVMBuildStore(m->builder, zero, counter(s, clear.index));
	cpu_loop_end(m, &clear, NULL);
	cpu_loop_begin(m, &l, zero, s->n, one, 0, NULL);
	count_up(s, digit_at(s, load_key(s, keys, l.index), shift));
	l.unroll = 1;
	cpu_loop_end(m, &l, NULL);
}

/* Counts become where each digit's pairs begin; then the pairs go there in order. */
static void emit_distribute(const Sort *s, const V *from, const V *to, V shift)
{
	CpuModule *m = s->b->m;
	LLVMBuilderRef B = m->builder;
	V zero = cpu_i64(m, 0), one = cpu_i64(m, 1);
	CpuLoop place = { 0 }, l = { 0 };
	cpu_loop_begin(m, &place, zero, cpu_i64(m, DIGITS), one, 1, &zero);
	V at = counter(s, place.index), n = LLVMBuildLoad2(B, m->i64, at, "");
	LLVMBuildStore(B, place.carried[0], at);
	V next = cpu_add(m, place.carried[0], n);
	place.unroll = 1;
	cpu_loop_end(m, &place, &next);
	cpu_loop_begin(m, &l, zero, s->n, one, 0, NULL);
	V key = load_key(s, from[0], l.index), i = count_up(s, digit_at(s, key, shift));
	LLVMBuildStore(B, key, key_at(s, to[0], i));
	LLVMBuildStore(B, load_index(s, from[1], l.index), index_at(s, to[1], i));
	l.unroll = 1;
	cpu_loop_end(m, &l, NULL);
}

/* Where the sorted indices are. */
static V emit_radix(const Sort *s)
{
	CpuModule *m = s->b->m;
	V start[] = { s->key_a, s->index_a, s->key_b, s->index_b };
	CpuLoop l = { 0 };
	cpu_loop_begin(m, &l, cpu_i64(m, 0), cpu_i64(m, s->key_bits), cpu_i64(m, 8), 4, start);
	const V *now = l.carried;
	emit_count(s, now[0], l.index);
	V digit = digit_at(s, load_key(s, now[0], cpu_i64(m, 0)), l.index);
	V same = cpu_equal(m, LLVMBuildLoad2(m->builder, m->i64, counter(s, digit), ""), s->n);
	V swapped[] = { now[2], now[3], now[0], now[1] };
	CpuIf differ = { 0 };
	cpu_if_begin(m, &differ, LLVMBuildNot(m->builder, same, ""), 50);
	emit_distribute(s, now, now + 2, l.index);
	cpu_if_end(m, &differ, 4, swapped, now);
	V next[4];
	for (u32 i = 0; i < 4; i++)
		next[i] = differ.value[i];
	l.unroll = 1;
	cpu_loop_end(m, &l, next);
	return l.carried[1];
}

/* ---- results ---- */

static void emit_results(const Sort *s, V indices)
{
	Body *b = s->b;
	CpuModule *m = b->m;
	const Kernel *k = b->k;
	u32 row = k->ndim - 1;
	CpuLoop l = { 0 };
	b->vector_dim = row;
	cpu_loop_begin(m, &l, cpu_i64(m, 0), s->n, cpu_i64(m, b->lanes.lanes), 0, NULL);
	u32 mark = body_mark(b);
	b->coord[row] = l.index;
	b->mask = simd_mask(&b->lanes, cpu_sub(m, s->n, l.index));
	V index = simd_load(&b->lanes, DT_i32, index_at(s, indices, l.index), 0);
	V value = simd_gather(&b->lanes, s->value, s->values, index, b->mask);
	for (u32 i = 1; i < k->inst.n; i++) {
		const KInst *in = &k->inst.v[i];
		if (in->op != K_acc)
			continue;
		bool first = (u32)in->imm == 0;
		V x = simd_convert(&b->lanes, first ? s->value : DT_i32, (DType)in->dtype, first ? value : index);
		body_set(b, (KVal){ i }, x, true);
	}
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_store)
			body_store(b, i);
	b->mask = NULL;
	body_release(b, mark);
	l.unroll = 1;
	cpu_loop_end(m, &l, NULL);
	b->vector_dim = NONE;
}

static void emit_row(const Sort *s)
{
	CpuModule *m = s->b->m;
	emit_keys(s);
	CpuIf few = { 0 };
	cpu_if_begin(m, &few, cpu_less(m, s->n, cpu_i64(m, FEW + 1)), 50);
	emit_insertion(s);
	V a = s->index_a;
	cpu_if_else(m, &few);
	V at = emit_radix(s);
	cpu_if_end(m, &few, 1, &a, &at);
	emit_results(s, few.value[0]);
}

/* ---- the class ---- */

/* Rows of a task: a pass over the row for each digit, some ten of them together. */
static Count rows_of_task(Body *b, const Kernel *k)
{
	CpuModule *m = b ? b->m : NULL;
	Count one = count_of(m, 1), n = count_max(m, one, count_extent(b, k, k->ndim - 1, k->ndim));
	return count_max(m, one, count_div(m, count_of(m, TASK_ELEMENTS / 8), n));
}

static CountNeeds needs_sort(Body *b, const CpuMachine *machine, const Kernel *k, Count phase)
{
	(void)machine, (void)phase;
	CpuModule *m = b ? b->m : NULL;
	Count rows = count_extent(b, k, 0, k->ndim - 1);
	return (CountNeeds){ .phases = count_of(m, 1), .tasks = count_div_up(m, rows, rows_of_task(b, k)),
			     .scratch = scratch_bytes(b, k) };
}

static void emit_sort(CpuModule *m, const Kernel *k, Arena *arena, const char *name)
{
	Body b;
	body_begin(&b, m, k, arena, name);
	u32 row = k->ndim - 1;
	Sort s = { .b = &b, .from = (DType)k->inst.v[k->operand[0].i].dtype, .n = b.extent[row] };
	s.value = kept_type(s.from);
	s.key_bits = is_wide(s.from) ? 64 : 32;
	s.key = is_wide(s.from) ? DT_i64 : DT_i32;
	lay_scratch(&s);
	body_hoist(&b, 0, NULL);
	V one = cpu_i64(m, 1), per = rows_of_task(&b, k).v;
	CpuLoop l = { 0 };
	V end = cpu_min(m, body_product(&b, 0, row), cpu_mul(m, b.end, per));
	cpu_loop_begin(m, &l, cpu_mul(m, b.begin, per), end, one, 0, NULL);
	u32 mark = body_mark(&b);
	body_unflatten(&b, 0, row, l.index);
	body_hoist(&b, (1u << row) - 1, NULL);
	emit_row(&s);
	body_release(&b, mark);
	l.unroll = 1;
	cpu_loop_end(m, &l, NULL);
	body_end(&b);
}

const CpuKernelClass cpu_sort = { .needs = needs_sort, .emit = emit_sort };
