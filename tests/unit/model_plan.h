/* tests/unit/model_plan.h: plans of the models in models/, as the command line makes them. */
#ifndef PL_TESTS_MODEL_PLAN_H
#define PL_TESTS_MODEL_PLAN_H
#include "frontend/elaborate.h"
#include "support/io.h"
#include "tools/driver.h"

#include <string.h>

typedef struct ModelPlan {
	const char *name, *preset, *set; /* preset, set: may be NULL; set: "layers=2;vocab=512" */
	DriverOptions options;
} ModelPlan;

static inline bool model_find(void *cx, Arena *arena, const char *name, const char **path, Str *text)
{
	(void)cx;
	*path = arena_printf(arena, "%s/models/%s.plinth", SOURCE_DIR, name);
	return !io_read(arena, *path, text);
}

static inline Model *model_read(Arena *a, const char *name, const char *preset, const char *set)
{
	Diag *d = NEW(a, Diag);
	d->arena = a;
	Ir *ir = ir_new(a, d);
	const char *path;
	Str text;
	assert_true(model_find(NULL, a, name, &path, &text));
	const Ast *ast = parse_source(a, &ir->names, d, path, text);
	enum { SETTINGS = 8 };
	const char *setting[SETTINGS];
	u32 n = 0;
	for (char *all = set ? (char *)arena_printf(a, "%s", set) : NULL, *one; all && (one = strsep(&all, ";"));) {
		assert_true(n < SETTINGS);
		setting[n++] = one;
	}
	ElaborateOptions e = { .preset = preset, .find = model_find, .set = setting, .nset = n };
	Model *model = ast ? elaborate(a, ir, ast, &e) : NULL;
	diag_print(d, stderr, false);
	assert_non_null(model);
	return model;
}

/* Everything lies in `a`. */
static inline Compiled model_plan(Arena *a, const ModelPlan *m)
{
	Model *model = model_read(a, m->name, m->preset, m->set);
	Compiled c = { 0 };
	Status s = driver_plan(a, model->program, &m->options, &c);
	diag_print(model->program->ir->diag, stderr, false);
	if (s)
		fail_msg("%s: %s", m->name, s->text);
	assert_non_null(c.plan);
	return c;
}

#endif
