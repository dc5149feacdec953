/* tests/unit/plan_text.h: the plan of a program that is written as IR text: parsed, put through passes, planned and verified. */
#ifndef PL_TESTS_PLAN_TEXT_H
#define PL_TESTS_PLAN_TEXT_H
#include "passes/pass.h"
#include "passes/plan/plan.h"

typedef struct PlannedText {
	Arena arena, tmp;
	Diag diag;
	Plan *plan;
	EntryPlan *e; /* the first entry */
} PlannedText;

/* `memory`: 0, or a budget. Fails the test, with what was told, where there is no plan. */
static inline void plan_text(PlannedText *c, const char *text, const char *passes, u64 memory)
{
	*c = (PlannedText){ .arena = ARENA("text"), .tmp = ARENA("tmp") };
	c->diag.arena = &c->arena;
	Ir *ir = ir_new(&c->arena, &c->diag);
	Program *p = program_parse(&c->arena, ir, str_of(text), diag_source(&c->diag, "text", str_of(text)));
	Status status;
	PassCx cx = { .out = &c->arena, .tmp = &c->tmp, .ir = ir, .diag = &c->diag };
	p = p ? pipeline_run(str_of(passes), &cx, p, &status) : NULL;
	c->plan = p ? plan_within(&c->arena, &c->tmp, p, NULL, &(PlanLimits){ .memory = memory }, &c->diag) : NULL;
	diag_print(&c->diag, stderr, false);
	assert_non_null(c->plan);
	assert_true(plan_verify(c->plan, &c->diag));
	c->e = c->plan->entry.v[0];
}

static inline void plan_text_free(PlannedText *c)
{
	arena_free(&c->tmp);
	arena_free(&c->arena);
}

#endif
