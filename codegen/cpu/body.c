/* codegen/cpu/body.c: see body.h. */
#include "codegen/cpu/body.h"

#include <string.h>

typedef LLVMValueRef V;

enum { IN_LANES = 1u << 31 };

static void begin(Body *b, CpuModule *m, const Kernel *k, Arena *arena)
{
	*b = (Body){ .m = m, .k = k, .arena = arena, .vector_dim = NONE, .inner_dim = NONE };
	b->lanes = (Simd){ m, m->machine->lanes };
	b->one = (Simd){ m, 1 };
	b->scalar = NEWN(arena, V, k->inst.n);
	b->vector = NEWN(arena, V, k->inst.n);
}

static void load_numbers(Body *b)
{
	CpuModule *m = b->m;
	u32 n = kernel_numbers(b->k, NULL);
	b->number = NEWN(b->arena, V, n + 1);
	for (u32 i = 0; i < n; i++)
		b->number[i] = LLVMBuildLoad2(m->builder, m->i64,
					      cpu_at(m, m->i64, b->numbers, cpu_i64(m, i)), "n");
	for (u32 d = 0; d < b->k->ndim; d++) {
		b->extent[d] = b->number[d];
		b->coord[d] = cpu_i64(m, 0);
	}
}

void body_begin_needs(Body *b, CpuModule *m, const Kernel *k, Arena *arena, const char *name)
{
	begin(b, m, k, arena);
	const CpuParameter parameter[] = {
		{ .type = m->pointer, .name = "number", .readonly = true, .align = 8 },
		{ .type = m->pointer, .name = "need", .noalias = true, .align = 8 },
	};
	cpu_function_begin(m, name, m->none, COUNT(parameter), parameter, false);
	b->numbers = cpu_parameter(m, 0);
	b->workspace = cpu_parameter(m, 1);
	load_numbers(b);
}

static LLVMValueRef begin_kernel(CpuModule *m, const char *name, bool local)
{
	const CpuParameter parameter[] = {
		{ .type = m->pointer, .name = "slot", .readonly = true, .align = 8 },
		{ .type = m->pointer, .name = "number", .readonly = true, .align = 8 },
		{ .type = m->pointer, .name = "workspace", .align = 64 },
		{ .type = m->pointer, .name = "scratch", .noalias = true, .align = 64 },
		{ .type = m->i64, .name = "phase" },
		{ .type = m->i64, .name = "begin" },
		{ .type = m->i64, .name = "end" },
	};
	return cpu_function_begin(m, name, m->none, COUNT(parameter), parameter, local);
}

/* The parameters of the function that was begun, its slots and numbers. */
static void begin_body(Body *b, CpuModule *m, const Kernel *k, Arena *arena)
{
	begin(b, m, k, arena);
	b->slots = cpu_parameter(m, 0);
	b->numbers = cpu_parameter(m, 1);
	b->workspace = cpu_parameter(m, 2);
	b->scratch = cpu_parameter(m, 3);
	b->phase = cpu_parameter(m, 4);
	b->begin = cpu_parameter(m, 5);
	b->end = cpu_parameter(m, 6);
	b->slot = NEWN(arena, V, k->slot.n + 1);
	for (u32 i = 0; i < k->slot.n; i++)
		b->slot[i] = LLVMBuildLoad2(m->builder, m->pointer,
					    cpu_at(m, m->pointer, b->slots, cpu_i64(m, i)), "slot");
	load_numbers(b);
}

void body_begin(Body *b, CpuModule *m, const Kernel *k, Arena *arena, const char *name)
{
	begin_kernel(m, name, false);
	begin_body(b, m, k, arena);
}

