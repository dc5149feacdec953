/* tools/cluster_trace.c: a predicted step as a timeline for Perfetto, in the format of what `plinth bench --trace` measures:
 * entries (a step's first micro-batch, its last one where that sums gradients, the update), kernels, and messages beside them, of one
 * device; then a track for each stage of the pipeline, with what is left of sums of gradients behind its last micro-batch. Microseconds. */
#include "support/io.h"
#include "tools/cluster_report.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { TRACK_ENTRIES = 1, TRACK_KERNELS, TRACK_MESSAGES, TRACK_STAGES };

static void track(json_t *events, const char *what, u32 id, const char *name)
{
	json_array_append_new(events, json_pack("{s:s, s:s, s:i, s:I, s:{s:s}}", "name", what, "ph", "M", "pid", 1, "tid", (json_int_t)id,
						"args", "name", name));
}

static void event(json_t *events, const char *name, const char *category, u32 track, f64 begin, f64 seconds, json_t *arguments)
{
	json_array_append_new(events, json_pack("{s:s, s:s, s:s, s:f, s:f, s:i, s:I, s:o}", "name", name, "cat", category, "ph", "X", "ts",
						begin * 1e6, "dur", seconds * 1e6, "pid", 1, "tid", (json_int_t)track, "args", arguments));
}

static json_t *arguments(const Kernel *k, f64 seconds)
{
	return json_pack("{s:s, s:s, s:f, s:f, s:f, s:f}", "layer", k->scope, "class", kernel_class_name[k->class], "flops", k->flops, "bytes",
			 k->bytes_read + k->bytes_written, "TFLOPS", seconds > 0 ? k->flops / seconds * 1e-12 : 0, "GB/s",
			 seconds > 0 ? (k->bytes_read + k->bytes_written) / seconds * 1e-9 : 0);
}

/* The planned layers of an entry on one device, from `at` on; where it ends. */
static f64 entry(json_t *events, Arena *a, const Machine *m, const Work *w, u64 bucket, f64 at)
{
	Walk t = walk(a, m, w, bucket);
	for (u32 i = 0; i < w->npiece; i++) {
		const Piece *p = &w->piece[i];
		f64 seconds = t.end[i] - t.begin[i];
		event(events, p->kernel->name, kernel_class_name[p->kernel->class], p->message ? TRACK_MESSAGES : TRACK_KERNELS,
		      at + t.begin[i], seconds, arguments(p->kernel, seconds));
	}
	event(events, w->entry->name, "entry", TRACK_ENTRIES, at, t.seconds, json_object());
	return at + t.seconds;
}

Status cluster_trace(const ClusterReport *r, const char *path)
{
	Arena *a = r->arena;
	const ClusterStep *s = r->step;
	json_t *events = json_array();
	track(events, "process_name", 0, r->lm->model->name);
	track(events, "thread_name", TRACK_ENTRIES, "entries, of the layers that were planned");
	track(events, "thread_name", TRACK_KERNELS, "kernels");
	track(events, "thread_name", TRACK_MESSAGES, "messages");
	const ClusterWork *w = r->planned->work;
	const Work *of[] = { s->shape.micros > 1 || !w->last ? w->first : NULL, w->last, w->update };
	f64 at = 0;
	for (u32 i = 0; i < COUNT(of); i++)
		if (of[i])
			at = entry(events, a, r->machine, of[i], w->bucket, at);
	for (u32 i = 0; i < s->shape.pipe; i++) {
		track(events, "thread_name", TRACK_STAGES + i, arena_printf(a, "stage %u", i));
		const PipeTask *task = pipe_tasks(&s->schedule, i);
		f64 end = 0;
		for (u32 k = 0; k < s->schedule.ntask; k++) {
			size_t n = (size_t)i * s->schedule.ntask + k;
			event(events, arena_printf(a, "%s %u", task[k].backward ? "backward" : "forward", task[k].micro), "stage",
			      TRACK_STAGES + i, s->timeline.begin[n], s->timeline.end[n] - s->timeline.begin[n],
			      json_pack("{s:i}", "chunk", (int)task[k].chunk));
			end = s->timeline.end[n];
		}
		if (s->stage[i].sums > 0)
			event(events, "sums of gradients", "sums", TRACK_STAGES + i, end, s->stage[i].sums, json_object());
		event(events, "update", "stage", TRACK_STAGES + i, MAX(end, s->pipeline), s->stage[i].update, json_object());
	}
	json_t *all = json_pack("{s:o, s:s}", "traceEvents", events, "displayTimeUnit", "ms");
	char *text = json_dumps(all, JSON_COMPACT | JSON_REAL_PRECISION(15));
	json_decref(all);
	if (!text)
		return FAIL(STATUS_MEMORY, "no memory for the trace");
	Status status = io_write(path, (Blob){ (const u8 *)text, strlen(text) });
	free(text);
	return status;
}
