/* tools/bench_json.c: what was measured for programs: JSON, and a Perfetto trace; see bench.h. Seconds, bytes, FLOPs
 * and FLOPs a second, all as they are, without prefixes. */
#include "support/io.h"
#include "tools/bench.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* JSON has no NaN: null. */
static json_t *real(f64 x)
{
	return isfinite(x) ? json_real(x) : json_null();
}

static json_t *spread(Spread s)
{
	return json_pack("{s:o, s:o, s:o, s:I}", "median", real(s.median), "least", real(s.least), "most", real(s.most),
			 "measurements", (json_int_t)s.n);
}

static json_t *kernel(const KernelGroup *g)
{
	f64 s = g->seconds.median;
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:o, s:o, s:o, s:b, s:o, s:s, s:o}", "entry",
			 g->first.entry, "name", g->first.name, "class", g->first.class, "shape", g->first.shape,
			 "file", g->first.file, "line", (json_int_t)g->first.line, "calls", (json_int_t)g->calls,
			 "seconds", spread(g->seconds), "flops", real(g->flops), "bytes", real(g->bytes), "narrow",
			 (int)(g->first.operands != OPERANDS_32), "bound_seconds", real(g->bound.seconds), "bound_by",
			 g->bound.by_flops ? "flops" : "bytes", "of_bound", real(s > 0 ? g->bound.seconds / s : NAN));
}

static json_t *compile(const Bench *b)
{
	const DriverTimes *t = &b->run.compiled.times;
	json_t *passes = json_array();
	for (u32 i = 0; i < t->pass.n; i++)
		json_array_append_new(passes, json_pack("{s:s, s:o}", "pass", t->pass.v[i].pass, "seconds",
							real(t->pass.v[i].seconds)));
	return json_pack("{s:o, s:o, s:o, s:o, s:I, s:I, s:b, s:o, s:o, s:o, s:I, s:o, s:o}", "seconds", real(t->total), "passes_seconds",
			 real(t->passes), "plan_seconds", real(t->plan), "code_seconds", real(t->code), "units",
			 (json_int_t)(t->compiled + t->cached), "from_cache", (json_int_t)t->cached, "whole_from_cache", (int)t->kept, "passes", passes,
			 "first_launch_seconds", real(b->start.launch), "memory_seconds", real(b->start.memory), "memory_page_faults",
			 (json_int_t)b->start.faults, "values_seconds", real(b->start.values), "first_step_seconds",
			 real(b->start.step));
}

static json_t *clocks(const Bench *b)
{
	if (!b->has_clocks)
		return json_null();
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:b}", "sm_mhz", spread(b->sm_mhz), "memory_mhz",
			 spread(b->memory_mhz), "watts", spread(b->watts), "celsius", spread(b->celsius), "most_sm_mhz",
			 real(b->most_mhz), "limit_watts", real(b->limit_watts), "held_by_power",
			 (int)((b->held & GPU_HELD_POWER) != 0), "held_by_heat",
			 (int)((b->held & (GPU_HELD_HEAT | GPU_HELD_SLOWDOWN)) != 0));
}

static json_t *machine(const Bench *b)
{
	json_t *bandwidth = json_object();
	for (int k = 0; k < DEVICE_MOVES; k++)
		json_object_set_new(bandwidth, device_move_name[k], spread(b->bandwidth[k]));
	return json_pack("{s:s, s:s, s:[o, o], s:o, s:o, s:o, s:o, s:o, s:o}", "device", b->device, "name", b->machine, "load",
			 real(b->load[0]), real(b->load[1]), "peak_flops", spread(b->peak[OPERANDS_32]), "narrow_peak_flops",
			 spread(b->peak[OPERANDS_16]), "f8_peak_flops", spread(b->peak[OPERANDS_8]), "bandwidth", bandwidth, "datasheet_flops",
			 b->datasheet > 0 ? real(b->datasheet) : json_null(), "clocks", clocks(b));
}

static json_t *step(const Bench *b)
{
	f64 s = b->step.median, bytes = b->kernel_bytes;
	json_t *runs = json_array();
	for (u32 r = 0; r < b->options.runs; r++)
		json_array_append_new(runs, real(b->run_seconds[r]));
	json_t *j = json_pack("{s:o, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "seconds", spread(b->step), "runs", runs,
			      "steps_of_a_run", (json_int_t)b->steps, "tokens", real(b->tokens), "tokens_per_second",
			      real(b->tokens / s), "flops", real(b->flops), "flops_full_square", real(b->flops_full),
			      "kernel_flops", real(b->kernel_flops), "kernel_bytes", real(bytes));
	if (b->of_limit.n)
		json_object_update_new(j, json_pack("{s:o, s:o, s:o, s:o, s:o}", "optimizer_bytes", real(b->optimizer_bytes),
						    "sustained_flops", spread(b->sustained), "limit_seconds", spread(b->limit_seconds),
						    "of_limit", spread(b->of_limit), "of_best_limit", spread(b->of_best_limit)));
	json_object_set_new(j, "beside_first", b->beside.n ? spread(b->beside) : json_null());
	json_object_update_new(j,
			       json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "flops_per_second",
					 real(b->flops / s), "flops_per_second_full_square", real(b->flops_full / s),
					 "mfu", b->datasheet > 0 ? real(b->flops / s / b->datasheet) : json_null(),
					 "of_measured_peak", real(b->flops / s / b->step_peak), "of_measured_bandwidth",
					 real(bytes / s / b->limit.bandwidth), "roofline_seconds",
					 real(b->bound.seconds), "of_roofline", real(b->bound.seconds / s), "loss",
					 json_pack("[o, o]", real(b->loss[0]), real(b->loss[1]))));
	return j;
}