void body_phases(CpuModule *m, const Kernel *k, Arena *arena, const char *name, u32 n,
		 void (*emit)(Body *b, u32 kind, const void *argument), const void *argument)
{
	V part[4], parameter[7];
	assert(n >= 2 && n <= COUNT(part));
	for (u32 i = 0; i < n; i++) {
		Body b;
		part[i] = begin_kernel(m, arena_printf(arena, "%s.%u", name, i), true);
		begin_body(&b, m, k, arena);
		emit(&b, i, argument);
		body_end(&b);
	}
	begin_kernel(m, name, false);
	for (u32 i = 0; i < COUNT(parameter); i++)
		parameter[i] = cpu_parameter(m, i);
	V kind = cpu_rem(m, parameter[4], cpu_i64(m, n));
	CpuIf is[COUNT(part)];
	for (u32 i = 0; i < n; i++) {
		if (i + 1 < n)
			cpu_if_begin(m, &is[i], cpu_equal(m, kind, cpu_i64(m, i)), 50);
		cpu_call(m, part[i], COUNT(parameter), parameter);
		if (i + 1 < n)
			cpu_if_else(m, &is[i]);
	}
	for (u32 i = n - 1; i-- > 0;)
		cpu_if_end(m, &is[i], 0, NULL, NULL);
	cpu_function_end(m, NULL);
}

void body_end(Body *b)
{
	cpu_function_end(b->m, NULL);
}

/* ---- what is known ---- */

static void know(Body *b, u32 i, V value, bool vector)
{
	V *to = vector ? &b->vector[i] : &b->scalar[i];
	assert(!*to);
	*to = value;
	VEC_PUSH(b->arena, &b->known, i | (vector ? IN_LANES : 0));
}

void body_set(Body *b, KVal v, V value, bool vector)
{
	know(b, v.i, value, vector);
}

u32 body_mark(const Body *b)
{
	return b->known.n;
}

void body_release(Body *b, u32 mark)
{
	while (b->known.n > mark) {
		u32 i = b->known.v[--b->known.n];
		*(i & IN_LANES ? &b->vector[i & ~IN_LANES] : &b->scalar[i]) = NULL;
	}
}

bool body_in_lanes(const Body *b, KVal v)
{
	return b->vector_dim != NONE && (b->k->inst.v[v.i].depends >> b->vector_dim & 1);
}

/* ---- addresses ---- */

/* A stride that the shape hash tells apart is a constant of the code. */
static V stride_value(const Body *b, i64 stride, u32 number)
{
	return stride == 0 || stride == 1 ? cpu_i64(b->m, stride) : b->number[number];
}

/* Element index of an access at the current coordinates, from its offset or from 0 on; a dynamic part in lanes is left to the caller. */
static V linear_from(Body *b, const Access *a, bool zero)
{
	u32 at = kernel_access_number(b->k, a);
	V sum = zero ? cpu_i64(b->m, 0) : b->number[at];
	/* what the inner loop goes along last: what is before it does not change there */
	for (u32 pass = 0; pass < 3; pass++)
		for (u32 d = 0; d < b->k->ndim; d++)
			if (a->stride[d] && b->k->dim[d].extent != 1 && (d == b->inner_dim ? 2u : d == b->vector_dim) == pass)
				sum = cpu_add(b->m, sum,
					      cpu_mul(b->m, b->coord[d],
						      stride_value(b, a->stride[d], at + 1 + d)));
	for (u32 i = 0; i < a->ndynamic; i++) {
		KVal v = a->dynamic[i].index;
		if (body_in_lanes(b, v))
			continue;
		V x = simd_convert(&b->one, b->k->inst.v[v.i].dtype, DT_i64, body_scalar(b, v));
		sum = cpu_add(b->m, sum,
			      cpu_mul(b->m, x, stride_value(b, a->dynamic[i].stride,
							    at + 1 + b->k->ndim + i)));
	}
	return sum;
}

static V linear(Body *b, const Access *a)
{
	return linear_from(b, a, false);
}

LLVMValueRef body_stride(const Body *b, const Access *a, u32 d)
{
	return stride_value(b, a->stride[d], kernel_access_number(b->k, a) + 1 + d);
}

