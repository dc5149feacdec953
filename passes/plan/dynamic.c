/* passes/plan/dynamic.c: one plan for all sizes in range; see plan.h.
 *
 * A program is bound, fused and lowered at numbers. What becomes of it at other numbers differs in nothing but numbers as long as
 * no decision depends on them: the extents, strides and offsets of its kernels and the shapes of its buffers, all polynomials in
 * the sizes. So it is planned at some sizes, which say what these polynomials are, and at two more, which the polynomials must
 * meet. The sizes are large primes, no two alike: nothing is 1, or equal to something else by chance, and what is lowered so is
 * right for every size. Where the size of a value decides (passes/fuse.h), it is that at the first point (PlanLimits.like). That
 * kernels are the same is checked by their shape (kernel_shape_hash); constants that follow from sizes, as the count in a mean,
 * become numbers that code is given.
 *
 * Degrees are at most DEGREE in each size; a number of higher degree is noticed at the points that check. Interpolation is
 * Newton's, in each size in turn.
 *
 * Offsets are laid out for the largest sizes: no buffer is larger at smaller ones. What is kept between runs is so too: at smaller
 * sizes its beginning is used. What launches need beside their slots follows
 * from sizes by more than polynomials, and is asked when they run (NeedsFunction). */
#include "passes/plan/plan.h"

#include <string.h>

enum {
	DEGREE = 2,
	POINTS = DEGREE + 1,
	CHECKS = 2,
	EACH = POINTS + CHECKS,
	LEAST = 5, /* few rows and few queries are lowered otherwise (TargetInfo.few_queries) */
};

/* ---- where ---- */

static bool is_prime(i64 n)
{
	for (i64 d = 2; d * d <= n; d++)
		if (n % d == 0)
			return false;
	return n > 1;
}

/* The next prime in the range that is not among the `n` taken, from the largest down, and then those above it. */
static i64 next_prime(i64 most, const i64 *taken, u32 n)
{
	for (i64 p = most, step = -1;; p += step) {
		bool fresh = is_prime(p) && p >= LEAST;
		for (u32 i = 0; i < n; i++)
			fresh &= taken[i] != p;
		if (fresh)
			return p;
		if (p <= LEAST && step < 0) {
			p = most;
			step = 1;
		}
	}
}

/* EACH primes of every axis, at prime[i * naxis + a]. Axes with large ranges choose first, those that come later first among equals:
 * beyond its range a size may be what the model has no place for (a table of positions), for which few primes are left to small
 * ranges, of which the number of texts is the usual one. */
static void choose_primes(const PlanAxis *axis, u32 naxis, i64 *prime)
{
	i64 taken[PLAN_AXES * EACH];
	bool done[PLAN_AXES] = { false };
	for (u32 n = 0; n < naxis * EACH;) {
		u32 next = NONE;
		for (u32 a = 0; a < naxis; a++)
			next = done[a] || (next != NONE && axis[a].most < axis[next].most) ? next : a;
		done[next] = true;
		for (u32 i = 0; i < EACH; i++, n++) {
			taken[n] = next_prime(axis[next].most, taken, n);
			/* the last one checks what another has checked: rather than beyond the range it is one of the others */
			bool again = i == EACH - 1 && taken[n] > axis[next].most && prime[next] <= axis[next].most;
			prime[i * naxis + next] = again ? prime[next] : taken[n];
		}
	}
}

/* The grid of the first POINTS primes of each axis, then CHECKS points that share none with it. */
u32 plan_points(Arena *arena, const PlanAxis *axis, u32 naxis, PlanAt **out)
{
	i64 prime[PLAN_AXES * EACH];
	u32 n = 1;
	choose_primes(axis, naxis, prime);
	for (u32 a = 0; a < naxis; a++)
		n *= POINTS;
	*out = NEWN(arena, PlanAt, n + CHECKS);
	for (u32 i = 0; i < n; i++)
		for (u32 a = naxis, rest = i; a-- > 0; rest /= POINTS)
			(*out)[i].size[a] = prime[rest % POINTS * naxis + a];
	for (u32 i = 0; i < CHECKS; i++)
		for (u32 a = 0; a < naxis; a++)
			(*out)[n + i].size[a] = prime[(POINTS + i) * naxis + a];
	return n + CHECKS;
}

