/* ir/plan.c: a plan for people, and what must hold of one. See plan.h. */
#include "ir/plan.h"

#include <stdlib.h>
#include <string.h>

/* ---- printing ---- */

static void print_type(const PlanBuffer *b, FILE *to)
{
	Arena tmp = ARENA("plan_print");
	Buf text = { .arena = &tmp };
	if (b->type)
		type_print(&text, b->type);
	else
		buf_printf(&text, "%llu bytes", (unsigned long long)b->bytes);
	fprintf(to, "%.*s", STR_ARG(buf_str(&text)));
	arena_free(&tmp);
}

static const char *const kind_name[] = { [MEMORY_PERSISTENT] = "persistent", [MEMORY_INPUT] = "input",
					 [MEMORY_RESULT] = "result",	     [MEMORY_TRANSIENT] = "transient",
					 [MEMORY_WORKSPACE] = "workspace" };

static void print_buffer(const EntryPlan *e, u32 i, FILE *to)
{
	const PlanBuffer *b = &e->buffer.v[i];
	fprintf(to, "  buffer %u: %s %s ", i, kind_name[b->kind], b->name);
	print_type(b, to);
	fprintf(to, " at %llu", (unsigned long long)b->offset);
	if (b->kind != MEMORY_PERSISTENT)
		fprintf(to, ", steps %u to %u", b->first, b->last);
	if (b->root != NONE)
		fprintf(to, ", in place of %u", b->root);
	fputc('\n', to);
}

static void print_step(const Plan *p, const EntryPlan *e, u32 i, FILE *to)
{
	const Step *s = &e->step.v[i];
	const Kernel *k = p->kernel.v[s->kernel];
	fprintf(to, "  step %u: %s %s", i, kernel_class_name[k->class], k->name);
	for (u32 written = 0; written < 2; written++) {
		fputs(written ? " ->" : "", to);
		for (u32 n = 0; n < k->slot.n; n++)
			if (k->slot.v[n].written == (bool)written)
				fprintf(to, " %u%s", s->slot[n], k->slot.v[n].streamed ? " streamed" : "");
	}
	if (s->workspace != NONE)
		fprintf(to, " with %u", s->workspace);
	if (k->collective)
		fprintf(to, " until %u", s->until);
	if (k->loc.line) {
		fputs("  # ", to);
		diag_print_place(p->ir->diag, k->loc, to);
	}
	fputc('\n', to);
}

void plan_print(const Plan *p, FILE *to)
{
	fprintf(to, "plan %s for %s: %llu bytes, %llu of them persistent\n", p->program->name,
		p->target ? p->target->name : "no target", (unsigned long long)p->arena_bytes,
		(unsigned long long)p->persistent_bytes);
	for (u32 i = 0; i < p->program->buffer.n; i++) {
		const Buffer *b = &p->program->buffer.v[i];
		Arena tmp = ARENA("plan_print");
		Buf text = { .arena = &tmp };
		type_print(&text, b->type);
		fprintf(to, "persistent %s %s %.*s at %llu\n", b->name, buffer_kind_name[b->kind],
			STR_ARG(buf_str(&text)), (unsigned long long)p->persistent_offset[i]);
		arena_free(&tmp);
	}
	for (u32 i = 0; i < p->entry.n; i++) {
		const EntryPlan *e = p->entry.v[i];
		u64 over = e->transient_bytes - e->lower_bound;
		fprintf(to, "entry %s: %u steps, %llu transient bytes, of which %llu (%.2f%%) are gaps\n", e->name,
			e->step.n, (unsigned long long)e->transient_bytes, (unsigned long long)over,
			e->transient_bytes ? 100.0 * (f64)over / (f64)e->transient_bytes : 0.0);
		for (u32 k = 0; k < e->buffer.n; k++)
			print_buffer(e, k, to);
		for (u32 k = 0; k < e->step.n; k++)
			print_step(p, e, k, to);
	}
}

/* ---- verifying ---- */

typedef struct Verify {
	const Plan *p;
	const EntryPlan *e;
	Diag *d;
	bool fine;
} Verify;