LLVMValueRef body_address(Body *b, const Access *a)
{
	LLVMTypeRef t = simd_memory_type(&b->one, b->k->slot.v[a->slot].dtype);
	return cpu_at(b->m, t, b->slot[a->slot], linear(b, a));
}

/* How far each lane's element is from the first one's, by a single stride. */
static V lane_steps(Body *b, const Access *a)
{
	V stride = stride_value(b, a->stride[b->vector_dim], kernel_access_number(b->k, a) + 1 + b->vector_dim);
	return simd_mul(&b->lanes, simd_iota(&b->lanes, DT_i64), simd_splat(&b->lanes, stride));
}

/* The parts of an index that change from lane to lane, as i64 lanes; NULL if a single stride does. */
static V lane_indices(Body *b, const Access *a)
{
	bool dynamic = false;
	for (u32 i = 0; i < a->ndynamic; i++)
		dynamic |= body_in_lanes(b, a->dynamic[i].index);
	if (!dynamic)
		return NULL;
	u32 at = kernel_access_number(b->k, a);
	V sum = a->stride[b->vector_dim] ? lane_steps(b, a) : NULL;
	for (u32 i = 0; i < a->ndynamic; i++) {
		KVal v = a->dynamic[i].index;
		if (!body_in_lanes(b, v))
			continue;
		V x = simd_convert(&b->lanes, b->k->inst.v[v.i].dtype, DT_i64, body_vector(b, v));
		V stride = stride_value(b, a->dynamic[i].stride, at + 1 + b->k->ndim + i);
		x = simd_mul(&b->lanes, x, simd_splat(&b->lanes, stride));
		sum = sum ? simd_add(&b->lanes, sum, x) : x;
	}
	return sum;
}

/* The lanes in which a load or store happens: the loop's mask and the instruction's own condition. */
static V lane_mask(Body *b, KVal condition)
{
	if (!condition.i)
		return b->mask;
	V c = body_vector(b, condition);
	return b->mask ? simd_and(&b->lanes, c, b->mask) : c;
}

/* A load of all lanes or of none, as one condition says (a piece of a concatenation): where nothing is read, the memory that
 * would be is not touched either, as a masked load might. */
static V load_if(Body *b, const KInst *in)
{
	CpuModule *m = b->m;
	V zero = simd_constant(&b->lanes, in->dtype, 0), at = body_address(b, in->access);
	CpuIf here = { 0 };
	cpu_if_begin(m, &here, body_scalar(b, in->in[0]), 50);
	V x = b->mask ? simd_load_masked(&b->lanes, in->dtype, at, 0, b->mask) : simd_load(&b->lanes, in->dtype, at, 0);
	cpu_if_end(m, &here, 1, &x, &zero);
	return here.value[0];
}

/* The same number in all lanes that are on, and read if any is. */
static V load_for(Body *b, DType d, V at, KVal condition)
{
	CpuModule *m = b->m;
	V zero = simd_constant(&b->one, d, 0), mask = lane_mask(b, condition);
	if (condition.i == b->taken.i)
		return simd_select(&b->lanes, mask, simd_splat(&b->lanes, simd_load(&b->one, d, at, 0)), simd_constant(&b->lanes, d, 0));
	CpuIf any = { 0 };
	cpu_if_begin(m, &any, simd_any(&b->lanes, mask), 90);
	V x = simd_load(&b->one, d, at, 0);
	cpu_if_end(m, &any, 1, &x, &zero);
	return simd_select(&b->lanes, mask, simd_splat(&b->lanes, any.value[0]), simd_constant(&b->lanes, d, 0));
}