/* ---- what ---- */

typedef struct Fit {
	Ir *ir;
	const PlanAxis *axis;
	u32 naxis;
	const PlanAt *at;
	u32 n; /* points, CHECKS of them last */
} Fit;

/* The polynomial through the points of the grid from `first` on, over axes a and later. */
static Dim through(const Fit *f, const i64 *value, u32 a, u32 first)
{
	if (a == f->naxis || a == PLAN_AXES)
		return dim_number(f->ir, value[first]);
	Dim c[POINTS];
	u32 stride = 1;
	for (u32 b = a + 1; b < f->naxis; b++)
		stride *= POINTS;
	for (u32 i = 0; i < POINTS; i++)
		c[i] = through(f, value, a + 1, first + i * stride);
#define AT(i) f->at[first + (i) * stride].size[a]
	for (u32 j = 1; j < POINTS; j++)
		for (u32 i = POINTS; i-- > j;)
			c[i] = dim_div(f->ir, dim_sub(f->ir, c[i], c[i - 1]), dim_number(f->ir, AT(i) - AT(i - j)));
	Dim sum = c[POINTS - 1], symbol = dim_symbol(f->ir, f->axis[a].symbol);
	for (u32 i = POINTS - 1; i-- > 0;)
		sum = dim_add(f->ir, dim_mul(f->ir, sum, dim_sub(f->ir, symbol, dim_number(f->ir, AT(i)))), c[i]);
	return sum;
#undef AT
}

static i64 at_sizes(const Fit *f, Dim d, const i64 *size)
{
	const char *symbol[PLAN_AXES];
	i64 n;
	for (u32 a = 0; a < f->naxis; a++)
		symbol[a] = f->axis[a].symbol;
	return dim_is_number(dim_bind(f->ir, d, symbol, size, f->naxis), &n) ? n : INT64_MIN;
}

static i64 at_most(const Fit *f, Dim d)
{
	i64 size[PLAN_AXES];
	for (u32 a = 0; a < f->naxis; a++)
		size[a] = f->axis[a].most;
	return at_sizes(f, d, size);
}

/* What gives value[i] at point i: NULL where no polynomial does. */
static Dim fit(const Fit *f, const i64 *value)
{
	bool same = true;
	for (u32 i = 1; i < f->n; i++)
		same &= value[i] == value[0];
	Dim d = same ? dim_number(f->ir, value[0]) : through(f, value, 0, 0);
	for (u32 i = 0; i < f->n; i++)
		if (at_sizes(f, d, f->at[i].size) != value[i])
			return NULL;
	return d;
}

/* ---- plans side by side ---- */

typedef struct Side {
	const EntryPlan *entry;
	Map step;    /* interned kernel name -> its step */
	u32 *buffer; /* of each buffer of the first plan's entry, or NONE */
} Side;

typedef struct Merge {
	Fit fit;
	Arena *tmp;
	Plan *const *plan;
	Diag *diag;
	Interner names;
	EntryPlan *entry; /* of the first plan */
	Side *side;       /* [fit.n] */
	i64 *value;       /* [fit.n] room */
} Merge;

static bool refuse(const Merge *x, Loc loc, const char *what, u32 point)
{
	Buf text = { .arena = x->tmp };
	for (u32 i = 0; i < 2; i++) {
		buf_printf(&text, "%s", i ? " and " : "");
		for (u32 a = 0; a < x->fit.naxis; a++)
			buf_printf(&text, "%s%s=%lld", a ? "," : "", x->fit.axis[a].symbol, (long long)x->fit.at[i ? point : 0].size[a]);
	}
	return diag_error(x->diag, E0726, loc, "one program for all sizes is not possible: %s differs between %s", what, text.text);
}