PL_PRINTF(3, 4)
static void fail(Verify *v, Loc loc, const char *format, ...)
{
	Arena tmp = ARENA("plan_verify");
	va_list args;
	va_start(args, format);
	const char *why = arena_vprintf(&tmp, format, args);
	va_end(args);
	diag_error(v->d, E0711, loc, "plan of %s: %s", v->e ? v->e->name : v->p->program->name, why);
	arena_free(&tmp);
	v->fine = false;
}

static bool may_share(const Kernel *k, const Step *s, u32 out, u32 in)
{
	for (u32 o = 0; o < k->slot.n; o++)
		for (u32 i = 0; i < k->slot.n && i < 64; i++)
			if (s->slot[o] == out && s->slot[i] == in && k->slot.v[o].may_alias >> i & 1)
				return true;
	return false;
}

/* Do these two share bytes by right: one takes over the other's at a step whose kernel may do so? */
static bool in_place(const Verify *v, u32 x, u32 y)
{
	const PlanBuffer *a = &v->e->buffer.v[x], *b = &v->e->buffer.v[y];
	if (a->first > b->first || (a->kind != MEMORY_INPUT && a->first == b->first)) {
		const PlanBuffer *c = a;
		a = b;
		b = c;
		u32 i = x;
		x = y;
		y = i;
	}
	u32 root_a = a->root == NONE ? x : a->root, root_b = b->root == NONE ? y : b->root;
	if (root_a != root_b || a->last != b->first || a->kind == MEMORY_RESULT)
		return false;
	const Step *s = &v->e->step.v[b->first];
	return may_share(v->p->kernel.v[s->kernel], s, y, x);
}

static void check_slots(Verify *v)
{
	const EntryPlan *e = v->e;
	for (u32 i = 0; i < e->step.n; i++) {
		const Step *s = &e->step.v[i];
		const Kernel *k = v->p->kernel.v[s->kernel];
		for (u32 n = 0; n < k->slot.n; n++) {
			const KSlot *slot = &k->slot.v[n];
			if (s->slot[n] >= e->buffer.n) {
				fail(v, k->loc, "%s has no buffer for slot %u", k->name, n);
				return;
			}
			const PlanBuffer *b = &e->buffer.v[s->slot[n]];
			u64 bytes = (u64)slot->elements * dtype_info[slot->dtype].bytes;
			if (!b->type || b->bytes != bytes || b->type->dtype != slot->dtype)
				fail(v, k->loc, "slot %u of %s has %llu bytes, buffer %s %llu", n, k->name,
				     (unsigned long long)bytes, b->name, (unsigned long long)b->bytes);
			if (b->kind != MEMORY_PERSISTENT && (i < b->first || i > b->last))
				fail(v, k->loc, "%s touches %s, which is not alive then", k->name, b->name);
			for (u32 m = 0; m < k->slot.n; m++)
				if (slot->written && m != n && s->slot[m] == s->slot[n] &&
				    (m >= 64 || !(slot->may_alias >> m & 1)))
					fail(v, k->loc, "slots %u and %u of %s are one buffer", m, n, k->name);
		}
	}
}

static void check_written(Verify *v)
{
	const EntryPlan *e = v->e;
	Arena tmp = ARENA("plan_verify");
	bool *written = NEWN(&tmp, bool, e->buffer.n + 1);
	for (u32 i = 0; i < e->buffer.n; i++)
		written[i] = e->buffer.v[i].kind == MEMORY_PERSISTENT || e->buffer.v[i].kind == MEMORY_INPUT;
	for (u32 i = 0; i < e->step.n; i++) {
		const Step *s = &e->step.v[i];
		const Kernel *k = v->p->kernel.v[s->kernel];
		for (u32 n = 0; n < k->slot.n; n++)
			if (k->slot.v[n].read && !written[s->slot[n]])
				fail(v, k->loc, "%s reads %s before anything writes it", k->name,
				     e->buffer.v[s->slot[n]].name);
		for (u32 n = 0; n < k->slot.n; n++)
			written[s->slot[n]] |= k->slot.v[n].written;
	}
	for (u32 i = 0; i < e->result.n; i++)
		if (!written[e->result.v[i]])
			fail(v, (Loc){ 0 }, "nothing writes the result %s", e->buffer.v[e->result.v[i]].name);
	arena_free(&tmp);
}

typedef struct Span {
	u64 offset;
	u32 buffer;
} Span;

static int by_offset(const void *a, const void *b)
{
	const Span *x = a, *y = b;
	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	return x->buffer < y->buffer ? -1 : x->buffer > y->buffer;
}