static V load_lanes(Body *b, const KInst *in)
{
	const Access *a = in->access;
	V index = lane_indices(b, a);
	i64 stride = a->stride[b->vector_dim];
	DType d = in->dtype;
	if (!index && stride == 1 && in->in[0].i && !body_in_lanes(b, in->in[0]))
		return load_if(b, in);
	V at = body_address(b, a);
	if (!index && stride == 0) /* in lanes by its condition alone */
		return load_for(b, d, at, in->in[0]);
	V mask = lane_mask(b, in->in[0]);
	if (index)
		return simd_gather(&b->lanes, d, at, index, mask);
	if (stride == 1)
		return mask ? simd_load_masked(&b->lanes, d, at, 0, mask) :
			      simd_load(&b->lanes, d, at, 0);
	V by = b->number[kernel_access_number(b->k, a) + 1 + b->vector_dim];
	return simd_load_strided(&b->lanes, d, at, by, mask);
}

static V load_one(Body *b, const KInst *in)
{
	V at = body_address(b, in->access);
	if (!in->in[0].i)
		return simd_load(&b->one, in->dtype, at, 0);
	return simd_load_masked(&b->one, in->dtype, at, 0, body_scalar(b, in->in[0]));
}

/* No instruction stores less than 16 bytes so. */
bool body_streams(const Body *b, u32 inst)
{
	const KInst *in = &b->k->inst.v[inst];
	return in->op == K_store && b->k->slot.v[in->access->slot].streamed && !in->in[1].i && !in->access->ndynamic &&
	       in->access->stride[b->vector_dim] == 1 && dtype_info[in->dtype].bytes * b->lanes.lanes >= 16;
}

void body_store(Body *b, u32 inst)
{
	const KInst *in = &b->k->inst.v[inst];
	const Access *a = in->access;
	DType d = in->dtype;
	bool lanes = b->vector_dim != NONE && (in->depends >> b->vector_dim & 1);
	if (!lanes) {
		V x = body_scalar(b, in->in[0]);
		if (in->in[1].i)
			simd_store_masked(&b->one, d, x, body_address(b, a), 0, body_scalar(b, in->in[1]));
		else
			simd_store(&b->one, d, x, body_address(b, a), 0);
		return;
	}
	V x = body_vector(b, in->in[0]), mask = lane_mask(b, in->in[1]), index = lane_indices(b, a);
	V at = body_address(b, a);
	i64 stride = a->stride[b->vector_dim];
	if (index)
		simd_scatter(&b->lanes, d, x, at, index, mask);
	else if (stride != 1)
		simd_store_strided(&b->lanes, d, x, at,
				   stride_value(b, stride, kernel_access_number(b->k, a) + 1 + b->vector_dim),
				   mask);
	else if (mask)
		simd_store_masked(&b->lanes, d, x, at, 0, mask);
	else if (b->stream && body_streams(b, inst))
		simd_store_stream(&b->lanes, d, x, at, dtype_info[d].bytes * b->lanes.lanes);
	else
		simd_store(&b->lanes, d, x, at, 0);
}

/* ---- instructions ---- */