static bool match_buffers(Merge *x, u32 point, u32 mine, u32 its)
{
	Side *s = &x->side[point];
	const PlanBuffer *a = &x->entry->buffer.v[mine], *b = &s->entry->buffer.v[its];
	bool alike = a->kind == b->kind && a->persistent == b->persistent && a->type->dtype == b->type->dtype &&
		     a->type->rank == b->type->rank && (s->buffer[mine] == NONE || s->buffer[mine] == its);
	s->buffer[mine] = its;
	return alike || refuse(x, a->loc, a->name, point);
}

/* Which step and buffers of plan `point` are those of the first. */
static bool match(Merge *x, u32 point)
{
	Side *s = &x->side[point];
	const EntryPlan *e = x->entry;
	s->step.arena = x->tmp;
	s->buffer = NEWN(x->tmp, u32, e->buffer.n + 1);
	memset(s->buffer, 0xff, (e->buffer.n + 1) * sizeof *s->buffer);
	if (e->step.n != s->entry->step.n || e->input.n != s->entry->input.n || e->result.n != s->entry->result.n)
		return refuse(x, (Loc){ 0 }, "the number of kernels", point);
	for (u32 i = 0; i < s->entry->step.n; i++)
		map_put(&s->step, MAP_KEY(intern_z(&x->names, x->plan[point]->kernel.v[s->entry->step.v[i].kernel]->name)), i);
	bool fine = true;
	for (u32 i = 0; i < e->input.n && fine; i++)
		fine = match_buffers(x, point, e->input.v[i], s->entry->input.v[i]);
	for (u32 i = 0; i < e->result.n && fine; i++)
		fine = match_buffers(x, point, e->result.v[i], s->entry->result.v[i]);
	for (u32 i = 0; i < e->step.n && fine; i++) {
		const Kernel *k = x->plan[0]->kernel.v[e->step.v[i].kernel];
		const u64 *at = map_get(&s->step, MAP_KEY(intern_z(&x->names, k->name)));
		const Step *step = at ? &s->entry->step.v[*at] : NULL;
		const Kernel *its = step ? x->plan[point]->kernel.v[step->kernel] : NULL;
		if (!its || its->slot.n != k->slot.n || its->ndim != k->ndim || its->inst.n != k->inst.n)
			return refuse(x, k->loc, k->name, point);
		for (u32 q = 0; q < k->slot.n && fine; q++)
			fine = match_buffers(x, point, e->step.v[i].slot[q], step->slot[q]);
	}
	return fine;
}

static Kernel *kernel_at(Merge *x, u32 step, u32 point)
{
	const Kernel *k = x->plan[0]->kernel.v[x->entry->step.v[step].kernel];
	const Side *s = &x->side[point];
	u64 at = *map_get(&s->step, MAP_KEY(intern_z(&x->names, k->name)));
	return x->plan[point]->kernel.v[s->entry->step.v[at].kernel];
}

/* Whole constants that differ between sizes become indices, whose offset is a number. */
static bool merge_constants(Merge *x, Kernel *const *each)
{
	for (u32 i = 1; i < each[0]->inst.n; i++) {
		bool constant = true, same = true, whole = true;
		for (u32 p = 0; p < x->fit.n; p++) {
			const KInst *in = &each[p]->inst.v[i], *first = &each[0]->inst.v[i];
			constant &= in->op == K_const && in->dtype == first->dtype;
			same &= !memcmp(&in->imm, &first->imm, sizeof in->imm);
			whole &= in->imm >= -0x1p53 && in->imm <= 0x1p53 && in->imm == (f64)(i64)in->imm;
			x->value[p] = whole ? (i64)in->imm : 0;
		}
		if (!constant || same)
			continue;
		if (!whole || !fit(&x->fit, x->value))
			return refuse(x, each[0]->inst.v[i].loc, each[0]->name, x->fit.n - 1);
		for (u32 p = 0; p < x->fit.n; p++) {
			KInst *in = &each[p]->inst.v[i];
			Access *a = NEW(each[p]->arena, Access);
			a->offset = x->value[p];
			*in = (KInst){ .op = K_index, .dtype = in->dtype, .access = a, .depends = in->depends, .sweep = in->sweep,
				       .loc = in->loc };
		}
	}
	return true;
}

