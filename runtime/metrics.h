/* runtime/metrics.h: what a training step measured, as a line of JSON for tools and as a line of text
 * for people. Numbers go in, text comes out; who measures them is another's business. */
#ifndef PL_METRICS_H
#define PL_METRICS_H
#include "support/status.h"
#include "support/str.h"

#include <math.h>

/* Of a real number: it was not measured. It is left out of both lines; NaN and +infinity are shown,
 * as they are what the step gave. */
#define METRIC_UNKNOWN (-INFINITY)

typedef struct NamedMetric {
	const char *name; /* "accuracy" */
	f64 value;
} NamedMetric;
enum { METRICS_NAMED = 4 };

typedef struct StepMetrics {
	u64 step, total;       /* steps done, and to do in all (0: no end is known) */
	const char *unit;      /* what training data is counted in: "tokens", "images"; NULL: tokens */
	u64 units;             /* trained on so far; 0: not known */
	u64 memory_bytes;      /* of one device, the planned peak; 0: not known */
	u64 resident_bytes;    /* the most this process has had in memory; 0: not known */
	f64 train_loss, validation_loss;
	NamedMetric named[METRICS_NAMED]; /* what else was measured with the validation */
	u32 nnamed;
	f64 gradient_norm;     /* before clipping */
	f64 learning_rate;
	f64 step_ms;
	f64 units_per_second;  /* of all devices */
	f64 tflops;            /* model FLOPs of one device in 1e12 per second */
	f64 tflops_full;       /* the same with causal attention counted as its full square */
	f64 mfu;               /* model FLOPs over the datasheet's dense peak, 1 being all of it */
	f64 peak_share;        /* the same over the peak that was measured here */
	f64 eta_seconds;
} StepMetrics;

/* A struct with every real number unknown and every count 0. */
StepMetrics metrics_none(void);
/* One JSON object, without a newline. Reals are written with as few digits as give them back; NaN
 * and infinity, which JSON lacks, as the strings "NaN" and "Infinity". */
const char *metrics_json(Arena *a, const StepMetrics *m);
/* Of such an object all but what is named; false: it is none. */
bool metrics_read(Str json, const char *unit, StepMetrics *out);
/* One line of text of at most `width` columns (0: any length), without a newline: where there is no
 * room, the least important numbers are left out. */
const char *metrics_text(Arena *a, const StepMetrics *m, u32 width);

/* ---- the file: one JSON object a line ---- */

typedef struct MetricsFile {
	int fd;
	u64 bytes, last; /* its length so far, and in front of the last line that was put */
	char path[4096];
} MetricsFile;

/* The whole line that begins at byte `at` of a file; without one, or a file, it is empty. */
PL_MUST_USE Status metrics_line(Arena *a, const char *path, u64 at, Str *out);
/* Opens for appending after the first `keep` bytes; what is behind them is cut off, and so is half a
 * line. A resume gives the length that the checkpoint recorded, so that no line is there twice; a new
 * run gives 0, and starts the file anew. A file that is gone or shorter is gone on with as it is. While it is open no
 * other process can open it: a run's folder is written by one run at a time. */
PL_MUST_USE Status metrics_open(const char *path, u64 keep, MetricsFile *out);
/* Appends a line, in one write; one that fails leaves none. */
PL_MUST_USE Status metrics_put(MetricsFile *m, const char *json);
/* The same in place of the last line. */
PL_MUST_USE Status metrics_put_again(MetricsFile *m, const char *json);
/* Makes what was put last; a checkpoint records `bytes` after this. */
PL_MUST_USE Status metrics_sync(MetricsFile *m);
/* Has somebody removed the file while it is written? What is put goes nowhere then. */
bool metrics_is_removed(const MetricsFile *m);
void metrics_close(MetricsFile *m);

/* ---- the progress line ---- */

typedef struct Progress {
	FILE *to;
	bool terminal; /* one line that is written over; otherwise plain lines */
	bool shown;    /* the terminal's cursor stands behind a line */
	u64 every;     /* in a log: a line each so many steps, and with each validation */
} Progress;

/* Looks whether `to` is a terminal that can write over a line. */
Progress progress_to(FILE *to, u64 every);
void progress_show(Progress *p, const StepMetrics *m);
/* Before anything else is written to the same place, and at the end: keeps the line and goes below. */
void progress_break(Progress *p);

#endif
