/* codegen/cuda/reduce.c: see reduce.h. */
#include "codegen/cuda/reduce.h"

const char *cuda_reduce_template(const KInst *in)
{
	return in->reduce == REDUCE_sum ? "Sum" : in->reduce == REDUCE_max ? "Max" : "Min";
}

const char *cuda_reduce_function(Arena *a, const KInst *in)
{
	return arena_printf(a, "%s<%s>", cuda_reduce_template(in), cuda_value_type((DType)in->dtype));
}

const char *cuda_reduce_identity(Arena *a, const KInst *in)
{
	DType d = (DType)in->dtype;
	if (in->reduce == REDUCE_sum)
		return cuda_literal(a, 0, d);
	f64 most = dtype_is_float(d) ? __builtin_inf() : dtype_info[d].largest;
	f64 least = dtype_is_float(d) ? -most : dtype_info[d].kind == KIND_I ? -most - 1 : 0;
	return cuda_literal(a, in->reduce == REDUCE_max ? least : most, d);
}

const char *cuda_reduce_total(Arena *a, const KInst *in, const char *total)
{
	DType d = (DType)in->dtype;
	if (dtype_is_narrow_float(d))
		return arena_printf(a, "pl_round_%s(%s)", dtype_info[d].name, total);
	if (d == DT_b1 || dtype_info[d].bytes > 1)
		return total;
	return arena_printf(a, "(%s)(%s)%s", cuda_value_type(d), cuda_memory_type(d), total);
}

u32 cuda_reduce_list(const Kernel *k, u32 sweep, u32 *reduce)
{
	u32 n = 0;
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_reduce && (!sweep || k->inst.v[i].sweep == sweep))
			reduce[n++] = i;
	return n;
}

u32 cuda_reduce_sweeps(const Kernel *k)
{
	u32 n = 0;
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_reduce)
			n = MAX(n, k->inst.v[i].sweep);
	return n;
}

/* What a statement for each element `j` of the vector that is not guarded off begins with. */
static const char *each_on(CudaBody *b)
{
	Arena *a = b->t->arena;
	const char *on = cuda_guard(b, b->width > 1 ? "j" : "0");
	if (b->guard)
		on = on ? arena_printf(a, "(%s) && %s", b->guard, on) : b->guard;
	const char *test = on ? arena_printf(a, "if (%s) ", on) : "";
	return b->width > 1 ? arena_printf(a, "EACH(%u) %s", b->width, test) : test;
}

static const char *each_value(CudaBody *b, KVal v)
{
	cuda_element(b, v, 0);
	return cuda_known_element(b, v, b->width > 1 ? "j" : "0");
}

void cuda_accumulate(CudaBody *b, u32 inst, const char *name)
{
	const KInst *in = &b->k->inst.v[inst];
	const char *x = each_value(b, in->in[0]);
	cuda_line(b, "%s%s = %s::of(%s, %s);", each_on(b), name, cuda_reduce_function(b->t->arena, in), name, x);
}

/* ---- sums of exponentials ---- */

static bool is_constant(const Kernel *k, KVal v, f64 value)
{
	return k->inst.v[v.i].op == K_const && k->inst.v[v.i].imm == value;
}

static bool is_scalar(const Kernel *k, KVal v, Scalar s)
{
	return k->inst.v[v.i].op == K_scalar && k->inst.v[v.i].scalar == s;
}

/* where(max == -infinity, 0, max) */
static bool is_safe_maximum(const Kernel *k, KVal h, u32 max)
{
	const KInst *where = &k->inst.v[h.i], *test = &k->inst.v[where->in[0].i];
	return is_scalar(k, h, S_where) && where->in[2].i == max && is_constant(k, where->in[1], 0) &&
	       is_scalar(k, where->in[0], S_eq) && test->in[0].i == max &&
	       is_constant(k, test->in[1], -__builtin_inf());
}

Running cuda_running(const Kernel *k, u32 max)
{
	const KInst *m = &k->inst.v[max];
	Running r = { .max = max, .x = m->in[0] };
	if (m->reduce != REDUCE_max || m->dtype != DT_f32)
		return (Running){ 0 };
	for (u32 i = 1; i < k->inst.n; i++) {
		const KInst *sum = &k->inst.v[i], *e = &k->inst.v[sum->in[0].i], *d = &k->inst.v[e->in[0].i];
		if (sum->op != K_reduce || sum->reduce != REDUCE_sum || sum->dtype != DT_f32 || sum->sweep != m->sweep + 1 ||
		    !is_scalar(k, sum->in[0], S_exp) || !is_scalar(k, e->in[0], S_sub) || d->in[0].i != r.x.i)
			continue;
		r.h = d->in[1];
		r.safe = is_safe_maximum(k, r.h, max);
		if (r.safe || r.h.i == max) {
			r.sum = i;
			return r;
		}
	}
	return (Running){ 0 };
}

void cuda_accumulate_running(CudaBody *b, const Running *r)
{
	const char *x = each_value(b, r->x), *each = each_on(b);
	cuda_line(b, "float m%u = a%u;", r->max, r->max);
	cuda_line(b, "%sm%u = pl_max(m%u, %s);", each, r->max, r->max, x);
	cuda_line(b, "a%u = pl_running_sum(a%u, a%u, m%u);", r->sum, r->sum, r->max, r->max);
	cuda_line(b, "a%u = m%u;", r->max, r->max);
	cuda_line(b, "m%u = m%u == -INFINITY_F ? 0.0f : m%u;", r->max, r->max, r->max);
	cuda_line(b, "%sa%u += pl_exp(%s - m%u);", each, r->sum, x, r->max);
}

void cuda_finish_running(CudaBody *b, const Running *r)
{
	const char *h = cuda_scalar(b, r->h);
	if (!r->safe) /* -infinity minus itself */
		cuda_line(b, "if (%s == -INFINITY_F) a%u = NAN_F;", h, r->sum);
	cuda_line(b, "a%u = pl_running_sum(a%u, a%u, %s);", r->sum, r->sum, r->max, h);
}

/* Marks the loads that `v` needs now: those behind reductions are there already, or come later. */
static void mark_loads(const CudaBody *b, KVal v, bool *load, u32 dims)
{
	const KInst *in = &b->k->inst.v[v.i];
	if (!v.i || b->name[v.i] || in->op == K_reduce || in->op == K_acc)
		return;
	for (u32 i = 0; i < 3; i++)
		mark_loads(b, in->in[i], load, dims);
	for (u32 i = 0; in->access && i < in->access->ndynamic; i++)
		mark_loads(b, in->access->dynamic[i].index, load, dims);
	if (in->op == K_load)
		load[v.i] = true;
}

void cuda_load_ahead(CudaBody *b, u32 sweep, u32 dims)
{
	const Kernel *k = b->k;
	bool *load = NEWN(b->t->arena, bool, k->inst.n + 1);
	for (u32 i = 1; i < k->inst.n; i++) {
		const KInst *in = &k->inst.v[i];
		bool now = (in->op == K_store && in->sweep == sweep && (in->depends & dims)) ||
			   (in->op == K_reduce && in->sweep == sweep + 1);
		if (!now)
			continue;
		for (u32 j = 0; j < 3; j++)
			mark_loads(b, in->in[j], load, dims);
	}
	for (u32 i = 1; i < k->inst.n; i++)
		if (load[i])
			cuda_element(b, (KVal){ i }, 0);
}

u32 cuda_value_bytes(DType d)
{
	return d == DT_b1 ? 1 : d == DT_i64 || d == DT_f64 ? 8 : 4;
}