static V scalar_function(const Simd *s, const KInst *in, DType operand, V x, V y, V z)
{
	DType d = operand;
	bool is_float = dtype_is_float(d);
	switch ((Scalar)in->scalar) {
	case S_neg: return simd_neg(s, x);
	case S_abs: return simd_abs(s, d, x);
	case S_sign: return simd_sign(s, d, x);
	case S_exp: return simd_exp(s, x);
	case S_log: return simd_log(s, x);
	case S_sqrt: return simd_sqrt(s, x);
	case S_rsqrt: return simd_rsqrt(s, x);
	case S_recip: return simd_recip(s, x);
	case S_sin: return simd_sin(s, x);
	case S_cos: return simd_cos(s, x);
	case S_tanh: return simd_tanh(s, x);
	case S_sigmoid: return simd_sigmoid(s, x);
	case S_erf: return simd_erf(s, x);
	case S_floor: return is_float ? simd_floor(s, x) : x;
	case S_ceil: return is_float ? simd_ceil(s, x) : x;
	case S_round: return is_float ? simd_round(s, x) : x;
	case S_binade: return simd_binade(s, x);
	case S_not: return simd_convert(s, DT_b1, d, simd_eq(s, x, simd_constant(s, d, 0)));
	case S_add: return simd_add(s, x, y);
	case S_sub: return simd_sub(s, x, y);
	case S_mul: return simd_mul(s, x, y);
	case S_div: return simd_div(s, d, x, y);
	case S_floordiv: return simd_floordiv(s, d, x, y);
	case S_mod: return simd_mod(s, d, x, y);
	case S_pow: return simd_pow(s, x, y);
	case S_min: return simd_min(s, d, x, y);
	case S_max: return simd_max(s, d, x, y);
	case S_lt: return simd_lt(s, d, x, y);
	case S_le: return simd_le(s, d, x, y);
	case S_eq: return simd_eq(s, x, y);
	case S_ne: return simd_ne(s, x, y);
	case S_and:
	case S_or: {
		V p = d == DT_b1 ? x : simd_ne(s, x, simd_constant(s, d, 0));
		V q = d == DT_b1 ? y : simd_ne(s, y, simd_constant(s, d, 0));
		V r = in->scalar == S_and ? simd_and(s, p, q) : simd_or(s, p, q);
		return d == DT_b1 ? r : simd_convert(s, DT_b1, d, r);
	}
	case S_fma: return is_float ? simd_fma(s, x, y, z) : simd_add(s, simd_mul(s, x, y), z);
	case S_where: return simd_select(s, x, y, z);
	default: NEVER("a scalar function that the CPU target does not know");
	}
}

/* ir/philox.h: what a draw's elements are numbered from, its key, its step. */
typedef struct Draws {
	V first, key, step;
} Draws;

static Draws draws_at(Body *b, const KInst *in)
{
	u32 at = kernel_access_number(b->k, in->access);
	V key = b->number[at + 1 + b->k->ndim + in->access->ndynamic];
	return (Draws){ linear(b, in->access), LLVMBuildXor(b->m->builder, key, body_scalar(b, in->in[0]), "key"), body_scalar(b, in->in[1]) };
}

/* For any set of elements: each lane computes its own block and takes its word. */
static V random_lanes(Body *b, const KInst *in, const Simd *s)
{
	Draws d = draws_at(b, in);
	V element = simd_splat(s, d.first);
	if (s->lanes > 1) {
		V more = lane_indices(b, in->access);
		if (!more)
			more = lane_steps(b, in->access);
		element = simd_add(s, element, more);
	}
	return simd_uniform(s, simd_random(s, d.key, d.step, element));
}

bool body_draws_together(const Body *b, u32 inst)
{
	const KInst *in = &b->k->inst.v[inst];
	return in->op == K_random && body_in_lanes(b, (KVal){ inst }) && !in->access->ndynamic && in->access->stride[b->vector_dim] == 1;
}

void body_draw4(Body *b, u32 inst, V out[4])
{
	CpuModule *m = b->m;
	Draws d = draws_at(b, &b->k->inst.v[inst]);
	V whole = cpu_equal(m, LLVMBuildAnd(m->builder, d.first, cpu_i64(m, 3), ""), cpu_i64(m, 0)), together[4], alone[4];
	CpuIf here = { 0 };
	cpu_if_begin(m, &here, whole, 90);
	simd_random4(&b->lanes, d.key, d.step, d.first, together);
	cpu_if_else(m, &here);
	for (u32 i = 0; i < 4; i++) {
		V first = cpu_add(m, d.first, cpu_i64(m, (i64)i * b->lanes.lanes));
		V element = simd_add(&b->lanes, simd_splat(&b->lanes, first), simd_iota(&b->lanes, DT_i64));
		alone[i] = simd_random(&b->lanes, d.key, d.step, element);
	}
	cpu_if_end(m, &here, 4, together, alone);
	for (u32 i = 0; i < 4; i++)
		out[i] = simd_uniform(&b->lanes, here.value[i]);
}