/* A slot's elements at each point; `out`: what they follow from. */
static bool merge_slot(Merge *x, Kernel *k, Kernel *const *each, u32 slot, Dim *out)
{
	i64 fixed;
	for (u32 p = 0; p < x->fit.n; p++)
		x->value[p] = each[p]->slot.v[slot].elements;
	Dim d = fit(&x->fit, x->value);
	if (!d || k->slot.v[slot].row)
		return refuse(x, k->loc, k->slot.v[slot].name, x->fit.n - 1);
	*out = dim_is_number(d, &fixed) ? NULL : d;
	k->slot.v[slot].elements = at_most(&x->fit, d);
	return true;
}

/* Numbers, the slots' sizes and counts of a step's kernel. */
static bool merge_kernel(Merge *x, u32 step, PlanSizes *out)
{
	Plan *plan = x->plan[0];
	Kernel *k = plan->kernel.v[x->entry->step.v[step].kernel];
	u32 n = x->fit.n;
	Kernel **each = NEWN(x->tmp, Kernel *, n);
	i64 **number = NEWN(x->tmp, i64 *, n);
	for (u32 p = 0; p < n; p++)
		each[p] = kernel_at(x, step, p);
	if (!merge_constants(x, each))
		return false;
	u32 count = kernel_numbers(k, NULL);
	for (u32 p = 0; p < n; p++) {
		if (kernel_shape_hash(each[p]) != kernel_shape_hash(k))
			return refuse(x, k->loc, k->name, p);
		number[p] = NEWN(x->tmp, i64, count + 1);
		kernel_numbers(each[p], number[p]);
	}
	Dim *to = NEWN(plan->arena, Dim, count + 1);
	for (u32 i = 0; i < count; i++) {
		i64 fixed;
		for (u32 p = 0; p < n; p++)
			x->value[p] = number[p][i];
		Dim d = fit(&x->fit, x->value);
		if (!d)
			return refuse(x, k->loc, k->name, n - 1);
		to[i] = dim_is_number(d, &fixed) ? NULL : d;
	}
	Dim *elements = NEWN(plan->arena, Dim, k->slot.n + 1);
	for (u32 s = 0; s < k->slot.n; s++)
		if (!merge_slot(x, k, each, s, &elements[s]))
			return false;
	u32 at = x->entry->step.v[step].kernel;
	((const Dim **)(uintptr_t)out->number)[at] = to;
	((const Dim **)(uintptr_t)out->elements)[at] = elements;
	f64 *real[] = { &k->flops, &k->bytes_read, &k->bytes_written };
	for (u32 c = 0; c < COUNT(real); c++) {
		for (u32 p = 0; p < n; p++)
			x->value[p] = (i64)(c == 0 ? each[p]->flops : c == 1 ? each[p]->bytes_read : each[p]->bytes_written);
		Dim d = fit(&x->fit, x->value);
		if (d) /* for reports */
			*real[c] = (f64)at_most(&x->fit, d);
	}
	return true;
}

/* May a dimension of a persistent buffer be this? What is kept between runs may follow from what all of them have alike. */
static bool may_follow(const Merge *x, const PlanBuffer *b, Dim d)
{
	bool fine = true;
	for (u32 i = 0; i < d->n; i++)
		for (u32 s = 0; s < d->term[i].n; s++)
			for (u32 a = 0; a < x->fit.naxis; a++)
				fine &= d->term[i].symbol[s] != x->fit.axis[a].symbol || x->fit.axis[a].steady;
	i64 number;
	return dim_is_number(d, &number) || (fine && x->plan[0]->program->buffer.v[b->persistent].kind == BUFFER_CACHE);
}