/* Sorted by offset, a buffer meets only those that begin before its end. */
static void check_overlaps(Verify *v)
{
	const EntryPlan *e = v->e;
	Arena tmp = ARENA("plan_verify");
	Span *span = NEWN(&tmp, Span, e->buffer.n + 1);
	u32 n = 0;
	for (u32 i = 0; i < e->buffer.n; i++) {
		const PlanBuffer *b = &e->buffer.v[i];
		if (b->offset % MEMORY_ALIGN || b->offset + b->bytes > v->p->arena_bytes)
			fail(v, b->loc, "buffer %s lies outside of the arena, or between its lines", b->name);
		if (b->kind == MEMORY_PERSISTENT ? b->offset != v->p->persistent_offset[b->persistent]
						 : b->offset < v->p->persistent_bytes)
			fail(v, b->loc, "buffer %s lies in the wrong part of the arena", b->name);
		if (b->kind != MEMORY_PERSISTENT && b->bytes)
			span[n++] = (Span){ b->offset, i };
	}
	qsort(span, n, sizeof *span, by_offset);
	for (u32 i = 0; i < n; i++) {
		const PlanBuffer *a = &e->buffer.v[span[i].buffer];
		for (u32 k = i + 1; k < n && span[k].offset < a->offset + a->bytes; k++) {
			const PlanBuffer *b = &e->buffer.v[span[k].buffer];
			if (a->last < b->first || b->last < a->first || in_place(v, span[i].buffer, span[k].buffer))
				continue;
			fail(v, b->loc, "buffers %s and %s are alive together and overlap", a->name, b->name);
		}
	}
	arena_free(&tmp);
}

static bool share_bytes(const PlanBuffer *a, const PlanBuffer *b)
{
	return a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

/* Until a collective is done, only others touch its memory, which run one behind the other. */
static void check_waits(Verify *v)
{
	const EntryPlan *e = v->e;
	for (u32 i = 0; i < e->step.n; i++) {
		const Step *s = &e->step.v[i];
		const Kernel *k = v->p->kernel.v[s->kernel];
		if (k->collective && (s->until <= i || s->until > e->step.n))
			fail(v, k->loc, "%s is waited for before it begins, or never", k->name);
		for (u32 j = i + 1; v->fine && k->collective && j < s->until; j++) {
			const Step *t = &e->step.v[j];
			const Kernel *other = v->p->kernel.v[t->kernel];
			if (other->collective && t->until < s->until)
				fail(v, k->loc, "%s is under way when a later one is done", k->name);
			for (u32 n = 0; n < k->slot.n * other->slot.n && !other->collective; n++) {
				u32 a = n / other->slot.n, b = n % other->slot.n;
				if ((k->slot.v[a].written || other->slot.v[b].written) &&
				    share_bytes(&e->buffer.v[s->slot[a]], &e->buffer.v[t->slot[b]]))
					fail(v, k->loc, "%s touches %s while %s is under way", other->name, e->buffer.v[t->slot[b]].name, k->name);
			}
		}
	}
}

u64 plan_buffer_bytes(const Program *p, const Buffer *b)
{
	return buffer_away(p, b) ? 0 : MAX(b->slots, 1u) * ALIGN_UP((u64)type_bytes(b->type), MEMORY_ALIGN);
}

bool plan_verify(const Plan *p, Diag *d)
{
	Verify v = { .p = p, .d = d, .fine = true };
	u64 end = 0;
	for (u32 i = 0; i < p->program->buffer.n; i++) {
		if (p->persistent_offset[i] < end || p->persistent_offset[i] % MEMORY_ALIGN)
			fail(&v, (Loc){ 0 }, "buffer %s overlaps another", p->program->buffer.v[i].name);
		end = p->persistent_offset[i] + plan_buffer_bytes(p->program, &p->program->buffer.v[i]);
	}
	if (end > p->persistent_bytes)
		fail(&v, (Loc){ 0 }, "persistent buffers are larger than their part");
	for (u32 i = 0; i < p->entry.n; i++) {
		v.e = p->entry.v[i];
		check_slots(&v);
		if (!v.fine)
			return false;
		check_written(&v);
		check_overlaps(&v);
		check_waits(&v);
	}
	return v.fine;
}