/* Does it follow from coordinates alone? */
static bool of_place(const Kernel *k, KVal v)
{
	const KInst *in = &k->inst.v[v.i];
	if (in->op == K_index)
		return !in->access->ndynamic;
	bool all = in->op == K_const || in->op == K_scalar || in->op == K_cast;
	for (u32 i = 0; all && i < COUNT(in->in); i++)
		all = !in->in[i].i || of_place(k, in->in[i]);
	return all;
}

/* What operand `which` of a `where` needs, and nothing else does. */
static bool *needed_alone(Body *b, u32 where, u32 which)
{
	const Kernel *k = b->k;
	bool *alone = NEWN(b->arena, bool, k->inst.n);
	kernel_mark_needed(k, k->inst.v[where].in[which], alone);
	for (u32 i = 0; i < k->noperand; i++)
		alone[k->operand[i].i] = false;
	for (u32 u = k->inst.n; u-- > 1;) { /* users are behind what they use */
		const KInst *in = &k->inst.v[u];
		for (u32 i = 0; !alone[u] && i < COUNT(in->in); i++)
			if (u != where || i != which)
				alone[in->in[i].i] = false;
		for (u32 i = 0; !alone[u] && in->access && i < in->access->ndynamic; i++)
			alone[in->access->dynamic[i].index.i] = false;
	}
	return alone;
}

static bool known(const Body *b, u32 i)
{
	return b->scalar[i] || b->vector[i];
}

/* Does it take more to work them out, where they are not known yet, than to jump? */
static bool worth_a_jump(const Body *b, const bool *alone)
{
	enum { JUMP = 16 };
	u32 effort = 0;
	for (u32 i = 1; i < b->k->inst.n; i++) {
		const KInst *in = &b->k->inst.v[i];
		if (alone[i] && !known(b, i))
			effort += in->op == K_random ? JUMP : in->op == K_scalar ? kernel_scalar[in->scalar].effort : 1;
	}
	return effort >= JUMP;
}

/* Operand `which` of a `where`, worked out only where `any` says that some lane that is on takes it; else 0. */
static V side_value(Body *b, u32 where, u32 which, const bool *alone, V any)
{
	CpuModule *m = b->m;
	const KInst *in = &b->k->inst.v[where];
	/* what others want too is at hand for them as well */
	bool *outside = NEWN(b->arena, bool, b->k->inst.n);
	for (u32 u = 1; u < b->k->inst.n; u++) {
		const KInst *user = &b->k->inst.v[u];
		for (u32 i = 0; alone[u] && i < COUNT(user->in); i++)
			outside[user->in[i].i] |= !alone[user->in[i].i];
		for (u32 i = 0; alone[u] && user->access && i < user->access->ndynamic; i++)
			outside[user->access->dynamic[i].index.i] |= !alone[user->access->dynamic[i].index.i];
	}
	for (u32 i = 1; i < b->k->inst.n; i++)
		if (outside[i] && !known(b, i))
			body_in_lanes(b, (KVal){ i }) ? body_vector(b, (KVal){ i }) : body_scalar(b, (KVal){ i });
	CpuIf here = { 0 };
	cpu_if_begin(m, &here, any, 50);
	u32 mark = body_mark(b);
	KVal before = b->taken;
	if (which == 1)
		b->taken = in->in[0];
	V x = body_vector(b, in->in[which]), zero = simd_constant(&b->lanes, in->dtype, 0);
	b->taken = before;
	body_release(b, mark);
	cpu_if_end(m, &here, 1, &x, &zero);
	return here.value[0];
}

/* Where places alone decide which of two is taken, whole vectors mostly take the same: a piece of a concatenation, or what is
 * inside of a pad's edges. What is dear is then worked out only where some lane takes it. NULL: it is not dear. */