static json_t *point(const Bench *b)
{
	if (b->failed)
		return json_pack("{s:s, s:s, s:s}", "sizes", b->point.sizes, "name", b->point.name, "failed", b->failed);
	json_t *kernels = json_array();
	for (u32 i = 0; i < b->ngroup; i++)
		json_array_append_new(kernels, kernel(&b->group[i]));
	const Package *p = b->run.package;
	json_t *memory = json_pack("{s:I, s:I, s:I, s:I, s:I}", "planned_bytes", (json_int_t)p->arena_bytes,
				   "persistent_bytes", (json_int_t)p->persistent_bytes, "held_bytes",
				   (json_int_t)b->held_bytes, "resident_before_bytes", (json_int_t)b->resident_before,
				   "resident_bytes", (json_int_t)b->resident);
	return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:b, s:o}", "sizes", b->point.sizes, "name", b->point.name, "step", step(b),
			 "kernels_seconds", spread(b->kernels), "compile", compile(b), "memory", memory, "machine",
			 machine(b), "alone", (int)(b->options.repeat > 1), "kernels", kernels);
}

void bench_print_json(const Bench *b, u32 n, FILE *to)
{
	const SourceOptions *o = &b->lm->operand.options;
	json_t *points = json_array();
	for (u32 i = 0; i < n; i++)
		json_array_append_new(points, point(&b[i]));
	json_t *all = json_pack("{s:s, s:s, s:s, s:s?, s:s, s:s, s:o}", "plinth", PLINTH_VERSION, "model",
				b->lm->model->name, "source", b->lm->operand.source, "preset", o->preset, "entry",
				b->options.forward ? "forward" : "step", "precision",
				b->options.precision ? b->options.precision : "f32", "points", points);
	assert(all && "a format that does not fit its arguments");
	json_dumpf(all, to, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
	fputc('\n', to);
	json_decref(all);
}

/* ---- the trace ---- */

enum { TRACK_ENTRIES = 1, TRACK_KERNELS = 2 };

static void event(json_t *events, const char *name, const char *category, u32 track, f64 begin, f64 seconds,
		  json_t *arguments)
{
	json_array_append_new(events,
			      json_pack("{s:s, s:s, s:s, s:o, s:o, s:i, s:I, s:o}", "name", name, "cat", category, "ph",
					"X", "ts", real(begin * 1e6), "dur", real(seconds * 1e6), "pid", 1, "tid",
					(json_int_t)track, "args", arguments));
}

static void track(json_t *events, const char *what, u32 id, const char *name)
{
	json_array_append_new(events, json_pack("{s:s, s:s, s:i, s:I, s:{s:s}}", "name", what, "ph", "M", "pid", 1,
						"tid", (json_int_t)id, "args", "name", name));
}

static void counter(json_t *events, const char *name, f64 at, f64 value)
{
	json_array_append_new(events, json_pack("{s:s, s:s, s:o, s:i, s:{s:o}}", "name", name, "ph", "C", "ts",
						real(at * 1e6), "pid", 1, "args", "value", real(value)));
}

static json_t *kernel_arguments(const Bench *b, const PackageStep *s, const KernelRun *r, f64 seconds)
{
	Arena tmp = ARENA("trace");
	Bound bound = roofline_bound(&b->limit, r->flops, r->bytes, r->operands);
	json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:s}", "layer", s->layer,
			      "source", r->line ? arena_printf(&tmp, "%s:%u", r->file, r->line) : "", "class", r->class,
			      "shape", r->shape, "flops", real(r->flops), "bytes", real(r->bytes), "TFLOPS",
			      real(r->flops / seconds * 1e-12), "GB/s", real(r->bytes / seconds * 1e-9), "of bound",
			      real(bound.seconds / seconds), "bound by", bound.by_flops ? "flops" : "bytes");
	arena_free(&tmp);
	return j;
}

Status bench_trace(const Bench *b, const char *path)
{
	json_t *events = json_array();
	track(events, "process_name", 0, b->run.package->name);
	track(events, "thread_name", TRACK_ENTRIES, "entries");
	track(events, "thread_name", TRACK_KERNELS, "kernels");
	f64 at = 0;
	u32 k = 0, last = b->options.runs - 1;
	for (u32 e = 0; e < b->nentry; e++) {
		const BenchEntry *entry = &b->entry[e];
		u32 n = entry->entry->nstep;
		for (u32 t = 0; t < entry->times; t++) {
			f64 begin = at;
			for (u32 i = 0; i < n; i++) {
				const KernelRun *r = &b->kernel[k + i];
				f64 seconds = entry->seconds[(size_t)last * n + i] / entry->times;
				event(events, entry->entry->step[i].name, r->class, TRACK_KERNELS, at, seconds,
				      kernel_arguments(b, &entry->entry->step[i], r, seconds));
				counter(events, "TFLOPS", at, r->flops / seconds * 1e-12);
				counter(events, "GB/s", at, r->bytes / seconds * 1e-9);
				at += seconds;
			}
			event(events, entry->entry->name, "entry", TRACK_ENTRIES, begin, at - begin, json_object());
		}
		k += n;
	}
	json_t *all = json_pack("{s:o, s:s}", "traceEvents", events, "displayTimeUnit", "ms");
	char *text = json_dumps(all, JSON_COMPACT | JSON_REAL_PRECISION(15));
	json_decref(all);
	if (!text)
		return FAIL(STATUS_MEMORY, "no memory for the trace");
	Status s = io_write(path, (Blob){ (const u8 *)text, strlen(text) });
	free(text);
	return s;
}
