/* tests/unit/plan_run.h: plans carried out by plain loops. An arena is emulated as one f64 for each byte
 * (an element lies at its first byte); kernels are evaluated by kernel_eval on what lies at their slots,
 * slots of one place being one array, so that in-place work is real. What nothing has written is NaN. */
#ifndef PL_TESTS_PLAN_RUN_H
#define PL_TESTS_PLAN_RUN_H
#include "ir/eval.h"
#include "passes/pass.h"
#include "passes/plan/plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static inline void arena_put(f64 *arena, u64 offset, DType d, const f64 *x, i64 n)
{
	u64 width = dtype_info[d].bytes;
	for (i64 i = 0; i < n; i++) {
		arena[offset + (u64)i * width] = x[i];
		for (u64 k = 1; k < width; k++)
			arena[offset + (u64)i * width + k] = NAN;
	}
}

static inline void arena_get(const f64 *arena, u64 offset, DType d, f64 *x, i64 n)
{
	for (i64 i = 0; i < n; i++)
		x[i] = arena[offset + (u64)i * dtype_info[d].bytes];
}

static inline void run_plan_step(Arena *tmp, const Plan *p, const EntryPlan *e, const Step *s, f64 *arena)
{
	const Kernel *k = p->kernel.v[s->kernel];
	f64 **slot = NEWN(tmp, f64 *, k->slot.n + 1);
	for (u32 i = 0; i < k->slot.n; i++) {
		const PlanBuffer *b = &e->buffer.v[s->slot[i]];
		for (u32 j = 0; j < i && !slot[i]; j++)
			if (e->buffer.v[s->slot[j]].offset == b->offset)
				slot[i] = slot[j];
		if (!slot[i]) {
			slot[i] = NEWN(tmp, f64, k->slot.v[i].elements + 1);
			arena_get(arena, b->offset, k->slot.v[i].dtype, slot[i], k->slot.v[i].elements);
		}
	}
	kernel_eval(k, slot);
	for (u32 i = 0; i < k->slot.n; i++)
		if (k->slot.v[i].written)
			arena_put(arena, e->buffer.v[s->slot[i]].offset, k->slot.v[i].dtype, slot[i],
				  k->slot.v[i].elements);
}

/* As eval_entry, by the plan. Results are in the order of the graph's; those that went to buffers are
 * left empty. */
static inline void run_plan(Arena *tmp, const Plan *p, u32 entry, const Tensor *input, Tensor *buffer,
			    Tensor *result)
{
	const EntryPlan *e = p->entry.v[entry];
	const Graph *g = p->program->entry.v[entry];
	f64 *arena = NEWN(tmp, f64, p->arena_bytes + 1);
	for (u64 i = 0; i < p->arena_bytes; i++)
		arena[i] = NAN;
	for (u32 i = 0; i < p->program->buffer.n; i++)
		arena_put(arena, p->persistent_offset[i], buffer[i].dtype, buffer[i].data, buffer[i].n);
	for (u32 i = 0; i < e->input.n; i++)
		arena_put(arena, e->buffer.v[e->input.v[i]].offset, input[i].dtype, input[i].data, input[i].n);
	for (u32 i = 0; i < e->step.n; i++) {
		ArenaMark mark = arena_mark(tmp);
		run_plan_step(tmp, p, e, &e->step.v[i], arena);
		arena_release(tmp, mark);
	}
	for (u32 i = 0; i < p->program->buffer.n; i++)
		arena_get(arena, p->persistent_offset[i], buffer[i].dtype, buffer[i].data, buffer[i].n);
	for (u32 i = 0, k = 0; i < g->result.n; i++) {
		if (g->result.v[i].buffer != NONE)
			continue;
		const PlanBuffer *b = &e->buffer.v[e->result.v[k++]];
		result[i] = tensor_new(tmp, b->type);
		arena_get(arena, b->offset, result[i].dtype, result[i].data, result[i].n);
	}
}

/* ---- an independent look at a plan: byte by byte ---- */

/* Who owns each 64-byte line of the arena at each step; false where two do that are alive together and
 * do not take over from one another. For small plans. */
static inline bool plan_lines_are_sound(Arena *tmp, const Plan *p)
{
	u64 lines = p->arena_bytes / MEMORY_ALIGN + 1;
	for (u32 n = 0; n < p->entry.n; n++) {
		const EntryPlan *e = p->entry.v[n];
		for (u32 s = 0; s < e->step.n; s++) {
			ArenaMark mark = arena_mark(tmp);
			u32 *owner = NEWN(tmp, u32, lines);
			for (u32 i = 0; i < e->buffer.n; i++) {
				const PlanBuffer *b = &e->buffer.v[i];
				if (s < b->first || s > b->last || !b->bytes)
					continue;
				u64 end = b->offset + b->bytes;
				if (end > p->arena_bytes)
					return false;
				for (u64 l = b->offset / MEMORY_ALIGN; l * MEMORY_ALIGN < end; l++) {
					if (!owner[l]) {
						owner[l] = i + 1;
						continue;
					}
					/* both alive: one must end where the other begins, at one place */
					const PlanBuffer *o = &e->buffer.v[owner[l] - 1];
					bool handed = o->offset == b->offset && o->bytes == b->bytes &&
						      ((o->last == s && b->first == s && o->kind != MEMORY_RESULT) ||
						       (b->last == s && o->first == s && b->kind != MEMORY_RESULT));
					if (!handed)
						return false;
				}
			}
			arena_release(tmp, mark);
		}
	}
	return true;
}

#endif