static V where_lanes(Body *b, u32 where)
{
	const KInst *in = &b->k->inst.v[where];
	if (in->op != K_scalar || in->scalar != S_where || !of_place(b->k, in->in[0]))
		return NULL;
	bool *alone[] = { NULL, needed_alone(b, where, 1), needed_alone(b, where, 2) }, dear[3] = { 0 };
	for (u32 i = 1; i < 3; i++)
		dear[i] = worth_a_jump(b, alone[i]);
	if (!dear[1] && !dear[2])
		return NULL;
	bool lanes = body_in_lanes(b, in->in[0]);
	const Simd *s = lanes ? &b->lanes : &b->one;
	V first = lanes ? body_vector(b, in->in[0]) : body_scalar(b, in->in[0]), x[3];
	for (u32 i = 1; i < 3; i++) {
		V takes = i == 1 ? first : simd_not(s, first);
		if (lanes && b->mask)
			takes = simd_and(s, takes, b->mask);
		x[i] = dear[i] ? side_value(b, where, i, alone[i], simd_any(s, takes)) : body_vector(b, in->in[i]);
	}
	return simd_select(s, first, x[1], x[2]);
}

static V emit(Body *b, KVal v, bool in_lanes)
{
	const KInst *in = &b->k->inst.v[v.i];
	const Simd *s = in_lanes ? &b->lanes : &b->one;
	DType d = in->dtype;
	switch (in->op) {
	case K_const: return simd_constant(s, d, in->imm);
	case K_index: {
		V i = simd_splat(s, linear_from(b, in->access, b->from_zero));
		if (in_lanes)
			i = simd_add(s, i, lane_steps(b, in->access));
		return simd_convert(s, DT_i64, d, i);
	}
	case K_load: return in_lanes ? load_lanes(b, in) : load_one(b, in);
	case K_random: return random_lanes(b, in, s);
	default: break;
	}
	V either = in_lanes ? where_lanes(b, v.i) : NULL;
	if (either)
		return either;
	V x[3] = { 0 };
	for (u32 i = 0; i < 3 && in->in[i].i; i++)
		x[i] = in_lanes ? body_vector(b, in->in[i]) : body_scalar(b, in->in[i]);
	/* `where` computes in the type of what it chooses */
	const KInst *first = &b->k->inst.v[in->in[in->op == K_scalar && in->scalar == S_where ? 1 : 0].i];
	switch (in->op) {
	case K_cast: return simd_convert(s, first->dtype, d, x[0]);
	case K_scalar: {
		V y = scalar_function(s, in, first->dtype, x[0], x[1], x[2]);
		return dtype_is_narrow_float(d) && in->scalar != S_where ? simd_convert(s, DT_f32, d, y) : y;
	}
	case K_reduce: NEVER("a reduction was asked for before its loop");
	case K_acc: NEVER("an accumulator was asked for that the skeleton did not set");
	default: NEVER("a kernel instruction that the CPU target does not know");
	}
}

LLVMValueRef body_scalar(Body *b, KVal v)
{
	if (!b->scalar[v.i]) {
		assert(!body_in_lanes(b, v));
		V x = emit(b, v, false);
		know(b, v.i, x, false);
	}
	return b->scalar[v.i];
}

LLVMValueRef body_vector(Body *b, KVal v)
{
	if (!b->vector[v.i]) {
		V x;
		if (body_in_lanes(b, v))
			x = emit(b, v, true);
		else
			x = simd_splat(&b->lanes, body_scalar(b, v));
		if (!b->vector[v.i])
			know(b, v.i, x, true);
	}
	return b->vector[v.i];
}

void body_hoist(Body *b, u32 dims, const bool *wanted)
{
	for (u32 i = 1; i < b->k->inst.n; i++) {
		const KInst *in = &b->k->inst.v[i];
		bool ready = in->op != K_store && in->op != K_reduce && in->op != K_acc &&
			     (in->depends & ~dims) == 0 && (!wanted || wanted[i]);
		for (u32 j = 0; ready && j < 3; j++)
			if (in->in[j].i && !b->scalar[in->in[j].i])
				ready = false;
		for (u32 j = 0; ready && in->access && j < in->access->ndynamic; j++)
			if (!b->scalar[in->access->dynamic[j].index.i])
				ready = false;
		if (ready && !b->scalar[i])
			body_scalar(b, (KVal){ i });
	}
}