/* Buffers of the program that follow from sizes are as large as they are at most. */
static bool merge_program(Merge *x)
{
	Plan *plan = x->plan[0];
	Program *program = COPYN(plan->arena, Program, plan->program, 1);
	program->buffer.v = COPYN(plan->arena, Buffer, program->buffer.v, program->buffer.n);
	for (u32 i = 0; i < program->buffer.n; i++) {
		Buffer *b = &program->buffer.v[i];
		Dim most[MAX_RANK];
		for (u32 d = 0; d < b->type->rank; d++) {
			for (u32 p = 0; p < x->fit.n; p++)
				x->value[p] = type_extent(x->plan[p]->program->buffer.v[i].type, d);
			Dim sized = fit(&x->fit, x->value);
			if (!sized)
				return refuse(x, b->loc, b->name, x->fit.n - 1);
			most[d] = dim_number(x->fit.ir, at_most(&x->fit, sized));
		}
		b->type = type_make(x->fit.ir, b->type->dtype, b->type->rank, most);
	}
	plan->program = program;
	plan_persistent(plan);
	return true;
}

/* The shape of a buffer: with symbols, and at most. */
static bool merge_buffer(Merge *x, u32 buffer)
{
	PlanBuffer *b = &x->entry->buffer.v[buffer];
	Dim sized[MAX_RANK], most[MAX_RANK];
	if (b->kind == MEMORY_WORKSPACE) {
		b->bytes = 0;
		return true;
	}
	for (u32 d = 0; d < b->type->rank; d++) {
		for (u32 p = 0; p < x->fit.n; p++) {
			const Side *s = &x->side[p];
			/* what nothing reads or writes: a buffer that an input gives back as it is */
			x->value[p] = s->buffer[buffer] == NONE ? type_extent(b->type, d) :
								  type_extent(s->entry->buffer.v[s->buffer[buffer]].type, d);
		}
		sized[d] = fit(&x->fit, x->value);
		if (!sized[d] || (b->kind == MEMORY_PERSISTENT && !may_follow(x, b, sized[d])))
			return refuse(x, b->loc, b->name, x->fit.n - 1);
		most[d] = dim_number(x->fit.ir, at_most(&x->fit, sized[d]));
	}
	const Type *t = b->type;
	b->type = type_make(x->fit.ir, t->dtype, t->rank, most);
	b->sized = type_make(x->fit.ir, t->dtype, t->rank, sized);
	if (b->kind != MEMORY_PERSISTENT)
		b->bytes = (u64)type_bytes(b->type);
	return true;
}

static bool merge_entry(Merge *x, u32 entry, PlanSizes *out)
{
	Plan *plan = x->plan[0];
	EntryPlan *e = x->entry = plan->entry.v[entry];
	for (u32 p = 0; p < x->fit.n; p++) {
		if (entry >= x->plan[p]->entry.n)
			return refuse(x, (Loc){ 0 }, "the number of entries", p);
		x->side[p] = (Side){ .entry = x->plan[p]->entry.v[entry] };
		if (!match(x, p))
			return false;
	}
	for (u32 i = 0; i < e->step.n; i++) {
		e->step.v[i].workspace = NONE;
		if (!merge_kernel(x, i, out))
			return false;
	}
	for (u32 i = 0; i < e->buffer.n; i++)
		if (!merge_buffer(x, i))
			return false;
	plan_entry_memory(x->tmp, plan, e);
	return true;
}

Plan *plan_for_sizes(Arena *tmp, const PlanAxis *axis, u32 naxis, const PlanAt *at, Plan *const *plan, u32 n, Diag *diag)
{
	Plan *first = plan[0];
	PlanSizes *sizes = NEW(first->arena, PlanSizes);
	*sizes = (PlanSizes){ axis, naxis, NEWN(first->arena, const Dim *, first->kernel.n + 1),
			      NEWN(first->arena, const Dim *, first->kernel.n + 1) };
	Merge x = { .fit = { first->ir, axis, naxis, at, n }, .tmp = tmp, .plan = plan, .diag = diag, .names.arena = tmp,
		    .side = NEWN(tmp, Side, n), .value = NEWN(tmp, i64, n) };
	if (!merge_program(&x))
		return NULL;
	for (u32 e = 0; e < first->entry.n; e++)
		if (!merge_entry(&x, e, sizes))
			return NULL;
	first->sizes = sizes;
	first->thread_scratch = 0;
	plan_sum(first);
	return first;
}
