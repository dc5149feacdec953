/* passes/plan/schedule.c: see schedule.h. */
#include "passes/plan/schedule.h"

#include <stdlib.h>
#include <string.h>

const char *const pipe_kind_name[PIPE_KINDS] = { "gpipe", "1f1b", "interleaved" };

bool pipe_kind_read(const char *text, PipeKind *kind, u32 *chunks)
{
	size_t n = strcspn(text, ":");
	u32 k = 0;
	while (k < PIPE_KINDS && (strlen(pipe_kind_name[k]) != n || strncmp(pipe_kind_name[k], text, n)))
		k++;
	char *end = (char *)(uintptr_t)text + n;
	long v = text[n] == ':' ? strtol(text + n + 1, &end, 10) : k == PIPE_INTERLEAVED ? 2 : 1;
	if (k == PIPE_KINDS || *end || v < 1 || v > 64 || (v > 1) != (k == PIPE_INTERLEAVED))
		return false;
	*kind = (PipeKind)k;
	*chunks = (u32)v;
	return true;
}

/* ---- orders ---- */

/* The i-th forward (or backward) of a stage: groups of p micro-batches go through one chunk after the other; backwards,
 * the last chunk comes first. */
static PipeTask nth(const PipeSchedule *s, u32 i, bool backward)
{
	u32 group = s->chunks > 1 ? s->stages : 1, within = i % (group * s->chunks), chunk = within / group;
	u32 micro = i / (group * s->chunks) * group + within % group;
	return (PipeTask){ micro, (u16)(backward ? s->chunks - 1 - chunk : chunk), backward };
}

/* How many forwards a stage has made before the one that its first backward follows. Stages hand over every turn; with
 * chunks, a turn is a forward and a backward of one chunk, and all chunks but the last come before the first backward. */
static u32 warm_up(const PipeSchedule *s, u32 stage, u32 half)
{
	u32 behind = s->stages - 1 - stage;
	if (s->kind == PIPE_GPIPE)
		return half;
	return MIN(half, s->chunks == 1 ? behind : 2 * behind + (s->chunks - 1) * s->stages);
}

PipeSchedule pipe_schedule(Arena *arena, PipeKind kind, u32 stages, u32 chunks, u32 micros)
{
	assert(stages && chunks && micros && chunks <= UINT16_MAX && (chunks == 1 || kind == PIPE_INTERLEAVED));
	PipeSchedule s = { kind, stages, chunks, micros, 2 * micros * chunks, NULL };
	/* whole groups; the tasks of micro-batches that are not there are left out, which keeps the order one that works */
	u32 half = (chunks > 1 ? (micros + stages - 1) / stages * stages : micros) * chunks;
	s.task = NEWN(arena, PipeTask, (size_t)stages * s.ntask);
	for (u32 stage = 0; stage < stages; stage++) {
		PipeTask *task = &s.task[(size_t)stage * s.ntask];
		for (u32 forward = 0, backward = 0, warm = warm_up(&s, stage, half); backward < half;) {
			bool ahead = forward < half && forward - backward <= warm;
			PipeTask next = ahead ? nth(&s, forward++, false) : nth(&s, backward++, true);
			if (next.micro < micros)
				*task++ = next;
		}
	}
	return s;
}

/* ---- what is held ---- */

u32 pipe_held(const PipeSchedule *s, u32 stage, u32 chunk)
{
	const PipeTask *task = pipe_tasks(s, stage);
	u32 now = 0, most = 0;
	for (u32 i = 0; i < s->ntask; i++) {
		if (task[i].chunk != chunk)
			continue;
		now += task[i].backward ? -1u : 1u;
		most = MAX(most, now);
	}
	return most;
}

u64 pipe_held_bytes(const PipeSchedule *s, u32 stage, const u64 *bytes)
{
	const PipeTask *task = pipe_tasks(s, stage);
	u64 now = 0, most = 0;
	for (u32 i = 0; i < s->ntask; i++) {
		u64 one = bytes ? bytes[task[i].chunk] : 1;
		now += task[i].backward ? -one : one;
		most = MAX(most, now);
	}
	return most;
}

/* ---- time ---- */

typedef struct Clock {
	const PipeSchedule *s;
	const PipeTimes *t;
	f64 *arrived; /* [virtual stages][micro-batches][forward, backward]: when the task's result is where it is needed; -1: not yet */
	u32 *done;    /* [stages] tasks */
	f64 *free;    /* [stages] from when on it can work */
	PipeTimeline *out;
} Clock;

static f64 *arrival(const Clock *c, u32 virtual, PipeTask t, bool backward)
{
	return &c->arrived[((size_t)virtual * c->s->micros + t.micro) * 2 + backward];
}

/* When all that the task needs is there; -1: not known yet. */
static f64 ready(const Clock *c, u32 virtual, PipeTask t)
{
	u32 last = c->s->stages * c->s->chunks - 1;
	if (!t.backward)
		return virtual ? *arrival(c, virtual - 1, t, false) : 0;
	return *arrival(c, virtual == last ? last : virtual + 1, t, virtual != last);
}

/* From a virtual stage to where its result goes. */
static f64 send_seconds(const Clock *c, u32 virtual, bool backward)
{
	u32 last = c->s->stages * c->s->chunks - 1;
	if (!c->t->send || c->s->stages == 1 || (backward ? virtual == 0 : virtual == last))
		return 0;
	return c->t->send[backward ? virtual - 1 : virtual];
}

/* Runs the next task of a stage, if it can. */
static bool advance(Clock *c, u32 stage)
{
	const PipeSchedule *s = c->s;
	if (c->done[stage] == s->ntask)
		return false;
	size_t at = (size_t)stage * s->ntask + c->done[stage];
	PipeTask task = s->task[at];
	u32 virtual = pipe_virtual(s, stage, task.chunk);
	f64 from = ready(c, virtual, task), seconds = (task.backward ? c->t->backward : c->t->forward)[virtual];
	if (from < 0)
		return false;
	f64 send = send_seconds(c, virtual, task.backward);
	c->out->begin[at] = MAX(from, c->free[stage]);
	c->out->end[at] = c->out->begin[at] + seconds;
	*arrival(c, virtual, task, task.backward) = c->out->end[at] + send;
	c->free[stage] = c->out->end[at] + (c->t->exposed ? send : 0);
	c->out->busy[stage] += seconds;
	c->out->seconds = MAX(c->out->seconds, c->out->end[at]);
	c->done[stage]++;
	return true;
}

PipeTimeline pipe_timeline(Arena *arena, const PipeSchedule *s, const PipeTimes *t)
{
	size_t tasks = (size_t)s->stages * s->ntask;
	PipeTimeline out = { .begin = NEWN(arena, f64, tasks), .end = NEWN(arena, f64, tasks), .busy = NEWN(arena, f64, s->stages) };
	Clock c = { s, t, NEWN(arena, f64, tasks), NEWN(arena, u32, s->stages), NEWN(arena, f64, s->stages), &out };
	for (size_t i = 0; i < tasks; i++)
		c.arrived[i] = -1;
	for (size_t done = 0; done < tasks;) {
		size_t before = done;
		for (u32 stage = 0; stage < s->stages; stage++)
			while (advance(&c, stage))
				done++;
		assert(done > before && "a schedule waits for itself");
		(void)before;
	}
	f64 most = 0;
	for (u32 stage = 0; stage < s->stages; stage++)
		most = MAX(most, out.busy[stage]);
	out.bubble = most > 0 ? out.seconds / most - 1 : 0;
	return out;
}