/* ---- the domain ---- */

LLVMValueRef body_product(Body *b, u32 first, u32 last)
{
	V n = cpu_i64(b->m, 1);
	for (u32 d = first; d < last; d++)
		n = cpu_mul(b->m, n, b->extent[d]);
	return n;
}

V body_run(Body *b, KVal of, u32 first, u32 last)
{
	CpuModule *m = b->m;
	const Kernel *k = b->k;
	bool *needed = NEWN(b->arena, bool, k->inst.n);
	for (u32 i = 1; i < k->inst.n; i++)
		if (of.i ? of.i == i : k->inst.v[i].op == K_store)
			kernel_mark_needed(k, (KVal){ i }, needed);
	V run = b->extent[last - 1], one = NULL; /* i1: are the dimensions so far one? */
	bool alone = k->dim[last - 1].extent == 1; /* addresses leave it out (linear) */
	for (u32 d = last - 1; d-- > first && !alone;) {
		for (u32 i = 1; i < k->inst.n; i++) {
			const Access *a = needed[i] ? k->inst.v[i].access : NULL;
			if (!a || (!a->stride[d] && !a->stride[d + 1]))
				continue;
			u32 at = kernel_access_number(k, a) + 1;
			V outer = stride_value(b, a->stride[d], at + d), inner = stride_value(b, a->stride[d + 1], at + d + 1);
			V same = cpu_equal(m, outer, cpu_mul(m, inner, b->extent[d + 1]));
			one = one ? LLVMBuildAnd(m->builder, one, same, "") : same;
		}
		V more = cpu_mul(m, run, b->extent[d]);
		run = one ? LLVMBuildSelect(m->builder, one, more, run, "") : more;
	}
	return run;
}

static u32 range_bits(u32 first, u32 last)
{
	return (1u << last) - (1u << first);
}

void body_unflatten(Body *b, u32 first, u32 last, V flat)
{
	if (first < last)
		body_unflatten_of(b, range_bits(first, last), flat);
}

void body_unflatten_of(Body *b, u32 dims, V flat)
{
	for (u32 d = b->k->ndim; d-- > 0;) {
		if (!(dims >> d & 1))
			continue;
		if (dims & range_bits(0, d)) {
			b->coord[d] = cpu_rem(b->m, flat, b->extent[d]);
			flat = cpu_div(b->m, flat, b->extent[d]);
		} else {
			b->coord[d] = flat;
		}
	}
}

void body_advance(Body *b, u32 first, u32 last, const V *by)
{
	if (first < last)
		body_advance_of(b, range_bits(first, last), by);
}

void body_advance_of(Body *b, u32 dims, const V *by)
{
	CpuModule *m = b->m;
	V zero = cpu_i64(m, 0), one = cpu_i64(m, 1), carry = zero;
	for (u32 d = b->k->ndim; d-- > 0;) {
		if (!(dims >> d & 1))
			continue;
		V sum = cpu_add(m, cpu_add(m, b->coord[d], by[d]), carry);
		b->coord[d] = sum;
		if (!(dims & range_bits(0, d)))
			break;
		V inside = cpu_less(m, sum, b->extent[d]);
		b->coord[d] = LLVMBuildSelect(m->builder, inside, sum, cpu_sub(m, sum, b->extent[d]), "");
		carry = LLVMBuildSelect(m->builder, inside, zero, one, "");
	}
}

void body_unit(const Body *b, u32 first, u32 last, V *by)
{
	for (u32 d = first; d < last; d++)
		by[d] = cpu_i64(b->m, d + 1 == last);
}
