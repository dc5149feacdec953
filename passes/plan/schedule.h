/* passes/plan/schedule.h: in which order the stages of a pipeline run their micro-batches, and how long that takes.
 *
 * A model's layers are cut into p v consecutive *virtual stages*; device (stage) s of p holds the v of them that are
 * numbered chunk * p + s, its *chunks*. A step runs m micro-batches forward through all virtual stages in order, and
 * backward through them in reverse. A schedule says for each stage in which order it does its 2 m v tasks; between
 * stages, a task waits for what it needs: a forward for that of the virtual stage before it, a backward for that of the
 * one behind it (the last one's for its own forward), of the same micro-batch.
 *
 *  - gpipe (Huang et al. 2019): all forwards, then all backwards. Holds m micro-batches.
 *  - 1f1b (PipeDream-Flush: Narayanan et al. 2021a): as soon as a micro-batch can go backward it does. Stage s holds
 *    min(m, p - s) micro-batches.
 *  - interleaved (Narayanan et al. 2021b, Megatron-LM): 1f1b with v > 1 chunks for each stage. Micro-batches go in groups
 *    of p through chunk after chunk; where p does not divide m the last group has gaps, and the bubble is larger than
 *    the formula's.
 *
 * The bubble, which is time beyond the busiest stage's own work as a share of that work, is (p - 1) / (m v) where all virtual
 * stages take equally long and messages take no time.
 *
 * Who plans the schedule of a cluster asks pipe_schedule once, and pipe_timeline for each set of times: it takes time
 * linear in tasks (and p v m tasks each way are all there are, whatever data, tensor and other axes the mesh has: devices
 * that differ in these alone do the same at the same time). */
#ifndef PL_PLAN_SCHEDULE_H
#define PL_PLAN_SCHEDULE_H
#include "support/arena.h"

typedef enum PipeKind { PIPE_GPIPE, PIPE_1F1B, PIPE_INTERLEAVED, PIPE_KINDS } PipeKind;
extern const char *const pipe_kind_name[PIPE_KINDS]; /* "gpipe", "1f1b", "interleaved" */

/* "1f1b", "interleaved:4" (2 chunks where no number is given); false where it is neither. */
bool pipe_kind_read(const char *text, PipeKind *kind, u32 *chunks);

typedef struct PipeTask {
	u32 micro; /* micro-batch */
	u16 chunk; /* of this stage */
	bool backward;
} PipeTask;

typedef struct PipeSchedule {
	PipeKind kind;
	u32 stages, chunks, micros; /* p, v, m */
	u32 ntask;                  /* of each stage: 2 m v */
	PipeTask *task;             /* [stages][ntask], in order */
} PipeSchedule;

/* p, v, m at least 1; chunks is 1 but for INTERLEAVED. */
PipeSchedule pipe_schedule(Arena *arena, PipeKind kind, u32 stages, u32 chunks, u32 micros);
static inline const PipeTask *pipe_tasks(const PipeSchedule *s, u32 stage)
{
	return &s->task[(size_t)stage * s->ntask];
}
/* chunk * p + stage */
static inline u32 pipe_virtual(const PipeSchedule *s, u32 stage, u32 chunk)
{
	return chunk * s->stages + stage;
}

/* The most micro-batches of which a chunk holds activations at once: from the end of its forward on, to that of its
 * backward. Those held are consecutive ones, so that micro % pipe_held is a place of its own for each. */
u32 pipe_held(const PipeSchedule *s, u32 stage, u32 chunk);
/* The most that all chunks of a stage hold together, each micro-batch counting for `bytes` [chunks] of its chunk;
 * `bytes` NULL: 1 each. */
u64 pipe_held_bytes(const PipeSchedule *s, u32 stage, const u64 *bytes);

/* Seconds, by virtual stage [stages * chunks]. */
typedef struct PipeTimes {
	const f64 *forward, *backward;
	/* From virtual stage k to k + 1, and the gradients back; the last one is not looked at. NULL: none. Within one stage
	 * (p = 1) nothing is sent. */
	const f64 *send;
	bool exposed; /* a stage that sends does nothing else meanwhile; otherwise messages travel beside its work */
} PipeTimes;

typedef struct PipeTimeline {
	f64 *begin, *end; /* [stages][ntask] of each task, as PipeSchedule.task; `end` without what it sends */
	f64 seconds;      /* until the last task of all ends */
	f64 *busy;        /* [stages] seconds in tasks */
	f64 bubble;       /* seconds / the largest `busy`, less 1 */
} PipeTimeline;

/* Runs the schedule: every stage does its tasks in order, each as soon as it can. */
PipeTimeline pipe_timeline(Arena *arena, const PipeSchedule *s, const PipeTimes *t);

#endif
