/* tools/plan_runs.c: see plan_runs.h. */
#include "tools/plan_runs.h"
#include "support/io.h"
#include "tools/fit_machine.h"
#include "tools/verbs.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const char *text_of(Arena *a, const json_t *j, const char *key)
{
	const json_t *v = json_object_get(j, key);
	return json_is_string(v) ? arena_strn(a, (Str){ json_string_value(v), json_string_length(v) }) : NULL;
}

static TextList list_of(Arena *a, const json_t *j, const char *key)
{
	const json_t *v = json_object_get(j, key);
	const char **text = NEWN(a, const char *, json_array_size(v) + 1);
	TextList list = { .v = text };
	for (size_t i = 0; i < json_array_size(v); i++) {
		const char *one = json_string_value(json_array_get(v, i));
		if (one)
			text[list.n++] = arena_printf(a, "%s", one);
	}
	return list;
}

static Status prepare(Arena *a, const json_t *j, const Machine *machine, MeasuredRun *out)
{
	static const char *const known[] = { "name", "model", "preset", "set", "shard", "mesh", "sizes", "batch", "micro", "precision",
					     "recompute", "schedule", "masters", "attention", "loss", "placeholders", "seconds" };
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)j, key, value) {
		bool is = false;
		for (u32 i = 0; i < COUNT(known); i++)
			is |= !strcmp(key, known[i]);
		if (!is)
			return FAIL(STATUS_INPUT, "a run has no '%s'", key);
	}
	SourceOptions source = { .preset = text_of(a, j, "preset"), .set = list_of(a, j, "set") };
	TextList shard = list_of(a, j, "shard");
	ClusterOptions o = { .path = text_of(a, j, "model"), .source = &source, .mesh = text_of(a, j, "mesh"), .shard = &shard,
			     .sizes = text_of(a, j, "sizes"), .precision = text_of(a, j, "precision"),
			     .micro = json_integer_value(json_object_get(j, "micro")),
			     .batch = json_integer_value(json_object_get(j, "batch")), .recompute = text_of(a, j, "recompute"),
			     .schedule = text_of(a, j, "schedule"),
			     .habits = { text_of(a, j, "masters"), text_of(a, j, "attention"), text_of(a, j, "loss"), text_of(a, j, "placeholders") } };
	if (!o.path || !o.mesh)
		return FAIL(STATUS_INPUT, "a run has a \"model\" and a \"mesh\"");
	out->name = text_of(a, j, "name");
	out->name = out->name ? out->name : "";
	out->seconds = json_number_value(json_object_get(j, "seconds"));
	return cluster_prepare(&o, machine, &out->run);
}

static void print_run(const Machine *m, const MeasuredRun *r)
{
	Arena tmp = ARENA("run");
	json_t *j = json_pack("{s:s}", "name", r->name);
	if (r->error) {
		json_object_set_new(j, "error", json_string(r->error));
	} else {
		ClusterStep s = cluster_step(&tmp, m, r->run.planned.work, &r->run.shape);
		const StageStep *busy = &s.stage[s.busiest];
		json_t *v = json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:I}", "step_seconds", s.seconds, "update_seconds", s.update, "bubble",
				      s.bubble, "exposed_seconds", busy->waiting, "arithmetic_seconds", busy->by[LIMIT_ARITHMETIC],
				      "bandwidth_seconds", busy->by[LIMIT_MEMORY], "memory_bytes", (json_int_t)s.memory);
		json_object_update(j, v);
		json_decref(v);
	}
	char *text = json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(9));
	printf("%s\n", text ? text : "");
	free(text);
	json_decref(j);
	arena_free(&tmp);
}

static const char *what_failed(Arena *a, const MeasuredRun *r, Status s)
{
	const Diag *d = &r->run.model.lm.source.diag;
	return arena_printf(a, "%s", d->first ? d->first->text : s->text);
}

int plan_runs(const char *path, const Machine *machine, const char *fit)
{
	Arena a = ARENA("runs");
	Str text;
	Status s = io_read(&a, path, &text);
	VEC(MeasuredRun) run = { 0 };
	u32 line = 0;
	for (size_t at = 0; !s && at < text.n;) {
		const char *end = memchr(text.s + at, '\n', text.n - at);
		size_t n = end ? (size_t)(end - text.s) - at : text.n - at;
		json_error_t e;
		line++;
		json_t *j = n ? json_loadb(text.s + at, n, 0, &e) : NULL;
		at += n + 1;
		if (!n)
			continue;
		if (!json_is_object(j)) {
			s = FAIL(STATUS_INPUT, "%s:%u is no JSON object: %s", path, line, j ? "something else" : e.text);
			json_decref(j);
			break;
		}
		MeasuredRun r = { 0 };
		Status why = prepare(&a, j, machine, &r);
		if (why)
			r.error = what_failed(&a, &r, why);
		json_decref(j);
		VEC_PUSH(&a, &run, r);
	}
	Machine fitted = *machine;
	if (!s && fit) {
		fit_machine(&a, &fitted, run.v, run.n);
		Buf b = { .arena = &a };
		buf_printf(&b, "# Fitted by `plinth plan --runs %s --fit`.\n", path);
		machine_print(&b, &fitted);
		s = io_write(fit, (Blob){ (const u8 *)b.text, b.n });
	}
	for (u32 i = 0; i < run.n && !s; i++)
		print_run(&fitted, &run.v[i]);
	int status = s ? verb_failed("plan", s) : 0;
	for (u32 i = 0; i < run.n; i++)
		lm_close(&run.v[i].run.model.lm);
	arena_free(&a);
	return status;
}
